//! What answers of a protected location tell the caches in front of nginx.
//!
//! A shared cache must not store the answer to a request with `Authorization` unless the answer
//! allows it (RFC 9111, section 3.5), but it knows nothing of `X-Auth-Token`. So such an answer
//! says which headers it depends on, and that it is for one user where nothing says otherwise.
//!
//! What says otherwise is mostly `expires` or `add_header`, whose filter comes behind those of
//! other modules. This one must come still later, and so it belongs to an nginx module of its own:
//! the order of nginx's filters is that of the modules, and `ngx_module_order` in `lib.rs` puts
//! this one in its place.

use std::sync::atomic::{AtomicPtr, Ordering};

use keystone_gateway::vary;
use keystone_token::headers::{AUTH_TOKEN, SERVICE_TOKEN};
use nginx_sys::{
    ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t,
    NGX_ERROR, NGX_HTTP_SWITCHING_PROTOCOLS,
};

use crate::access;
use crate::conf::location::LocationConf;
use crate::context::Context;
use crate::panic::catch_panic;
use crate::request::Request;
use crate::string::static_string;
use crate::tokens::headers_of;

/// Puts the filter in front of those that nginx has so far.
pub fn install_filter() {
    // SAFETY: nginx reads a configuration in one thread, and runs no request meanwhile.
    unsafe {
        if let Some(next) = ngx_http_top_header_filter {
            NEXT.store(next as *mut (), Ordering::Relaxed);
            ngx_http_top_header_filter = Some(header_filter);
        }
    }
}

static NEXT: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" fn header_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    let done = catch_panic(None, || {
        // SAFETY: nginx passes a request that is alive.
        unsafe { Request::new(r) }.and_then(|request| add_headers(&request))
    });
    let next = NEXT.load(Ordering::Relaxed);
    // SAFETY: `install_filter` has stored a function of this type, or null.
    let next: ngx_http_output_header_filter_pt = unsafe { std::mem::transmute(next) };
    match next.zip(done) {
        // SAFETY: nginx's own filter, called as nginx calls it.
        Some((next, ())) => unsafe { next(r) },
        // Without these headers, another user could be served the answer.
        None => NGX_ERROR as ngx_int_t,
    }
}

/// `None` where nginx has no memory.
fn add_headers(request: &Request) -> Option<()> {
    let Some(location) = request.location().filter(|_| request.is_main()) else { return Some(()) };
    let context = access::context_that_demanded_a_token(request, location);
    let (true, Some(context)) = (location.sets_cache_control(), context) else { return Some(()) };
    // The answer to an upgrade is no answer that a cache could store.
    if request.response_status() == NGX_HTTP_SWITCHING_PROTOCOLS as usize {
        return Some(());
    }
    let (mut varies, mut says_already) = (false, false);
    for (name, _) in request.response_headers() {
        varies |= is_vary(name);
        says_already |=
            name.eq_ignore_ascii_case(b"Cache-Control") || name.eq_ignore_ascii_case(b"Expires");
    }
    add_vary(request, context, location, varies)?;
    if !says_already {
        request.add_response_header(c"Cache-Control", static_string("private"))?;
    }
    Some(())
}

/// Adds to `Vary` where the tokens were taken from.
fn add_vary(
    request: &Request,
    context: Option<&Context>,
    here: &LocationConf,
    varies: bool,
) -> Option<()> {
    let taken = context.and_then(Context::token_source);
    let (location, source) = taken.unwrap_or((here, None));
    let service = context.and_then(Context::service).and_then(|service| service.bytes());
    let is_usual = location.token_sources().is_none() && source.is_none_or(|index| index == 0);
    if is_usual && service.is_none() && !varies {
        return request.add_response_header(c"Vary", static_string(AUTH_TOKEN)).map(drop);
    }
    let names = match headers_of(location, source) {
        Some(names) => names,
        // Nothing tells what the value is made of.
        None => vec!["*".to_owned()],
    };
    let wanted = names.iter().map(String::as_str).chain(service.map(|_| SERVICE_TOKEN));
    let present = request.response_headers().filter(|(name, _)| is_vary(name));
    let missing = vary::missing(present.map(|(_, value)| value), wanted);
    match missing.is_empty() {
        true => Some(()),
        false => request.extend_response_header(c"Vary", &missing.join(", ")),
    }
}

fn is_vary(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"Vary")
}
