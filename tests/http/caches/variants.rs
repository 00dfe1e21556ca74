//! nginx's own cache, where the upstream does not get the token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::was_built_with;
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

use super::alice_and_bob;

/// With a cache in which responses stay for so long, and a location `/` of which `lines` are a
/// part.
fn cached(valid: &str, lines: &str) -> Setup {
    let location = format!(
        "keystone_auth on; keystone_forward_token off; proxy_pass @UPSTREAM@;
         proxy_cache responses; proxy_cache_valid 200 {valid};
         add_header X-Proxy $upstream_cache_status; {lines}"
    );
    World::setup()
        .offline()
        .http("proxy_cache_path @DIR@/responses keys_zone=responses:1m;")
        .location("/cached/", &location)
}

/// Whom the upstream has seen, and how the cache took part.
#[track_caller]
fn ask(world: &World, request: &Request) -> (String, String) {
    let answer = world.send(request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let user = Seen::of(&answer).unwrap().header("X-User-Id").unwrap();
    (user, answer.header("X-Proxy").unwrap().to_owned())
}

fn pair(user: &str, cache: &str) -> (String, String) {
    (user.to_owned(), cache.to_owned())
}

#[track_caller]
fn assert_no_token_upstream(world: &World) {
    assert!(!world.upstream.requests().is_empty());
    for request in world.upstream.requests() {
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        assert!(!names.iter().any(|name| name.ends_with("-token")), "{names:?}");
    }
}

#[test]
fn each_token_has_its_variant() {
    let world = cached("1m", "").start();
    let [alice, bob] = alice_and_bob(&world);
    for header in ["X-Auth-Token", "X-Storage-Token"] {
        let target = format!("/cached/{header}?h=Vary:{header}");
        let get = |token: &str| ask(&world, &Request::get(&target).header(header, token));
        assert_eq!(get(&alice), pair("alice", "MISS"));
        assert_eq!(get(&bob), pair("bob", "MISS"));
        assert_eq!(get(&alice), pair("alice", "HIT"));
        assert_eq!(get(&bob), pair("bob", "HIT"));
        // With other blanks around it, it is the same token.
        assert_eq!(get(&format!("\t{alice}\t")), pair("alice", "HIT"));
    }
    assert_no_token_upstream(&world);
    // After a restart with other processes, too.
    let pids = world.nginx.worker_pids();
    world.nginx.reload().unwrap();
    assert_ne!(world.nginx.worker_pids(), pids);
    let get = |token: &str| {
        ask(&world, &Request::get("/cached/X-Auth-Token?h=Vary:X-Auth-Token").token(token))
    };
    assert_eq!((get(&alice), get(&bob)), (pair("alice", "HIT"), pair("bob", "HIT")));
}

#[test]
fn each_service_token_and_each_other_header_has_its_variant() {
    let world = cached("1m", "").start();
    let [alice, bob] = alice_and_bob(&world);
    let services =
        ["one", "two"].map(|name| world.pki(&Payload::v3().user(name, name).roles(&["service"])));
    let target = "/cached/x?h=Vary:Accept,%20X-Service-Token,%20X-Auth-Token";
    for cache in ["MISS", "HIT"] {
        for (token, user) in [(&alice, "alice"), (&bob, "bob")] {
            for service in &services {
                for accept in ["a", "b"] {
                    let request = Request::get(target)
                        .token(token)
                        .header("X-Service-Token", service)
                        .header("Accept", accept);
                    assert_eq!(ask(&world, &request), pair(user, cache));
                }
            }
        }
    }
    assert_no_token_upstream(&world);
}

#[test]
fn without_vary_all_share_a_response() {
    let world = cached("1m", "").start();
    let [alice, bob] = alice_and_bob(&world);
    let get = |token: &str| ask(&world, &Request::get("/cached/x").token(token));
    assert_eq!(get(&alice), pair("alice", "MISS"));
    assert_eq!(get(&bob), pair("alice", "HIT"));
}

#[test]
fn an_upstream_that_varies_by_the_identity() {
    let world = cached("1m", "").start();
    let [alice, bob] = alice_and_bob(&world);
    let get =
        |token: &str| ask(&world, &Request::get("/cached/x?h=Vary:X-Project-Id").token(token));
    assert_eq!(get(&alice), pair("alice", "MISS"));
    assert_eq!(get(&bob), pair("alice", "HIT"));
    let other = world.pki(&Payload::v3().user("carol", "carol").project("other", "other"));
    assert_eq!(get(&other), pair("carol", "MISS"));
}

#[test]
fn bypassed_and_then_stored() {
    let world = cached("1m", "proxy_cache_bypass $arg_fresh $http_x_fresh;").start();
    let [alice, bob] = alice_and_bob(&world);
    let request = |token: &str| Request::get("/cached/x?h=Vary:X-Auth-Token").token(token);
    let fresh = |token: &str| ask(&world, &request(token).header("X-Fresh", "1"));
    assert_eq!(fresh(&alice), pair("alice", "BYPASS"));
    assert_eq!(fresh(&bob), pair("bob", "BYPASS"));
    assert_eq!(ask(&world, &request(&bob)), pair("bob", "HIT"));
    assert_eq!(ask(&world, &request(&alice)).0, "alice");
    assert_no_token_upstream(&world);
}

#[test]
fn methods_that_are_not_cached_and_locked_ones() {
    let world = cached("1m", "proxy_cache_lock on; proxy_cache_min_uses 1;").start();
    let [alice, bob] = alice_and_bob(&world);
    let post = Request::new("POST", "/cached/x?h=Vary:X-Auth-Token").token(&alice).body(b"body");
    assert_eq!(world.send(&post).status, 200);
    let get =
        |token: &str| ask(&world, &Request::get("/cached/x?h=Vary:X-Auth-Token").token(token)).0;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(get(&alice), "alice"));
            scope.spawn(|| assert_eq!(get(&bob), "bob"));
        }
    });
    assert_no_token_upstream(&world);
}

#[test]
fn updates_in_the_background() {
    let lines = "proxy_cache_use_stale updating; proxy_cache_background_update on;
        proxy_cache_revalidate on;";
    let world = cached("1s", lines).start();
    let [alice, bob] = alice_and_bob(&world);
    let request =
        |token: &str| Request::get("/cached/x?h=Vary:X-Auth-Token&h=ETag:%22a%22").token(token);
    assert_eq!(ask(&world, &request(&alice)), pair("alice", "MISS"));
    assert_eq!(ask(&world, &request(&bob)), pair("bob", "MISS"));
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(ask(&world, &request(&alice)), pair("alice", "STALE"));
    wait_for("the update", || (world.upstream.requests().len() == 3).then_some(())).unwrap();
    wait_for("alice's update", || {
        (ask(&world, &request(&alice)) == pair("alice", "HIT")).then_some(())
    })
    .unwrap();
    assert_eq!(ask(&world, &request(&bob)), pair("bob", "STALE"));
    wait_for("bob's update", || (ask(&world, &request(&bob)) == pair("bob", "HIT")).then_some(()))
        .unwrap();
    let users: Vec<_> = world
        .upstream
        .requests()
        .iter()
        .map(|request| request.headers.text("X-User-Id").unwrap().to_owned())
        .collect();
    assert_eq!(users, ["alice", "bob", "alice", "bob"]);
    assert_no_token_upstream(&world);
    world.assert_quiet_log();
}

#[test]
fn slices() {
    if !was_built_with("--with-http_slice_module") {
        return;
    }
    let lines = "slice 4; proxy_set_header Range $slice_range; proxy_http_version 1.1;
        proxy_cache_key $uri|$slice_range; proxy_cache_valid 206 1m;";
    let world = cached("1m", lines).start();
    let [alice, bob] = alice_and_bob(&world);
    for cache in ["MISS", "HIT"] {
        for token in [&alice, &bob] {
            let target = "/cached/status/206?h=Vary:X-Auth-Token&body=abcd\
                &h=Content-Range:bytes%200-3/4&h=ETag:%22a%22";
            let answer = world.send(&Request::get(target).token(token));
            assert_eq!((answer.status, answer.text().as_str()), (200, "abcd"));
            assert_eq!(answer.header("X-Proxy"), Some(cache));
        }
    }
    assert_eq!(world.upstream.requests().len(), 2);
    assert_no_token_upstream(&world);
}

#[test]
fn where_the_next_location_gets_no_digest_either() {
    let world = cached("1m", "ssi on; proxy_intercept_errors on; error_page 404 /fallback;")
        .location("/fallback", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .location("/included", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .location("/forwarding", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    let [alice, _] = alice_and_bob(&world);
    for query in [
        "x?h=Vary:X-Auth-Token&h=X-Accel-Redirect:/fallback",
        "status/404?h=Vary:X-Auth-Token",
        "x?h=Vary:X-Auth-Token&h=Content-Type:text/html&body=%3c!--%23include%20virtual=%22/included%22--%3e",
        "x?h=Vary:X-Auth-Token&h=X-Accel-Redirect:/forwarding",
    ] {
        let answer = world.send(&Request::get(&format!("/cached/{query}")).token(&alice));
        assert!(answer.status == 200 || answer.status == 404, "{query}");
    }
    let seen: Vec<_> = world.upstream.requests().iter().map(|it| it.path().to_owned()).collect();
    for target in ["/fallback", "/included", "/forwarding"] {
        assert!(seen.iter().any(|it| it == target), "{target}: {seen:?}");
    }
    assert_no_token_upstream(&world);
}

#[test]
fn a_token_that_the_next_location_would_forward_has_its_variant() {
    let world = World::setup()
        .offline()
        .http("proxy_cache_path @DIR@/responses keys_zone=responses:1m;")
        .location(
            "/first/",
            "keystone_auth on; keystone_forward_token off;
             error_page 401 = /second/?h=Vary:X-Auth-Token;",
        )
        .location(
            "/second/",
            "keystone_auth on; keystone_token $keystone_bearer; proxy_pass @UPSTREAM@;
             proxy_cache responses; proxy_cache_valid 200 1m;
             add_header X-Proxy $upstream_cache_status;",
        )
        .start();
    let [alice, bob] = alice_and_bob(&world);
    for cache in ["MISS", "HIT"] {
        for (user, token) in [("alice", &alice), ("bob", &bob)] {
            let bearer = Request::get("/first/").header("Authorization", format!("Bearer {token}"));
            assert_eq!(ask(&world, &bearer), pair(user, cache));
        }
    }
    assert_no_token_upstream(&world);
}

#[test]
fn a_location_without_the_module_keeps_its_cache() {
    let world = World::setup()
        .offline()
        .http("proxy_cache_path @DIR@/responses keys_zone=responses:1m;")
        .location(
            "/plain/",
            "keystone_auth off; proxy_pass @UPSTREAM@; proxy_cache responses;
             proxy_cache_valid 200 1m; add_header X-Proxy $upstream_cache_status;",
        )
        .start();
    let get = |token: &str| {
        let answer = world.send(&Request::get("/plain/?h=Vary:X-Auth-Token").token(token));
        let seen = Seen::of(&answer).unwrap().header("X-Auth-Token").unwrap();
        (seen, answer.header("X-Proxy").unwrap().to_owned())
    };
    assert_eq!(get("one"), pair("one", "MISS"));
    assert_eq!(get("two"), pair("two", "MISS"));
    assert_eq!(get("one"), pair("one", "HIT"));
}

#[test]
fn the_caches_of_other_protocols() {
    let kinds = ["fastcgi", "scgi", "uwsgi"];
    let servers = kinds.map(|kind| Gateway::start(kind == "fastcgi"));
    let mut setup = World::setup().offline();
    for (kind, server) in kinds.iter().zip(&servers) {
        setup = setup
            .http(&format!("{kind}_cache_path @DIR@/{kind}_responses keys_zone={kind}:1m;"))
            .location(
                &format!("/{kind}/"),
                &format!(
                    "keystone_auth on; keystone_forward_token off; {kind}_pass {};
                     {kind}_cache {kind}; {kind}_cache_valid 200 1m; {kind}_cache_key $uri;
                     add_header X-Proxy $upstream_cache_status;",
                    server.address
                ),
            );
    }
    let world = setup.start();
    let [alice, bob] = alice_and_bob(&world);
    for (kind, server) in kinds.iter().zip(&servers) {
        for cache in ["MISS", "HIT"] {
            for (token, user) in [(&alice, "alice"), (&bob, "bob")] {
                let answer = world.send(&Request::get(&format!("/{kind}/x")).token(token));
                assert_eq!(answer.status, 200, "{kind}");
                assert_eq!((answer.text().as_str(), answer.header("X-Proxy")), (user, Some(cache)));
            }
        }
        for request in server.requests.lock().unwrap().iter() {
            let text = String::from_utf8_lossy(request);
            assert!(
                text.contains("HTTP_X_USER_ID") && !text.contains("_TOKEN"),
                "{kind}: {text:?}"
            );
        }
    }
}

/// A server of FastCGI, SCGI or uwsgi that answers with the user that it is told.
struct Gateway {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Gateway {
    fn start(is_fastcgi: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // nginx sends the request at once, and then waits for the answer.
                stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                let mut request = Vec::new();
                let _ = stream.read_to_end(&mut request);
                let is_alice = request.windows(5).any(|window| window == b"alice");
                let user = if is_alice { "alice" } else { "bob" };
                let answer = format!(
                    "Status: 200 OK\r\nContent-Type: text/plain\r\nVary: X-Auth-Token\r\n\r\n{user}"
                );
                let bytes = match is_fastcgi {
                    true => [record(6, answer.as_bytes()), record(3, &[0; 8])].concat(),
                    false => answer.replace("Status:", "HTTP/1.0").into_bytes(),
                };
                log.lock().unwrap().push(request);
                let _ = stream.write_all(&bytes);
            }
        });
        Self { address, requests }
    }
}

/// A record of FastCGI, for the first request of a connection.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[1, kind, 0, 1, length[0], length[1], 0, 0], content].concat()
}

/// The snippets of docs/caches.md, as they stand there.
#[test]
fn the_documented_keys() {
    let text = include_str!("../../../docs/caches.md");
    let snippets: Vec<_> =
        text.split("```nginx\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [public, keys] = snippets[..] else { panic!("{snippets:?}") };
    let (path, server) = keys.split_once("server {\n").unwrap();
    let server = server.trim_end().strip_suffix('}').unwrap();
    let mut setup = World::setup()
        .offline()
        .http(&path.replace("/var/lib/nginx/responses", "@DIR@/responses"))
        .http("add_header X-Proxy $upstream_cache_status;");
    let (all, locations) = server.split_once("    # Everybody").unwrap();
    let public = public.replace("location /images/", "location /public/");
    for location in format!("{locations}{public}").split("location ").skip(1) {
        let (name, lines) = location.split_once(" {\n").unwrap();
        let lines = lines.split("}\n").next().unwrap();
        let lines = lines
            .replace("http://10.0.0.20:8774", "@UPSTREAM@")
            .replace("http://10.0.0.21:9292", "@UPSTREAM@");
        let added = "add_header X-Proxy $upstream_cache_status;";
        setup = setup
            .location(name, &format!("{all}\n{added}\n{}", lines.replace("keystone_auth on;", "")));
    }
    let world = setup.start();
    let user = |name: &str, project: &str, roles: &[&str]| {
        world.pki(&Payload::v3().user(name, name).project(project, project).roles(roles))
    };
    let (alice, bob) = (user("alice", "one", &["reader"]), user("bob", "one", &["reader"]));
    let (other, admin) = (user("alice", "two", &["reader"]), user("alice", "one", &["admin"]));
    let get = |target: &str, token: &str| ask(&world, &Request::get(target).token(token));

    assert_eq!(get("/images/x", &alice), pair("alice", "MISS"));
    assert_eq!(get("/images/x", &bob), pair("alice", "HIT"));
    // A response that is stored is for those alone who may pass.
    assert_eq!(world.send(&Request::get("/images/x").token(&admin)).status, 403);
    assert_eq!(world.send(&Request::get("/images/x")).status, 401);

    assert_eq!(get("/quotas/x", &alice), pair("alice", "MISS"));
    assert_eq!(get("/quotas/x", &bob), pair("alice", "HIT"));
    assert_eq!(get("/quotas/x", &other), pair("alice", "MISS"));

    for token in [&alice, &bob, &other, &admin] {
        assert_eq!(get("/servers/x", token).1, "MISS");
    }
    for token in [&alice, &bob, &other, &admin] {
        assert_eq!(get("/servers/x", token).1, "HIT");
    }

    let answer = world.send(&Request::get("/public/x").token(&alice));
    assert_eq!(answer.header("Cache-Control"), Some("public, max-age=60"));
    assert_eq!(answer.header("Vary"), Some("X-Auth-Token"));
}
