//! Why a request to the identity service failed.

use keystone_token::refusal::Refusal;
use thiserror::Error;

use crate::net::Abandoned;

/// Why there is no answer. Texts name the endpoint and the reason, never what was sent or received.
#[derive(Clone, Debug, Error)]
pub enum ClientError {
    /// There is an answer, which is invalid; asking again soon will not help.
    #[error("{uri}: {reason}")]
    InvalidResponse {
        /// The endpoint.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The service does not offer the resource.
    #[error("{uri}: not offered, status {status}")]
    NotOffered {
        /// The endpoint.
        uri: String,
        /// 403, 404 or 410.
        status: u16,
    },
    /// The module's own credentials are missing or not accepted; the operator has to correct them.
    #[error("{uri}: {reason}")]
    Refused {
        /// The endpoint.
        uri: String,
        /// Which credentials, and why.
        reason: String,
    },
    /// The token cannot be sent in a request.
    #[error(transparent)]
    TokenNotEncodable(Refusal),
    /// The service cannot be reached, or says that it cannot answer.
    #[error("{uri}: {reason}")]
    Unavailable {
        /// The endpoint that was tried last.
        uri: String,
        /// Why the endpoint is unavailable.
        reason: String,
        /// The status, if there was an answer.
        status: Option<u16>,
    },
}

impl ClientError {
    /// Whether the token is the reason, so that no endpoint can answer.
    pub(super) fn is_about_token(&self) -> bool {
        matches!(self, Self::TokenNotEncodable(_))
    }

    /// Whether the same question may be answered at the next try.
    pub(in crate::identity) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl From<Abandoned> for ClientError {
    fn from(abandoned: Abandoned) -> Self {
        Self::Unavailable {
            uri: "identity service".to_owned(),
            reason: abandoned.to_string(),
            status: None,
        }
    }
}
