//! memcached is down, stuck, or not memcached at all: slower, never wrong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::Nginx;
use keystone_testbed::world::World;
use keystone_testbed::{wait_for, wait_within};

use super::fleet::{asked, hurry, known, knows, shares, unhurried, user_at, Fleet};

/// What a request may take at most, also on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the log says of a server that has failed.
const DOWN: &str = ", not used for 15 s";

/// A server is left alone for 15 seconds; this is for machines that are busy.
const PAUSE: Duration = Duration::from_secs(60);

/// A gateway lets a new token pass, in time.
#[track_caller]
fn is_right(world: &World, gateway: &Nginx) {
    let token = known(world, &Payload::v3());
    let start = Instant::now();
    assert_eq!(user_at(gateway, &token), "user_id1");
    let took = start.elapsed();
    assert!(took < PATIENCE, "it took {took:?}");
    assert_eq!(asked(world, &token), 1);
}

/// The level of the first line in the error log with these words.
fn level_of(gateway: &Nginx, words: &str) -> String {
    let log = gateway.error_log();
    let line = log.lines().find(|line| line.contains(words)).unwrap();
    line.split(' ').nth(2).unwrap().to_owned()
}

#[test]
fn it_is_killed() {
    unhurried(|| {
        let mut fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        fleet.second_knows(&token, "user_id1");
        let lost = fleet.told(&Payload::v3());
        fleet.memcached.stop();
        let start = Instant::now();
        fleet.second_asks(&lost, "user_id1");
        assert!(start.elapsed() < PATIENCE);
        // What it had from there is its own now.
        fleet.second_knows(&token, "user_id1");
        for gateway in [&fleet.world.nginx, &fleet.second] {
            for _ in 0..5 {
                is_right(&fleet.world, gateway);
            }
        }
        // Each has one worker, which tells it once.
        let told = |nginx: &Nginx| nginx.error_log().matches(DOWN).count();
        for gateway in [&fleet.world.nginx, &fleet.second] {
            gateway.wait_for_log(DOWN).unwrap();
            assert_eq!(told(gateway), 1);
            assert_eq!(level_of(gateway, DOWN), "[error]");
        }

        fleet.memcached.restart().unwrap();
        wait_within(PAUSE, "sharing", || {
            let token = known(&fleet.world, &Payload::v3());
            assert_eq!(user_at(&fleet.world.nginx, &token), "user_id1");
            // It is stored after the request was answered.
            thread::sleep(Duration::from_millis(100));
            assert_eq!(user_at(&fleet.second, &token), "user_id1");
            (asked(&fleet.world, &token) == 1).then_some(())
        })
        .unwrap();
        for gateway in [&fleet.world.nginx, &fleet.second] {
            gateway.wait_for_log("is back").unwrap();
            assert_eq!(level_of(gateway, "is back"), "[notice]");
        }
    });
}

#[test]
fn it_is_restarted_between_two_requests() {
    unhurried(|| {
        // The connections that were kept are closed: that is no reason to leave it alone.
        let mut fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        fleet.second_knows(&token, "user_id1");
        fleet.memcached.restart().unwrap();
        let token = fleet.told(&Payload::v3());
        fleet.second_knows(&token, "user_id1");
        for gateway in [&fleet.world.nginx, &fleet.second] {
            assert!(!gateway.error_log().contains(DOWN));
        }
    });
}

#[test]
fn it_is_stuck() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        fleet.memcached.freeze().unwrap();
        let start = Instant::now();
        fleet.second_asks(&token, "user_id1");
        assert!(start.elapsed() < PATIENCE);
        for gateway in [&fleet.world.nginx, &fleet.second] {
            let start = Instant::now();
            for _ in 0..10 {
                is_right(&fleet.world, gateway);
            }
            // Not ten times a time-out: it is left alone.
            assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
            gateway.wait_for_log(DOWN).unwrap();
        }
        // Many at once wait no longer than one.
        let third = fleet.world.gateway(|config| config);
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| is_right(&fleet.world, &third));
            }
        });
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());

        fleet.memcached.thaw().unwrap();
        wait_within(PAUSE, "return", || {
            is_right(&fleet.world, &fleet.second);
            fleet.second.error_log().contains("is back").then_some(())
        })
        .unwrap();
        // An answer that came too late is not used.
        fleet.memcached.flush().unwrap();
        wait_within(PAUSE, "entry", || {
            is_right(&fleet.world, &fleet.second);
            (!fleet.memcached.names().unwrap().is_empty()).then_some(())
        })
        .unwrap();
        is_right(&fleet.world, &fleet.world.nginx);
    });
}

#[test]
fn gateways_end_while_it_is_stuck() {
    unhurried(|| {
        let mut fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        fleet.second_knows(&token, "user_id1");
        fleet.memcached.freeze().unwrap();
        is_right(&fleet.world, &fleet.second);
        fleet.second.reload().unwrap();
        is_right(&fleet.world, &fleet.second);
        fleet.second.wait_for_old_workers().unwrap();
        let start = Instant::now();
        assert!(fleet.second.quit().unwrap().success());
        assert!(start.elapsed() < PATIENCE);
        let log = fleet.second.error_log();
        assert!(!log.contains("[alert]") && !log.contains("[crit]"), "{log}");
    });
}

#[test]
fn one_of_several_is_killed() {
    unhurried(|| {
        let mut servers = [Memcached::start().unwrap(), Memcached::start().unwrap()];
        let all: Vec<_> = servers.iter().collect();
        let world = World::setup().config(|config| shares(config, "encrypt", &all)).start();
        let counts = |servers: &[Memcached; 2]| {
            servers.each_ref().map(|it| it.names().map_or(0, |names| names.len()))
        };

        // Which token lies where.
        let mut tokens = [Vec::new(), Vec::new()];
        for entries in 1..=24 {
            let before = counts(&servers);
            let token = known(&world, &Payload::v3());
            assert_eq!(world.status(&token), 200);
            let after = wait_for("the entry", || {
                let now = counts(&servers);
                (now.iter().sum::<usize>() == entries).then_some(now)
            });
            let after = after.unwrap_or_else(|_| hurry());
            tokens[usize::from(after[1] > before[1])].push(token);
        }
        // There is hardly a chance in a hundred thousand that one has none or one only.
        assert!(tokens.iter().all(|tokens| tokens.len() > 1), "all lie on one server");
        let gateway = world.gateway(|config| config);
        for token in tokens.iter().flatten() {
            knows(&world, &gateway, token);
        }

        servers[0].stop();
        let gateway = world.gateway(|config| config);
        for token in &tokens[0] {
            let start = Instant::now();
            assert_eq!(user_at(&gateway, token), "user_id1");
            assert!(start.elapsed() < PATIENCE);
            assert_eq!(asked(&world, token), 2);
        }
        for token in &tokens[1] {
            knows(&world, &gateway, token);
        }
        // The other one has taken over, so they are asked about a third time only where a gateway
        // finds out that the first one is down.
        let gateway = world.gateway(|config| config);
        for token in &tokens[0] {
            assert_eq!(user_at(&gateway, token), "user_id1");
        }
        let again = tokens[0].iter().filter(|token| asked(&world, token) > 2).count();
        if again == tokens[0].len() {
            hurry();
        }
        for token in &tokens[1] {
            knows(&world, &gateway, token);
        }

        servers[0].restart().unwrap();
        wait_within(PAUSE, "entry on the server that came back", || {
            is_right(&world, &gateway);
            (counts(&servers)[0] > 0).then_some(())
        })
        .unwrap();
        gateway.wait_for_log("is back").unwrap();
    });
}

#[test]
fn something_else_is_there() {
    let nonsense: [&'static [u8]; 9] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"VALUE another 0 3\r\nabc\r\nEND\r\n",
        b"VALUE ",
        b"END\r\nEND\r\n",
        b"STORED\r\n",
        b"ERROR\r\n",
        b"SERVER_ERROR out of memory\r\n",
        b"\0\xff\n",
    ];
    for answer in nonsense {
        let address = pretend(move |_| Some(answer));
        let world = World::setup().set("keystone_memcached_servers", &address).start();
        for _ in 0..5 {
            is_right(&world, &world.nginx);
        }
        assert!(!world.nginx.error_log().contains("[alert]"));
    }
}

#[test]
fn it_has_no_room() {
    // As with `-M`: each new token is looked for, which it answers, and put there, which it
    // refuses.
    let address = pretend(|command| match command.get(..4) {
        Some(b"get ") => Some(b"END\r\n"),
        Some(b"set ") => Some(b"SERVER_ERROR out of memory storing object\r\n"),
        _ => None,
    });
    let world = World::setup().set("keystone_memcached_servers", &address).start();
    for _ in 0..20 {
        is_right(&world, &world.nginx);
    }
    let log = world.nginx.wait_for_log("refuses: SERVER_ERROR out of memory").unwrap();
    assert_eq!(log.matches("refuses").count(), 1, "{log}");
    assert_eq!(level_of(&world.nginx, "refuses"), "[error]");
}

#[test]
fn something_that_never_ends_is_there() {
    for (size, pause) in [(1 << 16, Duration::ZERO), (1, Duration::from_millis(50))] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    while stream.write_all(&vec![b'x'; size]).is_ok() {
                        thread::sleep(pause);
                    }
                });
            }
        });
        let world = World::setup().set("keystone_memcached_servers", &address).start();
        for _ in 0..5 {
            is_right(&world, &world.nginx);
        }
        world.nginx.wait_for_log(DOWN).unwrap();
    }
}

/// Starts what answers each piece of a command with that of `answer`, or keeps silent, and hangs up
/// on an empty one; gives its address.
fn pretend(answer: impl Fn(&[u8]) -> Option<&'static [u8]> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It ends with the process.
    thread::spawn(move || listener.incoming().flatten().for_each(|it| talk(it, &answer)));
    address
}

fn talk(mut stream: TcpStream, answer: &impl Fn(&[u8]) -> Option<&'static [u8]>) {
    let mut command = [0; 1 << 16];
    while let Ok(received @ 1..) = stream.read(&mut command) {
        let Some(answer) = answer(&command[..received]) else { continue };
        if answer.is_empty() || stream.write_all(answer).is_err() {
            return;
        }
    }
}
