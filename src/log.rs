//! Log macros named for nginx's levels, so that a call reads as in nginx's own modules.

use core::ptr::NonNull;

use nginx_sys::ngx_log_t;

/// Something that knows which log to write to.
pub trait AsLog {
    /// The log; valid as long as `self` is.
    fn as_log(&self) -> *mut ngx_log_t;
}

impl AsLog for *mut ngx_log_t {
    fn as_log(&self) -> *mut ngx_log_t {
        *self
    }
}

impl AsLog for NonNull<ngx_log_t> {
    fn as_log(&self) -> *mut ngx_log_t {
        self.as_ptr()
    }
}

impl<T: AsLog> AsLog for &T {
    fn as_log(&self) -> *mut ngx_log_t {
        T::as_log(self)
    }
}

macro_rules! log_at {
    ($level:ident, $log:expr, $($arg:tt)+) => {{
        let log = $crate::log::AsLog::as_log(&$log);
        ngx::ngx_log_error!(nginx_sys::$level, log, $($arg)+);
    }};
}

macro_rules! error {
    ($log:expr, $($arg:tt)+) => { log_at!(NGX_LOG_ERR, $log, $($arg)+) };
}

macro_rules! warn {
    ($log:expr, $($arg:tt)+) => { log_at!(NGX_LOG_WARN, $log, $($arg)+) };
}

macro_rules! notice {
    ($log:expr, $($arg:tt)+) => { log_at!(NGX_LOG_NOTICE, $log, $($arg)+) };
}

macro_rules! info {
    ($log:expr, $($arg:tt)+) => { log_at!(NGX_LOG_INFO, $log, $($arg)+) };
}

/// Nothing unless nginx was built `--with-debug` and the log's level is `debug` or `debug_http`.
macro_rules! debug {
    ($log:expr, $($arg:tt)+) => {{
        let log = $crate::log::AsLog::as_log(&$log);
        ngx::ngx_log_debug!(mask: ngx::log::DebugMask::Http, log, $($arg)+);
    }};
}
