//! `keystone_require_role` and `keystone_require`.

use keystone_testbed::expect;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;

fn world(lines: &str) -> World {
    let lines = format!("keystone_auth on; {lines} proxy_pass @UPSTREAM@;");
    World::setup().offline().location("/", &lines).start()
}

fn ask(world: &World, payload: &Payload) -> Response {
    world.send(&Request::get("/").token(&world.pki(payload)))
}

#[test]
fn one_of_these_roles() {
    let world = world("keystone_require_role admin Role2;");
    expect::v3_user(&world.seen(&Request::get("/").token(&world.pki(&Payload::v3()))));
    for roles in [&["ADMIN"][..], &["x", "role2"], &["rOLE2", "x"]] {
        assert_eq!(ask(&world, &Payload::v3().roles(roles)).status, 200, "{roles:?}");
        assert_eq!(ask(&world, &Payload::v2().roles(roles)).status, 200, "{roles:?}");
    }
    for roles in [&["role1"][..], &["role22"], &["adminx", "xadmin"], &[], &["admin,role2"]] {
        let answer = ask(&world, &Payload::v3().roles(roles));
        expect::forbidden(&answer);
        assert_eq!(answer.header("X-Result"), Some("forbidden"), "{roles:?}");
    }
    expect::forbidden(&ask(&world, &Payload::v3_unscoped()));
}

#[test]
fn each_further_line_is_a_further_condition() {
    let world = world("keystone_require_role a b; keystone_require_role c d;");
    for (roles, status) in [
        (&["a", "c"][..], 200),
        (&["b", "d"], 200),
        (&["a", "b"], 403),
        (&["c"], 403),
        (&["d", "x", "A"], 200),
    ] {
        assert_eq!(ask(&world, &Payload::v3().roles(roles)).status, status, "{roles:?}");
    }
}

#[test]
fn a_role_that_is_not_ascii() {
    let world = world("keystone_require_role Rôle-été;");
    assert_eq!(ask(&world, &Payload::v3().roles(&["Rôle-été"])).status, 200);
    expect::forbidden(&ask(&world, &Payload::v3().roles(&["Role-ete"])));
}

#[test]
fn a_head_request_gets_no_body() {
    let world = world("keystone_require_role admin;");
    let token = world.pki(&Payload::v3());
    let mut client = world.nginx.connect().unwrap();
    let answer = client.send(&Request::head("/").token(&token)).unwrap();
    assert_eq!(answer.status, 403);
    expect::forbidden(&client.send(&Request::get("/").token(&token)).unwrap());
}

#[test]
fn required_values() {
    let world = World::setup()
        .offline()
        .config(|config| {
            config.http(
                "map $keystone_project_id:$uri $own_project {
                     default 0;
                     ~^(?<id>[^:]+):/projects/(?P=id)/ 1;
                 }",
            )
        })
        .location(
            "/projects/",
            "keystone_auth on; keystone_require $own_project; proxy_pass @UPSTREAM@;",
        )
        .location(
            "= /two",
            "keystone_auth on; keystone_require $arg_a $arg_b; proxy_pass @UPSTREAM@;",
        )
        .location(
            "= /mixed",
            "keystone_auth on; keystone_require \"$arg_a$arg_b\"; proxy_pass @UPSTREAM@;",
        )
        .location("= /never", "keystone_auth on; keystone_require 0; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    let status = |target: &str| world.send(&Request::get(target).token(&token)).status;
    assert_eq!(status("/projects/tenant_id1/x"), 200);
    assert_eq!(status("/projects/tenant_id2/x"), 403);
    expect::forbidden(&world.send(&Request::get("/projects/tenant_id12/x").token(&token)));
    // The normalised path is what counts, for the judgement as for the answer.
    assert_eq!(status("/projects/tenant_id1/../tenant_id2/x"), 403);
    for (query, expected) in [
        ("a=1&b=1", 200),
        ("a=x&b=00", 200),
        ("a=1", 403),
        ("b=1", 403),
        ("a=1&b=0", 403),
        ("a=&b=1", 403),
        ("", 403),
    ] {
        assert_eq!(status(&format!("/two?{query}")), expected, "{query}");
    }
    assert_eq!(status("/mixed?b=1"), 200);
    assert_eq!(status("/mixed?a=0"), 403);
    assert_eq!(status("/never"), 403);
    expect::refused(&world.send(&Request::get("/two?a=1&b=1")));
}

#[test]
fn both_must_hold() {
    let world = world("keystone_require_role role1; keystone_require $arg_x;");
    let token = world.pki(&Payload::v3());
    let other = world.pki(&Payload::v3().roles(&["other"]));
    let status = |target: &str, token: &str| world.send(&Request::get(target).token(token)).status;
    assert_eq!(status("/?x=1", &token), 200);
    assert_eq!(status("/", &token), 403);
    assert_eq!(status("/?x=1", &other), 403);
}

#[test]
fn an_inner_level_replaces_the_outer_conditions() {
    let world = World::setup()
        .offline()
        .config(|config| config.http("keystone_require_role outer; keystone_require $arg_outer;"))
        .location(
            "/inner/",
            "keystone_auth on; keystone_require_role role1;
            keystone_require $arg_inner; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    let status = |target: &str| world.send(&Request::get(target).token(&token)).status;
    assert_eq!(status("/inner/?inner=1"), 200);
    assert_eq!(status("/inner/?outer=1"), 403);
    assert_eq!(status("/?outer=1"), 403);
}

#[test]
fn delay_does_not_open_what_is_required() {
    let world = World::setup()
        .offline()
        .location(
            "/delay/",
            "keystone_auth delay; keystone_require_role role1; proxy_pass @UPSTREAM@;",
        )
        .start();
    assert_eq!(world.send(&Request::get("/delay/")).status, 401);
    let token = world.pki(&Payload::v3());
    assert_eq!(world.send(&Request::get("/delay/").token(&token)).status, 200);
    let other = world.pki(&Payload::v3().roles(&["other"]));
    expect::forbidden(&world.send(&Request::get("/delay/").token(&other)));
}

#[test]
fn a_refusal_here_is_not_remembered_as_one_of_the_token() {
    let world = World::setup()
        .offline()
        .location(
            "/admin/",
            "keystone_auth on; keystone_require_role admin; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    for _ in 0..3 {
        expect::forbidden(&world.send(&Request::get("/admin/").token(&token)));
        assert_eq!(world.status(&token), 200);
    }
}
