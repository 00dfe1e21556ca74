//! Tokens, and the module's first reason to refuse them.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{self, new_uuid, JwsKey, Payload, Revoked};
use keystone_testbed::pki::{Pki, Shape};
use serde_json::json;

use super::gateway::{id_of, Gateway};

#[test]
fn a_valid_token_is_explained() {
    let gateway = Gateway::new();
    for token in [
        Payload::v3().pki(&gateway.pki.signing).unwrap(),
        Payload::v3().pkiz(&gateway.pki.signing).unwrap(),
        Payload::v2().pki(&gateway.pki.signing).unwrap(),
    ] {
        gateway.token(&format!(" {token}\t\r\n"), &[]).verdict(0, "accept", Some("ok"));
        let outcome = gateway.token(&format!("{token}\n"), &[]);
        outcome.verdict(0, "accept", Some("ok"));
        outcome.says("token.signer", "ok", "signing_cert.pem");
        outcome.says("token.signature", "ok", "signing_dir").says("token.revoked", "ok", "written");
        let facts = &outcome.json["token"];
        assert_eq!(facts["format"], if token.starts_with("PKIZ") { "pkiz" } else { "pki" });
        assert_eq!(facts["ids"]["md5"], id_of(&token));
        assert_eq!(facts["signature"]["digest"], "sha256");
        assert_eq!(facts["signature"]["serial"], "01");
        assert!(facts["signature"]["issuer"].as_str().unwrap().contains("CN=www.example.com"));
        assert_eq!(facts["identity"]["verified"], true);
        assert_eq!(facts["identity"]["user_name"], "user_name1");
        assert_eq!(facts["identity"]["roles"], json!(["role1", "role2"]));
        assert!(outcome.human.contains("role1, role2"), "{}", outcome.human);
    }
    assert_eq!(gateway.identity.requests(), [""; 0], "nobody was asked");
}

#[test]
fn an_expired_token_is_reported_with_its_time() {
    let gateway = Gateway::new();
    let token = Payload::v3().expires_in(-7200).pki(&gateway.pki.signing).unwrap();
    let outcome = gateway.token(&token, &[]);
    outcome.verdict(1, "refuse", Some("expired")).says("token.expiry", "fail", "2 h ago");
    assert_eq!(outcome.json["token"]["identity"]["user_id"], "user_id1");
}

#[test]
fn a_revoked_token_is_reported_with_the_id_that_revokes_it() {
    let mut gateway = Gateway::new();
    gateway.more = "keystone_hash_algorithms sha256 md5;".into();
    let payload = Payload::v3().audit_ids(&["own", "parent"]);
    let pki = payload.pki(&gateway.pki.signing).unwrap();
    let pkiz = payload.pkiz(&gateway.pki.signing).unwrap();
    for (entry, text) in [
        (Revoked::audit_id("parent"), "audit id parent"),
        (Revoked::id(id_of(&pki)), "md5"),
        (Revoked::id(mint::sha256(&pki)), "sha256"),
        (Revoked::id(id_of(&pkiz)), "another form"),
    ] {
        gateway.identity.state().revoked = vec![entry];
        gateway.fetch();
        let outcome = gateway.token(&pki, &[]);
        outcome.verdict(1, "refuse", Some("revoked")).says("token.revoked", "fail", text);
        assert_eq!(outcome.json["token"]["ids"].as_object().unwrap().len(), 2);
    }
    // Keystone's list may be newer than that on the disk.
    gateway.identity.state().revoked.clear();
    gateway.fetch();
    gateway.token(&pki, &[]).verdict(0, "accept", Some("ok"));
    gateway.identity.revoke_token(&pki);
    gateway.token(&pki, &["--online"]).verdict(1, "refuse", Some("revoked"));
    gateway.more = "keystone_revocation off;".into();
    gateway.token(&pki, &[]).verdict(0, "accept", Some("ok"));
}

#[test]
fn an_altered_token_has_a_bad_signature_or_no_form() {
    let gateway = Gateway::new();
    let token = Payload::v3().pki(&gateway.pki.signing).unwrap();
    let mut altered = token.clone();
    let at = token.len() - 40;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    altered.replace_range(at..=at, other);
    let outcome = gateway.token(&altered, &[]);
    outcome.verdict(1, "refuse", Some("bad_signature")).says("token.signature", "fail", "altered");
    assert_eq!(outcome.json["token"]["identity"]["verified"], false);
    for token in [&token[..token.len() - 8], &format!("{token} x"), "MIIgarbage"] {
        gateway.token(token, &[]).verdict(1, "refuse", Some("malformed"));
    }
    gateway.token("", &[]).verdict(1, "refuse", Some("no_token"));
    gateway.token("caf\u{e9} token of no known kind", &[]).verdict(1, "refuse", Some("malformed"));
    gateway.token(&"x".repeat(9000), &[]).verdict(1, "refuse", Some("malformed"));
    let unscoped = Payload::v2_unscoped().pki(&gateway.pki.signing).unwrap();
    gateway.token(&unscoped, &[]).verdict(1, "refuse", Some("no_tenant"));
}

#[test]
fn a_token_of_another_signer_may_be_one_of_a_new_certificate() {
    let gateway = Gateway::new();
    let other = Pki::with(&Shape::authority(), &Shape::signing().serial(9)).unwrap();
    let token = Payload::v3().pki(&other.signing).unwrap();
    let outcome = gateway.token(&token, &[]);
    outcome.verdict(1, "refuse", Some("unknown_signer")).says("token.signer", "warn", "serial 01");
    assert_eq!(outcome.json["token"]["signature"]["serial"], "09");
    assert!(outcome.human.contains("--online"), "{}", outcome.human);
    gateway.token(&token, &["--online"]).verdict(1, "refuse", Some("unknown_signer"));
    gateway.identity.rotate(&other).unwrap();
    let outcome = gateway.token(&token, &["--online"]);
    outcome.verdict(0, "accept", Some("ok")).says("token.signature", "ok", "of Keystone");
}

#[test]
fn a_token_writes_no_line_of_its_own() {
    let verdict = "  the module would accept it (ok): it holds";
    let name = Shape::authority().common_name(&format!("Keystone\n{verdict}"));
    let forger = Pki::with(&name, &Shape::signing()).unwrap();
    let token = Payload::v3().pki(&forger.signing).unwrap();
    let outcome = Gateway::new().token(&token, &[]);
    outcome.verdict(1, "refuse", Some("unknown_signer"));
    assert!(outcome.human.contains("it holds"), "{}", outcome.human);
    assert!(!outcome.human.lines().any(|line| line == verdict), "{}", outcome.human);
}

#[test]
fn keystone_s_own_view_is_compared() {
    let gateway = Gateway::new();
    let payload = Payload::v3();
    let token = payload.pki(&gateway.pki.signing).unwrap();
    gateway.token(&token, &["--online"]).verdict(0, "accept", Some("ok")).says(
        "token.keystone",
        "warn",
        "does not know",
    );
    gateway.identity.know(&token, &payload);
    gateway.token(&token, &["--online"]).says("token.keystone", "ok", "knows the token too");
}

#[test]
fn what_only_keystone_can_judge_is_asked_online() {
    let mut gateway = Gateway::new();
    let fernet = format!("gAAAAABYqGsA{}", "b".repeat(150));
    let uuid = new_uuid();
    for token in [fernet.as_str(), &uuid] {
        let outcome = gateway.token(token, &[]);
        outcome.verdict(3, "unknown", None);
        assert_eq!(gateway.identity.validations(), [""; 0]);
        gateway.token(token, &["--online"]).verdict(1, "refuse", Some("unknown_token"));
        gateway.identity.know(token, &Payload::v3());
        let outcome = gateway.token(token, &["--online"]);
        outcome.verdict(0, "accept", Some("ok"));
        assert_eq!(outcome.json["token"]["identity"]["project_name"], "tenant_name1");
        gateway.identity.forget_requests();
    }
    let outcome = gateway.token(&fernet, &[]);
    assert_eq!(outcome.json["token"]["created_at"], "2017-02-18T15:40:48Z");

    gateway.identity.fault_validations(Fault::Status(500));
    let outcome = gateway.token(&uuid, &["--online"]);
    outcome.verdict(3, "unknown", Some("identity_unavailable"));
    gateway.identity.stop();
    let outcome = gateway.token(&uuid, &["--online"]);
    outcome.verdict(3, "unknown", Some("identity_unavailable"));
    outcome.says("token.keystone", "fail", "cannot");
}

#[test]
fn a_jws_of_another_key_is_refused_by_the_module_whatever_keystone_says() {
    let mut gateway = Gateway::new();
    let key = JwsKey::new().unwrap();
    gateway.write("jws.pem", &String::from_utf8(key.public_pem().unwrap()).unwrap());
    gateway.more = "keystone_jws_keys jws.pem;".into();
    let (payload, token) = (Payload::v3(), key.token(3600).unwrap());
    gateway.identity.know(&token, &payload);
    gateway.token(&token, &[]).verdict(3, "unknown", None);
    gateway.token(&token, &["--online"]).verdict(0, "accept", Some("ok"));

    let token = JwsKey::new().unwrap().token(3600).unwrap();
    let outcome = gateway.token(&token, &[]);
    outcome.verdict(1, "refuse", Some("bad_signature"));
    outcome.says("token.signature", "fail", "keystone_jws_keys");
    let outcome = gateway.token(&token, &["--online"]);
    outcome.verdict(1, "refuse", Some("bad_signature")).says("token.keystone", "ok", "either");
    gateway.identity.know(&token, &payload);
    let outcome = gateway.token(&token, &["--online"]);
    outcome.verdict(1, "refuse", Some("bad_signature"));
    outcome.says("token.keystone", "fail", "Keystone's public key");
}

#[test]
fn without_certificates_or_list_a_signed_token_needs_keystone() {
    let gateway = Gateway::new();
    let payload = Payload::v3();
    let token = payload.pki(&gateway.pki.signing).unwrap();
    fs::remove_file(gateway.signing_dir().join("revoked.pem")).unwrap();
    gateway.token(&token, &[]).verdict(3, "unknown", None).says(
        "token.revoked",
        "skip",
        "not there",
    );
    fs::remove_file(gateway.signing_dir().join("cacert.pem")).unwrap();
    gateway.token(&token, &[]).verdict(3, "unknown", None);
    gateway.token(&token, &["--online"]).verdict(0, "accept", Some("ok"));
    gateway.identity.fault("/v3/OS-SIMPLE-CERT", Fault::Status(410));
    gateway.token(&token, &["--online"]).verdict(1, "refuse", Some("unknown_token"));
    gateway.identity.know(&token, &payload);
    gateway.token(&token, &["--online"]).verdict(0, "accept", Some("ok"));
}

#[test]
fn what_the_location_decides_is_named() {
    let mut gateway = Gateway::new();
    gateway.more = "keystone_service_type compute;
        keystone_client_certificate $http_x_ssl_client_cert;"
        .into();
    let rules = json!([{"service": "compute", "method": "GET", "path": "/**"}]);
    for (payload, text) in [
        (Payload::v3().access_rules(rules), "keystone_service_type"),
        (Payload::v3().bind("kerberos", "me@REALM"), "keystone_enforce_token_bind"),
        (Payload::v3().bound_to_certificate("PEM"), "keystone_client_certificate"),
        (Payload::v3_unscoped(), "keystone_require_role"),
    ] {
        let token = payload.pki(&gateway.pki.signing).unwrap();
        let outcome = gateway.token(&token, &[]);
        outcome.verdict(0, "accept", Some("ok")).says("token.conditions", "warn", text);
    }
}

#[test]
fn a_condition_that_no_location_can_meet_refuses_the_token() {
    let gateway = Gateway::new();
    let rules = json!([{"service": "compute", "method": "GET", "path": "/**"}]);
    for (payload, result, text) in [
        (Payload::v3().access_rules(rules), "access_rules", "keystone_service_type"),
        (Payload::v3().bound_to_certificate("PEM"), "bind_failed", "ssl_verify_client"),
    ] {
        let token = payload.pki(&gateway.pki.signing).unwrap();
        let outcome = gateway.token(&token, &[]);
        outcome.verdict(1, "refuse", Some(result)).says("token.conditions", "fail", text);
    }
    let token = Payload::v3().pki(&gateway.pki.signing).unwrap();
    let mut gateway = gateway;
    gateway.more = "keystone_enforce_token_bind required;".into();
    let outcome = gateway.token(&token, &[]);
    outcome.verdict(1, "refuse", Some("bind_failed")).says("token.conditions", "fail", "no bind");
    gateway.more.push_str(
        "server { listen 127.0.0.1:2; keystone_auth on; keystone_enforce_token_bind strict; }",
    );
    gateway.token(&token, &[]).verdict(0, "accept", Some("ok"));
}

#[test]
fn an_old_list_does_not_tell_that_a_token_is_good() {
    let gateway = Gateway::new();
    let token = Payload::v3().pki(&gateway.pki.signing).unwrap();
    let revoked = Payload::v3().pki(&gateway.pki.signing).unwrap();
    gateway.identity.revoke_token(&revoked);
    gateway.fetch();
    let list = File::options().append(true).open(gateway.signing_dir().join("revoked.pem"));
    list.unwrap().set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
    gateway.token(&token, &[]).verdict(3, "unknown", None).says("token.revoked", "skip", "written");
    // What is on it stays on it.
    gateway.token(&revoked, &[]).verdict(1, "refuse", Some("revoked"));
    gateway.token(&token, &["--online"]).verdict(0, "accept", Some("ok"));
    // Nor does it matter to one that no location can accept.
    let rules = json!([{"service": "compute", "method": "GET", "path": "/**"}]);
    for (payload, result) in [
        (Payload::v3().access_rules(rules), "access_rules"),
        (Payload::v3().bound_to_certificate("PEM"), "bind_failed"),
    ] {
        let token = payload.pki(&gateway.pki.signing).unwrap();
        gateway.token(&token, &[]).verdict(1, "refuse", Some(result));
    }
}

#[test]
fn a_token_that_nginx_s_buffers_do_not_hold_is_reported() {
    let gateway = Gateway::new();
    let token = Payload::v3().padded(70_000).pki(&gateway.pki.signing).unwrap();
    let outcome = gateway.token(&token, &[]);
    outcome.verdict(1, "refuse", None).says("token.length", "fail", "large_client_header_buffers");
}

#[test]
fn a_header_line_in_place_of_a_token_gets_a_hint() {
    let gateway = Gateway::new();
    for line in ["X-Auth-Token: gAAAAABtoken", "x-subject-token:abc"] {
        let outcome = gateway.token(line, &[]);
        assert_eq!(outcome.code, 2);
        assert!(outcome.human.contains("give the token alone"), "{}", outcome.human);
    }
}
