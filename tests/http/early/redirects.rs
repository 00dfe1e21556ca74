//! What is settled early does not outlast a redirect before the decision.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;

use super::early;

/// Requests to `/from/` are refused after the user is known, and go on to `@to`.
fn refusing(to: &str) -> World {
    early()
        .http("limit_req_zone $keystone_project_id zone=none:1m rate=1r/m;")
        .location(
            "/from/limit/",
            "keystone_auth on; limit_req zone=none; error_page 503 = @to; proxy_pass @UPSTREAM@;",
        )
        .location(
            "/from/role/",
            "keystone_auth on; keystone_require_role admin; error_page 403 = @to;
             proxy_pass @UPSTREAM@;",
        )
        .location(
            "/from/deny/",
            "keystone_auth on; deny all; error_page 403 = @to; proxy_pass @UPSTREAM@;",
        )
        .location("@to", to)
        .start()
}

const WAYS: [&str; 3] = ["/from/limit/", "/from/role/", "/from/deny/"];

#[test]
fn an_open_location_gets_no_identity_of_one_that_has_refused() {
    let world = refusing("keystone_auth off; proxy_pass @UPSTREAM@;");
    let token = world.uuid(&Payload::v3());
    // Uses up what the limit lets pass.
    expect::v3_user(&world.seen(&Request::get("/from/limit/").token(&token)));
    for target in WAYS {
        let cookie = Request::get(target).header("Cookie", "a=b").token(&token);
        let seen = world.seen(&cookie.header("X-Roles", "forged"));
        expect::identity(&seen, &[]);
        assert_eq!(seen.header("X-Auth-Token"), Some(token.clone()), "{target}");
    }
}

#[test]
fn a_token_of_another_place_is_not_left_where_it_was_put() {
    let world = early()
        .location(
            "/from/",
            "keystone_auth on; keystone_token $cookie_keystone; keystone_require_role admin;
             error_page 403 = @to; proxy_pass @UPSTREAM@;",
        )
        .location("@to", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.uuid(&Payload::v3());
    let seen = world.seen(&Request::get("/from/").header("Cookie", format!("keystone={token}")));
    expect::identity(&seen, &[]);
    assert_eq!(seen.header("X-Auth-Token"), None);
}

#[test]
fn a_location_that_forbids_the_user_decides_by_itself() {
    for lines in [
        "keystone_require_role other;",
        "keystone_early off; keystone_require_role other;",
        "keystone_early off; keystone_token $cookie_keystone;",
        "keystone_token $cookie_keystone;",
        "keystone_enforce_token_bind required;",
    ] {
        let world = refusing(&format!(
            "keystone_auth on; {lines} set $early '[$keystone_user_id$http_x_user_id]';
             add_header X-Early $early always; add_header X-User '[$keystone_user_id]' always;
             proxy_pass @UPSTREAM@;"
        ));
        let token = world.uuid(&Payload::v3());
        world.send(&Request::get("/from/limit/").token(&token));
        for target in WAYS {
            let answer = world.send(&Request::get(target).token(&token));
            assert!([401, 403].contains(&answer.status), "{lines} {target}: {}", answer.text());
            assert_eq!(answer.header("X-Early"), Some("[]"), "{lines} {target}");
        }
        assert_eq!(world.upstream.requests().len(), 1, "{lines}");
    }
}

#[test]
fn what_the_first_location_has_let_pass_stays() {
    let world = early()
        .location(
            "/from/",
            "keystone_auth on; keystone_token $cookie_keystone; try_files /.none @to;",
        )
        .location("@to", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.uuid(&Payload::v3());
    let seen = world.seen(&Request::get("/from/").header("Cookie", format!("keystone={token}")));
    expect::v3_user(&seen);
    assert_eq!(seen.header("X-Auth-Token"), Some(token));
}
