//! Work that is done once for all that need its outcome.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use ngx::async_::Task;

use super::task::spawn;
use super::timer::{exiting, with_interval};

/// The running calls of this worker, at most one for each key.
pub struct SingleFlight<K, T, E> {
    /// A call takes itself out when it has ended.
    calls: Rc<RefCell<Calls<K, T, E>>>,
}

type Calls<K, T, E> = BTreeMap<K, Rc<Call<T, E>>>;

/// Work that ended without an outcome: by a panic, or with the worker.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request was given up")]
pub struct Abandoned;

impl<K, T, E> Default for SingleFlight<K, T, E> {
    fn default() -> Self {
        Self { calls: Rc::default() }
    }
}

impl<K, T, E> SingleFlight<K, T, E>
where
    K: Clone + Ord + 'static,
    T: Clone + 'static,
    E: Clone + From<Abandoned> + 'static,
{
    /// The running call for `key`, if there is one.
    pub fn running(&self, key: &K) -> Option<Rc<Call<T, E>>> {
        self.calls.borrow().get(key).cloned()
    }

    /// Joins the call for `key`, or starts one that does `work`.
    ///
    /// The work is a task of its own and goes on when the request that started it is gone. An
    /// exiting worker abandons it once nothing waits for it: it may take as long as several
    /// time-outs.
    pub fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Rc<Call<T, E>>
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        if let Some(call) = self.running(&key) {
            return call;
        }
        let call = Rc::new(Call::new());
        self.calls.borrow_mut().insert(key.clone(), call.clone());
        let completion = Completion {
            calls: self.calls.clone(),
            key,
            call: call.clone(),
            outcome: Cell::new(None),
        };
        // On the heap once, and not copied from one function's state into the next one's.
        let work = Box::pin(work());
        let task = spawn(async move {
            let completion = completion;
            let is_awaited = || !completion.call.waiting.borrow().is_empty();
            completion.outcome.set(unless_abandoned(work, is_awaited).await);
        });
        call.task.replace(Some(task));
        call
    }

    /// Cancels all calls.
    pub fn cancel(&self) {
        self.calls.borrow().values().for_each(|call| drop(call.task.take()));
    }
}

/// A running call, and what waits for its outcome.
pub struct Call<T, E> {
    started: Instant,
    outcome: RefCell<Option<Result<T, E>>>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
    /// The number of the next waker.
    tickets: Cell<u64>,
    /// The task that does the work, until it has ended.
    task: RefCell<Option<Task<()>>>,
}

impl<T: Clone, E: Clone> Call<T, E> {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            outcome: RefCell::default(),
            waiting: RefCell::default(),
            tickets: Cell::default(),
            task: RefCell::default(),
        }
    }

    /// How long the call has been running.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until the call ends, and returns a copy of its outcome.
    pub async fn outcome(&self) -> Result<T, E> {
        // Removes the waker of a future that is dropped while it waits.
        struct Ticket<'c, T, E>(&'c Call<T, E>, u64);
        impl<T, E> Drop for Ticket<'_, T, E> {
            fn drop(&mut self) {
                self.0.waiting.borrow_mut().remove(&self.1);
            }
        }
        let number = self.tickets.get();
        self.tickets.set(number + 1);
        let ticket = Ticket(self, number);
        poll_fn(|cx| match &*self.outcome.borrow() {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                self.waiting.borrow_mut().insert(ticket.1, cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// Completes a call when it is dropped, with the outcome or without one: nothing waits for ever.
struct Completion<K: Ord, T, E: From<Abandoned>> {
    calls: Rc<RefCell<Calls<K, T, E>>>,
    key: K,
    call: Rc<Call<T, E>>,
    outcome: Cell<Option<Result<T, E>>>,
}

impl<K: Ord, T, E: From<Abandoned>> Drop for Completion<K, T, E> {
    fn drop(&mut self) {
        self.calls.borrow_mut().remove(&self.key);
        let outcome = self.outcome.take().unwrap_or_else(|| Err(Abandoned.into()));
        self.call.outcome.replace(Some(outcome));
        // The task ends by itself: this is a part of it.
        self.call.task.take().into_iter().for_each(Task::detach);
        self.call.waiting.take().into_values().for_each(Waker::wake);
    }
}

/// The outcome of the work; `None` if the worker is exiting and nothing awaits it any more.
async fn unless_abandoned<T>(
    work: Pin<Box<impl Future<Output = T>>>,
    is_awaited: impl Fn() -> bool,
) -> Option<T> {
    let is_abandoned = || (exiting() && !is_awaited()).then_some(None);
    with_interval(async { Some(work.await) }, CHECK_INTERVAL, is_abandoned).await
}

/// How often a call checks for that; nginx does not tell modules that the worker is exiting.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
