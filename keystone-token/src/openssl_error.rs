//! What OpenSSL reports, as a text.

use openssl::error::ErrorStack;

/// Why OpenSSL failed, in its own words. The type does not depend on the crate `openssl`, whose
/// versions are no matter of this crate's users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenSslError(pub(crate) String);

impl OpenSslError {
    pub(crate) fn new(errors: &ErrorStack) -> Self {
        Self(errors.to_string())
    }
}
