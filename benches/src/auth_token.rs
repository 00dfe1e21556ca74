//! auth_token, called by nginx's `auth_request`: what the module takes the place of.
//!
//! Two uWSGI processes, a memcached, and the same identity service, tokens and client as for the
//! module. A release is left out where its Python environment is not there.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keystone_testbed::http::{send, Request};
use keystone_testbed::identity::{Identity, ADMIN_TOKEN};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{self, Nginx};
use keystone_testbed::temp::{set_mode, TempDir};
use keystone_testbed::wait_for;
use keystone_testbed::world::fill_signing_dir;
use serde_json::{json, Value};

use crate::client::{Load, Order, Until};
use crate::cpu::{self, Pins};
use crate::measured::Measured;
use crate::stage::{start, Process, Stage, LIFE};
use crate::{tokens, Failure};

/// nginx, uWSGI and memcached.
pub struct Peers {
    nginx: Nginx,
    peers: Vec<Peer>,
    _memcached: Memcached,
    _dir: TempDir,
}

/// A release of auth_token, and what was measured.
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// A request with a token that it has in its cache, in each round.
    pub cached: Vec<Measured>,
    /// The same with a token that it has not.
    pub new: Vec<Measured>,
    /// The same of the module, at the same time.
    pub module_cached: Vec<Measured>,
    /// The same of the module, at the same time.
    pub module_new: Vec<Measured>,
    path: &'static str,
    /// Where the module is asked.
    module: (SocketAddr, &'static str),
    tokens: Vec<String>,
    sent: usize,
    module_sent: usize,
    uwsgi: Uwsgi,
    log: PathBuf,
}

/// A master with two processes; dropping it ends all.
struct Uwsgi(Child);

impl Drop for Uwsgi {
    fn drop(&mut self) {
        // It ends its processes.
        let _ = nginx::kill(self.0.id() as i32, libc::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Peers {
    /// Starts what is there; `None` if nothing is.
    pub fn start(stage: &Stage) -> Result<Option<Self>, Failure> {
        let (dir, memcached) = (TempDir::new("peers")?, Memcached::start()?);
        set_mode(dir.path(), 0o755)?;
        fill_signing_dir(&dir.join("signing"), stage.pki())?;
        // auth_token keeps the list there without its signature.
        fs::remove_file(dir.join("signing/revoked.pem"))?;
        let [old, new] = options(&stage.identity().uri(), &memcached, &dir.join("signing"));
        let fernet = tokens::fernet(FERNET_TOKENS);
        know(stage.identity(), &fernet);
        let mut peers = Vec::new();
        let (pki, online) = (stage.narrow().new_tokens(), stage.narrow().slow());
        let releases = [
            ("auth_token 4.9.1", "/pki/file", "KEYSTONE_ORACLE_VENV", "old", &old, stage.tokens()),
            ("auth_token 13", "/fernet/file", "KEYSTONE_VENV", "new", &new, &fernet),
        ];
        for (name, path, variable, socket, options, tokens) in releases {
            let venv = std::env::var_os(variable).map(PathBuf::from).filter(|venv| venv.exists());
            let Some(venv) = venv else {
                eprintln!("{name} is left out: {variable} names no Python environment.");
                continue;
            };
            let module = if socket == "old" { (pki, "/protected/file") } else { (online, "/file") };
            peers.push(Peer {
                name,
                cached: Vec::new(),
                new: Vec::new(),
                module_cached: Vec::new(),
                module_new: Vec::new(),
                path,
                module,
                tokens: tokens.to_vec(),
                sent: 1,
                module_sent: 1,
                uwsgi: start_uwsgi(&dir.join(socket), &venv, options)?,
                log: dir.join(socket).with_extension("log"),
            });
        }
        let sockets = ["old", "new"].map(|name| dir.join(name).display().to_string());
        let replace = [("@OLD@", &*sockets[0]), ("@NEW@", &*sockets[1])];
        let nginx =
            start(PEERS_CONF, &Process { workers: 1, main: "", under: &[] }, |_| Ok(()), &replace)?;
        for peer in &peers {
            peer.must_answer(nginx.address())?;
        }
        let all = Self { nginx, peers, _memcached: memcached, _dir: dir };
        Ok((!all.peers.is_empty()).then_some(all))
    }

    /// Measures a round.
    pub fn measure(&mut self, stage: &Stage) -> Result<(), Failure> {
        let (pins, module) = (stage.pins(), stage.narrow().workers());
        for peer in &mut self.peers {
            let nginx = (self.nginx.address(), peer.path);
            let workers = self.nginx.worker_pids();
            let cached = peer.ask(nginx, 0, 1, &workers, true, pins)?;
            let new = peer.ask(nginx, peer.sent, peer.tokens.len(), &workers, true, pins)?;
            peer.sent += new.requests;
            peer.cached.push(cached);
            peer.new.push(new);
            let cached = peer.ask(peer.module, 0, 1, module, false, pins)?;
            let new = peer.module_sent;
            let new = peer.ask(peer.module, new, peer.tokens.len(), module, false, pins)?;
            peer.module_sent += new.requests;
            peer.module_cached.push(cached);
            peer.module_new.push(new);
        }
        Ok(())
    }

    /// The releases, and what was measured.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }
}

impl Peer {
    /// Sends a request, so that a failure is seen before all else is measured.
    fn must_answer(&self, address: SocketAddr) -> Result<(), Failure> {
        let answer = send(address, &Request::get(self.path).token(&self.tokens[0]))?;
        match answer.status {
            200 => Ok(()),
            status => Err(format!("{} answers with {status}: {}", self.name, self.log()).into()),
        }
    }

    /// The end of what uWSGI has written.
    fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Sends the first `count` tokens for a while, beginning with one of them.
    fn ask(
        &self,
        (address, path): (SocketAddr, &str),
        first: usize,
        count: usize,
        workers: &[i32],
        with_uwsgi: bool,
        pins: &Pins,
    ) -> Result<Measured, Failure> {
        let used = || -> Result<Duration, Failure> {
            let mut used = cpu::used_by_all(workers)?;
            for pid in cpu::children(self.uwsgi.0.id() as i32)?.into_iter().filter(|_| with_uwsgi) {
                used += cpu::used_with_children(pid)?;
            }
            Ok(used)
        };
        let (tokens, order) = (&self.tokens[..count], Order::From(first));
        let load = Load { address, path, tokens, order, status: "200", until: Until::Time(SLICE) };
        let before = used()?;
        let measured = load
            .run(&[], pins)
            .map_err(|error| format!("{}, {path}: {error}\n{}", self.name, self.log()))?;
        Ok(Measured { used: used()?.saturating_sub(before), ..measured })
    }
}

/// What auth_token 4.9.1 and 13 are told.
fn options(uri: &str, memcached: &Memcached, signing_dir: &Path) -> [String; 2] {
    let server = memcached.server();
    let common = json!({
        "memcached_servers": server, "token_cache_time": "14400",
        "memcache_use_advanced_pool": "false", "delay_auth_decision": "false",
    });
    let with = |more: Value| {
        let mut options = common.as_object().cloned().unwrap_or_default();
        options.extend(more.as_object().cloned().unwrap_or_default());
        Value::Object(options).to_string()
    };
    let old = json!({
        "identity_uri": uri, "auth_uri": uri, "auth_version": "v3.0",
        "admin_token": ADMIN_TOKEN, "revocation_cache_time": "14400",
        "signing_dir": signing_dir,
    });
    let new = json!({
        "auth_type": "admin_token", "token": ADMIN_TOKEN, "endpoint": format!("{uri}/v3"),
        "www_authenticate_uri": uri,
    });
    [old, new].map(with)
}

/// The identity service answers questions about these tokens.
fn know(identity: &Identity, tokens: &[String]) {
    for token in tokens {
        identity.know(token, &Payload::v3().expires_in(LIFE));
    }
}

fn start_uwsgi(socket: &Path, venv: &Path, options: &str) -> Result<Uwsgi, Failure> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut path = vec![std::env::var("KEYSTONE_PEERS_DIR").unwrap_or_default()];
    if socket.ends_with("old") {
        path.push(here.join("../tests/oracle").display().to_string());
    }
    let mut uwsgi = Command::new("uwsgi");
    uwsgi
        .args(["--plugin", "python3", "--master", "--processes", "2", "--need-app"])
        .args(["--buffer-size", "65535", "--disable-logging", "--die-on-term"])
        .args(["--chmod-socket=666", "--virtualenv"])
        .arg(venv)
        .arg("--socket")
        .arg(socket)
        .arg("--wsgi-file")
        .arg(here.join("peers/app.py"))
        .env("AUTH_TOKEN_OPTIONS", options)
        .env("PYTHONPATH", path.join(":"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let log = socket.with_extension("log");
    let spawned = uwsgi.stderr(fs::File::create(&log)?).spawn();
    let mut uwsgi = Uwsgi(spawned.map_err(|error| format!("uwsgi: {error}"))?);
    let processes = |pid| cpu::children(pid).map_or(0, |pids| pids.len());
    let is_up = wait_for("uWSGI to have its processes", || {
        let has_ended = !matches!(uwsgi.0.try_wait(), Ok(None));
        let is_up = socket.exists() && processes(uwsgi.0.id() as i32) == 2;
        (has_ended || is_up).then_some(is_up)
    });
    match is_up {
        Ok(true) => Ok(uwsgi),
        _ => Err(format!("uWSGI has ended: {}", fs::read_to_string(log)?).into()),
    }
}

const PEERS_CONF: &str = include_str!("../peers.conf");
const SLICE: Duration = Duration::from_millis(500);
const FERNET_TOKENS: usize = 8_000;
