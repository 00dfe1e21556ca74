//! When something is broken: the identity service, the network, the files, the disk.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::{Fault, Gate, Identity};
use keystone_testbed::mint::{self, Payload, Revoked};
use keystone_testbed::mount::Mount;
use keystone_testbed::nginx::WORKER;
use keystone_testbed::pki::{Pki, Shape};
use keystone_testbed::wait_for;
use keystone_testbed::world::{make_signing_dir, put, shared_pki, stranger, Setup, World};

use crate::e_online_faults::until_silence_ends;

/// A world in which nothing is tried twice.
fn impatient() -> Setup {
    World::setup().set("keystone_http_request_max_retries", "0")
}

#[test]
fn p06_p07_the_identity_service_is_down_and_signing_dir_is_empty() {
    let mut world = impatient().identity(|identity| identity.stop()).start();
    let token = world.pki(&Payload::v3());
    let start = Instant::now();
    expect::unavailable(&world.send(&Request::get("/").token(&token)));
    expect::unavailable(&world.send(&Request::get("/").token(&world.pkiz(&Payload::v2()))));
    expect::unavailable(&world.send(&Request::get("/files/hello.txt").token(&token)));
    expect::refused(&world.send(&Request::get("/")));
    expect::refused(&world.send(&Request::get("/").token("MIInonsense")));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(world.nginx.error_log().lines().any(|line| line.contains("[error]")));
    world.identity.restart().unwrap();
    wait_for("the token to pass", || (world.status(&token) == 200).then_some(())).unwrap();
}

#[test]
fn the_identity_service_is_down_and_signing_dir_is_filled() {
    let world = World::setup().offline().identity(|identity| identity.stop()).start();
    expect::v3_user(&world.seen(&Request::get("/").token(&world.pki(&Payload::v3()))));
    expect::v2_user(&world.seen(&Request::get("/").token(&world.pkiz(&Payload::v2()))));
    let expired = world.pki(&Payload::v3().expires_in(-1));
    expect::refused(&world.send(&Request::get("/").token(&expired)));
}

#[test]
fn the_identity_service_is_down_and_the_list_in_signing_dir_is_old() {
    let age = |dir: &Path| {
        let list = fs::File::open(dir.join("keystone/revoked.pem")).unwrap();
        list.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).unwrap();
    };
    let old = || impatient().offline().identity(|identity| identity.stop()).files(age);
    let world = old().start();
    expect::unavailable(&world.send(&Request::get("/").token(&world.pki(&Payload::v3()))));
    let world = old().set("keystone_revocation_stale", "3h").start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
}

#[test]
fn a_restart_while_the_identity_service_is_down() {
    let mut world = World::setup().set("keystone_revocation_cache_time", "1h").start();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let written = || world.signing_dir().join("revoked.pem").exists().then_some(());
    wait_for("revoked.pem", written).unwrap();
    world.identity.stop();
    world.nginx.restart(&world.config).unwrap();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    expect::refused(&world.send(&Request::get("/").token(&revoked)));
}

#[test]
fn answers_that_are_broken() {
    let faults = [
        Fault::CloseBeforeAnswer,
        Fault::Garbage,
        Fault::Half,
        Fault::WrongLength(100),
        Fault::WrongLength(-100),
        Fault::Silence,
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(400),
        Fault::Status(204),
        Fault::Status(302),
        Fault::Body(vec![b'['; 100_000]),
        Fault::Body(b"\xff\xfe\xfd".to_vec()),
        Fault::Body(vec![b'x'; 1_000_000]),
        Fault::Header("Content-Length", "7".into()),
    ];
    let paths =
        ["/v3/OS-SIMPLE-CERT/certificates", "/v3/OS-SIMPLE-CERT/ca", "/v3/auth/tokens/OS-PKI"];
    for fault in &faults {
        for path in paths {
            let setup = impatient().set("keystone_auth_version", "v3");
            let world = until_silence_ends(setup, fault).start();
            let what = format!("{path} {fault:?}");
            world.identity.fault(path, fault.clone());
            world.judges_signed_tokens_online(what.get(..100).unwrap_or(&what));
            world.identity.heal();
            wait_for("a token to pass", || {
                (world.status(&world.pki(&Payload::v3())) == 200).then_some(())
            })
            .unwrap();
        }
    }
}

#[test]
fn answers_that_are_odd_but_whole() {
    let drip = Fault::Drip(Duration::from_micros(20));
    for fault in [Fault::Chunked, drip, Fault::CloseSilently, Fault::Delay(millis(50))] {
        let world = World::setup().set("keystone_revocation_cache_time", "0").start();
        world.identity.fault("/", fault.clone());
        for _ in 0..3 {
            assert_eq!(world.status(&world.pki(&Payload::v3())), 200, "{fault:?}");
        }
    }
}

#[test]
fn versions_that_make_no_sense() {
    let bodies: [&[u8]; 7] = [
        b"",
        b"{}",
        b"[1]",
        b"{\"versions\": {\"values\": []}}",
        b"{\"versions\": {\"values\": [{\"id\": \"v4.0\", \"links\": []}]}}",
        b"{\"versions\": 7}",
        b"\x00\x01\x02",
    ];
    for body in bodies {
        let world = impatient().start();
        world.identity.fault("/", Fault::Body(body.to_vec()));
        let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
        expect::unavailable(&answer);
    }
}

#[test]
fn a_slow_identity_service_does_not_stop_the_others() {
    let world = World::setup().start();
    let cached = world.pki(&Payload::v3());
    assert_eq!(world.status(&cached), 200);
    let slow = World::setup().start();
    let gate = Gate::default();
    slow.identity.fault("/", Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| slow.status(&slow.pki(&Payload::v3())));
        wait_for("the question", || (!slow.identity.requests().is_empty()).then_some(())).unwrap();
        for _ in 0..20 {
            assert_eq!(slow.send(&Request::get("/open/")).status, 200);
            expect::refused(&slow.send(&Request::get("/")));
        }
        slow.identity.heal();
        gate.open();
        assert_eq!(waiting.join().unwrap(), 200);
    });
}

#[test]
fn many_wait_for_the_first_certificates_and_ask_once() {
    let world = World::setup().workers(2).start();
    world.identity.fault("/", Fault::Delay(millis(100)));
    let tokens: Vec<_> = (0..40).map(|_| world.pki(&Payload::v3())).collect();
    std::thread::scope(|scope| {
        let world = &world;
        let waiting: Vec<_> =
            tokens.iter().map(|token| scope.spawn(move || world.status(token))).collect();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
    for path in ["/v3/OS-SIMPLE-CERT/certificates", "/v3/OS-SIMPLE-CERT/ca"] {
        let asked = world.identity.count(path);
        assert!((1..=2).contains(&asked), "{path}: {asked} times by two workers");
    }
}

#[test]
fn clients_that_disconnect_while_they_wait() {
    let world = World::setup().start();
    world.identity.fault("/", Fault::Delay(millis(200)));
    let token = world.pki(&Payload::v3());
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n");
    for _ in 0..20 {
        let mut client = world.nginx.connect().unwrap();
        client.write(request.as_bytes()).unwrap();
        drop(client);
    }
    assert_eq!(world.status(&token), 200);
    assert_eq!(world.nginx.worker_pids().len(), 1);
    let log = world.nginx.error_log();
    assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
}

#[test]
fn reload_and_quit_while_requests_wait() {
    for quit in [false, true] {
        let mut world = World::setup().start();
        world.identity.fault("/", Fault::Delay(millis(300)));
        let token = world.pki(&Payload::v3());
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n");
        let mut waiting: Vec<_> = (0..5).map(|_| world.nginx.connect().unwrap()).collect();
        for client in &mut waiting {
            client.write(request.as_bytes()).unwrap();
        }
        // When the worker has answered one that came later, it has those as well.
        assert_eq!(world.send(&Request::get(WORKER)).status, 200);
        wait_for("the question", || (!world.identity.requests().is_empty()).then_some(())).unwrap();
        if quit {
            assert!(world.nginx.quit().unwrap().success());
        } else {
            world.nginx.reload().unwrap();
        }
        for mut client in waiting {
            assert_eq!(client.read(false).unwrap().status, 200, "quit: {quit}");
        }
        let log = world.nginx.error_log();
        assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
    }
}

#[test]
fn reload_under_load_loses_no_request() {
    let world = World::setup().workers(2).config(|config| config.shared_socket()).offline().start();
    let tokens: Vec<_> = (0..30).map(|_| world.pki(&Payload::v3())).collect();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (world, stop, done, tokens) = (&world, &stop, &done, &tokens);
            scope.spawn(move || {
                for at in (thread..).step_by(3) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let token = &tokens[at % tokens.len()];
                    let request = Request::get("/files/hello.txt").token(token);
                    // A connection of its own: one that is kept may be closed by an old worker.
                    let answer = world.nginx.send(&request.header("Connection", "close")).unwrap();
                    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..6 {
            let before = done.load(Ordering::SeqCst);
            let more = || (done.load(Ordering::SeqCst) > before + 50).then_some(());
            wait_for("some load", more).unwrap();
            world.nginx.reload().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(world.identity.requests(), [""; 0]);
    let log = world.nginx.error_log();
    assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
}

#[test]
fn damaged_files_in_signing_dir() {
    let truncate = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 5] = [
        ("truncated", &truncate),
        ("empty", &|path| fs::write(path, "").unwrap()),
        ("garbage", &|path| fs::write(path, "garbage").unwrap()),
        ("binary", &|path| fs::write(path, vec![0xff; 5000]).unwrap()),
        ("large", &|path| fs::write(path, vec![b'\n'; 20_000_000]).unwrap()),
    ];
    for name in ["signing_cert.pem", "cacert.pem", "revoked.pem"] {
        for (what, damage) in &damages {
            let path = Path::new("keystone").join(name);
            // With an identity service, the files are written again.
            let world = World::setup().offline().files(|dir| damage(&dir.join(&path))).start();
            assert_eq!(world.status(&world.pki(&Payload::v3())), 200, "{name} {what}");
            let mended = || {
                let text = fs::read_to_string(world.signing_dir().join(name)).ok()?;
                text.contains("-----END").then_some(())
            };
            wait_for(&format!("{name} to be mended ({what})"), mended).unwrap();
            // Without it, nothing passes.
            let world = impatient()
                .offline()
                .files(|dir| damage(&dir.join(&path)))
                .identity(|identity| identity.stop())
                .start();
            let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
            assert_eq!(answer.status, 503, "{name} {what}");
        }
    }
}

#[test]
fn files_of_another_cloud_in_signing_dir() {
    let other = stranger();
    let fill = |dir: &Path| {
        keystone_testbed::world::fill_signing_dir(&dir.join("keystone"), other).unwrap();
    };
    let world = World::setup().set("keystone_revocation_cache_time", "1h").files(fill).start();
    wait_for("a token of this cloud to pass", || {
        (world.status(&world.pki(&Payload::v3())) == 200).then_some(())
    })
    .unwrap();
    let theirs = Payload::v3().pki(&other.signing).unwrap();
    expect::refused(&world.send(&Request::get("/").token(&theirs)));
}

#[test]
fn a_list_in_signing_dir_that_was_tampered_with() {
    // Whoever can write there without the signing key must not be able to un-revoke.
    let stranger = stranger();
    let empty = mint::revocation_list(&[]);
    let strange = keystone_testbed::cms::sign(&stranger.signing, empty.as_bytes()).unwrap();
    let replace = |dir: &Path| {
        put(&dir.join("keystone"), "revoked.pem", mint::cms_pem(&strange).as_bytes()).unwrap();
    };
    let world = impatient().offline().files(replace).identity(|identity| identity.stop()).start();
    let answer = world.send(&Request::get("/").token(&world.pki(&Payload::v3())));
    expect::unavailable(&answer);
}

#[test]
fn links_and_pipes_in_signing_dir() {
    let elsewhere = |dir: &Path| {
        let (from, to) = (dir.join("keystone/cacert.pem"), dir.join("elsewhere.pem"));
        fs::rename(&from, &to).unwrap();
        std::os::unix::fs::symlink(&to, &from).unwrap();
    };
    let world = World::setup().offline().files(elsewhere).start();
    let before = fs::read(world.nginx.dir().join("elsewhere.pem")).unwrap();
    let next = stranger();
    world.identity.rotate(next).unwrap();
    wait_for("the new certificate", || {
        let token = Payload::v3().pki(&next.signing).unwrap();
        (world.status(&token) == 200).then_some(())
    })
    .unwrap();
    // A new file takes the link's place; what it pointed to is not written to.
    wait_for("a file in place of the link", || {
        let metadata = fs::symlink_metadata(world.signing_dir().join("cacert.pem")).ok()?;
        metadata.is_file().then_some(())
    })
    .unwrap();
    assert_eq!(fs::read(world.nginx.dir().join("elsewhere.pem")).unwrap(), before);

    let pipe = |dir: &Path| {
        let path = dir.join("keystone/revoked.pem");
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
    };
    let world = World::setup().offline().files(pipe).start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
}

#[test]
fn a_directory_in_place_of_a_file() {
    let block = |dir: &Path| {
        make_signing_dir(&dir.join("keystone")).unwrap();
        fs::create_dir(dir.join("keystone/signing_cert.pem")).unwrap();
        fs::create_dir(dir.join("keystone/revoked.pem")).unwrap();
    };
    let world = World::setup().files(block).start();
    // Nothing can be kept there, but tokens are judged all the same.
    for _ in 0..3 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    }
    let complaint = |line: &str| line.contains("signing_cert.pem") || line.contains("revoked.pem");
    wait_for("a complaint in the log", || {
        world.nginx.error_log().lines().any(complaint).then_some(())
    })
    .unwrap();
}

#[test]
fn a_full_disk() {
    let Some(mount) = Mount::small().unwrap() else { return };
    let path = mount.path().display().to_string();
    let world = World::setup()
        .set("keystone_signing_dir", &format!("{path}/keystone"))
        .set("keystone_revocation_cache_time", "0")
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    let list = mount.path().join("keystone/revoked.pem");
    wait_for("revoked.pem", || list.exists().then_some(())).unwrap();
    let kept = fs::read(&list).unwrap();
    mount.fill_up().unwrap();
    let revoked = world.pki(&Payload::v3());
    world.identity.revoke_token(&revoked);
    for _ in 0..400 {
        world.identity.revoke(Revoked::id(mint::new_uuid()));
    }
    for _ in 0..3 {
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
        expect::refused(&world.send(&Request::get("/").token(&revoked)));
    }
    assert_eq!(fs::read(&list).unwrap(), kept, "half a list was left behind");
    world.nginx.wait_for_log("No space left on device").unwrap();
    let names: Vec<_> = fs::read_dir(mount.path().join("keystone"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    drop(world);
}

#[test]
fn a_clock_before_the_certificates_time() {
    // As seen from a clock that is behind, every certificate is one of the future.
    let Pki { authority, signing } = shared_pki().unwrap().clone();
    let signing = authority.renew(&signing, &Shape::signing().not_yet_valid()).unwrap();
    for offline in [false, true] {
        let setup =
            World::setup().pki(Pki { authority: authority.clone(), signing: signing.clone() });
        let world = if offline { setup.offline().start() } else { setup.start() };
        world.judges_signed_tokens_online("a certificate of the future");
        let said = |line: &str| line.contains("not valid yet") || line.contains("not valid now");
        assert!(world.nginx.error_log().lines().any(said), "{}", world.nginx.error_log());
    }
}

#[test]
fn a_flood_of_new_tokens_while_the_identity_service_hangs() {
    let setup = impatient().set("keystone_max_pending", "4");
    let world = until_silence_ends(setup, &Fault::Silence).start();
    world.identity.fault("/", Fault::Silence);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let world = &world;
        let threads: Vec<_> = (0..30)
            .map(|_| scope.spawn(move || world.status(&world.pki(&Payload::v3()))))
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 503));
    });
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(world.identity.connections() <= 8, "{} connections", world.identity.connections());
}

#[test]
fn a_second_identity_service_takes_over() {
    let mut world = World::setup().identity(|identity| identity.stop()).start();
    let second = Identity::start(&world.pki).unwrap();
    let (first, uri) = (world.identity.uri(), second.uri());
    world.reconfigure(|config| config.set("keystone_identity_uri", &format!("{first} {uri}")));
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert!(second.count("/v3/OS-SIMPLE-CERT") > 0);
}

fn millis(time: u64) -> Duration {
    Duration::from_millis(time)
}
