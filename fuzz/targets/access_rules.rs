//! The access rules of an application credential. The input is lines: the path as the client wrote
//! it, the one that nginx makes of it, and the rules' JSON.
//!
//! A path that is plain has one reading, and so it is permitted or not as it stands.
#![no_main]

use keystone_fuzz::percent_decoded;
use keystone_token::access_rules::{has_plain_segments, is_plain_path, AccessRules, Action};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (raw, path, rules) = (line(), line(), line());
    let decoded = percent_decoded(raw);
    for path in [path, raw, &decoded] {
        if is_plain_path(raw, path) {
            assert_eq!(decoded, path);
            assert!(has_plain_segments(path));
            assert!(!path.split(|byte| *byte == b'/').any(|segment| segment == b".."));
            assert!(std::str::from_utf8(path).is_ok());
        }
    }
    let Ok(rules) = std::str::from_utf8(rules) else { return };
    let service_types = ["object-store".to_owned()];
    let action = Action {
        service_types: &service_types,
        method: "GET",
        raw_path: Some(raw),
        path,
        service_path: None,
        has_destination: false,
        queries: [raw, b""],
    };
    // Takes whatever there is.
    action.is_bulk();
    let permitted = AccessRules::from_json(rules).permit(&action);
    assert!(!permitted || rules.contains("object-store") || rules.contains('\\'));
});
