//! Who is asking: every kind of user and scope, as Fernet and as JWS.

use keystone_testbed::http::Request;
use keystone_testbed::keystone::{Keystone, Scope};

use crate::cloud::cloud;
use crate::differences::the_token_is_in_x_auth_token;
use crate::gate::{Both, Gate};

/// What the application sees of a token, from the Keystone that gives Fernet and from the one that
/// gives JWS tokens.
fn with_both(token: impl Fn(&Keystone) -> String, check: impl Fn(Both)) {
    let cloud = cloud();
    for (keystone, start) in [(&cloud.fernet, "gAAAAA"), (&cloud.jws, "eyJ")] {
        let gate = Gate::setup(keystone).open();
        let token = token(keystone);
        assert!(token.starts_with(start), "{token}");
        check(gate.ask_with(&token));
        // From the caches.
        check(gate.ask_with(&token));
    }
}

#[test]
fn a_member_of_a_project() {
    let keystone = &cloud().fernet;
    let (user, project) = (keystone.user("alice").unwrap(), keystone.project("demo").unwrap());
    with_both(
        |keystone| keystone.token("alice").unwrap(),
        |both| {
            both.oracle_confirms(&[
                ("x-user-id", &user),
                ("x-user-name", "alice"),
                ("x-user-domain-id", "default"),
                ("x-user-domain-name", "Default"),
                ("x-project-id", &project),
                ("x-project-name", "demo"),
                ("x-project-domain-name", "Default"),
                ("x-tenant", "demo"),
                // A member is a reader too.
                ("x-roles", "member,reader"),
                ("x-is-admin-project", "True"),
            ])
            .agree();
        },
    );
}

#[test]
fn a_reader_of_a_project() {
    with_both(
        |keystone| keystone.token("bob").unwrap(),
        |both| both.oracle_confirms(&[("x-user-name", "bob"), ("x-roles", "reader")]).agree(),
    );
}

#[test]
fn a_member_of_another_project() {
    with_both(
        |keystone| keystone.token("carol").unwrap(),
        |both| both.oracle_confirms(&[("x-project-name", "other")]).agree(),
    );
}

#[test]
fn an_administrator() {
    with_both(
        |keystone| keystone.token("admin").unwrap(),
        |both| both.oracle_confirms(&[("x-user-name", "admin")]).agree(),
    );
}

#[test]
fn roles_with_a_blank_and_with_accents() {
    with_both(
        |keystone| keystone.token("norole").unwrap(),
        |both| {
            let norole = [("x-user-name", "norole"), ("x-roles", "Ops Team,Rôle-été")];
            both.oracle_confirms(&norole).agree();
        },
    );
}

#[test]
fn a_user_and_a_project_that_are_not_ascii() {
    with_both(
        |keystone| keystone.token("zofie").unwrap(),
        |both| {
            let user = [("x-user-name", "Žofie Novák 名前"), ("x-project-name", "demo")];
            both.oracle_confirms(&user).agree();
        },
    );
    with_both(
        |keystone| keystone.token_for("zofie", Scope::Project("проект")).unwrap(),
        |both| {
            let user = [("x-user", "Žofie Novák 名前"), ("x-tenant", "проект")];
            both.oracle_confirms(&user).agree();
        },
    );
}

#[test]
fn a_namesake_of_another_domain() {
    let user = cloud().fernet.user("alice@Elsewhere").unwrap();
    with_both(
        |keystone| keystone.token("alice@Elsewhere").unwrap(),
        |both| {
            both.oracle_confirms(&[
                ("x-user-id", &user),
                ("x-user-name", "alice"),
                ("x-user-domain-name", "Elsewhere"),
                ("x-project-name", "demo"),
                ("x-project-domain-name", "Elsewhere"),
            ])
            .agree();
        },
    );
}

#[test]
fn a_token_for_a_domain() {
    with_both(
        |keystone| keystone.token_for("dora", Scope::Domain).unwrap(),
        |both| {
            both.oracle_confirms(&[("x-domain-id", "default"), ("x-domain-name", "Default")])
                .oracle_is_silent_about(&["x-project-id", "x-tenant"])
                .agree();
        },
    );
}

#[test]
fn a_token_for_the_whole_system() {
    with_both(
        |keystone| keystone.token_for("admin", Scope::System).unwrap(),
        |both| {
            both.oracle_confirms(&[("openstack-system-scope", "all"), ("x-user-name", "admin")])
                .oracle_is_silent_about(&["x-project-id", "x-domain-id"])
                .agree();
        },
    );
}

#[test]
fn a_token_for_nothing_in_particular() {
    with_both(
        |keystone| keystone.token_for("alice", Scope::Unscoped).unwrap(),
        |both| {
            both.oracle_confirms(&[("x-user-name", "alice"), ("x-roles", ""), ("x-role", "")])
                .oracle_is_silent_about(&["x-project-id", "x-domain-id"])
                .agree();
        },
    );
}

#[test]
fn an_application_credential() {
    with_both(
        |keystone| keystone.application_credential("plain").unwrap(),
        |both| {
            both.oracle_confirms(&[("x-user-name", "alice"), ("x-project-name", "demo")]).agree();
        },
    );
}

#[test]
fn a_service_catalog() {
    let cloud = cloud();
    for keystone in [&cloud.fernet, &cloud.jws] {
        let gate = Gate::setup(keystone).catalog().open();
        let both = gate.ask_with(&keystone.token("alice").unwrap()).oracle_confirms(&[]);
        assert!(both.oracle.headers["x-service-catalog"].contains("/v1/AUTH_"));
        both.agree();
        // It has none.
        gate.ask_with(&keystone.token_for("alice", Scope::Unscoped).unwrap())
            .oracle_confirms(&[])
            .oracle_is_silent_about(&["x-service-catalog"])
            .agree();
    }
}

#[test]
fn with_delay_a_valid_token_is_as_valid() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).delay().open();
    let token = cloud.fernet.token("alice").unwrap();
    gate.ask_with(&token).oracle_confirms(&[("x-user-name", "alice")]).agree();
}

#[test]
fn a_token_in_x_storage_token() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).open();
    let token = cloud.fernet.token("alice").unwrap();
    let storage = Request::get("/").header("X-Storage-Token", &token);
    gate.ask(&storage)
        .oracle_confirms(&[("x-user-name", "alice")])
        .agree_but(&[the_token_is_in_x_auth_token]);
    // X-Auth-Token wins, whatever it is.
    gate.ask(&storage.clone().token("garbage")).oracle_refuses().agree();
    gate.ask(&storage.clone().token("")).oracle_refuses().agree();
    let bob = cloud.fernet.token("bob").unwrap();
    gate.ask(&storage.token(&bob)).oracle_confirms(&[("x-user-name", "bob")]).agree();
}
