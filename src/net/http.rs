//! HTTP requests over pooled connections.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{pin, Pin};
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use nginx_sys::ngx_log_t;

use super::connection::{Action, PeerConnection, Timeouts};
use super::driver::drive;
use super::endpoint::Endpoint;
use super::error::{ExchangeError as _, NetError, Phase};
use super::peer::{Peer, IDENTITY_SERVICE};
use super::pool::{Pool, Pooled};
use super::stream::Stream;
use super::timer::{now_msec, or_timeout, Timer};
use super::tls::TlsContext;

/// A response with its whole body.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Complete, within the limit of the request.
    pub body: Bytes,
}

/// The settings of a client.
#[derive(Clone)]
pub struct HttpSettings {
    /// For each address. A request and its whole response may take the time for one write and six
    /// times that for one read.
    pub timeouts: Timeouts,
    /// How long a connection may be idle before it is closed.
    pub idle_timeout: Duration,
    /// How many idle connections are kept.
    pub keepalive: usize,
    /// Used for `https` endpoints; there is one if there are any.
    pub tls: Option<TlsContext>,
    /// The value of `User-Agent`.
    pub user_agent: &'static str,
}

/// An HTTP client of one worker, with its idle connections.
pub struct HttpClient {
    settings: HttpSettings,
    log: NonNull<ngx_log_t>,
    /// On the heap: a connection is moved out of the pool and back with each request.
    pool: Pool<Box<Live>>,
}

impl HttpClient {
    /// A client without connections. `log` must stay valid as long as the client and its requests,
    /// as the log of the cycle does in a worker.
    pub fn new(settings: HttpSettings, log: NonNull<ngx_log_t>) -> Self {
        let pool = Pool::new(settings.keepalive, log);
        Self { settings, log, pool }
    }

    /// Sends the request that `make` makes, whose URI is a path and query, and waits for the whole
    /// answer, whose body may have up to `max_body` bytes. Redirects are answers like others.
    ///
    /// Dropping the future closes the connection. A kept connection that turns out to be closed
    /// costs one more try on a new one, for which the request is made once more, and is no error.
    pub async fn request(
        &self,
        endpoint: &Endpoint,
        make: impl Fn() -> Result<Request<Bytes>, NetError>,
        max_body: usize,
    ) -> Result<Response, NetError> {
        let key = Key::of(endpoint);
        let (live, response) = self
            .pool
            .exchange(
                |live| live.key == key,
                async || self.open(endpoint, key.clone()).await,
                async |live| {
                    let mut request = make()?;
                    self.address(&mut request, endpoint)?;
                    let outcome = self.exchange(live, request, max_body).await;
                    if outcome.as_ref().is_err_and(|error| live.has_failed(error)) {
                        self.leave(endpoint, live);
                    }
                    outcome
                },
            )
            .await?;
        if live.has_others && response.status.is_server_error() {
            self.leave(endpoint, &live);
        } else {
            self.keep(live, &response.headers);
        }
        Ok(response)
    }

    /// Lets the next try go to another address if there is one, and in any case by a new
    /// connection: if a server is gone without a word, its idle connections still look open.
    fn leave(&self, endpoint: &Endpoint, failed: &Live) {
        endpoint.next_hop().preferred.leave(&failed.address);
        self.pool.close(|live| live.key == failed.key && live.address == failed.address);
    }

    /// Makes a request one for the endpoint, or for the proxy in front of it.
    fn address(&self, request: &mut Request<Bytes>, endpoint: &Endpoint) -> Result<(), NetError> {
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(endpoint.authority())
            .map_err(|err| NetError::Request(err.to_string()))?;
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, HeaderValue::from_static(self.settings.user_agent));
        if self.settings.keepalive == 0 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match endpoint.forwarding_proxy() {
            Some(proxy) => proxy.address(request, endpoint),
            None => Ok(()),
        }
    }

    /// Closes the idle connections, because what comes on them cannot be relied on.
    pub fn close_idle(&self) {
        self.pool.close(|_| true);
    }

    /// Connects to the first address of the endpoint that accepts.
    async fn open(&self, endpoint: &Endpoint, key: Key) -> Result<Box<Live>, NetError> {
        let next_hop = endpoint.next_hop();
        let addresses = next_hop.addresses(self.log).await?;
        let connect = async |address: &SocketAddr| {
            let live = self.open_address(endpoint, *address, &key).await;
            live.inspect_err(|error| debug!(self.log, "keystone: {error}"))
        };
        let live = next_hop.preferred.connect(&addresses, connect).await;
        let mut live = live.map_err(|error| {
            error.unwrap_or_else(|| NetError::Resolve {
                name: next_hop.host().to_owned(),
                reason: "no addresses".to_owned(),
            })
        })?;
        live.has_others = addresses.len() > 1;
        Ok(live)
    }

    async fn open_address(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        key: &Key,
    ) -> Result<Box<Live>, NetError> {
        let timeouts = self.settings.timeouts;
        let connect = timeouts.connect;
        let connecting = Timeouts { connect, read: connect, send: connect };
        let name = endpoint.to_string();
        let peer = Peer { address: &address.into(), name: &name, service: IDENTITY_SERVICE };
        let peer = PeerConnection::connect(&peer, connecting, self.log).await?;

        let stream = if endpoint.is_https() {
            let Some(tls) = &self.settings.tls else {
                let address = address.to_string();
                return Err(NetError::Tls { address, reason: "not configured".to_owned() });
            };
            if let Some(proxy) = endpoint.proxy() {
                let tunnel = proxy.open_tunnel(&peer, endpoint, self.settings.user_agent);
                let opened = or_timeout(tunnel, Timer::new(connect)).await;
                opened.unwrap_or(Err(NetError::Timeout(Phase::Tunnel)))?;
            }
            // Behind a tunnel it is not the proxy that shakes hands.
            let address = match endpoint.proxy() {
                Some(_) => endpoint.authority_with_port(),
                None => address.to_string(),
            };
            let handshake = tls.handshake(peer.clone(), endpoint.host(), &address);
            let done = or_timeout(handshake, Timer::new(connect)).await;
            Stream::Tls(done.unwrap_or(Err(NetError::Timeout(Phase::Handshake)))?)
        } else {
            Stream::Plain(peer.clone())
        };

        peer.set_timeouts(timeouts);
        let (sender, driver) = Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(stream)
            .await
            .map_err(|err| NetError::from_hyper(&err))?;
        let (key, opened, driver) = (key.clone(), now_msec(), Some(driver));
        let (kept, has_others) = (false, false);
        Ok(Box::new(Live { sender, driver, peer, key, address, has_others, opened, kept }))
    }

    /// Sends the request and reads the response. The caller owns the connection.
    async fn exchange(
        &self,
        live: &mut Live,
        request: Request<Bytes>,
        max_body: usize,
    ) -> Result<Response, NetError> {
        let Live { sender, driver, peer, .. } = live;
        peer.set_action(Action::Requesting);

        // In place, so that it is not moved from one future to the next.
        let answer = pin!(async {
            let response = sender
                .send_request(request.map(Full::new))
                .await
                .map_err(|err| NetError::from_hyper(&err))?;
            let (head, body) = response.into_parts();
            let body = collect(body, max_body).await?;
            Ok(Response { status: head.status, headers: head.headers, body })
        });

        let Timeouts { read, send, .. } = self.settings.timeouts;
        let whole = send + read * WHOLE_ANSWER;
        let driven = pin!(drive(driver, answer));
        let result = or_timeout(driven, Timer::new(whole)).await;
        let result = result.unwrap_or(Err(NetError::Timeout(Phase::Read)));
        // hyper wraps the time-out of the connection in an error of its own.
        match (result, peer.timed_out()) {
            (Err(_), Some(phase)) => Err(NetError::Timeout(phase)),
            (result, _) => result,
        }
    }

    /// Keeps the connection for the next request, if both sides allow it.
    fn keep(&self, mut live: Box<Live>, headers: &HeaderMap) {
        let idle_timeout = match keep_alive_timeout(headers) {
            Some(hint) => self.settings.idle_timeout.min(hint.saturating_sub(HINT_MARGIN)),
            None => self.settings.idle_timeout,
        };
        let too_old = now_msec().saturating_sub(live.opened) > MAX_AGE.as_millis() as u64;
        if idle_timeout.is_zero() || too_old || !live.settle() {
            return;
        }
        live.kept = true;
        self.pool.keep(live, idle_timeout);
    }
}

/// A connection with hyper on top, between requests or in one.
struct Live {
    sender: SendRequest<Full<Bytes>>,
    /// Reads and writes; `None` once hyper has closed the connection.
    driver: Option<Driver>,
    peer: PeerConnection,
    key: Key,
    /// Of the endpoint, or of the proxy in front of it.
    address: SocketAddr,
    /// Whether there were other addresses.
    has_others: bool,
    /// When it was opened, in nginx's milliseconds.
    opened: u64,
    /// Whether it has been in the pool.
    kept: bool,
}

impl Pooled for Live {
    fn peer(&self) -> &PeerConnection {
        &self.peer
    }
}

type Driver = Connection<Stream, Full<Bytes>>;

impl Live {
    /// Whether an exchange that ended like this says something about the server. A kept connection
    /// may be closed at any time.
    fn has_failed(&self, error: &NetError) -> bool {
        let was_closed = self.kept && self.peer.received() == 0;
        error.is_timeout() || (error.is_lost() && !was_closed)
    }

    /// Lets hyper finish with the last answer; whether the connection can take another request.
    fn settle(&mut self) -> bool {
        let Self { sender, driver, peer, .. } = self;
        let Some(driver) = driver else {
            return false;
        };
        // No task waits for an idle connection.
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(driver).poll(&mut cx).is_pending()
            && matches!(sender.poll_ready(&mut cx), Poll::Ready(Ok(())))
            && peer.is_open()
    }
}

/// Connections are the same to a request if they lead to the same server by the same protocol.
#[derive(Clone, Eq, PartialEq)]
struct Key {
    https: bool,
    authority: Arc<str>,
}

impl Key {
    fn of(endpoint: &Endpoint) -> Self {
        Self { https: endpoint.is_https(), authority: endpoint.authority().clone() }
    }
}

async fn collect(body: Incoming, max_body: usize) -> Result<Bytes, NetError> {
    let too_large = || NetError::TooLarge { limit: max_body };
    // A body with a `Content-Length` above the limit is not read at all.
    if body.size_hint().lower() > max_body as u64 {
        return Err(too_large());
    }
    // In one piece: to put the pieces of a long body together at its end takes milliseconds.
    let length = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut whole = Vec::with_capacity(length.min(max_body));
    let mut body = Limited::new(body, max_body);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|err| match err.downcast_ref::<hyper::Error>() {
            Some(err) => NetError::from_hyper(err),
            None => too_large(),
        })?;
        if let Some(data) = frame.data_ref() {
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.into())
}

/// `timeout` of a `Keep-Alive` header.
fn keep_alive_timeout(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all("keep-alive")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
        .and_then(|(_, value)| value.trim().trim_matches('"').parse().ok())
        .map(Duration::from_secs)
}

/// Bound on an answer's head: a PKI token with a large catalog comes in a header.
const MAX_HEAD: usize = 256 * 1024;

/// A connection is not reused past this age, so that a service that moves is followed.
const MAX_AGE: Duration = Duration::from_secs(600);

/// How much earlier than the server an idle connection is given up.
const HINT_MARGIN: Duration = Duration::from_secs(1);

/// A request and its whole response may take the send time-out and this many read time-outs.
const WHOLE_ANSWER: u32 = 6;
