//! nginx's clock and timers.

use std::future::{poll_fn, Future};
use std::mem;
use std::pin::{pin, Pin};
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nginx_sys::{ngx_add_timer, ngx_del_timer, ngx_event_t, ngx_msec_int_t, ngx_msec_t};
use ngx::log::ngx_cycle_log;

use super::task::shield;

/// Completes after a time. A worker that stops gracefully waits for it.
///
/// That is what sets it apart from `ngx::async_::sleep`, whose timers a stopping worker ignores:
/// a request that waits on nothing else would be dropped.
pub struct Timer {
    /// Owned, and unique except for nginx's timer tree, which holds the address of `event` while
    /// `timer_set` is set.
    state: NonNull<TimerState>,
    duration: Duration,
}

impl Timer {
    /// A timer that starts to run when it is polled for the first time.
    pub fn new(duration: Duration) -> Self {
        let state = Box::new(TimerState {
            ident: [0, 0, 0, TIMER_IDENT],
            // SAFETY: an all-zero ngx_event_t is how nginx itself initialises one: null pointers,
            // no handler and cleared flags are valid values of every field.
            event: unsafe { mem::zeroed() },
            waker: None,
        });
        Self { state: NonNull::from(Box::leak(state)), duration }
    }

    /// The same, for work that a stopping worker need not wait for.
    pub fn cancelable(duration: Duration) -> Self {
        let mut timer = Self::new(duration);
        timer.state_mut().event.set_cancelable(1);
        timer
    }

    fn state_mut(&mut self) -> &mut TimerState {
        // SAFETY: `state` came from a leaked box that only `drop` frees, nginx is single-threaded,
        // and the reference lives no longer than the call that it is made for: nginx touches the
        // event only from its event loop or from the timer functions called here.
        unsafe { self.state.as_mut() }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let state = this.state.as_ptr();
        let (expired, running) = {
            let state = this.state_mut();
            if !matches!(&state.waker, Some(waker) if waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            (state.event.timedout() != 0, state.event.timer_set() != 0)
        };

        if expired {
            return Poll::Ready(());
        }
        if !running {
            // SAFETY: `state` is live (see `state_mut`), its event is not in the timer tree, and
            // its address stays the same until `drop`, which takes it out of the tree.
            unsafe {
                (*state).event.data = state.cast();
                (*state).event.handler = Some(on_timer);
                (*state).event.log = ngx_cycle_log().as_ptr();
                ngx_add_timer(ptr::addr_of_mut!((*state).event), to_msec(this.duration));
            }
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let state = self.state.as_ptr();
        // SAFETY: `state` is live; once its event is out of the timer tree nothing refers to it
        // any more, and it was made by `Box`.
        unsafe {
            if (*state).event.timer_set() != 0 {
                ngx_del_timer(ptr::addr_of_mut!((*state).event));
            }
            drop(Box::from_raw(state));
        }
    }
}

/// What `event.data` points to. nginx takes that for an `ngx_connection_t` when its debug log prints
/// the event's descriptor; `ident` is large enough to be read so.
#[repr(C)]
struct TimerState {
    ident: [usize; 4],
    event: ngx_event_t,
    waker: Option<Waker>,
}

unsafe extern "C" fn on_timer(event: *mut ngx_event_t) {
    // SAFETY: this handler is installed only by `Timer::poll`, on an event whose `data` is the
    // TimerState around it, which is live for as long as the event is in the timer tree.
    let waker = unsafe { (*(*event).data.cast::<TimerState>()).waker.take() };
    // Nothing of the state is touched after this: the task may drop its timer.
    if let Some(waker) = waker {
        shield(|| waker.wake());
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

/// Seconds since 1970, as nginx's loop last read them.
pub fn now_sec() -> i64 {
    nginx_sys::ngx_time()
}

/// nginx's monotonic milliseconds; only differences mean something.
pub fn now_msec() -> u64 {
    // SAFETY: a plain integer that only nginx's event loop writes, on this same thread.
    unsafe { nginx_sys::ngx_current_msec as u64 }
}

/// Microseconds of the monotonic clock that all processes of the machine share, read now and not when
/// nginx's loop began its round: it tells whether a question was sent before or after a request came.
pub fn now_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `now`, which lives as long as the call; it cannot fail for this
    // clock, and if it did, the time would be zero and nothing be taken for newer than it is.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let micros = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000;
    seconds.saturating_mul(1_000_000).saturating_add(micros)
}

/// Lets nginx finish what it is doing and goes on from its event loop.
///
/// Needed after a wake-up from inside one of nginx's own loops, such as the resolver's, where what
/// the task does next could change the list that the loop walks. It is a timer and not a posted
/// event, since a stopping worker looks only for timers before it exits.
pub async fn yield_now() {
    Timer::new(Duration::ZERO).await;
}

/// Whether the worker has been told to go.
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

/// "KSTN" in a debug log that prints it as a descriptor.
const TIMER_IDENT: usize = 0x4b53_544e;

/// Timers are compared by the sign of their difference.
const LONGEST_TIMER: u128 = (ngx_msec_int_t::MAX / 2) as u128;
