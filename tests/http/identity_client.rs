//! How the module talks to the identity service.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keystone_testbed::dns::NameServer;
use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{
    Fault, Gate, Identity, ADMIN_TOKEN, CREDENTIAL_ID, CREDENTIAL_SECRET, SERVICE_PASSWORD,
    SERVICE_PROJECT, SERVICE_USER,
};
use keystone_testbed::mint::Payload;
use keystone_testbed::pki::{Pair, Shape, TlsFiles};
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

/// A new token makes the module ask for the list.
fn eager(setup: Setup) -> Setup {
    setup.set("keystone_revocation_cache_time", "0")
}

fn with_password(setup: Setup) -> Setup {
    eager(setup)
        .unset("keystone_admin_token")
        .set("keystone_username", SERVICE_USER)
        .set("keystone_password", SERVICE_PASSWORD)
        .set("keystone_project_name", SERVICE_PROJECT)
}

fn status(world: &World) -> u16 {
    world.status(&world.pki(&Payload::v3()))
}

/// The status with a token that has to be asked about.
fn status_online(world: &World) -> u16 {
    world.status(&world.uuid(&Payload::v3()))
}

#[test]
fn one_login_serves_many_validations() {
    for (version, path) in
        [("v2.0", "/v2.0/tokens"), ("v3", "/v3/auth/tokens"), ("auto", "/v3/auth")]
    {
        let world = with_password(World::setup()).set("keystone_auth_version", version).start();
        for _ in 0..4 {
            assert_eq!(status(&world), 200, "{version}");
        }
        let requests = world.identity.requests();
        let bought: Vec<_> = requests.iter().filter(|r| r.starts_with("POST")).collect();
        assert_eq!(bought.len(), 1, "{requests:?}");
        assert!(bought[0].starts_with(&format!("POST {path}")), "{requests:?}");
        assert_eq!(requests.iter().filter(|r| r.ends_with("/revoked")).count(), 4);
    }
}

#[test]
fn the_old_names_of_user_password_and_project() {
    let world = eager(World::setup())
        .unset("keystone_admin_token")
        .set("keystone_admin_user", SERVICE_USER)
        .set("keystone_admin_password", SERVICE_PASSWORD)
        .set("keystone_admin_tenant_name", SERVICE_PROJECT)
        .start();
    assert_eq!(status(&world), 200);
}

#[test]
fn users_of_other_domains() {
    let elsewhere = |identity: &mut Identity| {
        let user = &mut identity.state().users[0];
        (user.domain, user.project_domain) = ("Users".into(), "Projects".into());
    };
    let right = with_password(World::setup().identity(elsewhere))
        .set("keystone_user_domain_name", "Users")
        .set("keystone_project_domain_name", "Projects")
        .start();
    assert_eq!(status(&right), 200);
    let wrong = with_password(World::setup().identity(elsewhere)).start();
    assert_eq!(status(&wrong), 503);
}

#[test]
fn a_password_of_odd_characters() {
    let odd = "p\"w\\d {é} $x 'y'";
    let setup = World::setup().identity(|identity| {
        identity.state().users[0].password = odd.into();
    });
    let world = with_password(setup)
        .set("keystone_password", "file:@DIR@/password")
        .files(|dir| std::fs::write(dir.join("password"), format!("{odd}\n")).unwrap())
        .start();
    assert_eq!(status(&world), 200);
}

#[test]
fn an_application_credential() {
    let world = eager(World::setup())
        .unset("keystone_admin_token")
        .set("keystone_application_credential_id", CREDENTIAL_ID)
        .set("keystone_application_credential_secret", CREDENTIAL_SECRET)
        .start();
    assert_eq!(status(&world), 200);
    let requests = world.identity.requests();
    assert!(requests.contains(&"POST /v3/auth/tokens".into()), "{requests:?}");
}

#[test]
fn a_stale_service_token_is_renewed() {
    let world = with_password(World::setup()).start();
    assert_eq!(status(&world), 200);
    world.identity.expire_service_tokens();
    world.identity.forget_requests();
    assert_eq!(status(&world), 200);
    assert_eq!(
        world.identity.requests(),
        [
            "GET /v3/auth/tokens/OS-PKI/revoked",
            "POST /v3/auth/tokens",
            "GET /v3/auth/tokens/OS-PKI/revoked",
        ]
    );
}

#[test]
fn a_wrong_password_is_not_hammered() {
    let world = with_password(World::setup()).set("keystone_password", "wrong").start();
    for _ in 0..10 {
        let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
        expect::unavailable(&answer);
    }
    let requests = world.identity.requests();
    let tries = requests.iter().filter(|request| request.starts_with("POST")).count();
    assert!((1..=3).contains(&tries), "{tries} tries for 10 requests");
}

#[test]
fn a_fixed_token_that_is_refused() {
    let world = eager(World::setup()).set("keystone_admin_token", "stale").start();
    let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
    expect::unavailable(&answer);
    let asked = world.identity.count("/v3/auth/tokens/OS-PKI/revoked");
    assert!((1..=2).contains(&asked), "{asked}");
    let log = world.nginx.error_log();
    assert!(!log.contains("stale,") && !log.contains(ADMIN_TOKEN), "{log}");
}

#[test]
fn no_credentials_and_a_list_that_needs_them() {
    let world = eager(World::setup()).unset("keystone_admin_token").start();
    let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
    expect::unavailable(&answer);
    let world =
        World::setup().unset("keystone_admin_token").set("keystone_revocation", "off").start();
    assert_eq!(status(&world), 200);
}

#[test]
fn connections_are_kept_alive() {
    let world = eager(World::setup()).start();
    for _ in 0..10 {
        assert_eq!(status(&world), 200);
    }
    assert!(world.identity.connections() <= 2, "{}", world.identity.connections());
    let world = eager(World::setup()).set("keystone_keepalive", "0").start();
    for _ in 0..3 {
        assert_eq!(status(&world), 200);
    }
    let requests = world.identity.requests().len() as u64;
    assert_eq!(world.identity.connections(), requests);
}

#[test]
fn a_kept_connection_that_was_closed_silently() {
    let world = eager(World::setup()).set("keystone_http_request_max_retries", "0").start();
    world.identity.fault("/", Fault::CloseSilently);
    for _ in 0..5 {
        assert_eq!(status(&world), 200);
    }
}

#[test]
fn a_kept_connection_that_is_closed_instead_of_an_answer() {
    let plain = World::setup();
    let tls = World::setup_https(TlsFiles::new().unwrap(), false);
    for setup in [plain, tls] {
        let setup = setup.set("keystone_auth_version", "v3");
        let world = setup.set("keystone_http_request_max_retries", "0").start();
        assert_eq!(status_online(&world), 200);
        let connections = world.identity.connections();
        world.identity.fault_validations_times(1, Fault::CloseBeforeAnswer);
        assert_eq!(status_online(&world), 200, "{}", world.nginx.error_log());
        assert_eq!(world.identity.connections(), connections + 1);
    }
}

#[test]
fn the_machine_behind_kept_connections_is_gone() {
    let world = World::setup()
        .set("keystone_auth_version", "v3")
        .set("keystone_read_timeout", "1s")
        .set("keystone_http_request_max_retries", "1")
        .start();
    let gate = world.identity.hold_validations();
    std::thread::scope(|scope| {
        let requests = [(); 4].map(|()| scope.spawn(|| status_online(&world)));
        world.wait_for_validations(requests.len());
        gate.open();
        for request in requests {
            assert_eq!(request.join().unwrap(), 200);
        }
    });
    let connections = world.identity.connections();
    assert!(connections >= 4, "{connections}");

    world.identity.heal();
    world.identity.fault("/", Fault::SilenceUpTo(connections));
    world.identity.forget_requests();
    for _ in 0..3 {
        assert_eq!(status_online(&world), 200);
    }
    assert_eq!(world.identity.validations().len(), 4, "one time-out, and no further one");
}

#[test]
fn the_identity_service_is_restarted() {
    let mut world = eager(World::setup()).start();
    for _ in 0..3 {
        assert_eq!(status(&world), 200);
        world.identity.stop();
        world.identity.restart().unwrap();
    }
    assert_eq!(status(&world), 200);
}

#[test]
fn e20_retries() {
    for (retries, asked) in [("0", 1), ("1", 2), ("3", 4)] {
        let setup = eager(World::setup()).set("keystone_auth_version", "v3");
        let world = setup.set("keystone_http_request_max_retries", retries).start();
        world.identity.fault("/v3/OS-SIMPLE-CERT/certificates", Fault::Status(503));
        assert_eq!(status(&world), 401, "unknown online");
        assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/certificates"), asked, "{retries}");
    }
}

#[test]
fn e20_a_retry_that_works() {
    for fault in [Fault::Status(500), Fault::CloseBeforeAnswer, Fault::Half] {
        let world = eager(World::setup()).start();
        world.identity.fault_times(2, "/v3/OS-SIMPLE-CERT/certificates", fault.clone());
        assert_eq!(status(&world), 200, "{fault:?}");
        assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/certificates"), 3, "{fault:?}");
    }
}

#[test]
fn time_outs() {
    for fault in [Fault::Silence, Fault::Delay(Duration::from_secs(5))] {
        let world = eager(World::setup())
            .set("keystone_read_timeout", "1s")
            .set("keystone_http_request_max_retries", "1")
            .start();
        world.identity.fault("/v3/OS-SIMPLE-CERT/ca", fault.clone());
        let start = Instant::now();
        assert_eq!(status(&world), 401, "unknown online");
        let after = start.elapsed();
        assert!((1_800..4_800).contains(&after.as_millis()), "{fault:?}: {after:?}");
        assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/ca"), 2);
    }
}

#[test]
fn failover_and_staying_with_the_one_that_answered() {
    let mut world = eager(World::setup()).start();
    let second = Identity::start(&world.pki).unwrap();
    let uris = format!("{} {}", world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &uris));
    assert_eq!(status(&world), 200);
    assert_eq!(second.requests(), [""; 0]);
    world.identity.stop();
    assert_eq!(status(&world), 200);
    assert!(!second.requests().is_empty());
    // Back again, the first one is not asked: the second one answers.
    world.identity.restart().unwrap();
    world.identity.forget_requests();
    second.forget_requests();
    for _ in 0..3 {
        assert_eq!(status(&world), 200);
    }
    assert_eq!(world.identity.requests(), [""; 0]);
    assert!(second.requests().len() >= 3);
}

#[test]
fn a_host_name_is_resolved_when_nginx_starts() {
    let mut port = 0;
    let setup = World::setup().identity(|identity| port = identity.address().port());
    let world = setup.set("keystone_identity_uri", &format!("http://localhost:{port}")).start();
    assert_eq!(status(&world), 200);
    let state = world.identity.state();
    let host = format!("localhost:{port}");
    assert!(state.log.iter().all(|request| request.headers.text("Host") == Some(&host)));
}

/// A server that accepts connections, and does not serve.
struct Sick {
    asked: Arc<AtomicUsize>,
}

impl Sick {
    /// Starts one that does this with each request; false closes the connection.
    fn start(address: SocketAddr, on_request: fn(&mut TcpStream) -> bool) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        if !on_request(&mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        Self { asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn a_name_with_an_address_that_accepts_and_does_not_serve() {
    let addresses = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let sicknesses: [fn(&mut TcpStream) -> bool; 3] = [
        |_| false,
        |_| true,
        |stream| {
            stream.write_all(b"HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n").unwrap();
            true
        },
    ];
    for sickness in sicknesses {
        let names = NameServer::start(&addresses).unwrap();
        let mut port = 0;
        let mut world = World::setup()
            .identity(|identity| {
                port = identity.address().port();
                identity.stop();
            })
            .http(&format!("resolver {} ipv6=off;", names.address()))
            .set("keystone_identity_uri", &format!("http://localhost:{port}"))
            .set("keystone_auth_version", "v3")
            .set("keystone_read_timeout", "1s")
            .set("keystone_http_request_max_retries", "2")
            .start();
        let sick = Sick::start((addresses[1], port).into(), sickness);
        assert_eq!(status_online(&world), 503);
        assert_eq!(sick.asked(), 3, "{}", world.nginx.error_log());

        // The other address is the next, whatever order the resolver gives.
        world.identity.restart().unwrap();
        for _ in 0..3 {
            assert_eq!(status_online(&world), 200, "{}", world.nginx.error_log());
        }
        assert_eq!(sick.asked(), 3);

        // Within one request: the healthy one fails, then the sick one, and is asked again.
        world.identity.fault_validations_times(1, Fault::Status(500));
        assert_eq!(status_online(&world), 200, "{}", world.nginx.error_log());
        assert_eq!(sick.asked(), 4);
    }
}

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

#[test]
fn the_list_is_fetched_ahead_of_need_by_one_worker() {
    let world = World::setup().workers(3).set("keystone_revocation_cache_time", "1s").start();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let request = Request::get("/").token(&world.pki(&Payload::v3()));
        assert_eq!(client.send(&request).unwrap().status, 200);
    }
    world.identity.forget_requests();
    let start = Instant::now();
    let token = world.pki(&Payload::v3());
    // While the gateway is in use, its list stays fresh without anyone's waiting for it.
    wait_for("three fetches", || {
        assert_eq!(world.status(&token), 200);
        (world.identity.count("/v3/auth/tokens/OS-PKI/revoked") >= 3).then_some(())
    })
    .unwrap();
    let after = start.elapsed();
    assert!(after > Duration::from_millis(1200), "three fetches within {after:?}");
}

#[test]
fn a_pending_list_does_not_keep_nginx_from_quitting() {
    let list = "/v3/auth/tokens/OS-PKI/revoked";
    let mut world = World::setup().set("keystone_revocation_cache_time", "1s").start();
    assert_eq!(status(&world), 200);
    world.identity.forget_requests();
    let gate = Gate::default();
    world.identity.fault(list, Fault::Hold(gate.clone()));
    // No request has to ask for it: it is fetched ahead.
    wait_for("the question", || (world.identity.count(list) > 0).then_some(())).unwrap();
    assert!(world.nginx.quit().unwrap().success());
    gate.open();
    let log = world.nginx.error_log();
    assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
}
