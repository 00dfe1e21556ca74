//! nginx's `resolver`, and the host names that it resolves.

use std::net::SocketAddr;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use nginx_sys::{ngx_log_t, ngx_resolver_t, ngx_str_t};
use ngx::async_::resolver;
use ngx::core::Pool;

use super::connection::OwnedPool;
use super::error::{NetError, Phase};
use super::peer::{socket_addr, Peer, IDENTITY_SERVICE};
use super::stale_if_error::StaleIfError;
use super::timer::{or_timeout, Timer};
use crate::failure_log::FailureLog;

/// nginx's `resolver`, where one is configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resolver {
    resolver: NonNull<ngx_resolver_t>,
    timeout: Duration,
}

impl Resolver {
    /// Takes `resolver` and `resolver_timeout` (in milliseconds) of a location's core
    /// configuration; none if no name server is configured, for which nginx has a resolver too.
    ///
    /// # Safety
    ///
    /// `resolver` must be null or valid for as long as the result or anything made with it is used.
    pub unsafe fn new(resolver: *mut ngx_resolver_t, timeout: usize) -> Option<Self> {
        let resolver = NonNull::new(resolver)?;
        // SAFETY: not null, so valid.
        if unsafe { resolver.as_ref() }.connections.nelts == 0 {
            return None;
        }
        Some(Self { resolver, timeout: Duration::from_millis(timeout as u64) })
    }

    /// The addresses of a name; none if it has none, as the name servers say.
    async fn resolve(
        &self,
        name: &str,
        port: u16,
        log: NonNull<ngx_log_t>,
    ) -> Result<Vec<SocketAddr>, NetError> {
        let failed = |reason: String| NetError::Resolve { name: name.to_owned(), reason };

        let nowhere = SocketAddr::from(([0, 0, 0, 0], port)).into();
        let peer = Peer { address: &nowhere, name, service: IDENTITY_SERVICE };
        let memory =
            OwnedPool::new(log, &peer).ok_or_else(|| failed("out of memory".to_owned()))?;
        // SAFETY: the pool is valid, and outlives this handle and what the resolver allocates.
        let pool = unsafe { Pool::from_ngx_pool(memory.as_ptr()) };
        // SAFETY: as above. It is a copy, for nginx writes the name in lower case where it lies.
        let query = unsafe { ngx_str_t::from_bytes(memory.as_ptr(), name.as_bytes()) };
        let query = query.ok_or_else(|| failed("out of memory".to_owned()))?;
        let client =
            resolver::Resolver::from_resolver(self.resolver, super::timer::to_msec(self.timeout));

        // nginx's own timer for the query does not keep a stopping worker waiting; this one does.
        let slack = Timer::new(self.timeout + Duration::from_secs(1));
        match or_timeout(client.resolve_name(&query, &pool), slack).await {
            None => Err(NetError::Timeout(Phase::Resolve)),
            Some(Err(resolver::Error::Resolver(resolver::ResolverError::NXDomain, _))) => {
                Ok(Vec::new())
            }
            Some(Err(resolver::Error::Resolver(err, _))) => Err(failed(err.to_string())),
            Some(Err(err)) => Err(failed(err.to_string())),
            Some(Ok(found)) => Ok(found
                .iter()
                // SAFETY: nginx returned these addresses, in memory of the pool.
                .filter_map(|address| unsafe { socket_addr(address.sockaddr, address.socklen) })
                .map(|address| SocketAddr::new(address.ip(), port))
                .collect()),
        }
    }
}

/// A host name that nginx's resolver resolves again as its TTL says.
///
/// As the servers of an upstream with `resolve`, the addresses stay in use while it cannot be
/// resolved, and are given up when the name servers say that there are none.
pub(super) struct ResolvedName {
    name: String,
    port: u16,
    resolver: Resolver,
    /// As of nginx's start, in `/etc/hosts` perhaps: they serve where the resolver knows nothing.
    of_start: Vec<SocketAddr>,
    addresses: StaleIfError<Vec<SocketAddr>, NetError>,
    failures: FailureLog,
}

impl ResolvedName {
    pub(super) fn new(
        name: &str,
        port: u16,
        resolver: Resolver,
        of_start: Vec<SocketAddr>,
    ) -> Self {
        let known = (!of_start.is_empty()).then(|| of_start.clone());
        let (addresses, failures) = (StaleIfError::new(known), FailureLog::default());
        Self { name: name.to_owned(), port, resolver, of_start, addresses, failures }
    }

    /// The addresses, for a connection that is to be made now.
    pub(super) async fn addresses(
        self: &Rc<Self>,
        log: NonNull<ngx_log_t>,
    ) -> Result<Vec<SocketAddr>, NetError> {
        let name = self.clone();
        self.addresses.renew(|| async move { name.resolve(log).await }).await
    }

    /// Gives up resolving the name.
    pub(super) fn cancel(&self) {
        self.addresses.cancel();
    }

    async fn resolve(&self, log: NonNull<ngx_log_t>) -> Result<Vec<SocketAddr>, NetError> {
        match self.resolver.resolve(&self.name, self.port, log).await {
            Ok(found) => {
                if self.failures.on_success() && !found.is_empty() {
                    notice!(log, "keystone: \"{}\" can be resolved again", self.name);
                }
                self.found(found)
            }
            Err(error) => {
                if self.addresses.value().is_some() && self.failures.on_failure() {
                    warn!(log, "keystone: {error}, the known addresses stay in use");
                }
                Err(error)
            }
        }
    }

    fn found(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NetError> {
        if !found.is_empty() {
            return Ok(found);
        }
        if !self.of_start.is_empty() {
            return Ok(self.of_start.clone());
        }
        self.addresses.forget();
        let (name, reason) = (self.name.clone(), "no addresses".to_owned());
        Err(NetError::Resolve { name, reason })
    }
}
