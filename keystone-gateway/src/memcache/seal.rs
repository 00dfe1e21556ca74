//! What an answer about a token looks like in memcached, and what its entry is called.
//!
//! ```text
//! head        "KMC1", and a letter for the strategy: "n", "m" or "e"
//! none, mac   body, HMAC-SHA256 of head, name and body
//! encrypt     nonce (12 bytes), body in AES-256-GCM, its tag (16 bytes); head and name are the
//!             associated data
//! body        made_at (i64), expires_at (i64), the record; little endian
//! ```
//!
//! One HMAC-SHA512, keyed with the secret, over strategy, scope and token gives both the entry's
//! name and the key that seals it. So gateways with one secret agree on both, an entry opens under
//! no other name, and every token has a key of its own: a random nonce cannot come twice under one
//! key however many tokens a fleet sees, and who has got the secret alone can still read nothing
//! without the token.
//!
//! Strategy `none` is the same with a key that everybody knows instead of the secret. It tells
//! accidents (a swapped, damaged or foreign entry), not forgers: a client that can write to
//! memcached can write any answer about any token that it knows or invents.

use std::fmt;
use std::str::FromStr;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::{PKey, Private};
use openssl::rand::rand_bytes;
use openssl::sign::Signer;
use openssl::symm::{decrypt_aead, encrypt_aead, Cipher};
use zeroize::Zeroizing;

use super::MAX_VALUE;
use keystone_token::record::Record;

/// How an entry is protected: auth_token's `memcache_security_strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// It can be neither read nor forged.
    Encrypt,
    /// It can be read, not forged.
    Mac,
    /// It can be read and forged.
    None,
}

impl Strategy {
    /// The value of `keystone_memcached_security_strategy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Mac => "mac",
            Self::None => "none",
        }
    }

    /// Whether it is worth nothing without a secret.
    pub fn needs_secret(self) -> bool {
        self != Self::None
    }

    fn head(self) -> &'static [u8; HEAD] {
        match self {
            Self::Encrypt => b"KMC1e",
            Self::Mac => b"KMC1m",
            Self::None => b"KMC1n",
        }
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Encrypt, Self::Mac, Self::None]
            .into_iter()
            .find(|strategy| text.eq_ignore_ascii_case(strategy.as_str()))
            .ok_or(StrategyError)
    }
}

/// No strategy is called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be \"none\", \"mac\" or \"encrypt\"")]
pub struct StrategyError;

/// What a fleet agrees on: the strategy and the secret.
pub struct Seal {
    strategy: Strategy,
    secret: PKey<Private>,
}

impl Seal {
    /// A seal with a secret, which strategy `none` does not look at.
    pub fn new(strategy: Strategy, secret: Option<&[u8]>) -> Result<Self, SealError> {
        let secret = match secret {
            _ if !strategy.needs_secret() => OPEN_SECRET,
            Some(secret) if !secret.is_empty() => secret,
            _ => return Err(SealError::NoSecret),
        };
        Ok(Self { strategy, secret: PKey::hmac(secret)? })
    }

    /// The entry for `token`, as the identity service that `scope` stands for sees it.
    pub fn entry(&self, scope: &[u8], token: &[u8]) -> Result<Entry, SealError> {
        let mut digest = Zeroizing::new([0; 64]);
        let scope_len = (scope.len() as u64).to_le_bytes();
        let parts = [LABEL, self.strategy.head(), &scope_len, scope, token];
        hmac(MessageDigest::sha512(), &self.secret, &parts, &mut *digest)?;

        let (name, key) = digest.split_at(KEY);
        let mut entry =
            Entry { strategy: self.strategy, name: Name::of(name), key: Zeroizing::new([0; KEY]) };
        entry.key.copy_from_slice(key);
        Ok(entry)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.strategy.as_str())
    }
}

/// What an entry is called in memcached: as long for every token, and a key that memcached takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    fn of(digest: &[u8]) -> Self {
        use fmt::Write as _;
        let mut name = String::from(PREFIX);
        for byte in digest {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Self(name)
    }

    /// The key of the entry in memcached.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The place of one token's answer.
pub struct Entry {
    strategy: Strategy,
    name: Name,
    key: Zeroizing<[u8; KEY]>,
}

/// The answer that an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// When the identity service was asked, in seconds since 1970.
    pub made_at: i64,
    /// When the token expires, in seconds since 1970.
    pub expires_at: i64,
    /// The identity, as [`keystone_token::record`] writes it.
    pub record: Vec<u8>,
}

impl Entry {
    /// The key of the entry in memcached.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The value to keep under the name.
    pub fn seal(&self, content: &Content) -> Result<Vec<u8>, SealError> {
        if content.record.len() > MAX_RECORD {
            return Err(SealError::TooLarge);
        }
        let mut body = Vec::with_capacity(TIMES + content.record.len());
        body.extend_from_slice(&content.made_at.to_le_bytes());
        body.extend_from_slice(&content.expires_at.to_le_bytes());
        body.extend_from_slice(&content.record);

        let head = self.strategy.head();
        if self.strategy != Strategy::Encrypt {
            let tag = self.tag(&body)?;
            return Ok([head, &body[..], &tag].concat());
        }
        let (mut nonce, mut tag) = ([0; NONCE], [0; GCM_TAG]);
        rand_bytes(&mut nonce)?;
        let associated = self.associated();
        let cipher = Cipher::aes_256_gcm();
        let hidden =
            encrypt_aead(cipher, &self.key[..], Some(&nonce), &associated, &body, &mut tag)?;
        Ok([head, &nonce[..], &hidden, &tag].concat())
    }

    /// Reads what lay under the name. Only what was sealed for this entry, is no older than
    /// `max_age` seconds and has not expired is given.
    pub fn open(&self, value: &[u8], now: i64, max_age: i64) -> Result<Content, OpenError> {
        if value.len() > MAX_VALUE {
            return Err(OpenError::TooLarge);
        }
        let sealed = value.strip_prefix(self.strategy.head()).ok_or(OpenError::Foreign)?;
        let content = match self.strategy {
            Strategy::Encrypt => read_body(&self.decrypt(sealed)?),
            Strategy::Mac | Strategy::None => read_body(self.check(sealed)?),
        };

        let content = content.ok_or(OpenError::Record)?;
        let record = Record::new(&content.record).map_err(|_| OpenError::Record)?;
        if content.expires_at.min(record.expires_at()) <= now {
            return Err(OpenError::Expired);
        }
        if content.made_at > now.saturating_add(SKEW) {
            return Err(OpenError::Future);
        }
        if now.saturating_sub(content.made_at).max(0) >= max_age {
            return Err(OpenError::Old);
        }
        Ok(content)
    }

    fn check<'a>(&self, sealed: &'a [u8]) -> Result<&'a [u8], OpenError> {
        let (body, tag) = sealed.split_last_chunk::<TAG>().ok_or(OpenError::Forged)?;
        match memcmp::eq(&self.tag(body)?, tag) {
            true => Ok(body),
            false => Err(OpenError::Forged),
        }
    }

    fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(OpenError::Forged)?;
        let (hidden, tag) = rest.split_last_chunk::<GCM_TAG>().ok_or(OpenError::Forged)?;
        let associated = self.associated();
        decrypt_aead(Cipher::aes_256_gcm(), &self.key[..], Some(nonce), &associated, hidden, tag)
            .map_err(|_| OpenError::Forged)
    }

    fn tag(&self, body: &[u8]) -> Result<[u8; TAG], ErrorStack> {
        let mut tag = [0; TAG];
        let key = PKey::hmac(&self.key[..])?;
        hmac(MessageDigest::sha256(), &key, &[&self.associated(), body], &mut tag)?;
        Ok(tag)
    }

    /// Head and name, both of fixed length.
    fn associated(&self) -> Vec<u8> {
        [self.strategy.head(), self.name.0.as_bytes()].concat()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.name.0)
    }
}

/// Why nothing can be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// OpenSSL cannot compute it.
    #[error("openssl refused: {0}")]
    Crypto(#[from] ErrorStack),
    /// The strategy needs a secret.
    #[error("there is no secret")]
    NoSecret,
    /// More than memcached is asked to keep.
    #[error("it is too large to be shared")]
    TooLarge,
}

/// Why an entry does not count.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// OpenSSL cannot compute it.
    #[error("openssl refused: {0}")]
    Crypto(#[from] ErrorStack),
    /// The token has expired meanwhile.
    #[error("its token has expired")]
    Expired,
    /// Something else lies under the name.
    #[error("it was not made by this module with this strategy")]
    Foreign,
    /// It is damaged, or was not made for this token with this secret.
    #[error("its signature or encryption is invalid")]
    Forged,
    /// It claims to have been made later than a clock that is a bit off explains.
    #[error("it was made in the future")]
    Future,
    /// It is older than an answer may be.
    #[error("it is too old")]
    Old,
    /// The seal holds, but around something that is no identity.
    #[error("it holds no identity record")]
    Record,
    /// More than was ever sealed.
    #[error("it is too large")]
    TooLarge,
}

fn read_body(body: &[u8]) -> Option<Content> {
    let (made_at, rest) = body.split_first_chunk()?;
    let (expires_at, record) = rest.split_first_chunk()?;
    Some(Content {
        made_at: i64::from_le_bytes(*made_at),
        expires_at: i64::from_le_bytes(*expires_at),
        record: record.to_vec(),
    })
}

fn hmac(
    digest: MessageDigest,
    key: &PKey<Private>,
    parts: &[&[u8]],
    out: &mut [u8],
) -> Result<(), ErrorStack> {
    let mut signer = Signer::new(digest, key)?;
    for part in parts {
        signer.update(part)?;
    }
    signer.sign(out).map(|_| ())
}

/// Sets these digests apart from all others that the secret may be used for.
const LABEL: &[u8] = b"nginx-keystone: answers in memcached";

/// In place of the secret where there is none.
const OPEN_SECRET: &[u8] = b"nginx-keystone: no secret";

/// The prefix of names, for people who look into memcached.
const PREFIX: &str = "keystone/";

/// How far ahead the clock of another gateway may be, in seconds.
const SKEW: i64 = 30;

const HEAD: usize = 5;
const KEY: usize = 32;
const TAG: usize = 32;
const NONCE: usize = 12;
const GCM_TAG: usize = 16;

/// Two times of 8 bytes.
const TIMES: usize = 16;

/// So that the value stays within its bound whatever the strategy.
const MAX_RECORD: usize = MAX_VALUE - HEAD - TIMES - TAG;
