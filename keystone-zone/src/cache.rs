use std::sync::atomic::{AtomicU64, Ordering};

use crate::{load_bytes, read_consistent, store_bytes, write_consistent, Counters, LINE, WORD};

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
/// It is set-associative: a key belongs to one set of `WAYS` slots, and a new entry takes the
/// place of an empty or expired one of its set, else of the one least recently used. There are no
/// pointers, lists or free lists that a writer killed in the middle could leave broken. Four
/// areas of fixed-size slots share the memory: small identities, large ones (a catalog), huge ones
/// (hundreds of roles, or a catalog of many regions), and refusals, so that a flood of one kind
/// cannot push out the others.
#[derive(Clone, Copy)]
pub struct Cache<'z> {
    small: Area<'z>,
    large: Area<'z>,
    huge: Area<'z>,
    refused: Area<'z>,
}

/// How full a part of the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Entries that lie there, also those whose time is over.
    pub entries: usize,
    /// How many there is room for.
    pub capacity: usize,
    /// Bytes that one takes, whatever is in it.
    pub slot_bytes: usize,
    /// Entries that had to make room for others before their time was over.
    pub evictions: u64,
}

impl<'z> Cache<'z> {
    /// The cache in `words`; zeroed words hold an empty one.
    pub fn new(words: &'z [AtomicU64]) -> Self {
        // At lines: the tags of a set are to lie in two of them, and not in three.
        let (refused, rest) = words.split_at(words.len() / REFUSED_SHARE / LINE * LINE);
        let (not_small, small) = rest.split_at(rest.len() / NOT_SMALL_SHARE / LINE * LINE);
        let (huge, large) = not_small.split_at(huge_words(not_small.len()));
        Self {
            small: Area::new(small, SMALL_SLOT),
            large: Area::new(large, LARGE_SLOT),
            huge: Area::new(huge, HUGE_SLOT),
            refused: Area::new(refused, REFUSED_SLOT),
        }
    }

    /// Looks `key` up and appends a valid token's identity to `out`.
    pub fn lookup(&self, key: &Key, params: &CacheParams, out: &mut Vec<u8>) -> Lookup {
        let (start, mut best) = (out.len(), Lookup::Missing);
        for area in [&self.small, &self.refused, &self.large, &self.huge] {
            let end = out.len();
            match area.lookup(key, params, out) {
                Lookup::Missing => {}
                Lookup::Outdated => {
                    if best == Lookup::Missing {
                        best = Lookup::Outdated;
                    }
                }
                // What counts as it is may lie in the next area: a token that was good, and was
                // refused since.
                found => {
                    out.drain(start..end);
                    best = found;
                    if !matches!(found, Lookup::Superseded(_)) {
                        break;
                    }
                }
            }
        }
        best
    }

    /// Notes that a valid token was used, by one who did not have to look it up.
    pub fn touch(&self, key: &Key, tick: u64) {
        for area in [&self.small, &self.large, &self.huge] {
            area.touch(key, tick);
        }
    }

    /// Notes that a valid token's entry holds in this generation too. The caller holds the zone's
    /// mutex.
    pub fn renew(&self, key: &Key, generation: u64) {
        for area in [&self.small, &self.large, &self.huge] {
            area.renew(key, generation);
        }
    }

    /// How full it is, by what its parts are for. Costs a look at each tag: a word of each slot,
    /// side by side.
    pub fn occupancy(&self) -> [(&'static str, Occupancy); 4] {
        let (huge, large, small) = (self.huge, self.large, self.small);
        [("huge", huge), ("large", large), ("refused", self.refused), ("small", small)]
            .map(|(name, area)| (name, area.occupancy()))
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
        let (area, info, time, payload) = match *verdict {
            Verdict::Refused(reason) => {
                (&self.refused, u64::from(reason) << 1 | 1, params.refused_for, &[][..])
            }
            Verdict::Valid(identity) => {
                let areas = [&self.small, &self.large];
                let area = areas.into_iter().find(|area| area.holds(identity.len()));
                let area = area.unwrap_or(&self.huge);
                (area, (identity.len() as u64) << 1, params.valid_for, identity)
            }
        };
        let expires = expires.min(params.now.saturating_add(time));
        expires > params.now && area.insert(&Header { key, info, expires }, payload, params)
    }
}

/// Slots of one size. First comes a line with the number of evictions, then the tags, a word a
/// slot, those of a set side by side (two cache lines), then the slots.
#[derive(Clone, Copy)]
struct Area<'z> {
    evictions: &'z [AtomicU64],
    tags: &'z [AtomicU64],
    slots: &'z [AtomicU64],
    sets: usize,
    /// Slots in a set: [`WAYS`], or fewer where there are no more.
    ways: usize,
    /// Words in a slot, its header included.
    slot: usize,
}

struct Header<'a> {
    key: &'a Key,
    /// A valid token's identity's length, or a refusal's reason, shifted left by one; the lowest
    /// bit is set for a refusal.
    info: u64,
    expires: u64,
}

impl<'z> Area<'z> {
    fn new(words: &'z [AtomicU64], slot: usize) -> Self {
        let (evictions, words) = words.split_at(words.len().min(LINE));
        let slots = words.len() / (1 + slot);
        let ways = slots.min(WAYS);
        let sets = slots.checked_div(ways).unwrap_or(0);
        let (tags, slots) = words.split_at(sets * ways);
        Self { evictions, tags, slots, sets, ways, slot }
    }

    fn holds(&self, len: usize) -> bool {
        self.sets > 0 && len <= (self.slot - HEADER) * WORD
    }

    fn occupancy(&self) -> Occupancy {
        let is_taken = |tag: &&AtomicU64| tag.load(Ordering::Relaxed) != 0;
        Occupancy {
            entries: self.tags.iter().filter(is_taken).count(),
            capacity: self.tags.len(),
            slot_bytes: (1 + self.slot) * WORD,
            evictions: Counters::new(self.evictions).read(0),
        }
    }

    /// The indices of the slots of the key's set.
    fn ways(&self, key: &Key) -> std::ops::Range<usize> {
        match self.sets {
            0 => 0..0,
            sets => {
                let set = (key[0] % sets as u64) as usize;
                set * self.ways..(set + 1) * self.ways
            }
        }
    }

    fn slot(&self, index: usize) -> &'z [AtomicU64] {
        &self.slots[index * self.slot..(index + 1) * self.slot]
    }

    fn lookup(&self, key: &Key, params: &CacheParams, out: &mut Vec<u8>) -> Lookup {
        for slot in self.candidates(key) {
            let start = out.len();
            let found = read_consistent(&slot[SEQ], || read(slot, key, params, out));
            match found {
                None | Some(Lookup::Missing) => out.truncate(start),
                Some(Lookup::Outdated) => return Lookup::Outdated,
                Some(found) => {
                    use_slot(slot, params.tick);
                    return found;
                }
            }
        }
        Lookup::Missing
    }

    fn touch(&self, key: &Key, tick: u64) {
        for slot in self.candidates(key).filter(|slot| has_key(slot, key)) {
            use_slot(slot, tick);
        }
    }

    fn renew(&self, key: &Key, generation: u64) {
        for slot in self.candidates(key).filter(|slot| has_key(slot, key)) {
            // A slot whose writer died holds nothing, and has to go on doing so.
            if slot[SEQ].load(Ordering::Relaxed).is_multiple_of(2) {
                let renewed = || slot[GENERATION].store(generation, Ordering::Relaxed);
                write_consistent(&slot[SEQ], renewed);
            }
        }
    }

    /// The slots of the key's set that may be the key's.
    fn candidates(&self, key: &Key) -> impl Iterator<Item = &'z [AtomicU64]> {
        let (this, tag) = (*self, tag(key));
        self.ways(key)
            .filter(move |&index| this.tags[index].load(Ordering::Relaxed) == tag)
            .map(move |index| this.slot(index))
    }

    fn insert(&self, header: &Header<'_>, payload: &[u8], params: &CacheParams) -> bool {
        if !self.holds(payload.len()) {
            return false;
        }
        // The key's own slot, else an empty or expired one, else the least recently used.
        let rank = |index: usize| {
            let slot = self.slot(index);
            let word = |at: usize| slot[at].load(Ordering::Relaxed);
            let tag_here = self.tags[index].load(Ordering::Relaxed);
            match () {
                () if tag_here == tag(header.key) && has_key(slot, header.key) => (0, 0),
                () if tag_here == 0 || word(SEQ) % 2 == 1 || word(EXPIRES) <= params.now => (1, 0),
                () => (LIVE, word(USED)),
            }
        };
        let ranked = self.ways(header.key).map(|index| (rank(index), index));
        let Some(((rank, _), index)) = ranked.min() else { return false };
        if rank == LIVE {
            Counters::new(self.evictions).add(0, 1);
        }

        let slot = self.slot(index);
        write_consistent(&slot[SEQ], || {
            for (word, part) in slot[KEY..].iter().zip(header.key) {
                word.store(*part, Ordering::Relaxed);
            }
            slot[EXPIRES].store(header.expires, Ordering::Relaxed);
            slot[CREATED].store(params.now, Ordering::Relaxed);
            slot[CREATED_TICK].store(params.tick, Ordering::Relaxed);
            slot[GENERATION].store(params.generation, Ordering::Relaxed);
            slot[INFO].store(header.info, Ordering::Relaxed);
            store_bytes(&slot[HEADER..], payload);
        });
        slot[USED].store(params.tick, Ordering::Relaxed);
        self.tags[index].store(tag(header.key), Ordering::Relaxed);
        true
    }
}

/// Reads a slot under its sequence number.
fn read(slot: &[AtomicU64], key: &Key, params: &CacheParams, out: &mut Vec<u8>) -> Option<Lookup> {
    let word = |at: usize| slot[at].load(Ordering::Relaxed);
    if !has_key(slot, key) {
        return Some(Lookup::Missing);
    }
    let (info, age) = (word(INFO), age(slot));
    let is_refusal = info & 1 == 1;
    let time = if is_refusal { params.refused_for } else { params.valid_for };
    let is_current = word(GENERATION) == params.generation;
    if !age.is_good(time, params) || is_refusal && !is_current {
        return Some(Lookup::Outdated);
    }
    if is_refusal {
        return Some(Lookup::Refused((info >> 1) as u8));
    }
    let len = usize::try_from(info >> 1).ok()?;
    let found = if is_current { Lookup::Valid(age) } else { Lookup::Superseded(age) };
    load_bytes(&slot[HEADER..], len, out).then_some(found)
}

fn age(slot: &[AtomicU64]) -> Age {
    let word = |at: usize| slot[at].load(Ordering::Relaxed);
    Age { created: word(CREATED), created_tick: word(CREATED_TICK), expires: word(EXPIRES) }
}

/// Most uses follow another one at once: a store would take the line from the other processes.
fn use_slot(slot: &[AtomicU64], tick: u64) {
    if slot[USED].load(Ordering::Relaxed) != tick {
        slot[USED].store(tick, Ordering::Relaxed);
    }
}

fn has_key(slot: &[AtomicU64], key: &Key) -> bool {
    slot[KEY..KEY + 4].iter().zip(key).all(|(word, part)| word.load(Ordering::Relaxed) == *part)
}

/// Another part of the key than the one that chooses the set; never zero, which means empty.
fn tag(key: &Key) -> u64 {
    key[1] | 1
}

/// The rank of a slot whose entry counts, and is another key's.
const LIVE: u8 = 2;

/// Number of slots in a set.
const WAYS: usize = 16;

/// How many of the words for identities that are not small are for huge ones: a third, or what one
/// of them takes, if that leaves a third for large ones.
fn huge_words(words: usize) -> usize {
    let of = |slots: usize| (LINE + slots * (1 + HUGE_SLOT)).next_multiple_of(LINE);
    match (words / 3).saturating_sub(LINE) / (1 + HUGE_SLOT) {
        0 if words < of(1) / 2 * 3 => 0,
        slots => of(slots.max(1)),
    }
}

/// One word in so many is for refusals, and of the rest one in so many for identities that are not
/// small.
const REFUSED_SHARE: usize = 8;
const NOT_SMALL_SHARE: usize = 4;

/// Words in a slot. An identity without a catalog takes some hundred bytes; one with a catalog,
/// a few thousand.
const SMALL_SLOT: usize = 1024 / WORD;
const LARGE_SLOT: usize = 16 * 1024 / WORD;
/// For an identity of 64 KB.
const HUGE_SLOT: usize = HEADER + 64 * 1024 / WORD;
const REFUSED_SLOT: usize = HEADER;

/// Where the words of a slot's header are.
const SEQ: usize = 0;
const KEY: usize = 1;
const EXPIRES: usize = 5;
const GENERATION: usize = 6;
const INFO: usize = 7;
const USED: usize = 8;
const CREATED: usize = 9;
const CREATED_TICK: usize = 10;
const HEADER: usize = 11;

#[cfg(test)]
mod tests;
