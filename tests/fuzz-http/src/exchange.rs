//! Plays a case on a socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use keystone_testbed::wire::Stream;
use openssl::ssl::{HandshakeError, Ssl, SslContext, SslMethod, SslVerifyMode};

use crate::case::{Case, Ending, Step};
use crate::frame::{kind, Frame};

/// What came of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All that nginx sent.
    pub received: Vec<u8>,
    /// Whether nginx closed the connection, or was not asked to.
    pub is_over: bool,
    /// Whether there was a connection at all.
    pub connected: bool,
}

/// Sends cases to nginx.
pub struct Player {
    tls: SslContext,
}

impl Player {
    /// One that trusts every certificate.
    pub fn new() -> keystone_testbed::Result<Self> {
        let mut tls = SslContext::builder(SslMethod::tls_client())?;
        tls.set_verify(SslVerifyMode::NONE);
        Ok(Self { tls: tls.build() })
    }

    /// Sends a case to `address`, and reads what comes back.
    pub fn play(&self, case: &Case, address: SocketAddr) -> Outcome {
        let mut outcome = Outcome::default();
        let Ok(tcp) = TcpStream::connect_timeout(&address, PATIENCE) else { return outcome };
        outcome.connected = true;
        let stream = match case.alpn {
            None => Some(Stream::Plain(tcp)),
            Some(alpn) => self.shake_hands(tcp, alpn),
        };
        let Some(stream) = stream else {
            outcome.is_over = true;
            return outcome;
        };
        let mut talk = Talk { stream, received: Vec::new(), closed: false };
        for step in &case.steps {
            match step {
                Step::Pause(time) => talk.read_for(*time),
                Step::Send(bytes) => talk.write(bytes),
            }
            if talk.closed {
                break;
            }
        }
        outcome.is_over = talk.end(case);
        outcome.received = talk.received;
        outcome
    }

    fn shake_hands(&self, tcp: TcpStream, alpn: &[u8]) -> Option<Stream> {
        tcp.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut tls = Ssl::new(&self.tls).ok()?;
        tls.set_alpn_protos(alpn).ok()?;
        match tls.connect(tcp) {
            Ok(stream) => Some(Stream::Tls(Box::new(stream))),
            Err(HandshakeError::SetupFailure(_)) => None,
            Err(HandshakeError::Failure(_) | HandshakeError::WouldBlock(_)) => None,
        }
    }
}

struct Talk {
    stream: Stream,
    received: Vec<u8>,
    closed: bool,
}

impl Talk {
    /// Reads whatever comes, until nothing has come for `time`.
    fn read_for(&mut self, time: Duration) {
        while !self.closed {
            match self.read(time) {
                Ok(0) => self.closed = true,
                Ok(_) => {}
                Err(error) if is_quiet(&error) => return,
                Err(_) => self.closed = true,
            }
        }
    }

    fn read(&mut self, time: Duration) -> io::Result<usize> {
        // A time-out of 0 is none.
        self.stream.tcp().set_read_timeout(Some(time.max(TICK)))?;
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        self.received.extend(&buffer[..count]);
        Ok(count)
    }

    /// Writes all, reading when nginx does not take more; it may stop reading for good.
    fn write(&mut self, mut bytes: &[u8]) {
        let deadline = Instant::now() + LONGEST_WRITE;
        let _ = self.stream.tcp().set_write_timeout(Some(TICK * 50));
        while !bytes.is_empty() && !self.closed && Instant::now() < deadline {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_quiet(&error) => self.read_for(TICK),
                Err(_) => self.read_for(TICK * 20),
            }
        }
    }

    /// Ends the connection, and says whether nginx did what it should.
    fn end(&mut self, case: &Case) -> bool {
        match case.ending {
            Ending::Abandon => return true,
            Ending::Reset => {
                reset_when_closed(self.stream.tcp());
                return true;
            }
            Ending::Close | Ending::HalfClose | Ending::Wait => {}
        }
        while !self.closed && !self.has_all(case) {
            match self.read(case.quiet) {
                Ok(0) => self.closed = true,
                Ok(_) => {}
                Err(error) if is_quiet(&error) => break,
                Err(_) => self.closed = true,
            }
        }
        if self.closed || case.ending == Ending::Close {
            return true;
        }
        if case.ending == Ending::HalfClose {
            let _ = self.stream.tcp().shutdown(Shutdown::Write);
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.closed && Instant::now() < deadline {
            self.read_for(Duration::from_millis(500));
        }
        self.closed
    }

    /// Whether every stream of HTTP/2 has ended.
    fn has_all(&self, case: &Case) -> bool {
        if case.streams == 0 {
            return false;
        }
        let mut rest = self.received.as_slice();
        let frames = std::iter::from_fn(|| Frame::take(&mut rest));
        let ended = frames.filter(|f| f.ends_stream() || f.kind == kind::GOAWAY);
        ended.count() >= case.streams
    }
}

fn is_quiet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Lets the end of the socket be a reset.
fn reset_when_closed(tcp: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = std::mem::size_of_val(&linger) as libc::socklen_t;
    let value: *const libc::linger = &linger;
    // SAFETY: the descriptor is open, and the option's value is a linger of that size.
    unsafe {
        libc::setsockopt(tcp.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value.cast(), size);
    }
}

/// How long nginx may take to close or to answer, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_WRITE: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(2);
