use serde_json::{json, Value};

use super::*;
use crate::format::HashAlgorithm;

/// As Keystone 10 answers `GET /`.
const ROOT: &str = r#"{"versions": {"values": [
    {"status": "stable", "updated": "2016-10-06T00:00:00Z", "media-types": [{"base":
     "application/json", "type": "application/vnd.openstack.identity-v3+json"}], "id": "v3.7",
     "links": [{"href": "http://127.0.0.1:5000/v3/", "rel": "self"}]},
    {"status": "deprecated", "updated": "2016-08-04T00:00:00Z", "id": "v2.0", "links": []}]}}"#;

fn versions(text: &str) -> Versions {
    Versions::parse(text.as_bytes()).unwrap()
}

fn body(request: &Request) -> Value {
    serde_json::from_str(request.body.as_deref().unwrap()).unwrap()
}

fn password(project_name: Option<&'static str>) -> Login<'static> {
    Login::Password {
        username: "swift",
        password: "pa\"ss",
        project_name,
        user_domain_name: "Default",
        project_domain_name: "Other",
    }
}

#[test]
fn configured_versions() {
    for text in ["v3", "v3.0", "v3.1", "v3.9", "v3.3.5"] {
        assert_eq!(text.parse(), Ok(AuthVersion::Fixed(ApiVersion::V3)), "{text}");
    }
    for text in ["v2.0", "v2"] {
        assert_eq!(text.parse(), Ok(AuthVersion::Fixed(ApiVersion::V2)), "{text}");
    }
    assert_eq!("auto".parse(), Ok(AuthVersion::Auto));
    for text in ["", "v", "3", "v1", "v10", "v3.", "v3.x", "v33", "V3", "Auto", "v3 "] {
        assert!(text.parse::<AuthVersion>().is_err(), "{text}");
    }
}

#[test]
fn a_server_with_both_versions() {
    let both = versions(ROOT);
    assert_eq!(both.choose(AuthVersion::Auto), Ok(ApiVersion::V3));
    for version in [ApiVersion::V2, ApiVersion::V3] {
        assert_eq!(both.choose(AuthVersion::Fixed(version)), Ok(version));
    }
}

#[test]
fn other_forms_of_discovery() {
    let plain = versions(r#"{"versions": [{"id": "v2.0", "status": "CURRENT"}]}"#);
    assert_eq!(plain.choose(AuthVersion::Auto), Ok(ApiVersion::V2));
    assert!(plain.choose(AuthVersion::Fixed(ApiVersion::V3)).is_err());
    let one = versions(r#"{"version": {"id": "v3.14", "status": "stable", "links": []}}"#);
    assert_eq!(one.choose(AuthVersion::Auto), Ok(ApiVersion::V3));
}

#[test]
fn the_best_status_counts_and_then_the_newest_version() {
    use ApiVersion::{V2, V3};
    // As Folsom answers.
    let folsom = versions(
        r#"{"versions": {"values": [{"id": "v2.0", "status": "beta", "updated":
            "2011-11-19T00:00:00Z", "links": [], "media-types": []}]}}"#,
    );
    assert_eq!(folsom.choose(AuthVersion::Auto), Ok(V2));
    assert_eq!(folsom.choose(AuthVersion::Fixed(V2)), Ok(V2));
    assert!(folsom.choose(AuthVersion::Fixed(V3)).is_err());

    let ranks: [&[&str]; 4] = [
        &["stable", "current", "supported", "CURRENT", "Stable"],
        &["deprecated", "DEPRECATED"],
        &["experimental"],
        &["beta", "alpha", "", "x"],
    ];
    let choose = |v2: &str, v3: &str| {
        let listed = json!([{"id": "v2.0", "status": v2}, {"id": "v3.0", "status": v3}]);
        versions(&json!({ "versions": listed }).to_string()).choose(AuthVersion::Auto)
    };
    for (rank_2, words_2) in ranks.iter().enumerate() {
        for (rank_3, words_3) in ranks.iter().enumerate() {
            let best = if rank_3 <= rank_2 { V3 } else { V2 };
            for (v2, v3) in words_2.iter().flat_map(|v2| words_3.iter().map(move |v3| (v2, v3))) {
                assert_eq!(choose(v2, v3), Ok(best), "v2.0 {v2}, v3 {v3}");
            }
        }
    }
}

#[test]
fn an_odd_entry_does_not_spoil_the_others() {
    for odd in [json!(1), json!(null), json!([]), json!({}), json!({"id": 3, "status": "stable"})] {
        let listed = json!([odd, {"id": "v3.7", "status": "stable"}, {"id": "v2.0", "status": 1}]);
        for document in [json!({ "versions": listed }), json!({"versions": {"values": listed}})] {
            let chosen = versions(&document.to_string()).choose(AuthVersion::Auto);
            assert_eq!(chosen, Ok(ApiVersion::V3), "{document}");
        }
    }
}

#[test]
fn a_server_without_a_usable_version() {
    let newer = versions(r#"{"versions": {"values": [{"id": "v4.0", "status": "stable"}]}}"#);
    let error = newer.choose(AuthVersion::Auto).unwrap_err();
    assert!(error.to_string().contains("[v4.0]"), "{error}");

    let silent = versions(r#"{"versions": {"values": [{"id": "v3"}, {"status": "stable"}]}}"#);
    assert!(silent.choose(AuthVersion::Auto).is_err());
    let none = versions(r#"{"versions": {"values": []}}"#);
    assert!(none.choose(AuthVersion::Auto).is_err());
    let odd = versions("{\"version\": {\"id\": \"v9\\n\\u0007\", \"status\": \"stable\"}}");
    let error = odd.choose(AuthVersion::Auto).unwrap_err().to_string();
    assert!(!error.contains(char::is_control), "{error}");
}

#[test]
fn what_is_no_discovery() {
    for text in ["", "{}", "[]", "null", "<html>", r#"{"versions": 3}"#, r#"{"version": []}"#] {
        assert_eq!(Versions::parse(text.as_bytes()), Err(ApiError::NotDiscovery), "{text}");
    }
}

#[test]
fn base_paths() {
    for (path, base, version) in [
        ("", "", None),
        ("/", "", None),
        ("/v3", "", Some(ApiVersion::V3)),
        ("/v3/", "", Some(ApiVersion::V3)),
        ("/v2.0", "", Some(ApiVersion::V2)),
        ("/identity", "/identity", None),
        ("/identity/v3/", "/identity", Some(ApiVersion::V3)),
        ("/newadmin//", "/newadmin", None),
        ("/v3x", "/v3x", None),
        ("/v3/auth", "/v3/auth", None),
    ] {
        assert_eq!(split_base_path(path), (base, version), "{path}");
    }
}

#[test]
fn paths() {
    use ApiVersion::{V2, V3};
    let path = |request: Request| {
        assert_eq!(request.method, Method::Get);
        assert!(!request.authenticated);
        request.path
    };
    assert_eq!(path(discovery("")), "/");
    assert_eq!(path(discovery("/identity")), "/identity/");
    assert_eq!(path(version_discovery("", V3)), "/v3/");
    assert_eq!(path(signing_certificates("", V2)), "/v2.0/certificates/signing");
    assert_eq!(path(ca_certificates("/new", V2)), "/new/v2.0/certificates/ca");
    assert_eq!(path(signing_certificates("", V3)), "/v3/OS-SIMPLE-CERT/certificates");
    assert_eq!(path(ca_certificates("", V3)), "/v3/OS-SIMPLE-CERT/ca");

    for (version, path) in [(V2, "/v2.0/tokens/revoked"), (V3, "/v3/auth/tokens/OS-PKI/revoked")] {
        let request = revocation_list("", version);
        assert_eq!(request.path, path);
        assert!(request.authenticated);
    }
    let request = revocation_events("/identity");
    assert_eq!(
        (request.method, request.path.as_str()),
        (Method::Get, "/identity/v3/OS-REVOKE/events")
    );
    assert!(request.authenticated);
}

#[test]
fn a_v2_login() {
    let request = authenticate("/identity", ApiVersion::V2, &password(Some("service"))).unwrap();
    assert_eq!((request.method, request.path.as_str()), (Method::Post, "/identity/v2.0/tokens"));
    assert_eq!(
        body(&request),
        json!({"auth": {
            "tenantName": "service",
            "passwordCredentials": {"username": "swift", "password": "pa\"ss"}
        }})
    );
    let request = authenticate("", ApiVersion::V2, &password(None)).unwrap();
    assert!(body(&request)["auth"].get("tenantName").is_none());

    let login = Login::ApplicationCredential { id: "x", secret: "y" };
    assert_eq!(authenticate("", ApiVersion::V2, &login), Err(ApiError::V3Only));
}

#[test]
fn a_v3_login() {
    let request = authenticate("", ApiVersion::V3, &password(Some("service"))).unwrap();
    assert_eq!((request.method, request.path.as_str()), (Method::Post, "/v3/auth/tokens"));
    assert_eq!(
        body(&request),
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": "swift", "domain": {"name": "Default"}, "password": "pa\"ss"
            }}},
            "scope": {"project": {"name": "service", "domain": {"name": "Other"}}}
        }})
    );
    let request = authenticate("", ApiVersion::V3, &password(None)).unwrap();
    assert!(body(&request)["auth"].get("scope").is_none());
}

#[test]
fn an_application_credential() {
    let login = Login::ApplicationCredential { id: "x", secret: "y" };
    let request = authenticate("", ApiVersion::V3, &login).unwrap();
    assert_eq!(
        body(&request),
        json!({"auth": {"identity": {
            "methods": ["application_credential"],
            "application_credential": {"id": "x", "secret": "y"}
        }}})
    );
}

#[test]
fn what_is_sent_and_received_is_not_printed() {
    let request = authenticate("", ApiVersion::V3, &password(None)).unwrap();
    assert_eq!(format!("{request:?}"), "POST /v3/auth/tokens");
    let token = IssuedToken { id: "hidden".into(), expires_at: 1, issued_at: None };
    assert!(!format!("{token:?}").contains("hidden"));
}

#[test]
fn a_v2_token() {
    let answer = br#"{"access": {"token": {"issued_at": "2026-11-23T06:21:49.000000Z",
        "expires": "2046-11-23T02:37:08Z", "id": "MIIJ", "tenant": {"id": "0"}},
        "serviceCatalog": [], "user": {}, "metadata": {}}}"#;
    let token = issued_token(ApiVersion::V2, None, answer).unwrap();
    assert_eq!(token.id, "MIIJ");
    assert_eq!(token.expires_at, 2_426_553_428);
    assert_eq!(token.issued_at, Some(1_795_414_909));
}

#[test]
fn a_v3_token() {
    let answer = br#"{"token": {"methods": ["password"],
        "expires_at": "2046-11-23T02:37:06.000000Z", "roles": []}}"#;
    let token = issued_token(ApiVersion::V3, Some(b"gAAAAAB"), answer).unwrap();
    assert_eq!((token.id.as_str(), token.issued_at), ("gAAAAAB", None));
    assert_eq!(token.expires_at, 2_426_553_426);

    for header in [None, Some(&b""[..]), Some(b"a b"), Some(b"a\r\nb"), Some(b"\xff")] {
        let refused = issued_token(ApiVersion::V3, header, answer);
        assert_eq!(refused, Err(ApiError::NotToken), "{header:?}");
    }
    for answer in ["", "{}", r#"{"token": {}}"#, r#"{"token": {"expires_at": "soon"}}"#] {
        let refused = issued_token(ApiVersion::V3, Some(b"gAAAAAB"), answer.as_bytes());
        assert_eq!(refused, Err(ApiError::NotToken), "{answer}");
    }
}

#[test]
fn revocation_answers() {
    let answer = br#"{"signed": "-----BEGIN CMS-----\nMIIF\n-----END CMS-----\n"}"#;
    let signed = signed_revocation_list(answer).unwrap();
    assert!(signed.starts_with("-----BEGIN CMS-----\nMIIF"));
    for answer in ["", "{}", "[]", r#"{"signed": null}"#, r#"{"signed": 1}"#, "\u{fffd}"] {
        let refused = signed_revocation_list(answer.as_bytes());
        assert_eq!(refused, Err(ApiError::NotRevocationList), "{answer}");
    }
}

#[test]
fn limits_of_rate_and_of_size() {
    let limit = br#"{"overLimit": {"code": 413, "message": "Slow down.", "retryAfter": "3"}}"#;
    assert!(is_over_limit(limit));
    for body in ["", "{}", "[]", "<html>Request Entity Too Large", r#"{"error": {"code": 413}}"#] {
        assert!(!is_over_limit(body.as_bytes()), "{body}");
    }
}

#[test]
fn a_question_about_a_token() {
    let ask = |version, how| validate("/identity", version, "gAAAAAB-x_=", how).unwrap();
    let plain = ask(ApiVersion::V3, Validation::default());
    assert_eq!(plain.target(), "/identity/v3/auth/tokens?nocatalog");
    assert!(plain.authenticated && plain.method == Method::Get);
    assert!(plain.subject == Some(Subject::Header("gAAAAAB-x_=".into())));
    for (answered, is_about) in
        [(&b"gAAAAAB-x_="[..], true), (b"gAAAAAB-x_", false), (b"", false), (b"other", false)]
    {
        assert_eq!(plain.is_about(answered), Some(is_about));
    }
    let all = Validation { allow_expired: true, catalog: true };
    assert_eq!(ask(ApiVersion::V3, all).target(), "/identity/v3/auth/tokens?allow_expired=1");
    let both = Validation { allow_expired: true, catalog: false };
    let target = "/identity/v3/auth/tokens?nocatalog&allow_expired=1";
    assert_eq!(ask(ApiVersion::V3, both).target(), target);
    for how in [Validation::default(), both] {
        assert_eq!(ask(ApiVersion::V2, how).target(), "/identity/v2.0/tokens/gAAAAAB-x_=");
    }
}

#[test]
fn v2_names_a_token_by_its_text_or_by_its_hash() {
    let is_about = |version, asked: &str, id: &str| {
        let request = validate("", version, asked, Validation::default()).unwrap();
        let body = format!(r#"{{"access": {{"token": {{"id": {id:?}, "expires": "?"}}}}}}"#);
        request.is_about_id_in(body.as_bytes())
    };
    let (uuid, signed) = ("ec6c0710ec2f471498484c1b53ab4f9d", "MIIDsAYCCAafcmlhbGl6ZWQ=");
    assert_eq!(is_about(ApiVersion::V2, uuid, uuid), Some(true));
    for algorithm in HashAlgorithm::ALL {
        let hash = algorithm.hex_digest(signed.as_bytes());
        assert_eq!(is_about(ApiVersion::V2, signed, &hash), Some(true), "{algorithm:?}");
        assert_eq!(is_about(ApiVersion::V2, &hash, signed), Some(true), "{algorithm:?}");
        assert_eq!(is_about(ApiVersion::V2, uuid, &hash), Some(false), "{algorithm:?}");
    }
    for other in
        ["ec6c0710ec2f471498484c1b53ab4f9e", "EC6C0710EC2F471498484C1B53AB4F9D", "", signed]
    {
        assert_eq!(is_about(ApiVersion::V2, uuid, other), Some(false), "{other}");
    }
    assert_eq!(is_about(ApiVersion::V3, uuid, uuid), None);
    let request = validate("", ApiVersion::V2, uuid, Validation::default()).unwrap();
    for body in ["", "{}", "[]", r#"{"access": {"token": {}}}"#, r#"{"token": {"id": "x"}}"#] {
        assert_eq!(request.is_about_id_in(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn a_token_that_is_asked_about_is_not_shown() {
    for version in [ApiVersion::V2, ApiVersion::V3] {
        let request = validate("", version, "abcdef0123456789", Validation::default()).unwrap();
        assert!(!format!("{request:?}").contains("abcdef"), "{request:?}");
        assert!(!request.path.contains("abcdef"));
    }
}

#[test]
fn what_can_be_no_token_is_not_asked_about() {
    let ask = |version, token: &str| validate("", version, token, Validation::default());
    for token in ["", "a b", "a\tb", "a\u{7f}", "\u{e9}", "a\r\nX: y"] {
        for version in [ApiVersion::V2, ApiVersion::V3] {
            assert_eq!(ask(version, token).err(), Some(Refusal::UnknownToken), "{token:?}");
        }
    }
    for token in ["revoked", "..", ".", "a/../b", "a?b", "a#b", "%2e%2e", "a%2Fb", "a;b", "a\\b"] {
        assert_eq!(ask(ApiVersion::V2, token).err(), Some(Refusal::UnknownToken), "{token}");
        assert!(ask(ApiVersion::V3, token).is_ok(), "{token}");
    }
}
