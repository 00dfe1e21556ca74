//! The service catalog, as `X-Service-Catalog` wants it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::text;

/// A token's catalog in the form in which the token has it. Most requests do not want it, so it is
/// converted on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    version: Version,
    json: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

impl Catalog {
    pub(crate) fn v2(json: &RawValue) -> Self {
        Self { version: Version::V2, json: json.get().to_owned() }
    }

    pub(crate) fn v3(json: &RawValue) -> Self {
        Self { version: Version::V3, json: json.get().to_owned() }
    }

    /// The catalog in its v2 form. `None` if it is not a catalog, which is a list.
    pub fn to_v2(&self) -> Option<CatalogV2> {
        let value: Value = serde_json::from_str(&self.json).ok()?;
        let mut omitted = 0;
        let value = match (self.version, value) {
            (Version::V2, value) => value,
            (Version::V3, Value::Array(services)) => {
                services.into_iter().filter_map(|it| convert_service(it, &mut omitted)).collect()
            }
            (Version::V3, _) => return None,
        };
        Some(CatalogV2 { json: text::escape_controls(value.to_string()), omitted })
    }
}

/// A catalog in its v2 form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogV2 {
    /// JSON without white space, with nothing in it that must not stand in a header.
    pub json: String,
    /// How many services and endpoints were left out, because the v2 form has no place for them as
    /// they are.
    pub omitted: usize,
}

/// A service without its odd endpoints, or nothing where it has no type.
fn convert_service(service: Value, omitted: &mut usize) -> Option<Value> {
    let Value::Object(mut service) = service else {
        *omitted += 1;
        return None;
    };
    let Some(kind @ Value::String(_)) = service.remove("type") else {
        *omitted += 1;
        return None;
    };
    let mut converted = Map::from_iter([("type".to_owned(), kind)]);
    if let Some(name) = service.remove("name") {
        converted.insert("name".to_owned(), name);
    }
    let endpoints = match service.remove("endpoints") {
        Some(Value::Array(endpoints)) => convert_endpoints(endpoints, omitted),
        None => Vec::new(),
        Some(_) => {
            *omitted += 1;
            Vec::new()
        }
    };
    converted.insert("endpoints".to_owned(), Value::Array(endpoints));
    Some(Value::Object(converted))
}

/// v3 has an endpoint for each interface, v2 has one for each region with all its interfaces.
fn convert_endpoints(endpoints: Vec<Value>, omitted: &mut usize) -> Vec<Value> {
    let mut order = Vec::new();
    let mut regions: BTreeMap<Option<String>, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        let Some(Endpoint { region, interface, url }) = Endpoint::new(endpoint) else {
            *omitted += 1;
            continue;
        };
        let members = regions.entry(region.clone()).or_insert_with(|| {
            order.push(region.clone());
            match region.filter(|name| !name.is_empty()) {
                Some(name) => Map::from_iter([("region".to_owned(), Value::String(name))]),
                None => Map::new(),
            }
        });
        members.insert(interface + "URL", Value::String(url));
    }
    order.iter().filter_map(|name| regions.remove(name)).map(Value::Object).collect()
}

/// What the v2 form needs of an endpoint of v3.
struct Endpoint {
    region: Option<String>,
    /// In lower case.
    interface: String,
    url: String,
}

impl Endpoint {
    fn new(endpoint: Value) -> Option<Self> {
        let Value::Object(mut endpoint) = endpoint else { return None };
        let mut member = |name: &str| endpoint.remove(name).filter(|value| !value.is_null());
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            _ => None,
        };
        let region = match member("region") {
            Some(region) => Some(text(region)?),
            None => None,
        };
        let interface = member("interface").and_then(text)?.to_lowercase();
        let url = member("url").and_then(text)?;
        Some(Self { region, interface, url })
    }
}
