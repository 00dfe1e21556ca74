//! The identity service fails, in each way that a service can, while nginx is under load.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Identity};
use keystone_testbed::load::{Load, Outcome, Shown};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

use crate::table::{row, times};

/// What happens to the identity service.
enum Outage {
    /// Connections are neither accepted nor refused.
    BacklogFull,
    /// The identity service refuses connections.
    Down,
    /// The identity service stops and starts again.
    Flaps,
    /// The identity service answers with this fault.
    Answers(Fault),
}

#[test]
fn black_hole_that_drops_connections() {
    cached_tokens_pass("black hole: SYN dropped", Outage::BacklogFull);
}

#[test]
fn black_hole_that_accepts_connections() {
    cached_tokens_pass("black hole: accepts, says nothing", Outage::Answers(Fault::Silence));
}

#[test]
fn connections_refused() {
    cached_tokens_pass("connections refused", Outage::Down);
}

#[test]
fn flapping() {
    cached_tokens_pass("flapping, 5 times a second", Outage::Flaps);
}

#[test]
fn slow_answers() {
    let slow = Fault::Delay(Duration::from_secs(3));
    cached_tokens_pass("slow: 3 s an answer", Outage::Answers(slow));
}

#[test]
fn closed_without_an_answer() {
    cached_tokens_pass("closed without an answer", Outage::Answers(Fault::CloseBeforeAnswer));
}

#[test]
fn closed_silently_after_each_answer() {
    let fault = Fault::CloseSilently;
    cached_tokens_pass("kept connections closed silently", Outage::Answers(fault));
}

#[test]
fn reset() {
    cached_tokens_pass("connection reset", Outage::Answers(Fault::Reset));
}

#[test]
fn one_byte_a_second() {
    let drip = Fault::Drip(Duration::from_secs(1));
    cached_tokens_pass("one byte a second", Outage::Answers(drip));
}

#[test]
fn half_an_answer() {
    cached_tokens_pass("half an answer", Outage::Answers(Fault::Half));
}

#[test]
fn status_500() {
    cached_tokens_pass("status 500", Outage::Answers(Fault::Status(500)));
}

/// With a list that `keystone_revocation_stale` tolerates, signed tokens, cached or new, and cached
/// tokens of other formats are served as before; a new token of another format passes or gets 503,
/// and is never refused as invalid; after the outage it passes.
#[track_caller]
fn cached_tokens_pass(name: &str, outage: Outage) {
    let (calm, time) = (times(1, 10) as u64, times(4, 20) as u64);
    let mut world = World::setup()
        .workers(2)
        .config(|config| config.shared_socket())
        .set("keystone_auth_version", "v3")
        .set("keystone_revocation_cache_time", "1s")
        .set("keystone_revocation_stale", "1h")
        .set("keystone_connect_timeout", "2s")
        .set("keystone_read_timeout", "2s")
        .set("keystone_http_request_max_retries", "1")
        .location("/plain/", "alias @DIR@/html/files/;")
        .start();
    let payload = Payload::v3().expires_in(7_200);
    let signed: Vec<_> = (0..20).map(|_| world.pki(&payload)).collect();
    let fresh: Vec<_> = (0..times(200, 1_000)).map(|_| world.pki(&payload)).collect();
    let known: Vec<_> = (0..20).map(|_| world.uuid(&payload)).collect();
    let unasked: Vec<_> = (0..1_000).map(|_| world.uuid(&payload)).collect();
    let request = |number: usize| {
        let token = match number % 10 {
            9 => &fresh[number / 10 % fresh.len()],
            at if at % 2 == 0 => &signed[number % signed.len()],
            _ => &known[number % known.len()],
        };
        Request::get("/files/hello.txt").token(token)
    };
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        for token in signed.iter().chain(&known) {
            let request = Request::get("/files/hello.txt").token(token);
            assert_eq!(client.send(&request).unwrap().status, 200);
        }
    }

    let load = Load::on(world.nginx.address()).every(Duration::from_millis(10)).keep_alive();
    let (before, ()) = load.during(request, |_| std::thread::sleep(Duration::from_secs(calm)));
    before.assert_only(&[200], &format!("{name}: before"));
    // What the machine does to any request of nginx at the same time.
    let unprotected = load.clone().clients(2);
    // Two tries, each with a time-out of its own for a whole answer.
    let newcomers = Load::on(world.nginx.address()).clients(1).patience(Duration::from_secs(60));
    let newcomers = newcomers.pause(Duration::from_millis(200));
    let new = |number: usize| Request::get("/files/hello.txt").token(&unasked[number % 1_000]);
    let identity = &mut world.identity;
    let mut fail = || hold(identity, &outage, Duration::from_secs(time));
    let (during, (plain, (new, ()))) = load.during(request, |_| {
        let plain = |_| Request::get("/plain/hello.txt");
        unprotected.during(plain, |_| newcomers.during(new, |_| fail()))
    });
    during.assert_only(&[200], name);
    plain.assert_only(&[200], name);
    new.assert_only(&[200, 503], name);
    assert_as_fast(name, &before, &during, &plain);

    wait_for("a new token to pass", || (world.status(&world.uuid(&payload)) == 200).then_some(()))
        .unwrap();
    assert_eq!(world.status(&new_uuid()), 401);
    assert_eq!(world.nginx.worker_pids().len(), 2);
    world.assert_quiet_log();
    let p99 = |outcome: &Outcome| Shown(outcome.percentile(99));
    row(
        &format!("identity service: {name}"),
        format!("{time} s"),
        "cached tokens and signed ones are served; new others 200 or 503; all as before afterwards",
        format!(
            "p99 {} before, {} meanwhile, {} meanwhile of unprotected files; {during}; new tokens: {new}",
            p99(&before),
            p99(&during),
            p99(&plain),
        ),
    );
}

/// The 99th percentile is within twice that of before, or of unprotected files at the same time
/// where the machine has become slower. In a short run a second is no failure: it shows whether
/// anything waits for the identity service.
#[track_caller]
fn assert_as_fast(name: &str, before: &Outcome, during: &Outcome, plain: &Outcome) {
    let floor = Duration::from_millis(times(500, 20) as u64);
    let bound = before.percentile(99).max(plain.percentile(99)).max(floor) * 2;
    assert!(during.percentile(99) <= bound, "{name}: {during}; before {before}; plain {plain}");
}

/// Has the identity service fail for a while, and heals it.
fn hold(identity: &mut Identity, outage: &Outage, time: Duration) {
    match outage {
        Outage::BacklogFull => {
            identity.stop();
            let hole = BlackHole::open(identity.address());
            std::thread::sleep(time);
            drop(hole);
            identity.restart().unwrap();
        }
        Outage::Down => {
            identity.stop();
            std::thread::sleep(time);
            identity.restart().unwrap();
        }
        Outage::Flaps => {
            for _ in 0..time.as_millis() / 200 {
                identity.stop();
                std::thread::sleep(Duration::from_millis(100));
                identity.restart().unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Outage::Answers(fault) => {
            identity.fault("/", fault.clone());
            std::thread::sleep(time);
            identity.heal();
        }
    }
}

/// A port that has no room for one more connection: the system drops what asks for one.
struct BlackHole {
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn open(address: SocketAddr) -> Self {
        let bound = || TcpListener::bind(address).ok();
        let listener = wait_for("the port of the identity service", bound).unwrap();
        // SAFETY: the descriptor is open; listen touches no memory.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let mut queued = Vec::new();
        while let Ok(tcp) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(tcp);
            assert!(queued.len() < 100, "the queue has no end");
        }
        Self { _listener: listener, _queued: queued }
    }
}
