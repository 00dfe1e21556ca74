//! Tokens with a signature: verified here, against certificates and the revocation list.

use std::rc::Rc;
use std::time::Duration;

use keystone_token::refusal::Refusal;
use keystone_token::result::AuthResult;
use keystone_token::token::{self, ParsedToken, VerifiedToken};
use keystone_zone::CacheParams;

use super::{Authenticator, Step, Wait};
use crate::identity::{Keeps, Material, PendingLimit, RefreshReason, Revocations};
use crate::net::now_sec;
use crate::token_cache::Source;
use crate::token_state::TokenState;
use crate::zone::Identity;

/// What is missing to judge a token here.
enum MissingMaterial {
    /// Something has to be fetched first.
    Fetch(RefreshReason),
    /// It is not available: the identity service has to judge the token itself.
    Missing(String),
    /// Too many requests are waiting for it.
    TooMany,
}

impl Authenticator<'_> {
    /// Verifies the token, or asks about it where that cannot be done.
    pub(super) fn offline(&self, token: &[u8]) -> Step {
        self.service.note_use();
        match self.look_up(token, Source::Offline, |_| false) {
            Some(found @ TokenState::Valid(_)) => match self.material(true) {
                Ok(_) => Ok(found),
                Err(missing) => self.without(token, missing),
            },
            Some(refused) => Ok(refused),
            // First of all, because a malformed token must cause no traffic.
            None => match token::parse(token) {
                Err(refusal) => self.refuse_judged(&refusal, None),
                Ok(parsed) => match self.material(false) {
                    Ok(material) => self.judge(token, parsed, &material),
                    Err(
                        missing @ (MissingMaterial::Fetch(RefreshReason::List)
                        | MissingMaterial::TooMany),
                    ) => self
                        .refused_without_list(parsed)
                        .unwrap_or_else(|| self.without(token, missing)),
                    Err(missing) => self.without(token, missing),
                },
            },
        }
    }

    /// Refuses a token whose signature is invalid, which needs no list. So only tokens that Keystone
    /// has signed count towards the limit of requests that wait for the list. `None` if the
    /// signature is valid or cannot be judged.
    fn refused_without_list(&self, parsed: ParsedToken<'_>) -> Option<Step> {
        let (token, material) = (parsed.text(), self.service.material());
        let refusal = parsed.verify_signature(material.signers.as_ref()?, now_sec()).err()?;
        match refusal {
            refusal if self.may_be_rotation(&refusal) => {
                Some(Err(Wait::Refresh(RefreshReason::Rotation)))
            }
            refusal if refusal.is_undecided() => None,
            refusal => {
                self.remember_refusal(token, &refusal, material.generation);
                Some(self.refuse_judged(&refusal, None))
            }
        }
    }

    fn judge(&self, token: &[u8], parsed: ParsedToken<'_>, material: &Material) -> Step {
        match self.verify(parsed, material) {
            Ok(step) => step,
            Err(refusal) if self.may_be_rotation(&refusal) => {
                Err(Wait::Refresh(RefreshReason::Rotation))
            }
            Err(refusal) if refusal.is_undecided() => {
                self.without(token, MissingMaterial::Missing(refusal.to_string()))
            }
            Err(refusal) => {
                self.remember_refusal(token, &refusal, material.generation);
                self.refuse_judged(&refusal, None)
            }
        }
    }

    /// Goes on where certificates or the list are missing: the request waits for them, the identity
    /// service validates the token, or the answer is 503 because too many requests wait.
    fn without(&self, token: &[u8], missing: MissingMaterial) -> Step {
        let request = self.request;
        match missing {
            MissingMaterial::Fetch(need) => Err(Wait::Refresh(need)),
            MissingMaterial::Missing(reason) => {
                info!(
                    request,
                    "keystone: to be validated online: {reason}, token: {}",
                    self.request_token.token_name(self.server)
                );
                self.online(token)
            }
            MissingMaterial::TooMany => self.limited(PendingLimit::Refresh),
        }
    }

    /// What to check a token against, once it is complete and new enough. For a token that has
    /// been checked before, only its being up to date counts.
    fn material(&self, cached: bool) -> Result<Rc<Material>, MissingMaterial> {
        // In this order: a list that comes in between may be taken for older than it is.
        let age = self.service.list_age();
        let material = self.service.material();
        if material.signers.is_none() {
            return Err(self.no_certificates());
        }
        let settings = &self.service.service().settings;
        if !settings.revocation || (cached && settings.revocation_cache_time.is_zero()) {
            return Ok(material);
        }
        self.check_list_age(age)?;
        let missing = |reason: &str| Err(MissingMaterial::Missing(reason.to_owned()));
        match material.revocations {
            _ if material.generation != self.service.generation() => {
                missing("the revocation list is being replaced")
            }
            Revocations::List(_) => Ok(material),
            Revocations::Absent => missing("there is no revocation list"),
            Revocations::Unknown => missing("no revocation list has been fetched yet"),
        }
    }

    /// Without certificates the request waits for them, if it has not done so in vain.
    fn no_certificates(&self) -> MissingMaterial {
        match self.request_token.refreshed() {
            None if self.service.failed_recently() => MissingMaterial::Missing(
                "the signing certificates could not be fetched just now".to_owned(),
            ),
            None => self.fetch(RefreshReason::Certificates),
            Some(Ok(())) => {
                MissingMaterial::Missing("the signing certificates cannot be used".to_owned())
            }
            Some(Err(reason)) => MissingMaterial::Missing(reason.to_string()),
        }
    }

    /// Whether a list of this age may be used: it is fresh, has just been fetched for this request,
    /// or `keystone_revocation_stale` tolerates it.
    fn check_list_age(&self, age: Option<Duration>) -> Result<(), MissingMaterial> {
        let cache_time = self.service.service().settings.revocation_cache_time;
        if !cache_time.is_zero() && age.is_some_and(|age| age <= cache_time) {
            return Ok(());
        }
        let tolerable = self.service.tolerates_list();
        match self.request_token.refreshed() {
            Some(Ok(())) => Ok(()),
            // With a cache time of 0, only once the identity service is known not to answer.
            None if tolerable && (!cache_time.is_zero() || self.service.is_failing()) => {
                self.service.refresh_ahead();
                Ok(())
            }
            None if self.service.failed_recently() => Err(MissingMaterial::Missing(
                "no revocation list could be fetched just now".to_owned(),
            )),
            None => Err(self.fetch(RefreshReason::List)),
            Some(Err(reason)) if tolerable => {
                let request = self.request;
                debug!(request, "keystone: an older revocation list is used: {reason}");
                Ok(())
            }
            Some(Err(reason)) => Err(MissingMaterial::Missing(reason.to_string())),
        }
    }

    /// Makes the request wait, if not too many do already.
    fn fetch(&self, need: RefreshReason) -> MissingMaterial {
        match self.service.may_wait(need) {
            true => MissingMaterial::Fetch(need),
            false => MissingMaterial::TooMany,
        }
    }

    /// Verifies a token, and remembers that it is valid.
    fn verify(&self, parsed: ParsedToken<'_>, material: &Material) -> Result<Step, Refusal> {
        let request = self.request;
        let settings = &self.service.service().settings;
        let Some(signers) = &material.signers else { return Err(Refusal::UnknownSigner) };
        let now = now_sec();
        let verified = parsed.verify_signature(signers, now)?;
        debug!(request, "keystone: the signature holds");
        let judged = verified.check_expiry(now).and_then(|()| match &material.revocations {
            Revocations::List(list) if settings.revocation => {
                verified.check_revocation(list, &settings.hash_algorithms)
            }
            _ => Ok(()),
        });
        if settings.revocation && !self.service.is_current_material(material) {
            let reason = "the revocation list was replaced just now".to_owned();
            let token = verified.parsed().text();
            return Ok(self.without(token, MissingMaterial::Missing(reason)));
        }
        if let Err(refusal) = judged {
            self.remember_refusal(verified.parsed().text(), &refusal, material.generation);
            return Ok(self.refuse_judged(&refusal, verified.identity().user_id.as_deref()));
        }
        debug!(request, "keystone: neither expired nor revoked");
        Ok(Ok(self.remember(verified, material.generation)))
    }

    fn remember(&self, verified: VerifiedToken<'_>, generation: u64) -> TokenState<Identity> {
        let request = self.request;
        let (token, identity) = (verified.parsed().text(), verified.into_identity());
        // Only revocation events name role ids, and these are about tokens that Keystone validated.
        let keeps = Keeps { catalog: self.keeps_catalog(), role_ids: false };
        let identity = self.service.to_shared(request, identity, keeps);
        let params = CacheParams { generation, ..self.cache().params(Source::Offline) };
        let kept = self.cache().remember(token, &identity, &params);
        let put = if kept { "put into" } else { "not put into" };
        debug!(request, "keystone: {put} the cache");
        self.count_judged(AuthResult::Ok);
        TokenState::Valid(identity)
    }

    /// Remembers a refusal that took work to find.
    fn remember_refusal(&self, token: &[u8], refusal: &Refusal, generation: u64) {
        let params = CacheParams { generation, ..self.cache().params(Source::Offline) };
        let expires = match refusal.may_be_rotation() {
            // Nobody could say whether there are other certificates.
            true if self.could_not_look() => return,
            // What other certificates could change is forgotten when they may be looked for again.
            true => params.now + self.service.time_to_rotation().as_secs(),
            false => u64::MAX,
        };
        let key = self.cache().key(token, Source::Offline);
        self.worker.zone.keep_refusal(&key, refusal.result(), expires, &params);
    }

    /// Whether this request has caused a fetch of certificates that found no other ones.
    fn could_not_look(&self) -> bool {
        matches!(self.request_token.rotated(), Some(Err(_)))
    }

    fn may_be_rotation(&self, refusal: &Refusal) -> bool {
        refusal.may_be_rotation()
            && self.request_token.rotated().is_none()
            && self.service.may_look_for_rotation()
    }
}
