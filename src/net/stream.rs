//! A connection as hyper sees it: plain, or with TLS on top.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::ReadBufCursor;
use keystone_gateway::tls::first_reason;
use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, SslStream};

use super::connection::PeerConnection;

/// What HTTP runs over. The connection inside is the same that the pool has a handle to.
pub(super) enum Stream {
    Plain(PeerConnection),
    Tls(SslStream<PeerConnection>),
}

impl Stream {
    fn peer(&self) -> &PeerConnection {
        match self {
            Self::Plain(peer) => peer,
            Self::Tls(tls) => tls.get_ref(),
        }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.peer().set_waker(cx);

        // One of its own would be filled with zeros at each poll, which takes longer than to read.
        SCRATCH.with_borrow_mut(|buf| {
            let buf = &mut buf[..READ_SIZE.min(out.remaining())];
            let read = match &mut *self {
                Self::Plain(peer) => peer.read(buf),
                Self::Tls(tls) => plain_result(tls, |tls| tls.ssl_read(buf)),
            };
            blocking(read).map_ok(|n| {
                self.peer().add_received(n);
                out.put_slice(&buf[..n]);
            })
        })
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.peer().set_waker(cx);

        blocking(match &mut *self {
            Self::Plain(peer) => peer.write(buf),
            Self::Tls(tls) => plain_result(tls, |tls| tls.ssl_write(buf)),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Says goodbye as far as that goes without waiting, and closes.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Tls(tls) = &mut *self {
            // Lengths and chunks have already marked the end of the answer.
            let _ = tls.shutdown();
        }
        self.peer().close();
        Poll::Ready(Ok(()))
    }
}

/// Folds the outcomes of OpenSSL's `call` into those of a socket.
fn plain_result(
    tls: &mut SslStream<PeerConnection>,
    call: impl FnOnce(&mut SslStream<PeerConnection>) -> Result<usize, openssl::ssl::Error>,
) -> io::Result<usize> {
    // OpenSSL tells why the call ended by its queue of errors, in which another module may have left
    // one (SSL_get_error(3)). A handshake empties it by itself.
    drop(ErrorStack::get());
    let error = match call(tls) {
        Ok(n) => return Ok(n),
        Err(error) => error,
    };
    match error.code() {
        ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Err(io::ErrorKind::WouldBlock.into()),
        // close_notify, or the end without one: HTTP's framing shows whether something is missing
        ErrorCode::ZERO_RETURN => Ok(0),
        ErrorCode::SYSCALL if error.io_error().is_none() => Ok(0),
        _ => Err(error.into_io_error().unwrap_or_else(|error| {
            let reason = error.ssl_error().map(first_reason);
            io::Error::other(reason.unwrap_or_else(|| "unknown error".to_owned()))
        })),
    }
}

fn blocking(result: io::Result<usize>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

thread_local! {
    /// What was read from a connection, on its way to hyper.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

/// As much as a TLS record holds.
const READ_SIZE: usize = 16 * 1024;
