//! How many instructions nginx takes for a request, and for its start, counted by callgrind.
//!
//! One process of nginx is master and worker here. It runs from its start in valgrind, and counts
//! from the moment at which it is told to. What nginx takes for the same request unprotected is
//! counted too, and taken off. A client sends one request after the other, with a pause: nginx's
//! clock ticks in milliseconds, and what it does at a tick would else depend on the machine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::Identity;
use keystone_testbed::nginx::{self, Config};
use keystone_testbed::pki::Pki;
use keystone_testbed::temp::TempDir;
use keystone_testbed::wait_for;

use crate::counts::{Count, Counts};
use crate::stage::{start_stand_in, Gateway, Process, LIFE};
use crate::{tokens, Failure};

/// Requests that are counted together.
struct Kind<'a> {
    name: &'static str,
    address: SocketAddr,
    path: &'static str,
    /// They are sent in turn.
    tokens: &'a [String],
    /// How many requests are sent before.
    warm: usize,
}

/// A request without protection, and requests that are compared with it.
struct Group<'a> {
    open: Kind<'a>,
    protected: Vec<Kind<'a>>,
}

/// Counts what each kind of request takes.
pub fn count() -> Result<Counts, Failure> {
    let (dir, pki) = (TempDir::new("callgrind")?, Pki::new()?);
    let identity = Identity::start(&pki)?;
    let upstream = start_stand_in(None)?;
    let out = dir.join("out");
    let file = format!("--callgrind-out-file={}", out.display());
    let valgrind = [VALGRIND, &["--instr-atstart=no", &file]].concat();
    let process = Process { workers: 0, main: "master_process off;", under: &valgrind };
    let gateway = Gateway::start(&pki, &identity, &upstream, "4m", &process)?;

    let pki_tokens = tokens::sign(&pki.signing, MANY + WARM + COUNTED + 1, LIFE)?;
    let fernet_tokens = tokens::fernet(MANY + WARM + COUNTED + 1);
    let (plain, online) = (gateway.address(), gateway.online());
    let groups = [
        Group::new(PKI, plain, "/protected/file", plain, &pki_tokens),
        Group::new(FERNET, online, "/fernet/file", plain, &fernet_tokens),
    ];
    let mut callgrind = Callgrind { pid: gateway.pid(), out, dumps: 0 };
    let mut counts = Counts::new();
    for Group { open, protected } in groups {
        let unprotected = callgrind.count(&open)?;
        for kind in protected {
            let on_top = callgrind.count(&kind)?.less(&unprotected);
            counts.push((format!("request: {}, on top", kind.name), on_top));
        }
        counts.push((format!("request: {}", open.name), unprotected));
    }
    Ok(counts)
}

/// Counts what `nginx -t` takes with the module and one identity service, on top.
pub fn count_start() -> Result<Counts, Failure> {
    let dir = TempDir::new("callgrind")?;
    let out = dir.join("out");
    let file = format!("--callgrind-out-file={}", out.display());
    let valgrind = [VALGRIND, &[&file]].concat();
    let count = |config: &Config| -> Result<Count, Failure> {
        let checked = nginx::check(&config.clone().under(&valgrind))?;
        match checked.ok {
            true => Ok(Count::read(&fs::read_to_string(&out)?, 1)),
            false => Err(checked.text.into()),
        }
    };
    let without = count(&Config::without_module())?;
    let with = count(&Config::protected())?;
    Ok(vec![("nginx -t with one http identity service, on top".into(), with.less(&without))])
}

impl<'a> Group<'a> {
    /// The first tokens are cached, the others new.
    fn new(
        names: [&'static str; 4],
        address: SocketAddr,
        path: &'static str,
        open: SocketAddr,
        tokens: &'a [String],
    ) -> Self {
        let (cached, new) = tokens.split_at(MANY);
        let kind = |at: usize, tokens, warm| Kind { name: names[at], address, path, tokens, warm };
        Self {
            open: Kind { address: open, path: "/open/file", ..kind(0, &cached[..1], WARM) },
            protected: vec![
                kind(1, &cached[..1], WARM),
                // A worker keeps a token when it comes for the second time.
                kind(2, cached, 2 * MANY),
                kind(3, new, WARM),
            ],
        }
    }
}

/// The process that counts.
struct Callgrind {
    pid: i32,
    /// The files that it writes have this name and a number.
    out: PathBuf,
    dumps: usize,
}

impl Callgrind {
    fn count(&mut self, kind: &Kind<'_>) -> Result<Count, Failure> {
        let mut client = Client::connect(kind.address)?;
        let mut send = |at: usize| -> Result<(), Failure> {
            let token = &kind.tokens[at % kind.tokens.len()];
            let answer = client.send(&Request::get(kind.path).token(token))?;
            match answer.status {
                200 => Ok(()),
                status => Err(format!("{}: status {status}", kind.name).into()),
            }
        };
        (0..kind.warm).try_for_each(&mut send)?;
        self.tell("--instr=on")?;
        send(kind.warm)?;
        self.tell("--zero")?;
        for at in kind.warm + 1..=kind.warm + COUNTED {
            send(at)?;
            thread::sleep(PAUSE);
        }
        self.tell("--dump")?;
        self.tell("--instr=off")?;
        self.dumps += 1;
        let out = format!("{}.{}", self.out.display(), self.dumps);
        let text = wait_for("callgrind's file", || {
            let text = fs::read_to_string(Path::new(&out)).unwrap_or_default();
            text.contains("\ntotals: ").then_some(text)
        })?;
        Ok(Count::read(&text, COUNTED).without_allocator())
    }

    fn tell(&self, what: &str) -> Result<(), Failure> {
        let mut control = Command::new("callgrind_control");
        let output = control.arg(what).arg(self.pid.to_string()).output();
        let output = output.map_err(|error| format!("callgrind_control: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let reason = String::from_utf8_lossy(&output.stderr);
                Err(format!("callgrind_control {what} failed: {reason}").into())
            }
        }
    }
}

const VALGRIND: &[&str] = &["valgrind", "-q", "--tool=callgrind"];

const PKI: [&str; 4] = [
    "file, with a PKI token's header",
    "a cached PKI token",
    "one of 700 cached PKI tokens",
    "a new PKI token",
];
const FERNET: [&str; 4] = [
    "file, with a Fernet token's header",
    "a cached Fernet token",
    "one of 700 cached Fernet tokens",
    "a new Fernet token",
];

/// How many requests are sent before some are counted, and how many are counted.
const WARM: usize = 20;
const COUNTED: usize = 200;

/// Tokens that take turns.
const MANY: usize = 700;

/// Longer than a tick of nginx's clock.
const PAUSE: Duration = Duration::from_millis(2);
