//! The valid tokens: identities of any size, side by side.
//!
//! # Layout
//! A key belongs to one set. Each set has an index and an arena:
//!
//! ```text
//! header   one line: DIRTY, HAND, ENTRIES, USED_UNITS, EVICTIONS
//! stripes  a sequence number for each STRIPE units of the arena
//! index    buckets of 8 entries: a line of words (tag and place in the arena), a line of ticks
//!          that tell when each entry was last used, and whether it was since the hand came by
//! arena    units of 64 bytes, in blocks: a block's first word has its number of units and the
//!          length of its identity, or FREE. A block of no units is the untouched rest.
//! ```
//!
//! # Eviction
//! The CLOCK algorithm: new blocks are written at the hand, which moves round the arena. It evicts
//! blocks that have expired or were not used since it last passed, and skips the others. So each
//! identity takes only the bytes that it has, whatever its size, and no block is ever moved.
//!
//! # Writers that die
//! DIRTY is set while a writer changes the set. A writer that finds it set empties the set first.
//! Readers meanwhile find an odd sequence number where the dead writer was, and complete identities
//! elsewhere.

use std::ops::Range;

use super::{read_age, tag, write_age, Age, CacheParams, Key, Lookup, Occupancy};
use crate::atomic::{fence, AtomicU64, Ordering};
use crate::{load_bytes, store_bytes, Counters, LINE, WORD};

/// The part of the cache for valid tokens.
#[derive(Clone, Copy)]
pub(super) struct Identities<'z> {
    words: &'z [AtomicU64],
    sets: usize,
    shape: Shape,
}

/// The sizes of a set's parts.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Words in a set.
    set: usize,
    /// Words for sequence numbers.
    stripes: usize,
    /// Buckets in the index.
    buckets: usize,
    /// Units in the arena.
    units: usize,
}

impl Shape {
    fn of(words: usize) -> Self {
        let sets = (words / LEAST_SET).clamp(1, SETS).max(words.div_ceil(LARGEST_SET));
        let set = words / sets / LINE * LINE;
        // Each unit has its words, and a share of the index and of the stripes.
        let room = set.saturating_sub(4 * LINE);
        let units = room * UNITS_PER_BUCKET / (UNITS_PER_BUCKET * UNIT + BUCKET + 1);
        let stripes = units.div_ceil(STRIPE).next_multiple_of(LINE);
        let index = set.saturating_sub(LINE + stripes + units * UNIT);
        let buckets = index / BUCKET;
        match units > 0 && buckets > 0 {
            true => Self { set, stripes, buckets, units },
            false => Self::default(),
        }
    }
}

impl<'z> Identities<'z> {
    /// The identities in `words`; zeroed words hold none.
    pub(super) fn new(words: &'z [AtomicU64]) -> Self {
        let shape = Shape::of(words.len());
        let sets = words.len().checked_div(shape.set).unwrap_or(0);
        Self { words, sets, shape }
    }

    pub(super) fn lookup(&self, key: &Key, params: &CacheParams, out: &mut Vec<u8>) -> Lookup {
        let start = out.len();
        let Some(set) = self.set(key) else { return Lookup::Missing };
        for (entry, at) in set.candidates(key) {
            match set.read(at, key, params, out) {
                None => out.truncate(start),
                Some(Lookup::Outdated) => return Lookup::Outdated,
                Some(found) => {
                    set.note_use(entry, params.tick);
                    return found;
                }
            }
        }
        Lookup::Missing
    }

    pub(super) fn touch(&self, key: &Key, tick: u64) {
        let Some(set) = self.set(key) else { return };
        // The tag is compared and not the whole key, which is in another line of memory. If another
        // identity has the same tag, it may be evicted later, which does no harm.
        for (entry, _) in set.candidates(key) {
            set.note_use(entry, tick);
        }
    }

    /// The caller holds the zone's mutex.
    pub(super) fn renew(&self, key: &Key, generation: u64) {
        let Some(set) = self.set(key).filter(|set| !set.is_dirty()) else { return };
        let Some((_, at)) = set.find(key) else { return };
        set.change(|| {
            set.write(at..at + 1, || set.store(at, GENERATION, generation));
        });
    }

    /// The caller holds the zone's mutex. `false` if the identity is too large.
    pub(super) fn insert(
        &self,
        key: &Key,
        identity: &[u8],
        expires: u64,
        params: &CacheParams,
    ) -> bool {
        let units = (HEADER + identity.len().div_ceil(WORD)).div_ceil(UNIT);
        let has_room = identity.len() <= LARGEST && units <= self.shape.units;
        let Some(set) = self.set(key).filter(|_| has_room) else { return false };
        let age = Age { created: params.now, created_tick: params.tick, expires };
        let died = set.is_dirty();
        set.change(|| {
            if died {
                set.clear();
            }
            set.insert(key, identity, units, &age, params);
        });
        true
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let sum = |at: usize| -> usize {
            (0..self.sets)
                .map(|set| self.words[set * self.shape.set + at].load(Ordering::Relaxed))
                .fold(0, |sum, number| sum + number as usize)
        };
        let unit_bytes = UNIT * WORD;
        let (entries, used, units) = (sum(ENTRIES), sum(USED_UNITS), self.sets * self.shape.units);
        let mean = used.checked_div(entries).unwrap_or(USUAL_BYTES / unit_bytes).max(1);
        Occupancy {
            entries,
            capacity: entries + units.saturating_sub(used) / mean,
            used_bytes: used * unit_bytes,
            size_bytes: units * unit_bytes,
            evictions: sum(EVICTIONS) as u64,
        }
    }

    fn set(&self, key: &Key) -> Option<Set<'z>> {
        let set = key[0].checked_rem(self.sets as u64)? as usize;
        let words = &self.words[set * self.shape.set..(set + 1) * self.shape.set];
        let (header, rest) = words.split_at(LINE);
        let (stripes, rest) = rest.split_at(self.shape.stripes);
        let (index, rest) = rest.split_at(self.shape.buckets * BUCKET);
        Some(Set { header, stripes, index, arena: &rest[..self.shape.units * UNIT] })
    }
}

/// One set of a cache.
#[derive(Clone, Copy)]
struct Set<'z> {
    header: &'z [AtomicU64],
    stripes: &'z [AtomicU64],
    index: &'z [AtomicU64],
    arena: &'z [AtomicU64],
}

impl<'z> Set<'z> {
    fn units(&self) -> usize {
        self.arena.len() / UNIT
    }

    fn is_dirty(&self) -> bool {
        self.header[DIRTY].load(Ordering::Relaxed) != 0
    }

    /// Runs `change`. If the process dies in it, the set is emptied by the next writer.
    fn change(&self, change: impl FnOnce()) {
        self.header[DIRTY].store(1, Ordering::Relaxed);
        fence(Ordering::Release);
        change();
        self.header[DIRTY].store(0, Ordering::Release);
    }

    /// Empties the set, whatever its contents.
    fn clear(&self) {
        for word in self.index.iter().chain(&self.header[HAND..EVICTIONS]) {
            word.store(0, Ordering::Relaxed);
        }
        self.write(0..self.units(), || self.store(0, BLOCK, 0));
    }

    /// The index entries whose tag is the key's, each with the unit at which its block begins.
    fn candidates(&self, key: &Key) -> impl Iterator<Item = (usize, usize)> + use<'z> {
        let (index, tag) = (self.index, tag_bits(key));
        self.bucket(key).filter_map(move |entry| {
            let word = index[entry].load(Ordering::Relaxed);
            (word & TAG == tag).then_some((entry, (word & !TAG) as usize))
        })
    }

    /// The key's index entry, and the unit at which its block begins.
    fn find(&self, key: &Key) -> Option<(usize, usize)> {
        self.candidates(key).find(|&(_, at)| at < self.units() && self.has_key(at, key))
    }

    /// The positions of the entries in the key's bucket.
    fn bucket(&self, key: &Key) -> Range<usize> {
        let buckets = (self.index.len() / BUCKET) as u64;
        let bucket = key[2].checked_rem(buckets).unwrap_or(0) as usize * BUCKET;
        bucket..bucket + LINE
    }

    /// Records the use, at most once per tick: each store takes the cache line from other processes.
    fn note_use(&self, entry: usize, tick: u64) {
        let (used, now) = (&self.index[entry + LINE], tick << 1 | REFERENCED);
        if used.load(Ordering::Relaxed) != now {
            used.store(now, Ordering::Relaxed);
        }
    }

    /// Reads the block at `at`; `None` if it belongs to another key or is being written.
    fn read(
        &self,
        at: usize,
        key: &Key,
        params: &CacheParams,
        out: &mut Vec<u8>,
    ) -> Option<Lookup> {
        let first = (at < self.units()).then(|| self.load(at, BLOCK))?;
        let (units, len) = block(first);
        let stripes = self.stripes_of(at..at.checked_add(units)?)?;
        let before = version(stripes, Ordering::Acquire)?;
        if len == FREE || self.load(at, BLOCK) != first || !self.has_key(at, key) {
            return None;
        }
        let age = read_age(&self.arena[at * UNIT + AGE..]);
        let is_current = self.load(at, GENERATION) == params.generation;
        let found = match age.is_good(params.valid_for, params) {
            false => Lookup::Outdated,
            true => {
                let words = self.arena.get(at * UNIT + HEADER..(at + units) * UNIT)?;
                if !load_bytes(words, len, out) {
                    return None;
                }
                if is_current {
                    Lookup::Valid(age)
                } else {
                    Lookup::Superseded(age)
                }
            }
        };
        fence(Ordering::Acquire);
        (version(stripes, Ordering::Relaxed) == Some(before)).then_some(found)
    }

    fn insert(&self, key: &Key, identity: &[u8], units: usize, age: &Age, params: &CacheParams) {
        let own = self.find(key);
        let in_place = own.filter(|&(_, at)| block(self.load(at, BLOCK)).0 == units);
        let (entry, at) = match (in_place, own) {
            (Some(own), _) => own,
            (None, own) => {
                if let Some((entry, at)) = own {
                    self.remove(entry, at);
                }
                let at = self.make_room(units, params.now);
                (self.make_entry(key, params.now), at)
            }
        };
        self.write(at..at + units, || {
            self.store(at, BLOCK, block_word(units, identity.len()));
            for (word, part) in self.arena[at * UNIT + KEY..].iter().zip(key) {
                word.store(*part, Ordering::Relaxed);
            }
            write_age(&self.arena[at * UNIT + AGE..], age);
            self.store(at, GENERATION, params.generation);
            store_bytes(&self.arena[at * UNIT + HEADER..(at + units) * UNIT], identity);
        });
        if in_place.is_none() {
            self.index[entry + LINE].store(params.tick << 1, Ordering::Relaxed);
            self.index[entry].store(tag_bits(key) | at as u64, Ordering::Release);
            self.add(ENTRIES, 1);
            self.add(USED_UNITS, units as u64);
        }
    }

    /// Frees that many adjacent units, and returns the first.
    fn make_room(&self, units: usize, now: u64) -> usize {
        let mut start = self.header[HAND].load(Ordering::Relaxed) as usize;
        let (mut end, mut laps) = (start, 0);
        while end < start + units {
            // A block does not wrap at the end of the arena.
            if start + units > self.units() {
                (start, end, laps) = (0, 0, laps + 1);
            }
            let (len, is_skipped) = match self.load_block(end) {
                // The arena is corrupt: the set is emptied.
                None => {
                    self.clear();
                    (start, end) = (0, self.units());
                    break;
                }
                Some((0, _)) => (self.units() - end, false),
                Some((len, FREE)) => (len, false),
                Some((len, _)) => (len, !self.evict(end, now, laps > 2)),
            };
            end += len;
            if is_skipped {
                start = end;
            }
        }
        let rest = start + units;
        if end > rest {
            // Within the last block that was evicted, which readers may still be at.
            self.write(rest..rest + 1, || {
                self.store(rest, BLOCK, block_word(end - rest, FREE));
            });
        }
        self.header[HAND].store(rest as u64, Ordering::Relaxed);
        start
    }

    /// Removes the block at the hand, unless it is valid and was used since the hand last passed.
    fn evict(&self, at: usize, now: u64, by_force: bool) -> bool {
        let key: Key = std::array::from_fn(|part| self.load(at, KEY + part));
        let mut entries = self.candidates(&key).filter(|(_, place)| *place == at);
        // No index entry refers to it.
        let Some((entry, _)) = entries.next() else { return true };
        let is_live = self.expires(at) > now;
        let used = self.index[entry + LINE].fetch_and(!REFERENCED, Ordering::Relaxed);
        if is_live && !by_force && used & REFERENCED != 0 {
            return false;
        }
        if is_live {
            self.add(EVICTIONS, 1);
        }
        self.remove(entry, at);
        true
    }

    /// An entry of the index that is free, or is made so.
    fn make_entry(&self, key: &Key, now: u64) -> usize {
        let rank = |entry: &usize| {
            let word = self.index[*entry].load(Ordering::Relaxed);
            let at = (word & !TAG) as usize;
            match () {
                () if word == 0 || at >= self.units() => (0, 0),
                () if self.expires(at) <= now => (1, 0),
                () => (LIVE, self.index[*entry + LINE].load(Ordering::Relaxed)),
            }
        };
        let bucket = self.bucket(key);
        let entry = bucket.clone().min_by_key(rank).unwrap_or(bucket.start);
        let (rank, _) = rank(&entry);
        if rank == LIVE {
            self.add(EVICTIONS, 1);
        }
        if rank > 0 {
            let at = (self.index[entry].load(Ordering::Relaxed) & !TAG) as usize;
            self.remove(entry, at);
        }
        entry
    }

    /// Frees a block, and its entry in the index.
    fn remove(&self, entry: usize, at: usize) {
        let (units, _) = block(self.load(at, BLOCK));
        self.index[entry].store(0, Ordering::Relaxed);
        self.store(at, BLOCK, block_word(units, FREE));
        self.subtract(ENTRIES, 1);
        self.subtract(USED_UNITS, units as u64);
    }
}

impl Set<'_> {
    /// Runs `write`, which changes the block at `units` only, under the sequence numbers there.
    fn write(&self, units: Range<usize>, write: impl FnOnce()) {
        let stripes = self.stripes_of(units).unwrap_or_default();
        for stripe in stripes {
            // A writer that died left an odd number.
            stripe.store(stripe.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        }
        fence(Ordering::Release);
        write();
        for stripe in stripes {
            stripe.store(stripe.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
    }

    /// The sequence numbers of some units; `None` if there are no such units.
    fn stripes_of(&self, units: Range<usize>) -> Option<&[AtomicU64]> {
        let is_there = units.start < units.end && units.end <= self.units();
        is_there.then(|| &self.stripes[units.start / STRIPE..units.end.div_ceil(STRIPE)])
    }

    fn has_key(&self, at: usize, key: &Key) -> bool {
        key.iter().enumerate().all(|(part, word)| self.load(at, KEY + part) == *word)
    }

    /// The units and the length of the block at `at`; `None` if it does not lie in the arena.
    fn load_block(&self, at: usize) -> Option<(usize, usize)> {
        let (units, len) = block(self.load(at, BLOCK));
        (at < self.units() && units <= self.units() - at).then_some((units, len))
    }

    /// When the identity at `at` expires.
    fn expires(&self, at: usize) -> u64 {
        self.load(at, AGE)
    }

    /// A word of the header of the block at `at`.
    fn load(&self, at: usize, part: usize) -> u64 {
        self.arena.get(at * UNIT + part).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn store(&self, at: usize, part: usize, value: u64) {
        if let Some(word) = self.arena.get(at * UNIT + part) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Only writers change the header, one at a time.
    fn add(&self, at: usize, number: u64) {
        Counters::new(self.header).add(at, number);
    }

    fn subtract(&self, at: usize, number: u64) {
        let left = self.header[at].load(Ordering::Relaxed).saturating_sub(number);
        self.header[at].store(left, Ordering::Relaxed);
    }
}

/// The sum of sequence numbers, which changes when one does; `None` where a writer is at work.
fn version(stripes: &[AtomicU64], ordering: Ordering) -> Option<u64> {
    stripes.iter().try_fold(0u64, |sum, stripe| {
        let number = stripe.load(ordering);
        number.is_multiple_of(2).then(|| sum.wrapping_add(number))
    })
}

fn block_word(units: usize, len: usize) -> u64 {
    (len as u64) << 32 | units as u64
}

fn block(word: u64) -> (usize, usize) {
    ((word & u64::from(u32::MAX)) as usize, (word >> 32) as usize)
}

/// A part of the key that neither the set nor the bucket is chosen by; never zero, which means empty.
fn tag_bits(key: &Key) -> u64 {
    tag(key) & TAG | TAG_IS_THERE
}

/// The bits of an index word that hold the tag; the others hold the place.
const TAG: u64 = !0 << 32;
const TAG_IS_THERE: u64 = 1 << 63;

/// The bit of an entry's tick that says that it was used since the hand last came by.
const REFERENCED: u64 = 1;

/// The rank of an entry that counts.
const LIVE: u8 = 2;

/// The length of a block that is free.
const FREE: usize = u32::MAX as usize;

/// What an identity takes with its header, before there is one to look at.
const USUAL_BYTES: usize = 512;

/// Words in a unit.
const UNIT: usize = LINE;
/// Units that share a sequence number.
const STRIPE: usize = 64;
/// Words in a bucket: eight entries of the index, and when they were used.
const BUCKET: usize = 2 * LINE;
/// The smallest identities take five units with their header.
const UNITS_PER_BUCKET: usize = 5 * LINE;

/// Bytes of the largest identity that is kept. A set has room for one.
const LARGEST: usize = 64 << 10;

/// How many sets there are, unless they would be too small for an identity of 64 KiB, or so large
/// that the hand takes long.
const SETS: usize = 32;
const LEAST_SET: usize = (72 << 10) / WORD;
const LARGEST_SET: usize = (256 << 10) / WORD;

/// Where the words of a set's header are.
const DIRTY: usize = 0;
const HAND: usize = 1;
const ENTRIES: usize = 2;
const USED_UNITS: usize = 3;
const EVICTIONS: usize = 4;

/// Where the words of a block are: the age takes three.
const BLOCK: usize = 0;
const KEY: usize = 1;
const AGE: usize = 5;
const GENERATION: usize = 8;
const HEADER: usize = 9;

#[cfg(all(test, not(loom)))]
mod tests;
