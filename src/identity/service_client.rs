//! An identity service in a worker process.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{fence, Ordering};
use std::time::Duration;

use keystone_zone::Row;
use nginx_sys::ngx_log_t;
use ngx::log::ngx_cycle_log;

use super::client::KeystoneClient;
use super::clock::CLOCK_LAG;
use super::known_events::Events;
use super::pending::{Refreshes, Validations};
use super::second_level::SecondLevel;
use super::service::Service;
use super::shared_token::SharedToken;
use super::snapshot::{Material, ParsedCertificates, Snapshot, LOAD_TRIES};
use crate::failure_log::{FailureLog, LogRateLimit};
use crate::log::AsLog;
use crate::net::{now_msec, now_sec};
use crate::zone::{Identity, ServiceCounters, ServiceState, Zone};

/// An identity service in a worker.
pub struct ServiceClient {
    pub(super) service: &'static Service,
    pub(super) zone: Zone,
    pub(super) state: ServiceState,
    /// The counters of this process.
    pub(super) row: Row<'static>,
    pub(super) client: KeystoneClient,
    material: RefCell<Rc<Material>>,
    pub(super) certificates: ParsedCertificates,
    pub(super) refreshes: Refreshes,
    pub(super) validations: Validations,
    pub(super) events: Events,
    /// Of parts of catalogs that are left out.
    catalog_omissions: LogRateLimit,
    /// Of roles that are left out.
    role_omissions: LogRateLimit,
    /// Of validations.
    pub(super) validation_failures: FailureLog,
    /// Of refreshes of the revocation list.
    pub(super) refresh_failures: FailureLog,
    /// Of rotations of the certificates.
    pub(super) rotation_failures: FailureLog,
    /// Of writes to the signing directory.
    pub(super) write_failures: FailureLog,
    /// The answers that gateways share, where memcached is configured.
    pub(super) memcached: Option<SecondLevel>,
}

/// What an identity keeps of its token beside what every request needs.
#[derive(Clone, Copy)]
pub struct Keeps {
    /// The catalog.
    pub catalog: bool,
    /// The ids of the roles.
    pub role_ids: bool,
}

impl ServiceClient {
    /// The service in this worker; `None` where the master has not made its state. `keeps_catalog`
    /// is whether records have the catalog in them.
    pub fn new(
        service: &'static Service,
        zone: Zone,
        row: Row<'static>,
        keeps_catalog: bool,
        log: NonNull<ngx_log_t>,
    ) -> Option<Self> {
        let state = zone.service(service.id)?;
        let tokens = Rc::new(SharedToken { zone, state, service: service.id });
        let counters = ServiceCounters::new(state, service.id);
        let memcached = service
            .memcached
            .as_ref()
            .map(|conf| SecondLevel::new(conf, &service.settings, keeps_catalog, counters, log));
        Some(Self {
            service,
            zone,
            state,
            row,
            client: KeystoneClient::new(service, tokens, counters, log),
            material: RefCell::default(),
            certificates: ParsedCertificates::default(),
            refreshes: Refreshes::default(),
            validations: Validations::default(),
            events: Events::default(),
            catalog_omissions: LogRateLimit::default(),
            role_omissions: LogRateLimit::default(),
            validation_failures: FailureLog::default(),
            refresh_failures: FailureLog::default(),
            rotation_failures: FailureLog::default(),
            write_failures: FailureLog::default(),
            memcached,
        })
    }

    /// The configuration of the service.
    pub fn service(&self) -> &'static Service {
        self.service
    }

    /// Counts up with every change of certificates or revocation list.
    pub fn generation(&self) -> u64 {
        self.state.generation()
    }

    /// Whether the state in the zone is still that of this service: a worker that has outlived two
    /// configurations may find another one's.
    pub(super) fn is_current(&self) -> bool {
        self.state.id() == self.service.id
    }

    /// What tokens are checked against now. Costs a load where nothing has changed.
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
                // No snapshot was published. Without signed tokens, none ever is.
                Some([]) => Some(Material { generation, ..Material::default() }),
                Some(bytes) => Snapshot::decode(bytes)
                    .filter(|snapshot| snapshot.generation == generation)
                    .map(|snapshot| {
                        let signers = self.certificates.of(&snapshot, now_sec()).ok();
                        Material::new(&snapshot, self.zone, &self.state, signers)
                    }),
                // A writer is at work.
                None => None,
            };
            let Some(material) = material.map(Rc::new) else {
                std::thread::yield_now();
                continue;
            };
            // Checked after the snapshot was read: a state changes its number first.
            if !self.is_current() {
                return Rc::default();
            }
            *self.material.borrow_mut() = material.clone();
            return material;
        }
        current
    }

    /// Whether the material is still the published one. If not, the names of its revocation list
    /// may have been overwritten while they were looked up.
    pub fn is_current_material(&self, material: &Material) -> bool {
        fence(Ordering::Acquire);
        self.generation() == material.generation
    }

    /// Notes that a PKI token came, so that certificates and list are kept fresh.
    pub fn note_use(&self) {
        self.state.set_used_at(now_msec());
    }

    /// How old the revocation list is; `None` if it was never fetched.
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

    /// An identity as requests share it. What is left out of it is logged, at a limited rate: other
    /// tokens have the same catalog and the same roles.
    pub fn to_shared(
        &self,
        log: impl AsLog,
        mut identity: keystone_token::identity::Identity,
        keeps: Keeps,
    ) -> Identity {
        if !identity.omitted_roles.is_empty() {
            self.report_roles(log, &identity.omitted_roles);
        }
        if !keeps.role_ids {
            identity.role_ids = None;
        }
        let (record, omitted) = identity.to_record(keeps.catalog);
        self.report_omissions(omitted);
        Identity::new(record)
    }

    fn report_roles(&self, log: impl AsLog, roles: &[String]) {
        let is_due = self.role_omissions.is_due();
        for role in roles {
            let why = "it has a comma, or a blank at an end";
            match is_due {
                true => warn!(log, "keystone: role \"{role}\" is left out: {why}"),
                false => info!(log, "keystone: role \"{role}\" is left out: {why}"),
            }
        }
    }

    fn report_omissions(&self, omitted: usize) {
        if omitted > 0 && self.catalog_omissions.is_due() {
            warn!(
                ngx_cycle_log(),
                "keystone: X-Service-Catalog is incomplete: {omitted} entries of the catalog in a \
                 token of \"{}\" are left out, a service needs a type, an endpoint needs an \
                 interface and a url, and these and the region must be strings",
                self.service.name()
            );
        }
    }

    /// `Retry-After` of a 503 in seconds: the rest of the pause of the identity service, if there
    /// is one.
    pub fn retry_after(&self) -> u64 {
        let left = self.client.hold_left().unwrap_or(RETRY_AFTER);
        left.as_millis().div_ceil(1_000).clamp(1, 60) as u64
    }

    /// Cancels all calls to the identity service.
    pub fn stop(&self) {
        self.refreshes.calls.cancel();
        self.validations.calls.cancel();
        self.events.calls.cancel();
        self.client.stop();
    }
}

/// `Retry-After` without a pause.
const RETRY_AFTER: Duration = Duration::from_secs(5);
