//! What the module trusts: its directory, and whom it speaks to.

use std::os::unix::fs::{chown, symlink, MetadataExt};
use std::path::Path;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::SERVICE_PASSWORD;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{check, check_in, worker_ids, Check, Config};
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::temp::{mode, set_mode, TempDir};
use keystone_testbed::world::{fill_signing_dir, make_signing_dir, stranger, World};

/// What nginx logs about a `signing_dir` that existed before it started.
fn judge(make: impl FnOnce(&Path)) -> Check {
    let dir = TempDir::new("judged").unwrap();
    make(&dir.join("keystone"));
    check_in(&dir, &Config::protected()).unwrap()
}

/// CVE-2013-2030: the default `signing_dir` had a name in `/tmp` that anybody could foresee, so a
/// local user could make it first and put certificates of their own there. Here the default is
/// beside nginx's own temporary directories, where only root can make one. A directory is made with
/// mode 0700, and one that somebody else owns, can write or has linked is refused at start.
#[test]
fn cve_2013_2030_a_signing_dir_that_another_user_has_made() {
    let dir = TempDir::new("fresh").unwrap();
    assert!(check_in(&dir, &Config::protected()).unwrap().ok);
    assert_eq!(mode(&dir.join("keystone")).unwrap(), 0o700);
    let owner = std::fs::metadata(dir.join("keystone")).unwrap().uid();
    assert_eq!(owner, worker_ids().0);

    for bits in [0o777, 0o1777, 0o720, 0o702] {
        let planted = judge(|path| {
            fill_signing_dir(path, stranger()).unwrap();
            set_mode(path, bits).unwrap();
        });
        assert!(!planted.ok && planted.text.contains("[emerg]"), "{bits:o}: {}", planted.text);
    }
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let foreign = judge(|path| {
        fill_signing_dir(path, stranger()).unwrap();
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    });
    assert!(!foreign.ok && foreign.text.contains("[emerg]"), "{}", foreign.text);
    let linked = judge(|path| {
        let real = path.with_file_name("real");
        make_signing_dir(&real).unwrap();
        symlink(&real, path).unwrap();
        std::os::unix::fs::lchown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    });
    assert!(!linked.ok && linked.text.contains("[emerg]"), "{}", linked.text);
}

/// CVE-2014-7144: any value of `insecure` in a paste file, `False` too, switched the verification
/// of certificates off. Here only `on` and `off` are values, everything else is an error of the
/// configuration, and `on` verifies.
#[test]
fn cve_2014_7144_only_off_switches_the_verification_off() {
    for value in ["False", "false", "True", "true", "0", "1", "no", "yes", "none", "\"\"", "offf"] {
        let config = Config::protected().set("keystone_ssl_verify", value);
        let check = check(&config).unwrap();
        assert!(!check.ok && check.text.contains("keystone_ssl_verify"), "{value}: {}", check.text);
    }
    for (value, status) in [("on", 503), ("off", 200)] {
        let world = World::setup_https(TlsFiles::self_signed().unwrap(), false)
            .set("keystone_ssl_verify", value)
            .set("keystone_http_request_max_retries", "0")
            .start();
        assert_eq!(world.status(&world.pki(&Payload::v3())), status, "{value}");
    }
}

/// CVE-2015-1852: the same in the other client of keystonemiddleware, s3_token, after auth_token
/// had been cured. Here every question of the module's own goes the same verified way: with an
/// identity service that cannot prove its name, not one request arrives, and no password.
#[test]
fn cve_2015_1852_no_request_goes_to_an_identity_service_that_is_not_verified() {
    let world = World::setup_https(TlsFiles::self_signed().unwrap(), false)
        .logs_in()
        .set("keystone_revocation_events", "100ms")
        .set("keystone_http_request_max_retries", "0")
        .start();
    // Certificates and the list; a login and a validation.
    for token in [world.pki(&Payload::v3()), world.uuid(&Payload::v3())] {
        expect::unavailable(&world.send(&Request::get("/").token(&token)));
        expect::unavailable(&world.send(&Request::get("/delay/").token(&token)));
    }
    world.nginx.wait_for_log("tls handshake").unwrap();
    assert_eq!(world.identity.requests(), [""; 0]);
    assert!(world.upstream.requests().is_empty());
    assert!(!world.nginx.error_log().contains(SERVICE_PASSWORD));
}

/// The id of a user who is neither root nor the workers' user.
const STRANGER: u32 = 12_345;
