use proptest::prelude::*;

use super::*;
use crate::{repetitions, zeroed, WORD};

const MEGABYTE: usize = 1024 * 1024 / WORD;

/// Far apart in each word, as digests are.
pub(super) fn key(n: u64) -> Key {
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 1]
        .map(|factor| (n + 1).wrapping_mul(factor).rotate_left(29).wrapping_mul(factor))
}

pub(super) fn at(now: u64, tick: u64) -> CacheParams {
    CacheParams { generation: 1, now, tick, valid_for: 1_000, refused_for: 1_000 }
}

fn lookup(cache: &Cache<'_>, key: &Key, now: u64) -> (Lookup, Vec<u8>) {
    let mut out = Vec::new();
    let found = cache.lookup(key, &at(now, LATE), &mut out);
    (found, out)
}

/// A tick that is later than all others here, and not so late that an entry is old.
const LATE: u64 = 200_000;

/// Since second 10, tick 0.
fn until(expires: u64) -> Age {
    Age { created: 10, created_tick: 0, expires }
}

#[test]
fn an_entry_is_found_until_it_expires() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    assert_eq!(lookup(&cache, &key(1), 10).0, Lookup::Missing);
    assert!(cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0)));
    assert_eq!(lookup(&cache, &key(1), 19), (Lookup::Valid(until(20)), b"alice".to_vec()));
    assert_eq!(lookup(&cache, &key(1), 20), (Lookup::Outdated, vec![]));
    assert_eq!(lookup(&cache, &key(2), 19).0, Lookup::Missing);
}

#[test]
fn the_lookup_says_how_old_an_entry_may_be() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    cache.insert(&key(1), &Verdict::Valid(b"alice"), 100, &at(10, 0));
    let mut out = Vec::new();
    let brief = |now| CacheParams { valid_for: 5, ..at(now, 0) };
    assert_eq!(cache.lookup(&key(1), &brief(14), &mut out), Lookup::Valid(until(100)));
    assert_eq!(cache.lookup(&key(1), &brief(15), &mut out), Lookup::Outdated);
    assert_eq!(lookup(&cache, &key(1), 99).0, Lookup::Valid(until(100)));
    let none = CacheParams { valid_for: 0, ..at(10, 0) };
    assert!(!cache.insert(&key(2), &Verdict::Valid(b"bob"), 100, &none));
}

#[test]
fn an_entry_does_not_outlive_a_clock_that_is_set_back() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    let params = |now, tick| CacheParams { valid_for: 60, refused_for: 60, ..at(now, tick) };
    cache.insert(&key(1), &Verdict::Valid(b"alice"), 1_000, &params(500, 5_000));
    cache.insert(&key(2), &Verdict::Refused(3), 1_000, &params(500, 5_000));
    let found = |now, tick| {
        [1, 2].map(|n| match cache.lookup(&key(n), &params(now, tick), &mut Vec::new()) {
            Lookup::Valid(_) | Lookup::Refused(3) => true,
            Lookup::Outdated => false,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(found(559, 64_000), [true, true]);
    // Set back by an hour, or by more than the other processes' readings differ.
    for now in [0, 100, 498] {
        assert_eq!(found(now, 5_000), [false, false], "{now}");
    }
    // The time of day at which it was made comes again, a long time later.
    assert_eq!(found(500, 65_000), [false, false]);
    // A clock that nobody sets, set all the same.
    assert_eq!(found(500, 3_999), [false, false]);
    // Another process has looked at the clock a little earlier.
    assert_eq!(found(499, 4_500), [true, true]);
}

#[test]
fn an_entry_ends_with_its_generation() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0));
    let mut out = Vec::new();
    let next = CacheParams { generation: 2, ..at(10, 0) };
    assert_eq!(cache.lookup(&key(1), &next, &mut out), Lookup::Superseded(until(20)));
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
        let next = CacheParams { generation: 2, ..at(10, 0) };
        assert_eq!(cache.lookup(&key(n), &next, &mut out), Lookup::Valid(until(20)));
        assert_eq!(cache.lookup(&key(n), &at(10, 0), &mut out), Lookup::Superseded(until(20)));
    }
    cache.renew(&key(3), 2);
    assert_eq!(lookup(&cache, &key(3), 10).0, Lookup::Missing);
}

#[test]
fn what_counts_now_comes_before_what_counted_in_another_generation() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    let next = CacheParams { generation: 2, ..at(10, 0) };
    let large = vec![b'x'; 5_000];
    cache.insert(&key(1), &Verdict::Valid(b"alice"), 20, &at(10, 0));
    cache.insert(&key(1), &Verdict::Refused(3), 20, &next);
    cache.insert(&key(2), &Verdict::Valid(b"alice"), 20, &at(10, 0));
    cache.insert(&key(2), &Verdict::Valid(&large), 20, &next);
    let mut out = b"before ".to_vec();
    assert_eq!(cache.lookup(&key(1), &next, &mut out), Lookup::Refused(3));
    assert_eq!(out, b"before ");
    assert_eq!(cache.lookup(&key(2), &next, &mut out), Lookup::Valid(until(20)));
    assert_eq!(out, [&b"before "[..], &large].concat());
    let mut out = Vec::new();
    assert_eq!(cache.lookup(&key(1), &at(10, 0), &mut out), Lookup::Valid(until(20)));
    assert_eq!(out, b"alice");
}

#[test]
fn large_identities_are_kept_and_larger_ones_are_not() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    let large = vec![b'x'; 5_000];
    assert!(cache.insert(&key(1), &Verdict::Valid(&large), 20, &at(10, 0)));
    assert_eq!(lookup(&cache, &key(1), 10), (Lookup::Valid(until(20)), large));
    let largest = vec![b'y'; 64 << 10];
    assert!(cache.insert(&key(2), &Verdict::Valid(&largest), 20, &at(10, 0)));
    assert_eq!(lookup(&cache, &key(2), 10), (Lookup::Valid(until(20)), largest));
    assert!(!cache.insert(&key(3), &Verdict::Valid(&[0; 80_000]), 20, &at(10, 0)));
    assert_eq!(lookup(&cache, &key(3), 10).0, Lookup::Missing);
}

#[test]
fn it_tells_how_full_it_is_and_how_many_had_to_go() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    let told = |name| {
        let told = cache.occupancy();
        let (_, told) = told.into_iter().find(|(area, _)| *area == name).unwrap();
        (told.entries, told.evictions)
    };
    let all: usize = cache.occupancy().iter().map(|(_, told)| told.size_bytes).sum();
    assert!((920 << 10..=1 << 20).contains(&all), "{all}");

    let number = repetitions(100_000);
    for n in 0..number {
        cache.insert(&key(n), &Verdict::Valid(&[b'x'; 300]), 100, &at(10, n));
    }
    let (entries, evictions) = told("valid");
    assert_eq!(entries as u64 + evictions, number);
    assert!(cfg!(miri) || entries > 2_000, "{entries}");
    assert_eq!(entries as u64, count(&cache, 0..number));
    // The same key again pushes nobody out.
    let there = (0..number).rev().find(|n| lookup(&cache, &key(*n), 10).0 != Lookup::Missing);
    cache.insert(&key(there.unwrap()), &Verdict::Valid(&[b'y'; 300]), 100, &at(10, 0));
    assert_eq!(told("valid"), (entries, evictions));
    // What has expired was not evicted.
    cache.insert(&key(number), &Verdict::Valid(&[b'x'; 60_000]), 300, &at(200, 0));
    assert_eq!(told("valid").1, evictions);

    cache.insert(&key(1), &Verdict::Refused(1), 100, &at(10, 0));
    assert_eq!(told("refused"), (1, 0));
}

/// How many of the keys are found.
fn count(cache: &Cache<'_>, keys: std::ops::Range<u64>) -> u64 {
    keys.filter(|n| lookup(cache, &key(*n), 10).0 != Lookup::Missing).count() as u64
}

#[test]
fn ten_megabytes_keep_twelve_thousand_identities() {
    // What the module gives the cache of a zone of this size.
    let words = zeroed(if cfg!(miri) { MEGABYTE } else { 7 * MEGABYTE });
    let cache = Cache::new(&words);
    let number = repetitions(12_000);
    for n in 0..number {
        cache.insert(&key(n), &Verdict::Valid(&[b'x'; 420]), 100, &at(10, n));
    }
    // Some sets are fuller than others.
    assert!(count(&cache, 0..number) >= number - number / 500);
}

#[test]
fn a_flood_of_refusals_leaves_valid_tokens_alone() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    for n in 0..100 {
        cache.insert(&key(n), &Verdict::Valid(b"x"), 100, &at(10, n));
    }
    let before: Vec<Lookup> = (0..100).map(|n| lookup(&cache, &key(n), 10).0).collect();
    for n in 1_000..1_000 + repetitions(199_000) {
        cache.insert(&key(n), &Verdict::Refused(1), 100, &at(10, n));
    }
    let after: Vec<Lookup> = (0..100).map(|n| lookup(&cache, &key(n), 10).0).collect();
    assert_eq!(before, after);
    assert!(before.iter().all(|found| matches!(found, Lookup::Valid(age) if age.expires == 100)));
}

#[test]
fn too_little_memory_is_a_cache_that_keeps_nothing() {
    let words = zeroed(40);
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
            for n in 0..repetitions(20_000) {
                let payload = vec![n as u8; 100 + (n % 800) as usize];
                cache.insert(&key(1), &Verdict::Valid(&payload), 20, &at(10, n));
            }
        });
        scope.spawn(|| {
            let mut found = 0;
            while found < repetitions(1_000) {
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

/// Miri takes long.
const MOST_STEPS: usize = if cfg!(miri) { 25 } else { 400 };

#[derive(Clone, Debug)]
enum Step {
    Insert { key: u64, len: usize, expires: u64 },
    Refuse { key: u64 },
    Touch { key: u64 },
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..60u64;
    prop_oneof![
        12 => (key.clone(), 0..9_000usize, 11..40u64)
            .prop_map(|(key, len, expires)| Step::Insert { key, len, expires }),
        1 => key.clone().prop_map(|key| Step::Refuse { key }),
        4 => key.prop_map(|key| Step::Touch { key }),
        1 => Just(Step::Die),
    ]
}

/// What an identity of a key and a length consists of.
fn payload(key: u64, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n as u64 ^ key.wrapping_mul(31)) as u8).collect()
}

proptest! {
    /// Whatever is found is what was last put there.
    #[test]
    fn what_is_found_was_put_there(steps in proptest::collection::vec(step(), 1..MOST_STEPS)) {
        let words = zeroed(20_000);
        let cache = Cache::new(&words);
        let mut last = std::collections::HashMap::new();
        for (tick, step) in (0u64..).zip(steps) {
            let params = at(10, tick);
            match step {
                Step::Insert { key: n, len, expires } => {
                    let identity = payload(n, len);
                    cache.insert(&key(n), &Verdict::Valid(&identity), expires, &params);
                    let found = lookup(&cache, &key(n), 10);
                    prop_assert_eq!(found.1, identity);
                    last.insert(n, len);
                }
                Step::Refuse { key: n } => {
                    cache.insert(&key(n + 1_000), &Verdict::Refused(1), 20, &params);
                }
                Step::Touch { key: n } => cache.touch(&key(n), tick),
                Step::Die => cache.valid.die_within_a_change(),
            }
            for (n, len) in &last {
                let (found, identity) = lookup(&cache, &key(*n), 10);
                prop_assert!(found == Lookup::Missing || identity == payload(*n, *len));
            }
        }
    }
}
