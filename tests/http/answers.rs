//! What an answer of Keystone must have to count, and what may be odd about it.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::Payload;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;
use serde_json::{json, Value};

#[test]
fn status_203_is_as_good_as_200() {
    for version in ["auto", "v2.0", "v3"] {
        let world = World::setup()
            .set("keystone_auth_version", version)
            .set("keystone_http_request_max_retries", "0")
            .set("keystone_revocation_events", "400ms")
            .logs_in()
            .start();
        world.identity.fault("/", Fault::StatusAlone(203));
        let payload = if version == "v2.0" { Payload::v2() } else { Payload::v3() };
        let signed = world.pki(&payload);
        assert_eq!(world.status(&world.uuid(&payload)), 200, "{version}: about a token");
        assert_eq!(world.status(&signed), 200, "{version}: certificates and list");
        assert_eq!(world.identity.validations().len(), 1, "{version}");
        world.identity.revoke_token(&signed);
        let refused = || (world.status(&signed) == 401).then_some(());
        // Also from a list that came with 203.
        wait_for("the signed token to be refused", refused).unwrap();
        wait_for("the events", || (world.identity.count("/v3/OS-REVOKE") > 1).then_some(()))
            .unwrap();
        let log = world.nginx.error_log();
        assert!(!log.contains("[error]"), "{version}: {log}");
    }
}

#[test]
fn an_answer_without_what_every_token_has_makes_no_sense() {
    let v2 = ["/token", "/token/id", "/token/expires", "/user", "/user/id", "/user/name"];
    let v3 = [
        "/expires_at",
        "/user",
        "/user/id",
        "/user/name",
        "/user/domain",
        "/user/domain/id",
        "/user/domain/name",
        "/project/id",
    ];
    let payload = |version: &str| match version {
        "v2.0" => Payload::v2().without("/user/username"),
        _ => Payload::v3(),
    };
    for (version, paths) in [("v2.0", &v2[..]), ("v3", &v3[..])] {
        let world = World::setup().set("keystone_auth_version", version).start();
        let mut answers: Vec<_> =
            paths.iter().map(|path| payload(version).without(path).json()).collect();
        answers.extend(paths.iter().map(|path| payload(version).with(path, Value::Null).json()));
        answers.push(r#"{"token": {"user": {"id": "a"}}}"#.to_owned());
        answers.push(
            r#"{"access": {"token": {"id": "placeholder"}, "user": {"id": "a"}}}"#.to_owned(),
        );
        for answer in answers {
            let token = world.uuid(&payload(version));
            // v2.0 names the token that was asked about.
            let answer = answer.replace("placeholder", &token);
            world.identity.fault_validations(Fault::Body(answer.clone().into_bytes()));
            world.identity.forget_requests();
            for target in ["/", "/delay/"] {
                let response = world.send(&Request::get(target).token(&token));
                assert_eq!(response.status, 503, "{answer}");
                expect::unavailable(&response);
                assert_eq!(response.header("X-Result"), Some("identity_unavailable"));
            }
            assert_eq!(world.identity.validations().len(), 2, "it is neither kept nor asked twice");
            world.identity.heal();
            assert_eq!(world.status(&token), 200, "{answer}");
        }
        let log = world.nginx.error_log();
        assert!(log.contains("invalid response about a token: the token has no user id"), "{log}");
    }
}

#[test]
fn the_best_version_on_offer_is_spoken() {
    let of = |id: &str, status: &str| json!({"id": id, "status": status, "links": []});
    for (offer, path) in [
        // Folsom.
        (json!([of("v2.0", "beta")]), "/v2.0/"),
        (json!([of("v2.0", "supported")]), "/v2.0/"),
        (json!([of("v2.0", "deprecated")]), "/v2.0/"),
        (json!([of("v3.0", "experimental")]), "/v3/"),
        (json!([of("v3.0", "beta"), of("v2.0", "stable")]), "/v2.0/"),
        (json!([of("v3.0", "beta"), of("v2.0", "DEPRECATED")]), "/v2.0/"),
        (json!([of("v3.0", "supported"), of("v2.0", "CURRENT")]), "/v3/"),
        (json!([of("v2.0", "beta"), of("v3.0", "beta")]), "/v3/"),
        (json!([of("v2.0", "stable"), {"id": 3}, 1, of("v3.0", "deprecated")]), "/v2.0/"),
    ] {
        for document in [json!({ "versions": offer }), json!({"versions": {"values": offer}})] {
            let world = World::setup().start();
            let body = document.to_string().into_bytes();
            world.identity.fault_times(1, "/", Fault::Body(body));
            let payload = if path == "/v3/" { Payload::v3() } else { Payload::v2() };
            assert_eq!(world.status(&world.uuid(&payload)), 200, "{document}");
            assert_eq!(world.identity.count(path), 1, "{document}");
        }
    }
}

#[test]
fn an_odd_endpoint_is_left_out_of_the_catalog() {
    let odd = [
        json!({"interface": "public", "region": "one"}),
        json!({"interface": "public", "url": "http://odd", "region": 1}),
        json!({"url": "http://odd", "region": "one"}),
        json!(null),
    ];
    let good = json!({"interface": "public", "region": "one", "url": "http://good"});
    let endpoints: Vec<_> = odd.into_iter().chain([good]).collect();
    let services = json!([
        {"name": "without a type", "endpoints": endpoints},
        {"type": "image", "name": "glance", "endpoints": endpoints},
        {"type": "volume", "name": "cinder", "endpoints": null},
    ]);
    let world = World::setup().set("keystone_include_service_catalog", "on").start();
    let payload = || Payload::v3().with("/catalog", services.clone());
    for token in [world.uuid(&payload()), world.pki(&payload()), world.uuid(&payload())] {
        let seen = world.seen(&Request::get("/").token(&token));
        let catalog: Value =
            serde_json::from_str(&seen.header("X-Service-Catalog").unwrap()).unwrap();
        assert_eq!(
            catalog,
            json!([
                {
                    "type": "image", "name": "glance",
                    "endpoints": [{"region": "one", "publicURL": "http://good"}],
                },
                {"type": "volume", "name": "cinder", "endpoints": []},
            ])
        );
    }
    let log = world.nginx.error_log();
    let lines = log.lines().filter(|line| line.contains("X-Service-Catalog is incomplete"));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("[warn]") && lines[0].contains(" 6 entries"), "{}", lines[0]);
}
