//! Keeps panics out of nginx's code: at the border to C, Rust ends the process, which may be a worker
//! with all its requests, or the master.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

use nginx_sys::ngx_log_t;
use ngx::log::ngx_cycle_log;

use crate::log::AsLog;
use crate::request::Request;

/// Runs what nginx calls. A panic is logged, at nginx's level for defects of its own, and gives
/// `fallback`.
#[inline]
pub fn catch_panic<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        report(&*panic, ngx_cycle_log().as_log());
        fallback
    })
}

/// The same for a request, in whose log the panic is.
#[inline]
pub fn catch_panic_of<T>(request: &Request, fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        report(&*panic, request.as_log());
        fallback
    })
}

#[cold]
fn report(panic: &(dyn Any + Send), log: *mut ngx_log_t) {
    let reason = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given");
    log_at!(NGX_LOG_ALERT, log, "keystone: panic: {reason}");
}
