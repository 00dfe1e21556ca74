//! The form of a message: what Keystone issues is taken, and every other encoding of the same
//! signed content is not, however many of them OpenSSL accepts.

use keystone_token::cms::{CmsError, Digest, DigestParameters, SignatureError, SignedData};
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::hash::MessageDigest;
use openssl::stack::Stack;

use crate::pki::{v3_payload, KEYSTONE_FLAGS, NOW, PKI};

const SHA256: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const NULL: &[u8] = b"\x05\x00";
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const RSA_WITHOUT_PARAMETERS: &[u8] = b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const SHA256_WITH_RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
const ID_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const ID_ENCRYPTED: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06";
const ID_SIGNED: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";

#[test]
fn what_openssl_signs_for_keystone_is_taken_and_verified() {
    let content = v3_payload();
    let der = PKI.sign(&content);
    let signed = SignedData::parse(der.clone()).unwrap();
    assert_eq!(signed.content(), content);
    assert_eq!(signed.digest(), Digest::Sha256);
    assert_eq!(signed.parameters(), DigestParameters::Absent);
    assert_eq!(signed.der(), der);
    assert_eq!(signed.encode(DigestParameters::Absent), der);
    assert_eq!(PKI.signers().verify(&signed, NOW), Ok(&content[..]));
}

#[test]
fn contents_of_every_length_around_the_steps_of_der_are_taken() {
    let signers = PKI.signers();
    for len in [0, 1, 127, 128, 255, 256, 5_000, 65_535, 65_536] {
        let content = vec![b'x'; len];
        let signed = SignedData::parse(PKI.sign(&content)).unwrap();
        assert_eq!(signers.verify(&signed, NOW), Ok(&content[..]), "{len}");
    }
}

#[test]
fn every_digest_is_verified_with_and_without_null_parameters() {
    let digests: [(&[u8], MessageDigest, Digest); 5] = [
        (b"\x06\x05\x2b\x0e\x03\x02\x1a", MessageDigest::sha1(), Digest::Sha1),
        (b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04", MessageDigest::sha224(), Digest::Sha224),
        (SHA256, MessageDigest::sha256(), Digest::Sha256),
        (b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02", MessageDigest::sha384(), Digest::Sha384),
        (b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03", MessageDigest::sha512(), Digest::Sha512),
    ];
    let content = v3_payload();
    for (oid, message_digest, digest) in digests {
        for parameters in DigestParameters::ALL {
            let null = if parameters == DigestParameters::Null { NULL } else { b"" };
            let identifier = sequence(&[oid, null]);
            let message = Message {
                digests: set(&[&identifier]),
                signer_digest: identifier,
                signature: tlv(0x04, &[&PKI.signature(message_digest, &content)]),
                ..Message::new(&content)
            };
            let signed = SignedData::parse(message.der()).unwrap();
            assert_eq!((signed.digest(), signed.parameters()), (digest, parameters));
            assert_eq!(PKI.signers().verify(&signed, NOW), Ok(&content[..]));

            for other in DigestParameters::ALL {
                let signed = SignedData::parse(signed.encode(other)).unwrap();
                assert_eq!(signed.parameters(), other);
                assert_eq!(PKI.signers().verify(&signed, NOW), Ok(&content[..]));
            }
        }
    }
}

#[test]
fn md5_is_no_digest_for_a_signature() {
    let md5 = sequence(&[b"\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05", NULL]);
    let content = v3_payload();
    let message = Message {
        digests: set(&[&md5]),
        signer_digest: md5,
        signature: tlv(0x04, &[&PKI.signature(MessageDigest::md5(), &content)]),
        ..Message::new(&content)
    };
    assert_eq!(SignedData::parse(message.der()), Err(CmsError::Form));
}

#[test]
fn a_changed_content_or_another_digest_is_a_bad_signature() {
    let content = v3_payload();
    let mut other = content.clone();
    other[20] ^= 1;
    let changed = Message { content: other, ..Message::new(&content) }.der();
    let sha512 = sequence(&[b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03"]);
    let mislabelled =
        Message { digests: set(&[&sha512]), signer_digest: sha512, ..Message::new(&content) };
    for der in [changed, mislabelled.der()] {
        let signed = SignedData::parse(der).unwrap();
        assert_eq!(PKI.signers().verify(&signed, NOW), Err(SignatureError::BadSignature));
    }
}

/// Fields that no signature covers: OpenSSL takes many of these for the same message.
#[test]
fn other_unsigned_fields_are_refused() {
    let content = v3_payload();
    let new = || Message::new(&content);
    assert_eq!(new().der(), PKI.sign(&content));

    let sha256 = sequence(&[SHA256]);
    let sha256_null = sequence(&[SHA256, NULL]);
    let sha1 = sequence(&[b"\x06\x05\x2b\x0e\x03\x02\x1a"]);
    let attribute =
        sequence(&[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x02", &set(&[b"\x0c\x01x"])]);
    let certificate = PKI.signing.x509.to_der().unwrap();
    let mut spoilt_case = new();
    let at = find(&spoilt_case.signer, b"Unset");
    spoilt_case.signer[at] ^= 0x20;

    let variants: Vec<(&str, Message)> = vec![
        ("SignedData version 0", Message { version: b"\x02\x01\x00".to_vec(), ..new() }),
        ("SignedData version 3", Message { version: b"\x02\x01\x03".to_vec(), ..new() }),
        ("a long version", Message { version: b"\x02\x02\x00\x01".to_vec(), ..new() }),
        ("SignerInfo version 3", Message { signer_version: b"\x02\x01\x03".to_vec(), ..new() }),
        ("no digest", Message { digests: set(&[]), ..new() }),
        ("another digest", Message { digests: set(&[&sha1]), ..new() }),
        ("two digests", Message { digests: set(&[&sha1, &sha256]), ..new() }),
        ("one digest twice", Message { digests: set(&[&sha256, &sha256]), ..new() }),
        ("NULL in the list only", Message { digests: set(&[&sha256_null]), ..new() }),
        ("NULL with the signer only", Message { signer_digest: sha256_null, ..new() }),
        (
            "other parameters",
            Message { signer_digest: sequence(&[SHA256, b"\x02\x01\x00"]), ..new() },
        ),
        (
            "NULL with a content",
            Message { signer_digest: sequence(&[SHA256, b"\x05\x01\x00"]), ..new() },
        ),
        ("another content type", Message { content_type: ID_ENCRYPTED.to_vec(), ..new() }),
        (
            "a signature algorithm with the digest",
            Message { algorithm: SHA256_WITH_RSA.to_vec(), ..new() },
        ),
        (
            "rsaEncryption without parameters",
            Message { algorithm: RSA_WITHOUT_PARAMETERS.to_vec(), ..new() },
        ),
        ("certificates", Message { certificates: tlv(0xa0, &[&certificate]), ..new() }),
        ("an empty set of certificates", Message { certificates: tlv(0xa0, &[]), ..new() }),
        ("an empty set of CRLs", Message { certificates: tlv(0xa1, &[]), ..new() }),
        ("unsigned attributes", Message { attributes: tlv(0xa1, &[&attribute]), ..new() }),
        ("no unsigned attributes", Message { attributes: tlv(0xa1, &[]), ..new() }),
        ("the issuer in another case", spoilt_case),
        ("one signer twice", Message { signers: 2, ..new() }),
        ("no signer", Message { signers: 0, ..new() }),
    ];
    let mut taken_by_openssl = 0;
    for (what, message) in variants {
        let der = message.der();
        taken_by_openssl += usize::from(openssl_takes(&der));
        match SignedData::parse(der) {
            Err(error) => assert_eq!(error, CmsError::Form, "{what}"),
            Ok(signed) => {
                let verified = PKI.signers().verify(&signed, NOW);
                assert_eq!(verified, Err(SignatureError::UnknownSigner), "{what}");
            }
        }
    }
    // The test means something only as long as these are ways to spell a message anew.
    assert!(taken_by_openssl >= 8, "{taken_by_openssl}");
}

#[test]
fn ber_is_refused() {
    let der = PKI.sign(&v3_payload());
    let tree = Node::parse(&der);
    assert_eq!(tree.encode(&mut Vec::new().iter()), der);
    let nodes = tree.count();
    let mut taken_by_openssl = 0;
    for node in 0..nodes {
        for style in [Style::Long, Style::Longest, Style::Indefinite, Style::Chunks] {
            let mut styles = vec![Style::Minimal; nodes];
            styles[node] = style;
            let ber = tree.encode(&mut styles.iter());
            if ber == der {
                continue;
            }
            taken_by_openssl += usize::from(openssl_takes(&ber));
            match SignedData::parse(ber) {
                Err(error) => assert_eq!(error, CmsError::Form, "node {node}, {style:?}"),
                // In the signer's name, which must be the certificate's to the byte.
                Ok(signed) => {
                    let verified = PKI.signers().verify(&signed, NOW);
                    assert_eq!(verified, Err(SignatureError::UnknownSigner), "{node}, {style:?}");
                }
            }
        }
    }
    assert!(taken_by_openssl > nodes, "{taken_by_openssl}");
}

#[test]
fn other_kinds_of_cms_message_are_refused() {
    let content = v3_payload();
    let kinds = [
        KEYSTONE_FLAGS.difference(CMSOptions::NOATTR),
        KEYSTONE_FLAGS.difference(CMSOptions::CMS_NOCERTS),
        KEYSTONE_FLAGS.union(CMSOptions::USE_KEYID),
        KEYSTONE_FLAGS.union(CMSOptions::DETACHED),
    ];
    for flags in kinds {
        let der = PKI.sign_with(&content, flags);
        assert_eq!(SignedData::parse(der), Err(CmsError::Form), "{flags:?}");
    }
}

#[test]
fn bytes_before_after_and_missing_are_refused() {
    let der = PKI.sign(&v3_payload());
    for end in 0..der.len() {
        assert_eq!(SignedData::parse(&der[..end]), Err(CmsError::Form));
    }
    assert_eq!(SignedData::parse([&der[..], b"\0"].concat()), Err(CmsError::Form));
    assert_eq!(SignedData::parse([b"\0", &der[..]].concat()), Err(CmsError::Form));
}

#[test]
fn a_pem_may_have_other_line_ends_and_nothing_else() {
    let signed = SignedData::parse(PKI.sign(br#"{"revoked": []}"#)).unwrap();
    let der = signed.der();
    let base64 = openssl::base64::encode_block(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN CMS-----\n{}\n-----END CMS-----\n", lines.join("\n"));
    assert_eq!(SignedData::from_pem(pem.as_bytes()).as_ref(), Ok(&signed));
    for good in [pem.trim_end().to_owned(), pem.replace('\n', "\r\n")] {
        assert_eq!(SignedData::from_pem(good.as_bytes()).as_ref(), Ok(&signed));
    }

    let folded = pem.replacen(&lines[0][40..], &format!("\n{}", &lines[0][40..]), 1);
    let bad = [
        String::new(),
        "-----BEGIN CMS-----\n".to_owned(),
        "-----BEGIN CMS-----\n-----END CMS-----\n".to_owned(),
        format!("x{pem}"),
        format!("\n{pem}"),
        format!("{pem}\n"),
        format!("{pem}x"),
        pem.replace("CMS", "PKCS7"),
        pem.replace('\n', ""),
        pem.replace('\n', "\n\n"),
        pem.replacen(lines[1], &format!(" {}", lines[1]), 1),
        pem.replacen(lines[1], &lines[1][1..], 1),
        pem.trim_end().trim_end_matches("-----END CMS-----").to_owned(),
        folded,
    ];
    for bad in bad {
        assert!(SignedData::from_pem(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Whether OpenSSL, left to itself, verifies the message with the signing certificate.
fn openssl_takes(der: &[u8]) -> bool {
    let Ok(mut message) = CmsContentInfo::from_der(der) else {
        return false;
    };
    let mut certificates = Stack::new().unwrap();
    certificates.push(PKI.signing.x509.clone()).unwrap();
    let flags = CMSOptions::NO_SIGNER_CERT_VERIFY | CMSOptions::BINARY;
    message.verify(Some(&certificates), None, None, None, flags).is_ok()
}

/// The parts of a message, as encoded elements, for putting together what nobody would sign.
pub struct Message {
    pub version: Vec<u8>,
    pub digests: Vec<u8>,
    pub content_type: Vec<u8>,
    pub content: Vec<u8>,
    pub certificates: Vec<u8>,
    pub signers: usize,
    pub signer_version: Vec<u8>,
    pub signer: Vec<u8>,
    pub signer_digest: Vec<u8>,
    pub algorithm: Vec<u8>,
    pub signature: Vec<u8>,
    pub attributes: Vec<u8>,
}

impl Message {
    pub fn new(content: &[u8]) -> Self {
        let certificate = &PKI.signing.x509;
        let serial = certificate.serial_number().to_bn().unwrap().to_vec();
        let sha256 = sequence(&[SHA256]);
        Self {
            version: b"\x02\x01\x01".to_vec(),
            digests: set(&[&sha256]),
            content_type: ID_DATA.to_vec(),
            content: content.to_vec(),
            certificates: Vec::new(),
            signers: 1,
            signer_version: b"\x02\x01\x01".to_vec(),
            signer: sequence(&[&certificate.issuer_name().to_der().unwrap(), &tlv(2, &[&serial])]),
            signer_digest: sha256,
            algorithm: RSA.to_vec(),
            signature: tlv(0x04, &[&PKI.signature(MessageDigest::sha256(), content)]),
            attributes: Vec::new(),
        }
    }

    pub fn der(&self) -> Vec<u8> {
        let signer_info = sequence(&[
            &self.signer_version,
            &self.signer,
            &self.signer_digest,
            &self.algorithm,
            &self.signature,
            &self.attributes,
        ]);
        let content = tlv(0xa0, &[&tlv(0x04, &[&self.content])]);
        let signed_data = sequence(&[
            &self.version,
            &self.digests,
            &sequence(&[&self.content_type, &content]),
            &self.certificates,
            &set(&[&signer_info.repeat(self.signers)]),
        ]);
        sequence(&[ID_SIGNED, &tlv(0xa0, &[&signed_data])])
    }
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, parts)
}

pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    out.extend(length(content.len(), Style::Minimal));
    out.extend(content);
    out
}

fn length(len: usize, style: Style) -> Vec<u8> {
    let bytes: Vec<u8> = len.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    match style {
        Style::Minimal if len < 0x80 => vec![len as u8],
        Style::Long if len >= 0x80 => [&[0x81 + bytes.len() as u8, 0], &bytes[..]].concat(),
        Style::Longest => [&[0x88], &len.to_be_bytes()[..]].concat(),
        _ => [&[0x80 + bytes.len().max(1) as u8], &[0][bytes.len().min(1)..], &bytes].concat(),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// How to encode an element.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    Minimal,
    Long,
    Longest,
    Indefinite,
    /// An OCTET STRING as a constructed one of two parts.
    Chunks,
}

enum Node {
    Constructed(u8, Vec<Node>),
    Primitive(u8, Vec<u8>),
}

impl Node {
    fn parse(der: &[u8]) -> Self {
        let (node, rest) = Self::parse_one(der);
        assert!(rest.is_empty());
        node
    }

    fn parse_one(der: &[u8]) -> (Self, &[u8]) {
        let (tag, octets) = (der[0], usize::from(der[1]));
        let (len, start) = match octets.checked_sub(0x80) {
            None => (octets, 2),
            Some(octets) => {
                let len =
                    der[2..2 + octets].iter().fold(0, |len, octet| len << 8 | usize::from(*octet));
                (len, 2 + octets)
            }
        };
        let (mut content, rest) = der[start..].split_at(len);
        if tag & 0x20 == 0 {
            return (Self::Primitive(tag, content.to_vec()), rest);
        }
        let mut nodes = Vec::new();
        while !content.is_empty() {
            let (node, rest) = Self::parse_one(content);
            nodes.push(node);
            content = rest;
        }
        (Self::Constructed(tag, nodes), rest)
    }

    fn count(&self) -> usize {
        match self {
            Self::Constructed(_, nodes) => 1 + nodes.iter().map(Node::count).sum::<usize>(),
            Self::Primitive(..) => 1,
        }
    }

    /// Takes a style for each node in document order, and minimal ones when they are used up.
    fn encode<'a>(&self, styles: &mut impl Iterator<Item = &'a Style>) -> Vec<u8> {
        let style = *styles.next().unwrap_or(&Style::Minimal);
        let (tag, content) = match self {
            Self::Constructed(tag, nodes) => {
                (*tag, nodes.iter().flat_map(|node| node.encode(styles)).collect())
            }
            Self::Primitive(0x04, content) if style == Style::Chunks => {
                let (a, b) = content.split_at(content.len() / 2);
                (0x24, [tlv(0x04, &[a]), tlv(0x04, &[b])].concat())
            }
            Self::Primitive(tag, content) => (*tag, content.clone()),
        };
        if style == Style::Indefinite && tag & 0x20 != 0 {
            return [&[tag, 0x80], &content[..], &[0, 0]].concat();
        }
        let style = match style {
            Style::Long | Style::Longest => style,
            _ => Style::Minimal,
        };
        [&[tag], &length(content.len(), style)[..], &content].concat()
    }
}
