//! A CA, a signing certificate, and tokens signed with it.

use std::sync::LazyLock;

use keystone_token::cms::Signers;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use openssl::x509::{X509Name, X509};

/// A moment at which the certificates of [`PKI`] are valid.
pub const NOW: i64 = 1_800_000_000;
pub const DAY: i64 = 86_400;

pub struct Certificate {
    pub x509: X509,
    pub key: PKey<Private>,
}

pub struct Pki {
    pub ca: Certificate,
    pub signing: Certificate,
}

/// Made once: finding primes is what takes the time here.
pub static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let ca = Spec { subject: "Keystone CA", is_ca: true, ..Spec::default() }.issue(None);
    let signing = Spec { subject: "Keystone", serial: 0x1234, ..Spec::default() }.issue(Some(&ca));
    Pki { ca, signing }
});

impl Pki {
    pub fn signers(&self) -> Signers {
        Signers::from_pem(&self.signing.pem(), &self.ca.pem(), NOW).unwrap()
    }

    /// What `openssl cms -sign -outform DER` makes with the flags that Keystone gives it.
    pub fn sign(&self, content: &[u8]) -> Vec<u8> {
        self.sign_with(content, KEYSTONE_FLAGS)
    }

    pub fn sign_with(&self, content: &[u8], flags: CMSOptions) -> Vec<u8> {
        let Certificate { x509, key } = &self.signing;
        let message =
            CmsContentInfo::sign(Some(x509), Some(key), None, Some(content), flags).unwrap();
        message.to_der().unwrap()
    }

    pub fn signature(&self, digest: MessageDigest, content: &[u8]) -> Vec<u8> {
        Signer::new(digest, &self.signing.key).unwrap().sign_oneshot_to_vec(content).unwrap()
    }
}

pub const KEYSTONE_FLAGS: CMSOptions = CMSOptions::NOSMIMECAP
    .union(CMSOptions::CMS_NOCERTS)
    .union(CMSOptions::NOATTR)
    .union(CMSOptions::BINARY);

pub struct Spec<'a> {
    pub subject: &'a str,
    pub serial: u32,
    pub is_ca: bool,
    pub usage: Option<KeyUsage>,
    pub extended_usage: Option<ExtendedKeyUsage>,
    pub not_before: i64,
    pub not_after: i64,
    pub key: Option<PKey<Private>>,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Self {
            subject: "Keystone",
            serial: 1,
            is_ca: false,
            usage: None,
            extended_usage: None,
            not_before: NOW - DAY,
            not_after: NOW + DAY,
            key: None,
        }
    }
}

impl Spec<'_> {
    /// Signed by `issuer`, or by itself.
    pub fn issue(self, issuer: Option<&Certificate>) -> Certificate {
        let key = self.key.unwrap_or_else(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());
        let subject = name(self.subject);
        let serial = BigNum::from_u32(self.serial).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        let issuer_name = issuer.map_or(&*subject, |issuer| issuer.x509.subject_name());
        builder.set_issuer_name(issuer_name).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(self.not_before).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(self.not_after).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        if self.is_ca {
            builder
                .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
                .unwrap();
        }
        if let Some(usage) = self.usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if let Some(usage) = self.extended_usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        let context = builder.x509v3_context(issuer.map(|issuer| &*issuer.x509), None);
        let key_id = SubjectKeyIdentifier::new().build(&context).unwrap();
        builder.append_extension(key_id).unwrap();
        let signer = issuer.map_or(&key, |issuer| &issuer.key);
        builder.sign(signer, MessageDigest::sha256()).unwrap();
        Certificate { x509: builder.build(), key }
    }
}

impl Certificate {
    pub fn pem(&self) -> Vec<u8> {
        self.x509.to_pem().unwrap()
    }
}

fn name(common_name: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("C", "US").unwrap();
    name.append_entry_by_text("O", "Unset").unwrap();
    name.append_entry_by_text("CN", common_name).unwrap();
    name.build()
}

/// The content of a v3 token.
pub fn v3_payload() -> Vec<u8> {
    br#"{"token":{"methods":["password"],"roles":[{"id":"r1","name":"member"}],"expires_at":"2027-01-16T00:00:00.000000Z","project":{"domain":{"id":"default","name":"Default"},"id":"p1","name":"demo"},"user":{"domain":{"id":"default","name":"Default"},"id":"u1","name":"demo"},"audit_ids":["aaaaaaaaaaaaaaaaaaaaaa","bbbbbbbbbbbbbbbbbbbbbb"],"issued_at":"2027-01-15T00:00:00.000000Z"}}"#.to_vec()
}

/// The same without audit ids.
pub fn v3_payload_without_audit_ids() -> Vec<u8> {
    let payload = String::from_utf8(v3_payload()).unwrap();
    let start = payload.find(",\"audit_ids\"").unwrap();
    let end = payload.find(",\"issued_at\"").unwrap();
    [&payload[..start], &payload[end..]].concat().into_bytes()
}
