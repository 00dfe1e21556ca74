//! Section F of `docs/behaviour.md`: what an upstream is sent, and what comes back.

mod catalogs;
mod forged_headers;

use keystone_testbed::expect::{self, IDENTITY_HEADERS};
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::World;
use serde_json::json;

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
