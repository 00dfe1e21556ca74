//! nginx with the module, what is behind it, and what is asked of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::{Identity, ADMIN_TOKEN};
use keystone_testbed::mint::{self, new_audit_id, Revoked};
use keystone_testbed::nginx::{self, Config, Nginx};
use keystone_testbed::pki::Pki;
use keystone_testbed::port::Port;
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::{fill_signing_dir, put};
use keystone_testbed::{cms, wait_for};
use keystone_token::format::{unarmour, TokenFormat};

use crate::client::{Load, Order, Until};
use crate::cpu::Pins;
use crate::measured::Measured;
use crate::row::{Site, Tokens, LISTS, ROWS};
use crate::tokens::{self, PROJECT};
use crate::Failure;

/// Everything that is measured, except the client.
pub struct Stage {
    pins: Pins,
    pki: Pki,
    identity: Identity,
    upstream: Nginx,
    narrow: Gateway,
    wide: Gateway,
    pair: Gateway,
    lists: Lists,
    files: TempDir,
    tokens: Sets,
    /// How many of the tokens that are new each time were sent, for each line of the table.
    sent: Vec<usize>,
}

/// nginx with the module.
pub struct Gateway {
    nginx: Nginx,
    /// Where tokens are asked about at the stand-in that answers at once.
    online: Port,
    /// Where tokens are asked about at [`Stage::identity`].
    slow: Port,
    /// Where PKI tokens are validated and the list is refreshed each second.
    busy: Port,
    /// As the first and as `online`, but tokens stay in the cache for a second only.
    new: [Port; 2],
    workers: Vec<i32>,
}

/// nginx with revocation lists of several sizes.
struct Lists {
    _nginx: Nginx,
    /// For each list, the server that keeps tokens in the cache and the one that does not.
    ports: Vec<[Port; 2]>,
    workers: Vec<i32>,
}

/// The tokens.
struct Sets {
    new: Vec<String>,
    new_fernet: Vec<String>,
    new_pkiz: Vec<String>,
    /// PKI tokens that every zone holds.
    kept: Vec<String>,
    fernet: Vec<String>,
    expired: Vec<String>,
}

impl Stage {
    /// Signs the tokens and starts everything.
    pub fn set(pins: Pins, count: usize) -> Result<Self, Failure> {
        let module = nginx::module();
        if !module.exists() {
            return Err(format!("there is no {}: run `make` first", module.display()).into());
        }
        eprintln!("Signing {} tokens.", 2 * count + KEPT);
        let pki = Pki::new()?;
        let tokens = Sets {
            new: tokens::sign(&pki.signing, count, LIFE)?,
            new_fernet: tokens::fernet(count),
            new_pkiz: tokens::sign_pkiz(&pki.signing, count, LIFE)?,
            kept: tokens::sign(&pki.signing, KEPT, LIFE)?,
            fernet: tokens::fernet(FERNET_TOKENS),
            expired: tokens::sign(&pki.signing, 1, -LIFE)?,
        };
        let identity = Identity::start(&pki)?;
        let upstream = start_stand_in(pins.client)?;
        let one = Pins::affinity(pins.worker);
        let gateway = |zone, workers, affinity: &str| {
            let process = Process { workers, main: affinity, under: &[] };
            Gateway::start(&pki, &identity, &upstream, zone, &process)
        };
        Ok(Self {
            // Room for the tokens that are expected in the cache, and not for the others.
            narrow: gateway("4m", 1, &one)?,
            wide: gateway("256m", 1, &one)?,
            pair: gateway("64m", 2, &pins.affinities())?,
            lists: Lists::start(&pki, &identity, &one)?,
            files: TempDir::new("bench")?,
            sent: vec![0; ROWS.len()],
            pins,
            pki,
            identity,
            upstream,
            tokens,
        })
    }

    /// Fills the zones, and looks whether they keep and forget as the lines of the table say.
    pub fn check(&self) -> Result<(), Failure> {
        eprintln!("Filling the zones, and looking whether they keep and forget as they should.");
        let (new, kept, fernet) = (&self.tokens.new, &self.tokens.kept, &self.tokens.fernet);
        let many = self.tokens.of(Tokens::Pki(MANY));
        let (narrow, wide) = (self.narrow.address(), self.wide.address());
        let first = self.narrow.new_tokens();
        for (address, path, tokens) in [
            (first, "/protected/file", &**new),
            (narrow, "/protected/file", kept),
            (wide, "/protected/file", many),
            (self.wide.online(), "/fernet/file", fernet),
            (self.pair.address(), "/protected/file", kept),
        ] {
            let (order, until) = (Order::From(0), Until::Requests(tokens.len()));
            Load { address, path, tokens, order, status: "200", until }.run(&[], &self.pins)?;
        }
        look(first, new, false)?;
        look(narrow, kept, true)?;
        look(wide, many, true)?;
        look(self.wide.online(), fernet, true)
    }

    /// Measures one line of the table, of this place in [`ROWS`], for a moment.
    pub fn measure(&mut self, row: usize, time: Duration) -> Result<Measured, Failure> {
        let are_new = matches!(ROWS[row].tokens, Tokens::New | Tokens::NewFernet | Tokens::NewPkiz);
        let order = if are_new { Order::From(self.sent[row]) } else { Order::Random };
        let measured = self.load(row, order, Until::Time(time))?;
        self.sent[row] += measured.requests;
        Ok(measured)
    }

    fn load(&self, row: usize, order: Order, until: Until) -> Result<Measured, Failure> {
        let row = &ROWS[row];
        let (address, workers) = self.site(row.site);
        let (path, tokens) = (&*row.path(), self.tokens.of(row.tokens));
        let load = Load { address, path, tokens, order, status: row.status, until };
        let measured = load.run(workers, &self.pins);
        measured.map_err(|error| format!("{}: {error}", row.key).into())
    }

    fn site(&self, site: Site) -> (SocketAddr, &[i32]) {
        let list = |at: usize, which: usize| self.lists.ports[at][which].address();
        match site {
            Site::Narrow => (self.narrow.nginx.address(), &self.narrow.workers),
            Site::NarrowOnline => (self.narrow.online.address(), &self.narrow.workers),
            Site::NarrowNew => (self.narrow.new[0].address(), &self.narrow.workers),
            Site::NarrowNewOnline => (self.narrow.new[1].address(), &self.narrow.workers),
            Site::Wide => (self.wide.nginx.address(), &self.wide.workers),
            Site::WideOnline => (self.wide.online.address(), &self.wide.workers),
            Site::Pair => (self.pair.nginx.address(), &self.pair.workers),
            Site::List(at) => (list(at, 0), &self.lists.workers),
            Site::ListUncached(at) => (list(at, 1), &self.lists.workers),
        }
    }

    /// nginx whose zone does not hold the tokens that are new each time.
    pub fn narrow(&self) -> &Gateway {
        &self.narrow
    }

    /// A stand-in for an identity service that answers at once.
    pub fn stand_in(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// An identity service that can be told to be slow.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A token that is in the cache.
    pub fn cached_token(&self) -> &str {
        &self.tokens.kept[0]
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
        &self.tokens.new
    }

    /// Writes the message of some tokens, and the certificates, into files for OpenSSL.
    pub fn messages(&self, count: usize) -> Result<Vec<PathBuf>, Failure> {
        fs::write(self.files.join(SIGNING_CERTIFICATE), self.pki.signing.pem()?)?;
        fs::write(self.files.join(CA), self.pki.authority.pem()?)?;
        let mut paths = Vec::new();
        for (index, token) in self.tokens.new.iter().take(count).enumerate() {
            let path = self.files.join(format!("message-{index}.pem"));
            fs::write(&path, mint::cms_pem(&unarmour(token.as_bytes(), TokenFormat::Pki)?))?;
            paths.push(path);
        }
        Ok(paths)
    }
}

impl Sets {
    fn of(&self, tokens: Tokens) -> &[String] {
        match tokens {
            Tokens::Absent => &[],
            // Only the wide zone holds as many, which are not new there.
            Tokens::Pki(count) if count > KEPT => first(&self.new, count),
            Tokens::Pki(count) => first(&self.kept, count),
            Tokens::Fernet(count) => first(&self.fernet, count),
            Tokens::Expired => &self.expired,
            Tokens::New => &self.new,
            Tokens::NewFernet => &self.new_fernet,
            Tokens::NewPkiz => &self.new_pkiz,
        }
    }
}

fn first(tokens: &[String], count: usize) -> &[String] {
    tokens.get(..count).unwrap_or(tokens)
}

impl Gateway {
    /// Starts one whose zone has this size.
    pub fn start(
        pki: &Pki,
        identity: &Identity,
        upstream: &Nginx,
        zone: &str,
        process: &Process<'_>,
    ) -> Result<Self, Failure> {
        let list = signed_list(pki, REVOKED)?;
        let fill = |dir: &Path| {
            let dir = dir.join("keystone");
            fill_signing_dir(&dir, pki)?;
            Ok(put(&dir, "revoked.pem", list.as_bytes())?)
        };
        let (online, slow, busy) = (Port::free()?, Port::free()?, Port::free()?);
        let new = [Port::free()?, Port::free()?];
        let nginx = start(
            NGINX_CONF,
            process,
            fill,
            &[
                ("@ZONE@", zone),
                ("@REUSEPORT@", if process.workers > 1 { " reuseport" } else { "" }),
                ("@IDENTITY@", &identity.uri()),
                ("@ADMIN_TOKEN@", ADMIN_TOKEN),
                ("@UPSTREAM@", &upstream.address().to_string()),
                ("@PROJECT@", PROJECT),
                ("@ONLINE@", &online.address().to_string()),
                ("@SLOW@", &slow.address().to_string()),
                ("@BUSY@", &busy.address().to_string()),
                ("@NEW@", &new[0].address().to_string()),
                ("@NEW_ONLINE@", &new[1].address().to_string()),
            ],
        )?;
        let workers = worker_pids(&nginx, process.workers)?;
        Ok(Self { nginx, online, slow, busy, new, workers })
    }

    /// Where PKI tokens are validated.
    pub fn address(&self) -> SocketAddr {
        self.nginx.address()
    }

    /// Where tokens are asked about at a stand-in that answers at once.
    pub fn online(&self) -> SocketAddr {
        self.online.address()
    }

    /// Where tokens are asked about at [`Stage::identity`].
    pub fn slow(&self) -> SocketAddr {
        self.slow.address()
    }

    /// Where PKI tokens are validated and the list is refreshed each second.
    pub fn busy(&self) -> SocketAddr {
        self.busy.address()
    }

    /// Where PKI tokens stay in the cache for a second only.
    pub fn new_tokens(&self) -> SocketAddr {
        self.new[0].address()
    }

    /// Its master.
    pub fn pid(&self) -> i32 {
        self.nginx.pid()
    }

    /// Its workers.
    pub fn workers(&self) -> &[i32] {
        &self.workers
    }
}

impl Lists {
    fn start(pki: &Pki, identity: &Identity, affinity: &str) -> Result<Self, Failure> {
        let port = |_| -> Result<_, Failure> { Ok([Port::free()?, Port::free()?]) };
        let ports: Vec<_> = LISTS.iter().map(port).collect::<Result<_, _>>()?;
        let lists = LISTS.iter().map(|len| signed_list(pki, *len));
        let lists: Vec<_> = lists.collect::<Result<_, _>>()?;
        let server = |at: usize, port: &Port, more: &str| {
            LIST_SERVER
                .replace("@AT@", &at.to_string())
                .replace("@LISTEN@", &port.address().to_string())
                .replace("@MORE@", more)
        };
        let servers: String = ports
            .iter()
            .enumerate()
            .flat_map(|(at, [cached, uncached])| {
                [server(at, cached, ""), server(at, uncached, "keystone_token_cache_time off;")]
            })
            .collect();
        let fill = |dir: &Path| {
            fill_signing_dir(&dir.join("keystone"), pki)?;
            for (at, list) in lists.iter().enumerate() {
                let dir = dir.join(format!("list-{at}"));
                fill_signing_dir(&dir, pki)?;
                put(&dir, "revoked.pem", list.as_bytes())?;
            }
            Ok(())
        };
        let replace = [
            ("@SERVERS@", &*servers),
            ("@IDENTITY@", &identity.uri()),
            ("@ADMIN_TOKEN@", ADMIN_TOKEN),
        ];
        let process = Process { workers: 1, main: affinity, under: &[] };
        let nginx = start(LISTS_CONF, &process, fill, &replace)?;
        let workers = worker_pids(&nginx, 1)?;
        Ok(Self { _nginx: nginx, ports, workers })
    }
}

/// Whether some of the tokens are in the cache, or are not.
fn look(address: SocketAddr, tokens: &[String], are_cached: bool) -> Result<(), Failure> {
    let (mut client, mut odd) = (Client::connect(address)?, 0);
    for token in tokens.iter().step_by(tokens.len().div_ceil(LOOKS)) {
        let answer = client.send(&Request::get("/check/file").token(token))?;
        if answer.status != 200 {
            return Err(format!("a token gets {}", answer.status).into());
        }
        odd += usize::from((answer.header("X-Cache") == Some("HIT")) != are_cached);
    }
    // A few tokens share their places in the cache with too many others.
    match odd * 20 > LOOKS {
        true if are_cached => Err(format!("{odd} of {LOOKS} tokens are not in the cache").into()),
        true => Err(format!("{odd} of {LOOKS} new tokens are in the cache").into()),
        false => Ok(()),
    }
}

fn worker_pids(nginx: &Nginx, count: usize) -> Result<Vec<i32>, Failure> {
    let all = || Some(nginx.worker_pids()).filter(|pids| pids.len() == count);
    Ok(wait_for("the workers", all)?)
}

/// A revocation list with such a number of entries, none of them of a token that is used: each with
/// a token's id and its audit id, as Keystone gives them.
fn signed_list(pki: &Pki, len: usize) -> Result<String, Failure> {
    let entries: Vec<_> = (0..len).map(|_| Revoked::audit_id(new_audit_id())).collect();
    let list = mint::revocation_list(&entries);
    Ok(mint::cms_pem(&cms::sign(&pki.signing, list.as_bytes())?))
}

/// Starts an nginx on a processor that has the file, and that says of every token that it is valid.
pub fn start_stand_in(cpu: Option<usize>) -> Result<Nginx, Failure> {
    let prepare = |dir: &Path| {
        let directory = dir.join("html/v3/auth");
        fs::create_dir_all(&directory)?;
        Ok(fs::write(directory.join("tokens"), tokens::answer(LIFE))?)
    };
    let process = Process { workers: 1, main: &Pins::affinity(cpu), under: &[] };
    start(UPSTREAM_CONF, &process, prepare, &[])
}

/// How an nginx runs.
pub struct Process<'a> {
    /// How many workers it has; 0 where its only process does their work.
    pub workers: usize,
    /// More directives outside of `http`.
    pub main: &'a str,
    /// The command that starts it, as [`Config::under`].
    pub under: &'a [&'a str],
}

/// Starts an nginx that has the file.
pub fn start(
    conf: &str,
    process: &Process<'_>,
    prepare: impl FnOnce(&Path) -> Result<(), Failure>,
    replace: &[(&str, &str)],
) -> Result<Nginx, Failure> {
    let dir = TempDir::new("bench")?;
    let html = dir.join("html");
    fs::create_dir(&html)?;
    fs::write(html.join("file"), [b'x'; FILE])?;
    prepare(dir.path())?;
    let user = nginx::worker_user().map_or(String::new(), |user| format!("user {user};"));
    let conf = replace.iter().fold(conf.to_owned(), |conf, (from, to)| conf.replace(from, to));
    let conf = conf
        .replace("@USER@", &user)
        .replace("@MAIN@", process.main)
        .replace("@WORKERS@", &process.workers.max(1).to_string());
    let config = Config::raw(&conf, process.workers).under(process.under);
    Ok(Nginx::start_in(dir, Port::free()?, &config)?)
}

/// The names of the files of [`Stage::messages`] with certificates, beside the messages.
pub const SIGNING_CERTIFICATE: &str = "signing_cert.pem";
/// As [`SIGNING_CERTIFICATE`], for the CA.
pub const CA: &str = "cacert.pem";

const NGINX_CONF: &str = include_str!("../nginx.conf");
const LISTS_CONF: &str = include_str!("../lists.conf");
const UPSTREAM_CONF: &str = include_str!("../upstream.conf");

const LIST_SERVER: &str = "
    server {
        listen @LISTEN@;
        keystone_signing_dir @DIR@/list-@AT@;
        @MORE@

        location /protected/ {
            alias @DIR@/html/;
            keystone_auth on;
        }
    }
";

/// Bytes of the file that is served.
const FILE: usize = 1024;

/// Seconds that a token lives: longer than the whole run.
pub const LIFE: i64 = 4 * 3600;

/// The most that a line has in turn.
const MANY: usize = 10_000;
const FERNET_TOKENS: usize = 100_000;

/// Fewer than the smallest zone holds.
const KEPT: usize = 1_000;

/// How many tokens of a zone are looked at.
const LOOKS: usize = 200;

/// Entries of the usual revocation list.
const REVOKED: usize = 200;
