//! The one form of CMS message that Keystone issues, and the signature on it.
//!
//! Keystone signs with `openssl cms -sign -nosmimecap -nodetach -nocerts -noattr`. What comes out
//! is always the same template: SignedData version 1; one digest algorithm; the content in the
//! message; no certificates and no CRLs; one SignerInfo version 1 that names its signer by issuer
//! and serial number, with no attributes; an RSA PKCS#1 v1.5 signature over the content. Only the
//! digest, the presence of its NULL parameters (old releases of OpenSSL write them), the content,
//! the signer's name and the signature vary.
//!
//! All but the content and the signature is unsigned, so a lenient parser accepts many encodings
//! of one signed content, and a revocation list that names a token by the hash of its text knows
//! only one of them. Hence the parser takes nothing but the template in DER.

mod signers;
mod verifier;

use std::fmt;
use std::ops::Range;

use crate::der::{self, Reader};
use crate::format::{self, ArmourError};

pub use signers::{Certificate, CertificateError, PemError, SignatureError, Signers, Verification};

/// A message that has the form Keystone issues. Its signature was not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedData {
    der: Vec<u8>,
    /// Those of `der`.
    parts: Parts,
}

impl SignedData {
    /// Takes a DER message apart. The message is kept, and nothing is copied out of it.
    pub fn parse(der: impl Into<Vec<u8>>) -> Result<Self, CmsError> {
        let der = der.into();
        let parts = Parts::read(&der).map_err(|_| CmsError::Form)?;
        let signed = Self { der, parts };
        match signed.is_canonical() {
            true => Ok(signed),
            false => Err(CmsError::Form),
        }
    }

    /// Whether the message is the DER of its own parts, to the byte.
    fn is_canonical(&self) -> bool {
        let (before, after) = self.around_content(self.parts.parameters);
        self.der.get(..self.parts.content.start) == Some(&before)
            && self.der.get(self.parts.content.end..) == Some(&after)
    }

    /// Reads the PEM form of a revocation list. Lines may end in CRLF and the last line end may be
    /// missing; every other deviation is an error.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CmsError> {
        Self::parse(format::unarmour_pem_leniently(pem)?)
    }

    /// The DER of the same content and signature with the given form of digest parameters. With
    /// this message's own it is the message itself.
    pub fn encode(&self, parameters: DigestParameters) -> Vec<u8> {
        let (before, after) = self.around_content(parameters);
        [&before, self.content(), &after].concat()
    }

    /// What that has before the content and after it.
    fn around_content(&self, parameters: DigestParameters) -> (Vec<u8>, Vec<u8>) {
        let algorithm = self.parts.digest.identifier(parameters);
        let (issuer, serial) = self.issuer_and_serial();
        let (content, signature) = (self.content(), self.signature());

        let signer_len = issuer.len() + serial.len();
        let signer_info_len = VERSION_1.len()
            + der::tlv_len(signer_len)
            + algorithm.len()
            + RSA_ENCRYPTION.len()
            + der::tlv_len(signature.len());
        let explicit_len = der::tlv_len(content.len());
        let content_info_len = ID_DATA.len() + der::tlv_len(explicit_len);
        let signed_data_len = VERSION_1.len()
            + der::tlv_len(algorithm.len())
            + der::tlv_len(content_info_len)
            + der::tlv_len(der::tlv_len(signer_info_len));
        let outer_len = ID_SIGNED_DATA.len() + der::tlv_len(der::tlv_len(signed_data_len));

        let mut out = Vec::with_capacity(MAX_BEFORE_CONTENT);
        der::write_header(&mut out, der::SEQUENCE, outer_len);
        out.extend_from_slice(ID_SIGNED_DATA);
        der::write_header(&mut out, der::CONTEXT_0, der::tlv_len(signed_data_len));
        der::write_header(&mut out, der::SEQUENCE, signed_data_len);
        out.extend_from_slice(VERSION_1);
        der::write_header(&mut out, der::SET, algorithm.len());
        out.extend_from_slice(&algorithm);
        der::write_header(&mut out, der::SEQUENCE, content_info_len);
        out.extend_from_slice(ID_DATA);
        der::write_header(&mut out, der::CONTEXT_0, explicit_len);
        der::write_header(&mut out, der::OCTET_STRING, content.len());
        let before = out;

        let mut out = Vec::with_capacity(der::tlv_len(der::tlv_len(signer_info_len)));
        der::write_header(&mut out, der::SET, der::tlv_len(signer_info_len));
        der::write_header(&mut out, der::SEQUENCE, signer_info_len);
        out.extend_from_slice(VERSION_1);
        der::write_header(&mut out, der::SEQUENCE, signer_len);
        out.extend_from_slice(issuer);
        out.extend_from_slice(serial);
        out.extend_from_slice(&algorithm);
        out.extend_from_slice(RSA_ENCRYPTION);
        der::write_header(&mut out, der::OCTET_STRING, signature.len());
        out.extend_from_slice(signature);
        (before, out)
    }

    /// What was signed. Trust it only if [`Signers::verify`] returned it.
    pub fn content(&self) -> &[u8] {
        self.slice(&self.parts.content)
    }

    /// The digest that the message names.
    pub fn digest(&self) -> Digest {
        self.parts.digest
    }

    /// The form of the digest's parameters.
    pub fn parameters(&self) -> DigestParameters {
        self.parts.parameters
    }

    /// The message as it was parsed.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The message as it was parsed, and nothing else of it.
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }

    /// The names of the signer, each as DER: who issued its certificate, and under which number.
    pub fn issuer_and_serial(&self) -> (&[u8], &[u8]) {
        (self.slice(&self.parts.issuer), self.slice(&self.parts.serial))
    }

    fn signature(&self) -> &[u8] {
        self.slice(&self.parts.signature)
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }
}

/// Without the message, which may be a token.
impl fmt::Debug for SignedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedData")
            .field("len", &self.der.len())
            .field("digest", &self.parts.digest)
            .field("parameters", &self.parts.parameters)
            .finish_non_exhaustive()
    }
}

/// Why a message is not one that Keystone issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmsError {
    /// Not PEM, or not canonical base64 in it.
    #[error("the message cannot be decoded: {0}")]
    Armour(#[from] ArmourError),
    /// Not DER, or other fields or values than the template's.
    #[error("the message does not have the form that Keystone issues")]
    Form,
}

/// The digest under a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-1, used by the clients of 2013.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256, used by all later clients.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Digest {
    const ALL: [Self; 5] = [Self::Sha256, Self::Sha1, Self::Sha224, Self::Sha384, Self::Sha512];

    /// The object identifier with its tag and length.
    fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha1 => b"\x06\x05\x2b\x0e\x03\x02\x1a",
            Self::Sha224 => b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04",
            Self::Sha256 => b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01",
            Self::Sha384 => b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02",
            Self::Sha512 => b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03",
        }
    }

    /// The DER of its `AlgorithmIdentifier`.
    fn identifier(self, parameters: DigestParameters) -> Vec<u8> {
        let parameters: &[u8] = match parameters {
            DigestParameters::Absent => b"",
            DigestParameters::Null => NULL,
        };
        let mut out = Vec::with_capacity(16);
        der::write_header(&mut out, der::SEQUENCE, self.oid().len() + parameters.len());
        out.extend_from_slice(self.oid());
        out.extend_from_slice(parameters);
        out
    }

    /// What OpenSSL calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
        }
    }
}

/// The two ways to write a digest algorithm that takes no parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestParameters {
    /// Left out, as OpenSSL writes since 2010.
    Absent,
    /// NULL, as OpenSSL wrote before.
    Null,
}

impl DigestParameters {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Absent, Self::Null];
}

/// What varies from message to message.
#[derive(Clone, PartialEq, Eq)]
struct Parts {
    digest: Digest,
    parameters: DigestParameters,
    /// All four ranges lie within the message.
    content: Range<usize>,
    issuer: Range<usize>,
    serial: Range<usize>,
    signature: Range<usize>,
}

impl Parts {
    fn read(message: &[u8]) -> Result<Self, der::Error> {
        let mut file = Reader::new(message);
        let mut outer = file.enter(der::SEQUENCE)?;
        file.finish()?;
        outer.expect(ID_SIGNED_DATA)?;
        let mut explicit = outer.enter(der::CONTEXT_0)?;
        outer.finish()?;
        let mut signed_data = explicit.enter(der::SEQUENCE)?;
        explicit.finish()?;

        signed_data.expect(VERSION_1)?;
        let mut digests = signed_data.enter(der::SET)?;
        let (digest, parameters) = read_digest(&mut digests)?;
        digests.finish()?;

        let mut content_info = signed_data.enter(der::SEQUENCE)?;
        content_info.expect(ID_DATA)?;
        let mut explicit = content_info.enter(der::CONTEXT_0)?;
        content_info.finish()?;
        let content = explicit.content(der::OCTET_STRING)?;
        explicit.finish()?;

        let mut signer_infos = signed_data.enter(der::SET)?;
        signed_data.finish()?;
        let mut signer_info = signer_infos.enter(der::SEQUENCE)?;
        signer_infos.finish()?;
        signer_info.expect(VERSION_1)?;
        let mut signer = signer_info.enter(der::SEQUENCE)?;
        let issuer = signer.element(der::SEQUENCE)?;
        let serial = signer.element(der::INTEGER)?;
        signer.finish()?;
        if read_digest(&mut signer_info)? != (digest, parameters) {
            return Err(der::Error);
        }
        signer_info.expect(RSA_ENCRYPTION)?;
        let signature = signer_info.content(der::OCTET_STRING)?;
        signer_info.finish()?;

        Ok(Self { digest, parameters, content, issuer, serial, signature })
    }
}

fn read_digest(reader: &mut Reader<'_>) -> Result<(Digest, DigestParameters), der::Error> {
    let mut algorithm = reader.enter(der::SEQUENCE)?;
    let digest = Digest::ALL
        .into_iter()
        .find(|digest| algorithm.expect(digest.oid()).is_ok())
        .ok_or(der::Error)?;
    let parameters = match algorithm.expect(NULL) {
        Ok(()) => DigestParameters::Null,
        Err(_) => DigestParameters::Absent,
    };
    algorithm.finish()?;
    Ok((digest, parameters))
}

/// Room for what stands before the content, whatever its length.
const MAX_BEFORE_CONTENT: usize = 128;
const ID_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const ID_SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const NULL: &[u8] = b"\x05\x00";
/// AlgorithmIdentifier of rsaEncryption with NULL parameters.
const RSA_ENCRYPTION: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const VERSION_1: &[u8] = b"\x02\x01\x01";
