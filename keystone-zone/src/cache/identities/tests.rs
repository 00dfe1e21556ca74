use super::super::tests::{at, key};
use super::*;
use crate::zeroed;

/// One set: a cache with room for this many units and little more.
fn one_set() -> Vec<AtomicU64> {
    zeroed(LEAST_SET)
}

fn is_there(identities: &Identities<'_>, key: &Key) -> bool {
    identities.lookup(key, &at(10, 900), &mut Vec::new()) != Lookup::Missing
}

impl Identities<'_> {
    /// What a writer leaves that is killed in the middle.
    pub(in super::super) fn die_within_a_change(&self) {
        let Some(set) = self.set(&[0; 4]) else { return };
        set.header[DIRTY].store(1, Ordering::Relaxed);
        set.stripes[0].fetch_or(1, Ordering::Relaxed);
        set.store(2, BLOCK, block_word(1 << 20, 7));
    }
}

#[test]
fn the_parts_of_a_set_fill_it_and_lie_at_lines() {
    for words in [100, 5_000, LEAST_SET, 100_000, 850_000, 4_000_000] {
        if cfg!(miri) && words > 100_000 {
            break;
        }
        let memory = zeroed(words);
        let identities = Identities::new(&memory);
        let Shape { set, stripes, buckets, units } = identities.shape;
        assert!(
            identities.sets * set <= words
                && LINE + stripes + buckets * BUCKET + units * UNIT <= set
        );
        assert!(units > 0 && units.div_ceil(STRIPE) <= stripes, "{words}");
        assert!(buckets * UNITS_PER_BUCKET + UNITS_PER_BUCKET > units, "{words}");
        let of_one = set - LINE - stripes - buckets * BUCKET - units * UNIT;
        assert!(words < LEAST_SET || of_one < 3 * LINE + UNITS_PER_BUCKET, "{words}: {of_one}");
        let parts = identities.set(&key(1)).unwrap();
        for part in [parts.stripes, parts.index, parts.arena] {
            let start = part.as_ptr() as usize - memory.as_ptr() as usize;
            assert_eq!(start / WORD % LINE, 0, "{words}");
        }
    }
    assert_eq!(Identities::new(&zeroed(20)).sets, 0);
}

#[test]
fn what_is_used_stays_and_what_is_not_goes() {
    let words = one_set();
    let identities = Identities::new(&words);
    let identity = [b'x'; 430];
    for n in 0..10 {
        identities.insert(&key(n), &identity, 100, &at(10, n));
    }
    // Many more than there is room for; three of the first are used all along.
    for n in 10..2_000 {
        identities.insert(&key(n), &identity, 100, &at(10, n));
        for used in 0..3 {
            identities.touch(&key(used), n);
        }
    }
    let there: Vec<u64> = (0..10).filter(|n| is_there(&identities, &key(*n))).collect();
    assert_eq!(there, [0, 1, 2]);
    assert!(is_there(&identities, &key(1_999)));
}

#[test]
fn where_all_is_used_there_is_room_all_the_same() {
    let words = one_set();
    let identities = Identities::new(&words);
    for n in 0..if cfg!(miri) { 120 } else { 500 } {
        assert!(identities.insert(&key(n), &[b'x'; 900], 100, &at(10, n)));
        for used in 0..n {
            identities.touch(&key(used), n);
        }
        assert!(is_there(&identities, &key(n)));
    }
    let largest = [b'x'; 64 << 10];
    assert!(identities.insert(&key(500), &largest, 100, &at(10, 0)));
    assert!(is_there(&identities, &key(500)));
}

#[test]
fn a_full_bucket_drops_the_least_recently_used() {
    let words = one_set();
    let identities = Identities::new(&words);
    // Keys of one bucket, with tags of their own.
    let keys: Vec<Key> = (0..=LINE as u64).map(|n| [0, n << 40 | 1, 0, n]).collect();
    for key in &keys[..LINE] {
        identities.insert(key, b"x", 100, &at(10, 0));
    }
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| *n != 2) {
        identities.touch(key, 10 + n as u64);
    }
    identities.insert(&keys[LINE], b"x", 100, &at(10, 50));
    let lost: Vec<usize> = (0..keys.len()).filter(|n| !is_there(&identities, &keys[*n])).collect();
    assert_eq!((lost, identities.occupancy().evictions), (vec![2], 1));
    // What has expired goes before.
    identities.insert(&keys[0], b"x", 20, &at(10, 60));
    identities.insert(&keys[2], b"x", 100, &at(30, 60));
    assert_eq!(identities.occupancy().evictions, 1);
}

#[test]
fn a_writer_that_died_leaves_a_set_that_is_emptied() {
    let words = one_set();
    let identities = Identities::new(&words);
    identities.insert(&key(1), b"alice", 20, &at(10, 0));
    assert!(is_there(&identities, &key(1)));
    identities.die_within_a_change();
    assert!(!is_there(&identities, &key(1)));
    identities.renew(&key(1), 1);
    assert!(!is_there(&identities, &key(1)));
    identities.insert(&key(2), b"bob", 20, &at(10, 0));
    assert!(!is_there(&identities, &key(1)) && is_there(&identities, &key(2)));
    let told = identities.occupancy();
    assert_eq!((told.entries, told.used_bytes), (1, 2 * UNIT * WORD));
}
