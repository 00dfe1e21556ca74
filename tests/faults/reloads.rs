//! Reloads under load, while Keystone is slow and a long download keeps an old worker alive.

use std::time::{Duration, Instant};

use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::{Fault, REVOCATION_LIST};
use keystone_testbed::load::{Load, Outcome, Running};
use keystone_testbed::mint::Payload;
use keystone_testbed::world::{Setup, World};

use crate::table::{row, times};

/// More than the 250 ms after which an old worker drops a request that nothing waits for.
const SLOW: Duration = Duration::from_millis(400);

#[test]
fn reloads_while_the_list_takes_long() {
    let reloads = times(2, 10);
    // With all defaults, the list is due after ten seconds.
    let world = setup().start();
    world.identity.fault(REVOCATION_LIST, Fault::Delay(SLOW));
    let outcome = signed_tokens(&world, |load, downloads| {
        for _ in 0..reloads {
            reload(&world, downloads);
            beyond(load, Duration::from_secs(6));
        }
    });
    assert_answered(&world, &outcome, "a slow list");
    row(
        "reload with a long download in the old worker, Keystone takes 0.4 s for the list",
        reloads,
        "PKI tokens are answered; old workers end with their downloads",
        outcome,
    );
}

#[test]
fn old_workers_do_not_ask_for_the_list() {
    let reloads = times(3, 10);
    let world = setup().set("keystone_revocation_cache_time", "2s").start();
    world.identity.fault(REVOCATION_LIST, Fault::Delay(SLOW));
    let mut asked = (0, Duration::ZERO);
    let outcome = signed_tokens(&world, |load, downloads| {
        for _ in 0..reloads {
            reload(&world, downloads);
            beyond(load, Duration::from_millis(500));
        }
        // With all the old workers that there are.
        let (start, before) = (Instant::now(), world.identity.count(REVOCATION_LIST));
        beyond(load, Duration::from_secs(times(6, 30) as u64));
        asked = (world.identity.count(REVOCATION_LIST) - before, start.elapsed());
    });
    assert_answered(&world, &outcome, "a list that is due every two seconds");
    // The new workers ask once in 1.5 seconds; twice as often is more than chance.
    let (asked, time) = (asked.0 as f64, asked.1.as_secs_f64());
    assert!(asked <= 2.0 + time / 1.5 * 2.0, "asked for the list {asked} times in {time:.1} s");
    row(
        "reloads with long downloads, keystone_revocation_cache_time 2s, the list takes 0.4 s",
        reloads,
        "PKI tokens are answered; old workers do not ask",
        format!("{outcome}; asked for the list {:.2} times a second", asked / time),
    );
}

#[test]
fn reloads_while_answers_about_tokens_take_long() {
    let reloads = times(3, 20);
    let world = setup().set("keystone_max_pending", "100").start();
    world.identity.fault_validations(Fault::Delay(SLOW));
    let tokens: Vec<_> = (0..2_000).map(|_| world.uuid(&Payload::v3())).collect();
    let request = |number: usize| Request::get("/files/hello.txt").token(&tokens[number % 2_000]);
    let mut downloads = Vec::new();
    let (outcome, ()) = Load::on(world.nginx.address()).clients(8).during(request, |load| {
        for _ in 0..reloads {
            load.wait_for_more(16).unwrap();
            reload(&world, &mut downloads);
        }
        load.wait_for_more(16).unwrap();
    });
    drop(downloads);
    assert_answered(&world, &outcome, "slow answers about tokens");
    row(
        "reload with a long download in the old worker, Keystone takes 0.4 s for a token",
        reloads,
        "every new token is answered, also those that waited during the reload",
        outcome,
    );
}

fn setup() -> Setup {
    let long = "keystone_auth on; send_timeout 1h; alias @DIR@/html/files/;";
    World::setup()
        .workers(2)
        .config(|config| config.shared_socket())
        .set("keystone_auth_version", "v3")
        .location("/long/", long)
        .files(|dir| std::fs::write(dir.join("html/files/long.bin"), vec![0; 64 << 20]).unwrap())
}

/// Signed tokens, new and cached, while `meanwhile` happens; then its downloads end.
fn signed_tokens(world: &World, meanwhile: impl FnOnce(&Running<'_>, &mut Vec<Client>)) -> Outcome {
    let tokens: Vec<_> = (0..500).map(|_| world.pki(&Payload::v3())).collect();
    let request = |number: usize| Request::get("/files/hello.txt").token(&tokens[number % 500]);
    let load = Load::on(world.nginx.address()).pause(Duration::from_millis(10));
    let load = load.patience(Duration::from_secs(60));
    let mut downloads = Vec::new();
    let (outcome, ()) = load.during(request, |load| {
        load.wait_for_more(1).unwrap();
        meanwhile(load, &mut downloads);
    });
    outcome
}

/// Starts a download, and reloads during it.
#[track_caller]
fn reload(world: &World, downloads: &mut Vec<Client>) {
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let token = world.pki(&Payload::v3());
        client.write(&Request::get("/long/long.bin").token(&token).bytes()).unwrap();
        client.wait_for_answer().unwrap();
        downloads.push(client);
    }
    world.nginx.reload().unwrap();
    assert_eq!(world.nginx.leaving_pids().len(), downloads.len(), "each keeps its worker alive");
}

/// Lets the load go on for a while, even if it stalls: that is what the tests look for.
fn beyond(load: &Running<'_>, time: Duration) {
    let before = load.ended();
    std::thread::sleep(time);
    eprintln!("{} requests ended in {time:?}", load.ended() - before);
}

/// All were answered with 200 and none waited long, and the old workers exit when they can.
#[track_caller]
fn assert_answered(world: &World, outcome: &Outcome, what: &str) {
    outcome.assert_only(&[200], what);
    // The list takes 0.4 seconds; a lease that is not given back costs 30.
    assert!(outcome.percentile(100) < Duration::from_secs(6), "{what}: {outcome}");
    world.nginx.wait_for_old_workers().unwrap();
    world.assert_quiet_log();
}
