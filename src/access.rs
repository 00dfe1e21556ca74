//! A request's way: who asks, and may they?

use std::rc::Rc;
use std::time::Duration;

use keystone_token::format::TokenFormat;
use keystone_token::record::Field::UserId;
use keystone_token::record::Record;
use keystone_token::token::{self, Refusal, VerifiedToken};
use keystone_token::{headers, policy};
use keystone_zone::{Lookup, Moment, Verdict};
use nginx_sys::{NGX_AGAIN, NGX_DECLINED, NGX_ERROR, NGX_OK};

use crate::answer;
use crate::conf::location::{Auth, LocationConf};
use crate::conf::server::ServerConf;
use crate::context::{Authentication, CacheStatus, Context, Identity};
use crate::identity::{self, Material, Need, Revocations};
use crate::net::{now_msec, now_sec};
use crate::request::Request;
use crate::worker::{Entry, Worker};

/// nginx's codes that a handler of the access phase returns, besides a status.
const OK: isize = NGX_OK as isize;
const AGAIN: isize = NGX_AGAIN as isize;
const DECLINED: isize = NGX_DECLINED as isize;
const ERROR: isize = NGX_ERROR as isize;

/// Rewrite phase, before all else: what only the module may set goes away, whatever becomes of the
/// request.
pub fn strip(request: &Request) -> isize {
    if request.location().map_or(Auth::Off, LocationConf::auth) == Auth::Off {
        return DECLINED;
    }
    let stripped = match request.is_main() {
        // The tokens are taken now: a later location may not hand them on.
        true => Context::of(request).and(request.strip_identity()),
        // A subrequest has the headers of its main request, which are the module's own unless that
        // has been in no location of ours.
        false if Context::find(request).is_some() => return DECLINED,
        false => request.strip_identity(),
    };
    match stripped.zip(worker(request)) {
        Some(((), worker)) => {
            request.forget_variables(&worker.header_variables);
            DECLINED
        }
        None => ERROR,
    }
}

/// Preaccess phase, when the location is settled: without `keystone_forward_token` the tokens go
/// away, also where another module grants access and this one is not asked.
pub fn strip_tokens(request: &Request) -> isize {
    let Some(location) = request.location() else { return ERROR };
    if location.auth() == Auth::Off || location.forwards_token() {
        return DECLINED;
    }
    match request.strip_tokens() {
        Some(()) => DECLINED,
        None => ERROR,
    }
}

/// Access phase: the way itself.
pub fn access(request: &Request) -> isize {
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
    let token = match context.token() {
        Ok(token) => token,
        Err(duplicate) => {
            info!(request, "keystone: refused: header \"{}\" came more than once", duplicate.0);
            context.result.set(Some("malformed"));
            return answer::BAD_REQUEST;
        }
    };
    if let Some(authentication) = context.authentication() {
        return decide(request, context, location, server, authentication);
    }

    let Some(worker) = worker(request) else { return ERROR };
    let service = server.service.and_then(|index| worker.service(index));
    let Some(service) = service else { return ERROR };
    let way = Way { request, context, server, worker: &worker, service };
    match way.authenticate(token) {
        Step::Done(authentication) => {
            let authentication = context.authenticate(authentication);
            decide(request, context, location, server, authentication)
        }
        Step::Wait(need) => {
            debug!(request, "keystone: the request waits, it needs {need:?}");
            if need == Need::Rotation {
                context.looked_for_rotation.set(true);
            }
            let service = service.clone();
            match context.wait_for(async move { service.refresh(need).await }) {
                Some(()) => AGAIN,
                None => ERROR,
            }
        }
    }
}

/// What the location makes of the authentication; also after a redirect from another one.
fn decide(
    request: &Request,
    context: &Context,
    location: &LocationConf,
    server: &ServerConf,
    authentication: &Authentication,
) -> isize {
    let identity = match authentication {
        Authentication::Valid(identity) => identity,
        Authentication::Refused(word) => {
            context.result.set(Some(word));
            return unauthenticated(request, context, location, server);
        }
        Authentication::Unavailable => {
            context.result.set(Some("identity_unavailable"));
            return answer::unavailable(request, context);
        }
    };
    let Some(record) = identity.record() else { return ERROR };
    let user = record.get(UserId);

    let negotiate = request.is_negotiate();
    let bound =
        policy::check_bind(&record, location.token_bind(), request.remote_user(), negotiate);
    let counts = bound.and_then(|()| policy::check_access_rules(&record));
    context.confirmed.set(counts.is_ok());
    if let Err(refusal) = counts {
        log_refusal(request, context, server, &refusal, user);
        context.result.set(Some(refusal.as_str()));
        return unauthenticated(request, context, location, server);
    }

    if let Err(missing) = check_requirements(request, &record, location) {
        info!(
            request,
            "keystone: forbidden: {missing} is missing, token: {}, user: {}",
            context.token_name(server),
            user.unwrap_or("-")
        );
        context.result.set(Some(Refusal::Forbidden.as_str()));
        return answer::forbidden(context);
    }

    context.result.set(Some("ok"));
    debug!(request, "keystone: user {} passes", user.unwrap_or("-"));
    // SAFETY: the record lies in the identity, which the context holds until the request ends.
    match unsafe { set_headers(request, &record, location) }.and_then(|()| worker(request)) {
        Some(worker) => {
            request.forget_variables(&worker.header_variables);
            OK
        }
        None => ERROR,
    }
}

/// `keystone_require_role` and `keystone_require`.
fn check_requirements(
    request: &Request,
    record: &Record<'_>,
    location: &LocationConf,
) -> Result<(), &'static str> {
    let is_true = |value: &[u8]| !value.is_empty() && value != b"0";
    if !location.require_roles().iter().all(|roles| policy::has_any_role(record, roles)) {
        return Err("a required role");
    }
    if !location.require().iter().all(|value| request.evaluate(value).is_some_and(is_true)) {
        return Err("a required value");
    }
    Ok(())
}

/// Without a valid token: the end of the request, or, with `delay`, the upstream's business.
fn unauthenticated(
    request: &Request,
    context: &Context,
    location: &LocationConf,
    server: &ServerConf,
) -> isize {
    let demands = !location.require_roles().is_empty() || !location.require().is_empty();
    if location.auth() != Auth::Delay || demands {
        return answer::unauthorized(request, context, server);
    }
    if !location.sets_headers() {
        return DECLINED;
    }
    let (name, lowercase) = IDENTITY_STATUS;
    // SAFETY: the value is the program's.
    match unsafe { request.add_header(name, lowercase, "Invalid") } {
        Some(()) => DECLINED,
        None => ERROR,
    }
}

/// # Safety
/// The record's bytes stay where they are until the request ends.
unsafe fn set_headers(
    request: &Request,
    record: &Record<'_>,
    location: &LocationConf,
) -> Option<()> {
    if !location.sets_headers() {
        return Some(());
    }
    let (name, lowercase) = IDENTITY_STATUS;
    // SAFETY: the value is the program's.
    unsafe { request.add_header(name, lowercase, "Confirmed") }?;
    for (name, lowercase, value) in headers::user_headers(record, location.sets_catalog()) {
        // SAFETY: the value lies in the record.
        unsafe { request.add_header(name, lowercase, value) }?;
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
    request: &'a Request,
    context: &'a Context,
    server: &'a ServerConf,
    worker: &'a Worker,
    service: &'a Rc<identity::Worker>,
}

impl Way<'_> {
    /// From the token to an identity.  Entered again, from the start, when the request has waited.
    fn authenticate(&self, token: Option<&[u8]>) -> Step {
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
        log_refusal(self.request, self.context, self.server, refusal, user);
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

fn log_refusal(
    request: &Request,
    context: &Context,
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

fn worker(request: &Request) -> Option<Rc<Worker>> {
    request.main().and_then(Worker::current)
}

const IDENTITY_STATUS: (&str, &str) = ("X-Identity-Status", "x-identity-status");

/// The refusals that are remembered, by the code that the cache keeps: those that took a signature
/// check to find.
const REMEMBERED: [&str; 6] =
    ["bad_signature", "expired", "malformed", "no_tenant", "revoked", "unknown_signer"];
