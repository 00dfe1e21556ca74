//! The signing directory and the files in it.

use std::fs;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use keystone_testbed::identity::ADMIN_TOKEN;
use keystone_testbed::mint::Revoked;
use keystone_testbed::mount::Mount;
use keystone_testbed::nginx::worker_user;
use keystone_testbed::pki::{Pki, Shape};
use keystone_testbed::temp::set_mode;

use super::gateway::{chown, is_root, Gateway};

#[test]
fn a_gateway_that_works_is_well() {
    let outcome = Gateway::new().check();
    outcome.is_well();
    outcome
        .says("signing_dir.exists", "ok", "keystone")
        .says("signing_dir.mode", "ok", "0700")
        .says("files.chain", "ok", "chains")
        .says("files.current", "ok", "same")
        .says("files.revoked", "ok", "0 entries")
        .says("keystone.revocation_list", "ok", "0 entries");
    if is_root() {
        outcome.says("signing_dir.writable", "ok", "can write");
    }
    assert_eq!(outcome.json["version"], 1);
    assert_eq!(outcome.json["command"], "check");
    assert!(outcome.human.contains("0 failed"), "{}", outcome.human);
}

#[test]
fn a_missing_directory_is_made_by_nginx_unless_its_parent_is_missing_too() {
    let mut gateway = Gateway::new();
    fs::remove_dir_all(gateway.signing_dir()).unwrap();
    let outcome = gateway.check();
    outcome.says("signing_dir.exists", "warn", "install -d");
    assert_eq!(outcome.code, 0);
    gateway.settings =
        Some("keystone_auth_uri http://127.0.0.1:1; keystone_signing_dir no/such/place;".into());
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("signing_dir.exists", "fail", "does not start");
}

#[test]
fn others_must_not_write_to_it() {
    let gateway = Gateway::new();
    set_mode(&gateway.signing_dir(), 0o777).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("signing_dir.mode", "fail", "chmod 0700");
    set_mode(&gateway.signing_dir(), 0o755).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0);
    outcome.says("signing_dir.mode", "warn", "0755");
}

#[test]
fn it_belongs_to_root_or_to_nginx() {
    if !is_root() {
        return;
    }
    let gateway = Gateway::new();
    chown(&gateway.signing_dir(), "daemon");
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("signing_dir.owner", "fail", "chown -R").says(
        "signing_dir.writable",
        "fail",
        "su -s",
    );
    // Of root's it may be, if nginx's user could write there, which it cannot.
    chown(&gateway.signing_dir(), "root");
    let outcome = gateway.check();
    outcome
        .says("signing_dir.owner", "ok", "root")
        .says("signing_dir.writable", "fail", "cannot write")
        .says("signing_dir.writable", "fail", "chown -R");
}

#[test]
fn no_other_user_may_change_a_link_to_it() {
    let gateway = Gateway::new();
    fs::rename(gateway.signing_dir(), gateway.dir.join("real")).unwrap();
    symlink(gateway.dir.join("real"), gateway.signing_dir()).unwrap();
    gateway.check().says("signing_dir.link", "ok", "real");
    set_mode(gateway.dir.path(), 0o777).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("signing_dir.link", "fail", "others can write");
    fs::remove_dir_all(gateway.dir.join("real")).unwrap();
    gateway.check().says("signing_dir.exists", "fail", "link to nowhere");
}

#[test]
fn a_file_in_its_place_is_no_directory() {
    let gateway = Gateway::new();
    fs::remove_dir_all(gateway.signing_dir()).unwrap();
    File::create(gateway.signing_dir()).unwrap();
    gateway.check().says("signing_dir.exists", "fail", "not a directory");
}

#[test]
fn garbage_in_the_files_is_reported() {
    let gateway = Gateway::new();
    gateway.keep("signing_cert.pem", "garbage");
    gateway.keep("revoked.pem", "-----BEGIN CMS-----\nAAAA\n-----END CMS-----\n");
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("files.signing_cert", "fail", "no certificate").says(
        "files.revoked",
        "fail",
        "rm -f",
    );
    gateway.fetch();
    gateway.keep("cacert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    gateway.check().says("files.cacert", "fail", "cannot be read");
    fs::remove_file(gateway.signing_dir().join("cacert.pem")).unwrap();
    symlink("/etc/passwd", gateway.signing_dir().join("cacert.pem")).unwrap();
    gateway.check().says("files.cacert", "fail", "symbolic link");
}

#[test]
fn files_that_are_not_there_yet_are_fetched() {
    let gateway = Gateway::new();
    for name in ["signing_cert.pem", "cacert.pem", "revoked.pem"] {
        fs::remove_file(gateway.signing_dir().join(name)).unwrap();
    }
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("files.signing_cert", "warn", "first PKI token");
}

#[test]
fn the_dates_of_a_certificate_are_reported() {
    for (shape, status, text) in [
        (Shape::signing().expired(), "fail", "expired"),
        (Shape::signing().not_yet_valid(), "fail", "not valid before"),
        (
            Shape { not_after: keystone_testbed::now() + 5 * 86_400, ..Shape::signing() },
            "warn",
            "only 4 days more",
        ),
    ] {
        let gateway = Gateway::with(Pki::with(&Shape::authority(), &shape).unwrap());
        let outcome = gateway.check();
        outcome.says("files.signing_cert", status, text);
        assert_eq!(outcome.code, i32::from(status == "fail"), "{}", outcome.human);
    }
}

#[test]
fn a_certificate_of_another_ca_does_not_chain() {
    let gateway = Gateway::new();
    let other = Pki::with(
        &Shape::authority().common_name("other"),
        &Shape::signing().common_name("signer of another"),
    );
    gateway.keep("signing_cert.pem", &other.unwrap().signing.pem().unwrap());
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("files.chain", "fail", "not trusted");
    outcome.says("files.current", "warn", "serves other certificates");
    outcome.says("files.revoked", "skip", "no certificates");
}

#[test]
fn a_certificate_that_keystone_has_replaced_is_reported() {
    let gateway = Gateway::new();
    gateway.identity.rotate(&Pki::new().unwrap()).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("files.current", "warn", "systemctl restart nginx");
}

#[test]
fn an_old_list_and_one_of_another_signer_are_reported() {
    let gateway = Gateway::new();
    gateway.identity.revoke(Revoked::id("00"));
    gateway.fetch();
    let list = File::options().write(true).open(gateway.signing_dir().join("revoked.pem")).unwrap();
    list.set_modified(SystemTime::now() - Duration::from_secs(5 * 3600)).unwrap();
    let outcome = gateway.check();
    outcome.says("files.revoked", "warn", "1 entries, written 5 h ago");
    let other = Pki::with(&Shape::authority(), &Shape::signing().serial(77)).unwrap();
    gateway.identity.state().signer = other.signing;
    gateway.keep("revoked.pem", &gateway.identity.state().signed_list().unwrap());
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("files.revoked", "fail", "not a known signing certificate");
    outcome.says("keystone.revocation_list", "fail", "certfile");
}

#[test]
fn its_owner_must_be_able_to_write() {
    let gateway = Gateway::new();
    set_mode(&gateway.signing_dir(), 0o500).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("signing_dir.mode", "fail", "0500");
}

#[test]
fn a_closed_directory_above_it_is_named() {
    if !is_root() {
        return;
    }
    let gateway = Gateway::new();
    set_mode(gateway.dir.path(), 0o700).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    let parent = gateway.dir.path().display().to_string();
    outcome.says("signing_dir.writable", "fail", &format!("{parent} (mode 0700) is closed to"));
}

#[test]
fn a_full_file_system_is_reported() {
    let Some(mount) = Mount::small().unwrap() else { return };
    let mut gateway = Gateway::new();
    let directory = mount.path().join("keystone");
    fs::create_dir(&directory).unwrap();
    set_mode(&directory, 0o700).unwrap();
    worker_user().into_iter().for_each(|user| chown(&directory, user));
    gateway.settings = Some(format!(
        "keystone_auth_uri {}; keystone_admin_token file:token; keystone_signing_dir {};",
        gateway.identity.uri(),
        directory.display()
    ));
    gateway.write("token", ADMIN_TOKEN);
    assert_eq!(gateway.check().find("signing_dir.space"), None);
    mount.fill_up().unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1, "{}", outcome.human);
    outcome.says("signing_dir.space", "fail", "df -h");
}
