//! Reads a revocation list a few entries at a time.

use serde::de::IgnoredAny;
use serde::Deserialize;

use super::{skip_tokens, Name, RevocationError, Summary};
use crate::json::{self, Object};

/// Reads the JSON of a revocation list in steps of as many entries as the caller wants, so that a
/// long list need not keep it from other work.
///
/// Keystone writes `{"revoked": [ENTRY, ...]}`. A document of any other form, such as one with
/// further members, is read as a whole.
pub struct ListReader<'j> {
    json: &'j [u8],
    rest: Rest<'j>,
    summary: Summary,
}

enum Rest<'j> {
    /// What comes behind the bracket or an entry.
    Array(&'j [u8]),
    /// All entries that are left, of a document that was read as a whole.
    Entries(std::iter::Skip<std::vec::IntoIter<Object<Entry>>>),
}

impl<'j> ListReader<'j> {
    /// A reader of the document.
    pub fn new(json: &'j [u8]) -> Self {
        let array = skip_tokens(json, &[b"{", b"\"revoked\"", b":", b"["]);
        // What is no such array fails at its first entry, and is read as a whole then.
        Self { json, rest: Rest::Array(array.unwrap_or_default()), summary: Summary::default() }
    }

    /// Reads `most` entries, or as many as there are, and passes the names in them to `add`. At
    /// the end of the list it returns the list's summary.
    pub fn read(
        &mut self,
        most: usize,
        mut add: impl FnMut(Name<'_>),
    ) -> Result<Option<Summary>, RevocationError> {
        for _ in 0..most {
            let Some(entry) = self.next()? else { return Ok(Some(self.summary)) };
            self.summary.add(&entry, &mut add);
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<Entry>, RevocationError> {
        if let Rest::Array(rest) = &mut self.rest {
            match next_of_array(rest, self.summary.entries == 0) {
                Some(entry) => return Ok(entry),
                None => self.rest = Rest::Entries(self.read_all()?),
            }
        }
        match &mut self.rest {
            Rest::Entries(entries) => Ok(entries.next().map(|Object(entry)| entry)),
            Rest::Array(_) => Ok(None),
        }
    }

    /// Reads the whole document; the entries that were read before are left out.
    fn read_all(
        &self,
    ) -> Result<std::iter::Skip<std::vec::IntoIter<Object<Entry>>>, RevocationError> {
        let Object(document): Object<Document> = json::read(self.json)?;
        if document.token.is_some() || document.access.is_some() {
            return Err(RevocationError::Token);
        }
        Ok(document.revoked.unwrap_or_default().into_iter().skip(self.summary.entries))
    }
}

/// The next entry of the array, or its end; `None` if neither follows, or something follows the
/// array.
fn next_of_array(rest: &mut &[u8], is_first: bool) -> Option<Option<Entry>> {
    let mut text = rest.trim_ascii_start();
    if let Some(after) = text.strip_prefix(b"]") {
        let is_all = after.trim_ascii() == b"}";
        *rest = text;
        return is_all.then_some(None);
    }
    if !is_first {
        text = text.strip_prefix(b",")?;
    }
    let mut entries = serde_json::Deserializer::from_slice(text).into_iter::<Object<Entry>>();
    let Object(entry) = entries.next()?.ok()?;
    *rest = text.get(entries.byte_offset()..)?;
    Some(Some(entry))
}

#[derive(Deserialize)]
struct Document {
    revoked: Option<Vec<Object<Entry>>>,
    /// What a v3 token has.
    token: Option<IgnoredAny>,
    /// What a v2.0 token has.
    access: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Entry {
    id: Option<String>,
    audit_id: Option<String>,
}

impl Summary {
    fn add(&mut self, entry: &Entry, add: &mut impl FnMut(Name<'_>)) {
        self.entries += 1;
        if let Some(audit_id) = &entry.audit_id {
            add(Name::AuditId(audit_id));
        }
        let Some(id) = &entry.id else { return };
        add(Name::Id(id));
        self.has_ids = true;
        self.has_ids_alone |= entry.audit_id.is_none();
    }
}
