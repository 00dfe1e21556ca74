//! Counters of all processes together.

use crate::atomic::{AtomicU64, Ordering};
use crate::LINE;

/// Numbers that only grow, for all processes together. Every access is relaxed: the counters say
/// nothing about the order of events. A process that dies between two additions has made the first.
#[derive(Clone, Copy)]
pub struct Counters<'z>(&'z [AtomicU64]);

impl<'z> Counters<'z> {
    /// The counters in `words`; zeroed words are zeros.
    pub fn new(words: &'z [AtomicU64]) -> Self {
        Self(words)
    }

    /// Adds to the counter of this place; one that is not there counts nothing.
    pub fn add(&self, at: usize, number: u64) {
        if let Some(word) = self.0.get(at) {
            word.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// What a counter is at.
    pub fn read(&self, at: usize) -> u64 {
        self.0.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

/// Counters of which each process has a row of its own, so that counting costs it no cache line
/// that another one wants. What they are at is the sum of all rows.
///
/// A row belongs to the process whose number it begins with; that of a dead process goes, with what
/// it has counted, to the next that asks. Where there are more processes than rows, some share one,
/// which costs them time and nothing else.
#[derive(Clone, Copy)]
pub struct Rows<'z> {
    words: &'z [AtomicU64],
    /// Number of words in a row.
    width: usize,
}

/// The row that a process counts in.
#[derive(Clone, Copy)]
pub struct Row<'z> {
    /// Who has asked for it.
    me: u32,
    owner: &'z AtomicU64,
    counters: Counters<'z>,
    /// Its place among the rows.
    pub index: usize,
}

impl<'z> Rows<'z> {
    /// Rows of `cells` counters in `words`, as many as fit; zeroed words are rows without owners.
    ///
    /// # Panics
    /// If there is no room for one.
    pub fn new(words: &'z [AtomicU64], cells: usize) -> Self {
        let width = Self::width(cells);
        assert!(words.len() >= width, "no room for a row of counters");
        Self { words, width }
    }

    /// The number of words that `rows` rows of `cells` counters take.
    pub const fn words(rows: usize, cells: usize) -> usize {
        rows * Self::width(cells)
    }

    const fn width(cells: usize) -> usize {
        (FIRST + cells).next_multiple_of(LINE)
    }

    /// The number of counters.
    pub fn len(&self) -> usize {
        self.words.len() / self.width
    }

    /// Whether there are none, which [`Rows::new`] sees to.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn row(&self, index: usize) -> Row<'z> {
        let row = &self.words[index * self.width..(index + 1) * self.width];
        Row { me: 0, owner: &row[OWNER], counters: Counters::new(&row[FIRST..]), index }
    }

    fn all(&self) -> impl Iterator<Item = Row<'z>> + use<'z> {
        let this = *self;
        (0..this.len()).map(move |index| this.row(index))
    }

    /// Takes a row for the process `me`. Rows of dead processes are freed first, and so is a row that
    /// has the number `me` already: a dead process had the same number. `freed` is called with the
    /// index of each of them. The caller holds the zone's mutex.
    pub fn take(
        &self,
        me: u32,
        alive: impl Fn(u32) -> bool,
        mut freed: impl FnMut(usize),
    ) -> Row<'z> {
        for row in self.all() {
            let owner = row.owner();
            if owner == me || owner != 0 && !alive(owner) {
                freed(row.index);
                row.owner.store(0, Ordering::Relaxed);
            }
        }
        let row = match self.all().find(|row| row.owner() == 0) {
            Some(row) => {
                row.owner.store(me.into(), Ordering::Relaxed);
                row
            }
            None => self.row(me as usize % self.len()),
        };
        Row { me, ..row }
    }

    /// The sum of a counter over all rows.
    pub fn sum(&self, at: usize) -> u64 {
        self.all().fold(0, |sum, row| sum.wrapping_add(row.counters.read(at)))
    }

    /// Whose row this is, if anybody's.
    pub fn owner(&self, index: usize) -> Option<u32> {
        let owner = (index < self.len()).then(|| self.row(index).owner());
        owner.filter(|owner| *owner != 0)
    }
}

impl Row<'_> {
    /// Adds `number` to the counter at index `at`.
    pub fn add(&self, at: usize, number: u64) {
        self.counters.add(at, number);
    }

    /// Whether it belongs to the process that has asked for it, and to no other.
    pub fn is_own(&self) -> bool {
        self.owner() == self.me
    }

    fn owner(&self) -> u32 {
        self.owner.load(Ordering::Relaxed) as u32
    }
}

const OWNER: usize = 0;
const FIRST: usize = 1;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{repetitions, zeroed};

    const CELLS: usize = 9;

    #[test]
    fn a_counter_counts_and_one_that_is_not_there_does_not() {
        let words = zeroed(2);
        let counters = Counters::new(&words);
        counters.add(1, 3);
        counters.add(1, 4);
        counters.add(2, 5);
        assert_eq!([0, 1, 2].map(|at| counters.read(at)), [0, 7, 0]);
    }

    #[test]
    fn rows_lie_on_cache_lines_of_their_own() {
        assert_eq!(Rows::words(1, 7), 8);
        assert_eq!(Rows::words(3, 8), 48);
        let words = zeroed(Rows::words(4, CELLS) + 15);
        assert_eq!(Rows::new(&words, CELLS).len(), 4);
    }

    #[test]
    fn each_process_has_a_row_and_the_sum_is_of_all() {
        let words = zeroed(Rows::words(3, CELLS));
        let rows = Rows::new(&words, CELLS);
        let taken = [7, 8, 9].map(|me| rows.take(me, |_| true, |_| panic!("nobody has died")));
        assert_eq!(taken.map(|row| row.index), [0, 1, 2]);
        for (row, number) in taken.iter().zip([1, 10, 100]) {
            row.add(8, number);
            row.add(0, 1);
        }
        assert_eq!((rows.sum(8), rows.sum(0), rows.sum(1)), (111, 3, 0));
        assert!(taken.iter().all(Row::is_own));
        assert_eq!([0, 2, 3].map(|index| rows.owner(index)), [Some(7), Some(9), None]);
    }

    #[test]
    fn a_dead_processs_row_goes_on_with_what_it_has_counted() {
        let words = zeroed(Rows::words(2, CELLS));
        let rows = Rows::new(&words, CELLS);
        for me in [7, 8] {
            rows.take(me, |_| true, |_| {}).add(0, 5);
        }
        let mut freed = Vec::new();
        let row = rows.take(9, |process| process != 7, |index| freed.push(index));
        assert_eq!((row.index, freed), (0, vec![0]));
        row.add(0, 1);
        assert_eq!(rows.sum(0), 11);
    }

    #[test]
    fn a_process_with_the_number_of_a_dead_one_has_one_row() {
        let words = zeroed(Rows::words(3, CELLS));
        let rows = Rows::new(&words, CELLS);
        rows.take(7, |_| true, |_| {});
        rows.take(8, |_| true, |_| {});
        let mut freed = Vec::new();
        // The first row is free when the process 8 comes again.
        let row = rows.take(8, |process| process != 7, |index| freed.push(index));
        assert_eq!((row.index, freed), (0, vec![0, 1]));
        assert_eq!([0, 1].map(|index| rows.owner(index)), [Some(8), None]);
    }

    #[test]
    fn more_processes_than_rows_share_them() {
        let words = zeroed(Rows::words(2, CELLS));
        let rows = Rows::new(&words, CELLS);
        let taken: Vec<_> = (1..=5).map(|me| rows.take(me, |_| true, |_| {})).collect();
        for row in &taken {
            row.add(3, 1);
        }
        assert_eq!(rows.sum(3), 5);
        assert_eq!([0, 1, 2, 3, 4].map(|at| taken[at].is_own()), [true, true, false, false, false]);
    }

    #[test]
    fn threads_lose_no_count() {
        let words = zeroed(Rows::words(2, CELLS));
        let rows = Rows::new(&words, CELLS);
        std::thread::scope(|scope| {
            for me in 1..=4 {
                let row = rows.take(me, |_| true, |_| {});
                scope.spawn(move || (0..repetitions(10_000)).for_each(|_| row.add(2, 1)));
            }
        });
        assert_eq!(rows.sum(2), 4 * repetitions(10_000));
    }
}
