//! A message: what is taken for one is written again byte by byte as it came, so that none has a
//! second form that the revocation list would not know.
#![no_main]

use keystone_token::cms::SignedData;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let Ok(signed) = SignedData::parse(der) else { return };
    assert_eq!(signed.der(), der);
    assert_eq!(signed.encode(signed.parameters()), der);
    let (issuer, serial) = signed.issuer_and_serial();
    assert!(!issuer.is_empty() && !serial.is_empty());
});
