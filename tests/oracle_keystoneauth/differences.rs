//! Where the module differs from keystoneauth on purpose, and that it still does.

use keystone_token::identity::Identity;
use keystone_token::swift::{AclKind, Decision};

use crate::cases::{Case, Outcome, Service, Who};
use crate::settings::Scene;
use crate::{oracle, outcome};

#[test]
fn a_user_without_an_id_is_not_called_none() {
    let unscoped = Identity { project_id: None, project_name: None, ..admin() };
    let nobody = Identity { user_id: None, user_name: None, ..admin() };
    for (path, identity, acl) in [
        ("/v1/AUTH_None/c", &unscoped, ""),
        ("/v1/AUTH_x/c", &unscoped, "None:*"),
        ("/v1/AUTH_x/c", &unscoped, "None:u"),
        ("/v1/AUTH_x/c", &nobody, "*:None"),
        ("/v1/AUTH_x/c", &nobody, "p:None"),
    ] {
        differs(&case("GET", path, identity, acl), [Decision::Allow, Decision::Forbidden]);
    }
}

#[test]
fn an_empty_id_or_name_is_none() {
    let empty = || Some(String::new());
    let identity = Identity { project_name: empty(), ..admin() };
    differs(&case("GET", "/v1/AUTH_x/c", &identity, ":u"), [Decision::Allow, Decision::Forbidden]);
    let identity = Identity { user_id: empty(), ..admin() };
    differs(&case("GET", "/v1/AUTH_x/c", &identity, "p:"), [Decision::Allow, Decision::Forbidden]);
}

#[test]
fn a_role_with_a_comma_is_not_two() {
    let (roles, omitted_roles) = (Vec::new(), vec!["x,admin".into()]);
    let identity = Identity { roles, omitted_roles, ..admin() };
    differs(&case("PUT", "/v1/AUTH_p/c", &identity, ""), [Decision::Allow, Decision::Forbidden]);
}

#[test]
fn an_entry_of_an_acl_keeps_its_last_byte() {
    let identity = Identity { user_name: Some("voilà".into()), ..admin() };
    let case = case("GET", "/v1/AUTH_x/c", &identity, "p:voilà");
    differs(&case, [Decision::Forbidden, Decision::Allow]);
}

#[test]
fn an_id_beyond_ascii_names_an_account() {
    let identity = Identity { project_id: Some("é".into()), ..admin() };
    let case = case("PUT", "/v1/AUTH_é/c", &identity, "");
    differs(&case, [Decision::Forbidden, Decision::Allow]);
}

#[test]
fn the_options_of_nothing_are_swifts() {
    let scene = Scene::plain();
    let case = case("OPTIONS", "/v1//c", &admin(), "");
    let answer = &oracle::ask(&[case.question(&scene)]).answers[0];
    assert_eq!(outcome(answer), Outcome::Decided(Decision::Allow));
    assert_eq!(case.outcome(&scene), Outcome::NoPath);
}

/// What Swift says, and what the module says instead.
fn differs(case: &Case, [theirs, ours]: [Decision; 2]) {
    let scene = Scene::plain();
    let answer = &oracle::ask(&[case.question(&scene)]).answers[0];
    assert_eq!(outcome(answer), Outcome::Decided(theirs), "{case:?}");
    assert_eq!(case.outcome(&scene), Outcome::Decided(ours), "{case:?}");
}

fn admin() -> Identity {
    let own = |text: &str| Some(text.to_owned());
    Identity {
        user_id: own("u"),
        user_name: own("user"),
        project_id: own("p"),
        project_name: own("project"),
        roles: vec!["admin".to_owned()],
        ..Identity::default()
    }
}

fn case(method: &'static str, path: &str, identity: &Identity, acl: &str) -> Case {
    Case {
        method,
        path: path.to_owned(),
        user: Some(Who { version: 3, identity: identity.clone() }),
        service: Service::None,
        acl: Some((AclKind::Read, acl.to_owned())),
        referer: None,
    }
}
