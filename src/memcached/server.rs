//! One memcached server: its connections, and whether it is worth asking.

use std::cell::Cell;
use std::ptr::NonNull;
use std::time::Duration;

use keystone_token::memcache::protocol::ProtocolError;
use nginx_sys::ngx_log_t;

use super::Site;
use crate::incident::Incident;
use crate::net::{
    now_msec, or_timeout, ExchangeError, NetError, Peer, PeerConnection, Phase, Pool, Timeouts,
    Timer,
};

/// A server as one worker sees it.
pub(super) struct Server {
    site: Site,
    log: NonNull<ngx_log_t>,
    pool: Pool<PeerConnection>,
    /// Which of its addresses took a connection last.
    preferred: Cell<usize>,
    health: Cell<Health>,
    /// That the server refuses commands.
    refusing: Incident,
}

/// What is known of a server.
#[derive(Clone, Copy)]
enum Health {
    /// It is left alone until then, on nginx's millisecond clock.
    Down { until: u64 },
    /// It answers, but for as many times in a row.
    Up { timeouts: u32 },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    /// The server could not be talked to.
    #[error(transparent)]
    Net(#[from] NetError),
    /// It said what cannot be used.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl ExchangeError for AskError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Net(error) if error.is_lost())
    }
}

impl Server {
    pub(super) fn new(site: Site, log: NonNull<ngx_log_t>) -> Self {
        Self {
            site,
            log,
            pool: Pool::new(KEEPALIVE, log),
            preferred: Cell::new(0),
            health: Cell::new(Health::Up { timeouts: 0 }),
            refusing: Incident::default(),
        }
    }

    /// Whether to ask it now. Where it is down, one request finds out whether it still is: the
    /// others meanwhile go without.
    pub(super) fn admits(&self) -> bool {
        match self.health.get() {
            Health::Up { .. } => true,
            Health::Down { until } if now_msec() < until => false,
            Health::Down { .. } => {
                self.leave_alone();
                true
            }
        }
    }

    /// Sends a command and gives what the reader that `reader` makes has made of the answer.
    pub(super) async fn ask<T, R>(&self, command: &[u8], reader: impl Fn() -> R) -> Option<T>
    where
        R: FnMut(&[u8]) -> Result<Option<T>, ProtocolError>,
    {
        let asked = or_timeout(self.try_to_ask(command, reader), Timer::new(WHOLE)).await;
        let asked = asked.unwrap_or(Err(NetError::Timeout(Phase::Read).into()));
        match &asked {
            Ok(_) => self.note_answer(),
            Err(AskError::Protocol(ProtocolError::Refused(reason))) => self.note_refusal(reason),
            Err(AskError::Protocol(error @ ProtocolError::TooLarge)) => self.note_misfit(error),
            Err(error) => self.note_failure(error),
        }
        asked.ok()
    }

    async fn try_to_ask<T, R>(&self, command: &[u8], reader: impl Fn() -> R) -> Result<T, AskError>
    where
        R: FnMut(&[u8]) -> Result<Option<T>, ProtocolError>,
    {
        let open = async || Ok(self.open().await?);
        let ask =
            async |connection: &mut PeerConnection| exchange(connection, command, reader()).await;
        let (connection, answer) = self.pool.exchange(|_| true, open, ask).await?;
        self.pool.keep(connection, IDLE_TIMEOUT);
        Ok(answer)
    }

    /// Makes a connection to the first address that takes it.
    async fn open(&self) -> Result<PeerConnection, NetError> {
        let (count, first) = (self.site.addresses.len(), self.preferred.get());
        let mut last_error = NetError::Closed;
        for at in (0..count).map(|n| (first + n) % count) {
            let peer = Peer {
                address: &self.site.addresses[at],
                name: &self.site.name,
                service: "memcached",
            };
            match PeerConnection::connect(&peer, TIMEOUTS, self.log).await {
                Ok(connection) => {
                    self.preferred.set(at);
                    return Ok(connection);
                }
                Err(error) => {
                    debug!(self.log, "keystone: memcached {}: {error}", self.site.name);
                    last_error = error;
                }
            }
        }
        Err(last_error)
    }

    fn note_answer(&self) {
        self.note_life();
        self.refusing.works();
    }

    fn note_refusal(&self, reason: &str) {
        self.note_life();
        if self.refusing.fails() {
            error!(self.log, "keystone: memcached {} refuses: {reason}", self.site.name);
        }
    }

    /// An entry that nobody of the fleet has made says nothing about the other ones.
    fn note_misfit(&self, error: &ProtocolError) {
        debug!(self.log, "keystone: memcached {}: {error}", self.site.name);
        self.note_life();
    }

    fn note_life(&self) {
        if let Health::Down { .. } = self.health.replace(Health::Up { timeouts: 0 }) {
            notice!(self.log, "keystone: memcached {} is back", self.site.name);
        }
    }

    fn note_failure(&self, error: &AskError) {
        debug!(self.log, "keystone: memcached {}: {error}", self.site.name);
        match (self.health.get(), error) {
            (Health::Down { .. }, _) => self.leave_alone(),
            (Health::Up { timeouts }, AskError::Net(error))
                if error.is_timeout() && timeouts + 1 < TIMEOUTS_TO_BE_DOWN =>
            {
                self.health.set(Health::Up { timeouts: timeouts + 1 });
            }
            (Health::Up { .. }, _) => {
                error!(
                    self.log,
                    "keystone: memcached {} is down: {error}; it is left alone for {} s at a time",
                    self.site.name,
                    PAUSE.as_secs()
                );
                self.leave_alone();
            }
        }
    }

    fn leave_alone(&self) {
        let until = now_msec().saturating_add(PAUSE.as_millis() as u64);
        self.health.set(Health::Down { until });
    }
}

/// One command and its answer, on a connection that nobody else uses.
async fn exchange<T>(
    connection: &PeerConnection,
    command: &[u8],
    mut reader: impl FnMut(&[u8]) -> Result<Option<T>, ProtocolError>,
) -> Result<T, AskError> {
    connection.send_all(command).await?;
    let mut buffer = [0; READ_SIZE];
    loop {
        let received = connection.receive(&mut buffer).await?;
        if let Some(answer) = reader(buffer.get(..received).unwrap_or_default())? {
            return Ok(answer);
        }
    }
}

/// Of each step. A server in the same data centre answers within a millisecond, and to wait longer
/// than this is worse than to ask Keystone itself.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(100),
    read: Duration::from_millis(100),
    send: Duration::from_millis(100),
};

/// Of all steps together, however many addresses and pieces there are.
pub(super) const WHOLE: Duration = Duration::from_millis(250);

/// A lost packet costs more than a time-out and is no reason yet to leave a server alone.
const TIMEOUTS_TO_BE_DOWN: u32 = 3;

/// For how long a server that is down is left alone. auth_token's `memcache_pool_dead_retry` is
/// five minutes, for its tries block for seconds; here a try costs one request a time-out at most,
/// and a server that was restarted is soon of use again.
const PAUSE: Duration = Duration::from_secs(15);

/// Idle connections of a worker to a server: as many as are of use at once, at a few hundred
/// commands a second of a millisecond each.
const KEEPALIVE: usize = 8;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// More than most entries have.
const READ_SIZE: usize = 8 << 10;
