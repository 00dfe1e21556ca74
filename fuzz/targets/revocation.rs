//! Keystone's revocation list and revocation events, and what they say of a token.
#![no_main]

use keystone_token::cms::SignedData;
use keystone_token::format::HashAlgorithm;
use keystone_token::identity::Identity;
use keystone_token::revocation::RevocationList;
use keystone_token::revocation_events::RevocationEvents;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    if let Ok(signed) = SignedData::from_pem(document) {
        assert_eq!(signed.encode(signed.parameters()), signed.der());
    }
    if let Ok(list) = RevocationList::from_json(document) {
        let algorithms = [HashAlgorithm::Md5, HashAlgorithm::Sha256];
        let revoked = list.revokes_id(b"token", ["audit"], &algorithms);
        assert!(!revoked || !list.is_empty());
    }
    if let Ok(events) = RevocationEvents::from_json(document) {
        let (record, _) = identity().to_record(false);
        assert!(!events.covers(&record.view()) || !events.is_empty());
    }
});

fn identity() -> Identity {
    let own = |text: &str| Some(text.to_owned());
    Identity {
        user_id: own("user"),
        project_id: own("project"),
        user_domain_id: own("default"),
        project_domain_id: own("default"),
        roles: vec!["member".into()],
        role_ids: Some(vec!["role".into()]),
        audit_ids: vec!["audit".into(), "chain".into()],
        expires_at: 2_000_000_000,
        issued_at: Some(1_900_000_000),
        ..Identity::default()
    }
}
