//! keystoneauth's options, and the rules that are made of them.

use super::Settings;
use crate::text::strip;

/// The options as they are written in the configuration. `None` is not set, and so Swift's default;
/// so is a list of roles with nothing in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `AUTH_` by default; `""` is the empty prefix, and so is a list with nothing in it.
    pub reseller_prefixes: Option<Vec<String>>,
    /// `[PREFIX:]ROLE`; `admin` and `swiftoperator` by default.
    pub operator_roles: Option<Vec<String>>,
    /// `[PREFIX:]ROLE`; none by default.
    pub service_roles: Option<Vec<String>>,
    /// `[PREFIX:]ROLE`; none by default.
    pub project_reader_roles: Option<Vec<String>>,
    /// Role names, without a prefix; none by default.
    pub system_reader_roles: Option<Vec<String>>,
    /// `ResellerAdmin` by default; an empty one matches no role.
    pub reseller_admin_role: Option<String>,
    /// On by default.
    pub allow_names_in_acls: Option<bool>,
    /// `default` by default.
    pub default_domain_id: Option<String>,
}

/// A reseller prefix and the rules for accounts that begin with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reseller {
    pub(super) prefix: String,
    pub(super) operator_roles: Roles,
    pub(super) service_roles: Roles,
    pub(super) project_reader_roles: Roles,
}

/// Names in lower case.
pub(super) type Roles = Vec<String>;

impl Settings {
    /// Takes the options as Swift's `config_read_reseller_options` takes its own. There,
    /// `PREFIX_operator_roles` is what `PREFIX:ROLE` is here: a prefix with roles of its own
    /// replaces those that have no prefix, which are for all others. It gets the underscore that
    /// it may lack; the empty one is written as in `:ROLE`.
    pub fn new(options: &Options) -> Result<Self, OptionsError> {
        let mut prefixes = Vec::new();
        match options.reseller_prefixes.as_deref() {
            None => prefixes.push(with_underscore("AUTH")),
            Some([]) => prefixes.push(String::new()),
            Some(written) => {
                for prefix in written.iter().map(|prefix| with_underscore(prefix)) {
                    if !prefixes.contains(&prefix) {
                        prefixes.push(prefix);
                    }
                }
            }
        }
        let operators = PrefixedRoles::new(&options.operator_roles, &prefixes)?;
        let services = PrefixedRoles::new(&options.service_roles, &prefixes)?;
        let readers = PrefixedRoles::new(&options.project_reader_roles, &prefixes)?;
        let reseller = |prefix: String| Reseller {
            operator_roles: operators.of(&prefix).unwrap_or_else(default_operator_roles),
            service_roles: services.of(&prefix).unwrap_or_default(),
            project_reader_roles: readers.of(&prefix).unwrap_or_default(),
            prefix,
        };
        let system_readers = options.system_reader_roles.iter().flatten();
        let admin = options.reseller_admin_role.as_deref().unwrap_or("ResellerAdmin");
        Ok(Self {
            resellers: prefixes.into_iter().map(reseller).collect(),
            system_reader_roles: system_readers.map(|it| role(it, it)).collect::<Result<_, _>>()?,
            reseller_admin_role: admin.to_lowercase(),
            allow_names: options.allow_names_in_acls.unwrap_or(true),
            default_domain_id: options.default_domain_id.clone().unwrap_or("default".into()),
        })
    }
}

/// What one directive says: roles, each with the prefix that it is for, if it has one.
struct PrefixedRoles(Vec<(Option<String>, String)>);

impl PrefixedRoles {
    fn new(written: &Option<Vec<String>>, prefixes: &[String]) -> Result<Self, OptionsError> {
        let mut roles = Vec::new();
        for whole in written.iter().flatten() {
            let Some((prefix, name)) = whole.split_once(':') else {
                roles.push((None, role(whole, whole)?));
                continue;
            };
            let prefix = with_underscore(prefix);
            if !prefixes.contains(&prefix) {
                return Err(OptionsError::UnknownPrefix { role: whole.clone(), prefix });
            }
            roles.push((Some(prefix), role(name, whole)?));
        }
        Ok(Self(roles))
    }

    /// Those for a prefix, unless there are none.
    fn of(&self, prefix: &str) -> Option<Roles> {
        let matching = |wanted: Option<&str>| {
            let roles = self.0.iter().filter(|(prefix, _)| prefix.as_deref() == wanted);
            let roles: Vec<_> = roles.map(|(_, role)| role.clone()).collect();
            (!roles.is_empty()).then_some(roles)
        };
        matching(Some(prefix)).or_else(|| matching(None))
    }
}

fn with_underscore(prefix: &str) -> String {
    let prefix = strip(prefix);
    let missing = if prefix.is_empty() || prefix.ends_with('_') { "" } else { "_" };
    format!("{prefix}{missing}")
}

/// The role's name, of an option that was written as `whole`.
fn role(name: &str, whole: &str) -> Result<String, OptionsError> {
    match strip(name) {
        "" => Err(OptionsError::NoRole(whole.to_owned())),
        name if name.contains(',') => Err(OptionsError::Comma(whole.to_owned())),
        name => Ok(name.to_lowercase()),
    }
}

fn default_operator_roles() -> Roles {
    ["admin", "swiftoperator"].map(str::to_owned).to_vec()
}

/// Why options make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Nobody has a role with a comma in its name: it would read as two.
    #[error("role \"{0}\" contains a comma")]
    Comma(String),
    /// A role with an empty name.
    #[error("\"{0}\" names no role")]
    NoRole(String),
    /// The roles for it would never count.
    #[error("role \"{role}\" is for \"{prefix}\", which is none of the reseller prefixes")]
    UnknownPrefix {
        /// The role, as it is written.
        role: String,
        /// The prefix, with its underscore.
        prefix: String,
    },
}

impl OptionsError {
    /// The role, as it is written.
    pub fn role(&self) -> &str {
        match self {
            Self::Comma(role) | Self::NoRole(role) | Self::UnknownPrefix { role, .. } => role,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(roles: &[&str]) -> Option<Vec<String>> {
        Some(roles.iter().map(|role| (*role).to_owned()).collect())
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        type Set = fn(&mut Options, Option<Vec<String>>);
        let sets: [Set; 3] = [
            |it, roles| it.operator_roles = roles,
            |it, roles| it.service_roles = roles,
            |it, roles| it.project_reader_roles = roles,
        ];
        for set in sets {
            for (role, complaint) in [
                ("", "\"\" names no role"),
                ("AUTH: ", "\"AUTH: \" names no role"),
                ("a,b", "role \"a,b\" contains a comma"),
                ("KEY:a", "role \"KEY:a\" is for \"KEY_\", which is none of the reseller prefixes"),
                (":a", "role \":a\" is for \"\", which is none of the reseller prefixes"),
            ] {
                let mut options = Options::default();
                set(&mut options, roles(&["fine", role]));
                assert_eq!(Settings::new(&options).unwrap_err().to_string(), complaint);
            }
        }
        let readers = |role| Options { system_reader_roles: roles(&[role]), ..Options::default() };
        assert_eq!(Settings::new(&readers(" ")), Err(OptionsError::NoRole(" ".into())));
        assert_eq!(Settings::new(&readers("a,b")), Err(OptionsError::Comma("a,b".into())));
        assert!(Settings::new(&readers("KEY:a")).is_ok());
    }
}
