//! The form of a JWS token, and Keystone's public keys.
//!
//! Keystone signs its tokens with PyJWT (RFC 7515, compact serialization). A gateway cannot tell
//! whether a token with a right signature was revoked, so nothing here says that a token is valid.
//! It says which ones are not: those that Keystone does not make, those whose time is over, and,
//! where its public keys are known, those with a wrong signature.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Public};
use openssl::sign::Verifier;
use serde::de::IgnoredAny;
use serde::Deserialize;

use crate::fernet::MAX_CLOCK_SKEW;
use crate::format::BASE64URL;
use crate::json::Object;
use crate::openssl_error::OpenSslError;

/// A token that has the form of Keystone's; its signature is not verified.
pub struct Jws<'t> {
    algorithm: Algorithm,
    signed: &'t [u8],
    signature: Vec<u8>,
    issued_at: i64,
    expires_at: i64,
}

impl<'t> Jws<'t> {
    /// Splits a token into its parts and decodes them.
    pub fn parse(token: &'t [u8]) -> Result<Self, JwsError> {
        let mut parts = token.rsplitn(2, |byte| *byte == b'.');
        let (Some(signature), Some(signed)) = (parts.next(), parts.next()) else {
            return Err(JwsError::Base64);
        };
        let mut parts = signed.splitn(2, |byte| *byte == b'.');
        let (Some(header), Some(payload)) = (parts.next(), parts.next()) else {
            return Err(JwsError::Base64);
        };
        let (header, payload) = (decode(header)?, decode(payload)?);
        let signature = decode(signature)?;

        let header: Object<Header<'_>> =
            serde_json::from_slice(&header).map_err(|_| JwsError::Header)?;
        let algorithm = Algorithm::of(&header.0).ok_or(JwsError::Header)?;
        let payload: Object<Payload<'_>> =
            serde_json::from_slice(&payload).map_err(|_| JwsError::Payload)?;
        if signature.len() != algorithm.signature_len() {
            return Err(JwsError::SignatureLength);
        }
        let Payload { issued_at, expires_at, .. } = payload.0;
        Ok(Self { algorithm, signed, signature, issued_at, expires_at })
    }

    /// Refuses a token that was issued more than [`MAX_CLOCK_SKEW`] seconds after `now`, in unix
    /// seconds.
    pub fn check_issue(&self, now: i64) -> Result<(), JwsError> {
        match self.issued_at > now.saturating_add(MAX_CLOCK_SKEW) {
            true => Err(JwsError::Future),
            false => Ok(()),
        }
    }

    /// Whether the token has expired (`exp`) at `now`, in unix seconds.
    pub fn has_expired(&self, now: i64) -> bool {
        self.expires_at <= now
    }

    /// The signature as OpenSSL wants it; `None` if it is not a signature of ES256.
    fn es256_signature(&self) -> Option<Vec<u8>> {
        if self.algorithm != Algorithm::Es256 {
            return None;
        }
        let (r, s) = self.signature.split_at_checked(ES256_NUMBER)?;
        let number = BigNum::from_slice;
        let signature = EcdsaSig::from_private_components(number(r).ok()?, number(s).ok()?);
        signature.and_then(|signature| signature.to_der()).ok()
    }
}

/// Does not print the token.
impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws")
            .field("algorithm", &self.algorithm)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why a token of three parts is not from Keystone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// Not three parts of base64url.
    #[error("the text is not three parts of base64url")]
    Base64,
    /// The time of issue is to come.
    #[error("it was issued more than {MAX_CLOCK_SKEW} seconds in the future, check the clocks")]
    Future,
    /// The header is not one that Keystone writes.
    #[error("the header is not the one that Keystone writes")]
    Header,
    /// The payload lacks what Keystone writes.
    #[error("the claims are not those that Keystone writes")]
    Payload,
    /// The signature is not as long as those of its algorithm.
    #[error("the signature does not have the length that its algorithm requires")]
    SignatureLength,
}

/// Keystone's public keys for ES256.
pub struct JwsKeys(Vec<PKey<Public>>);

impl PartialEq for JwsKeys {
    /// The same keys in the same order.
    fn eq(&self, other: &Self) -> bool {
        let pairs = || self.0.iter().zip(&other.0);
        self.0.len() == other.0.len() && pairs().all(|(one, other)| one.public_eq(other))
    }
}

impl JwsKeys {
    /// Reads the keys of a PEM file, of which there must be one at least.
    pub fn from_pem(pem: &[u8]) -> Result<Self, JwsKeyError> {
        let text = std::str::from_utf8(pem).map_err(|_| JwsKeyError::Missing)?;
        let mut keys = Vec::new();
        for (at, _) in text.match_indices(BEGIN) {
            let (block, label) = (&text[at..], &text[at + BEGIN.len()..]);
            if !label.starts_with(PUBLIC_KEY) {
                return Err(JwsKeyError::NotPublic);
            }
            let key = PKey::public_key_from_pem(block.as_bytes())
                .map_err(|e| JwsKeyError::Pem(OpenSslError::new(&e)))?;
            let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
            // What OpenSSL has to say of a key of another type is no news.
            drop(ErrorStack::get());
            if curve != Some(Nid::X9_62_PRIME256V1) {
                return Err(JwsKeyError::Curve);
            }
            keys.push(key);
        }
        match keys.is_empty() {
            true => Err(JwsKeyError::Missing),
            false => Ok(Self(keys)),
        }
    }

    /// The keys of several files.
    pub fn join(files: impl IntoIterator<Item = Self>) -> Self {
        Self(files.into_iter().flat_map(|keys| keys.0).collect())
    }

    /// Whether the signature verifies with one of the keys (ES256: RFC 7518, section 3.4).
    pub fn verify(&self, jws: &Jws<'_>) -> bool {
        let Some(signature) = jws.es256_signature() else { return false };
        self.0.iter().any(|key| {
            let verified = Verifier::new(MessageDigest::sha256(), key)
                .and_then(|mut verifier| verifier.verify_oneshot(&signature, jws.signed));
            verified.unwrap_or(false)
        })
    }
}

impl fmt::Debug for JwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwsKeys").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

/// Why a file has no keys to verify with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwsKeyError {
    /// The key is not an EC key on the curve P-256.
    #[error("it contains a key that is not for ES256 (curve P-256)")]
    Curve,
    /// There is no PEM block in it.
    #[error("it contains no public key in PEM format")]
    Missing,
    /// A private key, which has no business on a gateway, or a certificate.
    #[error("it contains something other than public keys")]
    NotPublic,
    /// A block that OpenSSL cannot read.
    #[error("it contains a key that cannot be read: {0}")]
    Pem(OpenSslError),
}

/// The algorithms that Keystone signs with (`[jwt_tokens] jws_algorithm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    EdDsa,
    Es256,
    Es384,
    Es512,
}

impl Algorithm {
    fn of(header: &Header<'_>) -> Option<Self> {
        if header.typ != "JWT" {
            return None;
        }
        match &*header.alg {
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "ES512" => Some(Self::Es512),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// In bytes (RFC 7518, section 3.4, and RFC 8037, section 3.1).
    fn signature_len(self) -> usize {
        match self {
            Self::EdDsa => 64,
            Self::Es256 => 2 * ES256_NUMBER,
            Self::Es384 => 96,
            Self::Es512 => 132,
        }
    }
}

/// PyJWT's header, which Keystone adds nothing to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'h> {
    #[serde(borrow)]
    alg: Cow<'h, str>,
    #[serde(borrow)]
    typ: Cow<'h, str>,
}

/// The claims that each of Keystone's tokens has; there are more.
#[derive(Deserialize)]
struct Payload<'p> {
    #[serde(borrow, rename = "sub")]
    _user_id: Cow<'p, str>,
    #[serde(rename = "iat")]
    issued_at: i64,
    #[serde(rename = "exp")]
    expires_at: i64,
    #[serde(rename = "openstack_methods")]
    _methods: Vec<IgnoredAny>,
    #[serde(rename = "openstack_audit_ids")]
    _audit_ids: Vec<IgnoredAny>,
}

fn decode(part: &[u8]) -> Result<Vec<u8>, JwsError> {
    BASE64URL.decode(part).map_err(|_| JwsError::Base64)
}

/// An ES256 signature is two of these, one behind the other.
const ES256_NUMBER: usize = 32;

const BEGIN: &str = "-----BEGIN ";
const PUBLIC_KEY: &str = "PUBLIC KEY-----";

#[cfg(test)]
mod tests;
