//! Paths and ACLs of Swift. The input is lines: the path as the client wrote it, the one that nginx
//! makes of it, the ACL, the referer.
//!
//! If both paths are taken for the same account and container, then a server that decodes the first
//! one finds those of the second. Who has no account gets into one by an ACL only.
#![no_main]

use keystone_fuzz::percent_decoded;
use keystone_token::swift::{
    names_the_same, AccountPath, Acl, AclKind, ContainerAcls, Decision, Options, Request, Settings,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = ContainerAcls::from_json(input);
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (raw, normalised, acl, referer) = (line(), line(), line(), line());

    let decoded = percent_decoded(raw);
    for normalised in [normalised, raw, &decoded] {
        if names_the_same(raw, normalised) {
            let names = names(normalised);
            assert_eq!(self::names(&decoded), names);
            let dots = names.is_some_and(|(names, _)| names.contains(&Some(b"..")));
            assert!(!dots, "somebody will resolve them");
        }
    }

    let Some(path) = AccountPath::split(normalised) else { return };
    let acl = std::str::from_utf8(acl).ok().and_then(|acl| Acl::parse(AclKind::Read, acl).ok());
    let settings = Settings::new(&Options::default()).expect("the defaults");
    for method in ["GET", "PUT", "DELETE"] {
        let request =
            Request { method, path: &path, user: None, service: None, referer: Some(referer) };
        assert_eq!(settings.authorize(&request, None), Decision::Unauthorized);
        let decision = settings.authorize(&request, acl.as_ref());
        assert!(decision == Decision::Unauthorized || acl.is_some());
    }
});

/// Version, account and container, and whether there is an object.
fn names(path: &[u8]) -> Option<([Option<&[u8]>; 3], bool)> {
    let path = AccountPath::split(path)?;
    let names = [Some(path.version), path.account, path.container];
    Some((names, path.object.is_some()))
}
