//! What is counted, and at which place.
//!
//! Requests and validations are counted by their [`AuthResult`]. A status or an operation that has
//! no cell of its own is counted as [`OTHER`].

use keystone_token::api::Kind;
use keystone_token::format::TokenFormat;
use keystone_token::result::AuthResult;

/// The label of a status, an endpoint or a server without cells of its own.
pub const OTHER: &str = "other";

/// The result of one lookup in the worker's cache or in the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheLookup {
    /// From what the worker has seen last.
    WorkerHit,
    /// There was an entry in the zone, which counts no more.
    ZoneExpired,
    /// The zone has an entry.
    ZoneHit,
    /// The zone has no entry.
    ZoneMiss,
}

impl CacheLookup {
    /// The number of variants.
    pub const COUNT: usize = 4;
}

/// The cells that each worker has for itself, because requests from the cache count there.
pub const WORKER: usize = AuthResult::ALL.len() + CacheLookup::COUNT;

/// The cell of a result, among [`WORKER`].
pub fn result(result: AuthResult) -> usize {
    usize::from(result.code())
}

/// The cell of cache lookups with this outcome, among [`WORKER`].
pub fn cache_lookup(lookup: CacheLookup) -> usize {
    AuthResult::ALL.len() + lookup as usize
}

/// Who has validated a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Another gateway, which has stored the answer in memcached.
    Memcached,
    /// The gateway, by the signature of the token.
    Offline,
    /// Keystone.
    Online,
}

impl Path {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 3] = [Self::Memcached, Self::Offline, Self::Online];

    /// The value of the label `path`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memcached => "memcached",
            Self::Offline => "offline",
            Self::Online => "online",
        }
    }
}

/// The cells of validations, shared by all workers.
pub const VALIDATIONS: usize = TokenFormat::ALL.len() * Path::ALL.len() * AuthResult::ALL.len();

/// The cell of validations with this result.
pub fn validation(format: TokenFormat, path: Path, result: AuthResult) -> usize {
    let kind = format as usize * Path::ALL.len() + path as usize;
    kind * AuthResult::ALL.len() + self::result(result)
}

/// How an exchange with the identity service ended: the statuses that Keystone, or a proxy before
/// it, is known to answer with, and what there is instead of one.
pub const STATUSES: [&str; 19] = [
    "200", "201", "203", "300", "400", "401", "403", "404", "405", "410", "413", "429", "500",
    "502", "503", "504", TIMEOUT, FAILED, OTHER,
];

/// Instead of a status: it took too long.
pub const TIMEOUT: &str = "timeout";

/// Instead of a status: no connection, or no HTTP on it.
pub const FAILED: &str = "failed";

/// How many identity endpoints have cells of their own; the last one shares its with those after
/// it.
pub const ENDPOINTS: usize = 4;

/// The bounds of the buckets, in microseconds: of a Keystone that answers from its cache to one
/// that is about to time out.
pub const BOUNDS: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Behind the buckets, of which the last has no bound, lies the sum of all durations.
const DURATION: usize = BOUNDS.len() + 2;

/// Words of a kind of exchange with one endpoint.
const EXCHANGE: usize = STATUSES.len() + DURATION;

/// The cells of exchanges with an identity service.
pub const EXCHANGES: usize = ENDPOINTS * Kind::ALL.len() * EXCHANGE;

fn exchange(endpoint: usize, kind: Kind) -> usize {
    (endpoint.min(ENDPOINTS - 1) * Kind::ALL.len() + kind as usize) * EXCHANGE
}

/// The cell of exchanges that ended with `status`, one of [`STATUSES`].
pub fn status(endpoint: usize, kind: Kind, status: &str) -> usize {
    let place = STATUSES.iter().position(|known| *known == status);
    exchange(endpoint, kind) + place.unwrap_or(STATUSES.len() - 1)
}

/// The cells of a duration: that of the bucket, and that of the sum, which the duration is added
/// to in microseconds.
pub fn duration(endpoint: usize, kind: Kind, micros: u64) -> [usize; 2] {
    let first = exchange(endpoint, kind) + STATUSES.len();
    let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
    [first + bucket, first + BOUNDS.len() + 1]
}

/// The buckets of a kind of exchange, the last one without a bound, and the sum in microseconds.
pub fn durations(
    endpoint: usize,
    kind: Kind,
    read: impl Fn(usize) -> u64,
) -> ([u64; BOUNDS.len() + 1], u64) {
    let first = exchange(endpoint, kind) + STATUSES.len();
    (std::array::from_fn(|bucket| read(first + bucket)), read(first + BOUNDS.len() + 1))
}

/// A command to memcached, and its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemcachedOp {
    /// A `get` that found the entry.
    GetHit,
    /// A `get` that found no entry.
    GetMiss,
    /// A `get` without a usable answer.
    GetFailed,
    /// A `set` that stored the entry.
    SetStored,
    /// A `set` that was refused or not answered.
    SetFailed,
}

impl MemcachedOp {
    /// All of them, in the order of their cells.
    pub const ALL: [Self; 5] =
        [Self::GetHit, Self::GetMiss, Self::GetFailed, Self::SetStored, Self::SetFailed];

    /// The values of the labels `operation` and `result`.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::GetHit => ("get", "hit"),
            Self::GetMiss => ("get", "miss"),
            Self::GetFailed => ("get", "failed"),
            Self::SetStored => ("set", "stored"),
            Self::SetFailed => ("set", "failed"),
        }
    }
}

/// How many memcached servers have cells of their own, as for [`ENDPOINTS`].
pub const SERVERS: usize = 8;

/// The cells of commands to memcached.
pub const MEMCACHED_CELLS: usize = SERVERS * MemcachedOp::ALL.len();

/// The cell of a command to a server.
pub fn memcached(server: usize, asked: MemcachedOp) -> usize {
    server.min(SERVERS - 1) * MemcachedOp::ALL.len() + asked as usize
}

/// The names of those that have cells, of `names`: the last cell is that of all the others.
pub fn named(names: &[String], cells: usize) -> impl Iterator<Item = (usize, &str)> {
    let is_crowded = names.len() > cells;
    names.iter().take(cells).enumerate().map(move |(at, name)| match is_crowded {
        true if at + 1 == cells => (at, OTHER),
        _ => (at, name.as_str()),
    })
}
