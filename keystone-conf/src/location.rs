//! What a location asks of a request (http, server, location, limit_except).

use std::rc::Rc;
use std::sync::LazyLock;

use keystone_gateway::status::Form;
use keystone_token::policy::BindMode;
use keystone_token::swift::Settings;

use crate::error::{ErrorAt, SettingsError};
use crate::inherit::inherit;
use crate::position::Position;
use crate::swift::SwiftConf;
use crate::token::TokenSource;

/// The values of `keystone_auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A request without a valid token goes on, marked as such.
    Delay,
    /// `off`: the module does nothing.
    Off,
    /// A request without a valid token is refused.
    On,
}

/// The directives of one level, and, once merged, of all levels around it. `V` is a value with
/// variables.
#[derive(Clone)]
pub struct LocationConf<V> {
    /// Where the block begins, as far as the reader of the configuration says.
    pub begins: Position,
    /// `keystone_auth`, and where it was set.
    pub auth: Option<(Auth, Position)>,
    /// `keystone_token`: where the user token is, in order.
    pub token: Option<Rc<[TokenSource<V>]>>,
    /// `keystone_early`.
    pub early: Option<bool>,
    /// `keystone_require_role`: of each line one role is needed.
    pub require_roles: Option<Vec<Vec<String>>>,
    /// `keystone_require`: values that must all be true.
    pub require: Option<Vec<V>>,
    /// The first of the two that this very level sets, and where.
    pub requirement: Option<(&'static str, Position)>,
    /// `keystone_enforce_token_bind`.
    pub token_bind: Option<BindMode>,
    /// `keystone_client_certificate`.
    pub client_certificate: Option<V>,
    /// `keystone_service_token_roles`.
    pub service_token_roles: Option<Vec<String>>,
    /// `keystone_service_token_roles_required`.
    pub service_token_roles_required: Option<bool>,
    /// `keystone_service_type`.
    pub service_types: Option<Vec<String>>,
    /// `keystone_service_path`.
    pub service_path: Option<V>,
    /// `keystone_swift_*`.
    pub swift: SwiftConf<V>,
    /// `keystone_headers`.
    pub headers: Option<bool>,
    /// `keystone_include_service_catalog`.
    pub catalog: Option<bool>,
    /// `keystone_forward_token`.
    pub forward_token: Option<bool>,
    /// `keystone_request_id`.
    pub request_id: Option<bool>,
    /// `keystone_cache_control`.
    pub cache_control: Option<bool>,
    /// `keystone_status`; the inner `None` is the form that the client accepts.
    pub status: Option<Option<Form>>,
}

// Derived, it would ask for a default of `V`.
impl<V> Default for LocationConf<V> {
    fn default() -> Self {
        Self {
            begins: Position::default(),
            auth: None,
            token: None,
            early: None,
            require_roles: None,
            require: None,
            requirement: None,
            token_bind: None,
            client_certificate: None,
            service_token_roles: None,
            service_token_roles_required: None,
            service_types: None,
            service_path: None,
            swift: SwiftConf::default(),
            headers: None,
            catalog: None,
            forward_token: None,
            request_id: None,
            cache_control: None,
            status: None,
        }
    }
}

impl<V: Clone> LocationConf<V> {
    /// Takes from the level around this one what this one leaves open.
    pub fn inherit(&mut self, outer: &Self) {
        let Self {
            begins: _,
            auth,
            token,
            early,
            require_roles,
            require,
            requirement: _,
            token_bind,
            client_certificate,
            service_token_roles,
            service_token_roles_required,
            service_types,
            service_path,
            swift,
            headers,
            catalog,
            forward_token,
            request_id,
            cache_control,
            status,
        } = self;
        inherit(auth, &outer.auth);
        inherit(token, &outer.token);
        inherit(early, &outer.early);
        inherit(require_roles, &outer.require_roles);
        inherit(require, &outer.require);
        inherit(token_bind, &outer.token_bind);
        inherit(client_certificate, &outer.client_certificate);
        inherit(service_token_roles, &outer.service_token_roles);
        inherit(service_token_roles_required, &outer.service_token_roles_required);
        inherit(service_types, &outer.service_types);
        inherit(service_path, &outer.service_path);
        swift.inherit(&outer.swift);
        inherit(headers, &outer.headers);
        inherit(catalog, &outer.catalog);
        inherit(forward_token, &outer.forward_token);
        inherit(request_id, &outer.request_id);
        inherit(cache_control, &outer.cache_control);
        // For an `if` in the location, which keeps the handler; a location in it does not.
        inherit(status, &outer.status);
    }
}

impl<V> LocationConf<V> {
    pub(crate) fn note_requirement(&mut self, directive: &'static str, position: Position) {
        self.requirement.get_or_insert((directive, position));
    }

    /// Where the merged location asks for tokens: the position of its `keystone_auth`. `None` where
    /// it does not.
    pub fn protection(&self) -> Result<Option<&Position>, ErrorAt<SettingsError>> {
        match (&self.auth, self.swift.is_on()) {
            (Some((Auth::On | Auth::Delay, position)), _) => Ok(Some(position)),
            // This protects nothing, although it looks as if it did.
            (None, Some(position)) => {
                Err(ErrorAt { error: SettingsError::SwiftWithoutAuth, position: position.clone() })
            }
            (Some((Auth::Off, _)), _) | (None, None) => Ok(None),
        }
    }

    /// Whether and how a token is demanded.
    pub fn auth(&self) -> Auth {
        self.auth.as_ref().map_or(Auth::Off, |(auth, _)| *auth)
    }

    /// Where the user token is, in order; `None` for `X-Auth-Token`, else `X-Storage-Token`.
    pub fn token_sources(&self) -> Option<&Rc<[TokenSource<V>]>> {
        self.token.as_ref()
    }

    /// Whether the identity is known from the preaccess phase on.
    pub fn is_early(&self) -> bool {
        self.early.unwrap_or(false)
    }

    /// Whether the user token may be that of `Authorization: Bearer`.
    pub fn takes_bearer(&self) -> bool {
        let sources = self.token_sources().map(|sources| &sources[..]).unwrap_or_default();
        sources.iter().any(|source| matches!(source, TokenSource::Bearer))
    }

    /// The demands on roles, none by default.
    pub fn require_roles(&self) -> &[Vec<String>] {
        self.require_roles.as_deref().unwrap_or_default()
    }

    /// The values that must be true, none by default.
    pub fn require(&self) -> &[V] {
        self.require.as_deref().unwrap_or_default()
    }

    /// How a token's bind is judged.
    pub fn token_bind(&self) -> &BindMode {
        self.token_bind.as_ref().unwrap_or(&BindMode::Permissive)
    }

    /// The certificate of the client, where it is not [`CLIENT_CERTIFICATE`].
    pub fn client_certificate(&self) -> Option<&V> {
        self.client_certificate.as_ref()
    }

    /// The roles of which a service token holds one; never empty.
    pub fn service_token_roles(&self) -> &[String] {
        static DEFAULT: LazyLock<[String; 1]> = LazyLock::new(|| ["service".to_owned()]);
        self.service_token_roles.as_deref().unwrap_or(&*DEFAULT)
    }

    /// Whether a service token without these roles is refused.
    pub fn requires_service_roles(&self) -> bool {
        self.service_token_roles_required.unwrap_or(true)
    }

    /// The types of the services behind the location, for access rules; none by default.
    pub fn service_types(&self) -> &[String] {
        self.service_types.as_deref().unwrap_or_default()
    }

    /// The path that the service behind gets, for access rules; by default the request's own.
    pub fn service_path(&self) -> Option<&V> {
        self.service_path.as_ref()
    }

    /// What authorises accounts, where they are authorised.
    pub fn swift(&self) -> Option<&Settings> {
        self.swift.settings()
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

    /// Whether requests get an id.
    pub fn sets_request_id(&self) -> bool {
        self.request_id.unwrap_or(true)
    }

    /// Whether answers tell caches whom they are for.
    pub fn sets_cache_control(&self) -> bool {
        self.cache_control.unwrap_or(true)
    }
}

/// The name of the variable that has the certificate of the client by default. It is read where it
/// matters: an nginx without TLS does not have it.
pub const CLIENT_CERTIFICATE: &str = "ssl_client_raw_cert";
