//! Tokens as JSON, in all the forms that Keystone gave them over the years.

mod catalogs;

use keystone_token::headers::user_headers;
use keystone_token::identity::CERTIFICATE;
use keystone_token::identity::{Identity, IdentityError};
use keystone_token::record::{Field, Record};
use serde_json::{json, Value};

fn identity(json: &Value) -> Result<Identity, IdentityError> {
    Identity::from_json(json.to_string().as_bytes())
}

/// The headers of a token, as `Name: value`.
fn headers(json: &Value) -> Vec<String> {
    let (record, _) = identity(json).unwrap().to_record(true);
    let record = record.view();
    user_headers(&record).map(|(name, value)| format!("{}: {value}", name.as_str())).collect()
}

fn v2() -> Value {
    json!({"access": {
        "token": {
            "id": "placeholder",
            "expires": "2038-01-18T21:14:07Z",
            "tenant": {"id": "tenant_id1", "name": "tenant_name1", "enabled": true},
            "audit_ids": ["a1"],
        },
        "user": {
            "id": "user_id1",
            "name": "user_name1",
            "username": "other",
            "roles_links": [],
            "roles": [{"name": "role1"}, {"name": "role2"}],
        },
        "metadata": {"is_admin": 0, "roles": ["id1", "id2"]},
        "serviceCatalog": [],
    }})
}

fn v3() -> Value {
    json!({"token": {
        "methods": ["password"],
        "expires_at": "2038-01-18T21:14:07.000000Z",
        "user": {
            "id": "user_id1",
            "name": "user_name1",
            "domain": {"id": "domain_id1", "name": "domain_name1"},
        },
        "project": {
            "id": "tenant_id1",
            "name": "tenant_name1",
            "domain": {"id": "domain_id1", "name": "domain_name1"},
        },
        "roles": [{"id": "r1", "name": "role1"}, {"id": "r2", "name": "role2"}],
        "audit_ids": ["a1", "a2"],
    }})
}

/// A document with one member set, at a path of names.
fn with(mut document: Value, path: &str, value: Value) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(name.to_owned(), value);
    document
}

fn without(mut document: Value, path: &str) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    document
}

const V2_HEADERS: [&str; 11] = [
    "X-User-Id: user_id1",
    "X-User-Name: user_name1",
    "X-Project-Id: tenant_id1",
    "X-Project-Name: tenant_name1",
    "X-Roles: role1,role2",
    "X-Is-Admin-Project: True",
    "X-User: user_name1",
    "X-Role: role1,role2",
    "X-Tenant-Id: tenant_id1",
    "X-Tenant-Name: tenant_name1",
    "X-Tenant: tenant_name1",
];

#[test]
fn a_v2_token_has_the_headers_of_one() {
    assert_eq!(headers(&without(v2(), "/access/serviceCatalog")), V2_HEADERS);
}

#[test]
fn a_v3_token_has_domains_too() {
    let headers = headers(&v3());
    for header in V2_HEADERS {
        assert!(headers.iter().any(|it| it == header), "{header}");
    }
    for header in [
        "X-User-Domain-Id: domain_id1",
        "X-User-Domain-Name: domain_name1",
        "X-Project-Domain-Id: domain_id1",
        "X-Project-Domain-Name: domain_name1",
    ] {
        assert!(headers.iter().any(|it| it == header), "{header}");
    }
    assert_eq!(headers.len(), V2_HEADERS.len() + 4);
}

#[test]
fn the_expiry_and_the_audit_ids_are_those_of_the_token() {
    for (document, audit_ids) in [(v2(), vec!["a1"]), (v3(), vec!["a1", "a2"])] {
        let identity = identity(&document).unwrap();
        assert_eq!(identity.expires_at, 2_147_462_047);
        assert_eq!(identity.audit_ids, audit_ids);
        let (record, _) = identity.to_record(false);
        let record = record.view();
        assert_eq!(record.get(Field::ExpiresAt), Some("2038-01-18T21:14:07Z"));
        assert_eq!(record.get(Field::AuditId), Some("a1"));
        assert!(record.audit_ids().eq(audit_ids));
    }
    for document in [
        without(v2(), "/access/token/expires"),
        with(v2(), "/access/token/expires", json!(null)),
        with(v2(), "/access/token/expires", json!("tomorrow")),
        without(v3(), "/token/expires_at"),
        with(v3(), "/token/expires_at", json!("")),
    ] {
        assert!(matches!(identity(&document), Err(IdentityError::Expiry(_))), "{document}");
    }
    let document = without(v3(), "/token/audit_ids");
    assert_eq!(identity(&document).unwrap().audit_ids, Vec::<String>::new());
}

#[test]
fn a_v2_token_without_a_tenant_is_refused() {
    for document in [
        without(v2(), "/access/token/tenant"),
        with(v2(), "/access/token/tenant", json!(null)),
        with(v2(), "/access/token/tenant", json!({})),
        with(v2(), "/access/token/tenant", json!({"id": "", "name": "x"})),
        with(with(v2(), "/access/token/tenantId", json!("x")), "/access/token/tenant", json!({})),
        with(
            with(without(v2(), "/access/token/tenant"), "/access/token/tenantId", json!("x")),
            "/access/user/tenantId",
            json!(null),
        ),
    ] {
        assert!(matches!(identity(&document), Err(IdentityError::NoTenant)), "{document}");
    }
}

#[test]
fn an_unscoped_v3_token_has_no_roles() {
    let document = without(without(v3(), "/token/project"), "/token/roles");
    assert_eq!(
        headers(&document),
        [
            "X-User-Id: user_id1",
            "X-User-Name: user_name1",
            "X-User-Domain-Id: domain_id1",
            "X-User-Domain-Name: domain_name1",
            "X-Roles: ",
            "X-Is-Admin-Project: True",
            "X-User: user_name1",
            "X-Role: ",
        ]
    );
}

#[test]
fn a_v3_token_may_be_scoped_to_a_domain_or_to_the_system() {
    let unscoped = without(v3(), "/token/project");
    let domain = json!({"id": "domain_id1", "name": "domain_name1"});
    let headers = self::headers(&with(unscoped.clone(), "/token/domain", domain));
    assert!(headers.contains(&"X-Domain-Id: domain_id1".to_owned()));
    assert!(headers.contains(&"X-Domain-Name: domain_name1".to_owned()));
    assert!(!headers.iter().any(|header| header.starts_with("X-Project")));

    let headers = self::headers(&with(unscoped.clone(), "/token/system", json!({"all": true})));
    assert!(headers.contains(&"OpenStack-System-Scope: all".to_owned()));
    let headers = self::headers(&with(unscoped, "/token/system", json!({"all": false})));
    assert!(!headers.iter().any(|header| header.starts_with("OpenStack")));
}

#[test]
fn tokens_of_old_keystones_are_read() {
    // Diablo: a mere tenant id.
    let diablo = with(without(v2(), "/access/token/tenant"), "/access/token/tenantId", json!("t"));
    let identity = self::identity(&diablo).unwrap();
    assert_eq!(identity.project_id.as_deref(), Some("t"));
    assert_eq!(identity.project_name.as_deref(), Some("t"));
    // The tenant of a user, as a default.
    let default = with(diablo, "/access/user/tenantId", json!("d"));
    let default = with(default, "/access/user/tenantName", json!("default"));
    let identity = self::identity(&default).unwrap();
    assert_eq!(identity.project_id.as_deref(), Some("d"));
    assert_eq!(identity.project_name.as_deref(), Some("default"));
    // The object, where there is one, wins over both.
    let document = with(default, "/access/token/tenant", json!({"id": "o"}));
    let identity = self::identity(&document).unwrap();
    assert_eq!(identity.project_id.as_deref(), Some("o"));
    assert_eq!(identity.project_name, None);
    // Roles in the metadata count where the user has none of their own.
    let metadata = without(v2(), "/access/user/roles");
    assert_eq!(self::identity(&metadata).unwrap().roles, ["id1", "id2"]);
    let objects = with(metadata, "/access/metadata/roles", json!([{"name": "x"}, "y"]));
    assert_eq!(self::identity(&objects).unwrap().roles, ["x", "y"]);
    let none = with(v2(), "/access/user/roles", json!([]));
    assert_eq!(self::identity(&none).unwrap().roles, Vec::<String>::new());
    // Otherwise nothing reads the metadata, and whatever is there does no harm.
    for odd in [json!(5), json!("x"), json!({"roles": 1}), json!({"roles": [1, {"id": "2"}]})] {
        let document = with(v2(), "/access/metadata", odd);
        assert_eq!(self::identity(&document).unwrap().roles, self::identity(&v2()).unwrap().roles);
        let document = without(document, "/access/user/roles");
        assert_eq!(self::identity(&document).unwrap().roles, Vec::<String>::new());
    }
    // The user's name under its older name.
    for document in [without(v2(), "/access/user/name"), with(v2(), "/access/user/name", json!(""))]
    {
        assert_eq!(self::identity(&document).unwrap().user_name.as_deref(), Some("other"));
    }
}

#[test]
fn only_a_token_that_says_so_is_outside_the_admin_project() {
    let is_admin = |value| {
        identity(&with(v3(), "/token/is_admin_project", value)).map(|it| it.is_admin_project)
    };
    assert!(is_admin(json!(true)).unwrap());
    assert!(!is_admin(json!(false)).unwrap());
    assert!(!is_admin(json!(null)).unwrap());
    assert!(is_admin(json!("yes")).is_err());
    assert!(identity(&v3()).unwrap().is_admin_project);
    let v2 = with(v2(), "/access/token/is_admin_project", json!(false));
    assert!(identity(&v2).unwrap().is_admin_project);
}

#[test]
fn a_user_needs_a_domain_unless_it_is_federated() {
    for path in ["/token/user/domain", "/token/user/domain/id", "/token/user/domain/name"] {
        let document = without(v3(), path);
        assert!(matches!(identity(&document), Err(IdentityError::NoDomain)), "{path}");
        let federated = with(document, "/token/user/OS-FEDERATION", json!({"groups": []}));
        assert!(identity(&federated).is_ok(), "{path}");
    }
}

#[test]
fn members_that_nothing_needs_may_be_anything() {
    let document = with(v3(), "/token/service_providers", json!([{"id": 5, "auth_url": [true]}]));
    let document = with(document, "/token/methods", json!({"x": {"y": [null, 1e99]}}));
    let document = with(document, "/token/user/password_expires_at", json!(null));
    let document = with(document, "/extra", json!("x"));
    assert_eq!(identity(&document).unwrap(), identity(&v3()).unwrap());
}

#[test]
fn what_is_no_token_is_an_error() {
    let bad = [
        json!(null),
        json!([]),
        json!("token"),
        json!({}),
        json!({"token": null}),
        json!({"token": {}}),
        json!({"access": {}}),
        json!({"tokens": v3()["token"]}),
        json!([v2()["access"], v3()["token"]]),
        json!({"access": v2()["access"], "token": v3()["token"]}),
        json!({"token": "x"}),
        json!({"token": [v3()["token"]["user"]]}),
        without(v2(), "/access/user"),
        without(v3(), "/token/user"),
        with(v2(), "/access/user", json!(["id", "name", "username", [], "t", "t"])),
        with(v2(), "/access/user/id", json!(5)),
        with(v3(), "/token/user/id", json!({})),
        with(v3(), "/token/user/name", json!(["x"])),
        with(v3(), "/token/project", json!("x")),
        with(v3(), "/token/roles", json!([{"id": "x"}])),
        with(v3(), "/token/roles", json!(["x"])),
        with(v3(), "/token/roles", json!({})),
        with(v3(), "/token/audit_ids", json!([1])),
        with(v3(), "/token/audit_ids", json!("a1")),
        with(v3(), "/token/bind", json!(["kerberos"])),
        // Null is nothing only where Keystone has ever written it.
        with(v2(), "/access/user/roles", json!(null)),
        with(v3(), "/token/user/domain", json!(null)),
        with(v3(), "/token/project", json!(null)),
        with(v3(), "/token/project/domain", json!(null)),
        with(v3(), "/token/domain", json!(null)),
        with(v3(), "/token/roles", json!(null)),
    ];
    for document in bad {
        assert!(identity(&document).is_err(), "{document}");
    }
    let text = v3().to_string();
    let bad = [
        String::new(),
        format!("{text}x"),
        format!("\u{feff}{text}"),
        text[..text.len() - 1].to_owned(),
        text.replace(r#""user_id1""#, r#""\ud800""#),
        text.replacen(r#"{"token":"#, r#"{"token":{},"token":"#, 1),
        text.replacen(r#""user":"#, r#""user":{},"user":"#, 1),
        text.replacen(r#""id":"tenant_id1""#, r#""id":"tenant_id1","id":"tenant_id2""#, 1),
        "[".repeat(100_000),
        format!(r#"{{"token":{}"#, r#"{"user":"#.repeat(100_000)),
    ];
    for text in bad {
        assert!(Identity::from_json(text.as_bytes()).is_err(), "{text:.100}");
    }
    let mut latin1 = text.into_bytes();
    let at = latin1.windows(9).position(|it| it == b"user_name").unwrap();
    latin1[at] = 0xe9;
    assert!(Identity::from_json(&latin1).is_err());
}

#[test]
fn control_characters_are_errors_wherever_they_could_get_out() {
    let paths = [
        "/token/user/id",
        "/token/user/name",
        "/token/user/domain/id",
        "/token/user/domain/name",
        "/token/project/id",
        "/token/project/name",
        "/token/project/domain/id",
        "/token/project/domain/name",
        "/token/audit_ids/1",
        "/token/roles/0/name",
    ];
    for control in ['\0', '\r', '\n', '\t', '\x1f', '\x7f', '\u{80}', '\u{85}', '\u{9f}'] {
        for path in paths {
            let mut document = v3();
            *document.pointer_mut(path).unwrap() = json!(format!("a{control}X-Roles: admin"));
            let result = identity(&document);
            assert!(matches!(result, Err(IdentityError::ControlCharacter)), "{path}");
        }
        let text = format!("{control}");
        for document in [
            with(v3(), "/token/roles", json!([{"name": format!("a,{control}")}])),
            with(v3(), "/token/domain", json!({"id": text})),
            with(v3(), "/token/bind", json!({"kerberos": text})),
            with(v3(), "/token/bind", json!({text.as_str(): "x"})),
            with(v2(), "/access/user/roles", json!([{"name": text}])),
        ] {
            let result = identity(&document);
            assert!(matches!(result, Err(IdentityError::ControlCharacter)), "{document}");
        }
        // What nobody gets to see may hold them.
        assert!(identity(&with(v3(), "/token/user/email", json!(text))).is_ok());
    }
    let umlaut = with(v3(), "/token/user/name", json!("Jürgen-日本語-😀\u{a0}"));
    assert_eq!(identity(&umlaut).unwrap().user_name.as_deref(), Some("Jürgen-日本語-😀\u{a0}"));
}

#[test]
fn a_role_with_a_comma_is_left_out() {
    let roles = json!([{"name": "a"}, {"name": "b,admin"}, {"name": "a"}, {"name": ","}]);
    let identity = identity(&with(v3(), "/token/roles", roles)).unwrap();
    assert_eq!(identity.roles, ["a", "a"]);
    assert_eq!(identity.omitted_roles, ["b,admin", ","]);
    let (record, _) = identity.to_record(false);
    assert_eq!(record.view().get(Field::Roles), Some("a,a"));
}

#[test]
fn a_role_with_a_blank_at_an_end_is_left_out() {
    let blanks = [" admin", "admin ", "\u{a0}admin", "admin\u{2003}", "admin\u{3000}", " "];
    let roles = blanks.iter().chain(&["Ops Team"]).map(|name| json!({"name": name}));
    let roles = json!(roles.collect::<Vec<_>>());
    for document in
        [with(v3(), "/token/roles", roles.clone()), with(v2(), "/access/user/roles", roles)]
    {
        let identity = identity(&document).unwrap();
        assert_eq!(identity.roles, ["Ops Team"]);
        assert_eq!(identity.omitted_roles, blanks);
    }
}

#[test]
fn the_certificate_that_a_token_is_bound_to() {
    let thumbprint = |document: &Value| {
        let (record, _) = identity(document).unwrap().to_record(false);
        let record = record.view();
        let mut bind = record.bind().map(|(mechanism, thumbprint)| {
            assert_eq!(mechanism, CERTIFICATE);
            thumbprint.to_owned()
        });
        bind.next()
    };
    let bound = |credential| with(v3(), "/token/oauth2_credential", credential);
    assert_eq!(thumbprint(&bound(json!({"x5t#S256": "abc="}))).as_deref(), Some("abc="));
    // To one that nobody has.
    for credential in [json!({}), json!({"x5t#S256": null}), json!({"x5t": "abc="})] {
        assert_eq!(thumbprint(&bound(credential)).as_deref(), Some(""));
    }
    let beside =
        with(bound(json!({"x5t#S256": "abc="})), "/token/bind", json!({"kerberos": "A@B"}));
    let bind = [("kerberos", "A@B"), (CERTIFICATE, "abc=")];
    let bind = bind.map(|(mechanism, value)| (mechanism.to_owned(), value.to_owned()));
    assert_eq!(identity(&beside).unwrap().bind.as_deref(), Some(&bind[..]));
    for document in [v2(), v3(), bound(json!(null))] {
        assert_eq!(thumbprint(&document), None, "{document}");
    }
    for credential in [json!("abc="), json!(["abc="]), json!(true), json!({"x5t#S256": 1})] {
        let document = bound(credential);
        assert!(matches!(identity(&document), Err(IdentityError::Json(_))), "{document}");
    }
    let document = bound(json!({"x5t#S256": "abc\r\n"}));
    assert_eq!(identity(&document), Err(IdentityError::ControlCharacter));
}

#[test]
fn a_record_from_before_certificates_is_none() {
    let bound = with(v3(), "/token/oauth2_credential", json!({"x5t#S256": "abc="}));
    let mut bytes = identity(&bound).unwrap().to_record(false).0.to_bytes();
    bytes[3] = b'2';
    assert!(Record::new(&bytes).is_err());
}

#[test]
fn binds_are_read_in_either_form() {
    let bind = json!({"kerberos": "USER@REALM", "x509": {"fingerprint": "00 11"}});
    for document in
        [with(v2(), "/access/token/bind", bind.clone()), with(v3(), "/token/bind", bind)]
    {
        let (record, _) = identity(&document).unwrap().to_record(false);
        let record = record.view();
        assert!(record.has_bind());
        assert!(record
            .bind()
            .eq([("kerberos", "USER@REALM"), ("x509", r#"{"fingerprint":"00 11"}"#),]));
    }
    for bind in [json!(null), json!({})] {
        let (record, _) = identity(&with(v3(), "/token/bind", bind)).unwrap().to_record(false);
        assert!(!record.view().has_bind());
    }
}

#[test]
fn access_rules_are_kept_as_json() {
    let rules = json!([{"path": "/v1/*", "method": "GET", "service": "object-store"}]);
    let document =
        with(v3(), "/token/application_credential", json!({"id": "x", "access_rules": rules}));
    let text = document.to_string().replace(',', " ,\r\n ");
    let identity = Identity::from_json(text.as_bytes()).unwrap();
    let kept: Value = serde_json::from_str(identity.access_rules.as_deref().unwrap()).unwrap();
    assert_eq!(kept, rules);
    let (record, _) = identity.to_record(false);
    assert!(record.view().get(Field::AccessRules).is_some());
    let none = with(v3(), "/token/application_credential", json!({"access_rules": null}));
    assert_eq!(self::identity(&none).unwrap().access_rules, None);
}

#[test]
fn what_takes_most_of_a_record_is_named() {
    let largest = |document: &Value| {
        let (record, _) = identity(document).unwrap().to_record(true);
        let (part, size) = record.view().largest_part();
        assert!(size <= record.size());
        (part, size)
    };
    let many = |value: Value| json!(vec![value; 400]);
    let long = "x".repeat(10_000);
    for (path, value, part) in [
        ("/token/roles", many(json!({"id": "0123456789abcdef", "name": "role"})), "roles"),
        ("/token/catalog", many(json!({"type": "t", "name": "n"})), "service catalog"),
        ("/token/bind", json!({ "kerberos": long }), "bind"),
        ("/token/audit_ids", json!([long]), "audit ids"),
        ("/token/user/name", json!(long), "ids and names"),
        (
            "/token/application_credential",
            json!({"access_rules": many(json!({"path": "/x"}))}),
            "access rules",
        ),
    ] {
        let (found, size) = largest(&with(v3(), path, value));
        assert_eq!(found, part);
        assert!(size >= 4_000, "{part}: {size}");
    }
}
