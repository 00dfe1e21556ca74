//! Tasks on nginx's event loop.
//!
//! Tasks are `async_task`'s, as those of `ngx::async_::spawn`. A task that is woken is put on a
//! queue, which nginx's event loop runs: a task never runs on the stack of what wakes it.
//!
//! The queue has one event, which is posted and has a timer of 0 ms as well. The posted event runs
//! the queue in the very round of the event loop in which the task was woken. The timer is there
//! for two cases. nginx looks for timers and not for posted events before it waits for events, and
//! before a worker that stops gracefully exits: a task that was woken outside of a round would wait
//! until something else happens, or be dropped together with the request that it works for. And a
//! task that wakes itself, to let others go first, goes on with the next round: a posted event
//! would keep nginx in this one.

use std::cell::RefCell;
use std::future::{poll_fn, Future};
use std::mem::{self, ManuallyDrop};
use std::task::Poll;

use async_task::{Runnable, ScheduleInfo, Task, WithInfo};

use super::event::{Action, OwnEvent};
use crate::panic::catch_panic;

/// Starts `future` on nginx's event loop; dropping the returned task cancels it.
///
/// The future is polled for the first time before this returns: what it counts is then known to the
/// next request of the same round. Later it is polled, and dropped when the task is cancelled, by
/// the event loop and never on the stack of the code that wakes or cancels the task. If it panics,
/// the panic is logged and the task is over.
#[must_use = "dropping the task cancels it, `detach` lets it run"]
pub fn spawn<F>(future: F) -> Task<()>
where
    F: Future<Output = ()> + 'static,
{
    let (runnable, task) = async_task::spawn_local(future, WithInfo(schedule));
    run(runnable);
    task
}

/// Lets nginx's event loop go on: the task continues in its next round.
pub async fn next_round() {
    let mut is_next = false;
    poll_fn(|cx| {
        if mem::replace(&mut is_next, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Drops the futures of all tasks that were woken or cancelled, and so ends them: for a worker that
/// exits, whose event loop runs no more.
pub fn drop_woken() {
    loop {
        let woken = SCHEDULER.with(|scheduler| mem::take(&mut scheduler.borrow_mut().woken));
        if woken.is_empty() {
            return;
        }
        // Each may wake others.
        woken.into_iter().for_each(|runnable| catch_panic((), || drop(runnable)));
    }
}

/// The tasks that were woken, and the event that runs them.
struct Scheduler {
    woken: Vec<Runnable>,
    /// Its timer is set while `woken` is not empty.
    event: OwnEvent,
}

impl Scheduler {
    fn new() -> Self {
        Self { woken: Vec::new(), event: OwnEvent::new(Action::Call(run_woken)) }
    }
}

thread_local! {
    /// Not dropped at the end of a process: by then nginx has destroyed what the tasks refer to.
    static SCHEDULER: ManuallyDrop<RefCell<Scheduler>> =
        ManuallyDrop::new(RefCell::new(Scheduler::new()));
}

fn schedule(runnable: Runnable, info: ScheduleInfo) {
    SCHEDULER.with(|scheduler| {
        let mut scheduler = scheduler.borrow_mut();
        scheduler.woken.push(runnable);
        scheduler.event.start_timer(0);
        if !info.woken_while_running {
            scheduler.event.post();
        }
    });
}

/// Handles the event of the queue: runs all tasks that were woken.
fn run_woken() {
    let woken = SCHEDULER.with(|scheduler| {
        let mut scheduler = scheduler.borrow_mut();
        if scheduler.event.has_expired() {
            // nginx expires timers until there is none left that is due: a task that always wakes
            // itself would keep it there. Posted events come after that.
            scheduler.event.stop_timer();
            scheduler.event.post();
            return Vec::new();
        }
        scheduler.event.stop_timer();
        mem::take(&mut scheduler.woken)
    });
    woken.into_iter().for_each(run);
}

fn run(runnable: Runnable) {
    catch_panic((), || {
        runnable.run();
    });
}
