//! When Keystone cannot be asked.

use keystone_testbed::expect;
use keystone_testbed::keystone::Issue;

use crate::cloud::cloud;
use crate::differences::{unavailability_is_json, what_cannot_be_judged_is_not_invalid};
use crate::gate::Gate;

#[test]
fn keystone_is_stopped_and_comes_back() {
    let cloud = cloud();
    let mut keystone = cloud.fernet.beside(Issue::Fernet).unwrap();
    let (gate, delaying) = (Gate::setup(&keystone).open(), Gate::setup(&keystone).delay().open());
    let (known, unknown) =
        (cloud.fernet.token("alice").unwrap(), cloud.fernet.token("bob").unwrap());
    gate.ask_with(&known).oracle_confirms(&[("x-user-name", "alice")]).agree();
    delaying.ask_with(&known).oracle_confirms(&[("x-user-name", "alice")]).agree();

    keystone.stop();
    let both = gate.ask_with(&unknown).oracle_answers(503);
    expect::unavailable(&both.answer);
    both.agree_but(&[unavailability_is_json]);
    let both = delaying.ask_with(&unknown).oracle_lets_pass(&[]);
    expect::unavailable(&both.answer);
    both.agree_but(&[what_cannot_be_judged_is_not_invalid]);
    // A cached token needs no request, and neither does a missing one.
    gate.ask_with(&known).oracle_confirms(&[("x-user-name", "alice")]).agree();
    delaying.ask_with("").oracle_lets_pass(&[]).agree();

    keystone.resume().unwrap();
    gate.ask_with(&unknown).oracle_confirms(&[("x-user-name", "bob")]).agree();
    delaying.ask_with(&unknown).oracle_confirms(&[("x-user-name", "bob")]).agree();
}

#[test]
fn the_gates_own_password_is_wrong() {
    let cloud = cloud();
    let token = cloud.fernet.token("alice").unwrap();
    let gate = Gate::setup(&cloud.fernet).service_user("gateway", "wrong", "service").open();
    let both = gate.ask_with(&token).oracle_answers(503);
    expect::unavailable(&both.answer);
    both.agree_but(&[unavailability_is_json]);
}

#[test]
fn the_gates_own_user_may_not_ask() {
    let cloud = cloud();
    let token = cloud.fernet.token("alice").unwrap();
    let gate = Gate::setup(&cloud.fernet)
        .service_user("bob", &cloud.fernet.password("bob").unwrap(), "demo")
        .open();
    let both = gate.ask_with(&token).oracle_answers(503);
    expect::unavailable(&both.answer);
    both.agree_but(&[unavailability_is_json]);
}
