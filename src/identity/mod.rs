//! The identity service: what the module knows of it, and how it is asked.
//!
//! [`Service`] is configuration, made by the master.  A [`Worker`] holds, for the worker process
//! it lives in, the connections to the service and the parsed [`Material`] that tokens are checked
//! against; what workers share lies in the zone.

pub mod client;
mod events;
mod fetch;
mod flight;
mod lease;
mod refresh;
mod report;
mod second_level;
mod snapshot;
mod validation;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use keystone_conf::{Credentials, ServiceSettings, ServiceUri};
use keystone_token::cms::{SignedData, Signers};
use keystone_token::revocation::RevocationList;
use keystone_token::secret::Secret;
use keystone_zone::{Lease, Row};
use nginx_sys::{ngx_conf_t, ngx_log_t};

use self::client::{ClientSettings, KeystoneClient, ServiceToken, TokenStore};
use self::second_level::{SecondLevel, Setup};
use self::snapshot::{List, Snapshot};
use crate::incident::Incident;
use crate::net::{now_msec, now_sec, Endpoint, Resolver, TlsContext};
use crate::signing_dir;
use crate::zone::{ServiceState, Tally, Zone};

pub use self::refresh::{Need, Unavailable};
pub use self::snapshot::{Material, Revocations};
pub use self::validation::{Bound, Question};

/// An identity service as it is configured.
pub struct Service {
    /// Names it in the zone: the same settings give the same number after a reload.
    pub id: u64,
    /// All settings.
    pub settings: ServiceSettings,
    /// Where its name is looked up again as the TTL says.
    pub resolver: Option<Resolver>,
    endpoints: Vec<Endpoint>,
    tls: TlsContext,
    memcached: Option<Setup>,
}

impl Service {
    /// Resolves the endpoints and loads the certificates for TLS.
    pub fn new(
        cf: &mut ngx_conf_t,
        settings: ServiceSettings,
        resolver: Option<Resolver>,
    ) -> Result<Self, String> {
        let endpoints = settings
            .identity_uris
            .iter()
            .map(|uri| Endpoint::parse(cf, uri.as_str(), resolver))
            .collect::<Result<_, _>>()?;
        let tls = TlsContext::new(&settings.tls)?;
        let memcached =
            settings.memcached.as_ref().map(|memcached| Setup::new(cf, memcached)).transpose()?;
        Ok(Self { id: id(&settings), settings, resolver, endpoints, tls, memcached })
    }

    /// What the log calls it.
    pub fn name(&self) -> &str {
        self.settings.identity_uris.first().map_or("", ServiceUri::as_str)
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
    // Secrets show nothing of themselves here.
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
    let digest = hasher.finalize();
    u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

/// Makes ready, in the master, what workers will find: the signing directory, and, where the zone
/// holds nothing yet, a snapshot of what lies in it.
pub fn start(
    service: &Service,
    owner: signing_dir::Owner,
    zone: &Zone,
    state: &ServiceState,
    log: *mut ngx_log_t,
) -> Result<(), String> {
    let directory = &service.settings.signing_dir;
    if let Some(warning) = signing_dir::prepare(directory, owner)? {
        warn!(log, "{warning}");
    }
    let known = state.snapshot().load().and_then(|bytes| Snapshot::decode(&bytes));
    if known.is_some_and(|known| !known.signing.is_empty()) {
        return Ok(());
    }
    let Some((mut snapshot, age)) = read_directory(directory, now_sec(), log) else {
        return Ok(());
    };
    zone.locked(|| {
        // What tokens were checked against before is gone.
        snapshot.generation = state.generation() + 1;
        if state.snapshot().store(&snapshot.encode()) {
            state.set_generation(snapshot.generation);
            // A list from the future is as good as one that was never had.
            let age = age.and_then(|age| i64::try_from(age.as_millis()).ok());
            if let Some(age) = age {
                state.set_list_checked_at(now_msec().cast_signed().saturating_sub(age));
            }
        }
    });
    Ok(())
}

/// A snapshot of what lies in the directory, as far as it verifies, and how old its list is.
fn read_directory(
    directory: &Path,
    now: i64,
    log: *mut ngx_log_t,
) -> Option<(Snapshot, Option<Duration>)> {
    let complain = |reason: String| warn!(log, "keystone: {reason}");
    let files = signing_dir::load(directory, complain);
    let (signing, ca) = (files.signing?, files.ca?);
    let left_aside = |name: &str, reason: &dyn std::fmt::Display| {
        warn!(log, "keystone: {}/{name} is left aside: {reason}", directory.display());
    };
    let signers = match Signers::from_pem(&signing, &ca, now) {
        Ok(signers) => signers,
        Err(reason) => {
            left_aside(signing_dir::SIGNING_CERTIFICATE, &reason);
            return None;
        }
    };
    let mut snapshot = Snapshot { generation: 0, signing, ca, list: List::Unknown };
    let mut list_age = None;
    if let Some((signed, age)) = files.revoked {
        match verify_list(&signed, &signers, now) {
            Ok(content) => {
                snapshot.list = List::Content(content);
                list_age = Some(age);
            }
            Err(reason) => left_aside(signing_dir::REVOKED, &reason),
        }
    }
    Some((snapshot, list_age))
}

/// The content of a signed revocation list, verified and known to parse.
fn verify_list(signed: &[u8], signers: &Signers, now: i64) -> Result<Vec<u8>, ListError> {
    let signed = SignedData::from_pem(signed)?;
    let content = signers.verify(&signed, now)?;
    RevocationList::from_json(content)?;
    Ok(content.to_vec())
}

/// Why a revocation list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is not what Keystone signs.
    #[error("the revocation list is malformed: {0}")]
    Cms(#[from] keystone_token::cms::CmsError),
    /// Its content is no list.
    #[error("the revocation list is no list: {0}")]
    Content(#[from] keystone_token::revocation::RevocationError),
    /// Its signature does not hold.
    #[error("the revocation list cannot be verified: {0}")]
    Signature(#[from] keystone_token::cms::SignatureError),
}

/// An identity service in a worker.
pub struct Worker {
    service: &'static Service,
    zone: Zone,
    state: ServiceState,
    /// Where this process counts.
    row: Row<'static>,
    client: KeystoneClient,
    material: RefCell<Rc<Material>>,
    refresh: refresh::Refresh,
    validations: validation::Validations,
    events: events::Events,
    /// That questions about tokens have no answer.
    mute: Incident,
    /// That certificates or revocation list cannot be had.
    failing: Incident,
    /// That other certificates cannot be had.
    not_rotating: Incident,
    /// That the signing directory cannot be written.
    unwritable: Incident,
    /// What other gateways were told, where they are to be asked.
    memcached: Option<SecondLevel>,
}

impl Worker {
    /// The service in this worker; `None` where the master has not made its state. `keeps_catalog`
    /// is whether records have the catalog in them.
    pub fn new(
        service: &'static Service,
        zone: Zone,
        row: Row<'static>,
        keeps_catalog: bool,
        log: std::ptr::NonNull<ngx_log_t>,
    ) -> Option<Self> {
        let state = zone.service(service.id)?;
        let settings = &service.settings;
        let client = ClientSettings {
            endpoints: service.endpoints.clone(),
            version: settings.auth_version,
            credentials: settings.credentials.clone(),
            connect_timeout: settings.connect_timeout,
            send_timeout: settings.send_timeout,
            read_timeout: settings.read_timeout,
            max_retries: settings.max_retries,
            keepalive: settings.keepalive,
            tls: Some(service.tls.clone()),
        };
        let tokens = Rc::new(SharedToken { zone, state, service: service.id });
        let tally = Tally::new(state, service.id);
        let memcached = service
            .memcached
            .as_ref()
            .map(|setup| SecondLevel::new(setup, settings, keeps_catalog, tally, log));
        Some(Self {
            service,
            zone,
            state,
            row,
            client: KeystoneClient::new(client, tokens, tally, log),
            material: RefCell::default(),
            refresh: refresh::Refresh::default(),
            validations: validation::Validations::default(),
            events: events::Events::default(),
            mute: Incident::default(),
            failing: Incident::default(),
            not_rotating: Incident::default(),
            unwritable: Incident::default(),
            memcached,
        })
    }

    /// The configuration of it.
    pub fn service(&self) -> &'static Service {
        self.service
    }

    /// Counts up with every change of certificates or revocation list.
    pub fn generation(&self) -> u64 {
        self.state.generation()
    }

    /// Whether the state in the zone is still that of this service: a worker that has outlived two
    /// configurations may find another one's.
    fn is_current(&self) -> bool {
        self.state.id() == self.service.id
    }

    /// What tokens are checked against now.  Costs a load where nothing has changed.
    pub fn material(&self) -> Rc<Material> {
        let current = self.material.borrow().clone();
        if !self.is_current() {
            return Rc::default();
        }
        if current.generation == self.generation() {
            return current;
        }
        for _ in 0..LOAD_TRIES {
            let generation = self.generation();
            let loaded = self.state.snapshot().load();
            let material = match loaded.as_deref() {
                // None was published yet, nor may ever be where no token is signed.
                Some([]) => Some(Material { generation, ..Material::default() }),
                Some(bytes) => Snapshot::decode(bytes)
                    .filter(|snapshot| snapshot.generation == generation)
                    .map(|snapshot| Material::new(&snapshot, now_sec())),
                // A writer is at work.
                None => None,
            };
            let Some(material) = material.map(Rc::new) else {
                std::thread::yield_now();
                continue;
            };
            *self.material.borrow_mut() = material.clone();
            return material;
        }
        current
    }

    /// Notes that a PKI token came, so that certificates and list are kept fresh.
    pub fn note_use(&self) {
        self.state.set_used_at(now_msec());
    }

    /// How old the revocation list is; `None` where it was never had.
    pub fn list_age(&self) -> Option<Duration> {
        let checked_at = self.state.list_checked_at()?;
        let age = now_msec().cast_signed().saturating_sub(checked_at);
        Some(match u64::try_from(age) {
            Ok(age) => Duration::from_millis(age),
            // As in `millis_since`.
            Err(_) if age.unsigned_abs() > CLOCK_LAG => Duration::MAX,
            Err(_) => Duration::ZERO,
        })
    }

    /// After how many seconds a request that has got 503 may come again: when the identity service
    /// may be asked, where that is known.
    pub fn retry_after(&self) -> u64 {
        let left = self.client.hold_left().unwrap_or(RETRY_AFTER);
        left.as_millis().div_ceil(1_000).clamp(1, 60) as u64
    }

    /// Gives up all that is under way.
    pub fn stop(&self) {
        self.refresh.cancel();
        self.validations.cancel();
    }
}

/// The service token in the zone, so that workers need not each ask for one.
///
/// A worker that has outlived two configurations may find there the token of another identity
/// service, which is nobody's business but that one's: then it keeps its own to itself.
struct SharedToken {
    zone: Zone,
    state: ServiceState,
    /// Whose token it has to be.
    service: u64,
}

impl SharedToken {
    /// Asked after the token was read: a state changes its number first.
    fn is_ours(&self) -> bool {
        self.state.id() == self.service
    }

    fn put(&self, bytes: &[u8]) {
        self.zone.locked(|| {
            if self.is_ours() {
                self.state.token().store(bytes);
            }
        });
    }
}

impl TokenStore for SharedToken {
    fn load(&self) -> Option<ServiceToken> {
        let bytes = self.state.token().load().filter(|_| self.is_ours())?;
        let (issued_at, rest) = bytes.split_first_chunk()?;
        let (expires_at, id) = rest.split_first_chunk()?;
        let id = std::str::from_utf8(id).ok().filter(|id| !id.is_empty())?;
        Some(ServiceToken {
            id: Secret::new(id),
            issued_at: i64::from_le_bytes(*issued_at),
            expires_at: i64::from_le_bytes(*expires_at),
        })
    }

    fn store(&self, token: &ServiceToken) {
        let mut bytes = token.issued_at.to_le_bytes().to_vec();
        bytes.extend_from_slice(&token.expires_at.to_le_bytes());
        bytes.extend_from_slice(token.id.expose().as_bytes());
        self.put(&bytes);
    }

    fn clear(&self) {
        self.put(&[]);
    }

    fn login_lease(&self) -> Option<Lease<'static>> {
        self.is_ours().then(|| self.state.login_lease())
    }

    fn refused(&self) -> (u64, u32) {
        if self.is_ours() {
            self.state.refused()
        } else {
            (0, 0)
        }
    }

    fn set_refused(&self, not_before: u64, times: u32) {
        if self.is_ours() {
            self.state.set_refused(not_before, times);
        }
    }

    fn held_until(&self, endpoint: usize) -> u64 {
        if self.is_ours() {
            self.state.held_until(endpoint)
        } else {
            0
        }
    }

    fn set_held_until(&self, endpoint: usize, until: u64) {
        if self.is_ours() {
            self.state.set_held_until(endpoint, until);
        }
    }
}

/// Milliseconds since a time of nginx's millisecond clock.  A time in the future is one of before the
/// clock was set back, and counts as long ago.
fn millis_since(tick: u64) -> u64 {
    let now = now_msec();
    match tick > now.saturating_add(CLOCK_LAG) {
        true => u64::MAX,
        false => now.saturating_sub(tick),
    }
}

/// What `Retry-After` says where nothing is held.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Milliseconds by which this worker may have read the clock earlier than another one.
const CLOCK_LAG: u64 = 1_000;

/// Looks at a snapshot that a writer may be at; a write takes microseconds.
const LOAD_TRIES: usize = 10;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
