//! RSA signatures: with which keys and digests they are verified, and what is none.

use keystone_token::cms::{SignatureError, SignedData, Signers};
use openssl::bn::{BigNum, BigNumContext};
use openssl::hash::{hash, MessageDigest};
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::Signer;

use crate::cms::{sequence, set, tlv, Message};
use crate::pki::{Pki, Spec, NOW, PKI};

const NULL: &[u8] = b"\x05\x00";

/// The digests, with their object identifiers.
fn digests() -> [(&'static [u8], MessageDigest); 5] {
    [
        (b"\x06\x05\x2b\x0e\x03\x02\x1a", MessageDigest::sha1()),
        (b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04", MessageDigest::sha224()),
        (b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01", MessageDigest::sha256()),
        (b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02", MessageDigest::sha384()),
        (b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03", MessageDigest::sha512()),
    ]
}

const SHA256: usize = 2;

/// A key, and those who trust it.
struct Key {
    rsa: Rsa<Private>,
    signers: Signers,
}

impl Key {
    fn new(rsa: Rsa<Private>) -> Self {
        let key = Some(PKey::from_rsa(rsa.clone()).unwrap());
        let certificate = Spec { serial: 0x1234, key, ..Spec::default() }.issue(Some(&PKI.ca));
        let signers = Signers::from_pem(&certificate.pem(), &PKI.ca.pem(), NOW).unwrap();
        Self { rsa, signers }
    }

    fn of_pki() -> Self {
        Self { rsa: PKI.signing.key.rsa().unwrap(), signers: PKI.signers() }
    }

    fn with_exponent(bits: u32, exponent: u32) -> Self {
        let exponent = BigNum::from_u32(exponent).unwrap();
        Self::new(Rsa::generate_with_e(bits, &exponent).unwrap())
    }

    fn len(&self) -> usize {
        self.rsa.size() as usize
    }

    fn sign(&self, digest: MessageDigest, content: &[u8]) -> Vec<u8> {
        let key = PKey::from_rsa(self.rsa.clone()).unwrap();
        Signer::new(digest, &key).unwrap().sign_oneshot_to_vec(content).unwrap()
    }

    /// The signature that opens to exactly this block.
    fn raw(&self, block: &[u8]) -> Vec<u8> {
        assert_eq!(block.len(), self.len());
        let mut signature = vec![0; self.len()];
        self.rsa.private_encrypt(block, &mut signature, Padding::NONE).unwrap();
        signature
    }

    fn verify(
        &self,
        digest: usize,
        content: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let der = message(digest, content, signature);
        self.signers.verify(&SignedData::parse(der).unwrap(), NOW).map(|_| ())
    }

    #[track_caller]
    fn assert_refused(&self, digest: usize, content: &[u8], signature: &[u8], what: &str) {
        let verified = self.verify(digest, content, signature);
        assert_eq!(verified, Err(SignatureError::BadSignature), "{what}");
    }
}

/// A message of this digest, content and signature. Its signer has the name of [`PKI`]'s.
fn message(digest: usize, content: &[u8], signature: &[u8]) -> Vec<u8> {
    let identifier = sequence(&[digests()[digest].0]);
    Message {
        digests: set(&[&identifier]),
        signer_digest: identifier,
        signature: tlv(0x04, &[signature]),
        ..Message::new(content)
    }
    .der()
}

/// The DigestInfo that PKCS#1 puts into the block.
fn digest_info(digest: usize, content: &[u8]) -> Vec<u8> {
    let (oid, digest) = digests()[digest];
    sequence(&[&sequence(&[oid, NULL]), &tlv(0x04, &[&hash(digest, content).unwrap()])])
}

/// A block of PKCS#1 v1.5, of the given type, with the given number of bytes of padding, zeros at
/// its end if that is too few.
fn block(len: usize, kind: u8, padding: usize, info: &[u8]) -> Vec<u8> {
    let mut block = [&[0, kind][..], &vec![0xff; padding], &[0], info].concat();
    assert!(block.len() <= len);
    block.resize(len, 0);
    block
}

#[test]
fn keys_of_every_size_and_every_digest_are_verified() {
    for bits in [1024, 1536, 2048, 3072, 4096] {
        let key = Key::with_exponent(bits, 65_537);
        let content = bits.to_string().into_bytes();
        // Twice, and in another order: contexts are kept.
        for digest in [0, 1, 2, 3, 4, 2, 0, 4, 3, 1] {
            let signature = key.sign(digests()[digest].1, &content);
            assert_eq!(key.verify(digest, &content, &signature), Ok(()), "{bits} {digest}");
            key.assert_refused(digest, b"another content", &signature, "another content");
            for other in (0..digests().len()).filter(|other| *other != digest) {
                key.assert_refused(other, &content, &signature, "another digest");
            }
            let stranger = Key::of_pki().sign(digests()[digest].1, &content);
            key.assert_refused(digest, &content, &stranger, "another key");
            assert_eq!(key.verify(digest, &content, &signature), Ok(()), "{bits} {digest}");
        }
    }
}

#[test]
fn keys_with_small_exponents_are_verified() {
    for exponent in [3, 17] {
        let key = Key::with_exponent(2048, exponent);
        let signature = key.sign(MessageDigest::sha256(), b"content");
        assert_eq!(key.verify(SHA256, b"content", &signature), Ok(()));
        key.assert_refused(SHA256, b"contents", &signature, "another content");
    }
}

#[test]
fn a_signature_has_the_length_of_the_key() {
    let key = Key::with_exponent(1024, 65_537);
    // Until one begins with a zero byte, which is part of it.
    let (content, signature) = (0..10_000_u32)
        .map(|number| number.to_be_bytes())
        .map(|content| (content, key.sign(MessageDigest::sha256(), &content)))
        .find(|(_, signature)| signature[0] == 0)
        .unwrap();
    assert_eq!(key.verify(SHA256, &content, &signature), Ok(()));
    let cases: [(&str, Vec<u8>); 8] = [
        ("without its zero", signature[1..].to_vec()),
        ("with one more zero", [&[0], &signature[..]].concat()),
        ("with a byte behind it", [&signature[..], &[0]].concat()),
        ("cut", signature[..signature.len() - 1].to_vec()),
        ("half", signature[..signature.len() / 2].to_vec()),
        ("one byte", vec![1]),
        ("empty", Vec::new()),
        ("twice", signature.repeat(2)),
    ];
    for (what, bad) in cases {
        key.assert_refused(SHA256, &content, &bad, what);
        assert_eq!(key.verify(SHA256, &content, &signature), Ok(()), "after one {what}");
    }
}

#[test]
fn a_signature_is_less_than_the_modulus() {
    let key = Key::of_pki();
    let modulus = key.rsa.n();
    let padded = |number: &BigNum| number.to_vec_padded(key.rsa.size() as i32);
    let (content, more) = (0..1_000_u32)
        .map(|number| number.to_be_bytes())
        .find_map(|content| {
            let signature = key.sign(MessageDigest::sha256(), &content);
            let mut sum = BigNum::new().unwrap();
            sum.checked_add(&BigNum::from_slice(&signature).unwrap(), modulus).unwrap();
            Some((content, padded(&sum).ok()?))
        })
        .unwrap();
    // It opens to the same block, and is another text of the same token.
    key.assert_refused(SHA256, &content, &more, "the modulus more");
    let mut less = BigNum::new().unwrap();
    less.checked_sub(modulus, &BigNum::from_u32(1).unwrap()).unwrap();
    for number in [&BigNum::new().unwrap(), &BigNum::from_u32(1).unwrap(), &less] {
        key.assert_refused(SHA256, &content, &padded(number).unwrap(), "a fixed point");
    }
    key.assert_refused(SHA256, &content, &modulus.to_vec(), "the modulus");
    key.assert_refused(SHA256, &content, &vec![0xff; key.len()], "all ones");
}

#[test]
fn the_block_is_that_of_pkcs_1_to_the_byte() {
    let key = Key::of_pki();
    let content = b"content";
    for digest in 0..digests().len() {
        let (oid, message_digest) = digests()[digest];
        let info = digest_info(digest, content);
        let whole = key.len() - 3 - info.len();
        let good = block(key.len(), 1, whole, &info);
        assert_eq!(key.verify(digest, content, &key.raw(&good)), Ok(()));

        let hash = hash(message_digest, content).unwrap();
        let octets = tlv(0x04, &[&hash]);
        let full = |info: &[u8]| block(key.len(), 1, key.len() - 3 - info.len(), info);
        let mut hole = good.clone();
        hole[20] = 0xfe;
        let mut early = good.clone();
        early[20] = 0;
        let mut other_hash = good.clone();
        *other_hash.last_mut().unwrap() ^= 1;
        let filler = vec![0; 40];
        let blocks = [
            ("type 2", block(key.len(), 2, whole, &info)),
            ("type 0", block(key.len(), 0, whole, &info)),
            ("no padding", block(key.len(), 1, 0, &info)),
            ("eight bytes of padding", block(key.len(), 1, 8, &info)),
            ("a byte behind", block(key.len(), 1, whole - 1, &info)),
            ("a hole in the padding", hole),
            ("an early end of the padding", early),
            ("another hash", other_hash),
            ("no DigestInfo", full(&hash)),
            ("an empty DigestInfo", full(&[])),
            ("no parameters", full(&sequence(&[&sequence(&[oid]), &octets]))),
            (
                "other parameters",
                full(&sequence(&[&sequence(&[oid, &tlv(0x04, &[&filler])]), &octets])),
            ),
            (
                "more than parameters",
                full(&sequence(&[&sequence(&[oid, NULL, &tlv(0x04, &[&filler])]), &octets])),
            ),
            (
                "more than a hash",
                full(&sequence(&[&sequence(&[oid, NULL]), &octets, &tlv(0x04, &[&filler])])),
            ),
            (
                "a short hash",
                full(&sequence(&[&sequence(&[oid, NULL]), &tlv(0x04, &[&hash[..4]])])),
            ),
            ("no hash", full(&sequence(&[&sequence(&[oid, NULL]), &tlv(0x04, &[])]))),
            ("long lengths", full(&[&[0x30, 0x81, info[1]], &info[2..]].concat())),
        ];
        for (what, block) in blocks {
            key.assert_refused(digest, content, &key.raw(&block), what);
        }
        for bit in 0..8 {
            for at in [0, 1, 2, key.len() - 3 - info.len(), key.len() - info.len(), key.len() - 1] {
                let mut block = good.clone();
                block[at] ^= 1 << bit;
                // Larger than the modulus it is no block at all.
                if at > 0 {
                    let what = format!("bit {bit} of byte {at}");
                    key.assert_refused(digest, content, &key.raw(&block), &what);
                }
            }
        }
    }
}

/// Bleichenbacher's forgery of 2006: with the exponent 3, the cube root of a block with little
/// padding and room behind the hash, made without the key.
#[test]
fn a_cube_root_is_no_signature() {
    let key = Key::with_exponent(3072, 3);
    let content = br#"{"token": {}}"#;
    for digest in 0..digests().len() {
        let info = digest_info(digest, content);
        for padding in [0, 1, 8] {
            let wanted = block(key.len(), 1, padding, &info);
            let signature = root_of_at_least(&wanted);
            let mut context = BigNumContext::new().unwrap();
            let mut cube = BigNum::new().unwrap();
            let root = BigNum::from_slice(&signature).unwrap();
            let three = BigNum::from_u32(3).unwrap();
            cube.mod_exp(&root, &three, key.rsa.n(), &mut context).unwrap();
            let cube = cube.to_vec_padded(key.rsa.size() as i32).unwrap();
            let begin = padding + 3 + info.len();
            assert_eq!(cube[..begin], wanted[..begin], "the forgery is none");
            key.assert_refused(digest, content, &signature, "a cube root");
        }
    }
}

/// The least number, of as many bytes, whose cube is at least `cube`.
fn root_of_at_least(cube: &[u8]) -> Vec<u8> {
    let wanted = BigNum::from_slice(cube).unwrap();
    let mut context = BigNumContext::new().unwrap();
    let mut root = BigNum::new().unwrap();
    for bit in (0..=(cube.len() * 8 / 3) as i32).rev() {
        root.set_bit(bit).unwrap();
        let (mut square, mut power) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        square.sqr(&root, &mut context).unwrap();
        power.checked_mul(&square, &root, &mut context).unwrap();
        if power >= wanted {
            root.clear_bit(bit).unwrap();
        }
    }
    root.add_word(1).unwrap();
    root.to_vec_padded(cube.len() as i32).unwrap()
}

#[test]
fn certificates_of_one_name_do_not_share_what_is_kept() {
    let (one, two) = (Key::with_exponent(2048, 65_537), Key::with_exponent(1024, 3));
    let pem = |key: &Key| {
        let key = Some(PKey::from_rsa(key.rsa.clone()).unwrap());
        Spec { serial: 0x1234, key, ..Spec::default() }.issue(Some(&PKI.ca)).pem()
    };
    let both = [pem(&one), pem(&two)].concat();
    let signers = Signers::from_pem(&both, &PKI.ca.pem(), NOW).unwrap();
    let verify = |digest: usize, signature: &[u8]| {
        signers.verify(&SignedData::parse(message(digest, b"c", signature)).unwrap(), NOW).is_ok()
    };
    for (digest, (_, message_digest)) in digests().into_iter().enumerate() {
        for key in [&one, &two, &one] {
            assert!(verify(digest, &key.sign(message_digest, b"c")));
            assert!(!verify(digest, &key.sign(message_digest, b"d")));
        }
        assert!(!verify(digest, &Pki::signature(&PKI, message_digest, b"c")));
    }
}

#[test]
fn several_threads_may_verify_at_once() {
    let key = Key::of_pki();
    let signature = key.sign(MessageDigest::sha256(), b"content");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(key.verify(SHA256, b"content", &signature), Ok(()));
                    key.assert_refused(SHA256, b"other", &signature, "another content");
                }
            });
        }
    });
}
