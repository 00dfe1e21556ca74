//! A small threaded HTTP/1.1 server that can be stopped and started again on its port.

use std::collections::HashMap;
use std::io::{BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use openssl::ssl::SslAcceptor;

use crate::port::Port;
use crate::wire::{self, Headers, Stream};
use crate::{lock, wait_for, During, Result};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Which connection it came on, counted from 1.
    pub connection: u64,
    /// The method, such as `GET`.
    pub method: String,
    /// The request target as sent, with its query.
    pub target: String,
    /// The header fields.
    pub headers: Headers,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Incoming {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query, without its question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// What happens to a connection after an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// The server closes the connection.
    Close,
    /// The next request may come on it.
    Keep,
}

/// Answers requests by writing to the connection.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: &Incoming, stream: &mut Stream) -> After;
}

/// A server on a port of 127.0.0.1.
pub struct Server {
    port: Port,
    handler: Arc<dyn Handler>,
    tls: Option<SslAcceptor>,
    running: Option<Running>,
    connections: Arc<AtomicU64>,
}

struct Running {
    stop: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
    open: Arc<Mutex<HashMap<u64, TcpStream>>>,
}

impl Server {
    /// Starts a server on `port`.
    pub fn start(port: Port, tls: Option<SslAcceptor>, handler: Arc<dyn Handler>) -> Result<Self> {
        let connections = Arc::default();
        let mut server = Self { port, handler, tls, running: None, connections };
        server.resume()?;
        Ok(server)
    }

    /// Address and port that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Stops listening and breaks every open connection; the port stays held.
    pub fn pause(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        // The acceptor sleeps in accept(): a connection of our own wakes it.
        let _ = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1));
        let _ = running.acceptor.join();
        for (_, connection) in lock(&running.open).drain() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Listens again after [`Server::pause`].
    pub fn resume(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let address = self.address();
        // A process that another test is just starting holds all sockets until its program runs.
        let listener =
            wait_for("a listener of before to be gone", || match TcpListener::bind(address) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => None,
                bound => Some(bound.during(format!("listening on {address}"))),
            })??;
        let stop = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(HashMap::new()));
        let acceptor = {
            let (stop, open) = (Arc::clone(&stop), Arc::clone(&open));
            let (handler, tls) = (Arc::clone(&self.handler), self.tls.clone());
            let connections = Arc::clone(&self.connections);
            std::thread::spawn(move || {
                for tcp in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(tcp) = tcp else { continue };
                    let Ok(copy) = tcp.try_clone() else { continue };
                    let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                    lock(&open).insert(number, copy);
                    let (handler, tls) = (Arc::clone(&handler), tls.clone());
                    let open = Arc::clone(&open);
                    std::thread::spawn(move || {
                        serve(number, tcp, tls, handler.as_ref());
                        // The copy would keep the connection open.
                        if let Some(tcp) = lock(&open).remove(&number) {
                            let _ = tcp.shutdown(Shutdown::Both);
                        }
                    });
                }
            })
        };
        self.running = Some(Running { stop, acceptor, open });
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.pause();
    }
}

fn serve(number: u64, tcp: TcpStream, tls: Option<SslAcceptor>, handler: &dyn Handler) {
    let _ = tcp.set_nodelay(true);
    let stream = match tls {
        None => Stream::Plain(tcp),
        Some(tls) => match tls.accept(tcp) {
            Ok(tls) => Stream::Tls(Box::new(tls)),
            // The handshake failed, which is what some tests want to see on the other end.
            Err(_) => return,
        },
    };
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(number, &mut reader) {
        let client_closes = request.headers.closes();
        let after = handler.handle(&request, reader.get_mut());
        if client_closes || after == After::Close {
            break;
        }
    }
    reader.get_mut().close();
}

fn read_request(connection: u64, reader: &mut BufReader<Stream>) -> Option<Incoming> {
    let head = wire::read_head(reader).ok()??;
    let body = wire::read_body(reader, &head.headers, false).ok()?;
    let mut words = head.start.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Incoming { connection, method, target, headers: head.headers, body })
}

/// An answer with a length.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut message = head(status, headers);
    message.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
    message.extend(body);
    message
}

/// A status line and header fields, without the empty line that ends them.
pub fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut message = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        message.push_str(&format!("{name}: {value}\r\n"));
    }
    message.into_bytes()
}

/// Writes all of `bytes`, and says whether the connection can go on.
pub fn send(stream: &mut Stream, bytes: &[u8]) -> After {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Ok(()) => After::Keep,
        Err(_) => After::Close,
    }
}

/// Breaks the connection with RST instead of FIN, even if its socket is open elsewhere.
pub fn reset(stream: &Stream) {
    // SAFETY: an address of zeros is a valid one, of the family AF_UNSPEC.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = std::mem::size_of_val(&nowhere) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` lives, and the address for the call.
    // Where it fails, the peer has closed the connection already.
    let _ = unsafe { libc::connect(stream.tcp().as_raw_fd(), &nowhere, length) };
}

/// The words after a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
