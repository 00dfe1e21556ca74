//! Swift's accounts: authorization for `/v1/ACCOUNT[/CONTAINER[/OBJECT]]`.
//!
//! `keystone_token::swift` decides. This module gives it the path that is served, the ACLs of
//! the configuration and of files, and the identities.

mod acl_file;
mod container;
mod open;

pub use container::{delete, is_container_deleted};

use std::fmt::Arguments;

use keystone_token::record::Record;
use keystone_token::swift::{
    self, acl_kind, AccountPath, Acl, AclError, AclKind, Decision, NameError,
};

use crate::authz::AuthzContext;
use crate::conf::location::{AclValue, SwiftConf};
use crate::failure_log::LogRateLimit;
use crate::request::Request;
use crate::token_state::TokenState;

/// The account, container and object that the request is for, where accounts are authorised.
pub fn path<'r>(request: &'r Request) -> Option<AccountPath<'r>> {
    request.location()?.swift()?;
    AccountPath::split(request.path())
}

/// Whether all who may get to see the request's path find the same account and container in it:
/// nginx, which serves the normalised one, and whatever is behind `proxy_pass`, which may be given
/// the one that the client wrote.
pub fn is_plain(request: &Request) -> bool {
    let path = request.path();
    match request.raw_path() {
        Some(raw) => swift::names_the_same(raw, path),
        None => AccountPath::split(path).is_none_or(|path| path.is_plain()),
    }
}

/// The decision about a request.
pub enum Answer {
    /// The request is authorized.
    Allow,
    /// 412 or 400: no file can have the name.
    BadName(NameError),
    /// 403: not for this user.
    Forbidden,
    /// 404: the path has no account in the place where one belongs.
    NotFound,
    /// 401: not without a token.
    Unauthorized,
}

/// Decides as Swift's keystoneauth. A request whose service token is not valid counts as anonymous,
/// as it does there.
pub fn authorize(
    authz: &AuthzContext<'_>,
    user: &TokenState<Record<'_>>,
    service: &TokenState<Record<'_>>,
) -> Option<Answer> {
    let conf = &authz.location.swift;
    let settings = conf.settings()?;
    let request = authz.request;
    let Some(mut path) = AccountPath::split(request.path()) else { return Some(Answer::NotFound) };
    let method = request.method();
    let is_served = serves_files(request);
    // As Swift's proxy server, which looks at the name before it asks who may use it.
    if let (true, Err(error)) = (is_served, swift::check_file_names(request.path(), method)) {
        return Some(Answer::BadName(error));
    }
    // A folder, which is listed and deleted with what is in it: that is as much as a container.
    if is_served && path.object.is_some_and(|object| object.ends_with(b"/")) {
        path.object = None;
    }
    let (user, service) = match (user, service) {
        (TokenState::Valid(user), TokenState::Valid(service)) => (Some(user), Some(service)),
        (TokenState::Valid(user), TokenState::Absent) => (Some(user), None),
        _ => (None, None),
    };
    let referer = request.referer();
    let asked = swift::Request { method, path: &path, user, service, referer };
    let mut decision = settings.authorize(&asked, None);
    // An ACL only ever allows more; most requests come from the account's own users.
    if decision != Decision::Allow {
        if let Some(kind) = acl_kind(method, &path) {
            decision = settings.authorize(&asked, Some(&acl(request, conf, kind)));
        }
    }
    Some(match decision {
        // ngx_http_dav_module would use the path in `Destination`, which was not authorized. Where
        // `try_files` leads to it, that is looked at there.
        Decision::Allow if is_served && request.is_copy_or_move() && !request.is_led_on() => {
            Answer::Forbidden
        }
        Decision::Allow => Answer::Allow,
        Decision::Forbidden => Answer::Forbidden,
        Decision::Unauthorized => Answer::Unauthorized,
    })
}

/// Whether nginx itself reads and changes what is asked for, as files, and not something behind it.
fn serves_files(request: &Request) -> bool {
    !request.has_content_handler()
}

/// The container's ACL: what the directive says, then what the file does.
fn acl(request: &Request, conf: &SwiftConf, kind: AclKind) -> Acl {
    let parse = |text: &[u8], source: &str| match parse(text, kind) {
        Ok(acl) => acl,
        Err(reason) => {
            complain(request, format_args!("{source} is no ACL, it allows nothing: {reason}"));
            Acl::default()
        }
    };
    let (directive, value) = conf.acl(kind);
    let mut acl = match value {
        None => Acl::default(),
        Some(AclValue::Constant(acl)) => acl.clone(),
        Some(AclValue::Variable(value)) => {
            parse(request.evaluate(value).unwrap_or_default(), directive)
        }
    };
    if let Some(text) = conf.acl_file.as_ref().and_then(|path| acl_file::read(request, path, kind))
    {
        acl.extend(parse(text.as_bytes(), "the text in the file of keystone_swift_acl_file"));
    }
    acl
}

/// Tells of an ACL that cannot be read. Any request for the container meets with it, and must not
/// fill the log with errors.
fn complain(request: &Request, what: Arguments<'_>) {
    thread_local! {
        static ERRORS: LogRateLimit = LogRateLimit::default();
    }
    match ERRORS.with(LogRateLimit::is_due) {
        true => error!(request, "keystone: {what}"),
        false => info!(request, "keystone: {what}"),
    }
}

fn parse(text: &[u8], kind: AclKind) -> Result<Acl, AclTextError> {
    Ok(Acl::parse(kind, std::str::from_utf8(text)?)?)
}

/// Why bytes are no ACL.
#[derive(Debug, thiserror::Error)]
enum AclTextError {
    #[error(transparent)]
    Acl(#[from] AclError),
    #[error(transparent)]
    Utf8(#[from] std::str::Utf8Error),
}
