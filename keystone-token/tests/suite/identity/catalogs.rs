//! The catalog of a token, as services get it.

use keystone_token::identity::Identity;
use keystone_token::record::Field;
use serde_json::{json, Value};

use super::{identity, v2, v3, with};

fn catalog(document: &Value) -> Option<Value> {
    let (record, _) = identity(document).unwrap().to_record(true);
    let catalog = record.view().get(Field::Catalog)?.to_owned();
    assert!(catalog.bytes().all(|byte| !byte.is_ascii_control()));
    Some(serde_json::from_str(&catalog).unwrap())
}

#[test]
fn a_v2_catalog_is_passed_on_without_white_space() {
    let services = json!([{"type": "identity", "name": "k\u{7f}\n", "endpoints": [{"x": "é "}]}]);
    let document = with(v2(), "/access/serviceCatalog", services.clone());
    assert_eq!(catalog(&document), Some(services));
    let text = serde_json::to_string_pretty(&document).unwrap().replace('\n', "\r\n");
    let identity = Identity::from_json(text.as_bytes()).unwrap();
    let catalog = identity.catalog.unwrap().to_v2().unwrap();
    let json = r#"[{"endpoints":[{"x":"é "}],"name":"k\u007f\n","type":"identity"}]"#;
    assert_eq!((catalog.json.as_str(), catalog.omitted), (json, 0));
}

#[test]
fn a_v3_catalog_is_converted() {
    let services = json!([
        {"type": "image", "name": "glance", "id": "x", "endpoints": [
            {"id": "1", "region": "one", "region_id": "one", "interface": "public", "url": "P"},
            {"id": "2", "region": "one", "interface": "Admin", "url": "A"},
            {"id": "3", "region": "two", "interface": "internal", "url": "I"},
            {"id": "4", "region": "one", "interface": "internal", "url": "I"},
            {"id": "5", "region": null, "interface": "public", "url": "N"},
            {"id": "6", "interface": "internal", "url": "N"},
        ]},
        {"type": "object-store"},
    ]);
    assert_eq!(
        catalog(&with(v3(), "/token/catalog", services)),
        Some(json!([
            {"type": "image", "name": "glance", "endpoints": [
                {"region": "one", "publicURL": "P", "adminURL": "A", "internalURL": "I"},
                {"region": "two", "internalURL": "I"},
                {"publicURL": "N", "internalURL": "N"},
            ]},
            {"type": "object-store", "endpoints": []},
        ]))
    );
    assert_eq!(catalog(&with(v3(), "/token/catalog", json!([]))), Some(json!([])));
}

#[test]
fn one_odd_endpoint_does_not_spoil_a_catalog() {
    let good = json!({"interface": "public", "url": "P", "region": "one"});
    let image = json!({"type": "image", "endpoints": [{"region": "one", "publicURL": "P"}]});
    for odd in [
        json!(1),
        json!(null),
        json!([]),
        json!({"interface": "public"}),
        json!({"interface": "public", "url": null}),
        json!({"interface": "public", "url": 1}),
        json!({"url": "u"}),
        json!({"url": "u", "interface": null}),
        json!({"url": "u", "interface": 5}),
        json!({"url": "u", "interface": "admin", "region": 1}),
        json!({"url": "u", "interface": "admin", "region": []}),
    ] {
        for endpoints in [json!([odd, good]), json!([good, odd])] {
            let services = json!([{"type": "image", "endpoints": endpoints}]);
            let expected = Some((json!([image]), 1));
            assert_eq!(omissions(services.clone()), expected, "{services}");
        }
    }
    for odd in
        [json!(1), json!(null), json!({"name": "x"}), json!({"type": null}), json!({"type": 1})]
    {
        let services = json!([odd, {"type": "image", "endpoints": [good]}]);
        assert_eq!(omissions(services.clone()), Some((json!([image]), 1)), "{services}");
    }
    for endpoints in [json!(null), json!({}), json!("x")] {
        let services = json!([{"type": "x", "endpoints": endpoints}]);
        let expected = Some((json!([{"type": "x", "endpoints": []}]), 1));
        assert_eq!(omissions(services.clone()), expected, "{services}");
    }
}

/// The catalog that is made of that of a v3 token, and how much of it is left out.
fn omissions(services: Value) -> Option<(Value, usize)> {
    let identity = identity(&with(v3(), "/token/catalog", services)).unwrap();
    let (record, omitted) = identity.to_record(true);
    let catalog = record.view().get(Field::Catalog)?;
    Some((serde_json::from_str(catalog).unwrap(), omitted))
}

#[test]
fn no_catalog_and_none_that_could_be_converted_is_no_header() {
    assert_eq!(catalog(&v3()), None);
    for services in [json!(null), json!({}), json!(1), json!("x")] {
        assert_eq!(omissions(services.clone()), None, "{services}");
    }
    let unwanted = with(v3(), "/token/catalog", json!([])).to_string();
    let (record, _) = Identity::from_json(unwanted.as_bytes()).unwrap().to_record(false);
    assert_eq!(record.view().get(Field::Catalog), None);
}
