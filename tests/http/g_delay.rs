//! Section G of `docs/behaviour.md`: `keystone_auth delay`.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{check, Config};
use keystone_testbed::world::{stranger, World, AUTH_URI};

#[test]
fn g01_no_token() {
    let world = World::setup().start();
    let answer = world.send(&Request::get("/delay/"));
    assert_eq!(answer.header("X-Result"), Some("no_token"));
    expect::no_identity(&world.seen(&Request::get("/delay/")));
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn g02_invalid_token() {
    let world = World::setup().offline().start();
    let stranger = Payload::v3().pki(&stranger().signing).unwrap();
    let tokens = [new_uuid(), "MIInonsense".into(), "PKIZ_nonsense".into(), stranger];
    for token in tokens {
        let seen = world.seen(&Request::get("/delay/").token(&token));
        expect::no_identity(&seen);
        assert_eq!(seen.header("X-Auth-Token"), Some(token));
    }
}

#[test]
fn g03_expired_token() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3().expires_in(-10));
    let seen = world.seen(&Request::get("/delay/").token(&token));
    expect::no_identity(&seen);
    assert_eq!(seen.header("X-Auth-Token"), Some(token));
}

#[test]
fn g04_the_upstream_answers_401() {
    let world = World::setup().offline().start();
    let answer = world.send(&Request::get("/delay/status/401?body=its%20own"));
    assert_eq!((answer.status, answer.text().as_str()), (401, "its own"));
    let challenge = format!("Keystone uri=\"{AUTH_URI}\"");
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge.as_str()));
}

#[test]
fn g05_the_values_of_keystone_auth() {
    let with = |value: &str| {
        let location = format!("keystone_auth {value};");
        check(&Config::protected().location("/", &location)).unwrap()
    };
    for value in ["on", "off", "delay"] {
        let check = with(value);
        assert!(check.ok, "{value}: {}", check.text);
    }
    for value in ["yes", "no", "1", "0", "true", "delayed", "\"\"", "on off"] {
        let check = with(value);
        assert!(!check.ok && check.text.contains("nginx.conf:"), "{value}: {}", check.text);
        assert!(check.text.contains("keystone_auth"), "{value}: {}", check.text);
    }
}

#[test]
fn a_valid_token_is_a_valid_token() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    expect::v3_user(&world.seen(&Request::get("/delay/").token(&token)));
    let answer = world.send(&Request::get("/delay/").token(&token));
    assert_eq!(answer.header("X-Result"), Some("ok"));
}

#[test]
fn the_identity_service_is_down() {
    let world = World::setup().identity(|identity| identity.stop()).start();
    let answer = world.send(&Request::get("/delay/").token(&world.pki(&Payload::v3())));
    expect::unavailable(&answer);
    assert!(world.upstream.requests().is_empty());
    expect::no_identity(&world.seen(&Request::get("/delay/")));
}

#[test]
fn a_token_twice_is_a_bad_request_all_the_same() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/delay/").token(&token).token(&token));
    assert_eq!(answer.status, 400);
    assert!(world.upstream.requests().is_empty());
}
