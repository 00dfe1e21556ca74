//! What a location asks of a request (http, server, location, limit_except).

use keystone_token::policy::BindMode;
use nginx_sys::ngx_http_complex_value_t;

use super::directive::Place;

/// `keystone_auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A request without a valid token goes on, marked as such.
    Delay,
    /// The module does nothing.
    Off,
    /// A request without a valid token is refused.
    On,
}

/// The directives of one level, and, once merged, of all levels around it.
#[derive(Default)]
pub struct LocationConf {
    /// `keystone_auth`, and where it was set.
    pub auth: Option<(Auth, Place)>,
    /// `keystone_require_role`: of each line one role is needed.
    pub require_roles: Option<Vec<Vec<String>>>,
    /// `keystone_require`: values that must all be true.
    pub require: Option<Vec<ngx_http_complex_value_t>>,
    /// `keystone_enforce_token_bind`.
    pub token_bind: Option<BindMode>,
    /// `keystone_headers`.
    pub headers: Option<bool>,
    /// `keystone_include_service_catalog`.
    pub catalog: Option<bool>,
    /// `keystone_forward_token`.
    pub forward_token: Option<bool>,
}

impl LocationConf {
    /// Takes from the level around this one what this one leaves open.
    pub fn inherit(&mut self, outer: &Self) {
        inherit!(self, outer: auth require_roles require token_bind headers catalog forward_token);
    }

    /// Whether and how a token is demanded.
    pub fn auth(&self) -> Auth {
        self.auth.as_ref().map_or(Auth::Off, |(auth, _)| *auth)
    }

    /// The demands on roles, none by default.
    pub fn require_roles(&self) -> &[Vec<String>] {
        self.require_roles.as_deref().unwrap_or_default()
    }

    /// The values that must be true, none by default.
    pub fn require(&self) -> &[ngx_http_complex_value_t] {
        self.require.as_deref().unwrap_or_default()
    }

    /// How a token's bind is judged.
    pub fn token_bind(&self) -> &BindMode {
        self.token_bind.as_ref().unwrap_or(&BindMode::Permissive)
    }

    /// Whether the upstream gets identity headers.
    pub fn sets_headers(&self) -> bool {
        self.headers.unwrap_or(true)
    }

    /// Whether the upstream gets the catalog.
    pub fn sets_catalog(&self) -> bool {
        self.catalog.unwrap_or(false)
    }

    /// Whether the upstream gets the token.
    pub fn forwards_token(&self) -> bool {
        self.forward_token.unwrap_or(true)
    }
}
