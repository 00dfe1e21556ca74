//! `keystone_swift_auth`: authorization for accounts.
//!
//! The decision itself is compared with Swift's in `tests/oracle_keystoneauth`; here is that a
//! request gets there with all that it goes by, and what becomes of it.

mod acl_files;
mod acls;
mod config;
mod containers;
mod paths;
mod public;
mod roles;

use std::fs;
use std::path::Path;

use keystone_testbed::expect;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::Payload;
use keystone_testbed::world::{Setup, World};

/// Accounts at two places: `/v1/` hands requests to an upstream as they came, `/disk/` (which is a
/// version of the API as good as any to Swift) serves files.
fn accounts(lines: &str) -> Setup {
    let lines = format!("keystone_swift_auth on; {lines}");
    World::setup()
        .offline()
        .location("/v1/", &format!("keystone_auth on; {lines} proxy_pass @UPSTREAM@;"))
        .location("/disk/", &format!("keystone_auth on; {lines}"))
}

/// Who has a role in project `mine`, whose account is `AUTH_mine`.
fn member(roles: &[&str]) -> Payload {
    Payload::v3().project("mine", "My project").roles(roles)
}

/// The same of project `other`.
fn stranger(roles: &[&str]) -> Payload {
    Payload::v3().project("other", "Other project").user("user_id2", "user_name2").roles(roles)
}

/// A user of the default domain, whose names an ACL may contain.
fn in_default_domain(payload: Payload) -> Payload {
    payload.with("/user/domain/id", "default".into()).with("/project/domain/id", "default".into())
}

fn ask(world: &World, token: Option<&str>, method: &str, target: &str) -> Response {
    let request = Request::new(method, target);
    world.send(&match token {
        Some(token) => request.token(token),
        None => request,
    })
}

/// The path reaches the upstream as it was written.
#[track_caller]
fn passes(world: &World, token: Option<&str>, method: &str, target: &str) {
    let before = world.upstream.requests().len();
    let answer = ask(world, token, method, target);
    assert_eq!(answer.status, 200, "{method} {target}: {}", answer.text());
    let requests = world.upstream.requests();
    assert_eq!(requests.len(), before + 1, "{method} {target}");
    assert_eq!(
        (requests[before].method.as_str(), requests[before].target.as_str()),
        (method, target)
    );
}

#[track_caller]
fn stays_out(world: &World, token: Option<&str>, method: &str, target: &str, status: u16) {
    let before = world.upstream.requests().len();
    let answer = ask(world, token, method, target);
    match (status, method) {
        (_, "HEAD") => assert_eq!(answer.status, status, "{method} {target}"),
        (401, _) => expect::refused(&answer),
        (403, _) => {
            expect::forbidden(&answer);
            assert_eq!(answer.header("X-Result"), Some("forbidden"), "{method} {target}");
        }
        (status, _) => assert_eq!(answer.status, status, "{method} {target}"),
    }
    assert_eq!(world.upstream.requests().len(), before, "{method} {target}");
}

/// Expects 403: the user is known, and not authorized.
#[track_caller]
fn forbidden(world: &World, token: &str, method: &str, target: &str) {
    stays_out(world, Some(token), method, target, 403);
}

/// Expects 401: the request needs a token.
#[track_caller]
fn unauthorized(world: &World, method: &str, target: &str) {
    stays_out(world, None, method, target, 401);
}

/// Writes a file below the document root.
fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join("html").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
