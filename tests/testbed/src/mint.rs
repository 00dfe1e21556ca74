//! Tokens and revocation lists as Keystone issues them.

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

use crate::clock::{iso, iso_micros};
use crate::cms::{self, Form};
use crate::pki::Pair;
use crate::{now, Result};

/// What a token says, with the names that auth_token's own tests use.
#[derive(Clone, Debug)]
pub struct Payload {
    version: Version,
    body: Map<String, Value>,
    expires_at: i64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    V2,
    V3,
}

impl Payload {
    /// A v2.0 token for tenant `tenant_id1`, with `role1` and `role2` and a catalog.
    pub fn v2() -> Self {
        let tenant = json!({"id": "tenant_id1", "name": "tenant_name1", "enabled": true});
        let mut payload = Self::v2_unscoped().roles(&["role1", "role2"]).catalog();
        payload.set("/token/tenant", tenant);
        payload
    }

    /// A v2.0 token without a tenant.
    pub fn v2_unscoped() -> Self {
        let body = json!({
            "token": {"id": "placeholder", "issued_at": iso_micros(now())},
            "serviceCatalog": [],
            "user": {
                "id": "user_id1", "name": "user_name1", "username": "user_name1",
                "roles_links": [], "roles": []
            },
            "metadata": {"is_admin": 0, "roles": []}
        });
        Self::new(Version::V2, body)
    }

    /// A v3 token for project `tenant_id1` of `domain_id1`, with `role1`, `role2` and a catalog.
    pub fn v3() -> Self {
        let mut payload = Self::v3_unscoped().roles(&["role1", "role2"]).catalog();
        payload.set(
            "/project",
            json!({
                "id": "tenant_id1", "name": "tenant_name1",
                "domain": {"id": "domain_id1", "name": "domain_name1"}
            }),
        );
        payload.set("/is_domain", json!(false));
        payload
    }

    /// A v3 token for domain `domain_id1`, with `role1`, `role2` and a catalog.
    pub fn v3_domain() -> Self {
        let mut payload = Self::v3_unscoped().roles(&["role1", "role2"]).catalog();
        payload.set("/domain", json!({"id": "domain_id1", "name": "domain_name1"}));
        payload
    }

    /// A v3 token for the whole system, with `role1`, `role2` and a catalog.
    pub fn v3_system() -> Self {
        let mut payload = Self::v3_unscoped().roles(&["role1", "role2"]).catalog();
        payload.set("/system", json!({"all": true}));
        payload
    }

    /// A v3 token without a scope.
    pub fn v3_unscoped() -> Self {
        let body = json!({
            "methods": ["password"],
            "issued_at": iso_micros(now()),
            "user": {
                "id": "user_id1", "name": "user_name1",
                "domain": {"id": "domain_id1", "name": "domain_name1"}
            }
        });
        Self::new(Version::V3, body)
    }

    fn new(version: Version, body: Value) -> Self {
        let Value::Object(body) = body else { unreachable!("written as an object above") };
        let payload = Self { version, body, expires_at: 0 };
        payload.expires_in(3600).audit_ids(&[&new_audit_id()])
    }

    /// A v2.0 token of a service, with the role `service` and one more.
    pub fn v2_service() -> Self {
        Self::v2().of_service().with("/user/username", json!("service_user_name1"))
    }

    /// A v3 token of a service, with the role `service` and one more.
    pub fn v3_service() -> Self {
        let domain = json!({"id": "service_domain_id1", "name": "service_domain_name1"});
        Self::v3().of_service().with("/user/domain", domain.clone()).with("/project/domain", domain)
    }

    fn of_service(self) -> Self {
        self.user("service_user_id1", "service_user_name1")
            .project("service_project_id1", "service_project_name1")
            .roles(&["service", "service_role2"])
    }

    /// Sets the user.
    pub fn user(mut self, id: &str, name: &str) -> Self {
        self.set("/user/id", json!(id));
        self.set("/user/name", json!(name));
        self
    }

    /// With another project or tenant.
    pub fn project(mut self, id: &str, name: &str) -> Self {
        let at = self.pick("/token/tenant", "/project");
        self.set(&format!("{at}/id"), json!(id));
        self.set(&format!("{at}/name"), json!(name));
        self
    }

    /// Sets the roles.
    pub fn roles(mut self, names: &[&str]) -> Self {
        let roles = names.iter().map(|name| match self.version {
            Version::V2 => json!({"name": name}),
            Version::V3 => json!({"id": format!("{name}_id"), "name": name}),
        });
        let roles = roles.collect();
        self.set(self.pick("/user/roles", "/roles"), Value::Array(roles));
        self
    }

    /// Ending so many seconds from now.
    pub fn expires_in(self, seconds: i64) -> Self {
        self.expires_at(now() + seconds)
    }

    /// Ending at the given time, in seconds since 1970.
    pub fn expires_at(mut self, unix: i64) -> Self {
        self.expires_at = unix;
        match self.version {
            Version::V2 => self.set("/token/expires", json!(iso(unix))),
            Version::V3 => self.set("/expires_at", json!(iso_micros(unix))),
        }
        self
    }

    /// Whether its time is over.
    pub fn has_expired(&self) -> bool {
        self.expires_at <= now()
    }

    /// As a token of an application credential with access rules.
    pub fn access_rules(self, rules: Value) -> Self {
        let credential = json!({"id": new_uuid(), "restricted": true, "access_rules": rules});
        self.with("/application_credential", credential)
    }

    /// Whether it has access rules.
    pub fn has_access_rules(&self) -> bool {
        self.pointer("/application_credential/access_rules").is_some()
    }

    /// With these audit ids: its own, and that of the token it was made from.
    pub fn audit_ids(mut self, ids: &[&str]) -> Self {
        self.set(self.pick("/token/audit_ids", "/audit_ids"), json!(ids));
        self
    }

    /// The first audit id; empty if the token has none.
    pub fn audit_id(&self) -> &str {
        let at = self.pick("/token/audit_ids/0", "/audit_ids/0");
        self.pointer(at).and_then(Value::as_str).unwrap_or_default()
    }

    /// Bound to something, such as `kerberos` to `USER@REALM`.
    pub fn bind(mut self, mechanism: &str, value: &str) -> Self {
        let mut bind = Map::new();
        bind.insert(mechanism.into(), json!(value));
        self.set(self.pick("/token/bind", "/bind"), Value::Object(bind));
        self
    }

    /// Bound to the certificate of a client, of this PEM, as Keystone 30 does.
    pub fn bound_to_certificate(self, pem: &str) -> Self {
        let thumbprint = URL_SAFE.encode(openssl::sha::sha256(pem.as_bytes()));
        self.with("/oauth2_credential", json!({ "x5t#S256": thumbprint }))
    }

    /// With the catalog of auth_token's tests.
    pub fn catalog(mut self) -> Self {
        let url = |port: u16| format!("http://127.0.0.1:{port}/v1/tenant_id1");
        let (at, catalog) = match self.version {
            Version::V2 => (
                "/serviceCatalog",
                json!([{
                    "type": "volume", "name": "volume", "endpoints_links": [],
                    "endpoints": [{
                        "region": "regionOne",
                        "adminURL": url(8776), "internalURL": url(8777), "publicURL": url(8778)
                    }]
                }]),
            ),
            Version::V3 => (
                "/catalog",
                json!([{
                    "type": "volume", "name": "volume", "id": "b5f7",
                    "endpoints": [
                        {"interface": "admin", "region": "regionOne", "url": url(8776), "id": "1"},
                        {"interface": "internal", "region": "regionOne", "url": url(8777), "id": "2"},
                        {"interface": "public", "region": "regionOne", "url": url(8778), "id": "3"}
                    ]
                }]),
            ),
        };
        self.set(at, catalog);
        self
    }

    /// With one member of the token set to anything; `at` is a path such as `/user/name`, below
    /// `access` or `token`.
    pub fn with(mut self, at: &str, value: Value) -> Self {
        self.set(at, value);
        self
    }

    /// Removes one member of the JSON.
    pub fn without(mut self, at: &str) -> Self {
        let (parent, name) = at.rsplit_once('/').unwrap_or(("", at));
        let parent = match parent {
            "" => Some(&mut self.body),
            _ => {
                let (first, rest) = split(parent);
                let inner = self.body.get_mut(first).and_then(|v| v.pointer_mut(rest));
                inner.and_then(Value::as_object_mut)
            }
        };
        if let Some(parent) = parent {
            parent.remove(name);
        }
        self
    }

    /// Bigger by about so many bytes that do not compress.
    pub fn padded(self, bytes: usize) -> Self {
        let mut noise = vec![0; bytes * 3 / 4];
        // Failing to be random, it is still big.
        let _ = openssl::rand::rand_bytes(&mut noise);
        self.with("/padding", json!(STANDARD.encode(noise)))
    }

    /// The JSON that is signed.
    pub fn json(&self) -> String {
        let root = match self.version {
            Version::V2 => "access",
            Version::V3 => "token",
        };
        json!({ root: self.body }).to_string()
    }

    /// Signed by `pair`, as a PKI token.
    pub fn pki(&self, pair: &Pair) -> Result<String> {
        Ok(pki(&cms::sign(pair, self.json().as_bytes())?))
    }

    /// Signed by `pair`, as a PKIZ token.
    pub fn pkiz(&self, pair: &Pair) -> Result<String> {
        pkiz(&cms::sign(pair, self.json().as_bytes())?)
    }

    /// Signed by `pair` in another form, as a PKI token.
    pub fn pki_as(&self, pair: &Pair, form: Form) -> Result<String> {
        Ok(pki(&cms::sign_as(pair, self.json().as_bytes(), form)?))
    }

    /// Whether it is of the v3 API.
    pub fn is_v3(&self) -> bool {
        self.version == Version::V3
    }

    fn pick(&self, v2: &'static str, v3: &'static str) -> &'static str {
        match self.version {
            Version::V2 => v2,
            Version::V3 => v3,
        }
    }

    fn pointer(&self, at: &str) -> Option<&Value> {
        let (first, rest) = split(at);
        self.body.get(first).and_then(|value| value.pointer(rest))
    }

    fn set(&mut self, at: &str, value: Value) {
        let mut names = at.trim_start_matches('/').split('/').peekable();
        let mut object = &mut self.body;
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                object.insert(name.into(), value);
                return;
            }
            let inner = object.entry(name).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            let Value::Object(inner) = inner else { return };
            object = inner;
        }
    }
}

/// `/a/b/c` as `a` and `/b/c`.
fn split(at: &str) -> (&str, &str) {
    let at = at.trim_start_matches('/');
    at.find('/').map_or((at, ""), |slash| at.split_at(slash))
}

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
    use crate::cms::Digest;
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

    #[test]
    fn members_are_set_and_removed() {
        let payload = Payload::v2().with("/token/tenant/id", json!("x")).without("/token/expires");
        let value: Value = serde_json::from_str(&payload.json()).unwrap();
        assert_eq!(value.pointer("/access/token/tenant/id").unwrap(), "x");
        assert!(value.pointer("/access/token/expires").is_none());
        let value: Value = serde_json::from_str(&Payload::v3().without("/user").json()).unwrap();
        assert!(value.pointer("/token/user").is_none());
        assert_eq!(value.pointer("/token/audit_ids").unwrap().as_array().unwrap().len(), 1);
    }
}
