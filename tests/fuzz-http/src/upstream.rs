//! Upstreams of every kind that nginx can pass requests to. Each has an inspector look at what it
//! is sent, and answers with the content of its guard.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use keystone_testbed::port::Port;
use keystone_testbed::{During, Result};

use crate::guard::Guard;
use crate::inspect::Inspector;

mod cgi;
mod grpc;
mod http;

/// How nginx speaks to an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// `fastcgi_pass`
    FastCgi,
    /// `grpc_pass`
    Grpc,
    /// `proxy_pass`
    Http,
    /// `scgi_pass`
    Scgi,
    /// `uwsgi_pass`
    Uwsgi,
}

impl Way {
    /// Every protocol.
    pub const ALL: [Self; 5] = [Self::FastCgi, Self::Grpc, Self::Http, Self::Scgi, Self::Uwsgi];

    /// Its name in the configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::FastCgi => "FASTCGI",
            Self::Grpc => "GRPC",
            Self::Http => "HTTP",
            Self::Scgi => "SCGI",
            Self::Uwsgi => "UWSGI",
        }
    }
}

/// A running upstream; it ends with the process.
#[derive(Debug)]
pub struct Upstream {
    port: Port,
}

impl Upstream {
    /// Starts an upstream on a free port.
    pub fn start(way: Way, guard: Guard, inspector: Inspector) -> Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(port.address()).during("listening as an upstream")?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = Desk { way, guard, inspector: inspector.clone() };
                thread::spawn(move || desk.serve(stream));
            }
        });
        Ok(Self { port })
    }

    /// Address and port that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

/// One connection's view of an upstream.
struct Desk {
    way: Way,
    guard: Guard,
    inspector: Inspector,
}

impl Desk {
    fn serve(&self, stream: TcpStream) {
        // A connection that fails is nginx's own business: it answers 502.
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let _ = stream.set_nodelay(true);
        let mut stream = BufReader::new(stream);
        let _ = match self.way {
            Way::FastCgi => cgi::serve_fastcgi(self, &mut stream),
            Way::Grpc => grpc::serve(self, &mut stream),
            Way::Http => http::serve(self, &mut stream),
            Way::Scgi => cgi::serve_scgi(self, &mut stream),
            Way::Uwsgi => cgi::serve_uwsgi(self, &mut stream),
        };
    }

    fn inspect(&self, fields: &[(Vec<u8>, Vec<u8>)]) {
        self.inspector.inspect(self.way.name(), self.guard, fields);
    }

    /// What a CGI-like upstream answers.
    fn page(&self) -> String {
        format!("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n{}", self.guard.content())
    }
}

/// Ends a connection whose peer may still be sending: what it sent is read first, as a reset
/// would take the answer away.
fn finish(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    stream.get_mut().flush()?;
    stream.get_ref().shutdown(std::net::Shutdown::Write)?;
    stream.get_ref().set_read_timeout(Some(Duration::from_secs(1)))?;
    std::io::copy(stream, &mut std::io::sink())?;
    Ok(())
}

/// Longer than nginx waits.
const PATIENCE: Duration = Duration::from_secs(10);
