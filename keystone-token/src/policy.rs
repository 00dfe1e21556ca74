//! What an identity must have: a role, or the authentication that it is bound to.

use std::convert::Infallible;
use std::str::FromStr;

use crate::record::{Field, Record};
use crate::token::{BindFailure, Refusal};

/// auth_token's `enforce_token_bind`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// Binds are not looked at.
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

/// Checks what the token is bound to. Kerberos is the one mechanism that can be checked: it wants
/// `remote_user` of a Negotiate authentication.
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
    for (mechanism, principal) in record.bind() {
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

fn refuse(failure: BindFailure) -> Result<(), Refusal> {
    Err(Refusal::BindFailed(failure))
}

/// Refuses a token that may only be used for certain requests, because nothing here can tell
/// which service's requests these are.
pub fn check_access_rules(record: &Record<'_>) -> Result<(), Refusal> {
    match record.get(Field::AccessRules) {
        Some(_) => Err(Refusal::AccessRules),
        None => Ok(()),
    }
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

fn eq_ignore_case(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    const MODES: [&str; 6] = ["disabled", "permissive", "strict", "required", "kerberos", "FOO"];

    fn record(bind: Option<&[(&str, &str)]>) -> Vec<u8> {
        let own = |bind: &[(&str, &str)]| {
            bind.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        Identity { bind: bind.map(own), ..Identity::default() }.to_record(false)
    }

    /// Which modes let a token pass, in the order of [`MODES`].
    fn passes(bind: Option<&[(&str, &str)]>, remote_user: Option<&str>, negotiate: bool) -> String {
        let record = record(bind);
        let record = Record::new(&record).unwrap();
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
        let record = Identity { roles, ..Identity::default() }.to_record(false);
        let record = Record::new(&record).unwrap();
        for role in ["member", "MEMBER", "RÔLE-ÉTÉ", "rôle-été"] {
            assert!(has_any_role(&record, &["admin".to_owned(), role.to_owned()]), "{role}");
        }
        for role in ["admin", "", "memb", "members", "member,rôle-été", "Role-Ete"] {
            assert!(!has_any_role(&record, &[role.to_owned()]), "{role}");
        }
        assert!(!has_any_role(&record, &[]));
        let none = Identity::default().to_record(false);
        assert!(!has_any_role(&Record::new(&none).unwrap(), &[String::new()]));
    }

    #[test]
    fn access_rules_are_refused_even_if_there_are_none_of_them() {
        let record = |access_rules| Identity { access_rules, ..Identity::default() };
        let with = record(Some("[]".to_owned())).to_record(false);
        let refusal = check_access_rules(&Record::new(&with).unwrap()).unwrap_err();
        assert_eq!(refusal.as_str(), "access_rules");
        let without = record(None).to_record(false);
        assert!(check_access_rules(&Record::new(&without).unwrap()).is_ok());
    }
}
