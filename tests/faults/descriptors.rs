//! Workers that have no descriptor left.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::load::{Load, Outcome};
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{Config, Nginx};
use keystone_testbed::process::descriptors;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

use crate::table::{row, times};

const CLIENTS: usize = 150;

#[test]
fn more_clients_than_descriptors() {
    let seconds = times(2, 30) as u64;
    let world =
        World::setup().config(few).location("= /pixel", "keystone_auth on; empty_gif;").start();
    let alone = Config::without_module().location("= /pixel", "empty_gif;");
    let alone = Nginx::start(&few(alone)).unwrap();
    std::fs::create_dir_all(alone.dir().join("html/files")).unwrap();
    std::fs::write(alone.dir().join("html/files/hello.txt"), "hello\n").unwrap();
    let signed: Vec<_> = (0..20).map(|_| world.pki(&Payload::v3())).collect();
    for (target, keeps, what) in [
        ("/files/hello.txt", false, "a static file, a connection for each request"),
        ("/files/hello.txt", true, "a static file, connections kept"),
        ("/pixel", true, "an answer from memory, connections kept"),
    ] {
        let request = |number: usize| Request::get(target).token(&signed[number % signed.len()]);
        let with = crowd(&world.nginx, keeps, seconds, request);
        let without = crowd(&alone, keeps, seconds, request);
        // A file that cannot be opened is nginx's own 500.
        compare(what, seconds, &with, &without, &[200, 500]);
    }
    assert_only_sockets_failed(&world);
}

#[test]
fn more_clients_than_descriptors_when_each_token_is_asked_about() {
    let seconds = times(2, 30) as u64;
    let world = World::setup()
        .config(few)
        .set("keystone_auth_version", "v3")
        .location("= /pixel", "keystone_auth on; empty_gif;")
        .start();
    let tokens: Vec<_> = (0..5_000).map(|_| world.uuid(&Payload::v3())).collect();
    let request = |number: usize| Request::get("/pixel").token(&tokens[number % tokens.len()]);
    // What needs a connection of its own without the module, too.
    let behind = format!("proxy_pass http://{};", world.upstream.address());
    let alone = Config::without_module().location("= /pixel", &behind);
    let alone = Nginx::start(&few(alone)).unwrap();
    let with = crowd(&world.nginx, false, seconds, request);
    let without = crowd(&alone, false, seconds, request);
    compare("new UUID tokens, or proxy_pass", seconds, &with, &without, &[200, 500, 503]);
    assert_only_sockets_failed(&world);
}

#[track_caller]
fn compare(what: &str, seconds: u64, with: &Outcome, without: &Outcome, statuses: &[u16]) {
    let others = with.statuses.keys().any(|status| !statuses.contains(status));
    assert!(!others && with.statuses.contains_key(&200), "{what}: {with}");
    let outcome =
        match without.unanswered() + without.statuses.keys().filter(|s| **s != 200).count() {
            0 => "nginx alone answers all",
            _ => "nginx alone lets clients wait or fails as well",
        };
    row(
        &format!("{CLIENTS} clients, worker_rlimit_nofile 64: {what}"),
        format!("{seconds} s"),
        outcome,
        format!("with the module: {with}; nginx alone: {without}"),
    );
}

#[test]
fn the_identity_service_cannot_be_asked_without_a_descriptor() {
    let rounds = times(2, 20);
    let world = World::setup()
        .config(few)
        .set("keystone_auth_version", "v3")
        .set("keystone_http_request_max_retries", "0")
        // Each question needs a descriptor.
        .set("keystone_keepalive", "0")
        .location("= /pixel", "keystone_auth on; empty_gif;")
        .start();
    let worker = world.nginx.worker_pids()[0];
    let ask = |token: &str| Request::get("/pixel").token(token);
    let cached = world.uuid(&Payload::v3());
    for _ in 0..rounds {
        let mut client = world.nginx.connect_worker(worker).unwrap();
        assert_eq!(client.send(&ask(&cached)).unwrap().status, 200);
        let idle = take_all(&world.nginx, worker);
        let unasked = world.uuid(&Payload::v3());
        expect::unavailable(&client.send(&ask(&unasked)).unwrap());
        assert_eq!(client.send(&ask(&cached)).unwrap().status, 200);
        drop(idle);
        let passes = || (client.send(&ask(&unasked)).ok()?.status == 200).then_some(());
        wait_for("the token to pass", passes).unwrap();
    }
    wait_for("the descriptors to be free", || (descriptors(worker).ok()? < 40).then_some(()))
        .unwrap();
    assert_eq!(world.nginx.worker_pids(), [worker]);
    assert_only_sockets_failed(&world);
    row(
        "no descriptor left for a question to the identity service",
        rounds,
        "503, never 401; cached tokens pass, the others as soon as a descriptor is free",
        format!("{} descriptors open at the end", descriptors(worker).unwrap()),
    );
}

/// nginx logs an alert for each socket that cannot be opened, the module's and its own.
#[track_caller]
fn assert_only_sockets_failed(world: &World) {
    let log = world.nginx.error_log();
    let alerts = log.lines().filter(|line| line.contains("[alert]"));
    let others: Vec<_> = alerts.filter(|line| !line.contains("socket() failed (24:")).collect();
    assert!(others.is_empty(), "{others:?}");
}

fn few(config: Config) -> Config {
    config.main("worker_rlimit_nofile 64;")
}

/// Connections that do nothing, more than the worker has descriptors for.
#[track_caller]
fn take_all(nginx: &Nginx, worker: i32) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(nginx.address()).unwrap();
    let idle: Vec<_> = (0..100).map(connect).collect();
    // One that is just being closed would be free again: those that wait then take it, as soon as
    // nginx accepts again.
    let mut taken_since = None;
    let all_taken = || match descriptors(worker).ok()? {
        64.. => {
            let since = *taken_since.get_or_insert_with(Instant::now);
            (since.elapsed() > Duration::from_millis(800)).then_some(())
        }
        _ => {
            taken_since = None;
            None
        }
    };
    wait_for("no descriptor to be free", all_taken).unwrap();
    idle
}

fn crowd(
    nginx: &Nginx,
    keeps: bool,
    seconds: u64,
    request: impl Fn(usize) -> Request + Sync,
) -> Outcome {
    let load = Load::on(nginx.address()).clients(CLIENTS).pause(Duration::from_millis(20));
    let load = load.patience(Duration::from_secs(seconds));
    let load = if keeps { load.keep_alive() } else { load };
    let (outcome, ()) = load.during(&request, |_| std::thread::sleep(Duration::from_secs(seconds)));
    // The clients have gone: the next one is served.
    let served = || nginx.send(&request(0)).is_ok_and(|answer| answer.status == 200).then_some(());
    wait_for("a request to be served again", served).unwrap();
    outcome
}
