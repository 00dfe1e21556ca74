//! `keystone_status`: what an operator sees.

use std::time::Duration;

use keystone_testbed::http::{Request, Response};
use keystone_testbed::identity::{Fault, ADMIN_TOKEN, SERVICE_PASSWORD, SERVICE_USER};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::metrics::{lint, Metrics};
use keystone_testbed::mint::{new_fernet, new_uuid, Payload};
use keystone_testbed::nginx::{check, kill, Config, Nginx};
use keystone_testbed::wait_for;
use keystone_testbed::world::{stranger, Setup, World};

mod counts;
mod documents;
mod prometheus;
mod shortcuts;
mod worker_cache;
mod workers;

/// With the status at `/status`, `/status/json` and `/status/metrics`.
fn setup() -> Setup {
    World::setup()
        .location("= /status", "keystone_status;")
        .location("= /status/json", "keystone_status json;")
        .location("= /status/metrics", "keystone_status prometheus;")
}

fn text(nginx: &Nginx) -> String {
    let answer = nginx.send(&Request::get("/status/metrics")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

fn metrics(nginx: &Nginx) -> Metrics {
    Metrics::read(&text(nginx)).unwrap()
}

/// The metrics once so many requests have ended: the client may have the answer a bit earlier.
#[track_caller]
fn after(world: &World, requests: usize) -> Metrics {
    let ended = wait_for(&format!("{requests} requests to end"), || {
        let metrics = metrics(&world.nginx);
        (metrics.sum("keystone_requests_total", &[]) >= requests as f64).then_some(metrics)
    });
    let metrics = ended.unwrap();
    assert_eq!(metrics.sum("keystone_requests_total", &[]), requests as f64);
    metrics
}

/// All that is not zero of a counter, as the values of these labels and the count.
fn told(metrics: &Metrics, name: &str, labels: &[&str]) -> Vec<(String, u64)> {
    let mut told: Vec<(String, u64)> = metrics
        .matching(name, &[])
        .filter(|(_, value)| *value > 0.0)
        .map(|(of, value)| {
            let words: Vec<&str> = labels.iter().map(|label| of[*label].as_str()).collect();
            (words.join(" "), value as u64)
        })
        .collect();
    told.sort();
    told
}

#[track_caller]
fn assert_told(metrics: &Metrics, name: &str, labels: &[&str], expected: &[(&str, u64)]) {
    let mut expected: Vec<_> = expected.iter().map(|(it, n)| ((*it).to_owned(), *n)).collect();
    expected.sort();
    assert_eq!(told(metrics, name, labels), expected, "{name}");
}

/// A world in which there is something to tell of everything.
fn full(memcached: &Memcached) -> World {
    let world = setup()
        .logs_in()
        .set("keystone_memcached_servers", &memcached.server())
        .set("keystone_revocation_events", "100ms")
        .start();
    world.status(&world.pki(&Payload::v3()));
    world.status(&world.uuid(&Payload::v3()));
    let is_there = |name| metrics(&world.nginx).names().contains(name).then_some(());
    wait_for("the events", || is_there("keystone_revocation_events_age_seconds")).unwrap();
    world
}

fn content_type(answer: &Response) -> &str {
    answer.header("Content-Type").unwrap_or("none")
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

#[test]
fn the_form_is_fixed_or_as_the_client_accepts() {
    let world = setup()
        .location("= /status/if", "keystone_status prometheus; if ($arg_a) { set $a 1; }")
        .start();
    let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.2";
    let ask = |target: &str, accept: &str| {
        let request = Request::get(target).header("Accept", accept);
        content_type(&world.send(&request)).to_owned()
    };
    assert_eq!(ask("/status", scraper), TEXT);
    assert_eq!(ask("/status", "text/plain"), TEXT);
    assert_eq!(ask("/status", "*/*"), JSON);
    assert_eq!(content_type(&world.send(&Request::get("/status"))), JSON);
    assert_eq!(ask("/status/json", "text/plain"), JSON);
    assert_eq!(ask("/status/metrics", "application/json"), TEXT);
    assert_eq!(ask("/status/if?a=1", "application/json"), TEXT);
    let two = Request::get("/status").header("Accept", "image/png").header("ACCEPT", "text/plain");
    assert_eq!(content_type(&world.send(&two)), TEXT);
}

#[test]
fn get_and_head_and_nothing_else() {
    let world = setup().start();
    let get = world.send(&Request::get("/status/json"));
    assert_eq!(get.header("Cache-Control"), Some("no-store"));
    assert_eq!(get.header("Content-Length"), Some(get.body.len().to_string().as_str()));
    let head = world.send(&Request::head("/status/json"));
    assert_eq!((head.status, content_type(&head), head.body.len()), (200, JSON, 0));
    assert_eq!(head.header("Content-Length"), get.header("Content-Length"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = world.send(&Request::new(method, "/status/json").body(b"x"));
        assert_eq!(answer.status, 405, "{method}");
    }
    // A body is read and left aside, and the connection goes on.
    let mut client = world.nginx.connect().unwrap();
    for _ in 0..2 {
        assert_eq!(client.send(&Request::get("/status").body(&[b'x'; 5_000])).unwrap().status, 200);
    }
}

#[test]
fn access_is_decided_as_for_any_location() {
    let world = setup()
        .location("= /denied", "keystone_status; deny all;")
        .location("= /protected", "keystone_status; keystone_auth on;")
        .location("/limited", "keystone_status; limit_except GET { deny all; }")
        .location("/outer/", "keystone_status; location /outer/inner/ { root @DIR@/html/files; }")
        .start();
    assert_eq!(world.send(&Request::get("/denied")).status, 403);
    assert_eq!(world.send(&Request::get("/protected")).status, 401);
    assert_eq!(world.send(&Request::get("/limited")).status, 200);
    assert_eq!(world.send(&Request::new("POST", "/limited")).status, 403);
    // A location inside of it is another one.
    assert_eq!(world.send(&Request::get("/outer/")).status, 200);
    assert_eq!(world.send(&Request::get("/outer/inner/")).status, 404);
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/protected").token(&token));
    assert_eq!((answer.status, content_type(&answer)), (200, JSON));
}

#[test]
fn the_directive_is_checked() {
    for lines in ["keystone_status xml;", "keystone_status \"\";", "keystone_status json json;"] {
        let check = check(&Config::protected().location("/status", lines)).unwrap();
        assert!(!check.ok && check.text.contains("keystone_status"), "{}", check.text);
    }
    let twice = "keystone_status; keystone_status json;";
    let twice = check(&Config::protected().location("/status", twice)).unwrap();
    assert!(!twice.ok && twice.text.contains("duplicate"), "{}", twice.text);
    for config in [Config::protected().server("keystone_status;"), {
        Config::protected().http("keystone_status;")
    }] {
        assert!(check(&config).unwrap().text.contains("not allowed here"));
    }
}

#[test]
fn without_an_identity_service_there_is_little_to_tell() {
    let config = Config::new()
        .location("= /status/json", "keystone_status json;")
        .location("= /status/metrics", "keystone_status prometheus;");
    let nginx = Nginx::start(&config).unwrap();
    assert_eq!(lint(&text(&nginx)).unwrap(), 1);
    let json = nginx.send(&Request::get("/status/json")).unwrap().json().unwrap();
    assert_eq!((&json["cache"], json["services"].as_array().unwrap().len()), (&().into(), 0));
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_word_of_the_documentation_is_counted_and_no_other() {
    let world = setup().start();
    let metrics = metrics(&world.nginx);
    let counted: Vec<&String> = metrics
        .matching("keystone_requests_total", &[])
        .map(|(labels, _)| &labels["result"])
        .collect();
    let page = include_str!("../../docs/directives.md");
    let (_, table) = page.split_once("The words of `$keystone_auth_result`:").unwrap();
    let words = table.trim_start().lines().take_while(|line| line.starts_with('|'));
    for line in words.filter(|line| line.starts_with("| `")) {
        for word in line.split('|').nth(1).unwrap().split(", ") {
            let word = word.trim().trim_matches('`').to_owned();
            assert!(counted.contains(&&word), "{word} is not counted");
        }
    }
    assert_eq!(metrics.sum("keystone_requests_total", &[]), 0.0);
}

#[test]
fn the_report_is_well_formed_and_holds_no_secret() {
    let memcached = Memcached::start().unwrap();
    let world = full(&memcached);
    let tokens = [
        world.uuid(&Payload::v3()),
        new_uuid(),
        world.pki(&Payload::v3()),
        world.pkiz(&Payload::v3()),
    ];
    for token in &tokens {
        world.status(token);
    }
    let issued: Vec<String> = world.identity.state().issued.keys().cloned().collect();
    assert!(!issued.is_empty());

    let text = text(&world.nginx);
    let json = world.send(&Request::get("/status/json"));
    assert_eq!(lint(&text).unwrap(), Metrics::read(&text).unwrap().len());
    let secrets = [SERVICE_USER, SERVICE_PASSWORD, ADMIN_TOKEN, "user_id1", "user_name1"];
    for page in [text.clone(), json.text()] {
        for secret in secrets.into_iter().chain(tokens.iter().chain(&issued).map(String::as_str)) {
            assert!(!page.contains(&secret[..secret.len().min(16)]), "{secret}: {page}");
        }
    }
    // Every family that there is, so that all were looked at.
    let metrics = Metrics::read(&text).unwrap();
    for name in [
        "keystone_build_info",
        "keystone_cache_capacity_entries",
        "keystone_cache_evictions_total",
        "keystone_identity_limited_total",
        "keystone_identity_pending",
        "keystone_identity_request_duration_seconds_bucket",
        "keystone_identity_retries_total",
        "keystone_memcached_requests_total",
        "keystone_revocation_list_age_seconds",
        "keystone_revocation_list_entries",
        "keystone_service_token_expires_timestamp_seconds",
        "keystone_signing_certificate_not_before_timestamp_seconds",
        "keystone_token_validations_total",
    ] {
        assert!(metrics.names().contains(name), "{name} is missing");
    }
}
