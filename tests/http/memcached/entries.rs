//! The entries in memcached: only for their purpose, unreadable where they are encrypted, and of no
//! worth once it was touched.

use std::time::Duration;

use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{digest, new_fernet_of, new_uuid, Payload};
use keystone_testbed::world::World;
use keystone_testbed::{expect, now, wait_for};
use openssl::hash::MessageDigest;

use super::fleet::{
    ask, asked, known, knows, seen, shares, unhurried, user_at, Fleet, SECRET, STRATEGIES,
};

#[test]
fn swapped_entries_change_no_identity() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = Fleet::start(strategy);
            let alice = fleet.told(&Payload::v3().user("alice", "Alice").roles(&["admin"]));
            let bob = fleet.told(&Payload::v3().user("bob", "Bob").roles(&["reader"]));
            let names = fleet.memcached.names().unwrap();
            fleet.memcached.swap(&names[0], &names[1]).unwrap();
            fleet.second_asks(&alice, "alice");
            fleet.second_asks(&bob, "bob");
            assert_eq!(seen(&fleet.second, &bob).header("X-Roles").as_deref(), Some("reader"));
        }
    });
}

#[test]
fn an_entry_under_the_name_of_a_token_that_is_not_valid() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = Fleet::start(strategy);
            let token = fleet.told(&Payload::v3().user("bob", "Bob"));
            let bobs = fleet.memcached.names().unwrap();
            fleet.told(&Payload::v3().user("alice", "Alice").roles(&["admin"]));
            let mut names = fleet.memcached.names().unwrap();
            names.retain(|name| !bobs.contains(name));
            let alices = fleet.memcached.read(&names[0]).unwrap().unwrap();
            fleet.memcached.write(&bobs[0], &alices).unwrap();
            fleet.world.identity.forget(&token);
            expect::refused(&ask(&fleet.second, &token));
            assert_eq!(asked(&fleet.world, &token), 2, "{strategy}");
        }
    });
}

/// How a test changes an entry.
type Change = dyn Fn(Vec<u8>) -> Vec<u8>;

#[test]
fn entries_that_were_damaged() {
    unhurried(|| {
        let flip = |at: usize| {
            move |mut value: Vec<u8>| {
                let at = at * (value.len() - 1) / 8;
                value[at] ^= 1;
                value
            }
        };
        let mut ways: Vec<(String, Box<Change>)> = vec![
            ("without its end".into(), Box::new(|value| value[..value.len() - 1].to_vec())),
            ("without its beginning".into(), Box::new(|value| value[1..].to_vec())),
            ("half".into(), Box::new(|value| value[..value.len() / 2].to_vec())),
            ("its head".into(), Box::new(|value| value[..5].to_vec())),
            ("longer by a byte".into(), Box::new(|value| [value, vec![0]].concat())),
            ("twice".into(), Box::new(|value| value.repeat(2))),
            ("empty".into(), Box::new(|_| Vec::new())),
            ("text".into(), Box::new(|_| b"garbage".to_vec())),
            ("an answer of memcached".into(), Box::new(|_| b"END\r\nEND\r\n".to_vec())),
            ("zeros".into(), Box::new(|value| vec![0; value.len()])),
            ("large".into(), Box::new(|_| vec![b'x'; 900_000])),
        ];
        // The letter that stands for the strategy.
        ways.push((
            "relabelled".into(),
            Box::new(|mut value| {
                value[4] = if value[4] == b'n' { b'm' } else { b'n' };
                value
            }),
        ));
        for at in 0..=8 {
            ways.push((format!("flipped at {at} eighths"), Box::new(flip(at))));
        }
        for strategy in STRATEGIES {
            let fleet = Fleet::start(strategy);
            for (what, change) in &ways {
                fleet.memcached.flush().unwrap();
                fleet.wait_for_entries(0);
                let token = fleet.told(&Payload::v3().user(&new_uuid(), "somebody"));
                let user = user_at(&fleet.world.nginx, &token);
                fleet.memcached.rewrite(change).unwrap();
                let damaged = fleet.entry();
                let before = asked(&fleet.world, &token);
                assert_eq!(user_at(&fleet.second, &token), user, "{strategy}, {what}");
                assert_eq!(asked(&fleet.world, &token), before + 1, "{strategy}, {what}");
                // The second one replaces it.
                wait_for("the new entry", || (fleet.entry() != damaged).then_some(())).unwrap();
            }
            let third = fleet.world.gateway(|config| config);
            let token = fleet.told(&Payload::v3());
            knows(&fleet.world, &third, &token);
        }
    });
}

#[test]
fn an_entry_that_was_kept_for_too_long() {
    unhurried(|| {
        let fleets = STRATEGIES.map(Fleet::start);
        let ends = now() + 8;
        let told = |fleet: &Fleet| {
            let token = fleet.told(&Payload::v3().expires_at(ends));
            // memcached would have forgotten it by itself.
            fleet.memcached.rewrite(|value| value).unwrap();
            assert_eq!(fleet.memcached.entries().unwrap()[0].expires_at, None);
            token
        };
        let tokens = fleets.each_ref().map(told);
        for (fleet, token) in fleets.iter().zip(&tokens) {
            fleet.second_knows(token, "user_id1");
        }
        let late = fleets.each_ref().map(|fleet| fleet.world.gateway(|config| config));
        wait_for("the tokens to end", || (now() > ends).then_some(())).unwrap();
        for ((fleet, token), late) in fleets.iter().zip(&tokens).zip(&late) {
            fleet.entry();
            for gateway in [&fleet.second, late] {
                let before = asked(&fleet.world, token);
                expect::refused(&ask(gateway, token));
                assert_eq!(asked(&fleet.world, token), before + 1);
            }
        }
    });
}

#[test]
fn an_old_entry_that_is_put_back() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("encrypt", |setup| setup.set("keystone_token_cache_time", "4s"));
        let token = fleet.told(&Payload::v3());
        fleet.memcached.rewrite(|value| value).unwrap();
        std::thread::sleep(Duration::from_secs(5));
        fleet.entry();
        fleet.second_asks(&token, "user_id1");
    });
}

#[test]
fn a_reader_of_memcached_sees_no_identity_where_it_is_encrypted() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = Fleet::start_with(strategy, |setup| {
                setup.set("keystone_include_service_catalog", "on")
            });
            let payload = Payload::v3()
                .user("an-id-of-a-user", "a-name-of-a-user")
                .project("an-id-of-a-project", "a-name-of-a-project")
                .roles(&["a-role"])
                .audit_ids(&["an-audit-id"]);
            let token = fleet.told(&payload);
            let value = fleet.entry();
            let holds = |text: &str| value.windows(text.len()).any(|part| part == text.as_bytes());
            let words = [
                "an-id-of-a-user",
                "a-name-of-a-user",
                "an-id-of-a-project",
                "a-name-of-a-project",
                "a-role",
                "an-audit-id",
                "domain_id1",
                "domain_name1",
                "8776",
            ];
            for word in words {
                assert_eq!(holds(word), strategy != "encrypt", "{strategy}: {word}");
            }
            // A secret, and what others call the token, are nowhere.
            for word in [&token, &token[..20], SECRET, fleet.world.identity.uri().as_str()] {
                assert!(!holds(word), "{strategy}: {word}");
            }
            for (algorithm, bytes) in digests(&token) {
                assert!(!holds(&bytes), "{strategy}: {algorithm}");
            }
        }
    });
}

#[test]
fn the_same_answer_is_never_encrypted_twice_to_the_same_bytes() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        let token = fleet.told(&Payload::v3());
        let first = fleet.entry();
        fleet.memcached.flush().unwrap();
        fleet.second_asks(&token, "user_id1");
        fleet.wait_for_entries(1);
        let second = fleet.entry();
        assert_eq!(first.len(), second.len());
        // All but the head.
        let same = first.iter().zip(&second).skip(5).filter(|(one, other)| one == other).count();
        assert!(same < first.len() / 4, "{same} of {} bytes", first.len());
    });
}

#[test]
fn names_tell_nothing_of_tokens() {
    unhurried(|| {
        let fleet = Fleet::start("none");
        let token = fleet.told(&Payload::v3());
        for (strategy, secret) in
            [("mac", SECRET), ("encrypt", SECRET), ("mac", "x"), ("encrypt", "x")]
        {
            let entries = fleet.memcached.names().unwrap().len();
            let gateway = fleet.world.gateway(|config| {
                let config = shares(config, strategy, &[&fleet.memcached]);
                config.set("keystone_memcached_secret_key", secret)
            });
            assert_eq!(user_at(&gateway, &token), "user_id1");
            fleet.wait_for_entries(entries + 1);
        }
        let long = new_fernet_of(140);
        fleet.world.identity.know(&long, &Payload::v3());
        fleet.tell(&long);

        let mut names = fleet.memcached.names().unwrap();
        assert_eq!(names.len(), 6);
        for name in &names {
            let hex = name.strip_prefix("keystone/").expect(name);
            assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
            for (algorithm, digest) in digests(&token) {
                assert!(!name.contains(&digest) && !digest.contains(hex), "{algorithm}: {name}");
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 6, "one name for two strategies or secrets");
    });
}

#[test]
fn the_secret_is_in_no_log() {
    unhurried(|| {
        for strategy in ["mac", "encrypt"] {
            let mut fleet = Fleet::start_with(strategy, |setup| setup.config(|it| it.debug()));
            let token = fleet.told(&Payload::v3());
            fleet.second_knows(&token, "user_id1");
            let damaged = fleet.told(&Payload::v3());
            fleet.memcached.rewrite(|value| value[1..].to_vec()).unwrap();
            fleet.second_asks(&damaged, "user_id1");
            fleet.memcached.stop();
            assert_eq!(user_at(&fleet.second, &known(&fleet.world, &Payload::v3())), "user_id1");
            for nginx in [&fleet.world.nginx, &fleet.second] {
                nginx.reload().unwrap();
                let log = nginx.error_log();
                assert!(!log.contains(SECRET), "{strategy}");
            }
            assert!(fleet.second.error_log().contains("memcached"), "there should be a log of it");
        }
    });
}

#[test]
fn refusals_are_not_put_there() {
    unhurried(|| {
        let fleet = Fleet::start("none");
        let unknown = new_uuid();
        let expired = known(&fleet.world, &Payload::v3().expires_in(-10));
        let other = known(&fleet.world, &Payload::v3().user("u", "with\ncontrol"));
        for token in [&unknown, &expired, &other] {
            expect::refused(&ask(&fleet.world.nginx, token));
            expect::refused(&ask(&fleet.second, token));
            assert_eq!(asked(&fleet.world, token), 2);
        }
        fleet.told(&Payload::v3());
        fleet.wait_for_entries(1);
    });
}

#[test]
fn what_failed_is_not_put_there() {
    unhurried(|| {
        let fleet =
            Fleet::start_with("none", |setup| setup.set("keystone_http_request_max_retries", "0"));
        for fault in [Fault::Status(500), Fault::Status(403), Fault::Garbage, Fault::Half] {
            fleet.world.identity.fault_validations_times(1, fault);
            let token = known(&fleet.world, &Payload::v3());
            expect::unavailable(&ask(&fleet.world.nginx, &token));
        }
        fleet.told(&Payload::v3());
        fleet.wait_for_entries(1);
    });
}

#[test]
fn answers_that_allow_expiry_are_not_put_there() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = Fleet::start(strategy);
            let service = fleet.told(&Payload::v3_service());
            fleet.second_knows(&service, "service_user_id1");
            let with_service =
                |token: &str| Request::get("/").token(token).header("X-Service-Token", &service);
            let expired = known(&fleet.world, &Payload::v3().expires_in(-10));
            let valid = known(&fleet.world, &Payload::v3());
            for token in [&expired, &valid] {
                for gateway in [&fleet.world.nginx, &fleet.second] {
                    assert_eq!(gateway.send(&with_service(token)).unwrap().status, 200);
                }
                assert_eq!(asked(&fleet.world, token), 2, "{strategy}");
            }
            expect::refused(&ask(&fleet.second, &expired));
            fleet.told(&Payload::v3());
            // That of the service token, and the last one.
            fleet.wait_for_entries(2);
            assert_eq!(asked(&fleet.world, &service), 1, "{strategy}");
        }
    });
}

#[test]
fn signed_tokens_are_there_only_if_the_identity_service_judged_them() {
    unhurried(|| {
        let fleet = Fleet::start("encrypt");
        for token in [fleet.world.pki(&Payload::v3()), fleet.world.pkiz(&Payload::v3())] {
            assert_eq!(fleet.world.status(&token), 200);
            assert_eq!(user_at(&fleet.second, &token), "user_id1");
        }
        fleet.told(&Payload::v3());
        fleet.wait_for_entries(1);
        assert_eq!(fleet.world.identity.validations().len(), 1);

        // Without certificates.
        let setup = World::setup().config(|it| shares(it, "encrypt", &[&fleet.memcached]));
        let world = setup.identity(|it| it.fault("/v3/OS-SIMPLE-CERT", Fault::Status(404))).start();
        let second = world.gateway(|config| config);
        let fleet = Fleet { world, second, ..fleet };
        for payload in [Payload::v3(), Payload::v3().user("u2", "n2")] {
            for token in [fleet.world.pki(&payload), fleet.world.pkiz(&payload)] {
                fleet.world.identity.know(&token, &payload);
                fleet.tell(&token);
                knows(&fleet.world, &fleet.second, &token);
            }
        }
    });
}

/// What others may call a token: its digests, in hex.
fn digests(token: &str) -> [(&'static str, String); 6] {
    [
        ("md5", MessageDigest::md5()),
        ("sha1", MessageDigest::sha1()),
        ("sha224", MessageDigest::sha224()),
        ("sha256", MessageDigest::sha256()),
        ("sha384", MessageDigest::sha384()),
        ("sha512", MessageDigest::sha512()),
    ]
    .map(|(name, algorithm)| (name, digest(algorithm, token)))
}
