//! The gateways of `nginx-conf/` that have to do with Swift, with real tokens, a real Swift, and
//! its client. See tests/keystone/README.md.

mod agreement;
mod clients;
mod cloud;
mod edge;
mod filter;
mod on_disk;
mod paths;
mod store;
mod unsupported;
