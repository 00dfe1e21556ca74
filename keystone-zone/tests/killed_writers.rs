//! Writers in other processes that are killed at any moment leave nothing broken behind.
//!
//! Miri has no processes; it runs the tests inside the crate.

#![cfg(not(miri))]

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use keystone_zone::{
    Age, Blob, Cache, CacheParams, ClaimOutcome, ClaimState, Claims, Key, Lookup, Verdict,
};

const WORDS: usize = 1 << 17;
const KEYS: u64 = 300;

#[test]
fn killed_writers_leave_a_cache_and_a_blob_that_work() {
    let words = shared_words();
    let (blob_words, cache_words) = words.split_at(Blob::words(4_096));
    let (blob, cache) = (Blob::new(blob_words), Cache::new(cache_words));
    // Proof that writers were at work when they died, or the test would show nothing.
    let mut caught_in_the_middle = 0;

    for round in 0..200u64 {
        // SAFETY: the child only writes to memory that was mapped before, and never returns.
        let child = unsafe { libc::fork() };
        if child == 0 {
            write_for_ever(&blob, &cache, round);
        }
        assert!(child > 0);
        let deadline = Instant::now() + Duration::from_micros(500 + round * 7);
        while Instant::now() < deadline {
            check(&blob, &cache);
        }
        // SAFETY: the child is ours, and is waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        check(&blob, &cache);
        caught_in_the_middle += u32::from(blob.load().is_none());

        // The next writer goes on as if nothing had happened.
        let payload = payload(round, 4_000);
        assert!(blob.store(&payload));
        assert_eq!(blob.load().unwrap(), payload);
        for n in 0..KEYS {
            let key = key(n);
            assert!(cache.insert(&key, &Verdict::Valid(&payload[..500]), 100, &at(round)));
            let mut out = Vec::new();
            let age = Age { created: 10, created_tick: round, expires: 100 };
            assert_eq!(cache.lookup(&key, &at(round), &mut out), Lookup::Valid(age));
            assert_eq!(out, payload[..500]);
        }
    }
    assert!(caught_in_the_middle > 0, "no writer was killed while it wrote");
}

#[test]
fn killed_holders_leave_claims_that_can_be_taken() {
    let words = &shared_words()[..Claims::words(16)];
    let claims = Claims::new(words);
    let mut caught_with_a_claim = 0;
    for round in 0..200u64 {
        // SAFETY: the child only writes to memory that was mapped before, and never returns.
        let child = unsafe { libc::fork() };
        if child == 0 {
            claim_for_ever(&claims);
        }
        assert!(child > 0);
        std::thread::sleep(Duration::from_micros(500 + round * 7));
        // SAFETY: the child is ours, and is waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        let is_alive = |process: u32| process != child as u32;
        let left = |n| claims.held(&key(n), 10, |_| true).is_some();
        caught_with_a_claim += u32::from((0..KEYS).any(left));
        for n in 0..KEYS {
            assert!(claims.held(&key(n), 10, is_alive).is_none());
            let claim = claims.take(&key(n), std::process::id(), 10, is_alive).unwrap();
            let held = claims.held(&key(n), 10, is_alive).unwrap();
            assert_eq!(held.state(10, is_alive), ClaimState::Held);
            claim.end(ClaimOutcome::Refused(n as u8));
            let ended = ClaimState::Ended(ClaimOutcome::Refused(n as u8));
            assert_eq!(held.state(10, is_alive), ended);
        }
    }
    assert!(caught_with_a_claim > 0, "no process was killed while it had a claim");
}

fn claim_for_ever(claims: &Claims<'_>) -> ! {
    let me = std::process::id();
    for n in 0.. {
        let earlier = claims.take(&key(n % KEYS), me, 10, |_| true);
        let later = claims.take(&key((n + 1) % KEYS), me, 10, |_| true);
        earlier.into_iter().for_each(|claim| claim.end(ClaimOutcome::Answered));
        drop(later);
    }
    unreachable!("the process is killed");
}

fn write_for_ever(blob: &Blob<'_>, cache: &Cache<'_>, round: u64) -> ! {
    for n in 0.. {
        let payload = payload(n ^ round, 900);
        cache.insert(&key(n % KEYS), &Verdict::Valid(&payload), 100, &at(n % 1_000));
        blob.store(&self::payload(n, 4_000));
    }
    unreachable!("the process is killed");
}

/// Whatever a reader finds is whole.
fn check(blob: &Blob<'_>, cache: &Cache<'_>) {
    for n in 0..KEYS {
        let mut out = Vec::new();
        if let Lookup::Valid(_) = cache.lookup(&key(n), &at(0), &mut out) {
            assert!(out.iter().all(|byte| *byte == out[0]), "torn entry");
        }
    }
    if let Some(bytes) = blob.load() {
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn blob");
    }
}

fn at(tick: u64) -> CacheParams {
    CacheParams { generation: 1, now: 10, tick, valid_for: 100, refused_for: 100 }
}

fn payload(n: u64, len: usize) -> Vec<u8> {
    vec![n as u8; len]
}

fn key(n: u64) -> Key {
    [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n << 1 | 1, n, n]
}

fn shared_words() -> &'static [AtomicU64] {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: fresh memory, zeroed, never unmapped, only used through atomics.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), WORDS * 8, protection, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED);
        std::slice::from_raw_parts(memory.cast(), WORDS)
    }
}
