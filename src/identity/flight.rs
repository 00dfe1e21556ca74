//! One piece of work for all who wait for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ngx::async_::Task;

use crate::net::{exiting, spawn, Timer};

/// Work that is under way, and those who wait for its outcome.
pub(super) struct Flight<T> {
    outcome: RefCell<Option<T>>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
    tickets: Cell<u64>,
    task: RefCell<Option<Task<()>>>,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self {
            outcome: RefCell::default(),
            waiting: RefCell::default(),
            tickets: Cell::default(),
            task: RefCell::default(),
        }
    }
}

impl<T: Clone + 'static> Flight<T> {
    /// Starts the work, as a task of its own: its outcome is for all, also when the one who asked
    /// for it has gone.  When it has ended, `end` is run and then all who wait hear of the outcome,
    /// which is `given_up` if the work panics or is dropped: nobody may wait for ever.
    ///
    /// A worker that is to go gives the work up once nobody waits for it: it may take as long as
    /// several time-outs.
    pub(super) fn launch(
        self: &Rc<Self>,
        work: impl Future<Output = T> + 'static,
        end: impl FnOnce() + 'static,
        given_up: T,
    ) {
        let landing =
            Landing { flight: self.clone(), end: Some(end), outcome: Cell::new(Some(given_up)) };
        // On the heap once, and not copied from one function's state into the next one's.
        let (flight, work) = (self.clone(), Box::pin(work));
        let task = spawn(async move {
            let landing = landing;
            let is_awaited = || !flight.waiting.borrow().is_empty();
            if let Some(outcome) = unless_abandoned(work, is_awaited).await {
                landing.outcome.set(Some(outcome));
            }
        });
        self.task.replace(Some(task));
    }

    /// Gives the work up.
    pub(super) fn cancel(&self) {
        self.task.take();
    }

    /// Waits for the outcome.
    pub(super) async fn landed(&self) -> T {
        // Who goes away while waiting takes its waker along.
        struct Ticket<'f, T>(&'f Flight<T>, u64);
        impl<T> Drop for Ticket<'_, T> {
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

/// The outcome of the work; `None` where the worker is to go and nobody awaits it any more.
pub(super) async fn unless_abandoned<T>(
    mut work: Pin<Box<impl Future<Output = T>>>,
    is_awaited: impl Fn() -> bool,
) -> Option<T> {
    let mut look = pin!(Timer::cancelable(LOOK));
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        while look.as_mut().poll(cx).is_ready() {
            if exiting() && !is_awaited() {
                return Poll::Ready(None);
            }
            look.set(Timer::cancelable(LOOK));
        }
        Poll::Pending
    })
    .await
}

/// Lands the flight when it is dropped.
struct Landing<T: Clone + 'static, E: FnOnce()> {
    flight: Rc<Flight<T>>,
    end: Option<E>,
    outcome: Cell<Option<T>>,
}

impl<T: Clone + 'static, E: FnOnce()> Drop for Landing<T, E> {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
        *self.flight.outcome.borrow_mut() = self.outcome.take();
        // The task ends by itself: this is a part of it.
        self.flight.task.take().into_iter().for_each(Task::detach);
        self.flight.waiting.take().into_values().for_each(Waker::wake);
    }
}

/// Between two looks at whether anybody waits; nginx tells nobody that it is to go.
const LOOK: Duration = Duration::from_millis(250);
