//! Sets of names, such as those of a revocation list.

use crate::atomic::{fence, AtomicU64, Ordering};
use crate::Key;

/// A set of names in shared memory, each under its key.
///
/// One process fills a table that no other one reads yet, in as many steps as it likes, and
/// publishes it by other means. A reader that cannot be sure that the table is still the published
/// one when it has looked must not rely on what it has found.
#[derive(Clone, Copy, Debug)]
pub struct NameTable<'z> {
    words: &'z [AtomicU64],
}

impl<'z> NameTable<'z> {
    /// The table in `words`; zeroed words hold an empty one.
    pub fn new(words: &'z [AtomicU64]) -> Self {
        Self { words }
    }

    /// The number of words that a table of so many slots takes.
    pub const fn words(slots: usize) -> usize {
        slots * SLOT
    }

    /// The number of names that it has room for: with less than an eighth of the slots free, it
    /// takes long to find out that a name is not there.
    pub fn capacity(&self) -> usize {
        Self::capacity_of(self.slots())
    }

    /// The same for a table of so many slots.
    pub const fn capacity_of(slots: usize) -> usize {
        slots - slots.div_ceil(8)
    }

    /// Zeroes `most` words from the word `from` on. Returns where to go on; `None` at the end.
    pub fn clear(&self, from: usize, most: usize) -> Option<usize> {
        // A reader that finds a name gone is to find out as well that the table is no longer the
        // published one.
        fence(Ordering::Release);
        let rest = self.words.get(from..)?;
        let next = &rest[..rest.len().min(most)];
        next.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        (next.len() < rest.len()).then_some(from + next.len())
    }

    /// Adds a name, and says whether it was not there before; `None` if there is no slot for it.
    pub fn insert(&self, key: &Key) -> Option<bool> {
        for slot in self.probe(key) {
            match is_of(slot, key) {
                Some(true) => return Some(false),
                Some(false) => {}
                None => {
                    slot[1].store(key[1], Ordering::Relaxed);
                    slot[0].store(tag(key), Ordering::Relaxed);
                    return Some(true);
                }
            }
        }
        None
    }

    /// Whether the name is there.
    pub fn contains(&self, key: &Key) -> bool {
        for slot in self.probe(key) {
            match is_of(slot, key) {
                Some(true) => return true,
                Some(false) => {}
                None => return false,
            }
        }
        false
    }

    fn slots(&self) -> usize {
        self.words.len() / SLOT
    }

    /// The slots in which the name may be, up to the first free one.
    fn probe(&self, key: &Key) -> impl Iterator<Item = &'z [AtomicU64]> {
        let slots = self.slots().max(1);
        let start = (key[2] % slots as u64) as usize;
        let (before, after) = self.words.split_at((start * SLOT).min(self.words.len()));
        after.chunks_exact(SLOT).chain(before.chunks_exact(SLOT))
    }
}

/// Whether the name in the slot is this one; `None` for a free slot.
fn is_of(slot: &[AtomicU64], key: &Key) -> Option<bool> {
    match slot[0].load(Ordering::Relaxed) {
        0 => None,
        first => Some(first == tag(key) && slot[1].load(Ordering::Relaxed) == key[1]),
    }
}

/// Never zero, which means free.
fn tag(key: &Key) -> u64 {
    key[0] | 1
}

/// The words of a slot.
const SLOT: usize = 2;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::zeroed;

    fn key(n: u64) -> Key {
        [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n, n.wrapping_mul(0xd134_2543_de82_ef95) >> 7, 0]
    }

    #[test]
    fn what_was_added_is_there_and_nothing_else() {
        let words = zeroed(NameTable::words(1_000));
        let table = NameTable::new(&words);
        let names = table.capacity() as u64;
        assert_eq!(names, 875);
        for n in 0..names {
            assert_eq!(table.insert(&key(n)), Some(true));
            assert_eq!(table.insert(&key(n)), Some(false));
        }
        assert!((0..names).all(|n| table.contains(&key(n))));
        assert!(!(names..10 * names).any(|n| table.contains(&key(n))));
    }

    #[test]
    fn a_full_table_takes_no_more_and_is_searched_to_its_end() {
        let words = zeroed(NameTable::words(3));
        let table = NameTable::new(&words);
        let added = (0..4).map(|n| table.insert(&key(n)));
        assert_eq!(added.collect::<Vec<_>>(), [Some(true), Some(true), Some(true), None]);
        assert!((0..3).all(|n| table.contains(&key(n))));
        assert!(!table.contains(&key(3)));
    }

    #[test]
    fn it_is_cleared_in_steps() {
        let words = zeroed(NameTable::words(10));
        let table = NameTable::new(&words);
        for n in 0..5 {
            table.insert(&key(n));
        }
        assert_eq!(table.clear(0, 8), Some(8));
        assert_eq!(table.clear(8, 11), Some(19));
        assert_eq!(table.clear(19, 100), None);
        assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert_eq!(table.clear(30, 1), None);
    }

    #[test]
    fn no_memory_is_an_empty_table() {
        let table = NameTable::new(&[]);
        assert_eq!(table.capacity(), 0);
        assert_eq!(table.insert(&key(1)), None);
        assert!(!table.contains(&key(1)));
    }
}
