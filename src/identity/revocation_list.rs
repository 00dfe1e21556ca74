//! Verifies the signed revocation list.

use keystone_token::cms::{SignedData, Signers};
use keystone_token::revocation::RevocationList;

/// The content of a signed revocation list, verified and known to parse.
pub(super) fn verify_list(
    signed: &[u8],
    signers: &Signers,
    now: i64,
) -> Result<Vec<u8>, ListError> {
    let signed = SignedData::from_pem(signed)?;
    let content = signers.verify(&signed, now)?;
    RevocationList::from_json(content)?;
    Ok(content.to_vec())
}

/// Why a revocation list cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    /// It is not what Keystone signs.
    #[error("the revocation list is malformed: {0}")]
    Cms(#[from] keystone_token::cms::CmsError),
    /// Its content is no list.
    #[error("the revocation list is no list: {0}")]
    Content(#[from] keystone_token::revocation::RevocationError),
    /// Its signature does not hold.
    #[error("the revocation list cannot be verified: {0}")]
    Signature(#[from] keystone_token::cms::SignatureError),
}
