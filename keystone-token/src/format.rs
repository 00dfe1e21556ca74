//! The formats of a token, the armour around a signed one, and the hashes by which Keystone
//! names it.
//!
//! A signed token is a DER message in one of two armours. *PKI* is base64 whose `/` is written
//! as `-`. *PKIZ* is `PKIZ_` and base64url of a zlib stream; what is in the stream is the message
//! as PEM, which every released client writes, or as bare DER.

mod armour;

use std::str::FromStr;

use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::DecodePaddingMode;
use md5::{Digest as _, Md5};
use openssl::hash::MessageDigest;

pub use armour::{armour_pki, armour_pkiz, unarmour, ArmourError, MAX_DER_LEN, MAX_INFLATED_LEN};
pub(crate) use armour::{armour_pkiz_der, pem, unarmour_pem_leniently};

use armour::PKIZ_PREFIX;

/// What a token looks like. Only its text was examined: a format is no promise that the
/// token is well formed, let alone valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenFormat {
    /// `gAAAAA...`, encrypted by Keystone.
    Fernet,
    /// A JWS: three base64url parts, separated by dots.
    Jws,
    /// `MI...`, a CMS message in base64.
    Pki,
    /// `PKIZ_...`, a compressed CMS message.
    Pkiz,
    /// 32 hexadecimal digits: an id that means something to Keystone only, or the hash of a token.
    Uuid,
    /// None of these formats.
    Unknown,
}

impl TokenFormat {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 6] =
        [Self::Fernet, Self::Jws, Self::Pki, Self::Pkiz, Self::Uuid, Self::Unknown];

    /// Tells the format of `token` by its beginning, or its shape where it has no beginning of
    /// its own.
    pub fn of(token: &[u8]) -> Self {
        if token.starts_with(b"MI") {
            return Self::Pki;
        }
        if token.starts_with(PKIZ_PREFIX) {
            return Self::Pkiz;
        }
        if token.len() == 32 && token.iter().all(u8::is_ascii_hexdigit) {
            return Self::Uuid;
        }
        if token.starts_with(b"gAAAAA") {
            return Self::Fernet;
        }
        if is_jws(token) {
            return Self::Jws;
        }
        Self::Unknown
    }

    /// The value of `$keystone_token_format`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fernet => "fernet",
            Self::Jws => "jws",
            Self::Pki => "pki",
            Self::Pkiz => "pkiz",
            Self::Uuid => "uuid",
            Self::Unknown => "unknown",
        }
    }

    /// Whether tokens of this format carry a signature that can be verified without Keystone.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Pki | Self::Pkiz)
    }
}

fn is_jws(token: &[u8]) -> bool {
    let mut parts = 0;
    token.split(|&byte| byte == b'.').all(|part| {
        parts += 1;
        !part.is_empty()
            && part.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    }) && parts == 3
}

/// Bound on a token without a signature, in bytes: with its header's name it has to fit into the
/// line that Keystone's web server takes (8190 bytes in gunicorn and Apache, less in uwsgi).
pub const MAX_UNSIGNED_LEN: usize = 8_000;

/// The base64url of tokens that only Keystone can judge, without padding. Python ignores the bits
/// behind the last byte, and so does Keystone.
pub(crate) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// An algorithm that revocation ids may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// The one that Keystone uses by default.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name, as a configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The hash of `data` in lower-case hexadecimal digits: a signed token's id.
    pub fn hex_digest(self, data: &[u8]) -> String {
        // FIPS providers have no MD5, and here it is a name and protects nothing.
        let algorithm = match self {
            Self::Md5 => return hex(&Md5::digest(data)),
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha224 => MessageDigest::sha224(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        };
        // OpenSSL fails here only without memory; no id is then equal to the empty one.
        openssl::hash::hash(algorithm, data).map(|digest| hex(&digest)).unwrap_or_default()
    }
}

impl FromStr for HashAlgorithm {
    type Err = UnknownHashAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or(UnknownHashAlgorithm)
    }
}

/// The name is not one of [`HashAlgorithm`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash algorithm must be md5, sha1, sha224, sha256, sha384 or sha512")]
pub struct UnknownHashAlgorithm;

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognised_by_their_text() {
        let uuid = "ec6c0710ec2f471498484c1b53ab4f9d";
        for (token, format) in [
            ("MIIOKAYJKoZIhvcNAQcCoIIOGTCC", "pki"),
            ("MIH", "pki"),
            ("MIM", "pki"),
            ("PKIZ_eJy", "pkiz"),
            ("PKIZ_", "pkiz"),
            ("PKIZ", "unknown"),
            ("pkiz_eJy", "unknown"),
            (uuid, "uuid"),
            (&uuid.to_uppercase(), "uuid"),
            (&uuid[1..], "unknown"),
            (&uuid.replace('e', "g"), "unknown"),
            ("gAAAAABYq", "fernet"),
            ("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln-_", "jws"),
            ("eyJh.eyJz", "unknown"),
            ("eyJh.eyJz.", "unknown"),
            ("eyJh.eyJz.c2ln.x", "unknown"),
            ("eyJh.eyJz.c2l+", "unknown"),
            ("", "unknown"),
            ("M", "unknown"),
            ("hello", "unknown"),
        ] {
            assert_eq!(TokenFormat::of(token.as_bytes()).as_str(), format, "{token}");
        }
    }

    #[test]
    fn only_signed_tokens_have_armour() {
        for token in ["ec6c0710ec2f471498484c1b53ab4f9d", "gAAAAABYq", "a.b.c", ""] {
            let format = TokenFormat::of(token.as_bytes());
            assert_eq!(unarmour(token.as_bytes(), format), Err(ArmourError::Unsigned));
        }
    }

    #[test]
    fn hashes_are_those_of_their_names() {
        for (name, digest) in [
            ("md5", "900150983cd24fb0d6963f7d28e17f72"),
            ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            let algorithm: HashAlgorithm = name.parse().unwrap();
            assert_eq!(algorithm.as_str(), name);
            assert_eq!(algorithm.hex_digest(b"abc"), digest);
        }
        for (name, len) in [("sha384", 96), ("sha512", 128)] {
            let algorithm: HashAlgorithm = name.parse().unwrap();
            assert_eq!(algorithm.as_str(), name);
            assert_eq!(algorithm.hex_digest(b"abc").len(), len);
        }
        for name in ["", "MD5", "sha", "sha-256", "crc32"] {
            assert_eq!(name.parse::<HashAlgorithm>(), Err(UnknownHashAlgorithm));
        }
    }
}
