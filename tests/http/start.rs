//! What nginx reads when it checks a configuration, starts and reloads.

use std::fs;
use std::path::{Path, PathBuf};

use keystone_testbed::http::{send, Request};
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{check, Config};
use keystone_testbed::opened::Opened;
use keystone_testbed::pki::{Pair, Shape, TlsFiles};
use keystone_testbed::port::Port;
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::{shared_pki, World};

/// A server for each URI, each with an identity service of its own.
fn servers(uris: &[&str], lines: &str) -> Config {
    let config = Config::new().http("keystone_cache_zone zone=keystone:64m;");
    uris.iter().enumerate().fold(config, |config, (at, uri)| {
        config.http(&format!(
            "server {{ listen unix:@DIR@/{at}.sock; keystone_auth on; keystone_auth_uri {uri};
             keystone_admin_token t; keystone_signing_dir @DIR@/keystone-{at}; {lines} }}"
        ))
    })
}

/// A bundle, which OpenSSL takes for the system's CAs where `SSL_CERT_FILE` says so.
fn bundle(dir: &TempDir) -> PathBuf {
    let path = dir.join("bundle.pem");
    fs::write(&path, shared_pki().unwrap().authority.pem().unwrap()).unwrap();
    path
}

fn opened_by_check(config: Config, bundle: &Path) -> usize {
    let mut opened = Opened::watch(bundle).unwrap();
    let checked = check(&config.variable("SSL_CERT_FILE", &bundle.display().to_string())).unwrap();
    assert!(checked.ok, "{}", checked.text);
    opened.count().unwrap()
}

const HTTP: &[&str] = &["http://127.0.0.1:5000", "http://127.0.0.1:5001"];
const HTTPS: &[&str] =
    &["https://127.0.0.1:5000", "https://127.0.0.1:5001", "https://127.0.0.1:5002"];

#[test]
fn the_systems_authorities_are_read_once_and_only_for_https() {
    let dir = TempDir::new("start").unwrap();
    let bundle = bundle(&dir);
    let client = |name: &str| {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        let pair = &shared_pki().unwrap().authority;
        fs::write(&certificate, pair.pem().unwrap()).unwrap();
        fs::write(&key, pair.key_pem().unwrap()).unwrap();
        format!(
            "keystone_ssl_certificate {}; keystone_ssl_certificate_key {};",
            certificate.display(),
            key.display()
        )
    };
    for (what, config, expected) in [
        ("http", servers(HTTP, ""), 0),
        ("http with a client certificate", servers(HTTP, &client("a")), 0),
        ("https", servers(HTTPS, ""), 1),
        ("https with client certificates", servers(HTTPS, &client("b")), 1),
        ("https with names", servers(HTTPS, "keystone_ssl_name keystone.example.com;"), 1),
        ("https after http", servers(&[HTTP[0], HTTPS[1], HTTPS[2]], ""), 1),
        ("https that is not verified", servers(HTTPS, "keystone_ssl_verify off;"), 0),
        (
            "a service with both",
            servers(&[HTTP[0]], "keystone_identity_uri http://127.0.0.1:1 https://127.0.0.1:2;"),
            1,
        ),
    ] {
        assert_eq!(opened_by_check(config, &bundle), expected, "{what}");
    }
}

#[test]
fn a_bundle_that_several_services_name_is_parsed_once() {
    let dir = TempDir::new("start").unwrap();
    let bundle = bundle(&dir);
    let named = format!("keystone_ssl_trusted_certificate {};", bundle.display());
    // Each directive looks once whether it can be read.
    assert_eq!(opened_by_check(servers(HTTPS, &named), &bundle), HTTPS.len() + 1);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_without_https_too() {
    let dir = TempDir::new("start").unwrap();
    let (good, bad) = (bundle(&dir), dir.join("bad.pem"));
    fs::write(&bad, "no certificate").unwrap();
    let (good, bad) = (good.display(), bad.display());
    for lines in [
        format!("keystone_ssl_trusted_certificate {bad};"),
        format!("keystone_ssl_certificate {bad}; keystone_ssl_certificate_key {bad};"),
        format!("keystone_ssl_certificate {good}; keystone_ssl_certificate_key {bad};"),
    ] {
        for uris in [HTTP, HTTPS] {
            let checked = check(&servers(uris, &lines)).unwrap();
            assert!(!checked.ok, "{lines}");
            assert!(checked.text.contains("[emerg]"), "{lines}: {}", checked.text);
            assert!(checked.text.contains("bad.pem"), "{lines}: {}", checked.text);
        }
    }
}

#[test]
fn services_share_the_authorities_that_they_trust_and_no_others() {
    let files = TlsFiles::new().unwrap();
    let strange = files.path("strange.pem");
    let stranger = Pair::self_signed(&Shape::authority()).unwrap();
    fs::write(&strange, stranger.pem().unwrap()).unwrap();
    let strange = strange.display();
    let servers: Vec<_> = [
        ("", 200),
        (&*format!("keystone_ssl_trusted_certificate {strange};"), 503),
        (&*format!("keystone_ssl_trusted_certificate {strange}; keystone_ssl_verify off;"), 200),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (lines, status))| {
        let port = Port::free().unwrap();
        // Settings of its own make an identity service of its own.
        let server = format!(
            "server {{ listen {}; keystone_auth on; root @DIR@/html; keystone_max_pending {};
             keystone_http_request_max_retries 0; {lines} }}",
            port.address(),
            at + 1
        );
        (port, server, lines.to_owned(), status)
    })
    .collect();
    let text: String = servers.iter().map(|(_, server, ..)| server.as_str()).collect();
    let world = World::setup_https(files, false).http(&text).start();
    for reloads in 0..2 {
        if reloads > 0 {
            world.nginx.reload().unwrap();
        }
        for (port, _, lines, status) in &servers {
            let request = Request::get("/files/hello.txt").token(&world.uuid(&Payload::v3()));
            let answer = send(port.address(), &request).unwrap();
            assert_eq!(answer.status, *status, "{lines}: {}", world.nginx.error_log());
        }
    }
}
