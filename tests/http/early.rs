//! `keystone_early`: limits and other access modules of the same location know who asks.

mod limits;
mod redirects;

use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::was_built_with;
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::{Setup, World};
use serde_json::json;

fn early() -> Setup {
    World::setup().set("keystone_early", "on")
}

/// Sends a request whose answer is read later.
fn start(world: &World, request: &Request) -> Client {
    let mut client = world.nginx.connect().unwrap();
    client.write(&request.bytes()).unwrap();
    client
}

#[test]
fn everything_is_as_without_it() {
    let world = early()
        .location(
            "/admin/",
            "keystone_auth on; keystone_require_role admin; proxy_pass @UPSTREAM@;",
        )
        .location(
            "/hidden/",
            "keystone_auth on; keystone_forward_token off; proxy_pass @UPSTREAM@;",
        )
        .start();
    for token in [world.pki(&Payload::v3()), world.uuid(&Payload::v3())] {
        for target in ["/", "/delay/", "/hidden/"] {
            let request = Request::get(target).header("X-Roles", "admin").token(&token);
            let seen = world.seen(&request);
            expect::v3_user(&seen);
            let forwarded = (target != "/hidden/").then(|| token.clone());
            assert_eq!(seen.header("X-Auth-Token"), forwarded, "{target}");
        }
        expect::forbidden(&world.send(&Request::get("/admin/").token(&token)));
        let twice = Request::get("/").token(&token).token(&token);
        assert_eq!(world.send(&twice).status, 400);
    }
    for request in [Request::get("/"), Request::get("/").token(&new_uuid())] {
        expect::refused(&world.send(&request));
    }
    expect::no_identity(&world.seen(&Request::get("/delay/").token(&new_uuid())));
    // The same result is not logged twice.
    let log = world.nginx.error_log();
    assert_eq!(log.matches("refused: no_token").count(), 1, "{log}");
    world.identity.fault_validations(Fault::Status(500));
    expect::unavailable(&world.send(&Request::get("/").token(&new_uuid())));
    expect::unavailable(&world.send(&Request::get("/delay/").token(&new_uuid())));
    world.assert_quiet_log();
}

#[test]
fn what_the_location_refuses_of_a_valid_token_is_logged_once() {
    let world = early().start();
    let token = world.uuid(&Payload::v3().access_rules(json!([])));
    expect::refused(&world.send(&Request::get("/").token(&token)));
    let log = world.nginx.error_log();
    assert_eq!(log.matches("refused: access_rules").count(), 1, "{log}");
}

#[test]
fn a_policy_service_in_a_subrequest_gets_the_identity() {
    if !was_built_with("--with-http_auth_request_module") {
        return;
    }
    let world = early()
        .http("map $http_x_user_id $policy { default 403; alice 204; }")
        .location(
            "/own/",
            "keystone_auth on; keystone_token $http_x_auth_token $cookie_keystone;
             auth_request /policy; proxy_pass @UPSTREAM@;",
        )
        .location("= /policy", "internal; keystone_auth off; proxy_pass @UPSTREAM@/status/$policy;")
        .start();
    let user = |name: &str| world.uuid(&Payload::v3().user(name, name));
    let (alice, bob) = (user("alice"), user("bob"));
    let forged = |target: &str| Request::get(target).header("X-User-Id", "alice");
    let seen = world.seen(&forged("/own/").header("Cookie", format!("keystone={alice}")));
    assert_eq!(seen.header("X-User-Id").as_deref(), Some("alice"));
    let asked = &world.upstream.requests()[0];
    assert_eq!(asked.path(), "/status/204");
    assert_eq!(asked.headers.text("X-Identity-Status"), Some("Confirmed"));
    assert_eq!(asked.headers.text("X-Auth-Token"), Some(alice.as_str()));
    assert_eq!(world.send(&forged("/own/").token(&bob)).status, 403);
    // It is asked about nobody as well, and nobody passes.
    for request in [forged("/own/"), forged("/own/").token(&new_uuid())] {
        assert!([401, 403].contains(&world.send(&request).status));
        let asked = world.upstream.requests().pop().unwrap();
        assert_eq!(asked.headers.text("X-Identity-Status"), Some("Invalid"));
        assert_eq!(asked.headers.text("X-User-Id"), None);
    }
}

#[test]
fn another_module_that_grants_access_leaves_the_identity_as_it_is() {
    let world = early()
        .location("/any/", "keystone_auth on; satisfy any; allow all; proxy_pass @UPSTREAM@;")
        .location(
            "/none/",
            "keystone_auth on; keystone_require_role admin; satisfy any; deny all;
             proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.uuid(&Payload::v3());
    expect::v3_user(&world.seen(&Request::get("/any/").header("X-Roles", "admin").token(&token)));
    expect::no_identity(&world.seen(&Request::get("/any/").header("X-Roles", "admin")));
    assert_eq!(world.send(&Request::get("/none/").token(&token)).status, 403);
    assert!([401, 403].contains(&world.send(&Request::get("/none/")).status));
    let admin = world.uuid(&Payload::v3().roles(&["admin"]));
    assert_eq!(
        world.seen(&Request::get("/none/").token(&admin)).header("X-Roles").as_deref(),
        Some("admin")
    );
}

#[test]
fn a_client_that_leaves_while_its_request_waits_disturbs_nobody() {
    let world = early().start();
    let (token, pid) = (world.uuid(&Payload::v3()), world.nginx.worker_pids());
    let gate = world.identity.hold_validations();
    let gone: Vec<_> = (0..5).map(|_| start(&world, &Request::get("/").token(&token))).collect();
    let mut stays = start(&world, &Request::get("/").token(&token));
    world.wait_for_validations(1);
    drop(gone);
    world.nginx.wait_for_log("closed connection").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    gate.open();
    let answer = stays.read(false).unwrap();
    assert_eq!(answer.status, 200);
    expect::v3_user(&Seen::of(&answer).unwrap());
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.identity.validations().len(), 1);
    assert_eq!(world.upstream.requests().len(), 2);
    assert_eq!(world.nginx.worker_pids(), pid);
    world.assert_quiet_log();
}

#[test]
fn only_the_request_itself_is_identified_early() {
    let world = early()
        .location("/own/", "keystone_auth off; mirror /sub; proxy_pass @UPSTREAM@;")
        .location("/sub", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.uuid(&Payload::v3());
    world.send(&Request::get("/own/").header("X-User-Id", "forged").token(&token));
    let both = || (world.upstream.requests().len() == 2).then_some(());
    keystone_testbed::wait_for("both", both).unwrap();
    let sub = world.upstream.requests().into_iter().find(|it| it.target == "/sub").unwrap();
    assert_eq!(sub.headers.text("X-User-Id"), None);
    assert_eq!(world.identity.validations().len(), 0);
}
