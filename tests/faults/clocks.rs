//! A clock that jumps.

use std::time::Duration;

use keystone_testbed::fake_clock::FakeClock;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::load::Load;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

use crate::table::{row, times};

/// How far it jumps, in seconds.
const JUMPS: [i64; 6] = [1, 60, 3_600, -1, -60, -3_600];

#[test]
fn the_clock_jumps_under_load() {
    let rounds = times(1, 5);
    let clock = FakeClock::new().unwrap();
    let world = World::setup()
        .workers(2)
        .config(|config| clock.of(config).shared_socket())
        .set("keystone_revocation_cache_time", "1s")
        .set("keystone_invalid_cache_time", "1s")
        .start();
    let day = |payload: Payload| payload.expires_in(86_400);
    let pki = world.pki(&day(Payload::v3()));
    let uuid = world.uuid(&day(Payload::v3()));
    let tokens = [pki.as_str(), uuid.as_str()];
    let request = |number: usize| Request::get("/").token(tokens[number % 2]);
    let (outcome, ()) = Load::on(world.nginx.address()).clients(2).during(request, |load| {
        for _ in 0..rounds {
            for jump in JUMPS {
                clock.set_ahead(jump).unwrap();
                load.wait_for_more(20).unwrap();
                let short = world.pki(&Payload::v3().expires_in(jump - 20));
                assert_eq!(world.status(&short), 401, "over by a clock {jump} s ahead");
                assert_eq!(world.status(&world.pki(&day(Payload::v3()))), 200, "{jump} s ahead");
                assert_eq!(world.status(&world.uuid(&day(Payload::v3()))), 200, "{jump} s ahead");
                assert_eq!(world.status(&new_uuid()), 401, "{jump} s ahead");
                clock.set_ahead(0).unwrap();
                load.wait_for_more(20).unwrap();
            }
        }
    });
    outcome.assert_only(&[200], "a clock that jumps");
    assert!(outcome.percentile(100) < Duration::from_secs(5), "{outcome}");
    world.assert_quiet_log();
    row(
        "clock set 1 s, 60 s and 3600 s ahead and back, and behind and back",
        2 * rounds * JUMPS.len(),
        "good tokens pass, cached and new ones; what is over by the new time is refused",
        outcome,
    );
}

#[test]
fn a_token_whose_time_is_over_after_a_jump_is_refused_though_it_is_cached() {
    let clock = FakeClock::new().unwrap();
    let world = World::setup().config(|config| clock.of(config)).start();
    let payload = Payload::v3().expires_in(1_800);
    for token in [world.pki(&payload), world.uuid(&payload)] {
        assert_eq!(world.status(&token), 200);
        assert_eq!(world.status(&token), 200);
        clock.set_ahead(1_801).unwrap();
        wait_for("the jump to be noticed", || (world.status(&token) == 401).then_some(())).unwrap();
        clock.set_ahead(0).unwrap();
    }
}

#[test]
fn an_answer_kept_by_a_clock_that_was_ahead_is_not_kept_for_longer() {
    let rounds = times(1, 10);
    let clock = FakeClock::new().unwrap();
    let world = World::setup().config(|config| clock.of(config)).start();
    let hits = |token: &str| {
        let answer: Response = world.send(&Request::get("/").token(token));
        (answer.status, answer.header("X-Cache").map(str::to_owned))
    };
    for _ in 0..rounds {
        clock.set_ahead(7_200).unwrap();
        let token = world.uuid(&Payload::v3().expires_in(86_400));
        assert_eq!(hits(&token), (200, Some("MISS".into())));
        assert_eq!(hits(&token), (200, Some("HIT".into())));
        world.identity.revoke_online(&token);
        // Back by two hours: until then keystone_token_cache_time, five minutes, would not end.
        clock.set_ahead(0).unwrap();
        wait_for("the identity service to be asked again", || {
            (hits(&token).0 == 401).then_some(())
        })
        .unwrap();
    }
    row(
        "clock set back by two hours while answers are cached",
        rounds,
        "entries made in the future count as old: the identity service is asked again",
        "",
    );
}
