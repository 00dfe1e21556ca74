//! Tokens that are bound to the certificate of a client (RFC 8705), as Keystone's OAuth 2.0 issues
//! them: they pass with that certificate only, wherever the answer about them lies.

mod bearer;
mod caches;
mod resumption;
mod terminator;

use std::net::SocketAddr;
use std::process::Command;

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request, Response};
use keystone_testbed::identity::Fault;
use keystone_testbed::metrics::Metrics;
use keystone_testbed::mint::{new_fernet, new_jws, Payload};
use keystone_testbed::nginx::{can_try_http_2, check, Config};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::port::Port;
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};
use serde_json::json;

/// A cloud whose nginx speaks TLS too, and two clients with certificates.
struct Edge {
    world: World,
    files: TlsFiles,
    /// Those of another authority.
    strangers: TlsFiles,
    /// Where nginx speaks TLS.
    tls: SocketAddr,
    _port: Port,
    /// The PEM of the first client's certificate.
    owner: String,
}

/// Whose certificate a client shows; its name is that of the files.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shows {
    /// That of the client to whom tokens are bound.
    Owner,
    /// That of another client of the same authority.
    Other,
    /// That of a client whose authority nginx does not know.
    Stranger,
    /// None, over TLS.
    Nothing,
    /// Nothing, over plain HTTP.
    Plain,
}

const WRONG: [Shows; 4] = [Shows::Other, Shows::Stranger, Shows::Nothing, Shows::Plain];

impl Edge {
    fn start(change: impl FnOnce(Setup) -> Setup) -> Self {
        Self::start_with("ssl", change)
    }

    /// With these parameters of `listen`.
    fn start_with(listen: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let files = TlsFiles::new().unwrap();
        let port = Port::free().unwrap();
        let owner = files.client("owner", 21).unwrap().pem().unwrap();
        files.client("other", 22).unwrap();
        let strangers = TlsFiles::new().unwrap();
        strangers.client("owner", 21).unwrap();
        let path = |name: &str| files.path(name).display().to_string();
        let server = format!(
            "listen {} {listen}; ssl_certificate {}; ssl_certificate_key {};
             ssl_client_certificate {}; ssl_verify_client optional_no_ca;",
            port.address(),
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        );
        let world = change(World::setup().server(&server)).start();
        Self { world, tls: port.address(), _port: port, owner, files, strangers }
    }

    fn bound(&self) -> Payload {
        Payload::v3().bound_to_certificate(&self.owner)
    }

    #[track_caller]
    fn connect(&self, shows: Shows) -> Client {
        let pair = |files: &TlsFiles, name: &str| {
            (files.path(&format!("{name}.pem")), files.path(&format!("{name}.key")))
        };
        let own = match shows {
            Shows::Owner => Some(pair(&self.files, "owner")),
            Shows::Other => Some(pair(&self.files, "other")),
            Shows::Stranger => Some(pair(&self.strangers, "owner")),
            Shows::Nothing => None,
            Shows::Plain => return self.world.nginx.connect().unwrap(),
        };
        Client::connect_tls(self.tls, "localhost", &self.files.ca(), own).unwrap()
    }

    #[track_caller]
    fn ask(&self, shows: Shows, request: &Request) -> Response {
        self.connect(shows).send(request).unwrap()
    }

    /// The token passes with its certificate.
    #[track_caller]
    fn passes(&self, token: &str) {
        let answer = self.ask(Shows::Owner, &Request::get("/").token(token));
        assert_eq!(answer.status, 200, "{}", answer.text());
        expect::v3_user(&Seen::of(&answer).unwrap());
    }

    /// The token passes with no other certificate, and with none.
    #[track_caller]
    fn is_refused(&self, token: &str) {
        for shows in WRONG {
            refused(&self.ask(shows, &Request::get("/").token(token)));
        }
    }
}

#[track_caller]
fn refused(answer: &Response) {
    expect::refused(answer);
    assert_eq!(answer.header("X-Result"), Some("bind_failed"));
}

#[test]
fn every_format_passes_with_its_certificate_only() {
    let edge = Edge::start(Setup::offline);
    let payload = edge.bound();
    let online = |token: String| {
        edge.world.identity.know(&token, &payload);
        token
    };
    for token in [
        edge.world.pki(&payload),
        edge.world.pkiz(&payload),
        edge.world.uuid(&payload),
        online(new_fernet()),
        online(new_jws()),
    ] {
        // Whoever comes first: the answer is cached, and no answer of before counts.
        edge.is_refused(&token);
        edge.passes(&token);
        edge.is_refused(&token);
        edge.passes(&token);
    }
    edge.world.assert_quiet_log();
}

#[test]
fn on_one_connection_each_request_counts() {
    let edge = Edge::start(Setup::offline);
    let (bound, free) = (edge.world.pki(&edge.bound()), edge.world.pki(&Payload::v3()));
    let mut client = edge.connect(Shows::Other);
    for _ in 0..2 {
        refused(&client.send(&Request::get("/").token(&bound)).unwrap());
        assert_eq!(client.send(&Request::get("/").token(&free)).unwrap().status, 200);
    }
}

#[test]
fn the_modes_of_enforcement() {
    for (mode, wrong, unbound) in [
        ("disabled", 200, 200),
        ("permissive", 401, 200),
        ("strict", 401, 200),
        ("required", 401, 401),
        // What oauth2_mtls_token demands.
        ("oauth2_credential", 401, 401),
    ] {
        let edge = Edge::start(|setup| setup.offline().set("keystone_enforce_token_bind", mode));
        let tokens = [edge.world.pki(&edge.bound()), edge.world.uuid(&edge.bound())];
        for token in tokens.iter().flat_map(|token| [token; 2]) {
            let get = Request::get("/").token(token);
            assert_eq!(edge.ask(Shows::Owner, &get).status, 200, "{mode}");
            for shows in WRONG {
                assert_eq!(edge.ask(shows, &get).status, wrong, "{mode} {shows:?}");
            }
        }
        let token = edge.world.pki(&Payload::v3());
        for shows in [Shows::Owner, Shows::Nothing, Shows::Plain] {
            let answer = edge.ask(shows, &Request::get("/").token(&token));
            assert_eq!(answer.status, unbound, "{mode} {shows:?}");
        }
    }
    // Another bind is not that of a certificate.
    let edge = Edge::start(|setup| setup.offline().set("keystone_enforce_token_bind", "kerberos"));
    refused(&edge.ask(Shows::Owner, &Request::get("/").token(&edge.world.pki(&edge.bound()))));
}

#[test]
fn a_token_that_names_no_certificate_is_that_of_nobody() {
    let edge = Edge::start(Setup::offline);
    for credential in [json!({}), json!({"x5t#S256": null}), json!({"x5t#S256": ""})] {
        let payload = Payload::v3().with("/oauth2_credential", credential);
        for token in [edge.world.pki(&payload), edge.world.uuid(&payload)] {
            edge.is_refused(&token);
            refused(&edge.ask(Shows::Owner, &Request::get("/").token(&token)));
        }
    }
    // Signed, but nothing that Keystone signs; and no answer that it gives.
    let odd = Payload::v3().with("/oauth2_credential", json!("x"));
    let get = |token: &str| edge.ask(Shows::Owner, &Request::get("/").token(token));
    assert_eq!(get(&edge.world.pki(&odd)).header("X-Result"), Some("malformed"));
    assert_eq!(get(&edge.world.uuid(&odd)).status, 503);
    let unbound = Payload::v3().with("/oauth2_credential", json!(null));
    edge.passes(&edge.world.pki(&unbound));
}

#[test]
fn delay_tells_the_application_that_it_is_invalid() {
    let edge = Edge::start(Setup::offline);
    let get = Request::get("/delay/").token(&edge.world.pki(&edge.bound()));
    for shows in WRONG {
        let answer = edge.ask(shows, &get);
        assert_eq!(answer.header("X-Result"), Some("bind_failed"));
        expect::no_identity(&Seen::of(&answer).unwrap());
    }
    expect::v3_user(&Seen::of(&edge.ask(Shows::Owner, &get)).unwrap());
}

/// Who asks is settled before other modules decide: a token without its certificate says nothing
/// there either.
#[test]
fn with_keystone_early_no_identity_comes_before_the_certificate() {
    let edge = Edge::start(|setup| {
        setup.offline().location(
            "/early/",
            "satisfy any; allow all; keystone_auth on; keystone_early on; proxy_pass @UPSTREAM@;
             proxy_set_header X-Early $keystone_user_id;",
        )
    });
    for token in [edge.world.pki(&edge.bound()), edge.world.uuid(&edge.bound())] {
        let get = Request::get("/early/").token(&token);
        for _ in 0..2 {
            for shows in WRONG {
                let seen = Seen::of(&edge.ask(shows, &get)).unwrap();
                expect::no_identity(&seen);
                assert_eq!(seen.header("X-Early"), None, "{shows:?}");
            }
            let seen = Seen::of(&edge.ask(Shows::Owner, &get)).unwrap();
            expect::v3_user(&seen);
            assert_eq!(seen.header("X-Early").as_deref(), Some("user_id1"));
        }
    }
}

#[test]
fn a_redirect_to_a_location_that_enforces() {
    let edge = Edge::start(|setup| {
        setup
            .offline()
            .location(
                "/free/",
                "keystone_auth on; keystone_enforce_token_bind disabled;
                 error_page 404 = /strict$uri; root /nonexistent;",
            )
            .location("/strict/", "keystone_auth on; proxy_pass @UPSTREAM@;")
    });
    let get = Request::get("/free/").token(&edge.world.pki(&edge.bound()));
    for _ in 0..2 {
        refused(&edge.ask(Shows::Nothing, &get));
        assert_eq!(edge.ask(Shows::Owner, &get).status, 200);
    }
}

#[test]
fn requests_that_wait_for_one_answer_are_judged_one_by_one() {
    let edge = Edge::start(|setup| setup);
    let token = edge.world.uuid(&edge.bound());
    let gate = edge.world.identity.hold_validations();
    let get = Request::get("/").token(&token).bytes();
    let order = [Shows::Owner, Shows::Other, Shows::Nothing, Shows::Owner, Shows::Plain];
    let mut clients: Vec<_> = order.iter().map(|shows| edge.connect(*shows)).collect();
    for client in &mut clients {
        client.write(&get).unwrap();
    }
    edge.world.wait_for_validations(1);
    gate.open();
    for (client, shows) in clients.iter_mut().zip(order) {
        let answer = client.read(false).unwrap();
        match shows {
            Shows::Owner => assert_eq!(answer.status, 200),
            _ => refused(&answer),
        }
    }
    assert_eq!(edge.world.identity.validations().len(), 1);
}

#[test]
fn a_service_token_does_not_stand_in_for_the_certificate() {
    let edge = Edge::start(|setup| setup);
    let service = edge.world.uuid(&Payload::v3_service());
    let token = edge.world.uuid(&edge.bound());
    let get = Request::get("/").token(&token).header("X-Service-Token", &service);
    refused(&edge.ask(Shows::Other, &get));
    assert_eq!(edge.ask(Shows::Owner, &get).status, 200);
}

#[test]
fn a_bound_service_token_vouches_with_its_certificate_only() {
    let edge = Edge::start(|setup| setup);
    let payload = Payload::v3_service().bound_to_certificate(&edge.owner);
    let service = edge.world.uuid(&payload);
    let token = edge.world.uuid(&Payload::v3());
    let get = Request::get("/").token(&token).header("X-Service-Token", &service);
    assert_eq!(edge.ask(Shows::Owner, &get).status, 200);
    let answer = edge.ask(Shows::Other, &get);
    assert_eq!(answer.header("X-Result"), Some("bad_service_token"));
    // Nor does it let an expired token pass.
    let expired = edge.world.uuid(&Payload::v3().expires_in(-5));
    let get = Request::get("/").token(&expired).header("X-Service-Token", &service);
    assert_eq!(edge.ask(Shows::Owner, &get).status, 200);
    assert_eq!(edge.ask(Shows::Other, &get).status, 401);
}

#[test]
fn the_reason_is_in_the_log_and_in_the_counters() {
    let edge =
        Edge::start(|setup| setup.offline().location("= /status", "keystone_status prometheus;"));
    let token = edge.world.pki(&edge.bound());
    edge.is_refused(&token);
    let log = edge.world.nginx.error_log();
    let lines = |reason: &str| {
        let line =
            format!("refused: bind_failed: the token's bind does not match: {reason}, token: ");
        log.lines().filter(|it| it.contains(&line) && it.contains(", user: user_id1")).count()
    };
    assert_eq!(lines("the client has shown another certificate"), 2, "{log}");
    assert_eq!(lines("the client has shown no certificate"), 2, "{log}");
    assert!(!log.contains(&token));
    wait_for("the counters", || {
        let metrics = Metrics::read(&edge.world.send(&Request::get("/status")).text()).unwrap();
        let refused = [("result", "bind_failed")];
        (metrics.sum("keystone_requests_total", &refused) == 4.0).then_some(())
    })
    .unwrap();
}

#[test]
fn values_of_the_directive() {
    for bad in
        ["", "\"\"", "certificate", "$a $b", "/etc/ssl/client.pem", "${", "$no_such_variable"]
    {
        let config = Config::protected().set("keystone_client_certificate", bad);
        assert!(!check(&config).unwrap().ok, "{bad}");
    }
    for good in
        ["$ssl_client_raw_cert", "$ssl_client_cert", "$http_x_ssl_cert", "$ssl_client_escaped_cert"]
    {
        let config = Config::protected().set("keystone_client_certificate", good);
        let checked = check(&config).unwrap();
        assert!(checked.ok, "{good}: {}", checked.text);
    }
}

#[test]
fn other_variables_of_nginx_have_it_too() {
    for variable in ["$ssl_client_cert", "$ssl_client_escaped_cert", "$ssl_client_raw_cert"] {
        let edge =
            Edge::start(|setup| setup.offline().set("keystone_client_certificate", variable));
        let token = edge.world.pki(&edge.bound());
        edge.passes(&token);
        edge.is_refused(&token);
    }
}

#[test]
fn over_http_2() {
    if !can_try_http_2() {
        return;
    }
    let edge = Edge::start_with("ssl http2", Setup::offline);
    let header = format!("X-Auth-Token: {}", edge.world.pki(&edge.bound()));
    let url = format!("https://{}/files/hello.txt", edge.tls);
    let ask = |client: Option<&str>| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--http2", "-H", &header, "--cacert"]).arg(edge.files.ca());
        if let Some(client) = client {
            command.arg("--cert").arg(edge.files.path(&format!("{client}.pem")));
            command.arg("--key").arg(edge.files.path(&format!("{client}.key")));
        }
        command.args(["-o", "/dev/null", "-w", "%{http_version} %{http_code}\n"]);
        // Several streams on one connection.
        let output = command.args(["-o", "/dev/null", &url, &url]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for _ in 0..2 {
        assert_eq!(ask(Some("other")), "2 401\n".repeat(2));
        assert_eq!(ask(Some("owner")), "2 200\n".repeat(2));
        assert_eq!(ask(None), "2 401\n".repeat(2));
    }
}

#[test]
fn an_outage_is_no_refusal() {
    let edge = Edge::start(|setup| setup.set("keystone_http_request_max_retries", "0"));
    let token = edge.world.uuid(&edge.bound());
    edge.world.identity.fault_validations_times(1, Fault::Status(500));
    let get = Request::get("/").token(&token);
    expect::unavailable(&edge.ask(Shows::Owner, &get));
    edge.passes(&token);
}
