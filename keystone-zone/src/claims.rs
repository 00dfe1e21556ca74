//! Questions that several processes have at once and one of them asks.

use std::mem;

use crate::atomic::{AtomicU64, Ordering};
use crate::{Key, Lease, LeaseGuard, LINE};

/// Which process answers a question that several have at once, each question under a key.
///
/// A table of fixed size: a question that finds no free slot is asked without a claim, by each
/// process that has it. A slot has a [`Lease`], the key, the number of the claim, and the outcome of
/// the last claim that came to an end. The lease is taken first: what a process that is killed in
/// the middle leaves in a slot has no living holder, and so the slot is free.
#[derive(Clone, Copy)]
pub struct Claims<'z> {
    words: &'z [AtomicU64],
}

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// With an answer, which is in the cache if it has room there.
    Answered,
    /// Without an answer: those who have waited would get none either.
    Failed,
    /// With a refusal, for the reason of this number, whether it is in the cache or not.
    Refused(u8),
}

/// What became of the claim of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Its holder is at work.
    Held,
    /// Its holder has given it up, or is gone, or its outcome was overwritten by the next one's.
    Lost,
    /// It has ended in this way.
    Ended(ClaimOutcome),
}

impl<'z> Claims<'z> {
    /// The claims in `words`, which begin at a cache line; zeroed words hold none.
    pub fn new(words: &'z [AtomicU64]) -> Self {
        Self { words }
    }

    /// The number of words that a table takes of so many slots, rounded up to whole sets.
    pub const fn words(slots: usize) -> usize {
        slots.div_ceil(WAYS) * WAYS * SLOT
    }

    /// The claim for `key` that another process holds at `now` (milliseconds). The caller holds the
    /// zone's mutex.
    pub fn held(&self, key: &Key, now: u64, alive: impl Fn(u32) -> bool) -> Option<HeldClaim<'z>> {
        let is_of_key = |slot: &Slot<'z>| slot.has_key(key) && !slot.is_free(now, &alive);
        let slot = self.set(key).find(is_of_key)?;
        Some(HeldClaim { slot, number: slot.number() })
    }

    /// Claims `key`, which is not [`held`](Self::held), for the process `me` until
    /// `now + `[`CLAIM_TIME`]; `None` where there is no room. The caller holds the zone's mutex.
    pub fn take(
        &self,
        key: &Key,
        me: u32,
        now: u64,
        alive: impl Fn(u32) -> bool,
    ) -> Option<Claim<'z>> {
        let slot = self.set(key).find(|slot| slot.is_free(now, &alive))?;
        let lease = slot.lease().try_take(me, now, CLAIM_TIME, &alive)?;
        let number = slot.number().wrapping_add(1);
        slot.words[NUMBER].store(number, Ordering::Release);
        for (word, part) in slot.key().iter().zip(key) {
            word.store(*part, Ordering::Relaxed);
        }
        Some(Claim { slot, number, lease: Some(lease) })
    }

    /// The slots that the claim for `key` may be in.
    fn set(&self, key: &Key) -> impl Iterator<Item = Slot<'z>> {
        let sets = (self.words.len() / SLOT / WAYS).max(1);
        let at = (key[2] % sets as u64) as usize;
        let set = self.words.chunks_exact(SLOT * WAYS).nth(at).unwrap_or_default();
        set.chunks_exact(SLOT).map(|words| Slot { words })
    }
}

/// A claim of this process. It is given up when this is dropped, on whichever way.
#[derive(Debug)]
#[must_use = "dropping the claim gives it up"]
pub struct Claim<'z> {
    slot: Slot<'z>,
    number: u64,
    /// `None` once it is given back.
    lease: Option<LeaseGuard<'z>>,
}

impl Claim<'_> {
    /// Extends it until `now + `[`CLAIM_TIME`], unless another process has overtaken it.
    pub fn renew(&self, now: u64) {
        if let Some(lease) = self.lease.as_ref().filter(|_| !self.is_overtaken()) {
            lease.renew(now, CLAIM_TIME);
        }
    }

    /// Ends it, and tells those who wait how.
    pub fn end(self, outcome: ClaimOutcome) {
        if !self.is_overtaken() {
            self.slot.words[OUTCOME].store(packed(self.number, outcome), Ordering::Release);
        }
    }

    fn is_overtaken(&self) -> bool {
        self.slot.number() != self.number
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let lease = self.lease.take();
        // Of a claim that was overtaken, the lease is another claim's, perhaps of this process too.
        if self.is_overtaken() {
            mem::forget(lease);
        }
    }
}

/// A claim of another process.
#[derive(Clone, Copy, Debug)]
pub struct HeldClaim<'z> {
    slot: Slot<'z>,
    number: u64,
}

impl HeldClaim<'_> {
    /// What has become of it. Takes no lock.
    pub fn state(&self, now: u64, alive: impl Fn(u32) -> bool) -> ClaimState {
        let is_held = !self.slot.is_free(now, alive) && self.slot.number() == self.number;
        // In this order: the outcome is stored before the lease is given back.
        match unpacked(self.slot.words[OUTCOME].load(Ordering::Acquire)) {
            (number, outcome) if number == self.number & NUMBER_MASK => ClaimState::Ended(outcome),
            _ if is_held => ClaimState::Held,
            _ => ClaimState::Lost,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot<'z> {
    words: &'z [AtomicU64],
}

impl<'z> Slot<'z> {
    fn lease(&self) -> Lease<'z> {
        Lease::new(&self.words[LEASE])
    }

    fn number(&self) -> u64 {
        self.words[NUMBER].load(Ordering::Acquire)
    }

    fn key(&self) -> &'z [AtomicU64] {
        &self.words[KEY..KEY + 4]
    }

    fn has_key(&self, key: &Key) -> bool {
        self.key().iter().zip(key).all(|(word, part)| word.load(Ordering::Relaxed) == *part)
    }

    fn is_free(&self, now: u64, alive: impl Fn(u32) -> bool) -> bool {
        self.lease().is_free(now, CLAIM_TIME, alive)
    }
}

/// The number of a claim and its outcome, in a word.
fn packed(number: u64, outcome: ClaimOutcome) -> u64 {
    let outcome = match outcome {
        ClaimOutcome::Answered => 1,
        ClaimOutcome::Failed => 2,
        ClaimOutcome::Refused(reason) => REFUSED | u64::from(reason),
    };
    number << OUTCOME_BITS | outcome
}

fn unpacked(word: u64) -> (u64, ClaimOutcome) {
    let outcome = match word & OUTCOME_MASK {
        refused if refused & REFUSED != 0 => ClaimOutcome::Refused(refused as u8),
        1 => ClaimOutcome::Answered,
        _ => ClaimOutcome::Failed,
    };
    (word >> OUTCOME_BITS, outcome)
}

/// Milliseconds after which a claim is free that its holder has not renewed.
pub const CLAIM_TIME: u64 = 3_000;

/// The words of a slot, which is one cache line.
const SLOT: usize = LINE;
const LEASE: usize = 0;
const NUMBER: usize = 1;
const OUTCOME: usize = 2;
const KEY: usize = 3;

/// Slots that a key can be in.
const WAYS: usize = 4;

const OUTCOME_BITS: u32 = 9;
const OUTCOME_MASK: u64 = (1 << OUTCOME_BITS) - 1;
const NUMBER_MASK: u64 = u64::MAX >> OUTCOME_BITS;
const REFUSED: u64 = 1 << 8;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::zeroed;

    const ME: u32 = 7;
    const OTHER: u32 = 8;

    fn alive(_: u32) -> bool {
        true
    }

    fn key(n: u64) -> Key {
        [n, n, n, n]
    }

    #[test]
    fn one_process_claims_a_key_and_the_others_see_how_that_ends() {
        let words = zeroed(Claims::words(4));
        let claims = Claims::new(&words);
        for outcome in [
            ClaimOutcome::Answered,
            ClaimOutcome::Failed,
            ClaimOutcome::Refused(0),
            ClaimOutcome::Refused(255),
        ] {
            assert!(claims.held(&key(1), 1_000, alive).is_none());
            let claim = claims.take(&key(1), ME, 1_000, alive).unwrap();
            let held = claims.held(&key(1), 1_010, alive).unwrap();
            assert!(claims.held(&key(2), 1_010, alive).is_none());
            assert_eq!(held.state(1_020, alive), ClaimState::Held);
            claim.end(outcome);
            assert_eq!(held.state(1_030, alive), ClaimState::Ended(outcome));
        }
    }

    #[test]
    fn an_outcome_is_there_while_the_next_process_claims_the_key() {
        let words = zeroed(Claims::words(4));
        let claims = Claims::new(&words);
        let claim = claims.take(&key(1), ME, 1_000, alive).unwrap();
        let held = claims.held(&key(1), 1_000, alive).unwrap();
        claim.end(ClaimOutcome::Failed);
        let _next = claims.take(&key(1), OTHER, 1_001, alive).unwrap();
        assert_eq!(held.state(1_002, alive), ClaimState::Ended(ClaimOutcome::Failed));
        let next = claims.held(&key(1), 1_002, alive).unwrap();
        assert_eq!(next.state(1_002, alive), ClaimState::Held);
    }

    #[test]
    fn a_claim_whose_holder_died_or_gave_up_or_hangs_is_lost() {
        let words = zeroed(Claims::words(4));
        let claims = Claims::new(&words);
        let claim = claims.take(&key(1), ME, 1_000, alive).unwrap();
        let held = claims.held(&key(1), 1_000, alive).unwrap();
        assert_eq!(held.state(1_001, |process| process != ME), ClaimState::Lost);
        assert!(claims.held(&key(1), 1_001, |_| false).is_none());
        // It hangs.
        assert_eq!(held.state(999 + CLAIM_TIME, alive), ClaimState::Held);
        assert_eq!(held.state(1_000 + CLAIM_TIME, alive), ClaimState::Lost);
        claim.renew(2_000);
        assert_eq!(held.state(1_999 + CLAIM_TIME, alive), ClaimState::Held);
        drop(claim);
        assert_eq!(held.state(2_001, alive), ClaimState::Lost);
    }

    #[test]
    fn one_that_was_overtaken_neither_ends_nor_renews_the_claim_of_its_successor() {
        for successor in [OTHER, ME] {
            let words = zeroed(Claims::words(1));
            let claims = Claims::new(&words);
            // Every slot of the set is taken, and comes free.
            let slow: Vec<_> =
                (0..4).map(|n| claims.take(&key(n), ME, 1_000, alive).unwrap()).collect();
            assert!(claims.take(&key(5), OTHER, 1_001, alive).is_none());
            let now = 1_000 + CLAIM_TIME;
            let next: Vec<_> =
                (5..9).map(|n| claims.take(&key(n), successor, now, alive).unwrap()).collect();
            slow.iter().for_each(|claim| claim.renew(now + 100));
            slow.into_iter().for_each(|claim| claim.end(ClaimOutcome::Answered));
            for n in 5..9 {
                let held = claims.held(&key(n), now + 1, alive).unwrap();
                assert_eq!(held.state(now + 1, alive), ClaimState::Held);
                assert_eq!(held.state(now + CLAIM_TIME, alive), ClaimState::Lost);
            }
            drop(next);
        }
    }

    #[test]
    fn what_a_killed_process_leaves_at_any_step_is_a_free_slot() {
        // The words that taking a claim writes, in their order: it may be killed before each.
        let whole = zeroed(Claims::words(1));
        Claims::new(&whole).take(&key(1), ME, 1_000, alive).map(mem::forget).unwrap();
        let is_alive = |process| process != ME;
        for written in 0..=KEY + 4 {
            let words = zeroed(Claims::words(1));
            let claims = Claims::new(&words);
            let before = claims.take(&key(9), OTHER, 10, alive).unwrap();
            let waiting = claims.held(&key(9), 10, alive).unwrap();
            before.end(ClaimOutcome::Answered);
            for at in [LEASE, NUMBER, KEY, KEY + 1, KEY + 2, KEY + 3].iter().take(written) {
                words[*at].store(
                    whole[*at].load(Ordering::Relaxed) + u64::from(*at == NUMBER),
                    Ordering::Relaxed,
                );
            }
            let answered = ClaimState::Ended(ClaimOutcome::Answered);
            assert_eq!(waiting.state(1_001, is_alive), answered);
            for n in [1, 9] {
                assert!(claims.held(&key(n), 1_001, is_alive).is_none());
                let claim = claims.take(&key(n), OTHER, 1_001, is_alive).unwrap();
                let held = claims.held(&key(n), 1_001, is_alive).unwrap();
                claim.end(ClaimOutcome::Refused(3));
                let refused = ClaimState::Ended(ClaimOutcome::Refused(3));
                assert_eq!(held.state(1_002, is_alive), refused);
            }
        }
    }
}
