//! What is measured: the lines of the table.
//!
//! Their order in a round matters. A worker's own cache gives a token's slot to another one only
//! when it was not used for a second, so a line with few tokens would not find its slots free just
//! after one with many. In each worker, those with many come last, and lines of other workers
//! follow for more than a second.

use crate::tokens::PROJECT;

/// One line of the table.
pub struct Row {
    /// Its name in the results.
    pub key: &'static str,
    /// The name in the report.
    pub name: &'static str,
    /// Who is asked.
    pub site: Site,
    /// Where the file is there.
    pub location: &'static str,
    /// Which token a request has.
    pub tokens: Tokens,
    /// The status of every answer.
    pub status: &'static str,
    /// The key of the line that it is compared with.
    pub against: &'static str,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// nginx whose zone does not hold the tokens that are new each time.
    Narrow,
    /// The same one, where tokens are validated online.
    NarrowOnline,
    /// As [`Site::Narrow`], for tokens that are new each time.
    NarrowNew,
    /// As [`Site::NarrowOnline`], for tokens that are new each time.
    NarrowNewOnline,
    /// nginx whose zone holds all tokens that are sent in turn.
    Wide,
    /// The same one, where tokens are validated online.
    WideOnline,
    /// nginx with two workers.
    Pair,
    /// nginx with revocation lists, whose numbers of entries are [`LISTS`].
    List(usize),
    /// The same one, where no token is kept in the cache.
    ListUncached(usize),
}

/// Which token a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// No token is sent.
    Absent,
    /// One of so many PKI tokens, at random, which all fit into the zone.
    Pki(usize),
    /// The same of Fernet tokens.
    Fernet(usize),
    /// Always the same PKI token, which has expired.
    Expired,
    /// A PKI token that is out of the cache before it comes again.
    New,
    /// The same of Fernet tokens.
    NewFernet,
    /// The same of PKIZ tokens.
    NewPkiz,
}

/// How many entries the revocation lists of [`Site::List`] have.
pub const LISTS: [usize; 4] = [0, 1_000, 10_000, 100_000];

use Site::{
    List, ListUncached, Narrow, NarrowNew, NarrowNewOnline, NarrowOnline, Pair, Wide, WideOnline,
};
use Tokens::{Absent, Expired, Fernet, New, NewFernet, NewPkiz, Pki};

/// All lines, in the order in which they are measured.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row("wide/pki-open", "file, with a PKI token's header", Wide, "/open/", Pki(1), "wide/pki-open"),
    row("wide/pki-1", "  cached PKI token", Wide, "/protected/", Pki(1), "wide/pki-open"),
    row("wide/pki-10", "  one of 10", Wide, "/protected/", Pki(10), "wide/pki-open"),
    row("wide/pki-100", "  one of 100", Wide, "/protected/", Pki(100), "wide/pki-open"),
    row("wide/pki-1000", "  one of 1,000", Wide, "/protected/", Pki(1_000), "wide/pki-open"),
    row("wide/pki-10000", "  one of 10,000", Wide, "/protected/", Pki(10_000), "wide/pki-open-10000"),
    row("wide/pki-open-10000", "file, header of one of 10,000", Wide, "/open/", Pki(10_000), "wide/pki-open-10000"),

    row("file", "file, no token", Narrow, "/open/", Absent, "pki/open"),
    row("pki/open", "file, with a PKI token's header", Narrow, "/open/", Pki(1), "pki/open"),
    row("pki/cached", "  cached PKI token", Narrow, "/protected/", Pki(1), "pki/open"),
    row("pki/bare", "  the same, keystone_headers off", Narrow, "/bare/", Pki(1), "pki/open"),
    row("pki/early", "  the same, keystone_early on", Narrow, "/early/", Pki(1), "pki/open"),
    Row { status: "401", ..row("pki/expired", "  401, expired token, remembered", Narrow, "/protected/", Expired, "pki/open") },
    row("swift/open", "object, cached token", Narrow, "/v1/AUTH_@PROJECT@/d/", Pki(1), "swift/open"),
    row("swift/cached", "  the same, with keystone_swift_auth", Narrow, "/v1/AUTH_@PROJECT@/c/", Pki(1), "swift/open"),
    row("proxy/open", "proxied, with a PKI token's header", Narrow, "/proxy/open/", Pki(1), "proxy/open"),
    row("proxy/cached", "  cached PKI token", Narrow, "/proxy/protected/", Pki(1), "proxy/open"),
    row("proxy/bare", "  the same, keystone_headers off", Narrow, "/proxy/bare/", Pki(1), "proxy/open"),
    row("fernet/open", "file, with a Fernet token's header", Narrow, "/open/", Fernet(1), "fernet/open"),
    row("fernet/cached", "  cached Fernet token", NarrowOnline, "/fernet/", Fernet(1), "fernet/open"),
    row("pki/new", "  new PKI token", NarrowNew, "/protected/", New, "pki/open"),
    row("pkiz/open", "file, with a PKIZ token's header", Narrow, "/open/", NewPkiz, "pkiz/open"),
    row("pkiz/new", "  new PKIZ token", NarrowNew, "/protected/", NewPkiz, "pkiz/open"),
    row("fernet/asked", "  nginx's auth_request at Keystone", NarrowOnline, "/asked/", NewFernet, "fernet/open"),
    row("fernet/new", "  new Fernet token", NarrowNewOnline, "/fernet/", NewFernet, "fernet/asked"),

    row("wide/fernet-open", "file, with a Fernet token's header", Wide, "/open/", Fernet(1), "wide/fernet-open"),
    row("wide/fernet-1", "  cached Fernet token", WideOnline, "/fernet/", Fernet(1), "wide/fernet-open"),
    row("wide/fernet-10", "  one of 10", WideOnline, "/fernet/", Fernet(10), "wide/fernet-open"),
    row("wide/fernet-100", "  one of 100", WideOnline, "/fernet/", Fernet(100), "wide/fernet-open"),
    row("wide/fernet-1000", "  one of 1,000", WideOnline, "/fernet/", Fernet(1_000), "wide/fernet-open"),
    row("wide/fernet-10000", "  one of 10,000", WideOnline, "/fernet/", Fernet(10_000), "wide/fernet-open-10000"),
    row("wide/fernet-100000", "  one of 100,000", WideOnline, "/fernet/", Fernet(100_000), "wide/fernet-open-10000"),
    row("wide/fernet-open-10000", "file, header of one of 10,000", Wide, "/open/", Fernet(10_000), "wide/fernet-open-10000"),

    row("pair/open", "2 workers: file, PKI token's header", Pair, "/open/", Pki(1), "pki/open"),
    row("pair/cached", "  cached PKI token", Pair, "/protected/", Pki(1), "pki/cached"),
    row("pair/1000", "  one of 1,000", Pair, "/protected/", Pki(1_000), "wide/pki-1000"),

    row("list/hit-0", "cached PKI token, empty list", List(0), "/protected/", Pki(1), "list/hit-0"),
    row("list/hit-1000", "  a list of 1,000", List(1), "/protected/", Pki(1), "list/hit-0"),
    row("list/hit-10000", "  a list of 10,000", List(2), "/protected/", Pki(1), "list/hit-0"),
    row("list/hit-100000", "  a list of 100,000", List(3), "/protected/", Pki(1), "list/hit-0"),
    row("list/new-0", "uncached PKI token, empty list", ListUncached(0), "/protected/", New, "list/hit-0"),
    row("list/new-1000", "  a list of 1,000", ListUncached(1), "/protected/", New, "list/hit-0"),
    row("list/new-10000", "  a list of 10,000", ListUncached(2), "/protected/", New, "list/hit-0"),
    row("list/new-100000", "  a list of 100,000", ListUncached(3), "/protected/", New, "list/hit-0"),
];

const fn row(
    key: &'static str,
    name: &'static str,
    site: Site,
    location: &'static str,
    tokens: Tokens,
    against: &'static str,
) -> Row {
    Row { key, name, site, location, tokens, status: "200", against }
}

impl Row {
    /// The path of the file.
    pub fn path(&self) -> String {
        format!("{}file", self.location.replace("@PROJECT@", PROJECT))
    }
}

/// The place of a line.
pub fn index(key: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_there_once_and_has_one_to_compare_with() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(index(row.key), Some(at), "{}", row.key);
            assert!(index(row.against).is_some(), "{}", row.against);
        }
    }
}
