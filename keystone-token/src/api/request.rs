//! A request to Keystone, without its transport.

use std::borrow::Cow;
use std::fmt;

use super::{read, wire};
use crate::format::HashAlgorithm;

/// A request to Keystone: everything but host and service token.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// For counters and for the debug log.
    pub kind: Kind,
    /// `GET` or `POST`.
    pub method: Method,
    /// Its path, with the base path. It may be logged: what is secret of it is in `subject`.
    pub path: String,
    /// Its body, JSON; it may hold a password.
    pub body: Option<String>,
    /// The value of `Accept`.
    pub accept: &'static str,
    /// Whether it needs the service token in `X-Auth-Token`.
    pub authenticated: bool,
    /// The token that it asks about, a secret.
    pub subject: Option<Subject>,
}

/// Where a request names the token that it asks about.
#[derive(Clone, Eq, PartialEq)]
pub enum Subject {
    /// In the header `X-Subject-Token`, which comes with [`ACCESS_RULES_HEADER`].
    Header(String),
    /// As the last segment of the path.
    Path(String),
}

/// The header by which a caller says that it checks access rules, and its value: Keystone does
/// not know a token that has some to anybody else (keystone/api/auth.py).
pub const ACCESS_RULES_HEADER: (&str, &str) = ("openstack-identity-access-rules", "1");

impl Request {
    pub(super) fn get(kind: Kind, path: String, accept: &'static str) -> Self {
        let (method, body) = (Method::Get, None);
        Self { kind, method, path, body, accept, authenticated: false, subject: None }
    }

    /// Whether an answer with this value of `X-Subject-Token` is about the token of the request: v3
    /// repeats there the token that it was asked about. `None` for other requests.
    pub fn is_about(&self, answered: &[u8]) -> Option<bool> {
        match &self.subject {
            Some(Subject::Header(subject)) => Some(subject.as_bytes() == answered),
            Some(Subject::Path(_)) | None => None,
        }
    }

    /// Whether an answer with this body is about the token of the request: v2.0 names there a token
    /// by its id, which is its text, or for a signed one, that may have been asked about by its
    /// hash, the other one of these. `None` for other requests, and if the body names no token.
    pub fn is_about_id_in(&self, body: &[u8]) -> Option<bool> {
        let Some(Subject::Path(subject)) = &self.subject else { return None };
        let answer: wire::V2Validation<'_> = read(body)?;
        let (subject, id) = (subject.as_bytes(), answer.access.0.token.0.id);
        let id = id.as_bytes();
        Some(subject == id || is_hash_of(id, subject) || is_hash_of(subject, id))
    }

    /// A part of the request line, which must not be logged.
    pub fn target(&self) -> Cow<'_, str> {
        match &self.subject {
            Some(Subject::Path(token)) => Cow::Owned(format!("{}/{token}", self.path)),
            Some(Subject::Header(_)) | None => Cow::Borrowed(&self.path),
        }
    }
}

/// Whether a text is a hash of a token, by any algorithm that Keystone can be configured with.
fn is_hash_of(text: &[u8], token: &[u8]) -> bool {
    let is_hash = |algorithm: HashAlgorithm| algorithm.hex_digest(token).as_bytes() == text;
    text.iter().all(u8::is_ascii_hexdigit) && HashAlgorithm::ALL.into_iter().any(is_hash)
}

/// Body and subject stay out of it.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path)
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Signing certificates, or those of their CA.
    Certificates,
    /// Revocation events.
    Events,
    /// A token for the service user.
    Login,
    /// The list of revoked tokens.
    RevocationList,
    /// Whether a token is valid.
    Token,
    /// Version discovery.
    Versions,
}

impl Kind {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 6] = [
        Self::Certificates,
        Self::Events,
        Self::Login,
        Self::RevocationList,
        Self::Token,
        Self::Versions,
    ];

    /// The value of the label `request`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Events => "events",
            Self::Login => "login",
            Self::RevocationList => "revocation_list",
            Self::Token => "token",
            Self::Versions => "versions",
        }
    }
}

/// The methods that the API needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
}

impl Method {
    /// As it is written in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}
