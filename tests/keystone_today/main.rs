//! The module beside a Keystone of today: real tokens to nginx and to keystonemiddleware 13, and
//! what a client and an application see must be the same, apart from the differences that
//! [`differences`] names with their reasons. See tests/keystone/README.md.

mod access_rules;
mod changes;
mod cloud;
mod differences;
mod failures;
mod gate;
mod invalid;
mod oauth;
mod service_tokens;
mod users;
