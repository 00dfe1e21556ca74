//! Clients that leave while they wait.

use keystone_testbed::http::Request;
use keystone_testbed::metrics::Metrics;
use keystone_testbed::mint::new_uuid;
use keystone_testbed::process::{descriptors, private_memory};
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

use crate::table::{row, times};

/// As many as wait at the same time.
const CROWD: usize = 100;

#[test]
fn clients_that_leave_while_they_wait() {
    let crowds = times(10, 100);
    let world = World::setup()
        .set("keystone_auth_version", "v3")
        .location("= /metrics", "keystone_status prometheus;")
        .start();
    let worker = world.nginx.worker_pids()[0];
    // What is made once and kept has been made after the first ones.
    (0..5).for_each(|_| a_crowd_leaves(&world));
    let before = (private_memory(worker).unwrap(), descriptors(worker).unwrap());
    (0..crowds).for_each(|_| a_crowd_leaves(&world));
    let after = (private_memory(worker).unwrap(), descriptors(worker).unwrap());

    assert_eq!(world.nginx.worker_pids(), [worker]);
    world.assert_quiet_log();
    assert!(after.0 < before.0 + 2_048, "{} KiB before, {} KiB after", before.0, after.0);
    // The connections to the identity service that are kept are all that may come and go.
    assert!(after.1 <= before.1 + 16, "{} descriptors before, {} after", before.1, after.1);
    row(
        "clients that leave while their token is being asked about",
        crowds * CROWD,
        "pending questions are 0 after each hundred; no worker ends",
        format!(
            "private memory of the worker {} KiB before, {} KiB after; descriptors {} before, {} after",
            before.0, after.0, before.1, after.1
        ),
    );
}

#[track_caller]
fn a_crowd_leaves(world: &World) {
    world.identity.forget_requests();
    let gate = world.identity.hold_validations();
    let clients: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut client = world.nginx.connect().unwrap();
            client.write(&Request::get("/").token(&new_uuid()).bytes()).unwrap();
            client
        })
        .collect();
    wait_for("all of them to wait", || (pending(world) == CROWD as f64).then_some(())).unwrap();
    drop(clients);
    gate.open();
    world.identity.heal();
    wait_for("all questions to end", || (pending(world) == 0.0).then_some(())).unwrap();
}

fn pending(world: &World) -> f64 {
    let metrics = world.send(&Request::get("/metrics")).text();
    Metrics::read(&metrics).unwrap().sum("keystone_identity_pending", &[])
}
