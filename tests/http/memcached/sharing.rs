//! What one gateway was told the others know, if they agree on whom they ask and how they keep it.

use std::time::{Duration, Instant};

use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::Config;
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::World;
use keystone_testbed::{expect, now, wait_for};
use serde_json::json;

use super::fleet::{
    ask, asked, hurry, is_not_asked, known, knows, seen, shares, unhurried, user_at, Fleet,
    STRATEGIES,
};

/// What a token's identity made of a request, without the request's own id.
fn without_id(seen: &Seen) -> Vec<&(String, String)> {
    let is_id = |name: &str| name.eq_ignore_ascii_case("X-Openstack-Request-Id");
    seen.headers.iter().filter(|(name, _)| !is_id(name)).collect()
}

#[test]
fn the_second_gateway_sends_the_same_without_a_request() {
    unhurried(|| {
        let payloads = [
            Payload::v3(),
            Payload::v3_domain(),
            Payload::v3_system(),
            Payload::v3_unscoped(),
            Payload::v3().user("u1", "Jürgen Ω").project("p1", "プロジェクト").roles(&["rôle"]),
            Payload::v3().with("/is_admin_project", json!(false)),
        ];
        for strategy in STRATEGIES {
            let fleet = Fleet::start(strategy);
            for payload in &payloads {
                let token = fleet.told(payload);
                let first = seen(&fleet.world.nginx, &token);
                fleet.world.identity.forget_requests();
                let second = knows(&fleet.world, &fleet.second, &token);
                assert_eq!(without_id(&second), without_id(&first), "{strategy}");
                // Now it lies in the zone of the second one.
                let answer = ask(&fleet.second, &token);
                assert_eq!(answer.header("X-Cache"), Some("HIT"), "{strategy}");
                assert_eq!(answer.header("X-Result"), Some("ok"), "{strategy}");
                let third = Seen::of(&answer).unwrap();
                assert_eq!(without_id(&third), without_id(&first), "{strategy}");
                assert_eq!(fleet.world.identity.requests(), [""; 0], "{strategy}");
            }
            // An entry that was found is not stored again.
            fleet.wait_for_entries(payloads.len());
        }
    });
}

#[test]
fn tokens_of_v2() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("encrypt", |setup| setup.set("keystone_auth_version", "v2.0"));
        let token = fleet.told(&Payload::v2());
        fleet.world.identity.forget_requests();
        expect::v2_user(&knows(&fleet.world, &fleet.second, &token));
        assert_eq!(fleet.world.identity.requests(), [""; 0]);
    });
}

#[test]
fn it_goes_both_ways_and_to_each_worker() {
    unhurried(|| {
        let fleet = Fleet::start_with("mac", |setup| setup.workers(2));
        for worker in fleet.second.worker_pids() {
            let token = known(&fleet.world, &Payload::v3());
            let entries = fleet.memcached.names().unwrap().len();
            let mut client = fleet.second.connect_worker(worker).unwrap();
            assert_eq!(client.send(&Request::get("/").token(&token)).unwrap().status, 200);
            fleet.wait_for_entries(entries + 1);
            expect::v3_user(&knows(&fleet.world, &fleet.world.nginx, &token));
        }
    });
}

#[test]
fn what_was_shared_outlives_the_identity_service() {
    unhurried(|| {
        let mut fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        let other = known(&fleet.world, &Payload::v3());
        fleet.world.identity.stop();
        expect::v3_user(&seen(&fleet.second, &token));
        expect::unavailable(&ask(&fleet.second, &other));
    });
}

#[test]
fn gateways_that_differ_share_nothing() {
    unhurried(|| {
        let first = |config: Config| config;
        let cases: [(&str, &dyn Fn(Config) -> Config); 5] = [
            ("mac", &|config| config.set("keystone_memcached_secret_key", "othersecret")),
            ("encrypt", &|config| config.set("keystone_memcached_secret_key", "othersecret")),
            ("none", &|config| config.set("keystone_auth_version", "v3")),
            // The same place by another name might be another cloud.
            ("encrypt", &|config| {
                let uri = config.get("keystone_identity_uri").unwrap();
                let uri = uri.replace("127.0.0.1", "localhost");
                config.set("keystone_identity_uri", &uri)
            }),
            ("encrypt", &|config| config.set("keystone_include_service_catalog", "on")),
        ];
        for (strategy, change) in cases {
            let Fleet { memcached, world, .. } = Fleet::start(strategy);
            let fleet = Fleet { second: world.gateway(change), memcached, world };
            let token = fleet.told(&Payload::v3());
            fleet.second_asks(&token, "user_id1");
            // Each has its own entry, and each of them counts for those who agree with its maker.
            fleet.wait_for_entries(2);
            for agreeing in [fleet.world.gateway(first), fleet.world.gateway(change)] {
                knows(&fleet.world, &agreeing, &token);
            }
        }
    });
}

#[test]
fn gateways_with_another_strategy_share_nothing() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = Fleet::start(strategy);
            let token = fleet.told(&Payload::v3());
            for (asked_before, other) in STRATEGIES.iter().filter(|it| **it != strategy).enumerate()
            {
                let change =
                    |config: Config| config.set("keystone_memcached_security_strategy", other);
                let gateway = fleet.world.gateway(change);
                assert_eq!(user_at(&gateway, &token), "user_id1");
                assert_eq!(asked(&fleet.world, &token), asked_before + 2, "{strategy} and {other}");
            }
            fleet.wait_for_entries(3);
            fleet.second_knows(&token, "user_id1");
        }
    });
}

#[test]
fn the_order_of_uris_and_of_servers_does_not_matter() {
    unhurried(|| {
        let servers = [(); 3].map(|()| Memcached::start().unwrap());
        let turned: Vec<_> = servers.iter().rev().collect();
        let all: Vec<_> = servers.iter().collect();
        let world = World::setup().config(|config| shares(config, "encrypt", &all)).start();
        let uri = world.identity.uri();
        let uris = |list: String| move |config: Config| config.set("keystone_identity_uri", &list);
        // Nothing answers at the other one, and no request needs it.
        let one = world.gateway(uris(format!("{uri} http://127.0.0.1:1")));
        let other = world.gateway(|config| {
            shares(uris(format!("http://127.0.0.1:1/ {uri}/"))(config), "encrypt", &turned)
        });
        let count = || servers.iter().map(|server| server.names().unwrap().len()).sum::<usize>();
        for entries in 1..=6 {
            let token = known(&world, &Payload::v3());
            assert_eq!(user_at(&one, &token), "user_id1");
            wait_for("the entry", || (count() == entries).then_some(()))
                .unwrap_or_else(|_| hurry());
            knows(&world, &other, &token);
        }
    });
}

#[test]
fn a_catalog_is_shared_by_those_who_hand_it_on() {
    unhurried(|| {
        let fleet = Fleet::start_with("encrypt", |setup| {
            setup.set("keystone_include_service_catalog", "on")
        });
        let token = fleet.told(&Payload::v3());
        let catalog = |seen: Seen| seen.header("X-Service-Catalog").unwrap();
        let first = catalog(seen(&fleet.world.nginx, &token));
        assert!(first.contains("8776"), "{first}");
        assert_eq!(catalog(knows(&fleet.world, &fleet.second, &token)), first);
    });
}

#[test]
fn over_a_unix_socket() {
    unhurried(|| {
        let memcached = Memcached::start_unix().unwrap();
        let world =
            World::setup().config(|config| shares(config, "encrypt", &[&memcached])).start();
        let second = world.gateway(|config| config);
        let fleet = Fleet { memcached, world, second };
        let token = fleet.told(&Payload::v3());
        fleet.second_knows(&token, "user_id1");
    });
}

#[test]
fn access_rules_hold_at_every_gateway() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("encrypt", |setup| setup.set("keystone_service_type", "image"));
        let rules = json!([{"id": "1", "service": "image", "method": "GET", "path": "/"}]);
        let token = fleet.told(&Payload::v3().access_rules(rules));
        fleet.second_knows(&token, "user_id1");
        let elsewhere = Request::get("/elsewhere").token(&token);
        expect::refused(&fleet.second.send(&elsewhere).unwrap());
        assert_eq!(asked(&fleet.world, &token), 1);
    });
}

#[test]
fn a_bind_holds_at_every_gateway() {
    unhurried(|| {
        let fleet = Fleet::start("none");
        let token = fleet.told(&Payload::v3().bind("unknown_form", "somebody"));
        let strict =
            fleet.world.gateway(|config| config.set("keystone_enforce_token_bind", "strict"));
        expect::refused(&ask(&strict, &token));
        fleet.second_knows(&token, "user_id1");
    });
}

#[test]
fn service_tokens_are_shared_as_well() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let service = known(&fleet.world, &Payload::v3_service());
        let token = known(&fleet.world, &Payload::v3());
        // One by one: a user token that a service vouches for is asked about in another way.
        fleet.tell(&token);
        fleet.tell(&service);
        fleet.world.identity.forget_requests();
        let both = Request::get("/").token(&token).header("X-Service-Token", &service);
        fleet.second_knows(&token, "user_id1");
        assert_eq!(
            knows(&fleet.world, &fleet.second, &service).header("X-User-Id").as_deref(),
            Some("service_user_id1")
        );
        let answer = fleet.second.send(&both).unwrap();
        let seen = Seen::of(&answer).unwrap();
        assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
        assert_eq!(seen.header("X-Service-User-Id").as_deref(), Some("service_user_id1"));
        assert_eq!(fleet.world.identity.requests(), [""; 0]);
    });
}

#[test]
fn each_server_block_has_its_own_second_level() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        let apart = fleet.world.gateway(|config| {
            let config = config.unset("keystone_memcached_security_strategy");
            config.server("keystone_memcached_security_strategy mac;")
        });
        assert_eq!(user_at(&apart, &token), "user_id1");
        assert_eq!(asked(&fleet.world, &token), 2);
    });
}

#[test]
fn requests_that_wait_for_one_token_are_one_lookup() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        let gets = fleet.memcached.gets().unwrap();
        is_not_asked(&fleet.world, &token, || {
            std::thread::scope(|scope| {
                let ask = || user_at(&fleet.second, &token);
                let waiting: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
                assert!(waiting.into_iter().all(|it| it.join().unwrap() == "user_id1"));
            });
        });
        assert_eq!(fleet.memcached.gets().unwrap(), gets + 1);
    });
}

#[test]
fn memcached_forgets_an_entry_when_it_counts_no_more() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("encrypt", |setup| setup.set("keystone_token_cache_time", "60s"));
        let (short, long) = (Payload::v3().expires_in(30), Payload::v3().expires_in(3600));
        for (payload, seconds) in [(short, 30), (long, 60)] {
            let start = now();
            fleet.told(&payload);
            let entry = fleet.memcached.entries().unwrap().remove(0);
            let expires = entry.expires_at.expect("an end") - start;
            // memcached's clock and ours count whole seconds, and this may take some of them.
            assert!(
                (seconds - 2..=seconds + 5).contains(&expires),
                "{expires} instead of {seconds} s"
            );
            fleet.memcached.flush().unwrap();
            fleet.wait_for_entries(0);
        }
    });
}

#[test]
fn nothing_is_shared_where_nothing_is_cached() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let off = fleet.world.gateway(|config| config.set("keystone_token_cache_time", "off"));
        let mine = known(&fleet.world, &Payload::v3());
        assert_eq!(user_at(&off, &mine), "user_id1");
        let token = fleet.told(&Payload::v3());
        // It tells nothing, and it looks for nothing.
        fleet.wait_for_entries(1);
        assert_eq!(user_at(&off, &token), "user_id1");
        assert_eq!(asked(&fleet.world, &token), 2);
    });
}

#[test]
fn an_entry_counts_for_as_long_as_the_reader_says() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("encrypt", |setup| setup.set("keystone_token_cache_time", "1h"));
        let hasty = fleet.world.gateway(|config| config.set("keystone_token_cache_time", "2s"));
        let token = fleet.told(&Payload::v3());
        std::thread::sleep(Duration::from_secs(3));
        fleet.second_knows(&token, "user_id1");
        assert_eq!(user_at(&hasty, &token), "user_id1");
        assert_eq!(asked(&fleet.world, &token), 2);
    });
}

#[test]
fn an_entry_is_as_old_as_the_answer_of_the_identity_service() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("encrypt", |setup| setup.set("keystone_token_cache_time", "8s"));
        let start = Instant::now();
        let token = fleet.told(&Payload::v3());
        std::thread::sleep(Duration::from_secs(5));
        fleet.second_knows(&token, "user_id1");
        wait_for("the second gateway to ask", || {
            assert_eq!(user_at(&fleet.second, &token), "user_id1");
            (asked(&fleet.world, &token) == 2).then_some(())
        })
        .unwrap();
        // Had the second one counted from when it found the entry, it had been 13.
        let after = start.elapsed().as_secs_f32();
        assert!((6.5..12.0).contains(&after), "{after} s");
    });
}

#[test]
fn the_time_that_the_identity_service_takes_makes_an_answer_no_younger() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("encrypt", |setup| setup.set("keystone_token_cache_time", "4s"));
        let token = known(&fleet.world, &Payload::v3());
        let slow = Fault::Delay(Duration::from_secs(5));
        fleet.world.identity.fault_validations_times(1, slow);
        assert_eq!(fleet.world.status(&token), 200);
        // An answer that is already too old is not stored; this one is.
        fleet.told(&Payload::v3());
        fleet.wait_for_entries(1);
        fleet.second_asks(&token, "user_id1");
    });
}
