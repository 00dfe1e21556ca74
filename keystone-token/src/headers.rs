//! The request headers that name the user to an upstream, and those that a client must not send.

use std::ffi::CStr;

use crate::record::{Field, Record};

/// The name of a request header. Its texts end with NUL, as nginx's own header names do: modules
/// written in C compare them with `ngx_strcasecmp()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderName {
    /// The spelling that is sent.
    pub name: &'static CStr,
    /// For comparisons, as nginx's `lowcase_key`.
    pub lowercase: &'static CStr,
    /// Of the lowercase name: its bytes as the digits of a number in base 31, as nginx's
    /// `ngx_hash_key()` computes it.
    pub hash: usize,
}

impl HeaderName {
    const fn new(name: &'static CStr, lowercase: &'static CStr) -> Self {
        let (bytes, mut hash, mut at) = (lowercase.to_bytes(), 0_usize, 0);
        while at < bytes.len() {
            hash = hash.wrapping_mul(31).wrapping_add(bytes[at] as usize);
            at += 1;
        }
        Self { name, lowercase, hash }
    }

    /// Whether a header [is named](is_named) so.
    #[inline]
    pub fn names(&self, name: &[u8]) -> bool {
        is_named(name, self.name.to_bytes())
    }

    /// The spelling that is sent, as text.
    pub fn as_str(self) -> &'static str {
        // Header names are ASCII.
        self.name.to_str().unwrap_or_default()
    }
}

/// The user token.
pub const AUTH_TOKEN: &str = "X-Auth-Token";

/// The user token where there is no `X-Auth-Token`.
pub const STORAGE_TOKEN: &str = "X-Storage-Token";

/// The token of a service that hands a user's request on.
pub const SERVICE_TOKEN: &str = "X-Service-Token";

/// The headers that carry tokens.
pub const TOKEN_HEADERS: [&str; 3] = [AUTH_TOKEN, STORAGE_TOKEN, SERVICE_TOKEN];

/// The user token, as an upstream gets it.
pub const FORWARDED_TOKEN: HeaderName = HeaderName::new(c"X-Auth-Token", c"x-auth-token");

/// Says whether there is a valid user token: `Confirmed` or `Invalid`.
pub static IDENTITY_STATUS: HeaderName =
    HeaderName::new(c"X-Identity-Status", c"x-identity-status");

/// The same of the service token.
pub static SERVICE_IDENTITY_STATUS: HeaderName =
    HeaderName::new(c"X-Service-Identity-Status", c"x-service-identity-status");

/// The id of the request, as oslo.middleware reads and answers it.
pub const REQUEST_ID: HeaderName =
    HeaderName::new(c"X-Openstack-Request-Id", c"x-openstack-request-id");

/// The id that the client has sent.
pub const GLOBAL_REQUEST_ID: HeaderName =
    HeaderName::new(c"X-Openstack-Request-Global-Id", c"x-openstack-request-global-id");

/// The catalog of a user's identity, as JSON; it is [`Field::Catalog`].
pub static SERVICE_CATALOG: HeaderName =
    HeaderName::new(c"X-Service-Catalog", c"x-service-catalog");

/// The headers of a user's identity and their values, each only where the token has the value.
/// [`IDENTITY_STATUS`] is not among them: it says whether there is an identity. Nor is
/// [`SERVICE_CATALOG`], which not every location wants.
pub fn user_headers<'a>(
    record: &Record<'a>,
) -> impl Iterator<Item = (&'static HeaderName, &'a str)> {
    values(*record, &USER_HEADERS)
}

/// The headers of a service token's identity, in the same form; there are no old names for them.
/// [`SERVICE_IDENTITY_STATUS`] is not among them.
pub fn service_headers<'a>(
    record: &Record<'a>,
) -> impl Iterator<Item = (&'static HeaderName, &'a str)> {
    values(*record, &SERVICE_HEADERS)
}

fn values<'a>(
    record: Record<'a>,
    fields: &'static [(HeaderName, Field)],
) -> impl Iterator<Item = (&'static HeaderName, &'a str)> {
    fields.iter().filter_map(move |(name, field)| Some((name, record.get(*field)?)))
}

/// All headers that may be set for an identity. The bytes of each name are in one place, also those
/// of the names that the functions above give.
pub fn set_headers() -> impl Iterator<Item = &'static HeaderName> {
    let of_records = USER_HEADERS.iter().chain(&SERVICE_HEADERS).map(|(name, _)| name);
    [&IDENTITY_STATUS, &SERVICE_CATALOG, &SERVICE_IDENTITY_STATUS].into_iter().chain(of_records)
}

/// Whether a header of this name must be taken from a client's request. Names are compared by
/// their [`folded`] bytes.
#[inline]
pub fn is_stripped(name: &[u8]) -> bool {
    match name {
        // What else such a name can go on with; most names are none, and end here.
        [b'x' | b'X', separator, b'd' | b'i' | b'p' | b'r' | b's' | b't' | b'u' | b'D' | b'I' | b'P' | b'R' | b'S'
        | b'T' | b'U', ..]
            if !separator.is_ascii_alphanumeric() =>
        {
            is_known(name)
        }
        [b'o' | b'O', b'p' | b'P', ..] => is_known(name),
        _ => false,
    }
}

fn is_known(name: &[u8]) -> bool {
    if name.len() > LONGEST {
        return false;
    }
    let name = || name.iter().copied().map(folded);
    STRIPPED.binary_search_by(|stripped| stripped.bytes().cmp(name())).is_ok()
}

/// Whether a header of this name has the id of a request.
#[inline]
pub fn has_request_id(name: &[u8]) -> bool {
    REQUEST_ID.names(name) || GLOBAL_REQUEST_ID.names(name)
}

/// Whether a header carries a token.
#[inline]
pub fn is_token_header(name: &[u8]) -> bool {
    token_header(name).is_some()
}

/// Which of [`TOKEN_HEADERS`] a header is.
#[inline]
pub fn token_header(name: &[u8]) -> Option<usize> {
    TOKEN_HEADERS.iter().position(|known| is_named(name, known))
}

/// Whether a header has this name to what stands behind nginx: names are compared by their
/// [`folded`] bytes.
#[inline]
pub fn is_named(name: &[u8], known: impl AsRef<[u8]>) -> bool {
    let known = known.as_ref();
    // Most clients write it as it is written here.
    known.len() == name.len() && (name == known || is_same_folded(name, known))
}

fn is_same_folded(name: &[u8], known: &[u8]) -> bool {
    name.iter().copied().map(folded).eq(known.iter().copied().map(folded))
}

/// A byte of a header name as it counts for a comparison: letters in lower case, and `-` for every
/// byte that is neither a letter nor a digit.
///
/// An application sees header names as variables of CGI (RFC 3875, section 4.1.18), and gateways,
/// PHP, WSGI and Rack differ in which bytes they turn into `_`: `X-User-Id`, `X_User_Id` and
/// `X.User.Id` may all be `HTTP_X_USER_ID`.
pub fn folded(byte: u8) -> u8 {
    match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    }
}

/// A header's value without the blanks and tabs around it, which are no part of it (RFC 9110,
/// section 5.5).
pub fn trim_blanks(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// What [`is_stripped`] says yes to, in lower case with `-`, in order: every header that may be
/// set for a user's identity, and the same names with `Service-`, also those that are never set.
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

/// How many headers name a user, at most.
pub const USER_HEADERS_LEN: usize = 18;

/// How many headers name a service, at most.
pub const SERVICE_HEADERS_LEN: usize = 11;

const LONGEST: usize = "openstack-service-system-scope".len();

/// The last five are the names of before 2013.
static USER_HEADERS: [(HeaderName, Field); USER_HEADERS_LEN] = [
    (HeaderName::new(c"X-User-Id", c"x-user-id"), Field::UserId),
    (HeaderName::new(c"X-User-Name", c"x-user-name"), Field::UserName),
    (HeaderName::new(c"X-User-Domain-Id", c"x-user-domain-id"), Field::UserDomainId),
    (HeaderName::new(c"X-User-Domain-Name", c"x-user-domain-name"), Field::UserDomainName),
    (HeaderName::new(c"X-Project-Id", c"x-project-id"), Field::ProjectId),
    (HeaderName::new(c"X-Project-Name", c"x-project-name"), Field::ProjectName),
    (HeaderName::new(c"X-Project-Domain-Id", c"x-project-domain-id"), Field::ProjectDomainId),
    (HeaderName::new(c"X-Project-Domain-Name", c"x-project-domain-name"), Field::ProjectDomainName),
    (HeaderName::new(c"X-Domain-Id", c"x-domain-id"), Field::DomainId),
    (HeaderName::new(c"X-Domain-Name", c"x-domain-name"), Field::DomainName),
    (HeaderName::new(c"OpenStack-System-Scope", c"openstack-system-scope"), Field::SystemScope),
    (HeaderName::new(c"X-Roles", c"x-roles"), Field::Roles),
    (HeaderName::new(c"X-Is-Admin-Project", c"x-is-admin-project"), Field::IsAdminProject),
    (HeaderName::new(c"X-User", c"x-user"), Field::UserName),
    (HeaderName::new(c"X-Role", c"x-role"), Field::Roles),
    (HeaderName::new(c"X-Tenant-Id", c"x-tenant-id"), Field::ProjectId),
    (HeaderName::new(c"X-Tenant-Name", c"x-tenant-name"), Field::ProjectName),
    (HeaderName::new(c"X-Tenant", c"x-tenant"), Field::ProjectName),
];

static SERVICE_HEADERS: [(HeaderName, Field); SERVICE_HEADERS_LEN] = [
    (HeaderName::new(c"X-Service-User-Id", c"x-service-user-id"), Field::UserId),
    (HeaderName::new(c"X-Service-User-Name", c"x-service-user-name"), Field::UserName),
    (
        HeaderName::new(c"X-Service-User-Domain-Id", c"x-service-user-domain-id"),
        Field::UserDomainId,
    ),
    (
        HeaderName::new(c"X-Service-User-Domain-Name", c"x-service-user-domain-name"),
        Field::UserDomainName,
    ),
    (HeaderName::new(c"X-Service-Project-Id", c"x-service-project-id"), Field::ProjectId),
    (HeaderName::new(c"X-Service-Project-Name", c"x-service-project-name"), Field::ProjectName),
    (
        HeaderName::new(c"X-Service-Project-Domain-Id", c"x-service-project-domain-id"),
        Field::ProjectDomainId,
    ),
    (
        HeaderName::new(c"X-Service-Project-Domain-Name", c"x-service-project-domain-name"),
        Field::ProjectDomainName,
    ),
    (HeaderName::new(c"X-Service-Domain-Id", c"x-service-domain-id"), Field::DomainId),
    (HeaderName::new(c"X-Service-Domain-Name", c"x-service-domain-name"), Field::DomainName),
    (HeaderName::new(c"X-Service-Roles", c"x-service-roles"), Field::Roles),
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
        let names = |headers: &[(HeaderName, Field)]| {
            headers.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        };
        for name in STRIPPED {
            assert!(is_stripped(name.as_bytes()), "{name}");
        }
        let user = [names(&USER_HEADERS), vec![IDENTITY_STATUS, SERVICE_CATALOG]].concat();
        let service = [names(&SERVICE_HEADERS), vec![SERVICE_IDENTITY_STATUS]].concat();
        for header in user.iter().chain(&service) {
            let lowercase = header.lowercase.to_str().unwrap();
            assert_eq!(header.as_str().to_ascii_lowercase(), lowercase);
            assert!(is_stripped(header.name.to_bytes()), "{header:?}");
        }
        for header in user {
            let (prefix, rest) = header.as_str().split_once('-').unwrap();
            assert!(is_stripped(format!("{prefix}-service-{rest}").as_bytes()), "{header:?}");
        }
    }

    #[test]
    fn blanks_and_tabs_around_a_value_are_no_part_of_it() {
        for (value, trimmed) in [
            ("", ""),
            (" ", ""),
            ("\t \t", ""),
            ("a", "a"),
            (" a", "a"),
            ("a\t", "a"),
            ("\t a \t b \t ", "a \t b"),
            ("\u{a0}a\u{b}", "\u{a0}a\u{b}"),
        ] {
            assert_eq!(trim_blanks(value.as_bytes()), trimmed.as_bytes(), "{value:?}");
        }
    }

    #[test]
    fn the_spelling_does_not_matter() {
        for name in ["X-Roles", "x-roles", "X_ROLES", "x_Roles", "X_Service-Project_Domain-NAME"] {
            assert!(is_stripped(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_byte_that_is_no_letter_and_no_digit_separates_words() {
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_alphanumeric()) {
            for name in ["x-user-id", "X-IDENTITY-STATUS", "openstack-system-scope"] {
                let name: Vec<_> =
                    name.bytes().map(|it| if it == b'-' { byte } else { it }).collect();
                assert!(is_stripped(&name), "{}", name.escape_ascii());
            }
        }
        for name in ["xauserbid", "x-user1id", "xxuser-id"] {
            assert!(!is_stripped(name.as_bytes()), "{name}");
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
        // A letter beyond ASCII is two bytes, and so two separators.
        assert!(!is_stripped("x-røles".as_bytes()));
    }
}
