//! The library from outside: real and generated tokens, and everything that is not one.

mod access_rules;
mod cms;
mod flips;
mod identity;
mod long_lists;
mod pki;
mod properties;
mod revocation;
mod revocation_events;
mod signatures;
mod signers;
mod vectors;
