//! What a real Prometheus makes of the metrics, the dashboard's expressions and the alert rules.

use std::path::{Path, PathBuf};

use keystone_testbed::pki::{Pki, Shape};
use keystone_testbed::prometheus::{promtool, Prometheus};
use keystone_testbed::{now, wait_within};

use super::documents::dashboard_expressions;
use super::*;

const MEMCACHED: &str = "MemcachedFails";

/// Scrapes and queries are many, and all of them take their time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn scrape(world: &World) -> Prometheus {
    let rules = source("docs/prometheus/alerts.yml");
    Prometheus::start(world.nginx.address(), "/status/metrics", &rules).unwrap()
}

#[test]
fn every_panel_of_the_dashboard_shows_something() {
    let memcached = Memcached::start().unwrap();
    let world = full(&memcached);
    let known = world.pki(&Payload::v3());
    world.status(&known);
    let prometheus = scrape(&world);
    let expressions = dashboard_expressions();
    assert!(expressions.len() > 20);
    for expression in expressions {
        let now = expression.replace("$instance", ".*").replace("$__rate_interval", "5s");
        assert!(!now.contains('$'), "{expression}");
        let shown = || {
            // Of each kind of token some in each interval, known and new.
            world.status(&known);
            world.status(&world.pki(&Payload::v3()));
            world.status(&world.uuid(&Payload::v3()));
            let values = prometheus.query(&now).unwrap();
            (!values.is_empty() && values.iter().all(|value| value.is_finite())).then_some(())
        };
        wait_within(PATIENCE, &now, shown).unwrap();
    }
}

#[test]
fn a_gateway_in_trouble_sets_off_every_alert() {
    let soon = Shape { not_after: now() + 13 * 86_400, ..Shape::signing() };
    let mut memcached = Memcached::start().unwrap();
    let world = setup()
        .pki(Pki::with(&Shape::authority(), &soon).unwrap())
        .set("keystone_memcached_servers", &memcached.server())
        .set("keystone_revocation_cache_time", "1s")
        .start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    let prometheus = scrape(&world);
    let set_off = || {
        let alerts = prometheus.alerts().unwrap().into_iter();
        let set_off = alerts.filter(|(_, state)| state != "inactive");
        set_off.map(|(name, _)| name.trim_start_matches("Keystone").to_owned()).collect::<Vec<_>>()
    };
    let wait_but_for = |ignored: Option<&str>, wanted: &[&str]| {
        wait_within(PATIENCE, &format!("{wanted:?}"), || {
            world.status(&token);
            world.status(&new_uuid());
            let mut set_off = set_off();
            set_off.retain(|name| Some(name.as_str()) != ignored);
            (set_off == wanted).then_some(())
        })
        .unwrap();
    };
    // On a busy machine memcached may be too slow before it is stopped.
    let wait = |wanted: &[&str]| wait_but_for(Some(MEMCACHED), wanted);
    let ends = "SigningCertificateEnds";
    wait(&[ends]);
    world.identity.fault_validations(Fault::Status(403));
    wait(&[ends, "ServiceUserRefused", "Unavailable"]);
    world.identity.fault("/", Fault::Status(503));
    let identity = [
        ends,
        "RevocationListOld",
        "RevocationListUnavailable",
        "ServiceUserRefused",
        "IdentityServiceErrors",
        "Unavailable",
    ];
    wait(&identity);
    memcached.stop();
    let failures = "keystone_memcached_requests_total{result='failed'}";
    wait_within(PATIENCE, failures, || {
        world.status(&new_uuid());
        (!prometheus.query(failures).unwrap().is_empty()).then_some(())
    })
    .unwrap();
    // The new workers have not met it yet; the old ones would try it again after 15 s.
    world.nginx.reload().unwrap();
    wait_but_for(None, &[&identity[..], &[MEMCACHED]].concat());
    world.nginx.signal(libc::SIGTERM).unwrap();
    let is_down = || set_off().contains(&"GatewayDown".to_owned()).then_some(());
    wait_within(PATIENCE, "the last one", is_down).unwrap();
}

#[test]
fn the_alert_rules_do_what_they_are_for() {
    let tests = source("tests/prometheus/alerts.yml");
    promtool(&["test", "rules", tests.to_str().unwrap()], "").unwrap();
}
