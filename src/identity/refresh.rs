//! Fetching certificates and the revocation list: one worker asks for all, and in a worker all
//! requests that need the answer wait for one refresh.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use keystone_token::cms::Signers;
use ngx::log::ngx_cycle_log;

use super::client::{ClientError, RevocationAnswer};
use super::flight::Flight;
use super::lease::{claim, Claim};
use super::snapshot::{List, Snapshot};
use super::{millis, verify_list, ListError, Worker};
use crate::net::{exiting, now_msec, now_sec, Timer};
use crate::signing_dir;

/// What a token cannot be checked without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// There are no certificates that can be used.
    Certificates,
    /// The revocation list is too old, or was never had.
    List,
    /// A signature does not fit the certificates: they may have been replaced.
    Rotation,
}

/// Why the identity service did not give what was needed of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(Rc<str>);

impl Unavailable {
    /// The reason, as it reads on in a log line.
    pub(super) fn new(reason: &dyn std::fmt::Display) -> Self {
        Self(reason.to_string().into())
    }

    /// Of work that ended without an outcome: by a panic, or with the worker.
    pub(super) fn given_up() -> Self {
        Self("it was given up".into())
    }
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error("the signing certificates cannot be used: {0}")]
    Certificates(#[from] keystone_token::cms::CertificateError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error("another worker's attempt to fetch them failed")]
    OtherWorker,
    #[error("other workers keep publishing others")]
    Overtaken,
    #[error("this worker's configuration is too old")]
    Retired,
    #[error(
        "certificates and revocation list take {0} bytes, more than keystone_cache_zone has room \
         for: make the zone larger"
    )]
    TooLarge(usize),
}

/// The refresh that is under way in this worker, if one is.
#[derive(Default)]
pub(super) struct Refresh {
    under_way: RefCell<Option<UnderWay>>,
    /// How many wait for one.
    waiting: Cell<usize>,
}

#[derive(Clone, Default)]
struct UnderWay {
    /// Whether it looks for other certificates.
    rotation: bool,
    flight: Rc<Flight<Result<(), Unavailable>>>,
}

impl Worker {
    /// How long it takes until a signature that does not fit may be asked about: once in a while
    /// only, whoever sends such tokens and however many.
    pub fn time_to_rotation(&self) -> Duration {
        let passed = self.state.rotation_tried_at().map(|at| now_msec().saturating_sub(at));
        let left = passed.map_or(0, |passed| ROTATION_INTERVAL.saturating_sub(passed));
        Duration::from_millis(left)
    }

    /// Whether one more request may wait for a refresh (`keystone_max_pending`).
    pub fn may_wait(&self) -> bool {
        self.pending() < self.service.settings.max_pending
    }

    /// How many requests wait for a refresh, and how many tokens are being asked about.
    pub(super) fn pending(&self) -> usize {
        self.refresh.waiting.get() + self.validations.under_way()
    }

    /// Tells the others how many there are.  A row that several processes share tells nothing: one
    /// of them could not take back what another one has open.
    pub(super) fn note_pending(&self) {
        if self.row.is_own() && self.is_current() {
            self.state.set_pending(self.row.index, self.pending() as u64);
        }
    }

    /// Whether the last refresh of any worker failed so recently that another one now would only
    /// keep requests waiting.
    pub fn failed_recently(&self) -> bool {
        self.state
            .failed_at()
            .is_some_and(|failed_at| now_msec().saturating_sub(failed_at) < RETRY_INTERVAL)
    }

    /// Fetches what is needed, or waits for the refresh that does it already.
    pub async fn refresh(self: &Rc<Self>, need: Need) -> Result<(), Unavailable> {
        struct Waiting<'w>(&'w Worker);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                let waiting = &self.0.refresh.waiting;
                waiting.set(waiting.get() - 1);
                self.0.note_pending();
            }
        }
        self.refresh.waiting.set(self.refresh.waiting.get() + 1);
        self.note_pending();
        let _waiting = Waiting(self);

        let rotation = need == Need::Rotation;
        let under_way = self.refresh.under_way.borrow().clone();
        if let Some(under_way) = under_way {
            let outcome = under_way.flight.landed().await;
            if !rotation || under_way.rotation {
                return outcome;
            }
        }
        self.start_refresh(need).flight.landed().await
    }

    /// Refreshes for as long as PKI tokens come, ahead of the time at which a request would have
    /// to wait.
    pub async fn keep_fresh(self: Rc<Self>) {
        let settings = &self.service.settings;
        let cache_time = settings.revocation_cache_time;
        if !settings.revocation || cache_time.is_zero() {
            return;
        }
        let ahead = cache_time * 3 / 4;
        loop {
            Timer::cancelable((cache_time / 8).max(Duration::from_millis(100))).await;
            // Those that stay see to it.
            if exiting() {
                return;
            }
            let due = self.list_age().is_some_and(|age| age >= ahead);
            if self.is_in_use() && due && !self.failed_recently() {
                // Nobody waits for it, and its failure is logged where it happens.
                self.start_refresh(Need::List);
            }
        }
    }

    /// Whether PKI tokens have come lately.
    pub(super) fn is_in_use(&self) -> bool {
        let lately = millis(self.service.settings.revocation_cache_time).max(60_000);
        self.state.used_at().is_some_and(|at| now_msec().saturating_sub(at) < lately)
    }

    fn start_refresh(self: &Rc<Self>, need: Need) -> UnderWay {
        // Two requests may get here after one flight: the second joins the first one's.
        if let Some(under_way) = self.refresh.under_way.borrow().clone() {
            return under_way;
        }
        let under_way = UnderWay { rotation: need == Need::Rotation, ..UnderWay::default() };
        *self.refresh.under_way.borrow_mut() = Some(under_way.clone());
        let (worker, ended) = (self.clone(), self.clone());
        under_way.flight.launch(
            async move {
                let outcome = worker.refresh_for_all(need).await;
                worker.report(outcome)
            },
            move || *ended.refresh.under_way.borrow_mut() = None,
            Err(Unavailable::given_up()),
        );
        under_way
    }

    fn report(&self, outcome: Result<(), RefreshError>) -> Result<(), Unavailable> {
        let log = ngx_cycle_log();
        let name = self.service.name();
        match outcome {
            Ok(()) => {
                if self.failing.works() {
                    notice!(log, "keystone: identity service \"{name}\" answers again");
                }
                Ok(())
            }
            Err(error) => {
                if !matches!(error, RefreshError::OtherWorker) && self.failing.fails() {
                    error!(
                        log,
                        "keystone: certificates or revocation list cannot be had from \
                         \"{name}\": {error}"
                    );
                } else {
                    debug!(log, "keystone: refresh from \"{name}\" failed: {error}");
                }
                Err(Unavailable::new(&error))
            }
        }
    }

    /// Takes the lease and fetches, or waits until the worker that holds it has done so.
    async fn refresh_for_all(&self, need: Need) -> Result<(), RefreshError> {
        let (before, tried_at) = (self.state.refreshes(), self.state.rotation_tried_at());
        let outcome_of_another = || {
            let ended = self.state.refreshes() != before;
            // Another worker's refresh may have been for the list alone.
            let serves = need != Need::Rotation || self.state.rotation_tried_at() != tried_at;
            (ended && serves).then(|| match self.state.failed_at() {
                Some(_) => Err(RefreshError::OtherWorker),
                None => Ok(()),
            })
        };
        let _lease = match claim(self.state.lease(), outcome_of_another).await {
            Claim::Done(outcome) => return outcome,
            Claim::Mine(lease) => lease,
        };
        let outcome = self.fetch(need).await;
        if outcome.is_err() && need == Need::Rotation {
            // Not found out: to be tried again soon.
            let tried_at = now_msec().saturating_sub(ROTATION_INTERVAL - RETRY_INTERVAL);
            self.state.set_rotation_tried_at(tried_at);
        }
        self.note_outcome(&outcome);
        outcome
    }

    fn note_outcome(&self, outcome: &Result<(), RefreshError>) {
        if let Err(error) = outcome {
            let text = error.to_string();
            let error = self.state.last_error();
            // What is cut off in a character is read with a mark for it.
            let text = &text.as_bytes()[..text.len().min(error.capacity())];
            self.zone.locked(|| error.store(text));
        }
        self.state.set_failed_at(outcome.is_err().then(now_msec));
        self.state.count_refresh(outcome.is_ok());
    }

    async fn fetch(&self, need: Need) -> Result<(), RefreshError> {
        for _ in 0..OVERTAKEN_TRIES {
            match self.fetch_once(need).await {
                Err(RefreshError::Overtaken) => {}
                outcome => return outcome,
            }
        }
        Err(RefreshError::Overtaken)
    }

    async fn fetch_once(&self, need: Need) -> Result<(), RefreshError> {
        let log = ngx_cycle_log();
        let settings = &self.service.settings;
        let mut draft = self.draft()?;
        let mut usable =
            Signers::from_pem(&draft.snapshot.signing, &draft.snapshot.ca, now_sec()).ok();
        if need == Need::Rotation {
            usable = None;
            self.state.set_rotation_tried_at(now_msec());
        }
        let mut signers = match usable {
            Some(signers) => signers,
            None => self.fetch_certificates(&mut draft).await?,
        };
        if !settings.revocation {
            return Ok(());
        }

        debug!(log, "keystone: fetching the revocation list from \"{}\"", self.service.name());
        // The answer tells what was revoked until the question was sent, not until it came.
        let asked_at = now_msec();
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
            RevocationAnswer::Signed(signed) => {
                let mut content = verify_list(signed.as_bytes(), &signers, now_sec());
                let may_look = self.time_to_rotation().is_zero();
                if matches!(content, Err(ListError::Signature(_))) && may_look {
                    self.state.set_rotation_tried_at(now_msec());
                    signers = self.fetch_certificates(&mut draft).await?;
                    content = verify_list(signed.as_bytes(), &signers, now_sec());
                }
                let content = content?;
                self.write_file(signing_dir::REVOKED, signed.as_bytes());
                List::Content(content)
            }
        };
        let changed = draft.snapshot.list != list;
        draft.snapshot.list = list;
        self.publish(&mut draft, changed, Some(asked_at))
    }

    /// Fetches the certificates, and publishes them if they are others.
    async fn fetch_certificates(&self, draft: &mut Draft) -> Result<Signers, RefreshError> {
        let log = ngx_cycle_log();
        debug!(log, "keystone: fetching certificates from \"{}\"", self.service.name());
        let signing = self.client.signing_certificates().await?;
        let ca = self.client.ca_certificates().await?;
        let signers = Signers::from_pem(&signing, &ca, now_sec())?;
        let changed = draft.snapshot.signing != signing || draft.snapshot.ca != ca;
        draft.snapshot.signing = signing.to_vec();
        draft.snapshot.ca = ca.to_vec();
        self.publish(draft, changed, None)?;
        self.write_file(signing_dir::CA_CERTIFICATE, &ca);
        self.write_file(signing_dir::SIGNING_CERTIFICATE, &signing);
        Ok(signers)
    }

    /// What is published now, to start from.
    fn draft(&self) -> Result<Draft, RefreshError> {
        let published = || {
            let bytes = self.state.snapshot().load()?;
            Some((self.state.generation(), Snapshot::decode(&bytes)?))
        };
        // Under the mutex no writer is at work: what cannot be read now was left by one that died.
        let found = self.zone.locked(|| match published() {
            Some((generation, snapshot)) if snapshot.generation > generation => {
                // A writer died between its two stores.
                self.state.set_generation(snapshot.generation);
                Some(snapshot)
            }
            found => found.map(|(_, snapshot)| snapshot),
        });
        match self.is_current() {
            true => {
                Ok(Draft { base: self.state.generation(), snapshot: found.unwrap_or_default() })
            }
            false => Err(RefreshError::Retired),
        }
    }

    /// Publishes the draft, unless another worker has published something since it was started.
    fn publish(
        &self,
        draft: &mut Draft,
        changed: bool,
        list_asked_at: Option<u64>,
    ) -> Result<(), RefreshError> {
        let next = draft.base + 1;
        let bytes = changed.then(|| {
            draft.snapshot.generation = next;
            draft.snapshot.encode()
        });
        self.zone.locked(|| {
            if !self.is_current() {
                return Err(RefreshError::Retired);
            }
            if self.state.generation() != draft.base {
                return Err(RefreshError::Overtaken);
            }
            if let Some(bytes) = &bytes {
                if !self.state.snapshot().store(bytes) {
                    return Err(RefreshError::TooLarge(bytes.len()));
                }
                self.state.set_generation(next);
                draft.base = next;
            }
            if let Some(asked_at) = list_asked_at {
                self.state.set_list_checked_at(asked_at.cast_signed());
            }
            Ok(())
        })
    }

    /// Without the file, a restart has to ask; nothing else depends on it.
    fn write_file(&self, name: &str, bytes: &[u8]) {
        let directory = &self.service.settings.signing_dir;
        let (log, shown) = (ngx_cycle_log(), directory.display());
        match signing_dir::store(directory, name, bytes) {
            Ok(()) if self.unwritable.works() => {
                notice!(log, "keystone: {shown} can be written again");
            }
            Err(error) if self.unwritable.fails() => {
                error!(log, "keystone: {shown}/{name} cannot be written: {error}");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// A snapshot that is being made.
struct Draft {
    /// The generation that it starts from.
    base: u64,
    snapshot: Snapshot,
}

const OVERTAKEN_TRIES: usize = 3;

/// Milliseconds between two looks for other certificates because of a bad signature.
const ROTATION_INTERVAL: u64 = 10_000;

/// Milliseconds between two refreshes while the identity service does not answer.
const RETRY_INTERVAL: u64 = 1_000;
