//! Section D of `docs/behaviour.md` for tokens that the identity service has judged: what is cached
//! of them dies with the revocation list that names them.
//!
//! The list is fetched for as long as signed tokens come, so these do here.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Identity};
use keystone_testbed::mint::{md5, new_audit_id, new_fernet, sha256, Payload, Revoked};
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

fn world() -> Setup {
    World::setup().set("keystone_revocation_cache_time", "1s").workers(2)
}

/// The cache's part in the answers of all workers; each must be 200.
fn cache_of_all_workers(world: &World, token: &str) -> Vec<String> {
    let ask = |pid: i32| {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let answer = client.send(&Request::get("/").token(token)).unwrap();
        assert_eq!(answer.status, 200);
        answer.header("X-Cache").unwrap().to_owned()
    };
    world.nginx.worker_pids().into_iter().map(ask).collect()
}

/// Keystone revokes a token: it does not know it any more, and its list names it.
fn revoke(identity: &Identity, token: &str, entry: Revoked) {
    identity.forget(token);
    identity.revoke(entry);
}

#[track_caller]
fn assert_dies_with_the_list(world: &World, token: &str) {
    let signed = world.pki(&Payload::v3());
    wait_for("the token to be refused", || {
        assert_eq!(world.status(&signed), 200);
        (world.status(token) == 401).then_some(())
    })
    .unwrap();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        expect::refused(&client.send(&Request::get("/").token(token)).unwrap());
    }
}

#[test]
fn d16_the_tokens_own_id_is_listed() {
    let world = world().start();
    let token = world.uuid(&Payload::v3());
    cache_of_all_workers(&world, &token);
    assert_eq!(cache_of_all_workers(&world, &token), ["HIT", "HIT"]);
    revoke(&world.identity, &token, Revoked::id(&token));
    assert_dies_with_the_list(&world, &token);
}

#[test]
fn d16_the_tokens_hash_is_listed() {
    let world = world().set("keystone_hash_algorithms", "sha256 md5").start();
    for hash in [md5, sha256] {
        let token = new_fernet();
        world.identity.know(&token, &Payload::v3());
        cache_of_all_workers(&world, &token);
        revoke(&world.identity, &token, Revoked::id(hash(&token)));
        assert_dies_with_the_list(&world, &token);
    }
}

#[test]
fn d10_d11_one_of_the_tokens_audit_ids_is_listed() {
    let world = world().start();
    let parent = new_audit_id();
    for payload in [Payload::v3(), Payload::v3().audit_ids(&[&new_audit_id(), &parent])] {
        let token = world.uuid(&payload);
        cache_of_all_workers(&world, &token);
        let listed = if payload.json().contains(&parent) { &parent } else { payload.audit_id() };
        revoke(&world.identity, &token, Revoked::audit_id(listed));
        assert_dies_with_the_list(&world, &token);
    }
}

#[test]
fn d14_d15_a_signed_token_that_was_judged_online() {
    let world = world().start();
    // Certificates are late: the first answer comes from the identity service.
    world.identity.fault("/v3/OS-SIMPLE-CERT", Fault::Status(404));
    let tokens = [world.pki(&Payload::v3()), world.pkiz(&Payload::v3())];
    for token in &tokens {
        world.identity.know(token, &Payload::v3());
        assert_eq!(world.status(token), 200);
        revoke(&world.identity, token, Revoked::id(md5(token)));
    }
    world.identity.heal();
    for token in &tokens {
        wait_for("the token to be refused", || {
            let answer = world.send(&Request::get("/").token(token));
            (answer.status == 401 && answer.header("X-Result") == Some("revoked")).then_some(())
        })
        .unwrap();
    }
}

#[test]
fn d17_other_entries_do_not_end_what_is_cached() {
    let world = world().start();
    let token = world.uuid(&Payload::v3());
    cache_of_all_workers(&world, &token);
    let signed = world.pki(&Payload::v3());
    for _ in 0..2 {
        let other = world.pki(&Payload::v3());
        assert_eq!(world.status(&other), 200);
        world.identity.revoke_token(&other);
        wait_for("the list", || {
            assert_eq!(world.status(&signed), 200);
            (world.status(&other) == 401).then_some(())
        })
        .unwrap();
        // Each worker sees for itself that the list does not name it.
        assert_eq!(cache_of_all_workers(&world, &token), ["HIT", "HIT"]);
        assert_eq!(cache_of_all_workers(&world, &token), ["HIT", "HIT"]);
    }
    assert_eq!(world.identity.validations(), [token]);
}

#[test]
fn d17_the_list_is_not_fetched_where_no_signed_token_comes() {
    let world = world().start();
    let token = world.uuid(&Payload::v3());
    for _ in 0..3 {
        cache_of_all_workers(&world, &token);
        // Nothing happens that could be waited for.
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    assert_eq!(world.identity.validations(), [token]);
    assert_eq!(world.identity.count("/v3/auth/tokens/OS-PKI"), 0);
    assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT"), 0);
}

#[test]
fn d17_with_revocation_off_the_list_is_no_matter() {
    let world = world().set("keystone_revocation", "off").start();
    let token = world.uuid(&Payload::v3());
    cache_of_all_workers(&world, &token);
    revoke(&world.identity, &token, Revoked::id(&token));
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(cache_of_all_workers(&world, &token), ["HIT", "HIT"]);
    assert_eq!(world.identity.count("/v3/auth/tokens/OS-PKI"), 0);
}

#[test]
fn d19_d20_the_hash_of_a_signed_token_used_as_a_uuid_token() {
    let world = world().set("keystone_hash_algorithms", "sha256 md5").start();
    for token in [world.pki(&Payload::v3()), world.pkiz(&Payload::v3())] {
        let id = md5(&token);
        world.identity.know(&id, &Payload::v3());
        cache_of_all_workers(&world, &id);
        revoke(&world.identity, &id, Revoked::id(&id));
        let answer = wait_for("the whole token to be refused", || {
            let answer = world.send(&Request::get("/").token(&token));
            (answer.status == 401).then_some(answer)
        });
        assert_eq!(answer.unwrap().header("X-Result"), Some("revoked"));
        assert_dies_with_the_list(&world, &id);
    }
}
