//! What a gateway that verifies Keystone tokens keeps beside the tokens.
//!
//! [`memcache`] is the cache that several gateways share: entries that prove themselves, and the
//! protocol of memcached. [`status`] is what a gateway reports of its work: the cells of its
//! counters, and the report as JSON and in the text format of Prometheus. [`addresses`] says which
//! address of a server is tried first. [`carrier`] finds tokens in cookies, arguments and
//! `Authorization`. [`destination`] is the path of a request for WebDAV besides its own,
//! [`request_id`] makes ids of requests, [`tls`] says whose certificate a server must have, and
//! [`vary`] completes a response header.
//!
//! As in `keystone-token`, everything here is a pure function of its arguments. There is no I/O, no
//! clock and no nginx.

#![forbid(unsafe_code)]

pub mod addresses;
pub mod carrier;
pub mod destination;
pub mod memcache;
pub mod request_id;
pub mod status;
pub mod tls;
pub mod vary;
