//! `X-Openstack-Request-Id`: for the service behind, in the log, and in the answer.

use std::collections::HashSet;

use keystone_testbed::expect;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::Payload;
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

const ID: &str = "X-Openstack-Request-Id";
const GLOBAL: &str = "X-Openstack-Request-Global-Id";
const SENT: &str = "req-00112233-4455-6677-8899-aabbccddeeff";

/// As in oslo.middleware: `^req-[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$`.
fn is_id(text: &str) -> bool {
    let is_hex = |part: &&str| part.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<_> = text.strip_prefix("req-").unwrap_or_default().split('-').collect();
    parts.iter().all(is_hex) && parts.iter().map(|it| it.len()).eq([8, 4, 4, 4, 12])
}

/// The id that an answer has, once.
fn answered(answer: &Response) -> String {
    let ids: Vec<_> = answer.headers.all(ID).collect();
    let [id] = ids.as_slice() else { panic!("{ids:?}") };
    let id = String::from_utf8_lossy(id).into_owned();
    assert!(is_id(&id), "{id}");
    id
}

#[test]
fn each_request_gets_an_id_of_its_own() {
    let world = World::setup()
        .offline()
        .http("log_format id '$keystone_request_id $http_x_openstack_request_id';")
        .http("access_log @DIR@/ids.log id;")
        .start();
    let token = world.pki(&Payload::v3());
    let mut ids = HashSet::new();
    for _ in 0..40 {
        let answer = world.send(&Request::get("/").token(&token));
        let seen = Seen::of(&answer).unwrap();
        let id = answered(&answer);
        assert_eq!(seen.header(ID).as_deref(), Some(&*id));
        assert_eq!(seen.header(GLOBAL), None);
        expect::v3_user(&seen);
        let line = format!("{id} {id}");
        wait_for("the id in the log", || {
            let log = std::fs::read_to_string(world.nginx.dir().join("ids.log")).ok()?;
            log.lines().any(|it| it == line).then_some(())
        })
        .unwrap();
        ids.insert(id);
    }
    assert_eq!(ids.len(), 40);
}

#[test]
fn the_id_of_a_client_is_kept_for_the_chain_of_requests() {
    let world = World::setup().offline().start();
    let request = Request::get("/").token(&world.pki(&Payload::v3()));
    for name in [ID, "x-openstack-request-id", "X-OPENSTACK-REQUEST-ID"] {
        let answer = world.send(&request.clone().header(name, SENT));
        let seen = Seen::of(&answer).unwrap();
        assert_eq!(answered(&answer), SENT);
        assert_eq!(seen.header(ID).as_deref(), Some(SENT));
        assert_eq!(seen.header(GLOBAL).as_deref(), Some(SENT));
    }
}

#[test]
fn what_has_not_the_form_of_an_id_is_not_handed_on() {
    let world = World::setup().offline().server("ignore_invalid_headers off;").start();
    let request = Request::get("/").token(&world.pki(&Payload::v3()));
    let upper = SENT.to_uppercase();
    let long = format!("{SENT}0");
    let forged = [
        (ID, "forged"),
        (ID, ""),
        (ID, &upper),
        (ID, &long),
        (ID, "req-forged33-4455-6677-8899-aabbccddeeff"),
        ("X_Openstack_Request_Id", "forged"),
        ("X.Openstack.Request~Id", "forged"),
        (GLOBAL, SENT),
        ("X_Openstack_Request_Global_Id", SENT),
    ];
    for (name, value) in forged {
        let answer = world.send(&request.clone().header(name, value));
        let seen = Seen::of(&answer).unwrap();
        assert_eq!(seen.header(ID), Some(answered(&answer)), "{name}: {value}");
        assert_eq!(seen.header(GLOBAL), None, "{name}: {value}");
        let headers = format!("{:?}", seen.headers).to_lowercase();
        assert!(!headers.contains("forged") && !headers.contains(SENT), "{headers}");
    }
    // Nobody knows which of two it is.
    let answer = world.send(&request.header(ID, SENT).header("X_Openstack_Request_Id", SENT));
    let seen = Seen::of(&answer).unwrap();
    assert_ne!(answered(&answer), SENT);
    assert_eq!(seen.header(GLOBAL), None);
}

#[test]
fn refusals_have_an_id_too() {
    let world = World::setup()
        .offline()
        .location(
            "/admin/",
            "keystone_auth on; keystone_require_role admin; proxy_pass @UPSTREAM@;",
        )
        .location("/page/", "keystone_auth on; error_page 401 /sorry; proxy_pass @UPSTREAM@;")
        .location("= /sorry", "internal; return 200 sorry;")
        .start();
    let token = world.pki(&Payload::v3());
    for (request, status) in [
        (Request::get("/"), 401),
        (Request::get("/").token("x"), 401),
        (Request::get("/admin/").token(&token), 403),
        (Request::get("/").token(&token).token(&token), 400),
        (Request::get("/page/"), 401),
    ] {
        let answer = world.send(&request.clone().header(ID, SENT));
        assert_eq!(answer.status, status, "{request:?}");
        assert_eq!(answered(&answer), SENT);
        assert_ne!(answered(&world.send(&request)), answered(&world.send(&request)));
    }
}

#[test]
fn the_id_of_the_service_behind_is_the_answer_s() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let target = format!("/?h=x-openstack-request-id:{}", SENT.replace("0011", "ffff"));
    let answer = world.send(&Request::get(&target).token(&token));
    assert_eq!(answered(&answer), SENT.replace("0011", "ffff"));
    let seen = Seen::of(&answer).unwrap();
    assert_ne!(seen.header(ID), Some(answered(&answer)));
}

#[test]
fn an_id_stays_that_of_the_request_wherever_it_is_led() {
    let world = World::setup()
        .offline()
        .location("/first/", "keystone_auth on; error_page 404 = /second/; return 404;")
        .location("/second/", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .location("/tried/", "keystone_auth on; root @DIR@/none; try_files $uri @behind;")
        .location("@behind", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    for path in ["/first/", "/tried/"] {
        let answer = world.send(&Request::get(path).token(&token));
        let seen = Seen::of(&answer).unwrap();
        assert_eq!(seen.header(ID), Some(answered(&answer)), "{path}");
        assert_eq!(seen.header(GLOBAL), None, "{path}");
    }
}

#[test]
fn without_ids_the_client_s_headers_stay() {
    let world = World::setup()
        .offline()
        .location("/none/", "keystone_auth on; keystone_request_id off; proxy_pass @UPSTREAM@;")
        .location("/open/", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    for path in ["/none/", "/open/"] {
        let request = Request::get(path).token(&token);
        let answer = world.send(&request.clone().header(ID, "any").header(GLOBAL, "other"));
        let seen = Seen::of(&answer).unwrap();
        assert_eq!(seen.header(ID).as_deref(), Some("any"), "{path}");
        assert_eq!(seen.header(GLOBAL).as_deref(), Some("other"), "{path}");
        assert_eq!(answer.header(ID), None, "{path}");
        assert_eq!(world.seen(&request).header(ID), None, "{path}");
    }
}
