//! Requests through an HTTP proxy between the worker and the identity service.
//!
//! A request to an `http` endpoint goes to the proxy in absolute-form (RFC 9112, section 3.2.2). For
//! an `https` endpoint the proxy opens a tunnel (RFC 9110, section 9.3.6), in which TLS is spoken
//! with the identity service itself, so the proxy sees neither requests nor tokens.

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::Uri;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;

use super::connection::{Action, PeerConnection};
use super::driver::drive;
use super::endpoint::{Endpoint, Proxy};
use super::error::NetError;
use super::stream::Stream;

impl Proxy {
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
