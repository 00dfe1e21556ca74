//! What one worker has done in a while.

use std::time::Duration;

/// One line of the table in one round.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// How many requests were answered.
    pub requests: usize,
    /// The worker's processor time for them.
    pub used: Duration,
    /// The wall-clock time of the measurement.
    pub taken: Duration,
}

impl Measured {
    /// Microseconds of processor time for one request.
    pub fn cost(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.requests as f64
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.taken.as_secs_f64()
    }

    /// The part of the time in which the worker was busy.
    pub fn busy(&self) -> f64 {
        self.used.as_secs_f64() / self.taken.as_secs_f64()
    }
}
