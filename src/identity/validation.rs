//! Validation of tokens by the identity service: one for all requests that wait for the same token,
//! in this worker ([`SingleFlight`](crate::net::SingleFlight)) and in the others ([`Asker`]).

use std::rc::Rc;
use std::time::Duration;

use keystone_gateway::memcache::seal::Content;
use keystone_gateway::status::cells::Path;
use keystone_token::format::TokenFormat;
use keystone_token::online;
use keystone_token::result::AuthResult;
use keystone_zone::CacheParams;
use ngx::log::ngx_cycle_log;

use super::claim::{claim_outcome, renewing, Asker};
use super::client::error::ClientError;
use super::pending::{PendingLimit, Unavailable, ValidationRequest};
use super::service_client::{Keeps, ServiceClient};
use crate::client_address::ClientAddress;
use crate::net::{now_sec, spawn};
use crate::zone::{Answer, Identity};

type Outcome = Result<Answer, Unavailable>;

/// A validation that is pending, for as long as this lives.
struct Pending {
    service: Rc<ServiceClient>,
    client: ClientAddress,
}

impl Pending {
    fn new(service: Rc<ServiceClient>, client: ClientAddress) -> Self {
        service.validations.begin(client);
        service.note_pending();
        Self { service, client }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.service.validations.end(self.client);
        self.service.note_pending();
    }
}

impl ServiceClient {
    /// Whether this validation may start, or which bound it would exceed. One that joins a running
    /// validation exceeds none.
    pub fn may_ask(&self, request: &ValidationRequest) -> Result<(), PendingLimit> {
        if self.validations.calls.running(&request.call_key()).is_some() {
            return Ok(());
        }
        let per_address = self.service.settings.max_pending_per_address;
        if per_address > 0 && self.validations.of_address(request.client) >= per_address {
            return Err(PendingLimit::Address);
        }
        match self.validations.pending() < self.service.settings.max_pending {
            true => Ok(()),
            false => Err(PendingLimit::Validation),
        }
    }

    /// Counts a request that gets 503 because of a limit; says whether to log it at `warn`.
    pub fn note_limited(&self, limit: PendingLimit) -> bool {
        if self.is_current() {
            self.state.count_limited(limit == PendingLimit::Address);
        }
        match limit {
            PendingLimit::Address => self.validations.limited_by_address.is_due(),
            PendingLimit::Refresh => self.refreshes.limited.is_due(),
            PendingLimit::Validation => self.validations.limited.is_due(),
        }
    }

    /// Validates the token, or waits for a validation of it that is running.
    ///
    /// Where answers are not cached, a validation that started before this request came does not
    /// count: the token may have been revoked since. The requests that have waited for it share the
    /// next one.
    pub async fn validate(self: Rc<Self>, request: ValidationRequest) -> Outcome {
        if let Some(call) = self.validations.calls.running(&request.call_key()) {
            let outcome = call.outcome().await;
            if request.params.valid_for > 0 || !matches!(outcome, Ok(Answer::Valid(_))) {
                return outcome;
            }
        }
        let call = self.validations.calls.join(request.call_key(), || {
            let pending = Pending::new(self.clone(), request.client);
            async move { pending.service.answer(&request).await }
        });
        call.outcome().await
    }

    /// The answer, from this worker's question or from that of another one.
    async fn answer(self: &Rc<Self>, request: &ValidationRequest) -> Outcome {
        let claim = match self.asker(request).await {
            Asker::Other(outcome) => return outcome,
            Asker::This(claim) => claim,
        };
        let outcome = renewing(claim.as_ref(), self.ask_and_keep(request)).await;
        if let Some(claim) = claim {
            claim.end(claim_outcome(&outcome));
        }
        outcome
    }

    /// The answer, which is also put into the shared cache.
    async fn ask_and_keep(self: &Rc<Self>, request: &ValidationRequest) -> Outcome {
        if let Some((identity, params)) = self.get_shared(request).await {
            let answer = Answer::Valid(identity);
            self.zone.keep(&request.valid_key, &answer, &params);
            self.count(request, Path::Memcached, Some(&answer));
            return Ok(answer);
        }
        let asked_at = now_sec();
        let answer = self.ask(request).await;
        self.report_validation(answer.as_ref().err());
        self.count(request, Path::Online, answer.as_ref().ok());
        let answer = answer.map_err(|error| Unavailable::new(&error))?;
        let key = match &answer {
            Answer::Refused(_) => &request.key,
            Answer::Valid(identity) => {
                self.store_shared(request, identity, asked_at);
                &request.valid_key
            }
        };
        let is_kept = self.zone.keep(key, &answer, &request.params);
        if let (false, Answer::Valid(identity)) = (is_kept, &answer) {
            self.report_unkept(request, identity);
        }
        Ok(answer)
    }

    /// The answer that another gateway has shared, unless the token may have been revoked since,
    /// and the time from which it counts.
    async fn get_shared(&self, request: &ValidationRequest) -> Option<(Identity, CacheParams)> {
        let max_age = Duration::from_secs(request.params.valid_for);
        if max_age.is_zero() || request.how.allow_expired || !self.can_tell_revoked() {
            return None;
        }
        let token = request.token.as_bytes();
        let shared = self.memcached.as_ref()?.get(token, max_age).await?;
        let identity = Identity::from_bytes(&shared.record)?;
        if self.may_be_revoked(token, &identity.record()) {
            debug!(ngx_cycle_log(), "keystone: another gateway's answer may be revoked");
            return None;
        }
        debug!(ngx_cycle_log(), "keystone: another gateway's answer is used");
        let now = u64::try_from(shared.made_at).ok()?.min(request.params.now);
        let age = request.params.now.saturating_sub(now);
        let tick = request.params.tick.saturating_sub(age.saturating_mul(1_000));
        Some((identity, CacheParams { now, tick, ..request.params }))
    }

    /// Shares the answer with other gateways. No request waits for that.
    fn store_shared(
        self: &Rc<Self>,
        request: &ValidationRequest,
        identity: &Identity,
        asked_at: i64,
    ) {
        let max_age = Duration::from_secs(request.params.valid_for);
        let expires_at = identity.expires_at().and_then(|expires| i64::try_from(expires).ok());
        let is_told = self.memcached.is_some() && !request.how.allow_expired;
        let Some(expires_at) = expires_at.filter(|_| is_told) else { return };
        let (service, token) = (self.clone(), request.token.clone());
        let identity = identity.clone();
        spawn(async move {
            let Some(memcached) = &service.memcached else { return };
            let record = identity.to_bytes();
            let content = Content { made_at: asked_at, expires_at, record };
            memcached.set(token.as_bytes(), &content, max_age).await;
        })
        .detach();
    }

    async fn ask(&self, request: &ValidationRequest) -> Result<Answer, ClientError> {
        let identity = match self.client.validate(&request.token, request.how).await? {
            online::Answer::Refused(refusal) => return Ok(Answer::Refused(refusal)),
            online::Answer::Valid(identity) => identity,
        };
        if let (Err(refusal), false) = (identity.check_expiry(now_sec()), request.how.allow_expired)
        {
            return Ok(Answer::Refused(refusal));
        }
        // Only revocation events name role ids, and these are a third of a usual record.
        let keeps = Keeps {
            catalog: request.how.catalog,
            role_ids: self.service.settings.revocation_events.is_some(),
        };
        Ok(Answer::Valid(self.to_shared(ngx_cycle_log(), identity, keeps)))
    }

    fn count(&self, request: &ValidationRequest, path: Path, answer: Option<&Answer>) {
        let result = match answer {
            None => AuthResult::IdentityUnavailable,
            Some(Answer::Refused(refusal)) => refusal.result(),
            Some(Answer::Valid(_)) => AuthResult::Ok,
        };
        self.zone.count_validation(TokenFormat::of(request.token.as_bytes()), path, result);
    }

    /// Without room in the cache each request with the token causes a validation.
    fn report_unkept(&self, request: &ValidationRequest, identity: &Identity) {
        let lives = identity.expires_at().is_some_and(|expires| expires > request.params.now);
        if lives && request.params.valid_for > 0 {
            let (part, size) = identity.record().largest_part();
            warn!(
                ngx_cycle_log(),
                "keystone: an identity of {} bytes has no place in the cache, its largest part: \
                 {part}, {size} bytes",
                identity.size()
            );
        }
    }

    /// Logs the first failure and the recovery; each request that is affected has its own line.
    fn report_validation(&self, error: Option<&ClientError>) {
        let (log, name) = (ngx_cycle_log(), self.service.name());
        match error {
            None if self.validation_failures.on_success() => {
                notice!(log, "keystone: identity service \"{name}\" validates tokens again");
            }
            Some(error) if self.validation_failures.on_failure() => {
                error!(
                    log,
                    "keystone: cannot validate tokens at identity service \"{name}\": {error}"
                );
            }
            None | Some(_) => {}
        }
    }
}
