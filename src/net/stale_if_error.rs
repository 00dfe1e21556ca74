//! Values that are obtained again from time to time, and stay in use while that fails, as a cache's
//! responses do with `stale-if-error` (RFC 5861, section 4).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use super::single_flight::{Abandoned, SingleFlight};
use super::timer::{now_msec, or_timeout, Timer};

/// A value of this worker, and the call that obtains it again.
pub struct StaleIfError<T, E> {
    state: Rc<State<T>>,
    calls: SingleFlight<(), T, E>,
}

struct State<T> {
    value: RefCell<Option<T>>,
    /// When the last call failed, on nginx's millisecond clock; `None` if it did not.
    failed_at: Cell<Option<u64>>,
}

impl<T, E> StaleIfError<T, E>
where
    T: Clone + 'static,
    E: Clone + From<Abandoned> + 'static,
{
    /// With a value that serves until the first call has another one.
    pub fn new(value: Option<T>) -> Self {
        let state = State { value: RefCell::new(value), failed_at: Cell::new(None) };
        Self { state: Rc::new(state), calls: SingleFlight::default() }
    }

    /// The value that is known.
    pub fn value(&self) -> Option<T> {
        self.state.value.borrow().clone()
    }

    /// Forgets the value: it is known to be wrong.
    pub fn forget(&self) {
        self.state.value.take();
    }

    /// Cancels the call that is running.
    pub fn cancel(&self) {
        self.calls.cancel();
    }

    /// Obtains the value again by `work`, one call for all that need it.
    ///
    /// The known value is returned if the call fails, or takes longer than [`PATIENCE`]. After a
    /// failure it is returned at once for a time, and further calls are made in the background.
    pub async fn renew<F>(&self, work: impl FnOnce() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        let call = || {
            self.calls.join((), || {
                let (state, work) = (self.state.clone(), work());
                async move { state.note(work.await) }
            })
        };
        let Some(known) = self.value() else { return call().outcome().await };
        let since_failure = self.state.failed_at.get().map(|at| now_msec().saturating_sub(at));
        if let Some(since) = since_failure.filter(|since| *since < FAILURE_LIFETIME) {
            if since >= RETRY_INTERVAL {
                call();
            }
            return Ok(known);
        }
        let call = call();
        let left = Timer::new(PATIENCE.saturating_sub(call.elapsed()));
        match or_timeout(call.outcome(), left).await {
            None => Ok(known),
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => self.value().ok_or(error),
        }
    }
}

impl<T: Clone> State<T> {
    fn note<E>(&self, outcome: Result<T, E>) -> Result<T, E> {
        self.failed_at.set(outcome.is_err().then(now_msec));
        if let Ok(value) = &outcome {
            self.value.replace(Some(value.clone()));
        }
        outcome
    }
}

/// How long a request waits for a new value while there is a known one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Milliseconds from a failed call to the next one.
const RETRY_INTERVAL: u64 = 5_000;

/// Milliseconds for which a failure tells what the next call would come to.
const FAILURE_LIFETIME: u64 = 60_000;
