//! A service that asks on behalf of a user: `X-Service-Token`.

use std::thread::sleep;
use std::time::Duration;

use keystone_testbed::http::Request;
use keystone_testbed::keystone::{Scope, BRIEF};

use crate::cloud::cloud;
use crate::differences::{
    a_service_token_lends_no_system_scope, a_service_token_takes_no_system_scope,
};
use crate::gate::Gate;

const SERVICE: [(&str, &str); 5] = [
    ("x-service-identity-status", "Confirmed"),
    ("x-service-user-name", "glance"),
    ("x-service-project-name", "service"),
    ("x-service-user-domain-name", "Default"),
    ("x-service-roles", "service"),
];

/// A request of a user, passed on by a service.
fn request(user: &str, service: &str) -> Request {
    Request::get("/").token(user).header("X-Service-Token", service)
}

#[test]
fn a_user_and_a_service() {
    let cloud = cloud();
    for keystone in [&cloud.fernet, &cloud.jws] {
        let gate = Gate::setup(keystone).open();
        let (user, service) = (keystone.token("alice").unwrap(), keystone.token("glance").unwrap());
        let wanted = [&SERVICE[..], &[("x-user-name", "alice")]].concat();
        gate.ask(&request(&user, &service)).oracle_confirms(&wanted).agree();
        gate.ask(&request(&user, &service)).oracle_confirms(&wanted).agree();
        // What is cached of it does not make a service of the next request.
        gate.ask_with(&user)
            .oracle_confirms(&[("x-user-name", "alice")])
            .oracle_is_silent_about(&["x-service-identity-status", "x-service-user-id"])
            .agree();
    }
}

#[test]
fn a_service_token_without_the_role() {
    let cloud = cloud();
    let (user, service) =
        (cloud.fernet.token("alice").unwrap(), cloud.fernet.token("bob").unwrap());
    let gate = Gate::setup(&cloud.fernet).open();
    gate.ask(&request(&user, &service)).oracle_refuses().agree();

    let gate = Gate::setup(&cloud.fernet).delay().open();
    gate.ask(&request(&user, &service))
        .oracle_confirms(&[("x-user-name", "alice"), ("x-service-identity-status", "Invalid")])
        .oracle_is_silent_about(&["x-service-user-id", "x-service-roles"])
        .agree();

    let gate = Gate::setup(&cloud.fernet).service_roles_not_required().open();
    let wanted = [("x-service-identity-status", "Confirmed"), ("x-service-user-name", "bob")];
    gate.ask(&request(&user, &service)).oracle_confirms(&wanted).agree();

    let gate = Gate::setup(&cloud.fernet).service_role("reader").open();
    gate.ask(&request(&user, &service)).oracle_confirms(&wanted).agree();
}

#[test]
fn a_service_token_that_is_garbage() {
    let cloud = cloud();
    let user = cloud.fernet.token("alice").unwrap();
    let gate = Gate::setup(&cloud.fernet).open();
    gate.ask(&request(&user, "garbage")).oracle_refuses().agree();
    let gate = Gate::setup(&cloud.fernet).delay().open();
    let wanted = [("x-user-name", "alice"), ("x-service-identity-status", "Invalid")];
    gate.ask(&request(&user, "garbage")).oracle_confirms(&wanted).agree();
}

#[test]
fn a_service_token_alone() {
    let cloud = cloud();
    let service = cloud.fernet.token("glance").unwrap();
    let alone = Request::get("/").header("X-Service-Token", &service);
    let gate = Gate::setup(&cloud.fernet).open();
    gate.ask(&alone).oracle_refuses().agree();
    gate.ask(&request("garbage", &service)).oracle_refuses().agree();

    let gate = Gate::setup(&cloud.fernet).delay().open();
    for request in [alone, request("garbage", &service)] {
        let both = gate.ask(&request);
        assert_eq!(both.oracle.headers["x-identity-status"], "Invalid");
        for (name, value) in SERVICE {
            assert_eq!(both.oracle.headers[name], value);
        }
        both.agree();
    }
}

#[test]
fn an_expired_user_token_passes_only_with_a_service_token() {
    let cloud = cloud();
    let (user, unseen) = (cloud.brief.token("alice").unwrap(), cloud.brief.token("alice").unwrap());
    let (service, bob) =
        (cloud.fernet.token("glance").unwrap(), cloud.fernet.token("bob").unwrap());
    let expired_service = cloud.brief.token("glance").unwrap();
    sleep(BRIEF + Duration::from_secs(1));

    let gate = Gate::setup(&cloud.fernet).open();
    let confirmed = [&SERVICE[..], &[("x-user-name", "alice")]].concat();
    gate.ask_with(&user).oracle_refuses().agree();
    gate.ask(&request(&user, &service)).oracle_confirms(&confirmed).agree();
    gate.ask(&request(&user, &service)).oracle_confirms(&confirmed).agree();
    gate.ask_with(&user).oracle_refuses().agree();
    // The other way round: what passes with the service token first.
    gate.ask(&request(&unseen, &service)).oracle_confirms(&confirmed).agree();
    gate.ask_with(&unseen).oracle_refuses().agree();
    gate.ask(&request(&unseen, &bob)).oracle_refuses().agree();
    gate.ask(&request(&unseen, &expired_service)).oracle_refuses().agree();

    // A service token that is valid without the role is not enough for that.
    let gate = Gate::setup(&cloud.fernet).service_roles_not_required().open();
    gate.ask(&request(&user, &bob)).oracle_refuses().agree();
    gate.ask(&request(&user, &service)).oracle_confirms(&confirmed).agree();
}

#[test]
fn system_scopes_of_users_and_services() {
    let cloud = cloud();
    let system = cloud.fernet.token_for("admin", Scope::System).unwrap();
    let service = cloud.fernet.token("glance").unwrap();
    let gate = Gate::setup(&cloud.fernet).open();
    gate.ask(&request(&system, &service))
        .oracle_confirms(&[("x-user-name", "admin"), ("x-service-user-name", "glance")])
        .agree_but(&[a_service_token_takes_no_system_scope]);

    let gate = Gate::setup(&cloud.fernet).service_role("admin").open();
    let alice = cloud.fernet.token("alice").unwrap();
    gate.ask(&request(&alice, &system))
        .oracle_confirms(&[("x-user-name", "alice"), ("x-service-user-name", "admin")])
        .agree_but(&[a_service_token_lends_no_system_scope]);
}
