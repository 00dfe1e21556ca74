//! What an identity must have: a role, the authentication that it is bound to, or a rule for what
//! it is about to do.

use std::convert::Infallible;
use std::str::FromStr;

use crate::access_rules::{AccessRules, Action};
use crate::identity::CERTIFICATE;
use crate::record::{Field, Record};
use crate::refusal::{BindFailure, Refusal};
use crate::text::eq_ignore_case;
use crate::thumbprint::thumbprint;

/// The values of `keystone_enforce_token_bind`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// Binds are not checked.
    Disabled,
    /// Known mechanisms are checked, unknown ones ignored.
    #[default]
    Permissive,
    /// Known mechanisms are checked, unknown ones fail.
    Strict,
    /// As strict, and the token must be bound.
    Required,
    /// As required, and this mechanism must be among the binds.
    Named(String),
}

impl FromStr for BindMode {
    type Err = Infallible;

    fn from_str(mode: &str) -> Result<Self, Self::Err> {
        Ok(match mode {
            "disabled" => Self::Disabled,
            "permissive" => Self::Permissive,
            "strict" => Self::Strict,
            "required" => Self::Required,
            name => Self::Named(name.to_owned()),
        })
    }
}

/// Checks what the token is bound to, apart from a certificate. Kerberos is the one mechanism that
/// can be checked: it wants `remote_user` of a Negotiate authentication.
///
/// A certificate, [`CERTIFICATE`], is there for [`check_certificate`] to check.
pub fn check_bind(
    record: &Record<'_>,
    mode: &BindMode,
    remote_user: Option<&str>,
    negotiate: bool,
) -> Result<(), Refusal> {
    let unbound_passes = match mode {
        BindMode::Disabled => return Ok(()),
        BindMode::Permissive | BindMode::Strict => true,
        BindMode::Required | BindMode::Named(_) => false,
    };
    if !record.has_bind() {
        return if unbound_passes { Ok(()) } else { refuse(BindFailure::Unbound) };
    }
    if let BindMode::Named(name) = mode {
        if record.bind().all(|(mechanism, _)| mechanism != name) {
            return refuse(BindFailure::NotNamed);
        }
    }
    for (mechanism, principal) in record.bind().filter(|bind| !is_certificate(bind)) {
        if mechanism != "kerberos" {
            match mode {
                BindMode::Permissive => continue,
                _ => return refuse(BindFailure::UnknownMechanism),
            }
        }
        if !negotiate {
            return refuse(BindFailure::KerberosMissing);
        }
        if remote_user != Some(principal) {
            return refuse(BindFailure::KerberosPrincipal);
        }
    }
    Ok(())
}

/// Checks the certificate that the token is bound to against that of the client, which is empty if
/// the client has none, and is asked for only if it matters.
pub fn check_certificate<'a>(
    record: &Record<'_>,
    mode: &BindMode,
    certificate: impl FnOnce() -> &'a [u8],
) -> Result<(), Refusal> {
    if !record.has_bind() || *mode == BindMode::Disabled {
        return Ok(());
    }
    let mut certificates = record.bind().filter(is_certificate).peekable();
    if certificates.peek().is_none() {
        return Ok(());
    }
    let shown = match certificate() {
        [] => return refuse(BindFailure::CertificateMissing),
        certificate => thumbprint(certificate),
    };
    match shown {
        Ok(shown) if certificates.all(|(_, wanted)| wanted == shown) => Ok(()),
        Ok(_) => refuse(BindFailure::OtherCertificate),
        Err(_) => refuse(BindFailure::CertificateUnreadable),
    }
}

fn is_certificate((mechanism, _): &(&str, &str)) -> bool {
    *mechanism == CERTIFICATE
}

fn refuse(failure: BindFailure) -> Result<(), Refusal> {
    Err(Refusal::BindFailed(failure))
}

/// Refuses what a token of an application credential with access rules may not do. A token without
/// any may do everything. An empty list of them, which Keystone does not issue, permits nothing.
///
/// As in auth_token, a valid service token that comes along lifts the rules: another service acts
/// on the user's behalf, and has checked what the user asked for. And as there, all of this wants
/// to know the service behind: where no type is given, the token is refused. Unlike auth_token,
/// this does not look whether the catalog knows that type, for a record need not have the catalog.
///
/// A path that somebody may read otherwise than nginx does ([`Action::is_plain`]) is refused, and so
/// is a request that acts on something else than its path ([`Action::is_bulk`],
/// [`Action::has_destination`]).
pub fn check_access_rules<'r>(
    record: &Record<'_>,
    action: impl FnOnce() -> Action<'r>,
    has_service_token: bool,
) -> Result<(), Refusal> {
    let Some(rules) = record.get(Field::AccessRules) else { return Ok(()) };
    let action = action();
    if action.service_types.is_empty() {
        return Err(Refusal::AccessRules);
    }
    if has_service_token {
        return Ok(());
    }
    let is_path_all = !action.has_destination && !action.is_bulk();
    if !is_path_all || !action.is_plain() || !AccessRules::from_json(rules).permit(&action) {
        return Err(Refusal::AccessRules);
    }
    Ok(())
}

/// Whether the identity has one of these roles, whatever the case of their letters.
pub fn has_any_role(record: &Record<'_>, roles: &[String]) -> bool {
    record.roles().any(|held| roles.iter().any(|role| eq_ignore_case(held, role)))
}

/// Whether a service token's identity has one of these roles. The case matters, as it does to
/// auth_token's `service_token_roles`.
pub fn is_service(record: &Record<'_>, roles: &[String]) -> bool {
    record.roles().any(|held| roles.iter().any(|role| role == held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::record::OwnedRecord;

    const MODES: [&str; 6] = ["disabled", "permissive", "strict", "required", "kerberos", "FOO"];

    fn record(bind: Option<&[(&str, &str)]>) -> OwnedRecord {
        let own = |bind: &[(&str, &str)]| {
            bind.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        Identity { bind: bind.map(own), ..Identity::default() }.to_record(false).0
    }

    /// Which modes let a token pass, in the order of [`MODES`].
    fn passes(bind: Option<&[(&str, &str)]>, remote_user: Option<&str>, negotiate: bool) -> String {
        let record = record(bind);
        let record = record.view();
        let check = |mode: &&str| {
            let Ok(mode) = mode.parse();
            check_bind(&record, &mode, remote_user, negotiate).is_ok()
        };
        MODES.iter().map(|mode| if check(mode) { 'y' } else { 'n' }).collect()
    }

    #[test]
    fn an_unbound_token_passes_unless_a_bind_is_required() {
        for bind in [None, Some(&[][..])] {
            assert_eq!(passes(bind, None, false), "yyynnn");
            assert_eq!(passes(bind, Some("USER@REALM"), true), "yyynnn");
        }
    }

    #[test]
    fn a_kerberos_bind_wants_the_principal_of_a_negotiate_authentication() {
        let bind = Some(&[("kerberos", "USER@REALM")][..]);
        assert_eq!(passes(bind, Some("USER@REALM"), true), "yyyyyn");
        assert_eq!(passes(bind, Some("USER@REALM"), false), "ynnnnn");
        assert_eq!(passes(bind, Some("user@REALM"), true), "ynnnnn");
        assert_eq!(passes(bind, Some("ronald@MCDONALDS.COM"), true), "ynnnnn");
        assert_eq!(passes(bind, None, true), "ynnnnn");
        assert_eq!(passes(bind, None, false), "ynnnnn");
    }

    #[test]
    fn an_unknown_bind_passes_only_where_it_is_ignored() {
        let bind = Some(&[("FOO", "BAR")][..]);
        assert_eq!(passes(bind, None, false), "yynnnn");
        assert_eq!(passes(bind, Some("USER@REALM"), true), "yynnnn");
    }

    #[test]
    fn every_bind_counts() {
        let bind = Some(&[("FOO", "BAR"), ("kerberos", "USER@REALM")][..]);
        assert_eq!(passes(bind, Some("USER@REALM"), true), "yynnnn");
        assert_eq!(passes(bind, None, false), "ynnnnn");
        let twice = Some(&[("kerberos", "USER@REALM"), ("kerberos", "OTHER@REALM")][..]);
        assert_eq!(passes(twice, Some("USER@REALM"), true), "ynnnnn");
    }

    const PEM: &str = include_str!("../examples/signed/cacert.pem");
    const OTHER_PEM: &str = include_str!("../examples/signed/signing_cert.pem");

    /// The record of a token that is bound to [`PEM`].
    fn certificate_bound() -> OwnedRecord {
        record(Some(&[(CERTIFICATE, &thumbprint(PEM.as_bytes()).unwrap())]))
    }

    #[test]
    fn a_certificate_bound_token_wants_its_certificate() {
        let record = certificate_bound();
        let record = record.view();
        for mode in MODES {
            let Ok(mode) = mode.parse();
            let check = |certificate: &'static str| {
                check_certificate(&record, &mode, || certificate.as_bytes())
            };
            assert_eq!(check(PEM), Ok(()));
            let refused = |failure| match mode {
                BindMode::Disabled => Ok(()),
                _ => Err(Refusal::BindFailed(failure)),
            };
            assert_eq!(check(""), refused(BindFailure::CertificateMissing));
            assert_eq!(check(OTHER_PEM), refused(BindFailure::OtherCertificate));
            assert_eq!(check("CN=x"), refused(BindFailure::CertificateUnreadable));
        }
    }

    #[test]
    fn a_token_that_names_no_certificate_is_that_of_nobody() {
        let record = record(Some(&[(CERTIFICATE, "")]));
        let record = record.view();
        for certificate in ["", PEM] {
            let check =
                |mode: BindMode| check_certificate(&record, &mode, || certificate.as_bytes());
            assert!(check(BindMode::Permissive).is_err());
            assert_eq!(check(BindMode::Disabled), Ok(()));
        }
    }

    #[test]
    fn the_certificate_is_asked_for_only_if_it_matters() {
        let (unbound, bound) = (record(None), certificate_bound());
        for (record, mode) in [(&unbound, BindMode::Required), (&bound, BindMode::Disabled)] {
            let record = record.view();
            let certificate = || -> &[u8] { panic!("nobody wants to know") };
            assert_eq!(check_certificate(&record, &mode, certificate), Ok(()));
        }
    }

    #[test]
    fn a_certificate_is_a_bind() {
        let record = certificate_bound();
        let record = record.view();
        for (mode, passes) in [
            (BindMode::Disabled, true),
            (BindMode::Permissive, true),
            (BindMode::Strict, true),
            (BindMode::Required, true),
            (BindMode::Named(CERTIFICATE.to_owned()), true),
            (BindMode::Named("kerberos".to_owned()), false),
            (BindMode::Named("x5t#S256".to_owned()), false),
        ] {
            assert_eq!(check_bind(&record, &mode, None, false).is_ok(), passes, "{mode:?}");
        }
        let Ok(named) = CERTIFICATE.parse();
        let unbound = self::record(None);
        assert!(check_bind(&unbound.view(), &named, None, false).is_err());
    }

    #[test]
    fn modes_are_read_as_auth_token_reads_them() {
        let Ok(mode) = "strict".parse::<BindMode>();
        assert_eq!(mode, BindMode::Strict);
        let Ok(mode) = "Strict".parse::<BindMode>();
        assert_eq!(mode, BindMode::Named("Strict".to_owned()));
        assert_eq!(BindMode::default(), BindMode::Permissive);
    }

    #[test]
    fn roles_are_compared_without_case() {
        let roles = ["Member", "Rôle-Été"].map(str::to_owned).to_vec();
        let record = Identity { roles, ..Identity::default() }.to_record(false).0;
        let record = record.view();
        for role in ["member", "MEMBER", "RÔLE-ÉTÉ", "rôle-été"] {
            assert!(has_any_role(&record, &["admin".to_owned(), role.to_owned()]), "{role}");
        }
        for role in ["admin", "", "memb", "members", "member,rôle-été", "Role-Ete"] {
            assert!(!has_any_role(&record, &[role.to_owned()]), "{role}");
        }
        assert!(!has_any_role(&record, &[]));
        let none = Identity::default().to_record(false).0;
        assert!(!has_any_role(&none.view(), &[String::new()]));
    }

    /// Whether a `GET` passes, for a token with these rules, at a service of this type.
    fn may_get(
        rules: Option<&str>,
        service_type: Option<&str>,
        path: (Option<&str>, &str),
        has_service_token: bool,
    ) -> bool {
        may_get_mapped(rules, service_type, path, None, has_service_token)
    }

    fn may_get_mapped(
        rules: Option<&str>,
        service_type: Option<&str>,
        (raw_path, path): (Option<&str>, &str),
        service_path: Option<&str>,
        has_service_token: bool,
    ) -> bool {
        let access_rules = rules.map(str::to_owned);
        let record = Identity { access_rules, ..Identity::default() }.to_record(false).0;
        let service_types: Vec<_> = service_type.into_iter().map(str::to_owned).collect();
        let action = Action {
            service_types: &service_types,
            method: "GET",
            raw_path: raw_path.map(str::as_bytes),
            path: path.as_bytes(),
            service_path: service_path.map(str::as_bytes),
            has_destination: false,
            queries: [b""; 2],
        };
        let checked = check_access_rules(&record.view(), || action, has_service_token);
        assert!(checked.is_ok() || checked == Err(Refusal::AccessRules));
        checked.is_ok()
    }

    const RULES: Option<&str> =
        Some(r#"[{"service": "object-store", "method": "GET", "path": "/v1/*/c/**"}]"#);
    const SWIFT: Option<&str> = Some("object-store");
    const WITHIN: (Option<&str>, &str) = (Some("/v1/AUTH_x/c/o"), "/v1/AUTH_x/c/o");
    const WITHOUT: (Option<&str>, &str) = (Some("/v1/AUTH_x/d/o"), "/v1/AUTH_x/d/o");

    #[test]
    fn a_token_without_access_rules_may_do_everything() {
        for path in [WITHIN, WITHOUT, (Some("//"), "/")] {
            assert!(may_get(None, None, path, false));
            assert!(may_get(None, SWIFT, path, false));
        }
    }

    #[test]
    fn access_rules_permit_what_they_name() {
        assert!(may_get(RULES, SWIFT, WITHIN, false));
        assert!(may_get(RULES, SWIFT, (None, "/v1/AUTH_x/c/o"), false));
        assert!(!may_get(RULES, SWIFT, WITHOUT, false));
        assert!(!may_get(RULES, Some("image"), WITHIN, false));
    }

    #[test]
    fn access_rules_are_refused_where_the_service_is_not_known() {
        for has_service_token in [false, true] {
            assert!(!may_get(RULES, None, WITHIN, has_service_token));
            assert!(!may_get(Some("[]"), None, WITHIN, has_service_token));
        }
    }

    #[test]
    fn no_access_rules_in_a_list_of_them_permit_nothing() {
        for rules in ["[]", "{}", "null", ""] {
            assert!(!may_get(Some(rules), SWIFT, WITHIN, false), "{rules}");
        }
    }

    #[test]
    fn a_service_token_lifts_access_rules() {
        for path in [WITHIN, WITHOUT, (Some("/v1/AUTH_x/d/../c/o"), "/v1/AUTH_x/c/o")] {
            assert!(may_get(RULES, SWIFT, path, true));
            assert!(may_get(RULES, Some("image"), path, true));
            assert!(may_get(Some("[]"), SWIFT, path, true));
        }
    }

    #[test]
    fn a_request_of_more_than_its_path_is_refused_with_access_rules() {
        let record = Identity { access_rules: RULES.map(str::to_owned), ..Identity::default() };
        let record = record.to_record(false).0;
        let service_types = SWIFT.map(str::to_owned).into_iter().collect::<Vec<_>>();
        let check = |query: &'static str, has_destination, has_service_token| {
            let action = || Action {
                service_types: &service_types,
                method: "GET",
                raw_path: None,
                path: WITHIN.1.as_bytes(),
                service_path: None,
                has_destination,
                queries: [query.as_bytes(), b""],
            };
            check_access_rules(&record.view(), action, has_service_token)
        };
        assert_eq!(check("format=json", false, false), Ok(()));
        for (query, has_destination) in [("bulk-delete", false), ("", true)] {
            assert_eq!(check(query, has_destination, false), Err(Refusal::AccessRules));
            assert_eq!(check(query, has_destination, true), Ok(()));
        }
    }

    #[test]
    fn a_path_that_may_be_read_otherwise_is_refused_with_access_rules() {
        let normalised = "/v1/AUTH_x/c/o";
        for raw in ["/v1/AUTH_x/c//o", "/v1/AUTH_x/d/../c/o", "/v1/AUTH_x%2Fc/o", "/v1/AUTH_x/d/o"]
        {
            assert!(!may_get(RULES, SWIFT, (Some(raw), normalised), false), "{raw}");
        }
        assert!(may_get(RULES, SWIFT, (Some("/v1/AUTH%5Fx/%63/o"), normalised), false));
        // Keystone's own exception is none from this.
        let identity = Some("identity");
        assert!(may_get(RULES, identity, (None, "/v3/auth/tokens"), false));
        assert!(!may_get(
            RULES,
            identity,
            (Some("/v3/x%2F../auth/tokens"), "/v3/auth/tokens"),
            false
        ));
    }

    #[test]
    fn rules_are_for_the_path_that_the_service_gets() {
        let outside = |path| (Some(path), path);
        let mapped = |service_path| {
            may_get_mapped(RULES, SWIFT, outside("/store/x"), Some(service_path), false)
        };
        assert!(mapped("/v1/AUTH_x/c/o"));
        assert!(!mapped("/v1/AUTH_x/d/o"));
        // The client's own path does not count besides.
        assert!(!may_get_mapped(RULES, SWIFT, WITHIN, Some("/v1/AUTH_x/d/o"), false));
        // But it must be plain, as the path that is made of it.
        for raw in ["/store//x", "/store/y/../x", "/store%2Fx"] {
            let path = (Some(raw), "/store/x");
            assert!(!may_get_mapped(RULES, SWIFT, path, Some("/v1/AUTH_x/c/o"), false), "{raw}");
        }
        for path in
            ["", "v1/AUTH_x/c/o", "/v1/AUTH_x/c//o", "/v1/AUTH_x/c/../o", "/v1/AUTH_x/c/%6f"]
        {
            assert!(!mapped(path), "{path}");
        }
        let identity = Some("identity");
        let validation = "/v3/auth/tokens";
        assert!(may_get_mapped(RULES, identity, outside("/identity"), Some(validation), false));
        assert!(!may_get_mapped(RULES, identity, outside(validation), Some("/v3/users"), false));
    }
}
