//! The module beside keystonemiddleware 4.9.1: the same requests to nginx and to auth_token, and
//! everything that an upstream and a client see must be the same, apart from the differences that
//! [`differences`] names with their reasons. See tests/oracle/README.md.
//!
//! `KEYSTONE_ORACLE_SEED` generates other requests, `KEYSTONE_ORACLE_CASES` more of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use keystone_testbed::mint::Revoked;
use keystone_testbed::oracle::View;
use keystone_testbed::pki::Pki;
use keystone_testbed::random::number;
use keystone_testbed::world::{shared_pki, World};

use cases::{Case, Maker};
use differences::{Told, DIFFERENCES};
use kinds::KINDS;
use oracle::Oracle;

mod cases;
mod differences;
mod kinds;
mod oracle;

/// Settings that stay the same for a number of requests.
struct Scene {
    bind: &'static str,
    version: &'static str,
    hashes: &'static [&'static str],
    catalog: bool,
}

/// Each bind mode once, and the other settings in all their values.
const SCENES: &[Scene] = &[
    Scene { bind: "permissive", version: "v3", hashes: &["md5"], catalog: true },
    Scene { bind: "disabled", version: "v2.0", hashes: &["sha256", "md5"], catalog: false },
    Scene { bind: "strict", version: "auto", hashes: &["md5"], catalog: true },
    Scene { bind: "required", version: "v2.0", hashes: &["md5", "sha256"], catalog: true },
    Scene { bind: "kerberos", version: "v3", hashes: &["sha256"], catalog: false },
    Scene { bind: "FOO", version: "auto", hashes: &["md5"], catalog: true },
];

#[test]
fn an_upstream_gets_the_headers_of_auth_token() {
    let seed = number("KEYSTONE_ORACLE_SEED", SEED);
    let further = number("KEYSTONE_ORACLE_CASES", FURTHER_CASES);
    let pki = shared_pki().expect("a PKI");
    // The same names and serial numbers, other keys.
    let stranger = Pki::new().expect("another PKI");
    let mut tally = Tally::default();
    for (number, scene) in (0u64..).zip(SCENES) {
        let mut maker = Maker::new(seed * 1000 + number, pki, &stranger, scene.hashes);
        let mut cases: Vec<_> = KINDS.iter().map(|&kind| maker.case(kind)).collect();
        for _ in 0..further {
            let kind = maker.random.pick(KINDS);
            cases.push(maker.case(kind));
        }
        println!("seed {seed}, scene {number}: {} requests, each twice", cases.len());
        play(scene, &cases, maker.revoked, &mut tally);
    }
    println!("{tally}");
    assert_eq!(tally.failures, 0, "see above; the seed was {seed}");
    for (name, _) in DIFFERENCES {
        assert!(tally.differences.contains_key(name), "{name} was never seen: is it still true?");
    }
}

/// Sends all cases of a scene to both, and compares.
fn play(scene: &Scene, cases: &[Case], revoked: Vec<Revoked>, tally: &mut Tally) {
    let world = scene.world(revoked);
    let (refusing, delaying) = (scene.oracle(&world, false), scene.oracle(&world, true));
    for (number, case) in cases.iter().enumerate() {
        let oracle = if case.delay { &delaying } else { &refusing };
        // The second time the answer comes from a cache.
        for time in ["first", "second"] {
            let begin = Instant::now();
            let view = oracle.ask(&case.request());
            let twin = case.twin_request().map(|request| oracle.ask(&request));
            tally.oracle_time += begin.elapsed();
            let begin = Instant::now();
            let mut ours = View::of_nginx(&world.send(&case.request()));
            tally.nginx_time += begin.elapsed();
            ours.compact_catalog();

            let said = view.clone();
            let mut told = Told { case, view, twin };
            let mut differences = Vec::new();
            for (name, difference) in DIFFERENCES {
                if difference(&mut told) {
                    differences.push(*name);
                }
            }
            tally.count(&said, &differences);
            let unexplained = ours.differences_to(&told.view);
            if !unexplained.is_empty() {
                tally.failures += 1;
                println!("\ncase {number}, {time} time: {}", case.summary());
                println!("the oracle said {}; named were {differences:?}", said.status);
                unexplained.iter().for_each(|line| println!("    {line:.1000}"));
            }
        }
    }
}

impl Scene {
    fn world(&self, revoked: Vec<Revoked>) -> World {
        World::setup()
            .set("keystone_auth_version", self.version)
            .set("keystone_hash_algorithms", &self.hashes.join(" "))
            .set("keystone_enforce_token_bind", self.bind)
            .set("keystone_include_service_catalog", if self.catalog { "on" } else { "off" })
            .set("keystone_revocation_cache_time", "1h")
            // Otherwise nginx itself drops some of what must be stripped.
            .config(|config| config.http("underscores_in_headers on;"))
            .identity(|identity| revoked.into_iter().for_each(|entry| identity.revoke(entry)))
            .start()
    }

    fn oracle(&self, world: &World, delay: bool) -> Oracle {
        let hashes = self.hashes.join(",");
        let (delay, catalog) = (delay.to_string(), self.catalog.to_string());
        let mut options = vec![
            ("delay-auth-decision", delay.as_str()),
            ("enforce-token-bind", self.bind),
            ("hash-algorithms", &hashes),
            ("include-service-catalog", &catalog),
        ];
        if self.version != "auto" {
            options.push(("auth-version", self.version));
        }
        Oracle::start(&world.identity.uri(), &options)
    }
}

/// Numbers of cases by result.
#[derive(Default)]
struct Tally {
    requests: usize,
    passed: usize,
    invalid: usize,
    refused: usize,
    failures: usize,
    differences: BTreeMap<&'static str, usize>,
    nginx_time: Duration,
    oracle_time: Duration,
}

impl Tally {
    fn count(&mut self, said: &View, differences: &[&'static str]) {
        self.requests += 1;
        match said.headers.get("x-identity-status").map(String::as_str) {
            Some("Confirmed") => self.passed += 1,
            Some(_) => self.invalid += 1,
            None => self.refused += 1,
        }
        for name in differences {
            *self.differences.entry(name).or_default() += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, passed, invalid, refused, failures, .. } = self;
        writeln!(
            f,
            "{requests} requests; the oracle confirmed {passed}, let {invalid} pass as invalid and \
             refused {refused}; {failures} unexplained differences; the oracle took {:.1?}, nginx {:.1?}",
            self.oracle_time, self.nginx_time
        )?;
        for (name, count) in &self.differences {
            writeln!(f, "{count:6} times {name}")?;
        }
        Ok(())
    }
}

const SEED: u64 = 20_261_123;
const FURTHER_CASES: u64 = 12;
