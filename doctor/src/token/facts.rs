//! What a token says of itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use keystone_token::cms::{DigestParameters, SignedData};
use keystone_token::format::{HashAlgorithm, TokenFormat};
use keystone_token::identity::Identity;
use keystone_token::time::format_utc;
use keystone_token::token;
use openssl::x509::X509Name;
use serde::Serialize;

use crate::certificate;
use crate::report::Plain;

/// What can be read from a token.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// `pki`, `pkiz`, `uuid`, `fernet`, `jws` or `unknown`.
    pub format: &'static str,
    /// How many bytes it takes.
    pub length: usize,
    /// Its hashes, by algorithm; the first configured one is `$keystone_token_id`.
    pub ids: BTreeMap<&'static str, String>,
    /// Who signed it, for PKI and PKIZ.
    pub signature: Option<Signature>,
    /// When it was made, for Fernet.
    pub created_at: Option<String>,
    /// What is in the payload of a JWS, where nothing is verified.
    pub jws: Option<Jws>,
    /// Whose it is, if that can be read, or Keystone has said it.
    pub identity: Option<Claims>,
}

/// How a PKI token is signed.
#[derive(Clone, Debug, Serialize)]
pub struct Signature {
    /// The digest, such as `sha256`.
    pub digest: String,
    /// `absent`, or `null` as old releases of OpenSSL write.
    pub digest_parameters: &'static str,
    /// Who issued the signer's certificate.
    pub issuer: String,
    /// The number of that certificate, in hexadecimal digits.
    pub serial: String,
}

/// What can be read of a JWS.
#[derive(Clone, Debug, Serialize)]
pub struct Jws {
    /// The algorithm of its signature.
    pub algorithm: Option<String>,
    /// When it was issued: the claim `iat`.
    pub issued_at: Option<String>,
    /// When it expires: the claim `exp`.
    pub expires_at: Option<String>,
}

/// The user, the project and the roles that a token names.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are those of the module's variables")]
pub struct Claims {
    /// Whether a signature or Keystone has confirmed it.
    pub verified: bool,
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    pub user_domain_name: Option<String>,
    pub project_id: Option<String>,
    pub project_name: Option<String>,
    pub project_domain_name: Option<String>,
    pub domain_id: Option<String>,
    pub domain_name: Option<String>,
    pub system_scope: Option<String>,
    pub roles: Vec<String>,
    pub audit_ids: Vec<String>,
    pub issued_at: Option<String>,
    pub expires_at: String,
}

impl Facts {
    /// Reads what can be read without asking anybody.
    pub fn of(text: &[u8], algorithms: &[HashAlgorithm]) -> Self {
        let format = TokenFormat::of(text);
        let ids = algorithms.iter().map(|it| (it.as_str(), it.hex_digest(text))).collect();
        let mut facts =
            Self { format: format.as_str(), length: text.len(), ids, ..Self::default() };
        match format {
            TokenFormat::Fernet => facts.created_at = fernet_time(text).map(format_utc),
            TokenFormat::Jws => facts.jws = jws(text),
            TokenFormat::Pki | TokenFormat::Pkiz => {
                if let Ok(parsed) = token::parse(text) {
                    facts.signature = Some(Signature::of(parsed.signed_data()));
                    let content = Identity::from_json(parsed.signed_data().content());
                    if let Ok(identity) = content {
                        facts.identify(&identity, false);
                    }
                }
            }
            // Nothing can be read in the others.
            _ => {}
        }
        facts
    }

    /// Says whose the token is.
    pub fn identify(&mut self, identity: &Identity, verified: bool) {
        self.identity = Some(Claims {
            verified,
            user_id: identity.user_id.clone(),
            user_name: identity.user_name.clone(),
            user_domain_name: identity.user_domain_name.clone(),
            project_id: identity.project_id.clone(),
            project_name: identity.project_name.clone(),
            project_domain_name: identity.project_domain_name.clone(),
            domain_id: identity.domain_id.clone(),
            domain_name: identity.domain_name.clone(),
            system_scope: identity.system_scope.clone(),
            roles: identity.roles.clone(),
            audit_ids: identity.audit_ids.clone(),
            issued_at: identity.issued_at.map(format_utc),
            expires_at: format_utc(identity.expires_at),
        });
    }

    /// The lines of the report for people.
    pub fn human(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            if !text.is_empty() {
                let _ = writeln!(out, "  {name:<12} {}", Plain(&text));
            }
        };
        line("format", format!("{}, {} bytes", self.format, self.length));
        for (algorithm, id) in &self.ids {
            line(algorithm, id.clone());
        }
        if let Some(signature) = &self.signature {
            let Signature { digest, digest_parameters, issuer, serial } = signature;
            line("signed", format!("with {digest} (parameters {digest_parameters})"));
            line("signer", format!("serial {serial}, issued by {issuer}"));
        }
        line("made", self.created_at.clone().unwrap_or_default());
        if let Some(jws) = &self.jws {
            line("signed", jws.algorithm.clone().unwrap_or_default());
            line("issued", jws.issued_at.clone().unwrap_or_default());
            line("expires", jws.expires_at.clone().unwrap_or_default());
        }
        let Some(claims) = &self.identity else { return out };
        if !claims.verified {
            line("", "what follows is what it says, and nobody has vouched for it:".to_owned());
        }
        line("user", named(&claims.user_name, &claims.user_id, &claims.user_domain_name));
        line(
            "project",
            named(&claims.project_name, &claims.project_id, &claims.project_domain_name),
        );
        line("domain", named(&claims.domain_name, &claims.domain_id, &None));
        line("system", claims.system_scope.clone().unwrap_or_default());
        line("roles", claims.roles.join(", "));
        line("audit ids", claims.audit_ids.join(", "));
        line("issued", claims.issued_at.clone().unwrap_or_default());
        line("expires", claims.expires_at.clone());
        out
    }
}

impl Signature {
    /// Reads the names in a message.
    pub fn of(signed: &SignedData) -> Self {
        let (issuer, serial) = signed.issuer_and_serial();
        let issuer = X509Name::from_der(issuer).map(|name| certificate::name(&name));
        Self {
            digest: format!("{:?}", signed.digest()).to_lowercase(),
            digest_parameters: match signed.parameters() {
                DigestParameters::Absent => "absent",
                DigestParameters::Null => "null",
            },
            issuer: issuer.unwrap_or_default(),
            serial: serial_digits(serial),
        }
    }
}

fn named(name: &Option<String>, id: &Option<String>, domain: &Option<String>) -> String {
    let text = match (name, id) {
        (Some(name), Some(id)) => format!("{name} ({id})"),
        (one, other) => one.as_ref().or(other.as_ref()).cloned().unwrap_or_default(),
    };
    match domain {
        Some(domain) if !text.is_empty() => format!("{text} of {domain}"),
        _ => text,
    }
}

/// The digits of a DER integer that is shorter than 128 bytes, as all serial numbers are.
fn serial_digits(der: &[u8]) -> String {
    let digits = der.get(2..).unwrap_or_default();
    let digits = match digits {
        [0, rest @ ..] if !rest.is_empty() => rest,
        digits => digits,
    };
    digits.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A Fernet token begins with a version and the time at which it was made.
fn fernet_time(text: &[u8]) -> Option<i64> {
    let head = URL_SAFE_NO_PAD.decode(text.get(..12)?).ok()?;
    match head.split_first()? {
        (0x80, seconds) => Some(i64::from_be_bytes(seconds.try_into().ok()?)),
        _ => None,
    }
}

fn jws(text: &[u8]) -> Option<Jws> {
    let mut parts = text.split(|&byte| byte == b'.');
    let mut part = || -> Option<serde_json::Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()
    };
    let (header, payload) = (part()?, part()?);
    let time = |name: &str| payload.get(name)?.as_i64().map(format_utc);
    let algorithm = header.get("alg").and_then(|name| name.as_str());
    Some(Jws {
        algorithm: algorithm.map(|name| name.chars().take(16).collect()),
        issued_at: time("iat"),
        expires_at: time("exp"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fernet_token_tells_when_it_was_made() {
        let facts = Facts::of(b"gAAAAABYqGsAabcdefgh", &[HashAlgorithm::Md5]);
        assert_eq!(facts.format, "fernet");
        assert_eq!(facts.created_at.as_deref(), Some("2017-02-18T15:40:48Z"));
        assert!(facts.ids.contains_key("md5"));
    }

    #[test]
    fn a_jws_tells_its_times() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let text = format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#), part(r#"{"iat":0,"exp":60}"#));
        let jws = Facts::of(text.as_bytes(), &[]).jws.unwrap();
        assert_eq!(jws.algorithm.as_deref(), Some("ES256"));
        assert_eq!(jws.expires_at.as_deref(), Some("1970-01-01T00:01:00Z"));
    }

    #[test]
    fn serial_numbers_are_written_as_openssl_does() {
        assert_eq!(serial_digits(&[2, 1, 1]), "01");
        assert_eq!(serial_digits(&[2, 2, 0, 0x80]), "80");
        assert_eq!(serial_digits(&[2, 1, 0]), "00");
    }
}
