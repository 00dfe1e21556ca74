//! Section H of `docs/behaviour.md`: a service passes a user's request on, with its own token.

use keystone_testbed::expect::{
    self, NO_SERVICE, NO_USER, V2_SERVICE, V2_USER, V3_DOMAINS, V3_SERVICE_DOMAINS,
};
use keystone_testbed::http::{Request, Response};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::negotiate::Negotiate;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

type Headers = Vec<(&'static str, &'static str)>;

fn user() -> Headers {
    [&V2_USER[..], &V3_DOMAINS].concat()
}

fn service() -> Headers {
    [&V2_SERVICE[..], &V3_SERVICE_DOMAINS].concat()
}

/// With a user token and a service token.
fn with(target: &str, user: &str, service: &str) -> Request {
    Request::get(target).token(user).header("X-Service-Token", service)
}

#[track_caller]
fn refused_as(answer: &Response, result: &str) {
    expect::refused(answer);
    assert_eq!(answer.header("X-Result"), Some(result));
}

/// A world, a user token and a service token of either version, and what an upstream is sent for
/// each.
fn both_versions() -> [(World, String, String, Headers, Headers); 2] {
    let of = |version: &str, user: Payload, service: Payload, sent: [Headers; 2]| {
        let world = World::setup().set("keystone_auth_version", version).start();
        let (user, service) = (world.uuid(&user), world.uuid(&service));
        let [for_user, for_service] = sent;
        (world, user, service, for_user, for_service)
    };
    [
        of("v2.0", Payload::v2(), Payload::v2_service(), [V2_USER.into(), V2_SERVICE.into()]),
        of("v3", Payload::v3(), Payload::v3_service(), [user(), service()]),
    ]
}

#[test]
fn h01_h07_both_are_good() {
    for (world, user, service, for_user, for_service) in both_versions() {
        for target in ["/", "/delay/", "/"] {
            let seen = world.seen(&with(target, &user, &service));
            expect::identity(&seen, &[for_user.clone(), for_service.clone()].concat());
        }
        assert_eq!(world.identity.validations(), [service, user], "each is asked about once");
    }
}

#[test]
fn h01_signed_tokens_make_no_traffic() {
    let world = World::setup().offline().start();
    let tokens = [
        (world.pki(&Payload::v3()), world.pkiz(&Payload::v3_service())),
        (world.pkiz(&Payload::v3()), world.pki(&Payload::v3_service())),
    ];
    for (user_token, service_token) in &tokens {
        let seen = world.seen(&with("/", user_token, service_token));
        expect::identity(&seen, &[user(), service()].concat());
    }
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn h03_a_bad_service_token() {
    for (world, user, _, _, _) in both_versions() {
        for bad in [new_uuid(), "MIInonsense".into(), "PKIZ_x".into(), "t\u{f6}ken".into()] {
            for _ in 0..2 {
                refused_as(&world.send(&with("/", &user, &bad)), "bad_service_token");
            }
        }
        // The user token alone is still valid.
        assert_eq!(world.status(&user), 200);
    }
}

#[test]
fn h04_a_bad_user_token() {
    for (world, _, service, _, _) in both_versions() {
        for (bad, result) in [(new_uuid(), "unknown_token"), ("MIInonsense".into(), "malformed")] {
            refused_as(&world.send(&with("/", &bad, &service)), result);
            refused_as(&world.send(&with("/", &bad, &new_uuid())), result);
        }
    }
}

#[test]
fn h05_only_a_service_token() {
    for (world, _, service, _, _) in both_versions() {
        for request in [Request::get("/"), Request::get("/").token("")] {
            let answer = world.send(&request.header("X-Service-Token", &service));
            refused_as(&answer, "no_token");
        }
        // Nothing passes, whatever the service token is: no request to Keystone is needed.
        assert_eq!(world.identity.requests(), [""; 0]);
    }
}

/// A client's own `X-Service-...` in several spellings.
fn forged(mut request: Request) -> Request {
    let ours = expect::IDENTITY_HEADERS.iter().filter(|name| name.contains("Service"));
    for name in ours {
        for name in [(*name).to_owned(), name.to_lowercase(), name.replace('-', "_")] {
            request = request.header(name, "forged");
        }
    }
    request.header("X-Foo", "Bar")
}

#[test]
fn h06_h10_forged_headers() {
    let world = World::setup().config(|it| it.server("underscores_in_headers on;")).start();
    let (token, service_token) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3_service()));
    let cases = [
        (Request::get("/").token(&token), user()),
        (Request::get("/delay/").token(&token), user()),
        (Request::get("/delay/"), vec![NO_USER]),
        (with("/", &token, &service_token), [user(), service()].concat()),
        (with("/delay/", &token, &new_uuid()), [user(), vec![NO_SERVICE]].concat()),
    ];
    for (request, expected) in cases {
        let seen = world.seen(&forged(request));
        expect::identity(&seen, &expected);
        assert_eq!(seen.header("X-Foo").as_deref(), Some("Bar"));
        assert!(!seen.headers.iter().any(|(_, value)| value == "forged"), "{:?}", seen.headers);
    }
}

#[test]
fn h08_h13_delay_and_a_bad_service_token() {
    for (world, user, _, for_user, _) in both_versions() {
        let expired = world.uuid(&Payload::v3_service().expires_in(-5));
        for bad in [new_uuid(), expired, "MIInonsense".into()] {
            let request = with("/delay/", &user, &bad);
            expect::identity(&world.seen(&request), &[for_user.clone(), vec![NO_SERVICE]].concat());
            assert_eq!(world.send(&request).header("X-Result"), Some("bad_service_token"));
        }
    }
}

#[test]
fn h09_delay_and_both_are_bad() {
    for (world, ..) in both_versions() {
        let request = with("/delay/", &new_uuid(), &new_uuid());
        expect::identity(&world.seen(&request), &[NO_USER, NO_SERVICE]);
        assert_eq!(world.send(&request).header("X-Result"), Some("unknown_token"));
    }
}

#[test]
fn h11_delay_and_a_bad_user_token() {
    for (world, _, service, _, for_service) in both_versions() {
        let seen = world.seen(&with("/delay/", &new_uuid(), &service));
        expect::identity(&seen, &[vec![NO_USER], for_service].concat());
    }
}

#[test]
fn h12_delay_and_only_a_service_token() {
    for (world, _, service, _, for_service) in both_versions() {
        for request in [Request::get("/delay/"), Request::get("/delay/").token("")] {
            let request = request.header("X-Service-Token", &service);
            expect::identity(&world.seen(&request), &[vec![NO_USER], for_service.clone()].concat());
            assert_eq!(world.send(&request).header("X-Result"), Some("no_token"));
        }
        assert_eq!(world.identity.validations(), [service]);
    }
}

#[test]
fn h13_a_service_token_that_is_over() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    let over = world.uuid(&Payload::v3_service().expires_in(-5));
    for _ in 0..2 {
        refused_as(&world.send(&with("/", &token, &over)), "bad_service_token");
    }
    // Nobody vouches for a service's token.
    let asked = world.identity.state();
    let about = |request: &&keystone_testbed::serve::Incoming| {
        request.headers.text("X-Subject-Token") == Some(&over)
    };
    assert!(asked.log.iter().filter(about).all(|request| !request.query().contains("expired")));
}

#[test]
fn h13_a_service_token_that_ends_in_the_cache() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    let service_token = world.uuid(&Payload::v3_service().expires_in(4));
    assert_eq!(world.send(&with("/", &token, &service_token)).status, 200);
    wait_for("the service token to end", || {
        (world.send(&with("/", &token, &service_token)).status == 401).then_some(())
    })
    .unwrap();
    refused_as(&world.send(&with("/", &token, &service_token)), "bad_service_token");
    assert_eq!(world.status(&token), 200);
}

/// A world with a kerberos user, where a stand-in for a module that knows one can be made; nginx
/// needs its file as long as it runs.
fn negotiating(mode: &str) -> Option<(World, Negotiate)> {
    let negotiate = Negotiate::compile().unwrap()?;
    let setup = World::setup().set("keystone_enforce_token_bind", mode);
    let setup = setup.config(|config| config.main(&negotiate.directive()));
    Some((setup.start(), negotiate))
}

#[test]
fn h14_the_bind_is_that_of_the_service_token() {
    for mode in ["permissive", "strict", "required", "kerberos"] {
        let Some((world, _negotiate)) = negotiating(mode) else { return };
        let token = world.uuid(&Payload::v3().bind("kerberos", "USER@REALM"));
        let bound = Payload::v3_service().bind("kerberos", "SERVICE_USER@SERVICE_REALM");
        let service_token = world.uuid(&bound);
        let ask = |who: &str| {
            let request = with("/", &token, &service_token);
            world.send(&request.header("Authorization", format!("Negotiate {who}")))
        };
        assert_eq!(ask("SERVICE_USER@SERVICE_REALM").status, 200, "{mode}");
        refused_as(&ask("OTHER@REALM"), "bind_failed");
        // Then the user's own bind holds, but the service's does not.
        refused_as(&ask("USER@REALM"), "bad_service_token");
    }
}

#[test]
fn a_bound_user_token_is_no_users_without_its_bind_or_a_service_that_vouches() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3().bind("kerberos", "USER@REALM"));
    let vouching = world.uuid(&Payload::v3_service());
    let strangers = [
        new_uuid(),
        "MIInonsense".into(),
        world.uuid(&Payload::v3()),
        world.uuid(&Payload::v3_service().expires_in(-5)),
        world.uuid(&Payload::v3_service().bind("kerberos", "SERVICE@REALM")),
    ];
    for stranger in &strangers {
        refused_as(&world.send(&with("/", &token, stranger)), "bind_failed");
        let request = with("/delay/", &token, stranger);
        expect::identity(&world.seen(&request), &[NO_USER, NO_SERVICE]);
        assert_eq!(world.send(&request).header("X-Result"), Some("bind_failed"));
    }
    assert_eq!(world.send(&with("/", &token, &vouching)).status, 200);
    refused_as(&world.send(&Request::get("/").token(&token)), "bind_failed");
}

#[test]
fn the_service_token_cannot_be_validated() {
    let mut world = World::setup().set("keystone_http_request_max_retries", "0").start();
    let (token, service_token) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3_service()));
    assert_eq!(world.status(&token), 200);
    world.identity.fault_validations(Fault::Status(500));
    for target in ["/", "/delay/"] {
        let answer = world.send(&with(target, &token, &service_token));
        expect::unavailable(&answer);
        assert_eq!(answer.header("X-Result"), Some("identity_unavailable"));
    }
    assert_eq!(world.status(&token), 200, "alone it passes");
    world.identity.heal();
    assert_eq!(world.send(&with("/", &token, &service_token)).status, 200);
    // The service is known, the user is not.
    world.identity.stop();
    expect::unavailable(&world.send(&with("/delay/", &new_uuid(), &service_token)));
}

#[test]
fn scopes_of_a_service_token() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    let seen = |payload: Payload| {
        let service_token = world.uuid(&payload.roles(&["service"]));
        let mut seen = world.seen(&with("/", &token, &service_token));
        seen.headers.retain(|(name, _)| name.contains("Service"));
        seen
    };
    let common = [
        ("X-Service-Identity-Status", "Confirmed"),
        ("X-Service-Roles", "service"),
        ("X-Service-User-Domain-Id", "domain_id1"),
        ("X-Service-User-Domain-Name", "domain_name1"),
        ("X-Service-User-Id", "user_id1"),
        ("X-Service-User-Name", "user_name1"),
    ];
    let domain = [("X-Service-Domain-Id", "domain_id1"), ("X-Service-Domain-Name", "domain_name1")];
    expect::identity(&seen(Payload::v3_domain()), &[&common[..], &domain].concat());
    // auth_token lends the service's system scope to the user; there is no header for its own.
    expect::identity(&seen(Payload::v3_system()), &common);
    expect::identity(&seen(Payload::v3_unscoped()), &common);
}

#[test]
fn tokens_are_handed_on_unless_they_shall_not_be() {
    for (forward, sent) in [("on", true), ("off", false)] {
        let world = World::setup().set("keystone_forward_token", forward).start();
        let (token, service_token) =
            (world.uuid(&Payload::v3()), world.uuid(&Payload::v3_service()));
        let seen = world.seen(&with("/", &token, &service_token));
        expect::identity(&seen, &[user(), service()].concat());
        assert_eq!(seen.header("X-Auth-Token"), sent.then_some(token));
        assert_eq!(seen.header("X-Service-Token"), sent.then_some(service_token));
        let seen = world.seen(&with("/delay/", &new_uuid(), &new_uuid()));
        assert_eq!(seen.header("X-Service-Token").is_some(), sent);
    }
}

#[test]
fn a_service_token_twice_is_a_bad_request() {
    let world = World::setup().start();
    let (token, service_token) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3_service()));
    for target in ["/", "/delay/"] {
        let twice = with(target, &token, &service_token).header("x-service-TOKEN", &service_token);
        assert_eq!(world.send(&twice).status, 400);
    }
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn headers_off_and_auth_off() {
    let world = World::setup()
        .location("/bare/", "keystone_auth on; keystone_headers off; proxy_pass @UPSTREAM@;")
        .start();
    let (token, service_token) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3_service()));
    expect::identity(&world.seen(&with("/bare/", &token, &service_token)), &[]);
    refused_as(&world.send(&with("/bare/", &token, &new_uuid())), "bad_service_token");
    world.identity.forget_requests();
    let seen = world.seen(&with("/open/", &token, &new_uuid()));
    assert!(seen.header("X-Service-Token").is_some());
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn variables() {
    let format = "log_format service '$keystone_auth_result|$keystone_user_id|\
        $keystone_service_user_id|$keystone_service_user_name|$keystone_service_project_id|\
        $keystone_service_roles|$keystone_token_format|$keystone_cache_status';
        access_log @DIR@/service.log service;";
    let world = World::setup().config(|config| config.http(format)).start();
    let (token, service_token) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3_service()));
    for request in [
        with("/", &token, &service_token),
        with("/", &token, &service_token),
        Request::get("/").token(&token),
        with("/", &token, &new_uuid()),
        with("/delay/", &new_uuid(), &service_token),
    ] {
        world.send(&request);
    }
    let lines = wait_for("the lines in the log", || {
        let log = std::fs::read_to_string(world.nginx.dir().join("service.log")).ok()?;
        let lines: Vec<_> =
            log.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect();
        (lines.len() >= 5).then_some(lines)
    });
    let both = "service_user_id1|service_user_name1|service_project_id1|service,service_role2";
    assert_eq!(
        lines.unwrap(),
        [
            format!("ok|user_id1|{both}|uuid|MISS"),
            format!("ok|user_id1|{both}|uuid|HIT"),
            "ok|user_id1|-|-|-|-|uuid|HIT".to_owned(),
            "bad_service_token|user_id1|-|-|-|-|uuid|HIT".to_owned(),
            format!("unknown_token|-|{both}|uuid|MISS"),
        ]
    );
}
