//! A revoked token stays revoked in whatever form it is sent.

use keystone_token::cms::{DigestParameters, SignedData};
use keystone_token::format::{armour_pki, armour_pkiz, HashAlgorithm};
use keystone_token::revocation::{RevocationError, RevocationList};
use keystone_token::token::parse;

use crate::pki::{v3_payload, v3_payload_without_audit_ids, NOW, PKI};

const ALL: [HashAlgorithm; 6] = [
    HashAlgorithm::Md5,
    HashAlgorithm::Sha1,
    HashAlgorithm::Sha224,
    HashAlgorithm::Sha256,
    HashAlgorithm::Sha384,
    HashAlgorithm::Sha512,
];

fn list(json: &str) -> RevocationList {
    RevocationList::from_json(json.as_bytes()).unwrap()
}

fn is_revoked(text: &str, list: &RevocationList, algorithms: &[HashAlgorithm]) -> bool {
    let text = text.as_bytes();
    let token = parse(text).unwrap();
    let token = token.verify(&PKI.signers(), NOW).unwrap();
    list.revokes(&token, algorithms)
}

/// The texts that one signed content can have.
fn forms(content: &[u8]) -> Vec<String> {
    let signed = SignedData::parse(PKI.sign(content)).unwrap();
    DigestParameters::ALL
        .into_iter()
        .map(|parameters| signed.encode(parameters))
        .flat_map(|der| [armour_pki(&der), armour_pkiz(&der)])
        .collect()
}

#[test]
fn the_id_of_any_form_revokes_every_form() {
    for content in [v3_payload(), v3_payload_without_audit_ids()] {
        let forms = forms(&content);
        for listed in &forms {
            for algorithm in ALL {
                let id = algorithm.hex_digest(listed.as_bytes());
                let list = list(&format!(r#"{{"revoked": [{{"id": "{id}"}}]}}"#));
                for sent in &forms {
                    assert!(is_revoked(sent, &list, &[algorithm]));
                    assert!(is_revoked(sent, &list, &ALL));
                    let others: Vec<_> = ALL.into_iter().filter(|it| *it != algorithm).collect();
                    assert!(!is_revoked(sent, &list, &others));
                }
            }
        }
    }
}

#[test]
fn where_audit_ids_are_complete_they_decide() {
    let forms = forms(&v3_payload());
    let id = HashAlgorithm::Md5.hex_digest(forms[0].as_bytes());
    let other_audit_id = list(&format!(r#"{{"revoked": [{{"id": "{id}", "audit_id": "x"}}]}}"#));
    assert!(is_revoked(&forms[0], &other_audit_id, &ALL));
    // Only an entry whose audit id is another token's has the id of this one: no real list.
    assert!(!is_revoked(&forms[1], &other_audit_id, &ALL));
    // A token without audit ids cannot rely on those of the list.
    let forms = self::forms(&v3_payload_without_audit_ids());
    let id = HashAlgorithm::Md5.hex_digest(forms[0].as_bytes());
    let list = list(&format!(r#"{{"revoked": [{{"id": "{id}", "audit_id": "x"}}]}}"#));
    assert!(forms.iter().all(|form| is_revoked(form, &list, &ALL)));
}

#[test]
fn each_audit_id_revokes_the_token_and_its_children() {
    for form in forms(&v3_payload()) {
        for audit_id in ["aaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbb"] {
            let list =
                list(&format!(r#"{{"revoked": [{{"id": "x", "audit_id": "{audit_id}"}}]}}"#));
            assert!(is_revoked(&form, &list, &ALL));
            let alone = format!(r#"{{"revoked": [{{"audit_id": "{audit_id}"}}]}}"#);
            assert!(is_revoked(&form, &self::list(&alone), &[]));
        }
        let other = list(r#"{"revoked": [{"id": "x", "audit_id": "cccccccccccccccccccccc"}]}"#);
        assert!(!is_revoked(&form, &other, &ALL));
    }
}

#[test]
fn the_text_itself_is_no_id() {
    let form = &forms(&v3_payload())[0];
    let list = list(&format!(r#"{{"revoked": [{{"id": "{form}"}}]}}"#));
    assert!(!is_revoked(form, &list, &ALL));
}

#[test]
fn a_pkiz_token_of_another_compression_is_revoked_too() {
    use base64::Engine as _;
    use std::io::Write as _;

    let der = PKI.sign(&v3_payload());
    let pkiz = armour_pkiz(&der);
    let id = HashAlgorithm::Md5.hex_digest(pkiz.as_bytes());
    let by_pkiz = list(&format!(r#"{{"revoked": [{{"id": "{id}"}}]}}"#));
    let id = HashAlgorithm::Md5.hex_digest(armour_pki(&der).as_bytes());
    let by_pki = list(&format!(r#"{{"revoked": [{{"id": "{id}"}}]}}"#));
    let pem = crate::vectors::pem(&der);
    for (level, content) in [(0, pem.as_bytes()), (1, pem.as_bytes()), (9, &der), (6, &der)] {
        let level = flate2::Compression::new(level);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
        zlib.write_all(content).unwrap();
        let stream = zlib.finish().unwrap();
        let text = format!("PKIZ_{}", base64::prelude::BASE64_URL_SAFE.encode(stream));
        assert_ne!(text, pkiz);
        assert!(is_revoked(&text, &by_pkiz, &ALL));
        assert!(is_revoked(&text, &by_pki, &ALL));
    }
}

#[test]
fn lists_without_entries_are_empty() {
    for json in ["{}", r#"{"revoked": []}"#, r#"{"revoked": null}"#, r#" {"extra": [1]} "#] {
        let list = list(json);
        assert!(list.is_empty());
        assert!(!is_revoked(&forms(&v3_payload_without_audit_ids())[0], &list, &ALL));
    }
    let list = list(r#"{"revoked": [{"id": "a", "audit_id": "b", "expires": 3}], "extra": "x"}"#);
    assert_eq!(list.len(), 1);
    let list = self::list(r#"{"revoked": [{"id": "a", "audit_id": "b"}, {"id": "c"}, {}]}"#);
    assert_eq!(list.len(), 3);
}

#[test]
fn what_is_not_a_list_is_an_error() {
    let bad = [
        "",
        "null",
        "[]",
        "[1, 2]",
        "[[]]",
        "garbage",
        "{",
        "{} {}",
        r#"{"revoked": {}}"#,
        r#"{"revoked": ["a"]}"#,
        r#"{"revoked": [["a", "b"]]}"#,
        r#"{"revoked": [{"id": 1}]}"#,
        r#"{"revoked": [{"audit_id": []}]}"#,
        r#"{"revoked": [], "revoked": []}"#,
    ];
    for json in bad {
        assert!(RevocationList::from_json(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn a_token_is_no_list() {
    for content in [v3_payload(), v3_payload_without_audit_ids()] {
        assert_eq!(RevocationList::from_json(&content), Err(RevocationError::Token));
    }
    for json in [
        r#"{"token": {}}"#,
        r#"{"access": {}}"#,
        r#"{"revoked": [], "token": {"user": {}}}"#,
        r#"{"access": 1, "revoked": [{"id": "x"}]}"#,
        r#"{"\u0074oken": [], "revoked": []}"#,
    ] {
        let refused = RevocationList::from_json(json.as_bytes());
        assert_eq!(refused, Err(RevocationError::Token), "{json}");
    }
}
