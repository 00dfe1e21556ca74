//! Section B of `docs/behaviour.md`: PKI and PKIZ tokens; certificates and list are available.

use std::time::Duration;

use keystone_testbed::cms::{sign, Bend, Digest, Form};
use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::{self, Payload};
use keystone_testbed::pki::{Pair, Shape};
use keystone_testbed::process::processor_time;
use keystone_testbed::world::{stranger, World};
use serde_json::{json, Value};

fn world() -> World {
    World::setup().offline().start()
}

fn catalog(world: &World, token: &str) -> Value {
    let seen = world.seen(&Request::get("/").token(token));
    let text = seen.header("X-Service-Catalog").expect("X-Service-Catalog");
    serde_json::from_str(&text).expect("JSON")
}

/// The catalog of [`Payload::catalog`] in v2 form.
fn expected_catalog() -> Value {
    json!([{
        "type": "volume",
        "name": "volume",
        "endpoints": [{
            "region": "regionOne",
            "adminURL": "http://127.0.0.1:8776/v1/tenant_id1",
            "internalURL": "http://127.0.0.1:8777/v1/tenant_id1",
            "publicURL": "http://127.0.0.1:8778/v1/tenant_id1"
        }]
    }])
}

#[test]
fn b01_v2_pki_token() {
    let world = World::setup().offline().set("keystone_include_service_catalog", "on").start();
    let token = world.pki(&Payload::v2());
    let seen = world.seen(&Request::get("/").token(&token));
    let catalog: Value = serde_json::from_str(&seen.header("X-Service-Catalog").unwrap()).unwrap();
    assert_eq!(catalog[0]["endpoints"], expected_catalog()[0]["endpoints"]);
    let mut expected = expect::V2_USER.to_vec();
    let text = seen.header("X-Service-Catalog").unwrap();
    expected.push(("X-Service-Catalog", &text));
    expect::identity(&seen, &expected);
}

#[test]
fn b02_v3_pki_token() {
    let world = world();
    let token = world.pki(&Payload::v3());
    expect::v3_user(&world.seen(&Request::get("/").token(&token)));
    let file = world.send(&Request::get("/files/hello.txt").token(&token));
    assert_eq!((file.status, file.text().as_str()), (200, "hello\n"));
}

#[test]
fn b03_the_same_token_again() {
    let world = world();
    for token in [world.pki(&Payload::v2()), world.pki(&Payload::v3())] {
        let cache: Vec<_> = (0..3)
            .map(|_| {
                let answer = world.send(&Request::get("/").token(&token));
                assert_eq!(answer.status, 200);
                answer.header("X-Cache").unwrap().to_owned()
            })
            .collect();
        assert_eq!(cache, ["MISS", "HIT", "HIT"]);
        let seen = world.seen(&Request::get("/").token(&token));
        assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
    }
}

#[test]
fn b04_no_traffic() {
    let world = world();
    for payload in [Payload::v2(), Payload::v3(), Payload::v3_domain(), Payload::v3_unscoped()] {
        assert_eq!(world.status(&world.pki(&payload)), 200);
        assert_eq!(world.status(&world.pkiz(&payload)), 200);
    }
    assert_eq!(world.status(&world.pki(&Payload::v3().expires_in(-1))), 401);
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn b05_v2_pkiz_token() {
    let world = world();
    let token = world.pkiz(&Payload::v2());
    expect::v2_user(&world.seen(&Request::get("/").token(&token)));
    expect::v2_user(&world.seen(&Request::get("/").token(&token)));
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn b06_v3_pkiz_token() {
    let world = world();
    let token = world.pkiz(&Payload::v3());
    expect::v3_user(&world.seen(&Request::get("/").token(&token)));
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn b06_pkiz_token_that_holds_der() {
    let world = world();
    let der = sign(&world.pki.signing, Payload::v3().json().as_bytes()).unwrap();
    let token = mint::pkiz_of(&der).unwrap();
    expect::v3_user(&world.seen(&Request::get("/").token(&token)));
}

#[test]
fn b07_expired_token() {
    let world = world();
    for payload in [Payload::v2(), Payload::v3()] {
        // 2010-06-02T14:47:34Z, as in the tests of auth_token, and a second ago.
        for expired in [payload.clone().expires_at(1_275_490_054), payload.expires_in(-1)] {
            for token in [world.pki(&expired), world.pkiz(&expired)] {
                let answer = world.send(&Request::get("/").token(&token));
                expect::refused(&answer);
                assert_eq!(answer.header("X-Result"), Some("expired"));
            }
        }
    }
}

#[test]
fn b08_v2_token_without_a_tenant() {
    let world = world();
    expect::refused(&world.send(&Request::get("/").token(&world.pki(&Payload::v2_unscoped()))));
    expect::refused(&world.send(&Request::get("/").token(&world.pkiz(&Payload::v2_unscoped()))));
}

#[test]
fn b08_v3_token_without_a_scope() {
    let world = world();
    let seen = world.seen(&Request::get("/").token(&world.pki(&Payload::v3_unscoped())));
    expect::identity(
        &seen,
        &[
            ("X-Identity-Status", "Confirmed"),
            ("X-Is-Admin-Project", "True"),
            ("X-Role", ""),
            ("X-Roles", ""),
            ("X-User", "user_name1"),
            ("X-User-Domain-Id", "domain_id1"),
            ("X-User-Domain-Name", "domain_name1"),
            ("X-User-Id", "user_id1"),
            ("X-User-Name", "user_name1"),
        ],
    );
}

#[test]
fn b09_default_tenant() {
    let world = world();
    let payload = Payload::v2()
        .with("/user/tenantId", json!("tenant_id1"))
        .with("/user/tenantName", json!("tenant_name1"));
    expect::v2_user(&world.seen(&Request::get("/").token(&world.pki(&payload))));
}

#[test]
fn b10_v3_catalog_in_v2_form() {
    let world = World::setup().offline().set("keystone_include_service_catalog", "on").start();
    assert_eq!(catalog(&world, &world.pki(&Payload::v3())), expected_catalog());
    assert_eq!(catalog(&world, &world.pkiz(&Payload::v3())), expected_catalog());
}

#[test]
fn b11_the_contents_decide_the_version() {
    for version in ["v2.0", "v3"] {
        let world = World::setup().offline().set("keystone_auth_version", version).start();
        expect::v2_user(&world.seen(&Request::get("/").token(&world.pki(&Payload::v2()))));
        expect::v3_user(&world.seen(&Request::get("/").token(&world.pki(&Payload::v3()))));
    }
}

#[test]
fn b13_a_token_is_named_by_the_first_hash_algorithm() {
    let named = |algorithms: Option<&str>| {
        let setup = World::setup().offline().location(
            "= /id",
            "keystone_auth on; add_header X-Id $keystone_token_id always; proxy_pass @UPSTREAM@;",
        );
        let world = match algorithms {
            Some(algorithms) => setup.set("keystone_hash_algorithms", algorithms).start(),
            None => setup.start(),
        };
        let token = world.pki(&Payload::v3());
        let answer = world.send(&Request::get("/id").token(&token));
        (token, answer.header("X-Id").unwrap().to_owned())
    };
    let (token, id) = named(None);
    assert_eq!(id, mint::md5(&token));
    let (token, id) = named(Some("sha256 md5"));
    assert_eq!(id, mint::sha256(&token));
}

#[test]
fn b14_digests_of_the_signature() {
    let world = world();
    for digest in [Digest::Sha1, Digest::Sha256, Digest::Sha512] {
        for null_parameters in [false, true] {
            let form = Form { digest, null_parameters, bend: None };
            let token = Payload::v3().pki_as(&world.pki.signing, form).unwrap();
            assert_eq!(world.status(&token), 200, "{form:?}");
        }
    }
}

#[test]
fn only_the_shape_that_keystone_issues() {
    let world = world();
    let bends = [
        Bend::Attribute,
        Bend::Certificate,
        Bend::IndefiniteLength,
        Bend::LongLength,
        Bend::SecondSigner,
    ];
    for bend in bends {
        let form = Form { bend: Some(bend), ..Form::default() };
        let token = Payload::v3().pki_as(&world.pki.signing, form).unwrap();
        let answer = world.send(&Request::get("/").token(&token));
        assert_eq!(answer.status, 401, "{bend:?}");
        assert_eq!(answer.header("X-Result"), Some("malformed"), "{bend:?}");
    }
}

#[test]
fn only_the_armour_that_keystone_issues() {
    let world = world();
    let der = sign(&world.pki.signing, Payload::v3().json().as_bytes()).unwrap();
    let token = mint::pki(&der);
    let pem = mint::cms_pem(&der);
    let armours = [
        token.replacen("MII", "MII ", 1),
        format!("{token}="),
        format!("{token}A"),
        token.to_lowercase(),
        // As it stands in PEM, with a slash where the token has a dash.
        pem.lines().filter(|line| !line.starts_with('-')).collect::<String>() + "/",
        mint::pkiz_of(format!("{pem}\n").as_bytes()).unwrap(),
        mint::pkiz_of(format!(" {pem}").as_bytes()).unwrap(),
        mint::pkiz_of(pem.replace("CMS", "PKCS7").as_bytes()).unwrap(),
        mint::pkiz_of(&[der.as_slice(), &[0]].concat()).unwrap(),
        mint::pkiz_of(token.as_bytes()).unwrap(),
        mint::pkiz_of(b"").unwrap(),
        mint::pkiz(&der).unwrap().trim_end_matches('=').to_owned() + "A",
    ];
    for armour in &armours {
        let answer = world.send(&Request::get("/").token(armour));
        assert_eq!(answer.status, 401, "{armour}");
    }
    assert_eq!(world.status(&token), 200);
}

#[test]
fn forged_and_damaged_tokens() {
    let world = World::setup().offline().identity(|identity| identity.stop()).start();
    let stranger = stranger();
    let claims_to_be = Pair {
        certificate: world.pki.signing.certificate.clone(),
        key: stranger.signing.key.clone(),
    };
    let good = world.pki(&Payload::v3());
    let mut flipped = good.clone();
    let middle = good.len() / 2;
    let other = if good.as_bytes()[middle] == b'A' { "B" } else { "A" };
    flipped.replace_range(middle..=middle, other);
    let signed_by = |pair: &Pair| Payload::v3().pki(pair).unwrap();
    let authority = signed_by(&world.pki.authority);
    let tokens = [
        ("of a stranger with the same name and serial", signed_by(&stranger.signing)),
        ("with another's key", signed_by(&claims_to_be)),
        ("of the authority itself", authority),
        ("with a flipped bit", flipped),
        ("cut short", good[..good.len() - 4].into()),
        ("cut to half", good[..good.len() / 2].into()),
    ];
    for (what, token) in tokens {
        let answer = world.send(&Request::get("/").token(&token));
        // That the identity service cannot be asked for newer certificates is no excuse.
        assert_eq!(answer.status, 401, "a token {what}");
    }
    assert_eq!(world.status(&good), 200);
}

#[test]
fn forged_tokens_are_refused_when_the_identity_service_is_there() {
    let world = world();
    let stranger = stranger();
    let token = Payload::v3().pki(&stranger.signing).unwrap();
    let answer = world.send(&Request::get("/").token(&token));
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("bad_signature"));
    let other_serial = Shape::signing().serial(77);
    let other_serial = stranger.authority.renew(&stranger.signing, &other_serial).unwrap();
    let token = Payload::v3().pki(&other_serial).unwrap();
    expect::refused(&world.send(&Request::get("/").token(&token)));
}

#[test]
fn p02_signed_content_that_is_no_token() {
    let world = world();
    let contents = [
        "",
        "hello",
        "{}",
        "[]",
        "null",
        "{\"access\": {}}",
        "{\"token\": {}}",
        "{\"token\": []}",
        "{\"access\": 1}",
        "{\"token\": {\"user\": {\"id\": 1, \"name\": 2}}}",
        "\u{feff}{}",
    ];
    for content in contents {
        let token = mint::pki(&sign(&world.pki.signing, content.as_bytes()).unwrap());
        expect::refused(&world.send(&Request::get("/").token(&token)));
    }
    let deep = "[".repeat(30_000);
    let token = mint::pki(&sign(&world.pki.signing, deep.as_bytes()).unwrap());
    expect::refused(&world.send(&Request::get("/").token(&token)));
    let broken = b"{\"token\": {\"user\": {\"name\": \"\xff\xfe\"}}}";
    let token = mint::pki(&sign(&world.pki.signing, broken).unwrap());
    expect::refused(&world.send(&Request::get("/").token(&token)));
    for payload in [Payload::v2().without("/token/expires"), Payload::v3().without("/expires_at")] {
        expect::refused(&world.send(&Request::get("/").token(&world.pki(&payload))));
    }
    for bad in [json!("never"), json!(""), json!(null), json!(4_000_000_000_u64)] {
        let payload = Payload::v3().with("/expires_at", bad.clone());
        let answer = world.send(&Request::get("/").token(&world.pki(&payload)));
        assert_eq!(answer.status, 401, "{bad}");
    }
}

#[test]
fn old_forms_of_v2_tokens() {
    let world = world();
    // Diablo: the tenant's id in the token, the roles in the user, no tenant object.
    let diablo = Payload::v2()
        .without("/token/tenant")
        .without("/serviceCatalog")
        .without("/metadata")
        .with("/token/tenantId", json!("tenant_id1"));
    let seen = world.seen(&Request::get("/").token(&world.pki(&diablo)));
    for name in ["X-Tenant-Id", "X-Tenant-Name", "X-Tenant"] {
        assert_eq!(seen.header(name).as_deref(), Some("tenant_id1"), "{name}");
    }
    assert_eq!(seen.header("X-Roles").as_deref(), Some("role1,role2"));
}

#[test]
fn a_zip_bomb() {
    let world = world();
    let pid = world.nginx.worker_pids()[0];
    assert_eq!(world.status(&world.pkiz(&Payload::v3())), 200);
    let before = peak_kilobytes(pid);
    // 45 MB of zeros are 45 KB when compressed: as much as fits into a header.
    let bomb = mint::pkiz_of(&vec![0; 45_000_000]).unwrap();
    assert!(bomb.len() < 64_000, "{}", bomb.len());
    let used = || processor_time(&pid.to_string()).unwrap().own;
    let used_before = used();
    for _ in 0..20 {
        let unlike = format!("{bomb}{}", "A".repeat(4));
        for token in [&bomb, &unlike] {
            expect::refused(&world.send(&Request::get("/").token(token)));
        }
    }
    let took = used() - used_before;
    assert!(took < Duration::from_secs(2), "{took:?} of processor time");
    let grown = peak_kilobytes(pid) - before;
    assert!(grown < 8_000, "the worker grew by {grown} KB");
}

fn peak_kilobytes(pid: i32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
