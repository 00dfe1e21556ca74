//! The way of a signed token, from its text to an identity: the one place that decides offline.

use std::fmt;

use crate::cms::{CmsError, SignatureError, SignedData, Signers};
use crate::fernet::{self, FernetError};
use crate::format::{self, ArmourError, TokenFormat};
use crate::identity::{Identity, IdentityError};
use crate::jws::{Jws, JwsError, JwsKeys};

/// Takes a PKI or PKIZ token apart. Nothing is verified yet.
pub fn parse(token: &[u8], format: TokenFormat) -> Result<ParsedToken<'_>, Refusal> {
    let der = format::unarmour(token, format).map_err(Malformed::Armour)?;
    let signed = SignedData::parse(der).map_err(Malformed::Cms)?;
    Ok(ParsedToken { text: token, format, signed })
}

/// What is known about tokens that only Keystone can judge.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnlineRules<'k> {
    /// The time, in unix seconds.
    pub now: i64,
    /// Whether Keystone is asked about tokens that have expired too.
    pub allow_expired: bool,
    /// Keystone's public keys for JWS tokens, where they are known.
    pub jws_keys: Option<&'k JwsKeys>,
}

/// Refuses a token that claims to be Fernet or JWS and cannot be valid, so that Keystone need not
/// be asked about it.  That a token is not refused says nothing about it.
pub fn check_form(
    token: &[u8],
    format: TokenFormat,
    rules: &OnlineRules<'_>,
) -> Result<(), Refusal> {
    match format {
        TokenFormat::Fernet => Ok(fernet::check(token, rules.now).map_err(Malformed::Fernet)?),
        TokenFormat::Jws => check_jws(token, rules),
        TokenFormat::Pki | TokenFormat::Pkiz | TokenFormat::Unknown | TokenFormat::Uuid => Ok(()),
    }
}

fn check_jws(token: &[u8], rules: &OnlineRules<'_>) -> Result<(), Refusal> {
    let jws = Jws::parse(token).map_err(Malformed::Jws)?;
    jws.check_issue(rules.now).map_err(Malformed::Jws)?;
    if jws.has_expired(rules.now) && !rules.allow_expired {
        return Err(Refusal::Expired);
    }
    match rules.jws_keys {
        Some(keys) if !keys.verify(&jws) => Err(Refusal::BadSignature),
        _ => Ok(()),
    }
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

    /// The message in it.
    pub fn signed_data(&self) -> &SignedData {
        &self.signed
    }
}

/// Without the token.
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
    /// Refuses a token whose time is over.
    pub fn check_expiry(&self, now: i64) -> Result<(), Refusal> {
        if now >= self.identity.expires_at {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    /// Whom it stands for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whom it stands for.
    pub fn into_identity(self) -> Identity {
        self.identity
    }

    /// The token that was verified.
    pub fn parsed(&self) -> &ParsedToken<'t> {
        &self.parsed
    }
}

/// Why a request is refused: as [`Refusal::as_str`] for `$keystone_auth_result`, and as `Display`
/// for the log. Neither shows any of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token is one of an application credential that may only do certain things, and this is
    /// none of them, or it cannot be told.
    #[error("the token's access rules do not permit the request")]
    AccessRules,
    /// Changed on the way, or signed by another key.
    #[error("the signature does not match the content")]
    BadSignature,
    /// The token is bound to something that the request does not show.
    #[error("the token is bound to {0}")]
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
    #[error("there is no token")]
    NoToken,
    /// On the revocation list.
    #[error("the token was revoked")]
    Revoked,
    /// A service token that has none of the roles that make it one.
    #[error("the service token has none of the required roles")]
    ServiceRole,
    /// Signed with a certificate that is not known.
    #[error("the signer is not a known signing certificate")]
    UnknownSigner,
    /// Keystone does not know it: it never did, or the token has expired or was revoked.
    #[error("the token is not known to the identity service")]
    UnknownToken,
}

impl Refusal {
    /// The word of `$keystone_auth_result`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AccessRules => "access_rules",
            Self::BadSignature => "bad_signature",
            Self::BindFailed(_) => "bind_failed",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::Malformed(_) => "malformed",
            Self::NoTenant => "no_tenant",
            Self::NoToken => "no_token",
            Self::Revoked => "revoked",
            Self::ServiceRole => "service_role",
            Self::UnknownSigner => "unknown_signer",
            Self::UnknownToken => "unknown_token",
        }
    }

    /// Whether Keystone may have got a new signing certificate, with which the token would pass.
    pub fn may_be_rotation(&self) -> bool {
        matches!(self, Self::BadSignature | Self::CertificateExpired | Self::UnknownSigner)
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
pub enum Malformed {
    /// Its text.
    #[error("the token is {0}")]
    Armour(ArmourError),
    /// The message in it.
    #[error(transparent)]
    Cms(CmsError),
    /// It claims to be a Fernet token.
    #[error("the token is no Fernet token: {0}")]
    Fernet(FernetError),
    /// What it says.
    #[error("the token's content is malformed: {0}")]
    Identity(IdentityError),
    /// It claims to be a JWS token.
    #[error("the token is no JWS token: {0}")]
    Jws(JwsError),
    /// Its characters.
    #[error("the token has characters that no token has")]
    Text,
    /// Its length.
    #[error("the token is longer than any that Keystone issues without a signature")]
    TooLong,
}

/// Which of a token's binds fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindFailure {
    /// There was no Negotiate authentication.
    #[error("kerberos, and the request is not authenticated so")]
    KerberosMissing,
    /// There was, for somebody else.
    #[error("another kerberos principal")]
    KerberosPrincipal,
    /// The mechanism that the configuration names is not in the token.
    #[error("nothing of the required name")]
    NotNamed,
    /// A bind is required.
    #[error("nothing")]
    Unbound,
    /// The mechanism cannot be checked.
    #[error("an unknown mechanism")]
    UnknownMechanism,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signed_tokens_are_parsed() {
        for token in ["ec6c0710ec2f471498484c1b53ab4f9d", "gAAAAABYq", "a.b.c", "", "hello"] {
            let refusal = parse(token.as_bytes(), TokenFormat::of(token.as_bytes())).unwrap_err();
            assert_eq!(refusal.as_str(), "malformed");
        }
        let garbage = format!("MII{}", "ABCD0123456789".repeat(70));
        for token in [&garbage, &format!("{garbage}AAA"), "PKIZ_AAAA", "MII", "PKIZ_"] {
            let refusal = parse(token.as_bytes(), TokenFormat::of(token.as_bytes())).unwrap_err();
            assert_eq!(refusal.as_str(), "malformed");
            assert!(!refusal.may_be_rotation());
        }
    }

    #[test]
    fn only_what_claims_to_be_fernet_or_jws_is_checked() {
        let rules = OnlineRules::default();
        for token in ["ec6c0710ec2f471498484c1b53ab4f9d", "hello", "eyJh.eyJz", "gAAAA", "MII"] {
            let format = TokenFormat::of(token.as_bytes());
            assert_eq!(check_form(token.as_bytes(), format, &rules), Ok(()), "{token}");
        }
        for token in ["gAAAAABYq", "a.b.c"] {
            let format = TokenFormat::of(token.as_bytes());
            let refusal = check_form(token.as_bytes(), format, &rules).unwrap_err();
            assert_eq!(refusal.as_str(), "malformed", "{token}");
        }
    }

    #[test]
    fn a_jws_is_refused_for_its_form_its_time_and_its_signature() {
        let token = include_bytes!("jws/vectors/es256.jws");
        let pem = |pem: &[u8]| JwsKeys::from_pem(pem).unwrap();
        let key = pem(include_bytes!("jws/vectors/es256.pem"));
        let other = pem(include_bytes!("jws/vectors/other.pem"));
        let check = |now, allow_expired, jws_keys| {
            check_form(token, TokenFormat::Jws, &OnlineRules { now, allow_expired, jws_keys })
        };
        let (issued_at, expires_at) = (1_767_225_600, 1_767_229_200);
        let future = Refusal::Malformed(Malformed::Jws(JwsError::Future));
        assert_eq!(check(issued_at - 61, false, None), Err(future));
        for keys in [None, Some(&key)] {
            assert_eq!(check(issued_at, false, keys), Ok(()));
            assert_eq!(check(expires_at, false, keys), Err(Refusal::Expired));
            assert_eq!(check(expires_at, true, keys), Ok(()));
        }
        assert_eq!(check(issued_at, false, Some(&other)), Err(Refusal::BadSignature));
        assert_eq!(check(expires_at, true, Some(&other)), Err(Refusal::BadSignature));
    }

    #[test]
    fn reasons_read_on_in_a_log_line() {
        let malformed = parse(b"MII!", TokenFormat::Pki).unwrap_err();
        assert_eq!(malformed.to_string(), "the token is not canonical base64");
        let malformed = parse(b"MIIA", TokenFormat::Pki).unwrap_err();
        assert_eq!(
            malformed.to_string(),
            "the message does not have the form that Keystone issues"
        );
        let unbound = Refusal::BindFailed(BindFailure::Unbound);
        assert_eq!(unbound.to_string(), "the token is bound to nothing");
        let content = Refusal::from(IdentityError::Form);
        assert_eq!(content.to_string(), "the token's content is malformed: not a v2 or v3 token");
        let content = Identity::from_json(br#"{"token": {"user": "secret"}}"#).unwrap_err();
        assert_eq!(
            Refusal::from(content).to_string(),
            "the token's content is malformed: not the JSON of a token: \
             a missing, double or misplaced value at line 1 column 27"
        );
    }

    #[test]
    fn a_new_certificate_could_help_against_an_unknown_or_expired_one() {
        for (error, word, may_be_rotation) in [
            (SignatureError::BadSignature, "bad_signature", true),
            (SignatureError::Expired, "certificate_expired", true),
            (SignatureError::NotYetValid, "certificate_not_yet_valid", false),
            (SignatureError::UnknownSigner, "unknown_signer", true),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.as_str(), word);
            assert_eq!(refusal.may_be_rotation(), may_be_rotation);
        }
        assert!(!Refusal::Expired.may_be_rotation());
    }
}
