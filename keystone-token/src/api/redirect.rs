//! Answers that are not Keystone's own: redirects, of which discovery follows some, and 404s of
//! something on the way.

use std::borrow::Cow;

use thiserror::Error;

use super::request::{Kind, Request, Subject};
use super::{is_error_document, split_base_path, JSON};

/// An answer in which Keystone says nothing about what was asked. Another endpoint may lead to it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ForeignAnswer {
    /// A 404 that Keystone has not written.
    #[error("status 404 without an error document of Keystone")]
    NotFound,
    /// A redirect.
    #[error("redirect with status {status}{} is not followed", .location.as_deref().map(quoted).unwrap_or_default())]
    Redirect {
        /// From 300 to 399.
        status: u16,
        /// Its `Location`, without what is secret.
        location: Option<String>,
    },
}

fn quoted(location: &str) -> String {
    format!(" to \"{location}\"")
}

impl ForeignAnswer {
    /// An error if the answer to `request` is one, by its status, its `Location` and its body.
    pub fn check(
        request: &Request,
        status: u16,
        location: Option<&str>,
        body: &[u8],
    ) -> Result<(), Self> {
        match status {
            404 if !is_error_document(body) => Err(Self::NotFound),
            300..=399 => Err(Self::redirect(request, status, location)),
            _ => Ok(()),
        }
    }

    /// A redirect as the answer to `request`.
    pub fn redirect(request: &Request, status: u16, location: Option<&str>) -> Self {
        Self::Redirect { status, location: location.map(|it| printable_location(it, request)) }
    }
}

/// Whether an answer to a request that an HTTP proxy forwards is the proxy's own, as far as can be
/// told: the proxy refuses, or does not reach the server, and there is no error document of Keystone.
pub fn is_proxy_answer(status: u16, body: &[u8]) -> bool {
    matches!(status, 403 | 407 | 502..=504) && !is_error_document(body)
}

/// A request for the versions, and the redirects that it follows. As in keystoneauth, no other
/// request follows any. Unlike there, only redirects to the same scheme, host and port are
/// followed.
#[derive(Clone, Debug)]
pub struct Discovery {
    https: bool,
    /// As in the `Host` header.
    authority: String,
    /// The targets so far; never empty, none twice.
    targets: Vec<String>,
}

impl Discovery {
    /// Begins with a request like [`discovery`](super::discovery), to the server of that scheme and
    /// authority (host and port).
    pub fn new(https: bool, authority: &str, first: &Request) -> Self {
        Self { https, authority: authority.to_owned(), targets: vec![first.path.clone()] }
    }

    /// What to ask now.
    pub fn request(&self) -> Request {
        Request::get(Kind::Versions, self.target().to_owned(), JSON)
    }

    /// Whether an answer redirects to a target that is to be asked next.
    pub fn follow(&mut self, status: u16, location: Option<&str>) -> bool {
        let is_redirect = matches!(status, 301 | 302 | 303 | 307 | 308);
        let Some(location) = location.filter(|_| is_redirect) else { return false };
        match self.resolve(location) {
            Some(next) if self.targets.len() <= MAX_REDIRECTS && !self.targets.contains(&next) => {
                self.targets.push(next);
                true
            }
            _ => false,
        }
    }

    /// The path below which the versions live, where a redirect has told: it led to a version, or
    /// to a directory.
    pub fn base(&self) -> Option<&str> {
        let path = self.target().split('?').next().filter(|_| self.targets.len() > 1)?;
        match split_base_path(path) {
            (base, Some(_)) => Some(base),
            (base, None) if path.ends_with('/') => Some(base),
            _ => None,
        }
    }

    fn target(&self) -> &str {
        self.targets.last().map_or("/", String::as_str)
    }

    /// The target that a `Location` (RFC 9110, section 10.2.2) means, if it is on the same server.
    fn resolve(&self, location: &str) -> Option<String> {
        let location = location.trim_matches([' ', '\t']).split('#').next()?;
        if location.is_empty() || !location.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let rest = match split_scheme(location) {
            Some((scheme, rest)) => {
                let same = if self.https { "https" } else { "http" };
                // `http:path` is no reference that anybody means.
                rest.strip_prefix("//").filter(|_| scheme.eq_ignore_ascii_case(same))?
            }
            None => match location.strip_prefix("//") {
                Some(rest) => rest,
                None => return Some(self.resolve_path(location)),
            },
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let is_same = self
            .without_default_port(authority)
            .eq_ignore_ascii_case(self.without_default_port(&self.authority));
        is_same.then(|| self.resolve_path(if path.starts_with('/') { path } else { "/" }))
    }

    fn without_default_port<'a>(&self, authority: &'a str) -> &'a str {
        let port = if self.https { ":443" } else { ":80" };
        authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority)
    }

    /// The target of a reference without scheme and authority (RFC 3986, section 5.2).
    fn resolve_path(&self, reference: &str) -> String {
        let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
        let current = self.target().split('?').next().unwrap_or("/");
        let path = match path {
            "" => Cow::Borrowed(current),
            path if path.starts_with('/') => Cow::Borrowed(path),
            path => {
                let directory = current.rsplit_once('/').map_or("", |(directory, _)| directory);
                Cow::Owned(format!("{directory}/{path}"))
            }
        };
        format!("{}{query}", without_dot_segments(&path))
    }
}

/// The scheme of a reference that has one, and what follows the colon.
fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

/// RFC 3986, section 5.2.4, for a path that starts with `/`.
fn without_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_with_slash = false;
    for segment in path.split('/').skip(1) {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let path = format!("/{}", segments.join("/"));
    match ends_with_slash && !path.ends_with('/') {
        true => path + "/",
        false => path,
    }
}

/// A `Location` for a log line, as the answer to `request`: without user and password, without a
/// query and a fragment, and without what may be a token.
fn printable_location(location: &str, request: &Request) -> String {
    let end = location.find(['?', '#']).unwrap_or(location.len());
    let (shown, rest) = location.split_at(end);
    let (scheme, path) = match shown.split_once("//") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            (format!("{scheme}//{host}"), path)
        }
        None => (String::new(), shown),
    };
    // The last segment of such a request is the token.
    let has_token = matches!(request.subject, Some(Subject::Path(_)));
    let last = path.split('/').count().saturating_sub(1);
    let is_shown = |at: usize, segment: &str| {
        segment.len() <= LONGEST_SEGMENT && !(has_token && at == last && !segment.is_empty())
    };
    let segments: Vec<&str> = path
        .split('/')
        .enumerate()
        .map(|(at, segment)| if is_shown(at, segment) { segment } else { "..." })
        .collect();
    let text = format!("{scheme}{}", segments.join("/"));
    let mut text: String = text.chars().filter(char::is_ascii_graphic).take(LONGEST).collect();
    text = text.replace('"', "%22");
    if let Some(mark) = rest.chars().next() {
        text.push(mark);
        text.push_str("...");
    }
    text
}

/// As keystoneauth's session has it.
const MAX_REDIRECTS: usize = 30;

/// A longer segment of a path is not logged: the shortest tokens have 32 characters.
const LONGEST_SEGMENT: usize = 30;

/// What is logged of a `Location` at most.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{discovery, validate, ApiVersion, Validation};

    fn walk(base: &str) -> Discovery {
        Discovery::new(false, "cloud:5000", &discovery(base))
    }

    #[test]
    fn a_redirect_to_the_same_server_is_followed() {
        for (location, target) in [
            ("/v3/", "/v3/"),
            ("http://cloud:5000/v3/", "/v3/"),
            ("HTTP://CLOUD:5000/v3/?a=b#c", "/v3/?a=b"),
            ("//cloud:5000/v3", "/v3"),
            ("http://cloud:5000", "/"),
            ("http://cloud:5000?x", "/"),
            ("v3/", "/identity/v3/"),
            ("./v3/", "/identity/v3/"),
            ("../v3", "/v3"),
            ("../../..", "/"),
            ("/a/b/../c/./d/..", "/a/c/"),
            ("?x=y", "/identity/?x=y"),
            (" /v3/\t", "/v3/"),
            ("/a:b", "/a:b"),
        ] {
            for status in [301, 302, 303, 307, 308] {
                let mut walk = walk("/identity");
                assert!(walk.follow(status, Some(location)), "{status} {location}");
                assert_eq!(walk.request().target(), target, "{location}");
            }
        }
        let mut https = Discovery::new(true, "cloud", &discovery(""));
        assert!(https.follow(301, Some("https://cloud:443/v3/")));
        let mut address = Discovery::new(false, "[::1]:80", &discovery(""));
        assert!(address.follow(301, Some("http://[::1]/v3/")));
    }

    #[test]
    fn others_are_not() {
        for location in [
            "https://cloud:5000/v3/",
            "http://cloud/v3/",
            "http://cloud:5001/v3/",
            "http://other:5000/v3/",
            "//other/v3/",
            "http://cloud:5000@other/v3/",
            "http://user:secret@cloud:5000/v3/",
            "http:/v3/",
            "ftp://cloud:5000/",
            "javascript:alert(1)",
            "",
            "#x",
            "/a b",
            "/\u{e9}",
            "/identity/",
        ] {
            assert!(!walk("/identity").follow(302, Some(location)), "{location}");
        }
        for status in [200, 300, 304, 305, 306, 309, 404] {
            assert!(!walk("").follow(status, Some("/v3/")), "{status}");
        }
        assert!(!walk("").follow(302, None));
    }

    #[test]
    fn a_proxy_is_told_from_keystone() {
        let error = br#"{"error": {"message": "m", "code": 403, "title": "Forbidden"}}"#;
        for status in [403, 407, 502, 503, 504] {
            assert!(is_proxy_answer(status, b"<html>"));
            assert!(!is_proxy_answer(status, error));
        }
        for status in [200, 302, 401, 404, 500] {
            assert!(!is_proxy_answer(status, b"<html>"));
        }
    }

    #[test]
    fn there_is_an_end() {
        let mut circle = walk("");
        assert!(circle.follow(302, Some("/a")));
        assert!(!circle.follow(302, Some("/")));
        let mut endless = walk("");
        let followed = (0..100).take_while(|n| endless.follow(302, Some(&format!("/{n}"))));
        assert_eq!(followed.count(), 30);
    }

    #[test]
    fn a_redirect_tells_where_the_versions_live() {
        for (first, location, base) in [
            ("", "/v3/", Some("")),
            ("", "/v3", Some("")),
            ("", "/identity/v3/", Some("/identity")),
            ("", "/identity/", Some("/identity")),
            ("/identity", "/identity/v2.0/?a", Some("/identity")),
            ("/identity", "/other", None),
            ("", "/versions.json", None),
        ] {
            let mut walk = walk(first);
            assert_eq!(walk.base(), None);
            assert!(walk.follow(301, Some(location)));
            assert_eq!(walk.base(), base, "{location}");
        }
    }

    #[test]
    fn a_location_in_a_log_holds_no_secret() {
        let token = "0123456789abcdef0123456789abcdef";
        let of = |version| validate("", version, token, Validation::default()).unwrap();
        let (v2, v3) = (of(ApiVersion::V2), of(ApiVersion::V3));
        for (location, shown) in [
            ("https://cloud/v3/auth/tokens", "https://cloud/v3/auth/tokens"),
            ("/v3/auth/tokens/", "/v3/auth/tokens/"),
            ("https://user:pass@cloud/v3?token=x#y", "https://cloud/v3?..."),
            ("/v3#x", "/v3#..."),
            ("https://cloud", "https://cloud"),
            (&format!("/v3/{token}/x"), "/v3/.../x"),
            ("/a\r\n\u{1b}b\u{e9}\"c", "/ab%22c"),
        ] {
            assert_eq!(printable_location(location, &v3), shown, "{location}");
        }
        for location in [format!("https://cloud/v2.0/tokens/{token}"), "/v2.0/tokens/abc".into()] {
            let shown = printable_location(&location, &v2);
            assert!(shown.ends_with("/v2.0/tokens/..."), "{shown}");
        }
        assert!(printable_location(&"/a".repeat(1000), &v3).len() <= 203);
    }
}
