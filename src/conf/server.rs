//! Which identity service a server uses, and how (http, server).

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::directive::Refused;
use super::memcached::{MemcachedConf, MemcachedSettings};
use crate::identity::client::Credentials;
use crate::net::{Resolver, TlsSettings};
use keystone_token::api::AuthVersion;
use keystone_token::format::HashAlgorithm;
use keystone_token::jws::JwsKeys;
use keystone_token::secret::Secret;

/// The directives of one level, and, once merged, of all levels around it.
#[derive(Default)]
pub struct ServerConf {
    /// `keystone_auth_uri`.
    pub auth_uri: Option<String>,
    /// `keystone_identity_uri`.
    pub identity_uris: Option<Vec<String>>,
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
    /// `keystone_jws_keys`.  No setting of the identity service: what it has said of tokens stays
    /// true when its keys change.
    pub jws_keys: Option<Rc<JwsKeys>>,
    /// `keystone_revocation_events`.
    pub revocation_events: Option<Option<Duration>>,
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
    /// The identity service's place in the main configuration, once a location asks for it.
    pub service: Option<usize>,
    /// What is announced to a client without a valid token, made of the auth URI with `service`.
    pub challenge: String,
}

impl ServerConf {
    /// Takes from the level around this one what this one leaves open.
    pub fn inherit(&mut self, outer: &Self) {
        inherit!(self, outer: auth_uri identity_uris auth_version connect_timeout send_timeout read_timeout);
        inherit!(self, outer: max_retries keepalive max_pending max_pending_per_address);
        inherit!(self, outer: jws_keys revocation_events);
        inherit!(self, outer: ssl_trusted_certificate ssl_verify ssl_name ssl_certificate ssl_certificate_key);
        inherit!(self, outer: signing_dir hash_algorithms revocation revocation_cache_time revocation_stale);
        inherit!(self, outer: token_cache_time invalid_cache_time);
        self.credentials.inherit(&outer.credentials);
        self.memcached.inherit(&outer.memcached);
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

    /// All settings of the identity service, with their defaults.
    pub fn settings(
        &self,
        default_signing_dir: PathBuf,
        resolver: Option<Resolver>,
    ) -> Result<ServiceSettings, Refused> {
        let auth_uri = self.auth_uri.clone().unwrap_or_default();
        if self.ssl_certificate.is_some() != self.ssl_certificate_key.is_some() {
            return Err("\"keystone_ssl_certificate\" and \"keystone_ssl_certificate_key\" must \
                        be set together"
                .to_owned());
        }
        let max_pending = self.max_pending.unwrap_or(512);
        Ok(ServiceSettings {
            identity_uris: self.identity_uris.clone().unwrap_or_else(|| vec![auth_uri]),
            auth_version: self.auth_version.unwrap_or(AuthVersion::Auto),
            credentials: self.credentials.credentials()?,
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
            tls: TlsSettings {
                trusted_certificate: self.ssl_trusted_certificate.clone(),
                verify: self.ssl_verify.unwrap_or(true),
                name: self.ssl_name.clone(),
                certificate: self.ssl_certificate.clone(),
                certificate_key: self.ssl_certificate_key.clone(),
            },
            resolver,
            signing_dir: self.signing_dir.clone().unwrap_or(default_signing_dir),
            hash_algorithms: match self.hash_algorithms.clone() {
                Some(algorithms) => algorithms,
                None => vec![HashAlgorithm::Md5],
            },
            revocation: self.revocation.unwrap_or(true),
            revocation_cache_time: self.revocation_cache_time.unwrap_or(Duration::from_secs(10)),
            revocation_stale: self.revocation_stale.unwrap_or(Duration::ZERO),
            memcached: self.memcached.settings()?,
        })
    }
}

/// The settings of an identity service, complete.  Servers whose settings are the same share one.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSettings {
    /// In the order in which they are tried; never empty.
    pub identity_uris: Vec<String>,
    /// The version of the API.
    pub auth_version: AuthVersion,
    /// Who the module is to Keystone.
    pub credentials: Credentials,
    /// For the TCP connection and the TLS handshake, of one try.
    pub connect_timeout: Duration,
    /// Between two writes.
    pub send_timeout: Duration,
    /// Between two reads.
    pub read_timeout: Duration,
    /// Tries after the first one.
    pub max_retries: u32,
    /// Idle connections per worker.
    pub keepalive: usize,
    /// Validations under way, per worker.
    pub max_pending: usize,
    /// Of these, how many one client address may have; 0 for all.
    pub max_pending_per_address: usize,
    /// How often revocation events are fetched, if they are.
    pub revocation_events: Option<Duration>,
    /// For https.
    pub tls: TlsSettings,
    /// Where names are looked up again as their TTL says.
    pub resolver: Option<Resolver>,
    /// Certificates and the revocation list on disk.
    pub signing_dir: PathBuf,
    /// Never empty; the first names a token in logs and variables.
    pub hash_algorithms: Vec<HashAlgorithm>,
    /// Whether the revocation list is heeded.
    pub revocation: bool,
    /// How old the list may be before it is fetched again.
    pub revocation_cache_time: Duration,
    /// How much older it may get while the service does not answer.
    pub revocation_stale: Duration,
    /// Where gateways share what the service has said.
    pub memcached: Option<MemcachedSettings>,
}

/// The directives that make credentials, of which there are three kinds.  A level that sets a
/// directive of one kind inherits nothing of another.
#[derive(Clone, Default)]
pub struct CredentialsConf {
    /// `keystone_admin_token`.
    pub token: Option<Secret>,
    /// `keystone_username`.
    pub username: Option<String>,
    /// `keystone_password`.
    pub password: Option<Secret>,
    /// `keystone_project_name`.
    pub project_name: Option<String>,
    /// `keystone_user_domain_name`.
    pub user_domain_name: Option<String>,
    /// `keystone_project_domain_name`.
    pub project_domain_name: Option<String>,
    /// `keystone_application_credential_id`.
    pub application_credential_id: Option<String>,
    /// `keystone_application_credential_secret`.
    pub application_credential_secret: Option<Secret>,
}

impl CredentialsConf {
    fn is_password(&self) -> bool {
        self.username.is_some() || self.password.is_some() || self.project_name.is_some()
    }

    fn is_application_credential(&self) -> bool {
        self.application_credential_id.is_some() || self.application_credential_secret.is_some()
    }

    fn kinds(&self) -> [bool; 3] {
        [self.token.is_some(), self.is_password(), self.is_application_credential()]
    }

    fn inherit(&mut self, outer: &Self) {
        let mine = self.kinds();
        let [token, password, application] = match mine.contains(&true) {
            true => mine,
            false => [true; 3],
        };
        fn fill<T: Clone>(inherits: bool, slot: &mut Option<T>, outer: &Option<T>) {
            if inherits && slot.is_none() {
                slot.clone_from(outer);
            }
        }
        fill(token, &mut self.token, &outer.token);
        fill(password, &mut self.username, &outer.username);
        fill(password, &mut self.password, &outer.password);
        fill(password, &mut self.project_name, &outer.project_name);
        fill(true, &mut self.user_domain_name, &outer.user_domain_name);
        fill(true, &mut self.project_domain_name, &outer.project_domain_name);
        let (id, secret) =
            (&mut self.application_credential_id, &mut self.application_credential_secret);
        fill(application, id, &outer.application_credential_id);
        fill(application, secret, &outer.application_credential_secret);
    }

    fn credentials(&self) -> Result<Credentials, Refused> {
        let default_domain = || "Default".to_owned();
        match self.kinds() {
            [false, false, false] => Ok(Credentials::None),
            [true, false, false] => match &self.token {
                Some(token) => Ok(Credentials::Token(token.clone())),
                None => Ok(Credentials::None),
            },
            [false, true, false] => match (&self.username, &self.password) {
                (Some(username), Some(password)) => Ok(Credentials::Password {
                    username: username.clone(),
                    password: password.clone(),
                    project_name: self.project_name.clone(),
                    user_domain_name: self.user_domain_name.clone().unwrap_or_else(default_domain),
                    project_domain_name: self
                        .project_domain_name
                        .clone()
                        .unwrap_or_else(default_domain),
                }),
                _ => Err("\"keystone_username\" and \"keystone_password\" must be set together"
                    .to_owned()),
            },
            [false, false, true] => {
                match (&self.application_credential_id, &self.application_credential_secret) {
                    (Some(id), Some(secret)) => Ok(Credentials::ApplicationCredential {
                        id: id.clone(),
                        secret: secret.clone(),
                    }),
                    _ => Err("\"keystone_application_credential_id\" and \
                              \"keystone_application_credential_secret\" must be set together"
                        .to_owned()),
                }
            }
            _ => Err("only one of \"keystone_admin_token\", \"keystone_username\" and \
                      \"keystone_application_credential_id\" can be set"
                .to_owned()),
        }
    }
}
