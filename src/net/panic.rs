//! Keeps panics out of nginx's code.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

use ngx::log::ngx_cycle_log;

/// Runs the body of an event handler so that no panic leaves it.
pub fn catch_panic(body: impl FnOnce()) {
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
    error!(ngx_cycle_log(), "keystone: panic in an event handler: {reason}");
}
