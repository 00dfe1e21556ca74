//! The claims of the zone: which worker asks about a token that several workers need at once.

use std::sync::atomic::Ordering;

use keystone_zone::{Claim, ClaimState, Claims, HeldClaim, Key};

use super::{is_alive, own_process, Zone};
use crate::net::now_msec;

/// How many words the claims take in a zone of `zone_size` bytes.
pub(super) fn words(zone_size: usize) -> usize {
    Claims::words((zone_size / SLOT_SHARE).clamp(LEAST_SLOTS, MOST_SLOTS))
}

/// Who asks about a token.
pub enum Claimed {
    /// Another worker does at this moment.
    Held(HeldClaim<'static>),
    /// This worker does, for all.
    Mine(Claim<'static>),
    /// Nobody does for all.
    Nobody,
}

impl Zone {
    /// Claims the question under `key` for this process, if it `may_take` claims, unless another
    /// one has claimed it.
    pub fn claim(&self, key: &Key, may_take: bool) -> Claimed {
        let (claims, now) = (self.claims(), now_msec());
        self.locked(|| {
            if let Some(held) = claims.held(key, now, is_alive) {
                return Claimed::Held(held);
            }
            let taken = match may_take {
                true => claims.take(key, own_process(), now, is_alive),
                false => None,
            };
            taken.map_or(Claimed::Nobody, Claimed::Mine)
        })
    }

    fn claims(&self) -> Claims<'static> {
        let claims = self.root.claims.load(Ordering::Relaxed);
        let words = self.root.claims_words.load(Ordering::Relaxed);
        // SAFETY: `open` has stored the address and length of zeroed memory that is never freed,
        // and all access to it is through atomics.
        Claims::new(unsafe { std::slice::from_raw_parts(claims, words) })
    }
}

/// What has become of another worker's claim.
pub fn state_of(held: &HeldClaim<'_>) -> ClaimState {
    held.state(now_msec(), is_alive)
}

/// A slot for so many bytes of the zone: a 256th of it, and more questions at once than a worker
/// has by default.
const SLOT_SHARE: usize = 16 << 10;

/// At least a page of them, and no more than any number of workers could use.
const LEAST_SLOTS: usize = 64;
const MOST_SLOTS: usize = 8_192;
