//! The decision about a token, from its text to an identity: who can judge it, and whether a signed
//! one is valid. [`online`](crate::online) decides about those that Keystone is asked about.

use std::fmt;

use crate::cms::{SignedData, Signers};
use crate::format::{self, TokenFormat, MAX_UNSIGNED_LEN};
use crate::identity::Identity;
use crate::refusal::{check_expiry, Malformed, Refusal};

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
    /// Refuses a token that has expired at `now`, in unix seconds.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::AuthResult;

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
}
