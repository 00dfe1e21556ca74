//! The addresses that nginx is going to listen on: `nginx -t` accepts those that are taken.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::conf::Listen;
use crate::report::{quote, Check};

/// Whether the addresses are free. Asked only while nginx does not run, for it has them then.
pub fn checks(listens: &[Listen]) -> Vec<Check> {
    let shared = shared(listens);
    let mut taken: Vec<(String, Check)> = Vec::new();
    for listen in listens {
        let found = match listen.address().strip_prefix("unix:") {
            Some(path) => socket_file(path),
            None => addresses(listen.address())
                .into_iter()
                .find(|address| is_taken(*address, listen, &shared))
                .map(|address| (address.to_string(), taken_by(address, listen))),
        };
        let Some((address, check)) = found else { continue };
        if taken.iter().all(|(known, _)| *known != address) {
            taken.push((address, check.about(listen.position.to_string())));
        }
    }
    taken.into_iter().map(|(_, check)| check).collect()
}

fn taken_by(address: SocketAddr, listen: &Listen) -> Check {
    let options = if listen.is_datagram() { "-lunp" } else { "-ltnp" };
    Check::fail(ID, TITLE, format!("{address} is in use"))
        .meaning(
            "nginx does not start: another program listens there, or an nginx that was started \
             with another \"pid\"",
        )
        .fix(format!("ss {options} 'sport = :{}'", address.port()))
}

/// nginx removes its sockets when it ends, and does not replace one that is there.
fn socket_file(path: &str) -> Option<(String, Check)> {
    fs::symlink_metadata(Path::new(path)).ok()?;
    let check = Check::fail(ID, TITLE, format!("{path} is there"))
        .meaning("nginx does not start: the file was left behind, or another program listens there")
        .fix(format!("ss -lxpH src {0} | grep . || rm {0}", quote(path)));
    Some((path.to_owned(), check))
}

/// The sockets with `reuseport`: one `listen` sets it for the address, whatever others say.
fn shared(listens: &[Listen]) -> Vec<(SocketAddr, Type)> {
    let is_shared = |it: &&Listen| it.has("reuseport") && !it.address().starts_with("unix:");
    let shared = listens.iter().filter(is_shared);
    shared
        .flat_map(|listen| addresses(listen.address()).into_iter().map(|it| (it, kind(listen))))
        .collect()
}

fn kind(listen: &Listen) -> Type {
    match listen.is_datagram() {
        true => Type::DGRAM,
        false => Type::STREAM,
    }
}

/// Whether the address is taken. Other errors are for `nginx -t` to tell.
fn is_taken(address: SocketAddr, listen: &Listen, shared: &[(SocketAddr, Type)]) -> bool {
    let is_shared = shared.contains(&(address, kind(listen)));
    lasts(|| {
        let bound = bind(address, listen, is_shared);
        bound.is_err_and(|error| error.raw_os_error() == Some(Errno::EADDRINUSE as i32))
    })
}

/// Whether something is so for a while: a `nginx -t` listens for a moment too, and nginx tries again
/// when it starts.
fn lasts(mut is_so: impl FnMut() -> bool) -> bool {
    (0..TRIES).all(|number| {
        if number > 0 {
            thread::sleep(PAUSE);
        }
        is_so()
    })
}

/// Binds a socket as nginx does at its start, and closes it.
fn bind(address: SocketAddr, listen: &Listen, is_shared: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), kind(listen), None)?;
    // Also for datagrams, where only `nginx -t` does without.
    socket.set_reuse_address(true)?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!listen.has("ipv6only=off"))?;
    }
    socket.bind(&address.into())
}

/// The addresses of `listen`: `ADDRESS:PORT`, `ADDRESS` or `PORT`, and the port may be a range.
fn addresses(text: &str) -> Vec<SocketAddr> {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let (host, ports) = match text.rsplit_once(':') {
        _ if is_port(text) => ("*", text),
        Some((host, ports)) if is_port(ports) && !ports.is_empty() => (host, ports),
        _ => (text, "80"),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        return Vec::new();
    };
    (first..=last).flat_map(|port| resolve(host, port)).collect()
}

fn resolve(host: &str, port: u16) -> Vec<SocketAddr> {
    match host {
        "*" => vec![(Ipv4Addr::UNSPECIFIED, port).into()],
        "[::]" => vec![(Ipv6Addr::UNSPECIFIED, port).into()],
        host => {
            let host = host.trim_matches(['[', ']']);
            (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
        }
    }
}

/// nginx itself tries five times, in two seconds.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

const ID: &str = "configuration.listen";
const TITLE: &str = "listen";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{addresses, lasts};

    #[test]
    fn an_address_that_is_free_a_moment_later_is_not_taken() {
        let mut other = TcpListener::bind("127.0.0.1:0").ok();
        let address = other.as_ref().and_then(|it| it.local_addr().ok()).expect("bound");
        let mut tries = 0;
        assert!(!lasts(|| {
            tries += 1;
            if tries == 3 {
                other = None;
            }
            TcpListener::bind(address).is_err()
        }));
        assert_eq!(tries, 3);
    }

    #[test]
    fn addresses_are_read_as_nginx_reads_them() {
        for (text, expected) in [
            ("8080", "0.0.0.0:8080"),
            ("*:8080", "0.0.0.0:8080"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::]:443", "[::]:443"),
            ("[::1]", "[::1]:80"),
            ("127.0.0.1:8080-8081", "127.0.0.1:8080 127.0.0.1:8081"),
            ("127.0.0.1:99999", ""),
        ] {
            let found: Vec<_> = addresses(text).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }
}
