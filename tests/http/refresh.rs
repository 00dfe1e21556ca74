//! Certificates and the revocation list in hard times: what one client does, or one endpoint fails
//! at, takes nothing from the others.

use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::{Fault, Gate, REVOCATION_LIST};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::WORKER;
use keystone_testbed::wait_for;
use keystone_testbed::world::{stranger, World};

use crate::e_online_faults::until_silence_ends;
const CERTIFICATES: &str = "/v3/OS-SIMPLE-CERT";

/// Sends a request whose answer is read later.
fn start(world: &World, token: &str) -> Client {
    let mut client = world.nginx.connect().unwrap();
    client.write(&Request::get("/").token(token).bytes()).unwrap();
    client
}

fn forged() -> String {
    Payload::v3().pki(&stranger().signing).unwrap()
}

/// Waits until the list has to be fetched again.
fn let_the_list_become_old(world: &World) {
    world.identity.forget_requests();
    wait_for("the next question for the list", || {
        (world.identity.count(REVOCATION_LIST) > 0).then_some(())
    })
    .unwrap();
}

#[test]
fn forged_tokens_while_certificates_cannot_be_had() {
    let faults = [
        Fault::Status(404),
        Fault::Status(403),
        Fault::Status(500),
        Fault::Body(b"FAKE CERT".to_vec()),
        Fault::CloseBeforeAnswer,
        Fault::Silence,
    ];
    for fault in faults {
        let setup = World::setup().set("keystone_revocation_cache_time", "1s");
        let world = until_silence_ends(setup, &fault).start();
        let what = format!("{fault:?}");
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        world.identity.fault(CERTIFICATES, fault);
        let cached = world.pki(&Payload::v3());
        assert_eq!(world.status(&cached), 200);
        world.identity.forget_requests();
        let start_time = Instant::now();
        let mut forgers = Vec::new();
        let mut slowest = Duration::ZERO;
        while start_time.elapsed() < Duration::from_millis(2500) {
            forgers.push(start(&world, &forged()));
            for token in [&cached, &world.pki(&Payload::v3())] {
                let sent = Instant::now();
                assert_eq!(world.status(token), 200, "{what}");
                slowest = slowest.max(sent.elapsed());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        assert!(slowest < Duration::from_secs(3), "{what}: {slowest:?}");
        assert!(world.identity.count(REVOCATION_LIST) > 0, "{what}");
        assert!(world.identity.count(CERTIFICATES) > 0, "{what}");
        assert_eq!(world.identity.validations(), [""; 0], "{what}");
        for mut client in forgers {
            expect::refused(&client.read(false).unwrap());
        }
    }
}

#[test]
fn a_rotation_that_failed_is_tried_again() {
    let world = World::setup().set("keystone_http_request_max_retries", "0").start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let next = stranger();
    world.identity.rotate(next).unwrap();
    world.identity.fault_times(1, CERTIFICATES, Fault::Status(503));
    expect::refused(&world.send(&Request::get("/").token(&forged())));
    // The refusal is not cached, because the certificates could not be fetched.
    wait_for("a token of the new certificate to pass", || {
        (world.status(&Payload::v3().pki(&next.signing).unwrap()) == 200).then_some(())
    })
    .unwrap();
}

#[test]
fn requests_that_come_while_other_certificates_are_fetched_wait_for_them() {
    let world = World::setup().workers(2).start();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let request = Request::get("/").token(&world.pki(&Payload::v3()));
        assert_eq!(client.send(&request).unwrap().status, 200);
    }
    world.identity.forget_requests();
    let next = stranger();
    world.identity.rotate(next).unwrap();
    let gate = Gate::default();
    world.identity.fault(CERTIFICATES, Fault::Hold(gate.clone()));
    let token = || Payload::v3().pki(&next.signing).unwrap();
    let mut clients = vec![start(&world, &token())];
    let asked = || (world.identity.count(CERTIFICATES) > 0).then_some(());
    wait_for("the question for certificates", asked).unwrap();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        client.write(&Request::get("/").token(&token()).bytes()).unwrap();
        clients.push(client);
        let mut witness = world.nginx.connect_worker(pid).unwrap();
        assert_eq!(witness.send(&Request::get(WORKER)).unwrap().status, 200);
    }
    gate.open();
    for mut client in clients {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/certificates"), 1);
}

#[test]
fn unknown_tokens_that_fill_all_places_keep_no_signed_token_waiting() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "1s")
        .set("keystone_max_pending", "4")
        .set("keystone_max_pending_per_address", "0")
        .start();
    let cached = world.pki(&Payload::v3());
    assert_eq!(world.status(&cached), 200);
    let gate = world.identity.hold_validations();
    let waiting: Vec<_> = (0..12).map(|_| start(&world, &new_uuid())).collect();
    world.wait_for_validations(4);
    for _ in 0..3 {
        let_the_list_become_old(&world);
        for token in [&cached, &world.pki(&Payload::v3())] {
            assert_eq!(world.status(token), 200);
        }
    }
    let unknown = world.send(&Request::get("/").token(&new_uuid()));
    expect::unavailable(&unknown);
    gate.open();
    drop(waiting);
}

#[test]
fn forged_tokens_take_no_room_from_those_that_wait_for_the_list() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "0")
        .set("keystone_max_pending", "4")
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    expect::refused(&world.send(&Request::get("/").token(&forged())));
    let gate = Gate::default();
    world.identity.fault(REVOCATION_LIST, Fault::Hold(gate.clone()));
    world.identity.forget_requests();
    for _ in 0..20 {
        expect::refused(&world.send(&Request::get("/").token(&forged())));
    }
    assert_eq!(world.identity.requests(), [""; 0]);
    let good: Vec<_> = (0..4).map(|_| start(&world, &world.pki(&Payload::v3()))).collect();
    assert_eq!(world.send(&Request::get(WORKER)).status, 200);
    // The bound holds for those that wait, too, and the log does not speak of validations.
    expect::unavailable(&world.send(&Request::get("/").token(&world.pki(&Payload::v3()))));
    let limiting = "limiting requests that wait for certificates or revocation list";
    world.nginx.wait_for_log(&format!("keystone: {limiting}, identity service")).unwrap();
    gate.open();
    for mut client in good {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
}

#[test]
fn a_tolerated_list_keeps_no_request_waiting_in_a_black_hole() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "1s")
        .set("keystone_revocation_stale", "1h")
        .workers(2)
        .start();
    let cached = world.pki(&Payload::v3());
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_eq!(world.status(&cached), 200);
    world.identity.fault("/", Fault::Silence);
    let start_time = Instant::now();
    let mut slowest = Duration::ZERO;
    while start_time.elapsed() < Duration::from_secs(6) {
        for (token, status) in [(&cached, 200), (&world.pki(&Payload::v3()), 200), (&revoked, 401)]
        {
            let sent = Instant::now();
            assert_eq!(world.status(token), status);
            slowest = slowest.max(sent.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    world.identity.heal();
}

#[test]
fn a_tolerable_list_with_a_cache_time_of_zero() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "0")
        .set("keystone_revocation_stale", "1h")
        .set("keystone_read_timeout", "2s")
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    // While the identity service answers, each new token is a reason to ask.
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    expect::refused(&world.send(&Request::get("/").token(&revoked)));
    world.identity.fault(REVOCATION_LIST, Fault::Silence);
    let start_time = Instant::now();
    let mut waits = Vec::new();
    while start_time.elapsed() < Duration::from_secs(5) {
        let sent = Instant::now();
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        waits.push(sent.elapsed());
    }
    let long = waits.iter().filter(|wait| **wait > Duration::from_millis(700)).count();
    assert!(long <= 2, "{waits:?}");
    world.identity.heal();
    wait_for("the identity service to be asked before each new token", || {
        let revoked = world.pki(&Payload::v3());
        world.identity.revoke_token(&revoked);
        (world.status(&revoked) == 401).then_some(())
    })
    .unwrap();
}

#[test]
fn a_list_that_may_be_stale_is_kept_fresh_without_requests() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "500ms")
        .set("keystone_revocation_stale", "1h")
        .start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    for _ in 0..3 {
        let_the_list_become_old(&world);
    }
}

#[test]
fn attempts_to_fetch_the_list_back_off() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "500ms")
        .set("keystone_revocation_stale", "1h")
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    world.identity.fault(REVOCATION_LIST, Fault::Status(500));
    let_the_list_become_old(&world);
    let start_time = Instant::now();
    while start_time.elapsed() < Duration::from_secs(6) {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        std::thread::sleep(Duration::from_millis(20));
    }
    // After 0, 1, 3 and 7 seconds.
    let asked = world.identity.count(REVOCATION_LIST);
    assert!((2..=4).contains(&asked), "asked {asked} times");
}
