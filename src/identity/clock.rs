//! Times and durations as the zone keeps them: milliseconds of nginx's clock.

use std::time::Duration;

use crate::net::now_msec;

/// Milliseconds since a time of nginx's millisecond clock. A time in the future is one of before
/// the clock was set back, and counts as long ago.
pub(super) fn millis_since(tick: u64) -> u64 {
    let now = now_msec();
    match tick > now.saturating_add(CLOCK_LAG) {
        true => u64::MAX,
        false => now.saturating_sub(tick),
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds by which this worker may have read the clock earlier than another one.
pub(super) const CLOCK_LAG: u64 = 1_000;
