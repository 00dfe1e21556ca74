//! Bytes over a connection, without TLS or HTTP on top.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::{Action, Inner, PeerConnection};
use crate::net::NetError;

impl PeerConnection {
    /// Sends all of `bytes`, however many writes that takes.
    pub async fn send_all(&self, bytes: &[u8]) -> Result<(), NetError> {
        self.set_action(Action::Requesting);
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.when_ready(|inner| inner.write(rest)).await?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Receives some bytes, at least one, to the beginning of `buf`.
    pub async fn receive(&self, buf: &mut [u8]) -> Result<usize, NetError> {
        let received = self.when_ready(|inner| inner.read(buf)).await?;
        self.add_received(received);
        Ok(received)
    }

    /// The outcome of `attempt`, once it has one. Nothing read or written is the end.
    async fn when_ready(
        &self,
        mut attempt: impl FnMut(&Inner) -> io::Result<usize>,
    ) -> Result<usize, NetError> {
        let result = poll_fn(|cx| {
            self.set_waker(cx);
            match attempt(&self.inner) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            }
        });
        match (result.await, self.timed_out()) {
            (Ok(0), _) => Err(NetError::Closed),
            (Ok(n), _) => Ok(n),
            (Err(_), Some(phase)) => Err(NetError::Timeout(phase)),
            (Err(error), None) => Err(NetError::Io(error.to_string())),
        }
    }
}
