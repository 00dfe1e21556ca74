//! Each counter moves by what was done.

use super::*;
use crate::memcached::fleet::{hurry, unhurried};

const VALIDATION: [&str; 3] = ["format", "path", "result"];
const LOOKUP: [&str; 2] = ["level", "status"];
const ASKED: [&str; 2] = ["request", "status"];

#[test]
fn signed_tokens() {
    let world = setup().offline().start();
    let good = world.pki(&Payload::v3());
    for _ in 0..3 {
        assert_eq!(world.status(&good), 200);
    }
    assert_eq!(world.status(&world.pkiz(&Payload::v3())), 200);
    let expired = world.pki(&Payload::v3().expires_in(-5));
    for _ in 0..2 {
        assert_eq!(world.status(&expired), 401);
    }
    assert_eq!(world.status("MIInonsense"), 401);
    assert_eq!(world.send(&Request::get("/")).status, 401);
    assert_eq!(world.send(&Request::get("/open/")).status, 200);
    let twice = Request::get("/").token(&good).token(&good);
    assert_eq!(world.send(&twice).status, 400);

    let metrics = after(&world, 9);
    assert_told(
        &metrics,
        "keystone_requests_total",
        &["result"],
        &[("ok", 4), ("expired", 2), ("malformed", 2), ("no_token", 1)],
    );
    assert_told(
        &metrics,
        "keystone_token_validations_total",
        &VALIDATION,
        &[
            ("pki offline ok", 1),
            ("pkiz offline ok", 1),
            ("pki offline expired", 1),
            ("pki offline malformed", 1),
        ],
    );
    // The refusal is had from the zone, as is a valid token that comes for the second time. From
    // then on the worker has it.
    assert_told(
        &metrics,
        "keystone_cache_lookups_total",
        &LOOKUP,
        &[("worker hit", 1), ("worker miss", 6), ("zone hit", 2), ("zone miss", 4)],
    );
    assert_told(&metrics, "keystone_cache_entries", &["area"], &[("valid", 2), ("refused", 1)]);
    assert_told(&metrics, "keystone_identity_requests_total", &ASKED, &[]);
    assert_eq!(metrics.sum("keystone_cache_evictions_total", &[]), 0.0);
    assert_eq!(metrics.sum("keystone_revocation_list_entries", &[]), 0.0);
    assert_eq!(metrics.sum("keystone_revocation_list_in_use", &[]), 1.0);
}

#[test]
fn tokens_that_the_identity_service_judges() {
    let world = setup().set("keystone_auth_version", "v3").start();
    let good = world.uuid(&Payload::v3());
    let fernet = new_fernet();
    world.identity.know(&fernet, &Payload::v3());
    let bad = new_uuid();
    for token in [&good, &good, &fernet, &bad, &bad] {
        world.status(token);
    }
    let metrics = after(&world, 5);
    assert_told(
        &metrics,
        "keystone_token_validations_total",
        &VALIDATION,
        &[("uuid online ok", 1), ("fernet online ok", 1), ("uuid online unknown_token", 1)],
    );
    assert_told(
        &metrics,
        "keystone_identity_requests_total",
        &ASKED,
        &[("token 200", 2), ("token 404", 1)],
    );
    let of = [("service", world.identity.uri()), ("endpoint", world.identity.uri())];
    let of = of.each_ref().map(|(name, value)| (*name, value.as_str()));
    let name = "keystone_identity_request_duration_seconds_count";
    assert_eq!(metrics.sum(name, &of), 3.0);
    assert!(metrics.sum("keystone_identity_request_duration_seconds_sum", &of) < 5.0);
    assert_told(
        &metrics,
        "keystone_cache_lookups_total",
        &LOOKUP,
        &[("worker hit", 0), ("worker miss", 5), ("zone hit", 2), ("zone miss", 3)]
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn one_validation_for_many_requests_counts_once() {
    let world = setup().set("keystone_auth_version", "v3").start();
    let token = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let mut clients: Vec<_> = (0..5).map(|_| world.nginx.connect().unwrap()).collect();
    for client in &mut clients {
        client.write(&Request::get("/").token(&token).bytes()).unwrap();
    }
    world.wait_for_validations(1);
    let pending = || metrics(&world.nginx).sum("keystone_identity_pending", &[]);
    wait_for("the question to be open", || (pending() == 1.0).then_some(())).unwrap();
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    let metrics = after(&world, 5);
    assert_eq!(metrics.sum("keystone_identity_pending", &[]), 0.0);
    assert_eq!(metrics.sum("keystone_token_validations_total", &[]), 1.0);
    assert_eq!(metrics.sum("keystone_identity_requests_total", &[]), 1.0);
}

#[test]
fn failures_and_tries_after_them() {
    let world = setup()
        .set("keystone_auth_version", "v3")
        .set("keystone_http_request_max_retries", "1")
        .set("keystone_read_timeout", "1s")
        .start();
    world.identity.fault_validations_times(2, Fault::Status(503));
    assert_eq!(world.status(&new_uuid()), 503);
    world.identity.fault_validations_times(1, Fault::Status(418));
    assert_eq!(world.status(&new_uuid()), 503);
    world.identity.fault_validations_times(1, Fault::Status(500));
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    let gate = world.identity.hold_validations();
    assert_eq!(world.status(&new_uuid()), 503);
    gate.open();
    let metrics = after(&world, 4);
    assert_told(
        &metrics,
        "keystone_requests_total",
        &["result"],
        &[("identity_unavailable", 3), ("ok", 1)],
    );
    assert_told(
        &metrics,
        "keystone_identity_requests_total",
        &ASKED,
        &[
            ("token 503", 2),
            ("token other", 1),
            ("token 500", 1),
            ("token 200", 1),
            ("token timeout", 2),
        ],
    );
    assert_eq!(metrics.sum("keystone_identity_retries_total", &[]), 3.0);
    assert_told(
        &metrics,
        "keystone_token_validations_total",
        &VALIDATION,
        &[("uuid online identity_unavailable", 3), ("uuid online ok", 1)],
    );
}

#[test]
fn a_service_that_is_down() {
    let world = setup()
        .identity(|identity| identity.stop())
        .set("keystone_auth_version", "v3")
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 503);
    let metrics = after(&world, 1);
    let failed = [("request", "certificates"), ("status", "failed")];
    assert_eq!(metrics.sum("keystone_identity_requests_total", &failed), 1.0);
    assert_eq!(metrics.sum("keystone_revocation_list_refresh_failing", &[]), 1.0);
    let refreshes = "keystone_revocation_list_refreshes_total";
    assert_told(&metrics, refreshes, &["result"], &[("failed", 1)]);
    let json = world.send(&Request::get("/status/json")).json().unwrap();
    let error = json["services"][0]["revocation_list"]["last_error"].as_str().unwrap();
    assert!(error.contains("cannot connect"), "{error}");
    assert_eq!(json["services"][0]["revocation_list"]["state"], "unknown");
}

#[test]
fn a_list_and_who_is_on_it() {
    let world = setup().set("keystone_revocation_cache_time", "0").start();
    let token = world.pki(&Payload::v3());
    world.identity.revoke_token(&token);
    assert_eq!(world.status(&token), 401);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let metrics = after(&world, 2);
    assert_told(
        &metrics,
        "keystone_token_validations_total",
        &VALIDATION,
        &[("pki offline revoked", 1), ("pki offline ok", 1)],
    );
    assert_eq!(metrics.sum("keystone_revocation_list_entries", &[]), 1.0);
    assert!(metrics.sum("keystone_revocation_list_age_seconds", &[]) < 5.0);
    let refreshes = "keystone_revocation_list_refreshes_total";
    assert_told(&metrics, refreshes, &["result"], &[("ok", 2)]);
    // A token that has to wait for the list is looked up once.
    assert_eq!(metrics.sum("keystone_cache_lookups_total", &[("level", "zone")]), 2.0);

    let json = world.send(&Request::get("/status/json")).json().unwrap();
    let list = &json["services"][0]["revocation_list"];
    assert_eq!((&list["state"], &list["entries"]), (&"list".into(), &1.into()));
    assert_eq!(list["generation"], metrics.sum("keystone_revocation_list_generation", &[]));
    let certificate = &json["services"][0]["signing_certificates"][0];
    assert!(certificate["subject"].as_str().unwrap().contains("CN="), "{certificate}");
    assert!(certificate["seconds_left"].as_i64().unwrap() > 0, "{certificate}");
    let ends = metrics.sum("keystone_signing_certificate_not_after_timestamp_seconds", &[]);
    assert_eq!(certificate["not_after"], ends as i64);
}

#[test]
fn json_has_the_same_numbers() {
    let world = setup().start();
    let strange = Payload::v3().pki(&stranger().signing).unwrap();
    for token in [world.pki(&Payload::v3()), world.uuid(&Payload::v3()), new_uuid(), strange] {
        world.status(&token);
    }
    let metrics = after(&world, 4);
    let json = world.send(&Request::get("/status/json")).json().unwrap();
    for (labels, value) in metrics.matching("keystone_requests_total", &[]) {
        assert_eq!(json["requests"][&labels["result"]], value as u64, "{labels:?}");
    }
    let sum = |list: &serde_json::Value| -> u64 {
        list.as_array().unwrap().iter().map(|it| it["count"].as_u64().unwrap()).sum()
    };
    let same = |json: &serde_json::Value, name: &str| {
        assert!(sum(json) > 0, "{name}");
        assert_eq!(sum(json), metrics.sum(name, &[]) as u64, "{name}");
    };
    let service = &json["services"][0];
    same(&json["validations"], "keystone_token_validations_total");
    same(&service["exchanges"], "keystone_identity_requests_total");
    same(&service["durations"], "keystone_identity_request_duration_seconds_count");
    let buckets = service["durations"][0]["buckets"].as_array().unwrap();
    assert_eq!(buckets.last().unwrap()["count"], service["durations"][0]["count"]);
    for level in ["worker", "zone"] {
        for status in ["hit", "miss"] {
            let told = [("level", level), ("status", status)];
            let told = metrics.sum("keystone_cache_lookups_total", &told);
            assert_eq!(json["cache"][level][status], told as u64);
        }
    }
    let zone = metrics.sum("keystone_zone_size_bytes", &[]);
    assert_eq!((json["cache"]["zone_bytes"].as_u64(), zone), (Some(10 << 20), 10_485_760.0));
}

#[test]
fn an_entry_whose_time_is_over() {
    let world = setup().offline().set("keystone_token_cache_time", "1s").start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(world.status(&token), 200);
    let metrics = after(&world, 2);
    assert_told(
        &metrics,
        "keystone_cache_lookups_total",
        &LOOKUP,
        &[("worker miss", 2), ("zone expired", 1), ("zone miss", 1)],
    );
}

#[test]
fn a_full_zone_evicts() {
    let world = setup().offline().set("keystone_cache_zone", "zone=k:256k").start();
    let mut client = world.nginx.connect().unwrap();
    for _ in 0..400 {
        let token = world.pki(&Payload::v3().without("/catalog"));
        let answer = client.send(&Request::get("/files/hello.txt").token(&token)).unwrap();
        assert_eq!(answer.status, 200);
    }
    let metrics = after(&world, 400);
    let valid = |name: &str| metrics.sum(name, &[("area", "valid")]);
    let (entries, capacity) =
        (valid("keystone_cache_entries"), valid("keystone_cache_capacity_entries"));
    assert!(entries > 100.0 && entries <= capacity, "{entries} of {capacity}");
    assert_eq!(valid("keystone_cache_evictions_total"), 400.0 - entries);
    let used = valid("keystone_cache_used_bytes") / valid("keystone_cache_size_bytes");
    assert!((used - entries / capacity).abs() < 0.02, "{used}");
}

#[test]
fn the_default_zone_has_room_for_twelve_thousand_identities() {
    let world = setup().start();
    let roles: Vec<String> = (0..10).map(|n| format!("role-of-a-name-{n}")).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    for number in 0..40 {
        let payload = Payload::v3().roles(&roles).audit_ids(&[&number.to_string()]);
        let token = if number % 2 == 0 { world.pki(&payload) } else { world.uuid(&payload) };
        assert_eq!(world.status(&token), 200);
    }
    let metrics = after(&world, 40);
    let valid = |name: &str| metrics.sum(name, &[("area", "valid")]);
    assert_eq!(valid("keystone_cache_entries"), 40.0);
    let capacity = valid("keystone_cache_capacity_entries");
    assert!(capacity >= 12_000.0, "{capacity}");
    let bytes = valid("keystone_cache_used_bytes") / 40.0;
    assert!(bytes <= 1_024.0, "{bytes}");
}

#[test]
fn what_the_fleet_has_stored() {
    unhurried(|| {
        let memcached = Memcached::start().unwrap();
        let server = memcached.server();
        let world = setup().set("keystone_memcached_servers", &server).start();
        let other = world.gateway(|config| config);
        let token = world.uuid(&Payload::v3());
        assert_eq!(world.status(&token), 200);
        let of = ["operation", "result"];
        let name = "keystone_memcached_requests_total";
        let read = |gateway: &Nginx| {
            let metrics = metrics(gateway);
            if metrics.sum(name, &[("result", "failed")]) > 0.0 {
                hurry();
            }
            metrics
        };
        let stored = || {
            let metrics = read(&world.nginx);
            let of = [("result", "stored"), ("server", server.as_str())];
            (metrics.sum(name, &of) == 1.0).then_some(metrics)
        };
        assert_told(
            &wait_for("the entry to be stored", stored).unwrap(),
            name,
            &of,
            &[("get miss", 1), ("set stored", 1)],
        );
        assert_eq!(other.send(&Request::get("/").token(&token)).unwrap().status, 200);
        let metrics = read(&other);
        assert_told(&metrics, name, &of, &[("get hit", 1)]);
        let validations = "keystone_token_validations_total";
        assert_told(&metrics, validations, &VALIDATION, &[("uuid memcached ok", 1)]);
        assert_eq!(metrics.sum("keystone_identity_requests_total", &[]), 0.0);
    });
}

#[test]
fn each_identity_service_has_its_own() {
    let other = keystone_testbed::identity::Identity::start(stranger()).unwrap();
    let port = keystone_testbed::port::Port::free().unwrap();
    let server = |port: &keystone_testbed::port::Port, uri: &str, dir: &str| {
        format!(
            "server {{ listen {}; keystone_auth on; root @DIR@/html;
                keystone_identity_uri {uri}; keystone_signing_dir @DIR@/{dir}; }}",
            port.address()
        )
    };
    let world = setup().config(|config| config.http(&server(&port, &other.uri(), "o"))).start();
    let token = new_uuid();
    other.know(&token, &Payload::v3());
    let request = Request::get("/files/hello.txt").token(&token);
    assert_eq!(keystone_testbed::http::send(port.address(), &request).unwrap().status, 200);
    let metrics = after(&world, 1);
    let asked = |uri: &str| {
        let of = [("service", uri), ("request", "token")];
        metrics.sum("keystone_identity_requests_total", &of)
    };
    assert_eq!((asked(&other.uri()), asked(&world.identity.uri())), (1.0, 0.0));
    assert!(lint(&text(&world.nginx)).is_ok());
}
