//! The tokens that were removed from a request.

use std::collections::HashSet;

use keystone_token::headers::{is_named, HeaderName, FORWARDED_TOKEN};
use nginx_sys::{ngx_str_t, ngx_table_elt_t};

use crate::headers_in::{element, is_made};
use crate::string::bytes;

/// What was removed from a request: a later location may take its token from it, and nginx's caches
/// tell variants apart by it.
#[derive(Default)]
pub struct Removed {
    /// Headers. Of `Cookie`, each has one cookie.
    pub headers: Vec<ngx_table_elt_t>,
    pub(super) arguments: Vec<ngx_str_t>,
    /// Whether a location of the request has withheld its tokens.
    pub(super) is_withheld: bool,
}

impl Removed {
    /// The values of the headers of this name that the client has sent.
    pub fn headers_named<'r>(&self, name: &str) -> impl Iterator<Item = &'r [u8]> + use<'_, 'r> {
        let name = name.to_owned();
        let is_clients = move |header: &&ngx_table_elt_t| {
            !is_own(header) && is_named(header.key.as_bytes(), &name)
        };
        self.headers.iter().filter(is_clients).map(|header| part(&header.value))
    }

    /// The arguments, with their names.
    pub fn arguments<'r>(&self) -> impl Iterator<Item = &'r [u8]> + use<'_, 'r> {
        self.arguments.iter().map(part)
    }

    /// Subrequests have headers in common, of which each may be removed from all. A request may have
    /// any number of headers, so they are not compared one by one.
    pub(super) fn add_headers(&mut self, headers: impl IntoIterator<Item = ngx_table_elt_t>) {
        if self.headers.is_empty() {
            return self.headers.extend(headers);
        }
        let known: HashSet<_> = self.headers.iter().map(place).collect();
        self.headers.extend(headers.into_iter().filter(|header| !known.contains(&place(header))));
    }
}

/// Where name and value of a header lie: no other header has both there.
fn place(header: &ngx_table_elt_t) -> (*const u8, *const u8) {
    (header.key.data, header.value.data)
}

/// The bytes of a part of a request.
fn part<'r>(text: &ngx_str_t) -> &'r [u8] {
    // SAFETY: the bytes live as long as the request.
    unsafe { bytes(text) }
}

/// The `X-Auth-Token` that the module sets for an upstream.
pub(super) fn own_header(token: &[u8]) -> ngx_table_elt_t {
    element(&OWN, token)
}

/// Whether it is a token that the module has set.
pub(super) fn is_own(header: &ngx_table_elt_t) -> bool {
    is_made(header, &OWN)
}

/// The name of a token that the module sets, at its one address.
static OWN: HeaderName = FORWARDED_TOKEN;
