//! The wire format of Keystone's v2.0 and v3 API.
//!
//! Requests are described, not sent, and answers are read from bytes: who sends what and when is
//! the caller's business. All paths are built below a base path, because an identity URI may name
//! a directory (`https://cloud/identity`), and may name a version too (`https://cloud:5000/v3`).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use crate::json::Object;
use crate::time;

mod wire;

/// A version of the API that this crate speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ApiVersion {
    /// v2.0.
    V2,
    /// v3, any minor version.
    V3,
}

impl ApiVersion {
    /// As it stands in paths.
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
    /// This one, without asking.
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

/// A request to Keystone.
#[derive(Clone, Eq, PartialEq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path, with the base path. It may be logged: none holds a secret.
    pub path: String,
    /// Its body, JSON; it may hold a password.
    pub body: Option<String>,
    /// What to accept.
    pub accept: &'static str,
    /// Whether it needs the service token in `X-Auth-Token`.
    pub authenticated: bool,
}

impl Request {
    fn get(path: String, accept: &'static str) -> Self {
        Self { method: Method::Get, path, body: None, accept, authenticated: false }
    }
}

/// The body stays out of it.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path)
    }
}

/// A request's method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
}

impl Method {
    /// As it stands in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// Asks which versions there are.
pub fn discovery(base: &str) -> Request {
    Request::get(format!("{base}/"), JSON)
}

/// Asks whether this version is there, where the versions' parent does not tell.
pub fn version_discovery(base: &str, version: ApiVersion) -> Request {
    Request::get(format!("{base}/{version}/"), JSON)
}

/// Asks for the certificates that tokens are signed with.
pub fn signing_certificates(base: &str, version: ApiVersion) -> Request {
    let path = match version {
        ApiVersion::V2 => "certificates/signing",
        ApiVersion::V3 => "OS-SIMPLE-CERT/certificates",
    };
    Request::get(format!("{base}/{version}/{path}"), ANYTHING)
}

/// Asks for the certificates that issued them.
pub fn ca_certificates(base: &str, version: ApiVersion) -> Request {
    let path = match version {
        ApiVersion::V2 => "certificates/ca",
        ApiVersion::V3 => "OS-SIMPLE-CERT/ca",
    };
    Request::get(format!("{base}/{version}/{path}"), ANYTHING)
}

/// Asks for the signed list of revoked tokens.
pub fn revocation_list(base: &str, version: ApiVersion) -> Request {
    let path = match version {
        ApiVersion::V2 => "tokens/revoked",
        ApiVersion::V3 => "auth/tokens/OS-PKI/revoked",
    };
    let mut request = Request::get(format!("{base}/{version}/{path}"), JSON);
    request.authenticated = true;
    request
}

/// Who asks for a token.
#[derive(Clone, Copy)]
pub enum Login<'a> {
    /// An application credential; v3 only.
    ApplicationCredential {
        /// Its id.
        id: &'a str,
        /// Its secret.
        secret: &'a str,
    },
    /// A user with a password.
    Password {
        /// The user's name.
        username: &'a str,
        /// The password.
        password: &'a str,
        /// The project, or tenant, that the token is for.
        project_name: Option<&'a str>,
        /// The domain of the user; v3 only.
        user_domain_name: &'a str,
        /// The domain of the project; v3 only.
        project_domain_name: &'a str,
    },
}

/// Asks for a token.
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
        method: Method::Post,
        path: format!("{base}/{version}/{path}"),
        body: Some(body.map_err(|_| ApiError::Unencodable)?),
        accept: JSON,
        authenticated: false,
    })
}

/// The versions that a server offers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Versions {
    usable: Vec<ApiVersion>,
    /// All that were listed, for the log.
    ids: Vec<String>,
}

impl Versions {
    /// Reads the answer to [`discovery`] (status 300, or 200) or to [`version_discovery`].
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let listed = match read(body).ok_or(ApiError::NotDiscovery)? {
            wire::Discovery { versions: Some(wire::Versions::Values { values }), .. } => values,
            wire::Discovery { versions: Some(wire::Versions::Plain(values)), .. } => values,
            wire::Discovery { version: Some(version), .. } => vec![version],
            _ => return Err(ApiError::NotDiscovery),
        };

        let mut versions = Self::default();
        for Object(version) in listed {
            let status = version.status.to_ascii_lowercase();
            if matches!(status.as_str(), "stable" | "current" | "supported" | "deprecated") {
                versions.usable.extend(ApiVersion::of_id(&version.id));
            }
            versions.ids.push(printable(&version.id));
        }
        Ok(versions)
    }

    /// The version to use: the configured one, or the newest.
    pub fn choose(&self, wanted: AuthVersion) -> Result<ApiVersion, ApiError> {
        let chosen = match wanted {
            AuthVersion::Auto => self.usable.iter().max().copied(),
            AuthVersion::Fixed(version) => self.usable.contains(&version).then_some(version),
        };
        chosen.ok_or_else(|| ApiError::NoUsableVersion(self.ids.join(", ")))
    }
}

/// A token as issued.
#[derive(Clone, Eq, PartialEq)]
pub struct IssuedToken {
    /// What to send: a secret.
    pub id: String,
    /// When it ends by the server's clock, in unix seconds.
    pub expires_at: i64,
    /// When it was made by the server's clock, if the answer tells.
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

/// Reads the answer (200) to [`revocation_list`]: the signed list, a CMS in PEM.
pub fn signed_revocation_list(body: &[u8]) -> Result<String, ApiError> {
    let answer: wire::Revocation = read(body).ok_or(ApiError::NotRevocationList)?;
    answer.signed.ok_or(ApiError::NotRevocationList)
}

/// Why something is not as the API has it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ApiError {
    /// The server's versions are none of those that this crate speaks, or not the configured one.
    #[error("the server offers none of the versions v3 and v2.0 that could be used, only [{0}]")]
    NoUsableVersion(String),
    /// Not a list of versions.
    #[error("answer is not a version discovery document")]
    NotDiscovery,
    /// Not a revocation list.
    #[error("answer holds no signed revocation list")]
    NotRevocationList,
    /// Not a token.
    #[error("answer holds no token with an expiry")]
    NotToken,
    /// A request could not be written.
    #[error("request cannot be encoded")]
    Unencodable,
    /// Not a version.
    #[error("unknown version \"{0}\"")]
    UnknownVersion(String),
    /// An application credential with v2.0.
    #[error("application credentials need v3")]
    V3Only,
}

/// Reads a JSON object. Why it is none is not told: the reason might quote it.
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

/// What an answer says may go into the log, but not as it is.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(16).collect()
}

const JSON: &str = "application/json";
const ANYTHING: &str = "*/*";

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    /// As Keystone 10 answers `GET /`.
    const ROOT: &str = r#"{"versions": {"values": [
        {"status": "stable", "updated": "2016-10-06T00:00:00Z", "media-types": [{"base":
         "application/json", "type": "application/vnd.openstack.identity-v3+json"}], "id": "v3.7",
         "links": [{"href": "http://127.0.0.1:5000/v3/", "rel": "self"}]},
        {"status": "deprecated", "updated": "2016-08-04T00:00:00Z", "id": "v2.0", "links": []}]}}"#;

    fn versions(text: &str) -> Versions {
        Versions::parse(text.as_bytes()).unwrap()
    }

    fn body(request: &Request) -> Value {
        serde_json::from_str(request.body.as_deref().unwrap()).unwrap()
    }

    fn password(project_name: Option<&'static str>) -> Login<'static> {
        Login::Password {
            username: "swift",
            password: "pa\"ss",
            project_name,
            user_domain_name: "Default",
            project_domain_name: "Other",
        }
    }

    #[test]
    fn configured_versions() {
        for text in ["v3", "v3.0", "v3.1", "v3.9", "v3.3.5"] {
            assert_eq!(text.parse(), Ok(AuthVersion::Fixed(ApiVersion::V3)), "{text}");
        }
        for text in ["v2.0", "v2"] {
            assert_eq!(text.parse(), Ok(AuthVersion::Fixed(ApiVersion::V2)), "{text}");
        }
        assert_eq!("auto".parse(), Ok(AuthVersion::Auto));
        for text in ["", "v", "3", "v1", "v10", "v3.", "v3.x", "v33", "V3", "Auto", "v3 "] {
            assert!(text.parse::<AuthVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_with_both_versions() {
        let both = versions(ROOT);
        assert_eq!(both.choose(AuthVersion::Auto), Ok(ApiVersion::V3));
        for version in [ApiVersion::V2, ApiVersion::V3] {
            assert_eq!(both.choose(AuthVersion::Fixed(version)), Ok(version));
        }
    }

    #[test]
    fn other_forms_of_discovery() {
        let plain = versions(r#"{"versions": [{"id": "v2.0", "status": "CURRENT"}]}"#);
        assert_eq!(plain.choose(AuthVersion::Auto), Ok(ApiVersion::V2));
        assert!(plain.choose(AuthVersion::Fixed(ApiVersion::V3)).is_err());
        let one = versions(r#"{"version": {"id": "v3.14", "status": "stable", "links": []}}"#);
        assert_eq!(one.choose(AuthVersion::Auto), Ok(ApiVersion::V3));
    }

    #[test]
    fn a_server_without_a_usable_version() {
        let newer = versions(r#"{"versions": {"values": [{"id": "v4.0", "status": "stable"}]}}"#);
        let error = newer.choose(AuthVersion::Auto).unwrap_err();
        assert!(error.to_string().contains("[v4.0]"), "{error}");

        let early = versions(r#"{"versions": {"values": [{"id": "v3", "status": "beta"}]}}"#);
        assert!(early.choose(AuthVersion::Auto).is_err());
        let none = versions(r#"{"versions": {"values": []}}"#);
        assert!(none.choose(AuthVersion::Auto).is_err());
        let odd = versions("{\"version\": {\"id\": \"v9\\n\\u0007\", \"status\": \"stable\"}}");
        let error = odd.choose(AuthVersion::Auto).unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error}");
    }

    #[test]
    fn what_is_no_discovery() {
        for text in ["", "{}", "[]", "null", "<html>", r#"{"versions": 3}"#, r#"{"version": []}"#] {
            assert_eq!(Versions::parse(text.as_bytes()), Err(ApiError::NotDiscovery), "{text}");
        }
    }

    #[test]
    fn base_paths() {
        for (path, base, version) in [
            ("", "", None),
            ("/", "", None),
            ("/v3", "", Some(ApiVersion::V3)),
            ("/v3/", "", Some(ApiVersion::V3)),
            ("/v2.0", "", Some(ApiVersion::V2)),
            ("/identity", "/identity", None),
            ("/identity/v3/", "/identity", Some(ApiVersion::V3)),
            ("/newadmin//", "/newadmin", None),
            ("/v3x", "/v3x", None),
            ("/v3/auth", "/v3/auth", None),
        ] {
            assert_eq!(split_base_path(path), (base, version), "{path}");
        }
    }

    #[test]
    fn paths() {
        use ApiVersion::{V2, V3};
        let path = |request: Request| {
            assert_eq!(request.method, Method::Get);
            assert!(!request.authenticated);
            request.path
        };
        assert_eq!(path(discovery("")), "/");
        assert_eq!(path(discovery("/identity")), "/identity/");
        assert_eq!(path(version_discovery("", V3)), "/v3/");
        assert_eq!(path(signing_certificates("", V2)), "/v2.0/certificates/signing");
        assert_eq!(path(ca_certificates("/new", V2)), "/new/v2.0/certificates/ca");
        assert_eq!(path(signing_certificates("", V3)), "/v3/OS-SIMPLE-CERT/certificates");
        assert_eq!(path(ca_certificates("", V3)), "/v3/OS-SIMPLE-CERT/ca");

        for (version, path) in
            [(V2, "/v2.0/tokens/revoked"), (V3, "/v3/auth/tokens/OS-PKI/revoked")]
        {
            let request = revocation_list("", version);
            assert_eq!(request.path, path);
            assert!(request.authenticated);
        }
    }

    #[test]
    fn a_v2_login() {
        let request =
            authenticate("/identity", ApiVersion::V2, &password(Some("service"))).unwrap();
        assert_eq!(
            (request.method, request.path.as_str()),
            (Method::Post, "/identity/v2.0/tokens")
        );
        assert_eq!(
            body(&request),
            json!({"auth": {
                "tenantName": "service",
                "passwordCredentials": {"username": "swift", "password": "pa\"ss"}
            }})
        );
        let request = authenticate("", ApiVersion::V2, &password(None)).unwrap();
        assert!(body(&request)["auth"].get("tenantName").is_none());

        let login = Login::ApplicationCredential { id: "x", secret: "y" };
        assert_eq!(authenticate("", ApiVersion::V2, &login), Err(ApiError::V3Only));
    }

    #[test]
    fn a_v3_login() {
        let request = authenticate("", ApiVersion::V3, &password(Some("service"))).unwrap();
        assert_eq!((request.method, request.path.as_str()), (Method::Post, "/v3/auth/tokens"));
        assert_eq!(
            body(&request),
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {
                    "name": "swift", "domain": {"name": "Default"}, "password": "pa\"ss"
                }}},
                "scope": {"project": {"name": "service", "domain": {"name": "Other"}}}
            }})
        );
        let request = authenticate("", ApiVersion::V3, &password(None)).unwrap();
        assert!(body(&request)["auth"].get("scope").is_none());
    }

    #[test]
    fn an_application_credential() {
        let login = Login::ApplicationCredential { id: "x", secret: "y" };
        let request = authenticate("", ApiVersion::V3, &login).unwrap();
        assert_eq!(
            body(&request),
            json!({"auth": {"identity": {
                "methods": ["application_credential"],
                "application_credential": {"id": "x", "secret": "y"}
            }}})
        );
    }

    #[test]
    fn what_is_sent_and_received_is_not_printed() {
        let request = authenticate("", ApiVersion::V3, &password(None)).unwrap();
        assert_eq!(format!("{request:?}"), "POST /v3/auth/tokens");
        let token = IssuedToken { id: "hidden".into(), expires_at: 1, issued_at: None };
        assert!(!format!("{token:?}").contains("hidden"));
    }

    #[test]
    fn a_v2_token() {
        let answer = br#"{"access": {"token": {"issued_at": "2026-11-23T06:21:49.000000Z",
            "expires": "2046-11-23T02:37:08Z", "id": "MIIJ", "tenant": {"id": "0"}},
            "serviceCatalog": [], "user": {}, "metadata": {}}}"#;
        let token = issued_token(ApiVersion::V2, None, answer).unwrap();
        assert_eq!(token.id, "MIIJ");
        assert_eq!(token.expires_at, 2_426_553_428);
        assert_eq!(token.issued_at, Some(1_795_414_909));
    }

    #[test]
    fn a_v3_token() {
        let answer = br#"{"token": {"methods": ["password"],
            "expires_at": "2046-11-23T02:37:06.000000Z", "roles": []}}"#;
        let token = issued_token(ApiVersion::V3, Some(b"gAAAAAB"), answer).unwrap();
        assert_eq!((token.id.as_str(), token.issued_at), ("gAAAAAB", None));
        assert_eq!(token.expires_at, 2_426_553_426);

        for header in [None, Some(&b""[..]), Some(b"a b"), Some(b"a\r\nb"), Some(b"\xff")] {
            let refused = issued_token(ApiVersion::V3, header, answer);
            assert_eq!(refused, Err(ApiError::NotToken), "{header:?}");
        }
        for answer in ["", "{}", r#"{"token": {}}"#, r#"{"token": {"expires_at": "soon"}}"#] {
            let refused = issued_token(ApiVersion::V3, Some(b"gAAAAAB"), answer.as_bytes());
            assert_eq!(refused, Err(ApiError::NotToken), "{answer}");
        }
    }

    #[test]
    fn revocation_answers() {
        let answer = br#"{"signed": "-----BEGIN CMS-----\nMIIF\n-----END CMS-----\n"}"#;
        let signed = signed_revocation_list(answer).unwrap();
        assert!(signed.starts_with("-----BEGIN CMS-----\nMIIF"));
        for answer in ["", "{}", "[]", r#"{"signed": null}"#, r#"{"signed": 1}"#, "\u{fffd}"] {
            let refused = signed_revocation_list(answer.as_bytes());
            assert_eq!(refused, Err(ApiError::NotRevocationList), "{answer}");
        }
    }
}
