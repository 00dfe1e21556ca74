//! The module's own answers: 401, 403 and 503.
//!
//! A refusal is a status that the access handler returns, so that `satisfy` and `error_page` work
//! as for nginx's own access modules. Where nginx then sends its built-in page, two filters put
//! Keystone's JSON in the place of the HTML. A page that `error_page` has redirected to is left
//! alone: a redirect makes nginx forget the request's context, and without that there is nothing to
//! replace.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use keystone_token::result::AuthResult;
use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_http_output_body_filter_pt, ngx_http_output_header_filter_pt,
    ngx_http_request_t, ngx_http_top_body_filter, ngx_http_top_header_filter, ngx_int_t, NGX_ERROR,
    NGX_HTTP_BAD_REQUEST, NGX_HTTP_FORBIDDEN, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NOT_FOUND,
    NGX_HTTP_PRECONDITION_FAILED, NGX_HTTP_SERVICE_UNAVAILABLE, NGX_HTTP_UNAUTHORIZED,
};

use crate::challenge;
use crate::conf::server::ServerConf;
use crate::context::Context;
use crate::panic::catch_panic;
use crate::request::Request;
use crate::request_id;

/// 400, with nginx's page.
pub const BAD_REQUEST: isize = NGX_HTTP_BAD_REQUEST as isize;

/// 500, with nginx's page.
pub const INTERNAL_SERVER_ERROR: isize = NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// 404, with nginx's page.
pub const NOT_FOUND: isize = NGX_HTTP_NOT_FOUND as isize;

/// 412, with nginx's page.
pub const PRECONDITION_FAILED: isize = NGX_HTTP_PRECONDITION_FAILED as isize;

const ERROR: isize = NGX_ERROR as isize;

/// 401, with `WWW-Authenticate`.
pub fn unauthorized(request: &Request, context: &Context, server: &ServerConf) -> isize {
    let result = context.result.get().unwrap_or(AuthResult::NoToken);
    match challenge::announce(request, &server.challenges, result) {
        Some(()) => refuse(context, NGX_HTTP_UNAUTHORIZED),
        None => ERROR,
    }
}

/// 403, with Keystone's JSON.
pub fn forbidden(context: &Context) -> isize {
    refuse(context, NGX_HTTP_FORBIDDEN)
}

/// 503, with the seconds after which to come again.
pub fn unavailable(request: &Request, context: &Context, retry_after: u64) -> isize {
    // As for challenges: `error_page` may have led here from such an answer.
    let is_told = request.response_headers().any(|(name, _)| name == RETRY_AFTER.to_bytes());
    let tell = || {
        let seconds = request.copy_string(&retry_after.to_string())?;
        request.add_response_header(RETRY_AFTER, seconds)
    };
    match is_told || tell().is_some() {
        true => refuse(context, NGX_HTTP_SERVICE_UNAVAILABLE),
        false => ERROR,
    }
}

fn refuse(context: &Context, status: u32) -> isize {
    context.refusal.set(Some(status as usize));
    status as isize
}

fn body(status: usize) -> Option<&'static str> {
    match u32::try_from(status).ok()? {
        NGX_HTTP_UNAUTHORIZED => Some(UNAUTHORIZED),
        NGX_HTTP_FORBIDDEN => Some(FORBIDDEN),
        NGX_HTTP_SERVICE_UNAVAILABLE => Some(UNAVAILABLE),
        _ => None,
    }
}

/// Puts the two filters in front of those that nginx has. Called once for each configuration.
pub fn install_filters() {
    // SAFETY: nginx reads a configuration in one thread, and runs no request meanwhile.
    unsafe {
        if let Some(next) = ngx_http_top_header_filter {
            NEXT_HEADER.store(next as *mut (), Ordering::Relaxed);
            ngx_http_top_header_filter = Some(header_filter);
        }
        if let Some(next) = ngx_http_top_body_filter {
            NEXT_BODY.store(next as *mut (), Ordering::Relaxed);
            ngx_http_top_body_filter = Some(body_filter);
        }
    }
}

static NEXT_HEADER: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
static NEXT_BODY: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" fn header_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    catch_panic((), || {
        // SAFETY: nginx passes a request that is alive.
        if let Some(request) = unsafe { Request::new(r) } {
            prepare_header(&request);
        }
    });
    let next = NEXT_HEADER.load(Ordering::Relaxed);
    // SAFETY: `install_filters` has stored a function of this type, or null.
    let next: ngx_http_output_header_filter_pt = unsafe { std::mem::transmute(next) };
    match next {
        // SAFETY: nginx's own filter, called as nginx calls it.
        Some(next) => unsafe { next(r) },
        None => ERROR,
    }
}

unsafe extern "C" fn body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    let out = catch_panic(chain, || {
        // SAFETY: nginx passes a request that is alive, and its own chain.
        unsafe { Request::new(r) }.map_or(chain, |request| replace_body(&request, chain))
    });
    let next = NEXT_BODY.load(Ordering::Relaxed);
    // SAFETY: `install_filters` has stored a function of this type, or null.
    let next: ngx_http_output_body_filter_pt = unsafe { std::mem::transmute(next) };
    match next {
        // SAFETY: nginx's own filter, called as nginx calls it.
        Some(next) => unsafe { next(r, out) },
        None => ERROR,
    }
}

fn prepare_header(request: &Request) {
    let status = request.response_status();
    if !request.is_main() {
        return;
    }
    let context = Context::of_location(request);
    if let Some(context) = context {
        match body(status).filter(|_| context.refusal.get() == Some(status)) {
            Some(body) => request.announce_body(JSON, body.len()),
            // Another page than that of the refusal: `error_page` may lead to another host.
            None => context.refusal.set(None),
        }
    }
    #[cfg(not(nginx1_23_0))]
    challenge::take_back(request);
    if status == 401 {
        challenge::complete(request);
    }
    // A page of `error_page` may be in another location.
    let redirected = || request.is_internal().then(|| Context::find(request)).flatten();
    if let Some(context) = context.or_else(redirected) {
        request_id::answer(request, context);
    }
}

/// Sends the JSON when nginx's page ends, and nothing of the page.
fn replace_body(request: &Request, chain: *mut ngx_chain_t) -> *mut ngx_chain_t {
    let Some(context) = Context::of_location(request) else { return chain };
    let Some(body) = context.refusal.get().and_then(body) else { return chain };

    let mut is_last = false;
    let mut next = chain;
    // SAFETY: a chain ends with null, and each link has a buffer.
    while let Some(link) = unsafe { next.as_mut() } {
        // SAFETY: as above.
        let buffer = unsafe { &mut *link.buf };
        is_last |= buffer.last_buf() != 0 || buffer.last_in_chain() != 0;
        buffer.pos = buffer.last;
        next = link.next;
    }
    if !is_last {
        return chain;
    }
    context.refusal.set(None);

    let pool = request.pool();
    let buffer: *mut ngx_buf_t = pool.calloc_type();
    let link: *mut ngx_chain_t = pool.calloc_type();
    if buffer.is_null() || link.is_null() {
        return chain;
    }
    // SAFETY: the pool has made room for both; the text is the program's, which nothing changes.
    unsafe {
        (*buffer).pos = body.as_ptr().cast_mut();
        (*buffer).last = body.as_ptr().add(body.len()).cast_mut();
        (*buffer).start = (*buffer).pos;
        (*buffer).end = (*buffer).last;
        (*buffer).set_memory(1);
        (*buffer).set_last_buf(1);
        (*buffer).set_last_in_chain(1);
        (*link).buf = buffer;
    }
    link
}

const RETRY_AFTER: &CStr = c"Retry-After";

const JSON: &str = "application/json";

/// Keystone's own words, as auth_token has them.
const UNAUTHORIZED: &str = r#"{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}"#;
const FORBIDDEN: &str = r#"{"error": {"code": 403, "title": "Forbidden", "message": "You are not authorized to perform the requested action."}}"#;
const UNAVAILABLE: &str = r#"{"error": {"code": 503, "title": "Service Unavailable", "message": "The identity service is unavailable. Please try again later."}}"#;
