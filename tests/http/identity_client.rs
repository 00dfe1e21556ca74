//! How the module talks to the identity service.

mod credentials;
mod https;

use std::time::{Duration, Instant};

use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Gate, Identity, REVOCATION_LIST};
use keystone_testbed::mint::Payload;
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

/// A new token makes the module ask for the list.
fn eager(setup: Setup) -> Setup {
    setup.set("keystone_revocation_cache_time", "0")
}

fn status(world: &World) -> u16 {
    world.status(&world.pki(&Payload::v3()))
}

/// The status with a token that has to be asked about.
fn status_online(world: &World) -> u16 {
    world.status(&world.uuid(&Payload::v3()))
}

#[test]
fn connections_are_kept_alive() {
    let world = eager(World::setup()).start();
    for _ in 0..10 {
        assert_eq!(status(&world), 200);
    }
    assert!(world.identity.connections() <= 2, "{}", world.identity.connections());
    let world = eager(World::setup()).set("keystone_keepalive", "0").start();
    for _ in 0..3 {
        assert_eq!(status(&world), 200);
    }
    let requests = world.identity.requests().len() as u64;
    assert_eq!(world.identity.connections(), requests);
}

#[test]
fn a_kept_connection_that_was_closed_silently() {
    let world = eager(World::setup()).set("keystone_http_request_max_retries", "0").start();
    world.identity.fault("/", Fault::CloseSilently);
    for _ in 0..5 {
        assert_eq!(status(&world), 200);
    }
}

#[test]
fn a_kept_connection_that_is_closed_instead_of_an_answer() {
    let plain = World::setup();
    let tls = World::setup_https(TlsFiles::new().unwrap(), false);
    for setup in [plain, tls] {
        let setup = setup.set("keystone_auth_version", "v3");
        let world = setup.set("keystone_http_request_max_retries", "0").start();
        assert_eq!(status_online(&world), 200);
        let connections = world.identity.connections();
        world.identity.fault_validations_times(1, Fault::CloseBeforeAnswer);
        assert_eq!(status_online(&world), 200, "{}", world.nginx.error_log());
        assert_eq!(world.identity.connections(), connections + 1);
    }
}

#[test]
fn the_machine_behind_kept_connections_is_gone() {
    let world = World::setup()
        .set("keystone_auth_version", "v3")
        .set("keystone_read_timeout", "1s")
        .set("keystone_http_request_max_retries", "1")
        .start();
    let gate = world.identity.hold_validations();
    std::thread::scope(|scope| {
        let requests = [(); 4].map(|()| scope.spawn(|| status_online(&world)));
        world.wait_for_validations(requests.len());
        gate.open();
        for request in requests {
            assert_eq!(request.join().unwrap(), 200);
        }
    });
    let connections = world.identity.connections();
    assert!(connections >= 4, "{connections}");

    world.identity.heal();
    world.identity.fault("/", Fault::SilenceUpTo(connections));
    world.identity.forget_requests();
    for _ in 0..3 {
        assert_eq!(status_online(&world), 200);
    }
    assert_eq!(world.identity.validations().len(), 4, "one time-out, and no further one");
}

#[test]
fn the_identity_service_is_restarted() {
    let mut world = eager(World::setup()).start();
    for _ in 0..3 {
        assert_eq!(status(&world), 200);
        world.identity.stop();
        world.identity.restart().unwrap();
    }
    assert_eq!(status(&world), 200);
}

#[test]
fn e20_retries() {
    for (retries, asked) in [("0", 1), ("1", 2), ("3", 4)] {
        let setup = eager(World::setup()).set("keystone_auth_version", "v3");
        let world = setup.set("keystone_http_request_max_retries", retries).start();
        world.identity.fault("/v3/OS-SIMPLE-CERT/certificates", Fault::Status(503));
        assert_eq!(status(&world), 401, "unknown online");
        assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/certificates"), asked, "{retries}");
    }
}

#[test]
fn e20_a_retry_that_works() {
    for fault in [Fault::Status(500), Fault::CloseBeforeAnswer, Fault::Half] {
        let world = eager(World::setup()).start();
        world.identity.fault_times(2, "/v3/OS-SIMPLE-CERT/certificates", fault.clone());
        assert_eq!(status(&world), 200, "{fault:?}");
        assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/certificates"), 3, "{fault:?}");
    }
}

#[test]
fn time_outs() {
    for fault in [Fault::Silence, Fault::Delay(Duration::from_secs(5))] {
        let world = eager(World::setup())
            .set("keystone_read_timeout", "1s")
            .set("keystone_http_request_max_retries", "1")
            .start();
        world.identity.fault("/v3/OS-SIMPLE-CERT/ca", fault.clone());
        let start = Instant::now();
        assert_eq!(status(&world), 401, "unknown online");
        let after = start.elapsed();
        assert!((1_800..4_800).contains(&after.as_millis()), "{fault:?}: {after:?}");
        assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/ca"), 2);
    }
}

#[test]
fn failover_and_staying_with_the_one_that_answered() {
    let mut world = eager(World::setup()).start();
    let second = Identity::start(&world.pki).unwrap();
    let uris = format!("{} {}", world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &uris));
    assert_eq!(status(&world), 200);
    assert_eq!(second.requests(), [""; 0]);
    world.identity.stop();
    assert_eq!(status(&world), 200);
    assert!(!second.requests().is_empty());
    // Back again, the first one is not asked: the second one answers.
    world.identity.restart().unwrap();
    world.identity.forget_requests();
    second.forget_requests();
    for _ in 0..3 {
        assert_eq!(status(&world), 200);
    }
    assert_eq!(world.identity.requests(), [""; 0]);
    assert!(second.requests().len() >= 3);
}

#[test]
fn the_list_is_fetched_ahead_of_need_by_one_worker() {
    let world = World::setup().workers(3).set("keystone_revocation_cache_time", "1s").start();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let request = Request::get("/").token(&world.pki(&Payload::v3()));
        assert_eq!(client.send(&request).unwrap().status, 200);
    }
    world.identity.forget_requests();
    let start = Instant::now();
    let token = world.pki(&Payload::v3());
    // While the gateway is in use, its list stays fresh without anyone's waiting for it.
    wait_for("three fetches", || {
        assert_eq!(world.status(&token), 200);
        (world.identity.count(REVOCATION_LIST) >= 3).then_some(())
    })
    .unwrap();
    let after = start.elapsed();
    assert!(after > Duration::from_millis(1200), "three fetches within {after:?}");
}

#[test]
fn a_pending_list_does_not_keep_nginx_from_quitting() {
    let list = REVOCATION_LIST;
    let mut world = World::setup().set("keystone_revocation_cache_time", "1s").start();
    assert_eq!(status(&world), 200);
    world.identity.forget_requests();
    let gate = Gate::default();
    world.identity.fault(list, Fault::Hold(gate.clone()));
    // No request has to ask for it: it is fetched ahead.
    wait_for("the question", || (world.identity.count(list) > 0).then_some(())).unwrap();
    assert!(world.nginx.quit().unwrap().success());
    gate.open();
    let log = world.nginx.error_log();
    assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
}
