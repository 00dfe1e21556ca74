//! Where the module differs from auth_token 13 on purpose.
//!
//! Each function knows one difference: it changes what the oracle said into what the module must
//! say, and tells whether there was anything to change. What none of them names must be equal.

use keystone_testbed::oracle::View;
use keystone_testbed::world::AUTH_URI;
use keystone_token::headers::is_stripped;

/// Changes what the oracle said into what the module must say.
pub type Difference = fn(&mut View) -> bool;

/// A rule is a pattern of `*`, `**` and `{placeholder}`, but in auth_token all else is a regular
/// expression, in which a dot is any character.
pub fn a_dot_in_a_rule_is_a_dot(told: &mut View) -> bool {
    refuse(told)
}

/// auth_token looks for a rule for the path as it is. The application may resolve `..`, or take two
/// slashes or an encoded one for one, and then do something that no rule allows.
pub fn an_ambiguous_path_matches_no_rule(told: &mut View) -> bool {
    refuse(told)
}

/// In auth_token any service token lifts the rules, even one that is found to be invalid; with
/// `delay` the request goes on, as that of a valid user.
pub fn only_a_valid_service_token_lifts_access_rules(told: &mut View) -> bool {
    invalidate(told)
}

/// auth_token looks whether the catalog has the service that a rule names. A rule that Keystone
/// took names it already, and a catalog may be left out.
pub fn the_catalog_need_not_have_the_service(told: &mut View, allowed: &View) -> bool {
    let differ = told.status == 401;
    told.clone_from(allowed);
    differ
}

/// auth_token does not strip the system scope from what a client sends.
pub fn a_client_cannot_give_itself_a_system_scope(told: &mut View) -> bool {
    told.headers.remove("openstack-system-scope").is_some()
}

/// auth_token writes the scope of both tokens into the same header, the service's last: a user
/// with a project's token would seem to have it.
pub fn a_service_token_lends_no_system_scope(told: &mut View) -> bool {
    told.headers.remove("openstack-system-scope").is_some()
}

/// The other way round: the scope of a service token that has none overwrites the user's.
pub fn a_service_token_takes_no_system_scope(told: &mut View) -> bool {
    told.headers.insert("openstack-system-scope".into(), "all".into()).is_none()
}

/// Whatever the module may set now or later is stripped from what a client sends; auth_token
/// strips what it sets.
pub fn names_of_a_later_time_are_stripped(told: &mut View) -> bool {
    let before = told.headers.len();
    told.headers.retain(|name, value| !is_stripped(name.as_bytes()) || value != FORGED);
    told.headers.len() != before
}

/// An upstream need not know where a token may come from.
pub fn the_token_is_in_x_auth_token(told: &mut View) -> bool {
    told.put_storage_token()
}

/// auth_token says it in plain words.
pub fn unavailability_is_json(told: &mut View) -> bool {
    let differ = told.status == 503 && told.body.is_empty();
    told.body = UNAVAILABLE.into();
    differ
}

/// With `delay`, auth_token treats a token as invalid that could not be judged. The user would be
/// told to log in again, and find that it does not help.
pub fn what_cannot_be_judged_is_not_invalid(told: &mut View) -> bool {
    let differ = told.headers.get("x-identity-status").is_some_and(|status| status == "Invalid");
    *told = View { status: 503, body: UNAVAILABLE.into(), ..View::default() };
    differ
}

/// auth_token and oauth2_token do not look whether a token is bound to a certificate.
pub fn a_bound_token_wants_its_certificate(told: &mut View) -> bool {
    let passed = told.status == 200;
    refuse(told);
    passed
}

/// oauth2_token demands `Bearer` in this spelling; in HTTP, schemes are written in any case.
pub fn a_scheme_is_written_in_any_case(told: &mut View, passed: &View, scheme: &str) -> bool {
    let differ = told.status == 401;
    told.clone_from(passed);
    let authorization = told.headers.get_mut("authorization");
    differ && authorization.is_some_and(|it| replace_scheme(it, scheme))
}

fn replace_scheme(authorization: &mut String, scheme: &str) -> bool {
    let Some((_, token)) = authorization.split_once(' ') else { return false };
    *authorization = format!("{scheme} {token}");
    true
}

/// The application finds the token of `Authorization` in `X-Auth-Token`, where services look.
pub fn the_token_is_in_x_auth_token_too(told: &mut View) -> bool {
    let authorization = told.headers.get("authorization").cloned().unwrap_or_default();
    let Some((_, token)) = authorization.split_once(' ') else { return false };
    told.headers.insert("x-auth-token".into(), token.into()).is_none()
}

/// The filters for OAuth 2.0 do not say that what they let pass is valid.
pub fn a_valid_token_is_confirmed(told: &mut View) -> bool {
    let differ = told.status == 200;
    told.headers.insert("x-identity-status".into(), "Confirmed".into()).is_none() && differ
}

/// 401 where the oracle lets it pass.
fn refuse(told: &mut View) -> bool {
    let passed = told.headers.get("x-identity-status").is_some_and(|s| s == "Confirmed");
    let challenge = Some(format!("Keystone uri=\"{AUTH_URI}\""));
    *told = View { status: 401, challenge, body: UNAUTHORIZED.into(), ..View::default() };
    passed
}

/// The user is not told where the oracle tells it.
fn invalidate(told: &mut View) -> bool {
    let service = told.headers.get("x-service-identity-status").cloned();
    let passed = told.headers.get("x-identity-status").is_some_and(|s| s == "Confirmed");
    told.headers.retain(|name, _| !is_stripped(name.as_bytes()));
    told.headers.insert("x-identity-status".into(), "Invalid".into());
    told.headers.extend(service.map(|status| ("x-service-identity-status".into(), status)));
    passed
}

/// What a client sends in headers that it must not send.
pub const FORGED: &str = "forged";
const UNAUTHORIZED: &str = "{\"error\": {\"code\": 401, \"title\": \"Unauthorized\", \"message\": \
    \"The request you have made requires authentication.\"}}";
const UNAVAILABLE: &str = "{\"error\": {\"code\": 503, \"title\": \"Service Unavailable\", \
    \"message\": \"The identity service is unavailable. Please try again later.\"}}";
