//! What can go wrong between a request and its answer.

use std::error::Error as _;
use std::fmt;
use std::io;

use thiserror::Error;

use super::single_flight::Abandoned;

/// Why an exchange over a connection failed.
pub trait ExchangeError {
    /// Whether the connection went away, as an idle one does when its time at the server is up.
    fn is_lost(&self) -> bool;
}

/// Why a request has no answer.
///
/// The texts are for the log. They name addresses and reasons, never what was sent or received.
#[derive(Clone, Debug, Error)]
pub enum NetError {
    /// The worker exits, or what it waited for has panicked.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// The peer closed the connection before the answer was complete.
    #[error("connection closed before the response was complete")]
    Closed,
    /// No connection could be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// The address of the server.
        address: String,
        /// The error of the system.
        reason: String,
        /// Whether it took too long.
        timed_out: bool,
    },
    /// Sending or receiving failed.
    #[error("connection failed: {0}")]
    Io(String),
    /// What came back is not HTTP, or not HTTP that this client accepts.
    #[error("invalid http response: {0}")]
    Protocol(String),
    /// The proxy has answered, and not the identity service.
    #[error("proxy {proxy} answered with status {status}{}", hint(*status))]
    Proxy {
        /// Its URI.
        proxy: String,
        /// What it answered.
        status: u16,
    },
    /// The request itself could not be sent as it is.
    #[error("invalid request: {0}")]
    Request(String),
    /// The name of the endpoint has no address now.
    #[error("cannot resolve \"{name}\": {reason}")]
    Resolve {
        /// The name that was asked for.
        name: String,
        /// The error of nginx's resolver.
        reason: String,
    },
    /// The peer took too long.
    #[error("timed out while {0}")]
    Timeout(Phase),
    /// The TLS handshake failed.
    #[error("tls handshake with {address} failed: {reason}")]
    Tls {
        /// The address of the server.
        address: String,
        /// The reason that OpenSSL gives.
        reason: String,
    },
    /// The answer is longer than the caller allows.
    #[error("response is larger than {limit} bytes")]
    TooLarge {
        /// The bound that was passed.
        limit: usize,
    },
}

impl NetError {
    /// Whether the response, or the request, is invalid, so that asking again would not help.
    pub fn is_invalid_response(&self) -> bool {
        match self {
            Self::Protocol(_) | Self::Request(_) | Self::TooLarge { .. } => true,
            Self::Proxy { status, .. } => *status < 500,
            _ => false,
        }
    }

    /// Whether it took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Connect { timed_out: true, .. })
    }

    /// Translates hyper's error.
    pub(super) fn from_hyper(error: &hyper::Error) -> Self {
        if error.is_parse() {
            return Self::Protocol(error.to_string());
        }
        if error.is_user() {
            return Self::Request(error.to_string());
        }
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return Self::Closed;
        }

        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                return match io.kind() {
                    // hyper's way to say that a length or a chunk does not parse
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                        Self::Protocol(io.to_string())
                    }
                    io::ErrorKind::UnexpectedEof => Self::Closed,
                    _ => Self::Io(io.to_string()),
                };
            }
            source = cause.source();
        }
        Self::Protocol(error.to_string())
    }
}

/// What an operator may not know of a proxy's status.
fn hint(status: u16) -> &'static str {
    match status {
        407 => ", it demands other credentials",
        _ => "",
    }
}

impl ExchangeError for NetError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_))
    }
}

/// What was going on when the time was up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Waiting for TCP to connect.
    Connect,
    /// Waiting for the TLS handshake.
    Handshake,
    /// Waiting for (more of) the answer.
    Read,
    /// Waiting for the name server.
    Resolve,
    /// Waiting for the peer to take the request.
    Send,
    /// Waiting for the proxy to open a tunnel.
    Tunnel,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Handshake => "tls handshaking",
            Self::Read => "reading the response",
            Self::Resolve => "resolving the name",
            Self::Send => "sending the request",
            Self::Tunnel => "opening a tunnel through the proxy",
        })
    }
}
