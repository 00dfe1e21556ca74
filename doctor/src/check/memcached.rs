//! The second level of the cache: whether its servers answer.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use keystone_gateway::memcache::seal::Strategy;
use keystone_gateway::memcache::server::Server;

use crate::conf::service::Settings;
use crate::machine::Machine;
use crate::report::Check;
use crate::system;

/// All checks of memcached, where it is used.
pub fn checks(settings: &Settings, machine: &Machine) -> Vec<Check> {
    let Some(memcached) = &settings.memcached else { return Vec::new() };
    let mut checks: Vec<Check> = memcached.servers.iter().map(|it| server(it, machine)).collect();
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

fn server(server: &Server, machine: &Machine) -> Check {
    let (id, title) = ("memcached.server", "memcached");
    let name = server.to_string();
    let answer = version(server).and_then(|version| match server {
        Server::Unix(path) => open_to_workers(Path::new(path), machine).map(|()| version),
        Server::Tcp { .. } => Ok(version),
    });
    match answer {
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

/// By default memcached makes a socket that only its own user and root may open.
fn open_to_workers(socket: &Path, machine: &Machine) -> io::Result<()> {
    let Ok(user) = &machine.worker else { return Ok(()) };
    let may_ask = machine.me.is_root() || machine.me.uid == user.uid;
    if !may_ask || system::may_open_socket(socket, user)? {
        return Ok(());
    }
    let place = system::closed_parent(socket, user);
    let place = place.as_deref().unwrap_or(socket).display();
    Err(io::Error::other(format!("it answers, but {place} is closed to {}", user.name)))
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
