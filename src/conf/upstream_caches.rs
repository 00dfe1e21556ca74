//! The locations with a cache (`proxy_cache` and its like), which have to know of tokens that the
//! upstream does not get: see [`cache_variant`](crate::cache_variant).

use std::ffi::CStr;
use std::ptr::NonNull;

use keystone_conf::ValueKind;
use nginx_sys::{
    ngx_array_create, ngx_array_push, ngx_array_t, ngx_conf_t, ngx_http_conf_ctx_t,
    ngx_http_upstream_conf_t,
};

use super::directive::{compile, Value};
use super::module_index;

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

/// The name of the variable.
pub const VARIABLE: &str = "keystone_cache_digests";

/// The modules that have a cache, by the name that each gives to its upstream.
const MODULES: [(&CStr, &str); 4] = [
    (c"ngx_http_fastcgi_module", "fastcgi"),
    (c"ngx_http_proxy_module", "proxy"),
    (c"ngx_http_scgi_module", "scgi"),
    (c"ngx_http_uwsgi_module", "uwsgi"),
];
