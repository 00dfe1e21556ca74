//! Which tokens are asked about again after an event of Keystone's.

use keystone_token::identity::{Identity, OAuth, Trust};
use keystone_token::revocation_events::RevocationEvents;
use keystone_token::time;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{json, Map, Value};

const ISSUED_AT: i64 = 1_795_401_426;
const EXPIRES_AT: i64 = ISSUED_AT + 3600;
/// The same as Keystone writes them.
const ISSUED: &str = "2026-11-23T02:37:06.000000Z";
const EXPIRES: &str = "2026-11-23T03:37:06Z";

fn events(document: &Value) -> RevocationEvents {
    RevocationEvents::from_json(document.to_string().as_bytes()).unwrap()
}

fn cover(events: &RevocationEvents, identity: &Identity) -> bool {
    events.covers(&identity.to_record(false).0.view())
}

/// Whether an event with these members, made when the token was, covers it.
fn covers(members: Value, identity: &Identity) -> bool {
    let mut event = members;
    event["issued_before"] = json!(ISSUED);
    event["revoked_at"] = json!(ISSUED);
    cover(&events(&json!({"events": [event], "links": {"next": null}})), identity)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A project-scoped v3 token, made of another one.
fn token() -> Identity {
    Identity {
        user_id: some("user"),
        user_domain_id: some("users"),
        project_id: some("project"),
        project_domain_id: some("projects"),
        role_ids: Some(vec!["reader".to_owned(), "member".to_owned()]),
        audit_ids: vec!["own".to_owned(), "parent".to_owned()],
        issued_at: Some(ISSUED_AT),
        expires_at: EXPIRES_AT,
        ..Identity::default()
    }
}

fn unscoped() -> Identity {
    Identity { project_id: None, project_domain_id: None, role_ids: Some(Vec::new()), ..token() }
}

/// As an old Keystone wrote it in v2: no domains, no role ids, no audit ids.
fn v2() -> Identity {
    let audit_ids = Vec::new();
    Identity { user_domain_id: None, project_domain_id: None, role_ids: None, audit_ids, ..token() }
}

#[test]
fn a_token_that_has_what_the_event_names_is_covered() {
    for (member, values, other) in [
        ("user_id", &["user"][..], "project"),
        ("project_id", &["project"], "user"),
        ("domain_id", &["users", "projects"], "project"),
        ("domain_scope_id", &["projects"], "users"),
        ("role_id", &["reader", "member"], "admin"),
        ("audit_id", &["own"], "parent"),
        ("audit_chain_id", &["parent", "own"], "user"),
        ("expires_at", &[EXPIRES, "2026-11-23T03:37:06.999999Z"], "2026-11-23T03:37:07Z"),
    ] {
        for value in values {
            assert!(covers(json!({ member: value }), &token()), "{member} {value}");
        }
        assert!(!covers(json!({ member: other }), &token()), "{member} {other}");
    }
}

#[test]
fn it_must_have_all_that_the_event_names() {
    assert!(covers(json!({"user_id": "user", "project_id": "project"}), &token()));
    assert!(!covers(json!({"user_id": "user", "project_id": "other"}), &token()));
    assert!(!covers(json!({"user_id": "other", "project_id": "project"}), &token()));
    assert!(covers(json!({"user_id": "user", "role_id": "member"}), &token()));
    assert!(!covers(json!({"user_id": "user", "role_id": "admin"}), &token()));
    assert!(covers(json!({"user_id": "user", "expires_at": EXPIRES}), &token()));
    assert!(!covers(json!({"user_id": "user", "expires_at": ISSUED}), &token()));
    assert!(covers(json!({}), &token()));
}

#[test]
fn a_token_issued_since_is_not_covered() {
    let event =
        |before: Value| events(&json!({"events": [{"user_id": "user", "issued_before": before}]}));
    for (before, is_covered) in [
        ("2026-11-23T02:37:05.999999Z", false),
        (ISSUED, true),
        ("2026-11-23T02:37:06Z", true),
        ("2026-11-23T03:00:00Z", true),
    ] {
        assert_eq!(cover(&event(json!(before)), &token()), is_covered, "{before}");
        // Nobody knows when.
        assert!(cover(&event(json!(before)), &Identity { issued_at: None, ..token() }));
    }
    for before in [json!(null), json!("yesterday"), json!(1), json!({})] {
        assert!(cover(&event(before.clone()), &token()), "{before}");
    }
}

#[test]
fn an_event_may_name_the_trustor_or_the_trustee() {
    let trust = |id, trustor, trustee| Identity {
        trust: Some(Trust { id, trustor_id: trustor, trustee_id: trustee }),
        ..token()
    };
    let token = trust(some("trust"), some("user"), some("trustee"));
    for user in ["user", "trustee"] {
        assert!(covers(json!({"user_id": user}), &token), "{user}");
    }
    assert!(!covers(json!({"user_id": "other"}), &token));
    assert!(covers(json!({"OS-TRUST:trust_id": "trust"}), &token));
    assert!(!covers(json!({"OS-TRUST:trust_id": "other"}), &token));
    assert!(!covers(json!({"OS-TRUST:trust_id": "trust"}), &self::token()));
    // A trust that nothing is known of may be any.
    assert!(covers(json!({"OS-TRUST:trust_id": "other"}), &trust(None, None, None)));
    assert!(covers(json!({"user_id": "other"}), &trust(some("trust"), some("user"), None)));
}

#[test]
fn an_oauth_delegation_may_be_named() {
    let oauth = |access_token_id, consumer_id| Identity {
        oauth: Some(OAuth { access_token_id, consumer_id }),
        ..token()
    };
    for (member, value) in
        [("OS-OAUTH1:access_token_id", "access"), ("OS-OAUTH1:consumer_id", "consumer")]
    {
        let token = oauth(some("access"), some("consumer"));
        assert!(covers(json!({ member: value }), &token), "{member}");
        assert!(!covers(json!({ member: "other" }), &token), "{member}");
        assert!(!covers(json!({ member: value }), &self::token()), "{member}");
        assert!(covers(json!({ member: "other" }), &oauth(None, None)), "{member}");
    }
}

#[test]
fn what_a_token_has_not_is_known() {
    for member in ["project_id", "domain_scope_id", "role_id"] {
        assert!(!covers(json!({ member: "project" }), &unscoped()), "{member}");
    }
    assert!(covers(json!({"domain_id": "users"}), &unscoped()));
    assert!(!covers(json!({"domain_id": "projects"}), &unscoped()));
    let domain = Identity { domain_id: some("domain"), ..unscoped() };
    for member in ["domain_id", "domain_scope_id"] {
        assert!(covers(json!({ member: "domain" }), &domain), "{member}");
        assert!(!covers(json!({ member: "other" }), &domain), "{member}");
    }
}

#[test]
fn what_a_token_does_not_tell_may_be_anything() {
    for member in ["domain_id", "domain_scope_id", "role_id", "audit_id", "audit_chain_id"] {
        assert!(covers(json!({ member: "any" }), &v2()), "{member}");
        assert!(covers(json!({ member: "any", "user_id": "user" }), &v2()), "{member}");
        assert!(!covers(json!({ member: "any", "user_id": "other" }), &v2()), "{member}");
        assert!(!covers(json!({ member: "any", "project_id": "other" }), &v2()), "{member}");
    }
    assert!(covers(json!({"user_id": "any"}), &Identity { user_id: None, ..token() }));
    let named = Identity { project_id: None, project_name: some("project"), ..token() };
    assert!(covers(json!({"project_id": "any"}), &named));
    let named = Identity { domain_name: some("domain"), ..unscoped() };
    assert!(covers(json!({"domain_scope_id": "any"}), &named));
}

#[test]
fn what_is_not_understood_in_an_event_does_not_restrict_it() {
    for members in [
        json!({"id": "x", "OS-NEW:thing": ["y"]}),
        json!({"user_id": null, "audit_id": 1, "project_id": {}, "expires_at": "tomorrow"}),
    ] {
        assert!(covers(members.clone(), &token()), "{members}");
        let mut known = members;
        known["role_id"] = json!("admin");
        assert!(!covers(known.clone(), &token()), "{known}");
    }
    for event in [json!(null), json!(1), json!("user"), json!(["user"]), json!([])] {
        let document = json!({"events": [{"user_id": "x", "issued_before": ISSUED}, event]});
        assert!(cover(&events(&document), &token()), "{document}");
    }
}

#[test]
fn without_events_nothing_is_covered() {
    let none = events(&json!({"events": []}));
    assert!(none.is_empty());
    assert!(!cover(&none, &token()));
    assert!(!cover(&RevocationEvents::default(), &v2()));
    let two = events(&json!({"events": [{}, {"user_id": "u"}]}));
    assert_eq!((two.len(), two.is_empty()), (2, false));
}

#[test]
fn what_is_no_document_of_events_is_an_error() {
    for text in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        r#"{"events": null}"#,
        r#"{"events": {}}"#,
        r#"{"events": "x"}"#,
        r#"{"events": [}"#,
        r#"{"events": []} x"#,
        r#"{"revoked": []}"#,
        r#"{"events": [], "events": []}"#,
        r#"[[]]"#,
        "\u{fffd}",
    ] {
        assert!(RevocationEvents::from_json(text.as_bytes()).is_err(), "{text}");
    }
    let error = RevocationEvents::from_json(br#"{"events": "secret"}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the document is not the JSON of revocation events: \
         missing, duplicate or misplaced value at line 1 column 19"
    );
}

/// Ids that are likely to meet.
fn id() -> impl Strategy<Value = Option<String>> {
    option::of("[abc]")
}

fn identity() -> impl Strategy<Value = Identity> {
    let times = (option::of(0..3_i64), 0..3_i64);
    let trust = option::of((id(), id(), id()));
    (
        vec(id(), 6),
        vec("[abc]", 0..3),
        option::of(vec("[abc]", 0..3)),
        times,
        trust,
        option::of((id(), id())),
    )
        .prop_map(|(ids, audit_ids, role_ids, (issued_at, expires_at), trust, oauth)| {
            let mut ids = ids.into_iter();
            let mut id = || ids.next().flatten();
            Identity {
                user_id: id(),
                user_domain_id: id(),
                project_id: id(),
                project_domain_id: id(),
                domain_id: id(),
                domain_name: id(),
                audit_ids,
                role_ids,
                issued_at,
                expires_at,
                trust: trust.map(|(id, trustor_id, trustee_id)| Trust {
                    id,
                    trustor_id,
                    trustee_id,
                }),
                oauth: oauth
                    .map(|(access_token_id, consumer_id)| OAuth { access_token_id, consumer_id }),
                ..Identity::default()
            }
        })
}

fn event() -> impl Strategy<Value = Map<String, Value>> {
    let names = vec![
        "user_id",
        "project_id",
        "domain_id",
        "domain_scope_id",
        "role_id",
        "audit_id",
        "audit_chain_id",
        "OS-TRUST:trust_id",
        "OS-OAUTH1:consumer_id",
        "OS-OAUTH1:access_token_id",
        "unknown",
    ];
    let ids = vec((select(names), "[abc]"), 0..4);
    (ids, option::of(0..3_i64), option::of(0..3_i64)).prop_map(|(ids, before, expires_at)| {
        let ids = ids.into_iter().map(|(name, id)| (name.to_owned(), Value::from(id)));
        let time = |name: &str, time: Option<i64>| {
            time.map(|time| (name.to_owned(), Value::from(time::format_utc(time))))
        };
        ids.chain(time("issued_before", before)).chain(time("expires_at", expires_at)).collect()
    })
}

/// One event and one token, as the definition has it.
fn is_covered(event: &Map<String, Value>, token: &Identity) -> bool {
    let trust = token.trust.as_ref();
    let has_project = token.project_id.is_some();
    let has_domain = token.domain_id.is_some() || token.domain_name.is_some();
    // The values that are there; where one is not known, it is any.
    let scope = match (has_project, has_domain) {
        (true, _) => vec![&token.project_domain_id],
        (false, true) => vec![&token.domain_id],
        (false, false) => vec![],
    };
    let audit_ids: Vec<_> = token.audit_ids.iter().cloned().map(Some).collect();
    let known = |values: &[&Option<String>], id: &str| {
        values.iter().any(|value| value.as_deref().is_none_or(|value| value == id))
    };
    event.iter().all(|(name, value)| {
        let value = value.as_str().unwrap();
        match name.as_str() {
            "user_id" => match trust {
                Some(it) => known(&[&token.user_id, &it.trustor_id, &it.trustee_id], value),
                None => known(&[&token.user_id], value),
            },
            "project_id" => has_project && known(&[&token.project_id], value),
            "domain_id" => known(&scope, value) || known(&[&token.user_domain_id], value),
            "domain_scope_id" => known(&scope, value),
            "role_id" => token.role_ids.as_ref().is_none_or(|ids| ids.iter().any(|id| id == value)),
            "audit_id" => known(&[audit_ids.first().unwrap_or(&None)], value),
            "audit_chain_id" => {
                audit_ids.is_empty() || known(&audit_ids.iter().collect::<Vec<_>>(), value)
            }
            "OS-TRUST:trust_id" => trust.is_some_and(|it| known(&[&it.id], value)),
            "OS-OAUTH1:consumer_id" => {
                token.oauth.as_ref().is_some_and(|it| known(&[&it.consumer_id], value))
            }
            "OS-OAUTH1:access_token_id" => {
                token.oauth.as_ref().is_some_and(|it| known(&[&it.access_token_id], value))
            }
            "issued_before" => {
                token.issued_at.is_none_or(|issued_at| issued_at <= time::parse(value).unwrap())
            }
            "expires_at" => token.expires_at == time::parse(value).unwrap(),
            _ => true,
        }
    })
}

proptest! {
    #[test]
    fn a_token_is_covered_by_one_event_or_another(list in vec(event(), 0..6), token in identity()) {
        let expected = list.iter().any(|event| is_covered(event, &token));
        let all = events(&json!({"events": list}));
        prop_assert_eq!(all.len(), list.len());
        prop_assert_eq!(cover(&all, &token), expected);
    }

    #[test]
    fn any_text_may_be_events(text in vec(any::<u8>(), 0..60), list in "[\\[\\]{}:,\"a1]{0,20}") {
        let _ = RevocationEvents::from_json(&text);
        let _ = RevocationEvents::from_json(format!("{{\"events\": {list}}}").as_bytes());
    }
}
