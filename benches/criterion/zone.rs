//! The cache of `keystone-zone`: `make bench-criterion`.

// The macros of Criterion make functions without a text.
#![allow(missing_docs)]

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion};
use keystone_zone::{Cache, CacheParams, Key, Verdict, WORD};

const MOMENT: CacheParams =
    CacheParams { generation: 1, now: 1, tick: 1, valid_for: 3600, refused_for: 60 };

/// The mean size of an identity.
const RECORD: usize = 512;

/// What an entry takes, with room to spare: nothing is to be evicted.
const BYTES_FOR_TOKEN: usize = 900;

const SIZES: [u64; 2] = [1_000, 100_000];
const THREADS: u64 = 8;

fn operations(criterion: &mut Criterion) {
    for size in SIZES {
        let words = filled(size);
        let cache = Cache::new(&words);
        let (mut number, mut out) = (0_u64, Vec::with_capacity(2 * RECORD));
        // All of them, in an order that is none.
        let mut next = move || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 32) % size
        };
        let mut group = criterion.benchmark_group("zone");
        group.bench_function(BenchmarkId::new("hit", size), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(cache.lookup(&key(next()), &MOMENT, &mut out))
            });
        });
        group.bench_function(BenchmarkId::new("miss", size), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(cache.lookup(&key(size + next()), &MOMENT, &mut out))
            });
        });
        group.bench_function(BenchmarkId::new("insert", size), |bencher| {
            let verdict = Verdict::Valid(&[b'y'; RECORD]);
            bencher.iter(|| cache.insert(&key(next()), &verdict, u64::MAX, &MOMENT));
        });
        group.bench_function(BenchmarkId::new("8_threads_10%_insert", size), |bencher| {
            bencher.iter_custom(|times| together(&words, size, times));
        });
        group.finish();
    }
}

/// The time in which each thread does as many operations, of which one in ten is a write.
fn together(words: &[AtomicU64], size: u64, times: u64) -> Duration {
    let (lock, begin) = (AtomicBool::new(false), Instant::now());
    let work = |thread: u64| {
        let (cache, mut out) = (Cache::new(words), Vec::with_capacity(2 * RECORD));
        for time in 0..times {
            let key = key(time.wrapping_mul(0x9e37_79b9).wrapping_add(thread * 7_919) % size);
            if time % 10 == 0 {
                // As the zone's mutex does.
                while lock.swap(true, Ordering::Acquire) {
                    spin_loop();
                    thread::yield_now();
                }
                cache.insert(&key, &Verdict::Valid(&[b'z'; RECORD]), u64::MAX, &MOMENT);
                lock.store(false, Ordering::Release);
            } else {
                out.clear();
                black_box(cache.lookup(&key, &MOMENT, &mut out));
            }
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || work(thread));
        }
    });
    begin.elapsed()
}

fn filled(size: u64) -> Vec<AtomicU64> {
    let bytes = usize::try_from(size).map_or(0, |size| size * BYTES_FOR_TOKEN) + (1 << 20);
    let words: Vec<_> = (0..bytes / WORD).map(|_| AtomicU64::new(0)).collect();
    for number in 0..size {
        Cache::new(&words).insert(
            &key(number),
            &Verdict::Valid(&[b'x'; RECORD]),
            u64::MAX,
            &MOMENT,
        );
    }
    words
}

/// As evenly distributed as the digests that are keys.
fn key(number: u64) -> Key {
    [1, 2, 3, 4].map(|word| {
        let value = (number * 4 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    })
}

criterion_group!(zone, operations);
criterion_main!(zone);
