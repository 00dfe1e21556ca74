//! OAuth 2.0 of Keystone: access tokens of the client credentials grant beside `oauth2_token`, and
//! those that are bound to a certificate beside `oauth2_mtls_token`, all with real certificates.

use std::path::PathBuf;
use std::process::Command;

use keystone_testbed::http::{Client, Request};
use keystone_testbed::keystone::{python, source, Keystone};
use keystone_testbed::oracle::Oracle;
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::port::Port;
use keystone_testbed::world::AUTH_URI;

use crate::cloud::{cloud, ROBOT};
use crate::differences::{
    a_bound_token_wants_its_certificate, a_scheme_is_written_in_any_case,
    a_valid_token_is_confirmed, the_token_is_in_x_auth_token_too, unavailability_is_json,
    Difference,
};
use crate::gate::{Both, Gate, Setup};

fn bearer(token: &str) -> Request {
    Request::get("/").header("Authorization", format!("Bearer {token}"))
}

/// Services find in the headers what they look for with auth_token.
const AS_AUTH_TOKEN: [Difference; 2] =
    [the_token_is_in_x_auth_token_too, a_valid_token_is_confirmed];

/// A gate for Bearer tokens, as `oauth2_token` is one; it always hands the catalog on.
fn setup(keystone: &Keystone) -> Setup {
    Gate::setup(keystone).filter("oauth2_token").catalog().bearer()
}

/// nginx and `oauth2_mtls_token`, both of which speak TLS and ask for certificates, and a Keystone
/// behind a terminator that does.
struct Mutual {
    files: TlsFiles,
    oracle: Oracle,
    gate: Gate,
    port: Port,
    terminator: Port,
}

impl Mutual {
    /// `change` gets the gate that demands certificates as `oauth2_mtls_token` does.
    fn open(keystone: &Keystone, change: impl FnOnce(Setup) -> Setup) -> Self {
        let files = TlsFiles::new().unwrap();
        for (serial, name) in [(21, ROBOT), (22, "bob")] {
            files.client(name, serial).unwrap();
        }
        let path = |name: &str| files.path(name).display().to_string();
        let (port, terminator) = (Port::free().unwrap(), Port::free().unwrap());
        let listen = |port: &Port| {
            format!(
                "listen {} ssl; ssl_certificate {}; ssl_certificate_key {};
                 ssl_client_certificate {}; ssl_verify_client optional;",
                port.address(),
                path("server.pem"),
                path("server.key"),
                path("ca.pem"),
            )
        };
        let in_front_of_keystone = format!(
            "server {{ {} location / {{ proxy_pass {};
             proxy_set_header X-Test-Client-Cert $ssl_client_escaped_cert; }} }}",
            listen(&terminator),
            keystone.uri(),
        );
        let setup = Gate::setup(keystone)
            .filter("oauth2_mtls_token")
            .catalog()
            .bearer()
            .token_bind("oauth2_credential")
            .server(&listen(&port))
            .http(&in_front_of_keystone);
        let gate = change(setup).open();
        let mut command = Command::new(python().unwrap());
        command.arg(source("oracle.py")).arg("--tls");
        command.args([path("server.pem"), path("server.key"), path("ca.pem")]);
        let oracle = Oracle::start(&mut command).unwrap();
        Self { files, oracle, gate, port, terminator }
    }

    fn files_of(&self, client: &str) -> (PathBuf, PathBuf) {
        let path = |kind| self.files.path(&format!("{client}.{kind}"));
        (path("pem"), path("key"))
    }

    fn connect(&self, port: &Port, client: Option<&str>) -> Client {
        let own = client.map(|client| self.files_of(client));
        Client::connect_tls(port.address(), "localhost", &self.files.ca(), own).unwrap()
    }

    /// A token of the robot's that is bound to its certificate.
    fn token(&self, keystone: &Keystone) -> String {
        let mut client = self.connect(&self.terminator, Some(ROBOT));
        keystone.bound_access_token(&mut client, ROBOT).unwrap()
    }

    /// Sends a request both ways, with the certificate of a client.
    fn ask(&self, client: Option<&str>, request: &Request) -> Both {
        let own = client.map(|client| self.files_of(client));
        let told = self.gate.for_oracle(request);
        let oracle = self.oracle.ask_tls(&told, &self.files.ca(), own).unwrap();
        let answer = self.connect(&self.port, client).send(request).unwrap();
        self.gate.compare(oracle, answer)
    }
}

/// The client of an RFC 6750 resource and one of OpenStack find what each looks for.
#[track_caller]
fn challenges(both: &Both, bearer: &str) {
    let wanted = [format!("Keystone uri=\"{AUTH_URI}\""), bearer.to_owned()];
    let told: Vec<_> = both.answer.headers.all("WWW-Authenticate").collect();
    assert_eq!(told, wanted.each_ref().map(|challenge| challenge.as_bytes()));
}

#[test]
fn access_tokens_of_both_formats() {
    let cloud = cloud();
    for (keystone, start) in [(&cloud.fernet, "gAAAAA"), (&cloud.jws, "eyJ")] {
        let gate = setup(keystone).open();
        let token = keystone.access_token("plain").unwrap();
        assert!(token.starts_with(start), "{token}");
        for _ in 0..2 {
            gate.ask(&bearer(&token))
                .oracle_passes_without_status(&[
                    ("x-user-name", "alice"),
                    ("x-project-name", "demo"),
                ])
                .agree_but(&AS_AUTH_TOKEN);
        }
    }
}

#[test]
fn any_token_of_keystone_is_a_bearer_token() {
    let cloud = cloud();
    let gate = setup(&cloud.fernet).open();
    let token = cloud.fernet.token("bob").unwrap();
    gate.ask(&bearer(&token))
        .oracle_passes_without_status(&[("x-user-name", "bob")])
        .agree_but(&AS_AUTH_TOKEN);
}

#[test]
fn what_is_no_bearer_token_is_refused_as_there() {
    let cloud = cloud();
    let gate = setup(&cloud.fernet).open();
    let token = cloud.fernet.access_token("plain").unwrap();
    let realm = format!("Bearer realm=\"{AUTH_URI}\"");
    let no_token = [
        Request::get("/"),
        // The gate takes it from nowhere else.
        Request::get("/").token(&token),
        Request::get("/").header("Authorization", format!("Basic {token}")),
        Request::get("/").header("Authorization", &token),
        Request::get("/").header("Authorization", "Bearer"),
    ];
    for request in &no_token {
        let both = gate.ask(request).oracle_refuses();
        both.agree();
        challenges(&both, &realm);
    }
    let revoked = cloud.fernet.access_token("plain").unwrap();
    cloud.fernet.revoke(&revoked).unwrap();
    for wrong in ["garbage", &revoked, &token[..token.len() - 9]] {
        for _ in 0..2 {
            let both = gate.ask(&bearer(wrong)).oracle_refuses();
            both.agree();
            challenges(&both, &format!("{realm}, error=\"invalid_token\""));
        }
    }
}

#[test]
fn a_scheme_in_any_case() {
    let cloud = cloud();
    let gate = setup(&cloud.fernet).open();
    let token = cloud.fernet.access_token("plain").unwrap();
    let passed = gate.ask(&bearer(&token)).oracle_passes_without_status(&[]).oracle;
    let request = Request::get("/").header("Authorization", format!("bEARER {token}"));
    let mut both = gate.ask(&request).oracle_refuses();
    assert!(a_scheme_is_written_in_any_case(&mut both.oracle, &passed, "bEARER"));
    both.agree_but(&AS_AUTH_TOKEN);
}

#[test]
fn access_rules_of_the_credential_count() {
    let cloud = cloud();
    let gate = setup(&cloud.fernet).service_type("object-store").open();
    let token = cloud.fernet.access_token("rules").unwrap();
    let authorization = format!("Bearer {token}");
    let get = |path: &str| Request::get(path).header("Authorization", &authorization);
    let demo = cloud.fernet.project("demo").unwrap();
    gate.ask(&get(&format!("/v1/AUTH_{demo}/pub/o")))
        .oracle_passes_without_status(&[("x-user-name", "alice")])
        .agree_but(&AS_AUTH_TOKEN);
    gate.ask(&get(&format!("/v1/AUTH_{demo}/secret/o"))).oracle_refuses().agree();
}

#[test]
fn an_outage_is_no_refusal() {
    let cloud = cloud();
    let mut keystone = cloud.fernet.beside(keystone_testbed::keystone::Issue::Fernet).unwrap();
    let gate = setup(&keystone).open();
    let token = keystone.access_token("plain").unwrap();
    keystone.stop();
    gate.ask(&bearer(&token)).oracle_answers(503).agree_but(&[unavailability_is_json]);
}

#[test]
fn a_bound_token_passes_with_its_certificate_only() {
    let cloud = cloud();
    for keystone in [&cloud.fernet, &cloud.jws] {
        let mutual = Mutual::open(keystone, |setup| setup);
        let token = mutual.token(keystone);
        // The caches of both make no difference.
        for _ in 0..2 {
            mutual
                .ask(Some(ROBOT), &bearer(&token))
                .oracle_passes_without_status(&[("x-user-name", ROBOT), ("x-project-name", "demo")])
                .agree_but(&AS_AUTH_TOKEN);
            for client in [Some("bob"), None] {
                let both = mutual.ask(client, &bearer(&token)).oracle_refuses();
                both.agree();
                let realm = format!("Bearer realm=\"{AUTH_URI}\", error=\"invalid_token\"");
                challenges(&both, &realm);
            }
        }
    }
}

#[test]
fn with_a_certificate_other_tokens_are_refused_where_bound_ones_are_demanded() {
    let cloud = cloud();
    let keystone = &cloud.fernet;
    let mutual = Mutual::open(keystone, |setup| setup);
    for token in [keystone.access_token("plain").unwrap(), keystone.token("alice").unwrap()] {
        for client in [Some(ROBOT), None] {
            mutual.ask(client, &bearer(&token)).oracle_refuses().agree();
        }
    }
    mutual.ask(Some(ROBOT), &Request::get("/")).oracle_refuses().agree();
    mutual.ask(Some(ROBOT), &bearer("garbage")).oracle_refuses().agree();
}

#[test]
fn a_revoked_bound_token() {
    let cloud = cloud();
    let mutual = Mutual::open(&cloud.fernet, Setup::no_cache);
    let token = mutual.token(&cloud.fernet);
    mutual
        .ask(Some(ROBOT), &bearer(&token))
        .oracle_passes_without_status(&[])
        .agree_but(&AS_AUTH_TOKEN);
    cloud.fernet.revoke(&token).unwrap();
    mutual.ask(Some(ROBOT), &bearer(&token)).oracle_refuses().agree();
}

/// auth_token and oauth2_token do not know what a bound token is.
#[test]
fn a_bound_token_is_bound_whichever_filter_was_there() {
    let cloud = cloud();
    let keystone = &cloud.fernet;
    let token = Mutual::open(keystone, |setup| setup).token(keystone);
    let gate = setup(keystone).open();
    let both = gate.ask(&bearer(&token)).oracle_passes_without_status(&[]);
    both.agree_but(&[a_bound_token_wants_its_certificate]);
    challenges(&both, &format!("Bearer realm=\"{AUTH_URI}\", error=\"invalid_token\""));
    let gate = Gate::setup(keystone).open();
    gate.ask_with(&token).oracle_confirms(&[]).agree_but(&[a_bound_token_wants_its_certificate]);
}

#[test]
fn a_bound_token_counts_as_there_where_binds_are_disabled() {
    let cloud = cloud();
    let keystone = &cloud.fernet;
    let token = Mutual::open(keystone, |setup| setup).token(keystone);
    let gate = setup(keystone).token_bind("disabled").open();
    gate.ask(&bearer(&token))
        .oracle_passes_without_status(&[("x-user-name", ROBOT)])
        .agree_but(&AS_AUTH_TOKEN);
    let gate = Gate::setup(keystone).token_bind("disabled").open();
    gate.ask_with(&token).oracle_confirms(&[("x-user-name", ROBOT)]).agree();
}

/// In X-Auth-Token it is the same token: auth_token does not look, and this does.
#[test]
fn a_bound_token_in_x_auth_token() {
    let cloud = cloud();
    let keystone = &cloud.fernet;
    let mutual = Mutual::open(keystone, |setup| setup.auth_token());
    let token = mutual.token(keystone);
    let get = Request::get("/").token(&token);
    for _ in 0..2 {
        mutual.ask(Some(ROBOT), &get).oracle_confirms(&[("x-user-name", ROBOT)]).agree();
        for client in [Some("bob"), None] {
            mutual
                .ask(client, &get)
                .oracle_confirms(&[])
                .agree_but(&[a_bound_token_wants_its_certificate]);
        }
    }
}
