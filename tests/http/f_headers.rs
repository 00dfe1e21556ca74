//! Section F of `docs/behaviour.md`: what an upstream is sent, and what comes back.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use keystone_testbed::expect::{self, IDENTITY_HEADERS};
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::can_try_http_2;
use keystone_testbed::port::Port;
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::World;
use serde_json::{json, Value};

/// Ways to write a header's name that some server or other takes for the same.
fn spellings(name: &str) -> Vec<String> {
    let mixed = |(at, c): (usize, char)| match at % 2 {
        0 => c.to_ascii_lowercase(),
        _ => c.to_ascii_uppercase(),
    };
    vec![
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        name.chars().enumerate().map(mixed).collect(),
        name.replace('-', "_"),
        name.replace('-', "_").to_lowercase(),
        name.replacen('-', "_", 1),
        name.chars().rev().collect::<String>().replacen('-', "_", 1).chars().rev().collect(),
        name.replace('-', "."),
        name.replacen('-', ".", 1),
        name.chars().rev().collect::<String>().replacen('-', ".", 1).chars().rev().collect(),
        name.replace('-', "~").to_uppercase(),
        name.replace('-', "!"),
        name.replace('-', "+"),
    ]
}

fn forged(mut request: Request) -> Request {
    for name in IDENTITY_HEADERS {
        for spelling in spellings(name) {
            request = request.header(spelling, "forged");
        }
    }
    request
}

fn token(world: &World, payload: Payload) -> Seen {
    world.seen(&Request::get("/").token(&world.pki(&payload)))
}

#[test]
fn f01_forged_headers_in_all_spellings() {
    for server in ["", "underscores_in_headers on;", "ignore_invalid_headers off;"] {
        let world = World::setup().offline().config(|config| config.server(server)).start();
        let token = world.pki(&Payload::v3());
        let request = forged(Request::get("/").token(&token));
        let seen = world.seen(&request.header("X-Foo", "Bar"));
        expect::v3_user(&seen);
        assert_eq!(seen.header("X-Foo").as_deref(), Some("Bar"));
        assert_eq!(seen.header("X-Auth-Token"), Some(token));
        assert!(seen.header("Host").is_some());
        assert!(!format!("{:?}", seen.headers).contains("forged"));
    }
}

#[test]
fn f01_forged_headers_without_a_token() {
    for server in ["underscores_in_headers on;", "ignore_invalid_headers off;"] {
        let world = World::setup().config(|config| config.server(server)).start();
        expect::refused(&world.send(&forged(Request::get("/"))));
        let seen = world.seen(&forged(Request::get("/delay/")));
        expect::no_identity(&seen);
        assert!(!format!("{:?}", seen.headers).contains("forged"));
    }
}

#[test]
fn f01_a_forged_header_with_any_byte_between_its_words() {
    let world =
        World::setup().config(|config| config.server("ignore_invalid_headers off;")).start();
    // nginx refuses the others itself.
    let bytes = (0x21..=u8::MAX).filter(|it| !it.is_ascii_alphanumeric() && !b":\x7f".contains(it));
    for byte in bytes {
        let name: Vec<_> =
            b"X-User-Id".iter().map(|it| if *it == b'-' { byte } else { *it }).collect();
        let seen = world.seen(&Request::get("/delay/").header(&name, "forged"));
        assert!(!format!("{:?}", seen.headers).contains("forged"), "{}", name.escape_ascii());
    }
}

#[test]
fn a_token_header_is_one_in_every_spelling() {
    let world = World::setup()
        .offline()
        .config(|config| config.server("ignore_invalid_headers off;"))
        .location(
            "/hidden/",
            "keystone_auth on; keystone_forward_token off; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    for name in ["X.Auth.Token", "X-Auth.Token", "x_auth~token", "X-Storage.Token"] {
        expect::v3_user(&world.seen(&Request::get("/").header(name, &token)));
        let seen = world.seen(&Request::get("/hidden/").header(name, &token));
        assert!(!format!("{:?}", seen.headers).contains(&token), "{name}");
    }
    // It is not known which of the two an application would take.
    let twice = Request::get("/").token(&token).header("X.Auth.Token", &token);
    assert_eq!(world.send(&twice).status, 400);
}

#[test]
fn f01_a_request_of_which_no_header_stays() {
    // nginx keeps twenty headers in an array. What stays first is the last one of these, and then
    // goes as well: what is added has to find room elsewhere. In small pools the array is a piece
    // of memory of its own, and what is written behind it ends the worker.
    let world = World::setup()
        .config(|config| config.http("connection_pool_size 256; request_pool_size 256;"))
        .location(
            "/hidden/",
            "keystone_auth delay; keystone_forward_token off; proxy_pass @UPSTREAM@;",
        )
        .start();
    let workers = world.nginx.worker_pids();
    let tokens =
        ["X-Auth-Token", "X-Storage-Token", "X-Service-Token"].map(|it| format!("{it}: x\r\n"));
    for forged in 0..24 {
        let forged = "X-User-Id: forged\r\n".repeat(forged);
        let request = format!("GET /hidden/x HTTP/1.0\r\n{forged}{}\r\n", tokens.concat());
        for _ in 0..20 {
            let answer = world.nginx.exchange_one(request.as_bytes()).unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.contains(r#"["X-Service-Identity-Status","Invalid"]"#), "{answer}");
            assert!(!answer.contains("forged") && !answer.contains("-Token"), "{answer}");
        }
    }
    assert_eq!(world.nginx.worker_pids(), workers);
    world.assert_quiet_log();
}

#[test]
fn f01_forged_headers_to_a_cgi_like_upstream() {
    let captures = ["fastcgi", "scgi", "uwsgi"].map(|kind| (kind, Capture::start()));
    let port = Port::free().unwrap();
    let mut setup = World::setup()
        .offline()
        .config(|config| config.server("ignore_invalid_headers off; underscores_in_headers on;"));
    for auth in ["on", "delay"] {
        for (kind, capture) in &captures {
            let (name, to) = (format!("/{kind}/{auth}"), capture.address);
            setup = setup.location(&name, &format!("keystone_auth {auth}; {kind}_pass {to};"));
        }
        let to = format!("keystone_auth {auth}; grpc_pass grpc://{};", port.address());
        setup = setup.location(&format!("/grpc/{auth}"), &to);
    }
    // What is sent by gRPC is compressed: another server of nginx's reads it for the upstream.
    let reader = format!(
        "server {{ listen {} http2; ignore_invalid_headers off; underscores_in_headers on;
            location / {{ proxy_pass @UPSTREAM@; }} }}",
        port.address()
    );
    let with_http_2 = can_try_http_2();
    let world = setup.http(if with_http_2 { &reader } else { "" }).start();
    let token = world.pki(&Payload::v3());
    for (kind, capture) in &captures {
        world.send(&forged(Request::get(&format!("/{kind}/on")).token(&token)));
        let sent = capture.next();
        assert!(contains(&sent, b"HTTP_X_USER_ID") && contains(&sent, b"user_id1"), "{kind}");
        assert!(!contains(&sent, b"forged"), "{kind}: {}", sent.escape_ascii());
        world.send(&forged(Request::get(&format!("/{kind}/delay"))));
        let sent = capture.next();
        assert!(contains(&sent, b"Invalid") && !contains(&sent, b"HTTP_X_USER_ID"), "{kind}");
        assert!(!contains(&sent, b"forged"), "{kind}: {}", sent.escape_ascii());
    }
    if with_http_2 {
        expect::v3_user(&world.seen(&forged(Request::get("/grpc/on").token(&token))));
        expect::no_identity(&world.seen(&forged(Request::get("/grpc/delay"))));
        let requests = format!("{:?}", world.upstream.requests());
        assert!(!requests.contains("forged"), "{requests}");
    }
}

/// An upstream of any protocol that keeps what it is sent on each connection, and answers nothing.
struct Capture {
    address: SocketAddr,
    sent: Receiver<Vec<u8>>,
}

impl Capture {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sent) = channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // nginx sends the request at once, and then waits for the answer.
                stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                if sender.send(bytes).is_err() {
                    return;
                }
            }
        });
        Self { address, sent }
    }

    fn next(&self) -> Vec<u8> {
        self.sent.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn f01_forged_headers_before_between_and_after_others() {
    // Removing list elements must not mix up the ones that stay, wherever they stand.
    let world = World::setup()
        .offline()
        .location(
            "= /names",
            "keystone_auth on; proxy_pass @UPSTREAM@;
             proxy_set_header X-Names $http_host,$http_user_agent,$http_accept,$http_x_last;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    for at in 0..6 {
        let others = [
            ("Host", "example.com"),
            ("User-Agent", "agent"),
            ("Accept", "a/b"),
            ("X-Last", "last"),
            ("X-Auth-Token", token.as_str()),
        ];
        let mut request = Request::get("/names");
        for (number, (name, value)) in others.into_iter().enumerate() {
            if number == at {
                request = forged(request);
            }
            request = request.header(name, value);
        }
        if at == others.len() {
            request = forged(request);
        }
        let seen = world.seen(&request);
        expect::v3_user(&seen);
        assert_eq!(seen.header("X-Names").as_deref(), Some("example.com,agent,a/b,last"));
        assert_eq!(seen.header("X-Last").as_deref(), Some("last"));
        assert_eq!(seen.header("Accept").as_deref(), Some("a/b"));
    }
}

#[test]
fn f01_forged_headers_are_not_in_variables_either() {
    let world = World::setup()
        .offline()
        .location(
            "= /echo",
            "keystone_auth on; try_files /files/hello.txt =404;
             add_header X-Seen [$http_x_user_id][$http_x_roles][$http_x_service_user_id] always;",
        )
        .start();
    let request = Request::get("/echo")
        .token(&world.pki(&Payload::v3()))
        .header("X-User-Id", "forged")
        .header("X-Roles", "forged")
        .header("X-Service-User-Id", "forged");
    let answer = world.send(&request);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("X-Seen"), Some("[user_id1][role1,role2][]"));
}

#[test]
fn f01_nothing_is_removed_where_auth_is_off() {
    let world = World::setup().start();
    let seen = world.seen(&Request::get("/open/").header("X-Roles", "mine").token("anything"));
    expect::identity(&seen, &[("X-Roles", "mine")]);
    assert_eq!(seen.header("X-Auth-Token").as_deref(), Some("anything"));
}

#[test]
fn f02_other_headers_pass() {
    let world = World::setup().offline().start();
    let others = [
        ("X-Foo", "Bar"),
        ("X-User-Idea", "1"),
        ("X-Users", "2"),
        ("X-Rolesx", "3"),
        ("User-Id", "4"),
        ("X-Project", "5"),
        ("OpenStack-System", "6"),
        ("X-Authorization", "7"),
        ("X-Forwarded-For", "8"),
        ("OpenStack-API-Version", "9"),
    ];
    let mut request = Request::get("/").token(&world.pki(&Payload::v3()));
    for (name, value) in others {
        request = request.header(name, value);
    }
    let seen = world.seen(&request);
    for (name, value) in others {
        assert_eq!(seen.header(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn f03_a_project_scoped_token() {
    let world = World::setup().offline().start();
    let payload = Payload::v3()
        .user("u-id", "u name")
        .project("p-id", "p name")
        .roles(&["one"])
        .with("/user/domain", json!({"id": "ud-id", "name": "ud name"}))
        .with("/project/domain", json!({"id": "pd-id", "name": "pd name"}));
    expect::identity(
        &token(&world, payload),
        &[
            ("X-Identity-Status", "Confirmed"),
            ("X-Is-Admin-Project", "True"),
            ("X-Project-Domain-Id", "pd-id"),
            ("X-Project-Domain-Name", "pd name"),
            ("X-Project-Id", "p-id"),
            ("X-Project-Name", "p name"),
            ("X-Role", "one"),
            ("X-Roles", "one"),
            ("X-Tenant", "p name"),
            ("X-Tenant-Id", "p-id"),
            ("X-Tenant-Name", "p name"),
            ("X-User", "u name"),
            ("X-User-Domain-Id", "ud-id"),
            ("X-User-Domain-Name", "ud name"),
            ("X-User-Id", "u-id"),
            ("X-User-Name", "u name"),
        ],
    );
}

#[test]
fn f03_domain_and_system_scoped_tokens() {
    let world = World::setup().offline().start();
    let user = [
        ("X-Identity-Status", "Confirmed"),
        ("X-Is-Admin-Project", "True"),
        ("X-Role", "role1,role2"),
        ("X-Roles", "role1,role2"),
        ("X-User", "user_name1"),
        ("X-User-Domain-Id", "domain_id1"),
        ("X-User-Domain-Name", "domain_name1"),
        ("X-User-Id", "user_id1"),
        ("X-User-Name", "user_name1"),
    ];
    let domain = [("X-Domain-Id", "domain_id1"), ("X-Domain-Name", "domain_name1")];
    expect::identity(&token(&world, Payload::v3_domain()), &[&user[..], &domain].concat());
    let system = [("OpenStack-System-Scope", "all")];
    expect::identity(&token(&world, Payload::v3_system()), &[&user[..], &system].concat());
}

#[test]
fn f03_is_admin_project() {
    let world = World::setup().offline().start();
    for (value, shown) in [(json!(true), "True"), (json!(false), "False")] {
        let seen = token(&world, Payload::v3().with("/is_admin_project", value));
        assert_eq!(seen.header("X-Is-Admin-Project").as_deref(), Some(shown));
    }
}

#[test]
fn f05_identity_status_is_always_set() {
    let world = World::setup().offline().start();
    let seen = token(&world, Payload::v2());
    assert_eq!(seen.header("X-Identity-Status").as_deref(), Some("Confirmed"));
    let seen = world.seen(&Request::get("/delay/").token("MIInonsense"));
    assert_eq!(seen.header("X-Identity-Status").as_deref(), Some("Invalid"));
}

#[test]
fn f07_role_names() {
    let world = World::setup().offline().start();
    let roles = |names: &[&str]| token(&world, Payload::v3().roles(names)).header("X-Roles");
    assert_eq!(roles(&["b", "a", "c d"]).as_deref(), Some("b,a,c d"));
    assert_eq!(roles(&[]).as_deref(), Some(""));
    // A comma would make two of one.
    assert_eq!(roles(&["a", "b,admin", "c"]).as_deref(), Some("a,c"));
    world.nginx.wait_for_log("b,admin").unwrap();
    // Readers of a list strip its elements, so these would be another role.
    for name in [" admin", "admin ", "\u{a0}admin", "admin\u{3000}"] {
        assert_eq!(roles(&["a", name, "c"]).as_deref(), Some("a,c"), "{name:?}");
        world.nginx.wait_for_log(&format!("role \"{name}\" is left out")).unwrap();
    }
    // A client that has such a role must not fill the log.
    let log = world.nginx.error_log();
    let warned = log.lines().filter(|line| line.contains("is left out") && line.contains("[warn]"));
    assert_eq!(warned.count(), 1, "{log}");
}

#[test]
fn a_role_with_a_blank_at_an_end_is_no_role() {
    let world = World::setup()
        .offline()
        .location("/", "keystone_auth on; keystone_require_role admin; proxy_pass @UPSTREAM@;")
        .start();
    let status = |name: &str| world.status(&world.pki(&Payload::v3().roles(&["a", name])));
    assert_eq!(status("admin"), 200);
    for name in [" admin", "admin ", "admin\u{2003}"] {
        assert_eq!(status(name), 403, "{name:?}");
    }
}

#[test]
fn names_that_are_not_ascii() {
    let world = World::setup().offline().start();
    let payload =
        || Payload::v3().user("u", "Zoë 用户").project("p", "пр😀ект").roles(&["Rôle-été"]);
    for token in [world.pki(&payload()), world.pkiz(&payload())] {
        let seen = world.seen(&Request::get("/").token(&token));
        assert_eq!(seen.header("X-User-Name").as_deref(), Some("Zoë 用户"));
        assert_eq!(seen.header("X-Tenant").as_deref(), Some("пр😀ект"));
        assert_eq!(seen.header("X-Roles").as_deref(), Some("Rôle-été"));
    }
}

#[test]
fn names_with_control_characters() {
    let world = World::setup().offline().start();
    let smuggling = [
        "a\r\nX-Roles: admin",
        "a\nb",
        "a\0b",
        "a\tb",
        "\u{7f}",
        "\u{1b}[0m",
        "a\u{80}",
        "a\u{85}b",
        "\u{9b}31m",
        "\u{9f}",
    ];
    let places = ["/user/name", "/user/id", "/project/name", "/project/domain/name"];
    for value in smuggling {
        for place in places {
            let payload = Payload::v3().with(place, json!(value));
            let answer = world.send(&Request::get("/").token(&world.pki(&payload)));
            assert_eq!(answer.status, 401, "{value:?} at {place}");
        }
        let payload = Payload::v3().roles(&["a", value]);
        expect::refused(&world.send(&Request::get("/").token(&world.pki(&payload))));
    }
    assert!(world.upstream.requests().is_empty());
    let log = world.nginx.error_log();
    let is_odd = |c: char| c.is_control() && c != '\n';
    assert!(!log.contains(is_odd) && !log.contains("\nX-Roles: admin"), "{log}");
}

#[test]
fn names_with_blanks() {
    let world = World::setup()
        .offline()
        .config(|config| config.server("add_header X-Name [$keystone_user_name] always;"))
        .start();
    let seen = token(&world, Payload::v3().user("u", "a  b"));
    assert_eq!(seen.header("X-User-Name").as_deref(), Some("a  b"));
    // HTTP has no blanks at the ends of a value: the variable tells these two users apart, and the
    // header does not.
    let token = world.pki(&Payload::v3().user("u", " a "));
    assert_eq!(world.send(&Request::get("/").token(&token)).header("X-Name"), Some("[ a ]"));
    let seen = world.seen(&Request::get("/").token(&token));
    assert_eq!(seen.header("X-User-Name").as_deref(), Some("a"));
}

fn v2_catalog(world: &World, catalog: Value) -> Value {
    let seen = token(world, Payload::v3().with("/catalog", catalog));
    serde_json::from_str(&seen.header("X-Service-Catalog").unwrap()).unwrap()
}

#[test]
fn f08_f09_f10_catalogs() {
    let world = World::setup().offline().set("keystone_include_service_catalog", "on").start();
    let endpoint = |interface: &str, region: &str| {
        let url = format!("http://{interface}.{region}");
        json!({"interface": interface, "region": region, "url": url, "id": "x"})
    };
    let one = ["admin", "internal", "public"].map(|interface| endpoint(interface, "r"));
    let catalog = json!([{"type": "t", "name": "n", "id": "x", "endpoints": one}]);
    assert_eq!(
        v2_catalog(&world, catalog),
        json!([{"type": "t", "name": "n", "endpoints": [{
            "region": "r",
            "adminURL": "http://admin.r",
            "internalURL": "http://internal.r",
            "publicURL": "http://public.r"
        }]}])
    );

    let three = [endpoint("admin", "a"), endpoint("internal", "b"), endpoint("public", "c")];
    let catalog = json!([{"type": "t", "name": "n", "endpoints": three}]);
    let mut got = v2_catalog(&world, catalog);
    let endpoints = got[0]["endpoints"].as_array_mut().unwrap();
    endpoints.sort_by_key(|endpoint| endpoint["region"].to_string());
    assert_eq!(
        *endpoints,
        [
            json!({"region": "a", "adminURL": "http://admin.a"}),
            json!({"region": "b", "internalURL": "http://internal.b"}),
            json!({"region": "c", "publicURL": "http://public.c"}),
        ]
    );

    let bare = json!([{"type": "t", "endpoints": [{"interface": "public", "url": "http://x"}]}]);
    let expected = json!([{"type": "t", "endpoints": [{"publicURL": "http://x"}]}]);
    assert_eq!(v2_catalog(&world, bare), expected);
}

#[test]
fn f08_a_catalog_is_sent_only_where_configured() {
    let world = World::setup()
        .offline()
        .location(
            "= /catalog",
            "keystone_auth on; keystone_include_service_catalog on; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    // Whichever comes first: a cached answer must serve both.
    for target in ["/", "/catalog", "/", "/catalog"] {
        let seen =
            world.seen(&Request::get(target).token(&token).header("X-Service-Catalog", "[]"));
        let catalog = seen.header("X-Service-Catalog");
        assert_eq!(catalog.is_some(), target == "/catalog", "{target}: {catalog:?}");
    }
}

#[test]
fn e13_e14_a_token_without_a_catalog() {
    let world = World::setup().offline().set("keystone_include_service_catalog", "on").start();
    for payload in [Payload::v3().without("/catalog"), Payload::v2().without("/serviceCatalog")] {
        let request = Request::get("/").token(&world.pki(&payload));
        let seen = world.seen(&request.header("X-Service-Catalog", "[]"));
        assert_eq!(seen.header("X-Service-Catalog"), None);
    }
}

#[test]
fn f11_no_content_type_is_invented() {
    let world = World::setup().offline().start();
    let request = Request::get("/status/200?body=plain").token(&world.pki(&Payload::v3()));
    let answer = world.send(&request);
    assert_eq!((answer.status, answer.text().as_str()), (200, "plain"));
    assert_eq!(answer.header("Content-Type"), None);
    assert_eq!(answer.header("WWW-Authenticate"), None);
}

#[test]
fn f12_an_upstreams_own_401() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/status/401?body=mine&h=X-A:b").token(&token));
    assert_eq!((answer.status, answer.text().as_str()), (401, "mine"));
    assert_eq!(answer.header("X-A"), Some("b"));
    let challenge = format!("Keystone uri=\"{}\"", keystone_testbed::world::AUTH_URI);
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge.as_str()));
    for status in [200, 403, 404, 500] {
        let answer = world.send(&Request::get(&format!("/status/{status}?body=x")).token(&token));
        assert_eq!((answer.status, answer.header("WWW-Authenticate")), (status, None));
    }
}

#[test]
fn f12_an_upstreams_own_challenge_stays_beside_keystones() {
    let world = World::setup().offline().start();
    let target = "/status/401?body=x&h=WWW-Authenticate:Basic%20realm=x";
    let answer = world.send(&Request::get(target).token(&world.pki(&Payload::v3())));
    let challenges: Vec<_> = answer.headers.all("WWW-Authenticate").collect();
    let keystone = format!("Keystone uri=\"{}\"", keystone_testbed::world::AUTH_URI);
    assert_eq!(challenges, [b"Basic realm=x", keystone.as_bytes()]);
    // One of Keystone's, for whatever URI, is enough.
    let target = "/status/401?body=x&h=WWW-Authenticate:Keystone%20uri=x";
    let answer = world.send(&Request::get(target).token(&world.pki(&Payload::v3())));
    let challenges: Vec<_> = answer.headers.all("WWW-Authenticate").collect();
    assert_eq!(challenges, [b"Keystone uri=x"]);
    let answer = world.send(&Request::get("/open/status/401?body=x"));
    assert_eq!((answer.status, answer.header("WWW-Authenticate")), (401, None));
}

#[test]
fn keystone_headers_off() {
    let world = World::setup().offline().set("keystone_headers", "off").start();
    let request = forged(Request::get("/")).token(&world.pki(&Payload::v3()));
    expect::identity(&world.seen(&request), &[]);
    expect::identity(&world.seen(&forged(Request::get("/delay/"))), &[]);
}

#[test]
fn proxy_set_header_has_the_last_word() {
    let world = World::setup()
        .offline()
        .location(
            "= /set",
            "keystone_auth on; proxy_pass @UPSTREAM@;
             proxy_set_header X-User-Name \"\";
             proxy_set_header X-Authorization \"Proxy $keystone_user_name\";",
        )
        .start();
    let seen = world.seen(&Request::get("/set").token(&world.pki(&Payload::v3())));
    assert_eq!(seen.header("X-User-Name"), None);
    assert_eq!(seen.header("X-Authorization").as_deref(), Some("Proxy user_name1"));
}
