//! Verifies the signed revocation list.

use keystone_token::cms::{SignedData, Signers};

use super::pace::Pace;

/// The content of a signed revocation list, verified.
pub(super) async fn verify_list<'a>(
    signed: &'a SignedData,
    signers: &'a Signers,
    now: i64,
    pace: Pace,
) -> Result<&'a [u8], ListError> {
    let mut verification = signers.verify_in_steps(signed, now)?;
    while verification.update(HASHED_BYTES)? {
        pace.pause().await;
    }
    Ok(verification.finish()?)
}

/// Why a revocation list cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    /// It is not what Keystone signs.
    #[error("the revocation list is malformed: {0}")]
    Cms(#[from] keystone_token::cms::CmsError),
    /// Its content is not that of a list.
    #[error("the revocation list has invalid content: {0}")]
    Content(#[from] keystone_token::revocation::RevocationError),
    /// Its signature does not hold.
    #[error("the revocation list cannot be verified: {0}")]
    Signature(#[from] keystone_token::cms::SignatureError),
}

/// What is hashed in a step.
const HASHED_BYTES: usize = 64 << 10;
