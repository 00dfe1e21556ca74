//! Preaccess phase: who asks, where that is to be known before limits and other access modules.
//!
//! Nothing is decided here. What the location demands is decided in the access phase as always, and
//! what is set here does not outlast a redirect before that: the request has not been let pass.

use super::{authenticate, enter, identity_service, set_headers, worker, AGAIN, DECLINED, ERROR};
use crate::authz::AuthzContext;
use crate::conf::location::{Auth, LocationConf};
use crate::context::{Context, EarlyHeaders, States};
use crate::request::Request;
use crate::swift;
use crate::token_state::TokenState;
use crate::PREACCESS_HANDLER;

/// Authenticates the request, and sets variables and identity headers.
pub fn identify(request: &Request, location: &'static LocationConf) -> isize {
    let context = match enter(request, location) {
        Ok(context) => context,
        Err(code) => return code,
    };
    // They are refused in the access phase, whoever asks.
    let is_odd_path = location.swift().is_some() && !swift::is_plain(request);
    if context.duplicate().is_some() || is_odd_path {
        return DECLINED;
    }
    let (Some(server), Some(worker)) = (request.server(), worker(request)) else { return ERROR };
    let Some(identity) = identity_service(server, &worker) else { return ERROR };
    let authz = AuthzContext::new(request, context, location, server);
    let Some(authz) = authz.map(AuthzContext::early) else { return ERROR };
    if let Some((request_token, wait)) = authenticate(&authz, &worker, identity) {
        debug!(request, "keystone: the request waits before the access phase");
        return match context.wait(request_token, wait, identity, PREACCESS_HANDLER) {
            Some(()) => AGAIN,
            None => ERROR,
        };
    }
    let service = authz.service();
    let user = authz.user(&service);
    if matches!((&user, &service), (TokenState::Unavailable, _) | (_, TokenState::Unavailable)) {
        return DECLINED;
    }
    // SAFETY: the records lie in identities that the context holds until the request ends.
    if unsafe { set_headers(&authz, &user, &service) }.is_none() {
        return ERROR;
    }
    let states = States::of(&user, &service);
    context.note_early_headers(EarlyHeaders::of(request, states));
    request.forget_variables(&worker.header_variables);
    DECLINED
}

/// Rewrite phase, after a redirect: removes what [`identify`] has set in a location that has not let
/// the request pass. A location that judges anew shows no identity before that. `None` where nginx
/// has no memory.
pub fn undo(request: &Request, location: &LocationConf) -> Option<()> {
    let context = match request.is_main() && request.is_internal() {
        true => Context::find(request).filter(|context| context.take_early_headers()),
        false => None,
    };
    let Some(context) = context else { return Some(()) };
    if location.auth() != Auth::Off {
        for token in [context.user(), context.service()].into_iter().flatten() {
            token.confirmed.set(false);
        }
    }
    request.strip_identity()?;
    request.strip_own_token()?;
    request.forget_variables(&worker(request)?.header_variables);
    Some(())
}
