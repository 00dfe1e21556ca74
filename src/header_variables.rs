//! nginx's `$http_...` variables of the headers that only the module may set.

use keystone_token::headers;
use nginx_sys::ngx_http_variable_t;
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use crate::conf::directive::bytes;

/// The indices of these variables, as far as the configuration uses them.
pub fn indices() -> Vec<usize> {
    // SAFETY: nginx's current cycle lives as long as the process serves it.
    let cycle = unsafe { &*nginx_sys::ngx_cycle };
    let Some(core) = NgxHttpCoreModule::main_conf(cycle) else { return Vec::new() };
    // SAFETY: nginx keeps the indexed variables in this array.
    let variables: &[ngx_http_variable_t] = unsafe { core.variables.as_slice() };
    let shows_stripped = |variable: &ngx_http_variable_t| {
        // SAFETY: the name lies in the configuration's pool.
        let name = unsafe { bytes(&variable.name) };
        name.strip_prefix(b"http_").is_some_and(headers::is_stripped)
    };
    (0..variables.len()).filter(|index| shows_stripped(&variables[*index])).collect()
}
