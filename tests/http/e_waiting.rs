//! Requests that wait for what the identity service says of their token.

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::{Fault, Gate};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{Config, WORKER};
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

/// Sends a request whose answer is read later.
fn start(world: &World, token: &str) -> Client {
    let mut client = world.nginx.connect().unwrap();
    client.write(&Request::get("/").token(token).bytes()).unwrap();
    client
}

/// Ten requests with a token that is known and one that is not, each with the status that it is
/// going to have; they wait when this returns.
fn start_ten(world: &World, known: &str) -> Vec<(Client, u16)> {
    let unknown = new_uuid();
    let waiting = (0..10).map(|number| match number % 2 {
        0 => (start(world, known), 200),
        _ => (start(world, &unknown), 401),
    });
    let waiting = waiting.collect();
    world.wait_for_validations(2);
    let_the_worker_read(world);
    waiting
}

/// When the worker has answered one that came later, it has the earlier ones as well.
fn let_the_worker_read(world: &World) {
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        assert_eq!(client.send(&Request::get(WORKER)).unwrap().status, 200);
    }
}

#[test]
fn a_hundred_requests_with_one_token_ask_once() {
    for known in [true, false] {
        let mut world = World::setup().workers(2).logs_in().start();
        let token = if known { world.uuid(&Payload::v3()) } else { new_uuid() };
        let gate = world.identity.hold_validations();
        let waiting: Vec<_> = (0..100).map(|_| start(&world, &token)).collect();
        world.wait_for_validations(1);
        let_the_worker_read(&world);
        gate.open();
        for mut client in waiting {
            let answer = client.read(false).unwrap();
            match known {
                true => expect::v3_user(&Seen::of(&answer).unwrap()),
                false => expect::refused(&answer),
            }
        }
        assert_eq!(world.identity.validations().len(), 1);
        assert_eq!(world.identity.logins(), 1);
        assert!(world.nginx.quit().unwrap().success());
        world.assert_quiet_log();
    }
}

#[test]
fn a_hundred_requests_in_a_crowd() {
    let world = World::setup().workers(2).start();
    let token = world.uuid(&Payload::v3());
    std::thread::scope(|scope| {
        let (world, token) = (&world, &token);
        let asking: Vec<_> = (0..100).map(|_| scope.spawn(|| world.status(token))).collect();
        assert!(asking.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
    assert_eq!(world.identity.validations().len(), 1);
}

#[test]
fn past_the_bound_the_answer_comes_at_once() {
    let world = World::setup()
        .set("keystone_max_pending", "3")
        .set("keystone_max_pending_per_address", "0")
        .start();
    let tokens: Vec<_> = (0..4).map(|_| world.uuid(&Payload::v3())).collect();
    let cached = world.uuid(&Payload::v3());
    assert_eq!(world.status(&cached), 200);
    world.identity.forget_requests();
    let gate = world.identity.hold_validations();
    let mut waiting: Vec<_> = tokens[..3].iter().map(|token| start(&world, token)).collect();
    world.wait_for_validations(3);

    let answer = world.send(&Request::get("/").token(&tokens[3]));
    expect::unavailable(&answer);
    assert_eq!(answer.header("X-Result"), Some("identity_unavailable"));
    expect::unavailable(&world.send(&Request::get("/delay/").token(&tokens[3])));
    // Those go on that need no question, or no other question than is asked already.
    assert_eq!(world.status(&cached), 200);
    expect::refused(&world.send(&Request::get("/")));
    expect::refused(&world.send(&Request::get("/").token("MIInonsense")));
    waiting.extend(tokens[..3].iter().map(|token| start(&world, token)));
    let_the_worker_read(&world);

    gate.open();
    for mut client in waiting {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    assert_eq!(world.identity.validations().len(), 3);
    // The limit counts pending validations, not completed ones.
    assert_eq!(world.status(&tokens[3]), 200);
}

/// With the cache off, an answer to a question from before the request came is as good as one from
/// a cache.
#[test]
fn without_a_cache_an_earlier_validation_does_not_count() {
    let world = World::setup().set("keystone_token_cache_time", "off").start();
    let token = world.uuid(&Payload::v3());
    let gate = Gate::default();
    world.identity.fault_validations_times(1, Fault::Hold(gate.clone()));
    let mut early = start(&world, &token);
    world.wait_for_validations(1);
    world.identity.forget(&token);
    let late: Vec<_> = (0..10).map(|_| start(&world, &token)).collect();
    let_the_worker_read(&world);
    gate.open();
    assert_eq!(early.read(false).unwrap().status, 200);
    for mut client in late {
        expect::refused(&client.read(false).unwrap());
    }
    assert_eq!(world.identity.validations().len(), 2);
}

#[test]
fn others_are_served_while_requests_wait() {
    let world = World::setup().start();
    let cached = world.uuid(&Payload::v3());
    assert_eq!(world.status(&cached), 200);
    let token = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let mut client = start(&world, &token);
    world.wait_for_validations(2);
    for _ in 0..20 {
        assert_eq!(world.status(&cached), 200);
        assert_eq!(world.send(&Request::get("/open/")).status, 200);
        expect::refused(&world.send(&Request::get("/")));
    }
    gate.open();
    assert_eq!(client.read(false).unwrap().status, 200);
}

#[test]
fn the_answer_is_kept_when_the_client_leaves() {
    let mut world = World::setup().set("keystone_max_pending", "1").start();
    for round in 1..=3 {
        let token = world.uuid(&Payload::v3());
        let gate = world.identity.hold_validations();
        let client = start(&world, &token);
        world.wait_for_validations(round);
        drop(client);
        world.nginx.wait_for_log("prematurely closed connection").unwrap();
        gate.open();
        world.identity.heal();
        // Nobody waits for it any more, and still the answer is kept.
        wait_for("the answer in the cache", || {
            let answer = world.send(&Request::get("/").token(&token));
            (answer.status == 200 && answer.header("X-Cache") == Some("HIT")).then_some(())
        })
        .unwrap();
        assert_eq!(world.identity.validations().len(), round);
    }
    assert!(world.nginx.quit().unwrap().success());
    world.assert_quiet_log();
}

#[test]
fn clients_that_leave_do_not_disturb_those_that_stay() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let mut clients: Vec<_> = (0..20).map(|_| start(&world, &token)).collect();
    world.wait_for_validations(1);
    let_the_worker_read(&world);
    // Every second one goes, the one that asked first among them.
    let mut number = 0;
    clients.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    gate.open();
    for mut client in clients {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    assert_eq!(world.identity.validations().len(), 1);
    world.assert_quiet_log();
}

#[test]
fn requests_that_wait_are_answered_after_a_reload() {
    let world = World::setup().workers(2).start();
    let known = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let waiting = start_ten(&world, &known);
    world.nginx.reload().unwrap();
    gate.open();
    for (mut client, status) in waiting {
        assert_eq!(client.read(false).unwrap().status, status);
    }
    world.nginx.wait_for_old_workers().unwrap();
    assert_eq!(world.status(&known), 200);
    world.assert_quiet_log();
}

#[test]
fn requests_that_wait_are_answered_before_nginx_quits() {
    let mut world = World::setup().start();
    let known = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let waiting = start_ten(&world, &known);
    world.nginx.signal(libc::SIGQUIT).unwrap();
    wait_for("nginx to stop listening", || world.nginx.connect().is_err().then_some(())).unwrap();
    gate.open();
    for (mut client, status) in waiting {
        assert_eq!(client.read(false).unwrap().status, status);
    }
    assert!(world.nginx.quit().unwrap().success());
    world.assert_quiet_log();
}

#[test]
fn nginx_does_not_wait_when_it_is_stopped() {
    let mut world = World::setup().start();
    let gate = world.identity.hold_validations();
    let client = start(&world, &new_uuid());
    world.wait_for_validations(1);
    world.nginx.signal(libc::SIGTERM).unwrap();
    wait_for("nginx to stop listening", || world.nginx.connect().is_err().then_some(())).unwrap();
    assert!(world.nginx.quit().unwrap().success());
    drop(client);
    gate.open();
    world.assert_quiet_log();
}

#[test]
fn a_validation_without_waiters_does_not_keep_nginx_from_quitting() {
    for reload in [false, true] {
        let mut world = World::setup().start();
        let gate = world.identity.hold_validations();
        let client = start(&world, &new_uuid());
        world.wait_for_validations(1);
        drop(client);
        world.nginx.wait_for_log("prematurely closed connection").unwrap();
        if reload {
            world.nginx.reload().unwrap();
            world.nginx.wait_for_old_workers().unwrap();
        }
        assert!(world.nginx.quit().unwrap().success());
        gate.open();
        world.assert_quiet_log();
    }
}

#[test]
fn a_shutdown_that_nginx_bounds() {
    let bounded = |config: Config| config.main("worker_shutdown_timeout 1s;");
    let mut world = World::setup().config(bounded).start();
    let gate = world.identity.hold_validations();
    let waiting: Vec<_> = (0..5).map(|_| start(&world, &new_uuid())).collect();
    world.wait_for_validations(5);
    // Before the answers come, and before the module would give up.
    assert!(world.nginx.quit().unwrap().success());
    drop(waiting);
    gate.open();
    let log = world.nginx.error_log();
    assert!(!log.contains("exited on signal") && !log.contains("open socket"), "{log}");
}

#[test]
fn a_body_that_comes_while_the_request_waits() {
    let world = World::setup().start();
    let token = world.uuid(&Payload::v3());
    let gate = world.identity.hold_validations();
    let body = vec![b'x'; 200_000];
    let request = Request::new("POST", "/").token(&token).body(&body);
    let bytes = request.bytes();
    let (head, rest) = bytes.split_at(bytes.len() - body.len());
    let mut client = world.nginx.connect().unwrap();
    client.write(head).unwrap();
    world.wait_for_validations(1);
    client.write(rest).unwrap();
    gate.open();
    expect::v3_user(&Seen::of(&client.read(false).unwrap()).unwrap());
    assert_eq!(world.upstream.requests()[0].body, body);
}
