//! Tokens that are none, and headers that only the gate may set.

use std::thread::sleep;
use std::time::Duration;

use keystone_testbed::expect::IDENTITY_HEADERS;
use keystone_testbed::http::Request;
use keystone_testbed::keystone::BRIEF;

use crate::cloud::cloud;
use crate::differences::{
    a_client_cannot_give_itself_a_system_scope, names_of_a_later_time_are_stripped, FORGED,
};
use crate::gate::Gate;

/// A request with every identity header in it, and one that is harmless.
fn forged() -> Request {
    let request = Request::get("/").header("X-Foo", "kept");
    IDENTITY_HEADERS.iter().fold(request, |request, name| request.header(name, FORGED))
}

/// What looks like a token of some kind and is none of this cloud.
fn garbage() -> Vec<String> {
    let uuid = "0123456789abcdef0123456789abcdef".to_owned();
    let other_keys = "gAAAAABlYz".to_owned() + &"A".repeat(180);
    let jws = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl".to_owned();
    let mut all = vec!["garbage".into(), "x".repeat(500), uuid, other_keys, jws];
    // One letter of a good one changed, in the middle.
    let mut token = cloud().fernet.token("alice").unwrap();
    let middle = token.len() / 2;
    let other = if &token[middle..=middle] == "A" { "B" } else { "A" };
    token.replace_range(middle..=middle, other);
    all.push(token);
    all
}

#[test]
fn no_token() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).open();
    gate.ask(&Request::get("/")).oracle_refuses().agree();
    gate.ask(&Request::head("/")).oracle_refuses().agree();
    gate.ask(&Request::get("/").token("")).oracle_refuses().agree();
    let gate = Gate::setup(&cloud.fernet).delay().open();
    gate.ask(&Request::get("/")).oracle_lets_pass(&[]).agree();
}

#[test]
fn garbage_is_refused_and_refused_again() {
    let cloud = cloud();
    for keystone in [&cloud.fernet, &cloud.jws] {
        let gate = Gate::setup(keystone).open();
        for token in garbage() {
            gate.ask_with(&token).oracle_refuses().agree();
            gate.ask_with(&token).oracle_refuses().agree();
        }
    }
}

#[test]
fn with_delay_garbage_is_invalid() {
    let gate = Gate::setup(&cloud().fernet).delay().open();
    for token in garbage() {
        gate.ask_with(&token).oracle_lets_pass(&[]).agree();
    }
}

#[test]
fn a_token_of_another_provider() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).open();
    gate.ask_with(&cloud.jws.token("alice").unwrap()).oracle_refuses().agree();
    let gate = Gate::setup(&cloud.jws).open();
    gate.ask_with(&cloud.fernet.token("alice").unwrap()).oracle_refuses().agree();
}

#[test]
fn an_expired_token() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).open();
    let unseen = cloud.brief.token("alice").unwrap();
    // On a busy machine one may expire before it is asked about.
    let fresh = (0..TRIES).map(|_| cloud.brief.token("alice").unwrap());
    let mut asked = fresh.map(|token| (gate.ask_with(&token), token));
    let (both, cached) =
        asked.find(|(both, _)| both.answer.status == 200).expect("one passes in time");
    both.oracle_confirms(&[("x-user-name", "alice")]).agree();
    sleep(BRIEF + Duration::from_secs(1));
    gate.ask_with(&cached).oracle_refuses().agree();
    gate.ask_with(&unseen).oracle_refuses().agree();
}

#[test]
fn an_upstreams_own_401_gets_the_challenge() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).delay().open();
    let request = Request::get("/status/401").header("X-Test-Status", "401");
    for request in [request.clone(), request.token(&cloud.fernet.token("alice").unwrap())] {
        let both = gate.ask(&request);
        assert_eq!(both.oracle.status, 401);
        assert!(both.oracle.challenge.is_some() && !both.oracle.headers.is_empty());
        both.agree();
    }
}

#[test]
fn forged_headers_without_a_token() {
    let gate = Gate::setup(&cloud().fernet).delay().open();
    let both = gate.ask(&forged());
    assert_eq!(both.oracle.headers["x-identity-status"], "Invalid");
    both.agree_but(&[
        a_client_cannot_give_itself_a_system_scope,
        names_of_a_later_time_are_stripped,
    ]);
}

#[test]
fn forged_headers_with_a_token() {
    let cloud = cloud();
    let gate = Gate::setup(&cloud.fernet).open();
    let token = cloud.fernet.token("bob").unwrap();
    gate.ask(&forged().token(&token))
        .oracle_confirms(&[("x-user-name", "bob"), ("x-roles", "reader"), ("x-foo", "kept")])
        // The user's own scope, which is none, has overwritten it.
        .oracle_is_silent_about(&["openstack-system-scope"])
        .agree_but(&[names_of_a_later_time_are_stripped]);
}

const TRIES: usize = 10;
