//! What an answer of Keystone must have to count, and what may be odd about it.

use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;
use serde_json::{json, Value};

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
