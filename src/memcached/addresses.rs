//! Where a memcached server is.

use keystone_token::memcache::server::Server;
use nginx_sys::ngx_conf_t;

use crate::net::{self, LookupError, PeerAddr};

/// A server with its addresses.
#[derive(Clone)]
pub struct Site {
    /// As all gateways call it.
    pub name: String,
    /// As of nginx's start; not empty.
    pub addresses: Vec<PeerAddr>,
}

impl Site {
    /// Looks the server up at configuration time.
    pub fn new(cf: &mut ngx_conf_t, server: &Server) -> Result<Self, SiteError> {
        let name = server.to_string();
        let addresses = match server {
            Server::Tcp { .. } => match net::look_up(cf, &name) {
                Ok(addresses) => addresses.into_iter().map(PeerAddr::from).collect(),
                Err(reason) => return Err(SiteError { name, reason }),
            },
            Server::Unix(path) => vec![PeerAddr::Unix(path.clone())],
        };
        Ok(Self { name, addresses })
    }
}

/// Why a server has no address.
#[derive(Debug, thiserror::Error)]
#[error("memcached server \"{name}\": {reason}")]
pub struct SiteError {
    name: String,
    reason: LookupError,
}
