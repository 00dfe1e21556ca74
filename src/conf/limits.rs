//! Limits whose key is the identity of the user, in locations where it is not known yet.
//!
//! `limit_req` and `limit_conn` evaluate their key in the preaccess phase, and count nothing if it is
//! empty. Without `keystone_early`, a key that is made of the module's variables is empty then: the
//! limit has no effect, and nginx logs nothing. No function of nginx gives the key. It is in the data
//! of the limit's zone, at an offset that is the same in all versions of nginx that were examined.
//! With any other version, the key is not read.

use std::ffi::CStr;

use nginx_sys::{
    nginx_version, ngx_array_t, ngx_conf_t, ngx_http_complex_value_t, ngx_http_conf_ctx_t,
    ngx_http_core_loc_conf_t, ngx_shm_zone_t, ngx_uint_t,
};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use super::module_index;

/// A limit that has no effect.
#[derive(Debug)]
pub struct IdleLimit {
    /// `limit_req` or `limit_conn`.
    pub directive: &'static str,
    /// What it counts by.
    pub key: String,
    /// The name of the location.
    pub location: String,
}

/// The limits of the location whose configuration is being merged that count by a variable which has
/// no value in the preaccess phase. nginx's own modules come before this one, so that theirs is
/// merged.
pub fn idle_limits(cf: &ngx_conf_t) -> Vec<IdleLimit> {
    let core: Option<&ngx_http_core_loc_conf_t> = NgxHttpCoreModule::location_conf(cf);
    // `if` and `limit_except` have the limits of their location, and a server those of its locations.
    let Some(core) = core.filter(|core| core.noname() == 0) else { return Vec::new() };
    if core.name.len == 0 && !core.locations.is_null() || !is_known_version() {
        return Vec::new();
    }
    let location = String::from_utf8_lossy(core.name.as_bytes()).into_owned();
    let mut idle = Vec::new();
    for module in &MODULES {
        let keys = keys(cf, module).unwrap_or_default();
        let keys = keys.into_iter().filter(|key| is_of_identity(key));
        idle.extend(keys.map(|key| IdleLimit {
            directive: module.directive,
            key,
            location: location.clone(),
        }));
    }
    idle
}

fn keys(cf: &ngx_conf_t, module: &Limit) -> Option<Vec<String>> {
    let index = module_index(cf, module.name)?;
    // SAFETY: while locations are merged, this is the context of one. The module's configuration
    // begins with the array of its limits.
    let limits: &ngx_array_t = unsafe {
        let context = &*cf.ctx.cast::<ngx_http_conf_ctx_t>();
        (*context.loc_conf.add(index)).cast::<ngx_array_t>().as_ref()?
    };
    let mut keys = Vec::new();
    for at in 0..limits.nelts {
        // SAFETY: each element of the array begins with a pointer to the zone, which nginx keeps in
        // its cycle.
        let zone: Option<&ngx_shm_zone_t> = unsafe {
            let element = limits.elts.cast::<u8>().add(at * limits.size);
            element.cast::<*const ngx_shm_zone_t>().read().as_ref()
        };
        // A zone that no directive defines has none, and nginx refuses it later.
        let Some(data) = zone.map(|zone| zone.data).filter(|data| !data.is_null()) else {
            continue;
        };
        // SAFETY: the data is the module's, of the structure that this version has: pointers and
        // numbers of the size of one, and then the key.
        let key = unsafe {
            &*data.cast::<usize>().add(module.words_before_key).cast::<ngx_http_complex_value_t>()
        };
        keys.push(String::from_utf8_lossy(key.value.as_bytes()).into_owned());
    }
    Some(keys)
}

/// Whether the text has a variable of the module's that has no value before the token is judged.
fn is_of_identity(key: &str) -> bool {
    key.split('$').skip(1).any(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest).to_ascii_lowercase();
        let early = ["keystone_bearer", "keystone_request_id", "keystone_swift_"];
        let is_early = early.iter().any(|known| rest.starts_with(known));
        rest.starts_with("keystone_") && !is_early
    })
}

fn is_known_version() -> bool {
    KNOWN_VERSIONS.contains(&(nginx_version as ngx_uint_t))
}

struct Limit {
    name: &'static CStr,
    directive: &'static str,
    /// In the data of a zone.
    words_before_key: usize,
}

const MODULES: [Limit; 2] = [
    // The tree, the pool of the zone, and the rate.
    Limit { name: c"ngx_http_limit_req_module", directive: "limit_req", words_before_key: 3 },
    // The tree and the pool.
    Limit { name: c"ngx_http_limit_conn_module", directive: "limit_conn", words_before_key: 2 },
];

/// From 1.22.0 to 1.31.4.
const KNOWN_VERSIONS: std::ops::RangeInclusive<ngx_uint_t> = 1_022_000..=1_031_004;
