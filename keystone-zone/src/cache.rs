//! The cache of tokens: identities, and refusals in a share of their own.

mod identities;
mod refusals;

use self::identities::Identities;
use self::refusals::Refusals;
use crate::atomic::{AtomicU64, Ordering};
use crate::LINE;

/// The key of an entry: a keyed 256-bit digest of the token and of the service that validates it.
/// Two tokens with one key would be a collision of the digest under a key that no client knows.
pub type Key = [u64; 4];

/// What the cache remembers of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is valid, and this is its identity.
    Valid(&'a [u8]),
    /// It was refused, for the reason of this number.
    Refused(u8),
}

/// The result of [`Cache::lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The token is valid; its identity was appended to the buffer.
    Valid(Age),
    /// The token was refused, for the reason of this number.
    Refused(u8),
    /// There was an entry, but its time is over, or it is a refusal of another generation.
    Outdated,
    /// The token is valid as far as another generation tells; its identity was appended to the
    /// buffer. See [`Cache::renew`].
    Superseded(Age),
    /// The cache has no entry.
    Missing,
}

/// Since when an answer about a token is known, and until when it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// When it was made, in unix seconds.
    pub created: u64,
    /// When it was made, as [`CacheParams::tick`].
    pub created_tick: u64,
    /// When it ends at the latest, in unix seconds.
    pub expires: u64,
}

impl Age {
    /// Whether the answer still counts where it may be `seconds` old.
    ///
    /// The time of day may be set: an answer made in the future is one of before that, and old. It
    /// would count again when its time has come, so both clocks have to agree.
    pub fn is_good(&self, seconds: u64, params: &CacheParams) -> bool {
        let good_from = |created: u64, lag: u64, now: u64| created <= now.saturating_add(lag);
        let by_day = good_from(self.created, 1, params.now)
            && self.created.saturating_add(seconds) > params.now;
        let by_tick = good_from(self.created_tick, 1_000, params.tick)
            && self.created_tick.saturating_add(seconds.saturating_mul(1_000)) > params.tick;
        self.expires > params.now && by_day && by_tick
    }
}

/// When, and by whose rules, an entry is looked up.
#[derive(Clone, Copy, Debug)]
pub struct CacheParams {
    /// Entries of another generation count no more as they are.
    pub generation: u64,
    /// The time of the request, in Unix seconds.
    pub now: u64,
    /// Milliseconds of a clock that all processes share and nobody sets: it tells what was used
    /// last, and how old an entry is whatever happens to the time of day.
    pub tick: u64,
    /// For how many seconds a valid token's entry is good; 0 for not at all.
    pub valid_for: u64,
    /// For how many seconds a refusal is good; 0 for not at all.
    pub refused_for: u64,
}

/// A bounded cache in shared memory.
///
/// Valid tokens and refusals have a part each, so that a flood of garbage cannot push out valid
/// tokens. There are no pointers and no free lists that a writer killed in the middle could leave
/// broken: see the modules of the two parts.
#[derive(Clone, Copy)]
pub struct Cache<'z> {
    valid: Identities<'z>,
    refused: Refusals<'z>,
}

/// How full a part of the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Entries that lie there, also those whose time is over.
    pub entries: usize,
    /// How many there is room for: where their sizes vary, if those to come are of the mean size.
    pub capacity: usize,
    /// Bytes that the entries take.
    pub used_bytes: usize,
    /// Bytes that there are for entries.
    pub size_bytes: usize,
    /// Entries that had to make room for others before their time was over.
    pub evictions: u64,
}

impl<'z> Cache<'z> {
    /// The cache in `words`; zeroed words hold an empty one.
    pub fn new(words: &'z [AtomicU64]) -> Self {
        // At lines: what is read together is to lie in as few of them as possible.
        let (refused, valid) = words.split_at(words.len() / REFUSED_SHARE / LINE * LINE);
        Self { valid: Identities::new(valid), refused: Refusals::new(refused) }
    }

    /// Looks `key` up and appends a valid token's identity to `out`.
    pub fn lookup(&self, key: &Key, params: &CacheParams, out: &mut Vec<u8>) -> Lookup {
        let start = out.len();
        let valid = self.valid.lookup(key, params, out);
        if matches!(valid, Lookup::Valid(_)) {
            return valid;
        }
        // A token that was good in another generation may have been refused since.
        match (self.refused.lookup(key, params), valid) {
            (refused @ Lookup::Refused(_), _) => {
                out.truncate(start);
                refused
            }
            (refused, Lookup::Missing) => refused,
            (_, valid) => valid,
        }
    }

    /// Notes that a valid token was used, by one who did not have to look it up.
    pub fn touch(&self, key: &Key, tick: u64) {
        self.valid.touch(key, tick);
    }

    /// Notes that a valid token's entry holds in this generation too. The caller holds the zone's
    /// mutex.
    pub fn renew(&self, key: &Key, generation: u64) {
        self.valid.renew(key, generation);
    }

    /// How full it is, by what its parts are for. Costs a look at a word of each refusal, and at a
    /// line for each 256 KiB of identities.
    pub fn occupancy(&self) -> [(&'static str, Occupancy); 2] {
        [("refused", self.refused.occupancy()), ("valid", self.valid.occupancy())]
    }

    /// Remembers `verdict`, at most until `expires` (unix seconds); `false` where it is too large
    /// to be kept, or the parameters are not to keep it. The caller holds the zone's mutex.
    pub fn insert(
        &self,
        key: &Key,
        verdict: &Verdict<'_>,
        expires: u64,
        params: &CacheParams,
    ) -> bool {
        let time = match verdict {
            Verdict::Refused(_) => params.refused_for,
            Verdict::Valid(_) => params.valid_for,
        };
        let expires = expires.min(params.now.saturating_add(time));
        expires > params.now
            && match *verdict {
                Verdict::Refused(reason) => self.refused.insert(key, reason, expires, params),
                Verdict::Valid(identity) => self.valid.insert(key, identity, expires, params),
            }
    }
}

/// Another part of the key than those that choose the place; never zero, which means empty.
fn tag(key: &Key) -> u64 {
    key[1] | 1
}

/// Reads an age from its three words.
fn read_age(words: &[AtomicU64]) -> Age {
    let word = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
    Age { expires: word(0), created: word(1), created_tick: word(2) }
}

fn write_age(words: &[AtomicU64], age: &Age) {
    for (word, value) in words.iter().zip([age.expires, age.created, age.created_tick]) {
        word.store(value, Ordering::Relaxed);
    }
}

/// One word in so many is for refusals.
const REFUSED_SHARE: usize = 16;

#[cfg(all(test, not(loom)))]
mod tests;
