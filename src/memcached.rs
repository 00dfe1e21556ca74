//! A memcached client over nginx's event loop.
//!
//! It caches answers that the identity service can always give again. So nothing here is an error
//! to the caller: a server that is down, slow or sends invalid responses has no entry. It is then
//! not asked for a while, so that it delays one request now and then and no other. Whether an entry
//! is authentic is for `keystone_gateway::memcache` to decide.

use std::num::NonZeroU32;
use std::ptr::NonNull;

use keystone_gateway::memcache::protocol::{self, GetReader, GetResponse, SetReader};
use keystone_gateway::memcache::ring::Ring;
use keystone_gateway::memcache::seal::Name;
use keystone_gateway::status::cells::MemcachedOp;
use nginx_sys::ngx_log_t;

use crate::zone::ServiceCounters;

mod addresses;
mod server;

pub use self::addresses::{ServerAddressError, ServerAddresses};
use self::server::Server;

/// The client of one worker, with its connections.
pub struct Memcached {
    /// In the order of the indices of `ring`.
    servers: Vec<Server>,
    ring: Ring,
    counters: ServiceCounters,
}

impl Memcached {
    /// A client without connections. `log` must stay valid as long as the client and its requests,
    /// as the log of the cycle does in a worker.
    pub fn new(
        servers: &[ServerAddresses],
        counters: ServiceCounters,
        log: NonNull<ngx_log_t>,
    ) -> Self {
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        Self {
            ring: Ring::new(&names),
            servers: servers.iter().map(|server| Server::new(server.clone(), log)).collect(),
            counters,
        }
    }

    /// The value of the entry, within [`server::TOTAL_TIMEOUT`] at most.
    ///
    /// Dropping the future closes the connection, so that no other request finds half an answer.
    pub async fn get(&self, name: &Name) -> Option<Vec<u8>> {
        let reader = || {
            let mut reader = GetReader::new(name);
            move |bytes: &[u8]| reader.push(bytes)
        };
        let (at, server) = self.server(name)?;
        let (asked, value) = match server.exchange(&protocol::get(name), reader).await {
            Some(GetResponse::Value(value)) => (MemcachedOp::GetHit, Some(value)),
            Some(GetResponse::Nothing) => (MemcachedOp::GetMiss, None),
            None => (MemcachedOp::GetFailed, None),
        };
        self.counters.memcached(at, asked);
        value
    }

    /// Stores a value for `ttl` seconds, if the server takes it.
    pub async fn set(&self, name: &Name, value: &[u8], ttl: NonZeroU32) {
        let reader = || {
            let mut reader = SetReader::default();
            move |bytes: &[u8]| reader.push(bytes)
        };
        let Some((at, server)) = self.server(name) else { return };
        let asked = match server.exchange(&protocol::set(name, ttl, value), reader).await {
            Some(()) => MemcachedOp::SetStored,
            None => MemcachedOp::SetFailed,
        };
        self.counters.memcached(at, asked);
    }

    /// The first available server for the name, and its index.
    fn server(&self, name: &Name) -> Option<(usize, &Server)> {
        let order = self.ring.order(name.as_str());
        let mut servers = order.filter_map(|at| Some((at, self.servers.get(at)?)));
        servers.find(|(_, server)| server.is_available())
    }
}
