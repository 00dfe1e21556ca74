//! What other clients than Swift's own do at both gateways: each operation is a row of the table in
//! docs/swift.md.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use keystone_testbed::http::{Request, Response};
use keystone_testbed::keystone::python;
use keystone_testbed::temp::TempDir;

use crate::edge::Edge;
use crate::store::Store;

/// What becomes of an operation at `static-swift.conf`. All of them work at `swift-edge.conf`.
#[derive(Clone, Copy, Debug)]
enum OnDisk {
    /// The client fails, and says this.
    Fails(&'static str),
    /// The client takes it for done, and this shows that it is not.
    Partly(&'static str),
    /// The client has done it.
    Works,
}

use OnDisk::{Fails, Partly, Works};

/// An operation: its name in the documentation, what the client is told, and what becomes of it.
type Step = (&'static str, &'static str, OnDisk);

/// rclone 1.60. It wants the counters of a container before it writes, and reads by a prefix.
const RCLONE: [Step; 20] = [
    ("rclone mkdir", "mkdir s:new", Works),
    ("rclone lsd", "lsd s:", Works),
    ("rclone ls", "ls s:rclone", Partly("0 sub\n")),
    ("rclone lsl", "lsl s:rclone", Partly(" sub\n")),
    ("rclone lsf -R", "lsf -R s:rclone", Partly("sub\n")),
    ("rclone lsjson", "lsjson s:rclone", Fails("501")),
    ("rclone size", "size s:rclone", Partly("Total size: 6 B")),
    ("rclone md5sum", "md5sum s:rclone", Partly("          a.txt")),
    ("rclone cat", "cat s:rclone/a.txt", Fails("501")),
    ("rclone check", "check files s:rclone", Fails("501")),
    ("rclone copy of a folder", "copy files s:rclone", Fails("501")),
    ("rclone copyto of a file", "copyto files/a.txt s:rclone/c", Fails(COUNTERS)),
    (
        "rclone copyto in segments",
        "copyto big s:rclone/big --swift-chunk-size 64k",
        Fails(COUNTERS),
    ),
    ("rclone rcat", "rcat s:rclone/r", Fails(COUNTERS)),
    ("rclone moveto", "moveto s:rclone/c s:rclone/d", Fails("501")),
    ("rclone copy to disk", "copy s:rclone down", Fails("501")),
    ("rclone sync", "sync files s:rclone", Fails("501")),
    ("rclone deletefile", "deletefile s:rclone/a.txt", Works),
    ("rclone delete", "delete s:rclone", Fails("409")),
    ("rclone purge", "purge s:rclone", Fails("409")),
];

/// restic 0.14. It makes a container, and wants its counters from then on.
const RESTIC: [Step; 6] = [
    ("restic init", "init", Works),
    ("restic backup", "backup files", Fails(COUNTERS)),
    ("restic snapshots", "snapshots", Fails(COUNTERS)),
    ("restic check", "check", Fails(COUNTERS)),
    ("restic restore", "restore latest --target down", Fails(COUNTERS)),
    ("restic forget --prune", "forget --keep-last 1 --prune", Fails(COUNTERS)),
];

/// duplicity 0.8 with python-swiftclient. Its names have no folders.
const DUPLICITY: [Step; 5] = [
    ("duplicity full", "full files swift://duplicity", Works),
    ("duplicity incremental", "incremental files swift://duplicity", Works),
    ("duplicity collection-status", "collection-status swift://duplicity", Works),
    ("duplicity verify", "verify swift://duplicity files", Works),
    ("duplicity restore", "restore swift://duplicity down", Works),
];

/// openstacksdk 4.22; the operations are in openstacksdk.py.
const OPENSTACKSDK: [Step; 16] = [
    ("openstacksdk create_container", "create_container", Works),
    ("openstacksdk get_container", "get_container", Works),
    ("openstacksdk list_containers", "list_containers", Works),
    ("openstacksdk create_object", "create_object", Works),
    ("openstacksdk create_object with data", "create_object with data", Works),
    ("openstacksdk create_object in segments", "create_object in segments", Fails("501")),
    ("openstacksdk get_object", "get_object", Works),
    ("openstacksdk download_object", "download_object", Works),
    ("openstacksdk get_object_metadata", "get_object_metadata", Partly("lacks")),
    ("openstacksdk update_object", "update_object", Fails("405")),
    ("openstacksdk get_object_capabilities", "get_object_capabilities", Works),
    ("openstacksdk list_objects", "list_objects", Partly("lacks")),
    ("openstacksdk objects with a prefix", "objects with a prefix", Fails("501")),
    ("openstacksdk delete_object", "delete_object", Works),
    ("openstacksdk delete_container, empty", "delete_container, empty", Works),
    ("openstacksdk delete_container", "delete_container", Fails("is not empty")),
];

/// What rclone and restic say where a container has no counters.
const COUNTERS: &str = "Bad Header 'X-Container-Bytes-Used'";

/// A gateway, and files for a client.
struct Place<'a> {
    storage_url: String,
    token: String,
    files: TempDir,
    ask: Box<dyn Fn(Request) -> Response + 'a>,
    account: String,
    is_on_disk: bool,
}

impl<'a> Place<'a> {
    fn of_edge(edge: &'a Edge) -> Self {
        let account = edge.cloud.account("demo");
        let token = edge.cloud.token("alice");
        let storage_url = format!("http://{}{account}", edge.address());
        Self::new(storage_url, account, token, move |it| edge.ask(it))
    }

    fn of_store(store: &'a Store) -> Self {
        let (account, token) = (store.account(), store.cloud.token("alice"));
        let storage_url = format!("http://{}{account}", store.nginx.address());
        let place = Self::new(storage_url, account, token, move |it| store.ask(it));
        Self { is_on_disk: true, ..place }
    }

    fn new(
        storage_url: String,
        account: String,
        token: String,
        ask: impl Fn(Request) -> Response + 'a,
    ) -> Self {
        let files = TempDir::new("clients").unwrap();
        fs::create_dir_all(files.join("files/sub")).unwrap();
        for (name, text) in OBJECTS {
            fs::write(files.join("files").join(name), text).unwrap();
        }
        fs::write(files.join("big"), vec![b'x'; 200_000]).unwrap();
        Self { storage_url, token, files, ask: Box::new(ask), account, is_on_disk: false }
    }

    /// Makes a container with objects, one of them in a folder.
    #[track_caller]
    fn container(&self, name: &str) {
        for object in [None, Some(OBJECTS[0]), Some(OBJECTS[1])] {
            let (path, text) =
                object.map_or((String::new(), ""), |(it, text)| (format!("/{it}"), text));
            let put = Request::new("PUT", &format!("{}/{name}{path}", self.account));
            let answer = (self.ask)(put.token(&self.token).body(text.as_bytes()));
            assert_eq!(answer.status, 201, "{name}{path}: {}", answer.text());
        }
    }

    /// What a program of Debian's says, and whether it takes its work for done.
    #[track_caller]
    fn run(&self, program: &str, options: &[&str], words: &str) -> (bool, String) {
        let mut command = self.command(program);
        command.args(options).args(words.split(' '));
        said(&command.output().unwrap_or_else(|error| panic!("running {program}: {error}")))
    }

    /// A program that knows of nothing but this place.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().envs([
            ("PATH", "/usr/bin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("PYTHONWARNINGS", "ignore"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("RCLONE_CONFIG_S_TYPE", "swift"),
            ("RCLONE_CONFIG_S_STORAGE_URL", &self.storage_url),
            ("RCLONE_CONFIG_S_AUTH_TOKEN", &self.token),
            ("OS_STORAGE_URL", &self.storage_url),
            ("OS_AUTH_TOKEN", &self.token),
            ("RESTIC_PASSWORD", "restic"),
            ("SWIFT_PREAUTHURL", &self.storage_url),
            ("SWIFT_PREAUTHTOKEN", &self.token),
        ]);
        command.env("HOME", self.files.path()).env("TMPDIR", self.files.path());
        command.current_dir(self.files.path());
        command.stdin(File::open(self.files.join("files/a.txt")).unwrap());
        command
    }

    #[track_caller]
    fn rclone(&self) {
        self.container("rclone");
        let options = ["--retries", "1", "--low-level-retries", "1"];
        for step in RCLONE {
            self.check(step, &self.run("rclone", &options, step.1));
        }
    }

    #[track_caller]
    fn restic(&self) {
        for step in RESTIC {
            self.check(step, &self.run("restic", &["--no-cache", "-r", "swift:restic:/"], step.1));
        }
    }

    #[track_caller]
    fn duplicity(&self) {
        let options = ["--no-encryption", "--num-retries", "1"];
        for step in DUPLICITY {
            self.check(step, &self.run("duplicity", &options, step.1));
        }
        let restored = fs::read_to_string(self.files.join("down/sub/b.txt")).unwrap();
        assert_eq!(restored, "world\n");
    }

    #[track_caller]
    fn openstacksdk(&self) {
        self.container("sdk");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/swift/openstacksdk.py");
        let mut command = self.command(python().unwrap());
        command.arg(script).args([&self.storage_url, &self.token]).arg(self.files.path());
        let (_, text) = said(&command.output().unwrap());
        for step in OPENSTACKSDK {
            let mut lines = text.lines().filter_map(|line| line.split_once(": "));
            let line = lines.find(|(name, _)| *name == step.1);
            let (_, outcome) = line.unwrap_or_else(|| panic!("{step:?}: {text}"));
            let is_done = outcome == "works" || outcome.starts_with("lacks");
            self.check(step, &(is_done, outcome.to_owned()));
        }
    }

    /// That an operation went as expected.
    #[track_caller]
    fn check(&self, step: Step, (is_done, text): &(bool, String)) {
        let part = match step.2 {
            Fails(part) | Partly(part) => text.contains(part),
            Works => false,
        };
        let expected = match (self.is_on_disk, step.2) {
            (true, Fails(_)) => !is_done && part,
            (true, Partly(_)) => *is_done && part,
            (true, Works) | (false, _) => *is_done && !part,
        };
        assert!(expected, "{step:?}: {text}");
    }
}

/// Whether a client takes its work for done, and all that it says.
pub fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The objects of a container, by name.
const OBJECTS: [(&str, &str); 2] = [("a.txt", "hello\n"), ("sub/b.txt", "world\n")];

#[test]
fn rclone_at_swift_edge() {
    Place::of_edge(&Edge::start()).rclone();
}

#[test]
fn rclone_at_static_swift() {
    let Some(store) = Store::start() else { return };
    Place::of_store(&store).rclone();
}

#[test]
fn restic_at_swift_edge() {
    Place::of_edge(&Edge::start()).restic();
}

#[test]
fn restic_at_static_swift() {
    let Some(store) = Store::start() else { return };
    Place::of_store(&store).restic();
}

#[test]
fn duplicity_at_swift_edge() {
    Place::of_edge(&Edge::start()).duplicity();
}

#[test]
fn duplicity_at_static_swift() {
    let Some(store) = Store::start() else { return };
    Place::of_store(&store).duplicity();
}

#[test]
fn openstacksdk_at_swift_edge() {
    Place::of_edge(&Edge::start()).openstacksdk();
}

#[test]
fn openstacksdk_at_static_swift() {
    let Some(store) = Store::start() else { return };
    Place::of_store(&store).openstacksdk();
}

#[test]
fn the_documentation_has_a_row_for_every_operation() {
    let page = include_str!("../../docs/swift.md");
    let (_, table) =
        page.split_once("\n| operation | static-swift.conf | swift-edge.conf |\n").unwrap();
    let mut rows = table.lines().skip(1).take_while(|line| line.starts_with("| "));
    let steps = [&RCLONE[..], &RESTIC, &DUPLICITY, &OPENSTACKSDK].concat();
    for step in &steps {
        let row = rows.next().unwrap_or_else(|| panic!("no row for {step:?}"));
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let word = match step.2 {
            Fails(_) => "fails",
            Partly(_) => "partly",
            Works => "works",
        };
        let is_right = cells[0] == step.0 && cells[1].starts_with(word) && cells[2] == "works";
        assert!(is_right && cells.len() == 3, "{step:?}: {row}");
    }
    assert_eq!(rows.next(), None);
}
