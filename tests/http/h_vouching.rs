//! What a service may vouch for (`keystone_service_token_roles`), and for how long: an expired user
//! token passes beside a valid service token, and is never let in without one from what was
//! remembered.

use keystone_testbed::expect::{
    self, NO_USER, V2_SERVICE, V2_USER, V3_DOMAINS, V3_SERVICE_DOMAINS,
};
use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

fn with(target: &str, user: &str, service: &str) -> Request {
    Request::get(target).token(user).header("X-Service-Token", service)
}

fn both() -> Vec<(&'static str, &'static str)> {
    [&V2_USER[..], &V3_DOMAINS, &V2_SERVICE, &V3_SERVICE_DOMAINS].concat()
}

fn expired() -> Payload {
    Payload::v3().expires_in(-600)
}

#[track_caller]
fn refused_as(answer: &Response, result: &str) {
    expect::refused(answer);
    assert_eq!(answer.header("X-Result"), Some(result));
}

#[test]
fn one_of_these_roles_makes_a_service() {
    let world = World::setup().set("keystone_service_token_roles", "nova Cinder").start();
    let token = world.uuid(&Payload::v3());
    let ask = |roles: &[&str]| {
        world.send(&with("/", &token, &world.uuid(&Payload::v3_service().roles(roles))))
    };
    for roles in [&["nova"][..], &["x", "Cinder"], &["Cinder", "nova"]] {
        assert_eq!(ask(roles).status, 200, "{roles:?}");
    }
    // The case matters, as it does to auth_token.
    for roles in [&[][..], &["service"], &["Nova"], &["NOVA", "cinder"], &["nova2"], &["nov"]] {
        refused_as(&ask(roles), "bad_service_token");
    }
}

#[test]
fn service_is_the_role_unless_others_are_named() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    let ask = |roles: &[&str]| {
        world.send(&with("/", &token, &world.uuid(&Payload::v3_service().roles(roles)))).status
    };
    assert_eq!(ask(&["service"]), 200);
    assert_eq!(ask(&["Service"]), 401);
    assert_eq!(ask(&["admin"]), 401);
}

#[test]
fn roles_are_a_matter_of_the_location() {
    let world = World::setup()
        .location(
            "/nova/",
            "keystone_auth on; keystone_service_token_roles nova; proxy_pass @UPSTREAM@;",
        )
        .location(
            "/any/",
            "keystone_auth on; keystone_service_token_roles_required off; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.uuid(&Payload::v3());
    let service_token = world.uuid(&Payload::v3_service());
    for _ in 0..2 {
        assert_eq!(world.send(&with("/", &token, &service_token)).status, 200);
        refused_as(&world.send(&with("/nova/", &token, &service_token)), "bad_service_token");
        assert_eq!(world.send(&with("/any/", &token, &service_token)).status, 200);
    }
    assert_eq!(world.identity.validations(), [service_token, token], "both are asked about once");
}

#[test]
fn roles_that_are_not_required() {
    let world = World::setup().set("keystone_service_token_roles_required", "off").start();
    let (token, over) = (world.uuid(&Payload::v3()), world.uuid(&expired()));
    let plain = world.uuid(&Payload::v3_service().roles(&["other"]));
    let seen = world.seen(&with("/", &token, &plain));
    assert_eq!(seen.header("X-Service-Identity-Status").as_deref(), Some("Confirmed"));
    assert_eq!(seen.header("X-Service-Roles").as_deref(), Some("other"));
    // It is accepted, but does not confirm the user.
    for _ in 0..2 {
        expect::refused(&world.send(&with("/", &over, &plain)));
    }
    let service_token = world.uuid(&Payload::v3_service());
    assert_eq!(world.send(&with("/", &over, &service_token)).status, 200);
    expect::refused(&world.send(&with("/", &over, &plain)));
    // A token that is none stays one.
    refused_as(&world.send(&with("/", &token, &new_uuid())), "bad_service_token");
}

#[test]
fn an_expired_user_token_passes_beside_a_service_token() {
    let world = World::setup().start();
    let (token, service_token) = (world.uuid(&expired()), world.uuid(&Payload::v3_service()));
    for target in ["/", "/delay/"] {
        expect::identity(&world.seen(&with(target, &token, &service_token)), &both());
    }
    let state = world.identity.state();
    let about = |token: &str| {
        let asked = state.log.iter().filter(|r| r.headers.text("X-Subject-Token") == Some(token));
        asked.map(|request| request.query().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(about(&service_token), ["nocatalog"]);
    assert!(about(&token).iter().all(|query| query == "nocatalog&allow_expired=1"));
}

#[test]
fn it_does_not_pass_without_one() {
    let world = World::setup().workers(2).start();
    let service_token = world.uuid(&Payload::v3_service());
    let strangers = [
        new_uuid(),
        "MIInonsense".into(),
        world.uuid(&Payload::v3_service().roles(&["other"])),
        world.uuid(&Payload::v3_service().expires_in(-5)),
        world.uuid(&Payload::v3_service().bind("kerberos", "SERVICE@REALM")),
    ];
    let token = world.uuid(&expired());
    let plain = Request::get("/").token(&token);
    // In any order: neither answer may be remembered as the other's.
    for _ in 0..3 {
        expect::refused(&world.send(&plain));
        expect::identity(&world.seen(&with("/", &token, &service_token)), &both());
        expect::refused(&world.send(&plain));
        for stranger in &strangers {
            expect::refused(&world.send(&with("/", &token, stranger)));
        }
        let seen = world.seen(&Request::get("/delay/").token(&token));
        expect::identity(&seen, &[NO_USER]);
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            expect::refused(&client.send(&plain).unwrap());
            let vouched = client.send(&with("/", &token, &service_token)).unwrap();
            assert_eq!(vouched.status, 200);
            expect::refused(&client.send(&plain).unwrap());
        }
    }
}

#[test]
fn the_first_request_without_a_service_token_asks_for_itself() {
    let world = World::setup().start();
    let (token, service_token) = (world.uuid(&expired()), world.uuid(&Payload::v3_service()));
    assert_eq!(world.send(&with("/", &token, &service_token)).status, 200);
    let answer = world.send(&Request::get("/").token(&token));
    refused_as(&answer, "unknown_token");
    assert_eq!(answer.header("X-Cache"), Some("MISS"));
    let answer = world.send(&Request::get("/").token(&token));
    refused_as(&answer, "unknown_token");
    assert_eq!(answer.header("X-Cache"), Some("HIT"));
    assert_eq!(world.identity.validations().len(), 3);
    // Nor are two that come at a time given one answer.
    let (one, other) = (world.uuid(&expired()), world.uuid(&expired()));
    for token in [&one, &other] {
        let gate = world.identity.hold_validations();
        let before = world.identity.validations().len();
        let mut clients: Vec<_> = (0..2).map(|_| world.nginx.connect().unwrap()).collect();
        let requests = [with("/", token, &service_token), Request::get("/").token(token)];
        for (client, request) in clients.iter_mut().zip(&requests) {
            client.write(&request.bytes()).unwrap();
        }
        wait_for("both questions", || {
            (world.identity.validations().len() == before + 2).then_some(())
        })
        .unwrap();
        gate.open();
        assert_eq!(clients[0].read(false).unwrap().status, 200);
        expect::refused(&clients[1].read(false).unwrap());
        world.identity.heal();
    }
}

#[test]
fn a_token_that_ends_in_the_cache() {
    let world = World::setup().start();
    let service_token = world.uuid(&Payload::v3_service());
    let token = world.uuid(&Payload::v3().expires_in(4));
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.send(&with("/", &token, &service_token)).status, 200);
    wait_for("the token to end", || (world.status(&token) == 401).then_some(())).unwrap();
    expect::identity(&world.seen(&with("/", &token, &service_token)), &both());
    expect::refused(&world.send(&Request::get("/").token(&token)));
}

#[test]
fn a_token_that_keystone_does_not_know_any_more() {
    let world = World::setup().start();
    let (token, service_token) = (world.uuid(&expired()), world.uuid(&Payload::v3_service()));
    assert_eq!(world.send(&with("/", &token, &service_token)).status, 200);
    world.identity.forget(&token);
    // What passes only because a service vouches for it is asked about each time.
    for cache in ["MISS", "HIT"] {
        let answer = world.send(&with("/", &token, &service_token));
        refused_as(&answer, "unknown_token");
        assert_eq!(answer.header("X-Cache"), Some(cache));
    }
    assert_eq!(world.identity.validations().len(), 3);
}

#[test]
fn v2_knows_no_such_allowance() {
    let world = World::setup().set("keystone_auth_version", "v2.0").start();
    let token = world.uuid(&Payload::v2().expires_in(-600));
    let service_token = world.uuid(&Payload::v2_service());
    for _ in 0..2 {
        expect::refused(&world.send(&with("/", &token, &service_token)));
    }
    let asked = world.identity.requests();
    assert!(asked.iter().all(|request| !request.contains('?')), "{asked:?}");
}

#[test]
fn a_redirect_into_a_location_of_other_services() {
    let world = World::setup()
        .location("/from/", "keystone_auth on; try_files /none /to/;")
        .location(
            "/to/",
            "keystone_auth on; keystone_service_token_roles nova; proxy_pass @UPSTREAM@;",
        )
        .location("/from-delay/", "keystone_auth delay; try_files /none /to-delay/;")
        .location(
            "/to-delay/",
            "keystone_auth delay; keystone_service_token_roles nova; proxy_pass @UPSTREAM@;",
        )
        .start();
    let (token, over) = (world.uuid(&Payload::v3()), world.uuid(&expired()));
    let service_token = world.uuid(&Payload::v3_service());
    let nova = world.uuid(&Payload::v3_service().roles(&["nova", "service"]));
    for token in [&token, &over] {
        assert_eq!(world.send(&with("/from/", token, &nova)).status, 200);
        expect::refused(&world.send(&with("/from/", token, &service_token)));
    }
    let seen = world.seen(&with("/from-delay/", &over, &service_token));
    expect::identity(&seen, &[NO_USER, expect::NO_SERVICE]);
}
