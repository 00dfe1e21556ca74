//! What gateways tell each other through memcached: the identity service's answers about tokens.

use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::time::Duration;

use keystone_conf::{MemcachedSettings, ServiceSettings};
use keystone_token::api::AuthVersion;
use keystone_token::memcache::seal::{Content, Seal};
use nginx_sys::{ngx_conf_t, ngx_log_t};

use super::Worker;
use crate::memcached::{Memcached, Site};
use crate::net::now_sec;
use crate::zone::Tally;

/// The second level as it is configured: servers that are looked up, keys that are made.
pub(super) struct Setup {
    sites: Vec<Site>,
    seal: Seal,
}

impl Setup {
    /// Looks up the servers at configuration time.
    pub(super) fn new(cf: &mut ngx_conf_t, settings: &MemcachedSettings) -> Result<Self, String> {
        let sites = settings
            .servers
            .iter()
            .map(|server| Site::new(cf, server))
            .collect::<Result<_, _>>()?;
        let secret = settings.secret.as_ref().map(|secret| secret.expose().as_bytes());
        let seal = Seal::new(settings.strategy, secret)
            .map_err(|reason| format!("keystone_memcached_secret_key: {reason}"))?;
        Ok(Self { sites, seal })
    }
}

/// The second level in a worker.
pub(super) struct SecondLevel {
    setup: &'static Setup,
    memcached: Memcached,
    scope: Vec<u8>,
    log: NonNull<ngx_log_t>,
}

impl SecondLevel {
    pub(super) fn new(
        setup: &'static Setup,
        settings: &ServiceSettings,
        keeps_catalog: bool,
        tally: Tally,
        log: NonNull<ngx_log_t>,
    ) -> Self {
        Self {
            setup,
            memcached: Memcached::new(&setup.sites, tally, log),
            scope: scope(settings, keeps_catalog),
            log,
        }
    }

    async fn recall(&self, token: &[u8], now: i64, max_age: i64) -> Option<Content> {
        let entry = self.setup.seal.entry(&self.scope, token);
        let entry = entry.inspect_err(|reason| self.complain("named", reason)).ok()?;
        // On the heap, as an exchange over HTTP is (`KeystoneClient::send`).
        let value = Box::pin(self.memcached.get(entry.name())).await?;
        let opened = entry.open(&value, now, max_age);
        opened.inspect_err(|reason| self.complain("used", reason)).ok()
    }

    async fn share(&self, token: &[u8], content: &Content, ttl: NonZeroU32) {
        let sealed = self
            .setup
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

/// What the identity service once said about a token.
pub(super) struct Recalled {
    /// The identity, as `keystone_token::record` has it.
    pub(super) record: Vec<u8>,
    /// When the service was asked, in seconds since 1970.
    pub(super) made_at: i64,
}

impl Worker {
    /// What any gateway of the fleet was told about the token less than `max_age` ago, if memcached
    /// is at hand and still knows it. It is whole, it is about this token, and it has not expired;
    /// whether it was revoked since `made_at` is not known.
    pub(super) async fn recall(&self, token: &[u8], max_age: Duration) -> Option<Recalled> {
        let max_age = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        let content = self.memcached.as_ref()?.recall(token, now_sec(), max_age).await?;
        let Content { made_at, record, .. } = content;
        Some(Recalled { record, made_at })
    }

    /// Tells the fleet what the identity service itself has said about the token, when it was asked
    /// at `made_at`: for as long as the token lives, but no longer than `max_age` from then on.
    ///
    /// What was recalled is not to be shared again: that would make it young.
    pub(super) async fn share(
        &self,
        token: &[u8],
        record: &[u8],
        made_at: i64,
        expires_at: i64,
        max_age: Duration,
    ) {
        let Some(memcached) = &self.memcached else { return };
        let max_age = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        let until = made_at.saturating_add(max_age).min(expires_at);
        let left = until.saturating_sub(now_sec()).clamp(0, u32::MAX.into());
        let Some(ttl) = u32::try_from(left).ok().and_then(NonZeroU32::new) else { return };
        let content = Content { made_at, expires_at, record: record.to_vec() };
        memcached.share(token, &content, ttl).await;
    }
}

/// Whose answers these are, and what is in them. Gateways that agree on it take each other's word:
/// it must not hold what differs from one to the next for no reason, such as the order of
/// addresses, and must hold all that makes an answer another one.
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
