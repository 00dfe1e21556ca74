//! The counters of the zone.
//!
//! Each worker has a row of its own for the counters that change with every request, also with one
//! that the cache answers: counting there takes no cache line from another worker. All workers share
//! the counters of validations and of exchanges with other servers, which change rarely compared
//! with the work that they count. The number of rows depends on the size of the zone: a gateway with
//! many workers has a large one.

use std::sync::atomic::{AtomicU64, Ordering};

use keystone_gateway::status::cells::{self, MemcachedOp, Path};
use keystone_token::api::Kind;
use keystone_token::format::TokenFormat;
use keystone_token::result::AuthResult;
use keystone_zone::{Counters, Row, Rows};

use super::{is_alive, own_process, ServiceState, Zone};

/// How many words the counters take in a zone of `zone_size` bytes: rows first, for they begin
/// where the memory does, at a cache line, and then what workers share.
pub(super) fn words(zone_size: usize) -> usize {
    Rows::words(rows(zone_size), cells::WORKER) + cells::VALIDATIONS
}

/// How many rows there are, and so processes that each have one.
pub(super) fn rows(zone_size: usize) -> usize {
    (zone_size / ROW_SHARE).clamp(LEAST_ROWS, MOST_ROWS)
}

impl Zone {
    /// What workers count for themselves.
    pub fn rows(&self) -> Rows<'static> {
        Rows::new(self.counter_words().0, cells::WORKER)
    }

    /// The cells of validations.
    pub fn validations(&self) -> Counters<'static> {
        Counters::new(self.counter_words().1)
    }

    /// Counts a token that was validated, not found in the cache.
    pub fn count_validation(&self, format: TokenFormat, path: Path, result: AuthResult) {
        self.validations().add(cells::validation(format, path, result), 1);
    }

    /// A row for this process. What a dead process had pending is reset.
    pub fn take_row(&self) -> Row<'static> {
        let freed = |index| self.services().for_each(|state| state.set_pending(index, 0));
        self.locked(|| self.rows().take(own_process(), is_alive, freed))
    }

    /// The requests to a service that are pending in live processes.
    pub fn pending(&self, state: &ServiceState) -> u64 {
        let rows = self.rows();
        let of_row = |index| match state.pending(index) {
            0 => 0,
            pending => rows.owner(index).filter(|owner| is_alive(*owner)).map_or(0, |_| pending),
        };
        (0..rows.len()).map(of_row).sum()
    }

    fn counter_words(&self) -> (&'static [AtomicU64], &'static [AtomicU64]) {
        let at = self.root.counters.load(Ordering::Relaxed);
        let words = self.root.counters_words.load(Ordering::Relaxed);
        // SAFETY: `open` has stored the address and length of zeroed memory that is never freed,
        // and all access to it is through atomics.
        let words = unsafe { std::slice::from_raw_parts(at, words) };
        words.split_at(words.len() - cells::VALIDATIONS)
    }
}

/// Counts the requests to an identity service, and to memcached for it.
///
/// A worker that has outlived two configurations may find the state of another service, whose
/// counters are none of its business.
#[derive(Clone, Copy)]
pub struct ServiceCounters {
    state: ServiceState,
    service: u64,
}

impl ServiceCounters {
    /// Counts for the service `service`.
    pub fn new(state: ServiceState, service: u64) -> Self {
        Self { state, service }
    }

    /// An exchange with an endpoint has ended with a status, or a word instead of one.
    pub fn exchange(&self, endpoint: usize, kind: Kind, status: &str, micros: u64) {
        self.count(|state| {
            let exchanges = state.exchanges();
            let [bucket, sum] = cells::duration(endpoint, kind, micros);
            exchanges.add(cells::status(endpoint, kind, status), 1);
            exchanges.add(bucket, 1);
            exchanges.add(sum, micros);
        });
    }

    /// Counts a request that is tried again.
    pub fn retry(&self) {
        self.count(ServiceState::count_retry);
    }

    /// Counts a command to a memcached server.
    pub fn memcached(&self, server: usize, asked: MemcachedOp) {
        self.count(|state| state.memcached().add(cells::memcached(server, asked), 1));
    }

    fn count(&self, count: impl FnOnce(&ServiceState)) {
        if self.state.id() == self.service {
            count(&self.state);
        }
    }
}

/// One row for so many bytes of the zone, within these bounds.
const ROW_SHARE: usize = 16 << 10;
const LEAST_ROWS: usize = 16;
const MOST_ROWS: usize = 256;
