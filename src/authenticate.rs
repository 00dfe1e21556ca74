//! From a token to an identity: the caches, the signature, the revocation list.
//!
//! What decides about a token is `keystone-token`; here it is told what it needs, and what comes of
//! it is remembered.

use std::rc::Rc;
use std::time::Duration;

use keystone_token::format::TokenFormat;
use keystone_token::token::{self, Refusal, VerifiedToken};
use keystone_zone::{Lookup, Moment, Verdict};

use crate::conf::server::ServerConf;
use crate::context::{Authentication, CacheStatus, Context, Identity};
use crate::identity::{self, Material, Need, Revocations};
use crate::net::{now_msec, now_sec};
use crate::request::Request;
use crate::worker::{Entry, Worker};

/// How the authentication goes on.
pub enum Step {
    /// It is known.
    Done(Authentication),
    /// The identity service must be asked first.
    Wait(Need),
}

/// All that a request's authentication goes by.
pub struct Way<'a> {
    /// The request.
    pub request: &'a Request,
    /// Its context.
    pub context: &'a Context,
    /// Its server's configuration.
    pub server: &'a ServerConf,
    /// This process.
    pub worker: &'a Worker,
    /// The server's identity service.
    pub service: &'a Rc<identity::Worker>,
}

impl Way<'_> {
    /// From the token to an identity.  Entered again, from the start, when the request has waited.
    pub fn authenticate(&self, token: Option<&[u8]>) -> Step {
        let request = self.request;
        let Some(token) = token else { return self.refuse(&Refusal::NoToken, None) };
        let format = TokenFormat::of(token);
        self.context.format.set(Some(format));
        debug!(request, "keystone: token of {} bytes, format {}", token.len(), format.as_str());
        if !format.is_signed() {
            return self.refuse(&Refusal::UnknownToken, None);
        }
        self.service.note_use();

        let found = self.look_up(token);
        if let Some(Authentication::Refused(word)) = found {
            info!(
                request,
                "keystone: refused again: {word}, token: {}",
                self.context.token_name(self.server)
            );
            return Step::Done(Authentication::Refused(word));
        }
        let parsed = match found {
            Some(_) => None,
            // Before anything is asked of anybody: what is malformed causes no traffic.
            None => match token::parse(token, format) {
                Ok(parsed) => Some(parsed),
                Err(refusal) => return self.refuse(&refusal, None),
            },
        };

        let material = match self.material(found.is_some()) {
            Ok(material) => material,
            Err(step) => return step,
        };
        match (found, parsed) {
            (Some(found), _) => Step::Done(found),
            (None, Some(parsed)) => match self.verify(parsed, &material) {
                Ok(step) => step,
                Err(refusal) if self.may_be_rotation(&refusal) => Step::Wait(Need::Rotation),
                Err(Refusal::CertificateExpired | Refusal::CertificateNotYetValid) => {
                    self.unavailable("the signing certificate is not valid now")
                }
                Err(refusal) => {
                    self.remember_refusal(token, &refusal, material.generation);
                    self.refuse(&refusal, None)
                }
            },
            (None, None) => self.unavailable("there is nothing to verify"),
        }
    }

    /// What the caches know of the token.
    fn look_up(&self, token: &[u8]) -> Option<Authentication> {
        let (status, found) = self.look_up_in_caches(token);
        let request = self.request;
        debug!(request, "keystone: cache {}", status.as_str());
        // The first look tells how the cache took part: after a wait the entry may be there.
        if self.context.cache_status.get().is_none() {
            self.context.cache_status.set(Some(status));
        }
        found
    }

    fn look_up_in_caches(&self, token: &[u8]) -> (CacheStatus, Option<Authentication>) {
        let moment = self.moment(self.service.generation());
        if moment.valid_for == 0 && moment.refused_for == 0 {
            return (CacheStatus::Bypass, None);
        }
        let not_found = if moment.valid_for > 0 { CacheStatus::Miss } else { CacheStatus::Bypass };

        let (service, cache) = (self.cache_service(), self.worker.zone.cache());
        if let Some(identity) = self.worker.recent.lookup(service, token, &moment, &cache) {
            return (CacheStatus::Hit, Some(Authentication::Valid(identity)));
        }
        let key = self.worker.zone.key(service, token);
        let mut bytes = Vec::new();
        match cache.lookup(&key, &moment, &mut bytes) {
            Lookup::Outdated if moment.valid_for > 0 => (CacheStatus::Expired, None),
            Lookup::Refused(code) => match REMEMBERED.get(usize::from(code)) {
                Some(word) => (CacheStatus::Hit, Some(Authentication::Refused(word))),
                None => (not_found, None),
            },
            Lookup::Valid(expires) => match Identity::new(&bytes) {
                Some(identity) => {
                    let entry = Entry::new(service, token, key, expires, identity.clone(), &moment);
                    self.worker.recent.insert(entry);
                    (CacheStatus::Hit, Some(Authentication::Valid(identity)))
                }
                None => (not_found, None),
            },
            Lookup::Missing | Lookup::Outdated => (not_found, None),
        }
    }

    /// By which rules the caches are used now.
    fn moment(&self, generation: u64) -> Moment {
        let seconds = |time: Option<Duration>| time.map_or(0, |time| time.as_secs().max(1));
        Moment {
            generation,
            now: u64::try_from(now_sec()).unwrap_or(0),
            tick: now_msec(),
            valid_for: seconds(self.server.token_cache_time()),
            refused_for: seconds(self.server.invalid_cache_time()),
        }
    }

    /// What to check a token against, once it is complete and new enough.  For a token that has
    /// been checked before, only its being up to date counts.
    fn material(&self, cached: bool) -> Result<Rc<Material>, Step> {
        // In this order: a list that comes in between may be taken for older than it is.
        let age = self.service.list_age();
        let material = self.service.material();
        let settings = &self.service.service().settings;
        let refreshed = self.context.refreshed.borrow().clone();
        if material.signers.is_none() {
            return Err(match refreshed {
                None => self.wait_for(Need::Certificates),
                Some(Ok(())) => self.unavailable("the signing certificates cannot be used"),
                Some(Err(reason)) => self.unavailable(&reason.to_string()),
            });
        }
        let cache_time = settings.revocation_cache_time;
        if !settings.revocation || (cached && cache_time.is_zero()) {
            return Ok(material);
        }

        let fresh = !cache_time.is_zero() && age.is_some_and(|age| age <= cache_time);
        let tolerable = age.is_some_and(|age| age <= cache_time + settings.revocation_stale);
        match refreshed {
            _ if fresh => {}
            Some(Ok(())) => {}
            None if tolerable && self.service.failed_recently() => {}
            None => return Err(self.wait_for(Need::List)),
            Some(Err(reason)) if tolerable => {
                let request = self.request;
                debug!(request, "keystone: an older revocation list is used: {reason}");
            }
            Some(Err(reason)) => return Err(self.unavailable(&reason.to_string())),
        }
        match material.revocations {
            _ if material.generation != self.service.generation() => {
                Err(self.unavailable("the revocation list is being replaced"))
            }
            Revocations::List(_) => Ok(material),
            Revocations::Absent => Err(self.unavailable("there is no revocation list")),
            Revocations::Unknown => Err(self.unavailable("the revocation list was never had")),
        }
    }

    /// Makes the request wait, if not too many do already.
    fn wait_for(&self, need: Need) -> Step {
        match self.service.may_wait() {
            true => Step::Wait(need),
            false => self.unavailable("too many requests wait for it already"),
        }
    }

    /// Verifies a token, and remembers that it is valid.
    fn verify(&self, parsed: token::ParsedToken<'_>, material: &Material) -> Result<Step, Refusal> {
        let request = self.request;
        let settings = &self.service.service().settings;
        let Some(signers) = &material.signers else { return Err(Refusal::UnknownSigner) };
        let now = now_sec();
        let verified = parsed.verify_signature(signers, now)?;
        debug!(request, "keystone: the signature holds");
        let judged = verified.check_expiry(now).and_then(|()| match &material.revocations {
            Revocations::List(list)
                if settings.revocation && list.revokes(&verified, &settings.hash_algorithms) =>
            {
                Err(Refusal::Revoked)
            }
            _ => Ok(()),
        });
        if let Err(refusal) = judged {
            self.remember_refusal(verified.parsed().text(), &refusal, material.generation);
            return Ok(self.refuse(&refusal, verified.identity().user_id.as_deref()));
        }
        debug!(request, "keystone: neither expired nor revoked");
        self.remember(&verified, material.generation).ok_or(Refusal::UnknownToken)
    }

    fn remember(&self, verified: &VerifiedToken<'_>, generation: u64) -> Option<Step> {
        let request = self.request;
        let (token, identity) = (verified.parsed().text(), verified.identity());
        for role in &identity.omitted_roles {
            warn!(request, "keystone: role \"{role}\" is left out, its name holds a comma");
        }
        let identity = Identity::new(&identity.to_record(self.keeps_catalog()))?;
        let moment = self.moment(generation);
        if moment.valid_for > 0 {
            let service = self.cache_service();
            let key = self.worker.zone.key(service, token);
            let expires = u64::try_from(verified.identity().expires_at).unwrap_or(0);
            let verdict = Verdict::Valid(identity.bytes());
            let cache = self.worker.zone.cache();
            let kept = self.worker.zone.locked(|| cache.insert(&key, &verdict, expires, &moment));
            debug!(
                request,
                "keystone: {} the cache",
                if kept { "put into" } else { "not put into" }
            );
            let entry = Entry::new(service, token, key, expires, identity.clone(), &moment);
            self.worker.recent.insert(entry);
        }
        Some(Step::Done(Authentication::Valid(identity)))
    }

    /// Remembers a refusal that took work to find.
    fn remember_refusal(&self, token: &[u8], refusal: &Refusal, generation: u64) {
        let word = refusal.as_str();
        let Some(code) = REMEMBERED.iter().position(|known| *known == word) else { return };
        let moment = self.moment(generation);
        let expires = match refusal.may_be_rotation() {
            // Nobody could say whether there are other certificates.
            true if self.could_not_look() => return,
            // What other certificates could change is forgotten when they may be looked for again.
            true => moment.now + self.service.time_to_rotation().as_secs(),
            false => u64::MAX,
        };
        let key = self.worker.zone.key(self.cache_service(), token);
        let verdict = Verdict::Refused(code as u8);
        let cache = self.worker.zone.cache();
        self.worker.zone.locked(|| cache.insert(&key, &verdict, expires, &moment));
    }

    /// Under whose name tokens are cached: who vouches for them, and whether with their catalog.
    fn cache_service(&self) -> u64 {
        self.service.service().id ^ u64::from(self.keeps_catalog())
    }

    fn keeps_catalog(&self) -> bool {
        self.request.main().is_some_and(|main| main.keeps_catalog)
    }

    /// Whether other certificates were asked for because of this request, in vain.
    fn could_not_look(&self) -> bool {
        let refreshed = self.context.refreshed.borrow();
        self.context.looked_for_rotation.get() && matches!(*refreshed, Some(Err(_)))
    }

    fn may_be_rotation(&self, refusal: &Refusal) -> bool {
        refusal.may_be_rotation()
            && !self.context.looked_for_rotation.get()
            && self.service.time_to_rotation().is_zero()
            && self.service.may_wait()
    }

    fn refuse(&self, refusal: &Refusal, user: Option<&str>) -> Step {
        self.context.log_refusal(self.server, refusal, user);
        Step::Done(Authentication::Refused(refusal.as_str()))
    }

    fn unavailable(&self, reason: &str) -> Step {
        let request = self.request;
        warn!(
            request,
            "keystone: identity service \"{}\" is needed: {reason}, token: {}",
            self.service.service().name(),
            self.context.token_name(self.server)
        );
        Step::Done(Authentication::Unavailable)
    }
}

/// The refusals that are remembered, by the code that the cache keeps: those that took a signature
/// check to find.
const REMEMBERED: [&str; 6] =
    ["bad_signature", "expired", "malformed", "no_tenant", "revoked", "unknown_signer"];
