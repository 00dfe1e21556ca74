//! What a token is bound to.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::Deserialize;
use serde_json::Value;

use crate::json::Object;

/// The mechanism of a certificate of an OAuth 2.0 client: the name of the token's member.
pub const CERTIFICATE: &str = "oauth2_credential";

/// All that a v3 token is bound to. A certificate that the token does not name is that of nobody:
/// no thumbprint is empty.
pub(super) fn with_certificate(
    bind: Option<Bind>,
    certificate: Option<Object<CertificateBind>>,
) -> Option<Vec<(String, String)>> {
    let mut bind = bind.map(|bind| bind.0);
    if let Some(Object(CertificateBind { thumbprint })) = certificate {
        let certificate = (CERTIFICATE.to_owned(), thumbprint.unwrap_or_default());
        bind.get_or_insert_default().push(certificate);
    }
    bind
}

/// How a token of an OAuth 2.0 client that has a certificate is bound to it (RFC 8705).
#[derive(Deserialize)]
pub(super) struct CertificateBind {
    #[serde(rename = "x5t#S256")]
    thumbprint: Option<String>,
}

/// An object of anything, in its order.
pub(super) struct Bind(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BindVisitor)
    }
}

struct BindVisitor;

impl<'de> Visitor<'de> for BindVisitor {
    type Value = Bind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of bind mechanisms")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bind, A::Error> {
        let mut bind = Vec::new();
        while let Some((mechanism, value)) = map.next_entry::<String, Value>()? {
            bind.push(match value {
                Value::String(value) => (mechanism, value),
                value => (mechanism, value.to_string()),
            });
        }
        Ok(Bind(bind))
    }
}
