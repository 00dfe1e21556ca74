//! Section D of `docs/behaviour.md`: the revocation list.

use std::fs;
use std::time::{Duration, Instant};

use keystone_testbed::cms::{sign, Form};
use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Gate, ADMIN_TOKEN};
use keystone_testbed::mint::{self, new_audit_id, new_uuid, Payload, Revoked};
use keystone_testbed::nginx::WORKER;
use keystone_testbed::wait_for;
use keystone_testbed::world::{put, shared_pki, stranger, Setup, World};
use serde_json::json;

const LIST: &str = "/v3/auth/tokens/OS-PKI/revoked";

/// A world that asks for the list before it validates a new token.
fn eager() -> Setup {
    World::setup().set("keystone_revocation_cache_time", "0")
}

#[track_caller]
fn assert_revoked(world: &World, token: &str) {
    let answer = world.send(&Request::get("/").token(token));
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("revoked"));
}

#[test]
fn d01_d02_d03_the_md5_of_the_text_is_listed() {
    let world = eager().start();
    for payload in [Payload::v2(), Payload::v3()] {
        for token in [world.pki(&payload), world.pkiz(&payload.clone().audit_ids(&["x"]))] {
            world.identity.revoke_token(&token);
            assert_revoked(&world, &token);
        }
    }
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
}

#[test]
fn d04_d05_the_sha256_or_the_md5_is_listed() {
    let world = eager().set("keystone_hash_algorithms", "sha256 md5").start();
    for hash in [mint::sha256, mint::md5] {
        for token in [world.pki(&Payload::v3()), world.pkiz(&Payload::v2())] {
            world.identity.revoke(Revoked::id(hash(&token)));
            assert_revoked(&world, &token);
        }
    }
}

#[test]
fn d06_an_algorithm_that_is_not_configured() {
    let world = eager().start();
    let token = world.pki(&Payload::v3());
    world.identity.revoke(Revoked::id(mint::sha256(&token)));
    assert_eq!(world.status(&token), 200);
}

#[test]
fn d07_other_ids() {
    let world = eager().start();
    for _ in 0..200 {
        world.identity.revoke(Revoked { id: Some(new_uuid()), audit_id: Some(new_audit_id()) });
    }
    assert_eq!(world.status(&world.pki(&Payload::v2())), 200);
    assert_eq!(world.status(&world.pkiz(&Payload::v3())), 200);
}

#[test]
fn d08_d09_lists_without_entries() {
    for content in ["{}", "{\"revoked\": []}", "{\"revoked\": [], \"extra\": \"success\"}"] {
        let world = eager().start();
        world.identity.state().list_content = Some(content.into());
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200, "{content}");
    }
}

#[test]
fn d10_the_audit_id_is_listed() {
    let world = eager().start();
    for payload in [Payload::v2(), Payload::v3()] {
        world.identity.revoke(Revoked::audit_id(payload.audit_id()));
        assert_revoked(&world, &world.pki(&payload));
        assert_revoked(&world, &world.pkiz(&payload));
    }
}

#[test]
fn d11_the_audit_id_of_the_parent_is_listed() {
    let world = eager().start();
    let parent = new_audit_id();
    world.identity.revoke(Revoked::audit_id(&parent));
    for payload in [Payload::v2(), Payload::v3()] {
        let child = payload.audit_ids(&[&new_audit_id(), &parent]);
        assert_revoked(&world, &world.pki(&child));
    }
}

#[test]
fn d12_d13_other_audit_ids_or_none() {
    let world = eager().start();
    world.identity.revoke(Revoked::audit_id(new_audit_id()));
    world.identity.revoke(Revoked::id(new_uuid()));
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let without = Payload::v3().without("/audit_ids");
    assert_eq!(world.status(&world.pki(&without)), 200);
    assert_eq!(world.status(&world.pki(&Payload::v3().audit_ids(&[]))), 200);
}

#[test]
fn null_among_the_audit_ids_is_no_id() {
    let world = eager().start();
    for (payload, at) in [(Payload::v2(), "/token/audit_ids"), (Payload::v3(), "/audit_ids")] {
        let own = new_audit_id();
        let payload = payload.with(at, json!([own, null]));
        let token = world.pki(&payload);
        assert_eq!(world.status(&token), 200);
        world.identity.revoke(Revoked::audit_id(&own));
        assert_revoked(&world, &world.pkiz(&payload));
    }
    let validated = Payload::v3().with("/audit_ids", json!([new_audit_id(), null]));
    assert_eq!(world.status(&world.uuid(&validated)), 200);
}

#[test]
fn d14_d15_d17_a_cached_token_dies_with_the_next_list() {
    let world = World::setup().set("keystone_revocation_cache_time", "1s").workers(2).start();
    let tokens = [world.pki(&Payload::v3()), world.pkiz(&Payload::v3())];
    let ask = |pid: i32, token: &str| {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        client.send(&Request::get("/").token(token)).unwrap()
    };
    for token in &tokens {
        for pid in world.nginx.worker_pids() {
            assert_eq!(ask(pid, token).status, 200);
            assert_eq!(ask(pid, token).header("X-Cache"), Some("HIT"));
        }
    }
    let start = Instant::now();
    tokens.iter().for_each(|token| world.identity.revoke_token(token));
    for token in &tokens {
        wait_for("the tokens to be refused", || (world.status(token) == 401).then_some(()))
            .unwrap();
        for pid in world.nginx.worker_pids() {
            let answer = ask(pid, token);
            expect::refused(&answer);
            assert_eq!(answer.header("X-Result"), Some("revoked"));
        }
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn d18_a_cached_token_when_the_list_cannot_be_had() {
    let mut world = World::setup().set("keystone_revocation_cache_time", "1s").start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.stop();
    wait_for("the list to be too old", || (world.status(&token) == 503).then_some(())).unwrap();
    expect::unavailable(&world.send(&Request::get("/").token(&token)));
    world.identity.restart().unwrap();
    wait_for("the list", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn d18_unless_it_may_be_stale() {
    let mut world = World::setup()
        .set("keystone_revocation_cache_time", "500ms")
        .set("keystone_revocation_stale", "1h")
        .start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.stop();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_revoked(&world, &revoked);
}

#[test]
fn d21_where_the_list_comes_from() {
    for (version, path) in
        [("v2.0", "/v2.0/tokens/revoked"), ("v3", "/v3/auth/tokens/OS-PKI/revoked")]
    {
        let world = eager().set("keystone_auth_version", version).start();
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        let state = world.identity.state();
        let asked: Vec<_> = state.log.iter().filter(|request| request.target == path).collect();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].headers.text("X-Auth-Token"), Some(ADMIN_TOKEN));
    }
}

#[test]
fn d22_answers_that_are_no_list() {
    let answers = [
        "{}",
        "[]",
        "",
        "null",
        "hello",
        "{\"signed\": 1}",
        "{\"signed\": \"\"}",
        "{\"signed\": \"hello\"}",
        "{\"revoked\": []}",
    ];
    for answer in answers {
        let world = eager().start();
        world.identity.state().list_answer = Some(answer.into());
        world.judges_signed_tokens_online(answer);
        assert!(!world.signing_dir().join("revoked.pem").exists());
    }
}

#[test]
fn d23_the_list_cannot_be_had() {
    for status in [403, 404, 410, 500, 502, 503] {
        let world = World::setup().set("keystone_http_request_max_retries", "0").start();
        world.identity.fault("/v3/auth/tokens/OS-PKI/revoked", Fault::Status(status));
        world.judges_signed_tokens_online(&format!("a list with status {status}"));
        let log = world.nginx.error_log();
        let said = |line: &str| line.contains("[error]") || line.contains("[warn]");
        let why = |line: &str| line.contains("list") && line.contains("keystone");
        assert!(log.lines().any(|line| said(line) && why(line)), "{log}");
    }
}

#[test]
fn d23_the_identity_service_asks_for_a_pause() {
    let world = World::setup().set("keystone_http_request_max_retries", "0").start();
    let list = "/v3/auth/tokens/OS-PKI/revoked";
    world.identity.fault_times(1, list, Fault::Header("Retry-After", "1".into()));
    world.identity.fault_times(1, list, Fault::Status(429));
    let token = world.pki(&Payload::v3());
    // It stays, so that neither side can judge the token.
    expect::unavailable(&world.send(&Request::get("/").token(&token)));
    assert_eq!(world.identity.validations(), [""; 0]);
    wait_for("the end of the pause", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn d23_unless_revocation_is_off() {
    let world = World::setup().set("keystone_revocation", "off").start();
    world.identity.fault("/v3/auth/tokens/OS-PKI/revoked", Fault::Status(410));
    let token = world.pki(&Payload::v3());
    world.identity.revoke_token(&token);
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.identity.count("/v3/auth/tokens"), 0);
}

#[test]
fn d24_the_list_in_memory_is_used_within_its_time() {
    let world = World::setup().set("keystone_revocation_cache_time", "1h").workers(2).start();
    for _ in 0..20 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    }
    assert_eq!(world.identity.count("/v3/auth/tokens/OS-PKI/revoked"), 1);
}

#[test]
fn d24_zero_asks_before_every_validation() {
    let world = eager().start();
    let token = world.pki(&Payload::v3());
    for number in 1..=5 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        assert_eq!(world.identity.count("/v3/auth/tokens/OS-PKI/revoked"), number);
    }
    assert_eq!(world.status(&token), 200);
    world.identity.forget_requests();
    assert_eq!(world.send(&Request::get("/").token(&token)).header("X-Cache"), Some("HIT"));
}

/// A token is revoked while the answer to a question for the list is on its way, which does not
/// tell of it; then the token comes, to the same worker or to another one.
#[test]
fn d24_zero_uses_no_list_that_was_requested_before_the_token_came() {
    for workers in [1, 2] {
        let world = eager().workers(workers).start();
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            let request = Request::get("/").token(&world.pki(&Payload::v3()));
            assert_eq!(client.send(&request).unwrap().status, 200);
        }
        for (first, second) in [(0, workers - 1), (workers - 1, 0)] {
            world.identity.forget_requests();
            let gate = Gate::default();
            world.identity.fault_times(1, LIST, Fault::Hold(gate.clone()));
            let pids = world.nginx.worker_pids();
            let [mut early, mut late] =
                [first, second].map(|at| world.nginx.connect_worker(pids[at]).unwrap());
            let token = world.pki(&Payload::v3());
            // It judges the token if the next list comes while this one is verified.
            world.identity.know(&token, &Payload::v3());
            early.write(&Request::get("/").token(&token).bytes()).unwrap();
            let asked = || (world.identity.count(LIST) > 0).then_some(());
            wait_for("the question for the list", asked).unwrap();
            let revoked = world.pki(&Payload::v3());
            world.identity.revoke_token(&revoked);
            late.write(&Request::get("/").token(&revoked).bytes()).unwrap();
            // The worker has read it when it has answered what came later.
            let mut witness = world.nginx.connect_worker(pids[second]).unwrap();
            assert_eq!(witness.send(&Request::get(WORKER)).unwrap().status, 200);
            gate.open();
            assert_eq!(early.read(false).unwrap().status, 200);
            expect::refused(&late.read(false).unwrap());
            assert_eq!(world.identity.count(LIST), 2, "{workers} workers");
            assert_revoked(&world, &revoked);
        }
    }
}

#[test]
fn d24_requests_that_come_during_a_fetch_share_the_next_one() {
    let world = eager().start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    world.identity.forget_requests();
    let gate = Gate::default();
    world.identity.fault_times(1, LIST, Fault::Hold(gate.clone()));
    let start = || {
        let mut client = world.nginx.connect().unwrap();
        client.write(&Request::get("/").token(&world.pki(&Payload::v3())).bytes()).unwrap();
        client
    };
    let first = start();
    let asked = || (world.identity.count(LIST) > 0).then_some(());
    wait_for("the question for the list", asked).unwrap();
    let waiting: Vec<_> = (0..20).map(|_| start()).collect();
    assert_eq!(world.send(&Request::get(WORKER)).status, 200);
    gate.open();
    for mut client in std::iter::once(first).chain(waiting) {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    assert_eq!(world.identity.count(LIST), 2);
}

#[test]
fn d25_a_fresh_list_on_disk_is_used_after_a_restart() {
    let mut world = World::setup().set("keystone_revocation_cache_time", "1h").start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    wait_for("revoked.pem", || world.signing_dir().join("revoked.pem").exists().then_some(()))
        .unwrap();
    world.identity.forget_requests();
    world.nginx.restart(&world.config).unwrap();
    assert_revoked(&world, &revoked);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn d25_an_old_list_on_disk_is_not() {
    let age = |dir: &std::path::Path| {
        let list = fs::File::open(dir.join("keystone/revoked.pem")).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(7200);
        list.set_modified(then).unwrap();
    };
    let world = World::setup().offline().files(age).start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_revoked(&world, &revoked);
    assert_eq!(world.identity.count("/v3/auth/tokens/OS-PKI/revoked"), 1);
}

#[test]
fn d25_nor_is_one_from_the_future() {
    let age = |dir: &std::path::Path| {
        let list = fs::File::open(dir.join("keystone/revoked.pem")).unwrap();
        let then = std::time::SystemTime::now() + Duration::from_secs(600);
        list.set_modified(then).unwrap();
    };
    let world = World::setup().offline().files(age).start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_revoked(&world, &revoked);
    assert_eq!(world.identity.count(LIST), 1);
}

/// Nobody sends signed tokens, and a list is there.
#[test]
fn a_listed_token_that_was_validated_online_is_refused_without_signed_ones() {
    let world = World::setup().offline().set("keystone_revocation_cache_time", "1s").start();
    let token = world.uuid(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.revoke_token(&token);
    world.identity.forget(&token);
    wait_for("the token to be refused", || (world.status(&token) == 401).then_some(())).unwrap();
    // And no list is asked for where there is none.
    let world = World::setup().set("keystone_revocation_cache_time", "200ms").start();
    let token = world.uuid(&Payload::v3());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        assert_eq!(world.status(&token), 200);
    }
    assert_eq!(world.identity.count(LIST), 0);
}

#[test]
fn d26_no_list_on_disk_or_in_memory() {
    let lose = |dir: &std::path::Path| fs::remove_file(dir.join("keystone/revoked.pem")).unwrap();
    let world = World::setup().offline().files(lose).start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let requests = world.identity.requests();
    assert!(requests.contains(&"GET /v3/auth/tokens/OS-PKI/revoked".into()), "{requests:?}");
    assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT"), 0, "{requests:?}");
}

#[test]
fn d27_a_time_without_a_unit() {
    let world = World::setup().set("keystone_revocation_cache_time", "24").start();
    for _ in 0..3 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    }
    assert_eq!(world.identity.count("/v3/auth/tokens/OS-PKI/revoked"), 1);
}

#[test]
fn p08_lists_that_cannot_be_verified() {
    let world = eager().start();
    let good = world.identity.state().signed_list().unwrap();
    let stranger = stranger();
    let strange = mint::cms_pem(&sign(&stranger.signing, b"{\"revoked\": []}").unwrap());
    let mut tampered = good.clone();
    let middle = good.len() / 3;
    let other = if good.as_bytes()[middle] == b'A' { "B" } else { "A" };
    tampered.replace_range(middle..=middle, other);
    drop(world);
    let lists = [
        ("garbage", "garbage".to_owned()),
        ("truncated", good[..good.len() / 2].to_owned()),
        ("tampered with", tampered),
        ("signed by a stranger", strange),
        ("a certificate", stranger.signing.pem().unwrap()),
    ];
    for (what, list) in lists {
        let world = eager().start();
        world.identity.state().list_answer = Some(json!({ "signed": list }).to_string());
        world.judges_signed_tokens_online(&format!("a list {what}"));
        assert!(!world.signing_dir().join("revoked.pem").exists(), "a list {what}");
    }
}

#[test]
fn p08_signed_content_that_is_no_list() {
    for content in ["[1,2]", "hello", "", "{\"revoked\": 1}", "{\"revoked\": [1]}", "null"] {
        let world = eager().start();
        world.identity.state().list_content = Some(content.into());
        world.judges_signed_tokens_online(content);
    }
}

/// Keystone signs tokens and lists alike: who can answer in its place has a user's own token at
/// hand, which names nobody.
#[test]
fn p08_a_token_in_place_of_the_list() {
    for payload in [Payload::v2(), Payload::v3()] {
        let world = eager().start();
        let revoked = world.pki(&Payload::v3());
        world.identity.revoke_token(&revoked);
        assert_revoked(&world, &revoked);
        let other = world.pki(&Payload::v3());
        world.identity.revoke_token(&other);
        let der = sign(&world.pki.signing, payload.json().as_bytes()).unwrap();
        let answer = json!({ "signed": mint::cms_pem(&der) }).to_string();
        world.identity.state().list_answer = Some(answer);
        world.identity.forget_requests();
        expect::refused(&world.send(&Request::get("/").token(&other)));
        // Not by a list that is no list: the identity service was asked.
        assert_eq!(world.identity.validations(), [other]);
        world.judges_signed_tokens_online("a token in place of the list");
        world.nginx.wait_for_log("the document is a token, not a revocation list").unwrap();
    }
    // Nor is one on disk read as a list.
    let replace = |dir: &std::path::Path| {
        let der = sign(&shared_pki().unwrap().signing, Payload::v3().json().as_bytes()).unwrap();
        put(&dir.join("keystone"), "revoked.pem", mint::cms_pem(&der).as_bytes()).unwrap();
    };
    let world = World::setup().offline().files(replace).start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(world.identity.count(LIST), 1);
}

#[test]
fn a_bad_list_does_not_replace_a_good_one() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "500ms")
        .set("keystone_revocation_stale", "1h")
        .start();
    let revoked = world.pki(&Payload::v3());
    // However often it is fetched, the same list: another one would replace it on disk.
    let list = mint::revocation_list(&[Revoked::id(mint::md5(&revoked))]);
    world.identity.state().list_content = Some(list);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let list = world.signing_dir().join("revoked.pem");
    let kept = wait_for("revoked.pem", || fs::read(&list).ok()).unwrap();
    world.identity.state().list_content = Some("[]".into());
    world.identity.forget_requests();
    wait_for("another question for the list", || {
        world.status(&world.pki(&Payload::v3()));
        (world.identity.count("/v3/auth/tokens/OS-PKI/revoked") > 0).then_some(())
    })
    .unwrap();
    assert_revoked(&world, &revoked);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(fs::read(list).unwrap(), kept);
}

/// The list names a hash of one form of a token; CVE-2015-7546 is to come with another form.
#[test]
fn cve_2015_7546_another_form_of_a_listed_token() {
    let world = eager().start();
    let signing = &world.pki.signing;
    // Without audit ids there is nothing else to find the token by.
    let payload = || Payload::v3().with("/x", json!(new_uuid())).without("/audit_ids");
    let null = Form { null_parameters: true, ..Form::default() };
    let forms = |payload: &Payload| -> Vec<(&str, String)> {
        let content = payload.json();
        let der = sign(signing, content.as_bytes()).unwrap();
        let other = keystone_testbed::cms::sign_as(signing, content.as_bytes(), null).unwrap();
        let pem = mint::cms_pem(&der);
        vec![
            ("PKI", mint::pki(&der)),
            ("PKIZ of PEM", mint::pkiz(&der).unwrap()),
            ("PKIZ of DER", mint::pkiz_of(&der).unwrap()),
            ("PKI with NULL", mint::pki(&other)),
            ("PKIZ of PEM with NULL", mint::pkiz(&other).unwrap()),
            ("PKIZ of PEM at level 9", mint::pkiz_at_level(pem.as_bytes(), 9).unwrap()),
            ("PKIZ of PEM, not compressed", mint::pkiz_at_level(pem.as_bytes(), 0).unwrap()),
        ]
    };
    // What Keystone can have issued and so listed, and what can be made of it.
    for listed in 0..5 {
        let forms = forms(&payload());
        world.identity.revoke_token(&forms[listed].1);
        for (name, token) in &forms {
            let answer = world.send(&Request::get("/").token(token));
            assert_eq!(answer.status, 401, "{} is listed, {name} comes", forms[listed].0);
        }
    }
    for (name, token) in forms(&payload()) {
        assert_eq!(world.status(&token), 200, "{name}");
    }
}

#[test]
fn cve_2015_7546_in_any_algorithm() {
    let world = eager().set("keystone_hash_algorithms", "sha512 md5").start();
    let payload = Payload::v3().without("/audit_ids");
    let (pki, pkiz) = (world.pki(&payload), world.pkiz(&payload));
    world.identity.revoke_token(&pkiz);
    assert_revoked(&world, &pki);
    assert_revoked(&world, &pkiz);
}

#[test]
fn p10_the_whole_token_as_an_id_does_not_count() {
    let world = eager().start();
    let token = world.pki(&Payload::v3());
    world.identity.revoke(Revoked::id(&token));
    assert_eq!(world.status(&token), 200);
}

#[test]
fn a_long_list() {
    let world = eager().set("keystone_cache_zone", "zone=large:64m").start();
    let token = world.pki(&Payload::v3());
    {
        let mut state = world.identity.state();
        for _ in 0..20_000 {
            state.revoked.push(Revoked { id: Some(new_uuid()), audit_id: Some(new_audit_id()) });
        }
        state.revoked.push(Revoked::id(mint::md5(&token)));
    }
    assert_revoked(&world, &token);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    // In a small zone it has no room: the identity service judges, and the log says why.
    let mut world = world;
    world.reconfigure(|config| config.set("keystone_cache_zone", "zone=small:1m"));
    world.judges_signed_tokens_online("a list without room");
    world.nginx.wait_for_log("make the zone larger").unwrap();
}
