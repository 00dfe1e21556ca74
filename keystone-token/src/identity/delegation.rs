//! On whose behalf a token was issued, as far as revocations name it.
//!
//! Nothing here makes a token invalid: it was signed or answered by Keystone, and what cannot be
//! read is taken for not known.

use serde_json::value::RawValue;
use serde_json::Value;

use crate::json::Text;

/// The trust that a token is scoped to. Where a member is `None`, it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust<T> {
    /// Id of the trust.
    pub id: Option<T>,
    /// The id of the user who trusts, in whose name the token acts if the trust impersonates.
    pub trustor_id: Option<T>,
    /// The id of the user who is trusted.
    pub trustee_id: Option<T>,
}

impl Trust<String> {
    /// Reads `OS-TRUST:trust` of a v3 token, or `trust` of a v2 one.
    pub(super) fn new(json: &RawValue) -> Self {
        let trust = Members::new(json);
        let user = |v3, v2| trust.text(v3).or_else(|| trust.text(v2));
        Self {
            id: trust.text("/id"),
            trustor_id: user("/trustor_user/id", "/trustor_user_id"),
            trustee_id: user("/trustee_user/id", "/trustee_user_id"),
        }
    }
}

/// The OAuth 1.0 delegation that a token was issued for. Where a member is `None`, it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OAuth<T> {
    /// The id of the access token with which the user delegated.
    pub access_token_id: Option<T>,
    /// The id of the consumer to whom.
    pub consumer_id: Option<T>,
}

impl OAuth<String> {
    /// Reads `OS-OAUTH1` of a v3 token.
    pub(super) fn new(json: &RawValue) -> Self {
        let oauth = Members::new(json);
        Self {
            access_token_id: oauth.text("/access_token_id"),
            consumer_id: oauth.text("/consumer_id"),
        }
    }
}

struct Members(Value);

impl Members {
    fn new(json: &RawValue) -> Self {
        Self(serde_json::from_str(json.get()).unwrap_or_default())
    }

    fn text(&self, pointer: &str) -> Option<String> {
        self.0.pointer(pointer).cloned().and_then(|value| Text::from(value).0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::Identity;

    const ISSUED_AT: &str = "2026-11-23T02:37:06.987654Z";

    fn identity(document: &Value) -> Identity {
        Identity::from_json(document.to_string().as_bytes()).unwrap()
    }

    /// A v2 token with these members in it, and these roles of the user and in the metadata.
    fn v2(trust: Value, issued_at: Value, roles: Value, metadata: Value) -> Identity {
        identity(&json!({"access": {
            "token": {"expires": ISSUED_AT, "issued_at": issued_at, "tenant": {"id": "p"}},
            "user": {"id": "u", "roles": roles},
            "metadata": {"roles": metadata},
            "trust": trust,
        }}))
    }

    fn v3(trust: Value, oauth: Value, issued_at: Value, roles: Value) -> Identity {
        identity(&json!({"token": {
            "user": {"id": "u", "domain": {"id": "d", "name": "D"}},
            "expires_at": ISSUED_AT,
            "issued_at": issued_at,
            "roles": roles,
            "OS-TRUST:trust": trust,
            "OS-OAUTH1": oauth,
        }}))
    }

    fn own<const N: usize>(values: [&str; N]) -> [Option<String>; N] {
        values.map(|value| Some(value.to_owned()))
    }

    #[test]
    fn a_trust_is_read_in_both_forms() {
        let [id, trustor_id, trustee_id] = own(["t", "x", "y"]);
        let trust = Some(Trust { id, trustor_id, trustee_id });
        let in_v2 = json!({
            "id": "t", "trustor_user_id": "x", "trustee_user_id": "y", "impersonation": true,
        });
        assert_eq!(v2(in_v2, json!(ISSUED_AT), json!([]), json!([])).trust, trust);
        let in_v3 = json!({
            "id": "t", "impersonation": true,
            "trustor_user": {"id": "x"}, "trustee_user": {"id": "y"},
        });
        assert_eq!(v3(in_v3, json!(null), json!(ISSUED_AT), json!([])).trust, trust);
    }

    #[test]
    fn an_oauth_delegation_is_read() {
        let oauth = json!({"access_token_id": "a", "consumer_id": "c"});
        let [access_token_id, consumer_id] = own(["a", "c"]);
        let expected = Some(OAuth { access_token_id, consumer_id });
        assert_eq!(v3(json!(null), oauth, json!(ISSUED_AT), json!([])).oauth, expected);
    }

    #[test]
    fn the_time_of_issue_is_one_of_whole_seconds() {
        let issued_at = json!(ISSUED_AT);
        let expected = Some(1_795_401_426);
        assert_eq!(v2(json!(null), issued_at.clone(), json!([]), json!([])).issued_at, expected);
        assert_eq!(v3(json!(null), json!(null), issued_at, json!([])).issued_at, expected);
    }

    #[test]
    fn role_ids_are_with_the_roles_or_in_the_metadata() {
        let ids = Some(vec!["1".to_owned(), "2".to_owned()]);
        let roles = json!([{"id": "1", "name": "a"}, {"id": "2", "name": "b,c"}]);
        assert_eq!(v3(json!(null), json!(null), json!(null), roles).role_ids, ids);
        assert_eq!(v3(json!(null), json!(null), json!(null), json!([])).role_ids, Some(Vec::new()));

        let v2 = |roles, metadata| v2(json!(null), json!(null), roles, metadata).role_ids;
        let names = || json!([{"name": "a"}, {"name": "b"}]);
        assert_eq!(v2(names(), json!(["1", "2"])), ids);
        // Names, perhaps; not as many as there are roles; nothing that tells.
        assert_eq!(v2(json!([]), json!(["1", "2"])), None);
        assert_eq!(v2(names(), json!(["1"])), None);
        assert_eq!(v2(names(), json!(["1", {"id": "2", "name": "b"}])), None);
        assert_eq!(v2(names(), json!(null)), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_known_and_no_error() {
        for odd in [json!(1), json!(true), json!([1]), json!("x"), json!({"id": [], "x": "\n"})] {
            let roles = json!([{"id": odd, "name": "a"}]);
            let issued_at = if odd == json!("x") { json!("yesterday") } else { odd.clone() };
            let v3 = v3(odd.clone(), odd.clone(), issued_at.clone(), roles);
            assert_eq!(v3.trust, Some(Trust::default()), "{odd}");
            assert_eq!(v3.oauth, Some(OAuth::default()), "{odd}");
            assert_eq!(v3.issued_at, None, "{odd}");
            assert_eq!(v3.role_ids.is_some(), odd == json!("x"), "{odd}");
            let v2 = v2(odd.clone(), issued_at, json!([{"name": "a"}]), json!(["1\n"]));
            assert_eq!(v2.trust, Some(Trust::default()), "{odd}");
            assert_eq!((v2.issued_at, v2.role_ids), (None, None), "{odd}");
        }
        let none = v3(json!(null), json!(null), json!(null), json!([{"name": "a"}]));
        assert_eq!((none.trust, none.oauth, none.issued_at, none.role_ids), Default::default());
    }
}
