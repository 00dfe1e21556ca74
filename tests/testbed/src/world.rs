//! A cloud in miniature: an identity service, an upstream, and nginx with the module between.
//!
//! Setting one up looks like this:
//!
//! ```no_run
//! use keystone_testbed::http::Request;
//! use keystone_testbed::mint::Payload;
//! use keystone_testbed::world::World;
//!
//! let world = World::setup().set("keystone_revocation_cache_time", "1s").start();
//! let token = world.pki(&Payload::v3());
//! let seen = world.seen(&Request::get("/").token(&token));
//! assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
//! ```
//!
//! What has no place in a test is panicked about here, so that a test is left with what it is
//! about.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cms;
use crate::expect;
use crate::http::{Request, Response};
use crate::identity::{
    Fault, Identity, Tls, ADMIN_TOKEN, SERVICE_PASSWORD, SERVICE_PROJECT, SERVICE_USER,
};
use crate::mint::{self, Payload};
use crate::nginx::{worker_ids, Config, Nginx};
use crate::pki::{Pki, TlsFiles};
use crate::port::Port;
use crate::temp::{set_mode, TempDir};
use crate::upstream::{Seen, Upstream};
use crate::{wait_for, During, Result};

/// An identity service, an upstream and nginx.
pub struct World {
    /// nginx with the module.
    pub nginx: Nginx,
    /// The identity service that nginx asks.
    pub identity: Identity,
    /// The server behind nginx.
    pub upstream: Upstream,
    /// The certificates that tokens are signed with.
    pub pki: Pki,
    /// The files of the identity service's TLS, if it speaks https.
    pub tls: Option<TlsFiles>,
    /// The configuration that nginx runs with.
    pub config: Config,
}

/// A world that is still being thought of.
pub struct Setup {
    config: Config,
    pki: Pki,
    identity: Identity,
    upstream: Upstream,
    tls: Option<TlsFiles>,
    dir: TempDir,
    filled: bool,
}

/// What `keystone_auth_uri` is set to.
pub const AUTH_URI: &str = "https://keystone.example.com:1234";

impl World {
    /// Starts thinking of one: a worker, an identity service that speaks http, an empty
    /// `signing_dir`, and these locations:
    ///
    /// - `/`: protected, with the upstream behind it
    /// - `/delay/`: the same with `keystone_auth delay`
    /// - `/open/`: the same with `keystone_auth off`
    /// - `/files/`: protected files, of which there is `/files/hello.txt`
    ///
    /// Every answer has `X-Cache`, `X-Result` and `X-Worker`: `$keystone_cache_status`,
    /// `$keystone_auth_result` and `$pid`.
    #[track_caller]
    pub fn setup() -> Setup {
        Setup::new(None, false).unwrap_or_else(|error| give_up("setting up", error))
    }

    /// The same with an identity service that speaks https, whose authority nginx trusts.
    #[track_caller]
    pub fn setup_https(files: TlsFiles, demand_client_certificate: bool) -> Setup {
        Setup::new(Some(files), demand_client_certificate)
            .unwrap_or_else(|error| give_up("setting up", error))
    }

    /// A PKI token of this world.
    #[track_caller]
    pub fn pki(&self, payload: &Payload) -> String {
        payload.pki(&self.pki.signing).unwrap_or_else(|error| give_up("signing", error))
    }

    /// A PKIZ token of this world.
    #[track_caller]
    pub fn pkiz(&self, payload: &Payload) -> String {
        payload.pkiz(&self.pki.signing).unwrap_or_else(|error| give_up("signing", error))
    }

    /// A token that only the identity service can judge, and that it knows.
    pub fn uuid(&self, payload: &Payload) -> String {
        let token = mint::new_uuid();
        self.identity.know(&token, payload);
        token
    }

    /// Sends a request to nginx on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.nginx.send(request).unwrap_or_else(|error| give_up("asking nginx", error))
    }

    /// The status of `GET /` with a token.
    #[track_caller]
    pub fn status(&self, token: &str) -> u16 {
        self.send(&Request::get("/").token(token)).status
    }

    /// What the upstream was sent; the answer must be its own, with 200.
    #[track_caller]
    pub fn seen(&self, request: &Request) -> Seen {
        let response = self.send(request);
        assert_eq!(response.status, 200, "{}", response.text());
        Seen::of(&response).unwrap_or_else(|error| give_up("reading the upstream", error))
    }

    /// Waits until the identity service was asked about tokens so often.
    #[track_caller]
    pub fn wait_for_validations(&self, number: usize) {
        let asked = || (self.identity.validations().len() >= number).then_some(());
        wait_for(&format!("{number} questions"), asked)
            .unwrap_or_else(|error| give_up("asking about tokens", error));
    }

    /// No worker has crashed, and nginx has no alert to tell.
    #[track_caller]
    pub fn assert_quiet_log(&self) {
        let log = self.nginx.error_log();
        assert!(!log.contains("[alert]") && !log.contains("exited on signal"), "{log}");
    }

    /// The directory with certificates and the revocation list.
    pub fn signing_dir(&self) -> PathBuf {
        self.nginx.dir().join(SIGNING_DIR)
    }

    /// Signed tokens cannot be judged here, for `what` reason, and so the identity service judges
    /// them: it is asked about the whole token, once, and its answer counts. Where it cannot be
    /// asked either, no request passes, and nothing is cached.
    #[track_caller]
    pub fn judges_signed_tokens_online(&self, what: &str) {
        let speaks_v2 = self.config.get("keystone_auth_version") == Some("v2.0");
        let payload = if speaks_v2 { Payload::v2() } else { Payload::v3() };
        let other = payload.clone().audit_ids(&[&mint::new_audit_id()]);
        let asked = |token: &str| {
            let questions = self.identity.validations();
            questions.iter().filter(|question| *question == token).count()
        };
        for token in [self.pki(&payload), self.pkiz(&payload)] {
            let answer = self.send(&Request::get("/").token(&token));
            expect::refused(&answer);
            assert_eq!(answer.header("X-Result"), Some("unknown_token"), "{what}");
            assert_eq!(asked(&token), 1, "{what}");
        }
        for token in [self.pki(&other), self.pkiz(&other)] {
            self.identity.know(&token, &other);
            for cache in ["MISS", "HIT"] {
                let answer = self.send(&Request::get("/").token(&token));
                assert_eq!(answer.header("X-Cache"), Some(cache), "{what}: {}", answer.text());
                let seen = Seen::of(&answer).unwrap_or_else(|error| give_up(what, error));
                match speaks_v2 {
                    true => expect::v2_user(&seen),
                    false => expect::v3_user(&seen),
                }
                assert_eq!(asked(&token), 1, "{what}");
            }
        }

        let token = self.pki(&other.user("user_id2", "user_name2"));
        self.identity.fault_validations_times(1, Fault::Status(403));
        let answer = self.send(&Request::get("/").token(&token));
        expect::unavailable(&answer);
        assert_eq!(answer.header("X-Result"), Some("identity_unavailable"), "{what}");
        assert_eq!(asked(&token), 1, "{what}");
        expect::refused(&self.send(&Request::get("/").token(&token)));
        assert_eq!(asked(&token), 2, "{what}");
    }

    /// Another gateway of the same cloud: one more nginx, in a directory of its own, with a
    /// configuration made from that of the first.
    #[track_caller]
    pub fn gateway(&self, change: impl FnOnce(Config) -> Config) -> Nginx {
        let nginx = Nginx::start(&change(self.config.clone()));
        nginx.unwrap_or_else(|error| give_up("starting another gateway", error))
    }

    /// Changes the configuration and reloads nginx.
    #[track_caller]
    pub fn reconfigure(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(self.config.clone());
        let reloaded = self.nginx.reconfigure(&self.config);
        reloaded.unwrap_or_else(|error| give_up("reloading nginx", error));
    }
}

impl Setup {
    fn new(tls: Option<TlsFiles>, demand_client_certificate: bool) -> Result<Self> {
        let pki = shared_pki()?.clone();
        let offer = tls.as_ref().map(|files| Tls { files, demand_client_certificate });
        let identity = Identity::start_on(Port::free()?, &pki, offer.as_ref())?;
        let upstream = Upstream::start()?;
        let dir = TempDir::new("nginx")?;
        fs::create_dir_all(dir.join("html/files")).during("making the document root")?;
        fs::write(dir.join("html/files/hello.txt"), "hello\n").during("writing a file")?;

        let behind = format!("proxy_pass http://{};", upstream.address());
        let auth = |mode: &str| format!("keystone_auth {mode};\n{behind}");
        let mut config = Config::new()
            .set("keystone_auth_uri", AUTH_URI)
            .set("keystone_identity_uri", &identity.uri())
            .set("keystone_admin_token", ADMIN_TOKEN)
            .set("keystone_signing_dir", &format!("@DIR@/{SIGNING_DIR}"))
            .server("add_header X-Cache $keystone_cache_status always;")
            .server("add_header X-Result $keystone_auth_result always;")
            .server("add_header X-Worker $pid always;")
            .location("/", &auth("on"))
            .location("/delay/", &auth("delay"))
            .location("/open/", &auth("off"))
            .location("/files/", "keystone_auth on;");
        if let Some(files) = &tls {
            let ca = files.ca().display().to_string();
            config = config.set("keystone_ssl_trusted_certificate", &ca);
        }
        Ok(Self { config, pki, identity, upstream, tls, dir, filled: false })
    }

    /// Changes the configuration.
    pub fn config(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.config = change(self.config);
        self
    }

    /// Sets a directive in `http`, instead of an earlier one of the same name.
    pub fn set(self, directive: &str, value: &str) -> Self {
        self.config(|config| config.set(directive, value))
    }

    /// Takes a directive out of `http`.
    pub fn unset(self, directive: &str) -> Self {
        self.config(|config| config.unset(directive))
    }

    /// nginx logs in as the service user, instead of sending the admin token.
    pub fn logs_in(self) -> Self {
        self.unset("keystone_admin_token")
            .set("keystone_username", SERVICE_USER)
            .set("keystone_password", SERVICE_PASSWORD)
            .set("keystone_project_name", SERVICE_PROJECT)
    }

    /// With a location; the upstream is behind `@UPSTREAM@`.
    pub fn location(self, name: &str, lines: &str) -> Self {
        let behind = format!("http://{}", self.upstream.address());
        let lines = lines.replace("@UPSTREAM@", &behind);
        self.config(|config| config.location(name, &lines))
    }

    /// With more lines in `http`; the upstream is behind `@UPSTREAM@`.
    pub fn http(self, lines: &str) -> Self {
        let behind = format!("http://{}", self.upstream.address());
        let lines = lines.replace("@UPSTREAM@", &behind);
        self.config(|config| config.http(&lines))
    }

    /// Adds lines to `server`; the upstream is behind `@UPSTREAM@`.
    pub fn server(self, lines: &str) -> Self {
        let behind = format!("http://{}", self.upstream.address());
        let lines = lines.replace("@UPSTREAM@", &behind);
        self.config(|config| config.server(&lines))
    }

    /// Sets `worker_processes`.
    pub fn workers(self, workers: usize) -> Self {
        self.config(|config| config.workers(workers))
    }

    /// With other certificates, which the identity service serves as well.
    #[track_caller]
    pub fn pki(mut self, pki: Pki) -> Self {
        let rotated = self.identity.rotate(&pki);
        rotated.unwrap_or_else(|error| give_up("serving other certificates", error));
        self.pki = pki;
        self
    }

    /// With the certificates and a list that is empty and fresh in `signing_dir` already; a list
    /// counts as fresh for an hour, so that the identity service need not be asked.
    pub fn offline(mut self) -> Self {
        self.filled = true;
        self.set("keystone_revocation_cache_time", "1h")
    }

    /// Does something to the identity service before nginx starts.
    pub fn identity(mut self, change: impl FnOnce(&mut Identity)) -> Self {
        change(&mut self.identity);
        self
    }

    /// Does something to the files in nginx's directory before nginx starts; `signing_dir` is
    /// `keystone` below it.
    #[track_caller]
    pub fn files(mut self, change: impl FnOnce(&Path)) -> Self {
        self.fill();
        change(self.dir.path());
        self
    }

    /// Starts the servers and nginx.
    #[track_caller]
    pub fn start(self) -> World {
        self.try_start().unwrap_or_else(|error| give_up("starting nginx", error))
    }

    /// Starts nginx, which may refuse.
    #[track_caller]
    pub fn try_start(mut self) -> Result<World> {
        self.fill();
        let Self { config, pki, identity, upstream, tls, dir, .. } = self;
        let nginx = Nginx::start_in(dir, Port::free()?, &config)?;
        Ok(World { nginx, identity, upstream, pki, tls, config })
    }

    #[track_caller]
    fn fill(&mut self) {
        if std::mem::take(&mut self.filled) {
            let filled = fill_signing_dir(&self.dir.join(SIGNING_DIR), &self.pki);
            filled.unwrap_or_else(|error| give_up("filling signing_dir", error));
        }
    }
}

/// Makes a `signing_dir` as nginx would have left it, with an empty revocation list.
pub fn fill_signing_dir(dir: &Path, pki: &Pki) -> Result<()> {
    let empty = cms::sign(&pki.signing, mint::revocation_list(&[]).as_bytes())?;
    make_signing_dir(dir)?;
    put(dir, "signing_cert.pem", pki.signing.pem_with_text()?.as_bytes())?;
    put(dir, "cacert.pem", pki.authority.pem()?.as_bytes())?;
    put(dir, "revoked.pem", mint::cms_pem(&empty).as_bytes())
}

/// Makes an empty `signing_dir` that belongs to the workers' user.
pub fn make_signing_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).during("making signing_dir")?;
    set_mode(dir, 0o700)?;
    give_to_worker(dir)
}

/// Puts a file into a `signing_dir` as nginx would have left it.
pub fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, bytes).during(format!("writing {}", path.display()))?;
    set_mode(&path, 0o600)?;
    give_to_worker(&path)
}

fn give_to_worker(path: &Path) -> Result<()> {
    let (user, group) = worker_ids();
    chown(path, Some(user), Some(group)).during(format!("giving away {}", path.display()))
}

/// One PKI for all worlds of a process that do not ask for their own: making keys takes time.
pub fn shared_pki() -> Result<&'static Pki> {
    static PKI: OnceLock<Pki> = OnceLock::new();
    if let Some(pki) = PKI.get() {
        return Ok(pki);
    }
    let pki = Pki::new()?;
    Ok(PKI.get_or_init(|| pki))
}

#[track_caller]
fn give_up(what: &str, error: impl Display) -> ! {
    panic!("{what}: {error}")
}

/// Another cloud's PKI, with the same names and serial numbers but other keys, for all tests of a
/// process.
#[track_caller]
pub fn stranger() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| Pki::new().unwrap_or_else(|error| give_up("making certificates", error)))
}

const SIGNING_DIR: &str = "keystone";
