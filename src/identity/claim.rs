//! One worker asks about a token for all workers that need the answer at the same time.
//!
//! The worker that is first claims the token in the zone, and the others wait until the claim ends.
//! A worker that dies, or gives its question up, loses the claim to another one; one that hangs
//! does so when it has not renewed the claim for [`CLAIM_TIME`] milliseconds. An outage is the
//! outcome of all who have waited: if they asked one after another, each would wait for the
//! time-outs of those before it as well.
//!
//! [`CLAIM_TIME`]: keystone_zone::CLAIM_TIME

use std::future::Future;
use std::time::{Duration, Instant};

use keystone_token::online;
use keystone_token::refusal::Refusal;
use keystone_token::result::AuthResult;
use keystone_zone::{CacheParams, Claim, ClaimOutcome, ClaimState, HeldClaim, Lookup};

use super::pending::{Unavailable, ValidationRequest};
use super::service_client::ServiceClient;
use crate::net::{exiting, now_msec, with_interval, Timer};
use crate::zone::{cache_params, state_of, Answer, Claimed, Identity};

/// Who asks about a token.
pub(super) enum Asker {
    /// Another worker has asked, and this is the outcome.
    Other(Result<Answer, Unavailable>),
    /// This worker has to ask, for all workers if it has the claim.
    This(Option<Claim<'static>>),
}

impl ServiceClient {
    /// Claims the token, or waits until another worker has asked about it.
    ///
    /// A worker that is to exit takes no claim, as it takes no lease.
    pub(super) async fn asker(&self, request: &ValidationRequest) -> Asker {
        // Where valid tokens are not cached, an answer is for those who have asked for it.
        if request.params.valid_for == 0 {
            return Asker::This(None);
        }
        for _ in 0..MOST_CLAIMS {
            let claimed = self.zone.claim(&request.key, !exiting());
            // Looked up while the claim is held: the worker that had it before has stored its
            // answer by then, perhaps after this request has looked.
            if let Some(answer) = self.known_answer(request) {
                return Asker::Other(Ok(answer));
            }
            let held = match claimed {
                Claimed::Held(held) => held,
                Claimed::Mine(claim) => return Asker::This(Some(claim)),
                Claimed::Nobody => return Asker::This(None),
            };
            let answer = match end_of(&held).await {
                None => continue,
                Some(ClaimOutcome::Answered) => self.known_answer(request),
                Some(ClaimOutcome::Failed) => {
                    let failed = Unavailable::new(&"the question of another worker has failed");
                    return Asker::Other(Err(failed));
                }
                Some(ClaimOutcome::Refused(code)) => refusal(code).map(Answer::Refused),
            };
            // What the zone does not keep each worker asks about, and none waits for another again.
            return answer.map_or(Asker::This(None), |answer| Asker::Other(Ok(answer)));
        }
        Asker::This(None)
    }

    /// The answer that lies in the zone by now.
    fn known_answer(&self, request: &ValidationRequest) -> Option<Answer> {
        let CacheParams { valid_for, refused_for, .. } = request.params;
        let params = cache_params(self.online_generation(), valid_for, refused_for);
        let (cache, mut bytes) = (self.zone.cache(), Vec::new());
        let found = cache.lookup(&request.valid_key, &params, &mut bytes);
        if let Lookup::Valid(_) | Lookup::Superseded(_) = found {
            let identity = Identity::from_bytes(&bytes)?;
            let is_superseded = matches!(found, Lookup::Superseded(_));
            let token = request.token.as_bytes();
            return match is_superseded && self.may_be_revoked(token, &identity.record()) {
                true => None,
                false => Some(Answer::Valid(identity)),
            };
        }
        // A refusal under the other key is one of a token that must not have expired.
        let found = match request.key == request.valid_key {
            true => found,
            false => cache.lookup(&request.key, &params, &mut bytes),
        };
        match found {
            Lookup::Refused(code) => refusal(code).map(Answer::Refused),
            _ => None,
        }
    }
}

/// Does the work of a claim, and renews the claim meanwhile.
pub(super) async fn renewing<T>(claim: Option<&Claim<'_>>, work: impl Future<Output = T>) -> T {
    let Some(claim) = claim else { return work.await };
    let renew = || {
        claim.renew(now_msec());
        None
    };
    with_interval(work, RENEWAL, renew).await
}

/// What those who wait for the claim are told.
pub(super) fn claim_outcome(outcome: &Result<Answer, Unavailable>) -> ClaimOutcome {
    match outcome {
        Err(_) => ClaimOutcome::Failed,
        Ok(Answer::Refused(refusal)) => ClaimOutcome::Refused(refusal.result().code()),
        Ok(Answer::Valid(_)) => ClaimOutcome::Answered,
    }
}

/// Waits until another worker's claim ends; `None` if it ends without an outcome.
async fn end_of(held: &HeldClaim<'_>) -> Option<ClaimOutcome> {
    let start = Instant::now();
    loop {
        match state_of(held) {
            ClaimState::Ended(outcome) => return Some(outcome),
            ClaimState::Lost => return None,
            ClaimState::Held => {}
        }
        // Adds no more than an eighth to the time that the question takes.
        Timer::new((start.elapsed() / 8).clamp(SHORTEST_POLL, LONGEST_POLL)).await;
    }
}

fn refusal(code: u8) -> Option<Refusal> {
    online::refusal_of(AuthResult::from_code(code)?)
}

/// How often the holder renews its claim.
const RENEWAL: Duration = Duration::from_millis(1_000);

/// How often the others look whether it has ended.
const SHORTEST_POLL: Duration = Duration::from_millis(1);
const LONGEST_POLL: Duration = Duration::from_millis(50);

/// How many claims a worker waits for that end without an outcome.
const MOST_CLAIMS: usize = 8;
