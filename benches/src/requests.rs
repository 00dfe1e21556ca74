//! How many instructions nginx's worker takes for a request, counted by callgrind.
//!
//! One process of nginx is master and worker: callgrind would count each worker by itself. It runs
//! from its start in valgrind, and counts from the moment at which it is told to.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::Identity;
use keystone_testbed::pki::Pki;
use keystone_testbed::temp::TempDir;
use keystone_testbed::wait_for;

use crate::instructions::{read_callgrind, Count};
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

/// Counts what each kind of request takes. What nginx takes for the same request unprotected is
/// counted too, and is not in the others.
pub fn count() -> Result<Vec<(String, Count)>, Failure> {
    let (dir, pki) = (TempDir::new("callgrind")?, Pki::new()?);
    let identity = Identity::start(&pki)?;
    let upstream = start_stand_in(None)?;
    let out = dir.join("out");
    let file = format!("--callgrind-out-file={}", out.display());
    let valgrind = [
        "valgrind",
        "-q",
        "--tool=callgrind",
        "--instr-atstart=no",
        "--compress-strings=no",
        "--compress-pos=no",
        &file,
    ];
    let process = Process { workers: 0, main: "master_process off;", under: &valgrind };
    let gateway = Gateway::start(&pki, &identity, &upstream, "4m", &process)?;

    let pki_tokens = tokens::sign(&pki.signing, MANY + WARM + COUNTED, LIFE)?;
    let fernet_tokens = tokens::fernet(MANY + WARM + COUNTED);
    let (pki_tokens, new_pki) = pki_tokens.split_at(MANY);
    let (fernet_tokens, new_fernet) = fernet_tokens.split_at(MANY);
    let (plain, online) = (gateway.address(), gateway.online());
    let kind = |name, address, path, tokens| Kind { name, address, path, tokens, warm: WARM };
    let many = |kind: Kind<'static>| kind;
    let _ = many;
    let groups = [
        (
            kind("file, with a PKI token's header", plain, "/open/file", &pki_tokens[..1]),
            [
                kind("a cached PKI token", plain, "/protected/file", &pki_tokens[..1]),
                Kind {
                    warm: 2 * MANY,
                    ..kind("one of 700 cached PKI tokens", plain, "/protected/file", pki_tokens)
                },
                kind("a new PKI token", plain, "/protected/file", new_pki),
            ],
        ),
        (
            kind("file, with a Fernet token's header", plain, "/open/file", &fernet_tokens[..1]),
            [
                kind("a cached Fernet token", online, "/fernet/file", &fernet_tokens[..1]),
                Kind {
                    warm: 2 * MANY,
                    ..kind("one of 700 cached Fernet tokens", online, "/fernet/file", fernet_tokens)
                },
                kind("a new Fernet token", online, "/fernet/file", new_fernet),
            ],
        ),
    ];
    let callgrind = Callgrind { pid: gateway.pid(), out, dumps: 0 };
    callgrind.count(groups)
}

/// The process that counts.
struct Callgrind {
    pid: i32,
    /// The files that it writes have this name and a number.
    out: PathBuf,
    dumps: usize,
}

impl Callgrind {
    fn count(
        mut self,
        groups: [(Kind<'_>, [Kind<'_>; 3]); 2],
    ) -> Result<Vec<(String, Count)>, Failure> {
        let mut counts = Vec::new();
        for (open, protected) in groups {
            let unprotected = self.measure(&open)?;
            for kind in protected {
                let count = self.measure(&kind)?.less(&unprotected);
                counts.push((format!("request: {}, on top", kind.name), count));
            }
            counts.push((format!("request: {}", open.name), unprotected));
        }
        Ok(counts)
    }

    fn measure(&mut self, kind: &Kind<'_>) -> Result<Count, Failure> {
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
        self.tell(&["--instr=on"])?;
        // What is translated now was not before.
        send(kind.warm)?;
        self.tell(&["--zero"])?;
        (kind.warm + 1..kind.warm + 1 + COUNTED).try_for_each(&mut send)?;
        self.tell(&["--dump"])?;
        self.tell(&["--instr=off"])?;
        self.dumps += 1;
        let out = format!("{}.{}", self.out.display(), self.dumps);
        let text = wait_for("callgrind's file", || {
            let text = fs::read_to_string(Path::new(&out)).unwrap_or_default();
            text.contains("\ntotals: ").then_some(text)
        })?;
        if let Ok(dir) = std::env::var("KEEP") {
            fs::write(format!("{dir}/{}", kind.name.replace(' ', "_")), &text)?;
        }
        Ok(read_callgrind(&text, COUNTED))
    }

    fn tell(&self, what: &[&str]) -> Result<(), Failure> {
        let mut control = Command::new("callgrind_control");
        control.args(what).arg(self.pid.to_string()).stdout(Stdio::null());
        match control.status().map_err(|error| format!("callgrind_control: {error}"))?.success() {
            true => Ok(()),
            false => Err("callgrind_control failed".into()),
        }
    }
}

/// How many requests are sent before some are counted, and how many are counted.
const WARM: usize = 20;
const COUNTED: usize = 200;

/// Tokens that take turns.
const MANY: usize = 700;

pub fn show() -> Result<(), Failure> {
    for (name, count) in count()? {
        println!("{name}");
        count.show();
    }
    Ok(())
}
