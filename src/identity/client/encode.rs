//! Requests to the identity service as HTTP requests.

use ::http::header::{HeaderName, HeaderValue, ACCEPT, CONTENT_TYPE};
use ::http::Request;
use bytes::Bytes;
use keystone_token::api;
use keystone_token::secret::Secret;
use zeroize::Zeroizing;

/// A request for `hyper`, with the service token where it needs one.
pub(super) fn encode(
    request: &api::Request,
    body: Option<String>,
    token: Option<&Secret>,
) -> Result<Request<Bytes>, EncodeError> {
    let mut encoded = Request::builder()
        .method(request.method.as_str())
        .uri(&*request.target())
        .header(ACCEPT, request.accept);
    if let Some(api::Subject::Header(subject)) = &request.subject {
        let (name, value) = api::ACCESS_RULES_HEADER;
        encoded = encoded.header(X_SUBJECT_TOKEN, secret_value(subject)?).header(name, value);
    }
    if body.is_some() {
        encoded = encoded.header(CONTENT_TYPE, "application/json");
    }
    if let Some(token) = token.filter(|_| request.authenticated) {
        encoded = encoded.header(X_AUTH_TOKEN, secret_value(token.expose())?);
    }
    let body = body.map(|body| Bytes::from_owner(Zeroizing::new(body.into_bytes())));
    Ok(encoded.body(body.unwrap_or_default())?)
}

/// Why a request cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error(transparent)]
    Http(#[from] ::http::Error),
    #[error("a token cannot be sent in a header")]
    Token,
}

fn secret_value(token: &str) -> Result<HeaderValue, EncodeError> {
    let mut value = HeaderValue::from_str(token).map_err(|_| EncodeError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const X_SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");
