//! What can go wrong between a gateway and its identity service.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::api::{self, Answer};
use crate::lock;
use crate::serve::{self, After, Incoming};
use crate::wire::Stream;

/// A fault of the identity service.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is closed before anything is answered.
    CloseBeforeAnswer,
    /// The answer is whole and promises to keep the connection, which is then closed.
    CloseSilently,
    /// The body comes in chunks.
    Chunked,
    /// The response is delayed.
    Delay(Duration),
    /// The answer comes byte by byte, with a pause before each.
    Drip(Duration),
    /// What comes is not HTTP.
    Garbage,
    /// Half of the answer comes, then the end.
    Half,
    /// An answer with this body instead.
    Body(Vec<u8>),
    /// A header field is added.
    Header(&'static str, String),
    /// The answer waits until the gate is opened.
    Hold(Gate),
    /// The connection is reset before anything is answered.
    Reset,
    /// After this time, the answer comes once more, which nobody has asked for.
    Repeat(Duration),
    /// Nothing is ever answered; the connection stays open.
    Silence,
    /// The same on the connections up to this one, as of a machine that was switched off.
    SilenceUpTo(u64),
    /// Another status, with a body that fits it.
    Status(u16),
    /// Another status, with the body that belongs to the right one.
    StatusAlone(u16),
    /// `Content-Length` is off by this much.
    WrongLength(i64),
}

/// Keeps answers back until a test has seen what it wants to see.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// Lets all answers go, from now on.
    pub fn open(&self) {
        let (open, changed) = &*self.open;
        *lock(open) = true;
        changed.notify_all();
    }

    fn pass(&self) {
        let (open, changed) = &*self.open;
        // A test that fails leaves it closed; then the wait must end.
        let waited = changed.wait_timeout_while(lock(open), LONGEST_HOLD, |open| !*open);
        drop(waited);
    }
}

/// After this time, what is held is answered, for a test that has failed to let it go.
pub const LONGEST_HOLD: Duration = Duration::from_secs(20);

/// A fault, and the requests that it applies to.
#[derive(Clone, Debug)]
pub struct Rule {
    place: Place,
    fault: Fault,
    left: Option<usize>,
}

/// The requests that a fault applies to.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Requests for a service token.
    Logins,
    /// Paths that start like this.
    Prefix(String),
    /// Validations of tokens.
    Validations,
    /// Requests for the versions of the API.
    Versions,
}

impl Rule {
    pub(super) fn new(place: Place, fault: Fault, left: Option<usize>) -> Self {
        Self { place, fault, left }
    }
}

/// The faults that apply to a request now.
pub(super) fn due(rules: &mut Vec<Rule>, prefix: &str, request: &Incoming) -> Vec<Fault> {
    let applies = |rule: &&mut Rule| match &rule.place {
        Place::Logins => request.method == "POST",
        Place::Prefix(start) => request.path().starts_with(start),
        Place::Validations => api::subject(prefix, request).is_some(),
        Place::Versions => api::asks_for_versions(prefix, request),
    };
    let mut due = Vec::new();
    for rule in rules.iter_mut().filter(applies) {
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        due.push(rule.fault.clone());
    }
    rules.retain(|rule| rule.left != Some(0));
    due
}

/// Writes an answer with all `faults` in it.
pub(super) fn send(
    mut answer: Answer,
    faults: &[Fault],
    request: &Incoming,
    stream: &mut Stream,
) -> After {
    let mut how = How::default();
    for fault in faults {
        match fault {
            Fault::Body(body) => answer.body.clone_from(body),
            Fault::Chunked => how.chunked = true,
            Fault::CloseBeforeAnswer => return After::Close,
            Fault::CloseSilently => how.closes = true,
            Fault::Delay(time) => std::thread::sleep(*time),
            Fault::Drip(time) => how.pause = Some(*time),
            Fault::Garbage => {
                serve::send(stream, b"\x16\x03garbage that never was HTTP\r\n\r\n");
                return After::Close;
            }
            Fault::Half => how.half = true,
            Fault::Hold(gate) => gate.pass(),
            Fault::Header(name, value) => answer.headers.push((name, value.clone())),
            Fault::Repeat(time) => how.repeat = Some(*time),
            Fault::Reset => {
                serve::reset(stream);
                return After::Close;
            }
            Fault::SilenceUpTo(last) if request.connection > *last => {}
            Fault::Silence | Fault::SilenceUpTo(_) => {
                // Until the peer gives up or the server is stopped.
                let _ = std::io::copy(stream, &mut std::io::sink());
                return After::Close;
            }
            Fault::Status(status) => {
                answer.status = *status;
                answer.body = format!("{status} {}\n", serve::reason(*status)).into_bytes();
            }
            Fault::StatusAlone(status) => answer.status = *status,
            Fault::WrongLength(by) => how.error = *by,
        }
    }
    how.write(&answer, request, stream)
}

/// How an answer is written.
#[derive(Default)]
struct How {
    chunked: bool,
    /// Whether the connection is closed afterwards.
    closes: bool,
    /// By how much `Content-Length` is off.
    error: i64,
    half: bool,
    /// Before each byte.
    pause: Option<Duration>,
    /// When it comes once more.
    repeat: Option<Duration>,
}

impl How {
    fn write(&self, answer: &Answer, request: &Incoming, stream: &mut Stream) -> After {
        let mut message = self.message(answer, request);
        if self.half {
            message.truncate(message.len() / 2);
        }
        let sent = match self.pause {
            None => serve::send(stream, &message),
            Some(pause) => drip(stream, &message, pause),
        };
        if sent == After::Close {
            return sent;
        }
        if let Some(time) = self.repeat {
            std::thread::sleep(time);
            return serve::send(stream, &message);
        }
        match self.closes || self.half || self.error > 0 {
            true => After::Close,
            false => After::Keep,
        }
    }

    fn message(&self, answer: &Answer, request: &Incoming) -> Vec<u8> {
        let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let mut message = serve::head(answer.status, &headers.collect::<Vec<_>>());
        let body = if request.method == "HEAD" { &[][..] } else { &answer.body };
        if self.chunked {
            message.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(100) {
                message.extend(format!("{:x}\r\n", chunk.len()).bytes());
                message.extend(chunk);
                message.extend(b"\r\n");
            }
            message.extend(b"0\r\n\r\n");
        } else {
            let length = answer.body.len() as i64 + self.error;
            message.extend(format!("Content-Length: {length}\r\n\r\n").bytes());
            message.extend(body);
        }
        message
    }
}

fn drip(stream: &mut Stream, message: &[u8], pause: Duration) -> After {
    for byte in message {
        std::thread::sleep(pause);
        if stream.write_all(&[*byte]).and_then(|()| stream.flush()).is_err() {
            return After::Close;
        }
    }
    After::Keep
}
