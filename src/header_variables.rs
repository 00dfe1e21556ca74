//! nginx's variables that show what the module changes of a request: the headers that only it may
//! set, what carries tokens, which it trims or removes, and the ids of requests.

use keystone_token::headers;
use nginx_sys::ngx_http_variable_t;
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use crate::headers_in::is_token_header;
use crate::string::bytes;

/// These variables, as far as the configuration uses them.
pub struct HeaderVariables {
    /// Each below the number of variables that the configuration has indexed.
    indices: Vec<usize>,
}

impl HeaderVariables {
    /// Those of the configuration that the process serves. `of_tokens` are the names of those that
    /// show what `keystone_token` takes, as [`keystone_conf::TokenSource::variables`] has them.
    pub fn of_cycle(of_tokens: &[String]) -> Self {
        // SAFETY: nginx's current cycle lives as long as the process serves it.
        let cycle = unsafe { &*nginx_sys::ngx_cycle };
        let Some(core) = NgxHttpCoreModule::main_conf(cycle) else {
            return Self { indices: Vec::new() };
        };
        // SAFETY: nginx keeps the indexed variables in this array.
        let variables: &[ngx_http_variable_t] = unsafe { core.variables.as_slice() };
        let may_change = |variable: &ngx_http_variable_t| {
            // SAFETY: the name lies in the configuration's pool.
            let name = unsafe { bytes(&variable.name) };
            let header = name.strip_prefix(b"http_");
            let changes = |header: &[u8]| {
                headers::is_stripped(header)
                    || headers::has_request_id(header)
                    || is_token_header(header)
            };
            let shows_token = |known: &String| match known.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning.as_bytes()),
                None => known.as_bytes() == name,
            };
            header.is_some_and(changes) || of_tokens.iter().any(shows_token)
        };
        let indices = (0..variables.len()).filter(|index| may_change(&variables[*index])).collect();
        Self { indices }
    }

    /// Their indices.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}
