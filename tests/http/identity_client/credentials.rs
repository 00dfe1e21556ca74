//! The service token: how it is got, and when again.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{
    Identity, ADMIN_TOKEN, CREDENTIAL_ID, CREDENTIAL_SECRET, SERVICE_PASSWORD, SERVICE_PROJECT,
    SERVICE_USER,
};
use keystone_testbed::mint::Payload;
use keystone_testbed::world::{Setup, World};

use super::{eager, status};

fn with_password(setup: Setup) -> Setup {
    eager(setup).logs_in()
}

#[test]
fn one_login_serves_many_validations() {
    for (version, path) in
        [("v2.0", "/v2.0/tokens"), ("v3", "/v3/auth/tokens"), ("auto", "/v3/auth")]
    {
        let world = with_password(World::setup()).set("keystone_auth_version", version).start();
        for _ in 0..4 {
            assert_eq!(status(&world), 200, "{version}");
        }
        let requests = world.identity.requests();
        let bought: Vec<_> = requests.iter().filter(|r| r.starts_with("POST")).collect();
        assert_eq!(bought.len(), 1, "{requests:?}");
        assert!(bought[0].starts_with(&format!("POST {path}")), "{requests:?}");
        assert_eq!(requests.iter().filter(|r| r.ends_with("/revoked")).count(), 4);
    }
}

#[test]
fn the_old_names_of_user_password_and_project() {
    let world = eager(World::setup())
        .unset("keystone_admin_token")
        .set("keystone_admin_user", SERVICE_USER)
        .set("keystone_admin_password", SERVICE_PASSWORD)
        .set("keystone_admin_tenant_name", SERVICE_PROJECT)
        .start();
    assert_eq!(status(&world), 200);
}

#[test]
fn users_of_other_domains() {
    let elsewhere = |identity: &mut Identity| {
        let user = &mut identity.state().users[0];
        (user.domain, user.project_domain) = ("Users".into(), "Projects".into());
    };
    let right = with_password(World::setup().identity(elsewhere))
        .set("keystone_user_domain_name", "Users")
        .set("keystone_project_domain_name", "Projects")
        .start();
    assert_eq!(status(&right), 200);
    let wrong = with_password(World::setup().identity(elsewhere)).start();
    assert_eq!(status(&wrong), 503);
}

#[test]
fn a_password_of_odd_characters() {
    let odd = "p\"w\\d {é} $x 'y'";
    let setup = World::setup().identity(|identity| {
        identity.state().users[0].password = odd.into();
    });
    let world = with_password(setup)
        .set("keystone_password", "file:@DIR@/password")
        .files(|dir| std::fs::write(dir.join("password"), format!("{odd}\n")).unwrap())
        .start();
    assert_eq!(status(&world), 200);
}

#[test]
fn an_application_credential() {
    let world = eager(World::setup())
        .unset("keystone_admin_token")
        .set("keystone_application_credential_id", CREDENTIAL_ID)
        .set("keystone_application_credential_secret", CREDENTIAL_SECRET)
        .start();
    assert_eq!(status(&world), 200);
    let requests = world.identity.requests();
    assert!(requests.contains(&"POST /v3/auth/tokens".into()), "{requests:?}");
}

#[test]
fn a_stale_service_token_is_renewed() {
    let world = with_password(World::setup()).start();
    assert_eq!(status(&world), 200);
    world.identity.expire_service_tokens();
    world.identity.forget_requests();
    assert_eq!(status(&world), 200);
    assert_eq!(
        world.identity.requests(),
        [
            "GET /v3/auth/tokens/OS-PKI/revoked",
            "POST /v3/auth/tokens",
            "GET /v3/auth/tokens/OS-PKI/revoked",
        ]
    );
}

#[test]
fn a_wrong_password_is_not_hammered() {
    let world = with_password(World::setup()).set("keystone_password", "wrong").start();
    for _ in 0..10 {
        let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
        expect::unavailable(&answer);
    }
    let requests = world.identity.requests();
    let tries = requests.iter().filter(|request| request.starts_with("POST")).count();
    assert!((1..=3).contains(&tries), "{tries} tries for 10 requests");
}

#[test]
fn a_fixed_token_that_is_refused() {
    let world = eager(World::setup()).set("keystone_admin_token", "stale").start();
    let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
    expect::unavailable(&answer);
    let asked = world.identity.count("/v3/auth/tokens/OS-PKI/revoked");
    assert!((1..=2).contains(&asked), "{asked}");
    let log = world.nginx.error_log();
    assert!(!log.contains("stale,") && !log.contains(ADMIN_TOKEN), "{log}");
}

#[test]
fn no_credentials_and_a_list_that_needs_them() {
    let world = eager(World::setup()).unset("keystone_admin_token").start();
    let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
    expect::unavailable(&answer);
    let world =
        World::setup().unset("keystone_admin_token").set("keystone_revocation", "off").start();
    assert_eq!(status(&world), 200);
}
