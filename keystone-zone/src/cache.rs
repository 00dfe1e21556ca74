use std::sync::atomic::{AtomicU64, Ordering};

use crate::{load_bytes, read_consistent, store_bytes, write_consistent, WORD};

/// What names an entry: a keyed 256-bit digest of the token and of who vouches for it.  Two tokens
/// with one key would be a collision of the digest under a key that no client knows.
pub type Key = [u64; 4];

/// What the cache remembers of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is valid, and this is its identity.
    Valid(&'a [u8]),
    /// It was refused, for the reason of this number.
    Refused(u8),
}

/// What [`Cache::lookup`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The token is valid until then (unix seconds); its identity was appended to the buffer.
    Valid(u64),
    /// The token was refused, for the reason of this number.
    Refused(u8),
    /// There was an entry, but its time is over, or it is a refusal of another generation.
    Outdated,
    /// The token is valid until then, as far as another generation tells; its identity was appended
    /// to the buffer.  See [`Cache::renew`].
    Superseded(u64),
    /// Nothing.
    Missing,
}

/// When, and by whose rules, an entry is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Entries of another generation count no more as they are.
    pub generation: u64,
    /// Unix seconds.
    pub now: u64,
    /// Any clock that all processes share; it tells what was used last.
    pub tick: u64,
    /// For how many seconds a valid token's entry is good; 0 for not at all.
    pub valid_for: u64,
    /// For how many seconds a refusal is good; 0 for not at all.
    pub refused_for: u64,
}

/// A bounded cache in shared memory.
///
/// It is set-associative: a key belongs to one set of [`WAYS`] slots, and a new entry takes the
/// place of an empty or expired one of its set, else of the one least recently used.  There are no
/// pointers, lists or free lists that a writer killed in the middle could leave broken.  Three
/// areas of fixed-size slots share the memory: small identities, large ones (a catalog), and
/// refusals, so that a flood of garbage cannot push out valid tokens.
#[derive(Clone, Copy)]
pub struct Cache<'z> {
    small: Area<'z>,
    large: Area<'z>,
    refused: Area<'z>,
}

impl<'z> Cache<'z> {
    /// The cache in `words`; zeroed words hold an empty one.
    pub fn new(words: &'z [AtomicU64]) -> Self {
        let (refused, rest) = words.split_at(words.len() / REFUSED_SHARE);
        let (large, small) = rest.split_at(rest.len() / LARGE_SHARE);
        Self {
            small: Area::new(small, SMALL_SLOT),
            large: Area::new(large, LARGE_SLOT),
            refused: Area::new(refused, REFUSED_SLOT),
        }
    }

    /// Looks `key` up and appends a valid token's identity to `out`.
    pub fn lookup(&self, key: &Key, moment: &Moment, out: &mut Vec<u8>) -> Lookup {
        let (start, mut best) = (out.len(), Lookup::Missing);
        for area in [&self.small, &self.refused, &self.large] {
            let end = out.len();
            match area.lookup(key, moment, out) {
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
        for area in [&self.small, &self.large] {
            area.touch(key, tick);
        }
    }

    /// Notes that a valid token's entry holds in this generation too.  The caller holds the zone's
    /// mutex.
    pub fn renew(&self, key: &Key, generation: u64) {
        for area in [&self.small, &self.large] {
            area.renew(key, generation);
        }
    }

    /// Remembers `verdict`, at most until `expires` (unix seconds); `false` where it is too large to
    /// be kept, or the moment's rules are not to keep it.  The caller holds the zone's mutex.
    pub fn insert(&self, key: &Key, verdict: &Verdict<'_>, expires: u64, moment: &Moment) -> bool {
        let (area, info, time, payload) = match *verdict {
            Verdict::Refused(reason) => {
                (&self.refused, u64::from(reason) << 1 | 1, moment.refused_for, &[][..])
            }
            Verdict::Valid(identity) => {
                let area = match self.small.holds(identity.len()) {
                    true => &self.small,
                    false => &self.large,
                };
                (area, (identity.len() as u64) << 1, moment.valid_for, identity)
            }
        };
        let expires = expires.min(moment.now.saturating_add(time));
        expires > moment.now && area.insert(&Header { key, info, expires }, payload, moment)
    }
}

/// Slots of one size.  First come the tags, a word a slot, those of a set side by side (two cache
/// lines), then the slots.
#[derive(Clone, Copy)]
struct Area<'z> {
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
        let slots = words.len() / (1 + slot);
        let ways = slots.min(WAYS);
        let sets = slots.checked_div(ways).unwrap_or(0);
        let (tags, slots) = words.split_at(sets * ways);
        Self { tags, slots, sets, ways, slot }
    }

    fn holds(&self, len: usize) -> bool {
        self.sets > 0 && len <= (self.slot - HEADER) * WORD
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

    fn lookup(&self, key: &Key, moment: &Moment, out: &mut Vec<u8>) -> Lookup {
        for slot in self.candidates(key) {
            let start = out.len();
            let found = read_consistent(&slot[SEQ], || read(slot, key, moment, out));
            match found {
                None | Some(Lookup::Missing) => out.truncate(start),
                Some(Lookup::Outdated) => return Lookup::Outdated,
                Some(found) => {
                    use_slot(slot, moment.tick);
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

    fn insert(&self, header: &Header<'_>, payload: &[u8], moment: &Moment) -> bool {
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
                () if tag_here == 0 || word(SEQ) % 2 == 1 || word(EXPIRES) <= moment.now => (1, 0),
                () => (2, word(USED)),
            }
        };
        let Some(index) = self.ways(header.key).min_by_key(|&index| rank(index)) else {
            return false;
        };

        let slot = self.slot(index);
        write_consistent(&slot[SEQ], || {
            for (word, part) in slot[KEY..].iter().zip(header.key) {
                word.store(*part, Ordering::Relaxed);
            }
            slot[EXPIRES].store(header.expires, Ordering::Relaxed);
            slot[CREATED].store(moment.now, Ordering::Relaxed);
            slot[GENERATION].store(moment.generation, Ordering::Relaxed);
            slot[INFO].store(header.info, Ordering::Relaxed);
            store_bytes(&slot[HEADER..], payload);
        });
        slot[USED].store(moment.tick, Ordering::Relaxed);
        self.tags[index].store(tag(header.key), Ordering::Relaxed);
        true
    }
}

/// Reads a slot under its sequence number.
fn read(slot: &[AtomicU64], key: &Key, moment: &Moment, out: &mut Vec<u8>) -> Option<Lookup> {
    let word = |at: usize| slot[at].load(Ordering::Relaxed);
    if !has_key(slot, key) {
        return Some(Lookup::Missing);
    }
    let (info, expires) = (word(INFO), word(EXPIRES));
    let is_refusal = info & 1 == 1;
    let time = if is_refusal { moment.refused_for } else { moment.valid_for };
    let expires = expires.min(word(CREATED).saturating_add(time));
    let is_current = word(GENERATION) == moment.generation;
    if expires <= moment.now || is_refusal && !is_current {
        return Some(Lookup::Outdated);
    }
    if is_refusal {
        return Some(Lookup::Refused((info >> 1) as u8));
    }
    let len = usize::try_from(info >> 1).ok()?;
    let found = if is_current { Lookup::Valid(expires) } else { Lookup::Superseded(expires) };
    load_bytes(&slot[HEADER..], len, out).then_some(found)
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

/// Slots in a set.
const WAYS: usize = 16;

/// One word in so many is for refusals, and of the rest one in so many for large identities.
const REFUSED_SHARE: usize = 8;
const LARGE_SHARE: usize = 4;

/// Words in a slot.  An identity without a catalog takes some hundred bytes; one with a catalog,
/// a few thousand.
const SMALL_SLOT: usize = 1024 / WORD;
const LARGE_SLOT: usize = 16 * 1024 / WORD;
const REFUSED_SLOT: usize = HEADER;

/// Where the words of a slot's header are.
const SEQ: usize = 0;
const KEY: usize = 1;
const EXPIRES: usize = 5;
const GENERATION: usize = 6;
const INFO: usize = 7;
const USED: usize = 8;
const CREATED: usize = 9;
const HEADER: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::zeroed;

    const MEGABYTE: usize = 1024 * 1024 / WORD;

    fn key(n: u64) -> Key {
        // Far apart in the first word, as digests are.
        [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n << 1 | 1, n, n]
    }

    fn at(now: u64, tick: u64) -> Moment {
        Moment { generation: 1, now, tick, valid_for: 1_000, refused_for: 1_000 }
    }

    fn lookup(cache: &Cache<'_>, key: &Key, now: u64) -> (Lookup, Vec<u8>) {
        let mut out = Vec::new();
        let found = cache.lookup(key, &at(now, 0), &mut out);
        (found, out)
    }

    #[test]
    fn an_entry_is_found_until_it_expires() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        assert_eq!(lookup(&cache, &key(1), 10).0, Lookup::Missing);
        assert!(cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0)));
        assert_eq!(lookup(&cache, &key(1), 19), (Lookup::Valid(20), b"alice".to_vec()));
        assert_eq!(lookup(&cache, &key(1), 20), (Lookup::Outdated, vec![]));
        assert_eq!(lookup(&cache, &key(2), 19).0, Lookup::Missing);
    }

    #[test]
    fn whoever_looks_up_says_how_old_an_entry_may_be() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        cache.insert(&key(1), &Verdict::Valid(b"alice"), 100, &at(10, 0));
        let mut out = Vec::new();
        let brief = |now| Moment { valid_for: 5, ..at(now, 0) };
        assert_eq!(cache.lookup(&key(1), &brief(14), &mut out), Lookup::Valid(15));
        assert_eq!(cache.lookup(&key(1), &brief(15), &mut out), Lookup::Outdated);
        assert_eq!(lookup(&cache, &key(1), 99).0, Lookup::Valid(100));
        let none = Moment { valid_for: 0, ..at(10, 0) };
        assert!(!cache.insert(&key(2), &Verdict::Valid(b"bob"), 100, &none));
    }

    #[test]
    fn an_entry_ends_with_its_generation() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0));
        let mut out = Vec::new();
        let next = Moment { generation: 2, ..at(10, 0) };
        assert_eq!(cache.lookup(&key(1), &next, &mut out), Lookup::Superseded(20));
        assert_eq!(out, b"alice");
        cache.insert(&key(2), &Verdict::Refused(3), 20, &at(10, 0));
        assert_eq!(cache.lookup(&key(2), &at(10, 0), &mut out), Lookup::Refused(3));
        assert_eq!(cache.lookup(&key(2), &next, &mut out), Lookup::Outdated);
        assert_eq!(out, b"alice");
    }

    #[test]
    fn an_entry_that_holds_in_the_next_generation_is_renewed() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        for (n, payload) in [(1, vec![b'x'; 10]), (2, vec![b'x'; 5_000])] {
            cache.insert(&key(n), &Verdict::Valid(&payload), 20, &at(10, 0));
            cache.renew(&key(n), 2);
            let mut out = Vec::new();
            let next = Moment { generation: 2, ..at(10, 0) };
            assert_eq!(cache.lookup(&key(n), &next, &mut out), Lookup::Valid(20));
            assert_eq!(cache.lookup(&key(n), &at(10, 0), &mut out), Lookup::Superseded(20));
        }
        cache.renew(&key(3), 2);
        assert_eq!(lookup(&cache, &key(3), 10).0, Lookup::Missing);
    }

    #[test]
    fn what_counts_now_comes_before_what_counted_in_another_generation() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        let next = Moment { generation: 2, ..at(10, 0) };
        let large = vec![b'x'; 5_000];
        cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0));
        cache.insert(&key(1), &Verdict::Refused(3), 20, &next);
        cache.insert(&key(2), &Verdict::Valid(b"alice"), 20, &at(10, 0));
        cache.insert(&key(2), &Verdict::Valid(&large), 20, &next);
        let mut out = b"before ".to_vec();
        assert_eq!(cache.lookup(&key(1), &next, &mut out), Lookup::Refused(3));
        assert_eq!(out, b"before ");
        assert_eq!(cache.lookup(&key(2), &next, &mut out), Lookup::Valid(20));
        assert_eq!(out, [&b"before "[..], &large].concat());
        let mut out = Vec::new();
        assert_eq!(cache.lookup(&key(1), &at(10, 0), &mut out), Lookup::Valid(20));
        assert_eq!(out, b"alice");
    }

    #[test]
    fn large_identities_are_kept_and_larger_ones_are_not() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        let large = vec![b'x'; 5_000];
        assert!(cache.insert(&key(1), &Verdict::Valid(&large), 20, &at(10, 0)));
        assert_eq!(lookup(&cache, &key(1), 10), (Lookup::Valid(20), large));
        assert!(!cache.insert(&key(2), &Verdict::Valid(&[0; 20_000]), 20, &at(10, 0)));
        assert_eq!(lookup(&cache, &key(2), 10).0, Lookup::Missing);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        // Keys of one set.
        let keys: Vec<Key> = (0..=WAYS as u64).map(|n| [0, n << 1, n, n]).collect();
        for (tick, key) in (0u64..).zip(&keys[..WAYS]) {
            cache.insert(key, &Verdict::Valid(b"x"), 100, &at(10, tick));
        }
        let mut out = Vec::new();
        cache.lookup(&keys[0], &at(10, 50), &mut out);
        cache.touch(&keys[1], 50);
        cache.insert(&keys[WAYS], &Verdict::Valid(b"x"), 100, &at(10, 51));
        let lost: Vec<usize> = (0..keys.len())
            .filter(|&index| lookup(&cache, &keys[index], 10).0 == Lookup::Missing)
            .collect();
        assert_eq!(lost, [2]);
    }

    #[test]
    fn a_flood_of_refusals_leaves_valid_tokens_alone() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        for n in 0..100 {
            cache.insert(&key(n), &Verdict::Valid(b"x"), 100, &at(10, n));
        }
        let before: Vec<Lookup> = (0..100).map(|n| lookup(&cache, &key(n), 10).0).collect();
        for n in 1_000..200_000 {
            cache.insert(&key(n), &Verdict::Refused(1), 100, &at(10, n));
        }
        let after: Vec<Lookup> = (0..100).map(|n| lookup(&cache, &key(n), 10).0).collect();
        assert_eq!(before, after);
        assert!(before.iter().all(|found| *found == Lookup::Valid(100)));
    }

    #[test]
    fn a_writer_that_died_leaves_an_empty_slot() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0));
        let area = &cache.small;
        let slot = area.ways(&key(1)).find(|&i| area.tags[i].load(Ordering::Relaxed) != 0).unwrap();
        area.slot(slot)[SEQ].fetch_add(1, Ordering::Relaxed);
        assert_eq!(lookup(&cache, &key(1), 10), (Lookup::Missing, vec![]));
        cache.renew(&key(1), 1);
        assert_eq!(lookup(&cache, &key(1), 10), (Lookup::Missing, vec![]));
        cache.insert(&key(1), &Verdict::Valid(b"bob"), 20, &at(10, 0));
        assert_eq!(lookup(&cache, &key(1), 10), (Lookup::Valid(20), b"bob".to_vec()));
    }

    #[test]
    fn too_little_memory_is_a_cache_that_keeps_nothing() {
        let words = zeroed(100);
        let cache = Cache::new(&words);
        assert!(!cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0)));
        assert_eq!(lookup(&cache, &key(1), 10).0, Lookup::Missing);
    }

    #[test]
    fn readers_never_see_a_mixture() {
        let words = zeroed(MEGABYTE);
        let cache = Cache::new(&words);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..20_000u64 {
                    let payload = vec![n as u8; 100 + (n % 800) as usize];
                    cache.insert(&key(1), &Verdict::Valid(&payload), 20, &at(10, n));
                }
            });
            scope.spawn(|| {
                let mut found = 0;
                while found < 1_000 {
                    let (lookup, bytes) = lookup(&cache, &key(1), 10);
                    if lookup == Lookup::Missing {
                        continue;
                    }
                    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn: {bytes:?}");
                    found += 1;
                }
            });
        });
    }

    proptest! {
        #[test]
        fn whatever_lies_in_the_memory_nothing_panics(
            noise in proptest::collection::vec(any::<u64>(), 2_000),
            n in any::<u64>(),
        ) {
            let words: Vec<AtomicU64> = noise.into_iter().map(AtomicU64::new).collect();
            let cache = Cache::new(&words);
            let _ = lookup(&cache, &key(n), 10);
            cache.insert(&key(n), &Verdict::Valid(b"alice"), 20, &at(10, 0));
            let _ = lookup(&cache, &key(n), 10);
        }
    }
}
