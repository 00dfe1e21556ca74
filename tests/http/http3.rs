//! HTTP/3, where nginx speaks it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use keystone_testbed::expect;
use keystone_testbed::http::Response;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{was_built_with, WORKER};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::port::Port;
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::wire::Headers;
use keystone_testbed::world::{Setup, World, AUTH_URI};
use serde_json::{json, Value};

/// A world with a server for HTTP/3, whose locations are those of the world's own server.
struct Http3 {
    world: World,
    files: TlsFiles,
    port: Port,
}

impl Http3 {
    fn start(setup: Setup) -> Self {
        let (files, port) = (TlsFiles::new().unwrap(), Port::free().unwrap());
        let listen = format!(
            "listen {} quic; ssl_certificate {}; ssl_certificate_key {};",
            port.address(),
            files.path("server.pem").display(),
            files.path("server.key").display(),
        );
        let world = setup.config(|config| config.server(&listen)).start();
        Self { world, files, port }
    }

    /// A client that sends these requests on one connection.
    fn client(&self, requests: &Value) -> Client {
        let mut child = Command::new(PYTHON)
            .args(["-B", CLIENT, &self.port.number().to_string()])
            .arg(self.files.ca())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut client = Client { child, stdout };
        client.write(&requests.to_string());
        client
    }

    fn send(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        Answer(self.client(&json!([{ "path": path, "headers": headers }])).answers().remove(0))
    }
}

struct Client {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn write(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn answers(mut self) -> Vec<Value> {
        let line = self.read();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&line).unwrap()
    }
}

struct Answer(Value);

impl Answer {
    fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap()
    }

    fn body(&self) -> &str {
        self.0["body"].as_str().unwrap()
    }

    /// What the upstream was sent, of which its answer tells.
    fn seen(&self) -> Seen {
        let body = self.body().as_bytes().to_vec();
        Seen::of(&Response { status: 200, headers: Headers::default(), body }).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let headers = self.0["headers"].as_array().unwrap();
        headers.iter().find(|field| field[0] == name)?[1].as_str()
    }
}

/// Whether HTTP/3 can be tried; says so on stderr if not.
fn can_try() -> bool {
    if !was_built_with("--with-http_v3_module") {
        return false;
    }
    let client = Command::new(PYTHON).args(["-c", "import aioquic"]).stderr(Stdio::null()).status();
    let has = client.is_ok_and(|status| status.success());
    if !has {
        eprintln!("skipped: there is no aioquic (python3-aioquic) here");
    }
    has
}

#[test]
fn good_and_bad_tokens() {
    if !can_try() {
        return;
    }
    let http3 = Http3::start(World::setup());
    let (world, path) = (&http3.world, "/files/hello.txt");
    for token in [world.pki(&Payload::v3()), world.uuid(&Payload::v3())] {
        for cache in ["MISS", "HIT"] {
            let answer = http3.send(path, &[("x-auth-token", &token)]);
            assert_eq!((answer.status(), answer.body()), (200, "hello\n"));
            assert_eq!(answer.header("x-cache"), Some(cache));
        }
        let twice = http3.send(path, &[("x-auth-token", &token), ("x-auth-token", &token)]);
        assert_eq!(twice.status(), 400);
    }
    for headers in [&[][..], &[("x-auth-token", "MIInonsense")]] {
        let answer = http3.send(path, headers);
        assert_eq!(answer.status(), 401);
        let challenge = format!("Keystone uri=\"{AUTH_URI}\"");
        assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()));
        assert!(answer.body().ends_with("requires authentication.\"}}"), "{}", answer.body());
    }
    world.assert_quiet_log();
}

#[test]
fn forged_identity_headers() {
    if !can_try() {
        return;
    }
    let http3 = Http3::start(World::setup().offline());
    let token = http3.world.pki(&Payload::v3());
    let forged = [
        ("x-user-id", "forged"),
        ("x_user_id", "forged"),
        ("x-roles", "forged"),
        ("x-service-user-id", "forged"),
        ("x-identity-status", "forged"),
    ];
    let good = [&forged[..], &[("x-auth-token", &token)]].concat();
    expect::v3_user(&http3.send("/", &good).seen());
    expect::no_identity(&http3.send("/delay/", &forged).seen());
    let requests = format!("{:?}", http3.world.upstream.requests());
    assert!(!requests.contains("forged"), "{requests}");
}

#[test]
fn streams_that_wait_and_one_that_its_client_resets() {
    if !can_try() {
        return;
    }
    let mut http3 = Http3::start(World::setup());
    let world = &http3.world;
    let (reset, stays) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3()));
    let gate = world.identity.hold_validations();
    let request = |token: &str, reset: bool| json!({ "path": "/files/hello.txt", "headers": [["x-auth-token", token]], "reset": reset });
    let requests = [request(&reset, true), request(&stays, false), request(&stays, false)];
    let mut client = http3.client(&json!(requests));
    world.wait_for_validations(2);
    client.write("reset now");
    assert_eq!(client.read(), "reset\n");
    gate.open();

    let answers = client.answers();
    assert_eq!(answers[0], Value::Null);
    for answer in &answers[1..] {
        assert_eq!(answer["body"], "hello\n", "{answer}");
    }
    // The question went on, and its answer is for all who come later.
    wait_for("the answer in the cache", || {
        let answer = http3.send("/files/hello.txt", &[("x-auth-token", &reset)]);
        (answer.header("x-cache") == Some("HIT")).then_some(())
    })
    .unwrap();
    assert_eq!(world.identity.validations().len(), 2);
    assert_eq!(http3.send(WORKER, &[]).status(), 200);
    assert!(http3.world.nginx.quit().unwrap().success());
    http3.world.assert_quiet_log();
}

/// Debian's, which has Debian's aioquic.
const PYTHON: &str = "/usr/bin/python3";
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/http3.py");
