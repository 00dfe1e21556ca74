//! The phase handlers: which user a request comes from, and whether it may pass.

mod early;
mod folder;

use std::fmt::Display;
use std::rc::Rc;

use keystone_token::record::Field::{Catalog, UserId};
use keystone_token::record::Record;
use keystone_token::result::AuthResult;
use keystone_token::swift::NameError;
use keystone_token::{headers, policy};
use nginx_sys::{NGX_AGAIN, NGX_DECLINED, NGX_ERROR, NGX_OK};

use crate::answer;
use crate::authenticate::{Authenticator, Wait};
use crate::authz::AuthzContext;
#[cfg(ngx_feature = "http_cache")]
use crate::cache_variant;
use crate::conf::location::{Auth, LocationConf};
use crate::conf::server::ServerConf;
use crate::context::{Context, RequestToken, States, TokenKind};
use crate::destination;
use crate::headers_in::NewHeaders;
use crate::identity;
use crate::request::Request;
use crate::request_id;
use crate::swift::{self, Answer};
use crate::token_state::TokenState;
use crate::worker::Worker;
use crate::zone::Identity;
use crate::ACCESS_HANDLER;

/// nginx's codes that a handler of the access phase returns, besides a status.
const OK: isize = NGX_OK as isize;
const AGAIN: isize = NGX_AGAIN as isize;
const DECLINED: isize = NGX_DECLINED as isize;
const ERROR: isize = NGX_ERROR as isize;

/// Rewrite phase, first of all handlers: removes the headers that only the module may set, whatever
/// the result of the request.
pub fn strip(request: &Request) -> isize {
    let Some(location) = request.location() else { return ERROR };
    if strip_digests(request).is_none() || early::undo(request, location).is_none() {
        return ERROR;
    }
    if request.is_main() && request.is_internal() {
        if let Some(context) = Context::find(request) {
            // For another location, as when the client of a request with `post_action` has left.
            context.stop_waiting();
        }
    }
    if location.auth() == Auth::Off {
        return DECLINED;
    }
    let stripped = match request.is_main() {
        true => Context::of(request).and_then(|context| {
            context.forget_user_from_elsewhere(location);
            // Another location has set it, and this one may not take it for the client's.
            if !context.is_token_in_place() {
                request.strip_own_token()?;
            }
            request.mask_request_line(location)?;
            request.strip_identity()?;
            match location.sets_request_id() {
                true => request_id::set(request, context),
                false => Some(()),
            }
        }),
        // A subrequest has the headers that its main request had when it was made. They are the
        // module's own, unless the main request has been in no location of ours by then.
        false if !request.has_foreign_identity() => return DECLINED,
        false => request.strip_foreign_identity(),
    };
    match stripped.zip(worker(request)) {
        Some(((), worker)) => {
            request.forget_variables(&worker.header_variables);
            DECLINED
        }
        None => ERROR,
    }
}

/// Preaccess phase, after the last change of the location: authenticates the request if
/// `keystone_early` is on, and removes the tokens if `keystone_forward_token` is off. The access
/// phase is too late for that: nginx does not call [`access`] if another module grants access.
pub fn preaccess(request: &Request) -> isize {
    let Some(location) = request.location() else { return ERROR };
    if location.auth() != Auth::Off && location.is_early() && request.is_main() {
        match early::identify(request, location) {
            DECLINED => {}
            code => return code,
        }
    }
    strip_tokens(request, location)
}

/// Removes the tokens that the location does not forward; they are taken before.
fn strip_tokens(request: &Request, location: &'static LocationConf) -> isize {
    if location.auth() == Auth::Off || location.forwards_token() {
        return DECLINED;
    }
    match withhold_tokens(request, location) {
        Some(()) => DECLINED,
        None => ERROR,
    }
}

fn withhold_tokens(request: &Request, location: &'static LocationConf) -> Option<()> {
    if request.is_main() {
        context_of(request)?.take_tokens(location)?;
    }
    if request.withhold_tokens(location, Context::find(request))? {
        request.forget_variables(&worker(request)?.header_variables);
    }
    Some(())
}

/// Removes the digests that stand for tokens in nginx's cache, where the location before has used
/// one, or that of the parent of a subrequest; `None` where nginx has no memory.
#[cfg(ngx_feature = "http_cache")]
fn strip_digests(request: &Request) -> Option<()> {
    let Some(context) = request.is_internal().then(|| Context::find(request)).flatten() else {
        return Some(());
    };
    let variant = context.variant.borrow();
    match variant.has_digests {
        true => cache_variant::strip_digests(request, &variant.digests),
        false => Some(()),
    }
}

#[cfg(not(ngx_feature = "http_cache"))]
fn strip_digests(_: &Request) -> Option<()> {
    Some(())
}

/// Access phase: authenticates the request and decides.
pub fn access(request: &Request) -> isize {
    let (Some(location), Some(server)) = (request.location(), request.server()) else {
        return ERROR;
    };
    if location.auth() == Auth::Off {
        return DECLINED;
    }
    let context = match enter(request, location) {
        Ok(context) => context,
        Err(code) => return code,
    };
    if let Some(duplicate) = context.duplicate() {
        info!(request, "keystone: refused: malformed: {duplicate}");
        context.result.set(Some(AuthResult::Malformed));
        return answer::BAD_REQUEST;
    }
    if location.swift().is_some() && !swift::is_plain(request) {
        info!(
            request,
            "keystone: refused: bad_path: nginx and the service behind it could find different \
             accounts or containers in the path"
        );
        context.result.set(Some(AuthResult::BadPath));
        return answer::BAD_REQUEST;
    }

    let Some(worker) = worker(request) else { return ERROR };
    let Some(service) = identity_service(server, &worker) else { return ERROR };
    let authz = AuthzContext::new(request, context, location, server);
    let Some(authz) = authz else { return ERROR };
    if let Some((request_token, wait)) = authenticate(&authz, &worker, service) {
        debug!(request, "keystone: the request waits");
        return match context.wait(request_token, wait, service, ACCESS_HANDLER) {
            Some(()) => AGAIN,
            None => ERROR,
        };
    }
    let code = decide(&authz, &worker, service);
    if matches!(code, OK | DECLINED) {
        context.pass(location);
    }
    code
}

/// The context of a main request whose location asks for tokens. `None` where nginx has no memory.
fn context_of(request: &Request) -> Option<&Context> {
    // A module that waits in the rewrite phase may have gone on behind `strip`.
    if Context::of_location(request).is_none() && strip(request) != DECLINED {
        return None;
    }
    Context::of(request)
}

/// The context, with the tokens that the location takes; or the code for nginx.
fn enter<'r>(request: &'r Request, location: &'static LocationConf) -> Result<&'r Context, isize> {
    let context = context_of(request).ok_or(ERROR)?;
    if demands_token(location) {
        context.demand_token();
    }
    if context.is_waiting() {
        return Err(AGAIN);
    }
    context.take_tokens(location).ok_or(ERROR)?;
    Ok(context)
}

/// Precontent phase: a second lock, which does not depend on the first. A request whose location
/// asks for a decision of [`access`] and that has none was led past it by another module.
pub fn check_passed(request: &Request) -> isize {
    let Some(location) = request.location() else { return ERROR };
    // nginx runs no access phase for subrequests.
    if location.auth() != Auth::Off && request.is_main() && !has_passed(request, location) {
        crit!(
            request,
            "keystone: request reached its content without a decision of the access phase: \
             another module has skipped it"
        );
        if let Some(context) = Context::of_location(request) {
            context.stop_waiting();
            context.result.set(Some(AuthResult::Skipped));
        }
        return answer::INTERNAL_SERVER_ERROR;
    }
    if let Some(code) = forbid_elsewhere(request, location) {
        return code;
    }
    if let Some(context) = Context::of_location(request).filter(|_| request.is_main()) {
        // Another module has granted access, and no page for a refusal follows.
        context.refusal.set(None);
        context.is_folder.set(request.path().ends_with(b"/"));
    }
    // The preaccess phase may have been skipped as well.
    strip_tokens(request, location)
}

/// Content phase, in front of nginx's handlers of files: looks at a folder that `try_files` has found,
/// and deletes a container.
pub fn content(request: &Request) -> isize {
    match folder::check(request) {
        DECLINED => swift::delete(request),
        code => code,
    }
}

/// The code for nginx where [`decide`] has not looked what else the request would use: another module
/// has granted access, or the location asks for no token and a redirect has led to it from one that
/// does, as `try_files` does.
fn forbid_elsewhere(request: &Request, location: &'static LocationConf) -> Option<isize> {
    let context = Context::find(request).filter(|_| request.is_main())?;
    let judged = match location.auth() {
        Auth::Off => context.passed()?,
        _ if context.has_passed(location) => return None,
        _ => location,
    };
    let elsewhere = destination::check_redirected(request, judged).err()?;
    info!(request, "keystone: forbidden: {elsewhere}, token: -, user: -");
    context.result.set(Some(AuthResult::Forbidden));
    Some(answer::forbidden(context))
}

/// Whether the access phase has let the request pass: this module, or another one where one is
/// enough.
fn has_passed(request: &Request, location: &'static LocationConf) -> bool {
    match Context::of_location(request) {
        Some(context) if context.has_passed(location) => true,
        // Nobody lets a request pass while it waits.
        Some(context) if context.is_waiting() => false,
        // Without a context, the identity headers are still those of the client.
        Some(_) => request.is_granted_by_any(),
        None => false,
    }
}

/// Authenticates the tokens, once for the request, or returns what the request has to wait for. The
/// service token comes first: it may let an expired user token pass.
fn authenticate<'a>(
    authz: &AuthzContext<'a>,
    worker: &Worker,
    service: &Rc<identity::ServiceClient>,
) -> Option<(&'a RequestToken, Wait)> {
    let AuthzContext { user_token, service_token, .. } = *authz;
    // Without a user token nothing passes here, whatever the service token is.
    let is_hopeless = user_token.bytes().is_none() && demands_token(authz.location);
    let with_service = service_token.bytes().is_some() && !is_hopeless;
    for request_token in [with_service.then_some(service_token), Some(user_token)] {
        let Some(request_token) = request_token.filter(|it| it.state().is_none()) else { continue };
        let way = Authenticator {
            request: authz.request,
            request_token,
            server: authz.server,
            worker,
            service,
            allow_expired: request_token.kind() == TokenKind::User && authz.allows_expired(),
        };
        match way.authenticate() {
            Ok(state) => request_token.settle(state),
            Err(wait) => return Some((request_token, wait)),
        }
    }
    None
}

/// Decides by what the location requires; also after a redirect from another one.
fn decide(authz: &AuthzContext<'_>, worker: &Worker, identity: &identity::ServiceClient) -> isize {
    let AuthzContext { request, context, .. } = *authz;
    let service = authz.service();
    let user = authz.user(&service);
    let passes = match judge(authz, &user, &service, identity) {
        Ok(passes) => passes,
        Err(code) => return code,
    };

    if let TokenState::Valid(record) = &user {
        debug!(request, "keystone: user {} passes", record.get(UserId).unwrap_or("-"));
    }
    if !context.has_early_headers(States::of(&user, &service)) {
        // SAFETY: the records lie in identities that the context holds until the request ends.
        if unsafe { set_headers(authz, &user, &service) }.is_none() {
            return ERROR;
        }
        request.forget_variables(&worker.header_variables);
    }
    match passes {
        true => OK,
        false => DECLINED,
    }
}

/// Whether the request passes because of its tokens, or may because the location lets others decide;
/// or the code for nginx.
fn judge(
    authz: &AuthzContext<'_>,
    user: &TokenState<Record<'_>>,
    service: &TokenState<Record<'_>>,
    identity: &identity::ServiceClient,
) -> Result<bool, isize> {
    let AuthzContext { request, context, location, server, .. } = *authz;
    let refused = match (user, service) {
        (TokenState::Unavailable, _) | (_, TokenState::Unavailable) => {
            context.result.set(Some(AuthResult::IdentityUnavailable));
            return Err(answer::unavailable(request, context, identity.retry_after()));
        }
        (TokenState::Absent, _) => Some(AuthResult::NoToken),
        (TokenState::Refused(result), _) => Some(*result),
        (TokenState::Valid(_), TokenState::Refused(_)) => Some(AuthResult::BadServiceToken),
        (TokenState::Valid(_), _) => None,
    };
    context.result.set(Some(refused.unwrap_or(AuthResult::Ok)));
    if refused.is_some() && demands_token(location) {
        return Err(answer::unauthorized(request, context, server));
    }
    if let TokenState::Valid(record) = user {
        if let Err(missing) = check_requirements(request, record, location) {
            return Err(forbid(authz, user, &missing));
        }
    }
    if let Err(elsewhere) = destination::check(request, location) {
        return Err(forbid(authz, user, &elsewhere));
    }
    match swift::authorize(authz, user, service) {
        None => Ok(user.is_valid()),
        Some(Answer::Allow) => Ok(true),
        Some(Answer::BadName(error)) => Err(refuse_name(authz, error)),
        Some(Answer::Forbidden) => Err(forbid(authz, user, &"no right to the account")),
        Some(Answer::NotFound) => Err(answer::NOT_FOUND),
        Some(Answer::Unauthorized) => Err(answer::unauthorized(request, context, server)),
    }
}

/// 412 or 400, and the line that tells an operator why.
fn refuse_name(authz: &AuthzContext<'_>, error: NameError) -> isize {
    info!(authz.request, "keystone: refused: bad_path: {error}");
    authz.context.result.set(Some(AuthResult::BadPath));
    match error {
        NameError::NotUtf8 => answer::PRECONDITION_FAILED,
        NameError::TooLong => answer::BAD_REQUEST,
    }
}

/// 403, and the line that tells an operator why.
fn forbid(authz: &AuthzContext<'_>, user: &TokenState<Record<'_>>, reason: &dyn Display) -> isize {
    let user = user.valid().and_then(|record| record.get(UserId));
    info!(
        authz.request,
        "keystone: forbidden: {reason}, token: {}, user: {}",
        authz.user_token.token_name(authz.server),
        user.unwrap_or("-")
    );
    authz.context.result.set(Some(AuthResult::Forbidden));
    answer::forbidden(authz.context)
}

/// Whether a request without a valid token is refused here. With `delay` that is the upstream's
/// business, unless the location demands something of the token itself.
fn demands_token(location: &LocationConf) -> bool {
    location.auth() != Auth::Delay
        || !location.require_roles().is_empty()
        || !location.require().is_empty()
}

/// The context of a request that needs a token: in its location, or in one that it was redirected
/// from. `Some(None)` for a request that ended before the module made a context.
pub fn context_that_demanded_a_token<'r>(
    request: &'r Request,
    location: &LocationConf,
) -> Option<Option<&'r Context>> {
    if location.auth() != Auth::Off && demands_token(location) {
        return Some(Context::find(request));
    }
    let context = request.is_internal().then(|| Context::find(request)).flatten();
    context.filter(|context| context.has_demanded_token()).map(Some)
}

/// What a location requires, and the token does not have.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Unmet {
    #[error("a required role is missing")]
    Role,
    #[error("a required value is missing")]
    Value,
}

/// Checks `keystone_require_role` and `keystone_require`.
fn check_requirements(
    request: &Request,
    record: &Record<'_>,
    location: &LocationConf,
) -> Result<(), Unmet> {
    let is_true = |value: &[u8]| !value.is_empty() && value != b"0";
    if !location.require_roles().iter().all(|roles| policy::has_any_role(record, roles)) {
        return Err(Unmet::Role);
    }
    if !location.require().iter().all(|value| request.evaluate(value).is_some_and(is_true)) {
        return Err(Unmet::Value);
    }
    Ok(())
}

/// Sets the identity headers for the upstream, which finds the token in `X-Auth-Token`.
///
/// # Safety
/// The records are those of the request's tokens, and stay where they are until the request ends.
unsafe fn set_headers(
    authz: &AuthzContext<'_>,
    user: &TokenState<Record<'_>>,
    service: &TokenState<Record<'_>>,
) -> Option<()> {
    let AuthzContext { request, context, location, .. } = *authz;
    request.put_token(context, location)?;
    if !location.sets_headers() {
        return Some(());
    }
    // Another module may have set such a header since the rewrite phase: an upstream that finds two
    // of a name may take either.
    request.strip_identity()?;
    let status = |state: &TokenState<Record<'_>>| match state.is_valid() {
        true => "Confirmed",
        false => "Invalid",
    };
    let mut new = NewHeaders::default();
    new.push(&headers::IDENTITY_STATUS, status(user).as_bytes());
    new.made = authz.user_token.identity().map(Identity::headers).unwrap_or_default();
    let catalog = user.valid().filter(|_| location.sets_catalog());
    if let Some(catalog) = catalog.and_then(|record| record.get(Catalog)) {
        new.push(&headers::SERVICE_CATALOG, catalog.as_bytes());
    }
    if !matches!(service, TokenState::Absent) {
        new.push(&headers::SERVICE_IDENTITY_STATUS, status(service).as_bytes());
    }
    if let TokenState::Valid(record) = service {
        new.extend(headers::service_headers(record));
    }
    // SAFETY: the values are the program's, or lie in the records. nginx has no access phase for
    // subrequests.
    unsafe { request.add_headers(&new) }
}

fn identity_service<'w>(
    server: &ServerConf,
    worker: &'w Worker,
) -> Option<&'w Rc<identity::ServiceClient>> {
    server.service.and_then(|index| worker.service(index))
}

fn worker(request: &Request) -> Option<Rc<Worker>> {
    request.main().and_then(Worker::current)
}
