//! What a client puts into its request line and headers.

use keystone_testbed::expect::{self, IDENTITY_HEADERS};
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::World;

/// A header's name as CGI and its like hand it on: every byte that is neither letter nor digit is
/// one character.
fn folded(name: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(fold).collect()
}

/// The upstream was sent each identity header that is `expected`, under its own name, and nothing
/// that it could take for another.
#[track_caller]
fn nothing_but(seen: &Seen, expected: &[(&str, &str)]) {
    let ours: Vec<String> = IDENTITY_HEADERS.iter().map(|name| folded(name)).collect();
    let mut sent: Vec<_> = seen
        .headers
        .iter()
        .filter(|(name, _)| ours.contains(&folded(name)))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect();
    sent.sort();
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(sent, expected);
}

fn user() -> Vec<(&'static str, &'static str)> {
    [&expect::V2_USER[..], &expect::V3_DOMAINS].concat()
}

/// CVE-2026-22797: external_oauth2_token of keystonemiddleware left a client's identity headers in
/// the request, so that a user of any kind could be an administrator. Here all of them are removed,
/// also those that the token has no value for.
#[test]
fn cve_2026_22797_identity_headers_of_a_client_with_a_token() {
    let world = World::setup().offline().start();
    let forge = |mut request: Request| {
        for name in IDENTITY_HEADERS {
            request = request.header(name, "admin").header(name.to_uppercase(), "True");
        }
        request
    };
    for token in [world.pki(&Payload::v3()), world.uuid(&Payload::v3())] {
        nothing_but(&world.seen(&forge(Request::get("/")).token(&token)), &user());
        nothing_but(&world.seen(&forge(Request::get("/delay/").token(&token))), &user());
    }
    nothing_but(&world.seen(&forge(Request::get("/delay/"))), &[expect::NO_USER]);
    expect::refused(&world.send(&forge(Request::get("/"))));
}

/// CVE-2025-64484: oauth2-proxy removed `X-Forwarded-User` of a client and left `X_Forwarded_User`,
/// which WSGI and PHP cannot tell from it. Here a name is removed however its words are joined,
/// also where nginx is told to let odd names pass.
#[test]
fn cve_2025_64484_identity_headers_in_other_spellings() {
    let world = World::setup()
        .offline()
        .config(|config| config.server("underscores_in_headers on; ignore_invalid_headers off;"))
        .start();
    let token = world.pki(&Payload::v3());
    for joint in ["_", "-", ".", "~", "!", "+", "*", "'", "|", "^", "`", "$", "%", "&", "#", "/"] {
        let forge = |mut request: Request| {
            for name in IDENTITY_HEADERS {
                request = request.header(name.replace('-', joint), "admin");
                // Some of them joined so.
                request = request.header(name.replacen('-', joint, 1), "admin");
            }
            request
        };
        let seen = world.seen(&forge(Request::get("/").token(&token)));
        nothing_but(&seen, &user());
        nothing_but(&world.seen(&forge(Request::get("/delay/"))), &[expect::NO_USER]);
    }
}

/// CVE-2014-3497: Swift put the path of a request into `WWW-Authenticate`, unescaped, and so a
/// script of an attacker's into a victim's browser. Here nothing that a client sends is in a
/// refusal.
#[test]
fn cve_2014_3497_nothing_of_the_request_is_in_a_refusal() {
    let world = World::setup()
        .offline()
        .location(
            "/v1/",
            "keystone_auth on; keystone_swift_auth on; keystone_forward_token off;
             proxy_pass @UPSTREAM@;",
        )
        .location(
            "/admin/",
            "keystone_auth on; keystone_require_role admin; proxy_pass @UPSTREAM@;",
        )
        .start();
    let script = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E%0d%0aX-Evil:%201";
    for prefix in ["/", "/v1/AUTH_", "/delay/../", "/v1/"] {
        let target = format!("{prefix}{script}?{script}");
        let request = Request::get(&target)
            .header("Host", "\"><script>")
            .header("Referer", "\"><script>")
            .token("\"><script>alert(1)</script>");
        for request in [Request::get(&target), request] {
            let answer = world.send(&request);
            // nginx itself may refuse such a host; the module's refusal is always the same.
            assert!([400, 401].contains(&answer.status), "{target}: {}", answer.status);
            if answer.status == 401 {
                expect::refused(&answer);
            }
            let headers: Vec<_> = answer.headers.iter().collect();
            for (name, value) in headers {
                let text = format!("{name}: {}", String::from_utf8_lossy(value)).to_lowercase();
                assert!(!text.contains("script") && !text.contains("evil"), "{text}");
            }
            assert!(!answer.text().contains("script"), "{}", answer.text());
        }
    }
    let token = world.pki(&Payload::v3());
    let target = format!("/admin/{script}");
    expect::forbidden(&world.send(&Request::get(&target).token(&token)));
}

/// CVE-2025-54576: oauth2-proxy matched the paths that need no authentication with the query in
/// them, so `/secret?x=/public` passed. Here the location decides, and nginx finds it by the path
/// that is served; nothing that only looks like an open path opens another.
#[test]
fn cve_2025_54576_a_path_that_only_looks_like_an_open_one() {
    let world = World::setup()
        .offline()
        .location("~ /public/", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .location("~ \\.png$", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .start();
    for target in ["/public/x", "/x.png", "/x.png?y"] {
        assert_eq!(world.send(&Request::get(target)).status, 200, "{target}");
    }
    let open = world.upstream.requests().len();
    for target in [
        "/secret?x=/public/",
        "/secret?/public/x.png",
        "/secret?x=.png",
        "/secret?x=%2Fpublic%2F",
        "/secret#/public/",
        "/secret#x.png",
        "/public/../secret",
        "/public/%2e%2e/secret",
        "/public/x/..%2f..%2fsecret",
        "//public//../secret",
        "/public%00/",
        "/secret%23.png?",
        "http://localhost/secret?/public/",
    ] {
        let request = Request::get(target)
            .header("X-Forwarded-Uri", "/public/")
            .header("X-Original-URI", "/public/")
            .header("X-Original-URL", "/public/")
            .header("X-Rewrite-URL", "/public/");
        let answer = world.send(&request);
        // A path that ends in what is open is open; nginx itself refuses what is no path.
        let expected = if target.contains("%23.png") { vec![200] } else { vec![400, 401] };
        assert!(expected.contains(&answer.status), "{target}: {}", answer.status);
    }
    let requests = world.upstream.requests();
    assert!(requests[open..].iter().all(|request| request.target.contains("%23.png")));
}
