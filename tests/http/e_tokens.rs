//! What stands in a token that the identity service judges, in its answer, and in logs.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{self, new_fernet, new_jws, new_uuid, Payload};
use keystone_testbed::nginx::was_built_with;
use keystone_testbed::world::World;
use serde_json::json;

#[test]
fn what_is_longer_than_any_token_causes_no_request() {
    let world = World::setup().start();
    for (length, asked) in [(8_000, 1), (8_001, 0), (60_000, 0)] {
        world.identity.forget_requests();
        let token = "x".repeat(length);
        let answer = world.send(&Request::get("/").token(&token));
        expect::refused(&answer);
        assert_eq!(world.identity.validations().len(), asked, "{length}");
        let result = if asked == 1 { "unknown_token" } else { "malformed" };
        assert_eq!(answer.header("X-Result"), Some(result), "{length}");
    }
}

/// A token with so many services in its catalog.
fn with_services(services: usize) -> Payload {
    let endpoint = |n| json!({"interface": "public", "region": "r", "url": format!("http://{n}")});
    let catalog: Vec<_> = (0..services)
        .map(|n| json!({"type": format!("t{n}"), "name": "n", "endpoints": [endpoint(n)]}))
        .collect();
    Payload::v3().with("/catalog", json!(catalog))
}

/// A token with so many roles.
fn with_roles(roles: usize) -> Payload {
    let roles: Vec<_> = (0..roles)
        .map(|n| json!({"id": format!("{n:032}"), "name": format!("a-role-with-a-name-{n:05}")}))
        .collect();
    Payload::v3().with("/roles", json!(roles))
}

#[test]
fn an_identity_of_64_kilobytes_has_a_place_in_the_cache() {
    let world = World::setup().set("keystone_include_service_catalog", "on").start();
    for payload in [
        with_services(100),
        with_services(400),
        with_services(700),
        with_roles(400),
        with_roles(1_000),
    ] {
        world.identity.forget_requests();
        let token = world.uuid(&payload);
        for cache in ["MISS", "HIT", "HIT"] {
            let answer = world.send(&Request::get("/files/hello.txt").token(&token));
            assert_eq!((answer.status, answer.header("X-Cache")), (200, Some(cache)));
        }
        assert_eq!(world.identity.validations().len(), 1);
        // Also for another worker.
        world.nginx.reload().unwrap();
        let answer = world.send(&Request::get("/files/hello.txt").token(&token));
        assert_eq!(answer.header("X-Cache"), Some("HIT"));
    }
    assert!(!world.nginx.error_log().contains("has no place in the cache"));
}

#[test]
fn an_identity_without_a_place_in_the_cache_is_told_and_passes() {
    for (payload, part) in [(with_services(1_000), "service catalog"), (with_roles(4_000), "roles")]
    {
        let world = World::setup().set("keystone_include_service_catalog", "on").start();
        let token = world.uuid(&payload);
        for asked in 1..=3 {
            let answer = world.send(&Request::get("/files/hello.txt").token(&token));
            assert_eq!(answer.status, 200);
            assert_eq!(world.identity.validations().len(), asked);
        }
        let line = world.nginx.wait_for_log("has no place in the cache").unwrap();
        assert!(line.contains("[warn]") && line.contains(&format!("part: {part}, ")), "{line}");
    }
}

#[test]
fn odd_characters_never_make_another_request() {
    let odd: [&[u8]; 24] = [
        b"revoked",
        b".",
        b"..",
        b"../x",
        b"../certificates/signing",
        b"..%2f..%2fv3",
        b"a/b",
        b"a//b",
        b"/a",
        b"a/",
        b"%2e",
        b"%2e%2e",
        b"%",
        b"a?b",
        b"?x=1",
        b"a#b",
        b"a;b",
        b"a\\b",
        b"a b",
        b"a\tb",
        "t\u{f6}ken".as_bytes(),
        b"t\xf6ken",
        b"\xff\xfe",
        b"a\"b",
    ];
    for version in ["v2.0", "v3"] {
        let world = World::setup().set("keystone_auth_version", version).start();
        for token in odd {
            let answer = world.send(&Request::get("/").header("X-Auth-Token", token));
            let shown = String::from_utf8_lossy(token);
            assert_eq!(answer.status, 401, "{version} {shown}");
            expect::refused(&answer);
            let result = answer.header("X-Result").unwrap();
            assert!(["unknown_token", "malformed"].contains(&result), "{shown}: {result}");
        }
        let requests = world.identity.requests();
        let plain = |request: &String| match version {
            "v3" => request == "GET /v3/auth/tokens?nocatalog",
            // None of them can be a segment of a path.
            _ => false,
        };
        assert!(requests.iter().all(plain), "{requests:?}");
        assert!(world.upstream.requests().is_empty());
    }
}

#[test]
fn v3_asks_about_any_visible_characters() {
    let world = World::setup().set("keystone_auth_version", "v3").start();
    for token in ["revoked", "../x", "a/b", "%2e", "a?b&c=d", "a;b,c", "\"x\"", "~!@$^*()"] {
        world.identity.know(token, &Payload::v3());
        assert_eq!(world.status(token), 200, "{token}");
        assert_eq!(world.identity.validations().last().unwrap(), token);
    }
}

#[test]
fn v2_asks_about_what_is_a_segment_of_a_path() {
    let world = World::setup().set("keystone_auth_version", "v2.0").start();
    for token in ["a", "Revoked", "revoked.", "...x", "a+b=", "a-b_c.d~e", &"x".repeat(8000)] {
        world.identity.know(token, &Payload::v2());
        assert_eq!(world.status(token), 200, "{token}");
        assert_eq!(world.identity.validations().last().unwrap(), token);
    }
}

#[test]
fn storage_token() {
    let world = World::setup().start();
    let (token, other) = (world.uuid(&Payload::v3()), new_uuid());
    let seen = world.seen(&Request::get("/").header("X-Storage-Token", &token));
    expect::v3_user(&seen);
    assert_eq!(seen.header("X-Storage-Token"), Some(token.clone()));
    let both = Request::get("/").header("X-Storage-Token", &token).token(&other);
    expect::refused(&world.send(&both));
    assert_eq!(world.identity.validations(), [token, other]);
}

#[test]
fn names_that_are_not_ascii() {
    let world = World::setup().start();
    let payload = Payload::v3()
        .user("user_id1", "Ren\u{e9} \u{1f600}")
        .project("tenant_id1", "\u{43f}\u{440}\u{43e}\u{435}\u{43a}\u{442}")
        .roles(&["r\u{f4}le", "with,comma", "plain"]);
    for _ in 0..2 {
        let token = world.uuid(&payload);
        for _ in 0..2 {
            let seen = world.seen(&Request::get("/").token(&token));
            let header = |name: &str| seen.header(name).unwrap();
            assert_eq!(header("X-User-Name"), "Ren\u{e9} \u{1f600}");
            assert_eq!(header("X-Project-Name"), "\u{43f}\u{440}\u{43e}\u{435}\u{43a}\u{442}");
            assert_eq!(header("X-Roles"), "r\u{f4}le,plain");
        }
    }
    world.nginx.wait_for_log("role \"with,comma\" is left out").unwrap();
}

#[test]
fn names_with_control_characters() {
    let world = World::setup().start();
    let smuggled = "x\r\nX-Roles: admin";
    let payloads = [
        Payload::v3().user("user_id1", smuggled),
        Payload::v3().user("user\u{0}id", "x"),
        Payload::v3().project("tenant_id1", smuggled),
        Payload::v3().roles(&["role1", "role\n2"]),
        Payload::v3().with("/user/domain/name", json!("\u{7f}")),
    ];
    for payload in &payloads {
        let token = world.uuid(payload);
        for cache in ["MISS", "HIT"] {
            let answer = world.send(&Request::get("/").token(&token));
            expect::refused(&answer);
            assert_eq!(answer.header("X-Result"), Some("malformed"));
            assert_eq!(answer.header("X-Cache"), Some(cache));
        }
        expect::no_identity(&world.seen(&Request::get("/delay/").token(&token)));
    }
    assert_eq!(world.identity.validations().len(), payloads.len());
}

#[test]
fn a_token_with_many_roles_and_a_large_catalog() {
    let roles: Vec<String> = (0..200).map(|n| format!("a-rather-long-role-{n:03}")).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3().roles(&roles).padded(900_000));
    for _ in 0..2 {
        let seen = world.seen(&Request::get("/").token(&token));
        assert_eq!(seen.header("X-Roles"), Some(roles.join(",")));
    }
    assert_eq!(world.identity.validations(), [token]);
}

#[test]
fn each_token_has_its_own_answer() {
    let world = World::setup().workers(2).start();
    let users: Vec<_> = (0..40)
        .map(|n| {
            let (user, project) = (format!("user{n}"), format!("project{n}"));
            let payload = Payload::v3().user(&user, &user).project(&project, &project);
            (user, world.uuid(&payload))
        })
        .collect();
    for _ in 0..3 {
        for (user, token) in &users {
            let seen = world.seen(&Request::get("/").token(token));
            assert_eq!(seen.header("X-User-Id").as_deref(), Some(user.as_str()));
        }
    }
    // Almost the same text is another token.
    let token = &users[0].1;
    for other in [token.to_uppercase(), token[..31].to_owned(), format!("{token}0")] {
        let expected = if other == *token { 200 } else { 401 };
        assert_eq!(world.status(&other), expected, "{other}");
    }
}

#[test]
fn variables_in_an_access_log() {
    let format = "log_format online '$keystone_token_format|$keystone_cache_status|\
        $keystone_auth_result|$keystone_identity_status|$keystone_user_id|$keystone_token_id';
        access_log @DIR@/online.log online;";
    let mut world = World::setup().config(|config| config.http(format)).start();
    let formats = [
        ("uuid", [new_uuid(), new_uuid()]),
        ("fernet", [new_fernet(), new_fernet()]),
        ("jws", [new_jws(), new_jws()]),
        ("unknown", [format!("x{}", new_uuid()), format!("{}k", new_uuid())]),
    ];
    let mut expected = Vec::new();
    for (format, [token, known]) in &formats {
        let id = mint::md5(token);
        world.send(&Request::get("/").token(token));
        expected.push(format!("{format}|MISS|unknown_token|Invalid|-|{id}"));
        world.send(&Request::get("/").token(token));
        expected.push(format!("{format}|HIT|unknown_token|Invalid|-|{id}"));
        let id = mint::md5(known);
        world.identity.know(known, &Payload::v3());
        for cache in ["MISS", "HIT"] {
            assert_eq!(world.status(known), 200);
            expected.push(format!("{format}|{cache}|ok|Confirmed|user_id1|{id}"));
        }
    }
    world.identity.stop();
    let token = new_uuid();
    assert_eq!(world.status(&token), 503);
    let id = mint::md5(&token);
    expected.push(format!("uuid|MISS|identity_unavailable|Invalid|-|{id}"));

    let lines = keystone_testbed::wait_for("the lines in the log", || {
        let log = std::fs::read_to_string(world.nginx.dir().join("online.log")).ok()?;
        let lines: Vec<_> =
            log.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect();
        (lines.len() >= expected.len()).then_some(lines)
    });
    assert_eq!(lines.unwrap(), expected);
}

/// Keystone's own error messages name the token, and so do broken answers.
#[test]
fn a_tokens_text_is_in_no_log() {
    if !was_built_with("--with-debug") {
        return;
    }
    let mut tokens = Vec::new();
    for version in ["v2.0", "v3"] {
        let world = World::setup()
            .config(|config| config.debug())
            .set("keystone_auth_version", version)
            .set("keystone_http_request_max_retries", "1")
            .start();
        let payload = if version == "v3" { Payload::v3() } else { Payload::v2() };
        let service = world.uuid(&payload.clone().roles(&["service"]));
        let mut send = |token: String| {
            let request = Request::get("/").token(&token).header("X-Service-Token", &service);
            tokens.push(token);
            world.send(&request).status
        };
        assert_eq!(send(world.uuid(&payload)), 200);
        assert_eq!(send(new_uuid()), 401);
        assert_eq!(send(world.uuid(&payload.clone().user("u", "n\n"))), 401);
        let quoting: [&dyn Fn(&str) -> String; 6] = [
            &|token| json!({"error": {"message": token, "code": 404}}).to_string(),
            &|token| token.to_owned(),
            &|token| json!({"token": token, "access": token}).to_string(),
            &|token| json!({"token": {"user": token}, "access": {"token": token}}).to_string(),
            &|token| json!({ token: token }).to_string(),
            &|token| {
                format!("{{\"token\": {{\"user\": {{\"{token}\": 1, \"{token}\": 2}}}} {token}")
            },
        ];
        for quote in quoting {
            for status in [None, Some(500), Some(403), Some(404)] {
                let token = world.uuid(&payload);
                let text = quote(&token);
                if let Some(status) = status {
                    world.identity.fault_validations(Fault::Status(status));
                }
                let is_refusal = status == Some(404) && text.contains("error");
                world.identity.fault_validations(Fault::Body(text.into_bytes()));
                let expected = if is_refusal { 401 } else { 503 };
                assert_eq!(send(token), expected, "{status:?}");
                world.identity.heal();
            }
        }
        world.identity.fault_validations(Fault::Garbage);
        assert_eq!(send(new_uuid()), 503);
        tokens.push(service);
        // nginx itself writes the headers of a request into its debug log.
        let log = world.nginx.error_log();
        let levels = ["[info]", "[notice]", "[warn]", "[error]", "[crit]", "[alert]"];
        let ours = |line: &&str| {
            line.contains("keystone") || levels.iter().any(|level| line.contains(level))
        };
        let ours: Vec<_> = log.lines().filter(ours).collect();
        assert!(ours.iter().any(|line| line.contains("[debug]") && line.contains("status 404")));
        for line in ours {
            assert!(!tokens.iter().any(|token| line.contains(&token[8..24])), "{line}");
        }
    }
}
