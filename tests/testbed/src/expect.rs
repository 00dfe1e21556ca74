//! What tests expect of answers and of what an upstream is sent.

use crate::http::Response;
use crate::upstream::Seen;
use crate::world::AUTH_URI;

/// Every header that the module may set, and so has to remove, as the reference lists them.
pub const IDENTITY_HEADERS: [&str; 39] = [
    "OpenStack-Service-System-Scope",
    "OpenStack-System-Scope",
    "X-Domain-Id",
    "X-Domain-Name",
    "X-Identity-Status",
    "X-Is-Admin-Project",
    "X-Project-Domain-Id",
    "X-Project-Domain-Name",
    "X-Project-Id",
    "X-Project-Name",
    "X-Role",
    "X-Roles",
    "X-Service-Catalog",
    "X-Service-Domain-Id",
    "X-Service-Domain-Name",
    "X-Service-Identity-Status",
    "X-Service-Is-Admin-Project",
    "X-Service-Project-Domain-Id",
    "X-Service-Project-Domain-Name",
    "X-Service-Project-Id",
    "X-Service-Project-Name",
    "X-Service-Role",
    "X-Service-Roles",
    "X-Service-Tenant",
    "X-Service-Tenant-Id",
    "X-Service-Tenant-Name",
    "X-Service-User",
    "X-Service-User-Domain-Id",
    "X-Service-User-Domain-Name",
    "X-Service-User-Id",
    "X-Service-User-Name",
    "X-Tenant",
    "X-Tenant-Id",
    "X-Tenant-Name",
    "X-User",
    "X-User-Domain-Id",
    "X-User-Domain-Name",
    "X-User-Id",
    "X-User-Name",
];

/// What an upstream is sent for the default v2.0 token (`V2HDR`).
pub const V2_USER: [(&str, &str); 12] = [
    ("X-Identity-Status", "Confirmed"),
    ("X-Is-Admin-Project", "True"),
    ("X-Project-Id", "tenant_id1"),
    ("X-Project-Name", "tenant_name1"),
    ("X-Role", "role1,role2"),
    ("X-Roles", "role1,role2"),
    ("X-Tenant", "tenant_name1"),
    ("X-Tenant-Id", "tenant_id1"),
    ("X-Tenant-Name", "tenant_name1"),
    ("X-User", "user_name1"),
    ("X-User-Id", "user_id1"),
    ("X-User-Name", "user_name1"),
];

/// What an upstream is sent on top of [`V2_USER`] for the default v3 token (`V3HDR`).
pub const V3_DOMAINS: [(&str, &str); 4] = [
    ("X-Project-Domain-Id", "domain_id1"),
    ("X-Project-Domain-Name", "domain_name1"),
    ("X-User-Domain-Id", "domain_id1"),
    ("X-User-Domain-Name", "domain_name1"),
];

/// What an upstream is sent for the default v2.0 service token (`S2HDR`).
pub const V2_SERVICE: [(&str, &str); 6] = [
    ("X-Service-Identity-Status", "Confirmed"),
    ("X-Service-Project-Id", "service_project_id1"),
    ("X-Service-Project-Name", "service_project_name1"),
    ("X-Service-Roles", "service,service_role2"),
    ("X-Service-User-Id", "service_user_id1"),
    ("X-Service-User-Name", "service_user_name1"),
];

/// What an upstream is sent on top of [`V2_SERVICE`] for the default v3 service token (`S3HDR`).
pub const V3_SERVICE_DOMAINS: [(&str, &str); 4] = [
    ("X-Service-Project-Domain-Id", "service_domain_id1"),
    ("X-Service-Project-Domain-Name", "service_domain_name1"),
    ("X-Service-User-Domain-Id", "service_domain_id1"),
    ("X-Service-User-Domain-Name", "service_domain_name1"),
];

/// What an upstream is sent where the user token is not valid.
pub const NO_USER: (&str, &str) = ("X-Identity-Status", "Invalid");

/// What an upstream is sent where there is a service token that is not valid.
pub const NO_SERVICE: (&str, &str) = ("X-Service-Identity-Status", "Invalid");

/// The whole 401 of the reference, and nothing in it that tells why.
#[track_caller]
pub fn refused(answer: &Response) {
    refused_with(answer, &[]);
}

/// The same of a location that takes Bearer tokens, if the client has sent a token or not.
#[track_caller]
pub fn refused_with_bearer(answer: &Response, has_token: bool) {
    let error = if has_token { ", error=\"invalid_token\"" } else { "" };
    refused_with(answer, &[format!("Bearer realm=\"{AUTH_URI}\"{error}")]);
}

#[track_caller]
fn refused_with(answer: &Response, more: &[String]) {
    refusal(answer, 401, "Unauthorized", "The request you have made requires authentication.");
    let keystone = format!("Keystone uri=\"{AUTH_URI}\"");
    let wanted: Vec<_> =
        [&keystone].into_iter().chain(more).map(|challenge| challenge.as_bytes()).collect();
    let challenges: Vec<_> = answer.headers.all("WWW-Authenticate").collect();
    assert_eq!(challenges, wanted);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
}

/// The whole 403 of the reference.
#[track_caller]
pub fn forbidden(answer: &Response) {
    let message = "You are not authorized to perform the requested action.";
    refusal(answer, 403, "Forbidden", message);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("WWW-Authenticate"), None);
}

/// The whole 503 of the reference.
#[track_caller]
pub fn unavailable(answer: &Response) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let body = answer.json().unwrap_or_default();
    assert_eq!(body["error"]["code"], 503, "{}", answer.text());
    assert_eq!(body["error"]["title"], "Service Unavailable");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let retry = answer.header("Retry-After").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(retry.is_some_and(|seconds| seconds > 0), "{:?}", answer.header("Retry-After"));
    assert_eq!(answer.header("WWW-Authenticate"), None);
}

/// The upstream was sent these identity headers, each once and spelled like this, and no other.
#[track_caller]
pub fn identity(seen: &Seen, expected: &[(&str, &str)]) {
    let plain = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let ours = |name: &str| {
        let name = plain(name);
        IDENTITY_HEADERS.iter().any(|header| plain(header) == name)
    };
    let sent = seen.headers.iter().filter(|(name, _)| ours(name));
    let mut sent: Vec<_> =
        sent.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    sent.sort();
    let expected =
        expected.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).into()));
    let mut expected: Vec<(String, String)> = expected.collect();
    expected.sort();
    assert_eq!(sent, expected);
}

/// The upstream was sent the default v2.0 user.
#[track_caller]
pub fn v2_user(seen: &Seen) {
    identity(seen, &V2_USER);
}

/// The upstream was sent the default v3 user.
#[track_caller]
pub fn v3_user(seen: &Seen) {
    identity(seen, &[&V2_USER[..], &V3_DOMAINS].concat());
}

/// The upstream got no identity: what `delay` does without a valid token.
#[track_caller]
pub fn no_identity(seen: &Seen) {
    identity(seen, &[NO_USER]);
}

#[track_caller]
fn refusal(answer: &Response, status: u16, title: &str, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = format!(
        "{{\"error\": {{\"code\": {status}, \"title\": \"{title}\", \"message\": \"{message}\"}}}}"
    );
    assert_eq!(answer.text(), body);
    assert_eq!(answer.header("Content-Length"), Some(body.len().to_string().as_str()));
}
