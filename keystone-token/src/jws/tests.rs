use openssl::ec::{EcGroup, EcKey};
use openssl::pkey::Private;
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{json, Value};

use super::*;

/// Made with PyJWT 2.15, with Keystone's claims.
const TOKENS: [(&str, Algorithm); 4] = [
    (include_str!("vectors/es256.jws"), Algorithm::Es256),
    (include_str!("vectors/es384.jws"), Algorithm::Es384),
    (include_str!("vectors/es512.jws"), Algorithm::Es512),
    (include_str!("vectors/eddsa.jws"), Algorithm::EdDsa),
];
const ISSUED_AT: i64 = 1_767_225_600;

/// The key of the first of them, and others.
const KEY: &[u8] = include_bytes!("vectors/es256.pem");
const OTHER_KEY: &[u8] = include_bytes!("vectors/other.pem");
const P384_KEY: &[u8] = include_bytes!("vectors/es384.pem");

fn keystone_header() -> Value {
    json!({"alg": "ES256", "typ": "JWT"})
}

fn keystone_payload() -> Value {
    json!({
        "sub": "0123456789abcdef0123456789abcdef",
        "iat": ISSUED_AT,
        "exp": ISSUED_AT + 3_600,
        "openstack_methods": ["password"],
        "openstack_audit_ids": ["3T2dc1CGQxyJsHdDu1xkcw"],
    })
}

fn token(header: &Value, payload: &Value, signature: &[u8]) -> String {
    let parts = [header.to_string().as_bytes(), payload.to_string().as_bytes(), signature]
        .map(|part| BASE64URL.encode(part));
    parts.join(".")
}

fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    object[name] = value;
    object
}

fn without(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(name);
    object
}

fn error(token: &str) -> JwsError {
    Jws::parse(token.as_bytes()).expect_err(token)
}

#[test]
fn tokens_of_each_algorithm_have_the_form() {
    for (token, algorithm) in TOKENS {
        let jws = Jws::parse(token.as_bytes()).unwrap();
        assert_eq!(jws.algorithm, algorithm);
        assert_eq!((jws.issued_at, jws.expires_at), (ISSUED_AT, ISSUED_AT + 3_600));
    }
}

#[test]
fn times_are_those_of_the_claims() {
    let jws = Jws::parse(TOKENS[0].0.as_bytes()).unwrap();
    assert!(!jws.has_expired(ISSUED_AT + 3_599));
    assert!(jws.has_expired(ISSUED_AT + 3_600));
    assert_eq!(jws.check_issue(ISSUED_AT - 60), Ok(()));
    assert_eq!(jws.check_issue(ISSUED_AT - 61), Err(JwsError::Future));
    assert_eq!(jws.check_issue(i64::MAX), Ok(()));
}

#[test]
fn the_header_is_keystone_s() {
    let header = keystone_header();
    for header in [
        with(&header, "alg", json!("none")),
        with(&header, "alg", json!("HS256")),
        with(&header, "alg", json!("RS256")),
        with(&header, "alg", json!("es256")),
        with(&header, "alg", json!(null)),
        with(&header, "alg", json!({"ES256": null})),
        with(&header, "typ", json!("JWS")),
        with(&header, "kid", json!("1")),
        with(&header, "crit", json!(["b64"])),
        without(&header, "alg"),
        without(&header, "typ"),
        json!(["ES256", "JWT"]),
        json!("ES256"),
        json!({}),
    ] {
        assert_eq!(error(&token(&header, &keystone_payload(), &[0; 64])), JwsError::Header);
    }
    let twice = BASE64URL.encode(r#"{"alg":"none","alg":"ES256","typ":"JWT"}"#);
    let token = token(&keystone_header(), &keystone_payload(), &[0; 64]);
    let (_, rest) = token.split_once('.').unwrap();
    assert_eq!(error(&format!("{}.{rest}", twice)), JwsError::Header);
}

#[test]
fn the_payload_has_keystone_s_claims() {
    let payload = keystone_payload();
    for payload in [
        without(&payload, "sub"),
        without(&payload, "iat"),
        without(&payload, "exp"),
        without(&payload, "openstack_methods"),
        without(&payload, "openstack_audit_ids"),
        with(&payload, "sub", json!(1)),
        with(&payload, "exp", json!("1767229200")),
        with(&payload, "exp", json!(1e300)),
        with(&payload, "exp", json!(u64::MAX)),
        with(&payload, "iat", json!([])),
        with(&payload, "openstack_methods", json!("password")),
        json!([]),
        json!(null),
    ] {
        assert_eq!(error(&token(&keystone_header(), &payload, &[0; 64])), JwsError::Payload);
    }
    let more = with(&payload, "openstack_new_claim", json!({"any": ["thing"]}));
    assert!(Jws::parse(token(&keystone_header(), &more, &[0; 64]).as_bytes()).is_ok());
}

#[test]
fn a_signature_has_the_length_of_its_algorithm() {
    for length in [0, 1, 63, 65, 70, 72, 96, 132] {
        let token = token(&keystone_header(), &keystone_payload(), &vec![1; length]);
        assert_eq!(error(&token), JwsError::SignatureLength, "{length}");
    }
}

#[test]
fn what_is_not_three_parts_of_base64url_is_no_token() {
    for token in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "e30=.e30.e30", "e30.e30.e3+"] {
        assert!(Jws::parse(token.as_bytes()).is_err(), "{token}");
    }
    assert_eq!(error("e3!.e30.e30"), JwsError::Base64);
}

#[test]
fn only_the_key_that_signed_verifies() {
    let jws = Jws::parse(TOKENS[0].0.as_bytes()).unwrap();
    let keys = |pem: &[u8]| JwsKeys::from_pem(pem).unwrap();
    assert!(keys(KEY).verify(&jws));
    assert!(!keys(OTHER_KEY).verify(&jws));
    // Several in a file, or in several files.
    assert!(keys(&[OTHER_KEY, b"\ntext between\n", KEY].concat()).verify(&jws));
    assert!(JwsKeys::join([keys(OTHER_KEY), keys(KEY)]).verify(&jws));
    assert!(!JwsKeys::join([]).verify(&jws));
    // Of another algorithm, nothing can be verified with these keys.
    for (token, _) in &TOKENS[1..] {
        assert!(!keys(KEY).verify(&Jws::parse(token.as_bytes()).unwrap()));
    }
}

#[test]
fn every_change_of_a_token_breaks_its_signature() {
    let keys = JwsKeys::from_pem(KEY).unwrap();
    let token = TOKENS[0].0;
    for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
        let mut changed = token.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'Z' } else { b'A' };
        assert!(Jws::parse(&changed).map_or(true, |jws| !keys.verify(&jws)), "{at}");
    }
}

#[test]
fn a_signature_that_is_no_pair_of_numbers_verifies_nothing() {
    let keys = JwsKeys::from_pem(KEY).unwrap();
    for signature in [[0; 64], [0xff; 64]] {
        let token = token(&keystone_header(), &keystone_payload(), &signature);
        assert!(!keys.verify(&Jws::parse(token.as_bytes()).unwrap()));
    }
    // As OpenSSL writes it: that is no JWS.
    let (key, public) = new_key();
    let unsigned = token(&keystone_header(), &keystone_payload(), &[]);
    let signed = unsigned.trim_end_matches('.');
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let der = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
    let der = BASE64URL.encode(der);
    assert_eq!(error(&format!("{signed}.{}", der)), JwsError::SignatureLength);
    assert!(JwsKeys::from_pem(&public).is_ok());
}

#[test]
fn other_files_have_no_keys() {
    let error = |pem: &[u8]| JwsKeys::from_pem(pem).unwrap_err().to_string();
    let (private, public) = new_key();
    let rsa = Rsa::generate(2048).unwrap().public_key_to_pem().unwrap();
    let private = private.private_key_to_pem_pkcs8().unwrap();
    let curve = "it contains a key that is not for ES256 (curve P-256)";
    assert_eq!(error(P384_KEY), curve);
    assert_eq!(error(&rsa), curve);
    assert_eq!(error(&[&public[..], &rsa].concat()), curve);
    assert_eq!(error(&private), "it contains something other than public keys");
    assert_eq!(error(&[&public[..], &private].concat()), error(&private));
    for none in [&b""[..], b"text", b"\xff\xfe", b"PUBLIC KEY"] {
        assert_eq!(error(none), "it contains no public key in PEM format");
    }
    let garbage = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    assert!(error(garbage.as_bytes()).starts_with("it contains a key that cannot be read: "));
    let cut = &public[..public.len() / 2];
    assert!(error(cut).starts_with("it contains a key that cannot be read: "));
}

fn new_key() -> (PKey<Private>, Vec<u8>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let public = key.public_key_to_pem().unwrap();
    (key, public)
}
