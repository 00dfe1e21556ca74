//! `keystone_swift_delete_containers`: `DELETE` of a container on disk.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use keystone_testbed::nginx::worker_ids;
use keystone_testbed::world::World;

use super::{ask, member, put};

#[test]
fn a_container_is_deleted_only_where_tokens_are_checked_and_it_is_on() {
    let on = "keystone_swift_delete_containers on;";
    let world = World::setup()
        .offline()
        .location("/v1/", &format!("keystone_auth on; keystone_swift_auth on; {on}"))
        .location("/off/", &format!("keystone_auth off; {on}"))
        .location("/default/", "keystone_auth on; keystone_swift_auth on;")
        .files(|dir| {
            let (user, group) = worker_ids();
            for place in ["v1", "off", "default"] {
                put(dir, &format!("{place}/AUTH_mine/c/.container"), "");
                for path in ["AUTH_mine", "AUTH_mine/c"] {
                    let path = dir.join("html").join(place).join(path);
                    chown(path, Some(user), Some(group)).unwrap();
                }
            }
        })
        .start();
    let token = world.pki(&member(&["admin"]));
    let status = |token, target| ask(&world, token, "DELETE", target).status;
    assert_eq!(status(None, "/v1/AUTH_mine/c"), 401);
    assert_eq!(status(Some(token.as_str()), "/off/AUTH_mine/c"), 405);
    assert_eq!(status(Some(token.as_str()), "/default/AUTH_mine/c"), 405);
    for place in ["v1", "off", "default"] {
        let marker = world.nginx.dir().join("html").join(place).join("AUTH_mine/c/.container");
        assert!(marker.exists(), "{place}");
    }
    // Neither an account nor an object is a container.
    for target in ["/v1/AUTH_mine", "/v1/AUTH_mine/", "/v1/AUTH_mine/c/.container"] {
        let status = status(Some(token.as_str()), target);
        assert!(matches!(status, 403 | 405), "{target}: {status}");
    }
    assert_eq!(status(Some(token.as_str()), "/v1/AUTH_mine/c"), 204);
    assert!(!world.nginx.dir().join("html/v1/AUTH_mine/c").exists());
    assert_eq!(status(Some(token.as_str()), "/v1/AUTH_mine/c"), 404);
}

#[test]
fn a_request_looks_at_some_thousand_directories_of_a_container() {
    let world = World::setup()
        .offline()
        .location(
            "/v1/",
            "keystone_auth on; keystone_swift_auth on; keystone_swift_delete_containers on;",
        )
        .files(|dir| {
            let v1 = dir.join("html/v1");
            let account = v1.join("AUTH_mine");
            // Two levels, of which the outer one alone has few, and half of them.
            for at in 0..2_400 {
                let folder = format!("{}/{}", at % 20, at / 20);
                fs::create_dir_all(account.join("wide").join(&folder)).unwrap();
                fs::create_dir_all(account.join("kept").join(folder)).unwrap();
            }
            for at in 0..1_200 {
                fs::create_dir_all(account.join(format!("spread/{at}/x"))).unwrap();
            }
            for at in 0..3_000 {
                fs::create_dir_all(account.join(format!("flat/{at}"))).unwrap();
            }
            for at in 0..999 {
                fs::create_dir_all(account.join("narrow/folders").join(at.to_string())).unwrap();
            }
            let deep = account.join("deep");
            fs::create_dir_all(deep.join("a/".repeat(1_001))).unwrap();
            fs::write(account.join("kept/7/30/object"), "").unwrap();
            fs::create_dir_all(account.join("few/empty")).unwrap();
            fs::write(account.join("few/object"), "").unwrap();
            give_to_worker(&v1);
        })
        .start();
    let token = world.pki(&member(&["admin"]));
    let account = world.nginx.dir().join("html/v1/AUTH_mine");
    let status =
        |name: &str| ask(&world, Some(&token), "DELETE", &format!("/v1/AUTH_mine/{name}")).status;
    let reason = "cannot be deleted: it has more than 2100 directories";
    let reasons = || world.nginx.error_log().matches(reason).count();

    assert_eq!(status("narrow"), 204);
    assert!(!account.join("narrow").exists());
    assert_eq!(reasons(), 0);

    for (round, name) in ["wide", "spread", "flat"].iter().enumerate() {
        assert_eq!(status(name), 409, "{name}");
        assert_eq!(reasons(), round + 1, "{name}");
        assert_eq!(status(name), 204, "{name}");
        assert!(!account.join(name).exists());
    }
    assert_eq!(status("deep"), 204);

    // An object stays, however often, and so do the directories where all were looked at.
    for _ in 0..3 {
        assert_eq!(status("kept"), 409);
        assert_eq!(status("few"), 409);
    }
    assert!(account.join("kept/7/30/object").exists());
    assert!(account.join("few/empty").exists());
}

/// Makes a directory, with all in it, the worker's.
fn give_to_worker(path: &Path) {
    let (user, group) = worker_ids();
    chown(path, Some(user), Some(group)).unwrap();
    let Ok(entries) = fs::read_dir(path) else { return };
    entries.for_each(|entry| give_to_worker(&entry.unwrap().path()));
}
