//! Requests that nginx has set up in part only when it enters the module: HTTP/0.9, and request
//! lines that it refuses and `error_page` redirects into a location.

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{exchange, was_built_with};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::port::Port;
use keystone_testbed::world::{Setup, World};

use crate::http2;

/// Locations in which each of the module's ways in is met.
fn setup() -> Setup {
    World::setup()
        .location("/page/", "keystone_auth delay; rewrite ^ /files/hello.txt break;")
        .location("/swift/", "keystone_auth delay; keystone_swift_auth on; proxy_pass @UPSTREAM@;")
        .location("/v1/", "keystone_auth delay; keystone_swift_auth on;")
        .location("/status", "keystone_status;")
        .location("/roles/", "keystone_auth delay; keystone_require_role admin; return 200 no;")
        .location(
            "/hidden/",
            "keystone_auth delay; keystone_forward_token off; proxy_pass @UPSTREAM@;",
        )
        .location("/named/", "keystone_auth on; error_page 401 = @named;")
        .location("@named", "keystone_auth delay; proxy_pass @UPSTREAM@;")
        .location("/login/", "keystone_auth on; error_page 401 =200 /delay/login;")
        .config(|config| config.http(&log_format()))
}

/// Every variable, and so the log phase of every request.
fn log_format() -> String {
    let names = [
        "audit_id",
        "auth_result",
        "cache_status",
        "domain_id",
        "expires_at",
        "identity_status",
        "project_id",
        "roles",
        "service_roles",
        "service_user_id",
        "swift_account",
        "swift_container",
        "swift_object",
        "token_format",
        "token_id",
        "user_id",
        "user_name",
    ];
    let variables: Vec<_> = names.iter().map(|name| format!("$keystone_{name}")).collect();
    format!(
        "log_format keystone '{} $http_x_user_id $status';\naccess_log @DIR@/all.log keystone;",
        variables.join(" ")
    )
}

/// The same workers as before, and nothing that nginx would call an alert.
#[track_caller]
fn assert_alive(world: &World, workers: &[i32], what: &[u8]) {
    let what = what.escape_ascii();
    assert_eq!(world.nginx.worker_pids(), workers, "{what}: {}", world.nginx.error_log());
    let log = world.nginx.error_log();
    assert!(!log.contains("[alert]") && !log.contains("[crit]"), "{what}: {log}");
}

const TARGETS: [&str; 12] = [
    "/",
    "/delay/",
    "/open/",
    "/files/hello.txt",
    "/page/",
    "/swift/v1/AUTH_a/c",
    "/v1/AUTH_a/c/o",
    "/status",
    "/roles/",
    "/hidden/",
    "/named/",
    "/login/",
];

#[test]
fn a_request_of_http_0_9() {
    let world = setup().start();
    let workers = world.nginx.worker_pids();
    for target in TARGETS {
        for line in [format!("GET {target}\r\n"), format!("GET {target}\n")] {
            let answer = world.nginx.exchange_one(line.as_bytes()).unwrap();
            assert!(!answer.is_empty(), "{line:?}");
            assert_alive(&world, &workers, line.as_bytes());
        }
    }
    // HTTP/0.9 has no headers, so the request has no identity, and the upstream sees this.
    let answer = world.nginx.exchange_one(b"GET /delay/x\r\n").unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains(r#"["X-Identity-Status","Invalid"]"#), "{answer}");
    let refused = world.nginx.exchange_one(b"GET /files/hello.txt\r\n").unwrap();
    assert!(String::from_utf8_lossy(&refused).contains("requires authentication"));
    let headers = world.upstream.requests().last().map(|request| request.headers.clone()).unwrap();
    assert_eq!(headers.text("X-Identity-Status"), Some("Invalid"));
}

#[test]
fn headers_behind_a_line_of_http_0_9_are_ignored() {
    let world = setup().start();
    let workers = world.nginx.worker_pids();
    let bytes = b"GET /delay/x\r\nX-User-Id: evil\r\nX-Identity-Status: Confirmed\r\n\r\n";
    let answer = world.nginx.exchange_one(bytes).unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("evil"));
    assert_alive(&world, &workers, bytes);
}

#[test]
fn a_request_line_that_is_refused_and_redirected_into_a_location() {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300_000));
    let lines: &[&[u8]] = &[
        b"garbage\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"G@T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1x\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\n\r\n",
        b"GET /../../x HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: z\r\n\r\n",
        b"GET / HTTP/1.0\r\nX-User-Id: evil\r\nContent-Length: -1\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        long.as_bytes(),
    ];
    for page in
        ["/delay/error", "/page/", "/files/", "/status", "/v1/AUTH_a/c/o", "@named", "/named/"]
    {
        let error_page = format!("error_page 400 405 414 494 501 505 {page};");
        let world = setup().config(|config| config.server(&error_page)).start();
        let workers = world.nginx.worker_pids();
        for line in lines {
            world.nginx.exchange(line).unwrap();
            assert_alive(&world, &workers, &line[..line.len().min(80)]);
        }
        for request in world.upstream.requests() {
            assert_eq!(request.headers.text("X-Identity-Status"), Some("Invalid"), "{page}");
            assert_eq!(request.headers.text("X-User-Id"), None, "{page}");
        }
    }
}

#[test]
fn delay_in_the_whole_server() {
    let world = World::setup()
        .set("keystone_auth", "delay")
        .config(|config| {
            config
                .server("error_page 400 414 505 /error.html;")
                .location("= /error.html", "return 200 sorry;")
                .http(&log_format())
        })
        .start();
    let workers = world.nginx.worker_pids();
    for line in
        [&b"garbage\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n", b"\r\n\r\n", b"\n"]
    {
        world.nginx.exchange(line).unwrap();
        assert_alive(&world, &workers, line);
    }
}

#[test]
fn bytes_of_the_other_protocol() {
    if !was_built_with("--with-http_ssl_module") {
        return;
    }
    let files = TlsFiles::new().unwrap();
    let port = Port::free().unwrap();
    let tls = format!(
        "listen {} ssl; ssl_certificate {}; ssl_certificate_key {};
         error_page 400 495 496 497 /delay/error;",
        port.address(),
        files.path("server.pem").display(),
        files.path("server.key").display(),
    );
    let world = setup().config(|config| config.server(&tls)).start();
    let workers = world.nginx.worker_pids();
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"GET /\r\n", b"garbage\r\n\r\n"] {
        exchange(port.address(), bytes).unwrap();
        assert_alive(&world, &workers, bytes);
    }
    for line in [&b"GET /delay/x\r\n"[..], b"GET /files/hello.txt\r\n", b"garbage\r\n\r\n"] {
        let ca = files.ca();
        let mut client = Client::connect_tls(port.address(), "localhost", &ca, None).unwrap();
        client.write(line).unwrap();
        client.wait_for_answer().unwrap();
        assert_alive(&world, &workers, line);
    }
    assert!(!world.upstream.requests().is_empty());
    for request in world.upstream.requests() {
        assert_eq!(request.headers.text("X-Identity-Status"), Some("Invalid"));
    }
}

#[test]
fn a_request_of_http_2_with_pseudo_headers_that_are_refused() {
    if !was_built_with("--with-http_v2_module") {
        return;
    }
    let complete =
        [(":method", "GET"), (":scheme", "http"), (":path", "/delay/"), (":authority", "a")];
    let port = Port::free().unwrap();
    let lines = format!("listen {} http2; error_page 400 405 /delay/error;", port.address());
    let world = setup().config(|config| config.server(&lines)).start();
    let workers = world.nginx.worker_pids();
    for missing in 0..=complete.len() {
        for odd in [None, Some((":path", "no-slash")), Some((":method", "G T")), Some((":x", "y"))]
        {
            let mut fields = complete.to_vec();
            match odd {
                Some((":x", _)) => fields.extend(odd),
                Some((odd, value)) => {
                    fields.iter_mut().filter(|(name, _)| *name == odd).for_each(|it| it.1 = value);
                }
                None => {}
            }
            if missing < complete.len() {
                fields.remove(missing);
            }
            let bytes = http2::request(&fields);
            exchange(port.address(), &bytes).unwrap();
            assert_alive(&world, &workers, &bytes);
        }
    }
}

#[test]
fn a_reload_with_master_process_off_is_refused() {
    let world = World::setup()
        .offline()
        .config(|config| config.main("master_process off;").workers(0))
        .start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    let larger = world.config.clone().set("keystone_cache_zone", "zone=keystone:20m");
    world.nginx.write_config(&larger).unwrap();
    world.nginx.signal(libc::SIGHUP).unwrap();
    let line = world.nginx.wait_for_log("[emerg]").unwrap();
    assert!(line.contains("with \"master_process off\" nginx cannot be reloaded"), "{line}");
    // Tokens are still judged, and what the process does by itself goes on too.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(world.status(&token), 200);
    let answer = world.send(&Request::get("/").token("0123456789abcdef0123456789abcdef"));
    expect::refused(&answer);
}
