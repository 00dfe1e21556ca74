//! What comes out for an identity service, complete and with defaults.

use std::path::PathBuf;
use std::time::Duration;

use keystone_token::api::AuthVersion;
use keystone_token::format::HashAlgorithm;

use crate::credentials::Credentials;
use crate::error::SettingsError;
use crate::files::is_same_file;
use crate::memcached::MemcachedSettings;
use crate::proxy::ProxySettings;
use crate::uri::ServiceUri;

/// The settings of an identity service. Servers whose settings are the same share one.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSettings {
    /// In the order in which they are tried; empty only where `keystone_auth_uri` is missing.
    pub identity_uris: Vec<ServiceUri>,
    /// The version of the API.
    pub auth_version: AuthVersion,
    /// Who the module is to Keystone.
    pub credentials: Credentials,
    /// For the TCP connection and the TLS handshake, of one try.
    pub connect_timeout: Duration,
    /// `keystone_send_timeout`: between two writes.
    pub send_timeout: Duration,
    /// `keystone_read_timeout`: between two reads.
    pub read_timeout: Duration,
    /// Tries after the first one.
    pub max_retries: u32,
    /// Idle connections per worker.
    pub keepalive: usize,
    /// The limit of pending validations, per worker.
    pub max_pending: usize,
    /// Of these, how many one client address may have; 0 for all.
    pub max_pending_per_address: usize,
    /// How often revocation events are fetched, if they are.
    pub revocation_events: Option<Duration>,
    /// The HTTP proxy through which the module sends its requests.
    pub proxy: Option<ProxySettings>,
    /// For endpoints with `https`.
    pub tls: TlsSettings,
    /// Certificates and the revocation list on disk.
    pub signing_dir: PathBuf,
    /// Never empty; the first names a token in logs and variables.
    pub hash_algorithms: Vec<HashAlgorithm>,
    /// Whether the revocation list is checked.
    pub revocation: bool,
    /// How old the list may be before it is fetched again.
    pub revocation_cache_time: Duration,
    /// How much older it may get while the service does not answer.
    pub revocation_stale: Duration,
    /// Where gateways share what the service has said.
    pub memcached: Option<MemcachedSettings>,
}

impl ServiceSettings {
    /// Checks that the service gets along with another one that is configured: two identity
    /// services would overwrite each other's certificates in one directory, whatever it is called.
    pub fn check_beside(&self, other: &Self) -> Result<(), SettingsError> {
        let are_two = self.identity_uris != other.identity_uris;
        match are_two && is_same_file(&self.signing_dir, &other.signing_dir) {
            true => Err(SettingsError::SharedSigningDir(self.signing_dir.clone())),
            false => Ok(()),
        }
    }
}

/// What the directives say about TLS. Paths are absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSettings {
    /// The client's certificate, with its chain.
    pub certificate: Option<PathBuf>,
    /// The key of the client's certificate.
    pub certificate_key: Option<PathBuf>,
    /// The name to send and to verify, if it is not the host's.
    pub name: Option<String>,
    /// Whether trust ends at any certificate of the bundle, also at one that is not self-signed.
    pub partial_chain: bool,
    /// The CA bundle; the system's CAs without one.
    pub trusted_certificate: Option<PathBuf>,
    /// Whether the server's certificate is verified.
    pub verify: bool,
}
