//! Leases: which worker may do work that one does for all.

use std::future::Future;
use std::time::{Duration, Instant};

use keystone_zone::{Lease, LeaseGuard};

use crate::net::{exiting, now_msec, with_interval, Timer};
use crate::zone::{is_alive, own_process};

/// The outcome of waiting for a lease.
pub(super) enum Acquired<T> {
    /// The work is this worker's. Without the lease only in a worker that is to exit, where
    /// no other worker does it.
    Mine(Option<LeaseGuard<'static>>),
    /// Another worker's work has had this outcome.
    Done(T),
}

/// Waits until the work is this worker's, or another worker's outcome is there.
///
/// A worker that is to exit takes no lease: it may be gone before the work ends. Its own requests
/// wait for what another worker does, and where none does it, as when nginx quits, for this one.
pub(super) async fn acquire<T>(
    lease: Lease<'static>,
    mut outcome: impl FnMut() -> Option<T>,
) -> Acquired<T> {
    let mut left = GRACE;
    loop {
        let guard = take(lease);
        // Checked while the lease is held: its last holder has published the outcome by then.
        if let Some(outcome) = outcome() {
            return Acquired::Done(outcome);
        }
        if guard.is_some() {
            return Acquired::Mine(guard);
        }
        left = match exiting() && is_free(lease) {
            true if left.is_zero() => return Acquired::Mine(None),
            true => left.saturating_sub(POLL),
            false => GRACE,
        };
        Timer::new(POLL).await;
    }
}

/// Does the work of a lease, and renews the lease meanwhile, up to [`LONGEST_RENEWED`].
pub(super) async fn renewing<T>(
    lease: Option<&LeaseGuard<'_>>,
    work: impl Future<Output = T>,
) -> T {
    let Some(lease) = lease else { return work.await };
    let started = Instant::now();
    let renew = || {
        if started.elapsed() < LONGEST_RENEWED {
            lease.renew(now_msec(), LEASE);
        }
        None
    };
    with_interval(work, RENEWAL, renew).await
}

/// Takes a lease for this process, unless another live process holds it or this one is exiting.
pub(super) fn take(lease: Lease<'static>) -> Option<LeaseGuard<'static>> {
    match exiting() {
        true => None,
        false => lease.try_take(own_process(), now_msec(), LEASE, is_alive),
    }
}

/// Whether no live process holds the lease.
pub(super) fn is_free(lease: Lease<'static>) -> bool {
    lease.is_free(now_msec(), LEASE, is_alive)
}

/// Milliseconds from which another worker may do the work, if the holder hangs.
const LEASE: u64 = 30_000;

/// How often the holder renews its lease.
const RENEWAL: Duration = Duration::from_secs(5);

/// How long the holder renews it: longer than all tries take that end with a time-out, by default.
/// After that another worker may try as well.
const LONGEST_RENEWED: Duration = Duration::from_secs(60);

/// How often a worker checks whether the holder is done.
const POLL: Duration = Duration::from_millis(20);

/// How long an exiting worker lets others take a free lease first.
const GRACE: Duration = Duration::from_millis(200);
