//! What nginx's own cache (`proxy_cache` and its like) knows of a token that the upstream does not
//! get.
//!
//! An upstream may say `Vary: X-Auth-Token`. Then nginx keeps a variant of the response for each
//! value of this header, and takes the value from the headers of the request. Where
//! `keystone_forward_token off` has removed the token, all users would share one variant. So in its
//! place the request has a digest of the token while nginx looks into the cache and stores what it
//! gets, but not while nginx makes the request for the upstream:
//!
//! - `*_cache_bypass` is evaluated when the upstream's handlers are set and before the cache is
//!   opened. It gets one value more, a variable that has no value but puts the digests into place
//!   ([`add_digests`]).
//! - The upstream's `create_request` runs after that. It is replaced by [`create_request`], which
//!   takes the digests out for as long as the original runs.
//!
//! A digest is no token: it is made for this purpose alone. It stays until the request ends, for
//! nginx computes the variant again when it stores or revalidates a response; a subrequest or a
//! redirect begins without it (`access::strip`).

use std::ffi::CStr;
use std::ptr::NonNull;

use keystone_conf::ValueKind;
use nginx_sys::{
    ngx_array_create, ngx_array_push, ngx_array_t, ngx_conf_t, ngx_http_add_variable,
    ngx_http_conf_ctx_t, ngx_http_request_t, ngx_http_upstream_conf_t, ngx_http_upstream_t,
    ngx_int_t, ngx_table_elt_t, ngx_variable_value_t, NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE,
    NGX_HTTP_VAR_NOHASH, NGX_OK,
};

use crate::conf::directive::{compile, pool_string, Value};
use crate::conf::module_index;
use crate::context::Context;
use crate::net::catch_panic;
use crate::request::Request;

/// The handler of an upstream that makes the request.
pub type CreateRequest = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// What is kept in a request's context.
#[derive(Default)]
pub struct Variant {
    /// The headers of the tokens that were removed.
    pub removed: Vec<ngx_table_elt_t>,
    /// Whether digests stand in their place.
    pub has_digests: bool,
    /// The upstreams whose handler was replaced, each with the handler. A request may have several:
    /// subrequests share its context.
    replaced: Vec<(NonNull<ngx_http_upstream_t>, CreateRequest)>,
}

/// Adds the variable; `None` where nginx refuses it.
pub fn add_variable(cf: &mut ngx_conf_t) -> Option<()> {
    let mut name = pool_string(cf, VARIABLE)?;
    let flags = (NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_NOHASH) as usize;
    // SAFETY: `cf` is valid, and the name lies in its pool.
    let variable = unsafe { ngx_http_add_variable(cf, &mut name, flags).as_mut()? };
    variable.get_handler = Some(evaluate);
    Some(())
}

/// Lets the caches of the location whose configuration is being merged know of removed tokens.
/// nginx's own modules come before this one, so that theirs is merged. `None` where nginx has no
/// memory, or not the structures that it was built with.
pub fn watch_caches(cf: &mut ngx_conf_t) -> Option<()> {
    // SAFETY: while http blocks are read, this is their context.
    let context = unsafe { &*cf.ctx.cast::<ngx_http_conf_ctx_t>() };
    for (module, kind) in MODULES {
        let Some(index) = module_index(cf, module) else { continue };
        // SAFETY: nginx keeps a configuration for each http module at its index. Of these modules
        // it begins with that of the upstream.
        let conf =
            unsafe { (*context.loc_conf.add(index)).cast::<ngx_http_upstream_conf_t>().as_mut() };
        let Some(conf) = conf else { continue };
        if conf.module.as_bytes() != kind.as_bytes() {
            return None;
        }
        if conf.cache() != 0 {
            conf.cache_bypass = with_variable(cf, conf.cache_bypass)?.as_ptr();
        }
    }
    Some(())
}

/// A copy of the values of `*_cache_bypass`, which locations share, behind the variable. All are
/// evaluated in their order until one is true.
fn with_variable(cf: &mut ngx_conf_t, values: *mut ngx_array_t) -> Option<NonNull<ngx_array_t>> {
    // SAFETY: null, or an array of values.
    let values: &[Value] = match unsafe { values.as_ref() } {
        None => &[],
        // SAFETY: as above.
        Some(values) => unsafe { values.as_slice() },
    };
    let variable = compile(cf, &format!("${VARIABLE}"), ValueKind::Text)?;
    // SAFETY: the pool is that of the configuration.
    let array = unsafe { ngx_array_create(cf.pool, values.len() + 1, size_of::<Value>()) };
    let array = NonNull::new(array)?;
    for value in std::iter::once(&variable).chain(values) {
        // SAFETY: the array is for values.
        let slot: *mut Value = unsafe { ngx_array_push(array.as_ptr()) }.cast();
        if slot.is_null() {
            return None;
        }
        // SAFETY: the array has made room for one, and a value may be copied as it is.
        unsafe { slot.copy_from_nonoverlapping(value, 1) };
    }
    Some(array)
}

/// The variable has no value, unless nginx has no memory: then it is true, and the cache is not
/// used.
unsafe extern "C" fn evaluate(
    r: *mut ngx_http_request_t,
    v: *mut ngx_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    let mut done = None;
    catch_panic(|| {
        // SAFETY: nginx passes a request that is alive.
        done = unsafe { Request::new(r) }.and_then(|request| add_digests(&request));
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
    if variant.removed.is_empty() || variant.replaced.iter().any(|(known, _)| *known == upstream) {
        return Some(());
    }
    // SAFETY: nginx has set the upstream's handlers.
    let create = unsafe { &mut (*upstream.as_ptr()).create_request };
    let original = create.replace(create_request)?;
    variant.replaced.push((upstream, original));
    variant.has_digests = true;
    put_digests(request, &variant.removed)
}

/// Makes the request for the upstream without the digests.
unsafe extern "C" fn create_request(r: *mut ngx_http_request_t) -> ngx_int_t {
    let mut code = NGX_ERROR as ngx_int_t;
    catch_panic(|| {
        // SAFETY: nginx passes a request that is alive.
        if let Some(request) = unsafe { Request::new(r) } {
            code = create_without_digests(&request).unwrap_or(code);
        }
    });
    code
}

fn create_without_digests(request: &Request) -> Option<ngx_int_t> {
    let context = Context::find(request)?;
    // SAFETY: the request is alive.
    let upstream = NonNull::new(unsafe { (*request.as_ptr()).upstream })?;
    let original = {
        let variant = context.variant.borrow();
        variant.replaced.iter().find(|(known, _)| *known == upstream)?.1
    };
    request.strip_tokens()?;
    // SAFETY: this is the handler that nginx would have called.
    let code = unsafe { original(request.as_ptr()) };
    put_digests(request, &context.variant.borrow().removed)?;
    Some(code)
}

fn put_digests(request: &Request, removed: &[ngx_table_elt_t]) -> Option<()> {
    // A copy of the request, as `slice` makes, has them already.
    request.strip_tokens()?;
    let mut digests = Vec::new();
    for header in removed {
        let digest = blake3::Hash::from(blake3::derive_key(PURPOSE, header.value.as_bytes()));
        let value = request.copy_string(digest.to_hex().as_str())?;
        digests.push(ngx_table_elt_t { value, ..*header });
    }
    request.append_headers(&digests)
}

const VARIABLE: &str = "keystone_cache_digests";

/// What no other digest is for, in the form that BLAKE3 asks for.
const PURPOSE: &str = "nginx-keystone 2026-11-29 variant of a cached response";

/// The modules that have a cache, by the name that each gives to its upstream.
const MODULES: [(&CStr, &str); 4] = [
    (c"ngx_http_fastcgi_module", "fastcgi"),
    (c"ngx_http_proxy_module", "proxy"),
    (c"ngx_http_scgi_module", "scgi"),
    (c"ngx_http_uwsgi_module", "uwsgi"),
];
