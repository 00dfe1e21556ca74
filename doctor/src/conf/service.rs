//! An identity service that servers use, and its settings.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use keystone_conf::{Credentials, ServiceSettings, ServiceUri, SettingsError, ZoneSettings};
use keystone_token::jws::JwsKeys;
use keystone_token::policy::BindMode;

use super::level::Level;
use super::reader::{Directive, Problem};
use crate::resolver::Resolver;

/// An identity service, and who uses it.
#[derive(Clone, Debug)]
pub struct Service {
    /// The servers with these settings, as `server at FILE:LINE`.
    pub users: Vec<String>,
    pub settings: Settings,
    /// What the locations of these servers can do.
    pub locations: Locations,
}

/// Whether some location can meet a condition of a token; `None` where no configuration was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Locations {
    /// `keystone_service_type`, for access rules.
    pub has_service_type: Option<bool>,
    /// A client's certificate, or a location in which a bind does not count.
    pub has_client_certificate: Option<bool>,
    /// A location that takes tokens without a bind.
    pub takes_unbound: Option<bool>,
}

impl Locations {
    /// Those of these directives, of all levels, and of the modes of those that ask for tokens.
    pub fn of(directives: &[&Directive], modes: &[BindMode]) -> Self {
        let has = |is_one: &dyn Fn(&str, &str) -> bool| {
            let first = |it: &'_ Directive| it.arguments.first().cloned().unwrap_or_default();
            Some(directives.iter().any(|it| is_one(&it.name, &first(it))))
        };
        Self {
            has_service_type: has(&|name, _| name == "keystone_service_type"),
            has_client_certificate: has(&|name, value| match name {
                "keystone_client_certificate" => true,
                "keystone_enforce_token_bind" => value == "disabled",
                "ssl_verify_client" => value != "off",
                _ => false,
            }),
            takes_unbound: Some(
                modes.iter().any(|mode| !matches!(mode, BindMode::Required | BindMode::Named(_))),
            ),
        }
    }

    /// With those of another server.
    pub fn and(self, other: Self) -> Self {
        let or = |one: Option<bool>, other: Option<bool>| Some(one? || other?);
        Self {
            has_service_type: or(self.has_service_type, other.has_service_type),
            has_client_certificate: or(self.has_client_certificate, other.has_client_certificate),
            takes_unbound: or(self.takes_unbound, other.takes_unbound),
        }
    }
}

/// The module's settings of an identity service, and what else the checks need.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// As the module has them; what cannot be used is left out. Without a known default, the
    /// signing directory is the empty path.
    pub service: ServiceSettings,
    /// `keystone_auth_uri`.
    pub auth_uri: Option<ServiceUri>,
    /// `keystone_jws_keys`.
    pub jws_keys: Option<Rc<JwsKeys>>,
    /// How long a valid token is served from the cache.
    pub token_cache_time: Option<Duration>,
    /// `keystone_cache_zone`.
    pub zone: ZoneSettings,
    /// nginx's `resolver`, which looks names up again and again.
    pub resolver: Resolver,
    /// The size of one of nginx's header buffers.
    pub header_buffer: u64,
    /// Files with secrets that others than their owner can read.
    pub open_secrets: Vec<PathBuf>,
    /// Why credentials that are set cannot be used.
    pub unusable_credentials: Option<Unusable>,
    /// Other directives that do not fit together.
    pub errors: Vec<SettingsError>,
}

/// Why a setting is not available.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unusable {
    /// Why the value cannot be used, in the words of the module.
    pub reason: String,
    /// Whether the system forbade it to this process.
    pub forbidden: bool,
}

impl Deref for Settings {
    type Target = ServiceSettings;

    fn deref(&self) -> &ServiceSettings {
        &self.service
    }
}

impl Service {
    /// Makes the settings of a level; `user` is the user of the workers.
    pub fn new(level: &Level, default_signing_dir: &Path, user: String) -> Self {
        let (mut service, mut errors) = level.server.settings(default_signing_dir.to_owned());
        if level.is_uri_refused() {
            service.identity_uris.clear();
        }
        // A value that is missing because it was refused is reported as refused.
        errors.retain(|error| match error {
            SettingsError::NoMemcachedSecret(_) => {
                level.refused(|name| name == "keystone_memcached_secret_key").is_none()
            }
            SettingsError::Incomplete(one, _) if one.starts_with("keystone_ssl_") => {
                level.refused(|name| name.starts_with(one)).is_none()
            }
            _ => true,
        });
        let (of_credentials, errors): (Vec<_>, Vec<_>) =
            errors.into_iter().partition(is_of_credentials);
        let unusable_credentials = match (&service.credentials, level.refused(is_secret)) {
            (Credentials::None, Some(problem)) => Some(unusable(problem)),
            _ => of_credentials
                .first()
                .map(|error| Unusable { reason: error.to_string(), forbidden: false }),
        };
        let settings = Settings {
            auth_uri: level.server.auth_uri.clone(),
            jws_keys: level.server.jws_keys.clone(),
            token_cache_time: level.server.token_cache_time(),
            zone: level.main.zone(),
            resolver: Resolver::new(level.resolver.as_deref().unwrap_or_default()),
            header_buffer: level.header_buffer.unwrap_or(DEFAULT_BUFFER),
            open_secrets: level.open_secrets.clone(),
            service,
            unusable_credentials,
            errors,
        };
        Self { users: vec![user], settings, locations: Locations::default() }
    }

    /// What a report calls it.
    pub fn name(&self) -> &str {
        self.settings.identity_uris.first().map_or("(no URI)", ServiceUri::as_str)
    }
}

/// Whether the directive takes a password, or what serves as one to the identity service.
fn is_secret(name: &str) -> bool {
    ["_password", "_admin_token", "_credential_secret"].iter().any(|end| name.ends_with(end))
}

fn unusable(problem: &Problem) -> Unusable {
    Unusable { reason: problem.text.clone(), forbidden: problem.forbidden }
}

fn is_of_credentials(error: &SettingsError) -> bool {
    match error {
        SettingsError::MixedCredentials | SettingsError::NeedsV3 => true,
        SettingsError::Incomplete(name, _) => !name.starts_with("keystone_ssl_"),
        _ => false,
    }
}

/// nginx's own default of `large_client_header_buffers`.
const DEFAULT_BUFFER: u64 = 8 << 10;
