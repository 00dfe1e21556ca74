//! The kinds of cases: what is special about the token, and how it is sent.

use keystone_testbed::cms::{Bend, Form};
use keystone_testbed::mint::{self, Payload, Revoked};
use serde_json::{json, Value};

use crate::cases::{pkiz, Carried, Maker, Odd};

/// A name, and what makes the token.
pub type Kind = (&'static str, fn(&mut Maker<'_>) -> String);

/// Every kind, once.
pub const KINDS: &[Kind] = &[
    ("good", good),
    ("good again", good),
    ("for a domain", |m| dressed(m, Payload::v3_domain())),
    ("for the system", for_the_system),
    ("unscoped v2", |m| dressed(m, Payload::v2_unscoped())),
    ("unscoped v3", |m| dressed(m, Payload::v3_unscoped())),
    ("big", |m| token_of(m, |p| p.padded(12_000))),
    ("in no hurry to expire", expiry_in_another_form),
    ("expired", |m| token_of(m, |p| p.expires_in(-60))),
    ("expired elsewhere", |m| v3_with(m, "/expires_at", json!("2026-01-01T00:00:00+05:30"))),
    ("in storage", |m| carried(m, Carried::Storage)),
    ("with another in storage", |m| carried(m, Carried::AuthAndStorage)),
    ("nowhere", |m| carried(m, Carried::Nowhere)),
    ("twice", twice),
    ("of diablo", of_diablo),
    ("of essex", of_essex),
    ("with a username", |m| v2_with(m, "/user/name", Value::Null)),
    ("with roles in the metadata", roles_in_metadata),
    ("with odd metadata", odd_metadata),
    ("federated", federated),
    ("without a user id", |m| token_of(m, |p| p.without("/user/id"))),
    ("without a user name", |m| v3_without(m, "/user/name")),
    ("without a project's domain", |m| v3_without(m, "/project/domain")),
    ("without roles", |m| v3_without(m, "/roles")),
    ("null for admin project", |m| v3_with(m, "/is_admin_project", Value::Null)),
    ("bound to kerberos", |m| token_of(m, |p| p.bind("kerberos", "USER@REALM"))),
    ("bound to something", |m| token_of(m, |p| p.bind("FOO", "BAR"))),
    ("bound to both", bound_to_both),
    ("bound to nothing", |m| v3_with(m, "/bind", json!({}))),
    ("null for audit ids", |m| v3_with(m, "/audit_ids", Value::Null)),
    ("null among the audit ids", |m| v3_with(m, "/audit_ids", json!(["own", null]))),
    ("bound to null", |m| v3_with(m, "/bind", Value::Null)),
    ("revoked by hash", revoked_by_hash),
    ("revoked by another hash", revoked_by_another_hash),
    ("revoked by its audit id", |m| revoked_by_audit_id(m, 0)),
    ("revoked by its parent's audit id", |m| revoked_by_audit_id(m, 1)),
    ("revoked in the other armour", revoked_in_the_other_armour),
    ("revoked with other parameters", revoked_with_other_parameters),
    ("tampered with", tampered),
    ("tampered with again", tampered),
    ("cut off", cut_off),
    ("signed by a stranger", signed_by_a_stranger),
    ("signed with another's signature", with_another_signature),
    ("with an attribute", |m| bent(m, Bend::Attribute)),
    ("with a certificate", |m| bent(m, Bend::Certificate)),
    ("with an indefinite length", |m| bent(m, Bend::IndefiniteLength)),
    ("with a long length", |m| bent(m, Bend::LongLength)),
    ("with a second signer", |m| bent(m, Bend::SecondSigner)),
    ("in other armour", other_armour),
    ("pkiz around der", pkiz_around_der),
    ("with a broken catalog", broken_catalog),
    ("with a control character", control_character),
    ("with blanks around", |m| v3_with(m, "/user/name", json!("  two blanks  "))),
    ("with a comma in a role", comma_in_a_role),
    ("with half a character", half_a_character),
    ("with a value of another type", other_type),
    ("with access rules", access_rules),
    ("ambiguous", ambiguous),
    ("broken json", broken),
    ("broken v2", broken_v2),
    ("broken v3", broken_v3),
    ("null for a scope", null_for_a_scope),
    ("null for a value", null_for_a_value),
    ("null for a domain", null_for_a_domain),
    ("broken pkiz", broken_pkiz),
    ("garbage", garbage),
    ("unsigned", unsigned),
];

fn token_of(m: &mut Maker<'_>, change: impl FnOnce(Payload) -> Payload) -> String {
    let payload = change(m.payload());
    m.token(&payload)
}

fn v2_with(m: &mut Maker<'_>, at: &str, value: Value) -> String {
    let payload = m.v2().with(at, value);
    m.token(&payload)
}

fn v3_with(m: &mut Maker<'_>, at: &str, value: Value) -> String {
    let payload = m.v3().with(at, value);
    m.token(&payload)
}

fn v3_without(m: &mut Maker<'_>, at: &str) -> String {
    let payload = m.v3().without(at);
    m.token(&payload)
}

fn dressed(m: &mut Maker<'_>, payload: Payload) -> String {
    let payload = m.dressed(payload);
    m.token(&payload)
}

fn signed(m: &mut Maker<'_>, json: &str) -> String {
    let der = m.signed(json);
    m.armoured(&der)
}

fn good(m: &mut Maker<'_>) -> String {
    token_of(m, |payload| payload)
}

fn carried(m: &mut Maker<'_>, carried: Carried) -> String {
    m.carried(carried);
    good(m)
}

fn twice(m: &mut Maker<'_>) -> String {
    m.odd(Odd::TokenTwice);
    carried(m, Carried::Twice)
}

fn for_the_system(m: &mut Maker<'_>) -> String {
    m.odd(Odd::SystemScope);
    dressed(m, Payload::v3_system())
}

fn expiry_in_another_form(m: &mut Maker<'_>) -> String {
    let expiry = m.random.pick(&[
        "2046-11-23T02:37:06Z",
        "2046-11-23T02:37:06.123456Z",
        "2046-11-23T02:37:06+00:00",
        "2046-11-23T02:37:06.5-07:00",
        "2046-11-23 02:37:06Z",
        "2046-11-23T02:37:06",
        "2046-11-23T02:37Z",
        "20461123T023706Z",
    ]);
    v3_with(m, "/expires_at", json!(expiry))
}

fn of_diablo(m: &mut Maker<'_>) -> String {
    let payload = m.v2().without("/token/tenant").with("/token/tenantId", json!("diablo_id"));
    m.token(&payload)
}

fn of_essex(m: &mut Maker<'_>) -> String {
    let payload = m.v2().without("/token/tenant").with("/user/tenantId", json!("essex_id"));
    let payload = payload.with("/user/tenantName", json!("essex_name"));
    m.token(&payload)
}

fn roles_in_metadata(m: &mut Maker<'_>) -> String {
    m.odd(Odd::MetadataRoles);
    m.roles(&["role1", "role2"]);
    let payload = m.v2().without("/user/roles").with("/metadata/roles", json!(["role1", "role2"]));
    m.token(&payload)
}

/// auth_token does not read it.
fn odd_metadata(m: &mut Maker<'_>) -> String {
    let metadata = match m.random.below(5) {
        0 => json!("none"),
        1 => json!([]),
        2 => json!({"roles": 1}),
        3 => json!({"roles": [{"id": "1"}]}),
        _ => json!({"roles": [1, 2], "is_admin": 0}),
    };
    v2_with(m, "/metadata", metadata)
}

fn federated(m: &mut Maker<'_>) -> String {
    let payload = m.v3().without("/user/domain").with("/user/OS-FEDERATION", json!({"groups": []}));
    m.token(&payload)
}

fn bound_to_both(m: &mut Maker<'_>) -> String {
    token_of(m, |payload| match payload.is_v3() {
        true => payload.with("/bind", json!({"FOO": "BAR", "kerberos": "USER@REALM"})),
        false => payload.with("/token/bind", json!({"FOO": "BAR", "kerberos": "USER@REALM"})),
    })
}

fn revoked_by_hash(m: &mut Maker<'_>) -> String {
    let token = good(m);
    m.revoke(&token);
    token
}

/// The list has a sha256 where only md5 counts; where both count it is revoked.
fn revoked_by_another_hash(m: &mut Maker<'_>) -> String {
    let token = good(m);
    m.revoked.push(Revoked::id(mint::sha256(&token)));
    token
}

fn revoked_by_audit_id(m: &mut Maker<'_>, which: usize) -> String {
    let ids = [m.audit_id(), m.audit_id()];
    m.revoked.push(Revoked::audit_id(&ids[which]));
    token_of(m, |payload| payload.audit_ids(&[&ids[0], &ids[1]]))
}

fn revoked_in_the_other_armour(m: &mut Maker<'_>) -> String {
    m.odd(Odd::RevokedInAnotherForm);
    let json = m.payload().json();
    let der = m.signed(&json);
    let mut armours = [mint::pki(&der), pkiz(&der)];
    if m.random.percent(50) {
        armours.reverse();
    }
    let [token, listed] = armours;
    m.revoke(&listed);
    token
}

fn revoked_with_other_parameters(m: &mut Maker<'_>) -> String {
    m.odd(Odd::RevokedInAnotherForm);
    let json = m.payload().json();
    let (digest, null_parameters) = (m.digest(), m.random.percent(50));
    let listed = m.signed_as(&json, Form { digest, null_parameters, bend: None });
    let listed = m.armoured(&listed);
    m.revoke(&listed);
    let form = Form { digest, null_parameters: !null_parameters, bend: None };
    let der = m.signed_as(&json, form);
    m.armoured(&der)
}

/// One character is another. In a PKI token that may hit a byte that the signature does not cover,
/// and then the oracle lets it pass.
fn tampered(m: &mut Maker<'_>) -> String {
    m.odd(Odd::OtherEncoding);
    let token = good(m);
    let mut bytes = token.into_bytes();
    let at = 6 + m.random.below(bytes.len() - 6);
    let old = bytes[at];
    let other =
        [b'A', b'q', b'7', b'-'].into_iter().filter(|&byte| byte != old).collect::<Vec<_>>();
    bytes[at] = m.random.pick(&other);
    String::from_utf8(bytes).expect("tokens are ASCII")
}

fn cut_off(m: &mut Maker<'_>) -> String {
    let mut token = good(m);
    let length = 10 + m.random.below(token.len() - 10);
    token.truncate(length);
    token
}

fn signed_by_a_stranger(m: &mut Maker<'_>) -> String {
    let payload = m.payload();
    m.strange(&payload)
}

/// The content says another name of the same length than the signature does.
fn with_another_signature(m: &mut Maker<'_>) -> String {
    let json = m.payload().user("user_id_before", "n").json();
    let der = m.signed(&json);
    let at = der.windows(14).position(|bytes| bytes == b"user_id_before").expect("it is in there");
    let mut changed = der;
    changed[at..at + 14].copy_from_slice(b"user_id_behind");
    m.armoured(&changed)
}

fn bent(m: &mut Maker<'_>, bend: Bend) -> String {
    m.odd(Odd::OtherEncoding);
    let json = m.payload().json();
    let form = Form { digest: m.digest(), null_parameters: false, bend: Some(bend) };
    let der = m.signed_as(&json, form);
    m.armoured(&der)
}

fn other_armour(m: &mut Maker<'_>) -> String {
    m.odd(Odd::OtherEncoding);
    let json = m.payload().json();
    let der = m.signed(&json);
    let (pki, pkiz) = (mint::pki(&der), pkiz(&der));
    match m.random.below(6) {
        0 => pki.replace('-', "/"),
        1 => format!("{} {}", &pki[..100], &pki[100..]),
        2 => format!("{pki}AAAA"),
        3 => format!("{pkiz}===="),
        4 => format!("{}!{}", &pkiz[..100], &pkiz[100..]),
        _ => mint::pkiz_of(mint::cms_pem(&der).replace('\n', "\r\n").as_bytes()).expect("zlib"),
    }
}

fn pkiz_around_der(m: &mut Maker<'_>) -> String {
    let json = m.payload().json();
    let der = m.signed(&json);
    m.odd(Odd::PkizAroundDer);
    m.twin(pkiz(&der));
    mint::pkiz_of(&der).expect("zlib")
}

/// The twin has no catalog at all, or one without what is odd.
fn broken_catalog(m: &mut Maker<'_>) -> String {
    m.odd(Odd::BrokenCatalog);
    let volume = |endpoints: Value| json!([{"type": "volume", "endpoints": endpoints}]);
    let (at, payload, catalog) = match m.random.below(7) {
        0 => ("/serviceCatalog", m.v2(), Value::Null),
        1 => ("/catalog", m.v3(), Value::Null),
        2 => ("/catalog", m.v3(), json!({})),
        3 => ("/catalog", m.v3(), json!([{"name": "without a type"}])),
        4 => ("/catalog", m.v3(), volume(json!([{"interface": "admin"}]))),
        5 => ("/catalog", m.v3(), volume(json!([{"url": "http://127.0.0.1"}]))),
        _ => ("/catalog", m.v3(), volume(Value::Null)),
    };
    let twin = match catalog.get(0).map(|service| service.get("type")) {
        None => payload.clone().without(at),
        Some(None) => payload.clone().with(at, json!([])),
        Some(Some(_)) => payload.clone().with(at, volume(json!([]))),
    };
    let twin = m.token(&twin);
    m.twin(twin);
    m.token(&payload.with(at, catalog))
}

fn control_character(m: &mut Maker<'_>) -> String {
    m.odd(Odd::ControlCharacter);
    let control = m.random.pick(&[
        "\n",
        "\r\nX-Roles: admin",
        "\0",
        "\t",
        "\x7f",
        "\x1b",
        "\u{80}",
        "\u{85}",
        "\u{9f}",
    ]);
    let at = m.random.pick(&["/user/id", "/user/name", "/project/name", "/user/domain/name"]);
    v3_with(m, at, json!(format!("a{control}b")))
}

fn comma_in_a_role(m: &mut Maker<'_>) -> String {
    m.odd(Odd::CommaRole);
    m.roles(&["first", "last"]);
    token_of(m, |payload| payload.roles(&["first", "admin,member", ",", "last"]))
}

fn half_a_character(m: &mut Maker<'_>) -> String {
    m.odd(Odd::LoneSurrogate);
    let json = m.v3().user("u", "HALF").json().replace("HALF", "a\\ud83db");
    signed(m, &json)
}

fn other_type(m: &mut Maker<'_>) -> String {
    m.odd(Odd::OtherType);
    let (at, value) = match m.random.below(5) {
        0 => ("/user/id", json!(5)),
        1 => ("/project/name", json!(["a"])),
        2 => ("/is_admin_project", json!("no")),
        3 => ("/is_admin_project", json!(0)),
        _ => ("/audit_ids", json!([1])),
    };
    v3_with(m, at, value)
}

fn access_rules(m: &mut Maker<'_>) -> String {
    m.odd(Odd::AccessRules);
    let rules = json!([{"service": "object-store", "method": "GET", "path": "/**"}]);
    let rules = if m.random.percent(50) { rules } else { json!([]) };
    v3_with(m, "/application_credential", json!({"id": "1", "access_rules": rules}))
}

fn ambiguous(m: &mut Maker<'_>) -> String {
    m.odd(Odd::AmbiguousJson);
    let v3 = m.v3().json();
    let json = match m.random.below(3) {
        0 => {
            let v2 = m.v2().json();
            format!("{},{}", &v3[..v3.len() - 1], &v2[1..])
        }
        1 => v3.replacen("\"methods\"", "\"user\":{\"id\":\"admin\"},\"methods\"", 1),
        _ => v3.replacen("\"methods\"", "\"x\":NaN,\"methods\"", 1),
    };
    signed(m, &json)
}

fn broken(m: &mut Maker<'_>) -> String {
    let json = m.payload().json();
    let json = match m.random.below(6) {
        0 => "not JSON at all, but long enough to look like a token when signed".to_owned(),
        1 => json[..json.len() - 1].to_owned(),
        2 => format!("\u{feff}{json}"),
        3 => format!("[{json}]"),
        4 => format!("{{\"neither\":{json}}}"),
        _ => "{}".to_owned(),
    };
    signed(m, &json)
}

fn broken_v2(m: &mut Maker<'_>) -> String {
    let payload = m.v2();
    let payload = match m.random.below(6) {
        0 => payload.without("/token/expires"),
        1 => payload.with("/token/expires", json!("tomorrow")),
        2 => payload.with("/token/tenant", Value::Null),
        3 => payload.with("/token/tenant", json!({"id": "", "name": "n"})),
        4 => payload.with("/user/roles", json!([{"id": "1"}])),
        _ => payload.without("/token"),
    };
    m.token(&payload)
}

fn broken_v3(m: &mut Maker<'_>) -> String {
    let payload = m.v3();
    let payload = match m.random.below(6) {
        0 => payload.without("/expires_at"),
        1 => payload.with("/expires_at", json!(2_000_000_000)),
        2 => payload.without("/user"),
        3 => payload.without("/user/domain"),
        4 => payload.with("/user/domain", Value::Null),
        _ => payload.with("/roles", json!([{"id": "1"}])),
    };
    m.token(&payload)
}

/// Python fails at these; not there is one thing, null another.
fn null_for_a_scope(m: &mut Maker<'_>) -> String {
    match m.random.below(4) {
        0 => v2_with(m, "/user/roles", Value::Null),
        1 => v3_with(m, "/domain", Value::Null),
        2 => v3_with(m, "/project", Value::Null),
        _ => v3_with(m, "/roles", Value::Null),
    }
}

fn null_for_a_value(m: &mut Maker<'_>) -> String {
    let at = m.random.pick(&[
        "/user/id",
        "/user/name",
        "/project/id",
        "/project/name",
        "/project/domain/id",
    ]);
    match m.random.below(4) {
        0 => v2_with(m, "/token/tenant/name", Value::Null),
        1 => v2_with(m, "/token/tenant/id", Value::Null),
        2 => {
            let payload = m.v2().without("/token/tenant").with("/token/tenantId", json!("t"));
            m.token(&payload.with("/user/tenantId", Value::Null))
        }
        _ => v3_with(m, at, Value::Null),
    }
}

fn null_for_a_domain(m: &mut Maker<'_>) -> String {
    m.odd(Odd::UserOfNoDomain);
    let at = m.random.pick(&["/user/domain/id", "/user/domain/name"]);
    v3_with(m, at, Value::Null)
}

fn broken_pkiz(m: &mut Maker<'_>) -> String {
    let json = m.payload().json();
    let der = m.signed(&json);
    let token = pkiz(&der);
    match m.random.below(6) {
        0 => token[..token.len() / 8 * 4 + 1].to_owned(),
        1 => token[..token.len() / 8 * 4].to_owned(),
        2 => "PKIZ_".to_owned(),
        3 => format!("PKIZ_{}", "eHh4".repeat(80)),
        4 => mint::pkiz_of(b"inflates, but is no message").expect("zlib"),
        _ => mint::pkiz_of(&vec![b'A'; 1 << 20]).expect("zlib"),
    }
}

fn garbage(m: &mut Maker<'_>) -> String {
    let filling = format!("{}{}", m.id(), m.random.pick(&["", "=", "A1b2-+"]));
    match m.random.below(3) {
        0 => "MII".to_owned(),
        1 => format!("MII{}", filling.repeat(60)),
        _ => format!("MIA{}", filling.repeat(60)),
    }
}

fn unsigned(m: &mut Maker<'_>) -> String {
    let id = m.id();
    match m.random.below(5) {
        0 => format!("{id}{id}"),
        1 => format!("gAAAAAB{}", id.repeat(10)),
        2 => format!("{id}.{id}.{id}"),
        3 => String::new(),
        _ => format!("{id} ünd"),
    }
}
