//! How often the log is told of the same thing. Of each there is one in a worker.

use core::cell::Cell;

use crate::net::now_msec;

/// Something else that is needed and may fail: its failure is told at `error` and its recovery at
/// `notice`, once each, however many requests meet with it.
///
/// Where failures and successes take turns, because a client has found the one token that
/// Keystone chokes on or one node of a cluster is ill, that would still be two lines a request:
/// what fails again within [`INTERVAL`] of the last failure that was told is passed over, and so
/// is its recovery.
#[derive(Default)]
pub struct Incident {
    is_told: Cell<bool>,
    failures: Seldom,
}

impl Incident {
    /// Notes a failure; whether to tell of it.
    pub fn fails(&self) -> bool {
        let tells = !self.is_told.get() && self.failures.is_due();
        self.is_told.set(tells || self.is_told.get());
        tells
    }

    /// Notes a success; whether to tell of a recovery.
    pub fn works(&self) -> bool {
        self.is_told.replace(false)
    }
}

/// Something that each request may meet with and one line in [`INTERVAL`] tells of.
#[derive(Default)]
pub struct Seldom {
    /// On nginx's millisecond clock.
    told_at: Cell<Option<u64>>,
}

impl Seldom {
    /// Whether it is time for a line, which then counts as told.
    pub fn is_due(&self) -> bool {
        let now = now_msec();
        let is_due = self.told_at.get().is_none_or(|at| now.saturating_sub(at) >= INTERVAL);
        if is_due {
            self.told_at.set(Some(now));
        }
        is_due
    }
}

/// In milliseconds.
const INTERVAL: u64 = 60_000;
