//! The token cache: what it remembers, for how long, and for whom.

use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::kill;
use keystone_testbed::world::{stranger, World};
use keystone_testbed::{now, wait_for};

fn ask(world: &World, token: &str) -> (u16, String) {
    let answer = world.send(&Request::get("/").token(token));
    (answer.status, answer.header("X-Cache").unwrap_or("none").to_owned())
}

fn ask_worker(world: &World, pid: i32, token: &str) -> (u16, String) {
    let mut client = world.nginx.connect_worker(pid).unwrap();
    let answer = client.send(&Request::get("/").token(token)).unwrap();
    assert_eq!(answer.header("X-Worker"), Some(pid.to_string().as_str()));
    (answer.status, answer.header("X-Cache").unwrap_or("none").to_owned())
}

fn hit(status: u16) -> (u16, String) {
    (status, "HIT".into())
}

fn miss(status: u16) -> (u16, String) {
    (status, "MISS".into())
}

#[test]
fn all_workers_share_it() {
    let world = World::setup().offline().workers(3).start();
    let (good, bad) = (world.pki(&Payload::v3()), world.pki(&Payload::v3().expires_in(-5)));
    let workers = world.nginx.worker_pids();
    assert_eq!(ask_worker(&world, workers[0], &good), miss(200));
    assert_eq!(ask_worker(&world, workers[0], &bad), miss(401));
    for pid in workers {
        assert_eq!(ask_worker(&world, pid, &good), hit(200));
        assert_eq!(ask_worker(&world, pid, &good), hit(200));
        assert_eq!(ask_worker(&world, pid, &bad), hit(401));
    }
}

#[test]
fn it_survives_a_reload() {
    let mut world = World::setup().offline().workers(2).start();
    let token = world.pki(&Payload::v3());
    assert_eq!(ask(&world, &token), miss(200));
    world.nginx.reload().unwrap();
    assert_eq!(ask(&world, &token), hit(200));
    // Settings that are not the zone's do not matter.
    world.reconfigure(|config| config.set("keystone_token_cache_time", "200s").workers(2));
    for pid in world.nginx.worker_pids() {
        assert_eq!(ask_worker(&world, pid, &token), hit(200));
    }
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn another_size_begins_anew() {
    let mut world = World::setup().offline().set("keystone_cache_zone", "zone=k:2m").start();
    let token = world.pki(&Payload::v3());
    assert_eq!(ask(&world, &token), miss(200));
    world.reconfigure(|config| config.set("keystone_cache_zone", "zone=k:4m"));
    assert_eq!(ask(&world, &token), miss(200));
    assert_eq!(ask(&world, &token), hit(200));
}

#[test]
fn token_cache_time() {
    let world = World::setup().offline().set("keystone_token_cache_time", "2s").start();
    let token = world.pki(&Payload::v3());
    let start = Instant::now();
    assert_eq!(ask(&world, &token), miss(200));
    let kept = Instant::now();
    let mut last_hit = kept;
    let expired = wait_for("the entry to end", || {
        let asked = Instant::now();
        match ask(&world, &token) {
            (200, cache) if cache == "HIT" => {
                last_hit = asked;
                None
            }
            other => Some(other),
        }
    });
    assert_eq!(expired.unwrap(), (200, "EXPIRED".into()));
    // Times are kept in whole seconds.
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let after = last_hit - kept;
    assert!(after < Duration::from_millis(2100), "a hit {after:?} later");
    assert_eq!(ask(&world, &token), hit(200));
}

#[test]
fn token_cache_time_off() {
    let world = World::setup().offline().set("keystone_token_cache_time", "off").start();
    let (good, bad) = (world.pki(&Payload::v3()), world.pki(&Payload::v3().expires_in(-5)));
    for _ in 0..3 {
        let (status, cache) = ask(&world, &good);
        assert_eq!(status, 200);
        assert_ne!(cache, "HIT");
    }
    assert_eq!(ask(&world, &bad).0, 401);
    assert_eq!(ask(&world, &bad), hit(401));
}

#[test]
fn invalid_cache_time() {
    let world = World::setup().offline().set("keystone_invalid_cache_time", "3s").start();
    let bad = world.pki(&Payload::v3().expires_in(-5));
    assert_eq!(ask(&world, &bad), miss(401));
    assert_eq!(ask(&world, &bad), hit(401));
    let answer = world.send(&Request::get("/").token(&bad));
    assert_eq!(answer.header("X-Result"), Some("expired"));
    wait_for("the refusal to be forgotten", || (ask(&world, &bad).1 != "HIT").then_some(()))
        .unwrap();
}

#[test]
fn invalid_cache_time_off() {
    let world = World::setup().offline().set("keystone_invalid_cache_time", "off").start();
    let bad = world.pki(&Payload::v3().expires_in(-5));
    for _ in 0..3 {
        let (status, cache) = ask(&world, &bad);
        assert_eq!(status, 401);
        assert_ne!(cache, "HIT");
    }
}

#[test]
fn never_past_a_tokens_own_end() {
    let world = World::setup().offline().workers(2).start();
    let ends = now() + 4;
    let token = world.pki(&Payload::v3().expires_at(ends));
    for pid in world.nginx.worker_pids() {
        assert_eq!(ask_worker(&world, pid, &token).0, 200);
    }
    assert_eq!(ask(&world, &token), hit(200));
    let mut last_passed = now();
    wait_for("the token to end", || {
        let asked = now();
        let (status, _) = ask(&world, &token);
        if status == 200 {
            last_passed = asked;
        }
        (status == 401).then_some(())
    })
    .unwrap();
    assert!(now() >= ends, "{} s early", ends - now());
    assert!(last_passed <= ends, "{} s late", last_passed - ends);
    for pid in world.nginx.worker_pids() {
        assert_eq!(ask_worker(&world, pid, &token).0, 401);
    }
    let answer = world.send(&Request::get("/").token(&token));
    assert_eq!(answer.header("X-Result"), Some("expired"));
}

#[test]
fn each_token_has_its_own_answer() {
    let world = World::setup().offline().workers(2).start();
    let users: Vec<_> = (0..40)
        .map(|n| {
            let (user, project) = (format!("user{n}"), format!("project{n}"));
            let payload = Payload::v3().user(&user, &user).project(&project, &project);
            (user, world.pki(&payload))
        })
        .collect();
    for _ in 0..3 {
        for (user, token) in &users {
            let seen = world.seen(&Request::get("/").token(token));
            assert_eq!(seen.header("X-User-Id").as_deref(), Some(user.as_str()));
        }
    }
    // Almost the same text is another token.
    let (_, token) = &users[0];
    assert_eq!(ask(&world, token), hit(200));
    for length in [token.len() - 1, token.len() - 4, token.len() / 2, 20] {
        assert_eq!(ask(&world, &token[..length]).0, 401);
    }
    assert_eq!(ask(&world, &format!("{token}A")).0, 401);
}

#[test]
fn a_full_zone_forgets_the_least_recently_used() {
    let world =
        World::setup().offline().workers(2).set("keystone_cache_zone", "zone=k:256k").start();
    let used = world.pki(&Payload::v3());
    let unused = world.pki(&Payload::v3());
    let [one, other] = world.nginx.worker_pids()[..] else { panic!("two workers were asked for") };
    assert_eq!(ask_worker(&world, one, &used), miss(200));
    assert_eq!(ask_worker(&world, one, &unused), miss(200));
    let mut client = world.nginx.connect_worker(one).unwrap();
    for number in 0..2000 {
        let answer = client.send(
            &Request::get("/files/hello.txt")
                .token(&world.pki(&Payload::v3().without("/catalog").roles(&[&"r".repeat(200)]))),
        );
        assert_eq!(answer.unwrap().status, 200);
        if number % 20 == 0 {
            let answer = client.send(&Request::get("/files/hello.txt").token(&used)).unwrap();
            assert_eq!(answer.header("X-Cache"), Some("HIT"), "after {number} others");
        }
    }
    // The other worker has seen neither: what it knows, it knows from the zone.
    assert_eq!(ask_worker(&world, other, &used), hit(200));
    assert_eq!(ask_worker(&world, other, &unused), miss(200));
    let log = world.nginx.error_log();
    assert!(!log.contains("[crit]") && !log.contains("[alert]"), "{log}");
}

#[test]
fn garbage_does_not_push_out_valid_tokens() {
    let world = World::setup().offline().set("keystone_cache_zone", "zone=k:256k").start();
    let good: Vec<_> = (0..20).map(|_| world.pki(&Payload::v3())).collect();
    for token in &good {
        assert_eq!(ask(&world, token), miss(200));
    }
    let mut client = world.nginx.connect().unwrap();
    let expired = Payload::v3().expires_in(-9);
    for number in 0..5000 {
        let garbage = match number % 50 {
            0 => world.pki(&expired.clone().audit_ids(&[&number.to_string()])),
            _ => format!("MII{}", new_uuid()),
        };
        let answer = client.send(&Request::get("/files/hello.txt").token(&garbage)).unwrap();
        assert_eq!(answer.status, 401);
    }
    for token in &good {
        assert_eq!(ask(&world, token), hit(200));
    }
}

#[test]
fn a_token_too_large_for_the_zone_still_passes() {
    let world = World::setup().offline().set("keystone_cache_zone", "zone=k:256k").start();
    let roles: Vec<String> = (0..900).map(|n| format!("a-rather-long-role-{n:05}")).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let token = world.pkiz(&Payload::v3().without("/catalog").roles(&roles));
    for _ in 0..3 {
        let answer = world.send(&Request::get("/files/hello.txt").token(&token));
        assert_eq!(answer.status, 200);
    }
    let small = world.pki(&Payload::v3());
    assert_eq!(ask(&world, &small).0, 200);
    assert_eq!(ask(&world, &small), hit(200));
}

#[test]
fn a_missing_token_is_no_lookup() {
    let world = World::setup().offline().start();
    let answer = world.send(&Request::get("/"));
    assert_eq!(answer.status, 401);
    assert!([None, Some("BYPASS")].contains(&answer.header("X-Cache")), "{:?}", answer.headers);
}

#[test]
fn a_refusal_is_not_remembered_for_another_server() {
    // Two identity services with their own certificates behind one nginx and one zone.
    let other_pki = stranger();
    let other = keystone_testbed::identity::Identity::start(other_pki).unwrap();
    let port = keystone_testbed::port::Port::free().unwrap();
    let server = format!(
        "server {{ listen {}; keystone_auth on; root @DIR@/html;
            keystone_identity_uri {}; keystone_signing_dir @DIR@/other; }}",
        port.address(),
        other.uri()
    );
    let world = World::setup().config(|config| config.http(&server)).start();
    let ask_other = |token: &str| {
        let request = Request::get("/files/hello.txt").token(token);
        keystone_testbed::http::send(port.address(), &request).unwrap().status
    };
    let (ours, theirs) =
        (world.pki(&Payload::v3()), Payload::v3().pki(&other_pki.signing).unwrap());
    for _ in 0..2 {
        assert_eq!(world.status(&ours), 200);
        assert_eq!(ask_other(&ours), 401);
        assert_eq!(ask_other(&theirs), 200);
        assert_eq!(world.status(&theirs), 401);
    }
}

#[test]
fn workers_that_are_killed_while_they_write() {
    let world =
        World::setup().offline().workers(2).set("keystone_cache_zone", "zone=k:512k").start();
    let kept = world.pki(&Payload::v3());
    assert_eq!(ask(&world, &kept), miss(200));
    let tokens: Vec<_> = (0..600).map(|_| world.pki(&Payload::v3().without("/catalog"))).collect();
    let address = world.nginx.address();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (stop, tokens) = (&stop, &tokens);
            scope.spawn(move || {
                for at in (thread..).step_by(7) {
                    if stop.load(std::sync::atomic::Ordering::SeqCst) {
                        return;
                    }
                    let request =
                        Request::get("/files/hello.txt").token(&tokens[at % tokens.len()]);
                    // A worker that was killed breaks its connections; a wrong answer is a failure.
                    if let Ok(answer) = keystone_testbed::http::send(address, &request) {
                        assert_eq!(answer.status, 200);
                    }
                }
            });
        }
        for round in 0..12 {
            std::thread::sleep(Duration::from_millis(40 + round * 7));
            let pids = world.nginx.worker_pids();
            let killed = &pids[..1 + round as usize % 2];
            for pid in killed {
                let _ = kill(*pid, libc::SIGKILL);
            }
            let back = || {
                let now = world.nginx.worker_pids();
                (now.len() == 2 && now.iter().all(|pid| !killed.contains(pid))).then_some(())
            };
            wait_for("the workers to come back", back).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    // All of it must still work, in each worker, and nothing may hang on a dead one's lock.
    for pid in world.nginx.worker_pids() {
        for token in tokens.iter().take(50).chain([&kept]) {
            assert_eq!(ask_worker_quickly(&world, pid, token), 200);
        }
        let fresh = world.pki(&Payload::v3());
        assert_eq!(ask_worker(&world, pid, &fresh), miss(200));
        assert_eq!(ask_worker(&world, pid, &fresh), hit(200));
    }
    expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
}

fn ask_worker_quickly(world: &World, pid: i32, token: &str) -> u16 {
    let client = world.nginx.connect_worker(pid).unwrap();
    let mut client = client.timeout(Duration::from_secs(2)).unwrap();
    client.send(&Request::get("/files/hello.txt").token(token)).unwrap().status
}
