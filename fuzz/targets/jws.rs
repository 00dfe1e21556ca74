//! A token of three parts: whatever it says of itself, it verifies with no key but Keystone's, and
//! that one signs nothing here.
#![no_main]

use std::sync::LazyLock;

use keystone_token::jws::{Jws, JwsKeys};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|token: &[u8]| {
    let Ok(jws) = Jws::parse(token) else { return };
    assert_eq!(token.split(|byte| *byte == b'.').count(), 3);
    assert!(!KEYS.verify(&jws));
});

static KEYS: LazyLock<JwsKeys> = LazyLock::new(|| {
    JwsKeys::from_pem(include_bytes!("../../keystone-token/src/jws/vectors/other.pem"))
        .expect("a key")
});
