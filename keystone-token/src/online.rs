//! Tokens that only Keystone can judge: which of them need not be shown to it, and what its answer
//! says.

use crate::api;
use crate::fernet;
use crate::format::TokenFormat;
use crate::identity::{Identity, IdentityError};
use crate::jws::{Jws, JwsKeys};
use crate::refusal::{Malformed, Refusal};
use crate::result::AuthResult;
use crate::token::graphic_text;

/// The rules for a token that Keystone validates.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnlineRules<'k> {
    /// The time, in unix seconds.
    pub now: i64,
    /// Whether a token that has expired is valid too.
    pub allow_expired: bool,
    /// Keystone's public keys for JWS tokens, where they are known.
    pub jws_keys: Option<&'k JwsKeys>,
}

/// The token as text for a request to Keystone. Refuses what is not visible ASCII, and a token that
/// claims to be Fernet or JWS and cannot be valid, so that Keystone need not be asked about it.
/// That a token is not refused says nothing about it.
pub fn check_form<'t>(token: &'t [u8], rules: &OnlineRules<'_>) -> Result<&'t str, Refusal> {
    let text = graphic_text(token).ok_or(Malformed::Text)?;
    match TokenFormat::of(token) {
        TokenFormat::Fernet => fernet::check(token, rules.now).map_err(Malformed::Fernet)?,
        TokenFormat::Jws => check_jws(token, rules)?,
        TokenFormat::Pki | TokenFormat::Pkiz | TokenFormat::Unknown | TokenFormat::Uuid => {}
    }
    Ok(text)
}

fn check_jws(token: &[u8], rules: &OnlineRules<'_>) -> Result<(), Refusal> {
    let jws = Jws::parse(token).map_err(Malformed::Jws)?;
    jws.check_issue(rules.now).map_err(Malformed::Jws)?;
    if jws.has_expired(rules.now) && !rules.allow_expired {
        return Err(Refusal::Expired);
    }
    match rules.jws_keys {
        Some(keys) if !keys.verify(&jws) => Err(Refusal::BadSignature),
        _ => Ok(()),
    }
}

/// What Keystone says about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<I = Identity> {
    /// The token is not valid.
    Refused(Refusal),
    /// It is valid, and this is whose it is.
    Valid(I),
}

/// Reads the answer to [`api::validate`], by its status and its body. An
/// error means that Keystone has not said anything about the token.
pub fn judge_answer(status: u16, body: &[u8]) -> Result<Answer, AnswerError> {
    match status {
        status if api::is_success(status) => {}
        404 if api::is_error_document(body) => {
            return Ok(Answer::Refused(Refusal::UnknownToken));
        }
        404 => return Err(AnswerError::NotKeystone),
        status => return Err(AnswerError::Status(status)),
    }
    match Identity::from_answer(body) {
        Ok(identity) => Ok(Answer::Valid(identity)),
        // Keystone has answered, with a token that cannot be used.
        Err(error @ (IdentityError::ControlCharacter | IdentityError::NoTenant)) => {
            Ok(Answer::Refused(error.into()))
        }
        Err(error) => Err(AnswerError::Identity(error)),
    }
}

/// The refusal of an answer that had this result; `None` where the result alone does not say it.
pub fn refusal_of(result: AuthResult) -> Option<Refusal> {
    [Refusal::Expired, Refusal::NoTenant, Refusal::UnknownToken]
        .into_iter()
        .find(|refusal| refusal.result() == result)
}

/// Why an answer says nothing about the token that Keystone was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The body is not that of a token.
    #[error("invalid response about a token: {0}")]
    Identity(IdentityError),
    /// A 404 of something else than Keystone.
    #[error("{}", api::ForeignAnswer::NotFound)]
    NotKeystone,
    /// A status that no answer about a token has.
    #[error("unexpected response status {0}")]
    Status(u16),
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;
    use crate::jws::JwsError;
    use crate::result::AuthResult;

    #[test]
    fn only_what_claims_to_be_fernet_or_jws_is_checked() {
        let rules = OnlineRules::default();
        for token in ["ec6c0710ec2f471498484c1b53ab4f9d", "hello", "eyJh.eyJz", "gAAAA", "MII"] {
            assert_eq!(check_form(token.as_bytes(), &rules), Ok(token), "{token}");
        }
        for token in [&b"a b"[..], b"hello\n", b"MII\0", b"\x7f", "\u{e4}".as_bytes(), b"\xff"] {
            assert_eq!(check_form(token, &rules), Err(Malformed::Text.into()), "{token:?}");
        }
        for token in ["gAAAAABYq", "a.b.c"] {
            let refusal = check_form(token.as_bytes(), &rules).unwrap_err();
            assert_eq!(refusal.result(), AuthResult::Malformed, "{token}");
        }
    }

    #[test]
    fn a_jws_is_refused_for_its_form_its_time_and_its_signature() {
        let token = include_bytes!("jws/vectors/es256.jws");
        let pem = |pem: &[u8]| JwsKeys::from_pem(pem).unwrap();
        let key = pem(include_bytes!("jws/vectors/es256.pem"));
        let other = pem(include_bytes!("jws/vectors/other.pem"));
        let check = |now, allow_expired, jws_keys| {
            check_form(token, &OnlineRules { now, allow_expired, jws_keys }).map(str::as_bytes)
        };
        let (issued_at, expires_at) = (1_767_225_600, 1_767_229_200);
        let future = Refusal::Malformed(Malformed::Jws(JwsError::Future));
        assert_eq!(check(issued_at - 61, false, None), Err(future));
        for keys in [None, Some(&key)] {
            assert_eq!(check(issued_at, false, keys), Ok(&token[..]));
            assert_eq!(check(expires_at, false, keys), Err(Refusal::Expired));
            assert_eq!(check(expires_at, true, keys), Ok(&token[..]));
        }
        assert_eq!(check(issued_at, false, Some(&other)), Err(Refusal::BadSignature));
        assert_eq!(check(expires_at, true, Some(&other)), Err(Refusal::BadSignature));
    }

    #[test]
    fn an_answer_is_an_identity_or_a_refusal_or_says_nothing() {
        let body = |domain: &str| {
            format!(
                r#"{{"token": {{"user": {{"id": "u", "name": "n", "domain": {domain}}},
                    "expires_at": "2026-01-01T00:00:00Z"}}}}"#
            )
        };
        let valid = body(r#"{"id": "d", "name": "D"}"#);
        for status in [200, 203] {
            let Ok(Answer::Valid(identity)) = judge_answer(status, valid.as_bytes()) else {
                panic!("{status} is an answer about a token");
            };
            assert_eq!(identity.user_id.as_deref(), Some("u"));
        }
        for (body, refusal) in [
            (
                body(r#"{"id": "d\n", "name": "D"}"#),
                Malformed::Identity(IdentityError::ControlCharacter).into(),
            ),
            (
                r#"{"access": {"token": {"id": "t", "expires": "2026-01-01T00:00:00Z"},
                    "user": {"id": "u", "name": "n"}}}"#
                    .to_owned(),
                Refusal::NoTenant,
            ),
        ] {
            assert_eq!(judge_answer(200, body.as_bytes()), Ok(Answer::Refused(refusal)), "{body}");
        }
        let unknown = Ok(Answer::Refused(Refusal::UnknownToken));
        let error = r#"{"error": {"message": "m", "code": 404, "title": "Not Found"}}"#;
        for body in [error, r#"{"error": {}}"#, r#"{"x": 1, "error": {"a": [1]}}"#] {
            assert_eq!(judge_answer(404, body.as_bytes()), unknown, "{body}");
        }
        for body in [
            &valid,
            "",
            "{}",
            "[]",
            "null",
            "404 Not Found",
            "<html>",
            "\"error\"",
            r#"["error"]"#,
            r#"[{"error": {}}]"#,
            r#"{"message": "no Route matched"}"#,
            r#"{"status": 404, "error": "Not Found"}"#,
            r#"{"error": null}"#,
            r#"{"error": []}"#,
            r#"{"errors": {}}"#,
            r#"{"error": {}"#,
            r#"{"error": {}} x"#,
        ] {
            assert_eq!(judge_answer(404, body.as_bytes()), Err(AnswerError::NotKeystone), "{body}");
        }
        for status in [0, 201, 204, 300, 400, 401, 403, 410, 500, 503] {
            let judged = judge_answer(status, valid.as_bytes());
            assert_eq!(judged, Err(AnswerError::Status(status)));
        }
        for body in ["", "{}", "[]", "null", r#"{"token": {}}"#, "<html>", &body("{}")] {
            let judged = judge_answer(200, body.as_bytes());
            assert!(matches!(judged, Err(AnswerError::Identity(_))), "{body}");
        }
    }

    #[test]
    fn an_answer_without_what_every_token_has_says_nothing() {
        let v2 = json!({"access": {
            "token": {"id": "t", "expires": "2026-01-01T00:00:00Z", "tenant": {"id": "p"}},
            "user": {"id": "u", "name": "n"},
        }});
        let v3 = json!({"token": {
            "user": {"id": "u", "name": "n", "domain": {"id": "d", "name": "D"}},
            "expires_at": "2026-01-01T00:00:00Z",
            "project": {"id": "p", "name": "P", "domain": {"id": "d", "name": "D"}},
        }});
        let paths = [
            (&v2, "/access/token"),
            (&v2, "/access/token/id"),
            (&v2, "/access/token/expires"),
            (&v2, "/access/user"),
            (&v2, "/access/user/id"),
            (&v2, "/access/user/name"),
            (&v3, "/token/user"),
            (&v3, "/token/user/id"),
            (&v3, "/token/user/name"),
            (&v3, "/token/user/domain"),
            (&v3, "/token/user/domain/id"),
            (&v3, "/token/user/domain/name"),
            (&v3, "/token/expires_at"),
            (&v3, "/token/project/id"),
        ];
        let judge = |document: &Value| judge_answer(200, document.to_string().as_bytes());
        for (document, path) in paths {
            assert!(matches!(judge(document), Ok(Answer::Valid(_))), "{document}");
            let (parent, name) = path.rsplit_once('/').unwrap();
            let without = |value: Option<Value>| {
                let mut document = document.clone();
                let members = document.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
                members.remove(name);
                members.extend(value.map(|value| (name.to_owned(), value)));
                document
            };
            for value in [None, Some(Value::Null), Some(json!(""))] {
                // A domain may have an odd id or name, as long as it has one.
                if path.contains("domain/") && value == Some(json!("")) {
                    continue;
                }
                let document = without(value);
                let judged = judge(&document);
                assert!(matches!(judged, Err(AnswerError::Identity(_))), "{document}: {judged:?}");
            }
        }
        // A user of v2.0 has one name or the other, and a federated one of v3 has no domain.
        let mut other = v2.clone();
        other["access"]["user"] = json!({"id": "u", "username": "n"});
        assert!(matches!(judge(&other), Ok(Answer::Valid(_))));
        let mut other = v3.clone();
        other["token"]["user"] = json!({"id": "u", "name": "n", "OS-FEDERATION": {}});
        assert!(matches!(judge(&other), Ok(Answer::Valid(_))));
    }
}
