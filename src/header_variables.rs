//! nginx's `$http_...` variables of the headers that only the module may set, of those that carry
//! tokens, which it trims, and of the ids of requests.

use keystone_token::headers;
use nginx_sys::ngx_http_variable_t;
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use crate::conf::directive::bytes;
use crate::headers_in::is_token_header;

/// The indices of these variables, as far as the configuration uses them.
pub fn indices() -> Vec<usize> {
    // SAFETY: nginx's current cycle lives as long as the process serves it.
    let cycle = unsafe { &*nginx_sys::ngx_cycle };
    let Some(core) = NgxHttpCoreModule::main_conf(cycle) else { return Vec::new() };
    // SAFETY: nginx keeps the indexed variables in this array.
    let variables: &[ngx_http_variable_t] = unsafe { core.variables.as_slice() };
    let may_change = |variable: &ngx_http_variable_t| {
        // SAFETY: the name lies in the configuration's pool.
        let name = unsafe { bytes(&variable.name) };
        let header = name.strip_prefix(b"http_");
        header.is_some_and(|header| {
            headers::is_stripped(header)
                || headers::has_request_id(header)
                || is_token_header(header)
        })
    };
    (0..variables.len()).filter(|index| may_change(&variables[*index])).collect()
}
