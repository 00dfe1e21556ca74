//! A disk that is full.

use std::fs;
use std::path::Path;

use keystone_testbed::http::Request;
use keystone_testbed::load::Load;
use keystone_testbed::mint::{new_uuid, Payload, Revoked};
use keystone_testbed::mount::Mount;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

use crate::table::{row, times};

/// Bytes of a page, of which a file of the file system takes whole ones.
const ONE_PAGE: usize = 4_096;

#[test]
fn the_disk_of_signing_dir_is_full_and_has_room_again() {
    let rounds = times(3, 20);
    let Some(mount) = Mount::small().unwrap() else { return };
    let directory = mount.path().join("keystone");
    let world = World::setup()
        .workers(2)
        .config(|config| config.shared_socket())
        .set("keystone_signing_dir", &directory.display().to_string())
        .set("keystone_revocation_cache_time", "1s")
        .start();
    let tokens: Vec<_> = (0..100).map(|_| world.pki(&Payload::v3())).collect();
    // Where a list is replaced while a token is verified, the identity service judges the token.
    tokens.iter().for_each(|token| world.identity.know(token, &Payload::v3()));
    let list = directory.join("revoked.pem");
    let request = |number: usize| Request::get("/").token(&tokens[number % tokens.len()]);
    let load = Load::on(world.nginx.address());
    let (outcome, ()) = load.during(request, |_| {
        for _ in 0..rounds {
            // A list of before that has grown could fill the disk alone.
            world.identity.state().revoked.clear();
            let is_short = || (fs::metadata(&list).ok()?.len() < 2_048).then_some(());
            wait_for("a short list on disk", is_short).unwrap();
            mount.fill_up().unwrap();
            let revoked = world.pki(&Payload::v3());
            assert_eq!(world.status(&revoked), 200);
            world.identity.revoke_token(&revoked);
            // A list that has grown does not fit over the old one.
            (0..40).for_each(|_| world.identity.revoke(Revoked::id(new_uuid())));
            wait_for("the token to be refused", || (world.status(&revoked) == 401).then_some(()))
                .unwrap();
            // A short one may still have replaced it: it was being written while the disk filled up,
            // or it fits where that one had been.
            let kept = fs::read_to_string(&list).unwrap();
            assert!(kept.len() < ONE_PAGE, "the disk has room: {} bytes", kept.len());
            assert!(kept.trim_end().ends_with("-----END CMS-----"), "half a list: {kept}");
            mount.make_room();
            let written = || (fs::metadata(&list).ok()?.len() as usize > ONE_PAGE).then_some(());
            wait_for("the new list on disk", written).unwrap();
            assert_eq!(names(&directory), ["cacert.pem", "revoked.pem", "signing_cert.pem"]);
        }
    });
    outcome.assert_only(&[200], "a full disk");
    world.nginx.wait_for_log("revoked.pem cannot be written: No space left on device").unwrap();
    world.nginx.wait_for_log("keystone can be written again").unwrap();
    world.assert_quiet_log();
    row(
        "disk of keystone_signing_dir full, then with room again",
        rounds,
        "no request notices; revocations count; the old list stays whole, the new one is written \
         as soon as there is room",
        outcome,
    );
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
