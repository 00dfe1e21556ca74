//! The request headers that tell an upstream who is asking, and those that a client must not send.

use crate::record::{Field, Record};

/// The headers of a user's identity, each only where the token has the value, as name, lower-case
/// name and value. `X-Identity-Status` is not among them: it says whether there is an identity.
pub fn user_headers<'a>(
    record: &Record<'a>,
    catalog: bool,
) -> impl Iterator<Item = (&'static str, &'static str, &'a str)> {
    let record = *record;
    USER_HEADERS
        .iter()
        .filter(move |(_, _, field)| catalog || *field != Field::Catalog)
        .filter_map(move |&(name, lowercase, field)| Some((name, lowercase, record.get(field)?)))
}

/// The headers of a service token's identity, in the same form; there are no old names for them.
/// `X-Service-Identity-Status` is not among them.
pub fn service_headers<'a>(
    record: &Record<'a>,
) -> impl Iterator<Item = (&'static str, &'static str, &'a str)> {
    let record = *record;
    SERVICE_HEADERS
        .iter()
        .filter_map(move |&(name, lowercase, field)| Some((name, lowercase, record.get(field)?)))
}

/// Whether a header of this name must be taken from a client's request. The case does not matter,
/// and `_` is as good as `-`: what stands behind CGI cannot tell them apart.
pub fn is_stripped(name: &[u8]) -> bool {
    match name {
        [b'x' | b'X', b'-' | b'_', ..] | [b'o' | b'O', b'p' | b'P', ..] => {}
        _ => return false,
    }
    let mut folded = [0; LONGEST];
    let Some(folded) = folded.get_mut(..name.len()) else {
        return false;
    };
    for (to, from) in folded.iter_mut().zip(name) {
        *to = match from {
            b'_' => b'-',
            byte => byte.to_ascii_lowercase(),
        };
    }
    STRIPPED.binary_search_by(|stripped| stripped.as_bytes().cmp(folded)).is_ok()
}

/// What [`is_stripped`] says yes to, in lower case with `-`, in order: every header that may be
/// set for a user's or a service's identity.
pub const STRIPPED: &[&str] = &[
    "openstack-service-system-scope",
    "openstack-system-scope",
    "x-domain-id",
    "x-domain-name",
    "x-identity-status",
    "x-is-admin-project",
    "x-project-domain-id",
    "x-project-domain-name",
    "x-project-id",
    "x-project-name",
    "x-role",
    "x-roles",
    "x-service-catalog",
    "x-service-domain-id",
    "x-service-domain-name",
    "x-service-identity-status",
    "x-service-is-admin-project",
    "x-service-project-domain-id",
    "x-service-project-domain-name",
    "x-service-project-id",
    "x-service-project-name",
    "x-service-role",
    "x-service-roles",
    "x-service-service-catalog",
    "x-service-system-scope",
    "x-service-tenant",
    "x-service-tenant-id",
    "x-service-tenant-name",
    "x-service-user",
    "x-service-user-domain-id",
    "x-service-user-domain-name",
    "x-service-user-id",
    "x-service-user-name",
    "x-tenant",
    "x-tenant-id",
    "x-tenant-name",
    "x-user",
    "x-user-domain-id",
    "x-user-domain-name",
    "x-user-id",
    "x-user-name",
];

const LONGEST: usize = "openstack-service-system-scope".len();

/// The last five are the names of before 2013.
const USER_HEADERS: &[(&str, &str, Field)] = &[
    ("X-User-Id", "x-user-id", Field::UserId),
    ("X-User-Name", "x-user-name", Field::UserName),
    ("X-User-Domain-Id", "x-user-domain-id", Field::UserDomainId),
    ("X-User-Domain-Name", "x-user-domain-name", Field::UserDomainName),
    ("X-Project-Id", "x-project-id", Field::ProjectId),
    ("X-Project-Name", "x-project-name", Field::ProjectName),
    ("X-Project-Domain-Id", "x-project-domain-id", Field::ProjectDomainId),
    ("X-Project-Domain-Name", "x-project-domain-name", Field::ProjectDomainName),
    ("X-Domain-Id", "x-domain-id", Field::DomainId),
    ("X-Domain-Name", "x-domain-name", Field::DomainName),
    ("OpenStack-System-Scope", "openstack-system-scope", Field::SystemScope),
    ("X-Roles", "x-roles", Field::Roles),
    ("X-Is-Admin-Project", "x-is-admin-project", Field::IsAdminProject),
    ("X-Service-Catalog", "x-service-catalog", Field::Catalog),
    ("X-User", "x-user", Field::UserName),
    ("X-Role", "x-role", Field::Roles),
    ("X-Tenant-Id", "x-tenant-id", Field::ProjectId),
    ("X-Tenant-Name", "x-tenant-name", Field::ProjectName),
    ("X-Tenant", "x-tenant", Field::ProjectName),
];

const SERVICE_HEADERS: &[(&str, &str, Field)] = &[
    ("X-Service-User-Id", "x-service-user-id", Field::UserId),
    ("X-Service-User-Name", "x-service-user-name", Field::UserName),
    ("X-Service-User-Domain-Id", "x-service-user-domain-id", Field::UserDomainId),
    ("X-Service-User-Domain-Name", "x-service-user-domain-name", Field::UserDomainName),
    ("X-Service-Project-Id", "x-service-project-id", Field::ProjectId),
    ("X-Service-Project-Name", "x-service-project-name", Field::ProjectName),
    ("X-Service-Project-Domain-Id", "x-service-project-domain-id", Field::ProjectDomainId),
    ("X-Service-Project-Domain-Name", "x-service-project-domain-name", Field::ProjectDomainName),
    ("X-Service-Domain-Id", "x-service-domain-id", Field::DomainId),
    ("X-Service-Domain-Name", "x-service-domain-name", Field::DomainName),
    ("X-Service-Roles", "x-service-roles", Field::Roles),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_none_is_longer_than_the_longest() {
        assert!(STRIPPED.is_sorted());
        assert_eq!(STRIPPED.iter().map(|name| name.len()).max(), Some(LONGEST));
    }

    #[test]
    fn every_header_that_is_set_is_stripped_also_as_a_service_s() {
        for (name, lowercase, _) in USER_HEADERS {
            assert_eq!(name.to_ascii_lowercase(), *lowercase);
            assert!(is_stripped(name.as_bytes()), "{name}");
            let (prefix, rest) = lowercase.split_once('-').unwrap();
            assert!(is_stripped(format!("{prefix}-service-{rest}").as_bytes()), "{name}");
        }
        for (name, lowercase, _) in SERVICE_HEADERS {
            assert_eq!(name.to_ascii_lowercase(), *lowercase);
            assert!(is_stripped(name.as_bytes()), "{name}");
        }
        for name in ["X-Identity-Status", "X-Service-Identity-Status"] {
            assert!(is_stripped(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_spelling_does_not_matter() {
        for name in ["X-Roles", "x-roles", "X_ROLES", "x_Roles", "X_Service-Project_Domain-NAME"] {
            assert!(is_stripped(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn other_headers_stay() {
        for name in [
            "",
            "X",
            "X-",
            "X-Foo",
            "X-Auth-Token",
            "X-Storage-Token",
            "X-Service-Token",
            "X-Rolesx",
            "X--Roles",
            "XX-Roles",
            "Roles",
            "Host",
            "OpenStack-API-Version",
            "OpenStack-Identity-Access-Rules",
            "X-Service-Project-Domain-Name-That-Is-Longer-Than-Any",
        ] {
            assert!(!is_stripped(name.as_bytes()), "{name}");
        }
        assert!(!is_stripped("x-røles".as_bytes()));
    }
}
