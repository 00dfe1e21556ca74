//! A token as a client sends it: whatever its format, it is parsed or refused, and what is parsed
//! has one message only.
#![no_main]

use keystone_token::format::{unarmour, TokenFormat};
use keystone_token::token::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|token: &[u8]| {
    let format = TokenFormat::of(token);
    let Ok(parsed) = parse(token) else { return };
    assert!(format.is_signed());
    assert_eq!(parsed.text(), token);
    let der = unarmour(token, format).expect("it was parsed");
    assert_eq!(parsed.signed_data().der(), der);
});
