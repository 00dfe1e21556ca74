//! A module that skips phases, reorders their handlers and runs them at the wrong time
//! (`hostile/ngx_http_hostile_module.c`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{can_load_debians_modules, Order, WORKER};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::temp::TempDir;
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

use super::{Way, WAYS};

/// The module, built for the installed nginx as the module under test is.
fn module() -> &'static str {
    static BUILT: OnceLock<(TempDir, String)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let dir = TempDir::new("hostile").unwrap();
        let path = dir.join("ngx_http_hostile_module.so");
        let variable = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
        let (source, built) = (variable("NGINX_SOURCE_DIR"), variable("NGINX_BUILD_DIR"));
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/neighbours/hostile");
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-I"]).arg(built);
        for headers in ["core", "event", "event/modules", "os/unix", "http", "http/modules"] {
            gcc.arg("-I").arg(source.join("src").join(headers));
        }
        gcc.arg("-I").arg(source.join("src/http/v2")).arg("-o").arg(&path);
        let output = gcc.arg(own.join("ngx_http_hostile_module.c")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = path.display().to_string();
        (dir, path)
    });
    path
}

fn setup((order, early): Way, modules: &[&str]) -> Setup {
    let modules = [&[module()], modules].concat();
    World::setup().config(|config| config.beside(order, &modules)).set("keystone_early", early)
}

fn start(world: &World, request: &Request) -> Client {
    let mut client = world.nginx.connect().unwrap();
    client.write(&request.bytes()).unwrap();
    client
}

#[test]
fn a_request_that_was_led_past_the_access_phase_is_answered_500() {
    if !can_load_debians_modules() {
        return;
    }
    for order in WAYS {
        let world = setup(order, &[])
            .offline()
            .location("/proxied/", "hostile jump; keystone_auth on; proxy_pass @UPSTREAM@;")
            .location("/file/", "hostile jump; keystone_auth on; try_files /files/hello.txt =404;")
            .location("= /files/hello.txt", "hostile jump; keystone_auth on;")
            .location(
                "/role/",
                "hostile jump; keystone_auth delay; keystone_require_role admin;
                 proxy_pass @UPSTREAM@;",
            )
            .location("/open/", "hostile jump; keystone_auth off; proxy_pass @UPSTREAM@;")
            .start();
        let token = world.pki(&Payload::v3().roles(&["admin"]));
        for target in ["/proxied/", "/file/", "/files/hello.txt", "/role/"] {
            for request in [Request::get(target), Request::get(target).token(&token)] {
                let answer = world.send(&request);
                assert_eq!(answer.status, 500, "{order:?} {target}: {}", answer.text());
                assert!(!answer.text().contains("hello"), "{order:?} {target}");
                assert_eq!(answer.header("X-Result"), Some("skipped"), "{order:?} {target}");
            }
        }
        assert!(world.upstream.requests().is_empty());
        assert_eq!(world.send(&Request::get("/open/")).status, 200);

        let log = world.nginx.error_log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("[crit]")).collect();
        assert!(!lines.is_empty(), "{log}");
        assert!(lines.iter().all(|line| line.contains("keystone: ")), "{lines:?}");
        world.assert_quiet_log();
    }
}

#[test]
fn a_location_that_demands_nothing_is_served_without_a_verdict_but_without_an_identity() {
    if !can_load_debians_modules() {
        return;
    }
    for order in WAYS {
        let world = setup(order, &[])
            .offline()
            .location("/delay/", "hostile jump; keystone_auth delay; proxy_pass @UPSTREAM@;")
            .start();
        let request = Request::get("/delay/").header("X-Roles", "admin").header("X_User_Id", "x");
        let answer = world.send(&request);
        // Either is right; what is wrong is the client's identity.
        match answer.status {
            200 => {
                let seen = Seen::of(&answer).unwrap();
                assert_eq!(seen.header("X-Roles"), None, "{order:?}");
                assert_eq!(seen.header("X_User_Id"), None, "{order:?}");
            }
            status => assert_eq!(status, 500, "{order:?}"),
        }
    }
}

#[test]
fn a_request_that_waits_gets_the_verdict_however_the_phase_is_rotated() {
    if !can_load_debians_modules() {
        return;
    }
    for order in WAYS {
        let world = setup(order, &[])
            .location("/rotate/", "hostile rotate; keystone_auth off; proxy_pass @UPSTREAM@;")
            .location(
                "/own/",
                "hostile rotate; keystone_auth on; keystone_require_role admin;
                 proxy_pass @UPSTREAM@;",
            )
            .start();
        for rotations in 0..4 {
            let (unknown, user) = (new_uuid(), world.uuid(&Payload::v3()));
            world.identity.forget_requests();
            let gate = world.identity.hold_validations();
            let mut waiting = Vec::new();
            for (target, token, status) in [
                ("/", &unknown, 401),
                ("/own/", &unknown, 401),
                ("/files/hello.txt", &unknown, 401),
                ("/", &user, 200),
                ("/own/", &user, 403),
            ] {
                waiting.push((start(&world, &Request::get(target).token(token)), status));
            }
            world.wait_for_validations(2);
            assert_eq!(world.send(&Request::get(WORKER)).status, 200);
            for _ in 0..rotations {
                assert_eq!(world.send(&Request::get("/rotate/")).status, 200);
            }
            gate.open();
            for (mut client, status) in waiting {
                let answer = client.read(false).unwrap();
                assert_eq!(answer.status, status, "{order:?} {rotations}: {}", answer.text());
            }
            world.identity.heal();
        }
        world.assert_quiet_log();
    }
}

#[test]
fn a_request_that_is_woken_while_it_waits_goes_on_waiting() {
    if !can_load_debians_modules() {
        return;
    }
    for order in WAYS {
        let world = setup(order, &[])
            .location("/rotate/", "hostile rotate; keystone_auth off; proxy_pass @UPSTREAM@;")
            .location("/woken/", "hostile wake; keystone_auth on; try_files /files/hello.txt =404;")
            .start();
        for is_rotated in [false, true] {
            let (unknown, user) = (new_uuid(), world.uuid(&Payload::v3()));
            world.identity.forget_requests();
            let gate = world.identity.hold_validations();
            let mut refused = start(&world, &Request::get("/woken/").token(&unknown));
            let mut passing = start(&world, &Request::get("/woken/").token(&user));
            world.wait_for_validations(2);
            for _ in 0..3 {
                let target = if is_rotated { "/rotate/" } else { WORKER };
                assert_eq!(world.send(&Request::get(target)).status, 200);
                // Long enough for some wakes, which come every millisecond.
                std::thread::sleep(Duration::from_millis(20));
            }
            gate.open();
            let (refused, passing) = (refused.read(false).unwrap(), passing.read(false).unwrap());
            // Woken behind the module's handler, a request is refused as one that was led past it.
            let statuses = (refused.status, passing.status);
            match is_rotated {
                true => assert!([(401, 200), (500, 500)].contains(&statuses), "{statuses:?}"),
                false => assert_eq!(statuses, (401, 200), "{order:?}"),
            }
            assert!(!refused.text().contains("hello"), "{order:?}");
            assert_eq!(passing.text() == "hello\n", passing.status == 200, "{order:?}");
            assert_eq!(world.identity.validations().len(), 2);
            world.identity.heal();
        }
        world.assert_quiet_log();
    }
}

#[test]
fn a_token_is_withheld_also_where_a_neighbour_ends_the_preaccess_phase() {
    if !can_load_debians_modules() {
        return;
    }
    for order in WAYS {
        let world = setup(order, &[])
            .offline()
            .location(
                "/",
                "hostile end; keystone_auth on; keystone_forward_token off; proxy_pass @UPSTREAM@;",
            )
            .location(
                "/delay/",
                "hostile end; keystone_auth delay; keystone_forward_token off;
                 proxy_pass @UPSTREAM@;",
            )
            .start();
        let (token, service) = (world.pki(&Payload::v3()), world.pki(&Payload::v3_service()));
        for target in ["/", "/delay/"] {
            let request = Request::get(target).token(&token).header("X-Service-Token", &service);
            let seen = world.seen(&request);
            assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
            assert_eq!(seen.header("X-Auth-Token"), None, "{order:?} {target}");
            assert_eq!(seen.header("X-Service-Token"), None, "{order:?} {target}");
        }
    }
}

#[test]
fn forged_headers_are_removed_also_when_the_rewrite_phase_is_reordered_meanwhile() {
    if !can_load_debians_modules() {
        return;
    }
    for order in WAYS {
        let world = setup(order, &[])
            .offline()
            .location("/mover/", "hostile shift; keystone_auth off; proxy_pass @UPSTREAM@;")
            .location("/waits/", "hostile wait; keystone_auth delay; proxy_pass @UPSTREAM@;")
            .location("/on/", "hostile wait; keystone_auth on; proxy_pass @UPSTREAM@;")
            .start();
        let token = world.pki(&Payload::v3());
        let forged = |target: &str| {
            Request::get(target).header("X-Roles", "admin").header("X-Domain-Id", "evil")
        };
        let mut nobody = start(&world, &forged("/waits/"));
        let mut user = start(&world, &forged("/on/").token(&token));
        assert_eq!(world.send(&Request::get(WORKER)).status, 200);
        assert_eq!(world.send(&Request::get("/mover/")).status, 200);
        let seen = |client: &mut Client| Seen::of(&client.read(false).unwrap()).unwrap();
        expect::no_identity(&seen(&mut nobody));
        expect::v3_user(&seen(&mut user));
        let all = || (world.upstream.requests().len() == 3).then_some(());
        wait_for("three requests", all).unwrap();
        world.assert_quiet_log();
    }
}

#[test]
fn an_error_that_a_neighbour_leaves_in_openssls_queue_is_none_of_the_identity_service() {
    if !can_load_debians_modules() {
        return;
    }
    let files = TlsFiles::new().unwrap();
    let world = World::setup_https(files, false)
        .config(|config| config.beside(Order::After, &[module()]))
        .set("keystone_http_request_max_retries", "0")
        .location("/error/", "hostile error; keystone_auth off; proxy_pass @UPSTREAM@;")
        .start();
    // The connection is made.
    assert_eq!(world.status(&world.uuid(&Payload::v3())), 200);
    world.identity.fault_validations(Fault::Drip(Duration::from_millis(1)));
    let mut user = start(&world, &Request::get("/").token(&world.uuid(&Payload::v3())));
    let asked = || (world.identity.count(VALIDATION) > 1).then_some(());
    wait_for("the question", asked).unwrap();
    for _ in 0..20 {
        assert_eq!(world.send(&Request::get("/error/")).status, 200);
    }
    assert_eq!(user.read(false).unwrap().status, 200);
    world.assert_quiet_log();
}

const VALIDATION: &str = "/v3/auth/tokens";
