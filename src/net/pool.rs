//! Idle connections, kept for the next exchange.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::time::Duration;

use nginx_sys::ngx_log_t;

use super::connection::PeerConnection;
use super::error::ExchangeError;
use super::timer::exiting;

/// A connection that can be kept, with what runs on top of it.
pub trait Pooled {
    /// The connection that the pool watches.
    fn peer(&self) -> &PeerConnection;
}

impl Pooled for PeerConnection {
    fn peer(&self) -> &PeerConnection {
        self
    }
}

impl<C: Pooled> Pooled for Box<C> {
    fn peer(&self) -> &PeerConnection {
        (**self).peer()
    }
}

/// The idle connections of one client in one worker.
pub struct Pool<C> {
    /// The one that was used last is at the end; at most `capacity`.
    idle: RefCell<Vec<C>>,
    capacity: usize,
    log: NonNull<ngx_log_t>,
}

impl<C: Pooled> Pool<C> {
    /// A pool without connections. `log` must stay valid as long as the pool.
    pub fn new(capacity: usize, log: NonNull<ngx_log_t>) -> Self {
        Self { idle: RefCell::default(), capacity, log }
    }

    /// Does `exchange` on an idle connection that `suits`, or else on one that `open` makes, and
    /// gives the connection along with the outcome.
    ///
    /// An idle connection that turns out to be closed costs one more try, on a new one, and is no
    /// error.
    pub async fn exchange<T, E: ExchangeError>(
        &self,
        suits: impl Fn(&C) -> bool,
        open: impl AsyncFnOnce() -> Result<C, E>,
        exchange: impl AsyncFn(&mut C) -> Result<T, E>,
    ) -> Result<(C, T), E> {
        if let Some(mut connection) = self.take(suits) {
            match exchange(&mut connection).await {
                Err(error) if error.is_lost() && connection.peer().received() == 0 => {
                    debug!(self.log, "keystone: kept connection was closed, opening a new one");
                }
                outcome => return outcome.map(|outcome| (connection, outcome)),
            }
        }
        // On the heap: it is done rarely, and its state would be a part of each exchange.
        let mut connection = Box::pin(open()).await?;
        let outcome = exchange(&mut connection).await?;
        Ok((connection, outcome))
    }

    /// Keeps a connection on which nothing is left to read, for at most `timeout`.
    pub fn keep(&self, connection: C, timeout: Duration) {
        if exiting() {
            return;
        }
        connection.peer().make_idle(timeout);
        let mut idle = self.idle.borrow_mut();
        idle.push(connection);
        // Those that are used least are the first to be closed.
        let closed = idle.iter().take_while(|connection| !connection.peer().is_open()).count();
        idle.drain(..closed);
        if idle.len() > self.capacity {
            idle.remove(0);
        }
    }

    /// Closes the idle connections that `suit`.
    pub fn close(&self, suit: impl Fn(&C) -> bool) {
        self.idle.borrow_mut().retain(|connection| !suit(connection));
    }

    fn take(&self, suits: impl Fn(&C) -> bool) -> Option<C> {
        let mut idle = self.idle.borrow_mut();
        let at =
            idle.iter().rposition(|connection| connection.peer().is_open() && suits(connection))?;
        let connection = idle.remove(at);
        connection.peer().make_active();
        Some(connection)
    }
}
