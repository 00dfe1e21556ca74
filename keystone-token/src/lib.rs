//! OpenStack Keystone tokens: formats, signatures, identities, revocations, and Keystone's API.
//!
//! Everything here is a pure function of its arguments. There is no I/O and no clock: times are
//! seconds since 1970 and are passed in, and so is every file and every answer of Keystone.
//!
//! [`classify`] says who can judge a token. A signed one (PKI, PKIZ) is judged here, with the
//! certificates and the revocation list that Keystone serves:
//!
//! ```
//! use keystone_token::cms::SignedData;
//! use keystone_token::{classify, parse, HashAlgorithm, RevocationList, Signers, TokenClass};
//!
//! # macro_rules! read {
//! #     ($name:literal) => {
//! #         &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/signed/", $name))[..]
//! #     };
//! # }
//! # let (signing_cert, cacert) = (read!("signing_cert.pem"), read!("cacert.pem"));
//! # let (revoked, token) = (read!("revoked.pem"), read!("token.pki"));
//! # // 2027-01-01T00:30:00Z
//! # let now = 1_798_763_400;
//! // What `GET /v3/OS-SIMPLE-CERT/certificates`, `GET /v3/OS-SIMPLE-CERT/ca` and
//! // `GET /v3/auth/tokens/OS-PKI/revoked` have returned.
//! let signers = Signers::from_pem(signing_cert, cacert, now)?;
//! let list = SignedData::from_pem(revoked)?;
//! let list = RevocationList::from_json(signers.verify(&list, now)?)?;
//!
//! let TokenClass::Signed(token) = classify(token)? else { panic!("only Keystone can judge it") };
//! let verified = parse(token)?.verify(&signers, now)?;
//! verified.check_revocation(&list, &[HashAlgorithm::Md5])?;
//!
//! let identity = verified.into_identity();
//! assert_eq!(identity.user_name.as_deref(), Some("alice"));
//! assert_eq!(identity.roles, ["member"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An opaque one (UUID, Fernet, JWS) is Keystone's to judge. [`api`] describes the request, and
//! [`online`] says what the answer means:
//!
//! ```
//! use keystone_token::api::{self, ApiVersion, Validation};
//! use keystone_token::online::{judge_answer, Answer};
//!
//! let token = "5b1ad0e4b1a04a0e8a1e0ab9b0a3e3a3";
//! let request = api::validate("/identity", ApiVersion::V3, token, Validation::default())?;
//! assert_eq!(request.target(), "/identity/v3/auth/tokens?nocatalog");
//!
//! // A status and a body.
//! let body = br#"{"error": {"message": "...", "code": 404, "title": "Not Found"}}"#;
//! let Answer::Refused(refusal) = judge_answer(404, body)? else { panic!("it is refused") };
//! assert_eq!(refusal.result().as_str(), "unknown_token");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An [`Identity`] is kept as a [`record`], from which [`headers`], [`policy`] and [`swift`] read.
//! The [`revocation_events`] tell which records of opaque tokens to drop.

#![forbid(unsafe_code)]

mod der;
mod openssl_error;

#[cfg(test)]
mod messages;

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
pub mod refusal;
pub mod result;
pub mod revocation;
pub mod revocation_events;
pub mod secret;
pub mod swift;
pub mod text;
pub mod thumbprint;
pub mod time;
pub mod token;

pub use cms::Signers;
pub use format::{HashAlgorithm, TokenFormat};
pub use identity::Identity;
pub use openssl_error::OpenSslError;
pub use refusal::Refusal;
pub use result::AuthResult;
pub use revocation::RevocationList;
pub use token::{classify, parse, ParsedToken, TokenClass, VerifiedToken};

/// The examples of the README are run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
