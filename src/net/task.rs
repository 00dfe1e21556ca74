//! Tasks on nginx's event loop, and event handlers that contain their own panics.
//!
//! Tasks are `async_task`'s, as those of `ngx::async_::spawn`, with one difference that matters
//! when a worker stops gracefully. A task that is woken while it runs has to run again later; ngx
//! posts an event for that, and nginx, which looks for timers and not for posted events before it
//! exits, would drop the task together with the request that it works for. Here it is a timer.

use std::any::Any;
use std::cell::RefCell;
use std::future::{poll_fn, Future};
use std::mem::{self, ManuallyDrop};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_task::{Runnable, ScheduleInfo, Task, WithInfo};

use super::timer::Timer;

/// Starts `future` on nginx's event loop; dropping the returned task cancels it.
///
/// The future is polled for the first time before this returns, and later on the stack of whoever
/// wakes it. If it panics, the panic is logged and the task is over; it does not reach the event
/// handler that happened to wake it.
#[must_use = "dropping the task cancels it, `detach` lets it run"]
pub fn spawn<F>(future: F) -> Task<()>
where
    F: Future<Output = ()> + 'static,
{
    let shielded = async move {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            polled.unwrap_or_else(|panic| {
                report(&*panic);
                Poll::Ready(())
            })
        })
        .await
    };
    let (runnable, task) = async_task::spawn_local(shielded, WithInfo(schedule));
    runnable.run();
    task
}

/// Runs the body of an event handler so that no panic leaves it.
pub fn shield(body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        report(&*panic);
    }
}

fn schedule(runnable: Runnable, info: ScheduleInfo) {
    if !info.woken_while_running {
        runnable.run();
        return;
    }
    LATER.with(|later| {
        let mut later = later.borrow_mut();
        later.queue.push(runnable);
        later.alarm.get_or_insert_with(|| {
            let mut alarm = Timer::new(Duration::ZERO);
            let waker = Waker::from(Arc::new(RunLater));
            // Nothing but the start of the timer: it never expires at once.
            let _ = Pin::new(&mut alarm).poll(&mut Context::from_waker(&waker));
            alarm
        });
    });
}

/// Tasks that have to run again, and the timer that will see to it.
#[derive(Default)]
struct Later {
    queue: Vec<Runnable>,
    /// Set if and only if the queue is not empty.
    alarm: Option<Timer>,
}

thread_local! {
    /// Not dropped at the end of a process: by then nginx has destroyed what the tasks refer to.
    static LATER: ManuallyDrop<RefCell<Later>> = ManuallyDrop::default();
}

struct RunLater;

impl Wake for RunLater {
    fn wake(self: Arc<Self>) {
        let later = LATER.with(|later| mem::take(&mut *later.borrow_mut()));
        for runnable in later.queue {
            runnable.run();
        }
    }
}

fn report(panic: &(dyn Any + Send)) {
    let reason = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given");
    error!(ngx::log::ngx_cycle_log(), "keystone: panic in an event handler: {reason}");
}
