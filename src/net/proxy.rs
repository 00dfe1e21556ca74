//! An HTTP proxy between the worker and the identity service.
//!
//! A request to an `http` endpoint goes to the proxy in absolute-form (RFC 9112, section 3.2.2). For
//! an `https` endpoint the proxy opens a tunnel (RFC 9110, section 9.3.6), in which TLS is spoken
//! with the identity service itself, so the proxy sees neither requests nor tokens.

use bytes::Bytes;
use http::header::{HeaderValue, HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::uri::Uri;
use http::{HeaderMap, Request};
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use keystone_conf::ProxySettings;
use nginx_sys::ngx_conf_t;

use super::connection::{Action, PeerConnection};
use super::endpoint::{Endpoint, EndpointError, Resolver};
use super::error::NetError;
use super::http::drive;
use super::stream::Stream;

/// A proxy, resolved.
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

    /// Makes a request for `endpoint`, whose URI is a path and query, one for the proxy.
    pub(super) fn address<B>(
        &self,
        request: &mut Request<B>,
        endpoint: &Endpoint,
    ) -> Result<(), NetError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = format!("http://{}{path}", endpoint.authority());
        *request.uri_mut() =
            uri.parse::<Uri>().map_err(|err| NetError::Request(err.to_string()))?;
        self.authorize(request.headers_mut());
        Ok(())
    }

    fn authorize(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.authorization {
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
    }

    /// Makes a connection to the proxy one to `endpoint`.
    pub(super) async fn open_tunnel(
        &self,
        peer: &PeerConnection,
        endpoint: &Endpoint,
        user_agent: &'static str,
    ) -> Result<(), NetError> {
        peer.set_action(Action::Tunnelling);
        let authority = endpoint.authority_with_port();
        let request = Request::connect(&authority).header(HOST, &authority);
        let request = request.header(USER_AGENT, user_agent).body(Empty::<Bytes>::new());
        let mut request = request.map_err(|err| NetError::Request(err.to_string()))?;
        self.authorize(request.headers_mut());

        let (mut sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(Stream::Plain(peer.clone()))
            .await
            .map_err(|err| NetError::from_hyper(&err))?;
        let answer = drive(&mut Some(connection), sender.send_request(request)).await;
        match answer.map_err(|err| NetError::from_hyper(&err))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(self.refusal(status.as_u16())),
        }
    }
}

/// Bound on the head of the proxy's answer.
const MAX_HEAD: usize = 16 * 1024;
