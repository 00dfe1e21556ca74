//! The state of a token of a request.

use keystone_token::result::AuthResult;

/// The state of a token: of the request it is a `TokenState<Identity>`, and in one of its locations
/// a `TokenState<Record>`.
#[derive(Clone, Copy)]
pub enum TokenState<T> {
    /// The request has no token of this kind.
    Absent,
    /// The token is not valid.
    Refused(AuthResult),
    /// The identity service was needed and did not answer.
    Unavailable,
    /// It is valid, and has this identity.
    Valid(T),
}

impl<T> TokenState<T> {
    /// What is known of a valid token.
    pub fn valid(&self) -> Option<&T> {
        match self {
            Self::Valid(known) => Some(known),
            _ => None,
        }
    }

    /// Whether the token is valid.
    pub fn is_valid(&self) -> bool {
        self.valid().is_some()
    }
}
