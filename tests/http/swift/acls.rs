//! Container ACLs of the configuration.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;

use super::{accounts, ask, forbidden, in_default_domain, member, passes, stays_out, stranger};

const OBJECT: &str = "/v1/AUTH_mine/c/o";
const CONTAINER: &str = "/v1/AUTH_mine/c";
const ACCOUNT: &str = "/v1/AUTH_mine";

fn with_read_acl(acl: &str) -> World {
    accounts(&format!("keystone_swift_read_acl \"{acl}\";")).start()
}

fn may_read(world: &World, payload: &Payload) -> bool {
    let status = ask(world, Some(&world.pki(payload)), "GET", OBJECT).status;
    assert!(status == 200 || status == 403, "{status}");
    status == 200
}

#[test]
fn a_read_acl_is_for_reading_objects_and_listings() {
    let world = with_read_acl("other:*");
    let token = world.pki(&stranger(&["x"]));
    for path in [OBJECT, CONTAINER] {
        for method in ["GET", "HEAD"] {
            passes(&world, Some(&token), method, path);
        }
        for method in ["PUT", "POST", "DELETE"] {
            forbidden(&world, &token, method, path);
        }
    }
    forbidden(&world, &token, "GET", ACCOUNT);
    forbidden(&world, &token, "HEAD", ACCOUNT);
}

#[test]
fn a_write_acl_is_for_writing_objects() {
    let world = accounts("keystone_swift_write_acl other:*;").start();
    let token = world.pki(&stranger(&["x"]));
    for method in ["PUT", "POST", "DELETE"] {
        passes(&world, Some(&token), method, OBJECT);
        forbidden(&world, &token, method, CONTAINER);
        forbidden(&world, &token, method, ACCOUNT);
    }
    for method in ["GET", "HEAD"] {
        forbidden(&world, &token, method, OBJECT);
        forbidden(&world, &token, method, CONTAINER);
    }
}

#[test]
fn projects_and_users_are_named_by_id_or_star() {
    let payload = stranger(&["x"]);
    for (acl, passes) in [
        ("other:user_id2", true),
        ("other:*", true),
        ("*:user_id2", true),
        ("*:*", true),
        ("x:y, other:user_id2", true),
        (",,other:user_id2,", true),
        ("other%3Auser_id2", true),
        ("other:%75ser_id2", true),
        ("other", false),
        ("other:", false),
        (":user_id2", false),
        ("user_id2", false),
        ("*", false),
        ("OTHER:user_id2", false),
        ("other:user_id", false),
        ("other:user_id22", false),
        ("mine:user_id2", false),
        ("other :user_id2", false),
        ("*:user_id1", false),
        ("mine:*", false),
        ("-other:*", false),
    ] {
        assert_eq!(may_read(&with_read_acl(acl), &payload), passes, "{acl}");
    }
}

#[test]
fn names_are_those_of_the_default_domain() {
    let elsewhere = stranger(&["x"]);
    let here = in_default_domain(stranger(&["x"]));
    let v2 = Payload::v2().project("other", "Other project").user("user_id2", "user_name2");
    let half = |at: &str| elsewhere.clone().with(at, "default".into());
    for acl in ["Other project:user_name2", "*:user_name2", "Other project:*", "other:user_name2"] {
        let world = with_read_acl(acl);
        assert!(may_read(&world, &here), "{acl}");
        assert!(may_read(&world, &v2), "{acl}");
        assert!(!may_read(&world, &elsewhere), "{acl}");
        assert!(!may_read(&world, &half("/user/domain/id")), "{acl}");
        assert!(!may_read(&world, &half("/project/domain/id")), "{acl}");
    }
    assert!(!may_read(&with_read_acl("other project:user_name2"), &here));
}

#[test]
fn another_domain_may_be_the_default_one() {
    let acl = "keystone_swift_read_acl 'Other project:user_name2';
        keystone_swift_default_domain_id domain_id1;";
    let world = accounts(acl).start();
    assert!(may_read(&world, &stranger(&["x"])));
    assert!(!may_read(&world, &in_default_domain(stranger(&["x"]))));
}

#[test]
fn names_may_be_left_out_of_it() {
    let acl = |acl: &str| {
        let acl =
            format!("keystone_swift_read_acl '{acl}'; keystone_swift_allow_names_in_acls off;");
        accounts(&acl).start()
    };
    let here = in_default_domain(stranger(&["x"]));
    assert!(!may_read(&acl("Other project:user_name2"), &here));
    assert!(!may_read(&acl("*:user_name2"), &here));
    assert!(may_read(&acl("other:user_id2"), &here));
    assert!(may_read(&acl("*:*"), &here));
}

#[test]
fn names_that_are_not_ascii() {
    let payload =
        in_default_domain(stranger(&["x"]).project("other", "проект").user("u", "Žofie 名前"));
    assert!(may_read(&with_read_acl("проект:Žofie 名前"), &payload));
    assert!(may_read(&with_read_acl("проект:%C5%BDofie %E5%90%8D前"), &payload));
    assert!(!may_read(&with_read_acl("проект:Zofie 名前"), &payload));
}

#[test]
fn a_role_is_for_the_accounts_own_project() {
    let world = with_read_acl("Auditor, x:y");
    assert!(may_read(&world, &member(&["auditor"])));
    assert!(may_read(&world, &member(&["z", "AUDITOR"])));
    assert!(!may_read(&world, &member(&["auditors"])));
    assert!(!may_read(&world, &stranger(&["auditor"])));
}

#[test]
fn referrers() {
    for (acl, referer, passes) in [
        (".r:*", None, true),
        (".r:*", Some("http://a.example.com/x"), true),
        (".ref:*", None, true),
        (".referer : *", None, true),
        (".referrer:*", None, true),
        (".r:example.com", None, false),
        (".r:example.com", Some("http://example.com"), true),
        (".r:example.com", Some("https://u:p@EXAMPLE.com:8443/x?y"), true),
        (".r:example.com", Some("http://www.example.com/"), false),
        (".r:example.com", Some("http://example.com.evil.net/"), false),
        (".r:example.com", Some("example.com"), false),
        (".r:.example.com", Some("http://www.example.com/"), true),
        (".r:*.example.com", Some("http://www.example.com/"), true),
        (".r:.example.com", Some("http://example.com/"), false),
        (".r:.example.com", Some("http://notexample.com/"), false),
        (".r:*,.r:-evil.net", Some("http://evil.net/"), false),
        (".r:*,.r:-.evil.net", Some("http://www.evil.net/"), false),
        (".r:*,.r:-.evil.net", None, true),
        (".r:-.evil.net,.r:*", Some("http://www.evil.net/"), true),
        (".r:unknown", None, true),
        (".rlistings", None, false),
    ] {
        let world = with_read_acl(acl);
        let token = world.pki(&stranger(&["x"]));
        let request = Request::get(OBJECT).token(&token);
        let request = match referer {
            Some(referer) => request.header("Referer", referer),
            None => request,
        };
        let status = world.send(&request).status;
        assert_eq!(status, if passes { 200 } else { 403 }, "{acl} {referer:?}");
    }
}

#[test]
fn listings_want_a_word_of_their_own() {
    let world = with_read_acl(".r:*");
    let token = world.pki(&stranger(&["x"]));
    forbidden(&world, &token, "GET", CONTAINER);
    forbidden(&world, &token, "GET", "/v1/AUTH_mine/c/");
    passes(&world, Some(&token), "GET", OBJECT);
    let world = with_read_acl(".r:*,.rlistings");
    passes(&world, Some(&token), "GET", CONTAINER);
    passes(&world, Some(&token), "HEAD", CONTAINER);
    passes(&world, Some(&token), "GET", OBJECT);
    forbidden(&world, &token, "GET", ACCOUNT);
    forbidden(&world, &token, "PUT", OBJECT);
    // A role does not help whom `.r:` lets in without it.
    let token = |world: &World| world.pki(&member(&["auditor"]));
    let world = with_read_acl(".r:*,auditor");
    forbidden(&world, &token(&world), "GET", CONTAINER);
    passes(&world, Some(&token(&world)), "GET", OBJECT);
    let world = with_read_acl(".r:example.com,auditor");
    passes(&world, Some(&token(&world)), "GET", CONTAINER);
}

#[test]
fn an_acl_may_hold_variables() {
    let lines = "keystone_swift_read_acl $acl; keystone_swift_write_acl '$http_x_project:*';";
    let map = "map $keystone_swift_container $acl { default ''; shared other:*; broken '.r:'; }";
    let world = accounts(lines).config(|config| config.http(map)).start();
    let token = world.pki(&stranger(&["x"]));
    passes(&world, Some(&token), "GET", "/v1/AUTH_mine/shared/o");
    forbidden(&world, &token, "GET", OBJECT);
    let write = |project: &str| {
        let request = Request::new("PUT", OBJECT).token(&token).header("X-Project", project);
        world.send(&request).status
    };
    assert_eq!((write("other"), write("mine"), write("")), (200, 403, 403));
}

#[test]
fn an_acl_of_a_variable_that_is_none_allows_nothing_and_is_logged() {
    let lines = "keystone_swift_read_acl $http_x_acl; keystone_swift_write_acl $http_x_acl;";
    let world = accounts(lines).start();
    let token = world.pki(&stranger(&["x"]));
    let owner = world.pki(&member(&["admin"]));
    let ask = |token: &str, method: &str, acl: &[u8]| {
        let request = Request::new(method, OBJECT).token(token).header("X-Acl", acl);
        world.send(&request).status
    };
    assert_eq!(ask(&token, "GET", b"other:*"), 200);
    for (method, acl, directive) in [
        ("GET", &b".r:,other:*"[..], "keystone_swift_read_acl"),
        ("GET", b"other:*,.x:y", "keystone_swift_read_acl"),
        ("GET", b"other:*,\xff", "keystone_swift_read_acl"),
        ("PUT", b"other:*,.r:*", "keystone_swift_write_acl"),
    ] {
        let before = world.nginx.error_log().len();
        assert_eq!(ask(&token, method, acl), 403);
        let log = world.nginx.error_log()[before..].to_owned();
        let line = log.lines().find(|line| line.contains("allows nothing"));
        assert!(line.is_some_and(|line| line.contains(directive)), "{log}");
        assert_eq!(ask(&owner, method, acl), 200);
    }
}

#[test]
fn an_acl_does_not_take_away_from_the_accounts_operators() {
    let world = with_read_acl(".r:-*,nobody:nobody");
    passes(&world, Some(&world.pki(&member(&["admin"]))), "GET", OBJECT);
    stays_out(&world, Some(&world.pki(&stranger(&["admin"]))), "GET", OBJECT, 403);
}
