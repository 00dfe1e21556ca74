//! The memory of a connection, and a log of its own that says what the connection is doing.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use nginx_sys::{
    ngx_create_pool, ngx_destroy_pool, ngx_log_t, ngx_pool_t, ngx_str_t, ngx_uint_t, NGX_LOG_ALERT,
    NGX_LOG_DEBUG,
};

use crate::net::peer::Peer;

/// What a connection is doing, in the words of the log.
#[derive(Clone, Copy)]
pub(in crate::net) enum Action {
    Connecting,
    Handshaking,
    Idle,
    Requesting,
    Tunnelling,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting to ",
            Self::Handshaking => "tls handshaking with ",
            Self::Idle => "keeping connection to ",
            Self::Requesting => "talking to ",
            Self::Tunnelling => "opening a tunnel to ",
        }
    }
}

/// An nginx pool that is destroyed on drop, with a log that adds the connection's context to
/// every line nginx writes about it.
pub(in crate::net) struct OwnedPool {
    pool: NonNull<ngx_pool_t>,
    /// Boxed, because nginx keeps its address.
    log: NonNull<ContextLog>,
}

/// A copy of the parent's log, and what its handler adds.
struct ContextLog {
    log: ngx_log_t,
    action: Cell<Action>,
    service: &'static str,
    /// The server's name and address.
    peer: String,
}

impl OwnedPool {
    /// A pool whose log lines go where those of `parent` go; `None` where nginx has no memory.
    /// `parent` must stay valid, as the logs of a cycle do in a worker.
    pub(in crate::net) fn new(parent: NonNull<ngx_log_t>, peer: &Peer<'_>) -> Option<Self> {
        // SAFETY: `parent` is a valid log, and a log may be copied: nginx does so for connections.
        let mut log = unsafe { parent.as_ptr().read() };
        log.handler = Some(add_context);
        log.action = ptr::null_mut();

        let context = Box::new(ContextLog {
            log,
            action: Cell::new(Action::Connecting),
            service: peer.service,
            peer: format!("{}, addr: {}", peer.name, peer.address),
        });
        let context = NonNull::from(Box::leak(context));
        // SAFETY: just made, and freed only by `drop`.
        let log = unsafe {
            let log = ptr::addr_of_mut!((*context.as_ptr()).log);
            (*log).data = context.as_ptr().cast();
            log
        };

        // SAFETY: the log is valid and outlives the pool.
        let pool = unsafe { ngx_create_pool(POOL_SIZE, log) };
        let Some(pool) = NonNull::new(pool) else {
            // SAFETY: made by `Box` above, and nothing else refers to it.
            drop(unsafe { Box::from_raw(context.as_ptr()) });
            return None;
        };
        Some(Self { pool, log: context })
    }

    pub(in crate::net) fn as_ptr(&self) -> *mut ngx_pool_t {
        self.pool.as_ptr()
    }

    pub(in crate::net) fn log(&self) -> *mut ngx_log_t {
        // SAFETY: a field's address within the live box.
        unsafe { ptr::addr_of_mut!((*self.log.as_ptr()).log) }
    }

    /// The server's name for nginx's own messages; valid as long as the pool.
    pub(in crate::net) fn name(&self) -> ngx_str_t {
        // SAFETY: the box is live, and `peer` is never changed.
        let peer = unsafe { &(*self.log.as_ptr()).peer };
        ngx_str_t { len: peer.len(), data: peer.as_ptr().cast_mut() }
    }

    /// Runs `connect` without nginx's own log line about a connection that is refused at once, which
    /// `log_error` of the connection does not suppress. A caller that retries every few seconds
    /// reports the failure once.
    pub(in crate::net) fn without_connect_errors<T>(&self, connect: impl FnOnce() -> T) -> T {
        let log = self.log();
        // SAFETY: the log is ours, and nginx only reads it during `connect`.
        let level = unsafe { (*log).log_level };
        // Above the levels are the bits of a debug log, which is to show everything.
        if level <= NGX_LOG_DEBUG as ngx_uint_t {
            // SAFETY: as above.
            unsafe { (*log).log_level = level.min(NGX_LOG_ALERT as ngx_uint_t) };
        }
        let connected = connect();
        // SAFETY: as above.
        unsafe { (*log).log_level = level };
        connected
    }

    pub(in crate::net) fn set_action(&self, action: Action) {
        // SAFETY: the box is live, and the cell is only used from this thread.
        unsafe { (*self.log.as_ptr()).action.set(action) };
    }
}

impl Drop for OwnedPool {
    fn drop(&mut self) {
        // SAFETY: both were made by `new` and are owned; the pool goes first since it uses the log.
        unsafe {
            ngx_destroy_pool(self.pool.as_ptr());
            drop(Box::from_raw(self.log.as_ptr()));
        }
    }
}

/// Appends the context to a log line: nginx passes the free rest of the line.
unsafe extern "C" fn add_context(log: *mut ngx_log_t, buf: *mut u8, len: usize) -> *mut u8 {
    // SAFETY: nginx calls the handler with the log that it is set on, whose `data` is the
    // ContextLog around it, and with `len` writable bytes at `buf`. Nothing here can panic.
    unsafe {
        let context = (*log).data.cast::<ContextLog>();
        let action = (*context).action.get().as_str();
        let service = (*context).service;
        let peer = &*ptr::addr_of!((*context).peer);

        let mut used = 0;
        for part in [" while ", action, service, ", server: ", peer.as_str()] {
            let n = part.len().min(len - used);
            ptr::copy_nonoverlapping(part.as_ptr(), buf.add(used), n);
            used += n;
        }
        buf.add(used)
    }
}

/// nginx's connections need little from a pool of their own.
const POOL_SIZE: usize = 512;
