//! Pauses that the identity service asks for, and what clients hear of them.

use keystone_testbed::clock::http_date;
use keystone_testbed::expect;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::now;
use keystone_testbed::world::{Setup, World};
use serde_json::json;

/// A world in which nothing is tried twice.
fn patient() -> Setup {
    World::setup().set("keystone_http_request_max_retries", "0")
}

fn ask(world: &World) -> Response {
    world.send(&Request::get("/").token(&new_uuid()))
}

/// What a 503 says of when to come again.
#[track_caller]
fn seconds(answer: &Response) -> u64 {
    expect::unavailable(answer);
    answer.header("Retry-After").unwrap().parse().unwrap()
}

/// The identity service asks for a pause of so many seconds, more or less.
#[track_caller]
fn assert_pauses(world: &World, faults: &[Fault], least: u64, most: u64) {
    for fault in faults {
        world.identity.fault_validations(fault.clone());
    }
    let what = format!("{faults:?}");
    let heard = seconds(&ask(world));
    assert!((least..=most).contains(&heard), "{what}: {heard}");
    let asked = world.identity.requests().len();
    let heard = seconds(&ask(world));
    assert!((least..=most).contains(&heard), "{what}: {heard}");
    assert_eq!(world.identity.requests().len(), asked, "{what}");
}

#[test]
fn seconds_and_dates_with_each_status() {
    for status in [413, 429, 503] {
        for value in ["37".to_owned(), http_date(now() + 37)] {
            let world = patient().start();
            let faults = [Fault::Status(status), Fault::Header("Retry-After", value)];
            assert_pauses(&world, &faults, 25, 37);
        }
    }
}

#[test]
fn a_date_counts_by_the_clock_of_the_identity_service() {
    let world = patient().start();
    let then = now() - 100_000;
    let faults = [
        Fault::Status(429),
        Fault::Header("Date", http_date(then)),
        Fault::Header("Retry-After", http_date(then + 37)),
    ];
    assert_pauses(&world, &faults, 25, 37);
}

#[test]
fn a_pause_is_a_minute_at_most() {
    for value in ["86400", "99999999999999999999999", &http_date(now() + 86_400)] {
        let world = patient().start();
        let faults = [Fault::Status(429), Fault::Header("Retry-After", value.into())];
        assert_pauses(&world, &faults, 45, 60);
    }
}

#[test]
fn without_a_time_it_is_short() {
    let limit = json!({"overLimit": {"code": 413, "message": "Slow down."}}).to_string();
    for faults in [
        vec![Fault::Status(429)],
        vec![Fault::Status(429), Fault::Header("Retry-After", "soon".into())],
        vec![Fault::Status(413), Fault::Body(limit.into_bytes())],
    ] {
        let world = patient().start();
        faults.iter().for_each(|fault| world.identity.fault_validations(fault.clone()));
        assert_eq!(seconds(&ask(&world)), 1, "{faults:?}");
    }
}

#[test]
fn what_asks_for_no_pause() {
    for faults in [
        vec![Fault::Status(503)],
        // A token may be too long: this does not affect other tokens.
        vec![Fault::Status(413)],
        vec![Fault::Status(500), Fault::Header("Retry-After", "37".into())],
        vec![Fault::Status(429), Fault::Header("Retry-After", "0".into())],
        vec![Fault::Status(429), Fault::Header("Retry-After", http_date(now() - 10))],
    ] {
        let world = patient().start();
        faults.iter().for_each(|fault| world.identity.fault_validations(fault.clone()));
        for number in 1..=3 {
            assert_eq!(seconds(&ask(&world)), 5, "{faults:?}");
            assert_eq!(world.identity.validations().len(), number, "{faults:?}");
        }
    }
}

#[test]
fn a_pause_holds_for_all_workers_and_across_a_reload() {
    let world = patient().workers(2).start();
    world.identity.fault_validations(Fault::Status(429));
    world.identity.fault_validations(Fault::Header("Retry-After", "50".into()));
    seconds(&ask(&world));
    world.identity.forget_requests();
    for _ in 0..2 {
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            let answer = client.send(&Request::get("/").token(&new_uuid())).unwrap();
            assert!(seconds(&answer) > 30);
        }
        world.nginx.reload().unwrap();
    }
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn a_pause_asked_for_when_a_service_token_is_obtained() {
    let with_user = || patient().logs_in();
    for status in [413, 429, 503] {
        let world = with_user().start();
        world.identity.fault_logins(Fault::Status(status));
        world.identity.fault_logins(Fault::Header("Retry-After", http_date(now() + 37)));
        for _ in 0..3 {
            let heard = seconds(&ask(&world));
            assert!((25..=37).contains(&heard), "{heard}");
        }
        assert_eq!(world.identity.logins(), 1);
    }
    // Credentials that are refused are left alone, for five seconds at first.
    let world = with_user().set("keystone_password", "wrong").start();
    for _ in 0..3 {
        let heard = seconds(&ask(&world));
        assert!((1..=5).contains(&heard), "{heard}");
    }
    assert_eq!(world.identity.logins(), 1);
}

#[test]
fn another_endpoint_is_asked_meanwhile() {
    let mut world = patient().start();
    let second = keystone_testbed::identity::Identity::start(&world.pki).unwrap();
    let (first, uri) = (world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &format!("{first} {uri}")));
    world.identity.fault_validations(Fault::Status(503));
    world.identity.fault_validations(Fault::Header("Retry-After", "50".into()));
    for _ in 0..3 {
        let token = new_uuid();
        second.know(&token, &Payload::v3());
        assert_eq!(world.status(&token), 200);
    }
    assert_eq!(world.identity.validations().len(), 1);
}
