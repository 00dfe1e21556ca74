//! Swift's container ACLs, as `swift.common.middleware.acl` cleans and reads them.

use serde::de::Deserializer;
use serde::Deserialize;

use super::path::AccountPath;
use super::referer;
use crate::json::{JsonError, Object};
use crate::text::{eq_ignore_case, unquote};

/// One of the two ACLs of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclKind {
    /// `X-Container-Read`.
    Read,
    /// `X-Container-Write`.
    Write,
}

/// Which ACL of the container counts for a request, as Swift's proxy controllers have it: one of
/// them opens objects, and the one for reading also a container's listing. What else is done to a
/// container, or to an account, belongs to its owner.
///
/// No ACL is for a `COPY`, nor for any method that Swift does not know. Swift's middleware makes
/// two requests of a `COPY`, one that reads here and one that writes there, and each must pass by
/// itself; the ACL of this container says nothing of the other.
pub fn acl_kind(method: &str, path: &AccountPath<'_>) -> Option<AclKind> {
    path.container?;
    match (method, path.object.is_some()) {
        ("GET" | "HEAD", _) => Some(AclKind::Read),
        ("DELETE" | "POST" | "PUT", true) => Some(AclKind::Write),
        _ => None,
    }
}

/// What a container ACL lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// In the order in which they apply.
    referrers: Vec<Referrers>,
    /// Projects and users, roles, and `.rlistings`; unquoted.
    groups: Vec<String>,
}

/// `.r:[-]HOST`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Referrers {
    is_denied: bool,
    /// `*`, a host's name, or the end of one from a dot on.
    host: String,
}

impl Acl {
    /// Reads the text of an ACL as Swift does that cleans it (`clean_acl`) before it is kept, and
    /// then parses it (`parse_acl`).
    pub fn parse(kind: AclKind, text: &str) -> Result<Self, AclError> {
        let mut acl = Self::default();
        for item in text.split(',').map(strip).filter(|item| !item.is_empty()) {
            let designated = item.split_once(':').map(|(name, value)| (strip(name), strip(value)));
            match designated.filter(|(name, _)| name.starts_with('.')) {
                Some((".r" | ".ref" | ".referer" | ".referrer", _)) if kind == AclKind::Write => {
                    return Err(AclError::Write(item.to_owned()));
                }
                Some((".r" | ".ref" | ".referer" | ".referrer", value)) => {
                    let referrers = Referrers::new(value);
                    acl.referrers.push(referrers.ok_or_else(|| AclError::Host(item.to_owned()))?);
                }
                Some(_) => return Err(AclError::Designator(item.to_owned())),
                None => {
                    let group = unquote(item.as_bytes());
                    acl.groups.push(String::from_utf8_lossy(&group).into_owned());
                }
            }
        }
        Ok(acl)
    }

    /// Appends another's entries behind its own.
    pub fn extend(&mut self, other: Self) {
        self.referrers.extend(other.referrers);
        self.groups.extend(other.groups);
    }

    /// Whether `PROJECT:USER` is on it, for one of these ids and names or `*`.
    pub(super) fn names(&self, projects: &[Option<&str>], users: &[Option<&str>]) -> bool {
        fn is_one(name: &str, of: &[Option<&str>]) -> bool {
            name == "*" || of.contains(&Some(name))
        }
        // Ids and names may have colons of their own.
        self.groups.iter().any(|group| {
            group.match_indices(':').any(|(colon, _)| {
                is_one(&group[..colon], projects) && is_one(&group[colon + 1..], users)
            })
        })
    }

    /// Whether a role is on it, whatever the case of its letters.
    pub(super) fn has_role(&self, role: &str) -> bool {
        self.groups.iter().any(|group| eq_ignore_case(group, role))
    }

    /// Whether a client that may read the objects may also list them.
    pub(super) fn has_listings(&self) -> bool {
        self.groups.iter().any(|group| group == ".rlistings")
    }

    /// Swift's `referrer_allowed`: the last entry that is for the referer's host decides. A
    /// referer that Python cannot make sense of is on none, not even on `*`.
    pub(super) fn allows_referrer(&self, referer: Option<&[u8]>) -> bool {
        if self.referrers.is_empty() {
            return false;
        }
        let Some(host) = referer::host(referer.unwrap_or_default()) else { return false };
        let decides = |it: &&Referrers| it.matches(&host);
        self.referrers.iter().rev().find(decides).is_some_and(|it| !it.is_denied)
    }
}

impl Referrers {
    /// Parses what follows `.r:`.
    fn new(value: &str) -> Option<Self> {
        let (is_denied, host) = match value.strip_prefix('-') {
            Some(host) => (true, strip(host)),
            None => (false, value),
        };
        let host = match host.strip_prefix('*') {
            Some(end) if !end.is_empty() => strip(end),
            _ => host,
        };
        if matches!(host, "" | ".") {
            return None;
        }
        // Swift writes it down anew and reads it again, and then the minus in `*-host` is the
        // first.
        let (is_denied, host) = match (is_denied, host.strip_prefix('-')) {
            (false, Some(host)) => (true, host),
            _ => (is_denied, host),
        };
        Some(Self { is_denied, host: host.to_owned() })
    }

    fn matches(&self, host: &str) -> bool {
        let is_any = !self.is_denied && self.host == "*";
        is_any || self.host == host || self.host.starts_with('.') && host.ends_with(&self.host)
    }
}

/// Without blanks around it, of ASCII as Python has them. Swift cleans an ACL while each character
/// stands for a byte of it: there the byte of no other blank is one, but for 0x85 and 0xA0.
fn strip(text: &str) -> &str {
    text.trim_matches(|it| matches!(it, '\t'..='\r' | '\x1c'..=' '))
}

/// Why a text is no ACL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AclError {
    /// It begins with a dot and has a colon, and is not of referrers.
    #[error("{0:?} begins with a dot but is not \".r:\"")]
    Designator(String),
    /// A referrer without a host.
    #[error("{0:?} names no host")]
    Host(String),
    /// A referrer where something is written.
    #[error("{0:?} is for a referrer, which may not write")]
    Write(String),
}

/// The ACLs of a container, in a file beside its data: `{"read": ACL, "write": ACL}`, each
/// optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerAcls {
    /// The text of `X-Container-Read`; `None` if the file has none.
    #[serde(default, deserialize_with = "text")]
    pub read: Option<String>,
    /// The text of `X-Container-Write`; `None` if the file has none.
    #[serde(default, deserialize_with = "text")]
    pub write: Option<String>,
}

impl ContainerAcls {
    /// Reads them. Another member, or a value that is no text, is an error: it might be an ACL
    /// that its author relies on.
    pub fn from_json(json: &[u8]) -> Result<Self, ContainerAclsError> {
        let Object(acls) = serde_json::from_slice(json).map_err(JsonError::from)?;
        Ok(acls)
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// Why a document does not hold a container's ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the document is not {{\"read\": ACL, \"write\": ACL}}: {0}")]
pub struct ContainerAclsError(#[from] JsonError);

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "/v1/AUTH_x/c/o";
    const LISTING: &str = "/v1/AUTH_x/c";

    #[test]
    fn an_acl_counts_for_the_operation_that_it_is_for() {
        let kind =
            |method, path: &str| acl_kind(method, &AccountPath::split(path.as_bytes()).unwrap());
        for method in ["GET", "HEAD"] {
            assert_eq!(kind(method, OBJECT), Some(AclKind::Read));
            assert_eq!(kind(method, LISTING), Some(AclKind::Read));
        }
        for method in ["PUT", "POST", "DELETE"] {
            assert_eq!(kind(method, OBJECT), Some(AclKind::Write));
            assert_eq!(kind(method, LISTING), None);
        }
        for method in ["COPY", "MOVE", "PATCH", "UPDATE", "REPLICATE", "OPTIONS", "get", ""] {
            assert_eq!(kind(method, OBJECT), None, "{method}");
            assert_eq!(kind(method, LISTING), None, "{method}");
        }
        for method in ["GET", "PUT", "DELETE"] {
            assert_eq!(kind(method, "/v1/AUTH_x/"), None);
            assert_eq!(kind(method, "/v1"), None);
        }
        assert_eq!(kind("PUT", "/v1/AUTH_x/c/"), None);
    }

    #[test]
    fn an_acl_is_cleaned() {
        let parse = |text: &str| Acl::parse(AclKind::Read, text);
        for (messy, clean) in [
            ("bob, sue", "bob,sue"),
            (" bob ,\x0b\x1c, ,sue,", "bob,sue"),
            (".referrer : *", ".r:*"),
            (".referer:a,.ref:b", ".r:a,.r:b"),
            (".ref: - *.example.com", ".r:-.example.com"),
            (".r:*, .rlistings", ".r:*,.rlistings"),
            ("a%2Cb", "a%2Cb"),
        ] {
            assert_eq!(parse(messy).unwrap(), parse(clean).unwrap(), "{messy}");
            assert_ne!(parse(messy).unwrap(), Acl::default());
        }
        for nothing in ["", " ", ",", " , \t"] {
            assert_eq!(parse(nothing).unwrap(), Acl::default(), "{nothing}");
        }
        // What is a blank in Unicode only is part of a name.
        for blank in ["\u{85}", "\u{a0}", "\u{2003}", "\u{3000}"] {
            let acl = parse(&format!("{blank}.r:*,{blank}member")).unwrap();
            assert!(!acl.allows_referrer(None) && !acl.has_role("member"), "{blank:?}");
        }
        // Neither is of referrers.
        for group in [".r", ".R", ".rlistings", "r:*", ":.r:x", "a:.r"] {
            assert!(!parse(group).unwrap().has_listings() || group == ".rlistings");
            assert!(Acl::parse(AclKind::Write, group).is_ok(), "{group}");
        }
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let parse = |text: &str| Acl::parse(AclKind::Read, text).map(drop);
        for text in [".r:", ".r:-", ".r:.", ".r:-.", ".r:*.", ".r: - ", ".r:-* ."] {
            let refused = parse(&format!("a, {text}, b"));
            assert_eq!(refused, Err(AclError::Host(text.trim().into())));
        }
        for text in [".R:*", ".rr:*", ".rlistings:*", ".:x", ".x:y"] {
            assert_eq!(parse(text), Err(AclError::Designator(text.into())));
        }
        for text in [".r:*", ".ref:-x", ".referer:"] {
            let refused = Acl::parse(AclKind::Write, &format!("a,{text}"));
            assert_eq!(refused, Err(AclError::Write(text.into())));
        }
        assert_eq!(
            parse(".x:\n").unwrap_err().to_string(),
            "\".x:\" begins with a dot but is not \".r:\""
        );
    }

    #[test]
    fn acls_are_read_one_behind_the_other() {
        let parse = |text| Acl::parse(AclKind::Read, text).unwrap();
        let mut acl = parse(".r:*,a");
        acl.extend(parse(".r:-x,b"));
        assert_eq!(acl, parse(".r:*,a,.r:-x,b"));
        assert_ne!(acl, parse(".r:-x,b,.r:*,a"));
    }

    #[test]
    fn the_acls_of_a_container_are_read() {
        let read = |json: &str| ContainerAcls::from_json(json.as_bytes());
        let own = |text: &str| Some(text.to_owned());
        for (json, read_acl, write_acl) in [
            ("{}", None, None),
            (r#"{"read": ".r:*"}"#, own(".r:*"), None),
            (r#" {"write": "a:b", "read": ""} "#, own(""), own("a:b")),
        ] {
            assert_eq!(
                read(json),
                Ok(ContainerAcls { read: read_acl, write: write_acl }),
                "{json}"
            );
        }
        for json in [
            "",
            "null",
            "[]",
            r#"[".r:*", "a:b"]"#,
            r#"".r:*""#,
            r#"{"Read": ".r:*"}"#,
            r#"{"read": null}"#,
            r#"{"read": [".r:*"]}"#,
            r#"{"read": "a", "read": "b"}"#,
            r#"{"read": "a"} x"#,
            r#"{"read": "a", "owner": "b"}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
