//! What upstreams must never be sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::guard::Guard;
use crate::wallet::Wallet;

/// The mark of every value that a case puts into an identity header; the number of the case
/// follows.
pub const FORGED: &str = "FORGED-";

/// The identity headers (docs/directives.md), each also with `SERVICE_` behind its
/// first word, folded.
pub const IDENTITY: &[&str] = &[
    "OPENSTACK_SYSTEM_SCOPE",
    "X_DOMAIN_ID",
    "X_DOMAIN_NAME",
    "X_IDENTITY_STATUS",
    "X_IS_ADMIN_PROJECT",
    "X_PROJECT_DOMAIN_ID",
    "X_PROJECT_DOMAIN_NAME",
    "X_PROJECT_ID",
    "X_PROJECT_NAME",
    "X_ROLE",
    "X_ROLES",
    "X_SERVICE_CATALOG",
    "X_TENANT",
    "X_TENANT_ID",
    "X_TENANT_NAME",
    "X_USER",
    "X_USER_DOMAIN_ID",
    "X_USER_DOMAIN_NAME",
    "X_USER_ID",
    "X_USER_NAME",
];

const TOKENS: &[&str] = &["X_AUTH_TOKEN", "X_STORAGE_TOKEN", "X_SERVICE_TOKEN"];

/// Something that an upstream was sent and must not have been.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The case that it is about, if that can be told.
    pub case: Option<u64>,
    /// The finding, for people.
    pub what: String,
}

/// Looks at all that the upstreams of an instance are sent.
#[derive(Clone)]
pub struct Inspector {
    wallet: Arc<Wallet>,
    tokens_removed: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    violations: Vec<Violation>,
    seen: BTreeMap<String, u64>,
}

impl Inspector {
    /// For an instance that removes tokens or does not.
    pub fn new(wallet: Arc<Wallet>, tokens_removed: bool) -> Self {
        Self { wallet, tokens_removed, state: Arc::default() }
    }

    /// Looks at a request: `way` is how it came, and `fields` are its header fields with the names
    /// that the way gives them.
    pub fn inspect(&self, way: &str, guard: Guard, fields: &[(Vec<u8>, Vec<u8>)]) {
        let is_cgi = !matches!(way, "HTTP" | "GRPC");
        let field = |(name, value): &(Vec<u8>, Vec<u8>)| Field::new(name, value, is_cgi);
        let fields: Vec<Field> = fields.iter().map(field).collect();
        let confirmed = fields.iter().any(|f| f.is("X_IDENTITY_STATUS") && f.value == "Confirmed");
        let status = if confirmed { "confirmed" } else { "other" };
        let name = format!("{way} {} {status}", guard.name());
        *self.state().seen.entry(name).or_default() += 1;

        for wrong in self.wrongs(guard, &fields) {
            let case = fields.iter().find_map(|field| case_of(&field.value));
            let sent: Vec<_> =
                fields.iter().filter(|f| f.is_identity()).map(Field::to_string).collect();
            let what = format!("{way}, {guard:?}: {wrong}; identity: {}", sent.join(", "));
            self.state().violations.push(Violation { case, what });
        }
    }

    fn wrongs(&self, guard: Guard, fields: &[Field]) -> Vec<String> {
        let mut wrongs = Vec::new();
        if guard == Guard::Off {
            return wrongs;
        }
        for field in fields {
            if field.is_identity() && field.value.contains(FORGED) {
                wrongs.push(format!("a forged header: {field}"));
            }
            if self.tokens_removed && TOKENS.iter().any(|token| field.is(token)) {
                wrongs.push(format!("a token that had to be removed: {}", field.name));
            }
        }
        if guard == Guard::Stripped {
            return wrongs;
        }

        let all = |name: &str| -> Vec<&str> {
            fields.iter().filter(|f| f.is(name)).map(|f| f.value.as_str()).collect()
        };
        let (statuses, users) = (all("X_IDENTITY_STATUS"), all("X_USER_ID"));
        match statuses.as_slice() {
            ["Confirmed"] => {
                let served = all("X_SERVICE_IDENTITY_STATUS") == ["Confirmed"];
                let known = matches!(users.as_slice(), [user] if self.wallet.is_user(user, served));
                if !known {
                    wrongs.push(format!("confirmed users {users:?}"));
                }
            }
            ["Invalid"] if guard == Guard::Delay => {
                if !users.is_empty() {
                    wrongs.push(format!("invalid, and yet users {users:?}"));
                }
            }
            other => wrongs.push(format!("the identity status is {other:?}")),
        }
        wrongs
    }

    /// What was wrong since the last time.
    pub fn take(&self) -> Vec<Violation> {
        std::mem::take(&mut self.state().violations)
    }

    /// How many requests came by which way.
    pub fn seen(&self) -> BTreeMap<String, u64> {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Field {
    name: String,
    folded: String,
    value: String,
}

impl Field {
    fn new(name: &[u8], value: &[u8], is_cgi: bool) -> Self {
        let name = String::from_utf8_lossy(name).into_owned();
        let value = String::from_utf8_lossy(value).into_owned();
        Self { folded: fold(&name, is_cgi), name, value }
    }

    fn is(&self, folded: &str) -> bool {
        self.folded == folded
    }

    fn is_identity(&self) -> bool {
        let bare = self.folded.replacen("_SERVICE_", "_", 1);
        IDENTITY.iter().any(|name| self.folded == *name || bare == *name)
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {:?}", self.name, self.value)
    }
}

/// A name as CGI, PHP, WSGI or Rack may read it: what is neither letter nor digit is `_`. Variables
/// of CGI have `HTTP_` before the name.
fn fold(name: &str, is_cgi: bool) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let folded: String = name.chars().map(fold).collect();
    match folded.strip_prefix("HTTP_") {
        Some(bare) if is_cgi => bare.to_owned(),
        _ => folded,
    }
}

fn case_of(value: &str) -> Option<u64> {
    let (_, rest) = value.split_once(FORGED)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(guard: Guard, fields: &[(&str, &str)]) -> usize {
        wrongs_of("HTTP", guard, fields)
    }

    fn wrongs_of(way: &str, guard: Guard, fields: &[(&str, &str)]) -> usize {
        let inspector = Inspector::new(Arc::default(), true);
        let own =
            |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        inspector.inspect(way, guard, &fields.iter().map(own).collect::<Vec<_>>());
        inspector.take().len()
    }

    #[test]
    fn a_forged_header_is_found_under_every_spelling() {
        for name in ["X.User.Id", "x-service~user-id", "OpenStack_Service-System_Scope"] {
            assert_eq!(wrongs(Guard::Stripped, &[(name, "FORGED-7")]), 1, "{name}");
            assert_eq!(wrongs(Guard::Off, &[(name, "FORGED-7")]), 0, "{name}");
        }
        let variable = [("HTTP_X_USER_ID", "FORGED-7")];
        assert_eq!(wrongs_of("FASTCGI", Guard::Stripped, &variable), 1);
        assert_eq!(wrongs_of("HTTP", Guard::Stripped, &variable), 0);
        assert_eq!(wrongs(Guard::Stripped, &[("X-User-Identity", "FORGED-7")]), 0);
        assert_eq!(case_of("admin FORGED-12,x"), Some(12));
    }

    #[test]
    fn a_closed_location_needs_a_known_user() {
        assert_eq!(wrongs(Guard::On, &[]), 1);
        let strange = [("X-Identity-Status", "Confirmed"), ("X-User-Id", "somebody")];
        assert_eq!(wrongs(Guard::On, &strange), 1);
        assert_eq!(wrongs(Guard::Delay, &[("X-Identity-Status", "Invalid")]), 0);
        assert_eq!(wrongs(Guard::On, &[("X-Identity-Status", "Invalid")]), 1);
    }

    #[test]
    fn a_token_that_had_to_be_removed_is_found() {
        assert_eq!(wrongs(Guard::Stripped, &[("X.Auth-Token", "t")]), 1);
    }
}
