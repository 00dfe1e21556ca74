//! The report of a gateway: what is counted, and the two forms in which the counts are
//! reported.
//!
//! [`cells`] gives each thing a place among the counters, wherever those lie; a [`Report`] is what
//! was read of them at one moment. It is written as JSON, which is the report as it stands, or in
//! the text format of Prometheus, so that both tell the same ([`Report::written`]).
//!
//! Nothing here knows a token or a user, so nothing can tell of them.

pub mod cells;
mod form;
mod prometheus;
mod report;

pub use form::Form;
pub use report::{
    distinct, Area, Bucket, Cache, Durations, Events, Exchange, Limited, List, Lookups, Memcached,
    Report, Service, ServiceToken, SigningCertificate, Validations,
};

#[cfg(test)]
mod tests;
