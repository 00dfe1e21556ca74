//! When certificates and the revocation list are fetched: one worker asks for all, and in a worker
//! all requests that need the answer wait for one refresh.
//!
//! Rotated certificates are fetched independently of the list. Any client can cause that with a
//! token whose signature does not match, so neither a failure nor the time that it takes may affect
//! requests that only need the list.

use std::rc::Rc;
use std::time::Duration;

use ngx::log::ngx_cycle_log;

use super::clock::{millis, millis_since};
use super::lease::{acquire, is_free, renewing, Acquired};
use super::pending::{RefreshCall, RefreshReason, RefreshTask, Unavailable};
use super::refresh_error::RefreshError;
use super::service_client::ServiceClient;
use super::snapshot::Revocations;
use crate::net::{exiting, now_micros, now_msec, or_timeout, Timer};

type Outcome = Result<(), Unavailable>;

/// A request that waits, for as long as this lives.
struct Waiting<'w> {
    service: &'w ServiceClient,
    task: RefreshTask,
}

impl<'w> Waiting<'w> {
    fn new(service: &'w ServiceClient, task: RefreshTask) -> Self {
        service.refreshes.add_waiting(task, 1);
        service.note_pending();
        Self { service, task }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.service.refreshes.add_waiting(self.task, -1);
        self.service.note_pending();
    }
}

impl ServiceClient {
    /// The time until a signature that does not match may cause another fetch of certificates. That
    /// is rate limited, however many clients send such tokens.
    pub fn time_to_rotation(&self) -> Duration {
        let passed = self.state.rotation_tried_at().map(millis_since);
        let left = passed.map_or(0, |passed| ROTATION_INTERVAL.saturating_sub(passed));
        Duration::from_millis(left)
    }

    /// Whether a request whose token's signature does not fit may wait for other certificates.
    pub fn may_look_for_rotation(&self) -> bool {
        let is_under_way = || {
            self.refreshes.calls.running(&RefreshTask::Rotation).is_some()
                || !is_free(self.state.rotation_lease())
        };
        (self.time_to_rotation().is_zero() || is_under_way())
            && self.may_wait(RefreshReason::Rotation)
    }

    /// Whether one more request may wait for a refresh. `keystone_max_pending` bounds those that
    /// wait for the list, those that wait for other certificates, and validations, each by itself:
    /// so the tokens of one client do not keep those of another from being checked.
    pub fn may_wait(&self, need: RefreshReason) -> bool {
        self.refreshes.waiting(need.task()) < self.service.settings.max_pending
    }

    /// How many requests wait for a refresh, and how many tokens are being asked about.
    pub(super) fn pending(&self) -> usize {
        self.refreshes.all_waiting() + self.validations.pending()
    }

    /// Publishes the number for `keystone_status`. Nothing is published in a row that several
    /// processes share: none of them knows how many of the others are pending.
    pub(super) fn note_pending(&self) {
        if self.row.is_own() && self.is_current() {
            self.state.set_pending(self.row.index, self.pending() as u64);
        }
    }

    /// Whether the last refresh of any worker failed.
    pub fn is_failing(&self) -> bool {
        self.state.failed_at().is_some()
    }

    /// Whether the last refresh of any worker failed so recently that another one now would only
    /// keep requests waiting. The more of them failed in a row, the longer that is.
    pub fn failed_recently(&self) -> bool {
        let interval = retry_interval(self.state.failures());
        self.state.failed_at().is_some_and(|failed_at| millis_since(failed_at) < interval)
    }

    /// Whether the published list was requested at this time of [`now_micros`] or later.
    pub(super) fn list_was_asked_since(&self, micros: u64) -> bool {
        let asked_at = self.state.list_asked_at();
        // A time in the future is one of before the clock was set back.
        asked_at.is_some_and(|asked_at| (micros..=now_micros()).contains(&asked_at))
    }

    /// Fetches what is needed, or waits for the refresh that does it already.
    ///
    /// A refresh that is already running may not be enough: the list may have been requested before
    /// the token of this request was revoked.
    pub async fn refresh(self: &Rc<Self>, need: RefreshReason) -> Outcome {
        let _waiting = Waiting::new(self, need.task());
        let came = now_micros();
        loop {
            let outcome = self.end_of_refresh(need).await;
            if outcome.is_err() || self.serves(need, came) {
                return outcome;
            }
        }
    }

    /// Fetches the list in the background, if no fetch is running or has just failed.
    pub fn refresh_ahead(self: &Rc<Self>) {
        // Workers that are not exiting do it.
        if !exiting() && !self.failed_recently() {
            // Nobody waits for it, and its failure is logged where it happens.
            self.join_refresh(RefreshTask::List);
        }
    }

    /// Whether the list may be used while the identity service does not answer.
    pub fn tolerates_list(&self) -> bool {
        let settings = &self.service.settings;
        let stale = settings.revocation_stale;
        let most = settings.revocation_cache_time.saturating_add(stale);
        !stale.is_zero() && self.list_age().is_some_and(|age| age <= most)
    }

    /// Refreshes the list ahead of time while it is in use, so that no request has to wait.
    pub async fn keep_fresh(self: Rc<Self>) {
        let settings = &self.service.settings;
        if !settings.revocation {
            return self.keep_files().await;
        }
        // A list that is fetched before each validation is nevertheless compared with the tokens
        // that were validated online.
        let is_eager = settings.revocation_cache_time.is_zero();
        let cache_time = if is_eager { EAGER_INTERVAL } else { settings.revocation_cache_time };
        let ahead = cache_time * 3 / 4;
        let tick = (cache_time / 8).max(Duration::from_millis(100));
        Timer::cancelable(Duration::from_millis(1)).await;
        while !exiting() {
            // A list that may be used while it is stale is kept from becoming stale.
            let may_be_stale = !settings.revocation_stale.is_zero();
            let is_wanted = match is_eager {
                true => self.compares_online_tokens() || may_be_stale && self.is_failing(),
                false => self.is_in_use() || may_be_stale,
            };
            if is_wanted && self.list_age().is_some_and(|age| age >= ahead) {
                self.refresh_ahead();
            }
            Timer::cancelable(tick).await;
        }
    }

    /// Whether tokens came recently that are checked against the list.
    pub(super) fn is_in_use(&self) -> bool {
        let has_signed = self.state.used_at().is_some_and(|at| self.is_lately(at));
        has_signed || self.compares_online_tokens()
    }

    /// Whether there is a list, and tokens that were validated online are compared with it.
    fn compares_online_tokens(&self) -> bool {
        self.state.used_online_at().is_some_and(|at| self.is_lately(at))
            && matches!(self.material().revocations, Revocations::List(_))
    }

    fn is_lately(&self, tick: u64) -> bool {
        millis_since(tick) < millis(self.service.settings.revocation_cache_time).max(60_000)
    }

    /// The outcome of a refresh. Where an older list will do while the identity service does not
    /// answer, it counts as not answering after a while.
    async fn end_of_refresh(self: &Rc<Self>, need: RefreshReason) -> Outcome {
        let call = self.join_refresh(need.task());
        if need != RefreshReason::List || !self.tolerates_list() {
            return call.outcome().await;
        }
        let left = Timer::new(PATIENCE.saturating_sub(call.elapsed()));
        let outcome = or_timeout(call.outcome(), left).await;
        outcome.unwrap_or_else(|| Err(Unavailable::new(&"there is no response yet")))
    }

    /// Whether a refresh that has ended well will do for a request that came at this time: its list
    /// must have been new enough then.
    fn serves(&self, need: RefreshReason, came: u64) -> bool {
        let settings = &self.service.settings;
        let since = came.saturating_sub(micros(settings.revocation_cache_time));
        need == RefreshReason::Rotation || !settings.revocation || self.list_was_asked_since(since)
    }

    fn join_refresh(self: &Rc<Self>, task: RefreshTask) -> Rc<RefreshCall> {
        self.refreshes.calls.join(task, || {
            let service = self.clone();
            async move {
                match task {
                    RefreshTask::List => service.report_refresh(service.refresh_for_all().await),
                    RefreshTask::Rotation => {
                        service.report_rotation(service.rotate_for_all().await)
                    }
                }
            }
        })
    }

    fn report_refresh(&self, outcome: Result<(), RefreshError>) -> Outcome {
        let log = ngx_cycle_log();
        let name = self.service.name();
        match &outcome {
            Ok(()) if self.refresh_failures.on_success() => {
                notice!(log, "keystone: identity service \"{name}\" answers again");
            }
            Err(error)
                if !matches!(error, RefreshError::OtherWorker)
                    && self.refresh_failures.on_failure() =>
            {
                error!(
                    log,
                    "keystone: cannot fetch certificates or revocation list of identity service \
                     \"{name}\": {error}"
                );
            }
            Err(error) => debug!(log, "keystone: refresh from \"{name}\" failed: {error}"),
            Ok(()) => {}
        }
        outcome.map_err(|error| Unavailable::new(&error))
    }

    fn report_rotation(&self, outcome: Result<(), RefreshError>) -> Outcome {
        let log = ngx_cycle_log();
        let name = self.service.name();
        match &outcome {
            Ok(()) if self.rotation_failures.on_success() => {
                notice!(
                    log,
                    "keystone: signing certificates of identity service \"{name}\" fetched again"
                );
            }
            Err(error) if self.rotation_failures.on_failure() => {
                error!(
                    log,
                    "keystone: signing certificates of identity service \"{name}\" cannot be \
                     fetched, the known ones stay in use: {error}"
                );
            }
            Err(error) => debug!(log, "keystone: no certificates from \"{name}\": {error}"),
            Ok(()) => {}
        }
        outcome.map_err(|error| Unavailable::new(&error))
    }

    /// Takes the lease and fetches, or waits until the worker that holds it has done so.
    async fn refresh_for_all(&self) -> Result<(), RefreshError> {
        if !self.is_current() {
            return Err(RefreshError::Retired);
        }
        let (started, before) = (now_micros(), self.state.refreshes());
        let outcome_of_another = || match self.state.refreshes() == before {
            true => None,
            false if self.is_failing() => Some(Err(RefreshError::OtherWorker)),
            // It may have asked too early.
            false => self.serves(RefreshReason::List, started).then_some(Ok(())),
        };
        let lease = match acquire(self.state.lease(), outcome_of_another).await {
            Acquired::Done(outcome) => return outcome,
            Acquired::Mine(lease) => lease,
        };
        let outcome = renewing(lease.as_ref(), self.fetch_list()).await;
        self.note_outcome(&outcome);
        outcome
    }

    /// The same for other certificates, at a limited rate.
    async fn rotate_for_all(&self) -> Result<(), RefreshError> {
        if !self.is_current() {
            return Err(RefreshError::Retired);
        }
        let lease = match acquire(self.state.rotation_lease(), || None).await {
            Acquired::Done(()) => return Ok(()),
            Acquired::Mine(lease) => lease,
        };
        // The worker that had the lease before may have fetched them.
        if !self.time_to_rotation().is_zero() {
            return Ok(());
        }
        self.state.set_rotation_tried_at(now_msec());
        let outcome = renewing(lease.as_ref(), self.fetch_rotated_certificates()).await;
        if outcome.as_ref().is_err_and(RefreshError::is_transient) && self.is_current() {
            // The service gave no answer: try again soon.
            let tried_at = now_msec().saturating_sub(ROTATION_INTERVAL - RETRY_INTERVAL);
            self.state.set_rotation_tried_at(tried_at);
        }
        outcome
    }

    fn note_outcome(&self, outcome: &Result<(), RefreshError>) {
        // The state may belong to another service by now.
        if !self.is_current() {
            return;
        }
        if let Err(error) = outcome {
            let text = error.to_string();
            let error = self.state.last_error();
            // A character that is cut in two is shown as U+FFFD.
            let text = &text.as_bytes()[..text.len().min(error.capacity())];
            self.zone.locked(|| error.store(text));
        }
        self.state.set_failed_at(outcome.is_err().then(now_msec));
        self.state.count_refresh(outcome.is_ok());
    }
}

/// Milliseconds from a failed refresh to the next attempt, where this many have failed in a row.
fn retry_interval(failures: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(8);
    (RETRY_INTERVAL << doublings).min(LONGEST_RETRY_INTERVAL)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds between two fetches of certificates because of a bad signature.
const ROTATION_INTERVAL: u64 = 10_000;

/// Milliseconds between two refreshes while the identity service does not answer.
const RETRY_INTERVAL: u64 = 1_000;
const LONGEST_RETRY_INTERVAL: u64 = 8_000;

/// How long a request waits for a list before it uses the one that is tolerated.
const PATIENCE: Duration = Duration::from_secs(1);

/// How old the list may be for tokens that were validated online, where a new PKI token always
/// fetches it.
const EAGER_INTERVAL: Duration = Duration::from_secs(10);
