//! Conditions of the location or of the request, which the token does not show.

use keystone_token::identity::Identity;
use keystone_token::identity::CERTIFICATE;
use keystone_token::result::AuthResult;

use crate::conf::service::Locations;
use crate::report::{Check, Decision, Verdict};

/// What has to be looked at, and the verdict where no location can meet a condition.
pub fn of(identity: &Identity, locations: &Locations) -> (Vec<Check>, Option<Verdict>) {
    let mut checks = Vec::new();
    let mut verdict = None;
    if identity.access_rules.is_some() {
        let detail = "it has access rules";
        checks.push(match locations.has_service_type {
            Some(false) => Check::fail(ID, TITLE, detail)
                .meaning(
                    "no location sets keystone_service_type: it passes only together with a valid \
                     service token",
                )
                .fix("keystone_service_type TYPE;    # as in the catalog, in the location"),
            _ => Check::warn(ID, TITLE, detail).meaning(
                "it passes only where keystone_service_type is set and a rule allows the \
                 request; else the result is access_rules",
            ),
        });
        if locations.has_service_type == Some(false) {
            verdict = Some(refused(
                AuthResult::AccessRules,
                "it has access rules, and no location sets keystone_service_type",
            ));
        }
    }
    let binds = || identity.bind.iter().flatten();
    if binds().any(|(mechanism, _)| mechanism != CERTIFICATE) {
        checks.push(Check::warn(ID, TITLE, "it is bound to another authentication").meaning(
            "what comes of it depends on keystone_enforce_token_bind: the result may be \
             bind_failed",
        ));
    }
    for (_, thumbprint) in binds().filter(|(mechanism, _)| mechanism == CERTIFICATE) {
        let detail = format!("it is bound to the client certificate {thumbprint}");
        checks.push(match locations.has_client_certificate {
            Some(false) => Check::fail(ID, TITLE, detail)
                .meaning("nginx asks no client for a certificate, and takes it from nowhere else")
                .fix("ssl_verify_client optional; ssl_client_certificate FILE;"),
            _ => Check::warn(ID, TITLE, detail).meaning(
                "it passes only if nginx sees this certificate (keystone_client_certificate); \
                 else the result is bind_failed",
            ),
        });
        if locations.has_client_certificate == Some(false) {
            let reason = "it is bound to a client certificate, and nginx asks for none";
            verdict = verdict.or(Some(refused(AuthResult::BindFailed, reason)));
        }
    }
    if binds().next().is_none() && locations.takes_unbound == Some(false) {
        checks.push(
            Check::fail(ID, TITLE, "it has no bind")
                .meaning("every location demands one, by keystone_enforce_token_bind"),
        );
        let reason = "it has no bind, and every location demands one";
        verdict = verdict.or(Some(refused(AuthResult::BindFailed, reason)));
    }
    if identity.roles.is_empty() {
        checks.push(
            Check::warn(ID, TITLE, "it has no roles").meaning(
                "any keystone_require_role refuses it with 403; get a token for a project",
            ),
        );
    }
    (checks, verdict)
}

fn refused(result: AuthResult, reason: &str) -> Verdict {
    Verdict { decision: Decision::Refuse, result: Some(result.as_str()), reason: reason.to_owned() }
}

const ID: &str = "token.conditions";
const TITLE: &str = "conditions";
