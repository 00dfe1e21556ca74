//! Where the module meets nginx's other ways: subrequests, variables, redirects, reloads.

use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::{send, Request};
use keystone_testbed::identity::{
    Fault, Gate, Identity, SERVICE_PASSWORD, SERVICE_PROJECT, SERVICE_USER,
};
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::kill;
use keystone_testbed::pki::Pki;
use keystone_testbed::port::Port;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

fn forged(target: &str) -> Request {
    Request::get(target).header("X-Roles", "admin").header("X-Identity-Status", "Confirmed")
}

#[test]
fn subrequests_of_an_open_location_carry_no_forged_identity() {
    let world = World::setup()
        .offline()
        .location("/ssi/", "keystone_auth off; ssi on; ssi_types text/plain;")
        .location(
            "/mirrored/",
            "keystone_auth off; mirror /by-mirror; try_files /files/hello.txt =404;",
        )
        .location("/by-", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .files(|dir| {
            std::fs::create_dir_all(dir.join("html/ssi")).unwrap();
            let page = "[<!--#include virtual=\"/by-ssi\" -->]";
            std::fs::write(dir.join("html/ssi/page.txt"), page).unwrap();
        })
        .start();
    world.send(&forged("/ssi/page.txt"));
    world.send(&forged("/mirrored/x"));
    let both = || (world.upstream.requests().len() >= 2).then_some(());
    wait_for("both subrequests", both).unwrap();
    for request in world.upstream.requests() {
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        let of_ours = |name: &String| name == "x-roles" || name == "x-identity-status";
        assert!(!names.iter().any(of_ours), "{}: {names:?}", request.target);
    }
}

/// It has the headers that the client has sent, also when a redirect has led the main request to a
/// protected location before it is served.
#[test]
fn a_subrequest_of_an_open_location_that_leads_to_a_protected_one_carries_no_forged_identity() {
    let world = World::setup()
        .offline()
        .location(
            "/missing/",
            "keystone_auth off; mirror /by-mirror; mirror /led-on; error_page 404 = @app;",
        )
        .location("/index/", "keystone_auth off; mirror /by-mirror; index hello.txt;")
        .location("= /index/hello.txt", "keystone_auth on;")
        .location("@app", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .location("/by-", "keystone_auth delay; proxy_pass @UPSTREAM@;")
        .location(
            "/led-on",
            "keystone_auth off; proxy_pass @UPSTREAM@/status/404; proxy_intercept_errors on;
             error_page 404 /by-error-page;",
        )
        .files(|dir| {
            std::fs::create_dir_all(dir.join("html/index")).unwrap();
            std::fs::write(dir.join("html/index/hello.txt"), "hello\n").unwrap();
        })
        .start();
    let token = world.pki(&Payload::v3());
    for target in ["/missing/x", "/index/"] {
        expect::refused(&world.send(&forged(target)));
        assert_eq!(world.send(&forged(target).token(&token)).status, 200);
    }
    let protected = || {
        let requests = world.upstream.requests();
        requests.into_iter().filter(|request| request.target.starts_with("/by-")).collect()
    };
    let all = || Some::<Vec<_>>(protected()).filter(|requests| requests.len() >= 6);
    for request in wait_for("all subrequests", all).unwrap() {
        for (name, value) in request.headers.iter() {
            let value = String::from_utf8_lossy(value);
            assert!(
                value != "admin" && value != "Confirmed",
                "{}: {name}: {value}",
                request.target
            );
        }
    }
}

#[test]
fn a_subrequest_of_a_protected_location_may_be_denied_the_token() {
    let world = World::setup()
        .offline()
        .location("/own/", "keystone_auth on; mirror /third; proxy_pass @UPSTREAM@;")
        .location("/third", "keystone_auth on; keystone_forward_token off; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    assert_eq!(world.send(&Request::get("/own/").token(&token)).status, 200);
    let both = || (world.upstream.requests().len() >= 2).then_some(());
    wait_for("the request and its mirror", both).unwrap();
    for request in world.upstream.requests() {
        let named = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        assert_eq!(named("X-Auth-Token"), request.target.starts_with("/own/"));
        // The identity is the main request's, for both.
        assert!(named("X-User-Id"), "{}", request.target);
    }
}

#[test]
fn a_variable_that_was_read_too_early_shows_the_truth_later() {
    let world = World::setup()
        .offline()
        .config(|config| config.server("if ($http_x_roles = nothing) { return 400; }"))
        .location(
            "/v/",
            "keystone_auth on; proxy_set_header X-Seen-Roles $http_x_roles; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    for request in [forged("/v/"), Request::get("/v/")] {
        let seen = world.seen(&request.token(&token));
        assert_eq!(seen.header("X-Seen-Roles").as_deref(), Some("role1,role2"));
    }
}

#[test]
fn error_page_leads_to_another_host() {
    let world = World::setup()
        .offline()
        .location("/login/", "keystone_auth on; error_page 401 http://login.example.com/;")
        .location("/admin/", "keystone_auth on; keystone_require_role x; error_page 403 =307 http://login.example.com/;")
        .start();
    let mut client = world.nginx.connect().unwrap();
    for _ in 0..2 {
        let answer = client.send(&Request::get("/login/")).unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(answer.header("Location"), Some("http://login.example.com/"));
        assert!(answer.text().contains("<html>"), "{}", answer.text());
        let token = world.pki(&Payload::v3());
        let answer = client.send(&Request::get("/admin/").token(&token)).unwrap();
        assert_eq!(answer.status, 307);
        assert!(answer.text().contains("<html>"), "{}", answer.text());
    }
}

#[test]
fn a_refusal_after_an_upstream_was_tried_is_ours() {
    let nobody = Port::free().unwrap();
    let world = World::setup()
        .offline()
        .location(
            "/first/",
            &format!(
                "keystone_auth off; proxy_pass http://{}; error_page 502 = /protected/;",
                nobody.address()
            ),
        )
        .location("/protected/", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    expect::refused(&world.send(&Request::get("/first/")));
}

#[test]
fn a_rotation_that_could_not_be_fetched_is_tried_again_soon() {
    let mut world = World::setup().set("keystone_revocation_cache_time", "1h").start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let next = Pki::new().unwrap();
    let token = Payload::v3().pki(&next.signing).unwrap();
    world.identity.rotate(&next).unwrap();
    world.identity.stop();
    assert_eq!(world.status(&token), 401);
    world.identity.restart().unwrap();
    wait_for("the token to pass", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn servers_with_other_credentials_share_nothing() {
    let other = Port::free().unwrap();
    let credentials = |password: &str| {
        format!(
            "keystone_username {SERVICE_USER}; keystone_password {password};
             keystone_project_name {SERVICE_PROJECT};"
        )
    };
    let wrong = format!(
        "server {{ listen {}; root @DIR@/html; keystone_auth on; {} }}",
        other.address(),
        credentials("wrong")
    );
    let world = World::setup()
        .unset("keystone_admin_token")
        .config(|config| config.http(&wrong).server(&credentials(SERVICE_PASSWORD)))
        .start();
    let token = world.pki(&Payload::v3());
    let request = Request::get("/files/hello.txt").token(&token);
    expect::unavailable(&send(other.address(), &request).unwrap());
    assert_eq!(world.status(&token), 200);
    expect::unavailable(&send(other.address(), &request).unwrap());
}

#[test]
fn what_one_server_looks_up_is_no_younger_for_another() {
    let other = Port::free().unwrap();
    let brief = format!(
        "server {{
            listen {}; root @DIR@/html; keystone_auth on; keystone_token_cache_time 2s;
            add_header X-Cache $keystone_cache_status always;
         }}",
        other.address()
    );
    let world = World::setup().config(|config| config.http(&brief)).start();
    let request = Request::get("/files/hello.txt").token(&world.uuid(&Payload::v3()));
    assert_eq!(world.send(&request).status, 200);
    std::thread::sleep(Duration::from_millis(3_100));
    // Now it comes from the zone into the worker's own cache, where the other server looks first.
    assert_eq!(world.send(&request).header("X-Cache"), Some("HIT"));
    for cache in ["EXPIRED", "HIT"] {
        let answer = send(other.address(), &request).unwrap();
        assert_eq!((answer.status, answer.header("X-Cache")), (200, Some(cache)));
    }
}

#[test]
fn reloads_with_other_settings_do_not_use_the_zone_up() {
    let mut world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    for number in 0..12 {
        let algorithms = ["md5", "sha1", "sha256", "sha512"][number % 4];
        let stale = format!("{number}s");
        world.reconfigure(|config| {
            config
                .set("keystone_hash_algorithms", algorithms)
                .set("keystone_revocation_stale", &stale)
        });
        assert_eq!(world.status(&token), 200, "after {number} reloads");
    }
}

/// Places are made when the zone is: twice as many as there are services.
#[test]
fn a_reload_with_more_services_than_the_zone_was_made_for_asks_for_a_restart() {
    let mut world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let servers: String = (0..2)
        .map(|number| {
            let port = Port::free().unwrap();
            format!(
                "server {{ listen {}; keystone_auth on; keystone_auth_uri http://127.0.0.1:{};
                 keystone_signing_dir @DIR@/{number}; }}\n",
                port.address(),
                number + 1
            )
        })
        .collect();
    let more = world.config.clone().http(&servers);
    let refused = world.nginx.reconfigure(&more).unwrap_err().to_string();
    assert!(refused.contains("restart nginx or change its size"), "{refused}");
    assert_eq!(world.status(&token), 200);
    world.nginx.restart(&more).unwrap();
    assert_eq!(world.status(&token), 200);
    let size = "keystone_cache_zone zone=keystone:11m;";
    world.nginx.reconfigure(&world.config.clone().http(size)).unwrap();
    assert_eq!(world.status(&token), 200);
}

#[test]
fn a_worker_that_has_outlived_two_configurations_keeps_its_service_token_to_itself() {
    let mut world = World::setup().logs_in().start();
    let gate = Gate::default();
    world.identity.fault_logins(Fault::Hold(gate.clone()));
    let mut old = world.nginx.connect().unwrap();
    old.write(&Request::get("/").token(&world.uuid(&Payload::v3())).bytes()).unwrap();
    wait_for("the login", || (world.identity.logins() == 1).then_some(())).unwrap();

    let others = [(); 2].map(|()| Identity::start(&world.pki).unwrap());
    for other in &others {
        world.reconfigure(|config| config.set("keystone_identity_uri", &other.uri()));
    }
    gate.open();
    assert_eq!(old.read(false).unwrap().status, 200);

    let token = new_uuid();
    let [_, other] = &others;
    other.know(&token, &Payload::v3());
    assert_eq!(world.status(&token), 200);
    let state = other.state();
    let used: Vec<_> =
        state.log.iter().filter_map(|request| request.headers.text("X-Auth-Token")).collect();
    assert!(!used.is_empty() && used.iter().all(|token| state.issued.contains_key(*token)));
}

#[test]
fn too_many_waiting_requests_are_logged() {
    let gate = Gate::default();
    let world = World::setup()
        .set("keystone_max_pending", "2")
        .set("keystone_http_request_max_retries", "0")
        .identity(|identity| identity.fault("/", Fault::Hold(gate.clone())))
        .start();
    let token = world.pki(&Payload::v3());
    let mut clients: Vec<_> = (0..3).map(|_| world.nginx.connect().unwrap()).collect();
    for client in &mut clients {
        client.write(&Request::get("/").token(&token).bytes()).unwrap();
    }
    // Two wait; whichever came third is told at once.
    expect::unavailable(&clients[2].read(false).unwrap());
    gate.open();
    for client in &mut clients[..2] {
        assert_eq!(client.read(false).unwrap().status, 200);
    }
}

/// However many requests nginx finds at once when it looks for events.
#[test]
fn the_bound_holds_for_requests_of_one_round_too() {
    let world = World::setup()
        .set("keystone_max_pending", "2")
        .set("keystone_max_pending_per_address", "0")
        .set("keystone_read_timeout", "5s")
        .set("keystone_http_request_max_retries", "0")
        .start();
    let mut clients: Vec<_> = (0..8).map(|_| world.nginx.connect().unwrap()).collect();
    for client in &mut clients {
        assert_eq!(client.send(&Request::get("/")).unwrap().status, 401);
    }
    world.identity.fault("/v3/auth/tokens", Fault::Delay(Duration::from_millis(500)));
    let worker = world.nginx.worker_pids()[0];
    kill(worker, libc::SIGSTOP).unwrap();
    for client in &mut clients {
        client.write(&Request::get("/").token(&new_uuid()).bytes()).unwrap();
    }
    kill(worker, libc::SIGCONT).unwrap();
    let statuses = clients.iter_mut().map(|client| client.read(false).unwrap().status);
    assert_eq!(statuses.filter(|status| *status == 503).count(), 6);
}
