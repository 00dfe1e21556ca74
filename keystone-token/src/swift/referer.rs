//! The host of a `Referer`, as Python 3.11's `urlparse(referer).hostname` finds it.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Text before the first of these characters, the character itself dropped, and what follows.
fn partition(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// The host in lower case, `unknown` where the referer has none, and `None` where Python raises an
/// exception over it: that is a status of 500 in Swift, and no host at all.
///
/// The bytes are read as Latin-1, as WSGI hands them to Swift. So a host beyond ASCII is not what
/// the same letters in an ACL are; browsers send such a name in its ASCII form (`xn--`).
pub(super) fn host(referer: &[u8]) -> Option<Cow<'static, str>> {
    let url = referer.iter().map(|byte| char::from(*byte)).skip_while(|it| *it <= ' ');
    let url: String = url.filter(|it| !matches!(it, '\t' | '\n' | '\r')).collect();
    let Some(rest) = after_scheme(&url).strip_prefix("//") else { return Some(UNKNOWN) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    let has_bracket = authority.contains('[');
    if has_bracket != authority.contains(']') {
        return None;
    }

    let host = match partition(place, '[') {
        (before, Some(bracketed)) => {
            let (host, after) = partition(bracketed, ']');
            let is_port = after.is_none_or(|it| it.is_empty() || it.starts_with(':'));
            if !before.is_empty() || !is_port {
                return None;
            }
            host
        }
        (place, None) => partition(place, ':').0,
    };
    // Python asks for an address also where it is the user's name that has the brackets.
    if has_bracket && !is_address(host) {
        return None;
    }
    match partition(host, '%') {
        ("", None) => Some(UNKNOWN),
        (name, None) => Some(name.to_lowercase().into()),
        (name, Some(zone)) => Some(format!("{}%{zone}", name.to_lowercase()).into()),
    }
}

fn after_scheme(url: &str) -> &str {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|it: char| it.is_ascii_alphabetic())
            && scheme.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '+' | '-' | '.'))
    };
    match url.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => rest,
        _ => url,
    }
}

/// Whether it may stand in brackets: an address of IPv6, with a zone perhaps, or of a later kind.
fn is_address(host: &str) -> bool {
    if let Some(later) = host.strip_prefix('v') {
        return later.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty()
                && version.chars().all(|it| it.is_ascii_hexdigit())
                && !address.is_empty()
        });
    }
    let (address, zone) = partition(host, '%');
    address.parse::<Ipv6Addr>().is_ok()
        && zone.is_none_or(|zone| !zone.is_empty() && !zone.contains('%'))
}

const UNKNOWN: Cow<'static, str> = Cow::Borrowed("unknown");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_as_python_finds_it() {
        for (referer, expected) in [
            ("http://example.com/a?b#c", "example.com"),
            ("https://Sub.EXAMPLE.com:8080", "sub.example.com"),
            ("//example.com", "example.com"),
            ("HTTP://user:pa@ss:word@example.com:x/", "example.com"),
            ("http://example.com?x@evil.org", "example.com"),
            ("http://example.com#@evil.org", "example.com"),
            ("http://a\\@b/", "b"),
            (" \0\x1fhttp://example.com", "example.com"),
            ("ht\ntp:/\r/exa\tmple.com", "example.com"),
            ("http://example.com ", "example.com "),
            ("http://[::1]:80/", "::1"),
            ("http://u@[FE80::1%25Eth0]", "fe80::1%25Eth0"),
            ("http://[v1F.x:y]", "v1f.x:y"),
            ("http://[::ffff:1.2.3.4]", "::ffff:1.2.3.4"),
            ("http://HOST%41x", "host%41x"),
            ("http://u[]@v1.x", "v1.x"),
            ("", "unknown"),
            ("http://", "unknown"),
            ("http://:80", "unknown"),
            ("http:///example.com", "unknown"),
            ("example.com", "unknown"),
            ("http:example.com", "unknown"),
            ("/path", "unknown"),
            ("1http://example.com", "unknown"),
            ("ht_tp://example.com", "unknown"),
            ("://example.com", "unknown"),
        ] {
            assert_eq!(host(referer.as_bytes()).as_deref(), Some(expected), "{referer}");
        }
        assert_eq!(host("http://É.org".as_bytes()).as_deref(), Some("ã\u{89}.org"));
    }

    #[test]
    fn what_python_raises_an_exception_over_has_no_host() {
        for referer in [
            "http://[::1/",
            "http://::1]/",
            "http://[example.com]/",
            "http://[1.2.3.4]/",
            "http://[]/",
            "http://[::1%]/",
            "http://[::1%a%b]/",
            "http://[v1x]/",
            "http://[v.x]/",
            "http://[V1.x]/",
            "http://[v1.]/",
            "http://a[::1]/",
            "http://[::1]a/",
            "http://[::1]]/",
            "http://[::1]@example.com/",
            "http://[1::2::3]/",
        ] {
            assert_eq!(host(referer.as_bytes()), None, "{referer}");
        }
    }
}
