//! The addresses of a memcached server.

use keystone_gateway::memcache::server::Server;
use nginx_sys::ngx_conf_t;

use crate::net::{self, LookupError, PeerAddr};

/// A memcached server's name and addresses.
#[derive(Clone)]
pub struct ServerAddresses {
    /// The name by which all gateways know it.
    pub name: String,
    /// As of nginx's start; not empty.
    pub list: Vec<PeerAddr>,
}

impl ServerAddresses {
    /// Looks the server up at configuration time.
    pub fn new(cf: &mut ngx_conf_t, server: &Server) -> Result<Self, ServerAddressError> {
        let name = server.to_string();
        let list = match server {
            Server::Tcp { .. } => match net::look_up(cf, &name) {
                Ok(addresses) => addresses.into_iter().map(PeerAddr::from).collect(),
                Err(reason) => return Err(ServerAddressError { name, reason }),
            },
            Server::Unix(path) => vec![PeerAddr::Unix(path.clone())],
        };
        Ok(Self { name, list })
    }
}

/// Why a server has no address.
#[derive(Debug, thiserror::Error)]
#[error("memcached server \"{name}\": {reason}")]
pub struct ServerAddressError {
    name: String,
    reason: LookupError,
}
