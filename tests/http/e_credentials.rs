//! The service token with which the identity service is asked about tokens: had once, renewed when
//! it is stale, and not hammered for.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{
    Fault, Gate, ADMIN_TOKEN, CREDENTIAL_ID, CREDENTIAL_SECRET, SERVICE_PASSWORD,
};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::WORKER;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

fn with_password() -> Setup {
    World::setup().logs_in()
}

#[track_caller]
fn assert_unavailable(world: &World) {
    expect::unavailable(&world.send(&Request::get("/").token(&new_uuid())));
}

/// What was asked with: the values of `X-Auth-Token` of the questions about tokens.
fn asked_with(world: &World) -> Vec<String> {
    let state = world.identity.state();
    let questions = state.log.iter().filter(|request| request.method == "GET");
    let with = questions.filter_map(|request| request.headers.text("X-Auth-Token"));
    with.map(str::to_owned).collect()
}

#[test]
fn e29_a_fixed_token() {
    let world = World::setup().start();
    for _ in 0..2 {
        assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    }
    assert_eq!(asked_with(&world), [ADMIN_TOKEN; 2]);
    assert_eq!(world.identity.logins(), 0);
}

#[test]
fn e29_a_fixed_token_that_is_refused() {
    let world = World::setup().set("keystone_admin_token", "stale").start();
    for number in 1..=3 {
        assert_unavailable(&world);
        assert_eq!(world.identity.validations().len(), number, "there is no other token to try");
    }
    let log = world.nginx.error_log();
    assert!(log.contains("the configured service token is refused"), "{log}");
    assert!(!log.contains("stale"), "{log}");
}

#[test]
fn no_credentials() {
    let world = World::setup().unset("keystone_admin_token").start();
    assert_unavailable(&world);
    assert_eq!(world.identity.requests(), [""; 0]);
    let log = world.nginx.error_log();
    assert!(log.contains("no service credentials are configured"), "{log}");
}

#[test]
fn e30_e31_one_login_serves_many_validations() {
    for (version, path, payload) in [
        ("v2.0", "POST /v2.0/tokens", Payload::v2()),
        ("v3", "POST /v3/auth/tokens", Payload::v3()),
    ] {
        let world = with_password().set("keystone_auth_version", version).start();
        for _ in 0..4 {
            assert_eq!(world.status(&world.uuid(&payload)), 200, "{version}");
        }
        assert_eq!(world.status(&new_uuid()), 401);
        let requests = world.identity.requests();
        assert_eq!(requests[0], path);
        assert_eq!(world.identity.logins(), 1, "{requests:?}");
        let issued: Vec<_> = world.identity.state().issued.keys().cloned().collect();
        assert_eq!(asked_with(&world), vec![issued[0].clone(); 5]);
    }
}

#[test]
fn an_application_credential() {
    let world = World::setup()
        .unset("keystone_admin_token")
        .set("keystone_application_credential_id", CREDENTIAL_ID)
        .set("keystone_application_credential_secret", CREDENTIAL_SECRET)
        .start();
    for _ in 0..3 {
        assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    }
    assert_eq!(world.identity.logins(), 1);
}

#[test]
fn the_token_is_had_once_for_all_workers_and_after_a_reload() {
    let world = with_password().workers(3).start();
    for _ in 0..2 {
        for pid in world.nginx.worker_pids() {
            let mut client = world.nginx.connect_worker(pid).unwrap();
            let request = Request::get("/").token(&world.uuid(&Payload::v3()));
            assert_eq!(client.send(&request).unwrap().status, 200);
        }
        world.nginx.reload().unwrap();
    }
    assert_eq!(world.identity.validations().len(), 6);
    assert_eq!(world.identity.logins(), 1);
}

#[test]
fn a_token_is_renewed_ahead_of_its_end() {
    let world = with_password()
        .identity(|identity| identity.state().token_lifetime = 4)
        .set("keystone_token_cache_time", "off")
        .start();
    let token = world.uuid(&Payload::v3());
    wait_for("a third service token", || {
        assert_eq!(world.status(&token), 200);
        (world.identity.logins() >= 3).then_some(())
    })
    .unwrap();
    // None was ever used that had ended.
    let log = world.nginx.error_log();
    assert!(!log.contains("refused the service token"), "{log}");
}

#[test]
fn p04_a_stale_token_is_renewed_once() {
    let world = with_password().workers(2).start();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    for round in 2..=3 {
        world.identity.expire_service_tokens();
        world.identity.forget_requests();
        let token = world.uuid(&Payload::v3());
        expect::v3_user(&world.seen(&Request::get("/").token(&token)));
        assert_eq!(world.identity.validations(), [token.as_str(), &token], "round {round}");
        assert_eq!(world.identity.logins(), 1, "round {round}");
        for _ in 0..4 {
            assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
        }
        assert_eq!(world.identity.logins(), 1, "round {round}");
    }
}

#[test]
fn many_requests_with_a_stale_token_renew_it_once() {
    let world = with_password().workers(2).start();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    world.identity.expire_service_tokens();
    let tokens: Vec<_> = (0..20).map(|_| world.uuid(&Payload::v3())).collect();
    std::thread::scope(|scope| {
        let world = &world;
        let asking: Vec<_> =
            tokens.iter().map(|token| scope.spawn(move || world.status(token))).collect();
        assert!(asking.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
    assert_eq!(world.identity.logins(), 2);
}

#[test]
fn p04_a_new_token_that_is_refused_too() {
    let world = with_password().start();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    world.identity.forget_requests();
    world.identity.fault_validations(Fault::Status(401));
    let token = world.uuid(&Payload::v3());
    expect::unavailable(&world.send(&Request::get("/").token(&token)));
    assert_eq!(world.identity.validations(), [token.as_str(), &token]);
    assert_eq!(world.identity.logins(), 1);
    // Then no request asks it again for a while.
    for _ in 0..10 {
        assert_unavailable(&world);
    }
    assert!(world.identity.logins() <= 2, "{} for 11 requests", world.identity.logins());
    world.identity.heal();
    wait_for("another try", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn a_validation_that_is_answered_401_does_not_affect_the_others() {
    let world = with_password().workers(2).start();
    let good = world.uuid(&Payload::v3());
    assert_eq!(world.status(&good), 200);
    // As v2.0 answers about a user of another domain than the default one.
    world.identity.fault_validations_times(3, Fault::Status(401));
    for logins in [2, 2] {
        assert_unavailable(&world);
        assert_eq!(world.identity.logins(), logins);
    }
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let request = Request::get("/").token(&world.uuid(&Payload::v3()));
        assert_eq!(client.send(&request).unwrap().status, 200);
    }
    assert_eq!(world.identity.logins(), 2);
}

#[test]
fn a_wrong_password_is_not_hammered() {
    let mut world = with_password().workers(2).set("keystone_password", "wrong").start();
    let token = world.uuid(&Payload::v3());
    for _ in 0..15 {
        expect::unavailable(&world.send(&Request::get("/").token(&token)));
        assert_unavailable(&world);
    }
    let logins = world.identity.logins();
    assert!((1..=3).contains(&logins), "{logins} for 30 requests");
    assert_eq!(world.identity.validations(), [""; 0]);
    let log = world.nginx.error_log();
    let told = |line: &&str| line.contains("[error]") && line.contains("credentials are refused");
    assert!(log.lines().any(|line| told(&line)), "{log}");
    assert!(!log.contains("wrong"), "{log}");
    // With the right one, nothing has to be waited for.
    world.reconfigure(|config| config.set("keystone_password", SERVICE_PASSWORD));
    assert_eq!(world.status(&token), 200);
}

#[test]
fn a_login_that_fails_for_want_of_the_service_is_tried_again() {
    for fault in [Fault::Status(500), Fault::Body(b"{}".to_vec()), Fault::CloseBeforeAnswer] {
        let world = with_password().set("keystone_http_request_max_retries", "0").start();
        world.identity.fault_logins(fault.clone());
        let token = world.uuid(&Payload::v3());
        expect::unavailable(&world.send(&Request::get("/").token(&token)));
        world.identity.heal();
        assert_eq!(world.status(&token), 200, "{fault:?}");
    }
}

#[test]
fn a_login_that_fails_in_one_worker_has_failed_for_all_that_wait_for_it() {
    let world = with_password().workers(4).set("keystone_http_request_max_retries", "0").start();
    let gate = Gate::default();
    world.identity.fault_logins(Fault::Status(500));
    world.identity.fault_logins(Fault::Hold(gate.clone()));
    let pids = world.nginx.worker_pids();
    let connect = |pid: &i32| world.nginx.connect_worker(*pid).unwrap();
    let mut clients: Vec<_> = pids.iter().map(connect).collect();
    for client in &mut clients {
        client.write(&Request::get("/").token(&new_uuid()).bytes()).unwrap();
        wait_for("a login", || (world.identity.logins() > 0).then_some(())).unwrap();
    }
    for pid in &pids {
        let read = connect(pid).send(&Request::get(WORKER)).unwrap();
        assert_eq!(read.status, 200);
    }
    gate.open();
    for client in &mut clients {
        expect::unavailable(&client.read(false).unwrap());
    }
    assert_eq!(world.identity.logins(), 1);
    // The next request tries again.
    world.identity.heal();
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
}

#[test]
fn a_403_does_not_buy_another_token_at_once() {
    let world = with_password().start();
    world.identity.fault_validations(Fault::Status(403));
    let token = world.uuid(&Payload::v3());
    for _ in 0..3 {
        expect::unavailable(&world.send(&Request::get("/").token(&token)));
    }
    assert_eq!(world.identity.logins(), 1, "the token is a new one");
    world.identity.heal();
    assert_eq!(world.status(&token), 200);
}
