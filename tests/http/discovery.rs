//! The versions of the identity service: read again from time to time, and kept while that fails.

use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::fake_clock::FakeClock;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Identity, REVOCATION_LIST};
use keystone_testbed::mint::Payload;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

/// Seconds after which the versions are read again.
const HOUR: i64 = 3_600;

/// A world whose clock a test sets, in which nothing is tried twice.
fn with_clock(clock: &FakeClock) -> Setup {
    let setup = World::setup().config(|config| clock.of(config));
    setup.set("keystone_http_request_max_retries", "0")
}

fn offers(identity: &Identity, v2: bool, v3: bool) {
    let mut state = identity.state();
    (state.v2, state.v3) = (v2, v3);
}

/// The status with a new token, which the identity service has to validate.
fn status(world: &World, payload: &Payload) -> u16 {
    world.status(&world.uuid(&payload.clone().expires_in(86_400)))
}

fn reads(world: &World) -> usize {
    world.identity.requests().iter().filter(|request| *request == "GET /").count()
}

#[test]
fn the_versions_are_read_again_after_an_hour() {
    let clock = FakeClock::new().unwrap();
    let world = with_clock(&clock).identity(|identity| offers(identity, true, false)).start();
    assert_eq!(status(&world, &Payload::v2()), 200);
    offers(&world.identity, true, true);
    clock.pass(HOUR - 60).unwrap();
    assert_eq!(status(&world, &Payload::v2()), 200);
    assert_eq!(reads(&world), 1);
    clock.pass(HOUR + 1).unwrap();
    assert_eq!(status(&world, &Payload::v3()), 200);
    assert_eq!(reads(&world), 2);
}

#[test]
fn a_known_version_is_used_while_the_versions_cannot_be_read() {
    for fault in [
        Fault::Status(500),
        Fault::Status(404),
        Fault::Reset,
        Fault::Garbage,
        Fault::Body(b"<html>maintenance</html>".to_vec()),
    ] {
        let clock = FakeClock::new().unwrap();
        let world = with_clock(&clock).start();
        assert_eq!(status(&world, &Payload::v3()), 200);
        world.identity.fault_versions(fault.clone());
        clock.pass(HOUR + 1).unwrap();
        for _ in 0..4 {
            assert_eq!(status(&world, &Payload::v3()), 200, "{fault:?}");
        }
        assert_eq!(reads(&world), 2, "{fault:?}");

        // Later they are read again, for which no request waits.
        let mut passed = HOUR;
        let mut later = || {
            passed += 30;
            clock.pass(passed).unwrap();
            assert_eq!(status(&world, &Payload::v3()), 200, "{fault:?}");
        };
        wait_for("two more reads", || {
            later();
            (reads(&world) >= 4).then_some(())
        })
        .unwrap();
        let log = world.nginx.error_log();
        let told = log.lines().filter(|line| line.contains("cannot read the versions"));
        assert_eq!(told.count(), 1, "{fault:?}: {log}");

        world.identity.heal();
        wait_for("the versions to be read", || {
            later();
            world.nginx.error_log().contains("tells its versions again").then_some(())
        })
        .unwrap();
        let read = reads(&world);
        later();
        assert_eq!(reads(&world), read, "{fault:?}");
    }
}

#[test]
fn requests_do_not_wait_for_versions_that_do_not_come() {
    let clock = FakeClock::new().unwrap();
    let world = with_clock(&clock).start();
    assert_eq!(status(&world, &Payload::v3()), 200);
    world.identity.fault_versions(Fault::Silence);
    clock.pass(HOUR + 1).unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(status(&world, &Payload::v3()), 200);
    }
    // The first one waits for a second, and each would without that.
    let after = start.elapsed();
    assert!(after < Duration::from_secs(10), "{after:?}");
    // One for the first token, one after the hour, and one each five seconds.
    assert!(reads(&world) <= 4, "{}", reads(&world));
}

#[test]
fn a_service_that_no_longer_offers_a_known_version() {
    let clock = FakeClock::new().unwrap();
    let world = with_clock(&clock).start();
    assert_eq!(status(&world, &Payload::v3()), 200);
    offers(&world.identity, false, false);
    clock.pass(HOUR + 1).unwrap();
    let token = world.uuid(&Payload::v3().expires_in(86_400));
    for _ in 0..2 {
        expect::unavailable(&world.send(&Request::get("/").token(&token)));
    }
    offers(&world.identity, false, true);
    assert_eq!(world.status(&token), 200);
}

/// Keystone without v2.0 answers about each token as v2.0 does about one that it does not know.
#[test]
fn a_404_of_a_version_in_doubt_refuses_no_token() {
    let clock = FakeClock::new().unwrap();
    let world = with_clock(&clock).identity(|identity| offers(identity, true, false)).start();
    assert_eq!(status(&world, &Payload::v2()), 200);
    offers(&world.identity, false, true);
    world.identity.fault_versions(Fault::Status(503));
    clock.pass(120).unwrap();
    assert_eq!(status(&world, &Payload::v3()), 401, "v2.0 may not know the token");
    assert_eq!(status(&world, &Payload::v3()), 503);
    world.identity.heal();
    clock.pass(180).unwrap();
    wait_for("v3", || (status(&world, &Payload::v3()) == 200).then_some(())).unwrap();
}

#[test]
fn a_version_is_kept_when_it_is_in_doubt_and_the_versions_cannot_be_read() {
    let world = World::setup()
        .set("keystone_http_request_max_retries", "0")
        .set("keystone_revocation_cache_time", "0")
        .start();
    let error = r#"{"error": {"message": "no", "code": 404, "title": "Not Found"}}"#;
    world.identity.fault(REVOCATION_LIST, Fault::Status(404));
    world.identity.fault(REVOCATION_LIST, Fault::Body(error.as_bytes().to_vec()));
    // Without a list, the versions are read again before the token is validated online.
    let pki = || {
        let token = world.pki(&Payload::v3());
        world.identity.know(&token, &Payload::v3());
        world.status(&token)
    };
    assert_eq!(pki(), 200);
    assert_eq!(reads(&world), 2);
    world.identity.fault_versions(Fault::Status(503));
    for _ in 0..3 {
        assert_eq!(pki(), 200, "{}", world.nginx.error_log());
    }
    assert_eq!(reads(&world), 3);
}
