//! The requests of Keystone's v2.0 and v3 APIs and their answers.

use serde_json::{json, Value};

use super::{State, User};
use crate::clock::{iso, iso_micros};
use crate::now;
use crate::serve::Incoming;

/// An answer before it is written.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![
                ("Vary", "X-Auth-Token".into()),
                ("Content-Type", "application/json".into()),
            ],
            body: body.to_string().into_bytes(),
        }
    }

    fn error(status: u16, title: &str, message: &str) -> Self {
        let error = json!({"message": message, "code": status, "title": title});
        Self::json(status, &json!({ "error": error }))
    }

    fn not_found(message: &str) -> Self {
        Self::error(404, "Not Found", message)
    }

    fn unauthorized(base: &str) -> Self {
        let message = "The request you have made requires authentication.";
        let mut answer = Self::error(401, "Unauthorized", message);
        answer.headers.push(("WWW-Authenticate", format!("Keystone uri=\"{base}\"")));
        answer
    }

    fn pem(text: &str) -> Self {
        let headers = vec![("Content-Type", "text/html; charset=UTF-8".into())];
        Self { status: 200, headers, body: text.into() }
    }
}

/// The token that a request asks about, if it asks about one.
pub(super) fn subject<'r>(prefix: &str, request: &'r Incoming) -> Option<&'r str> {
    let path = request.path().strip_prefix(prefix)?;
    match path {
        _ if request.method != "GET" => None,
        "/v3/auth/tokens" => Some(request.headers.text("X-Subject-Token").unwrap_or_default()),
        _ => path.strip_prefix("/v2.0/tokens/").filter(|token| *token != "revoked"),
    }
}

/// Whether a request asks which versions there are.
pub(super) fn asks_for_versions(prefix: &str, request: &Incoming) -> bool {
    request.path().strip_prefix(prefix).is_some_and(|path| path.trim_end_matches('/').is_empty())
}

pub(super) fn answer(state: &mut State, request: &Incoming) -> Answer {
    let Some(path) = request.path().strip_prefix(state.prefix.as_str()) else {
        return Answer::not_found("The resource could not be found.");
    };
    let method = request.method.as_str();
    let version = path.split('/').nth(1).unwrap_or_default();
    if version == "v2.0" && !state.v2 || version == "v3" && !state.v3 {
        return Answer::not_found("The resource could not be found.");
    }
    match (method, path.trim_end_matches('/')) {
        ("GET", "") => Answer::json(300, &json!({"versions": {"values": versions(state)}})),
        ("GET", "/v2.0") => Answer::json(200, &json!({ "version": version_2(state) })),
        ("GET", "/v3") => Answer::json(200, &json!({ "version": version_3(state) })),
        ("GET", "/v2.0/certificates/signing" | "/v3/OS-SIMPLE-CERT/certificates") => {
            Answer::pem(&state.signing_pem)
        }
        ("GET", "/v2.0/certificates/ca" | "/v3/OS-SIMPLE-CERT/ca") => Answer::pem(&state.ca_pem),
        ("GET", "/v2.0/tokens/revoked" | "/v3/auth/tokens/OS-PKI/revoked") => {
            revoked(state, request)
        }
        ("GET", "/v3/OS-REVOKE/events") => events(state, request),
        ("POST", "/v2.0/tokens") => new_token_2(state, request),
        ("POST", "/v3/auth/tokens") => new_token_3(state, request),
        ("GET", "/v3/auth/tokens") => validate_3(state, request),
        ("GET", path) => match path.strip_prefix("/v2.0/tokens/") {
            Some(token) => validate_2(state, request, token),
            None => Answer::not_found("The resource could not be found."),
        },
        _ => Answer::not_found("The resource could not be found."),
    }
}

fn versions(state: &State) -> Vec<Value> {
    let v3 = state.v3.then(|| version_3(state));
    let v2 = state.v2.then(|| version_2(state));
    v3.into_iter().chain(v2).collect()
}

fn version_2(state: &State) -> Value {
    version(state, "v2.0", "deprecated", "v2.0")
}

fn version_3(state: &State) -> Value {
    version(state, "v3.7", "stable", "v3")
}

fn version(state: &State, id: &str, status: &str, path: &str) -> Value {
    let kind = format!("application/vnd.openstack.identity-{path}+json");
    json!({
        "status": status,
        "updated": "2016-10-06T00:00:00Z",
        "media-types": [{"base": "application/json", "type": kind}],
        "id": id,
        "links": [{"href": format!("{}{}/{path}/", state.base, state.prefix), "rel": "self"}]
    })
}

fn revoked(state: &State, request: &Incoming) -> Answer {
    if !state.is_service(request) {
        return Answer::unauthorized(&state.base);
    }
    if let Some(answer) = &state.list_answer {
        let mut ready = Answer::json(200, &Value::Null);
        ready.body = answer.clone().into_bytes();
        return ready;
    }
    match state.signed_list() {
        Ok(signed) => Answer::json(200, &json!({ "signed": signed })),
        Err(error) => Answer::error(500, "Internal Server Error", &error.to_string()),
    }
}

/// `OS-REVOKE`: every event so far, the service role may read it.
fn events(state: &State, request: &Incoming) -> Answer {
    if !state.is_service(request) {
        return Answer::unauthorized(&state.base);
    }
    let links = json!({"next": null, "self": format!("{}/v3/OS-REVOKE/events", state.base)});
    Answer::json(200, &json!({ "events": state.events, "links": links }))
}

fn new_token_2(state: &mut State, request: &Incoming) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Answer::error(400, "Bad Request", "Expecting JSON.");
    };
    let text = |at: &str| body.pointer(at).and_then(Value::as_str);
    let user = state.users.iter().find(|user| {
        text("/auth/passwordCredentials/username") == Some(&user.name)
            && text("/auth/passwordCredentials/password") == Some(&user.password)
            && text("/auth/tenantName").is_none_or(|tenant| tenant == user.project)
    });
    let Some(user) = user.cloned() else { return Answer::unauthorized(&state.base) };
    let (token, expires) = state.issue();
    Answer::json(
        200,
        &json!({"access": {
            "token": {
                "id": token, "expires": iso(expires), "issued_at": iso_micros(now()),
                "tenant": {"id": "service_project_id1", "name": user.project, "enabled": true}
            },
            "serviceCatalog": [],
            "user": {
                "id": "service_user_id1", "name": user.name, "username": user.name,
                "roles": [{"name": "service"}, {"name": "admin"}], "roles_links": []
            },
            "metadata": {"is_admin": 0, "roles": []}
        }}),
    )
}

fn new_token_3(state: &mut State, request: &Incoming) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Answer::error(400, "Bad Request", "Expecting JSON.");
    };
    let text = |at: &str| body.pointer(at).and_then(Value::as_str);
    let identity = "/auth/identity";
    let user = match text(&format!("{identity}/methods/0")) {
        Some("password") => state.users.iter().find(|user| is_user(&body, user)).cloned(),
        Some("application_credential") => {
            let at = format!("{identity}/application_credential");
            let id = text(&format!("{at}/id")).unwrap_or_default();
            let secret = state.application_credentials.get(id).map(String::as_str);
            // Its scope is its own: asking for one is an error.
            let scoped = body.pointer("/auth/scope").is_some();
            let good = secret.is_some() && text(&format!("{at}/secret")) == secret && !scoped;
            good.then(|| state.users.first().cloned()).flatten()
        }
        _ => None,
    };
    let Some(user) = user else { return Answer::unauthorized(&state.base) };
    let (token, expires) = state.issue();
    let domain = |name: &str| json!({"id": name.to_lowercase(), "name": name});
    let mut answer = Answer::json(
        201,
        &json!({"token": {
            "methods": [text(&format!("{identity}/methods/0"))],
            "issued_at": iso_micros(now()),
            "expires_at": iso_micros(expires),
            "audit_ids": [crate::mint::new_audit_id()],
            "roles": [{"id": "1", "name": "service"}, {"id": "2", "name": "admin"}],
            "user": {
                "id": "service_user_id1", "name": user.name, "domain": domain(&user.domain)
            },
            "project": {
                "id": "service_project_id1", "name": user.project,
                "domain": domain(&user.project_domain)
            },
            "catalog": []
        }}),
    );
    answer.headers.push(("X-Subject-Token", token));
    answer
}

fn is_user(body: &Value, user: &User) -> bool {
    let text = |at: &str| body.pointer(at).and_then(Value::as_str);
    let in_domain = |at: &str, domain: &str| match text(&format!("{at}/id")) {
        Some(id) => id == domain.to_lowercase(),
        None => text(&format!("{at}/name")) == Some(domain),
    };
    let at = "/auth/identity/password/user";
    let scope = "/auth/scope/project";
    text(&format!("{at}/name")) == Some(&user.name)
        && text(&format!("{at}/password")) == Some(&user.password)
        && in_domain(&format!("{at}/domain"), &user.domain)
        && text(&format!("{scope}/name")) == Some(&user.project)
        && in_domain(&format!("{scope}/domain"), &user.project_domain)
}

fn validate_3(state: &State, request: &Incoming) -> Answer {
    if !state.is_service(request) {
        return Answer::unauthorized(&state.base);
    }
    let Some(token) = request.headers.text("X-Subject-Token") else {
        return Answer::error(400, "Bad Request", "Could not find a token to validate.");
    };
    let asked_for =
        |word: &str| request.query().split('&').any(|it| it.split('=').next() == Some(word));
    let may_have_expired = asked_for("allow_expired");
    let heeds_rules = request.headers.text("OpenStack-Identity-Access-Rules").is_some();
    let known = state.subject(token, true).filter(|payload| {
        payload.is_v3()
            && (may_have_expired || !payload.has_expired())
            && (heeds_rules || !payload.has_access_rules())
    });
    let Some(payload) = known else {
        return Answer::not_found(&format!("Could not find token: {token}"));
    };
    let payload = match asked_for("nocatalog") {
        true => payload.without("/catalog"),
        false => payload,
    };
    let mut answer = Answer::json(200, &Value::Null);
    answer.body = payload.json().into_bytes();
    answer.headers.push(("X-Subject-Token", token.into()));
    answer
}

fn validate_2(state: &State, request: &Incoming, token: &str) -> Answer {
    if !state.is_service(request) {
        return Answer::unauthorized(&state.base);
    }
    let known = state.subject(token, false).filter(|it| !it.is_v3() && !it.has_expired());
    let Some(payload) = known else {
        return Answer::not_found(&format!("Could not find token: {token}"));
    };
    let mut answer = Answer::json(200, &Value::Null);
    // A signed one has been signed before its id was known.
    let named = payload.json().replace(r#""placeholder""#, &json!(token).to_string());
    answer.body = named.into_bytes();
    answer
}
