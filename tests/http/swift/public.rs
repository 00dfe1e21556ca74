//! Anonymous requests: `keystone_auth delay`.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::{Setup, World};

use super::{ask, forbidden, member, passes, put, stays_out, stranger, unauthorized};

/// Containers called `public` may be read by all, those called `open` listed too.
fn public() -> Setup {
    let map = "map $keystone_swift_container $acl {
            default ''; public .r:*; open '.r:*,.rlistings'; friends .r:.example.com;
        }";
    let lines = "keystone_auth delay; keystone_swift_auth on; keystone_swift_read_acl $acl;";
    World::setup()
        .offline()
        .config(|config| config.http(map))
        .location("/v1/", &format!("{lines} proxy_pass @UPSTREAM@;"))
        .location("/disk/", lines)
}

#[test]
fn what_is_public_can_be_had_without_a_token() {
    let world = public().start();
    for method in ["GET", "HEAD"] {
        passes(&world, None, method, "/v1/AUTH_mine/public/o");
        passes(&world, None, method, "/v1/AUTH_mine/open/o");
        passes(&world, None, method, "/v1/AUTH_mine/open");
    }
    let seen = world.seen(&Request::get("/v1/AUTH_mine/public/o").header("X-Roles", "admin"));
    expect::no_identity(&seen);
    let friend = Request::get("/v1/AUTH_mine/friends/o").header("Referer", "http://a.example.com/");
    assert_eq!(world.send(&friend).status, 200);
}

#[test]
fn everything_else_wants_a_token() {
    let world = public().start();
    for path in ["/v1/AUTH_mine/c/o", "/v1/AUTH_mine/c", "/v1/AUTH_mine", "/v1/AUTH_mine/friends/o"]
    {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            unauthorized(&world, method, path);
        }
    }
    unauthorized(&world, "GET", "/v1/AUTH_mine/public");
    unauthorized(&world, "PUT", "/v1/AUTH_mine/public/o");
    unauthorized(&world, "DELETE", "/v1/AUTH_mine/open/o");
    // Nobody has said that accounts of such a name are Swift's.
    unauthorized(&world, "GET", "/v1/mine/public/o");
    unauthorized(&world, "GET", "/v1/");
    assert_eq!(ask(&world, None, "GET", "/v1/AUTH_mine/c/o").header("X-Result"), Some("no_token"));
}

#[test]
fn a_token_that_is_not_valid_is_none() {
    let world = public().start();
    let expired = world.pki(&member(&["admin"]).expires_in(-60));
    let elsewhere = member(&["admin"]).pki(&keystone_testbed::world::stranger().signing).unwrap();
    for token in [expired, elsewhere, new_uuid(), "garbage".to_owned()] {
        passes(&world, Some(&token), "GET", "/v1/AUTH_mine/public/o");
        stays_out(&world, Some(&token), "GET", "/v1/AUTH_mine/c/o", 401);
        let answer = ask(&world, Some(&token), "GET", "/v1/AUTH_mine/public/o");
        expect::no_identity(&Seen::of(&answer).unwrap());
        assert!(!matches!(answer.header("X-Result"), None | Some("ok")));
    }
}

#[test]
fn a_user_is_still_one() {
    let world = public().start();
    passes(&world, Some(&world.pki(&member(&["admin"]))), "PUT", "/v1/AUTH_mine/c/o");
    let token = world.pki(&stranger(&["admin"]));
    passes(&world, Some(&token), "GET", "/v1/AUTH_mine/public/o");
    forbidden(&world, &token, "GET", "/v1/AUTH_mine/public");
    forbidden(&world, &token, "GET", "/v1/AUTH_mine/c/o");
    let seen = world.seen(&Request::get("/v1/AUTH_mine/public/o").token(&token));
    assert_eq!(seen.header("X-Project-Id").as_deref(), Some("other"));
}

#[test]
fn an_invalid_service_token_makes_a_request_anonymous() {
    let world = public().start();
    let token = world.pki(&member(&["admin"]));
    for service in ["garbage".to_owned(), world.pki(&member(&["no_service"]))] {
        let ask = |target: &str| {
            let request = Request::get(target).token(&token).header("X-Service-Token", &service);
            world.send(&request)
        };
        assert_eq!(ask("/v1/AUTH_mine/public/o").status, 200);
        let answer = ask("/v1/AUTH_mine/c/o");
        expect::refused(&answer);
        assert_eq!(answer.header("X-Result"), Some("bad_service_token"));
    }
    let service = world.pki(&Payload::v3_service());
    let request =
        Request::get("/v1/AUTH_mine/c/o").token(&token).header("X-Service-Token", service);
    assert_eq!(world.send(&request).status, 200);
}

#[test]
fn options_is_for_everybody() {
    let world = public().start();
    for token in [None, Some(world.pki(&stranger(&["x"]))), Some("garbage".to_owned())] {
        for path in ["/v1/AUTH_mine/c/o", "/v1/AUTH_mine/c", "/v1/AUTH_mine"] {
            passes(&world, token.as_deref(), "OPTIONS", path);
        }
    }
    // Where a token is demanded of everybody, also of a browser that asks beforehand.
    let lines = "keystone_auth on; keystone_swift_auth on; proxy_pass @UPSTREAM@;";
    let world = World::setup().offline().location("/v1/", lines).start();
    unauthorized(&world, "OPTIONS", "/v1/AUTH_mine/c/o");
    passes(&world, Some(&world.pki(&stranger(&["x"]))), "OPTIONS", "/v1/AUTH_mine/c/o");
}

#[test]
fn public_files() {
    let files = |dir: &std::path::Path| {
        put(dir, "disk/AUTH_mine/public/o", "for all");
        put(dir, "disk/AUTH_mine/c/o", "for some");
    };
    let world = public().files(files).start();
    assert_eq!(ask(&world, None, "GET", "/disk/AUTH_mine/public/o").text(), "for all");
    expect::refused(&ask(&world, None, "GET", "/disk/AUTH_mine/c/o"));
    let answer = ask(&world, None, "GET", "/disk/AUTH_mine/public/../c/o");
    assert_eq!(answer.status, 400);
    assert!(!answer.text().contains("for some"));
    let token = world.pki(&member(&["admin"]));
    assert_eq!(ask(&world, Some(&token), "GET", "/disk/AUTH_mine/c/o").text(), "for some");
}

#[test]
fn what_cannot_be_judged_is_not_public_either() {
    let world = public().start();
    world.identity.fault_validations(Fault::Status(500));
    expect::unavailable(&ask(&world, Some(&new_uuid()), "GET", "/v1/AUTH_mine/public/o"));
    passes(&world, None, "GET", "/v1/AUTH_mine/public/o");
}

#[test]
fn an_acl_grants_where_any_of_several_modules_may() {
    let map = "map $keystone_swift_container $acl { default ''; public .r:*; }";
    let lines = "satisfy any; deny all;
        keystone_auth delay; keystone_swift_auth on; keystone_swift_read_acl $acl;
        proxy_pass @UPSTREAM@;";
    let world =
        World::setup().offline().config(|config| config.http(map)).location("/v1/", lines).start();
    passes(&world, None, "GET", "/v1/AUTH_mine/public/o");
    assert_eq!(ask(&world, None, "GET", "/v1/AUTH_mine/c/o").status, 401);
    passes(&world, Some(&world.pki(&member(&["admin"]))), "GET", "/v1/AUTH_mine/c/o");
}
