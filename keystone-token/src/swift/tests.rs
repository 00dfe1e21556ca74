use super::*;
use crate::identity::Identity;
use crate::record::OwnedRecord;

/// A user with roles in a project.
#[derive(Clone)]
struct Who(Identity);

impl Who {
    /// Of project `p`, named `project`, with these roles; the domains are not known.
    fn with(roles: &[&str]) -> Self {
        let own = |text: &str| Some(text.to_owned());
        Self(Identity {
            user_id: own("u"),
            user_name: own("user"),
            project_id: own("p"),
            project_name: own("project"),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Identity::default()
        })
    }

    fn but(mut self, change: impl FnOnce(&mut Identity)) -> Self {
        change(&mut self.0);
        self
    }

    fn without_project(self) -> Self {
        self.but(|it| (it.project_id, it.project_name) = (None, None))
    }
}

/// A question to be completed and asked.
#[derive(Clone)]
struct Ask<'a> {
    options: Options,
    method: &'a str,
    path: &'a str,
    user: Option<Who>,
    service: Option<Who>,
    referer: Option<&'a str>,
    acl: Option<Acl>,
}

fn anyone<'a>(method: &'a str, path: &'a str) -> Ask<'a> {
    let (user, service, referer, acl) = (None, None, None, None);
    Ask { options: Options::default(), method, path, user, service, referer, acl }
}

fn ask<'a>(method: &'a str, path: &'a str, user: Who) -> Ask<'a> {
    Ask { user: Some(user), ..anyone(method, path) }
}

impl<'a> Ask<'a> {
    fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    fn service(self, service: Who) -> Self {
        Self { service: Some(service), ..self }
    }

    fn referer(self, referer: &'a str) -> Self {
        Self { referer: Some(referer), ..self }
    }

    fn acl(self, acl: &str) -> Self {
        Self { acl: Some(Acl::parse(AclKind::Read, acl).unwrap()), ..self }
    }

    fn decision(&self) -> Decision {
        let settings = Settings::new(&self.options).unwrap();
        let [user, service] =
            [&self.user, &self.service].map(|who| who.as_ref().map(|who| who.0.to_record(false).0));
        let [user, service] = [&user, &service].map(|who| who.as_ref().map(OwnedRecord::view));
        let path = AccountPath::split(self.path.as_bytes()).unwrap();
        let request = Request {
            method: self.method,
            path: &path,
            user: user.as_ref(),
            service: service.as_ref(),
            referer: self.referer.map(str::as_bytes),
        };
        settings.authorize(&request, self.acl.as_ref())
    }

    fn is_allowed(&self) -> bool {
        self.decision() == Decision::Allow
    }
}

fn roles(roles: &[&str]) -> Option<Vec<String>> {
    Some(roles.iter().map(|role| (*role).to_owned()).collect())
}

#[test]
fn an_operator_does_all_with_the_own_account_but_delete_it() {
    for role in ["admin", "swiftoperator", "SwiftOperator", " admin\u{a0}"] {
        for path in ["/v1/AUTH_p", "/v1/AUTH_p/", "/v1/AUTH_p/c", "/v1/AUTH_p/c/o", "/x/AUTH_p"] {
            for method in ["GET", "HEAD", "PUT", "POST", "COPY", "DELETE", "anything"] {
                let is_account = !path.contains("/c");
                let is_deletion = is_account && method == "DELETE";
                let asked = ask(method, path, Who::with(&["other", role]));
                let expected = if is_deletion { Decision::Forbidden } else { Decision::Allow };
                assert_eq!(asked.decision(), expected, "{role} {method} {path}");
            }
        }
    }
    for role in ["member", "", "admins", "a"] {
        assert_eq!(ask("GET", "/v1/AUTH_p/c", Who::with(&[role])).decision(), Decision::Forbidden);
    }
}

#[test]
fn other_accounts_belong_to_other_projects() {
    for path in
        ["/v1", "/v1/p", "/v1/AUTH_", "/v1/AUTH_pp", "/v1/AUTH_P", "/v1/auth_p", "/v1/KEY_p"]
    {
        let asked = ask("GET", path, Who::with(&["admin"]));
        assert_eq!(asked.decision(), Decision::Forbidden, "{path}");
        assert_eq!(anyone("GET", path).decision(), Decision::Unauthorized, "{path}");
    }
}

#[test]
fn without_a_project_no_user_owns_an_account() {
    for prefix in ["AUTH", ""] {
        for account in ["None", "AUTH_None", "AUTH_"] {
            let path = format!("/v1/{account}/c");
            let asked =
                |who| ask("GET", &path, who).options(|it| it.reseller_prefixes = roles(&[prefix]));
            assert!(!asked(Who::with(&["admin"]).without_project()).is_allowed(), "{path}");
            let empty = Who::with(&["admin"]).but(|it| it.project_id = Some(String::new()));
            assert!(!asked(empty).is_allowed(), "{path}");
        }
    }
}

#[test]
fn a_user_without_an_id_is_not_named_none() {
    let unknown = Who::with(&[]).without_project();
    let unknown = unknown.but(|it| (it.user_id, it.user_name) = (None, None));
    for acl in ["None:*", "*:None", "None:None", ":*", "*:", ":"] {
        assert!(!ask("GET", "/v1/AUTH_x/c", unknown.clone()).acl(acl).is_allowed(), "{acl}");
    }
    assert!(ask("GET", "/v1/AUTH_x/c", unknown).acl("*:*").is_allowed());
    let unscoped = Who::with(&[]).without_project();
    for (acl, is_allowed) in [("*:u", true), ("*:user", true), ("p:u", false), ("None:u", false)] {
        let asked = ask("GET", "/v1/AUTH_x/c", unscoped.clone()).acl(acl);
        assert_eq!(asked.is_allowed(), is_allowed, "{acl}");
    }
}

#[test]
fn an_id_beyond_ascii_names_an_account() {
    let who = Who::with(&["admin"]).but(|it| it.project_id = Some("é".into()));
    assert!(ask("PUT", "/v1/AUTH_é/c", who.clone()).is_allowed());
    assert!(!ask("PUT", "/v1/AUTH_e/c", who).is_allowed());
}

/// The table in keystoneauth's `authorize`.
#[test]
fn a_service_role_is_wanted_where_there_are_any() {
    for (role, service_roles, service, is_allowed) in [
        ("admin", &["service"][..], Some("service"), true),
        ("admin", &["service"], Some("SERVICE"), true),
        ("admin", &["service"], Some("other"), false),
        ("admin", &["service"], None, false),
        ("admin", &[], Some("service"), true),
        ("admin", &[], None, true),
        ("member", &["service"], Some("service"), false),
        ("member", &[], Some("service"), false),
        ("service", &["service"], None, false),
    ] {
        let mut asked = ask("PUT", "/v1/AUTH_p/c", Who::with(&[role]))
            .options(|it| it.service_roles = roles(service_roles));
        if let Some(service) = service {
            asked = asked.service(Who::with(&[service]));
        }
        assert_eq!(asked.is_allowed(), is_allowed, "{role} {service_roles:?} {service:?}");
    }
}

#[test]
fn a_service_token_alone_is_anonymous() {
    let asked = anyone("GET", "/v1/AUTH_p/c").service(Who::with(&["admin", "ResellerAdmin"]));
    assert_eq!(asked.decision(), Decision::Unauthorized);
}

#[test]
fn a_project_reader_reads_the_own_account() {
    let asked = |method, path, role| {
        ask(method, path, Who::with(&[role])).options(|it| {
            it.project_reader_roles = roles(&["Reader"]);
            it.service_roles = roles(&["service"]);
        })
    };
    for method in ["GET", "HEAD"] {
        assert!(asked(method, "/v1/AUTH_p", "reader").is_allowed());
        assert!(!asked(method, "/v1/AUTH_x", "reader").is_allowed());
        assert!(!asked(method, "/v1/AUTH_p", "member").is_allowed());
    }
    for method in ["PUT", "POST", "DELETE", "COPY", "get"] {
        assert!(!asked(method, "/v1/AUTH_p/c/o", "reader").is_allowed(), "{method}");
    }
}

#[test]
fn a_system_reader_reads_everything() {
    let asked = |method, path, role| {
        ask(method, path, Who::with(&[role]).without_project())
            .options(|it| it.system_reader_roles = roles(&["Auditor"]))
    };
    for path in ["/v1", "/v1/AUTH_x", "/v1/other/c/o"] {
        assert!(asked("GET", path, "auditor").is_allowed());
        assert!(asked("HEAD", path, "AUDITOR").is_allowed());
        assert!(!asked("GET", path, "reader").is_allowed());
        for method in ["PUT", "POST", "DELETE", "COPY"] {
            assert!(!asked(method, path, "auditor").is_allowed(), "{method} {path}");
        }
    }
}

#[test]
fn a_reseller_admin_does_everything() {
    for (admin, role, is_allowed) in [
        (None, "ResellerAdmin", true),
        (None, "reselleradmin", true),
        (None, "admin", false),
        (Some("Boss"), "boss", true),
        (Some("Boss"), "ResellerAdmin", false),
        (Some(""), "", false),
        (Some(""), "ResellerAdmin", false),
    ] {
        for path in ["/v1", "/v1/AUTH_x", "/v1/other/c/o"] {
            for method in ["GET", "DELETE", "PUT"] {
                let asked = ask(method, path, Who::with(&[role]).without_project())
                    .options(|it| it.reseller_admin_role = admin.map(str::to_owned));
                assert_eq!(asked.is_allowed(), is_allowed, "{admin:?} {role} {method} {path}");
            }
        }
    }
}

#[test]
fn options_is_for_everybody() {
    for path in ["/v1", "/v1/other/c/o"] {
        assert!(anyone("OPTIONS", path).is_allowed());
        assert!(ask("OPTIONS", path, Who::with(&[])).is_allowed());
        assert!(!anyone("options", path).is_allowed());
    }
}

#[test]
fn an_acl_names_projects_and_users_by_id_or_name() {
    for (acl, is_allowed) in [
        ("p:u", true),
        ("p:user", true),
        ("project:u", true),
        ("project:user", true),
        ("p:*", true),
        ("project:*", true),
        ("*:u", true),
        ("*:user", true),
        ("*:*", true),
        ("x:y , p:u", true),
        ("%70:u", true),
        ("p%3Au", true),
        ("p", false),
        ("u", false),
        ("p:", false),
        (":u", false),
        ("p: u", false),
        ("p:u:", false),
        ("u:p", false),
        ("P:u", false),
        ("*", false),
        (".rlistings", false),
        ("", false),
    ] {
        let asked = ask("GET", "/v1/AUTH_x/c/o", Who::with(&[])).acl(acl);
        assert_eq!(asked.is_allowed(), is_allowed, "{acl}");
        assert_eq!(anyone("GET", "/v1/AUTH_x/c/o").acl(acl).decision(), Decision::Unauthorized);
    }
    let colons = Who::with(&[]).but(|it| it.user_id = Some("a:b".into()));
    assert!(ask("GET", "/v1/AUTH_x/c", colons).acl("p:a:b").is_allowed());
}

#[test]
fn an_acl_also_opens_accounts_of_no_reseller() {
    assert!(ask("GET", "/v1/other/c/o", Who::with(&[])).acl("p:u").is_allowed());
}

#[test]
fn names_count_within_the_default_domain() {
    type Domains = [Option<&'static str>; 2];
    let asked = |[user, project]: Domains, acl| {
        let who = Who::with(&[]).but(|it| {
            it.user_domain_id = user.map(str::to_owned);
            it.project_domain_id = project.map(str::to_owned);
        });
        ask("GET", "/v1/AUTH_x/c/o", who).acl(acl)
    };
    for (domains, names_count) in [
        ([None, None], true),
        ([Some("default"), None], true),
        ([None, Some("default")], true),
        ([Some("default"), Some("default")], true),
        ([Some(""), Some("")], true),
        ([Some("other"), Some("default")], false),
        ([Some("default"), Some("other")], false),
        ([Some("Default"), None], false),
    ] {
        assert_eq!(asked(domains, "project:user").is_allowed(), names_count, "{domains:?}");
        assert!(asked(domains, "p:u").is_allowed(), "{domains:?}");
        let none =
            asked(domains, "project:user").options(|it| it.allow_names_in_acls = Some(false));
        assert!(!none.is_allowed(), "{domains:?}");
        let other = |it: &mut Options| it.default_domain_id = Some("other".to_owned());
        let is_allowed = domains.iter().all(|it| matches!(it, None | Some("" | "other")));
        assert_eq!(asked(domains, "*:user").options(other).is_allowed(), is_allowed, "{domains:?}");
    }
}

#[test]
fn a_role_in_an_acl_is_for_the_accounts_own_project() {
    for (path, role, acl, is_allowed) in [
        ("/v1/AUTH_p/c", "member", "x:y,Member", true),
        ("/v1/AUTH_p/c", "ΟΔΟΣ", "οδος", true),
        ("/v1/AUTH_p/c", "a b", "a%20b", true),
        ("/v1/AUTH_p/c", "member", "members", false),
        ("/v1/AUTH_x/c", "member", "member", false),
    ] {
        let asked = ask("GET", path, Who::with(&[role])).acl(acl);
        assert_eq!(asked.is_allowed(), is_allowed, "{path} {role} {acl}");
    }
}

const OBJECT: &str = "/v1/AUTH_x/c/o";
const LISTING: &str = "/v1/AUTH_x/c";

#[test]
fn referrers_open_objects_to_everybody() {
    for (acl, referer, is_allowed) in [
        (".r:*", None, true),
        (".r:*", Some("http://thief.example.com/"), true),
        (".r:*,.r:-thief.example.com", Some("http://thief.example.com/"), false),
        (".r:-thief.example.com,.r:*", Some("http://thief.example.com/"), true),
        (".r:*,.r:-.example.com", Some("http://a.example.com/"), false),
        (".r:*,.r:-.example.com", Some("http://example.com/"), true),
        (".r:*,.r:-*.example.com", Some("http://a.example.com/"), false),
        (".r:*,.r:-*", Some("http://a.example.com/"), true),
        (".r:*,.r:-*", Some("http://*/"), false),
        (".r:example.com", Some("http://u@EXAMPLE.com:80/"), true),
        (".r:example.com", Some("http://a.example.com/"), false),
        (".r:example.com", Some("http://badexample.com/"), false),
        (".r:.example.com", Some("http://a.example.com/"), true),
        (".r:*example.com", Some("http://example.com/"), true),
        (".r:*-example.com,.r:example.com,.r:*-example.com", Some("http://example.com/"), false),
        (".r:EXAMPLE.com", Some("http://example.com/"), false),
        (".r:unknown", None, true),
        (".r:unknown", Some("nonsense"), true),
        (".r:example.com", None, false),
        (".r:*", Some("http://[nonsense/"), false),
        ("%2Er:*", None, false),
        ("", None, false),
    ] {
        let mut asked = anyone("GET", OBJECT).acl(acl);
        asked.referer = referer;
        let expected = if is_allowed { Decision::Allow } else { Decision::Unauthorized };
        assert_eq!(asked.decision(), expected, "{acl} {referer:?}");
        let user = Some(Who::with(&[]));
        assert_eq!(Ask { user, ..asked }.is_allowed(), is_allowed, "{acl} {referer:?}");
    }
}

#[test]
fn referrers_see_a_listing_only_with_rlistings() {
    for (acl, is_allowed) in [
        (".r:*", false),
        (".rlistings", false),
        (".r:*,.rlistings", true),
        (".rlistings, .r : *", true),
        (".r:-unknown,.rlistings", false),
    ] {
        assert_eq!(anyone("GET", LISTING).acl(acl).is_allowed(), is_allowed, "{acl}");
    }
}

#[test]
fn only_accounts_of_a_reseller_are_open_to_everybody() {
    for (path, is_allowed) in
        [(OBJECT, true), ("/v1/other/c/o", false), ("/v1/AUTH/c/o", false), ("/v1/AUTH_/c/o", true)]
    {
        assert_eq!(anyone("GET", path).acl(".r:*").is_allowed(), is_allowed, "{path}");
        let asked = anyone("GET", path).acl(".r:*");
        let asked = asked.options(|it| it.reseller_prefixes = roles(&["AUTH", ""]));
        assert!(asked.is_allowed(), "{path}");
        assert!(ask("GET", path, Who::with(&[])).acl(".r:*").is_allowed(), "{path}");
    }
}

#[test]
fn a_role_does_not_help_a_referrer_that_may_not_list() {
    let asked = |acl, role| ask("GET", "/v1/AUTH_p/c", Who::with(&[role])).acl(acl);
    assert!(asked("member", "member").is_allowed());
    assert!(!asked(".r:*,member", "member").is_allowed());
    assert!(asked(".r:example.com,member", "member").is_allowed());
    assert!(asked(".r:*,member", "admin").is_allowed());
    assert!(asked(".r:*,member,p:u", "member").is_allowed());
    // Nothing can be said of where this one comes from.
    assert!(asked(".r:*,member", "member").referer("http://[").is_allowed());
}

#[test]
fn accounts_are_never_opened_by_referrers() {
    assert!(!anyone("GET", "/v1/AUTH_x").acl(".r:*").is_allowed());
    assert_eq!(acl_kind("GET", &AccountPath::split(b"/v1/AUTH_x").unwrap()), None);
}

/// Whether an operator with this role gets into this account, of the project `p`.
fn operates(options: &Options, account: &str, role: &str) -> bool {
    let path = format!("/v1/{account}/c");
    ask("PUT", &path, Who::with(&[role])).options(|it| *it = options.clone()).is_allowed()
}

#[test]
fn prefixes_get_their_underscore() {
    for (prefixes, accounts) in [
        (None, &["AUTH_p"][..]),
        (roles(&["AUTH"]), &["AUTH_p"]),
        (roles(&[" AUTH_ "]), &["AUTH_p"]),
        (roles(&["KEY", "AUTH", "KEY_"]), &["AUTH_p", "KEY_p"]),
        (roles(&["", "AUTH"]), &["AUTH_p", "p"]),
        (roles(&[""]), &["p"]),
        (roles(&[]), &["p"]),
    ] {
        let options = Options { reseller_prefixes: prefixes.clone(), ..Options::default() };
        for account in ["AUTH_p", "AUTHp", "KEY_p", "p", "_p"] {
            let is_owned = accounts.contains(&account);
            assert_eq!(operates(&options, account, "admin"), is_owned, "{prefixes:?} {account}");
        }
    }
}

#[test]
fn a_prefix_may_have_roles_of_its_own() {
    let reseller_prefixes = roles(&["AUTH", "SERVICE", ""]);
    let operator_roles = roles(&["Boss", "SERVICE:cook", "SERVICE_: Maid ", ":guest"]);
    let options = Options { reseller_prefixes, operator_roles, ..Options::default() };
    for (account, allowed) in
        [("AUTH_p", &["boss"][..]), ("SERVICE_p", &["cook", "maid"]), ("p", &["guest"])]
    {
        for role in ["boss", "cook", "maid", "guest", "admin"] {
            assert_eq!(
                operates(&options, account, role),
                allowed.contains(&role),
                "{account} {role}"
            );
        }
    }
    let options = Options { operator_roles: roles(&["SERVICE:cook"]), ..options };
    assert!(operates(&options, "AUTH_p", "admin") && !operates(&options, "SERVICE_p", "admin"));
    let options = Options { operator_roles: roles(&[]), ..options };
    assert!(operates(&options, "SERVICE_p", "admin"));
}

#[test]
fn the_first_prefix_that_an_account_begins_with_rules_it() {
    let options = Options {
        reseller_prefixes: roles(&["", "A", "A_B"]),
        operator_roles: roles(&["A:a", "A_B:b", ":e"]),
        ..Options::default()
    };
    assert!(operates(&options, "A_B_p", "a") && !operates(&options, "A_B_p", "b"));
    assert!(operates(&options, "A_p", "a") && !operates(&options, "A_p", "e"));
    assert!(operates(&options, "p", "e"));
}
