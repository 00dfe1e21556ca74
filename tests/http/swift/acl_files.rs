//! `keystone_swift_acl_file`: ACLs that are kept beside the objects.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use keystone_testbed::http::Request;
use keystone_testbed::temp::set_mode;
use keystone_testbed::world::{Setup, World};

use super::{ask, forbidden, member, passes, put, stranger, unauthorized};

const FILE: &str = "keystone_swift_acl_file
    @DIR@/html/.acl/$keystone_swift_account/$keystone_swift_container;";
const OBJECT: &str = "/v1/AUTH_mine/c/o";
const CONTAINER: &str = "/v1/AUTH_mine/c";

fn with_file(lines: &str, content: &str) -> Setup {
    let lines = format!("keystone_auth delay; keystone_swift_auth on; {FILE} {lines}");
    World::setup()
        .offline()
        .location("/v1/", &format!("{lines} proxy_pass @UPSTREAM@;"))
        .files(|dir| put(dir, ".acl/AUTH_mine/c", content))
}

/// The path of the container's file in this world.
fn path(world: &World) -> std::path::PathBuf {
    world.nginx.dir().join("html/.acl/AUTH_mine/c")
}

#[track_caller]
fn allows_nothing(world: &World, words: &str) {
    let before = world.nginx.error_log().len();
    forbidden(world, &world.pki(&stranger(&["x"])), "GET", OBJECT);
    unauthorized(world, "GET", OBJECT);
    let log = world.nginx.error_log()[before..].to_owned();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("allows nothing")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines.iter().all(|line| line.contains(words)), "{words}: {log}");
    // Whoever needs no ACL is not kept out by one that is broken.
    passes(world, Some(&world.pki(&member(&["admin"]))), "GET", OBJECT);
}

#[test]
fn it_says_which_uses_read_and_which_write() {
    let world =
        with_file("", r#"{"read": "other:*, .r:www.example.com", "write": "*:user_id2"}"#).start();
    let token = world.pki(&stranger(&["x"]));
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
        passes(&world, Some(&token), method, OBJECT);
    }
    passes(&world, Some(&token), "GET", CONTAINER);
    forbidden(&world, &token, "PUT", CONTAINER);
    forbidden(&world, &token, "GET", "/v1/AUTH_mine");
    unauthorized(&world, "GET", OBJECT);
    let request = Request::get(OBJECT).header("Referer", "http://www.example.com/");
    assert_eq!(world.send(&request).status, 200);
    let other = world.pki(&stranger(&["x"]).project("third", "Third").user("u3", "n3"));
    forbidden(&world, &other, "GET", OBJECT);
    // Another container's, or another account's.
    forbidden(&world, &token, "GET", "/v1/AUTH_mine/d/o");
    forbidden(&world, &token, "GET", "/v1/AUTH_mine2/c/o");
}

#[test]
fn either_half_may_be_missing() {
    let read = with_file("", r#"{"read": "other:*"}"#).start();
    let write = with_file("", r#"{"write": "other:*"}"#).start();
    let neither = with_file("", "{}").start();
    for (world, may_read, may_write) in [(read, 200, 403), (write, 403, 200), (neither, 403, 403)] {
        let token = world.pki(&stranger(&["x"]));
        assert_eq!(ask(&world, Some(&token), "GET", OBJECT).status, may_read);
        assert_eq!(ask(&world, Some(&token), "PUT", OBJECT).status, may_write);
    }
}

#[test]
fn a_file_that_is_missing_is_no_acl() {
    let world = with_file("", "{}").start();
    fs::remove_file(path(&world)).unwrap();
    let token = world.pki(&stranger(&["x"]));
    let check = || {
        forbidden(&world, &token, "GET", OBJECT);
        unauthorized(&world, "GET", OBJECT);
    };
    check();
    // Nor is there a directory for it.
    fs::remove_dir_all(world.nginx.dir().join("html/.acl")).unwrap();
    check();
    fs::write(world.nginx.dir().join("html/.acl"), "").unwrap();
    check();
    assert!(!world.nginx.error_log().contains("[error]"), "{}", world.nginx.error_log());
}

#[test]
fn a_name_that_no_file_can_have_is_no_acl_either() {
    let world = with_file("", "{}").start();
    let long = "x".repeat(300);
    unauthorized(&world, "GET", &format!("/v1/AUTH_mine/{long}/o"));
    // And what a client sends cannot make a line of the log.
    let (odd, dir) = ("a\nFAKE [emerg] \u{1b}b", "html/.acl/AUTH_mine");
    put(world.nginx.dir(), &format!(".acl/AUTH_mine/{odd}/x"), "");
    assert!(world.nginx.dir().join(dir).join(odd).is_dir());
    unauthorized(&world, "GET", "/v1/AUTH_mine/a%0AFAKE%20[emerg]%20%1Bb/o");
    let log = world.nginx.error_log();
    assert!(!log.contains("ENAMETOOLONG") && !log.contains("too long"), "{log}");
    assert!(
        log.contains("not a file") && !log.contains("\nFAKE") && !log.contains('\u{1b}'),
        "{log}"
    );
}

#[test]
fn a_change_counts_at_once() {
    let world = with_file("", "{}").start();
    unauthorized(&world, "GET", OBJECT);
    fs::write(path(&world), r#"{"read": ".r:*"}"#).unwrap();
    passes(&world, None, "GET", OBJECT);
    fs::write(path(&world), r#"{"read": ".r:*,.rlistings"}"#).unwrap();
    passes(&world, None, "GET", CONTAINER);
    fs::remove_file(path(&world)).unwrap();
    unauthorized(&world, "GET", OBJECT);
}

#[test]
fn what_is_no_acl_file_allows_nothing() {
    let large = format!(r#"{{"read": "{}other:*"}}"#, "x:y,".repeat(20_000));
    for (content, words) in [
        ("", "unexpected end"),
        ("other:*", "syntax error"),
        ("[]", "misplaced value"),
        (r#"{"read": ["other:*"]}"#, "misplaced value"),
        (r#"{"read": "other:*", "raed": ""}"#, "misplaced value"),
        (r#"{"read": "other:*"} {}"#, "syntax error"),
        (r#"{"read": "other:*,.r:"}"#, ".r:"),
        (r#"{"read": "other:*,.x:y"}"#, ".x"),
        (&large, "65536"),
    ] {
        let world = with_file("", content).start();
        allows_nothing(&world, words);
    }
}

#[test]
fn what_is_no_acl_file_is_an_error_once() {
    let world = with_file("", "{").start();
    for _ in 0..5 {
        unauthorized(&world, "GET", OBJECT);
    }
    let log = world.nginx.error_log();
    let lines = || log.lines().filter(|line| line.contains("allows nothing"));
    assert_eq!(lines().filter(|line| line.contains("[error]")).count(), 1, "{log}");
    assert_eq!(lines().filter(|line| line.contains("[info]")).count(), 4, "{log}");
}

#[test]
fn what_is_no_file_allows_nothing() {
    let world = with_file("", r#"{"read": ".r:*"}"#).start();
    fs::remove_file(path(&world)).unwrap();
    fs::create_dir(path(&world)).unwrap();
    allows_nothing(&world, "not a file");
    fs::remove_dir(path(&world)).unwrap();
    symlink("c", path(&world)).unwrap();
    allows_nothing(&world, "symbolic links");
}

#[test]
fn a_file_that_the_worker_may_not_read_allows_nothing() {
    if keystone_testbed::nginx::worker_user().is_none() {
        println!("Only root can start workers as another user.");
        return;
    }
    let world = with_file("", r#"{"read": ".r:*"}"#).start();
    set_mode(&path(&world), 0o600).unwrap();
    allows_nothing(&world, "Permission denied");
}

#[test]
fn symbolic_links_are_followed_unless_nginx_forbids_it() {
    for (lines, follows) in [("", true), ("disable_symlinks on;", false)] {
        let world = with_file(lines, "{}").start();
        put(world.nginx.dir(), "real", r#"{"read": ".r:*"}"#);
        fs::remove_file(path(&world)).unwrap();
        symlink(world.nginx.dir().join("html/real"), path(&world)).unwrap();
        match follows {
            true => passes(&world, None, "GET", OBJECT),
            false => allows_nothing(&world, "symbolic links"),
        }
    }
}

#[test]
fn the_open_file_cache_keeps_it() {
    let cache = "open_file_cache max=10; open_file_cache_valid 1h; open_file_cache_errors on;";
    let world = with_file(cache, r#"{"read": ".r:*"}"#).start();
    for _ in 0..3 {
        passes(&world, None, "GET", OBJECT);
    }
    // It is the file that was opened which counts, also when it is gone.
    fs::remove_file(path(&world)).unwrap();
    passes(&world, None, "GET", OBJECT);
    // And that a file is missing is remembered too.
    let other = "/v1/AUTH_mine/d/o";
    unauthorized(&world, "GET", other);
    put(world.nginx.dir(), ".acl/AUTH_mine/d", r#"{"read": ".r:*"}"#);
    unauthorized(&world, "GET", other);
    // What is written into a file that is open is seen.
    let world = with_file(cache, r#"{"read": ".r:*"}"#).start();
    passes(&world, None, "GET", OBJECT);
    fs::write(path(&world), r#"{"read": ""}"#).unwrap();
    unauthorized(&world, "GET", OBJECT);
    fs::write(path(&world), r#"{"read": "x:y, z:a, .r:*,.rlistings"}"#).unwrap();
    passes(&world, None, "GET", CONTAINER);
    world.assert_quiet_log();
}

#[test]
fn files_are_not_kept_open_without_it() {
    let world = with_file("", r#"{"read": ".r:*"}"#).start();
    let pid = world.nginx.worker_pids()[0];
    let open =
        || fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap().count();
    passes(&world, None, "GET", OBJECT);
    let before = open();
    for _ in 0..20 {
        passes(&world, None, "GET", OBJECT);
    }
    assert!(open() <= before + 2, "{} files were open, now it is {}", before, open());
}

#[test]
fn what_the_directive_says_counts_too() {
    let world = with_file("keystone_swift_read_acl third:*;", r#"{"read": "other:*"}"#).start();
    let third = world.pki(&stranger(&["x"]).project("third", "Third"));
    passes(&world, Some(&third), "GET", OBJECT);
    passes(&world, Some(&world.pki(&stranger(&["x"]))), "GET", OBJECT);
    forbidden(&world, &world.pki(&stranger(&["x"]).project("fourth", "Fourth")), "GET", OBJECT);
}

#[test]
fn a_relative_path_starts_where_the_configuration_is() {
    let lines = "keystone_auth delay; keystone_swift_auth on;
        keystone_swift_acl_file html/acls/one.json; proxy_pass @UPSTREAM@;";
    let world = World::setup()
        .offline()
        .location("/v1/", lines)
        .files(|dir| put(dir, "acls/one.json", r#"{"read": ".r:*"}"#))
        .start();
    passes(&world, None, "GET", OBJECT);
}
