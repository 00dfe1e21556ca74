//! A flood of tokens that the identity service does not know: one client's, and what the others
//! notice of it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::metrics::Metrics;
use keystone_testbed::mint::{new_fernet, new_uuid, Payload};
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};
use serde_json::json;

const ATTACKER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// With the status at `/status`, and the address of the client taken from `X-Real-IP` where there
/// is one.
fn setup() -> Setup {
    World::setup()
        .set("keystone_read_timeout", "1m")
        .location("= /status", "keystone_status;")
        .config(|config| config.server("set_real_ip_from 127.0.0.0/8; real_ip_header X-Real-IP;"))
}

/// Sends a request from an address; the answer is read later.
fn start(world: &World, source: Ipv4Addr, request: &Request) -> Client {
    let mut client = Client::connect_from(source, world.nginx.address()).unwrap();
    client.write(&request.bytes()).unwrap();
    client
}

fn with(token: &str) -> Request {
    Request::get("/").token(token)
}

fn ask(world: &World, source: Ipv4Addr, token: &str) -> u16 {
    start(world, source, &with(token)).read(false).unwrap().status
}

/// How many requests each bound has refused.
fn limited(world: &World) -> serde_json::Value {
    let answer = world.send(&Request::get("/status").header("Accept", "application/json"));
    answer.json().unwrap()["services"][0]["limited"].clone()
}

#[test]
fn one_address_cannot_take_all_validations() {
    let world = setup().set("keystone_max_pending", "40").start();
    let token = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let flood: Vec<_> = (0..60).map(|_| start(&world, ATTACKER, &with(&new_fernet()))).collect();
    world.wait_for_validations(10);
    // Those beyond a quarter are answered while the others wait.
    wait_for("the others to be refused", || {
        (limited(&world)["max_pending_per_address"] == 50).then_some(())
    })
    .unwrap();
    let mut waiting = Vec::new();
    let mut refused = 0;
    for client in flood {
        let mut client = client.timeout(Duration::from_millis(200)).unwrap();
        match client.read(false) {
            Ok(answer) => {
                expect::unavailable(&answer);
                assert_eq!(answer.header("X-Result"), Some("identity_unavailable"));
                refused += 1;
            }
            Err(_) => waiting.push(client.timeout(Duration::from_secs(10)).unwrap()),
        }
    }
    assert_eq!((waiting.len(), refused), (10, 50));
    assert_eq!(limited(&world), json!({"max_pending": 0, "max_pending_per_address": 50}));

    // Another address is served as if nothing was.
    let mut other = start(&world, OTHER, &with(&token));
    world.wait_for_validations(11);
    gate.open();
    assert_eq!(other.read(false).unwrap().status, 200);
    for mut client in waiting {
        expect::refused(&client.read(false).unwrap());
    }
    // The limit counts pending validations, not completed ones.
    assert_eq!(ask(&world, ATTACKER, &new_uuid()), 401);
    assert_eq!(world.identity.validations().len(), 12);
}

#[test]
fn a_flood_is_logged_once_at_warn() {
    let world = setup().set("keystone_max_pending_per_address", "1").start();
    let gate = world.identity.hold_validations();
    let _first = start(&world, ATTACKER, &with(&new_uuid()));
    world.wait_for_validations(1);
    for _ in 0..20 {
        assert_eq!(ask(&world, ATTACKER, &new_uuid()), 503);
    }
    gate.open();
    let log = world.nginx.error_log();
    let lines = |level: &str| {
        let is_one = |line: &&str| {
            line.contains(level) && line.contains("limiting validations by client address")
        };
        log.lines().filter(is_one).count()
    };
    assert_eq!((lines("[warn]"), lines("[info]")), (1, 20), "{log}");
    let metrics = world.send(&Request::get("/status").header("Accept", "text/plain"));
    let metrics = Metrics::read(&metrics.text()).unwrap();
    let told = |limit| metrics.sum("keystone_identity_limited_total", &[("limit", limit)]);
    assert_eq!((told("max_pending_per_address"), told("max_pending")), (20.0, 0.0));
}

#[test]
fn the_address_is_that_of_realip() {
    let world = setup().set("keystone_max_pending_per_address", "1").start();
    let gate = world.identity.hold_validations();
    let from = |address: &str| with(&new_uuid()).header("X-Real-IP", address);
    let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];
    let mut waiting = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        waiting.push(start(&world, ATTACKER, &from(address)));
        world.wait_for_validations(number + 1);
    }
    // The whole address counts, and an IPv4 address is the same in either notation.
    for address in addresses.iter().chain(&["::ffff:192.0.2.1"]) {
        let answer = start(&world, OTHER, &from(address)).read(false).unwrap();
        assert_eq!(answer.status, 503, "{address}");
    }
    gate.open();
    for mut client in waiting {
        expect::refused(&client.read(false).unwrap());
    }
}

#[test]
fn a_request_may_wait_for_a_running_validation() {
    let world = setup().set("keystone_max_pending_per_address", "1").start();
    let token = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let mut waiting = vec![start(&world, ATTACKER, &with(&token))];
    world.wait_for_validations(1);
    for source in [ATTACKER, ATTACKER, OTHER] {
        waiting.push(start(&world, source, &with(&token)));
    }
    // A validation counts for the address that started it: the other address has none yet.
    let mut own = start(&world, OTHER, &with(&new_uuid()));
    world.wait_for_validations(2);
    assert_eq!(ask(&world, ATTACKER, &new_uuid()), 503);
    gate.open();
    for mut client in waiting {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    expect::refused(&own.read(false).unwrap());
}

#[test]
fn a_client_that_leaves_has_started_the_validation() {
    let world = setup().set("keystone_max_pending_per_address", "2").start();
    let gate = world.identity.hold_validations();
    for number in 1..=2 {
        let client = start(&world, ATTACKER, &with(&new_uuid()));
        world.wait_for_validations(number);
        drop(client);
        world.nginx.wait_for_log("prematurely closed connection").unwrap();
    }
    assert_eq!(ask(&world, ATTACKER, &new_uuid()), 503);
    gate.open();
    world.identity.heal();
    let start = Instant::now();
    while ask(&world, ATTACKER, &new_uuid()) == 503 {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn without_the_bound_one_address_may_have_them_all() {
    let world = setup()
        .set("keystone_max_pending", "8")
        .set("keystone_max_pending_per_address", "0")
        .start();
    let gate = world.identity.hold_validations();
    let mut waiting: Vec<_> = (0..8).map(|_| start(&world, ATTACKER, &with(&new_uuid()))).collect();
    world.wait_for_validations(8);
    assert_eq!(ask(&world, OTHER, &new_uuid()), 503);
    assert_eq!(limited(&world), json!({"max_pending": 1, "max_pending_per_address": 0}));
    gate.open();
    for client in &mut waiting {
        expect::refused(&client.read(false).unwrap());
    }
}

#[test]
fn signed_tokens_that_wait_for_the_list_do_not_count() {
    let world = setup().set("keystone_max_pending_per_address", "1").start();
    let gate = world.identity.hold_validations();
    let mut waiting = start(&world, ATTACKER, &with(&new_uuid()));
    world.wait_for_validations(1);
    assert_eq!(ask(&world, ATTACKER, &world.pki(&Payload::v3())), 200);
    gate.open();
    expect::refused(&waiting.read(false).unwrap());
}
