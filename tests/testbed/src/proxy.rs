//! A small HTTP proxy, for what goes to an identity service through one.
//!
//! It forwards requests in absolute-form, opens tunnels for CONNECT, and writes both down.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::port::Port;
use crate::serve::{self, After, Handler, Incoming, Server};
use crate::wire::{self, Stream};
use crate::{lock, Result};

/// A running proxy.
pub struct Proxy {
    server: Server,
    state: Arc<Mutex<State>>,
}

/// What a proxy does, and what it has seen.
#[derive(Debug, Default)]
pub struct State {
    /// The `Proxy-Authorization` that it demands.
    pub authorization: Option<String>,
    /// A status and a body with which it answers itself.
    pub refusal: Option<(u16, String)>,
    /// Where every request goes, whatever host it names.
    pub target: Option<SocketAddr>,
    /// Every request so far.
    pub log: Vec<Incoming>,
}

impl Proxy {
    /// Starts one on a free port.
    pub fn start() -> Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let handler = Arc::new(Service { state: Arc::clone(&state) });
        Ok(Self { server: Server::start(Port::free()?, None, handler)?, state })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its settings, and what it has seen.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Every request so far, as `METHOD target`.
    pub fn requests(&self) -> Vec<String> {
        self.state().log.iter().map(|r| format!("{} {}", r.method, r.target)).collect()
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// Stops it: open connections break, new ones are refused.
    pub fn stop(&mut self) {
        self.server.pause();
    }
}

struct Service {
    state: Arc<Mutex<State>>,
}

impl Handler for Service {
    fn handle(&self, request: &Incoming, stream: &mut Stream) -> After {
        let (refusal, target) = {
            let mut state = lock(&self.state);
            state.log.push(request.clone());
            let given = request.headers.text("Proxy-Authorization");
            let is_unknown =
                state.authorization.is_some() && state.authorization.as_deref() != given;
            let unknown = is_unknown.then(|| (407, "Proxy Authentication Required\n".to_owned()));
            (unknown.or_else(|| state.refusal.clone()), state.target)
        };
        if let Some((status, body)) = refusal {
            return serve::send(stream, &serve::answer(status, &[], body.as_bytes()));
        }
        let done = match request.method.as_str() {
            "CONNECT" => tunnel(&request.target, target, stream),
            _ => forward(request, target, stream),
        };
        match done {
            Ok(after) => after,
            Err(error) => {
                let body = error.to_string();
                serve::send(stream, &serve::answer(502, &[], body.as_bytes()))
            }
        }
    }
}

fn connect(authority: &str, target: Option<SocketAddr>) -> io::Result<TcpStream> {
    match target {
        Some(target) => TcpStream::connect(target),
        None => TcpStream::connect(authority),
    }
}

/// Hands bytes to and fro until one side ends.
fn tunnel(authority: &str, target: Option<SocketAddr>, stream: &mut Stream) -> io::Result<After> {
    let server = connect(authority, target)?;
    let client = stream.tcp().try_clone()?;
    serve::send(stream, b"HTTP/1.1 200 Connection established\r\n\r\n");
    let (mut to_server, mut from_client) = (server.try_clone()?, client.try_clone()?);
    let upwards = std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = upwards.join();
    Ok(After::Close)
}

/// Sends the request to the server that its target names, and the answer back.
fn forward(
    request: &Incoming,
    target: Option<SocketAddr>,
    stream: &mut Stream,
) -> io::Result<After> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidInput, "not in absolute-form");
    let rest = request.target.strip_prefix("http://").ok_or_else(malformed)?;
    let (authority, path) = rest.split_at(rest.find('/').ok_or_else(malformed)?);
    let authority = match authority.contains(':') {
        true => authority.to_owned(),
        false => format!("{authority}:80"),
    };
    let mut server = connect(&authority, target)?;
    let mut message = format!("{} {path} HTTP/1.1\r\n", request.method).into_bytes();
    for (name, value) in request.headers.iter() {
        if !name.to_ascii_lowercase().starts_with("proxy-") {
            message.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
    message.extend(b"\r\n");
    message.extend(&request.body);
    server.write_all(&message)?;

    let mut reader = BufReader::new(server);
    let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "no answer");
    let head = wire::read_head(&mut reader)?.ok_or_else(cut_off)?;
    let body = wire::read_body(&mut reader, &head.headers, false)?;
    let mut answer = format!("{}\r\n", head.start).into_bytes();
    for (name, value) in head.headers.iter() {
        answer.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    answer.extend(b"\r\n");
    answer.extend(body);
    Ok(serve::send(stream, &answer))
}
