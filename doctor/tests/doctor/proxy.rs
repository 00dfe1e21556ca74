//! The way to Keystone through a proxy, and trust in an intermediate authority.

use keystone_testbed::identity::{Identity, Tls};
use keystone_testbed::pki::{Pki, TlsFiles};
use keystone_testbed::port::Port;
use keystone_testbed::proxy::Proxy;

use super::gateway::Gateway;

/// A gateway before a Keystone that speaks TLS.
fn with_tls(files: &TlsFiles, settings: &str) -> Gateway {
    let pki = Pki::new().unwrap();
    let tls = Tls { files, demand_client_certificate: false };
    let identity = Identity::start_tls(&pki, &tls).unwrap();
    let mut gateway = Gateway::before(pki, identity);
    let ca = files.ca().display().to_string();
    gateway.more = format!("keystone_ssl_trusted_certificate {ca}; {settings}");
    gateway
}

#[test]
fn keystone_is_asked_through_the_proxy() {
    for https in [false, true] {
        let proxy = Proxy::start().unwrap();
        proxy.state().authorization = Some("Basic dTpzM2NyM3Q=".to_owned());
        let line = format!("keystone_proxy http://u:s3cr3t@{};", proxy.address());
        let files = TlsFiles::new().unwrap();
        let mut gateway = match https {
            true => with_tls(&files, &line),
            false => Gateway::new(),
        };
        if !https {
            gateway.more = line;
        }
        gateway.check().is_well().says("keystone.tcp", "ok", &proxy.address().to_string());
        let start = match https {
            true => format!("CONNECT {}", gateway.identity.address()),
            false => format!("GET {}/", gateway.identity.uri()),
        };
        assert!(proxy.requests().iter().any(|it| it.starts_with(&start)), "{:?}", proxy.requests());

        proxy.state().authorization = Some("Basic eDp5".to_owned());
        let outcome = gateway.check();
        assert_eq!(outcome.code, 1);
        let check = if https { "keystone.tls" } else { "keystone.version" };
        outcome.says(check, "fail", "the proxy answered with status 407");
        outcome.says(check, "fail", "demands a user and a password");
        assert!(!outcome.human.contains("s3cr3t"), "{}", outcome.human);

        proxy.state().authorization = None;
        proxy.state().refusal = Some((502, "no".to_owned()));
        let outcome = gateway.check();
        outcome.says(check, "fail", "the proxy answered with status 502");
        outcome.says(check, "fail", &format!("-x http://{}", proxy.address()));
    }
}

#[test]
fn a_proxy_that_is_down_is_not_taken_for_keystone() {
    let mut gateway = Gateway::new();
    gateway.more = format!("keystone_proxy http://{};", Port::free().unwrap().address());
    gateway.check().says("keystone.tcp", "fail", "the proxy of keystone_proxy is down");
}

#[test]
fn an_intermediate_authority_alone_is_trusted_on_demand() {
    let files = TlsFiles::with_intermediate().unwrap();
    let outcome = with_tls(&files, "").check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.tls", "fail", "keystone_ssl_partial_chain");
    with_tls(&files, "keystone_ssl_partial_chain on;").check().is_well();
}
