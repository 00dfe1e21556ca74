//! One worker asks the identity service for all, and a worker that is to exit leaves that to
//! others.

use std::fs;
use std::time::{Duration, Instant};

use keystone_testbed::fake_clock::FakeClock;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::{Fault, Gate, REVOCATION_LIST};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

/// A world in which the list alone is slow, with a file that no socket buffer holds.
fn slow_list(cache_time: &str) -> World {
    let large = |dir: &std::path::Path| {
        fs::write(dir.join("html/files/large.bin"), vec![b'x'; 64 << 20]).unwrap();
    };
    let world = World::setup().set("keystone_revocation_cache_time", cache_time).files(large);
    let world = world.start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    world.identity.fault(REVOCATION_LIST, Fault::Delay(Duration::from_millis(400)));
    world
}

/// Starts a download whose worker cannot end before the client is dropped.
fn start_download(world: &World) -> Client {
    let mut client = world.nginx.connect().unwrap();
    let request = Request::get("/files/large.bin").token(&world.pki(&Payload::v3()));
    client.write(&request.bytes()).unwrap();
    client.wait_for_answer().unwrap();
    client
}

/// Sends new tokens for a while; how long the slowest answer took.
fn slowest_of_new_tokens(world: &World, time: Duration) -> Duration {
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    while start.elapsed() < time {
        let sent = Instant::now();
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        slowest = slowest.max(sent.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    slowest
}

#[test]
fn a_long_download_and_a_reload_with_all_defaults_but_a_slow_list() {
    let world = slow_list("10s");
    let download = start_download(&world);
    world.nginx.reload().unwrap();
    let slowest = slowest_of_new_tokens(&world, Duration::from_secs(12));
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert_eq!(world.nginx.leaving_pids().len(), 1);
    drop(download);
    world.nginx.wait_for_old_workers().unwrap();
    world.assert_quiet_log();
}

#[test]
fn old_workers_ask_nothing_and_end_with_their_last_download() {
    let world = slow_list("2s");
    let mut downloads = Vec::new();
    for _ in 0..3 {
        downloads.push(start_download(&world));
        world.nginx.reload().unwrap();
    }
    assert_eq!(world.nginx.leaving_pids().len(), 3);
    world.identity.forget_requests();
    let start = Instant::now();
    let slowest = slowest_of_new_tokens(&world, Duration::from_secs(8));
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    // The one worker at work asks when three quarters of the two seconds are over.
    let most = start.elapsed().as_secs_f64() / 1.5 + 2.0;
    let asked = world.identity.count(REVOCATION_LIST);
    assert!(asked > 0 && (asked as f64) < most, "asked {asked} times in {:?}", start.elapsed());
    drop(downloads);
    world.nginx.wait_for_old_workers().unwrap();
    world.assert_quiet_log();
}

/// A request that waits for its service token, and then needs the list, in a worker that has been
/// told to exit meanwhile.
fn waits_for_its_service_token(setup: Setup) -> (World, Client, Gate) {
    let world = setup.set("keystone_revocation_cache_time", "0").start();
    let service = world.uuid(&Payload::v3_service());
    let gate = world.identity.hold_validations();
    let request = Request::get("/").token(&world.pki(&Payload::v3()));
    let mut client = world.nginx.connect().unwrap();
    client.write(&request.header("X-Service-Token", &service).bytes()).unwrap();
    world.wait_for_validations(1);
    (world, client, gate)
}

#[test]
fn a_request_of_a_quitting_worker_that_needs_the_list_is_answered() {
    let (mut world, mut client, gate) = waits_for_its_service_token(World::setup());
    world.nginx.signal(libc::SIGQUIT).unwrap();
    wait_for("nginx to stop listening", || world.nginx.connect().is_err().then_some(())).unwrap();
    assert_eq!(world.identity.count(REVOCATION_LIST), 0);
    gate.open();
    assert_eq!(client.read(false).unwrap().status, 200);
    assert!(world.nginx.quit().unwrap().success());
    world.assert_quiet_log();
}

#[test]
fn a_request_of_an_old_worker_that_needs_the_list_is_answered() {
    let (world, mut client, gate) = waits_for_its_service_token(World::setup().workers(2));
    world.nginx.reload().unwrap();
    gate.open();
    assert_eq!(client.read(false).unwrap().status, 200);
    world.nginx.wait_for_old_workers().unwrap();
    world.assert_quiet_log();
}

#[test]
fn a_request_of_a_quitting_worker_that_needs_a_service_token_is_answered() {
    let mut world = World::setup().logs_in().start();
    let gate = Gate::default();
    world.identity.fault("/v3/OS-SIMPLE-CERT", Fault::Hold(gate.clone()));
    let mut client = world.nginx.connect().unwrap();
    client.write(&Request::get("/").token(&world.pki(&Payload::v3())).bytes()).unwrap();
    let asked = || (world.identity.count("/v3/OS-SIMPLE-CERT") > 0).then_some(());
    wait_for("the question for certificates", asked).unwrap();
    world.nginx.signal(libc::SIGQUIT).unwrap();
    wait_for("nginx to stop listening", || world.nginx.connect().is_err().then_some(())).unwrap();
    assert_eq!(world.identity.logins(), 0);
    gate.open();
    assert_eq!(client.read(false).unwrap().status, 200);
    assert_eq!(world.identity.logins(), 1);
    assert!(world.nginx.quit().unwrap().success());
    world.assert_quiet_log();
}

#[test]
fn a_lease_whose_holder_was_killed_is_taken_at_once() {
    let world = World::setup().set("keystone_revocation_cache_time", "0").start();
    let gate = Gate::default();
    world.identity.fault_times(1, REVOCATION_LIST, Fault::Hold(gate.clone()));
    let mut client = world.nginx.connect().unwrap();
    client.write(&Request::get("/").token(&world.pki(&Payload::v3())).bytes()).unwrap();
    let asked = || (world.identity.count(REVOCATION_LIST) > 0).then_some(());
    wait_for("the question for the list", asked).unwrap();
    let holder = world.nginx.worker_pids()[0];
    keystone_testbed::nginx::kill(holder, libc::SIGKILL).unwrap();
    let start = Instant::now();
    let next = || world.nginx.send(&Request::get("/open/").token(&new_uuid())).ok();
    wait_for("another worker", next).unwrap();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    gate.open();
}

/// A world of two workers and a service user, whose clock a test sets, and in which nothing times
/// out.
fn patient_workers(clock: &FakeClock) -> World {
    World::setup()
        .workers(2)
        .config(|config| clock.of(config))
        .logs_in()
        .set("keystone_auth_version", "v3")
        .set("keystone_read_timeout", "1h")
        .start()
}

#[test]
fn no_other_worker_does_the_same_while_a_fetch_takes_long() {
    for path in ["/v3/OS-SIMPLE-CERT/ca", "/v3/auth/tokens", REVOCATION_LIST] {
        let clock = FakeClock::new().unwrap();
        let world = patient_workers(&clock);
        let gate = Gate::default();
        world.identity.fault(path, Fault::Hold(gate.clone()));
        let request = Request::get("/").token(&world.pki(&Payload::v3().expires_in(86_400)));
        let pids = world.nginx.worker_pids();
        let mut clients = pids.iter().map(|pid| world.nginx.connect_worker(*pid).unwrap());
        let (mut first, mut other) = (clients.next().unwrap(), clients.next().unwrap());
        first.write(&request.bytes()).unwrap();
        wait_for("the question", || (world.identity.count(path) > 0).then_some(())).unwrap();
        let asked = world.identity.requests();
        other.write(&request.bytes()).unwrap();

        // Almost a minute passes; both workers see that at their next request.
        for passed in (6..56).step_by(6) {
            clock.pass(passed).unwrap();
            for pid in &pids {
                world.nginx.connect_worker(*pid).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(world.identity.requests(), asked, "{path}");
        gate.open();
        for client in [&mut first, &mut other] {
            assert_eq!(client.read(false).unwrap().status, 200, "{path}");
        }
        world.assert_quiet_log();
    }
}
