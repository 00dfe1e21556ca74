//! `keystone_swift_delete_containers`: `DELETE` of a container on disk.

use std::os::unix::fs::chown;

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
