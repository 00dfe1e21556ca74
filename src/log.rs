//! Log macros named for nginx's levels, so that a call reads as in nginx's own modules.

use core::fmt::{self, Write};
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

/// Text for a log: control characters are written as escapes (`\n`, `\u{85}`), so that nothing in
/// it can begin a line of its own or talk to a terminal.
pub struct Printable<'a>(pub fmt::Arguments<'a>);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escape(f).write_fmt(self.0)
    }
}

struct Escape<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            match part.chars().next_back().filter(|last| last.is_control()) {
                Some(last) => {
                    self.0.write_str(&part[..part.len() - last.len_utf8()])?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

macro_rules! log_at {
    ($level:ident, $log:expr, $($arg:tt)+) => {{
        let log = $crate::log::AsLog::as_log(&$log);
        ngx::ngx_log_error!(
            nginx_sys::$level, log, "{}", $crate::log::Printable(format_args!($($arg)+))
        );
    }};
}

macro_rules! crit {
    ($log:expr, $($arg:tt)+) => { log_at!(NGX_LOG_CRIT, $log, $($arg)+) };
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
        ngx::ngx_log_debug!(
            mask: ngx::log::DebugMask::Http, log,
            "{}", $crate::log::Printable(format_args!($($arg)+))
        );
    }};
}
