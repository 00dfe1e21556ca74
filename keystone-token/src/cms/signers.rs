//! The certificates with which Keystone signs.
//!
//! A message names its signer by issuer and serial number, and may carry certificates of its own.
//! Neither is believed: the key is that of a certificate from Keystone's own file, which must have
//! exactly the name that the message has, to the byte. The way from there to the CA is looked at
//! once, when the file is read.

use std::fmt;
use std::ops::Range;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkey::Id;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509NameRef, X509PurposeId, X509Ref, X509StoreContext, X509};

use super::verifier::{ContentHash, Verifier};
use super::SignedData;
use crate::der::{self, Reader};
use crate::openssl_error::OpenSslError;

/// The certificates whose signatures count, each with a chain to the CA that was verified when
/// this was made.
pub struct Signers(Vec<Signer>);

struct Signer {
    /// The subject as OpenSSL's users write it, and the serial number in hexadecimal.
    certificate: (String, String),
    issuer: Vec<u8>,
    serial: Vec<u8>,
    key: Verifier,
    /// The period in which every certificate of the chain is valid.
    not_before: i64,
    not_after: i64,
}

impl Signers {
    /// Reads the two files that Keystone serves. Each may hold several PEM blocks, and text before
    /// them. A signing certificate that does not chain to the CA, is not meant for signing, or
    /// has no RSA key is left out; it is an error if none remains.
    ///
    /// A chain outside its period of validity at `now` is taken in: [`Signers::verify`] looks
    /// at the period each time.
    pub fn from_pem(signing: &[u8], ca: &[u8], now: i64) -> Result<Self, CertificateError> {
        let candidates = certificates(signing).map_err(CertificateError::Signing)?;
        let roots = certificates(ca).map_err(CertificateError::Ca)?;
        let mut untrusted = Stack::new().map_err(CertificateError::openssl)?;
        for certificate in &candidates {
            untrusted.push(certificate.clone()).map_err(CertificateError::openssl)?;
        }
        let anchors = TrustAnchors::new(&roots, now).map_err(CertificateError::openssl)?;

        let mut signers = Vec::new();
        let mut reason = None;
        for certificate in &candidates {
            let period = anchors.verify_chain(certificate, &untrusted);
            match period.and_then(|period| Signer::new(certificate, period)) {
                Ok(signer) => signers.push(signer),
                Err(error) => {
                    reason.get_or_insert(error);
                }
            }
        }
        match reason {
            Some(error) if signers.is_empty() => Err(error),
            _ => Ok(Self(signers)),
        }
    }

    /// Verifies the signature with the certificate that the message names, and returns what
    /// was signed.
    pub fn verify<'a>(&self, signed: &'a SignedData, now: i64) -> Result<&'a [u8], SignatureError> {
        self.verify_with(signed, |signer| signer.verify(signed, now))
    }

    fn verify_with<'a>(
        &self,
        signed: &'a SignedData,
        verify: impl Fn(&Signer) -> Result<(), SignatureError>,
    ) -> Result<&'a [u8], SignatureError> {
        let mut failure = SignatureError::UnknownSigner;
        for signer in self.0.iter().filter(|signer| signer.is_named_by(signed)) {
            match verify(signer) {
                Ok(()) => return Ok(signed.content()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Begins to verify a signature in steps, as [`verify`](Self::verify) does in one.
    pub fn verify_in_steps<'a>(
        &'a self,
        signed: &'a SignedData,
        now: i64,
    ) -> Result<Verification<'a>, SignatureError> {
        let hash = ContentHash::new(signed.digest()).map_err(|_| SignatureError::BadSignature)?;
        Ok(Verification { signers: self, signed, now, hash, hashed: 0 })
    }

    /// The certificates, for an operator to see.
    pub fn certificates(&self) -> impl Iterator<Item = Certificate<'_>> {
        self.0.iter().map(|signer| Certificate {
            subject: &signer.certificate.0,
            serial: &signer.certificate.1,
            not_before: signer.not_before,
            not_after: signer.not_after,
        })
    }

    /// When the last of the certificates, or its CA, expires, in unix seconds.
    pub fn not_after(&self) -> i64 {
        self.0.iter().map(|signer| signer.not_after).max().unwrap_or(i64::MIN)
    }

    /// When the first of the certificates becomes valid with its CA, in unix seconds.
    pub fn not_before(&self) -> i64 {
        self.0.iter().map(|signer| signer.not_before).min().unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signers").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

impl Signer {
    fn new(certificate: &X509Ref, period: (i64, i64)) -> Result<Self, CertificateError> {
        let key = certificate.public_key().map_err(CertificateError::openssl)?;
        if key.id() != Id::RSA {
            return Err(CertificateError::NotRsa);
        }
        let der = certificate.to_der().map_err(CertificateError::openssl)?;
        let (issuer, serial) =
            read_issuer_and_serial(&der).map_err(|_| CertificateError::Unreadable)?;
        let (not_before, not_after) = period;
        let number = serial_number(certificate).map_err(CertificateError::openssl)?;
        let certificate = (name(certificate.subject_name()), number);
        let key = Verifier::new(key);
        Ok(Self { certificate, issuer, serial, key, not_before, not_after })
    }

    fn is_named_by(&self, signed: &SignedData) -> bool {
        signed.issuer_and_serial() == (&self.issuer, &self.serial)
    }

    fn verify(&self, signed: &SignedData, now: i64) -> Result<(), SignatureError> {
        self.verify_with(now, || {
            self.key.verify(signed.digest(), signed.content(), signed.signature())
        })
    }

    fn verify_hash(
        &self,
        signed: &SignedData,
        hash: &[u8],
        now: i64,
    ) -> Result<(), SignatureError> {
        self.verify_with(now, || self.key.verify_hash(signed.digest(), hash, signed.signature()))
    }

    fn verify_with(
        &self,
        now: i64,
        holds: impl FnOnce() -> Result<bool, ErrorStack>,
    ) -> Result<(), SignatureError> {
        if now < self.not_before {
            return Err(SignatureError::NotYetValid);
        }
        if now >= self.not_after {
            return Err(SignatureError::Expired);
        }
        match holds() {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(SignatureError::BadSignature),
        }
    }
}

/// The verification of a signature, in steps: a long content takes its time to be hashed.
pub struct Verification<'a> {
    signers: &'a Signers,
    signed: &'a SignedData,
    now: i64,
    hash: ContentHash,
    /// How much of the content is hashed.
    hashed: usize,
}

impl<'a> Verification<'a> {
    /// Hashes `most` bytes more, and says whether there are others.
    pub fn update(&mut self, most: usize) -> Result<bool, SignatureError> {
        let rest = &self.signed.content()[self.hashed..];
        let next = &rest[..rest.len().min(most)];
        self.hash.update(next).map_err(|_| SignatureError::BadSignature)?;
        self.hashed += next.len();
        Ok(next.len() < rest.len())
    }

    /// Hashes what is left, and returns what was signed.
    pub fn finish(mut self) -> Result<&'a [u8], SignatureError> {
        self.update(usize::MAX)?;
        let hash = self.hash.finish().map_err(|_| SignatureError::BadSignature)?;
        let (signed, now) = (self.signed, self.now);
        self.signers.verify_with(signed, |signer| signer.verify_hash(signed, &hash, now))
    }
}

/// A signing certificate, as an operator knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate<'a> {
    /// Whose it is, such as `CN=Keystone Signing,O=Unset`.
    pub subject: &'a str,
    /// Its serial number, in hexadecimal.
    pub serial: &'a str,
    /// From when on its whole chain is valid, in unix seconds.
    pub not_before: i64,
    /// Until when its whole chain is valid, in unix seconds.
    pub not_after: i64,
}

/// Why a message does not count as signed by Keystone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The content was changed, or another key of the same name signed it.
    #[error("the signature does not match the content")]
    BadSignature,
    /// The certificate or its CA is past its time.
    #[error("the signing certificate has expired")]
    Expired,
    /// The certificate or its CA is ahead of its time, or the clock is behind.
    #[error("the signing certificate is not valid yet")]
    NotYetValid,
    /// The message names another certificate.
    #[error("the signer is not a known signing certificate")]
    UnknownSigner,
}

/// Why the files hold no certificate to verify with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No PEM certificate, or an unreadable one, among the CA's.
    #[error("the CA file contains {0}")]
    Ca(PemError),
    /// The key is of another kind.
    #[error("the signing certificate has no RSA key")]
    NotRsa,
    /// OpenSSL failed in another way.
    #[error("OpenSSL failed: {0}")]
    OpenSsl(OpenSslError),
    /// No PEM certificate, or an unreadable one, among the signing certificates.
    #[error("the signing certificate file contains {0}")]
    Signing(PemError),
    /// The certificate's structure is not understood.
    #[error("the signing certificate cannot be read")]
    Unreadable,
    /// The chain does not hold; OpenSSL says why.
    #[error("the signing certificate is not trusted: {0}")]
    Untrusted(String),
}

impl CertificateError {
    fn openssl(errors: ErrorStack) -> Self {
        Self::OpenSsl(OpenSslError::new(&errors))
    }
}

/// What is wrong with a file of certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// There is no block of type CERTIFICATE.
    #[error("no certificate")]
    Empty,
    /// A block that cannot be read.
    #[error("a certificate that cannot be read: {0}")]
    Unreadable(OpenSslError),
}

fn certificates(pem: &[u8]) -> Result<Vec<X509>, PemError> {
    let certificates =
        X509::stack_from_pem(pem).map_err(|e| PemError::Unreadable(OpenSslError::new(&e)))?;
    if certificates.is_empty() {
        return Err(PemError::Empty);
    }
    Ok(certificates)
}

/// The CA certificates, in stores of OpenSSL's: all together and, as it looks no further than the
/// first issuer of the right name, each alone; as of now and, for chains whose time has passed or
/// is to come, at no particular time.
struct TrustAnchors {
    now: Vec<X509Store>,
    any_time: Vec<X509Store>,
}

impl TrustAnchors {
    fn new(roots: &[X509], now: i64) -> Result<Self, ErrorStack> {
        let stores = |time| {
            let all = std::iter::once(roots);
            let each = roots.chunks(1).filter(|_| roots.len() > 1);
            all.chain(each).map(|roots| store(roots, time)).collect::<Result<_, ErrorStack>>()
        };
        Ok(Self { now: stores(Some(now))?, any_time: stores(None)? })
    }

    /// Verifies a certificate's chain and returns the period in which all of it is valid.
    fn verify_chain(
        &self,
        certificate: &X509Ref,
        untrusted: &Stack<X509>,
    ) -> Result<(i64, i64), CertificateError> {
        // Of all the reasons, that which has to do neither with time nor with a missing CA.
        let mut reason = CertificateError::Unreadable;
        for store in self.now.iter().chain(self.any_time.iter().rev()) {
            match verify_chain(store, certificate, untrusted) {
                Ok(period) => return Ok(period),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

/// A store in which the given certificates are trusted, whether or not they are roots, for the
/// purpose that `openssl cms -verify` asks for.
fn store(roots: &[X509], time: Option<i64>) -> Result<X509Store, ErrorStack> {
    let mut param = X509VerifyParam::new()?;
    param.set_purpose(X509PurposeId::SMIME_SIGN)?;
    param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    match time {
        Some(time) => param.set_time(time),
        None => param.set_flags(X509VerifyFlags::NO_CHECK_TIME)?,
    }
    let mut store = X509StoreBuilder::new()?;
    store.set_param(&param)?;
    for root in roots {
        store.add_cert(root.clone())?;
    }
    Ok(store.build())
}

fn verify_chain(
    store: &X509Store,
    certificate: &X509Ref,
    untrusted: &Stack<X509>,
) -> Result<(i64, i64), CertificateError> {
    let mut context = X509StoreContext::new().map_err(CertificateError::openssl)?;
    let verified = context.init(store, certificate, untrusted, |context| {
        let verified = context.verify_cert()?;
        // What OpenSSL leaves in its queue would appear in the log line of another error.
        drop(ErrorStack::get());
        if !verified {
            return Ok(Err(CertificateError::Untrusted(context.error().to_string())));
        }
        let mut period = validity(certificate)?;
        for link in context.chain().into_iter().flatten() {
            let (not_before, not_after) = validity(link)?;
            period = (period.0.max(not_before), period.1.min(not_after));
        }
        Ok(Ok(period))
    });
    verified.map_err(CertificateError::openssl)?
}

fn validity(certificate: &X509Ref) -> Result<(i64, i64), ErrorStack> {
    Ok((unix_seconds(certificate.not_before())?, unix_seconds(certificate.not_after())?))
}

/// The serial number in hexadecimal.
fn serial_number(certificate: &X509Ref) -> Result<String, ErrorStack> {
    Ok(certificate.serial_number().to_bn()?.to_hex_str()?.to_ascii_lowercase())
}

/// A name, its most particular part first.
fn name(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let key = entry.object().nid().short_name().unwrap_or("?");
        match entry.data().to_string() {
            Ok(value) => format!("{key}={value}"),
            Err(_) => format!("{key}=?"),
        }
    });
    let mut entries: Vec<String> = entries.collect();
    entries.reverse();
    entries.join(",")
}

fn unix_seconds(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

/// The encoded issuer and serial number of a certificate.
fn read_issuer_and_serial(certificate: &[u8]) -> Result<(Vec<u8>, Vec<u8>), der::Error> {
    let mut file = Reader::new(certificate);
    let mut outer = file.enter(der::SEQUENCE)?;
    let mut tbs = outer.enter(der::SEQUENCE)?;
    // Certificates of version 1 do not state it.
    let _ = tbs.element(der::CONTEXT_0);
    let serial = tbs.element(der::INTEGER)?;
    tbs.element(der::SEQUENCE)?;
    let issuer = tbs.element(der::SEQUENCE)?;
    let slice = |range| certificate.get::<Range<usize>>(range).map(<[u8]>::to_vec);
    Ok((slice(issuer).ok_or(der::Error)?, slice(serial).ok_or(der::Error)?))
}
