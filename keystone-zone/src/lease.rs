//! Leases: work that one process does for all.

use crate::atomic::{AtomicU64, Ordering};

/// Who may do a piece of work that one process should do for all.
///
/// A lease has a holder and an end, so that it comes free also when its holder hangs; whether the
/// holder still lives is for the caller to tell ([`Lease::try_take`]'s `alive`). Zero is nobody's.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'z>(&'z AtomicU64);

/// The upper bits hold the end in milliseconds, the lower ones the holder (Linux's greatest
/// process id is 2^22).
const HOLDER_BITS: u32 = 22;
const HOLDER_MASK: u64 = (1 << HOLDER_BITS) - 1;

/// Milliseconds that one process's reading of the clock may be behind another's.
const CLOCK_LAG: u64 = 1_000;

impl<'z> Lease<'z> {
    /// The lease whose state is in `word`.
    pub fn new(word: &'z AtomicU64) -> Self {
        Self(word)
    }

    /// Takes the lease for the process `me` until `now + duration` (milliseconds) if it is free.
    pub fn try_take(
        &self,
        me: u32,
        now: u64,
        duration: u64,
        alive: impl FnOnce(u32) -> bool,
    ) -> Option<LeaseGuard<'z>> {
        let held = self.0.load(Ordering::Acquire);
        let me = u64::from(me) & HOLDER_MASK;
        let free = held & HOLDER_MASK == me || is_free(held, now, duration, alive);
        let mine = (now + duration) << HOLDER_BITS | me;
        let taken = free
            && self.0.compare_exchange(held, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        taken.then_some(LeaseGuard { lease: *self, me })
    }

    /// Whether a process could take it now: nobody holds it, it has ended, or `alive` says its
    /// holder is gone.
    pub fn is_free(&self, now: u64, duration: u64, alive: impl FnOnce(u32) -> bool) -> bool {
        is_free(self.0.load(Ordering::Acquire), now, duration, alive)
    }
}

fn is_free(held: u64, now: u64, duration: u64, alive: impl FnOnce(u32) -> bool) -> bool {
    let (end, holder) = (held >> HOLDER_BITS, (held & HOLDER_MASK) as u32);
    // An end that no holder can have set by this clock was set before the clock was set back.
    let is_over = end <= now || end > now.saturating_add(duration).saturating_add(CLOCK_LAG);
    held == 0 || is_over || !alive(holder)
}

/// A lease that is held. It is given back when this is dropped, on whichever way.
#[derive(Debug)]
#[must_use = "dropping the guard gives the lease back"]
pub struct LeaseGuard<'z> {
    lease: Lease<'z>,
    me: u64,
}

impl LeaseGuard<'_> {
    /// Extends the lease until `now + duration`, unless another process has taken it.
    pub fn renew(&self, now: u64, duration: u64) {
        let word = self.lease.0;
        let held = word.load(Ordering::Relaxed);
        if held & HOLDER_MASK == self.me {
            let longer = (now + duration) << HOLDER_BITS | self.me;
            let _ = word.compare_exchange(held, longer, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

impl Drop for LeaseGuard<'_> {
    fn drop(&mut self) {
        // Another process may have it by now, where this one took longer than the lease.
        let word = self.lease.0;
        let held = word.load(Ordering::Relaxed);
        if held & HOLDER_MASK == self.me {
            let _ = word.compare_exchange(held, 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        let guard = lease.try_take(7, 1_000, 500, |_| true).unwrap();
        let other = lease.try_take(8, 1_100, 500, |holder| {
            assert_eq!(holder, 7);
            true
        });
        assert!(other.is_none());
        assert!(!lease.is_free(1_100, 500, |_| true));
        drop(guard);
        assert!(lease.is_free(1_100, 500, |_| true));
        assert!(lease.try_take(8, 1_100, 500, |_| true).is_some());
    }

    #[test]
    fn it_ends_with_its_time_or_its_holder() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        let _first = lease.try_take(7, 1_000, 500, |_| true).unwrap();
        assert!(lease.try_take(8, 1_499, 500, |_| true).is_none());
        let _second = lease.try_take(8, 1_500, 500, |_| true).unwrap();
        assert!(lease.try_take(9, 1_501, 500, |_| false).is_some());
    }

    #[test]
    fn its_holder_extends_it_and_nobody_else() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        let first = lease.try_take(7, 1_000, 500, |_| true).unwrap();
        first.renew(1_400, 500);
        assert!(lease.try_take(8, 1_600, 500, |_| true).is_none());
        let _next = lease.try_take(8, 1_900, 500, |_| true).unwrap();
        first.renew(2_000, 500);
        assert!(lease.try_take(9, 2_400, 500, |_| true).is_some());
    }

    #[test]
    fn a_guard_that_was_overtaken_leaves_the_lease_to_its_new_holder() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        let slow = lease.try_take(7, 1_000, 500, |_| true).unwrap();
        let _next = lease.try_take(8, 1_500, 500, |_| true).unwrap();
        drop(slow);
        assert!(lease.try_take(9, 1_600, 500, |_| true).is_none());
    }

    #[test]
    fn a_panic_gives_it_back() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        let died = std::panic::catch_unwind(|| {
            let _guard = lease.try_take(7, 1_000, 500, |_| true);
            panic!("in the middle of the work");
        });
        assert!(died.is_err());
        assert!(lease.is_free(1_000, 500, |_| true));
    }

    #[test]
    fn one_that_was_taken_before_the_clock_was_set_back_is_free() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        let _guard = lease.try_take(7, 100_000, 500, |_| true).unwrap();
        // Another process's reading of the clock may be a little behind.
        assert!(lease.try_take(8, 99_900, 500, |_| true).is_none());
        assert!(lease.try_take(8, 1_000, 500, |_| true).is_some());
    }
}
