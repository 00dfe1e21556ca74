//! Who may do what with accounts, containers and objects: Swift 2.38's `keystoneauth`, and the
//! container ACLs of its `acl` module, as pure functions.
//!
//! An account belongs to the project whose id it is named by, behind a reseller prefix
//! (`AUTH_4b9c`). A user with an operator role in that project may do everything but delete it;
//! others may do what a container's ACL permits. [`Settings::authorize`] decides. It differs
//! from Swift in this:
//! - A token without a project owns no account, and is of no project in an ACL but `*`. Python
//!   writes the id that is not there as `None`, and so lets that token into the account
//!   `AUTH_None`. So it is with a user without id or name, and with an id or a name that is empty,
//!   which in Swift the ACL `:u` names.
//! - A role with a comma in its name is none: nothing behind could tell it from two. Swift does take
//!   it for two.
//! - An entry of an ACL may end in a character such as `à`. Swift takes its last byte, 0xA0 or 0x85,
//!   for a blank, and what is left is nobody's name.
//! - Names in ACLs count only within the default domain, and so Swift keeps the domain of each
//!   account's project. Nothing here can know it: every account is taken for one that exists
//!   and was made before Swift did so, and such accounts count as ones of the default domain.
//!   Where projects of other domains have accounts too, `allow_names_in_acls` is better off.
//! - Account and project id are compared byte by byte. Swift compares Latin-1 with UTF-8, so
//!   that there nobody owns an account beyond ASCII; no id that Keystone makes is.
//! - A referer that no host can be read from lets nobody in by itself, and Swift answers 500.
//! - There is no container synchronisation, and no other middleware that overrides the decision.

pub use acl::{acl_kind, Acl, AclError, AclKind, ContainerAcls, ContainerAclsError};
pub use path::{check_file_names, names_the_same, AccountPath, NameError};
pub use settings::{Options, OptionsError};

use crate::record::{Field, Record};
use crate::text::{eq_ignore_case, strip};
use settings::{Reseller, Roles};

mod acl;
mod path;
mod referer;
mod settings;

/// keystoneauth's options, read and understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// One for each reseller prefix; at least one.
    resellers: Vec<Reseller>,
    system_reader_roles: Roles,
    /// In lower case; empty if no role is configured.
    reseller_admin_role: String,
    allow_names: bool,
    default_domain_id: String,
}

/// What is asked for, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method as in the request line, in its own case.
    pub method: &'a str,
    /// What it is done to.
    pub path: &'a AccountPath<'a>,
    /// The identity of the token, if there is a valid one. To Swift, a service token that is
    /// not valid makes a request anonymous.
    pub user: Option<&'a Record<'a>>,
    /// The identity of the service token, if there is a valid one.
    pub service: Option<&'a Record<'a>>,
    /// The value of `Referer`.
    pub referer: Option<&'a [u8]>,
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request is authorized.
    Allow,
    /// The user is not authorized: 403.
    Forbidden,
    /// The request has no identity and needs one: 401.
    Unauthorized,
}

impl Settings {
    /// Decides as keystoneauth's `authorize` and `authorize_anonymous` do, with the ACL that
    /// [`acl_kind`] says counts, if the container has it. A path that does not
    /// [split](AccountPath::split) is a 404 in Swift, except for `OPTIONS` with a valid token.
    pub fn authorize(&self, request: &Request<'_>, acl: Option<&Acl>) -> Decision {
        let (is_allowed, refusal) = match request.user {
            _ if request.method == "OPTIONS" => (true, Decision::Unauthorized),
            Some(user) => (self.allows_user(request, user, acl), Decision::Forbidden),
            None => (self.allows_anyone(request, acl), Decision::Unauthorized),
        };
        if is_allowed {
            Decision::Allow
        } else {
            refusal
        }
    }

    fn allows_user(&self, request: &Request<'_>, user: &Record<'_>, acl: Option<&Acl>) -> bool {
        let is_read = matches!(request.method, "GET" | "HEAD");
        let path = request.path;
        if roles_of(user).any(|role| eq_ignore_case(role, &self.reseller_admin_role))
            || is_read && has_any(user, &self.system_reader_roles)
        {
            return true;
        }
        let is_account = path.container.is_none() && path.object.is_none();
        if is_account && request.method == "DELETE" {
            return false;
        }

        if acl.is_some_and(|acl| self.is_named(user, acl)) {
            return true;
        }
        let by_referrer = by_referrer(request, acl);
        if by_referrer == Some(true) {
            return true;
        }

        let Some(reseller) = path.account.and_then(|account| self.owned(account, user)) else {
            return false;
        };
        let has_service = || request.service.is_some_and(|it| has_any(it, &reseller.service_roles));
        if has_any(user, &reseller.operator_roles)
            && (reseller.service_roles.is_empty() || has_service())
        {
            return true;
        }
        if is_read && has_any(user, &reseller.project_reader_roles) {
            return true;
        }
        // Who comes from an allowed referrer but may not list the container is not helped by a
        // role.
        by_referrer.is_none()
            && acl.is_some_and(|acl| roles_of(user).any(|role| acl.has_role(role)))
    }

    fn allows_anyone(&self, request: &Request<'_>, acl: Option<&Acl>) -> bool {
        request.path.account.is_some_and(|account| self.reseller(account).is_some())
            && by_referrer(request, acl) == Some(true)
    }

    /// Whether the ACL has the user or its project, by id, or by name where names count.
    fn is_named(&self, user: &Record<'_>, acl: &Acl) -> bool {
        let is_default =
            |domain| known(user, domain).is_none_or(|domain| domain == self.default_domain_id);
        let names_count = self.allow_names
            && is_default(Field::UserDomainId)
            && is_default(Field::ProjectDomainId);
        let name = |field| known(user, field).filter(|_| names_count);
        acl.names(
            &[known(user, Field::ProjectId), name(Field::ProjectName)],
            &[known(user, Field::UserId), name(Field::UserName)],
        )
    }

    /// The rules for an account, if it belongs to the user's project.
    fn owned(&self, account: &[u8], user: &Record<'_>) -> Option<&Reseller> {
        let project = known(user, Field::ProjectId)?.as_bytes();
        let is_owned = |it: &Reseller| account.strip_prefix(it.prefix.as_bytes()) == Some(project);
        self.resellers.iter().any(is_owned).then(|| self.reseller(account)).flatten()
    }

    /// The rules for an account: those of the first prefix that it begins with. The empty prefix,
    /// with which everything begins, comes last.
    fn reseller(&self, account: &[u8]) -> Option<&Reseller> {
        let begins = |it: &&Reseller| account.starts_with(it.prefix.as_bytes());
        let (mut named, mut empty) = (self.resellers.iter(), self.resellers.iter());
        named
            .find(|it| !it.prefix.is_empty() && begins(it))
            .or_else(|| empty.find(|it| it.prefix.is_empty()))
    }
}

/// What the referrers in the ACL say: yes, no to a listing, or nothing.
fn by_referrer(request: &Request<'_>, acl: Option<&Acl>) -> Option<bool> {
    let acl = acl.filter(|acl| acl.allows_referrer(request.referer))?;
    Some(request.path.object.is_some() || acl.has_listings())
}

fn has_any(record: &Record<'_>, roles: &Roles) -> bool {
    !roles.is_empty()
        && roles_of(record).any(|held| roles.iter().any(|role| eq_ignore_case(held, role)))
}

/// Swift reads the names from a header: without blanks around them, and without empty ones.
fn roles_of<'a>(record: &Record<'a>) -> impl Iterator<Item = &'a str> {
    record.roles().map(strip).filter(|role| !role.is_empty())
}

/// An id or a name that is there. An empty one is none.
fn known<'a>(record: &Record<'a>, field: Field) -> Option<&'a str> {
    record.get(field).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
