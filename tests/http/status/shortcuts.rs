//! What holds for a token that the worker has in its own cache: it is as soon expired or revoked as
//! any other, and each location judges it by its own settings. The counters show that the worker's
//! cache has answered before.

use keystone_testbed::identity::Identity;
use keystone_testbed::mint::Revoked;
use keystone_testbed::port::Port;
use serde_json::json;

use super::*;

fn worker_hits(world: &World) -> f64 {
    let labels = [("level", "worker"), ("status", "hit")];
    metrics(&world.nginx).sum("keystone_cache_lookups_total", &labels)
}

/// Sends the token until the worker answers from its own cache.
#[track_caller]
fn remember(world: &World, token: &str) {
    let before = worker_hits(world);
    wait_for("the worker's cache to answer", || {
        assert_eq!(world.status(token), 200);
        (worker_hits(world) > before).then_some(())
    })
    .unwrap();
}

#[track_caller]
fn assert_result(world: &World, request: &Request, status: u16, result: &str) {
    let answer = world.send(request);
    assert_eq!((answer.status, answer.header("X-Result")), (status, Some(result)));
}

#[test]
fn a_token_that_expires() {
    let world = setup().offline().start();
    let token = world.pki(&Payload::v3().expires_in(5));
    remember(&world, &token);
    wait_for("the token to expire", || (world.status(&token) == 401).then_some(())).unwrap();
    assert_result(&world, &Request::get("/").token(&token), 401, "expired");
}

#[test]
fn a_signed_token_that_the_next_list_names() {
    let world = setup().set("keystone_revocation_cache_time", "1s").start();
    let payload = Payload::v3();
    let (by_id, by_audit_id) = (world.pki(&Payload::v3()), world.pkiz(&payload));
    let other = world.pki(&Payload::v3());
    // Where a list is replaced while the token is verified, the identity service judges it.
    world.identity.know(&other, &Payload::v3());
    for token in [&by_id, &by_audit_id, &other] {
        remember(&world, token);
    }
    world.identity.revoke_token(&by_id);
    world.identity.revoke(Revoked::audit_id(payload.audit_id()));
    for token in [&by_id, &by_audit_id] {
        wait_for("the token to be refused", || (world.status(token) == 401).then_some(())).unwrap();
        assert_result(&world, &Request::get("/").token(token), 401, "revoked");
    }
    // The others are held against the new list once, and then remembered again.
    remember(&world, &other);
}

#[test]
fn a_validated_token_that_an_event_covers() {
    let world = setup()
        .set("keystone_token_cache_time", "1h")
        .set("keystone_revocation_events", "200ms")
        .start();
    let token = new_fernet();
    world.identity.know(&token, &Payload::v3());
    remember(&world, &token);
    world.identity.revoke_online(&token);
    wait_for("the token to be refused", || (world.status(&token) == 401).then_some(())).unwrap();
}

#[test]
fn a_location_that_demands_more() {
    let location = |lines: &str| format!("keystone_auth on; proxy_pass @UPSTREAM@; {lines}");
    let world = setup()
        .offline()
        .location("= /role", &location("keystone_require_role other;"))
        .location("= /value", &location("keystone_require $arg_x;"))
        .location("= /bind", &location("keystone_enforce_token_bind required;"))
        .location("= /rules", &location("keystone_service_type volume;"))
        .location(
            "= /service",
            &location(
                "keystone_service_token_roles other; keystone_service_token_roles_required on;",
            ),
        )
        .start();
    let rule = json!({"id": "1", "service": "image", "method": "GET", "path": "/**"});
    let limited = Payload::v3().access_rules(json!([rule]));
    let (token, limited) = (world.pki(&Payload::v3()), world.pki(&limited));
    remember(&world, &token);
    let get = |path: &str| Request::get(path).token(&token);
    for (request, status, result) in [
        (get("/role"), 403, "forbidden"),
        (get("/value"), 403, "forbidden"),
        (get("/bind"), 401, "bind_failed"),
        // As a service's, the same token lacks the role here.
        (get("/service").header("X-Service-Token", &token), 401, "bad_service_token"),
        (Request::get("/rules").token(&limited), 401, "access_rules"),
    ] {
        for _ in 0..3 {
            assert_result(&world, &request, status, result);
        }
        assert_result(&world, &get("/"), 200, "ok");
    }
}

#[test]
fn a_server_with_a_shorter_cache_time_or_another_identity_service() {
    let strangers = stranger();
    let other = Identity::start(strangers).unwrap();
    let (brief, foreign) = (Port::free().unwrap(), Port::free().unwrap());
    let servers = format!(
        "server {{ listen {}; keystone_auth on; root @DIR@/html; keystone_token_cache_time 1s;
             add_header X-Cache $keystone_cache_status always; }}
         server {{ listen {}; keystone_auth on; root @DIR@/html;
             keystone_identity_uri {}; keystone_signing_dir @DIR@/other; }}",
        brief.address(),
        foreign.address(),
        other.uri()
    );
    let world = setup().config(|config| config.http(&servers)).start();
    let token = world.pki(&Payload::v3());
    remember(&world, &token);
    let ask = |port: &Port| {
        let request = Request::get("/files/hello.txt").token(&token);
        keystone_testbed::http::send(port.address(), &request).unwrap()
    };
    for _ in 0..3 {
        assert_eq!(ask(&foreign).status, 401);
        assert_eq!(world.status(&token), 200);
    }
    wait_for("the entry to be too old for one server", || {
        (ask(&brief).header("X-Cache") == Some("EXPIRED")).then_some(())
    })
    .unwrap();
}
