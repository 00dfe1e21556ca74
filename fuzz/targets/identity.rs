//! What a token says, or what Keystone answers about one: an identity survives to be kept in the
//! cache, and nothing in it can end a header.
#![no_main]

use keystone_token::access_rules::AccessRules;
use keystone_token::headers::{is_stripped, service_headers, user_headers};
use keystone_token::identity::Identity;
use keystone_token::record::{Field, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    // What lies in shared memory or memcached may be anything.
    if let Ok(record) = Record::new(json) {
        look_at(&record);
    }
    let Ok(identity) = Identity::from_json(json) else { return };
    for keep_catalog in [false, true] {
        let bytes = identity.to_record(keep_catalog).0.to_bytes();
        let record = Record::new(&bytes).expect("it was just written");
        assert_eq!(record.expires_at(), identity.expires_at);
        assert_eq!(record.get(Field::Roles).unwrap_or_default(), identity.roles.join(","));
        look_at(&record);
        for (header, value) in user_headers(&record).chain(service_headers(&record)) {
            assert!(is_stripped(header.name.to_bytes()), "a client could send {header:?}");
            assert!(!value.contains(char::is_control), "{header:?}: {value:?}");
        }
    }
});

/// Reads each field of the record.
fn look_at(record: &Record<'_>) {
    let lists = record.roles().chain(record.audit_ids()).map(str::len).sum::<usize>();
    let binds = record.bind().map(|(kind, id)| kind.len() + id.len()).sum::<usize>();
    let ids = record.role_ids().into_iter().flatten().map(str::len).sum::<usize>();
    std::hint::black_box((lists, binds, ids, record.trust(), record.oauth(), record.issued_at()));
    if let Some(rules) = record.get(Field::AccessRules) {
        std::hint::black_box(AccessRules::from_json(rules));
    }
}
