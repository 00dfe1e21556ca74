//! Answers that are no list of Keystone's.

use std::fs;

use keystone_testbed::cms::sign;
use keystone_testbed::http::Request;
use keystone_testbed::identity::REVOCATION_LIST;
use keystone_testbed::mint::{self, Payload, Revoked};
use keystone_testbed::world::{put, shared_pki, stranger, World};
use keystone_testbed::{expect, wait_for};
use serde_json::json;

use super::{assert_revoked, eager};

#[test]
fn d22_answers_that_are_no_list() {
    let answers = [
        "{}",
        "[]",
        "",
        "null",
        "hello",
        "{\"signed\": 1}",
        "{\"signed\": \"\"}",
        "{\"signed\": \"hello\"}",
        "{\"revoked\": []}",
    ];
    for answer in answers {
        let world = eager().start();
        world.identity.state().list_answer = Some(answer.into());
        world.judges_signed_tokens_online(answer);
        assert!(!world.signing_dir().join("revoked.pem").exists());
    }
}

#[test]
fn p08_lists_that_cannot_be_verified() {
    let world = eager().start();
    let good = world.identity.state().signed_list().unwrap();
    let stranger = stranger();
    let strange = mint::cms_pem(&sign(&stranger.signing, b"{\"revoked\": []}").unwrap());
    let mut tampered = good.clone();
    let middle = good.len() / 3;
    let other = if good.as_bytes()[middle] == b'A' { "B" } else { "A" };
    tampered.replace_range(middle..=middle, other);
    drop(world);
    let lists = [
        ("garbage", "garbage".to_owned()),
        ("truncated", good[..good.len() / 2].to_owned()),
        ("tampered with", tampered),
        ("signed by a stranger", strange),
        ("a certificate", stranger.signing.pem().unwrap()),
    ];
    for (what, list) in lists {
        let world = eager().start();
        world.identity.state().list_answer = Some(json!({ "signed": list }).to_string());
        world.judges_signed_tokens_online(&format!("a list {what}"));
        assert!(!world.signing_dir().join("revoked.pem").exists(), "a list {what}");
    }
}

#[test]
fn p08_signed_content_that_is_no_list() {
    for content in ["[1,2]", "hello", "", "{\"revoked\": 1}", "{\"revoked\": [1]}", "null"] {
        let world = eager().start();
        world.identity.state().list_content = Some(content.into());
        world.judges_signed_tokens_online(content);
    }
}

/// Keystone signs tokens and lists alike: who can answer in its place has a user's own token at
/// hand, which names nobody.
#[test]
fn p08_a_token_in_place_of_the_list() {
    for payload in [Payload::v2(), Payload::v3()] {
        let world = eager().start();
        let revoked = world.pki(&Payload::v3());
        world.identity.revoke_token(&revoked);
        assert_revoked(&world, &revoked);
        let other = world.pki(&Payload::v3());
        world.identity.revoke_token(&other);
        let der = sign(&world.pki.signing, payload.json().as_bytes()).unwrap();
        let answer = json!({ "signed": mint::cms_pem(&der) }).to_string();
        world.identity.state().list_answer = Some(answer);
        world.identity.forget_requests();
        expect::refused(&world.send(&Request::get("/").token(&other)));
        // Not by a list that is no list: the identity service was asked.
        assert_eq!(world.identity.validations(), [other]);
        world.judges_signed_tokens_online("a token in place of the list");
        world.nginx.wait_for_log("the document is a token, not a revocation list").unwrap();
    }
    // Nor is one on disk read as a list.
    let replace = |dir: &std::path::Path| {
        let der = sign(&shared_pki().unwrap().signing, Payload::v3().json().as_bytes()).unwrap();
        put(&dir.join("keystone"), "revoked.pem", mint::cms_pem(&der).as_bytes()).unwrap();
    };
    let world = World::setup().offline().files(replace).start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(world.identity.count(REVOCATION_LIST), 1);
}

#[test]
fn a_bad_list_does_not_replace_a_good_one() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "500ms")
        .set("keystone_revocation_stale", "1h")
        .start();
    let revoked = world.pki(&Payload::v3());
    // However often it is fetched, the same list: another one would replace it on disk.
    let list = mint::revocation_list(&[Revoked::id(mint::md5(&revoked))]);
    world.identity.state().list_content = Some(list);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let list = world.signing_dir().join("revoked.pem");
    let kept = wait_for("revoked.pem", || fs::read(&list).ok()).unwrap();
    world.identity.state().list_content = Some("[]".into());
    world.identity.forget_requests();
    wait_for("another question for the list", || {
        world.status(&world.pki(&Payload::v3()));
        (world.identity.count(REVOCATION_LIST) > 0).then_some(())
    })
    .unwrap();
    assert_revoked(&world, &revoked);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(fs::read(list).unwrap(), kept);
}
