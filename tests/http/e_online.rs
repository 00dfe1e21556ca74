//! Section E of `docs/behaviour.md`: tokens that only the identity service can judge.
//!
//! What becomes of them where it does not answer well is in `e_online_faults`, its credentials are
//! in `e_credentials`, and how requests wait for it in `e_waiting`.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::ADMIN_TOKEN;
use keystone_testbed::mint::{self, new_fernet, new_fernet_of, new_jws, new_uuid, Payload};
use keystone_testbed::nginx::{check, Config};
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};
use serde_json::{json, Value};

fn v2() -> Setup {
    World::setup().set("keystone_auth_version", "v2.0")
}

fn v3() -> Setup {
    World::setup().set("keystone_auth_version", "v3")
}

/// The status of `GET /`, the result of the cache, and the result for logs.
fn ask(world: &World, token: &str) -> (u16, String, String) {
    let answer = world.send(&Request::get("/").token(token));
    let header = |name: &str| answer.header(name).unwrap_or("none").to_owned();
    (answer.status, header("X-Cache"), header("X-Result"))
}

fn came(status: u16, cache: &str, result: &str) -> (u16, String, String) {
    (status, cache.into(), result.into())
}

#[test]
fn e01_v2_uuid_token() {
    let world = v2().start();
    let token = world.uuid(&Payload::v2());
    expect::v2_user(&world.seen(&Request::get("/").token(&token)));
    assert_eq!(world.identity.requests(), [format!("GET /v2.0/tokens/{token}")]);
    let state = world.identity.state();
    assert_eq!(state.log[0].headers.text("X-Auth-Token"), Some(ADMIN_TOKEN));
}

#[test]
fn e02_v3_uuid_token() {
    let world = v3().start();
    let token = world.uuid(&Payload::v3());
    expect::v3_user(&world.seen(&Request::get("/").token(&token)));
    assert_eq!(world.identity.requests(), ["GET /v3/auth/tokens?nocatalog"]);
    let state = world.identity.state();
    let header = |name: &str| state.log[0].headers.text(name);
    assert_eq!(header("X-Subject-Token"), Some(token.as_str()));
    assert_eq!(header("X-Auth-Token"), Some(ADMIN_TOKEN));
    // Without it, Keystone does not know a token that has access rules.
    assert_eq!(header("OpenStack-Identity-Access-Rules"), Some("1"));
}

#[test]
fn e01_e02_tokens_of_every_format() {
    let world = v3().start();
    let formats = [
        ("uuid", new_uuid()),
        ("uuid", new_uuid().to_uppercase()),
        ("fernet", new_fernet()),
        ("fernet", format!("{}==", new_fernet_of(7))),
        ("jws", new_jws()),
        ("unknown", format!("something-else-{}", new_uuid())),
        ("unknown", mint::sha256(&new_uuid())),
    ];
    for (_, token) in &formats {
        world.identity.know(token, &Payload::v3());
        expect::v3_user(&world.seen(&Request::get("/").token(token)));
    }
    let tokens: Vec<_> = formats.iter().map(|(_, token)| token.clone()).collect();
    assert_eq!(world.identity.validations(), tokens);
}

#[test]
fn e03_the_same_token_again_makes_no_traffic() {
    for (setup, payload) in [(v2(), Payload::v2()), (v3(), Payload::v3())] {
        let world = setup.workers(2).start();
        let token = world.uuid(&payload);
        assert_eq!(ask(&world, &token), came(200, "MISS", "ok"));
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            for _ in 0..2 {
                let answer = client.send(&Request::get("/").token(&token)).unwrap();
                assert_eq!((answer.status, answer.header("X-Cache")), (200, Some("HIT")));
            }
        }
        assert_eq!(world.identity.validations(), [token]);
    }
}

#[test]
fn the_answer_survives_a_reload() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.nginx.reload().unwrap();
    assert_eq!(ask(&world, &token), came(200, "HIT", "ok"));
    assert_eq!(world.identity.validations(), [token]);
}

#[test]
fn e05_without_an_identity_uri_the_auth_uri_is_asked() {
    let mut uri = String::new();
    let setup = World::setup().identity(|identity| uri = identity.uri());
    let world = setup.unset("keystone_identity_uri").set("keystone_auth_uri", &uri).start();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
}

#[test]
fn e06_v2_default_tenant() {
    let world = v2().start();
    let payload = Payload::v2()
        .with("/user/tenantId", json!("tenant_id1"))
        .with("/user/tenantName", json!("tenant_name1"));
    for payload in [payload.clone(), payload.without("/token/tenant")] {
        expect::v2_user(&world.seen(&Request::get("/").token(&world.uuid(&payload))));
    }
}

#[test]
fn e07_v2_unscoped_token() {
    let world = v2().start();
    let token = world.uuid(&Payload::v2_unscoped());
    for cache in ["MISS", "HIT"] {
        let answer = world.send(&Request::get("/").token(&token));
        expect::refused(&answer);
        assert_eq!(answer.header("X-Result"), Some("no_tenant"));
        assert_eq!(answer.header("X-Cache"), Some(cache));
    }
}

#[test]
fn e08_v3_unscoped_token() {
    let world = v3().set("keystone_include_service_catalog", "on").start();
    let seen = world.seen(&Request::get("/").token(&world.uuid(&Payload::v3_unscoped())));
    expect::identity(
        &seen,
        &[
            ("X-Identity-Status", "Confirmed"),
            ("X-Is-Admin-Project", "True"),
            ("X-Role", ""),
            ("X-Roles", ""),
            ("X-User", "user_name1"),
            ("X-User-Domain-Id", "domain_id1"),
            ("X-User-Domain-Name", "domain_name1"),
            ("X-User-Id", "user_id1"),
            ("X-User-Name", "user_name1"),
        ],
    );
}

#[test]
fn e09_v3_domain_and_system_scoped_tokens() {
    let world = v3().start();
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
    let seen = world.seen(&Request::get("/").token(&world.uuid(&Payload::v3_domain())));
    expect::identity(&seen, &[&user[..], &domain].concat());
    let system = [("OpenStack-System-Scope", "all")];
    let seen = world.seen(&Request::get("/").token(&world.uuid(&Payload::v3_system())));
    expect::identity(&seen, &[&user[..], &system].concat());
}

#[test]
fn e10_e11_is_admin_project() {
    let world = World::setup().start();
    let is_admin = |payload: Payload| {
        let seen = world.seen(&Request::get("/").token(&world.uuid(&payload)));
        seen.header("X-Is-Admin-Project").unwrap()
    };
    assert_eq!(is_admin(Payload::v3().with("/is_admin_project", json!(false))), "False");
    assert_eq!(is_admin(Payload::v3().with("/is_admin_project", json!(true))), "True");
    assert_eq!(is_admin(Payload::v3()), "True");
}

#[test]
fn e12_diablo_token() {
    let world = v2().start();
    let payload = Payload::v2().without("/token/tenant").without("/metadata");
    let token = world.uuid(&payload.with("/token/tenantId", json!("tenant_id1")));
    let seen = world.seen(&Request::get("/").token(&token));
    for name in ["X-Tenant-Id", "X-Tenant-Name", "X-Tenant", "X-Project-Id", "X-Project-Name"] {
        assert_eq!(seen.header(name).as_deref(), Some("tenant_id1"), "{name}");
    }
    assert_eq!(seen.header("X-Roles").as_deref(), Some("role1,role2"));
}

#[test]
fn e13_e14_a_token_without_a_catalog() {
    for (setup, payload) in [
        (v2(), Payload::v2().without("/serviceCatalog")),
        (v3(), Payload::v3().without("/catalog")),
    ] {
        let world = setup.set("keystone_include_service_catalog", "on").start();
        let request = Request::get("/").token(&world.uuid(&payload));
        assert_eq!(world.seen(&request).header("X-Service-Catalog"), None);
        let forged = request.header("X-Service-Catalog", "[]");
        assert_eq!(world.seen(&forged).header("X-Service-Catalog"), None);
    }
}

#[test]
fn e15_the_catalog_is_requested_only_where_it_is_used() {
    for (setup, payload) in [(v2(), Payload::v2()), (v3(), Payload::v3())] {
        let world = setup
            .location(
                "/catalog/",
                "keystone_auth on; keystone_include_service_catalog on; proxy_pass @UPSTREAM@;",
            )
            .start();
        let token = world.uuid(&payload);
        let catalog = |target: &str| {
            let seen = world.seen(&Request::get(target).token(&token));
            seen.header("X-Service-Catalog")
                .map(|text| serde_json::from_str::<Value>(&text).unwrap())
        };
        for _ in 0..2 {
            assert_eq!(catalog("/"), None);
            let catalog = catalog("/catalog/").unwrap();
            let public = catalog.pointer("/0/endpoints/0/publicURL").unwrap();
            assert_eq!(public, "http://127.0.0.1:8778/v1/tenant_id1");
        }
    }
    let world = v3().set("keystone_include_service_catalog", "on").start();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    assert_eq!(world.identity.requests(), ["GET /v3/auth/tokens"]);
}

#[test]
fn e16_e17_a_refusal_is_remembered_for_its_time() {
    for setup in [v2(), v3()] {
        let world = setup.workers(2).set("keystone_invalid_cache_time", "3s").start();
        let token = new_uuid();
        expect::refused(&world.send(&Request::get("/").token(&token)));
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            let answer = client.send(&Request::get("/").token(&token)).unwrap();
            expect::refused(&answer);
            assert_eq!(answer.header("X-Cache"), Some("HIT"));
            assert_eq!(answer.header("X-Result"), Some("unknown_token"));
        }
        assert_eq!(world.identity.validations(), [token.as_str()]);
        // Known a little later, it passes a little later.
        let payload = if world.config.get("keystone_auth_version") == Some("v3") {
            Payload::v3()
        } else {
            Payload::v2()
        };
        world.identity.know(&token, &payload);
        wait_for("the refusal to be forgotten", || (world.status(&token) == 200).then_some(()))
            .unwrap();
        assert_eq!(world.identity.validations().len(), 2);
    }
}

#[test]
fn e16_unless_it_shall_not_be() {
    let world = World::setup().set("keystone_invalid_cache_time", "off").start();
    let token = new_uuid();
    for _ in 0..3 {
        expect::refused(&world.send(&Request::get("/").token(&token)));
    }
    assert_eq!(world.identity.validations(), vec![token; 3]);
}

#[test]
fn e21_a_valid_token_is_asked_about_again_after_its_time_in_the_cache() {
    let world = World::setup().workers(2).set("keystone_token_cache_time", "2s").start();
    let token = world.uuid(&Payload::v3());
    assert_eq!(ask(&world, &token), came(200, "MISS", "ok"));
    let later = wait_for("the entry to end", || {
        let answer = ask(&world, &token);
        (answer.1 != "HIT").then_some(answer)
    });
    assert_eq!(later.unwrap(), came(200, "EXPIRED", "ok"));
    assert_eq!(world.identity.validations(), [token.as_str(), &token]);
    // Revoked meanwhile, it dies with its entry.
    world.identity.forget(&token);
    wait_for("the token to be refused", || (world.status(&token) == 401).then_some(())).unwrap();
}

#[test]
fn e21_unless_it_shall_not_be_kept() {
    let world = World::setup().set("keystone_token_cache_time", "off").start();
    let token = world.uuid(&Payload::v3());
    for _ in 0..3 {
        let (status, cache, _) = ask(&world, &token);
        assert_eq!(status, 200);
        assert_ne!(cache, "HIT");
    }
    assert_eq!(world.identity.validations(), vec![token; 3]);
}

#[test]
fn never_past_a_tokens_own_end() {
    let world = World::setup().workers(2).start();
    let ends = keystone_testbed::now() + 4;
    let token = world.uuid(&Payload::v3().expires_at(ends));
    assert_eq!(world.status(&token), 200);
    wait_for("the token to end", || (world.status(&token) == 401).then_some(())).unwrap();
    assert!(keystone_testbed::now() >= ends);
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        expect::refused(&client.send(&Request::get("/").token(&token)).unwrap());
    }
}

#[test]
fn e23_e24_the_version_is_discovered_once() {
    for (v2, v3, payload, path) in [
        (true, true, Payload::v3(), "GET /v3/auth/tokens?nocatalog"),
        (false, true, Payload::v3(), "GET /v3/auth/tokens?nocatalog"),
        (true, false, Payload::v2(), "GET /v2.0/tokens/"),
    ] {
        let world = World::setup()
            .identity(|identity| {
                let mut state = identity.state();
                (state.v2, state.v3) = (v2, v3);
            })
            .start();
        for _ in 0..3 {
            assert_eq!(world.status(&world.uuid(&payload)), 200);
        }
        let requests = world.identity.requests();
        assert_eq!(requests[0], "GET /");
        assert_eq!(requests.len(), 4, "{requests:?}");
        assert!(requests[1..].iter().all(|request| request.starts_with(path)), "{requests:?}");
    }
}

#[test]
fn e25_e26_a_fixed_version_is_used_without_asking() {
    let versions = [
        ("v2", "/v2.0/tokens/"),
        ("v2.0", "/v2.0/tokens/"),
        ("v3", "/v3/auth/tokens"),
        ("v3.0", "/v3/auth/tokens"),
        ("v3.9", "/v3/auth/tokens"),
        ("v3.3.5", "/v3/auth/tokens"),
    ];
    for (version, path) in versions {
        let world = World::setup().set("keystone_auth_version", version).start();
        let payload = if path.starts_with("/v2") { Payload::v2() } else { Payload::v3() };
        assert_eq!(world.status(&world.uuid(&payload)), 200, "{version}");
        let requests = world.identity.requests();
        assert_eq!(requests.len(), 1, "{version}: {requests:?}");
        assert!(requests[0].contains(path), "{version}: {requests:?}");
    }
}

#[test]
fn e27_versions_that_there_are_not() {
    for version in ["v1", "v10", "v4", "3.x", "v3.x", ""] {
        let config = Config::protected().set("keystone_auth_version", &format!("\"{version}\""));
        assert!(!check(&config).unwrap().ok, "{version}");
    }
}

#[test]
fn e31_an_identity_uri_with_a_path_and_a_version() {
    for (path, prefix) in [("/v3", ""), ("/v3/", ""), ("/identity", "/identity"), ("/a/v3", "/a")] {
        let mut address = None;
        let setup = World::setup().identity(|identity| {
            identity.state().prefix = prefix.into();
            address = Some(identity.address());
        });
        let uri = format!("http://{}{path}", address.unwrap());
        let world = setup.set("keystone_identity_uri", &uri).start();
        assert_eq!(world.status(&world.uuid(&Payload::v3())), 200, "{path}");
        let asked = format!("{prefix}/v3/auth/tokens?nocatalog");
        assert_eq!(world.identity.count(&asked), 1, "{path}");
    }
}

#[test]
fn access_rules_are_refused_without_keystone_service_type() {
    let world = v3().start();
    let rules = json!([{"id": "1", "service": "volume", "method": "GET", "path": "/v1/**"}]);
    let token = world.uuid(&Payload::v3().access_rules(rules));
    for _ in 0..2 {
        let answer = world.send(&Request::get("/").token(&token));
        expect::refused(&answer);
        assert_eq!(answer.header("X-Result"), Some("access_rules"));
    }
}

#[test]
fn with_delay_the_upstream_decides_about_unknown_tokens() {
    let world = World::setup().start();
    let known = Request::get("/delay/").token(&world.uuid(&Payload::v3()));
    expect::v3_user(&world.seen(&known));
    let token = new_uuid();
    let seen = world.seen(&Request::get("/delay/").token(&token));
    expect::no_identity(&seen);
    assert_eq!(seen.header("X-Auth-Token"), Some(token));
}
