use std::sync::atomic::{AtomicU64, Ordering};

/// Who may do a piece of work that one process should do for all.
///
/// A lease has a holder and an end, so that it comes free also when its holder hangs; whether the
/// holder still lives is for the caller to tell ([`Lease::try_take`]'s `alive`).  Zero is nobody's.
#[derive(Clone, Copy)]
pub struct Lease<'z>(&'z AtomicU64);

/// The upper bits hold the end in milliseconds, the lower ones the holder (Linux's greatest
/// process id is 2^22).
const HOLDER_BITS: u32 = 22;
const HOLDER_MASK: u64 = (1 << HOLDER_BITS) - 1;

impl<'z> Lease<'z> {
    /// The lease in `word`.
    pub fn new(word: &'z AtomicU64) -> Self {
        Self(word)
    }

    /// Takes the lease for the process `me` until `now + duration` (milliseconds) if nobody, or
    /// `me`, holds it, it has ended, or `alive` says its holder is gone.
    pub fn try_take(
        &self,
        me: u32,
        now: u64,
        duration: u64,
        alive: impl FnOnce(u32) -> bool,
    ) -> bool {
        let held = self.0.load(Ordering::Acquire);
        let holder = held & HOLDER_MASK;
        let me = u64::from(me) & HOLDER_MASK;
        let free = held == 0 || holder == me || held >> HOLDER_BITS <= now || !alive(holder as u32);
        let mine = (now + duration) << HOLDER_BITS | me;
        free && self.0.compare_exchange(held, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Gives it back, if `me` still holds it.
    pub fn release(&self, me: u32) {
        let held = self.0.load(Ordering::Relaxed);
        if held & HOLDER_MASK == u64::from(me) & HOLDER_MASK {
            let _ = self.0.compare_exchange(held, 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        assert!(lease.try_take(7, 1_000, 500, |_| true));
        assert!(!lease.try_take(8, 1_100, 500, |holder| {
            assert_eq!(holder, 7);
            true
        }));
        assert!(lease.try_take(7, 1_100, 500, |_| true));
        lease.release(8);
        assert!(!lease.try_take(8, 1_100, 500, |_| true));
        lease.release(7);
        assert!(lease.try_take(8, 1_100, 500, |_| true));
    }

    #[test]
    fn it_ends_with_its_time_or_its_holder() {
        let word = AtomicU64::new(0);
        let lease = Lease::new(&word);
        assert!(lease.try_take(7, 1_000, 500, |_| true));
        assert!(!lease.try_take(8, 1_499, 500, |_| true));
        assert!(lease.try_take(8, 1_500, 500, |_| true));
        assert!(lease.try_take(9, 1_501, 500, |_| false));
    }
}
