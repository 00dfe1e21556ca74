//! The library from outside: what gateways write to memcached, and what comes back from there.

mod memcache;
