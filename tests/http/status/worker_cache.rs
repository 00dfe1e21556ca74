//! `keystone_worker_cache`: the memory of a worker in front of the zone, as the counters show it.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;

use super::{after, setup};

const TOKENS: usize = 300;

/// Uses so many tokens in turn, twice, and says how many lookups the worker and the zone have
/// answered.
fn hits(size: Option<&str>) -> (f64, f64) {
    let world = match size {
        Some(size) => setup().set("keystone_worker_cache", size).start(),
        None => setup().start(),
    };
    let tokens: Vec<String> = (0..TOKENS).map(|_| world.pki(&Payload::v3())).collect();
    let mut client = world.nginx.connect().unwrap();
    for token in tokens.iter().chain(&tokens) {
        assert_eq!(client.send(&Request::get("/").token(token)).unwrap().status, 200);
    }
    let metrics = after(&world, 2 * TOKENS);
    let hits =
        |level| metrics.sum("keystone_cache_lookups_total", &[("level", level), ("status", "hit")]);
    (hits("worker"), hits("zone"))
}

#[test]
fn tokens_in_turn_are_found_without_the_zone() {
    assert_eq!(hits(None), (TOKENS as f64, 0.0));
}

#[test]
fn what_does_not_fit_is_found_in_the_zone() {
    let (worker, zone) = hits(Some("64k"));
    assert!(worker >= 1.0 && zone >= 200.0 && worker + zone == TOKENS as f64, "{worker} {zone}");
}

#[test]
fn it_can_be_off() {
    assert_eq!(hits(Some("0")), (0.0, TOKENS as f64));
}
