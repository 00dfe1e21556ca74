//! `keystone_worker_cache`: the memory of a worker in front of the zone, as the counters show it.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use serde_json::json;

use super::{after, setup};

const TOKENS: usize = 300;

/// Uses so many tokens in turn, three times, and says how many lookups the worker and the zone have
/// answered. The worker remembers a token when it comes for the second time.
fn hits(size: Option<&str>, count: usize) -> (f64, f64) {
    let world = match size {
        Some(size) => setup().set("keystone_worker_cache", size).start(),
        None => setup().start(),
    };
    let tokens: Vec<String> = (0..count).map(|_| world.pki(&Payload::v3())).collect();
    let mut client = world.nginx.connect().unwrap();
    for token in tokens.iter().chain(&tokens).chain(&tokens) {
        assert_eq!(client.send(&Request::get("/").token(token)).unwrap().status, 200);
    }
    let metrics = after(&world, 3 * count);
    let hits =
        |level| metrics.sum("keystone_cache_lookups_total", &[("level", level), ("status", "hit")]);
    (hits("worker"), hits("zone"))
}

#[test]
fn tokens_in_turn_are_found_without_the_zone() {
    assert_eq!(hits(None, TOKENS), (TOKENS as f64, TOKENS as f64));
}

#[test]
fn what_does_not_fit_is_found_in_the_zone() {
    // A token that was not used for a second may give way to the next one, so on a slow machine the
    // worker may have none of them any more.
    let (worker, zone) = hits(Some("64k"), TOKENS);
    assert!(zone >= 500.0 && worker + zone == 2.0 * TOKENS as f64, "{worker} {zone}");
    assert_eq!(hits(Some("64k"), 1), (1.0, 1.0));
}

#[test]
fn what_has_no_place_in_the_zone_is_there_at_once() {
    let world = setup().offline().set("keystone_include_service_catalog", "on").start();
    // Compressed, it fits into a header.
    let services: Vec<_> = (0..680)
        .map(|n| json!({"type": format!("type{n}"), "name": "n".repeat(60), "endpoints": []}))
        .collect();
    let token = world.pkiz(&Payload::v3().with("/catalog", json!(services)));
    for _ in 0..3 {
        assert_eq!(world.status(&token), 200);
    }
    let metrics = after(&world, 3);
    let validations = metrics.sum("keystone_token_validations_total", &[]);
    let labels = [("level", "worker"), ("status", "hit")];
    let hits = metrics.sum("keystone_cache_lookups_total", &labels);
    assert_eq!((validations, hits), (1.0, 2.0));
}

#[test]
fn it_can_be_off() {
    assert_eq!(hits(Some("0"), TOKENS), (0.0, 2.0 * TOKENS as f64));
}
