//! Signs content the way Keystone does, and in ways that Keystone never does.
//!
//! The bytes are put together here rather than by OpenSSL so that a test can have them bent in
//! one place and right in all others. That the straight form is what OpenSSL makes is a test.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::sign::Signer;

use crate::pki::Pair;
use crate::Result;

/// The digest of a signature.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Digest {
    /// As clients of 2013 sign.
    Sha1,
    /// SHA-256, as in Keystone.
    #[default]
    Sha256,
    /// As OpenSSL may be told to sign.
    Sha512,
}

/// One way in which a message differs from what Keystone issues, with a signature that holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bend {
    /// An unsigned attribute is added.
    Attribute,
    /// The signer's certificate is inside.
    Certificate,
    /// The outer length is of the indefinite form, which BER allows and DER does not.
    IndefiniteLength,
    /// The outer length has a leading zero byte, which BER allows and DER does not.
    LongLength,
    /// A second, identical signer follows the first.
    SecondSigner,
}

/// How a message is signed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Form {
    /// The digest of the signature.
    pub digest: Digest,
    /// Whether the digest's parameters are NULL (as from old versions of OpenSSL) or absent.
    pub null_parameters: bool,
    /// What is wrong with it, if anything.
    pub bend: Option<Bend>,
}

/// Signs `content` in Keystone's form: the DER of a CMS.
pub fn sign(pair: &Pair, content: &[u8]) -> Result<Vec<u8>> {
    sign_as(pair, content, Form::default())
}

/// Signs `content` in another form.
pub fn sign_as(pair: &Pair, content: &[u8], form: Form) -> Result<Vec<u8>> {
    let (oid, algorithm): (&[u8], _) = match form.digest {
        Digest::Sha1 => (OID_SHA1, MessageDigest::sha1()),
        Digest::Sha256 => (OID_SHA256, MessageDigest::sha256()),
        Digest::Sha512 => (OID_SHA512, MessageDigest::sha512()),
    };
    let mut signer = Signer::new(algorithm, &pair.key)?;
    signer.update(content)?;
    let signature = signer.sign_to_vec()?;

    let parameters: &[u8] = if form.null_parameters { NULL } else { &[] };
    let digest = tlv(SEQUENCE, &[oid, parameters].concat());
    let signer_infos = signer_infos(pair, form, &digest, &signature)?;
    let certificates = match form.bend {
        Some(Bend::Certificate) => tlv(CONTEXT_0, &pair.certificate.to_der()?),
        _ => Vec::new(),
    };
    let content = tlv(CONTEXT_0, &tlv(OCTET_STRING, content));
    let signed_data = [
        VERSION_1.to_vec(),
        tlv(SET, &digest),
        tlv(SEQUENCE, &[OID_DATA, &content].concat()),
        certificates,
        tlv(SET, &signer_infos),
    ]
    .concat();
    let content_info = [OID_SIGNED_DATA, &tlv(CONTEXT_0, &tlv(SEQUENCE, &signed_data))].concat();
    Ok(match form.bend {
        Some(Bend::IndefiniteLength) => {
            [&[SEQUENCE, 0x80], content_info.as_slice(), &[0, 0]].concat()
        }
        Some(Bend::LongLength) => {
            let length = (content_info.len() as u32).to_be_bytes();
            [&[SEQUENCE, 0x84], &length[..], &content_info].concat()
        }
        _ => tlv(SEQUENCE, &content_info),
    })
}

fn signer_infos(pair: &Pair, form: Form, digest: &[u8], signature: &[u8]) -> Result<Vec<u8>> {
    let issuer = pair.certificate.issuer_name().to_der()?;
    let serial = pair.certificate.serial_number().to_bn()?.to_vec();
    let serial = match serial.first() {
        Some(first) if first & 0x80 == 0 => serial,
        _ => [&[0], serial.as_slice()].concat(),
    };
    let mut signer_info = [
        VERSION_1.to_vec(),
        tlv(SEQUENCE, &[issuer, tlv(INTEGER, &serial)].concat()),
        digest.to_vec(),
        tlv(SEQUENCE, &[OID_RSA, NULL].concat()),
        tlv(OCTET_STRING, signature),
    ]
    .concat();
    if form.bend == Some(Bend::Attribute) {
        let values = tlv(SET, &tlv(OCTET_STRING, b"anything"));
        let attribute = tlv(SEQUENCE, &[OID_UNSTRUCTURED_NAME, &values].concat());
        signer_info.extend(tlv(CONTEXT_1, &attribute));
    }
    let mut signer_infos = tlv(SEQUENCE, &signer_info);
    if form.bend == Some(Bend::SecondSigner) {
        signer_infos.extend(signer_infos.clone());
    }
    Ok(signer_infos)
}

/// The name of a digest as the `openssl` command knows it.
pub fn name(digest: Digest) -> &'static str {
    let nid = match digest {
        Digest::Sha1 => Nid::SHA1,
        Digest::Sha256 => Nid::SHA256,
        Digest::Sha512 => Nid::SHA512,
    };
    nid.short_name().unwrap_or_default()
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let leading = length.iter().take_while(|&&byte| byte == 0).count();
    let mut bytes = vec![tag];
    match value.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        _ => {
            bytes.push(0x80 | (length.len() - leading) as u8);
            bytes.extend(&length[leading..]);
        }
    }
    bytes.extend(value);
    bytes
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;
const VERSION_1: &[u8] = &[INTEGER, 1, 1];
const NULL: &[u8] = &[0x05, 0x00];
const OID_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const OID_SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const OID_RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const OID_SHA1: &[u8] = b"\x06\x05\x2b\x0e\x03\x02\x1a";
const OID_SHA256: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const OID_SHA512: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03";
const OID_UNSTRUCTURED_NAME: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x02";

#[cfg(test)]
mod tests {
    use openssl::cms::{CMSOptions, CmsContentInfo};

    use super::*;
    use crate::pki::{Pki, Shape};

    #[test]
    fn the_straight_form_is_openssls() {
        for serial in [1, 0x80, 0xdead_beef] {
            let pki = Pki::with(&Shape::authority(), &Shape::signing().serial(serial)).unwrap();
            let content = "{}".repeat(3000);
            let openssl = CmsContentInfo::sign(
                Some(&pki.signing.certificate),
                Some(&pki.signing.key),
                None,
                Some(content.as_bytes()),
                CMSOptions::BINARY
                    | CMSOptions::NOSMIMECAP
                    | CMSOptions::NOATTR
                    | CMSOptions::CMS_NOCERTS,
            );
            let ours = sign(&pki.signing, content.as_bytes()).unwrap();
            assert!(ours == openssl.unwrap().to_der().unwrap());
        }
    }
}
