//! RSA signatures, verified with a key's contexts in OpenSSL that are made once.
//!
//! `EVP_DigestVerify` with a new context looks up the digest and RSA's methods, and allocates what
//! it needs for both, for each signature: a fifth of the time that it takes.

use std::sync::{Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::md_ctx::MdCtx;
use openssl::pkey::{PKey, Public};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;

use super::Digest;

/// An RSA key that signatures of PKCS#1 v1.5 are verified with.
pub(super) struct Verifier {
    key: PKey<Public>,
    /// One for each digest that has been used.
    contexts: Mutex<[Option<Contexts>; Digest::ALL.len()]>,
}

impl Verifier {
    pub(super) fn new(key: PKey<Public>) -> Self {
        Self { key, contexts: Mutex::default() }
    }

    /// Whether `signature` is one of `content`. OpenSSL reports a signature of the wrong length as
    /// an error of its own.
    pub(super) fn verify(
        &self,
        digest: Digest,
        content: &[u8],
        signature: &[u8],
    ) -> Result<bool, ErrorStack> {
        self.with_contexts(digest, |contexts| {
            let mut hash = [0; MAX_HASH_LEN];
            contexts.hash.digest_init(&contexts.digest)?;
            contexts.hash.digest_update(content)?;
            let len = contexts.hash.digest_final(&mut hash)?;
            contexts.rsa.verify(&hash[..len], signature)
        })
    }

    /// The same where the content was hashed by a [`ContentHash`].
    pub(super) fn verify_hash(
        &self,
        digest: Digest,
        hash: &[u8],
        signature: &[u8],
    ) -> Result<bool, ErrorStack> {
        self.with_contexts(digest, |contexts| contexts.rsa.verify(hash, signature))
    }

    fn with_contexts<T>(
        &self,
        digest: Digest,
        verify: impl FnOnce(&mut Contexts) -> Result<T, ErrorStack>,
    ) -> Result<T, ErrorStack> {
        // Whatever a panic has left behind, each use begins anew.
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        let contexts = &mut contexts[digest as usize];
        verify(match contexts {
            Some(contexts) => contexts,
            None => contexts.insert(Contexts::new(&self.key, digest)?),
        })
    }
}

/// A content that is hashed in steps.
pub(super) struct ContentHash(MdCtx);

impl ContentHash {
    pub(super) fn new(digest: Digest) -> Result<Self, ErrorStack> {
        let mut hash = MdCtx::new()?;
        hash.digest_init(&*Md::fetch(None, digest.name(), None)?)?;
        Ok(Self(hash))
    }

    pub(super) fn update(&mut self, content: &[u8]) -> Result<(), ErrorStack> {
        self.0.digest_update(content)
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, ErrorStack> {
        let mut hash = vec![0; MAX_HASH_LEN];
        let len = self.0.digest_final(&mut hash)?;
        hash.truncate(len);
        Ok(hash)
    }
}

struct Contexts {
    digest: Md,
    hash: MdCtx,
    rsa: PkeyCtx<Public>,
}

impl Contexts {
    fn new(key: &PKey<Public>, digest: Digest) -> Result<Self, ErrorStack> {
        let digest = Md::fetch(None, digest.name(), None)?;
        let mut rsa = PkeyCtx::new(key)?;
        rsa.verify_init()?;
        rsa.set_rsa_padding(Padding::PKCS1)?;
        rsa.set_signature_md(&digest)?;
        Ok(Self { digest, hash: MdCtx::new()?, rsa })
    }
}

/// That of SHA-512.
const MAX_HASH_LEN: usize = 64;
