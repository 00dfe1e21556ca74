//! Limits how often the log reports the same failure. Each worker counts for itself.

use core::cell::Cell;

use crate::net::now_msec;

/// The failures of something that many requests depend on: the first is logged at `error` and the
/// recovery at `notice`, once each, however many requests are affected.
///
/// Failures and successes may alternate, because one token makes Keystone fail or one node of a
/// cluster is down, and then every request would log two lines. So a failure is not logged within
/// [`INTERVAL`] of the last one that was, and neither is the recovery from it.
#[derive(Default)]
pub struct FailureLog {
    /// Whether the last failure was logged and no recovery followed.
    is_logged: Cell<bool>,
    failures: LogRateLimit,
}

impl FailureLog {
    /// Notes a failure; says whether to log it.
    pub fn on_failure(&self) -> bool {
        let logs = !self.is_logged.get() && self.failures.is_due();
        self.is_logged.set(logs || self.is_logged.get());
        logs
    }

    /// Notes a success; says whether to log a recovery.
    pub fn on_success(&self) -> bool {
        self.is_logged.replace(false)
    }
}

/// Something that any request may cause and that is logged once in [`INTERVAL`].
#[derive(Default)]
pub struct LogRateLimit {
    /// When it was last logged, on nginx's millisecond clock.
    logged_at: Cell<Option<u64>>,
}

impl LogRateLimit {
    /// Whether to log it now; it then counts as logged.
    pub fn is_due(&self) -> bool {
        let now = now_msec();
        let is_due = self.logged_at.get().is_none_or(|at| now.saturating_sub(at) >= INTERVAL);
        if is_due {
            self.logged_at.set(Some(now));
        }
        is_due
    }
}

/// Milliseconds between two lines.
const INTERVAL: u64 = 60_000;
