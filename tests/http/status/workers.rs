//! All workers count together, and what one leaves behind does not spoil it.

use super::*;

#[test]
fn workers_count_together() {
    let world = setup().offline().workers(2).start();
    let token = world.pki(&Payload::v3());
    let workers = world.nginx.worker_pids();
    for pid in &workers {
        let mut client = world.nginx.connect_worker(*pid).unwrap();
        for _ in 0..3 {
            assert_eq!(client.send(&Request::get("/").token(&token)).unwrap().status, 200);
        }
    }
    after(&world, 6);
    for pid in workers {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let page = client.send(&Request::get("/status/metrics")).unwrap().text();
        let metrics = Metrics::read(&page).unwrap();
        assert_told(&metrics, "keystone_requests_total", &["result"], &[("ok", 6)]);
        assert_told(
            &metrics,
            "keystone_cache_lookups_total",
            &["level", "status"],
            &[("worker hit", 3), ("worker miss", 3), ("zone hit", 2), ("zone miss", 1)],
        );
    }
}

#[test]
fn counts_survive_a_reload() {
    let world = setup().workers(2).start();
    for token in [world.pki(&Payload::v3()), world.uuid(&Payload::v3()), new_uuid()] {
        world.status(&token);
    }
    let counters = |metrics: &Metrics| {
        let names = [
            "keystone_requests_total",
            "keystone_cache_lookups_total",
            "keystone_token_validations_total",
            "keystone_identity_requests_total",
            "keystone_identity_request_duration_seconds_count",
        ];
        names.map(|name| metrics.sum(name, &[]))
    };
    let before = counters(&after(&world, 3));
    assert!(before.iter().all(|count| *count > 0.0), "{before:?}");
    world.nginx.reload().unwrap();
    world.nginx.wait_for_old_workers().unwrap();
    assert_eq!(counters(&metrics(&world.nginx)), before);
    assert_eq!(world.status(&new_uuid()), 401);
    assert_eq!(after(&world, 4).sum("keystone_token_validations_total", &[]), before[2] + 1.0);
}

#[test]
fn a_killed_worker_leaves_its_counts_and_no_pending_request() {
    let world = setup().set("keystone_auth_version", "v3").start();
    assert_eq!(world.status(&new_uuid()), 401);
    after(&world, 1);
    let gate = world.identity.hold_validations();
    let mut client = world.nginx.connect().unwrap();
    client.write(&Request::get("/").token(&new_uuid()).bytes()).unwrap();
    world.wait_for_validations(2);
    let pending = || metrics(&world.nginx).sum("keystone_identity_pending", &[]);
    wait_for("the question to be open", || (pending() == 1.0).then_some(())).unwrap();

    let killed = world.nginx.worker_pids();
    kill(killed[0], libc::SIGKILL).unwrap();
    let back = || world.nginx.worker_pids().iter().any(|pid| *pid != killed[0]).then_some(());
    wait_for("another worker", back).unwrap();
    assert_eq!(pending(), 0.0);
    gate.open();
    assert_eq!(world.status(&new_uuid()), 401);
    let metrics = after(&world, 2);
    assert_eq!(metrics.sum("keystone_token_validations_total", &[]), 2.0);
    assert_eq!(metrics.sum("keystone_identity_pending", &[]), 0.0);
}

#[test]
fn a_client_that_leaves_leaves_no_pending_request() {
    let world = setup().start();
    let gate = world.identity.hold_validations();
    let mut client = world.nginx.connect().unwrap();
    client.write(&Request::get("/").token(&new_uuid()).bytes()).unwrap();
    world.wait_for_validations(1);
    drop(client);
    gate.open();
    let pending = || metrics(&world.nginx).sum("keystone_identity_pending", &[]);
    wait_for("no question to be open", || (pending() == 0.0).then_some(())).unwrap();
    // Nobody was told a result.
    assert_eq!(metrics(&world.nginx).sum("keystone_requests_total", &[]), 0.0);
    world.assert_quiet_log();
}

#[test]
fn many_workers_that_come_and_go_lose_nothing() {
    let world = setup().offline().workers(2).set("keystone_cache_zone", "zone=k:256k").start();
    let token = world.pki(&Payload::v3());
    let mut requests = 0;
    for round in 0..12 {
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            assert_eq!(client.send(&Request::get("/").token(&token)).unwrap().status, 200);
            requests += 1;
        }
        after(&world, requests);
        let pids = world.nginx.worker_pids();
        match round % 3 {
            0 => world.nginx.reload().unwrap(),
            _ => pids.iter().for_each(|pid| kill(*pid, libc::SIGKILL).unwrap()),
        }
        let back = || {
            let now = world.nginx.worker_pids();
            (now.len() == 2 && now.iter().all(|pid| !pids.contains(pid))).then_some(())
        };
        wait_for("other workers", back).unwrap();
    }
    after(&world, requests);
}
