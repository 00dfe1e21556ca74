//! Whose certificate the identity service must have, and what the module shows of its own.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::pki::{Pair, Shape, TlsFiles};
use keystone_testbed::world::{Setup, World};

use super::{eager, status, status_online};

#[test]
fn https_with_a_trusted_authority() {
    for (name, value) in [("keystone_ssl_verify", "on"), ("keystone_ssl_name", "localhost")] {
        let world = World::setup_https(TlsFiles::new().unwrap(), false).set(name, value).start();
        assert_eq!(status(&world), 200, "{name}");
        assert_eq!(status_online(&world), 200, "{name}");
    }
}

#[test]
fn https_that_is_not_trusted() {
    let other = TlsFiles::new().unwrap();
    let expired = TlsFiles::with(&Shape::server("localhost").expired()).unwrap();
    let future = TlsFiles::with(&Shape::server("localhost").not_yet_valid()).unwrap();
    let named = TlsFiles::with(&Shape::server("elsewhere.example.com")).unwrap();
    let self_signed = Pair::self_signed(&Shape::authority()).unwrap();
    let path = other.path("another-ca.pem");
    std::fs::write(&path, self_signed.pem().unwrap()).unwrap();
    let trust = |setup: Setup, ca: &std::path::Path| {
        setup.set("keystone_ssl_trusted_certificate", &ca.display().to_string())
    };
    let setups = [
        ("another authority", trust(World::setup_https(TlsFiles::new().unwrap(), false), &path)),
        ("a self-signed certificate", World::setup_https(TlsFiles::self_signed().unwrap(), false)),
        ("a self-signed certificate and the system's CAs", {
            let setup = World::setup_https(TlsFiles::self_signed().unwrap(), false);
            setup.unset("keystone_ssl_trusted_certificate")
        }),
        ("the system's CAs", {
            let setup = World::setup_https(TlsFiles::new().unwrap(), false);
            setup.unset("keystone_ssl_trusted_certificate")
        }),
        ("an expired certificate", World::setup_https(expired, false)),
        ("a certificate of the future", World::setup_https(future, false)),
        ("another name", World::setup_https(named, false)),
        ("another name asked for", {
            let setup = World::setup_https(TlsFiles::new().unwrap(), false);
            setup.set("keystone_ssl_name", "keystone.example.com")
        }),
    ];
    for (what, setup) in setups {
        let world = setup.set("keystone_http_request_max_retries", "0").start();
        let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
        assert_eq!(answer.status, 503, "{what}");
        assert_eq!(status_online(&world), 503, "{what}");
        assert_eq!(world.identity.requests(), [""; 0], "{what}");
        let log = world.nginx.error_log();
        let told = |line: &str| line.contains("[error]") && line.contains("tls handshake");
        assert!(log.lines().any(told), "{what}: {log}");
    }
}

#[test]
fn https_without_verification() {
    let expired = TlsFiles::with(&Shape::server("elsewhere").expired()).unwrap();
    let world = World::setup_https(expired, false).set("keystone_ssl_verify", "off").start();
    assert_eq!(status(&world), 200);
    assert_eq!(status_online(&world), 200);
    let world = World::setup_https(TlsFiles::self_signed().unwrap(), false)
        .set("keystone_ssl_verify", "off")
        .start();
    assert_eq!(status_online(&world), 200);
}

#[test]
fn https_with_another_name() {
    let named = TlsFiles::with(&Shape::server("keystone.example.com")).unwrap();
    let setup = World::setup_https(named, false);
    let world = setup.set("keystone_ssl_name", "keystone.example.com").start();
    assert_eq!(status(&world), 200);
    assert_eq!(status_online(&world), 200);
}

#[test]
fn https_with_a_client_certificate() {
    let files = TlsFiles::new().unwrap();
    let path = |name: &str| files.path(name).display().to_string();
    let (certificate, key) = (path("client.pem"), path("client.key"));
    let world = World::setup_https(files, true)
        .set("keystone_ssl_certificate", &certificate)
        .set("keystone_ssl_certificate_key", &key)
        .start();
    assert_eq!(status(&world), 200);
    assert_eq!(status_online(&world), 200);
    let world = World::setup_https(TlsFiles::new().unwrap(), true)
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_eq!(status(&world), 503);
    assert_eq!(status_online(&world), 503);
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn https_connections_are_kept_alive() {
    let world = eager(World::setup_https(TlsFiles::new().unwrap(), false)).start();
    for _ in 0..6 {
        assert_eq!(status(&world), 200);
    }
    assert!(world.identity.connections() <= 2, "{}", world.identity.connections());
}

#[test]
fn plain_http_on_an_https_port_and_the_reverse() {
    let mut address = None;
    let setup = World::setup().identity(|identity| address = Some(identity.address()));
    let world = setup
        .set("keystone_identity_uri", &format!("https://{}", address.unwrap()))
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_eq!(status(&world), 503);
    assert_eq!(status_online(&world), 503);
    let setup = World::setup_https(TlsFiles::new().unwrap(), false);
    let setup = setup.identity(|identity| address = Some(identity.address()));
    let world = setup
        .set("keystone_identity_uri", &format!("http://{}", address.unwrap()))
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_eq!(status(&world), 503);
}
