//! A case: what is sent on one connection, and how it ends.

use std::fmt;
use std::time::Duration;

use crate::guard::Grants;
use crate::site::Door;

/// What is done on one connection.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number under the seed.
    pub number: u64,
    /// Which instance it is for.
    pub instance: usize,
    /// Index of the server in the instance.
    pub site: usize,
    /// Which of the ports of the server.
    pub door: Door,
    /// The protocols that are offered in a TLS handshake; `None` where there is none, as on a
    /// port for plain HTTP, or where something else is sent to a port for TLS.
    pub alpn: Option<&'static [u8]>,
    /// What is sent, and when.
    pub steps: Vec<Step>,
    /// How the client ends the connection.
    pub ending: Ending,
    /// How long nothing must come before it ends.
    pub quiet: Duration,
    /// How many tokens it carries that open something.
    pub grants: Grants,
    /// How often an answer may hold the content, as a client may ask for ranges of it.
    pub copies: usize,
    /// How many requests it carries, however broken.
    pub requests: usize,
    /// How many streams of HTTP/2 there are; with all of them ended it is at its end.
    pub streams: usize,
}

/// A step of a case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// The client waits.
    Pause(Duration),
    /// The client sends these bytes.
    Send(Vec<u8>),
}

/// How the client ends a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The client goes as soon as it has sent everything.
    Abandon,
    /// The client closes after the answers.
    Close,
    /// The client closes its half and waits for nginx to close the other.
    HalfClose,
    /// The client resets the connection as soon as it has sent everything.
    Reset,
    /// The client waits for nginx to close.
    Wait,
}

/// Bytes as one can read them; a byte that comes very often in a row is shown with its number.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::from("b\"");
    for run in bytes.chunk_by(|one, next| one == next) {
        match run {
            [byte, ..] if run.len() > LONG_RUN => {
                text.push_str(&format!("\" + b\"{}\" * {} + b\"", byte.escape_ascii(), run.len()));
            }
            _ => text.push_str(&run.escape_ascii().to_string()),
        }
    }
    text.push('"');
    text
}

const LONG_RUN: usize = 40;

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, door, alpn, ending, quiet, grants, .. } = self;
        let tls = if alpn.is_some() { " with TLS" } else { "" };
        writeln!(f, "case {number}: {door:?}{tls}, {ending:?} after {quiet:?}, {grants:?}")?;
        for step in &self.steps {
            match step {
                Step::Pause(time) => writeln!(f, "  pause {time:?}")?,
                Step::Send(bytes) => writeln!(f, "  send  {}", shown(bytes))?,
            }
        }
        Ok(())
    }
}
