//! nginx with the module, what is behind it, and what is asked of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keystone_testbed::http::Request;
use keystone_testbed::identity::{Identity, ADMIN_TOKEN};
use keystone_testbed::mint::{self, new_audit_id, Revoked};
use keystone_testbed::nginx::{self, Config, Nginx};
use keystone_testbed::pki::Pki;
use keystone_testbed::port::Port;
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::{fill_signing_dir, put};
use keystone_testbed::{cms, wait_for};
use keystone_token::format::{unarmour, TokenFormat};

use crate::client::Load;
use crate::cpu::Pins;
use crate::measured::Measured;
use crate::tokens::{self, PROJECT};
use crate::Failure;

/// One line of the table.
pub struct Row {
    /// The name in the report.
    pub name: &'static str,
    location: &'static str,
    tokens: Tokens,
    /// The status of every answer.
    status: &'static str,
    /// The line that it is compared with.
    pub against: usize,
}

/// Which token a request has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tokens {
    /// No token is sent.
    Absent,
    /// Always the same, which is valid.
    One,
    /// Always the same, which has expired.
    Expired,
    /// One of some that all fit into the cache.
    Cached,
    /// One of so many that it is out of the cache before it comes again.
    New,
    /// Always the same Fernet token, which is valid.
    Fernet,
    /// As [`Tokens::New`], Fernet tokens.
    NewFernet,
}

impl Tokens {
    fn are_new(self) -> bool {
        matches!(self, Self::New | Self::NewFernet)
    }
}

/// What is measured, in this order.
pub const ROWS: &[Row] = &[
    row("file", "/open/", Tokens::Absent, UNPROTECTED),
    row("file, with the token's header", "/open/", Tokens::One, UNPROTECTED),
    row("file, cached token", "/protected/", Tokens::One, UNPROTECTED),
    row("  the same, keystone_headers off", "/bare/", Tokens::One, UNPROTECTED),
    row("  one of 700 cached tokens", "/protected/", Tokens::Cached, UNPROTECTED),
    row("file, new token each time", "/protected/", Tokens::New, UNPROTECTED),
    Row {
        status: "401",
        ..row("401, expired token, remembered", "/protected/", Tokens::Expired, UNPROTECTED)
    },
    row("file, with a Fernet token's header", "/open/", Tokens::Fernet, UNPROTECTED),
    row("file, cached Fernet token", "/fernet/", Tokens::Fernet, CACHED),
    row("file, new Fernet token each time", "/fernet/", Tokens::NewFernet, FERNET_HEADER),
    row("object, cached token", "/v1/AUTH_@PROJECT@/d/", Tokens::One, OBJECT),
    row("  the same, with keystone_swift_auth", "/v1/AUTH_@PROJECT@/c/", Tokens::One, OBJECT),
    row("proxied, with the token's header", "/proxy/open/", Tokens::One, PROXIED),
    row("proxied, cached token", "/proxy/protected/", Tokens::One, PROXIED),
    row("  the same, keystone_headers off", "/proxy/bare/", Tokens::One, PROXIED),
];

/// Index in [`ROWS`].
pub const UNPROTECTED: usize = 1;
/// Index in [`ROWS`].
pub const CACHED: usize = 2;
/// Index in [`ROWS`].
pub const NEW_TOKEN: usize = 5;
const FERNET_HEADER: usize = 7;
/// Index in [`ROWS`].
pub const CACHED_FERNET: usize = 8;
/// Index in [`ROWS`].
pub const OBJECT: usize = 10;
/// Index in [`ROWS`].
pub const AUTHORISED_OBJECT: usize = 11;
const PROXIED: usize = 12;

const fn row(name: &'static str, location: &'static str, tokens: Tokens, against: usize) -> Row {
    Row { name, location, tokens, status: "200", against }
}

/// Everything that is measured, except the client.
pub struct Stage {
    pins: Pins,
    pki: Pki,
    identity: Identity,
    upstream: Nginx,
    nginx: Nginx,
    /// Where tokens are asked about at the upstream.
    online: Port,
    /// Where tokens are asked about at `identity`.
    slow: Port,
    worker: i32,
    files: TempDir,
    new: Vec<String>,
    cached: Vec<String>,
    /// What is sent for each line of the table.
    requests: Vec<Vec<Vec<u8>>>,
    /// How many of the tokens that are new each time were sent, for each line of the table.
    sent: Vec<usize>,
}

impl Stage {
    /// Signs the tokens and starts everything.
    pub fn set(pins: Pins, count: usize) -> Result<Self, Failure> {
        let module = nginx::module();
        if !module.exists() {
            return Err(format!("there is no {}: run `make` first", module.display()).into());
        }
        eprintln!("Signing {count} tokens.");
        let pki = Pki::new()?;
        let new = tokens::sign(&pki.signing, count, LIFE)?;
        let cached = tokens::sign(&pki.signing, CACHED_TOKENS, LIFE)?;
        let expired = tokens::sign(&pki.signing, 1, -LIFE)?;
        let fernet = tokens::fernet(count);
        let requests = ROWS
            .iter()
            .map(|row| match row.tokens {
                Tokens::Absent => vec![request(row.location, "")],
                Tokens::Cached => with_tokens(row.location, &cached),
                Tokens::Expired => with_tokens(row.location, &expired),
                Tokens::Fernet => with_tokens(row.location, &fernet[..1]),
                Tokens::New => with_tokens(row.location, &new),
                Tokens::NewFernet => with_tokens(row.location, &fernet),
                Tokens::One => with_tokens(row.location, &cached[..1]),
            })
            .collect();
        let files = TempDir::new("bench")?;

        let identity = Identity::start(&pki)?;
        let upstream = start_stand_in(pins.client)?;
        let revoked: Vec<_> = (0..REVOKED).map(|_| Revoked::audit_id(new_audit_id())).collect();
        let list = mint::revocation_list(&revoked);
        let list = mint::cms_pem(&cms::sign(&pki.signing, list.as_bytes())?);
        let fill = |dir: &Path| {
            let dir = dir.join("keystone");
            fill_signing_dir(&dir, &pki)?;
            Ok(put(&dir, "revoked.pem", list.as_bytes())?)
        };
        let (online, slow) = (Port::free()?, Port::free()?);
        let nginx = start(
            NGINX_CONF,
            pins.worker,
            fill,
            &[
                ("@IDENTITY@", &identity.uri()),
                ("@ADMIN_TOKEN@", ADMIN_TOKEN),
                ("@UPSTREAM@", &upstream.address().to_string()),
                ("@PROJECT@", PROJECT),
                ("@ONLINE@", &online.address().to_string()),
                ("@SLOW@", &slow.address().to_string()),
            ],
        )?;
        let workers = || nginx.worker_pids().first().copied();
        let worker = wait_for("a worker", workers)?;
        Ok(Self {
            pins,
            pki,
            identity,
            upstream,
            nginx,
            online,
            slow,
            worker,
            files,
            new,
            cached,
            requests,
            sent: vec![0; ROWS.len()],
        })
    }

    /// Looks whether the cache does what the lines of the table say it does.
    pub fn check(&self) -> Result<(), Failure> {
        eprintln!("Looking whether the cache keeps and forgets as it should.");
        let count = |tokens: &[String], status: &str| -> Result<usize, Failure> {
            let mut client = self.nginx.connect()?;
            let mut found = 0;
            for token in tokens {
                let answer = client.send(&Request::get("/check/file").token(token))?;
                if answer.status != 200 {
                    return Err(format!("a token gets {}", answer.status).into());
                }
                found += usize::from(answer.header("X-Cache") == Some(status));
            }
            Ok(found)
        };
        for (tokens, status) in [(&self.new, "MISS"), (&self.cached, "HIT")] {
            count(tokens, status)?;
            let odd = tokens.len() - count(tokens, status)?;
            // A token has eight places in the cache, and a few share them with too many others.
            if odd * 50 > tokens.len() {
                let all = tokens.len();
                return Err(format!("{odd} of {all} tokens are no {status}").into());
            }
        }
        Ok(())
    }

    /// Measures one line of the table, of this place in [`ROWS`], for a moment.
    pub fn measure(&mut self, row: usize, time: Duration) -> Result<Measured, Failure> {
        let (Row { name, location, tokens, status, .. }, requests) =
            (&ROWS[row], &self.requests[row]);
        let is_online = *location == "/fernet/";
        let load = Load {
            address: if is_online { self.online.address() } else { self.nginx.address() },
            requests,
            first: self.sent[row] % requests.len(),
            status,
            time,
        };
        let measured = load.run(self.worker, &self.pins);
        let measured = measured.map_err(|error| format!("{}: {error}", name.trim()))?;
        if tokens.are_new() {
            self.sent[row] += measured.requests;
        }
        Ok(measured)
    }

    /// nginx with the module: where tokens are asked about at a stand-in that answers at once.
    pub fn online(&self) -> SocketAddr {
        self.online.address()
    }

    /// That stand-in.
    pub fn stand_in(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// nginx with the module: where tokens are asked about at [`Stage::identity`].
    pub fn slow(&self) -> SocketAddr {
        self.slow.address()
    }

    /// An identity service that can be told to be slow.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A request for the file with a cached token.
    pub fn cached_request(&self) -> (SocketAddr, &[u8]) {
        (self.nginx.address(), &self.requests[CACHED][0])
    }

    /// The certificates that sign the tokens.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Which processor does what.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The tokens that are new each time.
    pub fn tokens(&self) -> &[String] {
        &self.new
    }

    /// Writes the message of some tokens, and the certificates, into files for OpenSSL.
    pub fn messages(&self, count: usize) -> Result<Vec<PathBuf>, Failure> {
        fs::write(self.files.join(SIGNING_CERTIFICATE), self.pki.signing.pem()?)?;
        fs::write(self.files.join(CA), self.pki.authority.pem()?)?;
        let mut paths = Vec::new();
        for (index, token) in self.new.iter().take(count).enumerate() {
            let path = self.files.join(format!("message-{index}.pem"));
            fs::write(&path, mint::cms_pem(&unarmour(token.as_bytes(), TokenFormat::Pki)?))?;
            paths.push(path);
        }
        Ok(paths)
    }
}

fn with_tokens(location: &str, tokens: &[String]) -> Vec<Vec<u8>> {
    let header = |token| format!("X-Auth-Token: {token}\r\n");
    tokens.iter().map(|token| request(location, &header(token))).collect()
}

fn request(location: &str, header: &str) -> Vec<u8> {
    let location = location.replace("@PROJECT@", PROJECT);
    format!("GET {location}file HTTP/1.1\r\nHost: localhost\r\n{header}\r\n").into_bytes()
}

/// Starts an nginx on a processor that has the file, and that says of every token that it is valid.
fn start_stand_in(cpu: Option<usize>) -> Result<Nginx, Failure> {
    let prepare = |dir: &Path| {
        let directory = dir.join("html/v3/auth");
        fs::create_dir_all(&directory)?;
        Ok(fs::write(directory.join("tokens"), tokens::answer(LIFE))?)
    };
    start(UPSTREAM_CONF, cpu, prepare, &[])
}

/// Starts an nginx that has the file, on a processor.
fn start(
    conf: &str,
    cpu: Option<usize>,
    prepare: impl FnOnce(&Path) -> Result<(), Failure>,
    replace: &[(&str, &str)],
) -> Result<Nginx, Failure> {
    let dir = TempDir::new("bench")?;
    let html = dir.join("html");
    fs::create_dir(&html)?;
    fs::write(html.join("file"), [b'x'; FILE])?;
    prepare(dir.path())?;
    let user = nginx::worker_user().map_or(String::new(), |user| format!("user {user};"));
    let conf = conf.replace("@USER@", &user).replace("@AFFINITY@", &Pins::affinity(cpu));
    let conf = replace.iter().fold(conf, |conf, (from, to)| conf.replace(from, to));
    Ok(Nginx::start_in(dir, Port::free()?, &Config::raw(&conf, 1))?)
}

/// The names of the files of [`Stage::messages`] with certificates, beside the messages.
pub const SIGNING_CERTIFICATE: &str = "signing_cert.pem";
/// As [`SIGNING_CERTIFICATE`], for the CA.
pub const CA: &str = "cacert.pem";

const NGINX_CONF: &str = include_str!("../nginx.conf");
const UPSTREAM_CONF: &str = include_str!("../upstream.conf");

/// Bytes of the file that is served.
const FILE: usize = 1024;

/// Seconds that a token lives: longer than the whole run.
const LIFE: i64 = 4 * 3600;

/// Fewer than the zone holds, and more than a worker keeps for itself.
const CACHED_TOKENS: usize = 700;

/// Entries of the revocation list, none of them of a token that is used.
const REVOKED: usize = 200;
