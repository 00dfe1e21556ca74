//! What a token of a request has come to.

use keystone_token::result::AuthResult;

/// What a token has come to: for the request as `TokenState<Identity>`, and in one of its locations
/// as `TokenState<Record>`.
#[derive(Clone, Copy)]
pub enum TokenState<T> {
    /// The request has no such token.
    Absent,
    /// It is not valid.
    Refused(AuthResult),
    /// Nobody could say whether it is valid.
    Unavailable,
    /// It is valid, and this is whose it is.
    Valid(T),
}

impl<T> TokenState<T> {
    /// Whether it is valid.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid(_))
    }
}
