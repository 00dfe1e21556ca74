//! Where the module differs from auth_token 4.9.1 on purpose.
//!
//! Each function knows one difference: it changes what the oracle said into what the module must
//! say, and tells whether there was anything to change. What none of them names must be equal.

use keystone_testbed::oracle::View;
use keystone_testbed::world::AUTH_URI;
use keystone_token::headers::is_stripped;

use crate::cases::{Case, Odd};

/// What the oracle said about a case.
pub struct Told<'a> {
    pub case: &'a Case,
    /// The answer of auth_token to the case.
    pub view: View,
    /// Its answer to the twin of the case's token, if there is one.
    pub twin: Option<View>,
}

type Difference = fn(&mut Told<'_>) -> bool;

/// All of them with their names, in the order in which they are applied.
pub const DIFFERENCES: &[(&str, Difference)] = &[
    ("pkiz_around_der_is_read", pkiz_around_der_is_read),
    ("a_broken_catalog_is_left_out", a_broken_catalog_is_left_out),
    ("what_breaks_the_filter_is_refused", what_breaks_the_filter_is_refused),
    ("access_rules_need_a_service_type", access_rules_need_a_service_type),
    ("ambiguous_json_is_refused", ambiguous_json_is_refused),
    ("control_characters_are_refused", control_characters_are_refused),
    ("lone_surrogates_are_refused", lone_surrogates_are_refused),
    ("other_encodings_are_refused", other_encodings_are_refused),
    ("revoked_in_another_form_is_revoked", revoked_in_another_form_is_revoked),
    ("values_of_another_type_are_refused", values_of_another_type_are_refused),
    ("a_user_of_no_domain_is_refused", a_user_of_no_domain_is_refused),
    ("a_token_given_twice_is_a_bad_request", a_token_given_twice_is_a_bad_request),
    ("roles_in_the_metadata_are_read", roles_in_the_metadata_are_read),
    ("roles_with_a_comma_are_left_out", roles_with_a_comma_are_left_out),
    ("the_system_scope_is_reported", the_system_scope_is_reported),
    ("names_of_a_later_time_are_stripped", names_of_a_later_time_are_stripped),
    ("blanks_around_a_value_fall_off", blanks_around_a_value_fall_off),
    ("the_catalog_is_compact", the_catalog_is_compact),
    ("the_uri_is_in_double_quotes", the_uri_is_in_double_quotes),
    ("the_token_is_in_x_auth_token", the_token_is_in_x_auth_token),
];

/// keystoneclient writes PEM into PKIZ and reads nothing else; DER is the form that its own code
/// names, and other issuers write it. The twin holds PEM.
fn pkiz_around_der_is_read(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::PkizAroundDer) && take_the_twins_answer(told)
}

/// The oracle fails at a catalog that cannot be converted, but only where it is wanted. Whether a
/// token is good does not depend on that here. The twin has no catalog, or one without what is odd.
fn a_broken_catalog_is_left_out(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::BrokenCatalog) && take_the_twins_answer(told)
}

/// P01, P02: an exception in the filter is a 500. A token that nothing can be made of is refused.
fn what_breaks_the_filter_is_refused(told: &mut Told<'_>) -> bool {
    told.view.status == 500 && refuse(told)
}

/// Access rules are younger than 4.9.1, which lets their holder do anything.
fn access_rules_need_a_service_type(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::AccessRules) && refuse(told)
}

/// A member that is there twice, a v2 and a v3 token in one: Python takes one of them, and another
/// reader may take the other. `NaN` is no JSON.
fn ambiguous_json_is_refused(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::AmbiguousJson) && refuse(told)
}

/// A line feed in a name must not become one between headers.
fn control_characters_are_refused(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::ControlCharacter) && refuse(told)
}

/// Half a character cannot be written as UTF-8.
fn lone_surrogates_are_refused(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::LoneSurrogate) && refuse(told)
}

/// The signature of a token that was encoded anew still holds, but its hash is another, so that a
/// revocation list would miss it (CVE-2015-7546). The oracle takes some of these and refuses
/// others.
fn other_encodings_are_refused(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::OtherEncoding) && refuse(told)
}

/// P10: the list names the token as PKI and it comes as PKIZ, or with NULL digest parameters and
/// it comes without, or the other way round.
fn revoked_in_another_form_is_revoked(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::RevokedInAnotherForm) && refuse(told)
}

/// An id that is a number, an admin flag that is a word: Python passes on whatever it finds.
fn values_of_another_type_are_refused(told: &mut Told<'_>) -> bool {
    (told.case.is(Odd::OtherType) || !told.view.not_text.is_empty()) && refuse(told)
}

/// A v3 user without a domain breaks the filter, but one whose domain has null for an id or a name
/// passes. Who compares names without the domain would take that user for another.
fn a_user_of_no_domain_is_refused(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::UserOfNoDomain) && refuse(told)
}

/// WSGI joins them with a comma. That is no PKI token any more, but Python reads a PKIZ token up
/// to its padding and ignores the rest.
fn a_token_given_twice_is_a_bad_request(told: &mut Told<'_>) -> bool {
    if !told.case.is(Odd::TokenTwice) {
        return false;
    }
    told.view = View { status: 400, ..View::default() };
    true
}

/// The oracle reads a v2 token's roles in `user.roles` only.
fn roles_in_the_metadata_are_read(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::MetadataRoles) && set_roles(told)
}

/// Two roles would be read where there is one.
fn roles_with_a_comma_are_left_out(told: &mut Told<'_>) -> bool {
    told.case.is(Odd::CommaRole) && set_roles(told)
}

/// The scope is younger than 4.9.1, which takes such a token for an unscoped one.
fn the_system_scope_is_reported(told: &mut Told<'_>) -> bool {
    let confirmed = told.view.headers.get("x-identity-status").is_some_and(|s| s == "Confirmed");
    let scoped = told.case.is(Odd::SystemScope) && confirmed;
    if scoped {
        told.view.headers.insert("openstack-system-scope".into(), "all".into());
    }
    scoped
}

/// Whatever the module may set now or later is stripped from what a client sends; auth_token
/// strips what it sets.
fn names_of_a_later_time_are_stripped(told: &mut Told<'_>) -> bool {
    let forged = |name: &str, value: &str| is_stripped(name.as_bytes()) && value.contains(FORGED);
    let before = told.view.headers.len();
    told.view.headers.retain(|name, value| !forged(name, value));
    told.view.headers.len() != before
}

/// Between nginx and its upstream there is HTTP, where a header's value has no blanks around it.
fn blanks_around_a_value_fall_off(told: &mut Told<'_>) -> bool {
    let mut changed = false;
    for value in told.view.headers.values_mut() {
        let trimmed = value.trim_matches([' ', '\t']).to_owned();
        changed |= trimmed != *value;
        *value = trimmed;
    }
    changed
}

/// The same JSON, fewer bytes.
fn the_catalog_is_compact(told: &mut Told<'_>) -> bool {
    told.view.compact_catalog()
}

/// As auth_token writes it since.
fn the_uri_is_in_double_quotes(told: &mut Told<'_>) -> bool {
    let Some(challenge) = &mut told.view.challenge else { return false };
    let wanted = challenge.replace('\'', "\"");
    std::mem::replace(challenge, wanted.clone()) != wanted
}

/// An upstream need not know where a token may come from.
fn the_token_is_in_x_auth_token(told: &mut Told<'_>) -> bool {
    told.view.put_storage_token()
}

fn take_the_twins_answer(told: &mut Told<'_>) -> bool {
    let Some(mut twin) = told.twin.take() else { return false };
    if let Some(token) = twin.headers.get_mut("x-auth-token") {
        token.clone_from(&told.case.token);
    }
    let changed = twin != told.view;
    told.view = twin;
    changed
}

/// Says no, or with `delay` that nothing is known.
fn refuse(told: &mut Told<'_>) -> bool {
    let case = told.case;
    let refused = match case.delay {
        true => {
            let mut headers = case.harmless_headers();
            headers.insert("x-identity-status".into(), "Invalid".into());
            let status = case.status.unwrap_or(200);
            let challenge = (status == 401).then(|| CHALLENGE.replace('@', AUTH_URI));
            View { status, challenge, headers, ..View::default() }
        }
        false => {
            let challenge = Some(CHALLENGE.replace('@', AUTH_URI));
            View { status: 401, challenge, body: UNAUTHORIZED.into(), ..View::default() }
        }
    };
    // Forged names that the oracle lets pass are another matter.
    let passes = told.view.headers.get("x-identity-status").is_some_and(|s| s == "Confirmed");
    let changed = passes || told.view.status == 500;
    told.view = refused;
    changed
}

fn set_roles(told: &mut Told<'_>) -> bool {
    if !told.view.headers.contains_key("x-roles") {
        return false;
    }
    for name in ["x-roles", "x-role"] {
        told.view.headers.insert(name.into(), told.case.roles.join(","));
    }
    true
}

/// What is in every forged value, and in no token.
pub const FORGED: &str = "forged";
const CHALLENGE: &str = "Keystone uri=\"@\"";
const UNAUTHORIZED: &str = "{\"error\": {\"code\": 401, \"title\": \"Unauthorized\", \"message\": \
    \"The request you have made requires authentication.\"}}";
