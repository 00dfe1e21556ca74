//! Identity headers of the client, in every spelling, do not reach an upstream.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::can_try_http_2;
use keystone_testbed::port::Port;
use keystone_testbed::world::World;

use super::forged;

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
