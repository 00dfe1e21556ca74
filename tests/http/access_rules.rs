//! Tokens of application credentials with access rules: valid for what a rule allows.

use keystone_testbed::expect;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::Payload;
use keystone_testbed::world::{Setup, World};
use serde_json::{json, Value};

/// An object store behind `/v1/`, an image service behind `/images/`, and something that no
/// directive has named behind `/`.
fn services() -> Setup {
    let service = |kind: &str| {
        format!("keystone_auth on; keystone_service_type {kind}; proxy_pass @UPSTREAM@;")
    };
    World::setup()
        .offline()
        .location("/v1/", &service("object-store"))
        .location("/images/", &service("image"))
        .location("/both/", &service("image object-store"))
        .location("/served/", "keystone_auth on; keystone_service_type object-store;")
}

fn with_rules(rules: &Value) -> Payload {
    Payload::v3().access_rules(rules.clone())
}

fn rule(method: &str, path: &str) -> Value {
    json!({"id": "1", "service": "object-store", "method": method, "path": path})
}

fn ask(world: &World, token: &str, method: &str, target: &str) -> Response {
    world.send(&Request::new(method, target).token(token))
}

#[track_caller]
fn refused(world: &World, token: &str, method: &str, target: &str) {
    let answer = ask(world, token, method, target);
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("access_rules"), "{method} {target}");
    assert!(world.upstream.requests().is_empty(), "{method} {target}");
}

#[test]
fn a_rule_is_for_a_service_a_method_and_a_path() {
    let world = services().start();
    let token = world.pki(&with_rules(&json!([rule("GET", "/v1/AUTH_x/pub/**")])));
    refused(&world, &token, "PUT", "/v1/AUTH_x/pub/o");
    refused(&world, &token, "GET", "/v1/AUTH_x/other/o");
    refused(&world, &token, "GET", "/v1/AUTH_x/pub");
    refused(&world, &token, "GET", "/images/v1/AUTH_x/pub/o");
    for target in ["/v1/AUTH_x/pub/o", "/v1/AUTH_x/pub/a/b?query=../x", "/v1/AUTH_x/pub/"] {
        assert_eq!(ask(&world, &token, "GET", target).status, 200, "{target}");
    }
}

#[test]
fn the_same_for_a_token_that_keystone_has_validated() {
    let world = services().start();
    let token = world.uuid(&with_rules(&json!([rule("GET", "/v1/AUTH_x/pub/**")])));
    refused(&world, &token, "GET", "/v1/AUTH_x/other/o");
    for _ in 0..2 {
        assert_eq!(ask(&world, &token, "GET", "/v1/AUTH_x/pub/o").status, 200);
    }
    assert_eq!(world.identity.validations(), [token.as_str()]);
}

#[test]
fn wildcards_are_those_of_keystone() {
    let world = services().start();
    let token = world
        .pki(&with_rules(&json!([rule("GET", "/v1/{account}/one/*"), rule("GET", "/v1/a.b/x")])));
    for target in ["/v1/a/one/o", "/v1/b/one/img-1"] {
        assert_eq!(ask(&world, &token, "GET", target).status, 200, "{target}");
    }
    assert_eq!(ask(&world, &token, "GET", "/v1/a.b/x").status, 200);
    let world = services().start();
    for target in ["/v1/a/one/o/p", "/v1/a/one/", "/v1/a/b/one/o", "/v1/aXb/x"] {
        refused(&world, &token, "GET", target);
    }
}

#[test]
fn without_a_service_type_such_a_token_is_good_for_nothing() {
    let world = services().start();
    let token = world.pki(&with_rules(&json!([rule("GET", "/**")])));
    refused(&world, &token, "GET", "/anything");
    refused(&world, &token, "GET", "/images/x");
    assert_eq!(ask(&world, &token, "GET", "/both/x").status, 200);
    assert_eq!(ask(&world, &token, "GET", "/v1/x").status, 200);
}

#[test]
fn a_token_without_rules_is_good_for_everything() {
    let world = services().start();
    for payload in [Payload::v3(), with_rules(&Value::Null)] {
        let token = world.pki(&payload);
        for target in ["/anything", "/v1/x", "/images/../v1/./x"] {
            assert_eq!(ask(&world, &token, "DELETE", target).status, 200, "{target}");
        }
    }
    let token = world.pki(&with_rules(&json!([])));
    let world = services().start();
    refused(&world, &token, "GET", "/v1/x");
}

#[test]
fn a_path_that_a_server_may_read_differently_is_refused() {
    let world = services().start();
    let token = world.pki(&with_rules(&json!([rule("GET", "/v1/AUTH_x/pub/**")])));
    for target in [
        "/v1/AUTH_x/other/../pub/o",
        "/v1/AUTH_x/pub/./o",
        "/v1/AUTH_x//pub/o",
        "/v1/AUTH_x/pub//o",
        "/v1/AUTH_x/pub/%2e%2e/pub/o",
        "/v1/AUTH_x/pub/.%2E/pub/o",
        "/v1/AUTH_x%2fpub/o",
        "/v1/AUTH_x/pub/a%2Fb",
        "/v1/AUTH_x/pub/a%5Cb",
        "/v1/AUTH_x/pub/a;b",
        "/v1/AUTH_x/pub/%252e%252e/x",
        "/v1/AUTH_x/pub/%C0%AE",
    ] {
        refused(&world, &token, "GET", target);
    }
    for target in ["/v1/AUTH_x/pub/my%20object", "/v1/%41UTH_x/pub/%D0%BF", "/v1/AUTH_x/pub/100%25"]
    {
        assert_eq!(ask(&world, &token, "GET", target).status, 200, "{target}");
    }
}

#[test]
fn files_are_judged_by_the_path_that_is_served() {
    let files = |dir: &std::path::Path| {
        for (name, text) in [("pub/o", "public"), ("secret/o", "secret")] {
            let path = dir.join("html/served").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    };
    let world = services().files(files).start();
    let token = world.pki(&with_rules(&json!([rule("GET", "/served/pub/*")])));
    assert_eq!(ask(&world, &token, "GET", "/served/pub/o").text(), "public");
    for target in ["/served/secret/o", "/served/pub/../secret/o", "/served/pub/%2e%2e/secret/o"] {
        let answer = ask(&world, &token, "GET", target);
        expect::refused(&answer);
    }
}

#[test]
fn a_service_that_hands_a_request_on_vouches_for_it() {
    let world = services().start();
    let token = world.pki(&with_rules(&json!([rule("GET", "/v1/AUTH_x/pub/**")])));
    let service = world.pki(&Payload::v3().roles(&["service"]));
    let user = world.pki(&Payload::v3().roles(&["member"]));
    let ask = |service: &str, target: &str| {
        let request = Request::new("PUT", target).token(&token).header("X-Service-Token", service);
        world.send(&request).status
    };
    assert_eq!(ask(&service, "/v1/AUTH_x/other"), 200);
    assert_eq!(ask(&user, "/v1/AUTH_x/other"), 401);
    assert_eq!(ask("garbage", "/v1/AUTH_x/other"), 401);
    // Also a service's word is none where nobody knows what is behind.
    assert_eq!(ask(&service, "/anything"), 401);
}

#[test]
fn a_redirect_is_judged_by_the_path_that_it_leads_to() {
    let to = "keystone_auth on; keystone_service_type object-store; proxy_pass @UPSTREAM@;";
    let world = services()
        .location("/rewritten/", "keystone_auth off; rewrite ^/rewritten/(.*)$ /target/$1 last;")
        .location("/target/", to)
        .start();
    let token = world.pki(&with_rules(&json!([rule("GET", "/target/pub/*")])));
    assert_eq!(ask(&world, &token, "GET", "/rewritten/pub/o").status, 200);
    let world = services()
        .location("/rewritten/", "keystone_auth off; rewrite ^/rewritten/x(.*)$ /target/$1 last;")
        .location("/target/", to)
        .start();
    for target in ["/rewritten/xother/o", "/rewritten/x../pub/o", "/rewritten/x/pub/o"] {
        refused(&world, &token, "GET", target);
    }
}

/// The snippet of docs/directives.md, as it stands there.
#[test]
fn rules_are_for_the_path_that_the_service_gets() {
    let text = include_str!("../../docs/directives.md");
    let (_, section) = text.split_once("\n### keystone_service_path\n").unwrap();
    let snippet = section.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
    let (map, server) = snippet.split_once("server {\n").unwrap();
    let (_, location) = server.split_once("location /compute/ {\n").unwrap();
    let location = location.split('}').next().unwrap();
    let location = location.replace("http://10.0.0.20:8774", "@UPSTREAM@");
    let world = World::setup()
        .offline()
        .http(map)
        .location("/compute/", &format!("keystone_auth on; {location}"))
        .start();
    let rule = |path: &str| json!({"id": "1", "service": "compute", "method": "GET", "path": path});
    let token = world.pki(&with_rules(&json!([rule("/v2.1/servers/*"), rule("/v2.1/my key")])));
    for target in ["/compute/v2.1/images/1", "/compute/compute/v2.1/servers/1", "/compute/"] {
        refused(&world, &token, "GET", target);
    }
    for target in
        ["/compute/x/../v2.1/servers/1", "/compute//v2.1/servers/1", "/compute/v2.1;/servers/1"]
    {
        refused(&world, &token, "GET", target);
    }
    let outer = world.pki(&with_rules(&json!([rule("/compute/v2.1/servers/*")])));
    refused(&world, &outer, "GET", "/compute/v2.1/servers/1");
    let seen = world.seen(&Request::get("/compute/v2.1/servers/1?limit=1").token(&token));
    assert_eq!(seen.target, "/v2.1/servers/1?limit=1");
    assert_eq!(ask(&world, &token, "GET", "/compute/v2.1/my%20key").status, 200);
    let unlimited = world.pki(&Payload::v3());
    assert_eq!(ask(&world, &unlimited, "GET", "/compute/x/../y").status, 200);
}

#[test]
fn a_service_path_that_is_none_allows_nothing_to_a_token_with_rules() {
    let service = |path: &str| {
        format!(
            "keystone_auth on; keystone_service_type object-store;
             keystone_service_path {path}; proxy_pass @UPSTREAM@;"
        )
    };
    let world = World::setup()
        .offline()
        .location("/value/", &service("$arg_path"))
        .location("/fixed/", &service("/v1/AUTH_x/pub/o"))
        .location("/except/", &format!("limit_except PUT {{ {} }}", service("/v1/AUTH_x/pub/o")))
        .location(
            "/outer/",
            &format!(
                "{} location /outer/inner/ {{ keystone_service_path $uri; proxy_pass @UPSTREAM@; }}",
                service("/v1/AUTH_x/pub/o")
            ),
        )
        .start();
    let token =
        world.pki(&with_rules(&json!([rule("GET", "/v1/AUTH_x/pub/**"), rule("GET", "**")])));
    for path in ["", "v1/AUTH_x/pub/o", "//v1", "/v1/../v2", "/v1/%41", "/v1\\x", "/v1/;x"] {
        refused(&world, &token, "GET", &format!("/value/?path={path}"));
    }
    assert_eq!(ask(&world, &token, "GET", "/value/?path=/anything").status, 200);
    let pub_only = world.pki(&with_rules(&json!([rule("GET", "/v1/AUTH_x/pub/**")])));
    for (target, status) in [
        ("/value/?path=/v1/AUTH_x/pub/o", 200),
        ("/value/?path=/v1/AUTH_x/other/o", 401),
        ("/fixed/x", 200),
        ("/except/x", 200),
        ("/outer/x", 200),
        ("/outer/inner/x", 401),
    ] {
        assert_eq!(ask(&world, &pub_only, "GET", target).status, status, "{target}");
    }
}

/// nginx itself writes to the path in `Destination`; an upstream looks after its own.
#[test]
fn copy_and_move_use_another_path_too() {
    let world = services()
        .location(
            "/files/",
            "keystone_auth on; keystone_service_type object-store; dav_methods COPY MOVE;",
        )
        .start();
    let token = world.pki(&with_rules(&json!([rule("COPY", "/**"), rule("MOVE", "/**")])));
    for method in ["COPY", "MOVE"] {
        refused(&world, &token, method, "/files/hello.txt");
    }
    assert_eq!(ask(&world, &token, "COPY", "/v1/AUTH_x/o").status, 200);
}

/// Swift acts on the objects that the body names. Behind authtoken it asks for each of them; a
/// gateway in front of it sees this request alone.
#[test]
fn a_bulk_request_of_swift_is_not_for_its_path() {
    let lines = "keystone_auth on; keystone_service_type object-store;";
    let world = services()
        .location("/same/", &format!("{lines}\nproxy_pass @UPSTREAM@/same/;"))
        .location(
            "/rewritten/",
            &format!("{lines}\nrewrite ^ /v1/a break;\nproxy_pass @UPSTREAM@;"),
        )
        .start();
    let image = json!({"id": "2", "service": "image", "method": "POST", "path": "/**"});
    let token = world.pki(&with_rules(&json!([rule("POST", "/**"), image])));
    let paths = ["/v1/AUTH_x", "/same/AUTH_x", "/rewritten/AUTH_x", "/both/AUTH_x"];
    for path in paths {
        for query in ["bulk-delete", "a=b&bulk-delete=", "extract-archive=tar", "%62ulk-delete"] {
            refused(&world, &token, "POST", &format!("{path}?{query}"));
        }
    }
    // nginx passes this on as it is, and Swift finds two parameters.
    refused(&world, &token, "POST", "/v1/AUTH_x?a#&bulk-delete");
    for path in paths {
        let target = format!("{path}?a=bulk-delete");
        assert_eq!(ask(&world, &token, "POST", &target).status, 200, "{path}");
    }
    assert_eq!(ask(&world, &token, "POST", "/images/x?bulk-delete").status, 200);
    let unrestricted = world.pki(&Payload::v3());
    assert_eq!(ask(&world, &unrestricted, "POST", "/v1/AUTH_x?bulk-delete").status, 200);
}
