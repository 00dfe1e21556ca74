//! Which certificates count, and when.

use keystone_token::cms::{CertificateError, SignatureError, SignedData, Signers};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::{ExtendedKeyUsage, KeyUsage};

use crate::pki::{v3_payload, Certificate, Pki, Spec, DAY, NOW, PKI};

fn signed() -> SignedData {
    SignedData::parse(PKI.sign(&v3_payload())).unwrap()
}

/// A CA with the key of [`PKI`]'s, which saves the making of one.
fn ca(spec: Spec<'_>) -> Certificate {
    Spec { subject: "Keystone CA", is_ca: true, key: Some(PKI.ca.key.clone()), ..spec }.issue(None)
}

fn signing(spec: Spec<'_>) -> Certificate {
    Spec { serial: 0x1234, key: Some(PKI.signing.key.clone()), ..spec }.issue(Some(&PKI.ca))
}

fn load(signing: &[u8], ca: &[u8]) -> Result<Signers, CertificateError> {
    Signers::from_pem(signing, ca, NOW)
}

#[test]
fn files_may_hold_text_and_several_certificates() {
    let other = Spec { serial: 99, key: Some(PKI.ca.key.clone()), ..Spec::default() };
    let other = other.issue(Some(&PKI.ca));
    let text = PKI.signing.x509.to_text().unwrap();
    let both: [&[u8]; 5] =
        [&other.pem(), b"\n# the old one\n", &text, &PKI.signing.pem(), b"\nend\n"];
    let cas = [ca(Spec { serial: 7, ..Spec::default() }).pem(), text.clone(), PKI.ca.pem()];
    let signers = load(&both.concat(), &cas.concat()).unwrap();
    assert!(signers.verify(&signed(), NOW).is_ok());
}

#[test]
fn files_without_a_readable_certificate_are_errors() {
    let good = PKI.ca.pem();
    let broken = String::from_utf8(good.clone()).unwrap().replace("MII", "MIX");
    for bad in [b"".as_slice(), b"FAKE CERT", b"-----BEGIN CERTIFICATE-----\n", broken.as_bytes()] {
        assert!(matches!(load(bad, &good), Err(CertificateError::Signing(_))));
        assert!(matches!(load(&good, bad), Err(CertificateError::Ca(_))));
    }
}

#[test]
fn a_certificate_of_another_ca_does_not_count() {
    let other_ca = Spec { subject: "Keystone CA", is_ca: true, ..Spec::default() }.issue(None);
    let error = load(&PKI.signing.pem(), &other_ca.pem()).unwrap_err();
    assert!(matches!(error, CertificateError::Untrusted(_)), "{error}");

    // With a good one beside it, it is left out.
    let foreign = Spec { serial: 0x1234, ..Spec::default() }.issue(Some(&other_ca));
    let files = [foreign.pem(), PKI.signing.pem()].concat();
    let signers = load(&files, &PKI.ca.pem()).unwrap();
    assert!(signers.verify(&signed(), NOW).is_ok());
    let forged = Pki { ca: other_ca, signing: foreign }.sign(&v3_payload());
    let forged = SignedData::parse(forged).unwrap();
    assert_eq!(signers.verify(&forged, NOW), Err(SignatureError::BadSignature));
}

#[test]
fn two_certificates_of_one_name_are_both_tried() {
    // `keystone-manage pki_setup`, run again, gives the same names and serial numbers.
    let spec = Spec { subject: "Keystone CA", is_ca: true, ..Spec::default() };
    let new_ca = spec.issue(None);
    let new = Spec { serial: 0x1234, ..Spec::default() }.issue(Some(&new_ca));
    let signing = [new.pem(), PKI.signing.pem()].concat();
    let signers = load(&signing, &[PKI.ca.pem(), new_ca.pem()].concat()).unwrap();
    assert!(signers.verify(&signed(), NOW).is_ok());
    let new = Pki { ca: new_ca, signing: new };
    let signed = SignedData::parse(new.sign(b"{}")).unwrap();
    assert_eq!(signers.verify(&signed, NOW), Ok(&b"{}"[..]));
    assert_eq!(PKI.signers().verify(&signed, NOW), Err(SignatureError::BadSignature));
}

#[test]
fn an_intermediate_may_be_the_trusted_one() {
    let intermediate =
        Spec { subject: "Middle", is_ca: true, serial: 5, ..Spec::default() }.issue(Some(&PKI.ca));
    let leaf = Spec { serial: 6, ..Spec::default() }.issue(Some(&intermediate));
    let pki = Pki { ca: intermediate, signing: leaf };
    let signed = SignedData::parse(pki.sign(b"{}")).unwrap();
    assert!(pki.signers().verify(&signed, NOW).is_ok());
    // Or it comes with the signing certificate, and the root is trusted.
    let chain = [pki.signing.pem(), pki.ca.pem()].concat();
    assert!(load(&chain, &PKI.ca.pem()).unwrap().verify(&signed, NOW).is_ok());
    assert!(load(&pki.signing.pem(), &PKI.ca.pem()).is_err());
}

#[test]
fn the_certificate_must_be_meant_for_signing() {
    let bad = [
        Spec { usage: Some(usage(|it| it.key_encipherment())), ..Spec::default() },
        Spec { extended_usage: Some(extended_usage(|it| it.server_auth())), ..Spec::default() },
    ];
    for spec in bad {
        let error = load(&signing(spec).pem(), &PKI.ca.pem()).unwrap_err();
        assert!(matches!(error, CertificateError::Untrusted(_)), "{error}");
    }
    let good = [
        Spec { usage: Some(usage(|it| it.digital_signature())), ..Spec::default() },
        Spec { usage: Some(usage(|it| it.non_repudiation())), ..Spec::default() },
        Spec {
            extended_usage: Some(extended_usage(|it| it.email_protection())),
            ..Spec::default()
        },
    ];
    for spec in good {
        let signers = load(&signing(spec).pem(), &PKI.ca.pem()).unwrap();
        assert!(signers.verify(&signed(), NOW).is_ok());
    }
}

fn usage(set: impl FnOnce(&mut KeyUsage) -> &mut KeyUsage) -> KeyUsage {
    let mut usage = KeyUsage::new();
    set(&mut usage);
    usage
}

fn extended_usage(
    set: impl FnOnce(&mut ExtendedKeyUsage) -> &mut ExtendedKeyUsage,
) -> ExtendedKeyUsage {
    let mut usage = ExtendedKeyUsage::new();
    set(&mut usage);
    usage
}

#[test]
fn the_issuer_must_be_a_ca() {
    let no_ca = Spec {
        subject: "Keystone CA",
        usage: Some(usage(|it| it.digital_signature())),
        key: Some(PKI.ca.key.clone()),
        ..Spec::default()
    };
    assert!(load(&PKI.signing.pem(), &no_ca.issue(None).pem()).is_err());
}

#[test]
fn the_key_must_be_rsa() {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let certificate = Spec { key: Some(key), ..Spec::default() }.issue(Some(&PKI.ca));
    let error = load(&certificate.pem(), &PKI.ca.pem()).unwrap_err();
    assert!(matches!(error, CertificateError::NotRsa), "{error}");
}

#[test]
fn the_period_of_validity_is_checked_each_time() {
    let (from, to) = (NOW + 2 * DAY, NOW + 3 * DAY);
    let ca = ca(Spec { not_before: NOW, not_after: NOW + 9 * DAY, ..Spec::default() });
    let certificate = signing(Spec { not_before: from, not_after: to, ..Spec::default() });
    for loaded_at in [0, NOW, from, to, to + DAY] {
        let signers = Signers::from_pem(&certificate.pem(), &ca.pem(), loaded_at).unwrap();
        assert_eq!((signers.not_before(), signers.not_after()), (from, to));
        assert_eq!(signers.verify(&signed(), from - 1), Err(SignatureError::NotYetValid));
        assert!(signers.verify(&signed(), from).is_ok());
        assert!(signers.verify(&signed(), to - 1).is_ok());
        assert_eq!(signers.verify(&signed(), to), Err(SignatureError::Expired));
    }
}

#[test]
fn the_period_is_that_of_the_whole_chain() {
    let ca = ca(Spec { not_before: NOW, not_after: NOW + 100, ..Spec::default() });
    let signers = load(&PKI.signing.pem(), &ca.pem()).unwrap();
    assert_eq!((signers.not_before(), signers.not_after()), (NOW, NOW + 100));
    assert_eq!(signers.verify(&signed(), NOW + 100), Err(SignatureError::Expired));

    // Of two CA certificates with one key, the one that is valid counts.
    let files = [ca.pem(), PKI.ca.pem()].concat();
    let signers = Signers::from_pem(&PKI.signing.pem(), &files, NOW + 200).unwrap();
    assert!(signers.verify(&signed(), NOW + 200).is_ok());
}

#[test]
fn an_operator_sees_whose_they_are_and_when_they_end() {
    let ca = ca(Spec { not_after: NOW + 100, ..Spec::default() });
    let (one, other) =
        (signing(Spec::default()), Spec { subject: "Anna \u{f1}", ..Spec::default() });
    let other = Spec { serial: 0xabcdef, key: Some(PKI.signing.key.clone()), ..other };
    let files = [one.pem(), other.issue(Some(&PKI.ca)).pem()].concat();
    let signers = load(&files, &ca.pem()).unwrap();
    let seen: Vec<_> = signers.certificates().map(|it| (it.subject, it.serial)).collect();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].0.starts_with("CN=Keystone"), "{seen:?}");
    assert!(seen[1].0.starts_with("CN=Anna \u{f1}"), "{seen:?}");
    assert_eq!([seen[0].1, seen[1].1], ["1234", "abcdef"]);
    let periods = signers.certificates().map(|it| (it.not_before, it.not_after));
    assert_eq!(periods.collect::<Vec<_>>(), [(NOW - DAY, NOW + 100); 2]);
}

#[test]
fn nothing_stays_in_the_error_queue_of_openssl() {
    let other_ca = Spec { subject: "Keystone CA", is_ca: true, ..Spec::default() }.issue(None);
    let _ = load(&PKI.signing.pem(), &other_ca.pem());
    let _ = load(b"FAKE CERT", &PKI.ca.pem());
    let signers = PKI.signers();
    let mut der = PKI.sign(&v3_payload());
    let last = der.len() - 1;
    for bit in 0..8 {
        der[last] ^= 1 << bit;
        let _ = signers.verify(&SignedData::parse(der.clone()).unwrap(), NOW);
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
}
