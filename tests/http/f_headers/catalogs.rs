//! `X-Service-Catalog`: made of the catalog of either version, where it is configured.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;
use serde_json::{json, Value};

use super::token;

fn v2_catalog(world: &World, catalog: Value) -> Value {
    let seen = token(world, Payload::v3().with("/catalog", catalog));
    serde_json::from_str(&seen.header("X-Service-Catalog").unwrap()).unwrap()
}

#[test]
fn f08_f09_f10_catalogs() {
    let world = World::setup().offline().set("keystone_include_service_catalog", "on").start();
    let endpoint = |interface: &str, region: &str| {
        let url = format!("http://{interface}.{region}");
        json!({"interface": interface, "region": region, "url": url, "id": "x"})
    };
    let one = ["admin", "internal", "public"].map(|interface| endpoint(interface, "r"));
    let catalog = json!([{"type": "t", "name": "n", "id": "x", "endpoints": one}]);
    assert_eq!(
        v2_catalog(&world, catalog),
        json!([{"type": "t", "name": "n", "endpoints": [{
            "region": "r",
            "adminURL": "http://admin.r",
            "internalURL": "http://internal.r",
            "publicURL": "http://public.r"
        }]}])
    );

    let three = [endpoint("admin", "a"), endpoint("internal", "b"), endpoint("public", "c")];
    let catalog = json!([{"type": "t", "name": "n", "endpoints": three}]);
    let mut got = v2_catalog(&world, catalog);
    let endpoints = got[0]["endpoints"].as_array_mut().unwrap();
    endpoints.sort_by_key(|endpoint| endpoint["region"].to_string());
    assert_eq!(
        *endpoints,
        [
            json!({"region": "a", "adminURL": "http://admin.a"}),
            json!({"region": "b", "internalURL": "http://internal.b"}),
            json!({"region": "c", "publicURL": "http://public.c"}),
        ]
    );

    let bare = json!([{"type": "t", "endpoints": [{"interface": "public", "url": "http://x"}]}]);
    let expected = json!([{"type": "t", "endpoints": [{"publicURL": "http://x"}]}]);
    assert_eq!(v2_catalog(&world, bare), expected);
}

#[test]
fn f08_a_catalog_is_sent_only_where_configured() {
    let world = World::setup()
        .offline()
        .location(
            "= /catalog",
            "keystone_auth on; keystone_include_service_catalog on; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    // Whichever comes first: a cached answer must serve both.
    for target in ["/", "/catalog", "/", "/catalog"] {
        let seen =
            world.seen(&Request::get(target).token(&token).header("X-Service-Catalog", "[]"));
        let catalog = seen.header("X-Service-Catalog");
        assert_eq!(catalog.is_some(), target == "/catalog", "{target}: {catalog:?}");
    }
}

#[test]
fn e13_e14_a_token_without_a_catalog() {
    let world = World::setup().offline().set("keystone_include_service_catalog", "on").start();
    for payload in [Payload::v3().without("/catalog"), Payload::v2().without("/serviceCatalog")] {
        let request = Request::get("/").token(&world.pki(&payload));
        let seen = world.seen(&request.header("X-Service-Catalog", "[]"));
        assert_eq!(seen.header("X-Service-Catalog"), None);
    }
}
