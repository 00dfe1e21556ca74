//! The service catalog, as `X-Service-Catalog` wants it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{json, Map, Value};

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

    /// The catalog in its v2 form, as JSON without white space, with nothing in it that must not
    /// stand in a header. `None` if it is not a catalog.
    pub fn to_v2(&self) -> Option<String> {
        let value: Value = serde_json::from_str(&self.json).ok()?;
        let value = match self.version {
            Version::V2 => value,
            Version::V3 => convert(value)?,
        };
        Some(text::escape_controls(value.to_string()))
    }
}

/// v3 has an endpoint for each interface, v2 has one for each region with all its interfaces.
fn convert(catalog: Value) -> Option<Value> {
    let Value::Array(services) = catalog else {
        return None;
    };
    services.into_iter().map(convert_service).collect::<Option<Vec<_>>>().map(Value::Array)
}

fn convert_service(service: Value) -> Option<Value> {
    let Value::Object(mut service) = service else {
        return None;
    };
    let mut converted = Map::new();
    converted.insert("type".to_owned(), service.remove("type")?);
    if let Some(name) = service.remove("name") {
        converted.insert("name".to_owned(), name);
    }
    let endpoints = match service.remove("endpoints") {
        Some(Value::Array(endpoints)) => endpoints,
        None => Vec::new(),
        Some(_) => return None,
    };

    let mut order = Vec::new();
    let mut regions: BTreeMap<Option<String>, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        let Value::Object(mut endpoint) = endpoint else {
            return None;
        };
        let name = match endpoint.remove("region") {
            Some(Value::String(name)) => Some(name),
            None | Some(Value::Null) => None,
            Some(_) => return None,
        };
        let interface = endpoint.get("interface")?.as_str()?.to_lowercase();
        let url = endpoint.remove("url")?;
        let region = regions.entry(name.clone()).or_insert_with(|| {
            order.push(name.clone());
            match name.filter(|name| !name.is_empty()) {
                Some(name) => Map::from_iter([("region".to_owned(), Value::String(name))]),
                None => Map::new(),
            }
        });
        region.insert(interface + "URL", url);
    }
    let endpoints: Vec<Value> =
        order.iter().filter_map(|name| regions.remove(name)).map(Value::Object).collect();
    converted.insert("endpoints".to_owned(), json!(endpoints));
    Some(Value::Object(converted))
}
