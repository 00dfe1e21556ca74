//! Why a request is refused.

use crate::cms::{CmsError, SignatureError};
use crate::fernet::FernetError;
use crate::format::ArmourError;
use crate::identity::IdentityError;
use crate::jws::JwsError;
use crate::result::AuthResult;

/// The reason: [`Refusal::result`] has it in a word, `Display` in a sentence for the log. Neither shows
/// any of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The token is one of an application credential that may only do certain things, and this is
    /// none of them, or it cannot be told.
    #[error("the token's access rules do not permit the request")]
    AccessRules,
    /// Changed on the way, or signed by another key.
    #[error("the signature does not match the content")]
    BadSignature,
    /// The token is bound to something that the request does not show.
    #[error("the token's bind does not match: {0}")]
    BindFailed(BindFailure),
    /// The signing certificate or its CA is past its time.
    #[error("the signing certificate has expired")]
    CertificateExpired,
    /// The signing certificate or its CA is ahead of its time, or the clock is behind.
    #[error("the signing certificate is not valid yet")]
    CertificateNotYetValid,
    /// The token's time is over.
    #[error("the token has expired")]
    Expired,
    /// A valid token that lacks what the location requires.
    #[error("the token does not have what the location requires")]
    Forbidden,
    /// The token is not in the form that Keystone issues.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A v2 token that is not scoped to a tenant.
    #[error("the token is not scoped to a tenant")]
    NoTenant,
    /// The request has no token.
    #[error("the request has no token")]
    NoToken,
    /// The token is on the revocation list.
    #[error("the token was revoked")]
    Revoked,
    /// A service token that has none of the roles that make it one.
    #[error("the service token has none of the required roles")]
    ServiceRole,
    /// Signed with a certificate that is not known.
    #[error("the signer is not a known signing certificate")]
    UnknownSigner,
    /// Keystone does not know it: it never did, or the token has expired or was revoked.
    #[error("the identity service does not know the token")]
    UnknownToken,
}

impl Refusal {
    /// The word that the request is counted under.
    pub fn result(&self) -> AuthResult {
        match self {
            Self::AccessRules => AuthResult::AccessRules,
            Self::BadSignature => AuthResult::BadSignature,
            Self::BindFailed(_) => AuthResult::BindFailed,
            Self::CertificateExpired => AuthResult::CertificateExpired,
            Self::CertificateNotYetValid => AuthResult::CertificateNotYetValid,
            Self::Expired => AuthResult::Expired,
            Self::Forbidden => AuthResult::Forbidden,
            Self::Malformed(_) => AuthResult::Malformed,
            Self::NoTenant => AuthResult::NoTenant,
            Self::NoToken => AuthResult::NoToken,
            Self::Revoked => AuthResult::Revoked,
            Self::ServiceRole => AuthResult::ServiceRole,
            Self::UnknownSigner => AuthResult::UnknownSigner,
            Self::UnknownToken => AuthResult::UnknownToken,
        }
    }

    /// Whether Keystone may have got a new signing certificate, with which the token would pass.
    pub fn may_be_rotation(&self) -> bool {
        matches!(self, Self::BadSignature | Self::CertificateExpired | Self::UnknownSigner)
    }

    /// Whether it says nothing about the token: the certificate cannot be used at this time, and
    /// Keystone itself has to be asked.
    pub fn is_undecided(&self) -> bool {
        matches!(self, Self::CertificateExpired | Self::CertificateNotYetValid)
    }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::BadSignature => Self::BadSignature,
            SignatureError::Expired => Self::CertificateExpired,
            SignatureError::NotYetValid => Self::CertificateNotYetValid,
            SignatureError::UnknownSigner => Self::UnknownSigner,
        }
    }
}

impl From<IdentityError> for Refusal {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::NoTenant => Self::NoTenant,
            error => Self::Malformed(Malformed::Identity(error)),
        }
    }
}

/// What is wrong with a token's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The text cannot be decoded.
    #[error("the token cannot be decoded: {0}")]
    Armour(ArmourError),
    /// The CMS message is malformed.
    #[error(transparent)]
    Cms(CmsError),
    /// It claims to be a Fernet token.
    #[error("the Fernet token is invalid: {0}")]
    Fernet(FernetError),
    /// The content is not that of a token.
    #[error("the token's content is invalid: {0}")]
    Identity(IdentityError),
    /// It claims to be a JWS token.
    #[error("the JWS token is invalid: {0}")]
    Jws(JwsError),
    /// A byte is not allowed in a token.
    #[error("the token contains invalid characters")]
    Text,
    /// The token is longer than any unsigned token of Keystone.
    #[error("the token is longer than any unsigned token of Keystone")]
    TooLong,
}

/// Which of a token's binds fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindFailure {
    /// The client has no certificate.
    #[error("the client has shown no certificate")]
    CertificateMissing,
    /// What is configured as the client's certificate is none.
    #[error("the value of keystone_client_certificate is not a certificate in PEM")]
    CertificateUnreadable,
    /// The request has no Negotiate authentication.
    #[error("the request is not authenticated with Kerberos")]
    KerberosMissing,
    /// The request is authenticated as another principal.
    #[error("the request is authenticated as another Kerberos principal")]
    KerberosPrincipal,
    /// The mechanism that the configuration names is not in the token.
    #[error("the token is not bound to the required mechanism")]
    NotNamed,
    /// The client has another certificate.
    #[error("the client has shown another certificate")]
    OtherCertificate,
    /// The token has no bind, and one is required.
    #[error("the token is not bound to anything")]
    Unbound,
    /// The mechanism cannot be checked.
    #[error("the token is bound to an unknown mechanism")]
    UnknownMechanism,
}

/// Refuses what has expired: the second in which a token expires is the first in which it is not
/// valid any more.
pub(crate) fn check_expiry(expires_at: i64, now: i64) -> Result<(), Refusal> {
    match now < expires_at {
        true => Ok(()),
        false => Err(Refusal::Expired),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_certificate_could_help_against_an_unknown_or_expired_one() {
        for (error, result, may_be_rotation, is_undecided) in [
            (SignatureError::BadSignature, AuthResult::BadSignature, true, false),
            (SignatureError::Expired, AuthResult::CertificateExpired, true, true),
            (SignatureError::NotYetValid, AuthResult::CertificateNotYetValid, false, true),
            (SignatureError::UnknownSigner, AuthResult::UnknownSigner, true, false),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.result(), result);
            assert_eq!(refusal.may_be_rotation(), may_be_rotation);
            assert_eq!(refusal.is_undecided(), is_undecided);
        }
        assert!(!Refusal::Expired.may_be_rotation());
    }
}
