//! Application credentials that are valid for some requests only.
//!
//! The rules are those of `rules` in tests/keystone/cloud.py.

use keystone_testbed::http::Request;

use crate::cloud::{cloud, Cloud};
use crate::differences::{
    a_dot_in_a_rule_is_a_dot, an_ambiguous_path_matches_no_rule,
    only_a_valid_service_token_lifts_access_rules, the_catalog_need_not_have_the_service,
};
use crate::gate::{Gate, Setup};

/// A gate to an object store. auth_token fails at access rules where it is not to give a catalog.
fn object_store(cloud: &Cloud) -> Setup {
    Gate::setup(&cloud.fernet).service_type("object-store").catalog()
}

fn token(cloud: &Cloud) -> String {
    cloud.fernet.application_credential("rules").unwrap()
}

/// A path in the account of project demo.
fn demo(cloud: &Cloud, path: &str) -> String {
    format!("/v1/AUTH_{}{path}", cloud.fernet.project("demo").unwrap())
}

const ALICE: [(&str, &str); 2] = [("x-user-name", "alice"), ("x-project-name", "demo")];

#[test]
fn requests_that_a_rule_allows() {
    let cloud = cloud();
    let (gate, token) = (object_store(&cloud).open(), token(&cloud));
    let allowed = [
        ("GET", demo(&cloud, "/pub/o")),
        ("GET", demo(&cloud, "/pub/a/b/c")),
        ("GET", demo(&cloud, "/pub/o?format=json")),
        ("GET", demo(&cloud, "/%70ub/%6F")),
        ("GET", demo(&cloud, "/pub/a%20b")),
        ("GET", demo(&cloud, "/one/o")),
        ("GET", "/v1/AUTH_another/one/o".into()),
        ("PUT", demo(&cloud, "/a.b/c")),
    ];
    for (method, path) in allowed {
        println!("{method} {path}");
        gate.ask(&Request::new(method, &path).token(&token)).oracle_confirms(&ALICE).agree();
    }
}

#[test]
fn requests_that_no_rule_allows() {
    let cloud = cloud();
    let (gate, token) = (object_store(&cloud).open(), token(&cloud));
    let (delaying, other) = (object_store(&cloud).delay().open(), demo(&cloud, "/other"));
    let refused = [
        ("PUT", demo(&cloud, "/pub/o")),
        ("HEAD", demo(&cloud, "/pub/o")),
        ("GET", demo(&cloud, "/private/o")),
        ("GET", demo(&cloud, "/one/a/b")),
        ("GET", demo(&cloud, "/one")),
        ("GET", "/v1/AUTH_another/pub/o".into()),
        ("GET", "/v1/a/b/one/o".into()),
        ("GET", demo(&cloud, "/servers")),
        ("GET", format!("/x{}", demo(&cloud, "/pub/o"))),
        ("GET", other.clone()),
    ];
    for (method, path) in refused {
        println!("{method} {path}");
        let request = Request::new(method, &path).token(&token);
        gate.ask(&request).oracle_refuses().agree();
        if method != "HEAD" {
            delaying.ask(&request).oracle_lets_pass(&[]).agree();
        }
    }
}

#[test]
fn a_path_that_can_be_read_in_two_ways() {
    let cloud = cloud();
    let (gate, token) = (object_store(&cloud).open(), token(&cloud));
    for path in ["/pub/../o", "/pub/%2e%2e/o", "/pub/./o", "/pub//o", "/pub/a%2Fb", "/pub%2Fo"] {
        println!("{path}");
        let request = Request::get(&demo(&cloud, path)).token(&token);
        let both = gate.ask(&request).oracle_confirms(&ALICE);
        both.agree_but(&[an_ambiguous_path_matches_no_rule]);
    }
}

#[test]
fn a_dot_in_a_rule() {
    let cloud = cloud();
    let (gate, token) = (object_store(&cloud).open(), token(&cloud));
    let request = Request::new("PUT", &demo(&cloud, "/aXb/c")).token(&token);
    gate.ask(&request).oracle_confirms(&ALICE).agree_but(&[a_dot_in_a_rule_is_a_dot]);
}

#[test]
fn a_gate_that_does_not_know_its_service() {
    let cloud = cloud();
    let token = token(&cloud);
    let request = Request::get(&demo(&cloud, "/pub/o")).token(&token);
    let gate = Gate::setup(&cloud.fernet).catalog().open();
    gate.ask(&request).oracle_refuses().agree();
    let gate = Gate::setup(&cloud.fernet).service_type("volume").catalog().open();
    gate.ask(&request).oracle_refuses().agree();
}

#[test]
fn a_service_that_the_catalog_does_not_have() {
    let cloud = cloud();
    let token = token(&cloud);
    let allowed = Request::get(&demo(&cloud, "/pub/o")).token(&token);
    let allowed = object_store(&cloud).open().ask(&allowed).oracle_confirms(&ALICE);

    let gate = Gate::setup(&cloud.fernet).service_type("compute").catalog().open();
    let request = Request::get(&demo(&cloud, "/servers")).token(&token);
    let mut both = gate.ask(&request).oracle_refuses();
    assert!(the_catalog_need_not_have_the_service(&mut both.oracle, &allowed.oracle));
    both.agree();
}

#[test]
fn a_gate_without_a_catalog() {
    let cloud = cloud();
    let token = token(&cloud);
    let request = Request::get(&demo(&cloud, "/pub/o")).token(&token);
    let with = object_store(&cloud).open().ask(&request).oracle_confirms(&ALICE);
    let gate = Gate::setup(&cloud.fernet).service_type("object-store").open();
    let mut without = gate.ask(&request);
    // auth_token looks for the catalog that it did not ask for.
    assert_eq!(without.oracle.status, 500);
    without.oracle = with.oracle;
    assert!(without.oracle.headers.remove("x-service-catalog").is_some());
    without.agree();
}

#[test]
fn a_service_token_lifts_the_rules() {
    let cloud = cloud();
    let token = token(&cloud);
    let request = Request::new("DELETE", &demo(&cloud, "/private/o")).token(&token);
    let with = |service: &str| request.clone().header("X-Service-Token", service);
    let (glance, bob) = (cloud.fernet.token("glance").unwrap(), cloud.fernet.token("bob").unwrap());
    let gate = object_store(&cloud).open();
    let service = [&ALICE[..], &[("x-service-user-name", "glance")]].concat();
    gate.ask(&with(&glance)).oracle_confirms(&service).agree();
    gate.ask(&request).oracle_refuses().agree();
    gate.ask(&with(&bob)).oracle_refuses().agree();

    let delaying = object_store(&cloud).delay().open();
    let invalid = [&ALICE[..], &[("x-service-identity-status", "Invalid")]].concat();
    for service in [bob.as_str(), "garbage"] {
        delaying
            .ask(&with(service))
            .oracle_confirms(&invalid)
            .agree_but(&[only_a_valid_service_token_lifts_access_rules]);
    }
}
