//! Revocation events: which of the identity service's answers are no longer valid.
//!
//! An answer about a token is kept for a while. What ends it earlier is an event of Keystone that
//! covers the token, or an entry of the revocation list, where there is one. Both come with a
//! generation; an answer of an older one is compared before it counts again, so a lookup costs
//! nothing as long as nothing has changed.

use std::rc::Rc;
use std::time::Duration;

use keystone_token::record::Record;
use keystone_token::revocation_events::{RevocationEvents, RevocationEventsError};
use ngx::log::ngx_cycle_log;

use super::client::error::ClientError;
use super::clock::{millis, millis_since};
use super::known_events::{Known, Revoked};
use super::lease;
use super::service_client::ServiceClient;
use super::snapshot::{Revocations, LOAD_TRIES};
use crate::net::{exiting, now_msec, Timer};

#[derive(Debug, thiserror::Error)]
enum EventsError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("invalid response: {0}")]
    InvalidResponse(#[from] RevocationEventsError),
}

impl ServiceClient {
    /// Counts up with everything that may end the validity of a token that was validated online.
    pub fn online_generation(&self) -> u64 {
        // Both only grow: a sum identifies one pair of them.
        self.generation() + self.state.events_generation()
    }

    /// Notes the use of a token that only the identity service can validate.
    pub fn note_online_use(&self) {
        self.state.set_used_online_at(now_msec());
    }

    /// Whether a token that was validated online may have been revoked since.
    pub fn may_be_revoked(&self, token: &[u8], record: &Record<'_>) -> bool {
        let settings = &self.service.settings;
        let material = self.material();
        let is_listed = match &material.revocations {
            _ if !settings.revocation => false,
            // The list of before does not tell what the new one has.
            _ if material.generation != self.generation() => true,
            Revocations::List(list) => {
                list.revokes_id(token, record.audit_ids(), &settings.hash_algorithms)
                    || !self.is_current_material(&material)
            }
            Revocations::Absent | Revocations::Unknown => false,
        };
        is_listed
            || match &self.known_events().events {
                Revoked::Any => true,
                Revoked::These(events) => events.covers(record),
            }
    }

    /// Whether an answer that another gateway has stored can be compared with revocation events:
    /// they are known, if they are configured.
    pub(super) fn can_tell_revoked(&self) -> bool {
        self.service.settings.revocation_events.is_none() || self.known_events().were_had
    }

    /// Fetches the events at the configured interval, one worker for all, once tokens are validated
    /// online.
    pub async fn keep_events(self: Rc<Self>) {
        let Some(interval) = self.service.settings.revocation_events else { return };
        let tick = (interval / 4).max(Duration::from_millis(50));
        loop {
            Timer::cancelable(tick).await;
            // Workers that are not exiting do it.
            if exiting() {
                return;
            }
            let asked_at = self.state.events_asked_at();
            let age = asked_at.map(millis_since);
            let is_due =
                age.is_none_or(|age| age.saturating_add(millis(tick) / 2) >= millis(interval));
            let is_wanted = is_due && self.state.used_online_at().is_some() && self.is_current();
            if !is_wanted || self.events.calls.running(&()).is_some() {
                continue;
            }
            let Some(lease) = lease::take(self.state.events_lease()) else { continue };
            let service = self.clone();
            // Nobody waits for it, and its failure is logged where it happens.
            self.events.calls.join((), || async move {
                let fetched = lease::renewing(Some(&lease), service.fetch_events()).await;
                service.report_events(fetched);
                Ok(())
            });
        }
    }

    /// Fetches the events, and publishes them if they have changed.
    async fn fetch_events(&self) -> Result<(), EventsError> {
        let asked_at = now_msec().max(1);
        self.state.set_events_asked_at(asked_at);
        let json = self.client.revocation_events().await?;
        RevocationEvents::from_json(&json)?;
        if self.is_current() {
            self.state.set_events_had_at(asked_at);
        }
        let digest = blake3::hash(&json);
        // A worker that died while it published may have left events of another generation.
        let head = [&self.state.events_generation().to_le_bytes()[..], digest.as_bytes()].concat();
        if self.state.events().load().is_some_and(|published| published.starts_with(&head)) {
            return Ok(());
        }
        let has_room = self.zone.locked(|| {
            // If this took longer than the lease, a later request has newer events.
            let is_overtaken = self.state.events_asked_at() != Some(asked_at);
            if is_overtaken || !self.is_current() {
                return true;
            }
            let next = self.state.events_generation() + 1;
            let bytes = [&next.to_le_bytes()[..], digest.as_bytes(), &json].concat();
            let events = self.state.events();
            // Without the events themselves, where they are too many: see `Revoked::Any`.
            let has_room = events.store(&bytes);
            if has_room || events.store(&bytes[..HEAD]) {
                self.state.set_events_generation(next);
            }
            has_room
        });
        if !self.events.crowded.replace(!has_room) && !has_room {
            warn!(
                ngx_cycle_log(),
                "keystone: revocation events of \"{}\" take {} bytes, more than \
                 keystone_cache_zone has room for: all answers count as revoked by each new one, \
                 make the zone larger",
                self.service.name(),
                json.len()
            );
        }
        Ok(())
    }

    fn report_events(&self, outcome: Result<(), EventsError>) {
        let (log, name) = (ngx_cycle_log(), self.service.name());
        match outcome {
            Ok(()) if self.events.failures.on_success() => {
                notice!(
                    log,
                    "keystone: revocation events of identity service \"{name}\" fetched again"
                );
            }
            Err(error) if self.events.failures.on_failure() => {
                error!(
                    log,
                    "keystone: cannot fetch revocation events of identity service \"{name}\": \
                     {error}"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// The events of the newest generation, or of the one before while that is being written.
    pub(super) fn known_events(&self) -> Rc<Known> {
        let known = self.events.known.borrow().clone();
        let generation = self.state.events_generation();
        if known.generation == generation || !self.is_current() {
            return known;
        }
        for _ in 0..LOAD_TRIES {
            // Nothing, while a writer is at work.
            let Some(loaded) = self.state.events().load() else {
                std::thread::yield_now();
                continue;
            };
            let loaded = Rc::new(match (loaded.first_chunk(), loaded.get(HEAD..)) {
                (Some(generation), Some(json)) => {
                    // Nothing at all is no JSON either.
                    let events = RevocationEvents::from_json(json).map(Box::new);
                    let events = events.map_or(Revoked::Any, Revoked::These);
                    let generation = u64::from_le_bytes(*generation);
                    Known { generation, were_had: true, events }
                }
                // None were fetched yet.
                _ => Known { generation, ..Known::default() },
            });
            // As for the material.
            if !self.is_current() {
                return known;
            }
            *self.events.known.borrow_mut() = loaded.clone();
            return loaded;
        }
        // A writer died while it published: no answer is known to be valid until the next fetch.
        Rc::new(Known { generation, were_had: false, events: Revoked::Any })
    }
}

/// Before the events' JSON there are their generation and the JSON's digest.
const HEAD: usize = 8 + blake3::OUT_LEN;
