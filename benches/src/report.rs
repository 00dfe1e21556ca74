//! Medians, and what is printed.

use std::fmt::Write as _;
use std::process::Command;

use keystone_testbed::nginx;

use crate::measured::Measured;
use crate::row::{index, ROWS};
use crate::stage::Stage;
use crate::{cpu, Options};

/// All lines in all rounds.
pub struct Table(Vec<Vec<Measured>>);

impl Table {
    /// A table without measurements.
    pub fn new() -> Self {
        Self(ROWS.iter().map(|_| Vec::new()).collect())
    }

    /// Adds a round of one line.
    pub fn add(&mut self, row: usize, measured: Measured) {
        self.0[row].push(measured);
    }

    /// Prints the median of each row that was measured.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<37}{:>8}{:>16}{:>10}{:>9}{:>12}{:>7}\n",
            "", "CPU µs", "middle half", "on top", "ratio", "requests/s", "busy"
        );
        for (rounds, row) in self.0.iter().zip(ROWS).filter(|(it, _)| !it.is_empty()) {
            let costs = || rounds.iter().map(Measured::cost);
            let (on_top, ratio) = match row.against == row.key {
                true => ("-".into(), "1.00".into()),
                false => (
                    format!("{:+.1}", median(self.on_top(row.key, row.against).into_iter())),
                    format!("{:.3}", median(self.ratio(row.key, row.against).into_iter())),
                ),
            };
            _ = writeln!(
                text,
                "{:<37}{:>8.1}{:>16}{on_top:>10}{ratio:>9}{:>12}{:>6.0}%",
                row.name,
                median(costs()),
                format!("{:.1}..{:.1}", quantile(0.25, costs()), quantile(0.75, costs())),
                thousands(median(rounds.iter().map(Measured::rate))),
                median(rounds.iter().map(Measured::busy)) * 100.0,
            );
        }
        text
    }

    /// How many microseconds more a line costs than another, in each round.
    pub fn on_top(&self, key: &str, against: &str) -> Vec<f64> {
        self.compare(key, against, |cost, other| cost - other)
    }

    /// How many times as much a line costs as another, in each round.
    pub fn ratio(&self, key: &str, against: &str) -> Vec<f64> {
        self.compare(key, against, |cost, other| cost / other)
    }

    /// Microseconds of a request, in each round.
    pub fn costs(&self, key: &str) -> Vec<f64> {
        self.rounds(key).iter().map(Measured::cost).collect()
    }

    fn rounds(&self, key: &str) -> &[Measured] {
        index(key).map_or(&[], |row| &self.0[row])
    }

    fn compare(&self, key: &str, against: &str, how: fn(f64, f64) -> f64) -> Vec<f64> {
        let pairs = self.rounds(key).iter().zip(self.rounds(against));
        pairs.map(|(measured, other)| how(measured.cost(), other.cost())).collect()
    }
}

/// What is measured, and on what.
pub fn about(stage: &Stage, options: &Options) -> Vec<String> {
    let output = Command::new(nginx::binary()).arg("-v").output();
    let version = output.map_or_else(|_| Vec::new(), |output| output.stderr);
    let version = String::from_utf8_lossy(&version);
    let (version, pins) = (version.trim().trim_start_matches("nginx version: "), stage.pins());
    let token = stage.tokens().first().map_or(0, String::len);
    vec![
        format!("{version}, one worker, a file of 1 KiB"),
        match pins.worker.zip(pins.client) {
            Some((worker, client)) => format!(
                "{} processors: the worker is on {worker}, the client and the upstream are on {client}",
                pins.count
            ),
            None => "one processor: the client takes time and caches from the worker".into(),
        },
        format!("load average {} at the start", cpu::load()),
        format!(
            "PKI tokens of {} bytes, Fernet tokens of 204; {} that are new each time",
            thousands(token as f64),
            thousands(stage.tokens().len() as f64)
        ),
        format!(
            "{} rounds, {} ms for each line in each; a ratio is that of two lines in one round, and \
             medians and quartiles are of all rounds",
            options.rounds,
            options.slice.as_millis()
        ),
    ]
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
