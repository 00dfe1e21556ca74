//! A certificate in words.

use keystone_token::time::format_utc;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::{X509NameRef, X509Ref, X509};

use crate::report::{span, Status};

/// The certificates of a PEM file; there may be text between them.
pub fn parse(pem: &[u8]) -> Result<Vec<X509>, String> {
    match X509::stack_from_pem(pem) {
        Ok(certificates) if certificates.is_empty() => Err("it holds no certificate".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err("it holds a certificate that cannot be read".to_owned()),
    }
}

/// Subject, serial number and end.
pub fn describe(certificate: &X509Ref, now: i64) -> String {
    let (_, text) = validity(certificate, now);
    format!("{}, serial {}, {text}", name(certificate.subject_name()), serial(certificate))
}

/// A name as people write it: `C=US, CN=www.example.com`.
pub fn name(name: &X509NameRef) -> String {
    let entry = |entry: &openssl::x509::X509NameEntryRef| {
        let key = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string().unwrap_or_default();
        format!("{key}={value}")
    };
    name.entries().map(entry).collect::<Vec<_>>().join(", ")
}

/// A certificate's serial number, in hexadecimal digits.
pub fn serial(certificate: &X509Ref) -> String {
    let number = certificate.serial_number().to_bn().and_then(|number| number.to_hex_str());
    number.map(|digits| digits.to_string()).unwrap_or_default()
}

/// Whether a certificate's time is now, and how long it is.
pub fn validity(certificate: &X509Ref, now: i64) -> (Status, String) {
    let (Ok(from), Ok(until)) = (unix(certificate.not_before()), unix(certificate.not_after()))
    else {
        return (Status::Fail, "with dates that cannot be read".to_owned());
    };
    let date = format_utc(until);
    match until - now {
        _ if now < from => (
            Status::Fail,
            format!("not valid before {}, in {}", format_utc(from), span(from - now)),
        ),
        left if left <= 0 => (Status::Fail, format!("expired {date}, {} ago", span(left))),
        left if left < SOON => {
            (Status::Warn, format!("valid until {date}, only {} more", span(left)))
        }
        left => (Status::Ok, format!("valid until {date}, {} more", span(left))),
    }
}

/// The certificates of a PEM file in words, if none of them is valid now.
pub fn none_valid(pem: &[u8], now: i64) -> Option<String> {
    let certificates = parse(pem).ok()?;
    if certificates.iter().any(|it| validity(it, now).0 != Status::Fail) {
        return None;
    }
    let texts: Vec<String> = certificates.iter().map(|it| describe(it, now)).collect();
    Some(texts.join("; "))
}

fn unix(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

/// A certificate that ends within two weeks wants to be thought of.
const SOON: i64 = 14 * 86_400;
