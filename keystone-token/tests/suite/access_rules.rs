//! What holds for every rule and every path.

use keystone_token::access_rules::{is_plain_path, AccessRules, Action};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

/// Whether a rule with this path is for a request with that one.
fn permits(pattern: &str, path: &[u8]) -> bool {
    let rules = json!([{"service": "image", "method": "GET", "path": pattern}]).to_string();
    let service_types = ["image".to_owned()];
    let action = Action {
        service_types: &service_types,
        method: "GET",
        raw_path: None,
        path,
        service_path: None,
        has_destination: false,
        queries: [b""; 2],
    };
    AccessRules::from_json(&rules).permit(&action)
}

/// The same, as the definition has it, and with all the time in the world.
fn matches(pattern: &[&str], path: &str) -> bool {
    let Some((first, others)) = pattern.split_first() else { return path.is_empty() };
    let mut ends = (0..=path.len()).filter(|end| path.is_char_boundary(*end));
    ends.any(|end| {
        let (taken, rest) = path.split_at(end);
        let is_taken = match *first {
            "**" => true,
            "*" | "{}" | "{id}" => !taken.is_empty() && !taken.contains('/'),
            literal => taken == literal,
        };
        is_taken && matches(others, rest)
    })
}

/// What a segment may hold, decoded: all that is no separator and ends nothing.
fn plain_segment() -> impl Strategy<Value = String> {
    "[^\u{0}-\u{1f}\u{7f}/\\\\;%]{1,6}"
        .prop_filter("means a directory", |it| it != "." && it != "..")
}

fn percent_encode(text: &str, all: bool) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' if !all => char::from(byte).to_string(),
        byte => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

/// Decodes as a server does.
fn percent_decode(raw: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let escape = raw.get(at + 1..at + 3).and_then(|it| std::str::from_utf8(it).ok());
        let byte = escape.and_then(|it| u8::from_str_radix(it, 16).ok());
        match byte.filter(|_| raw[at] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(raw[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn segments(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').collect()
}

proptest! {
    #[test]
    fn a_rule_matches_by_its_definition(
        mut pattern in vec(select(vec!["**", "*", "{}", "{id}", "/", "a", "b."]), 0..8),
        path in "[/ab.]{0,8}",
    ) {
        // One star and another would be two.
        pattern.dedup_by(|next, it| *it == "*" && next.starts_with('*'));
        prop_assert_eq!(permits(&pattern.concat(), path.as_bytes()), matches(&pattern, &path));
    }

    #[test]
    fn a_rule_matches_the_path_that_it_spells(path in "[^*{}%]{0,20}", other in "[^*{}%]{0,20}") {
        let encoded: String =
            path.split('/').map(|it| percent_encode(it, true)).collect::<Vec<_>>().join("/");
        if !path.contains('\0') {
            prop_assert!(permits(&encoded, path.as_bytes()));
        }
        prop_assert!(permits(&path, path.as_bytes()));
        prop_assert_eq!(permits(&path, other.as_bytes()), path == other);
    }

    #[test]
    fn any_rules_and_any_path_may_come(
        rules in ".{0,40}",
        pattern in ".{0,40}",
        path in vec(any::<u8>(), 0..40),
    ) {
        let _ = permits(&pattern, &path);
        let action = Action { service_types: &[], method: "GET", raw_path: None, path: &path, service_path: None, has_destination: false, queries: [b""; 2] };
        prop_assert!(!AccessRules::from_json(&rules).permit(&action));
    }

    #[test]
    fn every_name_has_a_plain_path(
        segments in vec((plain_segment(), any::<bool>()), 0..5),
        trailing_slash in any::<bool>(),
    ) {
        let mut raw: String =
            segments.iter().map(|(name, all)| format!("/{}", percent_encode(name, *all))).collect();
        let mut normalised: String = segments.iter().map(|(name, _)| format!("/{name}")).collect();
        if trailing_slash || segments.is_empty() {
            raw.push('/');
            normalised.push('/');
        }
        prop_assert!(is_plain_path(raw.as_bytes(), normalised.as_bytes()));
        let (longer, doubled) = (format!("{normalised}x"), format!("{raw}//"));
        prop_assert!(!is_plain_path(raw.as_bytes(), longer.as_bytes()));
        prop_assert!(!is_plain_path(doubled.as_bytes(), normalised.as_bytes()));
    }

    #[test]
    fn a_plain_path_is_read_in_one_way_only(
        raw in "/([a/.;\\\\? ]|%(2[eEfF5]|5c|00|3b|61|c3|bc|[0-9a-g]{0,2})|\u{fc}){0,10}",
    ) {
        let raw = raw.as_bytes();
        let decoded = percent_decode(raw);
        if is_plain_path(raw, &decoded) {
            let one_by_one: Vec<_> = segments(raw).into_iter().map(percent_decode).collect();
            prop_assert_eq!(&one_by_one, &segments(&decoded));
            prop_assert_eq!(&percent_decode(&decoded), &decoded);
            let (last, others) = one_by_one[1..].split_last().unwrap();
            prop_assert!(others.iter().all(|it| !it.is_empty()));
            prop_assert!(others.iter().chain([last]).all(|it| it != b"." && it != b".."));
        }
    }

    #[test]
    fn a_path_is_plain_for_one_name_at_most(
        raw in vec(any::<u8>(), 0..20),
        normalised in vec(any::<u8>(), 0..20),
    ) {
        let raw = [b"/", &raw[..]].concat();
        let normalised = [b"/", &normalised[..]].concat();
        if is_plain_path(&raw, &normalised) {
            prop_assert_eq!(percent_decode(&raw), normalised);
        }
    }
}
