//! Which identity service a server uses, and how (http, server).

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use keystone_token::api::AuthVersion;
use keystone_token::format::HashAlgorithm;
use keystone_token::jws::JwsKeys;

use crate::credentials::{Credentials, CredentialsConf};
use crate::error::SettingsError;
use crate::inherit::inherit;
use crate::memcached::MemcachedConf;
use crate::position::Positions;
use crate::proxy::ProxySettings;
use crate::settings::{ServiceSettings, TlsSettings};
use crate::uri::ServiceUri;

/// The directives of one level, and, once merged, of all levels around it.
#[derive(Clone, Default)]
pub struct ServerConf {
    /// Where the directives are, for errors that show only when all are known.
    pub positions: Positions,
    /// `keystone_auth_uri`.
    pub auth_uri: Option<ServiceUri>,
    /// `keystone_identity_uri`.
    pub identity_uris: Option<Vec<ServiceUri>>,
    /// `keystone_auth_version`.
    pub auth_version: Option<AuthVersion>,
    /// The directives that make the service's credentials.
    pub credentials: CredentialsConf,
    /// `keystone_connect_timeout`.
    pub connect_timeout: Option<Duration>,
    /// `keystone_send_timeout`.
    pub send_timeout: Option<Duration>,
    /// `keystone_read_timeout`.
    pub read_timeout: Option<Duration>,
    /// `keystone_http_request_max_retries`.
    pub max_retries: Option<u32>,
    /// `keystone_keepalive`.
    pub keepalive: Option<usize>,
    /// `keystone_max_pending`.
    pub max_pending: Option<usize>,
    /// `keystone_max_pending_per_address`.
    pub max_pending_per_address: Option<usize>,
    /// `keystone_jws_keys`. No setting of the identity service: what it has said of tokens stays
    /// true when its keys change.
    pub jws_keys: Option<Rc<JwsKeys>>,
    /// `keystone_revocation_events`; the inner `None` is `off`.
    pub revocation_events: Option<Option<Duration>>,
    /// `keystone_proxy`; the inner `None` is `off`.
    pub proxy: Option<Option<ProxySettings>>,
    /// `keystone_ssl_partial_chain`.
    pub ssl_partial_chain: Option<bool>,
    /// `keystone_ssl_trusted_certificate`.
    pub ssl_trusted_certificate: Option<PathBuf>,
    /// `keystone_ssl_verify`.
    pub ssl_verify: Option<bool>,
    /// `keystone_ssl_name`.
    pub ssl_name: Option<String>,
    /// `keystone_ssl_certificate`.
    pub ssl_certificate: Option<PathBuf>,
    /// `keystone_ssl_certificate_key`.
    pub ssl_certificate_key: Option<PathBuf>,
    /// `keystone_signing_dir`.
    pub signing_dir: Option<PathBuf>,
    /// `keystone_hash_algorithms`.
    pub hash_algorithms: Option<Vec<HashAlgorithm>>,
    /// `keystone_revocation`.
    pub revocation: Option<bool>,
    /// `keystone_revocation_cache_time`.
    pub revocation_cache_time: Option<Duration>,
    /// `keystone_revocation_stale`.
    pub revocation_stale: Option<Duration>,
    /// `keystone_token_cache_time`; the inner `None` is `off`.
    pub token_cache_time: Option<Option<Duration>>,
    /// `keystone_invalid_cache_time`; the inner `None` is `off`.
    pub invalid_cache_time: Option<Option<Duration>>,
    /// The directives of the second level.
    pub memcached: MemcachedConf,
}

impl ServerConf {
    /// Takes from the level around this one what this one leaves open.
    pub fn inherit(&mut self, outer: &Self) {
        // Without "..": a directive that is forgotten here does not compile.
        let Self {
            positions,
            auth_uri,
            identity_uris,
            auth_version,
            credentials,
            connect_timeout,
            send_timeout,
            read_timeout,
            max_retries,
            keepalive,
            max_pending,
            max_pending_per_address,
            jws_keys,
            revocation_events,
            proxy,
            ssl_partial_chain,
            ssl_trusted_certificate,
            ssl_verify,
            ssl_name,
            ssl_certificate,
            ssl_certificate_key,
            signing_dir,
            hash_algorithms,
            revocation,
            revocation_cache_time,
            revocation_stale,
            token_cache_time,
            invalid_cache_time,
            memcached,
        } = self;
        positions.inherit(&outer.positions);
        inherit(auth_uri, &outer.auth_uri);
        inherit(identity_uris, &outer.identity_uris);
        inherit(auth_version, &outer.auth_version);
        credentials.inherit(&outer.credentials);
        inherit(connect_timeout, &outer.connect_timeout);
        inherit(send_timeout, &outer.send_timeout);
        inherit(read_timeout, &outer.read_timeout);
        inherit(max_retries, &outer.max_retries);
        inherit(keepalive, &outer.keepalive);
        inherit(max_pending, &outer.max_pending);
        inherit(max_pending_per_address, &outer.max_pending_per_address);
        inherit(jws_keys, &outer.jws_keys);
        inherit(revocation_events, &outer.revocation_events);
        inherit(proxy, &outer.proxy);
        inherit(ssl_partial_chain, &outer.ssl_partial_chain);
        inherit(ssl_trusted_certificate, &outer.ssl_trusted_certificate);
        inherit(ssl_verify, &outer.ssl_verify);
        inherit(ssl_name, &outer.ssl_name);
        inherit(ssl_certificate, &outer.ssl_certificate);
        inherit(ssl_certificate_key, &outer.ssl_certificate_key);
        inherit(signing_dir, &outer.signing_dir);
        inherit(hash_algorithms, &outer.hash_algorithms);
        inherit(revocation, &outer.revocation);
        inherit(revocation_cache_time, &outer.revocation_cache_time);
        inherit(revocation_stale, &outer.revocation_stale);
        inherit(token_cache_time, &outer.token_cache_time);
        inherit(invalid_cache_time, &outer.invalid_cache_time);
        memcached.inherit(&outer.memcached);
    }

    /// The URI in `WWW-Authenticate` of a 401, which a protected location needs.
    pub fn announced_uri(&self) -> Result<&ServiceUri, SettingsError> {
        self.auth_uri.as_ref().ok_or(SettingsError::NoAuthUri)
    }

    /// How long a valid token is served from the cache.
    pub fn token_cache_time(&self) -> Option<Duration> {
        self.token_cache_time.unwrap_or(Some(Duration::from_secs(300)))
    }

    /// How long a refusal is remembered.
    pub fn invalid_cache_time(&self) -> Option<Duration> {
        self.invalid_cache_time.unwrap_or(Some(Duration::from_secs(30)))
    }

    /// The algorithm of the digest that names a token in logs and variables.
    pub fn hash_algorithm(&self) -> HashAlgorithm {
        let configured = self.hash_algorithms.as_ref().and_then(|algorithms| algorithms.first());
        configured.copied().unwrap_or(HashAlgorithm::Md5)
    }

    /// All settings of the identity service, with their defaults, and what does not fit together:
    /// with errors, the settings are those without the directives that are to blame.
    pub fn settings(&self, default_signing_dir: PathBuf) -> (ServiceSettings, Vec<SettingsError>) {
        let mut errors = Vec::new();
        let max_pending = self.max_pending.unwrap_or(512);
        let auth_version = self.auth_version.unwrap_or(AuthVersion::Auto);
        let identity_uris = match &self.identity_uris {
            Some(uris) => uris.clone(),
            None => self.auth_uri.iter().cloned().collect(),
        };
        let settings = ServiceSettings {
            identity_uris,
            auth_version,
            proxy: self.proxy.clone().flatten(),
            tls: self.tls(&mut errors),
            credentials: or_report(
                self.credentials.credentials(auth_version),
                Credentials::None,
                &mut errors,
            ),
            connect_timeout: self.connect_timeout.unwrap_or(Duration::from_secs(5)),
            send_timeout: self.send_timeout.unwrap_or(Duration::from_secs(5)),
            read_timeout: self.read_timeout.unwrap_or(Duration::from_secs(10)),
            max_retries: self.max_retries.unwrap_or(3),
            keepalive: self.keepalive.unwrap_or(16),
            max_pending,
            max_pending_per_address: self
                .max_pending_per_address
                .unwrap_or(max_pending.div_ceil(4)),
            revocation_events: self.revocation_events.flatten(),
            signing_dir: self.signing_dir.clone().unwrap_or(default_signing_dir),
            hash_algorithms: match &self.hash_algorithms {
                Some(algorithms) => algorithms.clone(),
                None => vec![HashAlgorithm::Md5],
            },
            revocation: self.revocation.unwrap_or(true),
            revocation_cache_time: self.revocation_cache_time.unwrap_or(Duration::from_secs(10)),
            revocation_stale: self.revocation_stale.unwrap_or(Duration::ZERO),
            memcached: or_report(self.memcached.settings(), None, &mut errors),
        };
        (settings, errors)
    }

    fn tls(&self, errors: &mut Vec<SettingsError>) -> TlsSettings {
        let pair = match (&self.ssl_certificate, &self.ssl_certificate_key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate.clone(), key.clone()))),
            (None, None) => Ok(None),
            _ => Err(SettingsError::Incomplete(
                "keystone_ssl_certificate",
                "keystone_ssl_certificate_key",
            )),
        };
        let (certificate, certificate_key) = or_report(pair, None, errors).unzip();
        TlsSettings {
            trusted_certificate: self.ssl_trusted_certificate.clone(),
            partial_chain: self.ssl_partial_chain.unwrap_or(false),
            verify: self.ssl_verify.unwrap_or(true),
            name: self.ssl_name.clone(),
            certificate,
            certificate_key,
        }
    }
}

fn or_report<T>(
    found: Result<T, SettingsError>,
    otherwise: T,
    errors: &mut Vec<SettingsError>,
) -> T {
    found.unwrap_or_else(|error| {
        errors.push(error);
        otherwise
    })
}
