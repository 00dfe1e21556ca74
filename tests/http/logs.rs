//! The error log has enough to follow one token, and never a secret.

use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, SERVICE_PASSWORD};
use keystone_testbed::mint::{self, Payload};
use keystone_testbed::nginx::was_built_with;
use keystone_testbed::wait_for;
use keystone_testbed::world::{stranger, World};

/// The lines of the module about refusals.
fn refusals(world: &World) -> Vec<String> {
    let log = world.nginx.error_log();
    let ours =
        |line: &&str| line.contains("keystone: refused") || line.contains("keystone: forbid");
    log.lines().filter(ours).map(str::to_owned).collect()
}

#[test]
fn one_line_a_refusal_with_reason_id_and_user() {
    let world = World::setup()
        .set("keystone_revocation_cache_time", "0")
        .location("/admin/", "keystone_auth on; keystone_require_role admin;")
        .start();
    let stranger = stranger();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    let cases = [
        ("expired", "/", world.pki(&Payload::v3().expires_in(-5)), true),
        ("revoked", "/", revoked, true),
        ("bad_signature", "/", Payload::v3().pki(&stranger.signing).unwrap(), false),
        ("malformed", "/", "MIInonsense".into(), false),
        ("bind", "/", world.pki(&Payload::v3().bind("kerberos", "A@B")), true),
        ("forbidden", "/admin/", world.pki(&Payload::v3()), true),
        ("unknown", "/", mint::new_uuid(), false),
    ];
    for (number, (word, target, token, user_known)) in cases.iter().enumerate() {
        assert_ne!(world.send(&Request::get(target).token(token)).status, 200, "{word}");
        let lines = refusals(&world);
        assert_eq!(lines.len(), number + 1, "{word}: {lines:?}");
        let line = &lines[number];
        assert!(line.contains("[info]"), "{line}");
        assert!(line.contains(word), "{word}: {line}");
        assert!(line.contains(&mint::md5(token)), "{word}: {line}");
        assert_eq!(line.contains("user_id1"), *user_known, "{word}: {line}");
    }
}

#[test]
fn a_refusal_from_the_cache_says_so_and_which_token_it_is() {
    let world = World::setup().start();
    let (unknown, user) = (mint::new_uuid(), world.uuid(&Payload::v3()));
    let (first, second) = (Request::get("/").token(&unknown), Request::get("/").token(&user));
    for request in [first, second.header("X-Service-Token", &unknown)] {
        for _ in 0..2 {
            assert_eq!(world.send(&request).status, 401);
        }
    }
    let cached = format!("unknown_token: cached, token: {}", mint::md5(&unknown));
    let log = world.nginx.error_log();
    for (refused, times) in [("refused", 1), ("service token refused", 2)] {
        assert_eq!(log.matches(&format!("keystone: {refused}: {cached}")).count(), times, "{log}");
    }
}

#[test]
fn a_valid_token_leaves_no_line() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    for _ in 0..3 {
        assert_eq!(world.status(&token), 200);
    }
    let log = world.nginx.error_log();
    assert!(!log.lines().any(|line| line.contains("keystone:") && line.contains("*")), "{log}");
}

#[test]
fn debug_lines_follow_a_token_through_its_steps() {
    if !was_built_with("--with-debug") {
        return;
    }
    let world = World::setup().config(|config| config.debug()).start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.status(&token), 200);
    let log = world.nginx.error_log();
    let steps: Vec<_> =
        log.lines().filter(|line| line.contains("[debug]") && line.contains("keystone:")).collect();
    assert!(steps.len() >= 8, "{steps:#?}");
    for word in ["format pki", "MISS", "HIT", "signature", "revoked", "user_id1"] {
        assert!(steps.iter().any(|line| line.contains(word)), "{word}: {steps:#?}");
    }
}

#[test]
fn no_secret_in_any_log_at_any_level() {
    let world = World::setup()
        .config(|config| config.debug())
        .logs_in()
        .set("keystone_revocation_cache_time", "0")
        .start();
    let stranger = stranger();
    let tokens = [
        world.pki(&Payload::v3()),
        world.pkiz(&Payload::v2()),
        world.pki(&Payload::v3().expires_in(-5)),
        Payload::v3().pki(&stranger.signing).unwrap(),
        mint::new_uuid(),
        format!("MII{}", mint::new_uuid().repeat(4)),
    ];
    for token in &tokens {
        world.send(&Request::get("/files/hello.txt").token(token));
        world.send(&Request::get("/delay/").header("X-Storage-Token", token));
    }
    world.identity.expire_service_tokens();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let issued: Vec<String> = world.identity.state().issued.keys().cloned().collect();
    assert!(!issued.is_empty());
    let log = world.nginx.error_log();
    // nginx itself writes the headers of a request into its debug log.
    let own = |line: &&str| line.contains("keystone");
    for line in log.lines().filter(own) {
        assert!(!line.contains(SERVICE_PASSWORD), "{line}");
        assert!(!issued.iter().any(|token| line.contains(token)), "{line}");
        for token in &tokens {
            assert!(!line.contains(token.as_str()), "{line}");
            let part = &token[token.len() / 2..][..token.len().min(16)];
            assert!(!line.contains(part), "{line}");
        }
    }
}

#[test]
fn failures_of_the_identity_service_are_logged_at_a_limited_rate() {
    let world = World::setup()
        .identity(|identity| identity.stop())
        .set("keystone_http_request_max_retries", "0")
        .start();
    for _ in 0..30 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 503);
        assert_eq!(world.status(&mint::new_uuid()), 503);
    }
    let log = world.nginx.error_log();
    let errors = log.lines().filter(|line| line.contains("[error]")).count();
    assert!((1..=10).contains(&errors), "{errors} lines for 60 requests:\n{log}");
    let unavailable = format!("identity service \"{}\" unavailable: ", world.identity.uri());
    let of_requests = log.lines().filter(|line| line.contains("[info]")).filter(|line| {
        line.contains(&unavailable) && line.contains(", token: ") && line.contains("client: ")
    });
    assert_eq!(of_requests.count(), 60, "{log}");
}

#[test]
fn failures_that_come_and_go_are_logged_once() {
    let world = World::setup().set("keystone_http_request_max_retries", "0").start();
    for _ in 0..20 {
        world.identity.fault_validations_times(1, Fault::Status(500));
        assert_eq!(world.status(&mint::new_uuid()), 503);
        assert_eq!(world.status(&mint::new_uuid()), 401);
    }
    let log = world.nginx.error_log();
    let told = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((told("[error]"), told("validates tokens again")), (1, 1), "{log}");
}

#[test]
fn what_a_client_sends_cannot_make_lines_of_its_own() {
    let world = World::setup().offline().start();
    let odd = [&b"MII\x01\x1b[2J"[..], b"MII\r", b"\x7f\x00\xff", "MII\u{2028}x".as_bytes()];
    for token in odd {
        let bytes = [b"GET / HTTP/1.1\r\nHost: x\r\nX-Auth-Token: ", token, b"\r\n\r\n"].concat();
        let mut client = world.nginx.connect().unwrap();
        client.write(&bytes).unwrap();
        let _ = client.read(false);
    }
    let log = std::fs::read(world.nginx.dir().join("error.log")).unwrap();
    let lines = log.split(|byte| *byte == b'\n');
    // nginx itself is less careful with a header line that it does not understand.
    let ours: Vec<_> =
        lines.filter(|line| line.windows(9).any(|word| word == b"keystone:")).collect();
    assert!(ours.len() >= 2, "{}", ours.len());
    assert!(!ours.concat().iter().any(|byte| matches!(byte, 0..=31 | 127)));
}

#[test]
fn the_log_formats_of_the_documentation() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks: Vec<_> =
        text.split("```nginx\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3);
    let lines = blocks.concat().replace("/var/log/nginx/", "@DIR@/doc-");
    let world = World::setup().config(|config| config.http(&lines)).start();
    let quoted = Payload::v3().user("user_id1", "a \"quoted\" name\\");
    world.seen(&Request::get("/").token(&world.pki(&quoted)));
    world.send(&Request::get("/?a=\"b"));
    let request = Request::get("/").token(&world.pki(&Payload::v3()));
    world.send(&request.header("X-Service-Token", "garbage"));
    let log = |name: &str| {
        // nginx writes a line after the answer.
        let read = || {
            let text = std::fs::read_to_string(world.nginx.dir().join(name)).unwrap();
            text.contains("bad_service_token").then_some(text)
        };
        wait_for(name, read).unwrap()
    };
    let json = log("doc-access.json.log");
    let json = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let by_result = |result: &str| json.clone().find(|line| line["result"] == result).unwrap();
    let passed = by_result("ok");
    assert_eq!(passed["user_name"], "a \"quoted\" name\\");
    assert_eq!((&passed["status"], &passed["format"]), (&200.into(), &"pki".into()));
    assert_eq!(by_result("no_token")["status"], 401);
    // Only requests that need an operator.
    let look = log("doc-keystone.log");
    assert!(look.lines().count() == 1 && look.contains("result=bad_service_token"), "{look}");
}
