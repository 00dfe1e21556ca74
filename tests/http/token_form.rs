//! Tokens that cannot be any: what claims to be Fernet or JWS and is neither costs the identity
//! service nothing.

use std::fs;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::{jws_claims, new_fernet, new_uuid, JwsKey, Payload};
use keystone_testbed::nginx::{check, Config};
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::World;

const ES256: &str = r#"{"alg":"ES256","typ":"JWT"}"#;

/// The token is refused for this reason, without a question.
#[track_caller]
fn assert_no_request(world: &World, token: &str, result: &str, reason: &str) {
    let asked = world.identity.requests().len();
    let answer = world.send(&Request::get("/").token(token));
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some(result), "{reason}");
    assert_eq!(world.identity.requests().len(), asked, "{reason}");
    let line = world.nginx.wait_for_log(reason).unwrap();
    assert!(line.contains("[info]") && !line.contains(token), "{line}");
}

/// The identity service is asked about the token.
#[track_caller]
fn assert_request(world: &World, token: &str) {
    world.identity.know(token, &Payload::v3());
    assert_eq!(world.status(token), 200);
    assert_eq!(world.identity.validations().last().map(String::as_str), Some(token));
}

#[test]
fn what_is_no_fernet_token_causes_no_request() {
    let world = World::setup().start();
    let good = new_fernet();
    let cut = &good[..good.len() - 4];
    let with = |byte: &str| format!("{}{byte}{}", &good[..50], &good[51..]);
    for (token, reason) in [
        ("gAAAAA".to_owned(), "the length is not one of a Fernet token"),
        ("gAAAAABYqGsA".to_owned(), "the length is not one of a Fernet token"),
        (cut.to_owned(), "the length is not one of a Fernet token"),
        (format!("{good}AAAA"), "the length is not one of a Fernet token"),
        (format!("{good}A"), "not base64url"),
        (with("!"), "not base64url"),
        (with("/"), "not base64url"),
        (with("="), "not base64url"),
        // In the year 2106.
        (format!("gAAAAAD_{}", &good[8..]), "in the future"),
    ] {
        assert_no_request(&world, &token, "malformed", reason);
    }
    assert_request(&world, &good);
    assert_request(&world, &format!("{}==", keystone_testbed::mint::new_fernet_of(7)));
}

#[test]
fn what_only_keystone_can_tell_is_asked_about() {
    let world = World::setup().start();
    let jws = JwsKey::new().unwrap().token(3600).unwrap();
    for token in [new_uuid(), "gAAAA".to_owned(), "a.b".to_owned(), new_fernet(), jws] {
        assert_request(&world, &token);
    }
}

#[test]
fn what_is_no_jws_token_causes_no_request() {
    let world = World::setup().start();
    let key = JwsKey::new().unwrap();
    let of = |header: &str, claims: &str| key.token_of(header, claims).unwrap();
    let claims = jws_claims(3600);
    let good = key.token(3600).unwrap();
    let (signed, _) = good.rsplit_once('.').unwrap();
    let header = "the header is not the one that Keystone writes";
    for (token, result, reason) in [
        ("a.b.c".to_owned(), "malformed", "not three parts of base64url"),
        ("e30.e30.e30".to_owned(), "malformed", header),
        (of(r#"{"alg":"none","typ":"JWT"}"#, &claims), "malformed", header),
        (of(r#"{"alg":"HS256","typ":"JWT"}"#, &claims), "malformed", header),
        (of(r#"["ES256","JWT"]"#, &claims), "malformed", header),
        (of(ES256, r#"{"sub":"x"}"#), "malformed", "the claims are not those"),
        (format!("{signed}.c2ln"), "malformed", "the signature does not have the length"),
        (key.token(0).unwrap(), "expired", "the token has expired"),
        (key.token(-3600).unwrap(), "expired", "the token has expired"),
    ] {
        assert_no_request(&world, &token, result, reason);
    }
    assert_request(&world, &good);
}

#[test]
fn a_service_token_is_examined_in_the_same_way() {
    let world = World::setup().start();
    let user = world.uuid(&Payload::v3());
    let request = Request::get("/").token(&user).header("X-Service-Token", "gAAAAABgarbage");
    let answer = world.send(&request);
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("bad_service_token"));
    assert_eq!(world.identity.validations(), [user]);
}

#[test]
fn a_service_token_lets_an_expired_jws_be_asked_about() {
    let world = World::setup().start();
    let expired = JwsKey::new().unwrap().token(-60).unwrap();
    world.identity.know(&expired, &Payload::v3().expires_in(-60));
    let service = world.uuid(&Payload::v3_service());
    let request = Request::get("/").token(&expired).header("X-Service-Token", &service);
    assert_eq!(world.send(&request).status, 200);
    assert_no_request(&world, &expired, "expired", "the token has expired");
}

#[test]
fn with_keystone_s_keys_a_wrong_signature_causes_no_request() {
    let [key, next, stranger] = [(); 3].map(|()| JwsKey::new().unwrap());
    let world = World::setup()
        .files(|dir| {
            fs::create_dir(dir.join("jws")).unwrap();
            fs::write(dir.join("jws/public.pem"), key.public_pem().unwrap()).unwrap();
            fs::write(dir.join("jws/.hidden"), "no key").unwrap();
            fs::write(dir.join("next.pem"), next.public_pem().unwrap()).unwrap();
        })
        .set("keystone_jws_keys", "@DIR@/jws @DIR@/next.pem")
        .start();
    for key in [&key, &next] {
        assert_request(&world, &key.token(3600).unwrap());
        // A right signature says nothing about whether Keystone knows the token.
        let unknown = key.token(3600).unwrap();
        let answer = world.send(&Request::get("/").token(&unknown));
        assert_eq!(answer.header("X-Result"), Some("unknown_token"));
    }
    let forged = stranger.token(3600).unwrap();
    assert_no_request(&world, &forged, "bad_signature", "the signature does not match");
    let other = key.token_of(r#"{"alg":"EdDSA","typ":"JWT"}"#, &jws_claims(3600)).unwrap();
    assert_no_request(&world, &other, "bad_signature", "the signature does not match");
    assert_no_request(&world, &key.token(-1).unwrap(), "expired", "the token has expired");
    assert_request(&world, &new_uuid());
}

#[test]
fn keys_that_are_replaced_count_from_the_reload_on() {
    let [old, new] = [(); 2].map(|()| JwsKey::new().unwrap());
    let mut world = World::setup()
        .files(|dir| fs::write(dir.join("jws.pem"), old.public_pem().unwrap()).unwrap())
        .set("keystone_jws_keys", "@DIR@/jws.pem")
        .start();
    let token = new.token(3600).unwrap();
    assert_no_request(&world, &token, "bad_signature", "the signature does not match");
    fs::write(world.nginx.dir().join("jws.pem"), new.public_pem().unwrap()).unwrap();
    world.reconfigure(|config| config);
    // What was refused is not remembered.
    assert_request(&world, &token);
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_their_line() {
    let dir = TempDir::new("jws").unwrap();
    let write = |name: &str, bytes: &[u8]| {
        fs::write(dir.join(name), bytes).unwrap();
        dir.join(name)
    };
    let key = JwsKey::new().unwrap();
    let p384 = include_bytes!("../../keystone-token/src/jws/vectors/es384.pem");
    let good = write("good.pem", &key.public_pem().unwrap());
    fs::create_dir(dir.join("empty")).unwrap();
    fs::create_dir(dir.join("mixed")).unwrap();
    fs::write(dir.join("mixed/a.pem"), key.public_pem().unwrap()).unwrap();
    fs::write(dir.join("mixed/b.pem"), "text").unwrap();
    for (path, reason) in [
        (dir.join("missing.pem"), "No such file or directory"),
        (dir.join("empty"), "the directory is empty"),
        (dir.join("mixed"), "it contains no public key in PEM format"),
        (write("text.pem", b"text"), "it contains no public key in PEM format"),
        (write("p384.pem", p384), "it contains a key that is not for ES256"),
        (write("private.pem", &key.private_pem().unwrap()), "something other than public keys"),
        ("/dev/null".into(), "it is not a regular file"),
    ] {
        let lines = format!("\nkeystone_jws_keys {} {};", good.display(), path.display());
        let checked = check(&Config::protected().http(&lines)).unwrap();
        assert!(!checked.ok, "{}", checked.text);
        assert!(checked.text.contains("\"keystone_jws_keys\" "), "{}", checked.text);
        assert!(
            checked.text.contains(reason) && checked.text.contains("nginx.conf:"),
            "{}",
            checked.text
        );
    }
    let lines = format!("keystone_jws_keys {};", good.display());
    assert!(check(&Config::protected().http(&lines)).unwrap().ok);
}
