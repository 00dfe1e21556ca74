//! Several workers need the answer about one token at the same time: one asks for all.

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request, Response};
use keystone_testbed::identity::{Fault, Gate};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{kill, WORKER};
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::{Setup, World};

const WORKERS: usize = 4;

fn setup() -> Setup {
    World::setup().workers(WORKERS)
}

/// A request at each worker. The first worker has asked, and the others have read their request,
/// when this returns.
struct Crowd {
    pids: Vec<i32>,
    clients: Vec<Client>,
}

impl Crowd {
    fn start(world: &World, request: &Request) -> Self {
        let pids = world.nginx.worker_pids();
        assert_eq!(pids.len(), WORKERS);
        let connect = |pid: &i32| world.nginx.connect_worker(*pid).unwrap();
        // A connection to a certain worker may take many tries: all are there before one asks.
        let mut clients: Vec<_> = pids.iter().map(connect).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            client.write(&request.bytes()).unwrap();
            if at == 0 {
                world.wait_for_validations(1);
            }
        }
        for pid in &pids {
            let mut client = world.nginx.connect_worker(*pid).unwrap();
            assert_eq!(client.send(&Request::get(WORKER)).unwrap().status, 200);
        }
        Self { pids, clients }
    }

    /// The answers that the clients behind the first so many get.
    fn answers_after(&mut self, first: usize) -> Vec<Response> {
        self.clients.drain(first..).map(|mut client| client.read(false).unwrap()).collect()
    }
}

/// Holds the answer to the first question about a token.
fn hold_first(world: &World) -> Gate {
    let gate = Gate::default();
    world.identity.fault_validations_times(1, Fault::Hold(gate.clone()));
    gate
}

#[test]
fn four_workers_ask_once() {
    for (refused_for, refused_later) in [("30s", 1), ("off", 2)] {
        let mut world = setup().set("keystone_invalid_cache_time", refused_for).start();
        for token in [world.uuid(&Payload::v3()), new_uuid()] {
            world.identity.forget_requests();
            let gate = hold_first(&world);
            let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
            gate.open();
            let answers = crowd.answers_after(0);
            let is_known = answers.iter().all(|answer| answer.status == 200);
            for answer in &answers {
                match is_known {
                    true => expect::v3_user(&Seen::of(answer).unwrap()),
                    false => expect::refused(answer),
                }
            }
            assert_eq!(world.identity.validations().len(), 1, "{refused_for}");
            // What those got who waited is in the cache only if it may be.
            world.send(&Request::get("/").token(&token));
            let asked = if is_known { 1 } else { refused_later };
            assert_eq!(world.identity.validations().len(), asked, "{refused_for}");
        }
        assert!(world.nginx.quit().unwrap().success());
        world.assert_quiet_log();
    }
}

#[test]
fn a_worker_that_is_killed_while_it_asks_leaves_the_question_to_the_others() {
    let world = setup().start();
    let token = world.uuid(&Payload::v3());
    let gate = hold_first(&world);
    let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
    kill(crowd.pids[0], libc::SIGKILL).unwrap();
    for answer in crowd.answers_after(1) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(world.identity.validations().len(), 2);
    gate.open();
}

#[test]
fn a_worker_that_hangs_while_it_asks_leaves_the_question_to_the_others() {
    let world = setup().start();
    let token = world.uuid(&Payload::v3());
    let gate = hold_first(&world);
    let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
    kill(crowd.pids[0], libc::SIGSTOP).unwrap();
    let others = crowd.answers_after(1);
    kill(crowd.pids[0], libc::SIGCONT).unwrap();
    assert!(others.iter().all(|answer| answer.status == 200));
    assert_eq!(world.identity.validations().len(), 2);
    gate.open();
    // Its own question has an answer as well.
    assert!(crowd.answers_after(0).iter().all(|answer| answer.status == 200));
}

/// The client of the worker that asks does not count: the question has an answer for the others.
#[test]
fn a_client_that_leaves_takes_no_answer_from_those_at_other_workers() {
    let world = setup().start();
    let token = world.uuid(&Payload::v3());
    let gate = hold_first(&world);
    let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
    drop(crowd.clients.remove(0));
    gate.open();
    assert!(crowd.answers_after(0).iter().all(|answer| answer.status == 200));
    assert_eq!(world.identity.validations().len(), 1);
}

/// Otherwise each worker would wait for the time-outs of those before it, and for its own.
#[test]
fn an_outage_is_the_outcome_for_all_who_waited() {
    let world = setup()
        .set("keystone_read_timeout", "2s")
        .set("keystone_http_request_max_retries", "0")
        .start();
    let token = world.uuid(&Payload::v3());
    world.identity.fault_validations(Fault::Silence);
    let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
    for answer in crowd.answers_after(0) {
        expect::unavailable(&answer);
        assert_eq!(answer.header("X-Result"), Some("identity_unavailable"));
    }
    assert_eq!(world.identity.validations().len(), 1);
    world.identity.heal();
    assert_eq!(world.status(&token), 200);
}

/// There is nothing that a worker could find in the zone, so none waits for another one.
#[test]
fn without_a_cache_each_worker_asks_at_once() {
    let world = setup().set("keystone_token_cache_time", "off").start();
    let token = world.uuid(&Payload::v3());
    let gate = hold_first(&world);
    let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
    assert!(crowd.answers_after(1).iter().all(|answer| answer.status == 200));
    assert_eq!(world.identity.validations().len(), WORKERS);
    gate.open();
    assert!(crowd.answers_after(0).iter().all(|answer| answer.status == 200));
}

/// The identity of a token that has expired is not kept. Those who have waited for it ask
/// themselves, and do not wait for one another again.
#[test]
fn an_answer_that_the_zone_does_not_keep_is_asked_for_by_each_worker() {
    let world = setup().start();
    let service = world.uuid(&Payload::v3_service());
    let expired = world.uuid(&Payload::v3().expires_in(-60));
    let request = Request::get("/").token(&expired).header("X-Service-Token", &service);
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let known = Request::get("/").header("X-Service-Token", &service);
        let answer = client.send(&known.token(&world.uuid(&Payload::v3()))).unwrap();
        assert_eq!(answer.status, 200);
    }
    world.identity.forget_requests();
    let gate = hold_first(&world);
    let mut crowd = Crowd::start(&world, &request);
    gate.open();
    assert!(crowd.answers_after(0).iter().all(|answer| answer.status == 200));
    assert_eq!(world.identity.validations().len(), WORKERS);
}

/// Other tokens are questions of their own.
#[test]
fn a_worker_that_waits_for_another_one_asks_about_other_tokens() {
    let world = setup().start();
    let (token, other) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3()));
    let gate = hold_first(&world);
    let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
    let mut client = world.nginx.connect_worker(crowd.pids[1]).unwrap();
    assert_eq!(client.send(&Request::get("/").token(&other)).unwrap().status, 200);
    gate.open();
    assert!(crowd.answers_after(0).iter().all(|answer| answer.status == 200));
    assert_eq!(world.identity.validations().len(), 2);
}

#[test]
fn after_a_reload_the_new_workers_wait_for_the_question_of_an_old_one() {
    let world = setup().start();
    let token = world.uuid(&Payload::v3());
    let gate = hold_first(&world);
    let mut old = Crowd::start(&world, &Request::get("/").token(&token));
    world.nginx.reload().unwrap();
    let mut new = Crowd::start(&world, &Request::get("/").token(&token));
    gate.open();
    for answer in old.answers_after(0).iter().chain(&new.answers_after(0)) {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(world.identity.validations().len(), 1);
    world.nginx.wait_for_old_workers().unwrap();
    world.assert_quiet_log();
}

/// A worker that waits for another one takes a place of `keystone_max_pending`, as if it asked.
#[test]
fn those_who_wait_count_as_pending() {
    let world = setup()
        .set("keystone_max_pending", "1")
        .set("keystone_max_pending_per_address", "0")
        .start();
    let (token, other) = (world.uuid(&Payload::v3()), world.uuid(&Payload::v3()));
    let gate = hold_first(&world);
    let mut crowd = Crowd::start(&world, &Request::get("/").token(&token));
    for pid in &crowd.pids {
        let mut client = world.nginx.connect_worker(*pid).unwrap();
        expect::unavailable(&client.send(&Request::get("/").token(&other)).unwrap());
    }
    gate.open();
    assert!(crowd.answers_after(0).iter().all(|answer| answer.status == 200));
    assert_eq!(world.status(&other), 200);
}

#[test]
fn a_worker_asks_once_for_the_versions() {
    let world = World::setup().start();
    let gate = Gate::default();
    world.identity.fault_times(1, "/", Fault::Hold(gate.clone()));
    let mut clients: Vec<_> = (0..8).map(|_| world.nginx.connect().unwrap()).collect();
    for client in &mut clients {
        let token = world.uuid(&Payload::v3());
        client.write(&Request::get("/").token(&token).bytes()).unwrap();
    }
    // The worker has read the requests when it has answered one that came later.
    let mut later = world.nginx.connect().unwrap();
    assert_eq!(later.send(&Request::get(WORKER)).unwrap().status, 200);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
    let versions = |request: &&String| request.as_str() == "GET /";
    assert_eq!(world.identity.requests().iter().filter(versions).count(), 1);
}
