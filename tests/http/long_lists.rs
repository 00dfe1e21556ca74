//! Long revocation lists.

use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::fake_clock::FakeClock;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Gate, LONGEST_HOLD, REVOCATION_LIST};
use keystone_testbed::metrics::Metrics;
use keystone_testbed::mint::{md5, new_audit_id, new_uuid, Payload, Revoked};
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

fn with_room() -> Setup {
    World::setup()
        .set("keystone_revocation_cache_time", "0")
        .set("keystone_cache_zone", "zone=large:192m")
        .set("keystone_read_timeout", "60s")
}

/// Entries that are about none of the test's tokens.
fn others(number: usize) -> impl Iterator<Item = Revoked> {
    (0..number).map(|_| Revoked { id: Some(new_uuid()), audit_id: Some(new_audit_id()) })
}

#[track_caller]
fn assert_revoked(world: &World, token: &str) {
    let answer = world.send(&Request::get("/").token(token));
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("revoked"));
}

/// Tokens, half of which are listed by the hash of their text and half by their audit id.
#[test]
fn ten_thousand_tokens_that_are_revoked_at_once_are_all_refused() {
    let world = with_room().workers(2).start();
    let payloads = (0..300).map(|n| Payload::v3().audit_ids(&[&format!("audit-{n}")]));
    let tokens: Vec<_> = payloads.map(|payload| world.pki(&payload)).collect();
    let valid = world.pki(&Payload::v3());
    for token in &tokens {
        assert_eq!(world.status(token), 200);
    }
    {
        let revoked = &mut world.identity.state().revoked;
        revoked.extend(others(9_700));
        revoked.extend(tokens.iter().enumerate().map(|(n, token)| match n % 2 {
            0 => Revoked { id: Some(md5(token)), audit_id: Some(new_audit_id()) },
            _ => Revoked::audit_id(format!("audit-{n}")),
        }));
    }
    // The next list: it is fetched for a token that is new.
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    for token in &tokens {
        assert_revoked(&world, token);
    }
    assert_eq!(world.status(&valid), 200);
}

#[test]
fn a_hundred_thousand_entries() {
    let mut world = with_room().start();
    let (first, last) = (world.pki(&Payload::v3()), world.pki(&Payload::v3()));
    {
        let revoked = &mut world.identity.state().revoked;
        revoked.push(Revoked { id: Some(md5(&first)), audit_id: Some(new_audit_id()) });
        revoked.extend(others(99_998));
        revoked.push(Revoked { id: Some(md5(&last)), audit_id: Some(new_audit_id()) });
    }
    // Requests that need no list are answered while one waits for it.
    let gate = Gate::default();
    world.identity.fault_times(1, REVOCATION_LIST, Fault::Hold(gate.clone()));
    let mut waiting = world.nginx.connect().unwrap();
    waiting.write(&Request::get("/").token(&first).bytes()).unwrap();
    let asked = || (world.identity.count(REVOCATION_LIST) > 0).then_some(());
    wait_for("the question for the list", asked).unwrap();
    gate.open();
    for _ in 0..200 {
        assert_eq!(world.send(&Request::get("/open/")).status, 200);
    }
    expect::refused(&waiting.read(false).unwrap());
    for token in [&first, &last] {
        assert_revoked(&world, token);
    }
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    // It is read from the disk as well.
    let lasting = world.config.clone().set("keystone_revocation_cache_time", "1h");
    let new = world.pki(&Payload::v3());
    world.identity.stop();
    world.nginx.restart(&lasting).unwrap();
    for (token, status) in [(&first, 401), (&last, 401), (&new, 200)] {
        assert_eq!(world.status(token), status);
    }
    world.assert_quiet_log();
}

/// Of two lists in turn, each takes the place of the one before, also with fewer entries.
#[test]
fn a_list_takes_the_place_of_the_one_before() {
    let world = with_room().start();
    let tokens: Vec<_> = (0..4).map(|_| world.pki(&Payload::v3())).collect();
    for (round, others_listed) in [0, 3_000, 10, 5_000, 0, 2_000].into_iter().enumerate() {
        let listed = &tokens[round % tokens.len()];
        let mut revoked: Vec<_> = others(others_listed).collect();
        revoked.push(Revoked { id: Some(md5(listed)), audit_id: Some(new_audit_id()) });
        world.identity.state().revoked = revoked;
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        for token in &tokens {
            match token == listed {
                true => assert_revoked(&world, token),
                false => assert_eq!(world.status(token), 200),
            }
        }
    }
}

/// The request of one worker for the list takes longer than it renews its lease, so that another
/// worker publishes a list meanwhile. The answer that comes at last changes nothing of that list,
/// not even for the time that it takes to read it.
#[test]
fn a_list_that_comes_late_does_not_touch_the_one_that_another_worker_has_published() {
    let clock = FakeClock::new().unwrap();
    let world = with_room().workers(2).config(|config| clock.of(config));
    let world = world.set("keystone_revocation_cache_time", "1s");
    let world = world.set("keystone_revocation_stale", "1h").set("keystone_read_timeout", "1h");
    let world = world.location("= /status", "keystone_status prometheus;");
    let world = world.start();
    let revoked: Vec<_> = (0..1_500).map(|_| world.pki(&Payload::v3())).collect();
    world.identity.state().revoked = others(60_000).collect();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let published = || (world.identity.count(REVOCATION_LIST) > 1).then_some(());
    wait_for("the first list", published).unwrap();

    world.identity.forget_requests();
    let gate = Gate::default();
    // Its expiry times make it another list each second.
    world.identity.fault_times(1, REVOCATION_LIST, Fault::Hold(gate.clone()));
    let asked = |times| (world.identity.count(REVOCATION_LIST) >= times).then_some(());
    wait_for("the late question", || asked(1)).unwrap();
    let late = Instant::now();
    {
        let list = &mut world.identity.state().revoked;
        let entry =
            |token: &String| Revoked { id: Some(md5(token)), audit_id: Some(new_audit_id()) };
        list.extend(revoked.iter().map(entry));
    }
    clock.pass(100).unwrap();
    wait_for("another worker's question", || asked(2)).unwrap();
    let (first, others) = revoked.split_first().unwrap();
    let is_refused = || (world.status(first) == 401).then_some(());
    wait_for("another worker's list", is_refused).unwrap();
    assert!(late.elapsed() < LONGEST_HOLD, "the late answer has come too early");
    gate.open();
    for token in others {
        assert_eq!(world.status(token), 401);
        std::thread::sleep(Duration::from_millis(4));
    }
    wait_for("the late answer", || {
        let metrics = Metrics::read(&world.send(&Request::get("/status")).text()).unwrap();
        let lists = [("request", "revocation_list"), ("status", "200")];
        let answers = metrics.sum("keystone_identity_requests_total", &lists);
        // That of the start, which was forgotten, is among them.
        (answers > world.identity.count(REVOCATION_LIST) as f64).then_some(())
    })
    .unwrap();
    world.assert_quiet_log();
}
