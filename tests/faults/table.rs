//! How often a fault is tried, and the table of what came of it.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The first number, or the second one with `KEYSTONE_FAULTS=full`.
pub fn times(short: usize, full: usize) -> usize {
    match std::env::var("KEYSTONE_FAULTS").as_deref() {
        Ok("full") => full,
        Ok(other) => panic!("KEYSTONE_FAULTS is {other}, not \"full\""),
        Err(_) => short,
    }
}

/// Adds a row to the table.
pub fn row(fault: &str, tried: impl Display, outcome: &str, figures: impl Display) {
    let row = format!("| {fault} | {tried} | {outcome} | {figures} |\n");
    eprint!("{row}");
    let Some(path) = std::env::var_os("KEYSTONE_FAULTS_TABLE") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(row.as_bytes()).unwrap();
}
