//! What nginx's own cache (`proxy_cache` and its like) knows of a token that the upstream does not
//! get.
//!
//! An upstream may say `Vary: X-Auth-Token`. Then nginx keeps a variant of the response for each
//! value of this header, and takes the value from the headers of the request. Where
//! `keystone_forward_token off`, of the location or of one before, has removed the token, all users
//! would share one variant. So in its place the request has a digest of the token while nginx looks
//! into the cache and stores what it gets, but not while nginx makes the request for the upstream:
//!
//! - `*_cache_bypass` is evaluated when the upstream's handlers are set and before the cache is
//!   opened. It gets one value more ([`conf::upstream_caches`](crate::conf::upstream_caches)), a
//!   variable that has no value but puts the digests into place ([`add_digests`]).
//! - The upstream's `create_request` runs after that. It is replaced by [`create_request`], which
//!   takes the digests out for as long as the original runs.
//!
//! A digest is no token: it is made for this purpose alone. It stays until the request ends, for
//! nginx computes the variant again when it stores or revalidates a response; a subrequest or a
//! redirect begins without it (`access::strip`).

use std::collections::HashSet;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_conf_t, ngx_http_add_variable, ngx_http_request_t, ngx_int_t, ngx_table_elt_t,
    ngx_variable_value_t, NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_NOHASH, NGX_OK,
};

use crate::conf::directive::pool_string;
use crate::conf::upstream_caches::VARIABLE;
use crate::context::Context;
use crate::panic::catch_panic;
use crate::request::Request;

/// Adds the variable; `None` where nginx refuses it.
pub fn add_variable(cf: &mut ngx_conf_t) -> Option<()> {
    let mut name = pool_string(cf, VARIABLE)?;
    let flags = (NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_NOHASH) as usize;
    // SAFETY: `cf` is valid, and the name lies in its pool.
    let variable = unsafe { ngx_http_add_variable(cf, &mut name, flags).as_mut()? };
    variable.get_handler = Some(evaluate);
    Some(())
}

/// The variable has no value, unless nginx has no memory: then it is true, and the cache is not
/// used.
unsafe extern "C" fn evaluate(
    r: *mut ngx_http_request_t,
    v: *mut ngx_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    let done = catch_panic(None, || {
        // SAFETY: nginx passes a request that is alive.
        unsafe { Request::new(r) }.and_then(|request| add_digests(&request))
    });
    let text = if done.is_some() { "" } else { "1" };
    // SAFETY: nginx passes a value to be filled, and a request that is alive.
    unsafe {
        let value = &mut *v;
        value.set_valid(1);
        value.set_not_found(0);
        value.set_no_cacheable(1);
        value.set_len(text.len() as u32);
        value.data = text.as_ptr().cast_mut();
        if let (None, Some(upstream)) = (done, (*r).upstream.as_mut()) {
            upstream.set_cacheable(0);
        }
    }
    NGX_OK as ngx_int_t
}

/// Puts digests in the place of the tokens that were removed from a request that is about to be
/// looked up in the cache. `None` where nginx has no memory.
fn add_digests(request: &Request) -> Option<()> {
    // SAFETY: the request is alive. Both are null unless the request is for an upstream and a
    // cache.
    let (upstream, cache) = unsafe { ((*request.as_ptr()).upstream, (*request.as_ptr()).cache) };
    let (Some(upstream), false) = (NonNull::new(upstream), cache.is_null()) else {
        return Some(());
    };
    let Some(context) = Context::find(request) else { return Some(()) };
    let mut variant = context.variant.try_borrow_mut().ok()?;
    if context.removed.borrow().headers.is_empty()
        || variant.replaced.iter().any(|(known, _)| *known == upstream)
    {
        return Some(());
    }
    // SAFETY: nginx has set the upstream's handlers.
    let create = unsafe { &mut (*upstream.as_ptr()).create_request };
    let original = create.replace(create_request)?;
    variant.replaced.push((upstream, original));
    variant.has_digests = true;
    put_digests(request, context, &mut variant.digests)
}

/// Makes the request for the upstream without the digests.
unsafe extern "C" fn create_request(r: *mut ngx_http_request_t) -> ngx_int_t {
    let code = catch_panic(None, || {
        // SAFETY: nginx passes a request that is alive.
        unsafe { Request::new(r) }.and_then(|request| create_without_digests(&request))
    });
    code.unwrap_or(NGX_ERROR as ngx_int_t)
}

fn create_without_digests(request: &Request) -> Option<ngx_int_t> {
    let context = Context::find(request)?;
    // SAFETY: the request is alive.
    let upstream = NonNull::new(unsafe { (*request.as_ptr()).upstream })?;
    let original = {
        let variant = context.variant.borrow();
        variant.replaced.iter().find(|(known, _)| *known == upstream)?.1
    };
    strip_digests(request, &context.variant.borrow().digests)?;
    // SAFETY: this is the handler that nginx would have called.
    let code = unsafe { original(request.as_ptr()) };
    put_digests(request, context, &mut context.variant.borrow_mut().digests)?;
    Some(code)
}

fn put_digests(
    request: &Request,
    context: &Context,
    digests: &mut Vec<ngx_table_elt_t>,
) -> Option<()> {
    // A copy of the request, as `slice` makes, has them already.
    strip_digests(request, digests)?;
    for header in context.removed.borrow().headers.iter().skip(digests.len()) {
        let digest = blake3::Hash::from(blake3::derive_key(PURPOSE, header.value.as_bytes()));
        let value = request.copy_string(digest.to_hex().as_str())?;
        digests.push(ngx_table_elt_t { value, ..*header });
    }
    request.append_headers(digests)
}

/// Removes the digests; `None` where nginx has no memory.
pub fn strip_digests(request: &Request, digests: &[ngx_table_elt_t]) -> Option<()> {
    let digests: HashSet<_> = digests.iter().map(|digest| digest.value.data).collect();
    let is_digest = |header: &ngx_table_elt_t| digests.contains(&header.value.data);
    match request.header_elements().any(is_digest) {
        true => request.replace_headers(|header| !is_digest(header), &[]),
        false => Some(()),
    }
}

/// What no other digest is for, in the form that BLAKE3 asks for.
const PURPOSE: &str = "nginx-keystone 2026-11-29 variant of a cached response";
