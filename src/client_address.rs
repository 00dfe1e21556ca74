//! The address of a client, for `keystone_max_pending_per_address`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nginx_sys::{sockaddr, socklen_t};

/// Where a client's connection comes from, without its port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ClientAddress {
    /// The whole address. An IPv4 address that a socket for IPv6 shows is the IPv4 address.
    Ip(IpAddr),
    /// A socket in the file system, or an address that nginx does not tell.
    Local,
}

impl ClientAddress {
    /// # Safety
    /// `address` is null, or points to `len` bytes of a socket address.
    pub unsafe fn from_sockaddr(address: *const sockaddr, len: socklen_t) -> Self {
        let is_long_enough = |size: usize| usize::try_from(len).is_ok_and(|len| len >= size);
        if address.is_null() || !is_long_enough(size_of::<libc::sa_family_t>()) {
            return Self::Local;
        }
        // SAFETY: the family is the first member of each address, and is there.
        let family = unsafe { address.cast::<libc::sa_family_t>().read_unaligned() };
        let ip = match i32::from(family) {
            libc::AF_INET if is_long_enough(size_of::<libc::sockaddr_in>()) => {
                // SAFETY: the family says that it is one, and all of it is there.
                let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
                IpAddr::V4(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 if is_long_enough(size_of::<libc::sockaddr_in6>()) => {
                // SAFETY: as above.
                let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
                IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr))
            }
            _ => return Self::Local,
        };
        Self::Ip(ip.to_canonical())
    }
}
