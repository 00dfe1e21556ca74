//! What the tests and the demo stand on.
//!
//! Everything here is real except, mostly, the cloud: a certificate authority and a signing
//! certificate as `keystone-manage pki_setup` makes them ([`pki`]), tokens and revocation lists
//! signed with them ([`mint`]), a small identity service that speaks Keystone's v2.0 and v3 APIs
//! and can be told to misbehave ([`identity`]), an upstream that tells what it was sent
//! ([`upstream`]), an unmodified nginx with the module in it ([`nginx`]) and an HTTP client that
//! sends exactly the bytes it is given ([`http`]). [`world`] puts them together, and [`expect`]
//! knows what should come out. Where that is not enough there are a real memcached ([`memcached`]),
//! a real Keystone ([`keystone`]) and Swift ([`swift`]), OpenStack's own filter to compare with
//! ([`oracle`]), and a Prometheus that scrapes nginx ([`prometheus`]).
//!
//! All of it listens on 127.0.0.1 only and cleans up when it is dropped, also in a test that
//! panics.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub mod clock;
pub mod cms;
pub mod dns;
pub mod expect;
pub mod fake_clock;
pub mod http;
pub mod identity;
pub mod keystone;
pub mod load;
pub mod memcached;
pub mod metrics;
pub mod mint;
pub mod mount;
pub mod negotiate;
pub mod nginx;
pub mod opened;
pub mod oracle;
pub mod pki;
pub mod port;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod random;
pub mod sample;
pub mod serve;
pub mod swift;
pub mod temp;
pub mod upstream;
pub mod wire;
pub mod world;

/// Why a part of the testbed could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that spoke HTTP did not speak it well.
    #[error("not HTTP: {0}")]
    Http(String),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What the program tried to do.
        what: String,
        /// The error of the system.
        source: io::Error,
    },
    /// Some JSON was not what was expected.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
    /// memcached sent an unexpected response.
    #[error("memcached: {0}")]
    Memcached(String),
    /// nginx did not start, reload or stop.
    #[error("nginx: {0}")]
    Nginx(String),
    /// A function of OpenSSL failed.
    #[error("openssl: {0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
    /// Prometheus or promtool sent an unexpected response.
    #[error("prometheus: {0}")]
    Prometheus(String),
    /// A Python program of the tests did not do what it is for.
    #[error("python: {0}")]
    Python(String),
    /// Something did not happen in time.
    #[error("timed out waiting for {0}")]
    Timeout(String),
}

/// A result of the testbed.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was being done when a system call failed.
pub trait During<T> {
    /// Turns an I/O error into an [`Error`] that names `what`.
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.into(), source })
    }
}

/// The time in seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Asks `probe` again and again until it has an answer, for ten seconds at most ([`patience`]).
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> Result<T> {
    wait_within(WAIT, what, probe)
}

/// The same for what may take longer or less than ten seconds.
pub fn wait_within<T>(
    time: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience(time);
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(Error::Timeout(what.into()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long to wait for what should take no longer than `usual`: as many times that as
/// `KEYSTONE_TESTBED_PATIENCE` says, once where it is not set. Under a sanitizer all takes longer.
pub fn patience(usual: Duration) -> Duration {
    let times = std::env::var("KEYSTONE_TESTBED_PATIENCE").ok();
    usual * times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Locks a mutex; what a panicking thread left behind is good enough for a test.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const WAIT: Duration = Duration::from_secs(10);
