//! A location judges by its own values, wherever the request comes from.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;

use super::WAYS;

/// `/from/` takes a token as `value` says and finds no file, so that the request goes on to `/to/`,
/// which has these lines.
fn leading(from: &str, to: &str) -> World {
    World::setup()
        .location("/from/", &format!("keystone_auth on; {from} root html; error_page 404 = @to;"))
        .location("@to", &format!("keystone_auth on; {to} proxy_pass @UPSTREAM@;"))
        .start()
}

#[test]
fn an_identity_from_a_cookie_does_not_count_where_a_header_is_asked_for() {
    for forward in ["on", "off"] {
        for (value, request) in WAYS {
            let from = format!("keystone_token {value}; keystone_forward_token {forward};");
            let world = leading(&from, "keystone_token $http_x_auth_token;");
            let (token, other) =
                (world.uuid(&Payload::v3()), world.uuid(&Payload::v3().user("b", "b")));
            // The module has set an X-Auth-Token for the first location, with `on`.
            let answer = world.send(&request("/from/x", &token));
            assert_eq!(answer.status, 401, "{value} {forward}: {}", answer.text());
            assert_eq!(answer.header("X-Result"), Some("no_token"), "{value}");
            // The client's own counts, and it is that which the upstream gets, if any.
            let seen = world.seen(&request("/from/x", &token).token(&other));
            assert_eq!(seen.header("X-User-Id").as_deref(), Some("b"), "{value} {forward}");
            let forwarded = (forward == "on").then_some(other);
            assert_eq!(seen.header("X-Auth-Token"), forwarded, "{value} {forward}");
            world.assert_quiet_log();
        }
    }
}

#[test]
fn an_identity_from_a_header_does_not_count_where_a_cookie_is_asked_for() {
    for (value, request) in WAYS {
        let world = leading("", &format!("keystone_token {value};"));
        let token = world.uuid(&Payload::v3());
        let answer = world.send(&Request::get("/from/x").token(&token));
        assert_eq!(answer.status, 401, "{value}");
        let seen = world.seen(&request("/from/x", &token).token(&token));
        expect::v3_user(&seen);
        assert_eq!(seen.header("X-Auth-Token"), Some(token.clone()));
        assert_eq!(world.identity.validations(), [token], "once, for both");
    }
}

#[test]
fn a_token_that_was_withheld_counts_in_the_next_location_and_stays_withheld() {
    for (value, request) in WAYS {
        for forward in ["off", "on"] {
            let world = leading(
                &format!("keystone_token {value}; keystone_forward_token off;"),
                &format!("keystone_token $http_none {value}; keystone_forward_token {forward};"),
            );
            let token = world.uuid(&Payload::v3());
            let seen = world.seen(&request("/from/x", &token));
            expect::v3_user(&seen);
            assert!(!format!("{seen:?}").contains(&token), "{value} {forward}: {seen:?}");
            assert_eq!(world.identity.validations().len(), 1, "{value} {forward}");
        }
    }
}

#[test]
fn what_came_twice_where_it_was_withheld_is_refused_in_the_next_location_too() {
    let world = World::setup()
        .location(
            "/from/",
            "keystone_auth on; keystone_token $http_x_auth_token; keystone_forward_token off;
             root html; error_page 400 = @to;",
        )
        .location("@to", "keystone_auth delay; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.uuid(&Payload::v3());
    let twice = Request::get("/from/x").token(&token).token("other");
    assert_eq!(world.send(&twice).status, 400);
    assert!(world.upstream.requests().is_empty());
}

#[test]
fn nothing_shows_the_identity_of_other_values() {
    let world = World::setup()
        .server("recursive_error_pages on;")
        .location("/from/", "keystone_auth on; root html; error_page 404 = @to;")
        .location(
            "@to",
            "keystone_auth on; keystone_token $cookie_keystone; error_page 401 = @end;
             set $early $keystone_user_id; proxy_pass @UPSTREAM@;",
        )
        .location("@end", "keystone_auth off; return 200 \"[$early][$keystone_user_id]\";")
        .start();
    let token = world.uuid(&Payload::v3());
    let answer = world.send(&Request::get("/from/x").token(&token));
    assert_eq!(answer.text(), "[][]");
}

#[test]
fn a_second_location_that_asks_for_nothing_has_the_token_as_it_has_the_identity() {
    for (value, request) in WAYS {
        let world = World::setup()
            .location(
                "/from/",
                &format!("keystone_auth on; keystone_token {value}; try_files /.none @second;"),
            )
            .location(
                "@second",
                "keystone_auth off; proxy_intercept_errors on; error_page 404 = @third;
                 rewrite ^/from/missing /status/404 break; proxy_pass @UPSTREAM@;",
            )
            .location(
                "@third",
                "keystone_auth delay; keystone_token $http_x_auth_token; rewrite ^ /third break;
                 proxy_pass @UPSTREAM@;",
            )
            .server("recursive_error_pages on;")
            .start();
        let token = world.uuid(&Payload::v3());
        let seen = world.seen(&request("/from/x", &token).header("X-Auth-Token", "other"));
        expect::v3_user(&seen);
        assert_eq!(seen.header("X-Auth-Token"), Some(token.clone()), "{value}");
        // In the third, it is none that the client has sent in this header.
        world.send(&request("/from/missing", &token));
        let third = world.upstream.requests().pop().unwrap();
        assert_eq!(third.headers.text("X-Identity-Status"), Some("Invalid"), "{value}");
        assert_eq!(third.headers.text("X-Auth-Token"), None, "{value}");
    }
}
