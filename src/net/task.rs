//! Tasks and event handlers that contain their own panics.

use std::any::Any;
use std::future::{poll_fn, Future};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::task::Poll;

use ngx::async_::Task;

/// Starts `future` on nginx's event loop; dropping the returned task cancels it.
///
/// The future is polled for the first time before this returns. If it panics, the panic is logged
/// and the task is over; it does not reach the event handler that happened to wake it.
#[must_use = "dropping the task cancels it, `detach` lets it run"]
pub fn spawn<F>(future: F) -> Task<()>
where
    F: Future<Output = ()> + 'static,
{
    ngx::async_::spawn(async move {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            polled.unwrap_or_else(|panic| {
                report(&*panic);
                Poll::Ready(())
            })
        })
        .await
    })
}

/// Runs the body of an event handler so that no panic leaves it.
pub fn shield(body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        report(&*panic);
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
