//! What a revocation list names, and a set of that.

use std::collections::HashSet;

/// By what a revocation list names a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'n> {
    /// One of its audit ids.
    AuditId(&'n str),
    /// The hash of its text, or an opaque token itself.
    Id(&'n str),
}

/// Names that can be looked up.
pub trait Names {
    /// Whether this name is one of them.
    fn contains(&self, name: Name<'_>) -> bool;
}

/// Names in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSet {
    audit_ids: HashSet<String>,
    ids: HashSet<String>,
}

impl NameSet {
    /// Adds a name.
    pub fn insert(&mut self, name: Name<'_>) {
        match name {
            Name::AuditId(audit_id) => self.audit_ids.insert(audit_id.to_owned()),
            Name::Id(id) => self.ids.insert(id.to_owned()),
        };
    }

    pub(super) fn len(&self) -> usize {
        self.audit_ids.len() + self.ids.len()
    }
}

impl Names for NameSet {
    fn contains(&self, name: Name<'_>) -> bool {
        match name {
            Name::AuditId(audit_id) => self.audit_ids.contains(audit_id),
            Name::Id(id) => self.ids.contains(id),
        }
    }
}
