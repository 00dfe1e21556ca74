//! What becomes of the tokens on the way to an upstream.
//!
//! With `keystone_forward_token off` it finds none: not in the headers that carry tokens, not where
//! `keystone_token` looks for them. With `on` it finds the user token in `X-Auth-Token`, wherever it
//! came from, and the request is otherwise as it was.

use keystone_conf::TokenSource;
use keystone_gateway::carrier::{is_bearer, Pairs};
use keystone_token::headers::{is_named, is_token_header, AUTH_TOKEN};
use memchr::memmem::Finder;
use nginx_sys::ngx_table_elt_t;

use super::removed::{is_own, own_header, Removed};
use super::{AUTHORIZATION, COOKIE};
use crate::conf::directive::Value;
use crate::conf::location::LocationConf;
use crate::context::Context;
use crate::request::Request;
use crate::string::string;

impl Request {
    /// Removes the tokens that the location does not forward. `None` where nginx has no memory;
    /// else whether there were any.
    pub fn withhold_tokens(
        &self,
        location: &LocationConf,
        context: Option<&Context>,
    ) -> Option<bool> {
        let withheld = Withheld {
            sources: location.token_sources().map(|sources| &sources[..]).unwrap_or_default(),
            made: context.and_then(Context::made_token).map(Finder::new),
        };
        let mut removed = Removed::default();
        self.withhold_headers(&withheld, &mut removed)?;
        if withheld.cuts(Pairs::Arguments) {
            self.cut_arguments(&withheld, &mut removed)?;
        }
        let has_removed = !removed.headers.is_empty() || !removed.arguments.is_empty();
        if let Some(context) = context {
            let mut all = context.removed.borrow_mut();
            all.is_withheld |= self.is_main();
            all.add_headers(removed.headers);
            all.arguments.extend(removed.arguments);
            // For responses that vary by `X-Auth-Token`, which this upstream does not get.
            let elsewhere = context.token_from_elsewhere().filter(|_| self.is_main());
            if let Some(token) = elsewhere {
                all.add_headers([own_header(token)]);
            }
        }
        Some(has_removed)
    }

    fn withhold_headers(&self, withheld: &Withheld<'_>, removed: &mut Removed) -> Option<()> {
        let is_cookie = |header: &ngx_table_elt_t| is_named(header.key.as_bytes(), COOKIE);
        let is_cut = |pair: &[u8]| withheld.is_cut(Pairs::Cookies, pair);
        let holds_cut = |header: &ngx_table_elt_t| {
            is_cookie(header) && Pairs::Cookies.split(header.value.as_bytes()).any(is_cut)
        };
        let cuts_cookies = withheld.cuts(Pairs::Cookies) && self.header_elements().any(holds_cut);
        let mut cookies = Vec::new();
        for header in self.header_elements() {
            if withheld.is_token(header) {
                removed.headers.push(*header);
            } else if cuts_cookies && is_cookie(header) {
                let list = header.value.as_bytes();
                for pair in Pairs::Cookies.split(list).filter(|pair| is_cut(pair)) {
                    removed.headers.push(ngx_table_elt_t { value: string(pair), ..*header });
                }
                match Pairs::Cookies.without(list, is_cut) {
                    None => cookies.push(*header),
                    Some(rest) if rest.is_empty() => {}
                    Some(rest) => {
                        let value = self.copy_bytes(&rest)?;
                        cookies.push(ngx_table_elt_t { value, ..*header });
                    }
                }
            }
        }
        if removed.headers.is_empty() {
            return Some(());
        }
        // Where one cookie is cut, all are copied: a subrequest has the headers of its parent.
        let stays = |header: &ngx_table_elt_t| {
            !(withheld.is_token(header) || cuts_cookies && is_cookie(header))
        };
        self.replace_headers(stays, &cookies)?;
        match cuts_cookies {
            true => self.find_cookies(),
            false => Some(()),
        }
    }

    /// Removes arguments from what `proxy_pass` sends, with a URI of its own or without.
    fn cut_arguments(&self, withheld: &Withheld<'_>, removed: &mut Removed) -> Option<()> {
        let is_cut = |pair: &[u8]| withheld.is_cut(Pairs::Arguments, pair);
        let arguments = self.arguments();
        if let Some(rest) = Pairs::Arguments.without(arguments, is_cut) {
            let cut = Pairs::Arguments.split(arguments).filter(|pair| is_cut(pair));
            removed.arguments.extend(cut.map(string));
            self.set_arguments(self.copy_bytes(&rest)?);
        }
        let unparsed = self.unparsed_uri();
        let Some(at) = unparsed.iter().position(|byte| *byte == b'?') else { return Some(()) };
        if let Some(rest) = Pairs::Arguments.without(&unparsed[at + 1..], is_cut) {
            let path = &unparsed[..at];
            let uri = match rest.is_empty() {
                true => path.to_vec(),
                false => [path, b"?", &rest].concat(),
            };
            self.set_unparsed_uri(self.copy_bytes(&uri)?);
        }
        Some(())
    }

    /// Hides arguments that are tokens from logs: nginx writes the request line into all lines about
    /// a request. `None` where nginx has no memory.
    pub fn mask_request_line(&self, location: &LocationConf) -> Option<()> {
        let sources = location.token_sources().map(|sources| &sources[..]).unwrap_or_default();
        let withheld = Withheld { sources, made: None };
        if !withheld.cuts(Pairs::Arguments) {
            return Some(());
        }
        let line = self.request_line();
        let Some(at) = line.iter().position(|byte| *byte == b'?') else { return Some(()) };
        let end = line.iter().rposition(|byte| *byte == b' ').filter(|end| *end > at);
        let (query, rest) = line[at + 1..].split_at(end.map_or(line.len(), |end| end) - at - 1);
        let is_masked = |pair: &&[u8]| withheld.is_cut(Pairs::Arguments, pair);
        if !Pairs::Arguments.split(query).any(|pair| is_masked(&pair)) {
            return Some(());
        }
        let masked = Pairs::Arguments.split(query).map(|pair| match is_masked(&pair) {
            true => [pair.split(|byte| *byte == b'=').next().unwrap_or_default(), MASK].concat(),
            false => pair.to_vec(),
        });
        let query = masked.collect::<Vec<_>>().join(&b'&');
        self.set_request_line(self.copy_bytes(&[&line[..=at], &query, rest].concat())?);
        Some(())
    }

    /// Lets the upstream find the user token in `X-Auth-Token`, and no other one there. What was
    /// withheld in a location before is not given to this one's. `None` where nginx has no memory.
    pub fn put_token(&self, context: &Context, location: &LocationConf) -> Option<()> {
        if context.is_token_in_place() {
            return Some(());
        }
        let own = context.token_from_elsewhere().map(own_header);
        if !location.forwards_token() || context.removed.borrow().is_withheld {
            // For responses that vary by it, as where the location itself withholds it.
            context.removed.borrow_mut().add_headers(own);
            return Some(());
        }
        let is_auth = |header: &ngx_table_elt_t| is_named(header.key.as_bytes(), AUTH_TOKEN);
        let others = self.header_elements().filter(|header| is_auth(header)).copied();
        context.removed.borrow_mut().add_headers(others);
        self.replace_headers(|header| !is_auth(header), own.as_slice())
    }

    /// Removes the `X-Auth-Token` that the module has set; `None` where nginx has no memory.
    pub fn strip_own_token(&self) -> Option<()> {
        match self.header_elements().any(is_own) {
            true => self.replace_headers(|header| !is_own(header), &[]),
            false => Some(()),
        }
    }
}

/// What a location withholds.
struct Withheld<'a> {
    sources: &'a [TokenSource<Value>],
    /// The token of a value of which it is not known what it is made of: all that holds it is
    /// withheld.
    made: Option<Finder<'a>>,
}

impl Withheld<'_> {
    fn is_token(&self, header: &ngx_table_elt_t) -> bool {
        let (name, value) = (header.key.as_bytes(), header.value.as_bytes());
        let is_taken = |source: &TokenSource<Value>| match source {
            TokenSource::Bearer => is_named(name, AUTHORIZATION) && is_bearer(value),
            TokenSource::Header(known) => is_named(name, known),
            TokenSource::Argument(_) | TokenSource::Cookie(_) | TokenSource::Value(_) => false,
        };
        is_token_header(name)
            || self.sources.iter().any(is_taken)
            || !is_named(name, COOKIE) && self.holds_made(value)
    }

    fn is_cut(&self, pairs: Pairs, pair: &[u8]) -> bool {
        let is_taken = |source: &TokenSource<Value>| match (pairs, source) {
            (Pairs::Arguments, TokenSource::Argument(name))
            | (Pairs::Cookies, TokenSource::Cookie(name)) => pairs.value_of(name, pair).is_some(),
            _ => false,
        };
        self.sources.iter().any(is_taken) || self.holds_made(pair)
    }

    fn cuts(&self, pairs: Pairs) -> bool {
        let is_one = |source: &TokenSource<Value>| match source {
            TokenSource::Argument(_) => pairs == Pairs::Arguments,
            TokenSource::Cookie(_) => pairs == Pairs::Cookies,
            _ => false,
        };
        self.made.is_some() || self.sources.iter().any(is_one)
    }

    fn holds_made(&self, text: &[u8]) -> bool {
        self.made.as_ref().is_some_and(|token| token.find(text).is_some())
    }
}

/// What logs show in the place of a token.
const MASK: &[u8] = b"=***";
