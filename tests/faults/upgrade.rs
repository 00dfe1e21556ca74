//! A new binary in place of the old one, as an operator does it: USR2, WINCH, QUIT.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keystone_testbed::http::Request;
use keystone_testbed::load::Load;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{binary, children, kill, title, Config};
use keystone_testbed::port::Port;
use keystone_testbed::temp::TempDir;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

use crate::table::{row, times};

#[test]
fn a_binary_upgrade_under_load() {
    let upgrades = times(2, 20);
    let world = World::setup().start();
    let daemon = Daemon::start(&world.config.clone().workers(2).shared_socket());
    let signed: Vec<_> = (0..50).map(|_| world.pki(&Payload::v3())).collect();
    let known: Vec<_> = (0..50).map(|_| world.uuid(&Payload::v3())).collect();
    let unknown = new_uuid();
    let request = |number: usize| {
        let token = match number % 10 {
            0 => &unknown,
            1..=4 => &known[number % known.len()],
            _ => &signed[number % signed.len()],
        };
        Request::get("/")
            .token(token)
            .header("X-Expect", if *token == unknown { "401" } else { "200" })
    };
    let (outcome, ()) = Load::on(daemon.address()).during(request, |load| {
        for _ in 0..upgrades {
            load.wait_for_more(50).unwrap();
            daemon.upgrade();
            load.wait_for_more(50).unwrap();
            daemon.give_the_upgrade_up();
        }
        daemon.upgrade();
        daemon.finish_the_upgrade();
        load.wait_for_more(50).unwrap();
    });
    outcome.assert_only(&[200, 401], "an upgrade");
    let (good, refused) = (outcome.statuses[&200], outcome.statuses[&401]);
    assert!(refused * 8 < good, "more were refused than had the unknown token: {outcome}");
    let log = fs::read_to_string(daemon.dir.join("error.log")).unwrap();
    assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
    row(
        "binary upgrade (USR2, WINCH; HUP and QUIT to go back, at last QUIT of the old one)",
        2 * upgrades + 1,
        "every request is answered as it should be",
        outcome,
    );
}

/// An nginx that has left its parent, without which it takes no new binary.
struct Daemon {
    dir: TempDir,
    port: Port,
}

impl Daemon {
    fn start(config: &Config) -> Self {
        let (dir, port) = (TempDir::new("daemon").unwrap(), Port::free().unwrap());
        let text = config.text(dir.path(), port.number()).replace("daemon off;", "daemon on;");
        assert!(text.contains("daemon on;"), "{text}");
        fs::create_dir_all(dir.join("html")).unwrap();
        fs::write(dir.join("nginx.conf"), text).unwrap();
        let daemon = Self { dir, port };
        let mut command = Command::new(binary());
        command.arg("-p").arg(daemon.dir.path()).arg("-c").arg(daemon.dir.join("nginx.conf"));
        let started = command.args(["-e", "stderr"]).output().unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        daemon.wait_for_workers(&daemon.pid_file(), 2);
        daemon
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("nginx.pid")
    }

    fn old_pid_file(&self) -> PathBuf {
        self.dir.join("nginx.pid.oldbin")
    }

    /// A new binary takes the connections, the workers of the old one go.
    #[track_caller]
    fn upgrade(&self) {
        signal(&self.pid_file(), libc::SIGUSR2);
        wait_for("the new binary", || self.old_pid_file().exists().then_some(())).unwrap();
        self.wait_for_workers(&self.pid_file(), 2);
        signal(&self.old_pid_file(), libc::SIGWINCH);
        self.wait_for_workers(&self.old_pid_file(), 0);
    }

    /// The old one takes over again, and the new one goes.
    #[track_caller]
    fn give_the_upgrade_up(&self) {
        signal(&self.old_pid_file(), libc::SIGHUP);
        self.wait_for_workers(&self.old_pid_file(), 2);
        signal(&self.pid_file(), libc::SIGQUIT);
        wait_for("one binary", || (!self.old_pid_file().exists()).then_some(())).unwrap();
        self.wait_for_workers(&self.pid_file(), 2);
    }

    #[track_caller]
    fn finish_the_upgrade(&self) {
        signal(&self.old_pid_file(), libc::SIGQUIT);
        wait_for("one binary", || (!self.old_pid_file().exists()).then_some(())).unwrap();
    }

    #[track_caller]
    fn wait_for_workers(&self, pid_file: &Path, number: usize) {
        let workers = || {
            let master = pid(pid_file)?;
            let children = children(master);
            let at_work = |pid: &&i32| title(**pid).starts_with("nginx: worker process");
            (children.iter().filter(at_work).count() == number).then_some(())
        };
        wait_for(&format!("{number} workers of {}", pid_file.display()), workers).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for file in [self.old_pid_file(), self.pid_file()] {
            let Some(master) = pid(&file) else { continue };
            let _ = kill(master, libc::SIGTERM);
            for _ in 0..500 {
                if kill(master, 0).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn pid(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[track_caller]
fn signal(file: &Path, signal: i32) {
    let pid = wait_for("a pid", || pid(file)).unwrap();
    kill(pid, signal).unwrap();
}
