//! Faults: processes that die, services that fail, machines that run out of something, while nginx
//! is under load.
//!
//! `cargo test` runs a short form of each. With `KEYSTONE_FAULTS=full`, which `make test-faults`
//! sets, they run for longer and more often; each adds a row to the table in the file
//! `KEYSTONE_FAULTS_TABLE`: the fault, how often it was tried, what came of it, and figures. The
//! figures depend on the machine, so only generous bounds are asserted of them.

mod clocks;
mod descriptors;
mod disk;
mod kills;
mod leavers;
mod outages;
mod reloads;
mod table;
mod upgrade;
