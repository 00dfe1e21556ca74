//! `keystone_proxy`: an HTTP proxy on the way to the identity service.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::pki::{Shape, TlsFiles};
use keystone_testbed::proxy::Proxy;
use keystone_testbed::temp::set_mode;
use keystone_testbed::world::{Setup, World};

/// `user:pass word`.
const BASIC: &str = "Basic dXNlcjpwYXNzIHdvcmQ=";

fn through(proxy: &Proxy, setup: Setup) -> Setup {
    setup
        .set("keystone_proxy", &format!("http://{}", proxy.address()))
        .set("keystone_http_request_max_retries", "0")
}

/// A world whose identity service only the proxy can find.
fn behind_a_name(proxy: &Proxy, setup: Setup, uri: &str) -> Setup {
    through(proxy, setup)
        .identity(|identity| proxy.state().target = Some(identity.address()))
        .set("keystone_identity_uri", uri)
}

#[track_caller]
fn assert_told(world: &World, words: &str) {
    let answer = world.send(&Request::get("/").token(&world.uuid(&Payload::v3())));
    expect::unavailable(&answer);
    let log = world.nginx.error_log();
    assert!(log.lines().any(|line| line.contains("[error]") && line.contains(words)), "{log}");
}

#[test]
fn http_goes_through_the_proxy_in_absolute_form() {
    let proxy = Proxy::start().unwrap();
    let world = through(&proxy, World::setup()).start();
    let uri = world.identity.uri();
    for _ in 0..3 {
        expect::v3_user(&world.seen(&Request::get("/").token(&world.uuid(&Payload::v3()))));
        expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
    }
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let requests = proxy.requests();
    assert_eq!(requests[0], format!("GET {uri}/"));
    assert_eq!(requests[1], format!("GET {uri}/v3/auth/tokens?nocatalog"));
    assert_eq!(requests.len(), world.identity.requests().len(), "none goes around it");
    let state = proxy.state();
    let host = uri.strip_prefix("http://");
    assert!(state.log.iter().all(|request| request.headers.text("Host") == host));
    assert!(state.log.iter().all(|it| it.headers.get("Proxy-Authorization").is_none()));
    drop(state);
    assert!(proxy.connections() <= 2, "connections are kept: {}", proxy.connections());
}

#[test]
fn https_goes_through_a_tunnel() {
    let proxy = Proxy::start().unwrap();
    let world = through(&proxy, World::setup_https(TlsFiles::new().unwrap(), false)).start();
    for _ in 0..3 {
        expect::v3_user(&world.seen(&Request::get("/").token(&world.uuid(&Payload::v3()))));
        expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
    }
    let address = world.identity.address();
    assert!(proxy.requests().iter().all(|it| *it == format!("CONNECT {address}")));
    assert!((1..=2).contains(&proxy.connections()), "{}", proxy.connections());
    assert_eq!(world.identity.connections(), proxy.connections());
}

#[test]
fn the_proxy_resolves_the_name_of_the_identity_service() {
    let name = "keystone.example.invalid";
    let proxy = Proxy::start().unwrap();
    let world = behind_a_name(&proxy, World::setup(), &format!("http://{name}:5000")).start();
    expect::v3_user(&world.seen(&Request::get("/").token(&world.uuid(&Payload::v3()))));
    assert_eq!(proxy.requests()[0], format!("GET http://{name}:5000/"));

    let proxy = Proxy::start().unwrap();
    let files = TlsFiles::with(&Shape::server(name)).unwrap();
    let setup = World::setup_https(files, false);
    let world = behind_a_name(&proxy, setup, &format!("https://{name}/")).start();
    expect::v3_user(&world.seen(&Request::get("/").token(&world.uuid(&Payload::v3()))));
    assert_eq!(proxy.requests(), [format!("CONNECT {name}:443")]);
    let host = world.identity.state().log[0].headers.text("Host").map(str::to_owned);
    assert_eq!(host.as_deref(), Some(name));
}

#[test]
fn the_certificate_must_be_the_identity_services() {
    let proxy = Proxy::start().unwrap();
    let setup = World::setup_https(TlsFiles::new().unwrap(), false);
    let world = behind_a_name(&proxy, setup, "https://keystone.example.invalid").start();
    assert_told(&world, "certificate verification: hostname mismatch");
    assert_eq!(world.identity.requests(), [""; 0]);
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 503);
}

#[test]
fn user_and_password_of_the_proxy() {
    for https in [false, true] {
        let setup = || match https {
            true => World::setup_https(TlsFiles::new().unwrap(), false),
            false => World::setup(),
        };
        let proxy = Proxy::start().unwrap();
        proxy.state().authorization = Some(BASIC.to_owned());
        let uri = format!("http://user:pass%20word@{}", proxy.address());
        let in_place = through(&proxy, setup()).set("keystone_proxy", &uri);
        let in_file =
            through(&proxy, setup()).set("keystone_proxy", "file:@DIR@/proxy").files(|dir| {
                std::fs::write(dir.join("proxy"), format!("{uri}\n")).unwrap();
                set_mode(&dir.join("proxy"), 0o600).unwrap();
            });
        for setup in [in_place, in_file] {
            let world = setup.config(|config| config.debug()).start();
            expect::v3_user(&world.seen(&Request::get("/").token(&world.uuid(&Payload::v3()))));
            // Not even the identity service is told.
            for request in &world.identity.state().log {
                assert!(request.headers.get("Proxy-Authorization").is_none());
            }
            let log = world.nginx.error_log();
            let has_secret = |line: &&str| {
                ["dXNlcj", "pass word", "pass%20word"].iter().any(|it| line.contains(it))
            };
            let ours = log.lines().filter(|line| line.contains("keystone")).find(has_secret);
            assert_eq!(ours, None);
        }
        let wrong = format!("http://user:wrong-word@{}", proxy.address());
        let world = through(&proxy, setup()).set("keystone_proxy", &wrong).start();
        let named = format!("proxy http://{} answered with status 407", proxy.address());
        assert_told(&world, &named);
        assert!(!world.nginx.error_log().contains("wrong-word"));
    }
}

#[test]
fn what_the_proxy_answers_itself_is_named() {
    for https in [false, true] {
        for status in [403, 407, 502, 503, 504] {
            let proxy = Proxy::start().unwrap();
            proxy.state().refusal = Some((status, "<html>no</html>".to_owned()));
            let setup = match https {
                true => World::setup_https(TlsFiles::new().unwrap(), false),
                false => World::setup(),
            };
            let world = through(&proxy, setup).start();
            let named = format!("proxy http://{} answered with status {status}", proxy.address());
            assert_told(&world, &named);
            let world_log = world.nginx.error_log();
            let through = format!("{} through proxy", world.identity.uri());
            assert!(world_log.contains(&through), "{world_log}");
            // Nothing of that is kept.
            proxy.state().refusal = None;
            assert_eq!(world.status(&world.uuid(&Payload::v3())), 200, "{status}");
        }
    }
}

#[test]
fn keystones_own_answers_are_not_the_proxys() {
    let proxy = Proxy::start().unwrap();
    let world = through(&proxy, World::setup()).start();
    let error = br#"{"error": {"message": "no", "code": 403, "title": "Forbidden"}}"#;
    world.identity.fault_validations(Fault::Status(403));
    world.identity.fault_validations(Fault::Body(error.to_vec()));
    assert_told(&world, "unexpected status 403");
}

#[test]
fn the_proxy_is_down() {
    let mut proxy = Proxy::start().unwrap();
    proxy.stop();
    for setup in [World::setup(), World::setup_https(TlsFiles::new().unwrap(), false)] {
        let world = through(&proxy, setup).start();
        assert_told(&world, &format!("cannot connect to {}", proxy.address()));
        assert_eq!(world.identity.connections(), 0, "nothing goes around it");
    }
}

#[test]
fn a_server_may_do_without_the_proxy() {
    let proxy = Proxy::start().unwrap();
    let mut world = through(&proxy, World::setup()).start();
    world.reconfigure(|config| config.set("keystone_proxy", "off"));
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    assert_eq!(proxy.connections(), 0);
    world
        .reconfigure(|config| config.set("keystone_proxy", &format!("http://{}", proxy.address())));
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    assert!(proxy.connections() > 0);
}

#[test]
fn a_password_is_not_in_the_error_about_its_uri() {
    for uri in ["http://user:s3cr3t@", "https://user:s3cr3t@proxy", "http://u:s3cr3t%zz@p:1"] {
        let refused = World::setup().config(|config| config.set("keystone_proxy", uri));
        let Err(error) = refused.try_start() else { panic!("{uri} is refused") };
        let error = error.to_string();
        assert!(error.contains("invalid value \"...\" in \"keystone_proxy\""), "{error}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }
    let uri = "http://user:s3cr3t@keystone-proxy.invalid:3128";
    let refused = World::setup().config(|config| config.set("keystone_proxy", uri));
    let Err(error) = refused.try_start() else { panic!("a proxy without an address is refused") };
    let error = error.to_string();
    assert!(error.contains("\"http://keystone-proxy.invalid:3128\": host not found"), "{error}");
    assert!(!error.contains("s3cr3t"), "{error}");
}

#[test]
fn an_intermediate_authority_alone_is_trusted_on_demand() {
    for (partial, status) in [("on", 200), ("off", 503)] {
        let world = World::setup_https(TlsFiles::with_intermediate().unwrap(), false)
            .set("keystone_ssl_partial_chain", partial)
            .set("keystone_http_request_max_retries", "0")
            .start();
        assert_eq!(world.status(&world.uuid(&Payload::v3())), status, "{partial}");
    }
    let world = World::setup_https(TlsFiles::with_intermediate().unwrap(), false)
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_told(&world, "certificate verification: unable to get issuer certificate");
    // Whoever is not below that authority stays out.
    let other = TlsFiles::with_intermediate().unwrap();
    let world = World::setup_https(TlsFiles::new().unwrap(), false)
        .set("keystone_ssl_trusted_certificate", &other.ca().display().to_string())
        .set("keystone_ssl_partial_chain", "on")
        .set("keystone_http_request_max_retries", "0")
        .start();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 503);
}
