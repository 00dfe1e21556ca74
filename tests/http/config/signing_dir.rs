//! `keystone_signing_dir`: whose it may be, and who may write to it.

use std::fs;
use std::os::unix::fs::{chown, symlink, MetadataExt};
use std::path::Path;

use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{check, check_in, worker_ids, Check, Config};
use keystone_testbed::temp::{mode, set_mode, TempDir};
use keystone_testbed::world::{fill_signing_dir, make_signing_dir, shared_pki, World};

/// nginx's verdict on a `signing_dir` that was made by hand.
fn judge(make: impl FnOnce(&Path)) -> Check {
    let dir = TempDir::new("judged").unwrap();
    make(&dir.join("keystone"));
    check_in(&dir, &Config::protected()).unwrap()
}

#[test]
fn a_missing_signing_dir_is_made() {
    let dir = TempDir::new("made").unwrap();
    let check = check_in(&dir, &Config::protected()).unwrap();
    assert!(check.ok, "{}", check.text);
    let (user, _) = worker_ids();
    assert_eq!(mode(&dir.join("keystone")).unwrap(), 0o700);
    assert_eq!(fs::metadata(dir.join("keystone")).unwrap().uid(), user);
}

#[test]
fn a_file_that_a_killed_process_with_the_same_id_left_in_the_signing_dir() {
    let dir = TempDir::new("left").unwrap();
    make_signing_dir(&dir.join("keystone")).unwrap();
    // `-p DIR` follows nginx's path.
    let leave = "touch \"$3/keystone/.probe.$$\" && exec \"$@\"";
    let check = check_in(&dir, &Config::protected().under(&["sh", "-c", leave, "sh"])).unwrap();
    assert!(check.ok, "{}", check.text);
    assert_eq!(fs::read_dir(dir.join("keystone")).unwrap().count(), 0);
}

#[test]
fn a_signing_dir_that_cannot_be_made() {
    let config = Config::protected().set("keystone_signing_dir", "/proc/keystone");
    let check = check(&config).unwrap();
    assert!(!check.ok && check.text.contains("/proc/keystone"), "{}", check.text);
    let config = Config::protected().set("keystone_signing_dir", "@DIR@/a/b/c/keystone");
    assert!(!keystone_testbed::nginx::check(&config).unwrap().ok);
}

#[test]
fn a_signing_dir_that_is_a_file() {
    let check = judge(|path| fs::write(path, "").unwrap());
    assert!(!check.ok && check.text.contains("keystone"), "{}", check.text);
}

#[test]
fn a_signing_dir_that_others_can_write() {
    for bits in [0o722, 0o720, 0o702, 0o777, 0o1777] {
        let check = judge(|path| {
            make_signing_dir(path).unwrap();
            set_mode(path, bits).unwrap();
        });
        assert!(!check.ok, "{bits:o}");
        assert!(check.text.contains("[emerg]") && check.text.contains("/keystone"), "{bits:o}");
    }
}

#[test]
fn a_signing_dir_that_others_can_read() {
    for bits in [0o755, 0o750, 0o705, 0o744] {
        let check = judge(|path| {
            make_signing_dir(path).unwrap();
            set_mode(path, bits).unwrap();
        });
        assert!(check.ok, "{}", check.text);
        let line = check.text.lines().find(|line| line.contains("[warn]"));
        let is_told = line.is_some_and(|line| line.contains("keystone: keystone_signing_dir "));
        assert!(is_told, "{bits:o}: {}", check.text);
    }
    let quiet = judge(|path| make_signing_dir(path).unwrap());
    assert!(quiet.ok && !quiet.text.contains("[warn]"), "{}", quiet.text);
}

#[test]
fn a_signing_dir_that_the_worker_cannot_write() {
    let check = judge(|path| {
        make_signing_dir(path).unwrap();
        set_mode(path, 0o500).unwrap();
    });
    assert!(!check.ok && check.text.contains("/keystone"), "{}", check.text);
    if !is_root() {
        return;
    }
    let check = judge(|path| {
        make_signing_dir(path).unwrap();
        chown(path, Some(0), Some(0)).unwrap();
    });
    assert!(!check.ok, "it is root's, and workers are not: {}", check.text);
}

#[test]
fn a_signing_dir_of_another_user() {
    if !is_root() {
        eprintln!("skipped: only root can give a directory away");
        return;
    }
    let check = judge(|path| {
        make_signing_dir(path).unwrap();
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    });
    assert!(!check.ok && check.text.contains("/keystone"), "{}", check.text);
}

#[test]
fn a_signing_dir_behind_a_symbolic_link() {
    let linked = |owner: u32, parent: u32| {
        let dir = TempDir::new("linked").unwrap();
        make_signing_dir(&dir.join("real")).unwrap();
        fs::create_dir(dir.join("parent")).unwrap();
        set_mode(&dir.join("parent"), parent).unwrap();
        let link = dir.join("parent/keystone");
        symlink(dir.join("real"), &link).unwrap();
        if is_root() {
            std::os::unix::fs::lchown(&link, Some(owner), Some(owner)).unwrap();
        }
        let config = Config::protected().set("keystone_signing_dir", "@DIR@/parent/keystone");
        check_in(&dir, &config).unwrap()
    };
    // Root's link in root's directory can be turned by root alone.
    assert!(linked(0, 0o755).ok);
    // In a directory that all may write, anybody can put another link there.
    assert!(!linked(0, 0o777).ok);
    if is_root() {
        let check = linked(STRANGER, 0o755);
        assert!(!check.ok && check.text.contains("keystone"), "{}", check.text);
        assert!(!linked(STRANGER, 0o1777).ok);
    }
}

#[test]
fn a_filled_signing_dir_behind_a_trusted_link_is_used() {
    let fill = |dir: &Path| {
        fill_signing_dir(&dir.join("real"), shared_pki().unwrap()).unwrap();
        symlink(dir.join("real"), dir.join("keystone")).unwrap();
    };
    let world = World::setup()
        .files(fill)
        .set("keystone_revocation_cache_time", "1h")
        .identity(|identity| identity.stop())
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
}

/// Otherwise the tokens of one cloud would be good in the other one, with its certificates.
#[test]
fn two_identity_services_do_not_share_a_signing_dir_under_two_names() {
    let dir = TempDir::new("shared").unwrap();
    fs::create_dir(dir.join("beside")).unwrap();
    symlink(dir.join("keystone"), dir.join("link")).unwrap();
    let check = |other: &str| {
        let server = format!(
            "server {{ listen 127.0.0.1:1; keystone_auth on; keystone_auth_uri http://127.0.0.1:1;
             keystone_signing_dir @DIR@/{other}; }}"
        );
        check_in(&dir, &Config::protected().http(&server)).unwrap()
    };
    // First, there is none yet, and nginx makes it.
    for other in ["beside/../keystone", "beside/../keystone", "link"] {
        let Check { ok, text } = check(other);
        assert!(!ok && text.contains("share the keystone_signing_dir"), "{other}: {text}");
        assert!(text.contains("[emerg]") && text.contains("nginx.conf:"), "{other}: {text}");
    }
    let Check { ok, text } = check("other");
    assert!(ok, "{text}");
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A user id that is neither root's nor the workers'.
const STRANGER: u32 = 54_321;
