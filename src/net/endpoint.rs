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

use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use http::HeaderMap;
use keystone_conf::{ProxySettings, ServiceUri};
use keystone_gateway::addresses::PreferredAddress;
use nginx_sys::{ngx_conf_t, ngx_log_t, ngx_parse_url, ngx_str_t, ngx_url_t};
use ngx::core::Status;
use thiserror::Error;

use super::error::NetError;
use super::peer::socket_addr;
use super::resolver::{ResolvedName, Resolver};

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
    addresses: Addresses,
    pub(super) preferred: PreferredAddress<SocketAddr>,
    /// The way to it, if it is not a direct one.
    proxy: Option<Rc<Proxy>>,
}

/// Where the addresses of an endpoint come from.
#[derive(Clone)]
enum Addresses {
    /// From nginx's start. None for an endpoint behind a proxy, which looks them up itself.
    OfStart(Vec<SocketAddr>),
    /// From nginx's resolver.
    Resolved(Rc<ResolvedName>),
}

impl Endpoint {
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
        let of_start = look_up(cf, &format!("{host}:{port}"));
        let addresses = match (resolver.filter(|_| is_name), of_start) {
            (Some(resolver), of_start) => {
                let of_start = of_start.unwrap_or_default();
                let name = ResolvedName::new(host, port, resolver, of_start);
                Addresses::Resolved(Rc::new(name))
            }
            (None, Ok(addresses)) => Addresses::OfStart(addresses),
            (None, Err(reason)) => {
                return Err(EndpointError { uri: uri.as_str().to_owned(), reason })
            }
        };
        Ok(Self { addresses, ..Self::unresolved(uri) })
    }

    /// An endpoint behind a proxy.
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
            addresses: Addresses::OfStart(Vec::new()),
            preferred: PreferredAddress::default(),
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
        match &self.addresses {
            Addresses::OfStart(addresses) => Ok(addresses.clone()),
            Addresses::Resolved(name) => name.addresses(log).await,
        }
    }

    /// Gives up resolving the name of the server that connections are made to.
    pub fn cancel(&self) {
        if let Addresses::Resolved(name) = &self.next_hop().addresses {
            name.cancel();
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
