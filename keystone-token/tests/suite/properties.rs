//! What holds for every input.

use keystone_token::cms::{DigestParameters, SignedData};
use keystone_token::format::{
    armour_pki, armour_pkiz, unarmour, ArmourError, HashAlgorithm, TokenFormat, MAX_DER_LEN,
};
use keystone_token::headers::{is_stripped, user_headers, STRIPPED};
use keystone_token::identity::{Identity, OAuth, Trust};
use keystone_token::record::{Field, Record};
use keystone_token::revocation::RevocationList;
use keystone_token::time;
use keystone_token::token::parse;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{json, Map, Value};

use crate::pki::{NOW, PKI};

const FIELDS: [Field; 17] = [
    Field::AccessRules,
    Field::AuditId,
    Field::Catalog,
    Field::DomainId,
    Field::DomainName,
    Field::ExpiresAt,
    Field::IsAdminProject,
    Field::ProjectDomainId,
    Field::ProjectDomainName,
    Field::ProjectId,
    Field::ProjectName,
    Field::Roles,
    Field::SystemScope,
    Field::UserDomainId,
    Field::UserDomainName,
    Field::UserId,
    Field::UserName,
];

/// Text as a name or an id may be: anything but control characters.
fn name() -> impl Strategy<Value = String> {
    "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{0,12}"
}

/// An id that is known, which an empty one is not.
fn known() -> impl Strategy<Value = Option<String>> {
    option::of(name().prop_filter("empty", |id| !id.is_empty()))
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let member = prop_oneof![member_name().prop_map(str::to_owned), any::<String>()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(member, inner, 0..6).prop_map(|it| Value::Object(Map::from_iter(it))),
        ]
    })
}

/// Names that mean something somewhere in a token.
fn member_name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "access",
        "token",
        "user",
        "id",
        "name",
        "roles",
        "tenant",
        "tenantId",
        "metadata",
        "expires",
        "expires_at",
        "project",
        "domain",
        "audit_ids",
        "bind",
        "oauth2_credential",
        "x5t#S256",
        "catalog",
        "revoked",
        "audit_id",
        "endpoints",
        "type",
        "url",
        "interface",
        "region",
        "serviceCatalog",
        "issued_at",
        "trust",
        "OS-TRUST:trust",
        "trustor_user",
        "OS-OAUTH1",
    ])
}

fn identity() -> impl Strategy<Value = Identity> {
    let names = vec(option::of(name()), 10);
    let role = name().prop_filter("reads as two", |role| !role.contains(','));
    let lists = (vec(role, 0..4), vec(name(), 0..3), option::of(vec((name(), name()), 0..3)));
    let role_ids = option::of(vec(name(), 0..4));
    let delegation = (option::of(vec(known(), 3)), option::of(vec(known(), 2)));
    let times = (-62_135_596_800..253_402_300_800_i64, any::<Option<i64>>());
    (names, lists, any::<bool>(), times, role_ids, delegation).prop_map(
        |(names, (roles, audit_ids, bind), is_admin_project, times, role_ids, (trust, oauth))| {
            let mut names = names.into_iter();
            let mut name = || names.next().flatten();
            Identity {
                user_id: name(),
                user_name: name(),
                user_domain_id: name(),
                user_domain_name: name(),
                project_id: name(),
                project_name: name(),
                project_domain_id: name(),
                project_domain_name: name(),
                domain_id: name(),
                domain_name: name(),
                roles,
                audit_ids,
                bind,
                is_admin_project,
                expires_at: times.0,
                issued_at: times.1,
                role_ids,
                trust: trust.map(|it| Trust {
                    id: it[0].clone(),
                    trustor_id: it[1].clone(),
                    trustee_id: it[2].clone(),
                }),
                oauth: oauth
                    .map(|it| OAuth { access_token_id: it[0].clone(), consumer_id: it[1].clone() }),
                ..Identity::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn armour_comes_off_again(der in vec(any::<u8>(), 0..3000)) {
        let pki = armour_pki(&der);
        let pkiz = armour_pkiz(&der);
        prop_assert_eq!(&unarmour(pki.as_bytes(), TokenFormat::Pki).unwrap(), &der);
        prop_assert_eq!(&unarmour(pkiz.as_bytes(), TokenFormat::Pkiz).unwrap(), &der);
        prop_assert_eq!(TokenFormat::of(pkiz.as_bytes()), TokenFormat::Pkiz);
    }

    #[test]
    fn a_pki_text_that_is_taken_is_canonical(text in "MI[A-Za-z0-9+/_=-]{0,20}={0,3}") {
        if let Ok(der) = unarmour(text.as_bytes(), TokenFormat::Pki) {
            prop_assert_eq!(armour_pki(&der), text);
        }
    }

    #[test]
    fn any_bytes_may_be_unarmoured(text in vec(any::<u8>(), 0..200)) {
        let pkiz = [b"PKIZ_", &text[..]].concat();
        for text in [&text, &pkiz] {
            let format = TokenFormat::of(text);
            let _ = unarmour(text, format);
            prop_assert!(parse(text).is_err());
        }
    }

    #[test]
    fn any_zlib_stream_may_be_unarmoured(content in vec(any::<u8>(), 0..200), cut in 0..100usize) {
        use base64::Engine as _;
        use std::io::Write as _;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&content).unwrap();
        let mut stream = zlib.finish().unwrap();
        let text = |stream: &[u8]| format!("PKIZ_{}", base64::prelude::BASE64_URL_SAFE.encode(stream));
        let inflated = unarmour(text(&stream).as_bytes(), TokenFormat::Pkiz);
        if !content.starts_with(b"-") {
            prop_assert_eq!(inflated.as_ref(), Ok(&content));
        }
        stream.push(0);
        let longer = unarmour(text(&stream).as_bytes(), TokenFormat::Pkiz);
        prop_assert_eq!(longer, Err(ArmourError::TrailingBytes));
        stream.truncate(stream.len().saturating_sub(2 + cut));
        let shorter = unarmour(text(&stream).as_bytes(), TokenFormat::Pkiz);
        prop_assert_eq!(shorter, Err(ArmourError::Zlib));
    }

    #[test]
    fn any_message_may_be_parsed(der in vec(any::<u8>(), 0..200)) {
        prop_assert!(SignedData::parse(der).is_err());
    }

    #[test]
    fn a_damaged_message_is_never_taken_for_the_token(
        at in any::<proptest::sample::Index>(),
        end in any::<proptest::sample::Index>(),
        with in vec(any::<u8>(), 0..8),
    ) {
        let der = PKI.sign(b"{\"token\": {}}");
        let (at, end) = (at.index(der.len()), end.index(der.len() + 1));
        let damaged = [&der[..at], &with, &der[end.max(at)..]].concat();
        prop_assume!(damaged != der);
        if let Ok(signed) = SignedData::parse(damaged.clone()) {
            prop_assert_eq!(signed.encode(signed.parameters()), damaged);
            prop_assert!(PKI.signers().verify(&signed, NOW).is_err());
        }
    }

    #[test]
    fn every_content_is_signed_and_verified(content in vec(any::<u8>(), 0..400)) {
        let signed = SignedData::parse(PKI.sign(&content)).unwrap();
        prop_assert_eq!(PKI.signers().verify(&signed, NOW), Ok(&content[..]));
        let null = SignedData::parse(signed.encode(DigestParameters::Null)).unwrap();
        prop_assert_eq!(PKI.signers().verify(&null, NOW), Ok(&content[..]));
        prop_assert_eq!(null.encode(DigestParameters::Absent), signed.der());
    }

    #[test]
    fn any_json_may_be_an_identity_or_a_list(value in json_value(), document in 0..4usize) {
        let value = match document {
            0 => json!({"access": value}),
            1 => json!({"token": value}),
            2 => json!({"revoked": value}),
            _ => value,
        };
        let text = value.to_string();
        if let Ok(identity) = Identity::from_json(text.as_bytes()) {
            prop_assert!(Record::new(&identity.to_record(true).0.to_bytes()).is_ok());
        }
        if let Ok(list) = RevocationList::from_json(text.as_bytes()) {
            prop_assert!(list.len() <= text.len());
        }
    }

    #[test]
    fn any_bytes_may_be_json(bytes in vec(any::<u8>(), 0..100)) {
        prop_assert!(Identity::from_json(&bytes).is_err());
        let _ = RevocationList::from_json(&bytes);
    }

    #[test]
    fn any_catalog_may_be_converted(catalog in json_value()) {
        let document = json!({"token": {
            "user": {"OS-FEDERATION": {}}, "expires_at": "2038-01-18T21:14:07Z", "catalog": catalog,
        }});
        let identity = Identity::from_json(document.to_string().as_bytes()).unwrap();
        if let Some(catalog) = identity.catalog.and_then(|catalog| catalog.to_v2()) {
            prop_assert!(!catalog.json.bytes().any(|byte| byte.is_ascii_control()));
            prop_assert!(serde_json::from_str::<Value>(&catalog.json).is_ok());
        }
    }

    #[test]
    fn a_record_holds_the_identity(identity in identity()) {
        let bytes = identity.to_record(false).0.to_bytes();
        let record = Record::new(&bytes).unwrap();
        prop_assert_eq!(record.get(Field::UserId), identity.user_id.as_deref());
        prop_assert_eq!(record.get(Field::UserName), identity.user_name.as_deref());
        prop_assert_eq!(record.get(Field::UserDomainId), identity.user_domain_id.as_deref());
        prop_assert_eq!(record.get(Field::UserDomainName), identity.user_domain_name.as_deref());
        prop_assert_eq!(record.get(Field::ProjectId), identity.project_id.as_deref());
        prop_assert_eq!(record.get(Field::ProjectName), identity.project_name.as_deref());
        prop_assert_eq!(record.get(Field::ProjectDomainId), identity.project_domain_id.as_deref());
        prop_assert_eq!(record.get(Field::ProjectDomainName), identity.project_domain_name.as_deref());
        prop_assert_eq!(record.get(Field::DomainId), identity.domain_id.as_deref());
        prop_assert_eq!(record.get(Field::DomainName), identity.domain_name.as_deref());
        prop_assert_eq!(record.get(Field::AuditId), identity.audit_ids.first().map(String::as_str));
        let roles = identity.roles.join(",");
        prop_assert_eq!(record.get(Field::Roles), Some(roles.as_str()));
        prop_assert_eq!(record.expires_at(), identity.expires_at);
        prop_assert_eq!(record.is_admin_project(), identity.is_admin_project);
        let expires_at = record.get(Field::ExpiresAt).unwrap();
        prop_assert_eq!(time::parse(expires_at), Ok(identity.expires_at));
        prop_assert!(record.audit_ids().eq(identity.audit_ids.iter().map(String::as_str)));
        prop_assert_eq!(record.issued_at(), identity.issued_at);
        let role_ids = record.role_ids().map(|ids| ids.map(str::to_owned).collect());
        prop_assert_eq!(role_ids, identity.role_ids);
        let trust = identity.trust.as_ref().map(|it| Trust {
            id: it.id.as_deref(),
            trustor_id: it.trustor_id.as_deref(),
            trustee_id: it.trustee_id.as_deref(),
        });
        prop_assert_eq!(record.trust(), trust);
        let oauth = identity.oauth.as_ref().map(|it| OAuth {
            access_token_id: it.access_token_id.as_deref(),
            consumer_id: it.consumer_id.as_deref(),
        });
        prop_assert_eq!(record.oauth(), oauth);
        let bind = identity.bind.unwrap_or_default();
        prop_assert_eq!(record.has_bind(), !bind.is_empty());
        prop_assert!(record.bind().eq(bind.iter().map(|(a, b)| (a.as_str(), b.as_str()))));
        // One role without a name counts as none.
        if identity.roles != [""] {
            prop_assert!(record.roles().eq(identity.roles.iter().map(String::as_str)));
        }
        for (header, value) in user_headers(&record) {
            prop_assert!(is_stripped(header.name.to_bytes()));
            prop_assert!(!value.contains(char::is_control));
        }
    }

    #[test]
    fn any_bytes_may_be_a_record(bytes in vec(any::<u8>(), 0..300)) {
        use_record(&bytes);
        use_record(&[b"KTR2", &bytes[..]].concat());
    }

    #[test]
    fn a_damaged_record_may_be_read(
        identity in identity(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        end in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = identity.to_record(false).0.to_bytes();
        use_record(&bytes[..end.index(bytes.len())]);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        use_record(&bytes);
    }

    #[test]
    fn every_time_is_read_as_it_was_written(seconds in -62_135_596_800..253_402_300_800_i64) {
        let text = time::format_utc(seconds);
        prop_assert_eq!(text.len(), 20);
        prop_assert_eq!(time::parse(&text), Ok(seconds));
        prop_assert_eq!(time::parse(&text.replace('Z', ".999999Z")), Ok(seconds));
        prop_assert_eq!(time::parse(&text.replace('Z', "")), Ok(seconds));
        prop_assert_eq!(time::parse(&text.replace('Z', "+00:00")), Ok(seconds));
        prop_assert_eq!(time::parse(&text.replace('Z', "-01:30")), Ok(seconds + 5400));
        prop_assert_eq!(time::parse(&text.replace(['-', ':'], "")), Ok(seconds));
    }

    #[test]
    fn any_seconds_may_be_written_and_any_text_read(seconds in any::<i64>(), text in ".{0,40}") {
        prop_assert_eq!(time::format_utc(seconds).len(), 20);
        let _ = time::parse(&text);
    }

    #[test]
    fn nearly_a_time_may_be_read(text in "[0-9]{4}-?[0-9]{1,2}-?[0-9]{1,2}[T ][0-9:.,Z+-]{0,20}") {
        let _ = time::parse(&text);
    }

    #[test]
    fn headers_are_stripped_in_any_spelling(
        index in 0..STRIPPED.len(),
        spelling in vec((any::<bool>(), any::<u8>()), 64),
    ) {
        let name: Vec<u8> = STRIPPED[index]
            .bytes()
            .zip(spelling)
            .map(|(byte, (is_changed, other))| match byte {
                b'-' if is_changed && !other.is_ascii_alphanumeric() => other,
                byte if is_changed => byte.to_ascii_uppercase(),
                byte => byte,
            })
            .collect();
        prop_assert!(is_stripped(&name));
        prop_assert!(!is_stripped(&name[1..]));
        prop_assert!(!is_stripped(&[&name, &b"-"[..]].concat()));
    }

    #[test]
    fn no_other_header_is_stripped(name in "(?i)(x|openstack)[_.-][a-z_.-]{0,40}") {
        let folded = name.to_ascii_lowercase().replace(['_', '.'], "-");
        prop_assert_eq!(is_stripped(name.as_bytes()), STRIPPED.contains(&folded.as_str()));
    }

    #[test]
    fn any_bytes_may_be_a_header_name(name in vec(any::<u8>(), 0..60)) {
        prop_assert!(!is_stripped(&name));
    }

    #[test]
    fn any_token_has_a_format(token in vec(any::<u8>(), 0..60)) {
        let format = TokenFormat::of(&token);
        prop_assert_eq!(format.is_signed(), token.starts_with(b"MI") || token.starts_with(b"PKIZ_"));
    }

    #[test]
    fn a_list_revokes_what_is_on_it(
        entries in vec((option::of("[0-9a-f]{4}"), option::of("[0-9a-f]{4}")), 0..6),
    ) {
        let revoked: Vec<Value> =
            entries.iter().map(|(id, audit_id)| json!({"id": id, "audit_id": audit_id})).collect();
        let text = json!({"revoked": revoked}).to_string();
        let list = RevocationList::from_json(text.as_bytes()).unwrap();
        prop_assert_eq!(list.len(), entries.len());

        let text = armour_pki(&PKI.sign(b"{}"));
        let token = parse(text.as_bytes()).unwrap();
        for audit_id in ["0000", "ffff"] {
            let listed = entries.iter().any(|(_, it)| it.as_deref() == Some(audit_id));
            let revoked = list.revokes_parsed(&token, [audit_id], &[HashAlgorithm::Md5]);
            prop_assert_eq!(revoked, listed);
        }
        for (_, audit_id) in &entries {
            if let Some(audit_id) = audit_id {
                prop_assert!(list.revokes_parsed(&token, ["x", audit_id], &[]));
            }
        }
    }
}

fn use_record(bytes: &[u8]) {
    let Ok(record) = Record::new(bytes) else { return };
    for field in FIELDS {
        let _ = record.get(field);
    }
    assert!(record.get(Field::Roles).is_some());
    let _ = (record.roles().count(), record.audit_ids().count(), record.bind().count());
    let _ = (record.issued_at(), record.trust(), record.oauth());
    let _ = record.role_ids().map(Iterator::count);
    let _ = user_headers(&record).count();
}

#[test]
fn the_longest_message_fits_and_one_byte_more_does_not() {
    let mut der = vec![b'x'; MAX_DER_LEN];
    for format in [TokenFormat::Pki, TokenFormat::Pkiz] {
        let armour = if format == TokenFormat::Pki { armour_pki } else { armour_pkiz };
        assert_eq!(unarmour(armour(&der).as_bytes(), format).as_ref(), Ok(&der));
        der.push(b'x');
        assert_eq!(unarmour(armour(&der).as_bytes(), format), Err(ArmourError::TooLong));
        der.truncate(MAX_DER_LEN);
    }
}
