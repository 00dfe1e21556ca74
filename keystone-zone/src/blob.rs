//! A byte string that one process publishes for all.

use crate::atomic::{AtomicU64, Ordering};
use crate::{load_bytes, read_consistent, store_bytes, write_consistent, WORD};

const SEQ: usize = 0;
const LEN: usize = 1;
const HEADER: usize = 2;

/// One byte string that a worker publishes for all: a snapshot, a service token.
#[derive(Clone, Copy)]
pub struct Blob<'z> {
    words: &'z [AtomicU64],
}

impl<'z> Blob<'z> {
    /// The blob in `words`; zeroed words hold an empty one.
    ///
    /// # Panics
    /// If there are fewer words than [`Blob::words`] gives for an empty one.
    pub fn new(words: &'z [AtomicU64]) -> Self {
        assert!(words.len() >= HEADER, "no room for a blob's header");
        Self { words }
    }

    /// The number of words that a blob of up to `capacity` bytes needs.
    pub const fn words(capacity: usize) -> usize {
        HEADER + capacity.div_ceil(WORD)
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        (self.words.len() - HEADER) * WORD
    }

    /// A copy of what was last published, empty where nothing was; `None` where a writer is at
    /// work, or was killed at it.
    pub fn load(&self) -> Option<Vec<u8>> {
        read_consistent(&self.words[SEQ], || {
            let len = usize::try_from(self.words[LEN].load(Ordering::Relaxed)).ok()?;
            let mut bytes = Vec::new();
            load_bytes(&self.words[HEADER..], len, &mut bytes).then_some(bytes)
        })
    }

    /// Publishes `bytes`; `false`, and nothing is changed, where they do not fit. The caller holds
    /// the zone's mutex.
    pub fn store(&self, bytes: &[u8]) -> bool {
        if bytes.len() > self.capacity() {
            return false;
        }
        write_consistent(&self.words[SEQ], || {
            self.words[LEN].store(bytes.len() as u64, Ordering::Relaxed);
            store_bytes(&self.words[HEADER..], bytes);
        });
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::zeroed;

    #[test]
    fn what_is_stored_is_loaded() {
        let words = zeroed(Blob::words(20));
        let blob = Blob::new(&words);
        assert_eq!(blob.load().unwrap(), b"");
        for text in [&b"twenty bytes exactly"[..], b"less", b""] {
            assert!(blob.store(text));
            assert_eq!(blob.load().unwrap(), text);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_and_changes_nothing() {
        let words = zeroed(Blob::words(8));
        let blob = Blob::new(&words);
        assert!(blob.store(b"12345678"));
        assert!(!blob.store(b"123456789"));
        assert_eq!(blob.load().unwrap(), b"12345678");
    }

    #[test]
    fn a_writer_that_died_leaves_nothing_to_read_until_the_next_one() {
        let words = zeroed(Blob::words(8));
        let blob = Blob::new(&words);
        blob.store(b"old");
        words[SEQ].fetch_add(1, Ordering::Relaxed);
        assert_eq!(blob.load(), None);
        assert!(blob.store(b"new"));
        assert_eq!(blob.load().unwrap(), b"new");
    }

    #[test]
    fn a_length_beyond_the_words_is_no_value() {
        let words = zeroed(Blob::words(8));
        words[LEN].store(9, Ordering::Relaxed);
        assert_eq!(Blob::new(&words).load(), None);
    }
}
