//! Where the identity service is, and by which way it is reached.

use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use http::HeaderMap;
use keystone_conf::{ProxySettings, ServiceUri};
use keystone_gateway::addresses::PreferredAddress;
use nginx_sys::{ngx_conf_t, ngx_log_t, ngx_parse_url, ngx_resolver_t, ngx_str_t, ngx_url_t};
use ngx::async_::resolver;
use ngx::core::{Pool, Status};
use thiserror::Error;

use super::connection::OwnedPool;
use super::error::{NetError, Phase};
use super::peer::{socket_addr, Peer};
use super::timer::{or_timeout, Timer};

/// One `http://` or `https://` URI of a service, taken apart and resolved.
#[derive(Clone)]
pub struct Endpoint {
    https: bool,
    /// As in the URI: lower case, an IPv6 address in brackets.
    host: String,
    port: u16,
    /// Host and port as the `Host` header has them.
    authority: Arc<str>,
    /// Without a slash at the end: empty, or `/` and more.
    base_path: String,
    /// As of nginx's start; not empty unless `resolver` is set.
    addresses: Vec<SocketAddr>,
    pub(super) preferred: PreferredAddress<SocketAddr>,
    /// For a name, where nginx has a resolver.
    resolver: Option<Resolver>,
    /// The way to it, if it is not a direct one.
    proxy: Option<Rc<Proxy>>,
}

impl Endpoint {
    /// What the log calls the kind of server that endpoints lead to.
    pub(super) const SERVICE_IN_LOGS: &'static str = "identity service";

    /// Looks the host up at configuration time. With a resolver it is looked up again each time a
    /// connection is made, and then it is no error if it has no address yet: what is found now, in
    /// `/etc/hosts` perhaps, serves where the resolver knows nothing.
    pub fn new(
        cf: &mut ngx_conf_t,
        uri: &ServiceUri,
        resolver: Option<Resolver>,
    ) -> Result<Self, EndpointError> {
        let (host, port) = (uri.host(), uri.port());
        let is_name = host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
        let resolver = resolver.filter(|_| is_name);
        let addresses = match look_up(cf, &format!("{host}:{port}")) {
            Ok(addresses) => addresses,
            Err(_) if resolver.is_some() => Vec::new(),
            Err(reason) => return Err(EndpointError { uri: uri.as_str().to_owned(), reason }),
        };
        Ok(Self { addresses, resolver, ..Self::unresolved(uri) })
    }

    /// An endpoint behind a proxy, which looks the host up itself.
    pub fn behind(proxy: Rc<Proxy>, uri: &ServiceUri) -> Self {
        Self { proxy: Some(proxy), ..Self::unresolved(uri) }
    }

    fn unresolved(uri: &ServiceUri) -> Self {
        let (host, port) = (uri.host(), uri.port());
        let is_default = port == if uri.is_https() { 443 } else { 80 };
        let authority = if is_default { host.to_owned() } else { format!("{host}:{port}") };
        Self {
            https: uri.is_https(),
            host: host.to_owned(),
            port,
            authority: authority.into(),
            base_path: uri.path().trim_end_matches('/').to_owned(),
            addresses: Vec::new(),
            preferred: PreferredAddress::default(),
            resolver: None,
            proxy: None,
        }
    }

    /// Whether TLS is spoken there.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path below which the service lives: empty, or without a slash at its end.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Host and port as the `Host` header has them.
    pub fn authority(&self) -> &Arc<str> {
        &self.authority
    }

    /// Host and port, also where the port is the default.
    pub(super) fn authority_with_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The proxy on the way.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// The proxy, if it sees the requests and may answer them itself.
    pub fn forwarding_proxy(&self) -> Option<&Proxy> {
        self.proxy().filter(|_| !self.https)
    }

    /// The server that connections are made to: the proxy if there is one.
    pub(super) fn next_hop(&self) -> &Self {
        self.proxy().map_or(self, Proxy::server)
    }

    /// The addresses, in the order of the name service.
    pub(super) async fn addresses(
        &self,
        log: NonNull<ngx_log_t>,
    ) -> Result<Vec<SocketAddr>, NetError> {
        let Some(resolver) = &self.resolver else {
            return Ok(self.addresses.clone());
        };
        match resolver.resolve(&self.host, self.port, log).await {
            Err(err) if !self.addresses.is_empty() => {
                debug!(log, "keystone: {err}, using the addresses of the start");
                Ok(self.addresses.clone())
            }
            resolved => resolved,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base_path)?;
        match self.proxy() {
            Some(proxy) => write!(f, " through proxy {}", proxy.server()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self}, {:?})", self.addresses)
    }
}

/// An HTTP proxy on the way to an endpoint, resolved.
pub struct Proxy {
    server: Endpoint,
    /// The value of `Proxy-Authorization`.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Looks the proxy's host up at configuration time.
    pub fn new(
        cf: &mut ngx_conf_t,
        settings: &ProxySettings,
        resolver: Option<Resolver>,
    ) -> Result<Self, EndpointError> {
        let server = Endpoint::new(cf, &settings.uri, resolver)?;
        // Base64 is always a valid header.
        let value = settings.authorization.as_ref();
        let mut authorization = value.and_then(|it| HeaderValue::from_str(it.expose()).ok());
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self { server, authorization })
    }

    /// The proxy itself.
    pub fn server(&self) -> &Endpoint {
        &self.server
    }

    /// The failure of a request that the proxy has answered itself.
    pub fn refusal(&self, status: u16) -> NetError {
        NetError::Proxy { proxy: self.server.to_string(), status }
    }

    /// Adds the proxy's credentials to a request for it.
    pub(super) fn authorize(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.authorization {
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
    }
}

/// Why a URI leads to no endpoint.
#[derive(Debug, Error)]
#[error("invalid URI \"{uri}\": {reason}")]
pub struct EndpointError {
    uri: String,
    reason: LookupError,
}

/// Why a host has no address at configuration time.
#[derive(Debug, Error)]
pub enum LookupError {
    /// The system knows no address.
    #[error("host not found")]
    HostNotFound,
    /// The reason that `ngx_parse_url()` gives.
    #[error("{0}")]
    Nginx(Cow<'static, str>),
    /// nginx cannot allocate memory.
    #[error("out of memory")]
    OutOfMemory,
    /// nginx cannot read it, and does not say why.
    #[error("cannot be parsed")]
    Syntax,
}

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

    async fn resolve(
        &self,
        name: &str,
        port: u16,
        log: NonNull<ngx_log_t>,
    ) -> Result<Vec<SocketAddr>, NetError> {
        let failed = |reason: String| NetError::Resolve { name: name.to_owned(), reason };

        let nowhere = SocketAddr::from(([0, 0, 0, 0], port)).into();
        let peer = Peer { address: &nowhere, name, service: Endpoint::SERVICE_IN_LOGS };
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
        let found = or_timeout(client.resolve_name(&query, &pool), slack).await;
        let addresses: Vec<SocketAddr> = match found {
            None => return Err(NetError::Timeout(Phase::Resolve)),
            Some(Err(resolver::Error::Resolver(err, _))) => return Err(failed(err.to_string())),
            Some(Err(err)) => return Err(failed(err.to_string())),
            Some(Ok(found)) => found
                .iter()
                // SAFETY: nginx returned these addresses, in memory of the pool.
                .filter_map(|address| unsafe { socket_addr(address.sockaddr, address.socklen) })
                .map(|address| SocketAddr::new(address.ip(), port))
                .collect(),
        };

        if addresses.is_empty() {
            return Err(failed("no addresses".to_owned()));
        }
        Ok(addresses)
    }
}

/// Looks up `HOST:PORT` at configuration time; there is at least one address.
pub fn look_up(cf: &mut ngx_conf_t, authority: &str) -> Result<Vec<SocketAddr>, LookupError> {
    // SAFETY: zero is the initial state that nginx gives an ngx_url_t.
    let mut url: ngx_url_t = unsafe { mem::zeroed() };
    // SAFETY: `cf.pool` is valid while the configuration is read.
    url.url = unsafe { ngx_str_t::from_bytes(cf.pool, authority.as_bytes()) }
        .ok_or(LookupError::OutOfMemory)?;

    // SAFETY: as above; `url` is initialised, and what it points to lives in the pool.
    let rc = Status(unsafe { ngx_parse_url(cf.pool, &mut url) });
    if rc != Status::NGX_OK {
        if url.err.is_null() {
            return Err(LookupError::Syntax);
        }
        // SAFETY: nginx's reasons are string literals.
        return Err(LookupError::Nginx(unsafe { CStr::from_ptr(url.err) }.to_string_lossy()));
    }
    if url.addrs.is_null() {
        return Err(LookupError::HostNotFound);
    }
    // SAFETY: nginx has filled in `naddrs` addresses.
    let addresses: Vec<_> = unsafe { slice::from_raw_parts(url.addrs, url.naddrs) }
        .iter()
        // SAFETY: each with a socket address of its family.
        .filter_map(|address| unsafe { socket_addr(address.sockaddr, address.socklen) })
        .collect();
    match addresses.is_empty() {
        true => Err(LookupError::HostNotFound),
        false => Ok(addresses),
    }
}
