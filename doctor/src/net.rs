//! HTTP to one endpoint, a connection a question, each step by itself so that a failure can be told
//! from the next one.
//!
//! The messages are hyper's business, as in the module. Sockets do not block: when neither side of
//! the exchange gets on, the program sleeps until the socket is ready or the time is up.

use std::error::Error as _;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use keystone_conf::TlsSettings;
use keystone_gateway::tls::{first_reason, session};
use keystone_token::secret::Secret;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    self, HandshakeError, SslContext, SslContextBuilder, SslMethod, SslStream, SslVerifyMode,
    SslVersion,
};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509VerifyResult, X509};
use zeroize::Zeroizing;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server refuses connections or cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The answer is not one of HTTP, or breaks off.
    #[error("the answer cannot be read: {0}")]
    Protocol(String),
    /// The proxy does not open a tunnel, or answers itself.
    #[error("the proxy answered with status {0}")]
    Proxy(u16),
    /// A request that cannot be written.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// The peer takes too long.
    #[error("timed out {0}")]
    Timeout(Phase),
    /// The handshake failed.
    #[error("{0}")]
    Tls(TlsFailure),
    /// The answer does not end.
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLarge,
}

/// What a peer took too long for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Connecting with TCP.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Waiting for the proxy to open a tunnel.
    Tunnel,
    /// Waiting for the response.
    Answer,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Handshake => "in the TLS handshake",
            Self::Tunnel => "waiting for the proxy to open a tunnel",
            Self::Answer => "waiting for the answer",
        })
    }
}

/// Why a TLS handshake failed, or why the peer has ended it afterwards: with TLS 1.3 it looks at
/// the client's certificate when the client is done already.
#[derive(Debug)]
pub struct TlsFailure {
    /// The reason that OpenSSL gives.
    pub reason: String,
    /// What is wrong with the certificate, if that is it.
    pub verification: Option<X509VerifyResult>,
    /// The certificate that was shown.
    pub certificate: Option<X509>,
}

impl std::fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.verification {
            Some(result) => write!(f, "the certificate does not verify: {}", result.error_string()),
            None => write!(f, "the TLS handshake failed: {}", self.reason),
        }
    }
}

/// A response with its whole body.
pub struct Answer {
    pub status: u16,
    /// All header fields.
    pub headers: http::HeaderMap,
    /// At most 64 MiB.
    pub body: Bytes,
}

/// The addresses of a host.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_matches(['[', ']']);
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    match found.is_empty() {
        true => Err(io::Error::other("the name has no address")),
        false => Ok(found),
    }
}

/// Connects to an address.
pub fn connect(address: &SocketAddr, timeout: Duration) -> Result<TcpStream, HttpError> {
    let timeout = timeout.max(Duration::from_millis(1));
    TcpStream::connect_timeout(address, timeout).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => HttpError::Timeout(Phase::Connect),
        _ => HttpError::Connect(error),
    })
}

/// Makes a connection to a proxy one to `authority`, a host and a port.
pub fn open_tunnel(
    mut stream: TcpStream,
    authority: &str,
    authorization: Option<&Secret>,
    timeout: Duration,
) -> Result<TcpStream, HttpError> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => HttpError::Timeout(Phase::Tunnel),
        _ => HttpError::Protocol(error.to_string()),
    };
    let limit = Some(timeout.max(Duration::from_millis(1)));
    stream.set_read_timeout(limit).map_err(HttpError::Connect)?;
    let mut request =
        Zeroizing::new(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"));
    if let Some(value) = authorization {
        request.push_str(&format!("Proxy-Authorization: {}\r\n", value.expose()));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).map_err(broken)?;

    // What follows the head is the server's already.
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).map_err(broken)?;
        head.extend(byte);
        if head.len() > MAX_TUNNEL_HEAD {
            return Err(HttpError::Protocol("the proxy's answer does not end".to_owned()));
        }
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    match status {
        Some(200..=299) => Ok(stream),
        Some(status) => Err(HttpError::Proxy(status)),
        None => Err(HttpError::Protocol("the proxy's answer is not one of HTTP".to_owned())),
    }
}

/// How to speak TLS, with the same demands as the module has; the error names the file that cannot
/// be used.
pub fn tls_context(settings: &TlsSettings) -> Result<SslContext, String> {
    let other = |error: ErrorStack| first_reason(&error);
    let mut builder = SslContextBuilder::new(SslMethod::tls_client()).map_err(other)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(other)?;
    builder.set_verify(if settings.verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    match &settings.trusted_certificate {
        Some(path) => builder.set_ca_file(path).map_err(in_file(path))?,
        None => builder.set_default_verify_paths().map_err(other)?,
    }
    if settings.partial_chain {
        builder.verify_param_mut().set_flags(X509VerifyFlags::PARTIAL_CHAIN).map_err(other)?;
    }
    if let (Some(certificate), Some(key)) = (&settings.certificate, &settings.certificate_key) {
        builder.set_certificate_chain_file(certificate).map_err(in_file(certificate))?;
        let pem = std::fs::read(key).map_err(|error| format!("{}: {error}", key.display()))?;
        // Without this passphrase, OpenSSL would ask for one on the terminal.
        let pair = PKey::private_key_from_pem_passphrase(&Zeroizing::new(pem), b"");
        let pair = pair.map_err(in_file(key))?;
        builder.set_private_key(&pair).map_err(in_file(key))?;
        builder.check_private_key().map_err(in_file(key))?;
    }
    Ok(builder.build())
}

fn in_file(path: &Path) -> impl Fn(ErrorStack) -> String + '_ {
    move |error| {
        // OpenSSL's own words for a missing file are "system library".
        let reason = std::fs::File::open(path).err().map(|error| error.to_string());
        format!("{}: {}", path.display(), reason.unwrap_or_else(|| first_reason(&error)))
    }
}

/// Makes a connection a TLS one with the server of that name.
pub fn handshake(
    context: &SslContext,
    stream: TcpStream,
    name: &str,
    timeout: Duration,
) -> Result<SslStream<TcpStream>, HttpError> {
    let failed = |reason: String| {
        HttpError::Tls(TlsFailure { reason, verification: None, certificate: None })
    };
    let ssl = session(context, name).map_err(|error| failed(first_reason(&error)))?;
    let limit = Some(timeout.max(Duration::from_millis(1)));
    stream.set_read_timeout(limit).map_err(HttpError::Connect)?;
    stream.set_write_timeout(limit).map_err(HttpError::Connect)?;
    match ssl.connect(stream) {
        Ok(stream) => Ok(stream),
        Err(HandshakeError::SetupFailure(error)) => Err(failed(first_reason(&error))),
        Err(HandshakeError::WouldBlock(_)) => Err(HttpError::Timeout(Phase::Handshake)),
        Err(HandshakeError::Failure(stream)) => {
            // Also where nothing is to be verified OpenSSL keeps what it would have found wrong.
            let verified = match context.verify_mode().contains(SslVerifyMode::PEER) {
                true => stream.ssl().verify_result(),
                false => X509VerifyResult::OK,
            };
            let reason = match (stream.error().ssl_error(), stream.error().io_error()) {
                (Some(error), _) => first_reason(error),
                (None, Some(error)) => error.to_string(),
                (None, None) => "the peer closed the connection".to_owned(),
            };
            Err(HttpError::Tls(TlsFailure {
                reason,
                verification: Some(verified).filter(|it| *it != X509VerifyResult::OK),
                certificate: stream.ssl().peer_certificate(),
            }))
        }
    }
}

/// A connection that is ready for a question.
pub enum Stream {
    /// http
    Plain(TcpStream),
    /// https
    Tls(Box<SslStream<TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    /// Sends the request and reads the answer; `timeout` may pass between two reads.
    pub fn ask(
        self,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        self.socket().set_nonblocking(true).map_err(HttpError::Connect)?;
        let socket = self.socket().try_clone().map_err(HttpError::Connect)?;

        let connecting = pin!(http1::handshake(Io(self)));
        let Poll::Ready(ready) = connecting.poll(&mut Context::from_waker(Waker::noop())) else {
            return Err(HttpError::Request("not ready".to_owned()));
        };
        let (mut sender, connection) = ready.map_err(|error| protocol(&error))?;
        let exchange = async move {
            let answer = sender.send_request(request.map(Full::new)).await;
            read_answer(answer.map_err(|error| protocol(&error))?).await
        };
        drive(Box::pin(exchange), Box::pin(connection), &socket, timeout)
    }
}

/// Runs both sides of an exchange, what hyper does for the connection and what waits for the answer,
/// until the answer is there.
fn drive(
    mut exchange: Pin<Box<impl Future<Output = Result<Answer, HttpError>>>>,
    mut connection: Pin<Box<impl Future<Output = hyper::Result<()>>>>,
    socket: &TcpStream,
    timeout: Duration,
) -> Result<Answer, HttpError> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let deadline = Instant::now() + LONGEST;
    let mut connection_error = None;
    loop {
        woken.0.store(false, Ordering::Relaxed);
        if let Poll::Ready(answer) = exchange.as_mut().poll(&mut context) {
            return answer;
        }
        if let Some(error) = connection_error {
            return Err(error);
        }
        if let Poll::Ready(end) = connection.as_mut().poll(&mut context) {
            connection_error = Some(match end {
                Ok(()) => HttpError::Protocol("it breaks off".to_owned()),
                Err(error) => protocol(&error),
            });
            // What it has read before may still be on its way to the other side.
            continue;
        }
        if woken.0.load(Ordering::Relaxed) {
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait_readable(socket, timeout.min(left)) {
            return Err(HttpError::Timeout(Phase::Answer));
        }
    }
}

/// Whether one side of an exchange has something for the other.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn read_answer(answer: http::Response<Incoming>) -> Result<Answer, HttpError> {
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| protocol(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(HttpError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes.into() })
}

fn protocol(error: &hyper::Error) -> HttpError {
    let mut causes: Vec<&(dyn std::error::Error + 'static)> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    // Not always the first: a request that was not sent yet is cancelled by the connection's error.
    let io = causes.iter().find_map(|cause| cause.downcast_ref::<io::Error>());
    let tls = io.and_then(io::Error::get_ref).and_then(|it| it.downcast_ref::<ssl::Error>());
    if let Some(stack) = tls.and_then(ssl::Error::ssl_error) {
        let reason = first_reason(stack);
        return HttpError::Tls(TlsFailure { reason, verification: None, certificate: None });
    }
    let text = causes.iter().fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    HttpError::Protocol(text)
}

/// Sleeps until there is something to read, or the time is up. A request is small enough for the
/// socket to take it at once.
fn wait_readable(socket: &TcpStream, timeout: Duration) -> bool {
    let timeout = timeout.max(Duration::from_millis(1));
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut sockets, timeout).is_ok_and(|ready| ready > 0)
}

/// The stream as hyper wants it.
struct Io(Stream);

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 16 << 10];
        let wanted = buffer.remaining().min(bytes.len());
        let read = match &mut self.0 {
            Stream::Plain(socket) => socket.read(&mut bytes[..wanted]),
            Stream::Tls(stream) => stream.read(&mut bytes[..wanted]),
        };
        match read {
            Ok(len) => {
                buffer.put_slice(&bytes[..len]);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.0 {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Limit of the head of a proxy's response to CONNECT.
const MAX_TUNNEL_HEAD: usize = 16 << 10;

/// The same limit as in the module.
const MAX_BODY: usize = 64 << 20;

/// Of a whole answer, however slowly it comes.
const LONGEST: Duration = Duration::from_secs(60);
