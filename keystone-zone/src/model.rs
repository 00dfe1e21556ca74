//! Model checks: loom runs each test with every order in which threads can go on, and with every
//! value that the memory model allows a load to return, also those of processors with a weaker
//! order than x86-64. `make loom` runs them.
//!
//! A process is a thread here, and one of them writes: the zone's mutex lets no other one.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;

use crate::atomic::{fence, AtomicU64, Ordering};
use crate::{read_consistent, write_consistent};
use crate::{Blob, Cache, CacheParams, Lease, Lookup, NameTable, Verdict};

const VALUES: [u64; 2] = [0x1111, 0x2222];

/// Runs `test` with all orders in which a thread is interrupted at most so often.
fn check(interruptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.max_branches = 100_000;
    builder.check(test);
}

fn words(count: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// Writes both values under the sequence number, the first word, as two writers do who take turns.
fn write(words: &[AtomicU64]) {
    for value in VALUES {
        write_consistent(&words[0], || {
            words[1].store(value, Ordering::Relaxed);
            words[2].store(value, Ordering::Relaxed);
        });
    }
}

fn read(words: &[AtomicU64]) -> Option<[u64; 2]> {
    let load = |at: usize| words[at].load(Ordering::Relaxed);
    read_consistent(&words[0], || Some([load(1), load(2)]))
}

#[test]
fn a_reader_sees_all_of_a_write_or_nothing_of_it() {
    check(3, || {
        let words = words(3);
        let writer = thread::spawn({
            let words = words.clone();
            move || write(&words)
        });
        if let Some([one, other]) = read(&words) {
            assert_eq!(one, other);
        }
        writer.join().unwrap();
        assert_eq!(read(&words), Some([VALUES[1]; 2]));
    });
}

#[test]
fn a_reader_sees_nothing_of_a_write_whose_process_was_killed() {
    check(3, || {
        let words = words(3);
        let writers = thread::spawn({
            let words = words.clone();
            move || {
                // Killed in the middle.
                words[0].store(1, Ordering::Relaxed);
                loom::sync::atomic::fence(Ordering::Release);
                words[1].store(VALUES[0], Ordering::Relaxed);
                // The next one.
                write_consistent(&words[0], || {
                    words[1].store(VALUES[1], Ordering::Relaxed);
                    words[2].store(VALUES[1], Ordering::Relaxed);
                });
            }
        });
        if let Some([one, other]) = read(&words) {
            assert_eq!(one, other);
        }
        writers.join().unwrap();
        assert_eq!(read(&words), Some([VALUES[1]; 2]));
    });
}

#[test]
fn a_blob_is_read_whole() {
    check(2, || {
        let words = words(4);
        assert!(Blob::new(&words).store(&[7; 8]));
        let writer = thread::spawn({
            let words = words.clone();
            move || assert!(Blob::new(&words).store(&[8; 16]))
        });
        if let Some(bytes) = Blob::new(&words).load() {
            assert!(bytes == [7; 8] || bytes == [8; 16], "{bytes:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_lease_has_one_holder() {
    check(3, || {
        let (word, holders) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let processes = [7, 8].map(|me| {
            let (word, holders) = (word.clone(), holders.clone());
            thread::spawn(move || {
                let Some(guard) = Lease::new(&word).try_take(me, 1_000, 500, |_| true) else {
                    return;
                };
                assert_eq!(holders.fetch_add(1, Ordering::Relaxed), 0);
                holders.fetch_sub(1, Ordering::Relaxed);
                drop(guard);
            })
        });
        processes.into_iter().for_each(|process| process.join().unwrap());
        assert!(Lease::new(&word).is_free(1_000, 500, |_| true));
    });
}

#[test]
fn a_name_is_found_as_long_as_its_table_is_the_published_one() {
    check(3, || {
        // The first word is the number of what is published: the table that lies behind, or another
        // one, whereupon somebody empties this one.
        let words = words(1 + NameTable::words(2));
        let table = |words: &[AtomicU64]| NameTable::new(&words[1..]).contains(&KEYS[0]);
        assert_eq!(NameTable::new(&words[1..]).insert(&KEYS[0]), Some(true));
        let writer = thread::spawn({
            let words = words.clone();
            move || {
                words[0].store(1, Ordering::Release);
                assert_eq!(NameTable::new(&words[1..]).clear(0, usize::MAX), None);
            }
        });
        let is_found = table(&words);
        fence(Ordering::Acquire);
        assert!(is_found || words[0].load(Ordering::Relaxed) == 1);
        writer.join().unwrap();
        assert!(!table(&words));
    });
}

#[test]
fn a_lookup_returns_an_identity_that_is_replaced_whole_or_not_at_all() {
    let seen = lookups_during(|words| insert(words, 0, 2));
    assert_eq!(seen, [true; 3], "nothing, the identity before, the one after");
}

#[test]
fn a_lookup_returns_an_identity_that_another_takes_the_place_of_whole_or_not_at_all() {
    let seen = lookups_during(|words| insert(words, 1, 3));
    assert_eq!(seen, [true, true, false], "nothing, the identity before");
}

#[test]
fn a_lookup_returns_a_large_identity_that_a_small_one_takes_the_place_of_whole_or_not_at_all() {
    // The rest of its block becomes a free one, which begins within its last word.
    let before = |words: &[AtomicU64]| insert_bytes(words, 0, &[1; 64]);
    let seen = lookups_between(ROOM_FOR_TWO, before, |words| insert(words, 1, 3));
    assert_eq!(seen, [true, true, false], "nothing, the identity before");
}

/// Looks up the identity 1 of the first key while another process makes a change; says whether
/// lookups found nothing, 1 and 2.
fn lookups_during(change: fn(&[AtomicU64])) -> [bool; 3] {
    lookups_between(ROOM_FOR_ONE, |words| insert(words, 0, 1), change)
}

/// The same in a cache of so many words after an earlier change.
fn lookups_between(room: usize, before: fn(&[AtomicU64]), change: fn(&[AtomicU64])) -> [bool; 3] {
    let seen: &[AtomicBool; 3] = Box::leak(Box::default());
    check(1, move || {
        let words = words(room);
        before(&words);
        let writer = thread::spawn({
            let words = words.clone();
            move || change(&words)
        });
        // loom lets each of the two begin only if both are threads.
        let reader = thread::spawn(move || look_up(&words, seen));
        writer.join().unwrap();
        reader.join().unwrap();
    });
    seen.each_ref().map(|seen| seen.load(SeqCst))
}

fn insert(words: &[AtomicU64], key: usize, byte: u8) {
    insert_bytes(words, key, &[byte; 8]);
}

fn insert_bytes(words: &[AtomicU64], key: usize, identity: &[u8]) {
    let verdict = Verdict::Valid(identity);
    assert!(Cache::new(words).insert(&KEYS[key], &verdict, 2_000, &PARAMS));
}

fn look_up(words: &[AtomicU64], seen: &[AtomicBool; 3]) {
    let mut identity = Vec::new();
    let found = match Cache::new(words).lookup(&KEYS[0], &PARAMS, &mut identity) {
        Lookup::Valid(age) => {
            assert_eq!(age.expires, 1_060);
            let (first, len) = (identity[0], identity.len());
            let is_whole = identity.iter().all(|byte| *byte == first) && [8, 64].contains(&len);
            assert!(is_whole && [1, 2].contains(&first), "{identity:?}");
            identity[0]
        }
        found => {
            assert_eq!(found, Lookup::Missing);
            0
        }
    };
    seen[usize::from(found)].store(true, SeqCst);
}

const PARAMS: CacheParams =
    CacheParams { generation: 1, now: 1_000, tick: 5, valid_for: 60, refused_for: 60 };

/// Two keys with one tag, of one set and one bucket.
const KEYS: [[u64; 4]; 2] = [[0, 2, 0, 0], [0, 2, 0, 4]];

/// Words of a cache with room for one small identity.
const ROOM_FOR_ONE: usize = 64;

/// Words of a cache with room for one larger identity, or a small one and a rest.
const ROOM_FOR_TWO: usize = 72;
