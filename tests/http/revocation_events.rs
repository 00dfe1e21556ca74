//! `keystone_revocation_events`: an answer of the identity service counts until an event covers its
//! token.

use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_fernet, Payload, Revoked};
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};
use serde_json::{json, Value};

const EVENTS: &str = "/v3/OS-REVOKE/events";

/// A world in which answers are kept for long, and events are fetched often.
fn watchful() -> Setup {
    World::setup().set("keystone_token_cache_time", "1h").set("keystone_revocation_events", "200ms")
}

/// Makes a token that the identity service knows.
fn known(world: &World, payload: &Payload) -> String {
    let token = new_fernet();
    world.identity.know(&token, payload);
    token
}

fn cache(world: &World, token: &str) -> (u16, String) {
    let answer = world.send(&Request::get("/").token(token));
    (answer.status, answer.header("X-Cache").unwrap_or_default().to_owned())
}

fn hit() -> (u16, String) {
    (200, "HIT".into())
}

/// Waits until events were fetched that came after this call.
fn wait_for_events(world: &World) {
    let before = world.identity.count(EVENTS);
    wait_for("events to be fetched", || (world.identity.count(EVENTS) > before + 1).then_some(()))
        .unwrap();
}

#[test]
fn a_token_that_is_revoked_is_refused_soon() {
    let world = watchful().workers(2).start();
    let (revoked, other) = (known(&world, &Payload::v3()), known(&world, &Payload::v3()));
    for token in [&revoked, &other] {
        assert_eq!(world.status(token), 200);
        assert_eq!(cache(&world, token), hit());
    }
    world.identity.revoke_online(&revoked);
    wait_for("the token to be refused", || (world.status(&revoked) == 401).then_some(())).unwrap();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        expect::refused(&client.send(&Request::get("/").token(&revoked)).unwrap());
        let answer = client.send(&Request::get("/").token(&other)).unwrap();
        assert_eq!((answer.status, answer.header("X-Cache")), (200, Some("HIT")));
    }
    assert_eq!(world.identity.validations().len(), 3);
}

#[test]
fn what_an_event_covers_is_asked_about_again() {
    let world = watchful().start();
    let rescoped = Payload::v3().audit_ids(&["own-audit-id", "chain-audit-id"]);
    let cases: [(Payload, Value); 6] = [
        (Payload::v3().user("u1", "n1"), json!({"user_id": "u1"})),
        (Payload::v3().project("p1", "n1"), json!({"project_id": "p1"})),
        (
            Payload::v3().user("u2", "n2").project("p2", "n2"),
            json!({"user_id": "u2", "project_id": "p2"}),
        ),
        (Payload::v3().roles(&["r1"]), json!({"role_id": "r1_id"})),
        (rescoped.clone(), json!({"audit_id": "own-audit-id"})),
        (rescoped, json!({"audit_chain_id": "chain-audit-id"})),
    ];
    for (payload, event) in cases {
        let token = known(&world, &payload);
        assert_eq!(world.status(&token), 200);
        assert_eq!(cache(&world, &token), hit(), "{event}");
        world.identity.add_event(&event);
        wait_for_events(&world);
        world.identity.forget_requests();
        // The identity service has the last word, and it still knows the token.
        assert_eq!(cache(&world, &token), (200, "EXPIRED".into()), "{event}");
        assert_eq!(world.identity.validations().len(), 1, "{event}");
        assert_eq!(cache(&world, &token), hit(), "{event}");
    }
}

#[test]
fn what_no_event_covers_stays_cached() {
    let world = watchful().start();
    let token = known(&world, &Payload::v3().audit_ids(&["a", "b"]));
    assert_eq!(world.status(&token), 200);
    for event in [
        json!({"user_id": "somebody"}),
        json!({"user_id": "user_id1", "project_id": "another"}),
        json!({"audit_id": "b"}),
        json!({"audit_chain_id": "c"}),
        json!({"role_id": "another"}),
    ] {
        world.identity.add_event(&event);
        wait_for_events(&world);
        assert_eq!(cache(&world, &token), hit(), "{event}");
    }
    assert_eq!(world.identity.validations().len(), 1);
}

#[test]
fn one_worker_asks_for_all_and_only_when_it_is_of_use() {
    let world = watchful().workers(2).start();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(world.identity.requests(), [""; 0]);
    assert_eq!(world.status(&known(&world, &Payload::v3())), 200);
    let start = Instant::now();
    world.identity.forget_requests();
    std::thread::sleep(Duration::from_secs(2));
    let asked = world.identity.count(EVENTS);
    // An eighth of the time may be left out between two questions.
    let most = start.elapsed().as_secs_f64() / 0.175 + 1.0;
    assert!(asked >= 3 && asked as f64 <= most, "{asked} times in two seconds, not {most}");
}

#[test]
fn events_that_cannot_be_fetched_change_nothing_and_are_logged_once() {
    let world = watchful().set("keystone_http_request_max_retries", "0").start();
    let token = known(&world, &Payload::v3());
    assert_eq!(world.status(&token), 200);
    for fault in [
        Fault::Status(500),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Body(b"{}".to_vec()),
        Fault::Body(b"hello".to_vec()),
        Fault::Body(b"{\"events\": 1}".to_vec()),
    ] {
        world.identity.fault(EVENTS, fault.clone());
        wait_for_events(&world);
        assert_eq!(cache(&world, &token), hit(), "{fault:?}");
        world.identity.heal();
    }
    world.identity.fault(EVENTS, Fault::Status(500));
    world.nginx.wait_for_log("cannot fetch revocation events of identity service").unwrap();
    for _ in 0..3 {
        wait_for_events(&world);
    }
    world.identity.heal();
    world.nginx.wait_for_log("fetched again").unwrap();
    // An event that came meanwhile is not missed.
    world.identity.revoke_online(&token);
    wait_for("the token to be refused", || (world.status(&token) == 401).then_some(())).unwrap();
}

#[test]
fn more_events_than_the_zone_has_room_for() {
    let world = watchful().set("keystone_cache_zone", "zone=k:256k").start();
    let token = known(&world, &Payload::v3());
    assert_eq!(world.status(&token), 200);
    for number in 0..200 {
        world.identity.add_event(&json!({"user_id": format!("user-{number}")}));
    }
    wait_for_events(&world);
    world.nginx.wait_for_log("make the zone larger").unwrap();
    // Any token may be meant: it is asked about again, once.
    world.identity.forget_requests();
    assert_eq!(cache(&world, &token), (200, "EXPIRED".into()));
    wait_for_events(&world);
    assert_eq!(cache(&world, &token), hit());
    assert_eq!(world.identity.validations().len(), 1);
    world.identity.revoke_online(&token);
    wait_for("the token to be refused", || (world.status(&token) == 401).then_some(())).unwrap();
}

#[test]
fn an_answer_from_before_an_event_does_not_count_after_it() {
    // The response is on its way while the token is revoked and the event is fetched.
    let world = watchful().start();
    assert_eq!(world.status(&known(&world, &Payload::v3())), 200);
    let token = known(&world, &Payload::v3());
    let slow = Fault::Delay(Duration::from_secs(2));
    world.identity.fault_times(1, "/v3/auth/tokens", slow);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| world.status(&token));
        wait_for("the question", || (world.identity.validations().len() == 2).then_some(()))
            .unwrap();
        // The answer is ready already, only it is not sent yet.
        world.identity.revoke_online(&token);
        wait_for_events(&world);
        assert_eq!(waiting.join().unwrap(), 200);
    });
    expect::refused(&world.send(&Request::get("/").token(&token)));
}

#[test]
fn off_keeps_answers_for_their_time() {
    let world = World::setup().set("keystone_token_cache_time", "1h").start();
    let token = known(&world, &Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.revoke_online(&token);
    assert_eq!(cache(&world, &token), hit());
    assert_eq!(world.identity.count(EVENTS), 0);
}

#[test]
fn pki_tokens_go_by_the_list_and_not_by_events() {
    let world = watchful().set("keystone_revocation_cache_time", "500ms").start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 200);
    world.identity.add_event(&json!({"user_id": "user_id1"}));
    assert_eq!(world.status(&known(&world, &Payload::v3())), 200);
    wait_for_events(&world);
    assert_eq!(world.status(&token), 200);
    world.identity.revoke(Revoked::id(keystone_testbed::mint::md5(&token)));
    wait_for("the token to be refused", || (world.status(&token) == 401).then_some(())).unwrap();
}

#[test]
fn events_that_do_not_come_keep_no_worker_from_ending() {
    for reload in [false, true] {
        let mut world = watchful().start();
        assert_eq!(world.status(&known(&world, &Payload::v3())), 200);
        world.identity.fault(EVENTS, Fault::Silence);
        world.identity.forget_requests();
        wait_for("a question", || (world.identity.count(EVENTS) > 0).then_some(())).unwrap();
        if reload {
            world.nginx.reload().unwrap();
            world.nginx.wait_for_old_workers().unwrap();
        }
        assert!(world.nginx.quit().unwrap().success());
    }
}
