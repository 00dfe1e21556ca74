//! Workers that are killed: at any moment, and while they hold the lock of the zone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::load::{Load, Shown};
use keystone_testbed::mint::{md5, new_audit_id, new_uuid, Payload, Revoked};
use keystone_testbed::nginx::{kill, Nginx};
use keystone_testbed::random::Random;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

use crate::table::{row, times};

/// Two workers whose cache forgets after a second, so that the zone is written to all the time.
fn setup() -> Setup {
    World::setup()
        .workers(2)
        .config(|config| config.shared_socket())
        .set("keystone_token_cache_time", "1s")
        .set("keystone_auth_version", "v3")
        .location("= /metrics", "keystone_status prometheus;")
}

#[test]
fn workers_killed_at_any_moment() {
    let kills = times(12, 100);
    let world = setup().set("keystone_revocation_cache_time", "1s").start();
    // Workers die while they ask for the list, too: another one has to take over at once.
    world.identity.fault("/v3/auth/tokens/OS-PKI", Fault::Delay(Duration::from_millis(150)));
    let tokens: Vec<_> = (0..300).map(|_| world.pki(&Payload::v3())).collect();
    let request = |number: usize| match number % 10 {
        0 => Request::get("/").token(&new_uuid()),
        _ => Request::get("/").token(&tokens[number % tokens.len()]),
    };
    let mut random = Random::new(7);
    let (outcome, ()) = Load::on(world.nginx.address()).during(request, |load| {
        for _ in 0..kills {
            load.wait_for_more(5 + random.below(60)).unwrap();
            std::thread::sleep(Duration::from_micros(random.below(3_000) as u64));
            kill(random.pick(&two_workers(&world.nginx)), libc::SIGKILL).unwrap();
        }
        two_workers(&world.nginx);
        load.wait_for_more(50).unwrap();
    });
    // A client whose worker is killed gets no answer; no client gets a wrong one or waits long.
    let others = outcome.statuses.keys().any(|status| ![200, 401].contains(status));
    assert!(!others && outcome.unanswered() <= 4 * kills, "{outcome}");
    assert!(outcome.percentile(100) < Duration::from_secs(8), "{outcome}");
    let died_in_lock = assert_zone_works(&world);
    row(
        "worker killed (SIGKILL) at a random moment under writes",
        kills,
        "clients of the killed worker lose their connection, all others are answered; the zone \
         serves and takes new entries",
        format!("{outcome}; {died_in_lock} of the deaths in the lock of the zone"),
    );
}

#[test]
fn workers_killed_in_the_lock_of_the_zone() {
    let kills = times(5, 100);
    let world = setup().offline().start();
    let tokens: Vec<_> = (0..2_000).map(|_| world.pki(&Payload::v3())).collect();
    let request = |number: usize| Request::get("/").token(&tokens[number % tokens.len()]);
    let load = Load::on(world.nginx.address()).pause(Duration::ZERO).keep_alive();
    let (outcome, slowest) = load.during(request, |load| {
        load.wait_for_more(20).unwrap();
        let mut slowest = Duration::ZERO;
        for _ in 0..kills {
            kill_in_lock(&world.nginx);
            let start = Instant::now();
            load.wait_for_more(20).unwrap();
            slowest = slowest.max(start.elapsed());
        }
        slowest
    });
    let others = outcome.statuses.keys().any(|status| *status != 200);
    assert!(!others && outcome.unanswered() <= 4 * kills, "{outcome}");
    let died_in_lock = assert_zone_works(&world);
    assert_eq!(died_in_lock, kills);
    row(
        "worker killed while it holds the lock of the zone",
        kills,
        "the master frees the lock; the other worker goes on; the zone takes new entries",
        format!("{outcome}; slowest 20 requests after a death: {}", Shown(slowest)),
    );
}

/// Tokens are still cached, by each worker for all; gives how many workers died in the lock.
#[track_caller]
fn assert_zone_works(world: &World) -> usize {
    world.identity.heal();
    for _ in 0..50 {
        let token = world.pki(&Payload::v3());
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            assert_eq!(client.send(&Request::get("/").token(&token)).unwrap().status, 200);
        }
    }
    // One worker has validated it, and the other one has found it in the zone.
    let shared = wait_for("an entry that another worker has made", || {
        let token = world.pki(&Payload::v3());
        let pids = world.nginx.worker_pids();
        let caches = pids.iter().map(|pid| {
            let mut client = world.nginx.connect_worker(*pid).ok()?;
            let answer = client.send(&Request::get("/").token(&token)).ok()?;
            answer.header("X-Cache").map(str::to_owned)
        });
        let caches: Vec<_> = caches.collect::<Option<_>>()?;
        (caches == ["MISS", "HIT"]).then_some(())
    });
    shared.unwrap();
    let metrics = world.send(&Request::get("/metrics"));
    let metrics = keystone_testbed::metrics::Metrics::read(&metrics.text()).unwrap();
    assert_eq!(metrics.sum("keystone_identity_pending", &[]), 0.0);

    let log = world.nginx.error_log();
    let killed = |line: &&str| line.contains("exited on signal 9");
    let in_lock = |line: &&str| line.contains("shared memory zone \"keystone\" was locked by");
    let alerts = log.lines().filter(|line| line.contains("[alert]") || line.contains("[emerg]"));
    let others: Vec<_> = alerts.filter(|line| !killed(line) && !in_lock(line)).collect();
    assert!(others.is_empty(), "{others:?}");
    log.lines().filter(in_lock).count()
}

fn two_workers(nginx: &Nginx) -> [i32; 2] {
    wait_for("two workers", || nginx.worker_pids().try_into().ok()).unwrap()
}

/// Watches the lock of the zone until a worker holds it, and kills that worker there.
#[track_caller]
fn kill_in_lock(nginx: &Nginx) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let workers = two_workers(nginx);
    let zone = SharedZone::of(workers[0]).expect("the zone is mapped");
    while Instant::now() < deadline {
        // On an idle machine the lock is seen while it is taken; on a busy one, after a pause, a
        // worker is seen that was interrupted with it.
        std::thread::sleep(Duration::from_micros(100));
        let held = |_| zone.holder().filter(|pid| workers.contains(pid));
        let Some(holder) = (0..300).find_map(held) else { continue };
        // Until it stops, it may have given the lock back.
        kill(holder, libc::SIGSTOP).unwrap();
        wait_for("the worker to stop", || is_stopped(holder).then_some(())).unwrap();
        if zone.holder() == Some(holder) {
            kill(holder, libc::SIGKILL).unwrap();
            return;
        }
        kill(holder, libc::SIGCONT).unwrap();
    }
    panic!("no worker was found in the lock");
}

/// The snapshot of certificates and list is half written, as by a worker that died at it, and nginx is
/// reloaded before another one has fetched them. The master takes those on the disk. Workers still
/// use the names of the list of before meanwhile.
#[test]
fn a_snapshot_that_a_writer_left_half_written_and_a_reload() {
    let rounds = times(2, 20);
    let world = World::setup()
        .set("keystone_revocation_cache_time", "1h")
        .set("keystone_invalid_cache_time", "off")
        .set("keystone_cache_zone", "zone=large:192m")
        .set("keystone_read_timeout", "60s")
        .start();
    let revoked = world.pki(&Payload::v3());
    let entry = |id| Revoked { id: Some(id), audit_id: Some(new_audit_id()) };
    let others = (0..99_999).map(|_| entry(new_uuid()));
    world.identity.state().revoked = others.chain([entry(md5(&revoked))]).collect();
    assert_eq!(world.status(&revoked), 401);

    let certificate = fs::read(world.signing_dir().join("signing_cert.pem")).unwrap();
    let request = |_| Request::get("/").token(&revoked);
    let load = Load::on(world.nginx.address()).pause(Duration::ZERO).keep_alive();
    let (outcome, ()) = load.during(request, |load| {
        for _ in 0..rounds {
            let [worker] =
                wait_for("a worker", || world.nginx.worker_pids().try_into().ok()).unwrap();
            // What a writer leaves that dies at it.
            let zone = SharedZone::of(worker).unwrap();
            zone.make_snapshot_odd(&certificate).unwrap();
            world.nginx.reload().unwrap();
            world.nginx.wait_for_old_workers().unwrap();
            load.wait_for_more(20).unwrap();
        }
    });
    let others = outcome.statuses.keys().any(|status| *status != 401);
    assert!(!others, "a revoked token has passed: {outcome}");
    // A worker that quits closes kept connections, on which a request may just be coming.
    assert!(outcome.unanswered() <= 4 * rounds, "{outcome}");
    row(
        "revocation list left half written, as by a worker that dies, then a reload",
        rounds,
        "a revoked token is refused all along",
        outcome,
    );
}

/// The zone's memory, as a worker has it.
struct SharedZone {
    memory: File,
    start: u64,
    end: u64,
}

impl SharedZone {
    fn of(pid: i32) -> Option<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        // Nothing else that nginx shares here is as large.
        let (start, end) = maps.lines().filter(|line| line.contains("rw-s")).find_map(|line| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let start = u64::from_str_radix(start, 16).ok()?;
            let end = u64::from_str_radix(end, 16).ok()?;
            (end - start >= 1 << 20).then_some((start, end))
        })?;
        let memory =
            File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?;
        Some(Self { memory, start, end })
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, address).ok()?;
        Some(u64::from_ne_bytes(word))
    }

    /// The first word of the zone is the mutex of its slab pool: the process id of its holder.
    fn holder(&self) -> Option<i32> {
        i32::try_from(self.word(self.start)?).ok()
    }

    /// Makes the sequence number of the snapshot odd, as it is while somebody writes the snapshot.
    fn make_snapshot_odd(&self, certificate: &[u8]) -> Option<()> {
        let mut page = vec![0; 4 << 10];
        for address in (self.start..self.end).step_by(page.len()) {
            self.memory.read_exact_at(&mut page, address).ok()?;
            let Some(at) = memchr::memmem::find(&page, &certificate[..64]) else { continue };
            // Before the certificate: its length, the kind of list, the generation, the length of
            // the snapshot, and the number.
            let number = address + at as u64 - (8 + 1 + 8 + 8 + 8);
            let odd = self.word(number)? | 1;
            return self.memory.write_all_at(&odd.to_ne_bytes(), number).ok();
        }
        None
    }
}

fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}
