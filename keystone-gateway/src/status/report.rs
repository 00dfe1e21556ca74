//! What was read of the counters, and of what workers share, at one moment.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cells::{self, CacheLookup, MemcachedOp, Path, BOUNDS, ENDPOINTS, SERVERS, STATUSES};
use super::Form;
use keystone_token::api::Kind;
use keystone_token::cms;
use keystone_token::format::TokenFormat;
use keystone_token::result::AuthResult;

/// A gateway's report. Counts start with the shared memory zone and survive a reload.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The module's version, as in `Cargo.toml`.
    pub version: &'static str,
    /// nginx's version, such as `1.22.1`.
    pub nginx: String,
    /// Requests by `$keystone_auth_result`, every one of its words.
    pub requests: Counts,
    /// The caches; `None` where the configuration has no use for them.
    pub cache: Option<Cache>,
    /// Only combinations that have occurred.
    pub validations: Vec<Validations>,
    /// The identity services, as the configuration orders them.
    pub services: Vec<Service>,
}

/// Numbers by the value of a label.
pub type Counts = BTreeMap<&'static str, u64>;

/// State and counters of the token cache.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cache {
    /// The size of the shared memory zone in bytes.
    pub zone_bytes: u64,
    /// Lookups in the cache that each worker has for itself.
    pub worker: Lookups,
    /// Lookups in the zone, after a miss in the worker's cache.
    pub zone: Lookups,
    /// The parts of the zone that entries lie in.
    pub areas: Vec<Area>,
}

/// Results of lookups in one cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lookups {
    /// The entry had expired.
    pub expired: u64,
    /// The cache had a valid entry.
    pub hit: u64,
    /// The cache had no entry.
    pub miss: u64,
}

/// A part of the zone for entries of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Area {
    /// Of which kind: `refused` or `valid`.
    pub area: &'static str,
    /// Entries that lie there, also those whose time is over.
    pub entries: u64,
    /// How many it has room for.
    pub capacity: u64,
    /// The bytes that these entries take.
    pub used_bytes: u64,
    /// The bytes that there are for entries.
    pub size_bytes: u64,
    /// Entries that had to make room for others before their time was over.
    pub evictions: u64,
}

/// Validations with the same format, path and result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Validations {
    /// A word of `$keystone_token_format`.
    pub format: &'static str,
    /// `offline`, `online` or `memcached`.
    pub path: &'static str,
    /// A word of `$keystone_auth_result`.
    pub result: &'static str,
    /// Since the zone was created.
    pub count: u64,
}

/// State and counters of an identity service.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Service {
    /// The first URI of the service, which names it.
    pub service: String,
    /// By endpoint, request and status.
    pub exchanges: Vec<Exchange>,
    /// By endpoint and request.
    pub durations: Vec<Durations>,
    /// Tries after one that failed.
    pub retries: u64,
    /// Pending validations, and requests that wait for certificates or the list.
    pub pending: u64,
    /// Requests that were answered with 503 because of a limit.
    pub limited: Limited,
    /// State of the revocation list.
    pub revocation_list: List,
    /// The certificates that signed tokens are verified with.
    pub signing_certificates: Vec<SigningCertificate>,
    /// The service token that workers share.
    pub service_token: Option<ServiceToken>,
    /// Revocation events; `None` where they are not asked for.
    pub revocation_events: Option<Events>,
    /// By server, operation and result.
    pub memcached: Vec<Memcached>,
}

/// Requests that each limit of pending validations has refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limited {
    /// Refused because of `keystone_max_pending`.
    pub max_pending: u64,
    /// Refused because of `keystone_max_pending_per_address`.
    pub max_pending_per_address: u64,
}

/// Exchanges with the same endpoint, request and result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// The URI of the endpoint.
    pub endpoint: String,
    /// The kind of request: a word of [`Kind::as_str`], such as `token`.
    pub request: &'static str,
    /// The status of the answer, or what there was instead.
    pub status: &'static str,
    /// Since the zone was created.
    pub count: u64,
}

/// How long exchanges of one kind took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Durations {
    /// The URI of the endpoint.
    pub endpoint: String,
    /// The kind of request: a word of [`Kind::as_str`], such as `token`.
    pub request: &'static str,
    /// Since the zone was created.
    pub count: u64,
    /// The sum of all durations.
    pub sum_seconds: f64,
    /// How many took no longer than each bound.
    pub buckets: Vec<Bucket>,
}

/// Exchanges that took no longer than a bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// The bound in seconds; none for all of them.
    pub le: Option<f64>,
    /// Exchanges that took no longer.
    pub count: u64,
}

/// What is known of the revocation list. It is fetched together with certificates.
#[derive(Clone, Debug, Default, Serialize)]
pub struct List {
    /// `list`, `absent` (the identity service has none), `unknown` (it was never fetched) or `off`.
    pub state: &'static str,
    /// How many entries it has.
    pub entries: Option<u64>,
    /// Counts up with every change of list or certificates.
    pub generation: u64,
    /// How long ago the identity service was asked for it.
    pub age_seconds: Option<f64>,
    /// How old it may be (`keystone_revocation_cache_time`).
    pub cache_time_seconds: f64,
    /// Whether signed tokens came recently; otherwise the list is not kept fresh.
    pub in_use: bool,
    /// Fetches of the list that succeeded.
    pub refreshes_ok: u64,
    /// Fetches of the list that failed.
    pub refreshes_failed: u64,
    /// Whether the last fetch failed.
    pub failing: bool,
    /// The error of the last fetch that failed.
    pub last_error: Option<String>,
}

/// A certificate of `signing_cert.pem`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SigningCertificate {
    /// The distinguished name of the subject.
    pub subject: String,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// Start of the validity of it or of its CA, whichever is later, in Unix seconds.
    pub not_before: i64,
    /// End of the validity of it or of its CA, whichever is earlier, in Unix seconds.
    pub not_after: i64,
    /// How long that is from now.
    pub seconds_left: i64,
}

impl SigningCertificate {
    /// The certificate, seen at `now`, in Unix seconds.
    pub fn new(certificate: &cms::Certificate<'_>, now: i64) -> Self {
        Self {
            subject: certificate.subject.to_owned(),
            serial: certificate.serial.to_owned(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            seconds_left: certificate.not_after.saturating_sub(now),
        }
    }
}

/// A service token, without the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceToken {
    /// When it ends, in unix seconds.
    pub expires_at: i64,
    /// How long that is from now.
    pub seconds_left: i64,
}

/// What is known of the revocation events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Events {
    /// How many there are; `None` where they were never had, or there is no room for them.
    pub entries: Option<u64>,
    /// Counts up with every change.
    pub generation: u64,
    /// How long ago they were fetched.
    pub age_seconds: Option<f64>,
    /// How often they are asked for (`keystone_revocation_events`).
    pub interval_seconds: f64,
}

/// Commands to a memcached server with the same result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memcached {
    /// The server as configured, such as `192.0.2.20:11211`.
    pub server: String,
    /// `get` or `set`.
    pub operation: &'static str,
    /// `hit`, `miss`, `stored` or `failed`.
    pub result: &'static str,
    /// Since the zone was created.
    pub count: u64,
}

impl Report {
    /// The report in this form; `None` where there is no memory for JSON.
    pub fn written(&self, form: Form) -> Option<String> {
        match form {
            Form::Json => serde_json::to_string(self).ok(),
            Form::Prometheus => Some(self.to_prometheus()),
        }
    }

    /// Takes over what workers count for themselves: `read` sums a cell of [`cells::WORKER`] up.
    pub fn add_worker_counts(&mut self, read: impl Fn(usize) -> u64) {
        let requests = AuthResult::ALL.into_iter();
        self.requests =
            requests.map(|result| (result.as_str(), read(cells::result(result)))).collect();
        let looks = |look| read(cells::cache_lookup(look));
        let cache = self.cache.get_or_insert_default();
        cache.zone = Lookups {
            expired: looks(CacheLookup::ZoneExpired),
            hit: looks(CacheLookup::ZoneHit),
            miss: looks(CacheLookup::ZoneMiss),
        };
        let Lookups { expired, hit, miss } = cache.zone;
        cache.worker =
            Lookups { expired: 0, hit: looks(CacheLookup::WorkerHit), miss: expired + hit + miss };
    }

    /// Takes over the cells of [`cells::VALIDATIONS`].
    pub fn add_validations(&mut self, read: impl Fn(usize) -> u64) {
        for format in TokenFormat::ALL {
            for path in Path::ALL {
                for result in AuthResult::ALL {
                    let count = read(cells::validation(format, path, result));
                    let (format, path, result) = (format.as_str(), path.as_str(), result.as_str());
                    self.validations.push(Validations { format, path, result, count });
                }
            }
        }
        self.validations.retain(|validations| validations.count > 0);
    }
}

impl Service {
    /// Takes over the cells of [`cells::EXCHANGES`].
    pub fn add_exchanges(&mut self, endpoints: &[String], read: impl Fn(usize) -> u64) {
        for (at, endpoint) in cells::named(endpoints, ENDPOINTS) {
            for kind in Kind::ALL {
                let (buckets, micros) = cells::durations(at, kind, &read);
                let count = buckets.iter().sum();
                if count == 0 {
                    continue;
                }
                let (endpoint, request) = (endpoint.to_owned(), kind.as_str());
                for status in STATUSES {
                    let count = read(cells::status(at, kind, status));
                    let endpoint = endpoint.clone();
                    self.exchanges.push(Exchange { endpoint, request, status, count });
                }
                let mut below = 0;
                let bounds = BOUNDS.iter().map(|bound| Some(seconds(*bound))).chain([None]);
                let buckets = bounds.zip(buckets).map(|(le, count)| {
                    below += count;
                    Bucket { le, count: below }
                });
                let (buckets, sum_seconds) = (buckets.collect(), seconds(micros));
                self.durations.push(Durations { endpoint, request, count, sum_seconds, buckets });
            }
        }
        self.exchanges.retain(|exchange| exchange.count > 0);
    }

    /// Takes over the cells of [`cells::MEMCACHED_CELLS`].
    pub fn add_memcached(&mut self, servers: &[String], read: impl Fn(usize) -> u64) {
        for (at, server) in cells::named(servers, SERVERS) {
            for asked in MemcachedOp::ALL {
                let (operation, result) = asked.words();
                let count = read(cells::memcached(at, asked));
                self.memcached.push(Memcached { server: server.into(), operation, result, count });
            }
        }
    }
}

/// Names that are all different, for services that have the same first URI and other settings.
pub fn distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
        distinct.extend(candidates.find(|candidate| !distinct.contains(candidate)));
    }
    distinct
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
