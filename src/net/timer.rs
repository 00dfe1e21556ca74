//! nginx's clock and timers.

use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::ptr;
use std::task::{Context, Poll};
use std::time::Duration;

use nginx_sys::{ngx_msec_int_t, ngx_msec_t};

use super::event::{Action, OwnEvent};

/// Completes after a time. A worker that stops gracefully waits for it.
///
/// That is what sets it apart from `ngx::async_::sleep`, whose timers a stopping worker ignores:
/// a request that waits on nothing else would be dropped.
pub struct Timer {
    event: OwnEvent,
    duration: Duration,
}

impl Timer {
    /// A timer that starts to run when it is polled for the first time.
    pub fn new(duration: Duration) -> Self {
        Self { event: OwnEvent::new(Action::Wake(None)), duration }
    }

    /// The same, for work that a stopping worker need not wait for.
    pub fn cancelable(duration: Duration) -> Self {
        let mut timer = Self::new(duration);
        timer.event.set_cancelable();
        timer
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.event.has_expired() {
            return Poll::Ready(());
        }
        this.event.set_waker(cx.waker());
        this.event.start_timer(to_msec(this.duration));
        Poll::Pending
    }
}

/// Runs `future` for as long as the timer does; nothing if that is not long enough.
pub async fn or_timeout<F: Future>(future: F, timer: Timer) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(timer);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Runs `future`, and meanwhile `tick` each time that `interval` has passed. A stopping worker need
/// not wait for this. The output is that of `future`, or what `tick` gives before that.
pub async fn with_interval<T>(
    future: impl Future<Output = T>,
    interval: Duration,
    mut tick: impl FnMut() -> Option<T>,
) -> T {
    let mut future = pin!(future);
    let mut timer = pin!(Timer::cancelable(interval));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if let Some(output) = tick() {
                return Poll::Ready(output);
            }
            timer.set(Timer::cancelable(interval));
        }
        Poll::Pending
    })
    .await
}

/// Seconds since 1970, as nginx's loop last read them.
pub fn now_sec() -> i64 {
    nginx_sys::ngx_time()
}

/// nginx's monotonic milliseconds; only differences mean something.
pub fn now_msec() -> u64 {
    // SAFETY: a plain integer that only nginx's event loop writes, on this same thread.
    unsafe { nginx_sys::ngx_current_msec as u64 }
}

/// Microseconds of the monotonic clock that all processes of the machine share, read now and not
/// when nginx's loop began its round: it shows whether one request was sent before or after another
/// one came.
pub fn now_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `now`, which lives as long as the call; it cannot fail for this
    // clock, and if it did, the time would be zero and nothing be taken for newer than it is.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let micros = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000;
    seconds.saturating_mul(1_000_000).saturating_add(micros)
}

/// Whether the worker is exiting.
pub fn exiting() -> bool {
    // SAFETY: plain integers, written by this thread or by its signal handlers; a stale value is
    // as good as one read a moment earlier.
    unsafe {
        nginx_sys::ngx_exiting != 0
            || ptr::read_volatile(ptr::addr_of!(nginx_sys::ngx_quit)) != 0
            || ptr::read_volatile(ptr::addr_of!(nginx_sys::ngx_terminate)) != 0
    }
}

/// A duration in nginx's unit, rounded up, within what a timer can hold.
pub(super) fn to_msec(duration: Duration) -> ngx_msec_t {
    duration.as_micros().div_ceil(1000).min(LONGEST_TIMER) as ngx_msec_t
}

/// Timers are compared by the sign of their difference.
const LONGEST_TIMER: u128 = (ngx_msec_int_t::MAX / 2) as u128;
