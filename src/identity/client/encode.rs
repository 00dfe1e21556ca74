//! Requests to the identity service as HTTP requests.

use ::http::header::{HeaderName, HeaderValue, ACCEPT, CONTENT_TYPE};
use ::http::uri::InvalidUri;
use ::http::{Method, Request};
use bytes::Bytes;
use keystone_token::api;
use keystone_token::secret::Secret;
use zeroize::Zeroizing;

/// The body of a request, which may hold credentials.
pub(super) fn secret_body(body: String) -> Bytes {
    Bytes::from_owner(Zeroizing::new(body.into_bytes()))
}

/// A request for `hyper`, with the service token where it needs one.
pub(super) fn encode(
    request: &api::Request,
    body: &Bytes,
    token: Option<&Secret>,
) -> Result<Request<Bytes>, EncodeError> {
    let mut encoded = Request::new(body.clone());
    *encoded.method_mut() = match request.method {
        api::Method::Get => Method::GET,
        api::Method::Post => Method::POST,
    };
    *encoded.uri_mut() = request.target().parse()?;
    let headers = encoded.headers_mut();
    // Those of the client come to them.
    headers.reserve(HEADERS);
    headers.insert(ACCEPT, HeaderValue::from_static(request.accept));
    if let Some(api::Subject::Header(subject)) = &request.subject {
        let (name, value) = api::ACCESS_RULES_HEADER;
        headers.insert(X_SUBJECT_TOKEN, secret_value(subject)?);
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(token) = token.filter(|_| request.authenticated) {
        headers.insert(X_AUTH_TOKEN, secret_value(token.expose())?);
    }
    Ok(encoded)
}

/// Why a request cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error(transparent)]
    Uri(#[from] InvalidUri),
    #[error("a token cannot be sent in a header")]
    Token,
}

fn secret_value(token: &str) -> Result<HeaderValue, EncodeError> {
    let mut value = HeaderValue::from_str(token).map_err(|_| EncodeError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// How many headers a question about a token has.
const HEADERS: usize = 6;

const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
pub(super) const X_SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");
