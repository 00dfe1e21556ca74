//! The decision about a token, from its text to an identity: who can judge it, and whether a signed
//! one is valid. [`online`](crate::online) decides about those that Keystone is asked about.

use std::fmt;

use crate::cms::{CmsError, SignatureError, SignedData, Signers};
use crate::fernet::FernetError;
use crate::format::{self, ArmourError, TokenFormat, MAX_UNSIGNED_LEN};
use crate::identity::{Identity, IdentityError};
use crate::jws::JwsError;
use crate::result::AuthResult;

/// Tells who can judge a token, and refuses what no token of Keystone's looks like. Only the text
/// is looked at, not what is in it.
pub fn classify(token: &[u8]) -> Result<TokenClass<'_>, Refusal> {
    if token.is_empty() {
        return Err(Refusal::NoToken);
    }
    if TokenFormat::of(token).is_signed() {
        return Ok(TokenClass::Signed(token));
    }
    match token.len() > MAX_UNSIGNED_LEN {
        true => Err(Malformed::TooLong.into()),
        false => Ok(TokenClass::Opaque(token)),
    }
}

/// A token as text, if it is visible ASCII, as all of Keystone's are.
pub(crate) fn graphic_text(token: &[u8]) -> Option<&str> {
    // Up to the end, whatever comes before: so many bytes are looked at together.
    let is_graphic = token.iter().fold(true, |all, byte| all & byte.is_ascii_graphic());
    std::str::from_utf8(token).ok().filter(|_| is_graphic)
}

/// A token, by who can judge it. Of its bytes nothing is known yet: a token that is found in a cache
/// is not looked through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TokenClass<'t> {
    /// UUID, Fernet, JWS or unknown: only Keystone can say whether it is valid. It goes to
    /// [`check_form`](crate::online::check_form).
    Opaque(&'t [u8]),
    /// PKI or PKIZ: it goes to [`parse`].
    Signed(&'t [u8]),
}

/// Does not print the token.
impl fmt::Debug for TokenClass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opaque(_) => "Opaque",
            Self::Signed(_) => "Signed",
        })
    }
}

/// Takes a PKI or PKIZ token apart. Nothing is verified yet.
pub fn parse(token: &[u8]) -> Result<ParsedToken<'_>, Refusal> {
    let format = TokenFormat::of(token);
    let der = format::unarmour(token, format).map_err(Malformed::Armour)?;
    let signed = SignedData::parse(der).map_err(Malformed::Cms)?;
    Ok(ParsedToken { text: token, format, signed })
}

/// A token that has the form of one, and whose signature is not verified.
#[derive(Clone)]
pub struct ParsedToken<'t> {
    text: &'t [u8],
    format: TokenFormat,
    signed: SignedData,
}

impl<'t> ParsedToken<'t> {
    /// Verifies the signature, reads the content, and looks at the expiry. What remains is whether
    /// the token was revoked since.
    pub fn verify(self, signers: &Signers, now: i64) -> Result<VerifiedToken<'t>, Refusal> {
        let verified = self.verify_signature(signers, now)?;
        verified.check_expiry(now)?;
        Ok(verified)
    }

    /// The same without the expiry, for a caller that wants to know whose token expired.
    pub fn verify_signature(
        self,
        signers: &Signers,
        now: i64,
    ) -> Result<VerifiedToken<'t>, Refusal> {
        let content = signers.verify(&self.signed, now)?;
        let identity = Identity::from_json(content)?;
        Ok(VerifiedToken { parsed: self, identity })
    }

    /// The token as it was sent.
    pub fn text(&self) -> &'t [u8] {
        self.text
    }

    /// PKI or PKIZ.
    pub fn format(&self) -> TokenFormat {
        self.format
    }

    /// The CMS message of the token.
    pub fn signed_data(&self) -> &SignedData {
        &self.signed
    }
}

/// Does not print the token.
impl fmt::Debug for ParsedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParsedToken")
            .field("format", &self.format)
            .field("signed", &self.signed)
            .finish_non_exhaustive()
    }
}

/// A token that Keystone signed.
#[derive(Clone, Debug)]
pub struct VerifiedToken<'t> {
    parsed: ParsedToken<'t>,
    identity: Identity,
}

impl<'t> VerifiedToken<'t> {
    /// Refuses a token that has expired.
    pub fn check_expiry(&self, now: i64) -> Result<(), Refusal> {
        self.identity.check_expiry(now)
    }

    /// The user and the scope of the token.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The user and the scope of the token.
    pub fn into_identity(self) -> Identity {
        self.identity
    }

    /// The token that was verified.
    pub fn parsed(&self) -> &ParsedToken<'t> {
        &self.parsed
    }
}

impl Identity {
    /// Refuses an identity whose token has expired at `now`, in unix seconds.
    pub fn check_expiry(&self, now: i64) -> Result<(), Refusal> {
        check_expiry(self.expires_at, now)
    }
}

/// Refuses what has expired: the second in which a token expires is the first in which it is not
/// valid any more.
pub(crate) fn check_expiry(expires_at: i64, now: i64) -> Result<(), Refusal> {
    match now < expires_at {
        true => Ok(()),
        false => Err(Refusal::Expired),
    }
}

/// Why a request is refused: [`Refusal::result`] has it in a word, `Display` in a sentence for the
/// log. Neither shows any of the token.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_or_opaque_or_none_at_all() {
        let too_long = "a".repeat(MAX_UNSIGNED_LEN + 1);
        for (token, class) in [
            ("MII", Ok(TokenClass::Signed(b"MII"))),
            ("PKIZ_\u{e4}", Ok(TokenClass::Signed("PKIZ_\u{e4}".as_bytes()))),
            ("gAAAAABYq", Ok(TokenClass::Opaque(b"gAAAAABYq"))),
            ("a.b.c", Ok(TokenClass::Opaque(b"a.b.c"))),
            (&too_long[1..], Ok(TokenClass::Opaque(&too_long.as_bytes()[1..]))),
            ("", Err(Refusal::NoToken)),
            (&too_long, Err(Malformed::TooLong.into())),
        ] {
            assert_eq!(classify(token.as_bytes()), class, "{token}");
        }
        assert_eq!(classify(b"MII\xff"), Ok(TokenClass::Signed(b"MII\xff")));
        assert!(matches!(parse(b"MII\xff"), Err(Refusal::Malformed(_))));
        assert_eq!(classify(b"\xff"), Ok(TokenClass::Opaque(b"\xff")));
        // A line in a log must not show the token.
        assert_eq!(format!("{:?}", classify(b"secret").unwrap()), "Opaque");
    }

    #[test]
    fn only_signed_tokens_are_parsed() {
        for token in ["ec6c0710ec2f471498484c1b53ab4f9d", "gAAAAABYq", "a.b.c", "", "hello"] {
            let refusal = parse(token.as_bytes()).unwrap_err();
            assert_eq!(refusal.result(), AuthResult::Malformed);
        }
        let garbage = format!("MII{}", "ABCD0123456789".repeat(70));
        for token in [&garbage, &format!("{garbage}AAA"), "PKIZ_AAAA", "MII", "PKIZ_"] {
            let refusal = parse(token.as_bytes()).unwrap_err();
            assert_eq!(refusal.result(), AuthResult::Malformed);
            assert!(!refusal.may_be_rotation());
        }
    }

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
