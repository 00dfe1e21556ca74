//! Why a refresh fails.

use keystone_token::cms::CertificateError;

use super::client::error::ClientError;
use super::revocation_list::ListError;

/// Why certificates or revocation list are no newer than before.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefreshError {
    #[error("the signing certificates cannot be used: {0}")]
    Certificates(#[from] CertificateError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error("another worker's attempt to fetch them failed")]
    OtherWorker,
    #[error("other workers keep publishing others")]
    Overtaken,
    #[error("this worker's configuration is too old")]
    Retired,
    #[error(
        "certificates and revocation list take {0} bytes, more than keystone_cache_zone has room \
         for: make the zone larger"
    )]
    TooLarge(usize),
}

impl RefreshError {
    /// Whether the next attempt may have another outcome soon.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Client(error) => error.is_transient(),
            Self::OtherWorker | Self::Overtaken => true,
            Self::Certificates(_) | Self::List(_) | Self::Retired | Self::TooLarge(_) => false,
        }
    }
}
