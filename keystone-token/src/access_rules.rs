//! The access rules of an application credential: the only requests that its tokens allow.
//!
//! A rule names a service type, a method and a path. In the path, `*` and `{anything}` stand for
//! one or more characters other than `/`, also within a segment (`img*`), and `**` for any number
//! of characters, `/` among them, or none: `/v2.1/**` matches `/v2.1/` and all below it, but not
//! `/v2.1`. Of three stars in a row, the first two are `**`. So it is in keystonemiddleware 13
//! (auth_token) and in Keystone's documentation of application credentials.
//!
//! Where auth_token is lax, this is not. It makes a regular expression of the path, in which a
//! `.` matches any character, and skips a brace without its partner; here, all that is no wildcard
//! means itself. It compares with the path as it is percent-encoded; here the request's path is
//! decoded, and so are the escapes in a rule: one for `/my%20object` is for the object of that
//! name, however it is requested.

use std::mem;

use serde_json::Value;

use crate::text::{escaped, unquote};

pub use plain_path::{has_plain_segments, is_plain_path};

mod plain_path;

/// What a request is about to do, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// The types of the service behind, as the catalog names them; empty if none is configured.
    pub service_types: &'a [String],
    /// The method as in the request line, in its own case.
    pub method: &'a str,
    /// The path as the client wrote it, percent-encoded and without the query, where it is handed
    /// on so. `None` where the service behind gets one that is made of `path`.
    pub raw_path: Option<&'a [u8]>,
    /// The path as it is decoded and normalised, without the query.
    pub path: &'a [u8],
    /// The path that the service behind gets, decoded, where that is not `path`: a gateway may map
    /// one to another.
    pub service_path: Option<&'a [u8]>,
    /// Whether the request uses another path too, as `COPY` and `MOVE` do.
    pub has_destination: bool,
    /// The query, in all forms in which the service behind may get it: as the client wrote it, and
    /// as nginx knows it.
    pub queries: [&'a [u8]; 2],
}

impl Action<'_> {
    /// The path that rules are for.
    fn rule_path(&self) -> &[u8] {
        self.service_path.unwrap_or(self.path)
    }

    /// Whether every reader of the request sees the path that is compared with the rules.
    pub fn is_plain(&self) -> bool {
        let is_plain = match self.raw_path {
            Some(raw) => is_plain_path(raw, self.path),
            None => has_plain_segments(self.path),
        };
        is_plain && self.service_path.is_none_or(has_plain_segments)
    }

    /// Whether it is a request of Swift's `bulk` middleware, which acts on the objects that the body
    /// names, and not on the path. That middleware stands in front of authtoken, which then judges a
    /// request for each of these objects; here there is only this one to judge.
    pub fn is_bulk(&self) -> bool {
        self.service_types.iter().any(|it| it == OBJECT_STORE)
            // Old releases of Python end a parameter at a semicolon too.
            && self.queries.iter().flat_map(|it| it.split(|byte| matches!(byte, b'&' | b';'))).any(
                |parameter| {
                    let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
                    matches!(&*unquote(name), b"bulk-delete" | b"extract-archive")
                },
            )
    }
}

/// The rules of one application credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules(Vec<Rule>);

impl AccessRules {
    /// Reads `[{"service": ..., "method": ..., "path": ...}, ...]`, as
    /// [`Field::AccessRules`](crate::record::Field::AccessRules) has it. What is not of this form
    /// is not an error but permits nothing: a rule that lacks one of the three texts, or something
    /// that is no list.
    pub fn from_json(json: &str) -> Self {
        let rules: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
        Self(rules.iter().filter_map(Rule::new).collect())
    }

    /// Whether one of the rules is for this action. The raw path is not checked: that is for
    /// [`Action::is_plain`].
    ///
    /// In the worst case the cost is the length of the path times the length of the rules' paths.
    /// The same user makes the rules and sends the request, so the cost is bounded: of the rules
    /// that begin and end like the path, those beyond about a million steps permit nothing. That is
    /// 40 rules with one wildcard for a path of 8 KB, or 250 for the longest object name in Swift.
    ///
    /// `GET .../v3/auth/tokens` of an identity service is permitted whatever the rules are, as in
    /// auth_token: every holder of a token may have it validated.
    pub fn permit(&self, action: &Action<'_>) -> bool {
        let is_for = |service: &str| action.service_types.iter().any(|it| it == service);
        let path = action.rule_path();
        if is_for("identity") && action.method == "GET" && path.ends_with(VALIDATION) {
            return true;
        }
        let mut steps = MAX_STEPS;
        self.0
            .iter()
            .filter(|rule| rule.method == action.method && is_for(&rule.service))
            .filter(|rule| rule.path.frames(path))
            .take_while(|rule| {
                let left = steps.checked_sub(rule.path.steps(path));
                steps = left.unwrap_or(0);
                left.is_some()
            })
            .any(|rule| rule.path.matches(path))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    service: String,
    method: String,
    path: Pattern,
}

impl Rule {
    fn new(rule: &Value) -> Option<Self> {
        let text = |name| rule.get(name).and_then(Value::as_str);
        Some(Self {
            service: text("service")?.to_owned(),
            method: text("method")?.to_owned(),
            path: Pattern::new(text("path")?)?,
        })
    }
}

/// What a path must be made of, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`: any bytes, also slashes.
    Any,
    /// `*` or `{...}`: any bytes without a slash.
    InSegment,
    /// Exactly these bytes.
    Literal(Vec<u8>),
}

impl Pattern {
    /// None for a path that has a slash or NUL percent-encoded in it: no plain path has.
    fn new(path: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = path.as_bytes();
        while let Some(&byte) = rest.first() {
            let closing = || rest.iter().position(|byte| *byte == b'}');
            let (wildcard, length) = match (byte, (byte == b'{').then(closing).flatten()) {
                (b'*', _) if rest.starts_with(b"**") => (Some(Part::Any), 2),
                (b'*', _) => (Some(Part::InSegment), 1),
                (_, Some(closing)) => (Some(Part::InSegment), closing + 1),
                _ => {
                    let escaped = escaped(rest);
                    if matches!(escaped, Some(b'/' | 0)) {
                        return None;
                    }
                    literal.push(escaped.unwrap_or(byte));
                    (None, if escaped.is_some() { 3 } else { 1 })
                }
            };
            if let Some(wildcard) = wildcard {
                parts.extend([Part::Literal(mem::take(&mut literal)), wildcard]);
            }
            rest = rest.get(length..)?;
        }
        parts.push(Part::Literal(literal));
        Some(Self(parts))
    }

    /// Whether the path begins and ends as it must, which is quickly found out.
    fn frames(&self, path: &[u8]) -> bool {
        fn literal(part: Option<&Part>) -> &[u8] {
            match part {
                Some(Part::Literal(bytes)) => bytes,
                _ => &[],
            }
        }
        path.starts_with(literal(self.0.first())) && path.ends_with(literal(self.0.last()))
    }

    /// How many steps a comparison with the path takes at the worst.
    fn steps(&self, path: &[u8]) -> usize {
        self.0.len().saturating_mul(path.len() + 1)
    }

    /// Part by part: which are the places in the path that it may reach to?
    fn matches(&self, path: &[u8]) -> bool {
        // In ascending order, each at most once, and none beyond the path's end.
        let mut reached = vec![0];
        for part in &self.0 {
            let Some(&first) = reached.first() else { return false };
            match part {
                Part::Any => reached = (first..=path.len()).collect(),
                Part::InSegment => reached = within_segments(path, &reached),
                Part::Literal(bytes) => {
                    reached.retain(|at| path[*at..].starts_with(bytes));
                    reached.iter_mut().for_each(|at| *at += bytes.len());
                }
            }
        }
        reached.last() == Some(&path.len())
    }
}

/// The places that lie at least one byte behind one of `starts`, with no `/` between.
fn within_segments(path: &[u8], starts: &[usize]) -> Vec<usize> {
    let mut starts = starts.iter().copied().peekable();
    let mut reached = Vec::new();
    let mut is_within = false;
    for (at, byte) in path.iter().enumerate() {
        is_within |= starts.next_if_eq(&at).is_some();
        is_within &= *byte != b'/';
        if is_within {
            reached.push(at + 1);
        }
    }
    reached
}

/// The type of Swift in the catalog.
const OBJECT_STORE: &str = "object-store";

/// Where Keystone validates tokens, below any base path.
const VALIDATION: &[u8] = b"/v3/auth/tokens";

/// Limits the time of one match to a few milliseconds.
const MAX_STEPS: usize = 1 << 20;

#[cfg(test)]
mod tests;
