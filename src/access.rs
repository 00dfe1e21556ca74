//! A request's way: who asks, and may they?

use std::rc::Rc;

use keystone_token::record::Field::UserId;
use keystone_token::record::Record;
use keystone_token::token::Refusal;
use keystone_token::{headers, policy};
use nginx_sys::{NGX_AGAIN, NGX_DECLINED, NGX_ERROR, NGX_OK};

use crate::answer;
use crate::authenticate::{Step, Way};
use crate::conf::location::{Auth, LocationConf};
use crate::conf::server::ServerConf;
use crate::context::{Authentication, Context};
use crate::identity::Need;
use crate::request::Request;
use crate::worker::Worker;

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
        context.log_refusal(server, &refusal, user);
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

fn worker(request: &Request) -> Option<Rc<Worker>> {
    request.main().and_then(Worker::current)
}

const IDENTITY_STATUS: (&str, &str) = ("X-Identity-Status", "x-identity-status");
