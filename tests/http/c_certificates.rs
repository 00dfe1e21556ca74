//! Section C of `docs/behaviour.md`: where certificates come from and where they are kept.

use std::fs;
use std::os::unix::fs::{chown, MetadataExt};
use std::path::Path;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::worker_ids;
use keystone_testbed::pki::{Pki, Shape};
use keystone_testbed::temp::mode;
use keystone_testbed::world::{shared_pki, stranger, World};
use keystone_testbed::{now, wait_for};

const FILES: [&str; 3] = ["cacert.pem", "revoked.pem", "signing_cert.pem"];

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn c01_certificates_over_v2() {
    let world = World::setup().set("keystone_auth_version", "v2.0").start();
    assert_eq!(world.status(&world.pki(&Payload::v2())), 200);
    let mut requests = world.identity.requests();
    requests.sort();
    assert_eq!(
        requests,
        ["GET /v2.0/certificates/ca", "GET /v2.0/certificates/signing", "GET /v2.0/tokens/revoked",]
    );
    assert_eq!(names(&world.signing_dir()), FILES);
}

#[test]
fn c02_certificates_over_v3() {
    let world = World::setup().set("keystone_auth_version", "v3").start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let mut requests = world.identity.requests();
    requests.sort();
    assert_eq!(
        requests,
        [
            "GET /v3/OS-SIMPLE-CERT/ca",
            "GET /v3/OS-SIMPLE-CERT/certificates",
            "GET /v3/auth/tokens/OS-PKI/revoked",
        ]
    );
    assert_eq!(names(&world.signing_dir()), FILES);
}

#[test]
fn c02_the_version_is_discovered_once() {
    for (v2, v3, path) in [(true, true, "/v3/"), (true, false, "/v2.0/"), (false, true, "/v3/")] {
        let change = |identity: &mut keystone_testbed::identity::Identity| {
            let mut state = identity.state();
            (state.v2, state.v3) = (v2, v3);
        };
        let world = World::setup()
            .identity(change)
            .set("keystone_revocation_cache_time", "0")
            .set("keystone_token_cache_time", "off")
            .start();
        for _ in 0..3 {
            assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        }
        let requests = world.identity.requests();
        assert_eq!(requests.iter().filter(|request| *request == "GET /").count(), 1);
        let others: Vec<_> = requests.iter().filter(|request| *request != "GET /").collect();
        assert!(others.iter().all(|request| request.contains(path)), "{others:?}");
    }
}

#[test]
fn c03_files_are_kept_byte_for_byte() {
    let world = World::setup().start();
    // Keystone serves openssl's text dump ahead of the PEM; a comment and line ends of Windows
    // are what an operator may have written.
    let signing = format!("# hello\r\n\r\n{}", world.pki.signing.pem_with_text().unwrap());
    let ca = world.pki.authority.pem_with_text().unwrap();
    world.identity.set_certificates(&signing, &ca);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let read = |name: &str| fs::read_to_string(world.signing_dir().join(name)).unwrap();
    assert_eq!(read("signing_cert.pem"), signing);
    assert_eq!(read("cacert.pem"), ca);
}

#[test]
fn c04_certificates_are_fetched_without_a_token() {
    let world = World::setup().start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let state = world.identity.state();
    let asked: Vec<_> = state.log.iter().filter(|r| r.target.contains("CERT")).collect();
    assert_eq!(asked.len(), 2);
    for request in asked {
        assert_eq!(request.headers.get("X-Auth-Token"), None);
        assert_eq!(request.headers.get("X-Subject-Token"), None);
    }
    let list = state.log.iter().find(|r| r.target.ends_with("/revoked")).unwrap();
    assert!(list.headers.get("X-Auth-Token").is_some());
}

#[test]
fn c05_c06_c07_certificates_that_cannot_be_had() {
    for version in ["v2.0", "v3"] {
        let prefixes = match version {
            "v2.0" => ["/v2.0/certificates", "/v2.0/certificates/signing", "/v2.0/certificates/ca"],
            _ => ["/v3/OS-SIMPLE-CERT", "/v3/OS-SIMPLE-CERT/certificates", "/v3/OS-SIMPLE-CERT/ca"],
        };
        for prefix in prefixes {
            let world = World::setup().set("keystone_auth_version", version).start();
            world.identity.fault(prefix, Fault::Status(404));
            world.judges_signed_tokens_online(prefix);
            let log = world.nginx.error_log();
            assert!(log.lines().any(|l| l.contains("[error]") && l.contains("404")), "{log}");
        }
    }
}

#[test]
fn c05_nothing_that_failed_for_want_of_certificates_is_remembered() {
    let world = World::setup().start();
    world.identity.fault("/", Fault::Status(500));
    let token = world.pki(&Payload::v3());
    assert_eq!(world.status(&token), 503);
    world.identity.heal();
    wait_for("a 200", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn c08_c09_a_path_before_the_version() {
    for (configured, prefix) in [("/newadmin/", "/newadmin"), ("/a/b", "/a/b"), ("/", "")] {
        for version in ["auto", "v2.0", "v3"] {
            let setup = World::setup().set("keystone_auth_version", version);
            let setup = setup.identity(|identity| identity.state().prefix = prefix.into());
            let mut uri = String::new();
            let setup = setup.identity(|identity| uri = format!("http://{}", identity.address()));
            let world = setup.set("keystone_identity_uri", &format!("{uri}{configured}")).start();
            assert_eq!(world.status(&world.pki(&Payload::v3())), 200, "{configured} {version}");
            let state = world.identity.state();
            for request in &state.log {
                assert!(request.target.starts_with(&format!("{prefix}/")), "{}", request.target);
                assert!(!request.target.contains("//"), "{}", request.target);
            }
        }
    }
}

#[test]
fn c10_signing_dir_is_made() {
    let world = World::setup().start();
    let dir = world.signing_dir();
    let (user, _) = worker_ids();
    assert_eq!(mode(&dir).unwrap(), 0o700);
    assert_eq!(fs::metadata(&dir).unwrap().uid(), user);
    assert_eq!(names(&dir), [""; 0]);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    for name in FILES {
        assert_eq!(mode(&dir.join(name)).unwrap(), 0o600, "{name}");
        assert_eq!(fs::metadata(dir.join(name)).unwrap().uid(), user, "{name}");
    }
}

#[test]
fn c10_an_existing_signing_dir_is_used() {
    let world = World::setup().offline().start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert_eq!(world.identity.requests(), [""; 0]);
    assert_eq!(mode(&world.signing_dir()).unwrap(), 0o700);
}

#[test]
fn c10_a_lost_signing_dir_is_made_again() {
    let give_away = |dir: &Path| {
        let (user, group) = worker_ids();
        fs::create_dir(dir.join("var")).unwrap();
        chown(dir.join("var"), Some(user), Some(group)).unwrap();
    };
    let world = World::setup()
        .files(give_away)
        .set("keystone_signing_dir", "@DIR@/var/keystone")
        .set("keystone_revocation_cache_time", "0")
        .start();
    let dir = world.nginx.dir().join("var/keystone");
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    wait_for("a new revoked.pem", || dir.join("revoked.pem").exists().then_some(())).unwrap();
    assert_eq!(mode(&dir).unwrap(), 0o700);
}

#[test]
fn c10_all_that_was_deleted_comes_back() {
    let give_away = |dir: &Path| {
        let (user, group) = worker_ids();
        fs::create_dir(dir.join("var")).unwrap();
        chown(dir.join("var"), Some(user), Some(group)).unwrap();
    };
    let mut world = World::setup()
        .files(give_away)
        .set("keystone_signing_dir", "@DIR@/var/keystone")
        .set("keystone_revocation_cache_time", "1s")
        .start();
    let dir = world.nginx.dir().join("var/keystone");
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let remove_all = |dir: &Path| fs::remove_dir_all(dir).unwrap();
    let remove_one = |dir: &Path| fs::remove_file(dir.join("cacert.pem")).unwrap();
    let removals: [&dyn Fn(&Path); 2] = [&remove_all, &remove_one];
    for remove in removals {
        let whole = || (dir.exists() && names(&dir) == FILES).then_some(());
        wait_for("the files", whole).unwrap();
        let kept = FILES.map(|name| fs::read(dir.join(name)).unwrap());
        remove(&dir);
        wait_for("the files", || {
            assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
            whole()
        })
        .unwrap();
        let (user, _) = worker_ids();
        assert_eq!((mode(&dir).unwrap(), fs::metadata(&dir).unwrap().uid()), (0o700, user));
        for (name, kept) in FILES.iter().zip(kept) {
            let file = dir.join(name);
            assert_eq!((mode(&file).unwrap(), fs::metadata(&file).unwrap().uid()), (0o600, user));
            assert_eq!(fs::read(&file).unwrap(), kept, "{name}");
        }
    }
    // They were fetched once, and a start without the identity service finds them.
    assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/ca"), 1);
    world.identity.stop();
    world.config = world.config.clone().set("keystone_revocation_cache_time", "1h");
    world.nginx.restart(&world.config).unwrap();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
}

#[test]
fn c10_certificates_that_were_deleted_come_back_without_a_list() {
    let world = World::setup().set("keystone_revocation", "off").start();
    let dir = world.signing_dir();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let certificates = ["cacert.pem", "signing_cert.pem"];
    let whole = || (names(&dir) == certificates).then_some(());
    wait_for("the files", whole).unwrap();
    certificates.iter().for_each(|name| fs::remove_file(dir.join(name)).unwrap());
    wait_for("the files", whole).unwrap();
    assert_eq!(world.identity.count("/v3/OS-SIMPLE-CERT/ca"), 1);
}

#[test]
fn c10_files_are_replaced_and_not_rewritten() {
    let world = World::setup().set("keystone_revocation_cache_time", "0").start();
    let list = world.signing_dir().join("revoked.pem");
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let mut old = fs::File::open(&list).unwrap();
    let before = old.metadata().unwrap().ino();
    let text = fs::read_to_string(&list).unwrap();
    world.identity.revoke_token("nobody's");
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    wait_for("another revoked.pem", || (fs::metadata(&list).ok()?.ino() != before).then_some(()))
        .unwrap();
    let mut kept = String::new();
    std::io::Read::read_to_string(&mut old, &mut kept).unwrap();
    assert_eq!(kept, text);
    assert_eq!(names(&world.signing_dir()), FILES);
}

#[test]
fn a_rotated_certificate_is_picked_up() {
    let world = World::setup().workers(2).start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let next = stranger();
    world.identity.rotate(next).unwrap();
    // Refetching is bounded in rate, so it may take a moment.
    wait_for("a token of the new certificate to pass", || {
        let token = Payload::v3().pki(&next.signing).unwrap();
        (world.status(&token) == 200).then_some(())
    })
    .unwrap();
    for pid in world.nginx.worker_pids() {
        let mut client = world.nginx.connect_worker(pid).unwrap();
        let token = Payload::v3().pki(&next.signing).unwrap();
        assert_eq!(client.send(&Request::get("/").token(&token)).unwrap().status, 200);
    }
    let kept = fs::read_to_string(world.signing_dir().join("signing_cert.pem")).unwrap();
    assert_eq!(kept, next.signing.pem_with_text().unwrap());
    expect::refused(&world.send(&Request::get("/").token(&world.pki(&Payload::v3()))));
}

#[test]
fn strangers_tokens_do_not_make_much_traffic() {
    let world = World::setup().workers(2).start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    world.identity.forget_requests();
    let stranger = stranger();
    for _ in 0..50 {
        let token = Payload::v3().pki(&stranger.signing).unwrap();
        expect::refused(&world.send(&Request::get("/").token(&token)));
    }
    let asked = world.identity.count("/v3/OS-SIMPLE-CERT/certificates");
    assert!(asked <= 3, "asked {asked} times");
}

#[test]
fn two_signing_certificates_in_one_file() {
    let world = World::setup().start();
    let second = world.pki.authority.issue(&Shape::signing().serial(2)).unwrap();
    let both = [&world.pki.signing, &second].map(|pair| pair.pem_with_text().unwrap()).concat();
    world.identity.set_certificates(&both, &world.pki.authority.pem().unwrap());
    for pair in [&world.pki.signing, &second] {
        assert_eq!(world.status(&Payload::v3().pki(pair).unwrap()), 200);
    }
}

#[test]
fn a_certificate_that_does_not_chain_is_left_out() {
    let world = World::setup().start();
    let stranger = stranger();
    let chaining = world.pki.authority.issue(&Shape::signing().serial(2)).unwrap();
    let both = [&stranger.signing, &chaining].map(|pair| pair.pem().unwrap()).concat();
    world.identity.set_certificates(&both, &world.pki.authority.pem().unwrap());
    world.identity.state().signer = chaining.clone();
    assert_eq!(world.status(&Payload::v3().pki(&chaining).unwrap()), 200);
    let token = Payload::v3().pki(&stranger.signing).unwrap();
    expect::refused(&world.send(&Request::get("/").token(&token)));
}

#[test]
fn p09_certificates_that_make_no_sense() {
    let pki = shared_pki().unwrap();
    let other = stranger();
    let (signing, ca) = (pki.signing.pem().unwrap(), pki.authority.pem().unwrap());
    let server = pki.authority.renew(&pki.signing, &Shape::server("localhost")).unwrap();
    let wrong = [
        ("text", ("FAKE CERT".into(), ca.clone())),
        ("nothing", (String::new(), ca.clone())),
        ("half a certificate", (signing[..signing.len() / 2].to_owned(), ca.clone())),
        ("another's authority", (signing.clone(), other.authority.pem().unwrap())),
        ("text for an authority", (signing.clone(), "FAKE CERT".into())),
        ("certificates the wrong way round", (ca.clone(), signing.clone())),
        ("a TLS server's certificate", (server.pem().unwrap(), ca.clone())),
    ];
    for (what, (signing, ca)) in wrong {
        let world = World::setup().start();
        world.identity.set_certificates(&signing, &ca);
        world.judges_signed_tokens_online(what);
        assert_eq!(names(&world.signing_dir()), [""; 0], "{what}");
    }
}

#[test]
fn certificates_outside_their_time() {
    let Pki { authority, signing: valid } = shared_pki().unwrap().clone();
    for shape in [Shape::signing().expired(), Shape::signing().not_yet_valid()] {
        let signing = authority.renew(&valid, &shape).unwrap();
        let pki = Pki { authority: authority.clone(), signing };
        // Over the network, and from signing_dir.
        for setup in [World::setup().pki(pki.clone()), World::setup().pki(pki.clone()).offline()] {
            setup.start().judges_signed_tokens_online("a certificate outside its time");
        }
    }
}

#[test]
fn a_certificate_that_ends_while_it_is_used() {
    let Pki { authority, signing } = shared_pki().unwrap().clone();
    let mut shape = Shape::signing();
    shape.not_after = now() + 5;
    let signing = authority.renew(&signing, &shape).unwrap();
    let world = World::setup().pki(Pki { authority, signing }).offline().start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    wait_for("the certificate to end", || {
        (world.status(&world.pki(&Payload::v3())) == 401).then_some(())
    })
    .unwrap();
    assert!(now() >= shape.not_after, "refused {} s early", shape.not_after - now());
    world.judges_signed_tokens_online("a certificate that has ended");
}
