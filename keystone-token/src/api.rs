//! The wire format of Keystone's v2.0 and v3 API.
//!
//! Requests are described, not sent, and answers are read from bytes: who sends what and when is
//! the caller's business. All paths are built below a base path, because an identity URI may name
//! a directory (`https://cloud/identity`), and may name a version too (`https://cloud:5000/v3`).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::json::Object;
use crate::refusal::Refusal;
use crate::time;
use crate::token::graphic_text;

mod redirect;
mod request;
mod wire;

pub use redirect::{is_proxy_answer, Discovery, ForeignAnswer};
pub use request::{Kind, Method, Request, Subject, ACCESS_RULES_HEADER};

/// A version of the API that this crate speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ApiVersion {
    /// The API v2.0.
    V2,
    /// The API v3, any minor version.
    V3,
}

impl ApiVersion {
    /// As it is written in paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2.0",
            Self::V3 => "v3",
        }
    }

    /// The version that an id such as `v3.7`, `v2.0` or `3` belongs to.
    fn of_id(id: &str) -> Option<Self> {
        let number = id.strip_prefix(['v', 'V']).unwrap_or(id);
        let mut parts = number.split('.');
        let major = parts.next()?;
        if !parts.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
            return None;
        }
        match major {
            "2" => Some(Self::V2),
            "3" => Some(Self::V3),
            _ => None,
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which version is to be used, as configured.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum AuthVersion {
    /// The newest that the server offers.
    #[default]
    Auto,
    /// This version, without discovery.
    Fixed(ApiVersion),
}

impl FromStr for AuthVersion {
    type Err = ApiError;

    /// Takes `auto`, `v2.0` and `v3`, and as auth_token does, `v2` and any minor version of 3.
    fn from_str(text: &str) -> Result<Self, ApiError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.starts_with('v')
            .then(|| ApiVersion::of_id(text))
            .flatten()
            .map(Self::Fixed)
            .ok_or_else(|| ApiError::UnknownVersion(text.to_owned()))
    }
}

/// The part of an identity URI's path below which the versions live, and the version that the path
/// itself names, if any: `/identity/v3/` gives `/identity` and v3.
pub fn split_base_path(path: &str) -> (&str, Option<ApiVersion>) {
    let path = path.trim_end_matches('/');
    let (base, last) = path.rsplit_once('/').unwrap_or(("", path));
    let version = match last {
        "v2.0" => ApiVersion::V2,
        "v3" => ApiVersion::V3,
        _ => return (path, None),
    };
    (base.trim_end_matches('/'), Some(version))
}

/// Asks which versions there are: `GET` of the directory `base`. The answer is for
/// [`Versions::parse`].
pub fn discovery(base: &str) -> Request {
    Request::get(Kind::Versions, format!("{base}/"), JSON)
}

/// Asks whether this version is there, where the versions' parent does not tell.
pub fn version_discovery(base: &str, version: ApiVersion) -> Request {
    Request::get(Kind::Versions, format!("{base}/{version}/"), JSON)
}

/// Asks for the certificates that tokens are signed with: `GET /v2.0/certificates/signing` or
/// `GET /v3/OS-SIMPLE-CERT/certificates`, without a service token. The answer is PEM.
pub fn signing_certificates(base: &str, version: ApiVersion) -> Request {
    let path = match version {
        ApiVersion::V2 => "certificates/signing",
        ApiVersion::V3 => "OS-SIMPLE-CERT/certificates",
    };
    Request::get(Kind::Certificates, format!("{base}/{version}/{path}"), ANYTHING)
}

/// Asks for the certificates of the CA that issued them: `GET /v2.0/certificates/ca` or
/// `GET /v3/OS-SIMPLE-CERT/ca`, without a service token. The answer is PEM.
pub fn ca_certificates(base: &str, version: ApiVersion) -> Request {
    let path = match version {
        ApiVersion::V2 => "certificates/ca",
        ApiVersion::V3 => "OS-SIMPLE-CERT/ca",
    };
    Request::get(Kind::Certificates, format!("{base}/{version}/{path}"), ANYTHING)
}

/// Asks for the signed list of revoked tokens: `GET /v2.0/tokens/revoked` or
/// `GET /v3/auth/tokens/OS-PKI/revoked`. The answer is for [`signed_revocation_list`].
pub fn revocation_list(base: &str, version: ApiVersion) -> Request {
    let path = match version {
        ApiVersion::V2 => "tokens/revoked",
        ApiVersion::V3 => "auth/tokens/OS-PKI/revoked",
    };
    let mut request = Request::get(Kind::RevocationList, format!("{base}/{version}/{path}"), JSON);
    request.authenticated = true;
    request
}

/// How to ask about a token; v3 only, v2.0 knows none of it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Validation {
    /// Also about one that has expired, as long as Keystone still knows it.
    pub allow_expired: bool,
    /// With the service catalog in the answer.
    pub catalog: bool,
}

/// Asks whether a token is valid, and whose it is: `GET /v2.0/tokens/TOKEN`, or `GET
/// /v3/auth/tokens` with the token in `X-Subject-Token`. The answer is for
/// [`judge_answer`](crate::online::judge_answer).
///
/// The token must be visible ASCII, and for v2.0, where it is a part of the path, it may hold
/// nothing that could make another path of it: no token of Keystone's does. Another one is refused
/// as unknown, for Keystone would say the same.
pub fn validate(
    base: &str,
    version: ApiVersion,
    token: &str,
    how: Validation,
) -> Result<Request, Refusal> {
    if token.is_empty() || graphic_text(token.as_bytes()).is_none() {
        return Err(Refusal::UnknownToken);
    }
    let (path, subject) = match version {
        ApiVersion::V2 => ("tokens", Subject::Path(v2_segment(token)?)),
        ApiVersion::V3 => {
            let path = match (how.catalog, how.allow_expired) {
                (true, false) => "auth/tokens",
                (true, true) => "auth/tokens?allow_expired=1",
                (false, false) => "auth/tokens?nocatalog",
                (false, true) => "auth/tokens?nocatalog&allow_expired=1",
            };
            (path, Subject::Header(token.to_owned()))
        }
    };
    let path = [base, version.as_str(), path].join("/");
    let mut request = Request::get(Kind::Token, path, JSON);
    request.authenticated = true;
    request.subject = Some(subject);
    Ok(request)
}

/// Whether a body is an error document of Keystone, `{"error": {...}}`. A 404 without one comes
/// from something else on the way, such as a load balancer, and says nothing about what was asked
/// for.
pub fn is_error_document(body: &[u8]) -> bool {
    read::<wire::ErrorDocument>(body).is_some_and(|document| document.error.is_some())
}

/// Whether a status comes with what was asked for. v2.0 has both (RFC 9110, section 15.3.4), and
/// keystoneauth takes both from each version.
pub fn is_success(status: u16) -> bool {
    matches!(status, 200 | 203)
}

/// Whether a status comes with a new token: what is created has 201 in v3.
pub fn is_login_success(status: u16) -> bool {
    is_success(status) || status == 201
}

/// Whether a status comes with the versions: the root, which offers several, has 300.
pub fn is_discovery_success(status: u16) -> bool {
    is_success(status) || status == 300
}

/// Whether a status says that Keystone does not have what was asked for, or not for these
/// credentials: certificates, a revocation list or revocation events. A 404 says so only with an
/// [error document](is_error_document).
pub fn is_not_offered(status: u16) -> bool {
    matches!(status, 403 | 404 | 410)
}

/// Asks for the events that revoke tokens, `GET /v3/OS-REVOKE/events`. The answer is for
/// [`RevocationEvents`](crate::revocation_events::RevocationEvents).
pub fn revocation_events(base: &str) -> Request {
    let mut request = Request::get(Kind::Events, format!("{base}/v3/OS-REVOKE/events"), JSON);
    request.authenticated = true;
    request
}

/// Who asks for a token.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Login<'a> {
    /// An application credential; v3 only.
    ApplicationCredential {
        /// Id of the application credential.
        id: &'a str,
        /// Secret of the application credential.
        secret: &'a str,
    },
    /// A user with a password.
    Password {
        /// Name of the user.
        username: &'a str,
        /// Password of the user.
        password: &'a str,
        /// The project, or tenant, that the token is for.
        project_name: Option<&'a str>,
        /// The domain of the user; v3 only.
        user_domain_name: &'a str,
        /// The domain of the project; v3 only.
        project_domain_name: &'a str,
    },
}

/// Asks for a service token: `POST /v2.0/tokens` or `POST /v3/auth/tokens`. The answer is for
/// [`issued_token`]. An error if v2.0 does not have this kind of login.
pub fn authenticate(
    base: &str,
    version: ApiVersion,
    login: &Login<'_>,
) -> Result<Request, ApiError> {
    let (path, body) = match version {
        ApiVersion::V2 => ("tokens", serde_json::to_string(&v2_login(login)?)),
        ApiVersion::V3 => ("auth/tokens", serde_json::to_string(&v3_login(login))),
    };
    Ok(Request {
        kind: Kind::Login,
        method: Method::Post,
        path: format!("{base}/{version}/{path}"),
        body: Some(body.map_err(|_| ApiError::Unencodable)?),
        accept: JSON,
        authenticated: false,
        subject: None,
    })
}

/// The versions that a server offers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Versions {
    usable: Vec<(Stability, ApiVersion)>,
    /// All that were listed, for the log.
    ids: Vec<String>,
}

/// What the status of a version says, in keystoneauth's words; the best is the last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stability {
    /// Any other word, such as Folsom's `beta`.
    Unknown,
    Experimental,
    Deprecated,
    Current,
}

impl Stability {
    fn of_status(status: &str) -> Self {
        match status.to_ascii_lowercase().as_str() {
            "current" | "stable" | "supported" => Self::Current,
            "deprecated" => Self::Deprecated,
            "experimental" => Self::Experimental,
            _ => Self::Unknown,
        }
    }
}

impl Versions {
    /// Reads the answer to [`discovery`] (status 300, or 200) or to [`version_discovery`]. As in
    /// keystoneauth, an entry without an id or without a status counts for nothing.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let wire::Discovery { versions, version } = read(body).ok_or(ApiError::NotDiscovery)?;
        let listed = match (versions, version) {
            (Some(Value::Array(values)), _) => values,
            (Some(Value::Object(mut versions)), _) => match versions.remove("values") {
                Some(Value::Array(values)) => values,
                _ => return Err(ApiError::NotDiscovery),
            },
            (None, Some(version @ Value::Object(_))) => vec![version],
            _ => return Err(ApiError::NotDiscovery),
        };

        let mut versions = Self::default();
        for entry in &listed {
            let text = |name: &str| entry.get(name).and_then(Value::as_str);
            let Some(id) = text("id") else { continue };
            let stability = text("status").map(Stability::of_status);
            versions.usable.extend(stability.zip(ApiVersion::of_id(id)));
            versions.ids.push(printable(id));
        }
        Ok(versions)
    }

    /// The version to use: the configured one, or else the newest of those with the best status.
    pub fn choose(&self, wanted: AuthVersion) -> Result<ApiVersion, ApiError> {
        let mut usable = self.usable.iter();
        let chosen = match wanted {
            AuthVersion::Auto => usable.max().map(|(_, version)| *version),
            AuthVersion::Fixed(wanted) => {
                usable.any(|(_, version)| *version == wanted).then_some(wanted)
            }
        };
        chosen.ok_or_else(|| ApiError::NoUsableVersion(self.ids.join(", ")))
    }
}

/// A service token, as Keystone has issued it.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct IssuedToken {
    /// What to send: a secret.
    pub id: String,
    /// When it expires, by the server's clock, in Unix seconds.
    pub expires_at: i64,
    /// When it was issued, by the server's clock; `None` if the answer does not say.
    pub issued_at: Option<i64>,
}

/// The id stays out of it.
impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Reads the answer (200 or 201) to [`authenticate`]; v3 has the token in the header
/// `X-Subject-Token`.
pub fn issued_token(
    version: ApiVersion,
    subject_token: Option<&[u8]>,
    body: &[u8],
) -> Result<IssuedToken, ApiError> {
    let (id, expires, issued) = match version {
        ApiVersion::V2 => {
            let answer: wire::V2Answer = read(body).ok_or(ApiError::NotToken)?;
            let Object(token) = answer.access.0.token;
            (token.id, token.expires, token.issued_at)
        }
        ApiVersion::V3 => {
            let answer: wire::V3Answer = read(body).ok_or(ApiError::NotToken)?;
            let Object(token) = answer.token;
            let id = subject_token.and_then(|id| std::str::from_utf8(id).ok());
            let id = id.ok_or(ApiError::NotToken)?.to_owned();
            (id, token.expires_at, token.issued_at)
        }
    };
    // It goes into a header.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::NotToken);
    }
    Ok(IssuedToken {
        id,
        expires_at: time::parse(&expires).map_err(|_| ApiError::NotToken)?,
        issued_at: issued.and_then(|issued| time::parse(&issued).ok()),
    })
}

/// Whether the body of a 413 is that of OpenStack's older rate limits, and not about the size of
/// what was sent.
pub fn is_over_limit(body: &[u8]) -> bool {
    serde_json::from_slice::<Object<wire::OverLimit>>(body)
        .is_ok_and(|Object(body)| body.over_limit.is_some())
}

/// Reads the answer (200) to [`revocation_list`]: the signed list, a CMS in PEM.
pub fn signed_revocation_list(body: &[u8]) -> Result<String, ApiError> {
    let answer: wire::Revocation = read(body).ok_or(ApiError::NotRevocationList)?;
    answer.signed.ok_or(ApiError::NotRevocationList)
}

/// Why something is not as the API has it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ApiError {
    /// The server's versions are none of those that this crate speaks, or not the configured one.
    #[error("the server offers no usable version (v3 or v2.0), only [{0}]")]
    NoUsableVersion(String),
    /// Not a list of versions.
    #[error("the response is not a version discovery document")]
    NotDiscovery,
    /// The response is not a signed revocation list.
    #[error("the response contains no signed revocation list")]
    NotRevocationList,
    /// The response is not an issued token.
    #[error("the response contains no token with an expiry")]
    NotToken,
    /// A request could not be written.
    #[error("the request cannot be encoded")]
    Unencodable,
    /// The text names no version of the API.
    #[error("unknown version \"{0}\"")]
    UnknownVersion(String),
    /// An application credential with v2.0.
    #[error("application credentials need v3")]
    V3Only,
}

/// Parses a JSON object. The error has no reason, because the reason might quote a secret.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_slice::<Object<T>>(body).ok().map(|Object(document)| document)
}

fn v2_login<'a>(login: &Login<'a>) -> Result<wire::V2Login<'a>, ApiError> {
    let Login::Password { username, password, project_name, .. } = *login else {
        return Err(ApiError::V3Only);
    };
    Ok(wire::V2Login {
        auth: wire::V2Auth {
            tenant_name: project_name,
            password_credentials: wire::V2PasswordCredentials { username, password },
        },
    })
}

fn v3_login<'a>(login: &Login<'a>) -> wire::V3Login<'a> {
    let (identity, scope) = match *login {
        Login::ApplicationCredential { id, secret } => {
            let credential = wire::V3ApplicationCredential { id, secret };
            let identity = wire::V3Identity {
                methods: ["application_credential"],
                password: None,
                application_credential: Some(credential),
            };
            (identity, None)
        }
        Login::Password {
            username,
            password,
            project_name,
            user_domain_name,
            project_domain_name,
        } => {
            let domain = wire::V3Domain { name: user_domain_name };
            let user = wire::V3User { name: username, domain, password };
            let identity = wire::V3Identity {
                methods: ["password"],
                password: Some(wire::V3Password { user }),
                application_credential: None,
            };
            let scope = project_name.map(|name| {
                let domain = wire::V3Domain { name: project_domain_name };
                wire::V3Scope { project: wire::V3Project { name, domain } }
            });
            (identity, scope)
        }
    };
    wire::V3Login { auth: wire::V3Auth { identity, scope } }
}

/// A token as a segment of a path. Base64's `+` and `=` are good in one (RFC 3986, section 3.3).
fn v2_segment(token: &str) -> Result<String, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+=".contains(&byte);
    let is_other_path = token == "revoked" || token.bytes().all(|byte| byte == b'.');
    match token.bytes().all(plain) && !is_other_path {
        true => Ok(token.to_owned()),
        false => Err(Refusal::UnknownToken),
    }
}

/// What an answer says may go into the log, but not as it is.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(16).collect()
}

const JSON: &str = "application/json";
const ANYTHING: &str = "*/*";

#[cfg(test)]
mod tests;
