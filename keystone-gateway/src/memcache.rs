//! A second level of the cache, in memcached, that a fleet of gateways shares: all of it but the
//! sockets.
//!
//! memcached trusts every client, so an entry of it is not trusted: [`seal`] gives entries names that
//! tell nothing of their tokens, and opens an entry only if it is whole, was made for this very token
//! with the same secret, and is fresh enough. [`protocol`] reads a server's answers without trusting
//! them, [`ring`] chooses the server, [`server`] is its address as it is configured.

pub mod protocol;
pub mod ring;
pub mod seal;
pub mod server;

/// Bytes of a sealed value at most: a catalog of a thousand endpoints fits, and memcached by
/// default takes items of up to 1 MB.
pub const MAX_VALUE: usize = 256 << 10;
