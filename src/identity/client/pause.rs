//! Responses that ask for a pause.

use std::time::Duration;

use ::http::header::{HeaderName, DATE, RETRY_AFTER};
use keystone_token::api;
use nginx_sys::{ngx_parse_http_time, NGX_ERROR};

use crate::net::{now_sec, Response};

/// For how long the service asks for a pause: with 429, with 413 as OpenStack's older rate limits
/// have it, or with 503 and `Retry-After`.
///
/// A 413 that says neither may be about a token that is too long, and be caused by any client.
pub(super) fn asked_for(response: &Response) -> Option<Duration> {
    let wait = match response.status.as_u16() {
        429 => retry_after(response).unwrap_or(DEFAULT),
        413 => retry_after(response)
            .or_else(|| api::is_over_limit(&response.body).then_some(DEFAULT))?,
        503 => retry_after(response)?,
        _ => return None,
    };
    Some(wait.min(LONGEST))
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    let value = header(response, RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a number can hold is long, too.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let then = http_time(value)?;
    // By the clock of the sender, if the response has it.
    let now = header(response, DATE).and_then(http_time).unwrap_or_else(now_sec);
    Some(Duration::from_secs(u64::try_from(then.saturating_sub(now)).unwrap_or(0)))
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers.get(name)?.to_str().ok().map(str::trim)
}

fn http_time(text: &str) -> Option<i64> {
    // SAFETY: nginx reads the bytes of the text and writes none.
    let time = unsafe { ngx_parse_http_time(text.as_ptr().cast_mut(), text.len()) };
    (time != NGX_ERROR as nginx_sys::time_t).then_some(time)
}

/// Without a word about the time, and at most.
const DEFAULT: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(60);
