//! Medians, and what is printed.

use std::process::Command;
use std::time::Duration;

use keystone_testbed::nginx;

use crate::measured::Measured;
use crate::stage::{
    Row, Stage, AUTHORISED_OBJECT, CACHED, CACHED_FERNET, NEW_TOKEN, OBJECT, UNPROTECTED,
};
use crate::Options;

/// All lines in all rounds.
pub struct Table {
    rows: &'static [Row],
    measured: Vec<Vec<Measured>>,
}

impl Table {
    /// A report without measurements.
    pub fn new(rows: &'static [Row]) -> Self {
        Self { rows, measured: rows.iter().map(|_| Vec::new()).collect() }
    }

    /// Adds a round of one line.
    pub fn add(&mut self, row: usize, measured: Measured) {
        self.measured[row].push(measured);
    }

    /// Prints the median of each row.
    pub fn print(&self) {
        println!(
            "{:<37}{:>8}{:>16}{:>10}{:>9}{:>12}{:>7}",
            "", "CPU µs", "middle half", "on top", "ratio", "requests/s", "busy"
        );
        for (index, row) in self.rows.iter().enumerate() {
            let rounds = &self.measured[index];
            let costs = || rounds.iter().map(Measured::cost);
            let (on_top, ratio) = match row.against == index {
                true => ("-".into(), "1.00".into()),
                false => (
                    format!("{:+.1}", self.on_top(index, row.against)),
                    format!("{:.2}", self.ratio(index, row.against)),
                ),
            };
            println!(
                "{:<37}{:>8.1}{:>16}{on_top:>10}{ratio:>9}{:>12}{:>6.0}%",
                row.name,
                median(costs()),
                format!("{:.1}..{:.1}", quantile(0.25, costs()), quantile(0.75, costs())),
                thousands(median(rounds.iter().map(Measured::rate))),
                median(rounds.iter().map(Measured::busy)) * 100.0,
            );
        }
        println!(
            "\nExpected: a cached token at most 1.25 times the unprotected request (here {:.2}), a \
             new one at\nmost 90 µs on top of it (here {:.1}), a cached Fernet token at most 1.10 \
             times a cached PKI token\n(here {:.2}), an object with keystone_swift_auth at most 1.03 \
             times one without (here {:.2}).",
            self.ratio(CACHED, UNPROTECTED),
            self.on_top(NEW_TOKEN, UNPROTECTED),
            self.ratio(CACHED_FERNET, CACHED),
            self.ratio(AUTHORISED_OBJECT, OBJECT),
        );
    }

    /// How many microseconds more a line costs than another, in the median round.
    pub fn on_top(&self, row: usize, against: usize) -> f64 {
        self.compare(row, against, |cost, other| cost - other)
    }

    /// How many times as much a line costs as another, in the median round.
    fn ratio(&self, row: usize, against: usize) -> f64 {
        self.compare(row, against, |cost, other| cost / other)
    }

    fn compare(&self, row: usize, against: usize, how: fn(f64, f64) -> f64) -> f64 {
        let pairs = self.measured[row].iter().zip(&self.measured[against]);
        median(pairs.map(|(measured, other)| how(measured.cost(), other.cost())))
    }
}

/// Says what is measured, and on what.
pub fn introduce(stage: &Stage, options: &Options) {
    let output = Command::new(nginx::binary()).arg("-v").output();
    let version = output.map_or_else(|_| Vec::new(), |output| output.stderr);
    let version = String::from_utf8_lossy(&version);
    let (version, pins) = (version.trim().trim_start_matches("nginx version: "), stage.pins());
    let token = stage.tokens().first().map_or(0, String::len);
    println!("{version}, one worker; {} processors", pins.count);
    match pins.worker.zip(pins.client) {
        Some((worker, client)) => println!(
            "the worker is on processor {worker}; the client and the upstream are on {client}"
        ),
        None => println!("all on one processor: the client takes time and caches from the worker"),
    }
    println!(
        "a token of {} bytes; {} tokens that are new each time",
        thousands(token as f64),
        thousands(stage.tokens().len() as f64)
    );
    println!(
        "medians of {} rounds, {} ms for each line in each; a line is compared with another one of \
         the same round\n",
        options.rounds,
        options.slice.as_millis()
    );
}

/// Prints what OpenSSL's commands need, next to what a new token costs.
pub fn compare_with_openssl(new_token: f64, verifications: &[Duration], processes: &[Duration]) {
    let micros = |times: &[Duration]| median(times.iter().map(|time| time.as_secs_f64() * 1e6));
    let (verification, process) = (micros(verifications), micros(processes));
    println!("\nopenssl speed rsa2048: a verification takes {verification:.1} µs;");
    println!("  a new token costs {:.1} times that on top", new_token / verification);
    println!("openssl cms -verify: a process for each token takes {process:.0} µs;");
    println!("  that is {:.0} times what a new token costs on top", process / new_token);
}

/// The one in the middle, or the mean of the two there.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(0.5, values)
}

/// That below which the given share of the values lies.
pub fn quantile(share: f64, values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = share * values.len().saturating_sub(1) as f64;
    let value = |at: f64| values.get(at as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (value(at.floor()), value(at.ceil()));
    low + (high - low) * at.fract()
}

/// A whole number with commas.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quarters() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(quantile(0.25, [3.0, 5.0, 1.0, 2.0, 4.0].into_iter()), 2.0);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn numbers_with_commas() {
        for (number, text) in [(7.0, "7"), (999.6, "1,000"), (1234567.0, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
