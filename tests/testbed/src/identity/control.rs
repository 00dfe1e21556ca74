//! Steering an identity service over HTTP, for when it runs as a process of its own.

use serde_json::{json, Value};

use super::api::Answer;
use super::State;
use crate::mint::{Payload, Revoked};
use crate::serve::Incoming;
use crate::Result;

/// Answers a request below `/testbed/`.
pub(super) fn answer(state: &mut State, request: &Incoming) -> Answer {
    match (request.method.as_str(), request.path()) {
        ("GET", "/testbed/log") => {
            let line = |r: &Incoming| format!("{} {}", r.method, r.target);
            Answer::json(200, &json!(state.log.iter().map(line).collect::<Vec<_>>()))
        }
        ("POST", "/testbed/expire") => {
            state.issued.clear();
            Answer::json(200, &json!({}))
        }
        ("POST", "/testbed/revoke") => {
            let body = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
            let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
            let entry = match (text("token"), text("id"), text("audit_id")) {
                (Some(token), _, _) => Revoked::id(crate::mint::md5(&token)),
                (None, id, audit_id) => Revoked { id, audit_id },
            };
            state.revoked.push(entry);
            Answer::json(200, &json!({ "entries": state.revoked.len() }))
        }
        ("POST", "/testbed/tokens") => match tokens(state) {
            Ok(tokens) => Answer::json(200, &tokens),
            Err(error) => Answer::json(500, &json!({ "error": error.to_string() })),
        },
        _ => Answer::json(404, &json!({"error": "no such control"})),
    }
}

/// Fresh tokens of each kind.
fn tokens(state: &State) -> Result<Value> {
    let signer = &state.signer;
    Ok(json!({
        "v2_pki": Payload::v2().pki(signer)?,
        "v2_pkiz": Payload::v2().pkiz(signer)?,
        "v3_pki": Payload::v3().pki(signer)?,
        "v3_pkiz": Payload::v3().pkiz(signer)?,
        "expired": Payload::v3().expires_in(-60).pki(signer)?
    }))
}
