//! The addresses that nginx is going to listen on: `nginx -t` accepts those that are taken.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::conf::Listen;
use crate::report::{quote, Check};

/// Whether the addresses are free. Asked only while nginx does not run, for it has them then.
pub fn checks(listens: &[Listen]) -> Vec<Check> {
    let mut taken: Vec<(String, Check)> = Vec::new();
    for listen in listens {
        let found = match listen.address().strip_prefix("unix:") {
            Some(path) => socket_file(path),
            None => addresses(listen.address())
                .into_iter()
                .find(|address| is_taken(*address, listen))
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
        .fix(format!("ss -lxp src {0} || rm {0}", quote(path)));
    Some((path.to_owned(), check))
}

/// Other errors are for `nginx -t` to tell.
fn is_taken(address: SocketAddr, listen: &Listen) -> bool {
    let bound = bind(address, listen);
    bound.is_err_and(|error| error.raw_os_error() == Some(Errno::EADDRINUSE as i32))
}

/// Binds a socket as nginx does, and closes it.
fn bind(address: SocketAddr, listen: &Listen) -> io::Result<()> {
    let kind = if listen.is_datagram() { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_reuse_address(!listen.is_datagram())?;
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

const ID: &str = "configuration.listen";
const TITLE: &str = "listen";

#[cfg(test)]
mod tests {
    use super::addresses;

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
