//! Host names of the identity service: nginx resolves them when it starts, or again and again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keystone_testbed::dns::{NameAnswer, NameServer, NXDOMAIN, SERVFAIL};
use keystone_testbed::fake_clock::FakeClock;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::Payload;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

/// The status with a token that has to be asked about, and that lives as long as a clock is set.
fn status_online(world: &World) -> u16 {
    world.status(&world.uuid(&Payload::v3().expires_in(86_400)))
}

#[test]
fn a_host_name_is_resolved_when_nginx_starts() {
    let mut port = 0;
    let setup = World::setup().identity(|identity| port = identity.address().port());
    let world = setup.set("keystone_identity_uri", &format!("http://localhost:{port}")).start();
    assert_eq!(status_online(&world), 200);
    let state = world.identity.state();
    let host = format!("localhost:{port}");
    assert!(state.log.iter().all(|request| request.headers.text("Host") == Some(&host)));
}

/// A server that accepts connections, and does not serve.
struct Sick {
    asked: Arc<AtomicUsize>,
}

impl Sick {
    /// Starts one that does this with each request; false closes the connection.
    fn start(address: SocketAddr, on_request: fn(&mut TcpStream) -> bool) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        if !on_request(&mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        Self { asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn a_name_with_an_address_that_accepts_and_does_not_serve() {
    let addresses = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let sicknesses: [fn(&mut TcpStream) -> bool; 3] = [
        |_| false,
        |_| true,
        |stream| {
            stream.write_all(b"HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n").unwrap();
            true
        },
    ];
    for sickness in sicknesses {
        let names = NameServer::start(&addresses).unwrap();
        let mut port = 0;
        let mut world = World::setup()
            .identity(|identity| {
                port = identity.address().port();
                identity.stop();
            })
            .http(&format!("resolver {} ipv6=off;", names.address()))
            .set("keystone_identity_uri", &format!("http://localhost:{port}"))
            .set("keystone_auth_version", "v3")
            .set("keystone_read_timeout", "1s")
            .set("keystone_http_request_max_retries", "2")
            .start();
        let sick = Sick::start((addresses[1], port).into(), sickness);
        assert_eq!(status_online(&world), 503);
        assert_eq!(sick.asked(), 3, "{}", world.nginx.error_log());

        // The other address is the next, whatever order the resolver gives.
        world.identity.restart().unwrap();
        for _ in 0..3 {
            assert_eq!(status_online(&world), 200, "{}", world.nginx.error_log());
        }
        assert_eq!(sick.asked(), 3);

        // Within one request: the healthy one fails, then the sick one, and is asked again.
        world.identity.fault_validations_times(1, Fault::Status(500));
        assert_eq!(status_online(&world), 200, "{}", world.nginx.error_log());
        assert_eq!(sick.asked(), 4);
    }
}

/// A name that only the name server knows, so that there are no addresses of nginx's start.
const NAME: &str = "keystone.invalid";

/// A world in which each request makes a connection, and resolves `name` for it if the clock says
/// that the TTL of a minute has expired.
fn resolving(names: &NameServer, name: &str, clock: &FakeClock) -> Setup {
    let mut port = 0;
    World::setup()
        .identity(|identity| port = identity.address().port())
        .config(|config| clock.of(config))
        .http(&format!("resolver {} ipv6=off;", names.address()))
        .set("keystone_identity_uri", &format!("http://{name}:{port}"))
        .set("keystone_auth_version", "v3")
        .set("keystone_keepalive", "0")
        .set("keystone_http_request_max_retries", "0")
}

/// So many requests pass, and hardly wait: one of them for a second.
#[track_caller]
fn pass_soon(world: &World, requests: usize) {
    let start = Instant::now();
    for _ in 0..requests {
        assert_eq!(status_online(world), 200, "{}", world.nginx.error_log());
    }
    let after = start.elapsed();
    assert!(after < Duration::from_secs(8), "{after:?}");
}

#[test]
fn a_name_is_resolved_again_when_its_ttl_has_expired() {
    let (clock, healthy, other) = (FakeClock::new().unwrap(), [127, 0, 0, 1], [127, 0, 0, 2]);
    let names = NameServer::start(&[healthy.into()]).unwrap();
    let world = resolving(&names, NAME, &clock).start();
    let sick = Sick::start((other, world.identity.address().port()).into(), |_| false);
    pass_soon(&world, 2);
    names.answer(NameAnswer::Addresses(vec![other.into()]));
    pass_soon(&world, 2);
    clock.pass(120).unwrap();
    assert_eq!(status_online(&world), 503);
    assert_eq!(sick.asked(), 1);
    assert_eq!(names.asked(), 2);
}

#[test]
fn the_last_addresses_serve_while_the_name_cannot_be_resolved() {
    let addresses = [Ipv4Addr::LOCALHOST];
    for answer in [NameAnswer::Silence, NameAnswer::Code(SERVFAIL)] {
        let clock = FakeClock::new().unwrap();
        let names = NameServer::start(&addresses).unwrap();
        let world = resolving(&names, NAME, &clock).http("resolver_timeout 2s;").start();
        pass_soon(&world, 1);
        names.answer(answer.clone());
        clock.pass(120).unwrap();
        pass_soon(&world, 8);
        let kept = "the known addresses stay in use";
        world.nginx.wait_for_log(kept).unwrap();
        // Later it is resolved again, for which no request waits.
        for passed in [150, 180] {
            clock.pass(passed).unwrap();
            pass_soon(&world, 8);
        }
        let log = world.nginx.error_log();
        let told = log.lines().filter(|line| line.contains(kept));
        assert_eq!(told.count(), 1, "{answer:?}: {log}");

        names.answer(NameAnswer::Addresses(addresses.into()));
        let mut passed = 180;
        wait_for("the name to be resolved", || {
            passed += 30;
            clock.pass(passed).unwrap();
            pass_soon(&world, 1);
            world.nginx.error_log().contains("can be resolved again").then_some(())
        })
        .unwrap();
    }
}

#[test]
fn the_addresses_of_the_start_serve_while_the_name_was_never_resolved() {
    let (clock, names) = (FakeClock::new().unwrap(), NameServer::start(&[]).unwrap());
    names.answer(NameAnswer::Silence);
    pass_soon(&resolving(&names, "localhost", &clock).start(), 8);
}

#[test]
fn a_name_that_no_longer_exists() {
    let addresses = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let clock = FakeClock::new().unwrap();
    let names = NameServer::start(&addresses[..1]).unwrap();
    let world = resolving(&names, NAME, &clock).start();
    pass_soon(&world, 1);
    names.answer(NameAnswer::Code(NXDOMAIN));
    clock.pass(120).unwrap();
    assert_eq!(status_online(&world), 503);
    assert_eq!(status_online(&world), 503);

    // There are addresses of nginx's start, in /etc/hosts.
    let names = NameServer::start(&addresses[1..]).unwrap();
    let world = resolving(&names, "localhost", &clock).start();
    assert_eq!(status_online(&world), 503);
    names.answer(NameAnswer::Code(NXDOMAIN));
    clock.pass(240).unwrap();
    pass_soon(&world, 1);
}

#[test]
fn a_pending_resolution_does_not_keep_nginx_from_quitting() {
    let clock = FakeClock::new().unwrap();
    let names = NameServer::start(&[Ipv4Addr::LOCALHOST]).unwrap();
    let mut world = resolving(&names, NAME, &clock).start();
    pass_soon(&world, 1);
    names.answer(NameAnswer::Silence);
    clock.pass(120).unwrap();
    pass_soon(&world, 1);
    let start = Instant::now();
    assert!(world.nginx.quit().unwrap().success());
    let after = start.elapsed();
    assert!(after < Duration::from_secs(10), "{after:?}");
    let log = world.nginx.error_log();
    assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
}
