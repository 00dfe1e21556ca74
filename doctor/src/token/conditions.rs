//! Conditions of the location or of the request, which the token does not show.

use keystone_token::identity::{Identity, CERTIFICATE};
use keystone_token::result::AuthResult;

use crate::conf::service::Locations;
use crate::report::{Check, Decision, Verdict};

/// What has to be looked at, and the verdict where no location can meet a condition.
pub fn of(identity: &Identity, locations: &Locations) -> (Vec<Check>, Option<Verdict>) {
    let mut conditions = Conditions { checks: Vec::new(), verdict: None };
    conditions.access_rules(identity, locations);
    conditions.binds(identity, locations);
    conditions.roles(identity);
    (conditions.checks, conditions.verdict)
}

struct Conditions {
    checks: Vec<Check>,
    /// That of the first condition which no location can meet.
    verdict: Option<Verdict>,
}

impl Conditions {
    fn access_rules(&mut self, identity: &Identity, locations: &Locations) {
        if identity.access_rules.is_none() {
            return;
        }
        let detail = "it has access rules";
        if locations.has_service_type == Some(false) {
            self.checks.push(
                Check::fail(ID, TITLE, detail)
                    .meaning(
                        "no location sets keystone_service_type: it passes only together with a \
                         valid service token",
                    )
                    .fix("keystone_service_type TYPE;    # as in the catalog, in the location"),
            );
            self.refuse(
                AuthResult::AccessRules,
                "it has access rules, and no location sets keystone_service_type",
            );
        } else {
            self.checks.push(Check::warn(ID, TITLE, detail).meaning(
                "it passes only where keystone_service_type is set and a rule allows the \
                 request; else the result is access_rules",
            ));
        }
    }

    fn binds(&mut self, identity: &Identity, locations: &Locations) {
        let binds = || identity.bind.iter().flatten();
        if binds().any(|(mechanism, _)| mechanism != CERTIFICATE) {
            self.checks.push(
                Check::warn(ID, TITLE, "it is bound to another authentication").meaning(
                    "what comes of it depends on keystone_enforce_token_bind: the result may be \
                     bind_failed",
                ),
            );
        }
        for (_, thumbprint) in binds().filter(|(mechanism, _)| mechanism == CERTIFICATE) {
            self.client_certificate(thumbprint, locations);
        }
        if binds().next().is_none() && locations.takes_unbound == Some(false) {
            self.checks.push(
                Check::fail(ID, TITLE, "it has no bind")
                    .meaning("every location demands one, by keystone_enforce_token_bind"),
            );
            self.refuse(AuthResult::BindFailed, "it has no bind, and every location demands one");
        }
    }

    fn client_certificate(&mut self, thumbprint: &str, locations: &Locations) {
        let detail = format!("it is bound to the client certificate {thumbprint}");
        if locations.has_client_certificate == Some(false) {
            self.checks.push(
                Check::fail(ID, TITLE, detail)
                    .meaning(
                        "nginx asks no client for a certificate, and takes it from nowhere else",
                    )
                    .fix("ssl_verify_client optional; ssl_client_certificate FILE;"),
            );
            self.refuse(
                AuthResult::BindFailed,
                "it is bound to a client certificate, and nginx asks for none",
            );
        } else {
            self.checks.push(Check::warn(ID, TITLE, detail).meaning(
                "it passes only if nginx sees this certificate (keystone_client_certificate); \
                 else the result is bind_failed",
            ));
        }
    }

    fn roles(&mut self, identity: &Identity) {
        if identity.roles.is_empty() {
            self.checks.push(Check::warn(ID, TITLE, "it has no roles").meaning(
                "any keystone_require_role refuses it with 403; get a token for a project",
            ));
        }
    }

    fn refuse(&mut self, result: AuthResult, reason: &str) {
        self.verdict.get_or_insert_with(|| Verdict {
            decision: Decision::Refuse,
            result: Some(result.as_str()),
            reason: reason.to_owned(),
        });
    }
}

const ID: &str = "token.conditions";
const TITLE: &str = "conditions";
