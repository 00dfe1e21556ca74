//! The tokens of a request: where its location takes them from (`keystone_token`).
//!
//! Tokens are taken in the phase that judges them, so that what another module has set before
//! counts, and again in each location that the request is redirected to: what counts as a token in
//! one need not count in the next. What has been withheld from the upstream of one location
//! ([`removal`]) still counts in the next.

mod removal;
pub mod removed;

use std::fmt;
use std::ptr::NonNull;

use keystone_conf::TokenSource;
use keystone_gateway::carrier::{bearer, Pairs};
use keystone_token::headers::{
    is_named, token_header, trim_blanks, AUTH_TOKEN, SERVICE_TOKEN, STORAGE_TOKEN, TOKEN_HEADERS,
};

use self::removed::Removed;
use crate::conf::directive::Value;
use crate::conf::location::LocationConf;
use crate::request::Request;

/// The tokens of a request, without blanks and tabs around them; none is empty. They lie in the
/// request's memory.
#[derive(Clone, Copy, Default)]
pub struct Tokens {
    /// The first value of `keystone_token` that is not empty.
    pub user: Option<NonNull<[u8]>>,
    /// The value of `X-Service-Token`.
    pub service: Option<NonNull<[u8]>>,
    /// The index of the value that the user token is.
    pub source: Option<usize>,
    /// Whether the request's own `X-Auth-Token` says what an upstream is to find there.
    pub is_in_place: bool,
}

/// What may come once came twice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Duplicate {
    /// An argument of the query.
    Argument(String),
    /// A cookie.
    Cookie(String),
    /// A header.
    Header(String),
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = match self {
            Self::Argument(name) => ("argument", name),
            Self::Cookie(name) => ("cookie", name),
            Self::Header(name) => ("header", name),
        };
        write!(f, "{what} \"{name}\" came more than once")
    }
}

impl Request {
    /// Finds the tokens as the location asks for them. Blanks and tabs around them are no part of a
    /// header's value (RFC 9110, section 5.5). nginx removes only some of them, so they are removed
    /// from the request: what is validated is what the upstream gets. `None` where nginx has no
    /// memory.
    pub fn take_tokens(
        &self,
        location: &LocationConf,
        removed: &Removed,
    ) -> Option<Result<Tokens, Duplicate>> {
        match location.token_sources() {
            None => Some(self.take_usual(removed)),
            Some(sources) => self.take_from(sources, removed),
        }
    }

    /// `X-Auth-Token`, else `X-Storage-Token`, in one look at the headers.
    fn take_usual(&self, removed: &Removed) -> Result<Tokens, Duplicate> {
        let mut found: [Option<&[u8]>; TOKEN_HEADERS.len()] = Default::default();
        let mut duplicate = None;
        for (index, value) in self.trim_headers(token_header) {
            if found[index].replace(value).is_some() {
                duplicate.get_or_insert(TOKEN_HEADERS[index]);
            }
        }
        if let Some(name) = duplicate {
            return Err(Duplicate::Header(name.to_owned()));
        }
        let is_here = found[0].is_some();
        for (slot, name) in found.iter_mut().zip(TOKEN_HEADERS) {
            if slot.is_none() && !removed.headers.is_empty() {
                *slot = once(removed.headers_named(name), || Duplicate::Header(name.to_owned()))?;
            }
        }
        let [auth, storage, service] = found;
        // An empty X-Auth-Token wins too: that is what auth_token does.
        let user = token(auth.or(storage));
        let source = user.map(|_| usize::from(auth.is_none()));
        let is_in_place = is_here || user.is_none();
        Ok(Tokens { user, service: token(service), source, is_in_place })
    }

    fn take_from(
        &self,
        sources: &[TokenSource<Value>],
        removed: &Removed,
    ) -> Option<Result<Tokens, Duplicate>> {
        let mut tokens = Tokens::default();
        let mut take = |index: usize, found: Option<&[u8]>| {
            if let (None, Some(found)) = (tokens.user, token(found)) {
                (tokens.user, tokens.source) = (Some(found), Some(index));
            }
            tokens.user.is_some()
        };
        let mut has_auth_header = false;
        let mut is_found = false;
        for (index, source) in sources.iter().enumerate() {
            if let TokenSource::Value(value) = source {
                if !is_found {
                    // The memory of a variable may be another module's.
                    let value = self.copy_bytes(trim_blanks(self.evaluate(value)?))?;
                    is_found = take(index, Some(value.as_bytes()));
                }
                continue;
            }
            let found = match self.part(source, removed) {
                Ok(found) => found,
                Err(duplicate) => return Some(Err(duplicate)),
            };
            // As without `keystone_token`: an empty one wins too.
            let is_beaten = has_auth_header && is_header(source, STORAGE_TOKEN);
            is_found = take(index, found.filter(|_| !is_beaten));
            has_auth_header |= found.is_some() && is_header(source, AUTH_TOKEN);
        }
        tokens.service = match self.header(SERVICE_TOKEN, removed) {
            Ok(found) => token(found),
            Err(duplicate) => return Some(Err(duplicate)),
        };
        let source = tokens.source.and_then(|index| sources.get(index));
        tokens.is_in_place = match source {
            Some(source) => is_header(source, AUTH_TOKEN) && self.has_header(AUTH_TOKEN),
            // Nobody has looked at an X-Auth-Token that is none of the values.
            None => {
                let is_auth = |source| is_header(source, AUTH_TOKEN);
                sources.iter().any(is_auth) || !self.has_header(AUTH_TOKEN)
            }
        };
        Some(Ok(tokens))
    }

    /// The part of the request that a source shows; it may come once.
    fn part<'r>(
        &self,
        source: &TokenSource<Value>,
        removed: &Removed,
    ) -> Result<Option<&'r [u8]>, Duplicate> {
        match source {
            TokenSource::Header(name) => self.header(name, removed),
            TokenSource::Bearer => Ok(self.header(AUTHORIZATION, removed)?.and_then(bearer)),
            TokenSource::Cookie(name) => {
                let twice = || Duplicate::Cookie(name.clone());
                let of = |list: &'r [u8]| {
                    let pairs = Pairs::Cookies.split(list);
                    pairs.filter_map(|pair| Pairs::Cookies.value_of(name, pair))
                };
                let here = self.headers().filter(|(name, _)| is_named(name, COOKIE));
                match once(here.flat_map(|(_, list)| of(list)), twice)? {
                    None => once(removed.headers_named(COOKIE).flat_map(of), twice),
                    found => Ok(found),
                }
            }
            TokenSource::Argument(name) => {
                let twice = || Duplicate::Argument(name.clone());
                let value = |pair: &'r [u8]| Pairs::Arguments.value_of(name, pair);
                match once(Pairs::Arguments.split(self.arguments()).filter_map(value), twice)? {
                    None => once(removed.arguments().filter_map(value), twice),
                    found => Ok(found),
                }
            }
            // What it is made of is not known.
            TokenSource::Value(_) => Ok(None),
        }
    }

    /// The value of a header that may come once, also of one that was removed.
    fn header<'r>(&self, name: &str, removed: &Removed) -> Result<Option<&'r [u8]>, Duplicate> {
        let twice = || Duplicate::Header(name.to_owned());
        let here = self.trim_headers(|found| is_named(found, name).then_some(()));
        match once(here.map(|((), value)| value), twice)? {
            None => once(removed.headers_named(name), twice),
            found => Ok(found),
        }
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers().any(|(found, _)| is_named(found, name))
    }

    /// `$keystone_bearer`.
    pub fn bearer(&self) -> Option<&[u8]> {
        let named = self.headers().filter(|(name, _)| is_named(name, AUTHORIZATION));
        let value = once(named.map(|(_, value)| value), || ()).ok().flatten();
        value.and_then(bearer)
    }
}

/// The one value; an error of two.
fn once<T, E>(
    mut values: impl Iterator<Item = T>,
    twice: impl FnOnce() -> E,
) -> Result<Option<T>, E> {
    let first = values.next();
    match values.next() {
        Some(_) => Err(twice()),
        None => Ok(first),
    }
}

fn token(value: Option<&[u8]>) -> Option<NonNull<[u8]>> {
    value.filter(|token| !token.is_empty()).map(NonNull::from)
}

/// Whether a source is the header of this name.
fn is_header(source: &TokenSource<Value>, name: &str) -> bool {
    matches!(source, TokenSource::Header(known) if is_named(known.as_bytes(), name))
}

/// The header of Bearer tokens, and of the credentials of other schemes.
pub const AUTHORIZATION: &str = "Authorization";

/// The header with all cookies of a request, of which one may be the token.
pub const COOKIE: &str = "Cookie";

/// The names of the request headers that the user token of a location depends on: those of the
/// values up to the one that it is, or of all where there is none. `None` where they cannot be
/// told.
pub fn headers_of(location: &LocationConf, source: Option<usize>) -> Option<Vec<String>> {
    let Some(sources) = location.token_sources() else {
        let from_storage = source.is_some_and(|index| index > 0);
        let names = [Some(AUTH_TOKEN), from_storage.then_some(STORAGE_TOKEN)];
        return Some(names.into_iter().flatten().map(str::to_owned).collect());
    };
    let count = source.map_or(sources.len(), |index| index + 1);
    let mut names = Vec::new();
    for source in sources.iter().take(count) {
        match source {
            // It is a part of the URI, by which caches tell responses apart already.
            TokenSource::Argument(_) => {}
            TokenSource::Bearer => names.push(AUTHORIZATION.to_owned()),
            TokenSource::Cookie(_) => names.push(COOKIE.to_owned()),
            TokenSource::Header(name) => names.push(spelling(name)),
            TokenSource::Value(_) => return None,
        }
    }
    names.dedup();
    Some(names)
}

/// A header's name with capitals.
fn spelling(name: &str) -> String {
    let mut is_first = true;
    let spell = |c: char| {
        let spelt = if is_first { c.to_ascii_uppercase() } else { c };
        is_first = c == '-';
        spelt
    };
    name.chars().map(spell).collect()
}

/// Whether two locations take the user token from the same values.
pub fn take_alike(one: &LocationConf, other: &LocationConf) -> bool {
    match (one.token_sources(), other.token_sources()) {
        (None, None) => true,
        (Some(one), Some(other)) => std::rc::Rc::ptr_eq(one, other),
        _ => false,
    }
}
