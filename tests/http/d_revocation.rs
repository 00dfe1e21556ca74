//! Section D of `docs/behaviour.md`: the revocation list.

mod bad_lists;
mod entries;

use std::fs;
use std::time::{Duration, Instant};

use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Gate, ADMIN_TOKEN, REVOCATION_LIST};
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::WORKER;
use keystone_testbed::world::{Setup, World};
use keystone_testbed::{expect, wait_for};

/// A world that asks for the list before it validates a new token.
fn eager() -> Setup {
    World::setup().set("keystone_revocation_cache_time", "0")
}

#[track_caller]
fn assert_revoked(world: &World, token: &str) {
    let answer = world.send(&Request::get("/").token(token));
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("revoked"));
}

#[test]
fn d14_d15_d17_a_cached_token_dies_with_the_next_list() {
    let world = World::setup().set("keystone_revocation_cache_time", "1s").workers(2).start();
    let tokens = [world.pki(&Payload::v3()), world.pkiz(&Payload::v3())];
    let ask = |pid: i32, token: &str| {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        client.send(&Request::get("/").token(token)).unwrap()
    };
    for token in &tokens {
        for pid in world.nginx.worker_pids() {
            assert_eq!(ask(pid, token).status, 200);
            assert_eq!(ask(pid, token).header("X-Cache"), Some("HIT"));
        }
    }
    let start = Instant::now();
    tokens.iter().for_each(|token| world.identity.revoke_token(token));
    for token in &tokens {
        wait_for("the tokens to be refused", || (world.status(token) == 401).then_some(()))
            .unwrap();
        for pid in world.nginx.worker_pids() {
            let answer = ask(pid, token);
            expect::refused(&answer);
            assert_eq!(answer.header("X-Result"), Some("revoked"));
        }
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn d18_a_cached_token_when_the_list_cannot_be_had() {
    let mut world = World::setup().set("keystone_revocation_cache_time", "1s").start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.stop();
    wait_for("the list to be too old", || (world.status(&token) == 503).then_some(())).unwrap();
    expect::unavailable(&world.send(&Request::get("/").token(&token)));
    world.identity.restart().unwrap();
    wait_for("the list", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn d18_unless_it_may_be_stale() {
    let mut world = World::setup()
        .set("keystone_revocation_cache_time", "500ms")
        .set("keystone_revocation_stale", "1h")
        .start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.stop();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_revoked(&world, &revoked);
}

#[test]
fn d21_where_the_list_comes_from() {
    for (version, path) in [("v2.0", "/v2.0/tokens/revoked"), ("v3", REVOCATION_LIST)] {
        let world = eager().set("keystone_auth_version", version).start();
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        let state = world.identity.state();
        let asked: Vec<_> = state.log.iter().filter(|request| request.target == path).collect();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].headers.text("X-Auth-Token"), Some(ADMIN_TOKEN));
    }
}

#[test]
fn d23_the_list_cannot_be_had() {
    for status in [403, 404, 410, 500, 502, 503] {
        let world = World::setup().set("keystone_http_request_max_retries", "0").start();
        world.identity.fault(REVOCATION_LIST, Fault::Status(status));
        world.judges_signed_tokens_online(&format!("a list with status {status}"));
        let log = world.nginx.error_log();
        let said = |line: &str| line.contains("[error]") || line.contains("[warn]");
        let why = |line: &str| line.contains("list") && line.contains("keystone");
        assert!(log.lines().any(|line| said(line) && why(line)), "{log}");
    }
}

#[test]
fn d23_the_identity_service_asks_for_a_pause() {
    let world = World::setup().set("keystone_http_request_max_retries", "0").start();
    let list = REVOCATION_LIST;
    world.identity.fault_times(1, list, Fault::Header("Retry-After", "1".into()));
    world.identity.fault_times(1, list, Fault::Status(429));
    let token = world.pki(&Payload::v3());
    // It stays, so that neither side can judge the token.
    expect::unavailable(&world.send(&Request::get("/").token(&token)));
    assert_eq!(world.identity.validations(), [""; 0]);
    wait_for("the end of the pause", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn d23_unless_revocation_is_off() {
    let world = World::setup().set("keystone_revocation", "off").start();
    world.identity.fault(REVOCATION_LIST, Fault::Status(410));
    let token = world.pki(&Payload::v3());
    world.identity.revoke_token(&token);
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.identity.count("/v3/auth/tokens"), 0);
}

#[test]
fn d24_the_list_in_memory_is_used_within_its_time() {
    let world = World::setup().set("keystone_revocation_cache_time", "1h").workers(2).start();
    for _ in 0..20 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    }
    assert_eq!(world.identity.count(REVOCATION_LIST), 1);
}

#[test]
fn d24_zero_asks_before_every_validation() {
    let world = eager().start();
    let token = world.pki(&Payload::v3());
    for number in 1..=5 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        assert_eq!(world.identity.count(REVOCATION_LIST), number);
    }
    assert_eq!(world.status(&token), 200);
    world.identity.forget_requests();
    assert_eq!(world.send(&Request::get("/").token(&token)).header("X-Cache"), Some("HIT"));
}

/// A token is revoked while the answer to a question for the list is on its way, which does not
/// tell of it; then the token comes, to the same worker or to another one.
#[test]
fn d24_zero_uses_no_list_that_was_requested_before_the_token_came() {
    for workers in [1, 2] {
        let world = eager().workers(workers).start();
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            let request = Request::get("/").token(&world.pki(&Payload::v3()));
            assert_eq!(client.send(&request).unwrap().status, 200);
        }
        for (first, second) in [(0, workers - 1), (workers - 1, 0)] {
            world.identity.forget_requests();
            let gate = Gate::default();
            world.identity.fault_times(1, REVOCATION_LIST, Fault::Hold(gate.clone()));
            let pids = world.nginx.worker_pids();
            let [mut early, mut late] =
                [first, second].map(|at| world.nginx.connect_worker(pids[at]).unwrap());
            let token = world.pki(&Payload::v3());
            // It judges the token if the next list comes while this one is verified.
            world.identity.know(&token, &Payload::v3());
            early.write(&Request::get("/").token(&token).bytes()).unwrap();
            let asked = || (world.identity.count(REVOCATION_LIST) > 0).then_some(());
            wait_for("the question for the list", asked).unwrap();
            let revoked = world.pki(&Payload::v3());
            world.identity.revoke_token(&revoked);
            late.write(&Request::get("/").token(&revoked).bytes()).unwrap();
            // The worker has read it when it has answered what came later.
            let mut witness = world.nginx.connect_worker(pids[second]).unwrap();
            assert_eq!(witness.send(&Request::get(WORKER)).unwrap().status, 200);
            gate.open();
            assert_eq!(early.read(false).unwrap().status, 200);
            expect::refused(&late.read(false).unwrap());
            assert_eq!(world.identity.count(REVOCATION_LIST), 2, "{workers} workers");
            assert_revoked(&world, &revoked);
        }
    }
}

#[test]
fn d24_requests_that_come_during_a_fetch_share_the_next_one() {
    let world = eager().start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    world.identity.forget_requests();
    let gate = Gate::default();
    world.identity.fault_times(1, REVOCATION_LIST, Fault::Hold(gate.clone()));
    let start = || {
        let mut client = world.nginx.connect().unwrap();
        client.write(&Request::get("/").token(&world.pki(&Payload::v3())).bytes()).unwrap();
        client
    };
    let first = start();
    let asked = || (world.identity.count(REVOCATION_LIST) > 0).then_some(());
    wait_for("the question for the list", asked).unwrap();
    let waiting: Vec<_> = (0..20).map(|_| start()).collect();
    assert_eq!(world.send(&Request::get(WORKER)).status, 200);
    gate.open();
    for mut client in std::iter::once(first).chain(waiting) {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    assert_eq!(world.identity.count(REVOCATION_LIST), 2);
}

#[test]
fn d25_a_fresh_list_on_disk_is_used_after_a_restart() {
    let mut world = World::setup().set("keystone_revocation_cache_time", "1h").start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    wait_for("revoked.pem", || world.signing_dir().join("revoked.pem").exists().then_some(()))
        .unwrap();
    world.identity.forget_requests();
    world.nginx.restart(&world.config).unwrap();
    assert_revoked(&world, &revoked);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn d25_an_old_list_on_disk_is_not() {
    let age = |dir: &std::path::Path| {
        let list = fs::File::open(dir.join("keystone/revoked.pem")).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(7200);
        list.set_modified(then).unwrap();
    };
    let world = World::setup().offline().files(age).start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_revoked(&world, &revoked);
    assert_eq!(world.identity.count(REVOCATION_LIST), 1);
}

#[test]
fn d25_nor_is_one_from_the_future() {
    let age = |dir: &std::path::Path| {
        let list = fs::File::open(dir.join("keystone/revoked.pem")).unwrap();
        let then = std::time::SystemTime::now() + Duration::from_secs(600);
        list.set_modified(then).unwrap();
    };
    let world = World::setup().offline().files(age).start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_revoked(&world, &revoked);
    assert_eq!(world.identity.count(REVOCATION_LIST), 1);
}

/// Nobody sends signed tokens, and a list is there.
#[test]
fn a_listed_token_that_was_validated_online_is_refused_without_signed_ones() {
    let world = World::setup().offline().set("keystone_revocation_cache_time", "1s").start();
    let token = world.uuid(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.revoke_token(&token);
    world.identity.forget(&token);
    wait_for("the token to be refused", || (world.status(&token) == 401).then_some(())).unwrap();
    // And no list is asked for where there is none.
    let world = World::setup().set("keystone_revocation_cache_time", "200ms").start();
    let token = world.uuid(&Payload::v3());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        assert_eq!(world.status(&token), 200);
    }
    assert_eq!(world.identity.count(REVOCATION_LIST), 0);
}

#[test]
fn d26_no_list_on_disk_or_in_memory() {
    let lose = |dir: &std::path::Path| fs::remove_file(dir.join("keystone/revoked.pem")).unwrap();
    let world = World::setup().offline().files(lose).start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let requests = world.identity.requests();
    assert!(requests.contains(&"GET /v3/auth/tokens/OS-PKI/revoked".into()), "{requests:?}");
    assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT"), 0, "{requests:?}");
}

#[test]
fn d27_a_time_without_a_unit() {
    let world = World::setup().set("keystone_revocation_cache_time", "24").start();
    for _ in 0..3 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    }
    assert_eq!(world.identity.count(REVOCATION_LIST), 1);
}
