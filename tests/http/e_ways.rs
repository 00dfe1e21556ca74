//! Requests that wait for the identity service in nginx's own ways: `auth_request`, redirects,
//! `satisfy`, HTTP/2, several servers.

use std::process::Command;

use keystone_testbed::expect;
use keystone_testbed::http::{send, Request};
use keystone_testbed::identity::{Fault, Gate, Identity};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{can_try_http_2, kill, was_built_with};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::port::Port;
use keystone_testbed::wait_for;
use keystone_testbed::world::{stranger, World};

#[test]
fn satisfy_any() {
    let world = World::setup()
        .location(
            "/in/",
            "satisfy any; allow 127.0.0.1; deny all; keystone_auth on; proxy_pass @UPSTREAM@;",
        )
        .location("/out/", "satisfy any; deny all; keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    assert_eq!(world.send(&Request::get("/in/")).status, 200);
    expect::v3_user(&world.seen(&Request::get("/out/").token(&world.uuid(&Payload::v3()))));
    // Waiting is not refusing: what the other module says counts once this one has said no.
    assert_eq!(world.send(&Request::get("/in/").token(&new_uuid())).status, 200);
    expect::refused(&world.send(&Request::get("/out/").token(&new_uuid())));
}

#[test]
fn redirects_after_the_wait() {
    let world = World::setup()
        .location("/first/", "keystone_auth on; try_files /none /second/;")
        .location("/second/", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .location("/page/", "keystone_auth on; error_page 401 503 =200 /files-of-all/;")
        .location("/files-of-all/", "alias @DIR@/html/files/; try_files hello.txt =404;")
        .location("/named/", "keystone_auth on; error_page 401 = @other; proxy_pass @UPSTREAM@;")
        .location("@other", "return 418;")
        .start();
    let token = world.uuid(&Payload::v3());
    expect::v3_user(&world.seen(&Request::get("/first/").token(&token)));
    assert_eq!(world.identity.validations(), [token.as_str()]);
    assert_eq!(world.send(&Request::get("/named/").token(&new_uuid())).status, 418);
    assert_eq!(world.send(&Request::get("/named/").token(&world.uuid(&Payload::v3()))).status, 200);
    world.assert_quiet_log();
}

#[test]
fn beside_auth_request() {
    if !was_built_with("--with-http_auth_request_module") {
        return;
    }
    let mut world = World::setup()
        .location("/", "auth_request /check; keystone_auth on; proxy_pass @UPSTREAM@;")
        .location(
            "/any/",
            "satisfy any; auth_request /no; keystone_auth on; proxy_pass @UPSTREAM@;",
        )
        .location(
            "= /check",
            "internal; proxy_pass @UPSTREAM@/status/204;
             proxy_pass_request_body off; proxy_set_header Content-Length \"\";",
        )
        .location("= /no", "internal; return 403;")
        .start();
    let body = vec![b'x'; 100_000];
    for target in ["/", "/any/"] {
        for (token, status) in [(world.uuid(&Payload::v3()), 200), (new_uuid(), 401)] {
            for _ in 0..2 {
                assert_eq!(world.send(&Request::get(target).token(&token)).status, status);
                let post = Request::new("POST", target).token(&token).body(&body);
                assert_eq!(world.send(&post).status, status, "{target}");
            }
        }
    }
    let asked = world.identity.validations().len();
    assert_eq!(asked, 4);
    // A client that goes away meanwhile takes all of its request along.
    let gate = world.identity.hold_validations();
    let token = world.uuid(&Payload::v3());
    let mut gone = world.nginx.connect().unwrap();
    gone.write(&Request::get("/").token(&token).bytes()).unwrap();
    let mut stays = world.nginx.connect().unwrap();
    stays.write(&Request::get("/").token(&token).bytes()).unwrap();
    world.wait_for_validations(asked + 1);
    drop(gone);
    world.nginx.wait_for_log("prematurely closed connection").unwrap();
    gate.open();
    assert_eq!(stays.read(false).unwrap().status, 200);
    assert!(world.nginx.quit().unwrap().success());
    world.assert_quiet_log();
}

#[test]
fn pipelined_requests_that_wait() {
    let world = World::setup().start();
    let tokens = [world.uuid(&Payload::v3()), new_uuid(), world.uuid(&Payload::v3())];
    let gate = world.identity.hold_validations();
    let mut client = world.nginx.connect().unwrap();
    let request = |token: &String| Request::get("/files/hello.txt").token(token).bytes();
    client.write(&tokens.iter().flat_map(request).collect::<Vec<_>>()).unwrap();
    world.wait_for_validations(1);
    gate.open();
    for expected in [200, 401, 200] {
        assert_eq!(client.read(false).unwrap().status, expected);
    }
}

#[test]
fn http_2_streams_that_wait() {
    if !can_try_http_2() {
        return;
    }
    let files = TlsFiles::new().unwrap();
    let port = Port::free().unwrap();
    let server = format!(
        "server {{ listen {} ssl http2; root @DIR@/html; keystone_auth on;
            ssl_certificate {}; ssl_certificate_key {}; }}",
        port.address(),
        files.path("server.pem").display(),
        files.path("server.key").display(),
    );
    let mut world = World::setup().config(|config| config.http(&server)).start();
    let curl = |token: &str, seconds: &str| {
        let url = format!("https://{}/files/hello.txt", port.address());
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--no-progress-meter", "--http2", "-Z", "-m", seconds, "--cacert"])
            .arg(files.ca());
        command.args(["-H", &format!("X-Auth-Token: {token}"), &url, &url, &url, &url]);
        command
    };
    for round in 1..=2 {
        let token = world.uuid(&Payload::v3());
        let gate = world.identity.hold_validations();
        let waiting = curl(&token, "10").stdout(std::process::Stdio::piped()).spawn().unwrap();
        world.wait_for_validations(round);
        gate.open();
        let output = waiting.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n".repeat(4));
        assert_eq!(world.identity.validations().len(), round, "four streams ask once");
        world.identity.heal();
    }
    // Streams whose client gives up.
    let token = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let mut gives_up = curl(&token, "20").stderr(std::process::Stdio::null()).spawn().unwrap();
    world.wait_for_validations(3);
    gives_up.kill().unwrap();
    gives_up.wait().unwrap();
    gate.open();
    wait_for("the answer in the cache", || {
        let answer = world.send(&Request::get("/").token(&token));
        (answer.header("X-Cache") == Some("HIT")).then_some(())
    })
    .unwrap();
    assert_eq!(world.identity.validations().len(), 3);
    assert!(world.nginx.quit().unwrap().success());
    world.assert_quiet_log();
}

#[test]
fn an_answer_is_not_another_identity_services() {
    // Two identity services behind one nginx and one zone.
    let other = Identity::start(stranger()).unwrap();
    let port = Port::free().unwrap();
    let server = format!(
        "server {{ listen {}; keystone_auth on; root @DIR@/html;
            keystone_identity_uri {}; keystone_signing_dir @DIR@/other; }}",
        port.address(),
        other.uri()
    );
    let world = World::setup().config(|config| config.http(&server)).start();
    let ask_other = |token: &str| {
        let request = Request::get("/files/hello.txt").token(token);
        send(port.address(), &request).unwrap().status
    };
    let (ours, theirs) = (world.uuid(&Payload::v3()), new_uuid());
    other.know(&theirs, &Payload::v3());
    for _ in 0..2 {
        assert_eq!(world.status(&ours), 200);
        assert_eq!(ask_other(&ours), 401);
        assert_eq!(ask_other(&theirs), 200);
        assert_eq!(world.status(&theirs), 401);
    }
}

#[test]
fn an_answer_does_not_outlive_its_identity_service() {
    let mut world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    let other = Identity::start(stranger()).unwrap();
    world.reconfigure(|config| config.set("keystone_identity_uri", &other.uri()));
    assert_eq!(world.status(&token), 401);
    assert_eq!(other.validations(), [token]);
}

#[test]
fn a_flood_of_unknown_tokens_does_not_push_out_valid_ones() {
    let world = World::setup().set("keystone_cache_zone", "zone=k:256k").start();
    let good: Vec<_> = (0..20).map(|_| world.uuid(&Payload::v3())).collect();
    for token in &good {
        assert_eq!(world.status(token), 200);
    }
    let mut client = world.nginx.connect().unwrap();
    for _ in 0..4000 {
        let request = Request::get("/files/hello.txt").token(&new_uuid());
        assert_eq!(client.send(&request).unwrap().status, 401);
    }
    // What a worker remembers by itself is gone with it.
    world.nginx.reload().unwrap();
    for token in &good {
        let answer = world.send(&Request::get("/").token(token));
        assert_eq!((answer.status, answer.header("X-Cache")), (200, Some("HIT")));
    }
}

#[test]
fn a_worker_that_is_killed_while_it_asks() {
    let world = World::setup().workers(2).logs_in().start();
    let gate = Gate::default();
    world.identity.fault_logins(Fault::Hold(gate.clone()));
    let token = world.uuid(&Payload::v3());
    let [victim, other] = world.nginx.worker_pids()[..] else { panic!("two were asked for") };
    let mut lost = world.nginx.connect_worker(victim).unwrap();
    lost.write(&Request::get("/").token(&token).bytes()).unwrap();
    wait_for("the login", || (world.identity.logins() == 1).then_some(())).unwrap();
    // The other worker waits for the service token that the first one is to bring.
    let mut waiting = world.nginx.connect_worker(other).unwrap();
    waiting.write(&Request::get("/").token(&token).bytes()).unwrap();
    kill(victim, libc::SIGKILL).unwrap();
    wait_for("the other worker's login", || (world.identity.logins() == 2).then_some(())).unwrap();
    gate.open();
    assert_eq!(waiting.read(false).unwrap().status, 200);
    wait_for("a new worker", || (world.nginx.worker_pids().len() == 2).then_some(())).unwrap();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let request = Request::get("/").token(&world.uuid(&Payload::v3()));
        assert_eq!(client.send(&request).unwrap().status, 200);
    }
}
