//! The server that a connection leads to.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ptr;

use nginx_sys::{sockaddr, socklen_t};
use socket2::SockAddr;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// On an address of the internet protocol.
    Inet(SocketAddr),
    /// On a socket in the file system.
    Unix(String),
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl TryFrom<&PeerAddr> for SockAddr {
    type Error = io::Error;

    fn try_from(address: &PeerAddr) -> Result<Self, Self::Error> {
        match address {
            PeerAddr::Inet(address) => Ok(Self::from(*address)),
            PeerAddr::Unix(path) => Self::unix(path),
        }
    }
}

/// A server to connect to.
pub struct Peer<'a> {
    pub address: &'a PeerAddr,
    /// What the log calls the server.
    pub name: &'a str,
    /// What kind of server it is, in the words of the log.
    pub service: &'static str,
}

/// The kind of server that endpoints lead to, and that names are resolved for.
pub(super) const IDENTITY_SERVICE: &str = "identity service";

/// Reads an internet address of nginx's; other families give none.
///
/// # Safety
///
/// `address` must be null or point to a socket address of `len` bytes.
pub(super) unsafe fn socket_addr(address: *const sockaddr, len: socklen_t) -> Option<SocketAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: the storage is as large as `capacity` says, and the copy leaves a socket address in
    // it, by this function's contract.
    let copied = unsafe {
        SockAddr::try_init(|storage, capacity| {
            if len > *capacity {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            ptr::copy_nonoverlapping(address.cast::<u8>(), storage.cast::<u8>(), len as usize);
            *capacity = len;
            Ok(())
        })
    };
    copied.ok()?.1.as_socket()
}
