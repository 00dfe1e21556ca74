//! An identity service as it is configured, and what the master prepares for the workers.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use keystone_conf::{Credentials, Position, ServiceSettings, ServiceUri, TlsSettings};
use keystone_token::cms::{SignedData, Signers};
use nginx_sys::{ngx_conf_t, ngx_log_t};

use super::names::{digest, PublishedList, TableBuilder};
use super::pace::{at_once, Pace};
use super::refresh_error::RefreshError;
use super::revocation_list::ListError;
use super::second_level::{SecondLevelConf, SecondLevelError};
use super::snapshot::{List, Snapshot};
use crate::net::{
    now_msec, now_sec, Endpoint, EndpointError, Proxy, Resolver, TlsContext, TlsError,
};
use crate::signing_dir;
use crate::zone::{ServiceState, Zone};

/// An identity service as it is configured.
pub struct Service {
    /// Identifies it in the zone: the same settings give the same number after a reload.
    pub id: u64,
    /// All settings, with their defaults.
    pub settings: ServiceSettings,
    /// Where its `keystone_signing_dir` is set, or the `keystone_auth` that needs the service.
    pub position: Position,
    /// nginx's resolver, which looks host names up again as their TTL says.
    pub resolver: Option<Resolver>,
    pub(super) endpoints: Vec<Endpoint>,
    /// For `https` endpoints.
    pub(super) tls: Option<TlsContext>,
    pub(super) memcached: Option<SecondLevelConf>,
}

impl Service {
    /// Resolves the endpoints and loads the certificates for TLS, or shares those of the services
    /// that are `known`.
    pub fn new(
        cf: &mut ngx_conf_t,
        settings: ServiceSettings,
        resolver: Option<Resolver>,
        known: &[Box<Self>],
    ) -> Result<Self, ServiceError> {
        let proxy = settings.proxy.as_ref().map(|proxy| Proxy::new(cf, proxy, resolver));
        let proxy = proxy.transpose().map_err(ServiceError::Proxy)?.map(Rc::new);
        let endpoints = settings
            .identity_uris
            .iter()
            .map(|uri| match &proxy {
                Some(proxy) => Ok(Endpoint::behind(proxy.clone(), uri)),
                None => Endpoint::new(cf, uri, resolver),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let https = endpoints.iter().any(Endpoint::is_https);
        // A file that cannot be used is an error, whether or not it is needed.
        let has_files =
            settings.tls.trusted_certificate.is_some() || settings.tls.certificate.is_some();
        let known = known.iter().filter_map(|known| known.tls.as_ref());
        let tls = (https || has_files).then(|| TlsContext::new(&settings.tls, https, known));
        let tls = tls.transpose().map_err(|error| ServiceError::tls(error, &settings.tls))?;
        let memcached = settings
            .memcached
            .as_ref()
            .map(|memcached| SecondLevelConf::new(cf, memcached))
            .transpose()?;
        let (id, position) = (id(&settings), Position::default());
        Ok(Self { id, settings, position, resolver, endpoints, tls, memcached })
    }

    /// What the log calls it.
    pub fn name(&self) -> &str {
        self.settings.identity_uris.first().map_or("", ServiceUri::as_str)
    }
}

/// Why an identity service cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// One of its URIs is invalid.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// memcached cannot be used.
    #[error(transparent)]
    Memcached(#[from] SecondLevelError),
    /// The proxy's URI is invalid.
    #[error(transparent)]
    Proxy(EndpointError),
    /// TLS cannot be used.
    #[error(transparent)]
    Tls(TlsError),
    /// A file for TLS cannot be used.
    #[error("cannot use \"{}\" of \"{directive}\" directive: {reason}", path.display())]
    TlsFile {
        /// The directive that names it.
        directive: &'static str,
        /// The certificate, the key or the CA bundle.
        path: PathBuf,
        /// What the system or OpenSSL says.
        reason: String,
    },
}

impl ServiceError {
    fn tls(error: TlsError, settings: &TlsSettings) -> Self {
        let TlsError::File { path, reason } = error else { return Self::Tls(error) };
        let directive = match Some(&path) {
            file if file == settings.certificate_key.as_ref() => "keystone_ssl_certificate_key",
            file if file == settings.certificate.as_ref() => "keystone_ssl_certificate",
            _ => "keystone_ssl_trusted_certificate",
        };
        Self::TlsFile { directive, path, reason }
    }

    /// The directives that it is about; those that are not set are passed over.
    pub fn directives(&self) -> Vec<&'static str> {
        match self {
            Self::Endpoint(_) => vec!["keystone_identity_uri", "keystone_auth_uri"],
            Self::Memcached(error) => vec![error.directive()],
            Self::Proxy(_) => vec!["keystone_proxy"],
            Self::Tls(_) => Vec::new(),
            Self::TlsFile { directive, .. } => vec![directive],
        }
    }
}

/// Names the settings, all of them: what workers share belongs to one identity service and one
/// service user, and to one way of asking.
fn id(settings: &ServiceSettings) -> u64 {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    // A secret shows nothing of itself here: it is added below.
    add(&format!("{settings:?}"));
    match &settings.credentials {
        Credentials::ApplicationCredential { secret, .. }
        | Credentials::Password { password: secret, .. }
        | Credentials::Token(secret) => add(secret.expose()),
        Credentials::None => {}
    }
    if let Some(secret) = settings.memcached.as_ref().and_then(|it| it.secret.as_ref()) {
        add(secret.expose());
    }
    if let Some(secret) = settings.proxy.as_ref().and_then(|it| it.authorization.as_ref()) {
        add(secret.expose());
    }
    let digest = hasher.finalize();
    u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

/// Prepares, in the master, the signing directory and, where the zone is empty, a snapshot of what
/// is in that directory.
pub fn start(
    service: &Service,
    owner: signing_dir::Owner,
    zone: &Zone,
    state: &ServiceState,
    log: *mut ngx_log_t,
) -> Result<(), signing_dir::PrepareError> {
    let directory = &service.settings.signing_dir;
    if let Some(warning) = signing_dir::prepare(directory, owner)? {
        warn!(log, "keystone: {warning}");
    }
    // Under the mutex no writer is at work: what cannot be read was left by one that died.
    let published = zone.locked(|| state.snapshot().load());
    let known = published.and_then(|bytes| Snapshot::decode(&bytes));
    if known.is_some_and(|known| !known.signing.is_empty()) {
        return Ok(());
    }
    let Some((mut snapshot, revoked)) = read_directory(directory, now_sec(), log) else {
        return Ok(());
    };
    let mut age = None;
    if let Some((content, list_age)) = revoked {
        match publish_names(service, *zone, *state, &content) {
            Ok(list) => {
                snapshot.list = List::Published(list);
                age = Some(list_age);
            }
            Err(reason) => report_ignored(directory, signing_dir::REVOKED, &reason, log),
        }
    }
    zone.locked(|| {
        if let List::Published(list) = &snapshot.list {
            // A worker of the configuration before has begun to fill the same table.
            if !state.is_building_names(list.number) {
                return;
            }
        }
        // What tokens were checked against before is gone.
        snapshot.generation = state.generation() + 1;
        if state.snapshot().store(&snapshot.encode()) {
            state.set_generation(snapshot.generation);
            // A list from the future counts as one that was never fetched.
            let age = age.and_then(|age| i64::try_from(age.as_millis()).ok());
            if let Some(age) = age {
                state.set_list_checked_at(now_msec().cast_signed().saturating_sub(age));
            }
        }
    });
    Ok(())
}

/// Puts the names of a list into the zone.
fn publish_names(
    service: &Service,
    zone: Zone,
    state: ServiceState,
    content: &[u8],
) -> Result<PublishedList, RefreshError> {
    // Where a writer died, workers still use the snapshot before: it may have this very table.
    let base = zone.locked(|| {
        state.set_generation(state.generation() + 1);
        state.generation()
    });
    let (service, pace) = (service.id, Pace::AtOnce);
    let builder = TableBuilder { zone, state, service, base, pace };
    let built = at_once(async {
        let digest = digest(content, Pace::AtOnce).await;
        builder.build(content, digest, None).await
    });
    built.unwrap_or(Err(RefreshError::Overtaken))
}

fn report_ignored(
    directory: &Path,
    name: &str,
    reason: &dyn std::fmt::Display,
    log: *mut ngx_log_t,
) {
    warn!(log, "keystone: {}/{name} is ignored: {reason}", directory.display());
}

/// The content of a list in the directory, and how old it is.
type ListFile = (Vec<u8>, Duration);

/// A snapshot of what lies in the directory, as far as it verifies, without the list, and the
/// list.
fn read_directory(
    directory: &Path,
    now: i64,
    log: *mut ngx_log_t,
) -> Option<(Snapshot, Option<ListFile>)> {
    let complain = |reason: String| warn!(log, "keystone: {reason}");
    let files = signing_dir::load(directory, complain);
    let (signing, ca) = (files.signing?, files.ca?);
    let ignore = |name: &str, reason: &dyn std::fmt::Display| {
        report_ignored(directory, name, reason, log);
    };
    let signers = match Signers::from_pem(&signing, &ca, now) {
        Ok(signers) => signers,
        Err(reason) => {
            ignore(signing_dir::SIGNING_CERTIFICATE, &reason);
            return None;
        }
    };
    let snapshot = Snapshot { generation: 0, signing, ca, list: List::Unknown };
    let revoked = files.revoked.and_then(|(pem, age)| match verify_file(&pem, &signers, now) {
        Ok(content) => Some((content, age)),
        Err(reason) => {
            ignore(signing_dir::REVOKED, &reason);
            None
        }
    });
    Some((snapshot, revoked))
}

fn verify_file(pem: &[u8], signers: &Signers, now: i64) -> Result<Vec<u8>, ListError> {
    let signed = SignedData::from_pem(pem)?;
    let content = signers.verify(&signed, now)?;
    Ok(content.to_vec())
}
