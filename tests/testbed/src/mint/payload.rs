//! What a token says.

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use base64::Engine;
use serde_json::{json, Map, Value};

use super::{new_audit_id, new_uuid, pki, pkiz};
use crate::clock::{iso, iso_micros};
use crate::cms::{self, Form};
use crate::pki::Pair;
use crate::{now, Result};

/// The contents of a token, with the names that auth_token's own tests use.
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

#[cfg(test)]
mod tests {
    use super::*;

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
