//! A memcached client over nginx's event loop.
//!
//! It is a cache for the answers to a question that can always be asked again. So nothing here is
//! an error to the caller: a server that is down, slow or talks nonsense has no entry, and is then
//! left alone for a while, so that it costs one request a moment now and then and the others
//! nothing. What the entries are worth is for `keystone_token::memcache` to tell.

use std::num::NonZeroU32;
use std::ptr::NonNull;

use keystone_token::memcache::protocol::{self, GetReader, Got, SetReader};
use keystone_token::memcache::ring::Ring;
use keystone_token::memcache::seal::Name;
use keystone_token::status::cells::Asked;
use nginx_sys::ngx_log_t;

use crate::zone::Tally;

mod server;
mod site;

use self::server::Server;
pub use self::site::{Site, SiteError};

/// The client of one worker, with its connections.
pub struct Memcached {
    /// As `ring` counts them.
    servers: Vec<Server>,
    ring: Ring,
    tally: Tally,
}

impl Memcached {
    /// A client without connections. `log` must stay valid as long as the client and its requests,
    /// as the log of the cycle does in a worker.
    pub fn new(sites: &[Site], tally: Tally, log: NonNull<ngx_log_t>) -> Self {
        let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        Self {
            ring: Ring::new(&names),
            servers: sites.iter().map(|site| Server::new(site.clone(), log)).collect(),
            tally,
        }
    }

    /// What lies under the name, within [`server::WHOLE`] at most.
    ///
    /// Dropping the future closes the connection, so that no other request finds half an answer.
    pub async fn get(&self, name: &Name) -> Option<Vec<u8>> {
        let reader = || {
            let mut reader = GetReader::new(name);
            move |bytes: &[u8]| reader.push(bytes)
        };
        let (at, server) = self.server(name)?;
        let (asked, value) = match server.ask(&protocol::get(name), reader).await {
            Some(Got::Value(value)) => (Asked::GetHit, Some(value)),
            Some(Got::Nothing) => (Asked::GetMiss, None),
            None => (Asked::GetFailed, None),
        };
        self.tally.memcached(at, asked);
        value
    }

    /// Puts a value there for `ttl` seconds, if that works out; as [`Memcached::get`] else.
    pub async fn set(&self, name: &Name, value: &[u8], ttl: NonZeroU32) {
        let reader = || {
            let mut reader = SetReader::default();
            move |bytes: &[u8]| reader.push(bytes)
        };
        let Some((at, server)) = self.server(name) else { return };
        let asked = match server.ask(&protocol::set(name, ttl, value), reader).await {
            Some(()) => Asked::SetStored,
            None => Asked::SetFailed,
        };
        self.tally.memcached(at, asked);
    }

    /// The first server for the name that is not to be left alone, and its place.
    fn server(&self, name: &Name) -> Option<(usize, &Server)> {
        let order = self.ring.order(name.as_str());
        let mut servers = order.filter_map(|at| Some((at, self.servers.get(at)?)));
        servers.find(|(_, server)| server.admits())
    }
}
