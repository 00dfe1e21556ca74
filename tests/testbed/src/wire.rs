//! HTTP/1.1 messages on a socket, for both of its ends.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::FromRawFd;
use std::time::Duration;

use openssl::ssl::SslStream;

/// A connection, with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<SslStream<TcpStream>>),
}

impl Stream {
    /// The TCP connection below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
        }
    }

    /// Ends the connection in both directions, as orderly as TLS wants it.
    pub fn close(&mut self) {
        if let Self::Tls(tls) = self {
            // The peer may be gone already.
            let _ = tls.shutdown();
        }
        let _ = self.tcp().shutdown(Shutdown::Both);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// Header fields in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// The first value of `name`, whatever the case of either.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of `name` if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of the header `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |(n, _): &&(String, Vec<u8>)| n.eq_ignore_ascii_case(name);
        self.0.iter().filter(named).map(|(_, value)| value.as_slice())
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    fn says(&self, name: &str, word: &str) -> bool {
        let text = |value: &[u8]| String::from_utf8_lossy(value).to_ascii_lowercase();
        self.all(name).any(|value| text(value).split(',').any(|part| part.trim() == word))
    }

    /// Whether the sender closes the connection after this message.
    pub fn closes(&self) -> bool {
        self.says("connection", "close")
    }
}

/// A start line and header fields.
#[derive(Clone, Debug)]
pub struct Head {
    /// The request or status line without its line end.
    pub start: String,
    /// The header fields.
    pub headers: Headers,
}

/// Reads a start line and header fields; `None` when the peer closed before the first byte.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut left = MAX_HEAD;
    let Some(start) = read_line(reader, &mut left)? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader, &mut left)?.ok_or_else(cut_off)?;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let colon = colon.ok_or_else(|| malformed("a header line without a colon"))?;
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    let start = String::from_utf8_lossy(&start).into_owned();
    Ok(Some(Head { start, headers: Headers(headers) }))
}

/// Reads the body that `headers` announce; without a length, all that comes `until_close`.
pub fn read_body(
    reader: &mut impl BufRead,
    headers: &Headers,
    until_close: bool,
) -> io::Result<Vec<u8>> {
    if headers.says("transfer-encoding", "chunked") {
        return read_chunks(reader);
    }
    let mut body = Vec::new();
    if let Some(length) = headers.text("content-length") {
        let length = length.parse().map_err(|_| malformed("a bad Content-Length"))?;
        reader.take(length).read_to_end(&mut body)?;
        if (body.len() as u64) < length {
            return Err(cut_off());
        }
    } else if until_close {
        reader.read_to_end(&mut body)?;
    }
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader, &mut 1024)?.ok_or_else(cut_off)?;
        let size = std::str::from_utf8(&line).ok().and_then(|l| l.split(';').next());
        let size = size.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        let size = size.ok_or_else(|| malformed("a bad chunk size"))?;
        let before = body.len() as u64;
        reader.take(size).read_to_end(&mut body)?;
        if body.len() as u64 - before < size {
            return Err(cut_off());
        }
        // The line end after a chunk; after the last one, the trailer, which is empty.
        read_line(reader, &mut 1024)?.ok_or_else(cut_off)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_line(reader: &mut impl BufRead, left: &mut usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = *left as u64;
    reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
    *left -= line.len();
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(cut_off());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the message was cut off")
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const MAX_HEAD: usize = 1 << 20;

/// A TCP connection that comes from `source`, made within `timeout`.
pub fn tcp_from(source: Ipv4Addr, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let SocketAddr::V4(address) = address else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not an IPv4 address"));
    };
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and has no other owner.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    // Linux bounds connecting by the time-out for writing.
    stream.set_write_timeout(Some(timeout))?;
    let (own, peer) = (socket_address(SocketAddrV4::new(source, 0)), socket_address(address));
    let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: both addresses are as long as `len` says, and live until the calls return.
    let connected = unsafe {
        libc::bind(fd, (&raw const own).cast(), len) == 0
            && libc::connect(fd, (&raw const peer).cast(), len) == 0
    };
    match connected {
        true => Ok(stream),
        false => Err(io::Error::last_os_error()),
    }
}

fn socket_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let mut wire = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nrest"[..];
        let head = read_head(&mut wire).unwrap().unwrap();
        assert_eq!(read_body(&mut wire, &head.headers, true).unwrap(), b"abcde");
        assert_eq!(wire, b"rest");
    }

    #[test]
    fn a_short_body_is_an_error() {
        let mut wire = &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"[..];
        let head = read_head(&mut wire).unwrap().unwrap();
        assert!(read_body(&mut wire, &head.headers, true).is_err());
    }
}
