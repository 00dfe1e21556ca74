//! Events of the module's own: timers and posted events that belong to no connection.

use std::mem;
use std::ptr::NonNull;
use std::task::Waker;

use nginx_sys::{
    ngx_add_timer, ngx_del_timer, ngx_delete_posted_event, ngx_event_t, ngx_msec_t, ngx_post_event,
    ngx_posted_events,
};
use ngx::log::ngx_cycle_log;

use crate::panic::catch_panic;

/// An event that nginx handles when its timer expires, or with the events that are posted.
pub(super) struct OwnEvent {
    /// Made by `Box`, and unique except for nginx's timer tree and its queue of posted events,
    /// which hold the address of `event` while `timer_set` or `posted` are set.
    state: NonNull<State>,
}

/// What an event does when it is handled.
pub(super) enum Action {
    /// Calls a function.
    Call(fn()),
    /// Wakes the task that waits for it.
    Wake(Option<Waker>),
}

/// What `event.data` points to. nginx takes that for an `ngx_connection_t` when its debug log
/// prints the event's descriptor; `ident` is large enough to be read so.
#[repr(C)]
struct State {
    ident: [usize; 4],
    event: ngx_event_t,
    action: Action,
}

impl OwnEvent {
    pub(super) fn new(action: Action) -> Self {
        let state = Box::new(State {
            ident: [0, 0, 0, IDENT],
            // SAFETY: an all-zero ngx_event_t is how nginx itself initialises one: null pointers,
            // no handler and cleared flags are valid values of every field.
            event: unsafe { mem::zeroed() },
            action,
        });
        Self { state: NonNull::from(Box::leak(state)) }
    }

    /// Lets a worker that stops gracefully exit without waiting for the timer.
    pub(super) fn set_cancelable(&mut self) {
        self.state_mut().event.set_cancelable(1);
    }

    /// Sets the task to wake.
    pub(super) fn set_waker(&mut self, waker: &Waker) {
        match &mut self.state_mut().action {
            Action::Wake(Some(known)) => known.clone_from(waker),
            action => *action = Action::Wake(Some(waker.clone())),
        }
    }

    /// Whether the timer has expired since it was last started.
    pub(super) fn has_expired(&self) -> bool {
        self.event().timedout() != 0
    }

    /// Whether the timer runs.
    pub(super) fn is_timer_set(&self) -> bool {
        self.event().timer_set() != 0
    }

    /// Starts the timer, unless it runs already.
    pub(super) fn start_timer(&mut self, msec: ngx_msec_t) {
        if self.is_timer_set() {
            return;
        }
        let event = self.armed();
        // SAFETY: the event is not in the timer tree, and its address stays the same until `drop`,
        // which takes it out of the tree.
        unsafe {
            (*event).set_timedout(0);
            ngx_add_timer(event, msec);
        }
    }

    /// Stops the timer and forgets that it has expired.
    pub(super) fn stop_timer(&mut self) {
        let event = &mut self.state_mut().event;
        event.set_timedout(0);
        if event.timer_set() != 0 {
            // SAFETY: the event is in the timer tree.
            unsafe { ngx_del_timer(event) };
        }
    }

    /// Posts the event, unless it is posted already: nginx handles it before it waits for events
    /// again.
    pub(super) fn post(&mut self) {
        let event = self.armed();
        // SAFETY: the event's address stays the same until `drop`, which takes it out of the queue.
        unsafe { ngx_post_event(event, &raw mut ngx_posted_events) };
    }

    /// nginx's event, ready to be handed to nginx.
    fn armed(&mut self) -> *mut ngx_event_t {
        let state = self.state.as_ptr();
        // SAFETY: `state` is live, see `state_mut`.
        unsafe {
            (*state).event.data = state.cast();
            (*state).event.handler = Some(on_event);
            (*state).event.log = ngx_cycle_log().as_ptr();
            &raw mut (*state).event
        }
    }

    fn event(&self) -> &ngx_event_t {
        // SAFETY: as in `state_mut`.
        unsafe { &(*self.state.as_ptr()).event }
    }

    fn state_mut(&mut self) -> &mut State {
        // SAFETY: `state` came from a leaked box that only `drop` frees, nginx is single-threaded,
        // and the reference lives no longer than the call that it is made for: nginx touches the
        // event only from its event loop or from the functions called here.
        unsafe { self.state.as_mut() }
    }
}

impl Drop for OwnEvent {
    fn drop(&mut self) {
        let state = self.state.as_ptr();
        // SAFETY: `state` is live; once its event is neither in the timer tree nor in the queue,
        // nothing refers to it any more, and it was made by `Box`.
        unsafe {
            let event = &raw mut (*state).event;
            if (*event).timer_set() != 0 {
                ngx_del_timer(event);
            }
            if (*event).posted() != 0 {
                ngx_delete_posted_event(event);
            }
            drop(Box::from_raw(state));
        }
    }
}

unsafe extern "C" fn on_event(event: *mut ngx_event_t) {
    // SAFETY: this handler is installed only by `OwnEvent::armed`, on an event whose `data` is the
    // State around it, which is live for as long as nginx has the event.
    let action = unsafe {
        match &mut (*(*event).data.cast::<State>()).action {
            Action::Call(function) => Action::Call(*function),
            Action::Wake(waker) => Action::Wake(waker.take()),
        }
    };
    catch_panic((), || match action {
        Action::Call(function) => function(),
        Action::Wake(waker) => waker.into_iter().for_each(Waker::wake),
    });
}

/// "KSTN" in a debug log that prints it as a descriptor.
const IDENT: usize = 0x4b53_544e;
