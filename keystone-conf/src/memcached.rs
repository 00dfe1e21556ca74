//! The second level of the cache (http, server).

use keystone_gateway::memcache::seal::Strategy;
use keystone_gateway::memcache::server::Server;
use keystone_token::secret::Secret;

use crate::error::SettingsError;
use crate::inherit::inherit;

/// The directives of one level, and, once merged, of all levels around it.
#[derive(Clone, Debug, Default)]
pub struct MemcachedConf {
    /// `keystone_memcached_servers`.
    pub servers: Option<Vec<Server>>,
    /// `keystone_memcached_security_strategy`.
    pub strategy: Option<Strategy>,
    /// `keystone_memcached_secret_key`.
    pub secret: Option<Secret>,
}

/// The settings of the second level, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct MemcachedSettings {
    /// Each one once, and at least one.
    pub servers: Vec<Server>,
    /// How entries are protected.
    pub strategy: Strategy,
    /// With what; there if and only if the strategy needs it.
    pub secret: Option<Secret>,
}

impl MemcachedConf {
    /// Takes from the level around this one what this one leaves open.
    pub(crate) fn inherit(&mut self, outer: &Self) {
        let Self { servers, strategy, secret } = self;
        inherit(servers, &outer.servers);
        inherit(strategy, &outer.strategy);
        inherit(secret, &outer.secret);
    }

    /// What is set, with its defaults, if there is a server. A strategy without its secret is
    /// refused even where there is none, as auth_token does.
    pub(crate) fn settings(&self) -> Result<Option<MemcachedSettings>, SettingsError> {
        let strategy = self.strategy.unwrap_or(Strategy::None);
        let secret = self.secret.clone().filter(|_| strategy.needs_secret());
        if strategy.needs_secret() && secret.is_none() {
            return Err(SettingsError::NoMemcachedSecret(strategy.as_str()));
        }
        let with = |servers| MemcachedSettings { servers, strategy, secret };
        Ok(self.servers.clone().map(with))
    }

    /// Whether a secret is set that protects nothing, since no strategy uses it.
    pub fn has_idle_secret(&self) -> bool {
        self.servers.is_some() && self.strategy.is_none() && self.secret.is_some()
    }
}
