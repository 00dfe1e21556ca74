//! Errors and warnings that show only when blocks are merged: the line that they name.

use std::fs;

use keystone_testbed::nginx::{check, Check, Config};
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::shared_pki;

use super::{assert_accepted, assert_refused, line_of};

#[test]
fn an_error_names_the_line_of_its_directive() {
    let dir = TempDir::new("named").unwrap();
    fs::write(dir.join("empty.pem"), "").unwrap();
    let empty = dir.join("empty.pem").display().to_string();
    let authority = &shared_pki().unwrap().authority;
    fs::write(dir.join("c.pem"), authority.pem().unwrap()).unwrap();
    let certificate = dir.join("c.pem").display().to_string();
    for (directive, more, reason) in [
        ("keystone_identity_uri http://keystone.invalid:5000", "", "host not found"),
        ("keystone_proxy http://proxy.invalid:3128", "", "host not found"),
        ("keystone_memcached_servers memcached.invalid:11211", "", "host not found"),
        ("keystone_memcached_security_strategy mac", "", "keystone_memcached_secret_key"),
        (&format!("keystone_ssl_trusted_certificate {empty}"), "", "cannot use"),
        // Also where it is not needed.
        (
            &format!("keystone_ssl_trusted_certificate {empty}"),
            "keystone_ssl_verify off;",
            "cannot",
        ),
        (&format!("keystone_ssl_certificate {certificate}"), "", "must be set together"),
        (
            &format!("keystone_ssl_certificate_key {empty}"),
            &format!("keystone_ssl_certificate {certificate};"),
            "cannot use",
        ),
        ("keystone_username u", "", "must be set together"),
        ("keystone_admin_token t", "keystone_username u; keystone_password p;", "only one of"),
        ("keystone_signing_dir /proc/keystone", "", "cannot be created"),
        (
            "keystone_cache_zone zone=one:1m",
            "limit_req_zone $host zone=one:1m rate=1r/s;",
            "cannot be added",
        ),
    ] {
        let name = directive.split(' ').next().unwrap();
        let config = Config::protected().unset(name).http(more).http(&format!("{directive};"));
        let Check { ok, text } = check(&config).unwrap();
        let line = format!("nginx.conf:{}", line_of(&config, directive));
        assert!(
            !ok && text.contains(reason) && text.contains(&line),
            "{directive} in {line}: {text}"
        );
    }
    let servers: String = (0..20)
        .map(|number| {
            format!(
                "server {{ listen 127.0.0.1:{}; keystone_auth on;
                    keystone_auth_uri http://127.0.0.1:{number}1; keystone_signing_dir @DIR@/{number}; }}",
                1 + number
            )
        })
        .collect();
    let zone = "keystone_cache_zone zone=small:256k;";
    let text = assert_refused(&Config::protected().http(zone).http(&servers), zone);
    assert!(text.contains("too small for"), "{text}");
}

#[test]
fn a_warning_about_a_secret_names_its_line() {
    let config = Config::protected()
        .http("keystone_memcached_servers 127.0.0.1:1;")
        .http("keystone_memcached_secret_key s;");
    let text = assert_accepted(&config);
    let line = format!("nginx.conf:{}", line_of(&config, "keystone_memcached_secret_key"));
    assert!(text.contains("protects nothing") && text.contains(&line), "{text}");
}

#[test]
fn a_requirement_without_a_token_is_warned_of() {
    let warns = |config: &Config| assert_accepted(config).contains("demands nothing");
    let without_auth = || Config::protected().location("/", "");
    for requirement in ["keystone_require_role admin;", "keystone_require $keystone_user_id;"] {
        let except = format!("limit_except GET {{ {requirement} }}");
        for lines in [requirement, &except] {
            let config = without_auth().location("/open/", &format!("\n{lines}"));
            let text = assert_accepted(&config);
            let line = format!("nginx.conf:{}", line_of(&config, lines));
            let name = requirement.split(' ').next().unwrap();
            assert!(text.contains(&format!("\"{name}\" in ")) && text.contains(&line), "{text}");
            assert!(text.contains("\"keystone_auth\" is not set there"), "{text}");
            assert!(warns(
                &Config::protected().location("/off/", &format!("keystone_auth off; {lines}"))
            ));
        }
        // What it counts for is below it, or is another server.
        let inner = format!("{requirement} limit_except GET {{ keystone_auth on; }}");
        assert!(!warns(&without_auth().location("/inner/", &inner)));
        let other = "server { listen 127.0.0.1:1; location /open/ { } }";
        assert!(!warns(&without_auth().http(requirement).http(other)));
        assert!(!warns(&Config::protected().server(requirement)));
    }
}
