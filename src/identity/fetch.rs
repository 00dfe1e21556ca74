//! What a refresh fetches, and how it is published to all workers.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use keystone_token::cms::Signers;
use ngx::log::ngx_cycle_log;

use super::client::RevocationAnswer;
use super::names::{digest, PublishedList, TableBuilder};
use super::pace::{release, Pace};
use super::refresh_error::RefreshError;
use super::revocation_list::{verify_list, ListError};
use super::service_client::ServiceClient;
use super::snapshot::{List, Snapshot};
use crate::net::{exiting, now_micros, now_msec, now_sec, Timer};
use crate::signing_dir::{self, Replaced, Replacement};

/// A snapshot that the next one is made from.
struct Draft {
    /// The generation that was published when it was read.
    base: u64,
    snapshot: Snapshot,
}

/// When a request was sent, on nginx's millisecond clock and on the exact one.
struct SentAt {
    tick: u64,
    micros: u64,
}

impl ServiceClient {
    /// Fetches the revocation list, and the certificates where there are none.
    pub(super) async fn fetch_list(&self) -> Result<(), RefreshError> {
        for _ in 0..OVERTAKEN_TRIES {
            match self.fetch_list_once().await {
                Err(RefreshError::Overtaken) => {}
                outcome => return outcome,
            }
        }
        Err(RefreshError::Overtaken)
    }

    /// Fetches the certificates. If that fails, the known ones stay.
    pub(super) async fn fetch_rotated_certificates(&self) -> Result<(), RefreshError> {
        for _ in 0..OVERTAKEN_TRIES {
            let mut draft = self.draft()?;
            match self.fetch_certificates(&mut draft).await {
                Err(RefreshError::Overtaken) => {}
                outcome => return outcome.map(drop),
            }
        }
        Err(RefreshError::Overtaken)
    }

    async fn fetch_list_once(&self) -> Result<(), RefreshError> {
        let log = ngx_cycle_log();
        let mut draft = self.draft()?;
        let mut signers = match self.certificates.of(&draft.snapshot, now_sec()) {
            Ok(signers) => signers,
            Err(_) => Rc::new(self.fetch_certificates(&mut draft).await?),
        };
        if !self.service.settings.revocation {
            return Ok(());
        }

        debug!(log, "keystone: fetching the revocation list from \"{}\"", self.service.name());
        // The list is as old as the request for it, not as the response.
        let asked = SentAt { tick: now_msec(), micros: now_micros() };
        let mut signed_list = None;
        let list = match self.client.revocation_list().await? {
            RevocationAnswer::NoList { status } => {
                if draft.snapshot.list != List::Absent {
                    let name = self.service.name();
                    warn!(
                        log,
                        "keystone: identity service \"{name}\" has no revocation list, status \
                         {status}: it is asked about signed tokens"
                    );
                }
                List::Absent
            }
            RevocationAnswer::Signed(mut list) => {
                let signed = list.take_message().map_err(ListError::Cms)?;
                let mut content = verify_list(&signed, &signers, now_sec(), PACE).await;
                let may_look = self.time_to_rotation().is_zero();
                if matches!(content, Err(ListError::Signature(_))) && may_look {
                    self.state.set_rotation_tried_at(now_msec());
                    signers = Rc::new(self.fetch_certificates(&mut draft).await?);
                    content = verify_list(&signed, &signers, now_sec(), PACE).await;
                }
                let published = self.publish_names(&draft, content?).await?;
                release(signed.into_der(), PACE).await;
                signed_list = Some(list);
                List::Published(published)
            }
        };
        let next = Snapshot { list, ..draft.snapshot.clone() };
        self.publish(&mut draft, next, Some(&asked))?;
        if let Some(list) = signed_list {
            let written = self.write_list(list.pem()).await;
            self.report_written(signing_dir::REVOKED, &written);
            release(list.into_pem(), PACE).await;
        }
        self.restore_files(&draft.snapshot);
        Ok(())
    }

    /// Restores deleted files where no list is fetched.
    pub(super) async fn keep_files(&self) {
        while !exiting() {
            Timer::cancelable(FILES_INTERVAL).await;
            let published = self.state.snapshot().load().filter(|_| self.is_current());
            let snapshot = published.and_then(|bytes| Snapshot::decode(&bytes));
            if let Some(snapshot) = snapshot.filter(|snapshot| !snapshot.signing.is_empty()) {
                self.restore_files(&snapshot);
            }
        }
    }

    /// Writes the certificates again if their files were deleted.
    fn restore_files(&self, snapshot: &Snapshot) {
        let directory = &self.service.settings.signing_dir;
        for (name, bytes) in [
            (signing_dir::CA_CERTIFICATE, &snapshot.ca),
            (signing_dir::SIGNING_CERTIFICATE, &snapshot.signing),
        ] {
            if signing_dir::is_missing(directory, name) {
                self.write_file(name, bytes);
            }
        }
    }

    /// Puts the names of a list into the zone, unless they are there.
    async fn publish_names(
        &self,
        draft: &Draft,
        content: &[u8],
    ) -> Result<PublishedList, RefreshError> {
        let digest = digest(content, PACE).await;
        let known = match &draft.snapshot.list {
            List::Published(list) if list.digest == digest => return Ok(*list),
            List::Published(list) => Some(list),
            List::Absent | List::Unknown => None,
        };
        let (zone, state, service) = (self.zone, self.state, self.service.id);
        let builder = TableBuilder { zone, state, service, base: draft.base, pace: PACE };
        builder.build(content, digest, known).await
    }

    /// Fetches the certificates, and publishes them if they have changed.
    async fn fetch_certificates(&self, draft: &mut Draft) -> Result<Signers, RefreshError> {
        let log = ngx_cycle_log();
        debug!(log, "keystone: fetching certificates from \"{}\"", self.service.name());
        let signing = self.client.signing_certificates().await?;
        let ca = self.client.ca_certificates().await?;
        let signers = Signers::from_pem(&signing, &ca, now_sec())?;
        let (signing, ca) = (signing.to_vec(), ca.to_vec());
        let next = Snapshot { signing, ca, ..draft.snapshot.clone() };
        self.publish(draft, next, None)?;
        self.write_file(signing_dir::CA_CERTIFICATE, &draft.snapshot.ca);
        self.write_file(signing_dir::SIGNING_CERTIFICATE, &draft.snapshot.signing);
        Ok(signers)
    }

    /// What is published now, to start from.
    fn draft(&self) -> Result<Draft, RefreshError> {
        // Under the mutex no writer is at work: what cannot be read now was left by one that died.
        let (base, found) = self.zone.locked(|| {
            let published = self.state.snapshot().load();
            let found = published.and_then(|bytes| Snapshot::decode(&bytes));
            if let Some(snapshot) = &found {
                // A writer may have died between its two stores.
                let generation = self.state.generation().max(snapshot.generation);
                self.state.set_generation(generation);
            }
            (self.state.generation(), found)
        });
        match self.is_current() {
            true => Ok(Draft { base, snapshot: found.unwrap_or_default() }),
            false => Err(RefreshError::Retired),
        }
    }

    /// Publishes the next snapshot, unless another worker has published something since the draft
    /// was read.
    fn publish(
        &self,
        draft: &mut Draft,
        mut next: Snapshot,
        list_asked: Option<&SentAt>,
    ) -> Result<(), RefreshError> {
        let generation = draft.base + 1;
        let bytes = (next != draft.snapshot).then(|| {
            next.generation = generation;
            next.encode()
        });
        self.zone.locked(|| {
            if !self.is_current() {
                return Err(RefreshError::Retired);
            }
            let is_overwritten = match &next.list {
                list if *list == draft.snapshot.list => false,
                List::Published(list) => !self.state.is_building_names(list.number),
                List::Absent | List::Unknown => false,
            };
            let is_older =
                list_asked.is_some_and(|asked| self.list_was_asked_since(asked.micros + 1));
            if is_overwritten || is_older || self.state.generation() != draft.base {
                return Err(RefreshError::Overtaken);
            }
            if let Some(bytes) = &bytes {
                if !self.state.snapshot().store(bytes) {
                    return Err(RefreshError::TooLarge(bytes.len()));
                }
                self.state.set_generation(generation);
                draft.base = generation;
            }
            if let Some(asked) = list_asked {
                self.state.set_list_asked_at(asked.micros);
                self.state.set_list_checked_at(asked.tick.cast_signed());
            }
            Ok(())
        })?;
        draft.snapshot = next;
        Ok(())
    }

    fn write_file(&self, name: &str, bytes: &[u8]) {
        let written = signing_dir::store(&self.service.settings.signing_dir, name, bytes);
        self.report_written(name, &written);
    }

    async fn write_list(&self, pem: &[u8]) -> io::Result<()> {
        let directory = &self.service.settings.signing_dir;
        let mut replacement = Replacement::begin(directory, signing_dir::REVOKED)?;
        replacement.allocate(pem.len());
        for (at, part) in pem.chunks(WRITTEN_BYTES).enumerate() {
            if at > 0 {
                PACE.pause().await;
            }
            replacement.write(part)?;
        }
        let replaced = Replaced::find(directory, signing_dir::REVOKED);
        replacement.finish()?;
        if let Some(mut replaced) = replaced {
            while replaced.shrink() {
                PACE.pause().await;
            }
        }
        Ok(())
    }

    /// Without the file, a restart has to ask; nothing else depends on it.
    fn report_written(&self, name: &str, written: &io::Result<()>) {
        let directory = &self.service.settings.signing_dir;
        let (log, shown) = (ngx_cycle_log(), directory.display());
        match written {
            Ok(()) if self.write_failures.on_success() => {
                notice!(log, "keystone: {shown} can be written again");
            }
            Err(error) if self.write_failures.on_failure() => {
                error!(log, "keystone: {shown}/{name} cannot be written: {error}");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

const OVERTAKEN_TRIES: usize = 3;

/// A long list takes many rounds of the event loop.
const PACE: Pace = Pace::EachRound;

/// What is written of the list in a round.
const WRITTEN_BYTES: usize = 64 << 10;

/// How often the files are checked.
const FILES_INTERVAL: Duration = Duration::from_secs(5);
