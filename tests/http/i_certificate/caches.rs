//! No cache forgets the certificate: an answer that one client's request has put there is found by
//! the requests of others.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{kill, Nginx};
use keystone_testbed::wait_for;
use keystone_testbed::world::Setup;

use super::{refused, Edge, Shows};
use crate::memcached::fleet::{is_not_asked, unhurried, Fleet, STRATEGIES};

/// The worker has the answer in a cache, and refuses a client without the certificate.
#[track_caller]
fn worker_refuses(nginx: &Nginx, worker: i32, token: &str) {
    let mut client = nginx.connect_worker(worker).unwrap();
    let answer = client.send(&Request::get("/").token(token)).unwrap();
    assert_eq!(answer.header("X-Worker"), Some(worker.to_string().as_str()));
    assert_eq!(answer.header("X-Cache"), Some("HIT"));
    refused(&answer);
}

#[test]
fn of_a_worker_and_of_the_zone() {
    let edge = Edge::start(|setup| setup.offline().workers(2));
    for token in [edge.world.pki(&edge.bound()), edge.world.uuid(&edge.bound())] {
        edge.passes(&token);
        let asked = edge.world.identity.validations().len();
        let workers = edge.world.nginx.worker_pids();
        assert_eq!(workers.len(), 2);
        for worker in workers.iter().flat_map(|worker| [*worker; 3]) {
            worker_refuses(&edge.world.nginx, worker, &token);
        }
        edge.is_refused(&token);
        edge.passes(&token);
        assert_eq!(edge.world.identity.validations().len(), asked);
    }
}

#[test]
fn of_the_zone_after_a_reload_and_the_death_of_a_worker() {
    let edge = Edge::start(Setup::offline);
    let tokens = [edge.world.pki(&edge.bound()), edge.world.uuid(&edge.bound())];
    tokens.iter().for_each(|token| edge.passes(token));
    edge.world.nginx.reload().unwrap();
    for token in &tokens {
        worker_refuses(&edge.world.nginx, edge.world.nginx.worker_pids()[0], token);
        edge.is_refused(token);
        edge.passes(token);
    }
    let dead = edge.world.nginx.worker_pids()[0];
    kill(dead, libc::SIGKILL).unwrap();
    let fresh = wait_for("another worker", || {
        edge.world.nginx.worker_pids().into_iter().find(|worker| *worker != dead)
    })
    .unwrap();
    for token in &tokens {
        worker_refuses(&edge.world.nginx, fresh, token);
        edge.passes(token);
    }
}

#[test]
fn of_memcached() {
    unhurried(|| {
        for strategy in STRATEGIES {
            let fleet = Fleet::start_with(strategy, |setup| {
                setup.set("keystone_client_certificate", "$http_x_certificate")
            });
            let edge = Edge::start(|setup| setup);
            let escaped = edge.owner.replace('\n', "%0A").replace('+', "%2B");
            let token = super::new_fernet();
            fleet.world.identity.know(&token, &edge.bound());
            let get = Request::get("/").token(&token);
            let owners = get.clone().header("X-Certificate", &escaped);
            // The first gateway has it from Keystone.
            let answer = fleet.world.send(&owners);
            assert_eq!(answer.status, 200, "{}", answer.text());
            fleet.wait_for_entries(1);
            // The second one has it from memcached, then from its zone.
            for cache in ["MISS", "HIT"] {
                let ask = |request: &Request| {
                    is_not_asked(&fleet.world, &token, || fleet.second.send(request).unwrap())
                };
                let answer = ask(&get);
                assert_eq!(answer.header("X-Cache"), Some(cache), "{strategy}");
                refused(&answer);
                assert_eq!(ask(&owners).status, 200, "{strategy}");
            }
        }
    });
}

#[test]
fn of_a_token_that_has_expired_with_a_service_that_vouches() {
    let edge = Edge::start(|setup| setup);
    let service = edge.world.uuid(&Payload::v3_service());
    let token = edge.world.uuid(&edge.bound().expires_in(-5));
    let get = Request::get("/").token(&token).header("X-Service-Token", &service);
    for _ in 0..2 {
        assert_eq!(edge.ask(Shows::Owner, &get).status, 200);
        refused(&edge.ask(Shows::Other, &get));
    }
}
