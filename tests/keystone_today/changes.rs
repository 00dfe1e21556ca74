//! What Keystone knows changes while a token lives.

use keystone_testbed::http::Request;
use keystone_testbed::{expect, wait_for};

use crate::cloud::cloud;
use crate::gate::Gate;

#[test]
fn a_revoked_token() {
    let cloud = cloud();
    for keystone in [&cloud.fernet, &cloud.jws] {
        let gate = Gate::setup(keystone).no_cache().open();
        let (token, other) = (keystone.token("alice").unwrap(), keystone.token("alice").unwrap());
        gate.ask_with(&token).oracle_confirms(&[("x-user-name", "alice")]).agree();
        keystone.revoke(&token).unwrap();
        gate.ask_with(&token).oracle_refuses().agree();
        // Only that one.
        gate.ask_with(&other).oracle_confirms(&[("x-user-name", "alice")]).agree();
    }
}

#[test]
fn a_revoked_token_that_was_never_seen() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).open();
    let token = cloud.fernet.token("alice").unwrap();
    cloud.fernet.revoke(&token).unwrap();
    gate.ask_with(&token).oracle_refuses().agree();
    gate.ask_with(&token).oracle_refuses().agree();
}

#[test]
fn a_revoked_service_token() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).no_cache().open();
    let (user, service) =
        (cloud.fernet.token("alice").unwrap(), cloud.fernet.token("glance").unwrap());
    let request = Request::get("/").token(&user).header("X-Service-Token", &service);
    gate.ask(&request).oracle_confirms(&[("x-service-user-name", "glance")]).agree();
    cloud.fernet.revoke(&service).unwrap();
    gate.ask(&request).oracle_refuses().agree();
}

#[test]
fn a_user_who_is_disabled() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).no_cache().open();
    cloud.fernet.make_user("erin", "demo", &["member"]).unwrap();
    let token = cloud.fernet.token("erin").unwrap();
    gate.ask_with(&token).oracle_confirms(&[("x-user-name", "erin")]).agree();
    cloud.fernet.enable("erin", false).unwrap();
    gate.ask_with(&token).oracle_refuses().agree();
    cloud.fernet.enable("erin", true).unwrap();
    // Being disabled has revoked it for good.
    gate.ask_with(&token).oracle_refuses().agree();
}

#[test]
fn a_role_that_is_taken_away() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).no_cache().open();
    cloud.fernet.make_user("frank", "demo", &["reader", "Ops Team"]).unwrap();
    let token = cloud.fernet.token("frank").unwrap();
    gate.ask_with(&token).oracle_confirms(&[("x-roles", "Ops Team,reader")]).agree();
    cloud.fernet.take_away("frank", "demo", "Ops Team").unwrap();
    gate.ask_with(&token).oracle_confirms(&[("x-roles", "reader")]).agree();
    cloud.fernet.grant("frank", "demo", "member").unwrap();
    gate.ask_with(&token).oracle_confirms(&[("x-roles", "member,reader")]).agree();
    // Without any role there is no access to the project.
    for role in ["member", "reader"] {
        cloud.fernet.take_away("frank", "demo", role).unwrap();
    }
    gate.ask_with(&token).oracle_refuses().agree();
}

#[test]
fn what_is_cached_ends_with_the_event_that_revokes_it() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).revocation_events("1s").open();
    cloud.fernet.make_user("grace", "demo", &["member"]).unwrap();
    let token = |user| cloud.fernet.token(user).unwrap();
    let (revoked, disabled, other) = (token("alice"), token("grace"), token("alice"));
    for token in [&revoked, &disabled, &other] {
        gate.ask_with(token).oracle_confirms(&[]).agree();
    }
    cloud.fernet.revoke(&revoked).unwrap();
    cloud.fernet.enable("grace", false).unwrap();
    for token in [&revoked, &disabled] {
        let refused = || (gate.ask_with(token).answer.status == 401).then_some(());
        wait_for("the event to be heard of", refused).unwrap();
        // auth_token uses its cache entry for five minutes.
        expect::refused(&gate.ask_with(token).oracle_confirms(&[]).answer);
    }
    gate.ask_with(&other).oracle_confirms(&[]).agree();
}
