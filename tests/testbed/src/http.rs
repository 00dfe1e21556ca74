//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod};

use crate::wire::{self, Headers, Stream};
use crate::{patience, During, Error, Result};

/// A request; header names and values are sent as they are, in this order.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request without header fields; `Host` is added when it is sent.
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.into(), target.into());
        Self { method, target, headers: Vec::new(), body: Vec::new() }
    }

    /// A `GET` without a body.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `HEAD` without a body.
    pub fn head(target: &str) -> Self {
        Self::new("HEAD", target)
    }

    /// The target, as it is sent.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// With one more header field, of any bytes.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// With an `X-Auth-Token`.
    pub fn token(self, token: &str) -> Self {
        self.header("X-Auth-Token", token)
    }

    /// With a body, and its length.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Length", body.len().to_string())
    }

    /// The request as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let has_host = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host"));
        if !has_host {
            bytes.extend(b"Host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend([name.as_slice(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }
}

/// A response with its whole body.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// The header fields in the order in which they came.
    pub headers: Headers,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header field, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.text(name)
    }

    /// The body; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, parsed as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// A connection that is kept open.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<Stream>,
}

impl Client {
    /// Connects to a server.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self { reader: BufReader::new(Stream::Plain(tcp(address)?)) })
    }

    /// Connects from another address of this machine, such as 127.0.0.2.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let stream = wire::tcp_from(source, address, TIMEOUT)
            .during(format!("connecting from {source} to {address}"))?;
        prepare(&stream)?;
        Ok(Self { reader: BufReader::new(Stream::Plain(stream)) })
    }

    /// Connects with TLS to a server called `name`, whose authority is in the file `ca`; shows
    /// the certificate and key of the given files if the server asks.
    pub fn connect_tls(
        address: SocketAddr,
        name: &str,
        ca: &Path,
        own: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self> {
        let mut builder = SslConnector::builder(SslMethod::tls())?;
        builder.set_ca_file(ca)?;
        if let Some((certificate, key)) = own {
            builder.set_certificate_chain_file(certificate)?;
            builder.set_private_key_file(key, SslFiletype::PEM)?;
        }
        let stream = builder.build().connect(name, tcp(address)?);
        let stream = stream.map_err(|error| Error::Http(format!("TLS: {error}")))?;
        Ok(Self { reader: BufReader::new(Stream::Tls(Box::new(stream))) })
    }

    /// Waits for an answer so long at most, instead of ten seconds.
    pub fn timeout(self, time: Duration) -> Result<Self> {
        let tcp = self.reader.get_ref().tcp();
        tcp.set_read_timeout(Some(time)).during("setting a time-out")?;
        Ok(self)
    }

    /// Sends a request and reads the answer.
    pub fn send(&mut self, request: &Request) -> Result<Response> {
        self.write(&request.bytes())?;
        self.read(request.method == "HEAD")
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let stream = self.reader.get_mut();
        stream.write_all(bytes).and_then(|()| stream.flush()).during("sending a request")
    }

    /// Reads an answer; that to a `HEAD` has no body.
    pub fn read(&mut self, to_head: bool) -> Result<Response> {
        loop {
            let head = wire::read_head(&mut self.reader).during("reading an answer")?;
            let head = head.ok_or_else(|| Error::Http("closed without an answer".into()))?;
            let status = head.start.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
            let status: u16 = status
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| Error::Http(format!("a status line: {:?}", head.start)))?;
            if (100..200).contains(&status) {
                continue;
            }
            let body = match to_head || status == 204 || status == 304 {
                true => Vec::new(),
                false => wire::read_body(&mut self.reader, &head.headers, true)
                    .during("reading a body")?,
            };
            return Ok(Response { status, headers: head.headers, body });
        }
    }

    /// Waits until the answer has begun; its rest may stay unread.
    pub fn wait_for_answer(&mut self) -> Result<()> {
        self.reader.fill_buf().during("waiting for an answer").map(drop)
    }

    /// Whether the peer has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let tcp = self.reader.get_ref().tcp();
        let _ = tcp.set_nonblocking(true);
        let closed = matches!(tcp.peek(&mut byte), Ok(0));
        let _ = tcp.set_nonblocking(false);
        closed
    }
}

/// Sends one request on a connection of its own.
pub fn send(address: SocketAddr, request: &Request) -> Result<Response> {
    Client::connect(address)?.send(request)
}

fn tcp(address: SocketAddr) -> Result<TcpStream> {
    let timeout = patience(TIMEOUT);
    let tcp =
        TcpStream::connect_timeout(&address, timeout).during(format!("connecting to {address}"))?;
    prepare(&tcp)?;
    Ok(tcp)
}

fn prepare(tcp: &TcpStream) -> Result<()> {
    tcp.set_read_timeout(Some(patience(TIMEOUT))).during("setting a time-out")?;
    tcp.set_write_timeout(Some(patience(TIMEOUT))).during("setting a time-out")?;
    tcp.set_nodelay(true).during("setting TCP_NODELAY")
}

const TIMEOUT: Duration = Duration::from_secs(10);
