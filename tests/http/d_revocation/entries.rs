//! Which tokens an entry of the list names.

use keystone_testbed::cms::{sign, Form};
use keystone_testbed::http::Request;
use keystone_testbed::mint::{self, new_audit_id, new_uuid, Payload, Revoked};
use serde_json::json;

use super::{assert_revoked, eager};

#[test]
fn d01_d02_d03_the_md5_of_the_text_is_listed() {
    let world = eager().start();
    for payload in [Payload::v2(), Payload::v3()] {
        for token in [world.pki(&payload), world.pkiz(&payload.clone().audit_ids(&["x"]))] {
            world.identity.revoke_token(&token);
            assert_revoked(&world, &token);
        }
    }
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
}

#[test]
fn d04_d05_the_sha256_or_the_md5_is_listed() {
    let world = eager().set("keystone_hash_algorithms", "sha256 md5").start();
    for hash in [mint::sha256, mint::md5] {
        for token in [world.pki(&Payload::v3()), world.pkiz(&Payload::v2())] {
            world.identity.revoke(Revoked::id(hash(&token)));
            assert_revoked(&world, &token);
        }
    }
}

#[test]
fn d06_an_algorithm_that_is_not_configured() {
    let world = eager().start();
    let token = world.pki(&Payload::v3());
    world.identity.revoke(Revoked::id(mint::sha256(&token)));
    assert_eq!(world.status(&token), 200);
}

#[test]
fn d07_other_ids() {
    let world = eager().start();
    for _ in 0..200 {
        world.identity.revoke(Revoked { id: Some(new_uuid()), audit_id: Some(new_audit_id()) });
    }
    assert_eq!(world.status(&world.pki(&Payload::v2())), 200);
    assert_eq!(world.status(&world.pkiz(&Payload::v3())), 200);
}

#[test]
fn d08_d09_lists_without_entries() {
    for content in ["{}", "{\"revoked\": []}", "{\"revoked\": [], \"extra\": \"success\"}"] {
        let world = eager().start();
        world.identity.state().list_content = Some(content.into());
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200, "{content}");
    }
}

#[test]
fn d10_the_audit_id_is_listed() {
    let world = eager().start();
    for payload in [Payload::v2(), Payload::v3()] {
        world.identity.revoke(Revoked::audit_id(payload.audit_id()));
        assert_revoked(&world, &world.pki(&payload));
        assert_revoked(&world, &world.pkiz(&payload));
    }
}

#[test]
fn d11_the_audit_id_of_the_parent_is_listed() {
    let world = eager().start();
    let parent = new_audit_id();
    world.identity.revoke(Revoked::audit_id(&parent));
    for payload in [Payload::v2(), Payload::v3()] {
        let child = payload.audit_ids(&[&new_audit_id(), &parent]);
        assert_revoked(&world, &world.pki(&child));
    }
}

#[test]
fn d12_d13_other_audit_ids_or_none() {
    let world = eager().start();
    world.identity.revoke(Revoked::audit_id(new_audit_id()));
    world.identity.revoke(Revoked::id(new_uuid()));
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let without = Payload::v3().without("/audit_ids");
    assert_eq!(world.status(&world.pki(&without)), 200);
    assert_eq!(world.status(&world.pki(&Payload::v3().audit_ids(&[]))), 200);
}

#[test]
fn null_among_the_audit_ids_is_no_id() {
    let world = eager().start();
    for (payload, at) in [(Payload::v2(), "/token/audit_ids"), (Payload::v3(), "/audit_ids")] {
        let own = new_audit_id();
        let payload = payload.with(at, json!([own, null]));
        let token = world.pki(&payload);
        assert_eq!(world.status(&token), 200);
        world.identity.revoke(Revoked::audit_id(&own));
        assert_revoked(&world, &world.pkiz(&payload));
    }
    let validated = Payload::v3().with("/audit_ids", json!([new_audit_id(), null]));
    assert_eq!(world.status(&world.uuid(&validated)), 200);
}

/// The list names a hash of one form of a token; CVE-2015-7546 is to come with another form.
#[test]
fn cve_2015_7546_another_form_of_a_listed_token() {
    let world = eager().start();
    let signing = &world.pki.signing;
    // Without audit ids there is nothing else to find the token by.
    let payload = || Payload::v3().with("/x", json!(new_uuid())).without("/audit_ids");
    let null = Form { null_parameters: true, ..Form::default() };
    let forms = |payload: &Payload| -> Vec<(&str, String)> {
        let content = payload.json();
        let der = sign(signing, content.as_bytes()).unwrap();
        let other = keystone_testbed::cms::sign_as(signing, content.as_bytes(), null).unwrap();
        let pem = mint::cms_pem(&der);
        vec![
            ("PKI", mint::pki(&der)),
            ("PKIZ of PEM", mint::pkiz(&der).unwrap()),
            ("PKIZ of DER", mint::pkiz_of(&der).unwrap()),
            ("PKI with NULL", mint::pki(&other)),
            ("PKIZ of PEM with NULL", mint::pkiz(&other).unwrap()),
            ("PKIZ of PEM at level 9", mint::pkiz_at_level(pem.as_bytes(), 9).unwrap()),
            ("PKIZ of PEM, not compressed", mint::pkiz_at_level(pem.as_bytes(), 0).unwrap()),
        ]
    };
    // What Keystone can have issued and so listed, and what can be made of it.
    for listed in 0..5 {
        let forms = forms(&payload());
        world.identity.revoke_token(&forms[listed].1);
        for (name, token) in &forms {
            let answer = world.send(&Request::get("/").token(token));
            assert_eq!(answer.status, 401, "{} is listed, {name} comes", forms[listed].0);
        }
    }
    for (name, token) in forms(&payload()) {
        assert_eq!(world.status(&token), 200, "{name}");
    }
}

#[test]
fn cve_2015_7546_in_any_algorithm() {
    let world = eager().set("keystone_hash_algorithms", "sha512 md5").start();
    let payload = Payload::v3().without("/audit_ids");
    let (pki, pkiz) = (world.pki(&payload), world.pkiz(&payload));
    world.identity.revoke_token(&pkiz);
    assert_revoked(&world, &pki);
    assert_revoked(&world, &pkiz);
}

#[test]
fn p10_the_whole_token_as_an_id_does_not_count() {
    let world = eager().start();
    let token = world.pki(&Payload::v3());
    world.identity.revoke(Revoked::id(&token));
    assert_eq!(world.status(&token), 200);
}

#[test]
fn a_long_list() {
    let world = eager().set("keystone_cache_zone", "zone=large:64m").start();
    let token = world.pki(&Payload::v3());
    {
        let mut state = world.identity.state();
        for _ in 0..20_000 {
            state.revoked.push(Revoked { id: Some(new_uuid()), audit_id: Some(new_audit_id()) });
        }
        state.revoked.push(Revoked::id(mint::md5(&token)));
    }
    assert_revoked(&world, &token);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    // In a small zone it has no room: the identity service judges, and the log says why.
    let mut world = world;
    world.reconfigure(|config| config.set("keystone_cache_zone", "zone=small:1m"));
    world.judges_signed_tokens_online("a list without room");
    world.nginx.wait_for_log("make the zone larger").unwrap();
}
