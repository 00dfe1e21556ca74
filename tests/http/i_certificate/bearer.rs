//! Bearer tokens: what a 401 announces where a location takes them, and that a bound token is bound
//! wherever it comes from.

use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::Payload;
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::{World, AUTH_URI};

use super::{Edge, Shows, WRONG};

const TAKES_BEARER: &str =
    "keystone_auth on; keystone_token $keystone_bearer $http_x_auth_token; proxy_pass @UPSTREAM@;";

fn bearer(path: &str, token: &str) -> Request {
    Request::get(path).header("Authorization", format!("Bearer {token}"))
}

fn keystone() -> String {
    format!("Keystone uri=\"{AUTH_URI}\"")
}

fn realm() -> String {
    format!("Bearer realm=\"{AUTH_URI}\"")
}

fn invalid_token() -> String {
    format!("{}, error=\"invalid_token\"", realm())
}

#[track_caller]
fn announces(answer: &Response, status: u16, challenges: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let told: Vec<_> = answer.headers.all("WWW-Authenticate").collect();
    let wanted: Vec<_> = challenges.iter().map(|challenge| challenge.as_bytes()).collect();
    assert_eq!(told, wanted);
}

#[test]
fn a_location_that_takes_bearer_tokens_announces_both_schemes() {
    let world = World::setup()
        .offline()
        .location("/bearer/", TAKES_BEARER)
        .location("/cookie/", "keystone_auth on; keystone_token $cookie_k; proxy_pass @UPSTREAM@;")
        .start();
    let both = |answer: &Response, bearer: &str| announces(answer, 401, &[&keystone(), bearer]);
    both(&world.send(&Request::get("/bearer/")), &realm());
    let basic = Request::get("/bearer/").header("Authorization", "Basic eDp5");
    both(&world.send(&basic), &realm());
    let expired = world.pki(&Payload::v3().expires_in(-5));
    for _ in 0..2 {
        both(&world.send(&bearer("/bearer/", &expired)), &invalid_token());
        both(&world.send(&bearer("/bearer/", "garbage")), &invalid_token());
        both(&world.send(&Request::get("/bearer/").token(&expired)), &invalid_token());
    }
    // The user's own token is good.
    let token = world.pki(&Payload::v3());
    let with_service = bearer("/bearer/", &token).header("X-Service-Token", &expired);
    both(&world.send(&with_service), &realm());
    for _ in 0..2 {
        announces(&world.send(&bearer("/bearer/", &token)), 200, &[]);
    }
    // Whoever knows the token and may not: that is no matter of the token.
    announces(&world.send(&bearer("/", &token)), 401, &[&keystone()]);
    announces(&world.send(&Request::get("/cookie/")), 401, &[&keystone()]);
    let head = Request::head("/bearer/");
    both(&world.send(&head), &realm());
}

#[test]
fn a_401_of_an_upstream_gets_what_it_does_not_announce() {
    let world = World::setup().offline().location("/bearer/", TAKES_BEARER).start();
    let token = world.pki(&Payload::v3());
    let ask = |header: &str| {
        let path = format!("/bearer/status/401?h=WWW-Authenticate:{header}");
        world.send(&bearer(&path, &token))
    };
    announces(&world.send(&bearer("/bearer/status/401", &token)), 401, &[&keystone(), &realm()]);
    announces(&ask("bearer%20realm=app"), 401, &["bearer realm=app", &keystone()]);
    announces(&ask("Keystone%20uri=x"), 401, &["Keystone uri=x", &realm()]);
    announces(&ask("Basic%20realm=x"), 401, &["Basic realm=x", &keystone(), &realm()]);
}

/// Where one of two modules lets the request pass, nothing is announced.
#[test]
fn satisfy_any_takes_both_back() {
    let world = World::setup()
        .offline()
        .location("/any/", &format!("satisfy any; allow all; {TAKES_BEARER}"))
        .location("/none/", &format!("satisfy any; deny all; {TAKES_BEARER}"))
        .start();
    announces(&world.send(&Request::get("/any/")), 200, &[]);
    announces(&world.send(&bearer("/any/", "garbage")), 200, &[]);
    announces(&world.send(&Request::get("/none/")), 401, &[&keystone(), &realm()]);
    announces(&world.send(&bearer("/none/", "garbage")), 401, &[&keystone(), &invalid_token()]);
}

#[test]
fn a_page_of_the_operator_keeps_both() {
    let world = World::setup()
        .offline()
        .location("/bearer/", &format!("{TAKES_BEARER} error_page 401 /files.html;"))
        .location("= /files.html", "return 200 page;")
        .start();
    announces(&world.send(&Request::get("/bearer/")), 401, &[&keystone(), &realm()]);
}

#[test]
fn a_bound_token_is_bound_wherever_it_comes_from() {
    let edge = Edge::start(|setup| {
        setup.offline().location("/bearer/", TAKES_BEARER).location(
            "/others/",
            "keystone_auth on; keystone_token $cookie_keystone $arg_temp; proxy_pass @UPSTREAM@;",
        )
    });
    for token in [edge.world.pki(&edge.bound()), edge.world.uuid(&edge.bound())] {
        let requests = [
            bearer("/bearer/", &token),
            Request::get("/bearer/").token(&token),
            Request::get("/").header("X-Storage-Token", &token),
            Request::get("/others/").header("Cookie", format!("keystone={token}")),
            Request::get(&format!("/others/?temp={token}")),
        ];
        // Each finds what the one before has left in the caches.
        for request in requests.iter().chain(&requests) {
            for shows in WRONG {
                let answer = edge.ask(shows, request);
                assert_eq!(answer.status, 401, "{shows:?}");
                assert_eq!(answer.header("X-Result"), Some("bind_failed"), "{shows:?}");
            }
            let seen = Seen::of(&edge.ask(Shows::Owner, request)).unwrap();
            assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
        }
    }
    let answer = edge.ask(Shows::Other, &bearer("/bearer/", &edge.world.pki(&edge.bound())));
    announces(&answer, 401, &[&keystone(), &invalid_token()]);
}
