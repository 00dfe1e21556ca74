//! Whose account it is, and by which role.

use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;

use super::{accounts, ask, forbidden, member, passes, stays_out, stranger};

const READ: [&str; 2] = ["GET", "HEAD"];
const WRITE: [&str; 3] = ["PUT", "POST", "DELETE"];
const OBJECT: &str = "/v1/AUTH_mine/c/o";
const CONTAINER: &str = "/v1/AUTH_mine/c";
const ACCOUNT: &str = "/v1/AUTH_mine";

#[test]
fn an_operator_does_everything_in_the_own_account_but_delete_it() {
    let world = accounts("").start();
    for role in ["admin", "swiftoperator", "SwiftOperator"] {
        let token = world.pki(&member(&["x", role]));
        for method in [&READ[..], &WRITE].concat() {
            passes(&world, Some(&token), method, OBJECT);
            passes(&world, Some(&token), method, CONTAINER);
        }
        for method in ["GET", "HEAD", "PUT", "POST"] {
            passes(&world, Some(&token), method, ACCOUNT);
            passes(&world, Some(&token), method, "/v1/AUTH_mine/");
        }
        forbidden(&world, &token, "DELETE", ACCOUNT);
        forbidden(&world, &token, "DELETE", "/v1/AUTH_mine/");
    }
}

#[test]
fn an_account_is_its_projects() {
    let world = accounts("").start();
    let token = world.pki(&member(&["admin"]));
    for account in [
        "AUTH_other",
        "AUTH_min",
        "AUTH_mine2",
        "AUTH_MINE",
        "auth_mine",
        "mine",
        "_mine",
        "SERVICE_mine",
        "AUTH_AUTH_mine",
        "AUTH_",
        "AUTH_mine%00",
        "AUTH_mine%20",
        "AUTH_m%C3%A9ne",
        "AUTH_%E1%BB%8Bmine",
    ] {
        let status = if account.ends_with("%00") { 400 } else { 403 };
        for path in [format!("/v1/{account}"), format!("/v1/{account}/c/o")] {
            stays_out(&world, Some(&token), "GET", &path, status);
            stays_out(&world, Some(&token), "PUT", &path, status);
        }
    }
    // The version does not matter to Swift's keystoneauth, and so it does not here.
    passes(&world, Some(&token), "GET", "/v1/AUTH_mine/AUTH_other/AUTH_other");
}

#[test]
fn without_such_a_role_a_members_account_is_closed() {
    let world = accounts("").start();
    for roles in [&[][..], &["member"], &["reader", "swiftoperators", "adminx"]] {
        let token = world.pki(&member(roles));
        for path in [OBJECT, CONTAINER, ACCOUNT] {
            forbidden(&world, &token, "GET", path);
            forbidden(&world, &token, "PUT", path);
        }
    }
}

#[test]
fn a_token_that_is_not_for_a_project_has_no_account() {
    let world = accounts("").start();
    for payload in [Payload::v3_domain(), Payload::v3_system(), Payload::v3_unscoped()] {
        let scoped = payload.clone().roles(&["admin", "swiftoperator"]);
        for token in [world.pki(&payload), world.pki(&scoped)] {
            for account in ["AUTH_", "AUTH_None", "AUTH_domain_id1", "AUTH_tenant_id1", "AUTH_all"]
            {
                forbidden(&world, &token, "GET", &format!("/v1/{account}/c/o"));
            }
        }
    }
}

#[test]
fn a_v2_token_is_as_good() {
    let world = accounts("").start();
    let payload = Payload::v2().project("mine", "My project").roles(&["admin"]);
    passes(&world, Some(&world.pki(&payload)), "PUT", OBJECT);
    passes(&world, Some(&world.pkiz(&payload)), "PUT", OBJECT);
    // And a token that Keystone was asked about.
    passes(&world, Some(&world.uuid(&member(&["admin"]))), "PUT", OBJECT);
    forbidden(&world, &world.pki(&payload), "PUT", "/v1/AUTH_other/c/o");
}

#[test]
fn other_operator_roles() {
    let world = accounts("keystone_swift_operator_roles member Chef;").start();
    for role in ["member", "MEMBER", "chef"] {
        passes(&world, Some(&world.pki(&member(&[role]))), "PUT", OBJECT);
    }
    for role in ["admin", "swiftoperator"] {
        forbidden(&world, &world.pki(&member(&[role])), "PUT", OBJECT);
    }
}

#[test]
fn reseller_prefixes_have_roles_of_their_own() {
    let lines = "keystone_swift_reseller_prefix AUTH OTHER_ LAST;
        keystone_swift_operator_roles member OTHER_:boss LAST:a LAST_:b;";
    let world = accounts(lines).start();
    let may = |role: &str, account: &str| {
        let token = world.pki(&member(&[role]));
        let status = ask(&world, Some(&token), "PUT", &format!("/v1/{account}_mine/c/o")).status;
        assert!(status == 200 || status == 403);
        status == 200
    };
    for (role, where_) in [
        ("member", [true, false, false]),
        ("boss", [false, true, false]),
        ("a", [false, false, true]),
        ("b", [false, false, true]),
        ("admin", [false, false, false]),
    ] {
        assert_eq!(["AUTH", "OTHER", "LAST"].map(|account| may(role, account)), where_, "{role}");
    }
}

#[test]
fn an_empty_reseller_prefix() {
    let world =
        accounts("keystone_swift_reseller_prefix '' AUTH; keystone_swift_operator_roles x;")
            .start();
    let token = world.pki(&member(&["x"]));
    passes(&world, Some(&token), "PUT", "/v1/mine/c/o");
    passes(&world, Some(&token), "PUT", OBJECT);
    forbidden(&world, &token, "PUT", "/v1/other/c/o");
    forbidden(&world, &token, "PUT", "/v1/AUTH_other/c/o");
}

#[test]
fn an_account_of_services_wants_both_tokens() {
    let lines = "keystone_swift_reseller_prefix AUTH SERVICE;
        keystone_swift_service_roles SERVICE_:service;
        keystone_service_token_roles_required off;";
    let world = accounts(lines).start();
    let operator = world.pki(&member(&["admin"]));
    let nobody = world.pki(&member(&["member"]));
    let service = world.pki(&Payload::v3_service());
    let no_service = world.pki(&stranger(&["admin"]));
    for (user, service, status) in [
        (&operator, Some(&service), 200),
        (&operator, Some(&no_service), 403),
        (&operator, None, 403),
        (&nobody, Some(&service), 403),
        (&nobody, None, 403),
    ] {
        let request = Request::new("PUT", "/v1/SERVICE_mine/c/o").token(user);
        let request = match service {
            Some(token) => request.header("X-Service-Token", token),
            None => request,
        };
        assert_eq!(world.send(&request).status, status);
        // The account of users asks for no service.
        let expected = if *user == operator { 200 } else { 403 };
        let request = Request::new("PUT", OBJECT).token(user);
        let request = match service {
            Some(token) => request.header("X-Service-Token", token),
            None => request,
        };
        assert_eq!(world.send(&request).status, expected);
    }
    // What a client says about its roles is nothing.
    let forged = Request::new("PUT", "/v1/SERVICE_mine/c/o").token(&operator);
    let forged = forged.header("X-Service-Roles", "service").header("X_Service_Roles", "service");
    assert_eq!(world.send(&forged.header("X-Service-Identity-Status", "Confirmed")).status, 403);
}

#[test]
fn project_readers_read_the_own_account() {
    let world = accounts("keystone_swift_project_reader_roles Reader;").start();
    let token = world.pki(&member(&["reader"]));
    for path in [OBJECT, CONTAINER, ACCOUNT] {
        for method in READ {
            passes(&world, Some(&token), method, path);
        }
        for method in WRITE {
            forbidden(&world, &token, method, path);
        }
    }
    forbidden(&world, &token, "GET", "/v1/AUTH_other/c/o");
}

#[test]
fn system_readers_read_every_account() {
    let world = accounts("keystone_swift_system_reader_roles auditor;").start();
    let system = world.pki(&Payload::v3_system().roles(&["Auditor"]));
    for token in [system, world.pki(&stranger(&["auditor"]))] {
        for path in [OBJECT, CONTAINER, ACCOUNT] {
            for method in READ {
                passes(&world, Some(&token), method, path);
            }
            for method in WRITE {
                forbidden(&world, &token, method, path);
            }
        }
    }
}

#[test]
fn the_reseller_admin_does_everything_everywhere() {
    for (lines, role, no_role) in [
        ("", "reselleradmin", "root"),
        ("keystone_swift_reseller_admin_role Root;", "ROOT", "ResellerAdmin"),
    ] {
        let world = accounts(lines).start();
        let token = world.pki(&stranger(&[role]));
        for path in [OBJECT, CONTAINER, ACCOUNT, "/v1/unknown_prefix/c"] {
            for method in [&READ[..], &WRITE].concat() {
                passes(&world, Some(&token), method, path);
            }
        }
        forbidden(&world, &world.pki(&stranger(&[no_role])), "GET", OBJECT);
    }
}

#[test]
fn a_path_without_an_account_has_no_owner() {
    let world = accounts("").location("/", "keystone_auth on; keystone_swift_auth on;").start();
    let token = world.pki(&member(&["admin"]));
    for path in ["/v1/", "/info", "/healthcheck"] {
        forbidden(&world, &token, "GET", path);
    }
    // Not a path of Swift's at all.
    stays_out(&world, Some(&token), "GET", "/", 404);
}

#[test]
fn what_the_location_requires_besides_counts_too() {
    let world = accounts("keystone_require_role vip;").start();
    passes(&world, Some(&world.pki(&member(&["admin", "vip"]))), "GET", OBJECT);
    forbidden(&world, &world.pki(&member(&["admin"])), "GET", OBJECT);
    forbidden(&world, &world.pki(&member(&["vip"])), "GET", OBJECT);
}

#[test]
fn an_inner_level_takes_what_it_does_not_set_from_the_outer() {
    let inner = "location /v1/AUTH_mine/inner/ {
            keystone_swift_operator_roles inner;
            proxy_pass @UPSTREAM@;
        }
        location /v1/AUTH_mine/off/ {
            keystone_swift_auth off;
            proxy_pass @UPSTREAM@;
        }
        location /v1/AUTH_mine/open/ {
            keystone_auth off;
            proxy_pass @UPSTREAM@;
        }";
    let lines = format!("keystone_swift_project_reader_roles reader; {inner}");
    let world = accounts("")
        .location("/v1/", &format!("keystone_auth on; keystone_swift_auth on; {lines}"))
        .start();
    passes(&world, Some(&world.pki(&member(&["inner"]))), "PUT", "/v1/AUTH_mine/inner/o");
    forbidden(&world, &world.pki(&member(&["admin"])), "PUT", "/v1/AUTH_mine/inner/o");
    passes(&world, Some(&world.pki(&member(&["reader"]))), "GET", "/v1/AUTH_mine/inner/o");
    passes(&world, Some(&world.pki(&stranger(&["x"]))), "PUT", "/v1/AUTH_mine/off/o");
    passes(&world, None, "PUT", "/v1/AUTH_mine/open/o");
}

#[test]
fn the_log_names_refused_users_and_paths() {
    let world = accounts("").start();
    let token = world.pki(&stranger(&["admin"]));
    forbidden(&world, &token, "GET", OBJECT);
    let log = world.nginx.error_log();
    let line = log.lines().find(|line| line.contains("keystone: forbidden"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("[info]") && line.contains("user: user_id2"), "{line}");
    assert!(line.contains(OBJECT) && !line.contains(&token), "{line}");
}

#[test]
fn the_upstream_gets_the_identity() {
    let world = accounts("").start();
    let seen = world.seen(&Request::get(OBJECT).token(&world.pki(&member(&["admin"]))));
    assert_eq!(seen.header("X-Project-Id").as_deref(), Some("mine"));
    assert_eq!(seen.header("X-Roles").as_deref(), Some("admin"));
}
