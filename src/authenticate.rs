//! From a token to an identity.
//!
//! `keystone-token` or Keystone itself decides about a token. This passes them what they need, and
//! caches the result.

mod offline;
mod online;

use std::rc::Rc;

use keystone_gateway::status::cells::{self, Path};
use keystone_token::format::TokenFormat;
use keystone_token::record::Record;
use keystone_token::refusal::Refusal;
use keystone_token::result::AuthResult;
use keystone_token::token::{self, TokenClass};

use crate::conf::server::ServerConf;
use crate::context::{CacheStatus, Context, RequestToken};
use crate::identity::{self, PendingLimit, RefreshReason, ValidationRequest};
use crate::request::{PhaseHandler, Request};
use crate::token_cache::{CacheResult, Source, TokenCache};
use crate::token_state::TokenState;
use crate::worker::Worker;
use crate::zone::Identity;

/// The state of a token, or what the identity service has to be asked for first.
pub type Step = Result<TokenState<Identity>, Wait>;

/// What the authentication of a token waits for.
pub enum Wait {
    /// Certificates or the revocation list.
    Refresh(RefreshReason),
    /// What the identity service says of the token.
    Validation(Box<ValidationRequest>),
}

/// Authenticates one of a request's tokens.
pub struct Authenticator<'a> {
    pub request: &'a Request,
    /// The user token or the service token.
    pub request_token: &'a RequestToken,
    /// Configuration of the server that the request is for.
    pub server: &'a ServerConf,
    pub worker: &'a Worker,
    /// The identity service of the server.
    pub service: &'a Rc<identity::ServiceClient>,
    /// Whether a token that has expired counts too.
    pub allow_expired: bool,
}

impl Authenticator<'_> {
    /// Authenticates the token. Called again, from the start, when the request has waited.
    pub fn authenticate(&self) -> Step {
        let request = self.request;
        let Some(token) = self.request_token.bytes() else {
            return self.refuse(&Refusal::NoToken, None);
        };
        let format = TokenFormat::of(token);
        self.request_token.format.set(Some(format));
        debug!(request, "keystone: token of {} bytes, format {}", token.len(), format.as_str());
        match token::classify(token) {
            Err(refusal) => self.refuse_judged(&refusal, None),
            Ok(TokenClass::Opaque(token)) => self.online(token),
            // It could not be judged here, and Keystone has been asked.
            Ok(TokenClass::Signed(token)) if self.request_token.validated().is_some() => {
                self.online(token)
            }
            Ok(TokenClass::Signed(token)) => self.offline(token),
        }
    }

    fn cache(&self) -> TokenCache<'_> {
        TokenCache {
            worker: self.worker,
            service: self.service,
            server: self.server,
            keeps_catalog: self.keeps_catalog(),
            last_key: &self.request_token.last_key,
        }
    }

    /// What the caches know of the token.
    fn look_up(
        &self,
        token: &[u8],
        source: Source,
        still_holds: impl FnOnce(&Record<'_>) -> bool,
    ) -> Option<TokenState<Identity>> {
        let looked = self.cache().lookup(token, source, still_holds);
        self.note_look(&looked, source);
        let request = self.request;
        debug!(request, "keystone: cache {}", looked.status.as_str());
        let found = looked.found?;
        if let TokenState::Refused(result) = &found {
            let refused = self.request_token.kind().refused();
            info!(
                request,
                "keystone: {refused}: {}: cached, token: {}",
                result.as_str(),
                self.request_token.token_name(self.server)
            );
        }
        Some(found)
    }

    /// Notes the result of the cache. The first lookup counts: after a wait the entry may be there.
    /// A later hit counts if the first source had no entry.
    fn note_look(&self, looked: &CacheResult, source: Source) {
        let is_first = self.request_token.cache_status.get().is_none();
        if is_first {
            looked
                .look
                .into_iter()
                .for_each(|look| self.worker.row.add(cells::cache_lookup(look), 1));
        }
        if is_first || source != Source::Offline && looked.status == CacheStatus::Hit {
            self.request_token.cache_status.set(Some(looked.status));
        }
    }

    fn keeps_catalog(&self) -> bool {
        self.request.main().is_some_and(|main| main.keeps_catalog)
    }

    /// Counts a token that was judged here, not found in the cache.
    fn count_judged(&self, result: AuthResult) {
        let format = self.request_token.format.get().unwrap_or(TokenFormat::Unknown);
        self.worker.zone.count_validation(format, Path::Offline, result);
    }

    fn refuse_judged(&self, refusal: &Refusal, user: Option<&str>) -> Step {
        self.count_judged(refusal.result());
        self.refuse(refusal, user)
    }

    fn refuse(&self, refusal: &Refusal, user: Option<&str>) -> Step {
        self.request_token.log_refusal(self.request, self.server, refusal, user);
        Ok(TokenState::Refused(refusal.result()))
    }

    /// Answers 503. The code that asked the identity service logs the outage, once, at `error`.
    /// This line is about the request.
    fn unavailable(&self, reason: &dyn std::fmt::Display) -> Step {
        let service = self.service.service().name();
        let token = self.request_token.token_name(self.server);
        info!(
            self.request,
            "keystone: identity service \"{service}\" unavailable: {reason}, token: {token}"
        );
        Ok(TokenState::Unavailable)
    }

    /// 503, because of a limit of the module.
    fn limited(&self, limit: PendingLimit) -> Step {
        let (request, service) = (self.request, self.service.service().name());
        let limiting = limit.as_str();
        // At a limited rate: a flood must not fill the log at this level.
        if self.service.note_limited(limit) {
            warn!(request, "keystone: {limiting}, identity service \"{service}\"");
        }
        let token = self.request_token.token_name(self.server);
        info!(request, "keystone: {limiting}, identity service \"{service}\", token: {token}");
        Ok(TokenState::Unavailable)
    }
}

impl Context {
    /// Makes the request wait, and then go on at `handler`; `None` where nginx cannot watch the
    /// client meanwhile.
    pub fn wait(
        &self,
        request_token: &RequestToken,
        wait: Wait,
        service: &Rc<identity::ServiceClient>,
        handler: PhaseHandler,
    ) -> Option<()> {
        self.resume_at(handler);
        let service = service.clone();
        match wait {
            Wait::Refresh(need) => {
                let note = match need {
                    RefreshReason::Certificates | RefreshReason::List => RequestToken::note_refresh,
                    RefreshReason::Rotation => RequestToken::note_rotation,
                };
                self.wait_for(request_token, async move { service.refresh(need).await }, note)
            }
            Wait::Validation(request) => {
                let note = RequestToken::note_validation;
                self.wait_for(request_token, service.validate(*request), note)
            }
        }
    }
}
