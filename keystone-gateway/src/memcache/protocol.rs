//! memcached's text protocol, as far as it is needed: `get` and `set`, which every version of it
//! speaks, and every proxy in front of one.
//!
//! Readers collect what comes until the answer is whole. They take only what the server can say to
//! this one command, byte for byte, and no more than is expected: after an error, the connection
//! is not to be used again.

use std::num::NonZeroU32;

use super::seal::Name;
use super::MAX_VALUE;

/// The command that reads an entry.
pub fn get(name: &Name) -> Vec<u8> {
    format!("get {}\r\n", name.as_str()).into_bytes()
}

/// Stores an entry for `ttl` seconds.
pub fn set(name: &Name, ttl: NonZeroU32, value: &[u8]) -> Vec<u8> {
    // Longer ones memcached takes for a date.
    let ttl = ttl.get().min(MAX_TTL);
    let line = format!("set {} 0 {ttl} {}\r\n", name.as_str(), value.len());
    [line.as_bytes(), value, b"\r\n"].concat()
}

/// Reads the answer to `get`.
#[derive(Debug)]
pub struct GetReader {
    /// How the answer begins if there is an entry.
    expected: String,
    received: Vec<u8>,
}

/// A whole answer to `get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetResponse {
    /// The server has no entry of this name.
    Nothing,
    /// The bytes of the entry.
    Value(Vec<u8>),
}

impl GetReader {
    /// A reader of the answer to `get(name)`.
    pub fn new(name: &Name) -> Self {
        Self { expected: format!("VALUE {} ", name.as_str()), received: Vec::new() }
    }

    /// Takes the next bytes; gives the answer once it is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<GetResponse>, ProtocolError> {
        self.received.extend_from_slice(bytes);
        let Some((line, rest)) = first_line(&self.received)? else { return Ok(None) };
        if line == "END" {
            return whole(rest, GetResponse::Nothing);
        }
        let Some(numbers) = line.strip_prefix(&*self.expected) else {
            return Err(refusal(line));
        };
        let (flags, len) = numbers.split_once(' ').ok_or(ProtocolError::InvalidResponse)?;
        number(flags)?;
        let len = number(len)? as usize;
        if len > MAX_VALUE {
            return Err(ProtocolError::TooLarge);
        }

        let Some((value, rest)) = rest.split_at_checked(len) else { return Ok(None) };
        match rest.strip_prefix(END) {
            Some(rest) => whole(rest, GetResponse::Value(value.to_vec())),
            None if END.starts_with(rest) => Ok(None),
            None => Err(ProtocolError::InvalidResponse),
        }
    }
}

/// Reads the answer to `set`.
#[derive(Debug, Default)]
pub struct SetReader {
    received: Vec<u8>,
}

impl SetReader {
    /// Takes the next bytes; gives `()` once the server has said that the entry is stored.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<()>, ProtocolError> {
        self.received.extend_from_slice(bytes);
        match first_line(&self.received)? {
            None => Ok(None),
            Some(("STORED", rest)) => whole(rest, ()),
            Some((line @ "NOT_STORED", _)) => Err(ProtocolError::Refused(line.to_owned())),
            Some((line, _)) => Err(refusal(line)),
        }
    }
}

/// Why an answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// It is none that memcached gives to the command.
    #[error("the answer is not memcached's")]
    InvalidResponse,
    /// The server refuses the command.
    #[error("the server says \"{0}\"")]
    Refused(String),
    /// More comes than was asked for.
    #[error("the answer is followed by something else")]
    Surplus,
    /// The value is larger than any that was stored.
    #[error("the value is too large")]
    TooLarge,
}

/// The first line and what follows it, once the line is whole.
fn first_line(received: &[u8]) -> Result<Option<(&str, &[u8])>, ProtocolError> {
    let end = received.iter().take(MAX_LINE).position(|byte| !(b' '..=b'~').contains(byte));
    match end {
        None if received.len() >= MAX_LINE => Err(ProtocolError::InvalidResponse),
        None => Ok(None),
        Some(end) => {
            let (line, rest) = received.split_at(end);
            let line = std::str::from_utf8(line).map_err(|_| ProtocolError::InvalidResponse)?;
            match rest.strip_prefix(b"\r\n") {
                Some(rest) => Ok(Some((line, rest))),
                None if rest == b"\r" => Ok(None),
                None => Err(ProtocolError::InvalidResponse),
            }
        }
    }
}

fn whole<T>(rest: &[u8], answer: T) -> Result<Option<T>, ProtocolError> {
    match rest {
        [] => Ok(Some(answer)),
        _ => Err(ProtocolError::Surplus),
    }
}

/// The error that a line is which is no answer.
fn refusal(line: &str) -> ProtocolError {
    let says_so = ["CLIENT_ERROR ", "SERVER_ERROR "].iter().any(|word| line.starts_with(word));
    match says_so || line == "ERROR" {
        // Printable ASCII, so it may be cut anywhere.
        true => ProtocolError::Refused(line[..line.len().min(MAX_REASON)].to_owned()),
        false => ProtocolError::InvalidResponse,
    }
}

/// Parses decimal digits; a sign is not allowed.
fn number(digits: &str) -> Result<u32, ProtocolError> {
    match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse().map_err(|_| ProtocolError::InvalidResponse),
        false => Err(ProtocolError::InvalidResponse),
    }
}

/// What follows a value.
const END: &[u8] = b"\r\nEND\r\n";

/// memcached's own lines are shorter, its longest words about an error included.
const MAX_LINE: usize = 512;

/// As much of the server's words as the log needs.
const MAX_REASON: usize = 100;

/// 30 days, in seconds.
const MAX_TTL: u32 = 30 * 24 * 3600;
