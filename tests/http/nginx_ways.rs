//! What nginx users expect of an access module.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, REVOCATION_LIST};
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{can_try_http_2, check, was_built_with};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::port::Port;
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::{World, AUTH_URI};

#[test]
fn satisfy_any() {
    let world = World::setup()
        .offline()
        .location("/allowed/", "satisfy any; allow all; keystone_auth on; proxy_pass @UPSTREAM@;")
        .location("/denied/", "satisfy any; deny all; keystone_auth on; proxy_pass @UPSTREAM@;")
        .location(
            "/basic/",
            "satisfy any; auth_basic realm; auth_basic_user_file @DIR@/users;
             keystone_auth on; proxy_pass @UPSTREAM@;",
        )
        .files(|dir| std::fs::write(dir.join("users"), "me:{PLAIN}secret\n").unwrap())
        .start();
    let token = world.pki(&Payload::v3());
    let get = |target: &str| world.send(&Request::get(target));
    let with_token = |target: &str| world.send(&Request::get(target).token(&token));
    assert_eq!(get("/allowed/").status, 200);
    assert_eq!(get("/allowed/").header("WWW-Authenticate"), None);
    assert_eq!(get("/denied/").status, 401);
    assert_eq!(with_token("/denied/").status, 200);
    expect::v3_user(&Seen::of(&with_token("/denied/")).unwrap());
    assert_eq!(with_token("/basic/").status, 200);
    let basic = Request::get("/basic/").header("Authorization", "Basic bWU6c2VjcmV0");
    assert_eq!(world.send(&basic).status, 200);
    let refused = get("/basic/");
    assert_eq!(refused.status, 401);
    let challenges: Vec<_> = refused.headers.all("WWW-Authenticate").collect();
    assert!(challenges.iter().any(|c| c.starts_with(b"Keystone")), "{challenges:?}");
    assert_eq!(get("/denied/").header("X-Result"), Some("no_token"));
}

#[test]
fn satisfy_any_does_not_let_forged_headers_in() {
    let world = World::setup()
        .location("/", "satisfy any; allow all; keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    let request =
        Request::get("/").header("X-Roles", "admin").header("X-Identity-Status", "Confirmed");
    let seen = world.seen(&request);
    expect::identity(&seen, &[]);
}

#[test]
fn satisfy_all() {
    let world = World::setup()
        .offline()
        .location("/", "satisfy all; deny all; keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 403);
    assert!(world.upstream.requests().is_empty());
}

#[test]
fn error_page() {
    let world = World::setup()
        .offline()
        .location(
            "/named/",
            "keystone_auth on; error_page 401 403 = @login; proxy_pass @UPSTREAM@;",
        )
        .location("@login", "return 302 /login;")
        .location(
            "/page/",
            "keystone_auth on; keystone_require_role admin;
             error_page 401 /open/own-401.html; error_page 403 /open/own-403.html;
             proxy_pass @UPSTREAM@;",
        )
        .location("= /open/own-401.html", "keystone_auth off; return 200 own-401;")
        .location("= /open/own-403.html", "keystone_auth off; return 200 own-403;")
        .location("/code/", "keystone_auth on; error_page 401 =404 /gone; proxy_pass @UPSTREAM@;")
        .location("= /gone", "return 200 gone;")
        .start();
    let answer = world.send(&Request::get("/named/x"));
    assert_eq!(answer.status, 302);
    assert!(answer.header("Location").unwrap().ends_with("/login"));
    let answer = world.send(&Request::get("/page/x"));
    assert_eq!((answer.status, answer.text().as_str()), (401, "own-401"));
    let challenge = format!("Keystone uri=\"{AUTH_URI}\"");
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge.as_str()));
    let answer = world.send(&Request::get("/page/x").token(&world.pki(&Payload::v3())));
    assert_eq!((answer.status, answer.text().as_str()), (403, "own-403"));
    let answer = world.send(&Request::get("/code/x"));
    assert_eq!((answer.status, answer.text().as_str()), (404, "gone"));
}

#[test]
fn error_page_that_is_protected_too() {
    let world = World::setup()
        .location("/", "keystone_auth on; error_page 401 503 /custom; proxy_pass @UPSTREAM@;")
        .start();
    expect::refused(&world.send(&Request::get("/x")));
    let token = world.uuid(&Payload::v3());
    world.identity.fault("/v3/auth/tokens", Fault::Status(503));
    let answer = world.send(&Request::get("/x").token(&token));
    expect::unavailable(&answer);
    assert_eq!(answer.headers.all("Retry-After").count(), 1);
    assert!(world.upstream.requests().is_empty());
}

#[test]
fn an_error_page_of_files_for_the_upstream() {
    let world = World::setup()
        .offline()
        .location(
            "/",
            "keystone_auth on; proxy_pass @UPSTREAM@; proxy_intercept_errors on;
             error_page 404 /files/hello.txt;",
        )
        .start();
    let answer = world.send(&Request::get("/status/404").token(&world.pki(&Payload::v3())));
    assert_eq!((answer.status, answer.text().as_str()), (404, "hello\n"));
}

#[test]
fn try_files_and_internal_redirects() {
    let world = World::setup()
        .offline()
        .location(
            "/try/",
            "keystone_auth on; rewrite ^/try/(.*) /$1 break; try_files /files$uri @behind;",
        )
        .location("@behind", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .location("/rewritten/", "keystone_auth off; rewrite ^/rewritten/(.*) /files/$1 last;")
        .location("= /index/", "keystone_auth on; index nothing.html; try_files $uri =404;")
        .start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/try/hello.txt").token(&token));
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
    let seen = world.seen(&Request::get("/try/missing").token(&token));
    expect::v3_user(&seen);
    expect::refused(&world.send(&Request::get("/try/hello.txt")));
    expect::refused(&world.send(&Request::get("/try/missing")));
    expect::refused(&world.send(&Request::get("/rewritten/hello.txt")));
    let answer = world.send(&Request::get("/rewritten/hello.txt").token(&token));
    assert_eq!(answer.text(), "hello\n");
}

#[test]
fn a_redirect_into_a_location_that_asks_for_more() {
    let world = World::setup()
        .offline()
        .location("/first/", "keystone_auth on; try_files $uri @second;")
        .location(
            "@second",
            "keystone_auth on; keystone_require_role admin; proxy_pass @UPSTREAM@;",
        )
        .location("/off/", "keystone_auth off; try_files $uri @second;")
        .start();
    let (user, admin) = (world.pki(&Payload::v3()), world.pki(&Payload::v3().roles(&["admin"])));
    for target in ["/first/x", "/off/x"] {
        expect::forbidden(&world.send(&Request::get(target).token(&user)));
        assert_eq!(world.send(&Request::get(target).token(&admin)).status, 200);
        expect::refused(&world.send(&Request::get(target)));
    }
}

#[test]
fn a_redirect_does_not_let_forged_headers_in() {
    let world = World::setup()
        .offline()
        .location("/off/", "keystone_auth off; try_files $uri @delay;")
        .location("@delay", "keystone_auth delay; proxy_pass @UPSTREAM@;")
        .location("/on/", "keystone_auth on; try_files $uri @proxy;")
        .location("@proxy", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .location("/twice/", "keystone_auth on; try_files $uri @again;")
        .location("@again", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    let forged =
        |target: &str| Request::get(target).header("X-Roles", "x").header("X_User_Id", "x");
    expect::no_identity(&world.seen(&forged("/off/a")));
    // Authenticated where auth is on; what was set there goes along.
    expect::v3_user(&world.seen(&forged("/on/a").token(&token)));
    // Set once, and not twice.
    expect::v3_user(&world.seen(&forged("/twice/a").token(&token)));
}

#[test]
fn authenticated_once_however_often_it_is_redirected() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "0")
        .set("keystone_token_cache_time", "off")
        .location("/a/", "keystone_auth on; try_files $uri @b;")
        .location("@b", "keystone_auth on; try_files $uri @c;")
        .location("@c", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    assert_eq!(world.send(&Request::get("/a/").token(&world.pki(&Payload::v3()))).status, 200);
    // One list for one authentication.
    assert_eq!(world.identity.count(REVOCATION_LIST), 1);
}

#[test]
fn limit_except() {
    let world = World::setup()
        .offline()
        .location(
            "/",
            "keystone_auth off; limit_except GET { keystone_auth on; } proxy_pass @UPSTREAM@;",
        )
        .start();
    assert_eq!(world.send(&Request::get("/")).status, 200);
    assert_eq!(world.send(&Request::head("/")).status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        expect::refused(&world.send(&Request::new(method, "/")));
        let request = Request::new(method, "/").token(&world.pki(&Payload::v3()));
        expect::v3_user(&Seen::of(&world.send(&request)).unwrap());
    }
}

#[test]
fn auth_request() {
    if !was_built_with("--with-http_auth_request_module") {
        return;
    }
    let world = World::setup()
        .offline()
        .location("/", "auth_request /check; proxy_pass @UPSTREAM@;")
        .location(
            "= /check",
            "internal; keystone_auth off; proxy_pass @UPSTREAM@/status/204;
             proxy_pass_request_body off; proxy_set_header Content-Length \"\";",
        )
        .location("/both/", "auth_request /check; keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    assert_eq!(world.send(&Request::get("/")).status, 200);
    let token = world.pki(&Payload::v3());
    expect::v3_user(&world.seen(&Request::get("/both/").token(&token)));
    expect::refused(&world.send(&Request::get("/both/")));
}

#[test]
fn a_gateway_that_others_ask_by_auth_request() {
    if !was_built_with("--with-http_auth_request_module") {
        return;
    }
    // Another nginx asks this one, as it would ask auth_token behind uwsgi.
    let world = World::setup()
        .offline()
        .location("= /auth", "keystone_auth on; try_files /files/hello.txt =404;")
        .start();
    let outer = keystone_testbed::nginx::Config::without_module()
        .location("/", "auth_request /ask; root @DIR@/html; try_files /x.txt =404;")
        .location(
            "= /ask",
            &format!("internal; proxy_pass http://{}/auth;", world.nginx.address()),
        );
    let dir = keystone_testbed::temp::TempDir::new("outer").unwrap();
    std::fs::create_dir(dir.join("html")).unwrap();
    std::fs::write(dir.join("html/x.txt"), "outer\n").unwrap();
    let port = Port::free().unwrap();
    let outer = keystone_testbed::nginx::Nginx::start_in(dir, port, &outer).unwrap();
    let answer = outer.send(&Request::get("/")).unwrap();
    assert_eq!(answer.status, 401);
    let challenge = format!("Keystone uri=\"{AUTH_URI}\"");
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge.as_str()));
    let request = Request::get("/").token(&world.pki(&Payload::v3()));
    assert_eq!(outer.send(&request).unwrap().text(), "outer\n");
}

#[test]
fn subrequests_of_a_page_need_no_other_token() {
    let world = World::setup()
        .offline()
        .location("/ssi/", "keystone_auth on; ssi on; ssi_types text/plain;")
        .files(|dir| {
            std::fs::create_dir_all(dir.join("html/ssi")).unwrap();
            let text = "[<!--#include virtual=\"/files/hello.txt\" -->]";
            std::fs::write(dir.join("html/ssi/page.txt"), text).unwrap();
        })
        .start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/ssi/page.txt").token(&token));
    assert_eq!((answer.status, answer.text().as_str()), (200, "[hello\n]"));
    expect::refused(&world.send(&Request::get("/ssi/page.txt")));
}

#[test]
fn head_and_conditional_and_range_requests() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::head("/files/hello.txt").token(&token));
    assert_eq!((answer.status, answer.header("Content-Length")), (200, Some("6")));
    let range = Request::get("/files/hello.txt").token(&token).header("Range", "bytes=1-3");
    let answer = world.send(&range);
    assert_eq!((answer.status, answer.text().as_str()), (206, "ell"));
    let range = Request::get("/files/hello.txt").header("Range", "bytes=1-3");
    expect::refused(&world.send(&range));
    let whole = world.send(&Request::get("/files/hello.txt").token(&token));
    let tag = whole.header("ETag").unwrap();
    let request = Request::get("/files/hello.txt").token(&token).header("If-None-Match", tag);
    assert_eq!(world.send(&request).status, 304);
    let request = Request::get("/files/hello.txt").header("If-None-Match", tag);
    expect::refused(&world.send(&request));
}

#[test]
fn keep_alive_over_answers_of_all_kinds() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let mut client = world.nginx.connect().unwrap();
    for _ in 0..3 {
        expect::refused(&client.send(&Request::get("/")).unwrap());
        assert_eq!(client.send(&Request::head("/")).unwrap().status, 401);
        let post = Request::new("POST", "/").body(&[b'x'; 20_000]);
        expect::refused(&client.send(&post).unwrap());
        let answer = client.send(&post.clone().token(&token)).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(client.send(&Request::get("/").token(&token)).unwrap().status, 200);
        let file = client.send(&Request::get("/files/hello.txt").token(&token)).unwrap();
        assert_eq!(file.text(), "hello\n");
    }
    let bodies: Vec<_> = world.upstream.requests().iter().map(|r| r.body.len()).collect();
    assert_eq!(bodies.iter().filter(|length| **length == 20_000).count(), 3);
}

#[test]
fn pipelined_requests() {
    let world = World::setup().start();
    let token = world.pki(&Payload::v3());
    let mut client = world.nginx.connect().unwrap();
    let good = format!("GET /files/hello.txt HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n");
    let bad = "GET /files/hello.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    // The first one waits for the identity service; the others wait behind it.
    client.write([&good, bad, &good, bad].concat().as_bytes()).unwrap();
    for expected in [200, 401, 200, 401] {
        assert_eq!(client.read(false).unwrap().status, expected);
    }
}

#[test]
fn a_body_that_comes_while_the_request_waits() {
    let world = World::setup().start();
    let token = world.pki(&Payload::v3());
    let body = vec![b'b'; 300_000];
    let answer = world.send(&Request::new("PUT", "/put").token(&token).body(&body));
    assert_eq!(answer.status, 200);
    assert_eq!(world.upstream.requests()[0].body, body);
}

#[test]
fn http_2() {
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
    let world = World::setup().offline().config(|config| config.http(&server)).start();
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--http2", "--cacert"]).arg(files.ca()).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let url = format!("https://{}/files/hello.txt", port.address());
    let refused = curl(&["-i", &url]);
    assert!(refused.starts_with("HTTP/2 401"), "{refused}");
    let challenge = format!("www-authenticate: Keystone uri=\"{AUTH_URI}\"");
    assert!(refused.contains(&challenge), "{refused}");
    assert!(refused.ends_with("requires authentication.\"}}"), "{refused}");
    for token in [world.pki(&Payload::v3()), world.pkiz(&Payload::v2())] {
        let header = format!("X-Auth-Token: {token}");
        assert_eq!(curl(&["-H", &header, &url]), "hello\n");
        // Many streams on one connection.
        assert_eq!(curl(&["-Z", "-H", &header, &url, &url, &url, &url]), "hello\n".repeat(4));
        let again = format!("x-auth-token: {token}");
        let status = ["-o", "/dev/null", "-w", "%{http_code}"];
        let twice = curl(&[&status[..], &["-H", &header, "-H", &again, &url]].concat());
        assert_eq!(twice, "400");
    }
    let head = curl(&["-I", &url]);
    assert!(head.starts_with("HTTP/2 401") && head.contains("content-length: 114"), "{head}");
}

#[test]
fn configurations_that_make_no_sense_are_reported_and_do_not_crash() {
    let base = keystone_testbed::nginx::Config::protected;
    for odd in [
        base().location("/if/", "if ($arg_x) { keystone_auth on; }"),
        base().server("keystone_auth on; return 200 x;"),
        base().http("upstream u { server 127.0.0.1:1; keystone_auth on; }"),
        base().main("keystone_auth on;"),
    ] {
        check(&odd).unwrap();
    }
}

/// nginx leads a request whose client has left to the location of `post_action`. The answer that it
/// has waited for must not lead it back, which would ask the upstream of that location twice.
#[test]
fn a_request_that_post_action_has_taken_waits_no_longer() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let done = format!("internal; proxy_pass http://{};", slow.local_addr().unwrap());
    let world = World::setup()
        .location("/api/", "keystone_auth on; post_action /done; proxy_pass @UPSTREAM@;")
        .location("= /done", &done)
        .start();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in slow.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(2));
                drop(stream);
            });
        }
    });
    let gate = world.identity.hold_validations();
    let mut client = world.nginx.connect().unwrap();
    let token = world.uuid(&Payload::v3());
    client.write(&Request::get("/api/x").token(&token).bytes()).unwrap();
    world.wait_for_validations(1);
    drop(client);
    let once = || (asked.load(Ordering::SeqCst) == 1).then_some(());
    wait_for("the location of post_action", once).unwrap();
    gate.open();
    world.identity.heal();
    assert_eq!(world.status(&token), 200);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
