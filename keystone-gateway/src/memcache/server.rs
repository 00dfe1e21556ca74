//! A memcached server as it is configured: `HOST:PORT` or `unix:PATH`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Where a server is. Two ways to write one address are equal, and so is what [`fmt::Display`]
/// makes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// `HOST:PORT`.
    Tcp {
        /// A name in lower case or an address; an IPv6 address without its brackets.
        host: String,
        /// From 1 to 65535; 11211 by default.
        port: u16,
    },
    /// A socket in the file system: an absolute path that fits into a socket's address.
    Unix(String),
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        let (host, port) = text.rsplit_once(':').ok_or(ServerError::Form)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').ok_or(ServerError::Form)?;
                address.parse::<Ipv6Addr>().map_err(|_| ServerError::Host)?.to_string()
            }
            // Without brackets the last group of an IPv6 address would be taken for a port.
            None if host.contains(':') => return Err(ServerError::Form),
            None => name(host)?,
        };
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ServerError::Form);
        }
        match port.parse() {
            Ok(port @ 1..) => Ok(Self::Tcp { host, port }),
            _ => Err(ServerError::Port),
        }
    }
}

fn unix(path: &str) -> Result<Server, ServerError> {
    let fits = path.starts_with('/') && path.len() <= LONGEST_PATH;
    match fits && !path.chars().any(char::is_control) {
        true => Ok(Server::Unix(path.to_owned())),
        false => Err(ServerError::Path),
    }
}

fn name(host: &str) -> Result<String, ServerError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let is_part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match !host.is_empty() && host.len() <= LONGEST_NAME && host.bytes().all(is_part_of_name) {
        true => Ok(host.to_ascii_lowercase()),
        false => Err(ServerError::Host),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Why a text is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// It is neither of the two forms.
    #[error("it must be HOST:PORT or unix:PATH")]
    Form,
    /// The host has characters that no host has.
    #[error("its host must be a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// The path cannot be one of a socket.
    #[error("its path must be absolute and no longer than {LONGEST_PATH} bytes")]
    Path,
    /// The port is 0 or too large.
    #[error("its port must be a number from 1 to 65535")]
    Port,
}

/// Of a name in the DNS.
const LONGEST_NAME: usize = 253;

/// What `sockaddr_un` has room for, beside the NUL.
const LONGEST_PATH: usize = 107;
