//! Limits in the location that protects.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{check, Check, Config};
use keystone_testbed::world::{Setup, World};

use super::{early, start};

/// Three requests of a project pass; the next one has to wait for an hour.
fn limited(lines: &str) -> Setup {
    early().http("limit_req_zone $keystone_project_id zone=projects:1m rate=1r/m;").location(
        "/limited/",
        &format!(
            "keystone_auth on; limit_req zone=projects burst=2 nodelay; limit_req_status 429;
                 {lines} proxy_pass @UPSTREAM@;"
        ),
    )
}

fn of(world: &World, project: &str) -> String {
    world.uuid(&Payload::v3().project(project, project))
}

#[test]
fn requests_of_each_project_are_limited() {
    let world = limited("").start();
    let (one, two) = (of(&world, "one"), of(&world, "two"));
    let pki = world.pki(&Payload::v3().project("two", "two"));
    let status = |token: &str| world.send(&Request::get("/limited/").token(token)).status;
    assert_eq!([(); 5].map(|()| status(&one)), [200, 200, 200, 429, 429]);
    // However the token of the other project is validated.
    assert_eq!([&two, &pki, &two, &pki].map(|token| status(token)), [200, 200, 200, 429]);
    // Nobody's requests are refused, and count for nobody.
    for _ in 0..6 {
        assert_eq!(status(&new_uuid()), 401);
        assert_eq!(world.send(&Request::get("/limited/")).status, 401);
    }
    assert_eq!(world.upstream.requests().len(), 6);
}

#[test]
fn a_request_that_has_waited_counts_once() {
    let world = limited("").start();
    let token = of(&world, "one");
    let gate = world.identity.hold_validations();
    let request = Request::get("/limited/").token(&token);
    let mut waiting: Vec<Client> = (0..5).map(|_| start(&world, &request)).collect();
    world.wait_for_validations(1);
    std::thread::sleep(Duration::from_millis(50));
    assert!(world.upstream.requests().is_empty());
    gate.open();
    let mut statuses: Vec<_> =
        waiting.iter_mut().map(|client| client.read(false).unwrap().status).collect();
    statuses.sort();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(world.identity.validations().len(), 1);
    world.assert_quiet_log();
}

#[test]
fn a_slow_identity_service_and_a_delayed_request() {
    let world = early()
        .http("limit_req_zone $keystone_project_id zone=projects:1m rate=10r/s;")
        .location("/", "keystone_auth on; limit_req zone=projects burst=5; proxy_pass @UPSTREAM@;")
        .start();
    let token = of(&world, "one");
    world.identity.fault_validations(Fault::Delay(Duration::from_millis(300)));
    let request = Request::get("/").token(&token);
    let mut waiting: Vec<Client> = (0..4).map(|_| start(&world, &request)).collect();
    for client in &mut waiting {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    world.nginx.wait_for_log("delaying request").unwrap();
    assert_eq!(world.identity.validations().len(), 1);
}

#[test]
fn with_delay_too_and_an_invalid_token_has_an_empty_key() {
    let world = limited("keystone_require $http_x_anything;")
        .location(
            "/delayed/",
            "keystone_auth delay; limit_req zone=projects burst=2 nodelay; limit_req_status 429;
             proxy_pass @UPSTREAM@;",
        )
        .start();
    let status = |token: &str| world.send(&Request::get("/delayed/").token(token)).status;
    assert_eq!([(); 6].map(|()| status("unknown")), [200; 6]);
    let token = of(&world, "one");
    assert_eq!([(); 4].map(|()| status(&token)), [200, 200, 200, 429]);
    // What the access phase refuses counts, as with nginx's own modules.
    let other = of(&world, "other");
    let forbidden = || world.send(&Request::get("/limited/").token(&other)).status;
    assert_eq!([(); 4].map(|()| forbidden()), [403, 403, 403, 429]);
}

#[test]
fn without_it_the_same_limit_does_nothing() {
    let world = limited("keystone_early off;").start();
    let token = of(&world, "one");
    for _ in 0..6 {
        assert_eq!(world.send(&Request::get("/limited/").token(&token)).status, 200);
    }
}

#[test]
fn connections_of_each_user_are_limited() {
    // An upstream that takes connections and answers none until it is told.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (taken, has_taken) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            taken.send(stream).unwrap();
        }
    });
    let world = early()
        .http("limit_conn_zone $keystone_user_id zone=users:1m;")
        .location(
            "/held/",
            &format!(
                "keystone_auth on; limit_conn users 2; limit_conn_status 429;
                 proxy_pass http://{address};"
            ),
        )
        .start();
    let [alice, bob] = ["alice", "bob"].map(|name| world.uuid(&Payload::v3().user(name, name)));
    let begin = |token: &str| start(&world, &Request::get("/held/").token(token));
    let wait = || has_taken.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut held = [begin(&alice), begin(&alice)];
    let streams = [wait(), wait()];
    for _ in 0..3 {
        assert_eq!(world.send(&Request::get("/held/").token(&alice)).status, 429);
    }
    let (_bobs, _stream) = (begin(&bob), wait());
    // Connections that end make room.
    drop(streams);
    for client in &mut held {
        assert_eq!(client.read(false).unwrap().status, 502);
    }
    let (_again, _stream) = (begin(&alice), wait());
}

#[test]
fn a_limit_that_cannot_know_who_asks_is_warned_of() {
    let warnings = |http: &str, lines: &str| {
        let config = Config::protected()
            .http("limit_req_zone ${keystone_project_id} zone=projects:1m rate=1r/m;")
            .http("limit_conn_zone $binary_remote_addr$keystone_user_id zone=users:1m;")
            .http("limit_conn_zone $keystone_bearer$keystone_swift_account zone=known:1m;")
            .http("limit_req_zone $binary_remote_addr zone=addresses:1m rate=1r/m;")
            .http(http)
            .server(lines);
        let Check { ok, text } = check(&config).unwrap();
        assert!(ok, "{text}");
        let warnings = text.lines().filter(|line| line.contains("limits nothing"));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    let found = warnings("", "location /odd { keystone_auth on; limit_req zone=projects; }");
    assert_eq!(found.len(), 1, "{found:?}");
    let [text] = &found[..] else { panic!() };
    assert!(text.contains("[warn]") && text.contains("nginx.conf:"), "{text}");
    assert!(text.contains("\"limit_req\" in location \"/odd\" in "), "{text}");
    assert!(text.contains("its key \"${keystone_project_id}\" is empty"), "{text}");

    for (count, http, lines) in [
        (1, "", "location /odd { keystone_auth delay; limit_conn users 1; }"),
        (2, "", "location /odd { keystone_auth on; limit_req zone=projects; limit_conn users 1; }"),
        (1, "", "keystone_auth on; limit_req zone=projects; location /odd { root html; }"),
        (1, "limit_req zone=projects;", "location /odd { keystone_auth on; if ($arg_a) { } }"),
        (
            0,
            "",
            "location /plain { keystone_auth on; keystone_early on; limit_req zone=projects; }",
        ),
        (0, "keystone_early on;", "location /plain { keystone_auth on; limit_req zone=projects; }"),
        (0, "", "location /plain { keystone_auth off; limit_req zone=projects; }"),
        (0, "", "location /plain { keystone_auth on; limit_req zone=addresses; }"),
        (0, "", "location /plain { keystone_auth on; limit_conn known 1; }"),
        (0, "", "location /plain { keystone_auth on; root html; }"),
    ] {
        let found = warnings(http, lines);
        let of_odd = found.iter().filter(|text| text.contains("\"/odd\"")).count();
        assert_eq!(of_odd, count, "{lines}: {found:?}");
    }
}
