//! Answers of the identity service about tokens, which gateways share through memcached.

use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::time::Duration;

use keystone_conf::{MemcachedSettings, ServiceSettings};
use keystone_gateway::memcache::seal::{Content, Seal, SealError};
use keystone_token::api::AuthVersion;
use nginx_sys::{ngx_conf_t, ngx_log_t};

use crate::memcached::{Memcached, ServerAddressError, ServerAddresses};
use crate::net::now_sec;
use crate::zone::ServiceCounters;

/// The second level as it is configured: servers that are looked up, keys that are made.
pub(super) struct SecondLevelConf {
    servers: Vec<ServerAddresses>,
    seal: Seal,
}

impl SecondLevelConf {
    /// Looks up the servers at configuration time.
    pub(super) fn new(
        cf: &mut ngx_conf_t,
        settings: &MemcachedSettings,
    ) -> Result<Self, SecondLevelError> {
        let servers = settings
            .servers
            .iter()
            .map(|server| ServerAddresses::new(cf, server))
            .collect::<Result<_, _>>()?;
        let secret = settings.secret.as_ref().map(|secret| secret.expose().as_bytes());
        let seal = Seal::new(settings.strategy, secret)?;
        Ok(Self { servers, seal })
    }
}

/// Why the second level cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SecondLevelError {
    /// The secret key is missing.
    #[error("keystone_memcached_secret_key: {0}")]
    Secret(#[from] SealError),
    /// A server has no address.
    #[error(transparent)]
    Server(#[from] ServerAddressError),
}

impl SecondLevelError {
    /// The directive that it is about.
    pub fn directive(&self) -> &'static str {
        match self {
            Self::Secret(_) => "keystone_memcached_secret_key",
            Self::Server(_) => "keystone_memcached_servers",
        }
    }
}

/// The second level in a worker.
pub(super) struct SecondLevel {
    conf: &'static SecondLevelConf,
    memcached: Memcached,
    scope: Vec<u8>,
    log: NonNull<ngx_log_t>,
}

impl SecondLevel {
    pub(super) fn new(
        conf: &'static SecondLevelConf,
        settings: &ServiceSettings,
        keeps_catalog: bool,
        counters: ServiceCounters,
        log: NonNull<ngx_log_t>,
    ) -> Self {
        Self {
            conf,
            memcached: Memcached::new(&conf.servers, counters, log),
            scope: scope(settings, keeps_catalog),
            log,
        }
    }

    /// The identity service's answer about the token that any gateway has stored less than
    /// `max_age` ago. It is authentic, it is about this token, and it has not expired; the token
    /// may have been revoked since `made_at`.
    pub(super) async fn get(&self, token: &[u8], max_age: Duration) -> Option<Content> {
        let entry = self.conf.seal.entry(&self.scope, token);
        let entry = entry.inspect_err(|reason| self.complain("named", reason)).ok()?;
        // On the heap, as an exchange over HTTP is (`Endpoints::send`).
        let value = Box::pin(self.memcached.get(entry.name())).await?;
        let opened = entry.open(&value, now_sec(), seconds(max_age));
        opened.inspect_err(|reason| self.complain("used", reason)).ok()
    }

    /// Stores an answer of the identity service until the token expires, but no longer than
    /// `max_age` from the time of the request.
    ///
    /// An answer that came from memcached is not stored again: that would extend its life.
    pub(super) async fn set(&self, token: &[u8], content: &Content, max_age: Duration) {
        let until = content.made_at.saturating_add(seconds(max_age)).min(content.expires_at);
        let left = until.saturating_sub(now_sec()).clamp(0, u32::MAX.into());
        let Some(ttl) = u32::try_from(left).ok().and_then(NonZeroU32::new) else { return };
        let sealed = self
            .conf
            .seal
            .entry(&self.scope, token)
            .and_then(|entry| entry.seal(content).map(|value| (entry, value)));
        match sealed {
            Ok((entry, value)) => Box::pin(self.memcached.set(entry.name(), &value, ttl)).await,
            Err(reason) => self.complain("made", &reason),
        }
    }

    fn complain(&self, done: &str, reason: &dyn std::fmt::Display) {
        debug!(self.log, "keystone: memcached entry cannot be {done}: {reason}");
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// What the answers depend on. Gateways with the same scope share entries: it must not contain
/// irrelevant differences, such as the order of addresses, and must contain everything that changes
/// an answer.
fn scope(settings: &ServiceSettings, keeps_catalog: bool) -> Vec<u8> {
    let uris = settings.identity_uris.iter().map(|uri| uri.as_str().trim_end_matches('/'));
    let mut uris: Vec<&str> = uris.collect();
    uris.sort_unstable();
    uris.dedup();
    let version = match settings.auth_version {
        AuthVersion::Auto => "auto",
        AuthVersion::Fixed(version) => version.as_str(),
    };
    let catalog = if keeps_catalog { "catalog" } else { "no catalog" };
    // No URI has a blank in it.
    format!("{} {version} {catalog}", uris.join(" ")).into_bytes()
}
