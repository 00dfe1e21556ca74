//! Tokens that only the identity service can judge, when it does not answer well: never served as
//! valid, never remembered as invalid.

use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Identity};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};
use serde_json::json;

/// A world in which nothing is tried twice.
fn impatient() -> Setup {
    World::setup().set("keystone_auth_version", "v3").set("keystone_http_request_max_retries", "0")
}

/// With a time-out that is short only where nothing comes: other answers may be late.
pub fn until_silence_ends(setup: Setup, fault: &Fault) -> Setup {
    match fault {
        Fault::Silence => setup.set("keystone_read_timeout", "1s"),
        _ => setup,
    }
}

#[track_caller]
fn assert_unavailable(world: &World, token: &str, what: &str) {
    let answer = world.send(&Request::get("/").token(token));
    assert_eq!(answer.status, 503, "{what}: {}", answer.text());
    expect::unavailable(&answer);
    assert_eq!(answer.header("X-Result"), Some("identity_unavailable"), "{what}");
}

#[test]
fn e18_e19_p07_the_identity_service_is_down() {
    let mut world = impatient().identity(|identity| identity.stop()).start();
    let (known, unknown) = (world.uuid(&Payload::v3()), new_uuid());
    for token in [&known, &unknown] {
        for _ in 0..2 {
            assert_unavailable(&world, token, "down");
        }
        let answer = world.send(&Request::get("/delay/").token(token));
        expect::unavailable(&answer);
    }
    expect::refused(&world.send(&Request::get("/")));
    assert!(world.upstream.requests().is_empty());
    let log = world.nginx.error_log();
    assert!(log.lines().any(|line| line.contains("[error]") && line.contains("keystone")), "{log}");
    world.identity.restart().unwrap();
    expect::v3_user(&world.seen(&Request::get("/").token(&known)));
    expect::refused(&world.send(&Request::get("/").token(&unknown)));
    world.nginx.wait_for_log("validates tokens again").unwrap();
}

#[test]
fn a_cached_token_passes_while_the_identity_service_is_down() {
    let mut world = World::setup().workers(2).start();
    let (known, unknown) = (world.uuid(&Payload::v3()), new_uuid());
    assert_eq!(world.status(&known), 200);
    assert_eq!(world.status(&unknown), 401);
    world.identity.stop();
    for _ in 0..4 {
        expect::v3_user(&world.seen(&Request::get("/").token(&known)));
        expect::refused(&world.send(&Request::get("/").token(&unknown)));
    }
}

#[test]
fn e20_retries() {
    for (retries, asked) in [("0", 1), ("1", 2), ("3", 4)] {
        let world = impatient().set("keystone_http_request_max_retries", retries).start();
        world.identity.fault_validations(Fault::Status(503));
        let token = world.uuid(&Payload::v3());
        assert_unavailable(&world, &token, retries);
        assert_eq!(world.identity.validations(), vec![token; asked]);
    }
}

#[test]
fn e20_a_retry_that_works() {
    for fault in [Fault::Status(500), Fault::Status(502), Fault::Half, Fault::Silence] {
        let setup = impatient().set("keystone_http_request_max_retries", "2");
        let world = until_silence_ends(setup, &fault).start();
        world.identity.fault_validations_times(2, fault.clone());
        let token = world.uuid(&Payload::v3());
        expect::v3_user(&world.seen(&Request::get("/").token(&token)));
        assert_eq!(world.identity.validations().len(), 3, "{fault:?}");
        // Nor is an unknown token taken for an unreachable service.
        world.identity.fault_validations_times(2, fault.clone());
        expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
    }
}

#[test]
fn e20_what_is_not_tried_again() {
    // The answer is there: another try would only be told the same.
    for fault in [Fault::Status(400), Fault::Status(403), Fault::Body(b"{}".to_vec())] {
        let world = impatient().set("keystone_http_request_max_retries", "3").start();
        world.identity.fault_validations(fault.clone());
        assert_unavailable(&world, &world.uuid(&Payload::v3()), &format!("{fault:?}"));
        assert_eq!(world.identity.validations().len(), 1, "{fault:?}");
    }
}

#[test]
fn time_outs() {
    for fault in [
        Fault::Silence,
        Fault::Delay(Duration::from_secs(5)),
        Fault::Drip(Duration::from_millis(700)),
    ] {
        let world = impatient()
            .set("keystone_read_timeout", "300ms")
            .set("keystone_http_request_max_retries", "1")
            .start();
        world.identity.fault_validations(fault.clone());
        let start = Instant::now();
        assert_unavailable(&world, &new_uuid(), &format!("{fault:?}"));
        let after = start.elapsed();
        assert!((500..4000).contains(&after.as_millis()), "{fault:?}: {after:?}");
        // The identity service may read a question when nobody waits for the answer any more.
        world.wait_for_validations(2);
        assert_eq!(world.identity.validations().len(), 2, "{fault:?}");
    }
}

#[test]
fn e22_versions_that_make_no_sense() {
    let v4 = json!({"versions": {"values": [{"id": "v4.0", "status": "stable", "links": []}]}});
    for body in ["", "{}", "[]", "hello", &v4.to_string()] {
        let world = impatient().set("keystone_auth_version", "auto").start();
        world.identity.fault_times(1, "/", Fault::Body(body.into()));
        let token = world.uuid(&Payload::v3());
        assert_unavailable(&world, &token, body);
        assert_eq!(world.identity.validations(), [""; 0]);
        assert_eq!(world.status(&token), 200, "{body}");
    }
}

#[test]
fn p03_p04_answers_that_are_broken() {
    let half_a_token = Payload::v3().json().into_bytes()[..200].to_vec();
    let faults = [
        Fault::CloseBeforeAnswer,
        Fault::Garbage,
        Fault::Half,
        Fault::WrongLength(100),
        Fault::WrongLength(-100),
        Fault::Silence,
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(400),
        Fault::Status(403),
        Fault::Status(410),
        Fault::Status(201),
        Fault::Status(204),
        Fault::Status(300),
        Fault::Header("Content-Length", "7".into()),
        Fault::Body(Vec::new()),
        Fault::Body(b"hello".to_vec()),
        Fault::Body(b"{}".to_vec()),
        Fault::Body(b"[]".to_vec()),
        Fault::Body(b"null".to_vec()),
        Fault::Body(b"{\"token\": {}}".to_vec()),
        Fault::Body(b"{\"token\": null}".to_vec()),
        Fault::Body(Payload::v3().without("/expires_at").json().into()),
        Fault::Body(Payload::v3().with("/expires_at", json!("tomorrow")).json().into()),
        Fault::Body(half_a_token),
        Fault::Body(b"\xff\xfe\xfd".to_vec()),
        Fault::Body([&b"{\"token\": \"\xff"[..], b"\"}"].concat()),
        Fault::Body(vec![b'['; 100_000]),
        Fault::Body("{\"token\":".repeat(20_000).into()),
        Fault::Body(vec![b'x'; 1_000_000]),
        Fault::Body(Payload::v3().padded(2_000_000).json().into()),
    ];
    for fault in &faults {
        let shown = format!("{fault:?}");
        let shown = shown.get(..100).unwrap_or(&shown);
        let world = until_silence_ends(impatient(), fault).start();
        let token = world.uuid(&Payload::v3());
        world.identity.fault_validations(fault.clone());
        assert_unavailable(&world, &token, shown);
        expect::unavailable(&world.send(&Request::get("/delay/").token(&token)));
        assert!(world.upstream.requests().is_empty(), "{shown}");
        world.identity.heal();
        expect::v3_user(&world.seen(&Request::get("/").token(&token)));
    }
}

#[test]
fn answers_that_are_odd_but_whole() {
    let faults = [
        Fault::Chunked,
        Fault::Drip(Duration::from_micros(20)),
        Fault::CloseSilently,
        Fault::Delay(Duration::from_millis(50)),
        Fault::Header("X-Subject-Token", "another".into()),
        Fault::Header("Set-Cookie", "a=b".into()),
    ];
    for fault in faults {
        let world = World::setup().set("keystone_http_request_max_retries", "0").start();
        world.identity.fault("/", fault.clone());
        for _ in 0..4 {
            let token = world.uuid(&Payload::v3());
            expect::v3_user(&world.seen(&Request::get("/").token(&token)));
            expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
        }
    }
}

#[test]
fn an_answer_about_a_token_that_is_over() {
    // Whatever the identity service thinks of it.
    let world = impatient().start();
    world.identity.fault_validations(Fault::Body(Payload::v3().expires_in(-1).json().into()));
    let token = world.uuid(&Payload::v3());
    let answer = world.send(&Request::get("/").token(&token));
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("expired"));
}

#[test]
fn redirects_are_not_followed() {
    let world = impatient().start();
    let other = Identity::start(&world.pki).unwrap();
    for status in [301, 302, 303, 307, 308] {
        for path in ["/v3/auth/tokens", "/"] {
            let location = format!("{}{path}", other.uri());
            world.identity.fault_validations(Fault::Status(status));
            world.identity.fault_validations(Fault::Header("Location", location));
            let token = world.uuid(&Payload::v3());
            other.know(&token, &Payload::v3());
            assert_unavailable(&world, &token, &format!("{status} to {path}"));
            world.identity.heal();
            assert_eq!(world.status(&token), 200);
        }
    }
    // It would have been told the service token.
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_pause_that_the_identity_service_asks_for() {
    let world = impatient().set("keystone_http_request_max_retries", "3").start();
    let cached = world.uuid(&Payload::v3());
    assert_eq!(world.status(&cached), 200);
    world.identity.forget_requests();
    world.identity.fault_validations_times(1, Fault::Header("Retry-After", "3".into()));
    world.identity.fault_validations_times(1, Fault::Status(429));
    let (start, token) = (Instant::now(), world.uuid(&Payload::v3()));
    for _ in 0..5 {
        assert_unavailable(&world, &token, "requests are paused, as it has asked");
        assert_unavailable(&world, &new_uuid(), "requests are paused, as it has asked");
        assert_eq!(world.status(&cached), 200);
    }
    if start.elapsed() < Duration::from_millis(2500) {
        assert_eq!(world.identity.validations(), [token.as_str()], "within the pause");
    }
    wait_for("the end of the pause", || (world.status(&token) == 200).then_some(())).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(2500), "{:?}", start.elapsed());
}

#[test]
fn a_pause_of_one_of_two_identity_services() {
    let mut world = impatient().start();
    let second = Identity::start(&world.pki).unwrap();
    let uris = format!("{} {}", world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &uris));
    world.identity.fault_validations(Fault::Status(429));
    let token = world.uuid(&Payload::v3());
    second.know(&token, &Payload::v3());
    assert_eq!(world.status(&token), 200);
    assert_eq!(second.validations(), [token]);
}

/// The one that has asked for a pause takes none of the tries of the other one, nor its pauses.
#[test]
fn a_pause_of_one_leaves_the_tries_to_the_other() {
    let mut world = World::setup().start();
    let second = Identity::start(&world.pki).unwrap();
    let uris = format!("{} {}", world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &uris));
    let token = world.uuid(&Payload::v3());
    second.know(&token, &Payload::v3());
    for fault in [Fault::Status(429), Fault::Header("Retry-After", "60".into())] {
        world.identity.fault_validations(fault);
    }
    second.fault_validations_times(2, Fault::Status(500));
    let start = Instant::now();
    assert_eq!(world.status(&token), 200);
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(world.identity.validations().len(), 1);
    assert_eq!(second.validations().len(), 3);
    // Three further tries at most.
    second.fault_validations(Fault::Status(500));
    assert_unavailable(&world, &new_uuid(), "both are broken");
    assert_eq!(second.validations().len(), 7);
}

#[test]
fn failover_and_staying_with_the_one_that_answered() {
    let mut world = impatient().set("keystone_auth_version", "auto").start();
    let second = Identity::start(&world.pki).unwrap();
    let uris = format!("{} {}", world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &uris));
    let know = |world: &World| {
        let token = world.uuid(&Payload::v3());
        second.know(&token, &Payload::v3());
        token
    };
    assert_eq!(world.status(&know(&world)), 200);
    assert_eq!(second.requests(), [""; 0]);
    world.identity.stop();
    assert_eq!(world.status(&know(&world)), 200);
    assert_eq!(world.status(&new_uuid()), 401);
    assert_eq!(second.validations().len(), 2);
    // Back again, the first one is not asked: the second one answers.
    world.identity.restart().unwrap();
    world.identity.forget_requests();
    for _ in 0..3 {
        assert_eq!(world.status(&know(&world)), 200);
    }
    assert_eq!(world.identity.requests(), [""; 0]);
    // Until it does not.
    second.fault_validations(Fault::Status(500));
    assert_eq!(world.status(&know(&world)), 200);
    assert_eq!(world.identity.validations().len(), 1);
    // Without an answer, the token cannot be judged.
    world.identity.stop();
    assert_unavailable(&world, &know(&world), "both are broken");
}

#[test]
fn p05_p06_a_signed_token_when_certificates_are_cut_off() {
    for fault in [Fault::Status(404), Fault::Status(500), Fault::CloseBeforeAnswer, Fault::Half] {
        let world = impatient().start();
        for path in ["/v3/OS-SIMPLE-CERT", "/v3/auth/tokens/OS-PKI"] {
            world.identity.fault(path, fault.clone());
        }
        world.judges_signed_tokens_online(&format!("{fault:?}"));
    }
}

#[test]
fn tokens_of_no_format_that_look_signed_make_no_traffic() {
    let world = impatient().identity(|identity| identity.stop()).start();
    for token in ["MI", "MIIx", "PKIZ_", "PKIZ_x", &format!("MI{}", "A".repeat(70_000 - 10_000))] {
        expect::refused(&world.send(&Request::get("/").token(token)));
    }
    assert_eq!(world.identity.connections(), 0);
}

#[test]
fn https_that_is_trusted() {
    let world = World::setup_https(TlsFiles::new().unwrap(), false).start();
    for _ in 0..4 {
        let token = world.uuid(&Payload::v3());
        expect::v3_user(&world.seen(&Request::get("/").token(&token)));
        expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
    }
    assert!(world.identity.connections() <= 2, "{}", world.identity.connections());
}
