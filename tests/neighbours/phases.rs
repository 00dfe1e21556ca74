//! Modules that reorder the handlers of the access phase while nginx runs.
//!
//! srcache and lua move their handler to the end of the phase when the first request of a worker
//! meets it. A request that waits for the identity service at that time must still get the
//! module's verdict.

use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{can_load_debians_modules, WORKER};
use keystone_testbed::world::{Setup, World};

use super::{Way, WAYS};

/// Modules, and what a location says so that its first request reorders the phase.
const MOVERS: [(&[&str], &str); 2] = [
    (&["srcache_filter"], "srcache_fetch GET /nothing;"),
    (&["ndk", "lua"], "access_by_lua_block { local nothing }"),
];

fn setup((order, early): Way, modules: &[&str], lines: &str) -> Setup {
    World::setup()
        .config(|config| config.beside(order, modules))
        .set("keystone_early", early)
        .location("= /nothing", "internal; return 404;")
        .location(
            "/mover/",
            &format!("keystone_auth off; {lines} try_files /files/hello.txt =404;"),
        )
        .location(
            "/admin/",
            "keystone_auth on; keystone_require_role admin; proxy_pass @UPSTREAM@;",
        )
        .location("/static/", "keystone_auth on; try_files /files/hello.txt =404;")
}

/// Sends a request whose answer is read later.
fn start(world: &World, request: &Request) -> Client {
    let mut client = world.nginx.connect().unwrap();
    client.write(&request.bytes()).unwrap();
    client
}

#[test]
fn a_request_that_waits_while_the_phase_is_reordered_gets_the_verdict() {
    if !can_load_debians_modules() {
        return;
    }
    for (order, (modules, lines)) in WAYS.into_iter().flat_map(|o| MOVERS.map(|m| (o, m))) {
        let world = setup(order, modules, lines).start();
        let (unknown, user) = (new_uuid(), world.uuid(&Payload::v3()));
        let gate = world.identity.hold_validations();
        let mut refused: Vec<_> = ["/", "/files/hello.txt", "/static/x", "/admin/"]
            .map(|target| start(&world, &Request::get(target).token(&unknown)))
            .into();
        let mut forbidden = start(&world, &Request::get("/admin/").token(&user));
        let mut passing = start(&world, &Request::get("/").token(&user));
        let mut delayed = start(&world, &Request::get("/delay/").token(&unknown));
        world.wait_for_validations(2);

        assert_eq!(world.send(&Request::get(WORKER)).status, 200);
        assert_eq!(world.send(&Request::get("/mover/")).status, 200);

        gate.open();
        let what = format!("{modules:?} {order:?}");
        for client in &mut refused {
            let answer = client.read(false).unwrap();
            assert_eq!(answer.status, 401, "{what}: {}", answer.text());
            expect::refused(&answer);
        }
        assert_eq!(forbidden.read(false).unwrap().status, 403, "{what}");
        let seen = |client: &mut Client| {
            let answer = client.read(false).unwrap();
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            keystone_testbed::upstream::Seen::of(&answer).unwrap()
        };
        expect::v3_user(&seen(&mut passing));
        expect::no_identity(&seen(&mut delayed));
        world.assert_quiet_log();
    }
}

#[test]
fn no_reload_lets_a_forged_token_pass() {
    if !can_load_debians_modules() {
        return;
    }
    for (order, (modules, lines)) in WAYS.into_iter().flat_map(|o| MOVERS.map(|m| (o, m))) {
        let world = setup(order, modules, lines).workers(2).start();
        let user = world.uuid(&Payload::v3());
        world.identity.fault_validations(Fault::Delay(Duration::from_millis(5)));
        for _ in 0..RELOADS {
            world.nginx.reload().unwrap();
            std::thread::scope(|scope| {
                let movers = scope.spawn(|| {
                    for _ in 0..REQUESTS {
                        world.send(&Request::get("/mover/"));
                    }
                });
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..REQUESTS {
                            expect::refused(&world.send(&Request::get("/").token(&new_uuid())));
                            let answer = world.send(&Request::get("/admin/").token(&user));
                            expect::forbidden(&answer);
                        }
                    });
                }
                movers.join().unwrap();
            });
        }
        world.assert_quiet_log();
    }
}

const RELOADS: usize = 4;
const REQUESTS: usize = 40;
