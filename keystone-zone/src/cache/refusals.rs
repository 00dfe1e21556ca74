//! The refused tokens: slots of one size, so that a flood of garbage has a bounded share.

use super::{read_age, tag, write_age, Age, CacheParams, Key, Lookup, Occupancy};
use crate::atomic::{AtomicU64, Ordering};
use crate::{read_consistent, write_consistent, Counters, LINE, WORD};

/// A set-associative table: a key belongs to one set of `WAYS` slots, and a new entry takes the
/// place of an empty or expired one of its set, else of the oldest.
///
/// First comes a line with the number of evictions, then the tags, a word for each slot, those of a
/// set side by side (two cache lines), then the slots.
#[derive(Clone, Copy)]
pub(super) struct Refusals<'z> {
    evictions: &'z [AtomicU64],
    tags: &'z [AtomicU64],
    slots: &'z [AtomicU64],
    sets: usize,
    /// Slots in a set: [`WAYS`], or fewer where there are no more.
    ways: usize,
}

impl<'z> Refusals<'z> {
    pub(super) fn new(words: &'z [AtomicU64]) -> Self {
        let (evictions, words) = words.split_at(words.len().min(LINE));
        let slots = words.len() / (1 + SLOT);
        let ways = slots.min(WAYS);
        let sets = slots.checked_div(ways).unwrap_or(0);
        let (tags, slots) = words.split_at(sets * ways);
        Self { evictions, tags, slots, sets, ways }
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let is_taken = |tag: &&AtomicU64| tag.load(Ordering::Relaxed) != 0;
        let entries = self.tags.iter().filter(is_taken).count();
        Occupancy {
            entries,
            capacity: self.tags.len(),
            used_bytes: entries * (1 + SLOT) * WORD,
            size_bytes: self.tags.len() * (1 + SLOT) * WORD,
            evictions: Counters::new(self.evictions).read(0),
        }
    }

    pub(super) fn lookup(&self, key: &Key, params: &CacheParams) -> Lookup {
        let tag = tag(key);
        self.ways(key)
            .filter(|&index| self.tags[index].load(Ordering::Relaxed) == tag)
            .filter_map(|index| {
                let slot = self.slot(index);
                read_consistent(&slot[SEQ], || read(slot, key, params))
            })
            .next()
            .unwrap_or(Lookup::Missing)
    }

    /// The caller holds the zone's mutex.
    pub(super) fn insert(&self, key: &Key, reason: u8, expires: u64, params: &CacheParams) -> bool {
        // The key's own slot, else an empty or expired one, else the oldest.
        let rank = |index: usize| {
            let slot = self.slot(index);
            let word = |at: usize| slot[at].load(Ordering::Relaxed);
            let tag_here = self.tags[index].load(Ordering::Relaxed);
            match () {
                () if tag_here == tag(key) && has_key(slot, key) => (0, 0),
                () if tag_here == 0 || word(SEQ) % 2 == 1 => (1, 0),
                () if word(AGE) <= params.now => (1, 0),
                () => (LIVE, word(AGE + 2)),
            }
        };
        let Some(((rank, _), index)) = self.ways(key).map(|index| (rank(index), index)).min()
        else {
            return false;
        };
        if rank == LIVE {
            Counters::new(self.evictions).add(0, 1);
        }

        let slot = self.slot(index);
        let age = Age { created: params.now, created_tick: params.tick, expires };
        write_consistent(&slot[SEQ], || {
            for (word, part) in slot[KEY..].iter().zip(key) {
                word.store(*part, Ordering::Relaxed);
            }
            write_age(&slot[AGE..], &age);
            slot[GENERATION].store(params.generation, Ordering::Relaxed);
            slot[REASON].store(reason.into(), Ordering::Relaxed);
        });
        self.tags[index].store(tag(key), Ordering::Relaxed);
        true
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
        &self.slots[index * SLOT..(index + 1) * SLOT]
    }
}

/// Reads a slot under its sequence number; `None` where it is another key's.
fn read(slot: &[AtomicU64], key: &Key, params: &CacheParams) -> Option<Lookup> {
    let word = |at: usize| slot[at].load(Ordering::Relaxed);
    if !has_key(slot, key) {
        return None;
    }
    let is_current = word(GENERATION) == params.generation;
    let is_good = is_current && read_age(&slot[AGE..]).is_good(params.refused_for, params);
    Some(if is_good { Lookup::Refused(word(REASON) as u8) } else { Lookup::Outdated })
}

fn has_key(slot: &[AtomicU64], key: &Key) -> bool {
    slot[KEY..KEY + 4].iter().zip(key).all(|(word, part)| word.load(Ordering::Relaxed) == *part)
}

/// The rank of a slot whose entry counts, and is another key's.
const LIVE: u8 = 2;

/// Slots in a set.
const WAYS: usize = 16;

/// Where the words of a slot are: the age takes three.
const SEQ: usize = 0;
const KEY: usize = 1;
const AGE: usize = 5;
const GENERATION: usize = 8;
const REASON: usize = 9;
const SLOT: usize = 10;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::zeroed;

    #[test]
    fn the_tags_of_a_set_lie_at_cache_lines() {
        for words in [100_000, 783_972, 33_331].map(zeroed) {
            let refusals = Refusals::new(&words);
            let start = |part: &[AtomicU64]| {
                (part.as_ptr() as usize - words.as_ptr() as usize) / WORD % LINE
            };
            assert_eq!((start(refusals.tags), start(refusals.slots)), (0, 0));
        }
    }

    #[test]
    fn the_oldest_of_a_set_goes_first() {
        let words = zeroed(100_000);
        let refusals = Refusals::new(&words);
        let params =
            |tick| CacheParams { generation: 1, now: 10, tick, valid_for: 100, refused_for: 100 };
        // Keys of one set.
        let keys: Vec<Key> = (0..=WAYS as u64).map(|n| [0, n << 1, n, n]).collect();
        for (n, key) in keys.iter().enumerate() {
            let tick = [50, 3, 1, 2][n.min(3)] + n as u64;
            assert!(refusals.insert(key, n as u8, 100, &params(tick)));
        }
        let lost: Vec<usize> = (0..keys.len())
            .filter(|&n| refusals.lookup(&keys[n], &params(60)) == Lookup::Missing)
            .collect();
        assert_eq!((lost, refusals.occupancy().evictions), (vec![2], 1));
        // The same key again pushes nobody out.
        refusals.insert(&keys[5], 9, 100, &params(60));
        assert_eq!(refusals.lookup(&keys[5], &params(60)), Lookup::Refused(9));
        assert_eq!(refusals.occupancy().evictions, 1);
    }
}
