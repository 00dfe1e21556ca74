//! nginx's variables that show what the module changes of a request: the headers that only it may
//! set, what carries tokens, which it trims or removes, and the ids of requests.

use keystone_token::headers;
use nginx_sys::{
    ngx_conf_t, ngx_hash_key_t, ngx_http_variable_t, ngx_uint_t, NGX_HTTP_VAR_CHANGEABLE,
};
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use crate::string::bytes;

/// These variables, as far as the configuration uses them.
pub struct HeaderVariables {
    /// Each below the number of variables that the configuration has indexed.
    indices: Vec<usize>,
}

impl HeaderVariables {
    /// Those of the configuration that the process serves. `of_tokens` are the names of those that
    /// show what `keystone_token` takes, as [`keystone_conf::TokenSource::variables`] has them, and
    /// `defined` are those that show something else, of [`defined_by_directives`].
    pub fn of_cycle(of_tokens: &[String], defined: &[Vec<u8>]) -> Self {
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
                    || headers::is_token_header(header)
            };
            let shows_token = |known: &String| match known.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning.as_bytes()),
                None => known.as_bytes() == name,
            };
            let is_defined = || defined.iter().any(|known| known == name);
            // Where an `if` has looked at a header that only the module may set, and `set` was not
            // run, nginx keeps the client's value.
            header.is_some_and(changes) || (of_tokens.iter().any(shows_token) && !is_defined())
        };
        let indices = (0..variables.len()).filter(|index| may_change(&variables[*index])).collect();
        Self { indices }
    }

    /// Their indices.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

/// The names of variables that begin as those of a request's headers and cookies do, and that
/// directives such as `set` and `map` define: what they show is not the request's. Known until the
/// http block is complete.
pub fn defined_by_directives(cf: &ngx_conf_t) -> Vec<Vec<u8>> {
    let keys = NgxHttpCoreModule::main_conf(cf).map(|core| core.variables_keys);
    // SAFETY: null, or the structure, which nginx keeps while it reads the configuration.
    let Some(keys) = keys.and_then(|keys| unsafe { keys.as_ref() }) else { return Vec::new() };
    // SAFETY: nginx keeps the keys of its variables in this array.
    let keys: &[ngx_hash_key_t] = unsafe { keys.keys.as_slice() };
    let is_defined = |key: &&ngx_hash_key_t| {
        // SAFETY: the value of a key is its variable.
        let variable = unsafe { &*key.value.cast::<ngx_http_variable_t>() };
        // nginx's own cannot be changed.
        variable.flags & NGX_HTTP_VAR_CHANGEABLE as ngx_uint_t != 0
    };
    keys.iter()
        .filter(is_defined)
        // SAFETY: the name lies in the configuration's pool.
        .map(|key| unsafe { bytes(&key.key) })
        .filter(|name| name.starts_with(b"http_") || name.starts_with(b"cookie_"))
        .map(<[u8]>::to_vec)
        .collect()
}
