//! The second level of the cache: whether its servers answer.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use keystone_gateway::memcache::seal::Strategy;
use keystone_gateway::memcache::server::Server;

use crate::conf::service::Settings;
use crate::report::Check;

/// All checks of memcached, where it is used.
pub fn checks(settings: &Settings) -> Vec<Check> {
    let Some(memcached) = &settings.memcached else { return Vec::new() };
    let mut checks: Vec<Check> = memcached.servers.iter().map(server).collect();
    if memcached.strategy == Strategy::None {
        checks.push(
            Check::warn("memcached.strategy", "protection", "entries are not protected")
                .meaning("whoever can write to memcached decides which tokens are valid")
                .fix(
                    "keystone_memcached_security_strategy encrypt; \
                     keystone_memcached_secret_key file:/etc/nginx/memcached.key;",
                ),
        );
    }
    checks
}

fn server(server: &Server) -> Check {
    let (id, title) = ("memcached.server", "memcached");
    let name = server.to_string();
    match version(server) {
        Ok(version) => Check::ok(id, title, format!("answers, version {version}")),
        Err(error) => Check::warn(id, title, error.to_string())
            .meaning(
                "the module does without the entries of this server: each gateway asks Keystone \
                 about each token itself",
            )
            .fix(match server {
                Server::Tcp { .. } => "systemctl status memcached, there, and its option -l",
                Server::Unix(_) => "systemctl status memcached, and its options -s and -a",
            }),
    }
    .about(name)
}

/// What the server says to `version`.
fn version(server: &Server) -> io::Result<String> {
    match server {
        Server::Tcp { host, port } => {
            let mut failure = io::Error::other("the name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, TIMEOUT) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(TIMEOUT))?;
                        return ask(stream);
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        }
        Server::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            ask(stream)
        }
    }
}

fn ask(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"version\r\n")?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while answer.len() < LONGEST && !answer.ends_with(b"\n") {
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => answer.extend(byte),
            // The time is up.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::other("it does not answer"));
            }
            Err(error) => return Err(error),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.strip_prefix("VERSION ") {
        Some(version) => Ok(version.trim().to_owned()),
        None => Err(io::Error::other("what answers there is not memcached")),
    }
}

/// Longer than the module waits.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of an answer.
const LONGEST: usize = 200;
