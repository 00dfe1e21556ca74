//! What workers tell each other about one identity service.

use std::sync::atomic::{AtomicU64, Ordering};

use keystone_gateway::status::cells;
use keystone_zone::shares::{certificates_words, snapshot_words};
use keystone_zone::{Blob, Counters, Lease, NameTable, WORD};

use super::counters;

/// The words of one identity service in the zone.
#[derive(Clone, Copy)]
pub struct ServiceState {
    words: &'static [AtomicU64],
}

impl ServiceState {
    /// The words to allocate for a state in a zone of `zone_size` bytes.
    pub(super) fn words(zone_size: usize) -> usize {
        let events = Blob::words(zone_size / EVENTS_SHARE);
        SNAPSHOT + snapshot_words(zone_size) + events + counters::rows(zone_size)
    }

    /// # Safety
    /// `memory` is zeroed, `words` words long, aligned, and is never freed.
    pub(super) unsafe fn create(
        memory: *mut AtomicU64,
        words: usize,
        zone_size: usize,
        id: u64,
        next: *mut AtomicU64,
    ) -> Option<Self> {
        if memory.is_null() || words < SNAPSHOT {
            return None;
        }
        let (events, pending) = (Blob::words(zone_size / EVENTS_SHARE), counters::rows(zone_size));
        // SAFETY: by this function's contract.
        let words = unsafe { std::slice::from_raw_parts(memory, words) };
        words[WORDS].store(words.len() as u64, Ordering::Relaxed);
        words[ID].store(id, Ordering::Relaxed);
        words[NEXT].store(next as u64, Ordering::Relaxed);
        words[GENERATION].store(1, Ordering::Relaxed);
        let pending_at = words.len() - pending;
        words[EVENTS_AT].store((pending_at - events) as u64, Ordering::Relaxed);
        let names_at = SNAPSHOT + certificates_words(zone_size);
        words[NAMES_AT].store(names_at as u64, Ordering::Relaxed);
        words[PENDING_AT].store(pending_at as u64, Ordering::Relaxed);
        Some(Self { words })
    }

    /// # Safety
    /// `memory` is null or what [`ServiceState::create`] has made a state of.
    pub(super) unsafe fn from_words(memory: *mut AtomicU64) -> Option<Self> {
        if memory.is_null() {
            return None;
        }
        // SAFETY: a state starts with its length.
        let words = unsafe { (*memory.add(WORDS)).load(Ordering::Relaxed) } as usize;
        // SAFETY: as above; it is never freed.
        Some(Self { words: unsafe { std::slice::from_raw_parts(memory, words) } })
    }

    /// Gives the state to another service. The caller holds the zone's mutex.
    ///
    /// A worker that still serves the service before tells it by the number.
    pub(super) fn reassign(&self, id: u64) {
        self.words[ID].store(id, Ordering::Release);
        self.token().store(&[]);
        self.snapshot().store(&[]);
        self.events().store(&[]);
        self.last_error().store(&[]);
        let pending = &self.words[self.pending_at()..];
        for word in self.words[COUNTERS..LAST_ERROR].iter().chain(pending) {
            word.store(0, Ordering::Relaxed);
        }
        for (at, word) in self.words[..HEADER].iter().enumerate() {
            if !KEPT.contains(&at) {
                word.store(0, Ordering::Relaxed);
            }
        }
        self.set_generation(self.generation() + 1);
        self.set_events_generation(self.events_generation() + 1);
    }

    pub(super) fn next(&self) -> *mut AtomicU64 {
        self.words[NEXT].load(Ordering::Relaxed) as *mut AtomicU64
    }

    /// Identifies the settings of the service.
    pub fn id(&self) -> u64 {
        self.words[ID].load(Ordering::Relaxed)
    }

    /// Counts up with every change of the certificates or the revocation list.
    pub fn generation(&self) -> u64 {
        self.words[GENERATION].load(Ordering::Acquire)
    }

    /// Publishes that the snapshot has become another one. The caller holds the zone's mutex.
    pub fn set_generation(&self, generation: u64) {
        self.words[GENERATION].store(generation, Ordering::Release);
    }

    /// When the identity service last gave the revocation list (or said that there is none), on
    /// nginx's millisecond clock; `None` before the first time.
    ///
    /// It may lie before the clock's zero: a list that was found on disk can be older than the
    /// machine is up.
    pub fn list_checked_at(&self) -> Option<i64> {
        self.time(LIST_CHECKED_AT).map(|tick| tick.cast_signed() - BIAS)
    }

    /// See [`ServiceState::list_checked_at`].
    pub fn set_list_checked_at(&self, tick: i64) {
        let biased = tick.saturating_add(BIAS).max(1);
        self.words[LIST_CHECKED_AT].store(biased.cast_unsigned(), Ordering::Release);
    }

    /// When the question was sent that the published list answers, in microseconds of the monotonic
    /// clock; `None` before the first one, and for a list that was found on disk.
    pub fn list_asked_at(&self) -> Option<u64> {
        self.time(LIST_ASKED_AT)
    }

    /// See [`ServiceState::list_asked_at`].
    pub fn set_list_asked_at(&self, micros: u64) {
        self.words[LIST_ASKED_AT].store(micros, Ordering::Release);
    }

    /// When certificates were last asked for because a signature did not fit, on the same clock.
    pub fn rotation_tried_at(&self) -> Option<u64> {
        self.time(ROTATION_TRIED_AT)
    }

    /// See [`ServiceState::rotation_tried_at`].
    pub fn set_rotation_tried_at(&self, tick: u64) {
        self.words[ROTATION_TRIED_AT].store(tick.max(1), Ordering::Release);
    }

    /// When a PKI token was last seen, on the same clock: an unused list is not refreshed.
    pub fn used_at(&self) -> Option<u64> {
        self.time(USED_AT)
    }

    /// See [`ServiceState::used_at`].
    pub fn set_used_at(&self, tick: u64) {
        self.note_use(USED_AT, tick);
    }

    /// When the last refresh failed, on the same clock; `None` where it went well.
    pub fn failed_at(&self) -> Option<u64> {
        self.time(FAILED_AT)
    }

    /// How many refreshes have failed in a row.
    pub fn failures(&self) -> u64 {
        self.words[FAILURES].load(Ordering::Relaxed)
    }

    /// See [`ServiceState::failed_at`] and [`ServiceState::failures`].
    pub fn set_failed_at(&self, tick: Option<u64>) {
        match tick {
            None => self.words[FAILURES].store(0, Ordering::Relaxed),
            Some(_) => drop(self.words[FAILURES].fetch_add(1, Ordering::Relaxed)),
        }
        self.words[FAILED_AT].store(tick.map_or(0, |tick| tick.max(1)), Ordering::Release);
    }

    /// How many refreshes have ended, well or not.
    pub fn refreshes(&self) -> u64 {
        self.words[REFRESHES].load(Ordering::Acquire)
    }

    /// Counts a refresh that has ended, well or not.
    pub fn count_refresh(&self, went_well: bool) {
        let which = if went_well { REFRESHES_OK } else { REFRESHES_FAILED };
        self.words[which].fetch_add(1, Ordering::Relaxed);
        self.words[REFRESHES].fetch_add(1, Ordering::AcqRel);
    }

    /// How many refreshes of this service went well, and how many did not.
    pub fn refresh_counts(&self) -> [u64; 2] {
        [REFRESHES_OK, REFRESHES_FAILED].map(|at| self.words[at].load(Ordering::Relaxed))
    }

    /// Before when (on nginx's millisecond clock) the service's credentials are not to be tried,
    /// and how many times in a row they were refused.
    pub fn refused(&self) -> (u64, u32) {
        let not_before = self.words[REFUSED_UNTIL].load(Ordering::Relaxed);
        let times = self.words[REFUSED_TIMES].load(Ordering::Relaxed);
        (not_before, times as u32)
    }

    /// See [`ServiceState::refused`].
    pub fn set_refused(&self, not_before: u64, times: u32) {
        self.words[REFUSED_UNTIL].store(not_before, Ordering::Relaxed);
        self.words[REFUSED_TIMES].store(times.into(), Ordering::Relaxed);
    }

    /// How many times a worker has tried to log in and got no token.
    pub fn failed_logins(&self) -> u64 {
        self.words[FAILED_LOGINS].load(Ordering::Acquire)
    }

    /// Notes that a worker has got no token.
    pub fn note_failed_login(&self) {
        self.words[FAILED_LOGINS].fetch_add(1, Ordering::AcqRel);
    }

    /// Before when (on the same clock) an endpoint is not to be asked; 0 where it may be, and for
    /// endpoints beyond those that the zone has room for.
    pub fn held_until(&self, endpoint: usize) -> u64 {
        self.held_word(endpoint).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// See [`ServiceState::held_until`].
    pub fn set_held_until(&self, endpoint: usize, until: u64) {
        if let Some(word) = self.held_word(endpoint) {
            word.store(until, Ordering::Relaxed);
        }
    }

    fn held_word(&self, endpoint: usize) -> Option<&'static AtomicU64> {
        self.words[HELD_UNTIL..HELD_UNTIL + cells::ENDPOINTS].get(endpoint)
    }

    /// Who may ask the identity service on behalf of all workers.
    pub fn lease(&self) -> Lease<'static> {
        Lease::new(&self.words[LEASE])
    }

    /// Who may look for other certificates on behalf of all workers.
    pub fn rotation_lease(&self) -> Lease<'static> {
        Lease::new(&self.words[ROTATION_LEASE])
    }

    /// Who may obtain a service token for all workers.
    pub fn login_lease(&self) -> Lease<'static> {
        Lease::new(&self.words[LOGIN_LEASE])
    }

    /// The service token that workers share.
    pub fn token(&self) -> Blob<'static> {
        Blob::new(&self.words[HEADER..HEADER + Blob::words(TOKEN_CAPACITY)])
    }

    /// Certificates, and what is known of the revocation list, as `identity::snapshot` writes them.
    pub fn snapshot(&self) -> Blob<'static> {
        Blob::new(&self.words[SNAPSHOT..self.names_at()])
    }

    /// One of the two tables of the names in a revocation list, with so many slots of those that
    /// there are.
    pub fn names(&self, half: usize, slots: usize) -> NameTable<'static> {
        let words = &self.words[self.names_at()..self.events_at()];
        let (first, second) = words.split_at(words.len() / 2);
        let words = if half == 0 { first } else { second };
        NameTable::new(&words[..NameTable::words(slots).min(words.len())])
    }

    /// How many slots a table can have.
    pub fn name_slots(&self) -> usize {
        (self.events_at() - self.names_at()) / 2 / NameTable::words(1)
    }

    /// Begins to fill the table that is not published, and ends what another worker has begun. The
    /// caller holds the zone's mutex.
    pub fn begin_names(&self) -> u64 {
        self.words[NAMES_NUMBER].fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether no other worker has begun to fill the table since. The caller holds the zone's mutex.
    pub fn is_building_names(&self, number: u64) -> bool {
        self.words[NAMES_NUMBER].load(Ordering::Acquire) == number
    }

    /// Revocation events, as `identity::events` writes them.
    pub fn events(&self) -> Blob<'static> {
        Blob::new(&self.words[self.events_at()..self.pending_at()])
    }

    fn names_at(&self) -> usize {
        self.place(NAMES_AT).min(self.events_at())
    }

    fn events_at(&self) -> usize {
        self.place(EVENTS_AT)
    }

    fn pending_at(&self) -> usize {
        self.place(PENDING_AT)
    }

    fn place(&self, at: usize) -> usize {
        let place = self.words[at].load(Ordering::Relaxed);
        usize::try_from(place).unwrap_or(usize::MAX).clamp(SNAPSHOT, self.words.len())
    }

    /// The cells of exchanges with the service.
    pub fn exchanges(&self) -> Counters<'static> {
        Counters::new(&self.words[COUNTERS..MEMCACHED])
    }

    /// The cells of commands to memcached.
    pub fn memcached(&self) -> Counters<'static> {
        Counters::new(&self.words[MEMCACHED..LAST_ERROR])
    }

    /// How many requests were tried again.
    pub fn retries(&self) -> u64 {
        self.words[RETRIES].load(Ordering::Relaxed)
    }

    /// See [`ServiceState::retries`].
    pub fn count_retry(&self) {
        self.words[RETRIES].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests `keystone_max_pending` has refused, and how many
    /// `keystone_max_pending_per_address`.
    pub fn limited(&self) -> [u64; 2] {
        [LIMITED, LIMITED_BY_ADDRESS].map(|at| self.words[at].load(Ordering::Relaxed))
    }

    /// See [`ServiceState::limited`].
    pub fn count_limited(&self, by_address: bool) {
        let which = if by_address { LIMITED_BY_ADDRESS } else { LIMITED };
        self.words[which].fetch_add(1, Ordering::Relaxed);
    }

    /// Why the last refresh that failed did.
    pub fn last_error(&self) -> Blob<'static> {
        Blob::new(&self.words[LAST_ERROR..SNAPSHOT])
    }

    /// How many requests are pending in the process of this row.
    pub fn pending(&self, row: usize) -> u64 {
        self.pending_word(row).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// See [`ServiceState::pending`].
    pub fn set_pending(&self, row: usize, number: u64) {
        if let Some(word) = self.pending_word(row) {
            word.store(number, Ordering::Relaxed);
        }
    }

    fn pending_word(&self, row: usize) -> Option<&'static AtomicU64> {
        self.words[self.pending_at()..].get(row)
    }

    /// Counts up with every change of the revocation events.
    pub fn events_generation(&self) -> u64 {
        self.words[EVENTS_GENERATION].load(Ordering::Acquire)
    }

    /// Publishes that the events have become others. The caller holds the zone's mutex.
    pub fn set_events_generation(&self, generation: u64) {
        self.words[EVENTS_GENERATION].store(generation, Ordering::Release);
    }

    /// When the revocation events were last asked for, on nginx's millisecond clock.
    pub fn events_asked_at(&self) -> Option<u64> {
        self.time(EVENTS_ASKED_AT)
    }

    /// See [`ServiceState::events_asked_at`].
    pub fn set_events_asked_at(&self, tick: u64) {
        self.words[EVENTS_ASKED_AT].store(tick.max(1), Ordering::Release);
    }

    /// When they were last had, on the same clock.
    pub fn events_had_at(&self) -> Option<u64> {
        self.time(EVENTS_HAD_AT)
    }

    /// See [`ServiceState::events_had_at`].
    pub fn set_events_had_at(&self, tick: u64) {
        self.words[EVENTS_HAD_AT].store(tick.max(1), Ordering::Relaxed);
    }

    /// Who may ask for the revocation events.
    pub fn events_lease(&self) -> Lease<'static> {
        Lease::new(&self.words[EVENTS_LEASE])
    }

    /// When a token last came that only the identity service can judge, on nginx's millisecond
    /// clock; `None` where none ever did, and the events are of no use.
    pub fn used_online_at(&self) -> Option<u64> {
        self.time(USED_ONLINE_AT)
    }

    /// See [`ServiceState::used_online_at`].
    pub fn set_used_online_at(&self, tick: u64) {
        self.note_use(USED_ONLINE_AT, tick);
    }

    fn note_use(&self, at: usize, tick: u64) {
        // Most calls change nothing; a store would take the cache line from the other workers.
        if self.words[at].load(Ordering::Relaxed) / USED_GRANULE != tick / USED_GRANULE {
            self.words[at].store(tick.max(1), Ordering::Relaxed);
        }
    }

    fn time(&self, at: usize) -> Option<u64> {
        match self.words[at].load(Ordering::Acquire) {
            0 => None,
            tick => Some(tick),
        }
    }
}

const WORDS: usize = 0;
const ID: usize = 1;
const NEXT: usize = 2;
const GENERATION: usize = 3;
const LIST_CHECKED_AT: usize = 4;
const ROTATION_TRIED_AT: usize = 5;
const USED_AT: usize = 6;
const REFRESHES: usize = 7;
const LEASE: usize = 8;
const FAILED_AT: usize = 9;
const REFUSED_UNTIL: usize = 10;
const REFUSED_TIMES: usize = 11;
const LOGIN_LEASE: usize = 12;
const EVENTS_AT: usize = 13;
const EVENTS_GENERATION: usize = 14;
const EVENTS_ASKED_AT: usize = 15;
const EVENTS_LEASE: usize = 16;
const USED_ONLINE_AT: usize = 17;
const EVENTS_HAD_AT: usize = 18;
const PENDING_AT: usize = 19;
const REFRESHES_OK: usize = 20;
const REFRESHES_FAILED: usize = 21;
const RETRIES: usize = 22;
const ROTATION_LEASE: usize = 23;
const LIST_ASKED_AT: usize = 24;
const FAILURES: usize = 25;
const NAMES_AT: usize = 26;
const NAMES_NUMBER: usize = 27;
const FAILED_LOGINS: usize = 28;
const HELD_UNTIL: usize = 29;
const LIMITED: usize = HELD_UNTIL + cells::ENDPOINTS;
const LIMITED_BY_ADDRESS: usize = LIMITED + 1;
const HEADER: usize = LIMITED_BY_ADDRESS + 1;

/// What a state keeps when another service gets it.
const KEPT: [usize; 14] = [
    WORDS,
    ID,
    NEXT,
    GENERATION,
    LEASE,
    REFRESHES,
    LOGIN_LEASE,
    ROTATION_LEASE,
    EVENTS_AT,
    EVENTS_GENERATION,
    EVENTS_LEASE,
    PENDING_AT,
    NAMES_AT,
    NAMES_NUMBER,
];

/// Milliseconds, more than a file can be old.
const BIAS: i64 = 1 << 50;

/// In milliseconds.
const USED_GRANULE: u64 = 1_000;

/// A service token may be a PKI token itself.
const TOKEN_CAPACITY: usize = 2_048 * WORD;

/// Where the counters begin, behind the service token, the last error behind them, and the snapshot
/// behind that.
const COUNTERS: usize = HEADER + Blob::words(TOKEN_CAPACITY);
const MEMCACHED: usize = COUNTERS + cells::EXCHANGES;
const LAST_ERROR: usize = MEMCACHED + cells::MEMCACHED_CELLS;
const SNAPSHOT: usize = LAST_ERROR + Blob::words(ERROR_CAPACITY);

/// An error names an address and a reason.
const ERROR_CAPACITY: usize = 512;

/// The share of the revocation events.
const EVENTS_SHARE: usize = 32;
