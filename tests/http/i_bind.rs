//! Section I of `docs/behaviour.md`: tokens that are bound to something.
//!
//! Those lines in which a kerberos user is there need a module that authenticates by `Negotiate`;
//! [`Negotiate`] stands in for one.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::negotiate::Negotiate;
use keystone_testbed::nginx::{check, Config};
use keystone_testbed::world::World;
use serde_json::json;

fn bound() -> Payload {
    Payload::v3().bind("kerberos", "USER@REALM")
}

fn unknown() -> Payload {
    Payload::v3().bind("FOO", "BAR")
}

fn status(mode: Option<&str>, payload: &Payload) -> u16 {
    let setup = World::setup().offline();
    // Each version knows its own tokens.
    let setup = setup.set("keystone_auth_version", if payload.is_v3() { "v3" } else { "v2.0" });
    let world = match mode {
        Some(mode) => setup.set("keystone_enforce_token_bind", mode).start(),
        None => setup.start(),
    };
    let first = world.send(&Request::get("/").token(&world.pki(payload)));
    // The cached answer has to come out the same, and so has that of the identity service.
    let tokens = [world.pki(payload), world.uuid(payload)];
    let again = tokens.iter().flat_map(|token| [token; 3]);
    let again: Vec<_> = again.map(|token| world.send(&Request::get("/").token(token))).collect();
    for answer in again.iter().chain([&first]) {
        assert_eq!(answer.status, first.status);
        if answer.status == 401 {
            expect::refused(answer);
            assert_eq!(answer.header("X-Result"), Some("bind_failed"));
        }
    }
    first.status
}

/// The same with a kerberos user, where a stand-in for a module that knows one can be made.
fn status_with_user(mode: &str, payload: &Payload, scheme: &str, user: &str) -> Option<u16> {
    let negotiate = Negotiate::compile().unwrap()?;
    let world = World::setup()
        .offline()
        .config(|config| config.main(&negotiate.directive()))
        .set("keystone_enforce_token_bind", mode)
        .start();
    let request = Request::get("/").header("Authorization", format!("{scheme} {user}"));
    Some(world.send(&request.token(&world.pki(payload))).status)
}

#[track_caller]
fn assert_with_kerb(mode: &str, payload: &Payload, expected: u16) {
    if let Some(status) = status_with_user(mode, payload, "Negotiate", "USER@REALM") {
        assert_eq!(status, expected);
    }
}

#[test]
fn i01_i04_with_a_kerberos_user() {
    assert_with_kerb("disabled", &bound(), 200);
    assert_with_kerb("permissive", &unknown(), 200);
}

#[test]
fn i02_i06_i09_i13_the_right_kerberos_user() {
    for mode in ["permissive", "strict", "required", "kerberos"] {
        assert_with_kerb(mode, &bound(), 200);
    }
    assert_with_kerb("required", &Payload::v2().bind("kerberos", "USER@REALM"), 200);
}

#[test]
fn i08_i11_i12_i15_i16_i18_with_a_kerberos_user() {
    assert_with_kerb("strict", &unknown(), 401);
    assert_with_kerb("required", &unknown(), 401);
    assert_with_kerb("required", &Payload::v3(), 401);
    assert_with_kerb("kerberos", &unknown(), 401);
    assert_with_kerb("kerberos", &Payload::v3(), 401);
    assert_with_kerb("FOO", &bound(), 401);
}

#[test]
fn i17_another_kerberos_user() {
    for user in ["ronald@MCDONALDS.COM", "user@realm", "USER@REALM2", "USER@REAL", "USER"] {
        if let Some(status) = status_with_user("kerberos", &bound(), "Negotiate", user) {
            assert_eq!(status, 401, "{user}");
        }
    }
}

#[test]
fn i19_the_scheme_is_compared_without_case() {
    for scheme in ["NeGoTiatE", "negotiate", "NEGOTIATE"] {
        if let Some(status) = status_with_user("kerberos", &bound(), scheme, "USER@REALM") {
            assert_eq!(status, 200, "{scheme}");
        }
    }
}

#[test]
fn i01_disabled() {
    assert_eq!(status(Some("disabled"), &bound()), 200);
    assert_eq!(status(Some("disabled"), &unknown()), 200);
    assert_eq!(status(Some("disabled"), &Payload::v3()), 200);
}

#[test]
fn i03_permissive_bound() {
    assert_eq!(status(None, &bound()), 401);
    assert_eq!(status(Some("permissive"), &bound()), 401);
    assert_eq!(status(None, &Payload::v2().bind("kerberos", "USER@REALM")), 401);
}

#[test]
fn i04_permissive_unknown_bind() {
    assert_eq!(status(None, &unknown()), 200);
    assert_eq!(status(Some("permissive"), &unknown()), 200);
}

#[test]
fn i05_permissive_without_bind() {
    assert_eq!(status(None, &Payload::v3()), 200);
    assert_eq!(status(None, &Payload::v3().with("/bind", json!({}))), 200);
}

#[test]
fn i07_i08_strict() {
    assert_eq!(status(Some("strict"), &bound()), 401);
    assert_eq!(status(Some("strict"), &unknown()), 401);
    assert_eq!(status(Some("strict"), &Payload::v3()), 200);
}

#[test]
fn i10_i11_i12_required() {
    assert_eq!(status(Some("required"), &bound()), 401);
    assert_eq!(status(Some("required"), &unknown()), 401);
    assert_eq!(status(Some("required"), &Payload::v3()), 401);
}

#[test]
fn i14_i15_i16_named_kerberos() {
    assert_eq!(status(Some("kerberos"), &bound()), 401);
    assert_eq!(status(Some("kerberos"), &unknown()), 401);
    assert_eq!(status(Some("kerberos"), &Payload::v3()), 401);
}

#[test]
fn i17_basic_is_not_negotiate() {
    let world = World::setup()
        .offline()
        .location(
            "/basic/",
            "auth_basic x; auth_basic_user_file @DIR@/users;
             keystone_auth on; proxy_pass @UPSTREAM@;",
        )
        .files(|dir| std::fs::write(dir.join("users"), "USER@REALM:{PLAIN}secret\n").unwrap())
        .start();
    // USER@REALM:secret
    let credentials = |scheme: &str| format!("{scheme} VVNFUkBSRUFMTTpzZWNyZXQ=");
    let basic = Request::get("/basic/").header("Authorization", credentials("Basic"));
    let answer = world.send(&basic.clone().token(&world.pki(&Payload::v3())));
    assert_eq!(answer.status, 200);
    expect::refused(&world.send(&basic.token(&world.pki(&bound()))));
}

#[test]
fn i17_negotiate_without_an_authenticated_user() {
    let world = World::setup().offline().start();
    let token = world.pki(&bound());
    for scheme in ["Negotiate", "NeGoTiatE", "Kerberos"] {
        // Nobody has looked at the ticket: here it holds USER@REALM:secret.
        let request = Request::get("/")
            .token(&token)
            .header("Authorization", format!("{scheme} VVNFUkBSRUFMTTpzZWNyZXQ="))
            .header("Remote-User", "USER@REALM")
            .header("Auth-Type", "Negotiate");
        expect::refused(&world.send(&request));
    }
}

#[test]
fn i18_an_unknown_mechanism() {
    assert_eq!(status(Some("FOO"), &bound()), 401);
    assert_eq!(status(Some("FOO"), &Payload::v3()), 401);
}

#[test]
fn the_mode_is_of_the_location() {
    let world = World::setup()
        .offline()
        .location(
            "= /free",
            "keystone_auth on; keystone_enforce_token_bind disabled; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&bound());
    for _ in 0..2 {
        assert_eq!(world.send(&Request::get("/free").token(&token)).status, 200);
        expect::refused(&world.send(&Request::get("/").token(&token)));
    }
}

#[test]
fn binds_of_other_shapes() {
    let world = World::setup().offline().start();
    for odd in [json!("kerberos"), json!(["x"]), json!({"kerberos": 1}), json!({"kerberos": null})]
    {
        let payload = Payload::v3().with("/bind", odd.clone());
        let answer = world.send(&Request::get("/").token(&world.pki(&payload)));
        assert_eq!(answer.status, 401, "{odd}");
        expect::refused(&answer);
    }
}

#[test]
fn delay_says_invalid() {
    let world = World::setup().offline().start();
    let seen = world.seen(&Request::get("/delay/").token(&world.pki(&bound())));
    expect::no_identity(&seen);
}

#[test]
fn a_value_is_needed() {
    for bad in ["", "\"\"", "strict required"] {
        let config = Config::protected().set("keystone_enforce_token_bind", bad);
        assert!(!check(&config).unwrap().ok, "{bad}");
    }
}
