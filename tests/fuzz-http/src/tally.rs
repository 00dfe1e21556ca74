//! Counts of what was done, to tell that a run was no empty one.

use std::collections::BTreeMap;
use std::fmt;

use crate::case::Case;
use crate::exchange::Outcome;
use crate::frame::{kind, Frame};
use crate::guard::Guard;

/// What was done so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub cases: u64,
    pub connections: u64,
    /// Requests that were sent over HTTP/1, however broken.
    pub http1: u64,
    /// Requests that were sent over HTTP/2, however broken.
    pub http2: u64,
    /// Bytes that nginx sent.
    pub received: u64,
    /// Answers over HTTP/1 by status.
    pub statuses1: BTreeMap<u16, u64>,
    /// Answers over HTTP/2 that are `200`, and others.
    pub statuses2: BTreeMap<&'static str, u64>,
    /// How often a guard's content was received.
    pub contents: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds the outcome of a case.
    pub fn add(&mut self, case: &Case, outcome: &Outcome) {
        self.cases += 1;
        self.connections += u64::from(outcome.connected);
        self.received += outcome.received.len() as u64;
        if case.streams > 0 {
            self.http2 += case.requests as u64;
            let mut rest = outcome.received.as_slice();
            while let Some(frame) = Frame::take(&mut rest) {
                if frame.kind == kind::HEADERS {
                    let is_200 = frame.payload.iter().take(2).any(|byte| *byte == 0x88);
                    *self.statuses2.entry(if is_200 { "200" } else { "other" }).or_default() += 1;
                }
            }
        } else {
            self.http1 += case.requests as u64;
            for (at, _) in outcome.received.windows(7).enumerate().filter(|(_, w)| w == b"HTTP/1.")
            {
                let status = outcome.received.get(at + 9..at + 12);
                let status = status.and_then(|digits| std::str::from_utf8(digits).ok());
                if let Some(status) = status.and_then(|digits| digits.parse().ok()) {
                    *self.statuses1.entry(status).or_default() += 1;
                }
            }
        }
        for guard in Guard::ALL {
            let times = count(&outcome.received, guard.content().as_bytes());
            *self.contents.entry(guard.name()).or_default() += times as u64;
        }
    }

    /// What a run of some length must have seen, and has not.
    pub fn missing(&self, seen: &BTreeMap<String, u64>) -> Vec<String> {
        let mut missing = Vec::new();
        let mut must = |what: &str, is_there: bool| {
            if !is_there {
                missing.push(what.to_owned());
            }
        };
        for guard in Guard::ALL {
            let times = self.contents.get(guard.name()).copied().unwrap_or_default();
            must(&format!("content of {guard:?}"), times > 0);
        }
        for status in [200, 400, 401, 403, 404] {
            must(&format!("an answer {status}"), self.statuses1.contains_key(&status));
        }
        must("an answer 200 over HTTP/2", self.statuses2.contains_key("200"));
        for way in [
            "HTTP ON",
            "HTTP ADMIN",
            "HTTP DELAY",
            "HTTP SWIFT",
            "FASTCGI ON",
            "SCGI ON",
            "UWSGI ON",
            "FASTCGI DELAY",
            "SCGI DELAY",
            "UWSGI DELAY",
        ] {
            must(way, seen.get(&format!("{way} confirmed")).is_some_and(|times| *times > 0));
        }
        missing
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, connections, http1, http2, received, .. } = self;
        writeln!(f, "{cases} cases, {connections} connections, {received} bytes received")?;
        writeln!(f, "HTTP/1: {http1} requests, answers {:?}", self.statuses1)?;
        writeln!(f, "HTTP/2: {http2} requests, answers {:?}", self.statuses2)?;
        write!(f, "content: {:?}", self.contents)
    }
}

/// How often `part` is in `bytes`.
pub fn count(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}
