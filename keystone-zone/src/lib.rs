//! Data that several processes share, as safe code over a slice of atomics.
//!
//! The module maps nginx's shared memory to one `&[AtomicU64]` at a single place; all that is
//! kept there is laid out by this crate, which needs neither nginx nor `unsafe` and so can be
//! tested, also with writers that die in the middle.
//!
//! # Memory model
//! Every word is an atomic, so a reader that races with a writer in another process reads some
//! mixture of old and new words, which is no undefined behaviour, only a wrong answer; a sequence
//! number tells it (Boehm, "Can seqlocks get along with programming language memory models?",
//! MSPC 2012, section 4):
//!
//! * a writer makes the number odd, issues a release fence, stores the words (relaxed), and makes
//!   the number even again with a release store;
//! * a reader loads the number (acquire), gives up if it is odd, loads the words (relaxed), issues
//!   an acquire fence and loads the number again: if it has not changed, no store of a writer lies
//!   in between.
//!
//! Writers exclude one another with a mutex that is not part of this crate (nginx's slab mutex,
//! which nginx itself unlocks when its holder dies). A writer that is killed in the middle leaves
//! an odd number: the place counts as empty until the next writer takes it.
//!
//! The tests in `model.rs` check this with loom, for the memory model and not for one processor.

#![forbid(unsafe_code)]

mod atomic;
mod blob;
mod cache;
mod claims;
mod counters;
mod lease;
#[cfg(all(test, loom))]
mod model;
mod names;
pub mod shares;

pub use blob::Blob;
pub use cache::{Age, Cache, CacheParams, Key, Lookup, Occupancy, Verdict};
pub use claims::{Claim, ClaimOutcome, ClaimState, Claims, HeldClaim, CLAIM_TIME};
pub use counters::{Counters, Row, Rows};
pub use lease::{Lease, LeaseGuard};
pub use names::NameTable;

use self::atomic::{fence, AtomicU64, Ordering};

/// Size of a word of shared memory, in bytes.
pub const WORD: usize = 8;

/// Words in a cache line.
const LINE: usize = 64 / WORD;

/// Reads under the sequence number `seq`; `None` where a writer was at work, or died at it.
fn read_consistent<T>(seq: &AtomicU64, read: impl FnOnce() -> Option<T>) -> Option<T> {
    let before = seq.load(Ordering::Acquire);
    if before % 2 == 1 {
        return None;
    }
    let value = read()?;
    fence(Ordering::Acquire);
    (seq.load(Ordering::Relaxed) == before).then_some(value)
}

/// Writes under the sequence number `seq`. The caller holds the zone's mutex.
fn write_consistent(seq: &AtomicU64, write: impl FnOnce()) {
    // A writer that died left an odd number: it stays odd, and ends even, as for any other write.
    let odd = seq.load(Ordering::Relaxed) | 1;
    seq.store(odd, Ordering::Relaxed);
    fence(Ordering::Release);
    write();
    seq.store(odd.wrapping_add(1), Ordering::Release);
}

/// Stores `bytes` into as many words as they need, the last one filled up with zeros.
fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(WORD)) {
        let mut value = [0; WORD];
        value[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
    }
}

/// Appends the first `len` bytes of `words` to `out`; `false` where there are not as many.
fn load_bytes(words: &[AtomicU64], len: usize, out: &mut Vec<u8>) -> bool {
    if len.div_ceil(WORD) > words.len() {
        return false;
    }
    out.reserve(len.next_multiple_of(WORD));
    let end = out.len() + len;
    for word in &words[..len.div_ceil(WORD)] {
        out.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    out.truncate(end);
    true
}

#[cfg(all(test, not(loom)))]
fn zeroed(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// How often a test repeats something; less often under Miri, which is slower by orders of
/// magnitude.
#[cfg(all(test, not(loom)))]
const fn repetitions(usual: u64) -> u64 {
    if cfg!(miri) {
        usual / 200
    } else {
        usual
    }
}
