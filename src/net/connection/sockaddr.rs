//! Socket addresses and the few socket calls that nginx has no function for.

use std::ffi::{c_char, c_int};
use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

use nginx_sys::{ngx_socket_t, sockaddr, socklen_t};

/// Where a server listens.
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

/// A socket address in the form that the system's calls take.
pub(super) enum SockAddr {
    Unix(libc::sockaddr_un),
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl SockAddr {
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        match self {
            Self::Unix(address) => ptr::from_ref(address).cast(),
            Self::V4(address) => ptr::from_ref(address).cast(),
            Self::V6(address) => ptr::from_ref(address).cast(),
        }
    }

    pub(super) fn len(&self) -> socklen_t {
        match self {
            Self::Unix(address) => mem::size_of_val(address) as socklen_t,
            Self::V4(address) => mem::size_of_val(address) as socklen_t,
            Self::V6(address) => mem::size_of_val(address) as socklen_t,
        }
    }
}

impl TryFrom<&PeerAddr> for SockAddr {
    type Error = io::Error;

    fn try_from(address: &PeerAddr) -> Result<Self, Self::Error> {
        match address {
            PeerAddr::Inet(address) => Ok(Self::from(*address)),
            PeerAddr::Unix(path) => unix(path).map(Self::Unix),
        }
    }
}

fn unix(path: &str) -> io::Result<libc::sockaddr_un> {
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as libc::sa_family_t,
        sun_path: [0; SUN_PATH],
    };
    // A NUL has to follow it.
    if path.len() >= SUN_PATH {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from as c_char;
    }
    Ok(address)
}

/// Bytes of a path, in Linux.
const SUN_PATH: usize = 108;

impl From<SocketAddr> for SockAddr {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }
}

/// Reads an internet address; other families give none.
///
/// # Safety
///
/// `address` must be null or point to a socket address that is as long as its family says.
pub(in crate::net) unsafe fn socket_addr(address: *const sockaddr) -> Option<SocketAddr> {
    // SAFETY: the caller vouches for the pointer, and the family is part of every socket address.
    let family = unsafe { address.cast::<libc::sockaddr>().as_ref() }?.sa_family;
    match c_int::from(family) {
        libc::AF_INET => {
            // SAFETY: of this family, so of this type.
            let address = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((ip, u16::from_be(address.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: of this family, so of this type.
            let address = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(address.sin6_addr.s6_addr),
                u16::from_be(address.sin6_port),
                address.sin6_flowinfo,
                address.sin6_scope_id,
            )))
        }
        _ => None,
    }
}

/// The error of a connection attempt, if it has failed.
pub(super) fn pending_error(fd: ngx_socket_t) -> io::Result<()> {
    let mut error: c_int = 0;
    let mut len = mem::size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the system writes at most `len` bytes to `error`.
    let rc = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            ptr::addr_of_mut!(error).cast(),
            ptr::addr_of_mut!(len),
        )
    };
    if rc == -1 {
        return Err(io::Error::last_os_error());
    }
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    Ok(())
}

/// Whether the peer has neither sent anything nor closed.
pub(super) fn is_silent(fd: ngx_socket_t) -> bool {
    let mut byte = 0u8;
    // SAFETY: the system writes at most one byte, to `byte`.
    let n = unsafe {
        libc::recv(fd, ptr::addr_of_mut!(byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT)
    };
    n == -1 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}
