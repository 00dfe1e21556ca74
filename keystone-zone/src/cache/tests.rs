use proptest::prelude::*;

use super::*;
use crate::{repetitions, zeroed};

const MEGABYTE: usize = 1024 * 1024 / WORD;

fn key(n: u64) -> Key {
    // Far apart in the first word, as digests are.
    [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n << 1 | 1, n, n]
}

fn at(now: u64, tick: u64) -> CacheParams {
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
fn identities_up_to_64_kilobytes_are_kept_and_larger_ones_are_not() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    for (number, size) in [5_000, 16_000, 16_384, 20_000, 65_535, 65_536].into_iter().enumerate() {
        let (key, identity) = (key(number as u64), vec![b'x'; size]);
        assert!(cache.insert(&key, &Verdict::Valid(&identity), 20, &at(10, 0)), "{size}");
        assert_eq!(lookup(&cache, &key, 10), (Lookup::Valid(until(20)), identity), "{size}");
    }
    assert!(!cache.insert(&key(9), &Verdict::Valid(&[0; 65_537]), 20, &at(10, 0)));
    assert_eq!(lookup(&cache, &key(9), 10).0, Lookup::Missing);
}

#[test]
fn a_flood_of_huge_identities_pushes_out_no_others() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    let sizes = [100, 5_000];
    for (number, size) in sizes.into_iter().enumerate() {
        cache.insert(&key(number as u64), &Verdict::Valid(&vec![1; size]), 20, &at(10, 0));
    }
    cache.insert(&key(2), &Verdict::Refused(3), 20, &at(10, 0));
    for number in 10..200 {
        cache.insert(&key(number), &Verdict::Valid(&[0; 60_000]), 20, &at(10, number));
    }
    for (number, size) in sizes.into_iter().enumerate() {
        assert_eq!(lookup(&cache, &key(number as u64), 10).1.len(), size);
    }
    assert_eq!(lookup(&cache, &key(2), 10).0, Lookup::Refused(3));
    assert_eq!(lookup(&cache, &key(199), 10).1.len(), 60_000);
}

#[test]
fn the_areas_have_their_shares_of_a_zone_of_any_size() {
    let capacity = |bytes: usize| {
        let words = zeroed(bytes / WORD);
        Cache::new(&words).occupancy().map(|(_, occupancy)| occupancy.capacity)
    };
    // huge, large, refused and small, for zones of 256 KB, 1 MB and 10 MB.
    assert_eq!(capacity(134_400), [0, 1, 160, 80]);
    assert_eq!(capacity(609_000), [1, 4, 784, 384]);
    assert_eq!(capacity(6_270_000), [6, 48, 8_160, 3_984]);
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
fn the_tags_of_a_set_and_the_slots_lie_at_cache_lines() {
    let at = |words: &[AtomicU64], start: &[AtomicU64]| {
        (start.as_ptr() as usize - words.as_ptr() as usize) / WORD
    };
    for words in [MEGABYTE, 783_972, 33_331].map(zeroed) {
        let cache = Cache::new(&words);
        for area in [&cache.small, &cache.large, &cache.huge, &cache.refused] {
            assert_eq!(at(&words, area.tags) % LINE, 0);
            // Fewer slots than a set has fill no line with their tags.
            assert!(area.ways < WAYS || at(&words, area.slots) % LINE == 0);
        }
    }
}

#[test]
fn it_reports_occupancy_and_evictions() {
    let words = zeroed(MEGABYTE);
    let cache = Cache::new(&words);
    let told = |name| {
        let told = cache.occupancy();
        let (_, told) = told.into_iter().find(|(area, _)| *area == name).unwrap();
        (told.entries, told.evictions)
    };
    let all: usize = cache.occupancy().iter().map(|(_, it)| it.capacity * it.slot_bytes).sum();
    assert!((900 << 10..=1 << 20).contains(&all), "{all}");

    let keys: Vec<Key> = (0..=WAYS as u64).map(|n| [0, n << 1, n, n]).collect();
    for key in &keys[..WAYS] {
        cache.insert(key, &Verdict::Valid(b"x"), 100, &at(10, 0));
    }
    assert_eq!(told("small"), (WAYS, 0));
    // The same key again, and one in the place of an entry whose time is over, push nobody out.
    cache.insert(&keys[3], &Verdict::Valid(b"y"), 20, &at(10, 0));
    cache.insert(&keys[WAYS], &Verdict::Valid(b"x"), 100, &at(20, 0));
    assert_eq!(told("small"), (WAYS, 0));
    cache.insert(&keys[3], &Verdict::Valid(b"x"), 100, &at(20, 0));
    assert_eq!(told("small"), (WAYS, 1));
    cache.insert(&key(1), &Verdict::Refused(1), 100, &at(10, 0));
    cache.insert(&key(2), &Verdict::Valid(&[b'x'; 5_000]), 100, &at(10, 0));
    assert_eq!((told("refused"), told("large"), told("small")), ((1, 0), (1, 0), (WAYS, 1)));
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
    assert_eq!(lookup(&cache, &key(1), 10), (Lookup::Valid(until(20)), b"bob".to_vec()));
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
