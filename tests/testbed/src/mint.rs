//! Tokens and revocation lists as Keystone issues them.

mod payload;

use std::io::Write;

use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use base64::Engine;
use flate2::write::ZlibEncoder;
use flate2::Compression;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::{hash, MessageDigest};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use serde_json::{json, Map, Value};

use crate::clock::iso;
use crate::{now, Result};

pub use self::payload::Payload;

/// An audit id: 22 characters of base64url.
pub fn new_audit_id() -> String {
    let mut id = [0; 16];
    // An id that is always the same is still an id.
    let _ = openssl::rand::rand_bytes(&mut id);
    URL_SAFE_NO_PAD.encode(id)
}

/// A new token id as the UUID provider makes them: 32 hex digits.
pub fn new_uuid() -> String {
    let mut id = [0; 16];
    let _ = openssl::rand::rand_bytes(&mut id);
    hex(&id)
}

/// A new Fernet token, as far as anybody can tell who has not Keystone's keys: one of `blocks`
/// blocks of ciphertext, issued now.
pub fn new_fernet_of(blocks: usize) -> String {
    let mut token = vec![0x80];
    token.extend(now().to_be_bytes());
    let mut rest = vec![0; 16 + 16 * blocks + 32];
    let _ = openssl::rand::rand_bytes(&mut rest);
    token.extend(rest);
    URL_SAFE_NO_PAD.encode(token)
}

/// The same with as many blocks as a token that is scoped to a project has.
pub fn new_fernet() -> String {
    new_fernet_of(6)
}

/// A key pair for JWS tokens.
#[derive(Debug)]
pub struct JwsKey(PKey<Private>);

impl JwsKey {
    /// Generates a key.
    pub fn new() -> Result<Self> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        Ok(Self(PKey::from_ec_key(EcKey::generate(&group)?)?))
    }

    /// The public key, as Keystone keeps it in `jws_public_key_repository`.
    pub fn public_pem(&self) -> Result<Vec<u8>> {
        Ok(self.0.public_key_to_pem()?)
    }

    /// The private key, in PKCS #8.
    pub fn private_pem(&self) -> Result<Vec<u8>> {
        Ok(self.0.private_key_to_pem_pkcs8()?)
    }

    /// A new JWS token as Keystone makes them, whose time is over in so many seconds.
    pub fn token(&self, expires_in: i64) -> Result<String> {
        self.token_of(r#"{"alg":"ES256","typ":"JWT"}"#, &jws_claims(expires_in))
    }

    /// A JWS of any header and payload.
    pub fn token_of(&self, header: &str, payload: &str) -> Result<String> {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let digest = hash(MessageDigest::sha256(), signed.as_bytes())?;
        let signature = EcdsaSig::sign(&digest, &*self.0.ec_key()?)?;
        let (r, s) = (signature.r().to_vec_padded(32)?, signature.s().to_vec_padded(32)?);
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode([r, s].concat())))
    }
}

/// Keystone's claims, of a token that was issued now.
pub fn jws_claims(expires_in: i64) -> String {
    let now = now();
    json!({
        "sub": "user_id1",
        "iat": now.min(now + expires_in - 1),
        "exp": now + expires_in,
        "openstack_methods": ["password"],
        "openstack_audit_ids": [new_audit_id()],
        "openstack_project_id": "tenant_id1",
    })
    .to_string()
}

/// A new JWS token of a Keystone whose key is not known.
pub fn new_jws() -> String {
    static KEY: std::sync::OnceLock<Option<JwsKey>> = std::sync::OnceLock::new();
    let key = KEY.get_or_init(|| JwsKey::new().ok()).as_ref();
    key.and_then(|key| key.token(3600).ok()).unwrap_or_default()
}

/// A CMS in the armour of a PKI token.
pub fn pki(der: &[u8]) -> String {
    STANDARD.encode(der).replace('/', "-")
}

/// A CMS in the armour of a PKIZ token, compressed from PEM as Keystone does.
pub fn pkiz(der: &[u8]) -> Result<String> {
    pkiz_of(cms_pem(der).as_bytes())
}

/// Anything in the armour of a PKIZ token; the DER of a CMS is the other thing it may hold.
pub fn pkiz_of(content: &[u8]) -> Result<String> {
    pkiz_at_level(content, 6)
}

/// The same at another level of compression.
pub fn pkiz_at_level(content: &[u8], level: u32) -> Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
    let compressed = encoder.write_all(content).and_then(|()| encoder.finish());
    let compressed = crate::During::during(compressed, "compressing a token")?;
    Ok(format!("PKIZ_{}", URL_SAFE.encode(compressed)))
}

/// The PEM of a CMS message.
pub fn cms_pem(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CMS-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CMS-----\n");
    pem
}

/// The md5 of a token: its id in a revocation list.
pub fn md5(token: &str) -> String {
    digest(MessageDigest::md5(), token)
}

/// The sha256 of a token.
pub fn sha256(token: &str) -> String {
    digest(MessageDigest::sha256(), token)
}

/// The digest of a token in hex.
pub fn digest(algorithm: MessageDigest, token: &str) -> String {
    hash(algorithm, token.as_bytes()).map(|digest| hex(&digest)).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An entry of a revocation list.
#[derive(Clone, Debug, Default)]
pub struct Revoked {
    /// The hash of the token's text.
    pub id: Option<String>,
    /// One of the token's audit ids.
    pub audit_id: Option<String>,
}

impl Revoked {
    /// An entry that names the hash of a token.
    pub fn id(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), audit_id: None }
    }

    /// An entry that names an audit id, with an id that is no token's.
    pub fn audit_id(audit_id: impl Into<String>) -> Self {
        Self { id: Some(new_uuid()), audit_id: Some(audit_id.into()) }
    }
}

/// A revocation list before it is signed.
pub fn revocation_list(entries: &[Revoked]) -> String {
    let expires = iso(now() + 86_400);
    let entry = |revoked: &Revoked| {
        let mut entry = Map::new();
        entry.insert("expires".into(), json!(expires));
        let members = [("id", &revoked.id), ("audit_id", &revoked.audit_id)];
        for (name, value) in members.into_iter().filter_map(|(n, v)| Some((n, v.as_ref()?))) {
            entry.insert(name.into(), json!(value));
        }
        Value::Object(entry)
    };
    json!({ "revoked": entries.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::cms::{self, Digest, Form};
    use crate::pki::Pki;
    use crate::temp::TempDir;

    #[test]
    fn the_openssl_command_verifies_what_we_sign() {
        let pki = Pki::new().unwrap();
        let dir = TempDir::new("mint").unwrap();
        std::fs::write(dir.join("signing_cert.pem"), pki.signing.pem_with_text().unwrap()).unwrap();
        std::fs::write(dir.join("cacert.pem"), pki.authority.pem().unwrap()).unwrap();
        for digest in [Digest::Sha1, Digest::Sha256, Digest::Sha512] {
            for null_parameters in [false, true] {
                let json = Payload::v3().json();
                let form = Form { digest, null_parameters, bend: None };
                let der = cms::sign_as(&pki.signing, json.as_bytes(), form).unwrap();
                std::fs::write(dir.join("cms.pem"), cms_pem(&der)).unwrap();
                // The call of keystoneclient's cms_verify.
                let output = Command::new("openssl")
                    .current_dir(dir.path())
                    .args(["cms", "-verify", "-certfile", "signing_cert.pem"])
                    .args(["-CAfile", "cacert.pem", "-inform", "PEM", "-nosmimecap"])
                    .args(["-nodetach", "-nocerts", "-noattr", "-in", "cms.pem"])
                    .output()
                    .unwrap();
                let complaint = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{}: {complaint}", cms::name(digest));
                assert_eq!(output.stdout, json.as_bytes());
            }
        }
    }
}
