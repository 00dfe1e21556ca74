//! docs/recipes.md: each snippet as it stands there, with other addresses.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{can_try_http_2, check, was_built_with, worker_ids, Check, Config};
use keystone_testbed::port::Port;
use keystone_testbed::serve::{self, After, Handler, Incoming, Server};
use keystone_testbed::upstream::Seen;
use keystone_testbed::wire::Stream;
use keystone_testbed::world::{Setup, World};
use serde_json::Value;

/// A world with the snippet of a chapter; the upstream is where `address` points to.
#[track_caller]
fn recipe(title: &str, addresses: &[(&str, &str)]) -> Setup {
    let text = include_str!("../../docs/recipes.md");
    let (_, chapter) = text.split_once(&format!("\n## {title}\n")).unwrap();
    let chapter = chapter.split("\n## ").next().unwrap();
    let (_, snippet) = chapter.split_once("```nginx\n").unwrap();
    let mut snippet = snippet.split("```").next().unwrap().to_owned();
    for (documented, actual) in addresses {
        assert!(snippet.contains(documented), "{documented}");
        snippet = snippet.replace(documented, actual);
    }
    let (http, server) = snippet.split_once("server {\n").unwrap();
    let server = server.trim_end().strip_suffix('}').unwrap();
    World::setup().offline().http(http).server(server)
}

const NOVA: (&str, &str) = ("http://10.0.0.20:8774", "@UPSTREAM@");

fn forged(request: Request) -> Request {
    request.header("X-User-Id", "forged").header("X-Roles", "admin")
}

#[test]
fn cors_preflight() {
    let world = recipe("CORS preflight", &[NOVA]).start();
    let options = |target| forged(Request::new("OPTIONS", target));
    expect::no_identity(&world.seen(&options("/compute/servers")));
    for method in ["GET", "POST", "DELETE", "HEAD"] {
        let answer = world.send(&forged(Request::new(method, "/compute/servers")));
        assert_eq!(answer.status, 401, "{method}");
    }
    let token = world.pki(&Payload::v3());
    expect::v3_user(&world.seen(&forged(Request::get("/compute/servers")).token(&token)));
}

#[test]
fn policy_service() {
    if !was_built_with("--with-http_auth_request_module") {
        return;
    }
    for title in ["A policy service", "A policy service after authentication"] {
        let is_early = title == "A policy service";
        let policy = ("http://10.0.0.40:8181", "@UPSTREAM@$policy");
        let world = recipe(title, &[NOVA, policy])
            .http("map $http_x_user_id $policy { default /status/403?; alice /status/204?; }")
            .start();
        let [alice, bob] = super::caches::alice_and_bob(&world);
        let get = || forged(Request::get("/compute/servers"));
        let nobody = world.send(&get()).status;
        assert!(nobody == 401 || is_early && nobody == 403, "{title}: {nobody}");
        assert_eq!(world.upstream.requests().len(), usize::from(is_early), "{title}");
        assert_eq!(world.send(&get().token(&bob)).status, 403, "{title}");
        let seen = world.seen(&get().token(&alice));
        assert_eq!(seen.header("X-User-Id").as_deref(), Some("alice"), "{title}");
        let asked = &world.upstream.requests()[usize::from(is_early) + 1];
        assert_eq!(asked.headers.text("X-User-Id"), Some("alice"), "{title}");
        assert_eq!(asked.headers.text("X-Original-URI"), Some("/compute/servers"));
        assert_eq!(asked.headers.text("X-Original-Method"), Some("GET"));
        assert_eq!(world.send(&Request::get("/.policy").token(&alice)).status, 404);
    }
}

/// Answers as Open Policy Agent does at `POST /v0/data/...`: with the value of the rule, or 404 where
/// it is undefined for the input. Its rule is that of the recipe's `compute.allow`.
struct Agent {
    inputs: Arc<Mutex<Vec<Value>>>,
}

impl Handler for Agent {
    fn handle(&self, request: &Incoming, stream: &mut Stream) -> After {
        assert_eq!((request.method.as_str(), request.path()), ("POST", "/v0/data/compute/allow"));
        assert_eq!(request.headers.text("Content-Type"), Some("application/json"));
        assert_eq!(request.headers.text("X-Auth-Token"), None);
        let input: Value = serde_json::from_slice(&request.body).unwrap();
        let text = |name: &str| input[name].as_str().unwrap().to_owned();
        let roles = text("roles");
        let has = |role: &str| roles.split(',').any(|it| it == role);
        let (uri, project) = (text("uri"), text("project_id"));
        let path: Vec<_> = uri.split('?').next().unwrap().split('/').collect();
        let allows = has("admin")
            || !project.is_empty() && ["GET", "HEAD"].contains(&text("method").as_str())
            || text("method") == "DELETE"
                && has("member")
                && path.get(2).is_some_and(|it| *it == project);
        self.inputs.lock().unwrap().push(input);
        let json = [("Content-Type", "application/json")];
        serve::send(
            stream,
            &match allows {
                true => serve::answer(200, &json, b"true"),
                false => serve::answer(404, &json, b"{}"),
            },
        )
    }
}

#[test]
fn open_policy_agent() {
    if !was_built_with("--with-http_auth_request_module") {
        return;
    }
    let inputs = Arc::new(Mutex::new(Vec::new()));
    let agent = Arc::new(Agent { inputs: Arc::clone(&inputs) });
    let agent = Server::start(Port::free().unwrap(), None, agent).unwrap();
    let address = agent.address().to_string();
    let world = recipe("Open Policy Agent", &[NOVA, ("10.0.0.41:8181", &address)]).start();
    let user = |project: &str, roles: &[&str]| {
        world.pki(&Payload::v3().project(project, project).roles(roles))
    };
    let (one, two, admin) =
        (user("one", &["member"]), user("two", &["member", "x"]), user("two", &["admin"]));
    let send = |method: &str, target: &str, token: &str| {
        world.send(&forged(Request::new(method, target)).token(token)).status
    };
    assert_eq!(send("GET", "/compute/one/servers?a=b", &one), 200);
    assert_eq!(
        inputs.lock().unwrap().pop().unwrap(),
        serde_json::json!({
            "method": "GET", "uri": "/compute/one/servers?a=b", "user_id": "user_id1",
            "project_id": "one", "roles": "member"
        })
    );
    assert_eq!(send("DELETE", "/compute/one/servers/1", &one), 200);
    assert_eq!(send("DELETE", "/compute/one/servers/1", &two), 403);
    assert_eq!(send("DELETE", "/compute/one/servers/1", &admin), 200);
    assert_eq!(send("POST", "/compute/one/servers", &one), 403);
    // What would change the input is not in it.
    let injected = "/compute/x\",\"roles\":\"admin/servers";
    assert_eq!(send("POST", injected, &one), 403);
    assert_eq!(inputs.lock().unwrap().pop().unwrap()["uri"], "");
    let odd = user("one", &["member", "a\"} admin"]);
    assert_eq!(send("POST", "/compute/one/servers", &odd), 403);
    assert_eq!(inputs.lock().unwrap().pop().unwrap()["roles"], "");
    assert!([401, 403].contains(&world.send(&forged(Request::get("/compute/x"))).status));
    assert_eq!(send("GET", "/compute/one/servers", "unknown"), 403);
    assert!(world.upstream.requests().iter().all(|it| it.headers.text("X-User-Id").is_some()));
    assert_eq!(send("GET", "/.opa", &admin), 403);
    assert_eq!(send("GET", "/.opa_denies", &admin), 404);
    world.assert_quiet_log();
}

#[test]
fn requests_of_each_project() {
    let world = recipe("Requests of each project", &[NOVA]).start();
    let of = |project: &str| world.pki(&Payload::v3().project(project, project));
    let (one, two) = (of("one"), of("two"));
    let status = |token: &str| world.send(&Request::get("/compute/x").token(token)).status;
    for _ in 0..20 {
        assert_eq!(world.send(&forged(Request::get("/compute/x"))).status, 401);
    }
    let first: Vec<_> = (0..30).map(|_| status(&one)).collect();
    assert!(first.contains(&200) && first.contains(&429), "{first:?}");
    assert_eq!(status(&two), 200);
    let seen = world.upstream.requests();
    assert!(seen.iter().all(|it| it.headers.text("X-Identity-Status") == Some("Confirmed")));
}

#[test]
fn connections_of_each_user() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let world = recipe("Connections of each user", &[("10.0.0.22:8080", &address)]).start();
    let [alice, bob] = super::caches::alice_and_bob(&world);
    let begin = |token: &str| {
        let mut client = world.nginx.connect().unwrap();
        client.write(&Request::get("/objects/x").token(token).bytes()).unwrap();
        // The upstream has the connection, and does not answer.
        (client, listener.accept().unwrap())
    };
    let _held = [begin(&alice), begin(&alice)];
    for _ in 0..3 {
        assert_eq!(world.send(&Request::get("/objects/x").token(&alice)).status, 429);
    }
    let _other = begin(&bob);
}

#[test]
fn bandwidth_of_each_project() {
    let (free, slow) = ("89fcfe3a8a3a4ad5a1ba5d6a4a7e4d1f", "5d2b4c0ad9bd4d3b8c2a5a2f1a3f7e60");
    let objects = Server::start(Port::free().unwrap(), None, Arc::new(Objects)).unwrap();
    let address = objects.address().to_string();
    let world = recipe("Bandwidth of each project", &[("10.0.0.22:8080", &address)]).start();
    let seconds = |project: &str| {
        let token = world.pki(&Payload::v3().project(project, project));
        let started = Instant::now();
        let answer = world.send(&Request::get("/objects/x").token(&token));
        assert_eq!((answer.status, answer.text().len()), (200, OBJECT.len()));
        started.elapsed().as_secs_f64()
    };
    // nginx sends what it may in the first second at once, and then waits.
    let (slow, free) = (seconds(slow), seconds(free));
    assert!(slow > 0.9, "{slow}");
    assert!(free < slow, "{free} {slow}");
    let other = seconds("another");
    assert!(other < slow, "{other} {slow}");
}

struct Objects;

impl Handler for Objects {
    fn handle(&self, _: &Incoming, stream: &mut Stream) -> After {
        serve::send(stream, &serve::answer(200, &[], OBJECT))
    }
}

const OBJECT: &[u8] = &[b'x'; 60_000];

#[test]
fn tokens_in_cookies_and_bearer_tokens() {
    let console = ("http://10.0.0.20:6080", "@UPSTREAM@");
    let world = recipe("Tokens in cookies and bearer tokens", &[console]).start();
    let token = world.uuid(&Payload::v3());
    let cookie = |method: &str| {
        Request::new(method, "/console/x").header("Cookie", format!("keystone={token}; a=1"))
    };
    let bearer =
        Request::new("POST", "/console/x").header("Authorization", format!("Bearer {token}"));
    for request in [cookie("GET"), bearer, Request::new("PUT", "/console/x").token(&token)] {
        let seen = world.seen(&forged(request));
        expect::v3_user(&seen);
        assert!(!format!("{seen:?}").contains(&token), "{seen:?}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(world.send(&forged(cookie(method))).status, 401, "{method}");
    }
}

#[test]
fn a_location_that_returns() {
    let world = recipe("A location that returns", &[]).start();
    assert_eq!(world.send(&forged(Request::get("/whoami"))).status, 401);
    let answer = world.send(&Request::get("/whoami").token(&world.pki(&Payload::v3())));
    assert_eq!(answer.text(), r#"{"user": "user_id1", "project": "tenant_id1"}"#);
    assert_eq!(answer.header("Vary"), Some("X-Auth-Token"));
}

#[test]
fn nginx_warns_of_a_location_that_returns() {
    let warning = |lines: &str| {
        let config = Config::protected().server(lines);
        let Check { ok, text } = check(&config).unwrap();
        assert!(ok, "{text}");
        // The testbed has a location of its own that returns.
        let is_warning = |line: &&str| line.contains("\"return\"") && !line.contains("\"/-/");
        let mut warnings = text.lines().filter(is_warning);
        let warning = warnings.next().map(str::to_owned);
        assert_eq!(warnings.next(), None, "{text}");
        warning
    };
    for lines in [
        "location /odd { keystone_auth on; return 200 secret; }",
        "location /odd { keystone_auth delay; return 200; }",
        "location /odd { keystone_auth on; return 204; }",
        "location /odd { keystone_auth on; return 302 /other; }",
        "location /odd { keystone_auth on; return https://$host; }",
        "location /odd { keystone_auth on; set $a b; if ($a) { set $a c; } return 200 $a; }",
        "location /odd { keystone_auth on; if ($arg_a) { return 200 secret; } }",
        "location /odd { keystone_auth on; if ($arg_a) { return 404; } return 200 $arg_a; }",
        "location = /odd { keystone_auth on; rewrite ^ /x; return 200 a; }",
        "location ~ ^/odd { keystone_auth on; return 200 secret; }",
        "location /odd { keystone_auth off; location /odd/in { keystone_auth on; return 200 a; } }",
        "keystone_auth on; location /odd { return 200 secret; }",
    ] {
        let text = warning(lines).unwrap_or_else(|| panic!("{lines}"));
        assert!(text.contains("[warn]") && text.contains("location \""), "{text}");
        assert!(text.contains("/odd") && text.matches("nginx.conf:").count() == 2, "{text}");
    }
    assert!(warning("keystone_auth on; return 200 secret;").is_some());
    for lines in [
        "location /plain { keystone_auth off; return 200 public; }",
        "location /plain { keystone_auth on; return 404; }",
        "location /plain { keystone_auth on; if ($request_method = OPTIONS) { return 204; } }",
        "location /plain { keystone_auth on; if ($arg_a) { return 403 text; } root html; }",
        "location @plain { keystone_auth on; return 302 /login; }",
        "location /plain { internal; keystone_auth on; return 200 text; }",
        "location /plain { keystone_auth on; rewrite ^ /other last; }",
        "keystone_auth on; return 301 https://$host$request_uri;",
        "keystone_auth on; if ($arg_a) { return 204; }",
    ] {
        assert_eq!(warning(lines), None, "{lines}");
    }
}

#[test]
fn websocket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for mut stream in listener.incoming().flatten().take(3) {
            heads.push(answer_upgrade(&mut stream));
        }
        heads
    });
    let world = recipe("WebSocket", &[("10.0.0.20:6080", &address.to_string())]).start();
    let token = world.pki(&Payload::v3());
    let refused = open(&world, "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let head = format!("X-Auth-Token: {token}\r\n");
    let opened = open(&world, &format!("{head}Upgrade: WebSocket\r\nConnection: Upgrade\r\n"));
    assert!(opened.starts_with("HTTP/1.1 101") && opened.ends_with("\r\n\r\nping"), "{opened}");
    open(&world, &format!("{head}Upgrade: h2c\r\nConnection: Upgrade, X-User-Id\r\n"));
    open(&world, &format!("{head}Connection: X-User-Id\r\n"));
    let heads = echo.join().unwrap();
    for head in &heads {
        assert!(head.contains("x-user-id: user_id1"), "{head}");
    }
    assert!(heads[0].contains("upgrade: websocket") && heads[0].contains("connection: upgrade"));
    for head in &heads[1..] {
        assert!(!head.contains("upgrade") && !head.contains("connection: x-user"), "{head}");
    }
}

/// What comes back on a connection on which `ping` follows the request.
fn open(world: &World, headers: &str) -> String {
    let mut stream = TcpStream::connect(world.nginx.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let request = format!("GET /console/x HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).unwrap();
    answer.extend(&bytes[..count]);
    if answer.starts_with(b"HTTP/1.1 101") {
        stream.write_all(b"ping").unwrap();
        let count = stream.read(&mut bytes).unwrap();
        answer.extend(&bytes[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Answers a request, and echoes what follows an upgrade; gives the request in lower case.
fn answer_upgrade(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    if head.contains("upgrade: websocket") {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        stream.write_all(answer).unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    } else {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
    head
}

#[test]
fn grpc() {
    if !can_try_http_2() {
        return;
    }
    // Another server of nginx's reads the HTTP/2 of the call for the upstream.
    let port = Port::free().unwrap();
    let address: SocketAddr = port.address();
    let reader =
        format!("server {{ listen {address} http2; location / {{ proxy_pass @UPSTREAM@; }} }}");
    let world = recipe("gRPC", &[("10.0.0.30:50051", &address.to_string())]).http(&reader).start();
    let call = |request: Request| world.send(&forged(request).header("TE", "trailers").body(b""));
    let post = || Request::new("POST", "/example.Service/Call");
    assert_eq!(call(post()).status, 401);
    let answer = call(post().token(&world.pki(&Payload::v3())));
    expect::v3_user(&Seen::of(&answer).unwrap());
}

#[test]
fn webdav() {
    if !was_built_with("--with-http_dav_module") {
        return;
    }
    let world = recipe("WebDAV", &[])
        .location(
            "/other/",
            "keystone_auth on; keystone_require_role admin; dav_methods PUT DELETE COPY MOVE;",
        )
        .location(
            "/shared/deeper/",
            "keystone_auth on; keystone_require_role admin; dav_methods PUT COPY;",
        )
        .location("~ \\.odd$", "keystone_auth on; dav_methods PUT COPY MOVE;")
        .location(
            "^~ /any/",
            "satisfy any; allow all; keystone_auth on; dav_methods COPY MOVE DELETE;",
        )
        .location("^~ /any/admin/", "keystone_auth on; keystone_require_role admin;")
        .files(|dir| {
            let (user, group) = worker_ids();
            for name in ["shared", "other", "shared/deeper", "shared/folder", "any", "any/admin"] {
                let path = dir.join("html").join(name);
                fs::create_dir_all(&path).unwrap();
                chown(&path, Some(user), Some(group)).unwrap();
            }
            for name in
                ["shared/file", "other/file", "shared/file.odd", "shared/folder/x", "any/file"]
            {
                fs::write(dir.join("html").join(name), name).unwrap();
                chown(dir.join("html").join(name), Some(user), Some(group)).unwrap();
            }
        })
        .start();
    let html = world.nginx.dir().join("html");
    let editor = world.pki(&Payload::v3().roles(&["editor"]));
    let reader = world.pki(&Payload::v3().roles(&["reader"]));
    let send = |token: &str, method: &str, from: &str, to: &str| {
        let request = Request::new(method, from).token(token).header("Destination", to);
        world.send(&request).status
    };
    for to in [
        "/other/stolen",
        "/other/file",
        "/shared/deeper/x",
        "/shared/../other/x",
        "/shared/%2e%2e/other/x",
        "/shared/..%2Fother/x",
        "/shared//deeper/x",
        "/shared/%64eeper/x",
        "http://localhost/other/x",
        "http://localhost:1/shared/deeper/x",
        "http://localhost",
        "/sharedx",
        "/shared",
        "/x",
        "x",
        "",
    ] {
        for method in ["COPY", "MOVE"] {
            let status = send(&editor, method, "/shared/file", to);
            assert_eq!(status, 403, "{method} {to:?}");
        }
    }
    world.nginx.wait_for_log("forbidden: Destination is not known").unwrap();
    // A regular expression may be for any path.
    assert_eq!(send(&editor, "COPY", "/shared/file.odd", "/shared/copy.odd"), 204);
    assert_eq!(send(&editor, "COPY", "/x.odd", "/y.odd"), 403);
    let twice = Request::new("COPY", "/shared/file")
        .token(&editor)
        .header("Destination", "/shared/twice")
        .header("Destination", "/other/twice");
    assert!(matches!(world.send(&twice).status, 400 | 403));
    let names = |name: &str| fs::read_dir(html.join(name)).unwrap().count();
    assert_eq!((names("other"), names("shared/deeper")), (1, 0));
    assert_eq!(fs::read_to_string(html.join("other/file")).unwrap(), "other/file");

    for to in
        ["/shared/a", "http://localhost/shared/b?x=/other/y", "/shared/folder/c", "/shared/%64"]
    {
        assert_eq!(send(&editor, "COPY", "/shared/file", to), 204, "{to}");
        assert_eq!(send(&reader, "COPY", "/shared/file", to), 403, "{to}");
    }
    assert_eq!(fs::read_to_string(html.join("shared/d")).unwrap(), "shared/file");
    assert_eq!(send(&editor, "MOVE", "/shared/a", "/shared/moved"), 204);
    assert!(!html.join("shared/a").exists() && html.join("shared/moved").exists());
    // A directory is copied, moved and deleted with all that is in it.
    assert_eq!(send(&editor, "COPY", "/shared/folder/", "/shared/copied/"), 201);
    assert_eq!(send(&editor, "MOVE", "/shared/copied/", "/shared/new/"), 201);
    assert_eq!(send(&editor, "DELETE", "/shared/new/", ""), 204);
    assert!(!html.join("shared/copied").exists() && !html.join("shared/new").exists());
    for (from, to) in [("/shared/", "/shared/x/"), ("/shared/folder/", "/shared/")] {
        assert_eq!(send(&editor, "COPY", from, to), 403, "{from} to {to}");
        assert_eq!(send(&editor, "MOVE", from, to), 403, "{from} to {to}");
    }
    assert_eq!(send(&editor, "DELETE", "/shared/", ""), 403);
    world.nginx.wait_for_log("forbidden: the directory is not known").unwrap();
    assert!(html.join("shared/folder/x").exists() && !html.join("shared/x").exists());
    // Another module grants access there.
    let anonymous = |method: &str, from: &str, to: &str| {
        world.send(&Request::new(method, from).header("Destination", to))
    };
    expect::forbidden(&anonymous("COPY", "/any/file", "/other/x"));
    expect::forbidden(&anonymous("MOVE", "/any/file", "/any/admin/x"));
    expect::forbidden(&anonymous("DELETE", "/any/", ""));
    assert_eq!(anonymous("COPY", "/any/file", "/any/copy").status, 204);
    let admin = world.pki(&Payload::v3().roles(&["admin"]));
    assert_eq!(send(&admin, "COPY", "/other/file", "/other/copy"), 403, "the server has a regex");
    let put = Request::new("PUT", "/shared/put").token(&editor).body(b"put");
    assert_eq!(world.send(&put).status, 201);
}
