//! A request's way: who asks, and may they?

use std::rc::Rc;

use keystone_token::format::TokenFormat;
use keystone_token::policy;
use keystone_token::record::Field::UserId;
use keystone_token::token::{self, Refusal, VerifiedToken};
use keystone_zone::{Lookup, Verdict};
use nginx_sys::{NGX_AGAIN, NGX_DECLINED, NGX_ERROR, NGX_OK};

use crate::answer;
use crate::conf::location::{Auth, LocationConf};
use crate::conf::server::ServerConf;
use crate::context::{Authentication, CacheStatus, Context, Identity};
use crate::identity::{self, Material, Need, Revocations};
use crate::net::{now_msec, now_sec};
use crate::request::Request;
use crate::worker::Worker;

/// nginx's codes that a handler of the access phase returns, besides a status.
const OK: isize = NGX_OK as isize;
const AGAIN: isize = NGX_AGAIN as isize;
const DECLINED: isize = NGX_DECLINED as isize;
const ERROR: isize = NGX_ERROR as isize;

/// Rewrite phase, before all else: what only the module may set goes away, whatever becomes of the
/// request.
pub fn strip(request: Request) -> isize {
    if !request.is_main() || auth(request) == Auth::Off {
        return DECLINED;
    }
    // The tokens are taken now: a later location may not hand them on.
    match Context::of(request).and(request.strip_identity()) {
        Some(()) => DECLINED,
        None => ERROR,
    }
}

/// Preaccess phase, when the location is settled: without `keystone_forward_token` the tokens go
/// away, also where another module grants access and this one is not asked.
pub fn strip_tokens(request: Request) -> isize {
    let Some(location) = request.location() else { return ERROR };
    if !request.is_main() || location.auth() == Auth::Off || location.forwards_token() {
        return DECLINED;
    }
    match request.strip_tokens() {
        Some(()) => DECLINED,
        None => ERROR,
    }
}

/// Access phase: the way itself.
pub fn access(request: Request) -> isize {
    let (Some(location), Some(server)) = (request.location(), request.server()) else {
        return ERROR;
    };
    if location.auth() == Auth::Off {
        return DECLINED;
    }
    let Some(context) = Context::of(request) else { return ERROR };
    if context.is_waiting() {
        return AGAIN;
    }
    if let Err(duplicate) = context.tokens {
        info!(request, "keystone: refused: header \"{}\" came more than once", duplicate.0);
        context.result = Some("malformed");
        return answer::BAD_REQUEST;
    }

    if context.authentication.is_none() {
        let Some(worker) = Worker::current() else { return ERROR };
        let service = server.service.and_then(|index| worker.service(index));
        let Some(service) = service else { return ERROR };
        let way = Way { request, context, server, worker: &worker, service };
        match way.authenticate() {
            Step::Done(authentication) => context.authentication = Some(authentication),
            Step::Wait(need) => {
                let service = service.clone();
                debug!(request, "keystone: the request waits, it needs {need:?}");
                context.asked.rotation |= need == Need::Rotation;
                context.wait_for(async move { service.refresh(need).await }, |context, outcome| {
                    context.asked.refreshed = Some(outcome);
                });
                return AGAIN;
            }
        }
    }
    decide(request, context, location, server)
}

/// What the location makes of the authentication; also after a redirect from another one.
fn decide(
    request: Request,
    context: &mut Context,
    location: &'static LocationConf,
    server: &ServerConf,
) -> isize {
    let identity = match context.authentication.clone() {
        Some(Authentication::Valid(identity)) => identity,
        Some(Authentication::Refused(word)) => {
            context.result = Some(word);
            return unauthenticated(request, context, location, server);
        }
        Some(Authentication::Unavailable) | None => {
            context.result = Some("identity_unavailable");
            return answer::unavailable(request, context);
        }
    };
    let Some(record) = identity.record() else { return ERROR };

    let negotiate = request.is_negotiate();
    let bound =
        policy::check_bind(&record, location.token_bind(), request.remote_user(), negotiate);
    if let Err(refusal) = bound.and_then(|()| policy::check_access_rules(&record)) {
        log_refusal(request, context, server, &refusal, record.get(UserId));
        context.result = Some(refusal.as_str());
        return unauthenticated(request, context, location, server);
    }

    let has_roles =
        location.require_roles().iter().all(|roles| policy::has_any_role(&record, roles));
    let has_values = location.require().iter().all(|value| {
        request.evaluate(value).is_some_and(|value| !value.is_empty() && value != b"0")
    });
    if !has_roles || !has_values {
        let missing = if has_roles { "a required value" } else { "a required role" };
        info!(
            request,
            "keystone: forbidden: {missing} is missing, token: {}, user: {}",
            context.token_name(server),
            record.get(UserId).unwrap_or("-")
        );
        context.result = Some(Refusal::Forbidden.as_str());
        return answer::forbidden(context);
    }

    context.result = Some("ok");
    debug!(request, "keystone: user {} passes", record.get(UserId).unwrap_or("-"));
    match set_headers(request, &identity, location) {
        Some(()) => OK,
        None => ERROR,
    }
}

/// Without a valid token: the end of the request, or, with `delay`, the upstream's business.
fn unauthenticated(
    request: Request,
    context: &mut Context,
    location: &LocationConf,
    server: &ServerConf,
) -> isize {
    let demands = !location.require_roles().is_empty() || !location.require().is_empty();
    if location.auth() != Auth::Delay || demands {
        return answer::unauthorized(request, context, server);
    }
    if location.sets_headers() {
        let (name, lowercase) = IDENTITY_STATUS;
        if request.add_header(name, lowercase, "Invalid").is_none() {
            return ERROR;
        }
    }
    DECLINED
}

fn set_headers(request: Request, identity: &Identity, location: &LocationConf) -> Option<()> {
    if !location.sets_headers() {
        return Some(());
    }
    let (name, lowercase) = IDENTITY_STATUS;
    request.add_header(name, lowercase, "Confirmed")?;
    let record = identity.record()?;
    for (name, lowercase, value) in
        keystone_token::headers::user_headers(&record, location.sets_catalog())
    {
        // SAFETY: the value lies in the identity, which the request's context holds until the
        // request ends.
        let value: &'static str = unsafe { &*std::ptr::from_ref(value) };
        request.add_header(name, lowercase, value)?;
    }
    Some(())
}

/// How the authentication goes on.
enum Step {
    /// It is known.
    Done(Authentication),
    /// The identity service must be asked first.
    Wait(Need),
}

/// All that a request's authentication goes by.
struct Way<'a> {
    request: Request,
    context: &'a mut Context,
    server: &'a ServerConf,
    worker: &'a Worker,
    service: &'a Rc<identity::Worker>,
}

impl Way<'_> {
    /// From the token to an identity.  Entered again, from the start, when the request has waited.
    fn authenticate(mut self) -> Step {
        let request = self.request;
        let Some(token) = self.context.token() else {
            debug!(request, "keystone: no token");
            info!(request, "keystone: refused: {}", Refusal::NoToken);
            return Step::Done(Authentication::Refused(Refusal::NoToken.as_str()));
        };
        let format = TokenFormat::of(token);
        self.context.format = Some(format);
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
    fn look_up(&mut self, token: &[u8]) -> Option<Authentication> {
        let request = self.request;
        if self.server.token_cache_time().is_none() && self.server.invalid_cache_time().is_none() {
            self.context.cache_status = Some(CacheStatus::Bypass);
            return None;
        }
        let (status, found) = self.look_up_in(token);
        debug!(request, "keystone: cache {}", status.as_str());
        // The first look tells how the cache took part: after a wait the entry may be there.
        if self.context.cache_status.is_none() {
            self.context.cache_status = Some(status);
        }
        found
    }

    fn look_up_in(&self, token: &[u8]) -> (CacheStatus, Option<Authentication>) {
        let service = self.cache_service();
        let (now, generation) = (unix_now(), self.service.generation());
        let recent = self.worker.recent.lookup(service, token, generation, now);
        if let Some(identity) = recent.filter(|_| self.server.token_cache_time().is_some()) {
            return (CacheStatus::Hit, Some(Authentication::Valid(identity)));
        }

        let key = self.worker.zone.key(service, token);
        let mut bytes = Vec::new();
        let cache = self.worker.zone.cache();
        match cache.lookup(&key, generation, now, now_msec(), &mut bytes) {
            Lookup::Missing => (CacheStatus::Miss, None),
            Lookup::Outdated => (CacheStatus::Expired, None),
            Lookup::Refused(code) => match REMEMBERED.get(usize::from(code)) {
                Some(word) if self.server.invalid_cache_time().is_some() => {
                    (CacheStatus::Hit, Some(Authentication::Refused(word)))
                }
                _ => (CacheStatus::Miss, None),
            },
            Lookup::Valid(expires) => match Identity::new(&bytes) {
                Some(identity) if self.server.token_cache_time().is_some() => {
                    let kept = identity.clone();
                    self.worker.recent.insert(service, token, generation, expires, kept);
                    (CacheStatus::Hit, Some(Authentication::Valid(identity)))
                }
                _ => (CacheStatus::Miss, None),
            },
        }
    }

    /// What to check a token against, once it is complete and new enough.  For a token that has
    /// been checked before, only its being up to date counts.
    fn material(&mut self, cached: bool) -> Result<Rc<Material>, Step> {
        let material = self.service.material();
        let settings = &self.service.service().settings;
        let refreshed = self.context.asked.refreshed.clone();
        if material.signers.is_none() {
            return Err(match refreshed {
                None => Step::Wait(Need::Certificates),
                Some(Ok(())) => self.unavailable("the signing certificates cannot be used"),
                Some(Err(reason)) => self.unavailable(&reason.to_string()),
            });
        }
        let cache_time = settings.revocation_cache_time;
        if !settings.revocation || (cached && cache_time.is_zero()) {
            return Ok(material);
        }

        let age = self.service.list_age();
        let fresh = !cache_time.is_zero() && age.is_some_and(|age| age <= cache_time);
        let tolerable = age.is_some_and(|age| age <= cache_time + settings.revocation_stale);
        match refreshed {
            _ if fresh => {}
            Some(Ok(())) => {}
            None if tolerable && self.service.failed_recently() => {}
            None => return Err(Step::Wait(Need::List)),
            Some(Err(reason)) if tolerable => {
                let request = self.request;
                debug!(request, "keystone: an older revocation list is used: {reason}");
            }
            Some(Err(reason)) => return Err(self.unavailable(&reason.to_string())),
        }
        match material.revocations {
            Revocations::List(_) => Ok(material),
            Revocations::Absent => Err(self.unavailable("there is no revocation list")),
            Revocations::Unknown => Err(self.unavailable("the revocation list was never had")),
        }
    }

    /// Verifies a token, and remembers that it is valid.
    fn verify(
        &mut self,
        parsed: token::ParsedToken<'_>,
        material: &Material,
    ) -> Result<Step, Refusal> {
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
        let identity = Identity::new(&identity.to_record(self.worker.keeps_catalog))?;
        if let Some(time) = self.server.token_cache_time() {
            let service = self.cache_service();
            let (now, key) = (unix_now(), self.worker.zone.key(service, token));
            let token_expires = u64::try_from(verified.identity().expires_at).unwrap_or(0);
            let expires = token_expires.min(now + time.as_secs());
            let verdict = Verdict::Valid(identity.bytes());
            let cache = self.worker.zone.cache();
            let kept = self
                .worker
                .zone
                .locked(|| cache.insert(&key, &verdict, generation, expires, now, now_msec()));
            debug!(
                request,
                "keystone: {} the cache",
                if kept { "put into" } else { "too large for" }
            );
            self.worker.recent.insert(service, token, generation, expires, identity.clone());
        }
        Some(Step::Done(Authentication::Valid(identity)))
    }

    /// Remembers a refusal that took work to find.
    fn remember_refusal(&self, token: &[u8], refusal: &Refusal, generation: u64) {
        let word = refusal.as_str();
        let code = REMEMBERED.iter().position(|known| *known == word);
        let (Some(time), Some(code)) = (self.server.invalid_cache_time(), code) else { return };
        let key = self.worker.zone.key(self.cache_service(), token);
        let now = unix_now();
        let verdict = Verdict::Refused(code as u8);
        let cache = self.worker.zone.cache();
        self.worker.zone.locked(|| {
            cache.insert(&key, &verdict, generation, now + time.as_secs(), now, now_msec())
        });
    }

    /// Who vouches for a cached token, and whether its catalog is kept.
    fn cache_service(&self) -> u64 {
        self.service.service().id ^ u64::from(self.worker.keeps_catalog)
    }

    fn may_be_rotation(&self, refusal: &Refusal) -> bool {
        refusal.may_be_rotation()
            && !self.context.asked.rotation
            && self.service.may_look_for_rotation()
    }

    fn refuse(&mut self, refusal: &Refusal, user: Option<&str>) -> Step {
        log_refusal(self.request, self.context, self.server, refusal, user);
        Step::Done(Authentication::Refused(refusal.as_str()))
    }

    fn unavailable(&mut self, reason: &str) -> Step {
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

fn log_refusal(
    request: Request,
    context: &mut Context,
    server: &ServerConf,
    refusal: &Refusal,
    user: Option<&str>,
) {
    info!(
        request,
        "keystone: refused: {}: {refusal}, token: {}, user: {}",
        refusal.as_str(),
        context.token_name(server),
        user.unwrap_or("-")
    );
}

impl Context {
    /// The token's name for logs: its digest, never itself.
    pub fn token_name(&mut self, server: &ServerConf) -> &str {
        let token = self.token();
        self.token_id.get_or_insert_with(|| {
            token.map_or_else(|| "-".to_owned(), |token| server.hash_algorithm().hex_digest(token))
        })
    }
}

fn auth(request: Request) -> Auth {
    request.location().map_or(Auth::Off, LocationConf::auth)
}

fn unix_now() -> u64 {
    u64::try_from(now_sec()).unwrap_or(0)
}

const IDENTITY_STATUS: (&str, &str) = ("X-Identity-Status", "x-identity-status");

/// The refusals that are remembered, by the code that the cache keeps: those that took a signature
/// check to find.
const REMEMBERED: [&str; 6] =
    ["bad_signature", "expired", "malformed", "no_tenant", "revoked", "unknown_signer"];
