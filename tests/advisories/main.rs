//! Security advisories of OpenStack and of other gateways, a test for each: that what was wrong
//! there is not wrong here.
//!
//! A test is named by its advisory. Its comment says what the advisory was, and what of its kind
//! could happen to this module. `SECURITY.md` lists the promises that these tests keep.

mod headers;
mod memcached;
mod revocation;
mod trust;
