//! OpenStack Keystone tokens: formats, signatures, identities, revocations, and Keystone's API.
//!
//! Everything here is a pure function of its arguments. There is no I/O, no clock and no nginx:
//! times are seconds since 1970 and are handed in, and so is every file and every answer.
//!
//! A signed token goes through [`mod@format`] (which kind, and off with its armour), [`cms`] (the
//! one form of message, the signature), [`identity`] (what was signed) and [`revocation`];
//! [`token`] is that way as one. Of the tokens that only Keystone can judge, [`fernet`] and [`jws`]
//! know which cannot be any. An [`identity::Identity`] is kept as a [`record`], from which
//! [`headers`] and [`policy`] read, the latter with the [`access_rules`] that are in it, and
//! [`swift`], which knows whose an account is. The [`revocation_events`] tell which records to
//! drop, of tokens that Keystone was asked about.

#![forbid(unsafe_code)]

mod der;
mod text;

pub mod access_rules;
pub mod api;
pub mod catalog;
pub mod cms;
pub mod fernet;
pub mod format;
pub mod headers;
pub mod identity;
pub mod json;
pub mod jws;
pub mod online;
pub mod policy;
pub mod record;
pub mod result;
pub mod revocation;
pub mod revocation_events;
pub mod secret;
pub mod swift;
pub mod time;
pub mod token;
