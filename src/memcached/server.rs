//! One memcached server: its connections, and whether it is up.

use std::cell::Cell;
use std::ptr::NonNull;
use std::time::Duration;

use keystone_gateway::addresses::PreferredAddress;
use keystone_gateway::memcache::protocol::ProtocolError;
use nginx_sys::ngx_log_t;

use super::ServerAddresses;
use crate::failure_log::FailureLog;
use crate::net::{
    now_msec, or_timeout, ExchangeError, NetError, Peer, PeerAddr, PeerConnection, Phase, Pool,
    Timeouts, Timer,
};

/// A memcached server as one worker sees it.
pub(super) struct Server {
    addresses: ServerAddresses,
    log: NonNull<ngx_log_t>,
    pool: Pool<PeerConnection>,
    preferred: PreferredAddress<PeerAddr>,
    health: Cell<Health>,
    /// Commands that the server has refused.
    refusals: FailureLog,
}

/// What is known of a server.
#[derive(Clone, Copy)]
enum Health {
    /// It gets no command before `until`, on nginx's millisecond clock.
    Down { until: u64 },
    /// It answers; the last `timeouts` exchanges in a row timed out.
    Up { timeouts: u32 },
}

/// Why an exchange with memcached has no answer.
#[derive(Debug, thiserror::Error)]
enum MemcachedError {
    /// The connection failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The response cannot be used.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl ExchangeError for MemcachedError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Net(error) if error.is_lost())
    }
}

impl Server {
    pub(super) fn new(addresses: ServerAddresses, log: NonNull<ngx_log_t>) -> Self {
        Self {
            addresses,
            log,
            pool: Pool::new(KEEPALIVE, log),
            preferred: PreferredAddress::default(),
            health: Cell::new(Health::Up { timeouts: 0 }),
            refusals: FailureLog::default(),
        }
    }

    /// Whether the server can be used now. While it is down, one request per pause checks whether
    /// it is back.
    pub(super) fn is_available(&self) -> bool {
        match self.health.get() {
            Health::Up { .. } => true,
            Health::Down { until } if now_msec() < until => false,
            Health::Down { .. } => {
                self.pause();
                true
            }
        }
    }

    /// Sends a command, and parses the answer with a reader that `reader` makes.
    pub(super) async fn exchange<T, R>(&self, command: &[u8], reader: impl Fn() -> R) -> Option<T>
    where
        R: FnMut(&[u8]) -> Result<Option<T>, ProtocolError>,
    {
        let asked = or_timeout(self.try_exchange(command, reader), Timer::new(TOTAL_TIMEOUT)).await;
        let asked = asked.unwrap_or(Err(NetError::Timeout(Phase::Read).into()));
        match &asked {
            Ok(_) => self.note_answer(),
            Err(MemcachedError::Protocol(ProtocolError::Refused(reason))) => {
                self.note_refusal(reason)
            }
            Err(MemcachedError::Protocol(error @ ProtocolError::TooLarge)) => {
                self.note_too_large(error)
            }
            Err(error) => self.note_failure(error),
        }
        asked.ok()
    }

    async fn try_exchange<T, R>(
        &self,
        command: &[u8],
        reader: impl Fn() -> R,
    ) -> Result<T, MemcachedError>
    where
        R: FnMut(&[u8]) -> Result<Option<T>, ProtocolError>,
    {
        let open = async || Ok(self.open().await?);
        let ask = async |connection: &mut PeerConnection| {
            send_command(connection, command, reader()).await
        };
        let (connection, answer) = self.pool.exchange(|_| true, open, ask).await?;
        self.pool.keep(connection, IDLE_TIMEOUT);
        Ok(answer)
    }

    /// Connects to the first address that accepts.
    async fn open(&self) -> Result<PeerConnection, NetError> {
        let ServerAddresses { name, list } = &self.addresses;
        let connect = async |address: &PeerAddr| {
            let peer = Peer { address, name, service: "memcached" };
            let connection = PeerConnection::connect(&peer, TIMEOUTS, self.log).await;
            connection.inspect_err(|error| debug!(self.log, "keystone: memcached {name}: {error}"))
        };
        let connection = self.preferred.connect(list, connect).await;
        connection.map_err(|error| error.unwrap_or(NetError::Closed))
    }

    fn note_answer(&self) {
        self.note_alive();
        self.refusals.on_success();
    }

    fn note_refusal(&self, reason: &str) {
        self.note_alive();
        if self.refusals.on_failure() {
            error!(self.log, "keystone: memcached {} refuses: {reason}", self.addresses.name);
        }
    }

    /// An entry that no gateway has stored says nothing about the others.
    fn note_too_large(&self, error: &ProtocolError) {
        debug!(self.log, "keystone: memcached {}: {error}", self.addresses.name);
        self.note_alive();
    }

    fn note_alive(&self) {
        if let Health::Down { .. } = self.health.replace(Health::Up { timeouts: 0 }) {
            notice!(self.log, "keystone: memcached {} is back", self.addresses.name);
        }
    }

    fn note_failure(&self, error: &MemcachedError) {
        debug!(self.log, "keystone: memcached {}: {error}", self.addresses.name);
        match (self.health.get(), error) {
            (Health::Down { .. }, _) => self.pause(),
            (Health::Up { timeouts }, MemcachedError::Net(error))
                if error.is_timeout() && timeouts + 1 < TIMEOUTS_TO_BE_DOWN =>
            {
                self.health.set(Health::Up { timeouts: timeouts + 1 });
            }
            (Health::Up { .. }, _) => {
                error!(
                    self.log,
                    "keystone: memcached {} failed: {error}, not used for {} s",
                    self.addresses.name,
                    PAUSE.as_secs()
                );
                self.pause();
            }
        }
    }

    fn pause(&self) {
        let until = now_msec().saturating_add(PAUSE.as_millis() as u64);
        self.health.set(Health::Down { until });
    }
}

/// Sends one command and reads its response. The caller owns the connection.
async fn send_command<T>(
    connection: &PeerConnection,
    command: &[u8],
    mut reader: impl FnMut(&[u8]) -> Result<Option<T>, ProtocolError>,
) -> Result<T, MemcachedError> {
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
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_millis(250);

/// One lost packet causes a time-out and is no reason yet to take a server for down.
const TIMEOUTS_TO_BE_DOWN: u32 = 3;

/// For how long a server that is down is not asked. auth_token's `memcache_pool_dead_retry` is
/// five minutes, for its tries block for seconds; here a try costs one request a time-out at most,
/// and a server that was restarted is soon used again.
const PAUSE: Duration = Duration::from_secs(15);

/// Idle connections of a worker to a server: as many as are in use at once, at a few hundred
/// commands a second of a millisecond each.
const KEEPALIVE: usize = 8;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// More than most entries have.
const READ_SIZE: usize = 8 << 10;
