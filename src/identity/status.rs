//! The state of an identity service, as `keystone_status` shows it.

use std::time::Duration;

use keystone_conf::{Credentials, ServiceUri};
use keystone_gateway::status::{
    distinct, Events, Limited, List, Service, ServiceToken, SigningCertificate,
};

use super::client::TokenStore;
use super::known_events::Revoked;
use super::service_client::ServiceClient;
use super::shared_token::SharedToken;
use super::snapshot::Revocations;
use crate::net::{now_msec, now_sec};

impl ServiceClient {
    /// The state and the counters of the service, which is called `name`.
    pub fn status(&self, name: String) -> Service {
        let settings = &self.service.settings;
        let mut report = Service { service: name, ..Service::default() };
        // A worker that has outlived two configurations finds the state of another service.
        if !self.is_current() {
            return report;
        }
        let (exchanges, memcached) = (self.state.exchanges(), self.state.memcached());
        let endpoints = distinct(settings.identity_uris.iter().map(ServiceUri::as_str));
        report.add_exchanges(&endpoints, |at| exchanges.read(at));
        if let Some(servers) = settings.memcached.as_ref().map(|settings| &settings.servers) {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            report.add_memcached(&servers, |at| memcached.read(at));
        }
        report.retries = self.state.retries();
        report.pending = self.zone.pending(&self.state);
        let [max_pending, max_pending_per_address] = self.state.limited();
        report.limited = Limited { max_pending, max_pending_per_address };
        report.service_token = self.service_token_status();
        report.revocation_events = self.events_status();
        self.add_material(&mut report);
        report
    }

    fn service_token_status(&self) -> Option<ServiceToken> {
        let tokens = SharedToken { zone: self.zone, state: self.state, service: self.service.id };
        // It is not known when a configured token ends.
        let is_obtained = !matches!(self.service.settings.credentials, Credentials::Token(_));
        let token = tokens.load().filter(|_| is_obtained)?;
        let seconds_left = token.expires_at.saturating_sub(now_sec());
        Some(ServiceToken { expires_at: token.expires_at, seconds_left })
    }

    fn add_material(&self, report: &mut Service) {
        let settings = &self.service.settings;
        let material = self.material();
        let (state, entries) = match &material.revocations {
            _ if !settings.revocation => ("off", None),
            Revocations::Absent => ("absent", None),
            Revocations::List(list) => ("list", Some(list.len() as u64)),
            Revocations::Unknown => ("unknown", None),
        };
        let [refreshes_ok, refreshes_failed] = self.state.refresh_counts();
        let last_error = self.state.last_error().load().filter(|text| !text.is_empty());
        report.revocation_list = List {
            state,
            entries,
            generation: self.generation(),
            age_seconds: self
                .list_age()
                .filter(|age| settings.revocation && *age != Duration::MAX)
                .map(seconds),
            cache_time_seconds: seconds(settings.revocation_cache_time),
            in_use: settings.revocation && self.is_in_use(),
            refreshes_ok,
            refreshes_failed,
            failing: self.state.failed_at().is_some(),
            last_error: last_error.map(|text| String::from_utf8_lossy(&text).into_owned()),
        };
        let now = now_sec();
        let certificates = material.signers.iter().flat_map(|signers| signers.certificates());
        report.signing_certificates =
            certificates.map(|it| SigningCertificate::new(&it, now)).collect();
    }

    fn events_status(&self) -> Option<Events> {
        let interval = self.service.settings.revocation_events?;
        let known = self.known_events();
        let entries = match &known.events {
            Revoked::These(events) if known.were_had => Some(events.len() as u64),
            Revoked::Any | Revoked::These(_) => None,
        };
        let had_at = self.state.events_had_at();
        let age = had_at.map(|at| Duration::from_millis(now_msec().saturating_sub(at)));
        Some(Events {
            entries,
            generation: self.state.events_generation(),
            age_seconds: age.map(seconds),
            interval_seconds: seconds(interval),
        })
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
