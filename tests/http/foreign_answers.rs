//! Answers of something that stands between the gateway and Keystone: 404s and redirects of load
//! balancers and web servers say nothing about a token.

use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Identity, REVOCATION_LIST};
use keystone_testbed::mint::{md5, new_audit_id, new_uuid, Payload};
use keystone_testbed::wait_for;
use keystone_testbed::world::{stranger, Setup, World};
use serde_json::json;

const ERROR: &str = r#"{"error": {"message": "no", "code": 404, "title": "Not Found"}}"#;

/// Bodies of a 404 that Keystone does not write.
const FOREIGN: &[&str] = &[
    "",
    "404 Not Found",
    "<html><body><h1>404 Not Found</h1></body></html>",
    "{}",
    "[]",
    "null",
    "\"error\"",
    "[\"error\"]",
    r#"{"message": "no Route matched with those values"}"#,
    r#"{"status": 404, "error": "Not Found", "path": "/v3/auth/tokens"}"#,
    r#"{"error": null}"#,
    r#"{"error": {"message": "cut o"#,
];

fn without_retries(version: &str) -> Setup {
    World::setup()
        .set("keystone_auth_version", version)
        .set("keystone_http_request_max_retries", "0")
}

/// A second identity service behind the first one.
fn add_second(world: &mut World) -> Identity {
    let second = Identity::start(&world.pki).unwrap();
    let uris = format!("{} {}", world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &uris));
    second
}

fn foreign_404(identity: &Identity, prefix: &str) {
    identity.fault(prefix, Fault::Status(404));
    identity.fault(prefix, Fault::Body(b"<html>Not Found</html>".to_vec()));
}

#[track_caller]
fn assert_unavailable(world: &World, token: &str, what: &str) {
    for target in ["/", "/delay/"] {
        let answer = world.send(&Request::get(target).token(token));
        assert_eq!(answer.status, 503, "{what}: {}", answer.text());
        expect::unavailable(&answer);
        assert_eq!(answer.header("X-Result"), Some("identity_unavailable"), "{what}");
    }
}

#[test]
fn a_404_that_is_not_keystones_is_no_verdict() {
    for (version, payload) in [("v2.0", Payload::v2()), ("v3", Payload::v3())] {
        let world = without_retries(version).start();
        for body in FOREIGN {
            let token = world.uuid(&payload);
            world.identity.fault_validations(Fault::Status(404));
            world.identity.fault_validations(Fault::Body(body.as_bytes().to_vec()));
            world.identity.forget_requests();
            assert_unavailable(&world, &token, body);
            assert_eq!(world.identity.validations().len(), 2, "nothing is kept of {body}");
            world.identity.heal();
            assert_eq!(world.status(&token), 200, "{body}");
        }
        world.nginx.wait_for_log("status 404 without an error document of Keystone").unwrap();
        assert!(world.upstream.requests().iter().all(|it| it.headers.text("X-User-Id").is_some()));
        // Keystone's own is one, whatever else it says.
        for body in [ERROR, r#"{"error": {}}"#, r#" {"x": [], "error": {"code": 404}} "#] {
            let token = world.uuid(&payload);
            world.identity.fault_validations_times(1, Fault::Status(404));
            world.identity.fault_validations_times(1, Fault::Body(body.as_bytes().to_vec()));
            for cache in ["MISS", "HIT"] {
                let answer = world.send(&Request::get("/").token(&token));
                expect::refused(&answer);
                assert_eq!(answer.header("X-Cache"), Some(cache), "{body}");
            }
        }
    }
}

#[test]
fn the_next_endpoint_is_asked_after_a_404_that_is_not_keystones() {
    let mut world = without_retries("auto").start();
    let second = add_second(&mut world);
    let token = world.uuid(&Payload::v3());
    second.know(&token, &Payload::v3());
    // Keystone's own 404 counts at once.
    expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
    assert_eq!(second.requests(), [""; 0]);
    foreign_404(&world.identity, "/v3/auth/tokens");
    assert_eq!(world.status(&token), 200);
    assert_eq!(second.validations(), [token]);
    assert_eq!(world.identity.validations().len(), 2, "each endpoint is asked once");
    foreign_404(&second, "/v3/auth/tokens");
    assert_unavailable(&world, &new_uuid(), "both");
}

#[test]
fn certificates_and_list_after_a_404_that_is_not_keystones() {
    for path in ["/v3/OS-SIMPLE-CERT/certificates", "/v3/OS-SIMPLE-CERT/ca", REVOCATION_LIST] {
        let mut world = without_retries("v3").start();
        let second = add_second(&mut world);
        foreign_404(&world.identity, path);
        let token = world.pki(&Payload::v3());
        assert_eq!(world.status(&token), 200, "{path}");
        assert_eq!(second.count(path), 1);
        assert_eq!(world.identity.validations(), [""; 0], "{path}");
    }
}

#[test]
fn a_list_is_not_given_up_for_a_404_that_is_not_keystones() {
    let world = without_retries("v3").set("keystone_revocation_cache_time", "0").start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    foreign_404(&world.identity, REVOCATION_LIST);
    let token = world.pki(&Payload::v3());
    world.identity.know(&token, &Payload::v3());
    assert_eq!(world.status(&token), 200, "by the identity service");
    let told = || world.nginx.error_log().contains("has no revocation list");
    assert!(!told());
    world.identity.heal();
    world.identity.fault(REVOCATION_LIST, Fault::Status(404));
    world.identity.fault(REVOCATION_LIST, Fault::Body(ERROR.as_bytes().to_vec()));
    let token = world.pki(&Payload::v3());
    world.identity.know(&token, &Payload::v3());
    assert_eq!(world.status(&token), 200, "by the identity service");
    wait_for("the list to be given up", || told().then_some(())).unwrap();
}

#[test]
fn a_login_and_events_after_a_404_that_is_not_keystones() {
    let mut world =
        without_retries("v3").logs_in().set("keystone_revocation_events", "400ms").start();
    let second = add_second(&mut world);
    world.identity.fault_logins(Fault::Status(404));
    foreign_404(&world.identity, "/v3/OS-REVOKE/events");
    let token = world.uuid(&Payload::v3());
    second.know(&token, &Payload::v3());
    assert_eq!(world.status(&token), 200);
    assert_eq!((world.identity.logins(), second.logins()), (1, 1));
    wait_for("the events", || (second.count("/v3/OS-REVOKE/events") > 0).then_some(())).unwrap();
}

/// Redirects the next request.
fn redirect_once(identity: &Identity, status: u16, location: &str) {
    identity.fault_times(1, "/", Fault::Status(status));
    identity.fault_times(1, "/", Fault::Header("Location", location.to_owned()));
}

#[test]
fn discovery_follows_redirects_on_the_same_server() {
    for status in [301, 302, 303, 307, 308] {
        let mut locations = vec!["/v3/", "/v3", "v3/", "./?x=y", "//SAME/v3/", "http://SAME/v3"];
        locations.push("HTTP://SAME/v3/#x");
        for location in locations {
            let world = without_retries("auto").start();
            let location = location.replace("SAME", &world.identity.address().to_string());
            redirect_once(&world.identity, status, &location);
            let token = world.uuid(&Payload::v3());
            assert_eq!(world.status(&token), 200, "{status} {location}");
            assert_eq!(world.identity.validations(), [token], "{status} {location}");
        }
    }
}

#[test]
fn discovery_follows_a_redirect_to_where_keystone_lives() {
    let mut uri = String::new();
    let setup = without_retries("auto").identity(|identity| {
        uri = identity.uri();
        identity.state().prefix = "/identity".into();
    });
    let world = setup.set("keystone_identity_uri", &uri).start();
    redirect_once(&world.identity, 302, "/identity/");
    let token = world.uuid(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    assert_eq!(
        world.identity.requests(),
        ["GET /", "GET /identity/", "GET /identity/v3/auth/tokens?nocatalog"]
    );
}

#[test]
fn discovery_below_a_uri_with_a_version_follows_redirects_too() {
    let mut uri = String::new();
    let setup = without_retries("auto").identity(|identity| uri = identity.uri());
    let world = setup.set("keystone_identity_uri", &format!("{uri}/v3")).start();
    world.identity.fault_times(1, "/", Fault::Status(404));
    world.identity.fault_times(1, "/v3/", Fault::Status(301));
    world.identity.fault_times(1, "/v3/", Fault::Header("Location", "/v3".into()));
    let token = world.uuid(&Payload::v3());
    assert_eq!(world.status(&token), 200);
}

#[test]
fn discovery_follows_no_redirect_to_another_server() {
    let other = Identity::start(stranger()).unwrap();
    for location in
        ["http://OTHER/v3/", "//OTHER/v3/", "https://SAME/v3/", "http://user:secret-word@SAME/"]
    {
        let world = without_retries("auto").start();
        let location = location.replace("OTHER", &other.address().to_string());
        let location = location.replace("SAME", &world.identity.address().to_string());
        redirect_once(&world.identity, 302, &format!("{location}?token=secret-word"));
        let token = world.uuid(&Payload::v3());
        assert_eq!(world.status(&token), 503, "{location}");
        let log = world.nginx.error_log();
        let shown = location.replace("user:secret-word@", "");
        let told = format!("redirect with status 302 to \"{shown}?...\" is not followed");
        assert!(log.contains(&told), "{told}: {log}");
        assert!(!log.contains("secret-word"), "{log}");
        assert_eq!(world.status(&token), 200, "it is asked again");
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn redirects_of_discovery_have_an_end() {
    let world = without_retries("auto").start();
    world.identity.fault("/", Fault::Status(302));
    world.identity.fault("/", Fault::Header("Location", "/v3/".into()));
    assert_unavailable(&world, &new_uuid(), "in a circle");
    let requests = world.identity.requests();
    assert_eq!(requests, ["GET /", "GET /v3/"].repeat(2));
}

#[test]
fn other_redirects_are_not_followed_but_told() {
    for (version, payload) in [("v2.0", Payload::v2()), ("v3", Payload::v3())] {
        let mut world = without_retries(version).start();
        let token = world.uuid(&payload);
        let at = world.identity.uri();
        let location = match version {
            "v2.0" => format!("{at}/v2.0/tokens/{token}"),
            _ => format!("{at}/v3/auth/tokens/?token={token}"),
        };
        world.identity.fault_validations(Fault::Status(308));
        world.identity.fault_validations(Fault::Header("Location", location));
        assert_unavailable(&world, &token, version);
        assert_eq!(world.identity.validations().len(), 2);
        let shown = match version {
            "v2.0" => format!("{at}/v2.0/tokens/..."),
            _ => format!("{at}/v3/auth/tokens/?..."),
        };
        let log = world.nginx.error_log();
        let told = format!("redirect with status 308 to \"{shown}\" is not followed");
        assert!(log.contains(&told), "{told}: {log}");
        assert!(!log.contains(&token), "{log}");
        // Another endpoint may know more.
        let second = add_second(&mut world);
        second.know(&token, &payload);
        assert_eq!(world.status(&token), 200);
    }
}

#[test]
fn an_answer_about_another_token_is_none_about_this_one() {
    let ways = [("v3", Payload::v3()), ("v2.0", Payload::v2())];
    for ((version, payload), times) in ways.iter().flat_map(|way| (1..3).map(move |n| (way, n))) {
        let world = World::setup().set("keystone_auth_version", version).start();
        let token_of = |name: &str| world.uuid(&payload.clone().user(name, name));
        let (alice, bob, carol) = (token_of("alice"), token_of("bob"), token_of("carol"));
        // The connection is in use again when the answer about Alice comes once more.
        let again = Fault::Repeat(Duration::from_millis(300));
        world.identity.fault_validations_times(times, again);
        let user = |token: &str| world.seen(&Request::get("/").token(token)).header("X-User-Id");
        assert_eq!(user(&alice).as_deref(), Some("alice"));
        assert_eq!(user(&bob).as_deref(), Some("bob"));
        expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
        assert_eq!(user(&carol).as_deref(), Some("carol"));
        let log = world.nginx.error_log();
        assert_eq!(log.matches("response is about another token, its").count(), 1, "{log}");
        for token in [alice, bob, carol] {
            assert!(!log.contains(&token), "{log}");
        }
    }
}

#[test]
fn v2_names_a_signed_token_by_its_hash() {
    let world = without_retries("v2.0").start();
    // Without them, signed tokens are validated online.
    world.identity.fault("/v2.0/certificates", Fault::Status(404));
    assert_eq!(world.status(&world.uuid(&Payload::v2())), 200);
    let signed = || world.pki(&Payload::v2().audit_ids(&[&new_audit_id()]));
    let names = |asked: &str, id: &str| {
        world.identity.know(asked, &Payload::v2().with("/token/id", json!(id)));
        world.status(asked)
    };
    let (token, other) = (signed(), signed());
    assert_eq!(names(&token, &md5(&token)), 200);
    assert_eq!(names(&md5(&token), &token), 200);
    assert_eq!(names(&other, &md5(&token)), 503);
    assert_eq!(names(&md5(&other), &token), 503);
}

#[test]
fn an_endpoint_that_has_named_a_token_must_name_the_right_one() {
    let world = World::setup().set("keystone_auth_version", "v3").start();
    let other = Fault::Header("X-Subject-Token", "another".into());
    // A stand-in of Keystone may never name the right one.
    let token = world.uuid(&Payload::v3());
    world.identity.fault_validations(other.clone());
    assert_eq!(world.status(&token), 200);
    world.identity.heal();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    world.identity.fault_validations(other);
    for _ in 0..2 {
        // Also on a new connection.
        expect::unavailable(&world.send(&Request::get("/").token(&world.uuid(&Payload::v3()))));
    }
    world.identity.heal();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
}
