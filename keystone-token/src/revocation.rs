//! The revocation list.
//!
//! Keystone names a revoked token by the hash of its text, and since 2015 by its audit id too. The
//! text is what the client happens to send, so the list is searched for the hash of every text that
//! the same signed content can have had: as PKI and as PKIZ, with NULL and with absent digest
//! parameters. That is expensive, and unnecessary where the audit id decides: it is done
//! only if the list has an entry without an audit id, or the token has none.

mod message;
mod names;
mod reader;

use crate::cms::{DigestParameters, SignedData};
use crate::format::{self, HashAlgorithm, TokenFormat};
use crate::json::JsonError;
use crate::refusal::Refusal;
use crate::token::{ParsedToken, VerifiedToken};

pub use message::{AnswerReader, SignedList};
pub use names::{Name, NameSet, Names};
pub use reader::ListReader;

/// The content of a revocation list, whose signature was verified. What it names is in `N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationList<N = NameSet> {
    summary: Summary,
    names: N,
}

/// What is to be known of a list besides the names in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many entries there are.
    pub entries: usize,
    /// Whether an entry has an id.
    pub has_ids: bool,
    /// Whether an entry has an id and no audit id.
    pub has_ids_alone: bool,
}

impl RevocationList {
    /// Reads `{"revoked": [{"id": ..., "audit_id": ..., ...}, ...]}`. No member `revoked` is an
    /// empty list, and an entry may lack either id. A token is no list: Keystone signs both alike,
    /// so that a user's token could be served in the place of a list that names another one.
    pub fn from_json(json: &[u8]) -> Result<Self, RevocationError> {
        let (mut reader, mut names) = (ListReader::new(json), NameSet::default());
        loop {
            if let Some(summary) = reader.read(usize::MAX, |name| names.insert(name))? {
                return Ok(Self { summary, names });
            }
        }
    }

    /// How many ids and audit ids the list has, each counted once.
    pub fn count_names(&self) -> usize {
        self.names.len()
    }
}

impl<N: Names> RevocationList<N> {
    /// The list with this summary, of which [`ListReader`] has read these names.
    pub fn new(summary: Summary, names: N) -> Self {
        Self { summary, names }
    }

    /// Whether the token is on the list, by whichever of its ids.
    pub fn revokes(&self, token: &VerifiedToken<'_>, algorithms: &[HashAlgorithm]) -> bool {
        let audit_ids = token.identity().audit_ids.iter().map(String::as_str);
        self.revokes_parsed(token.parsed(), audit_ids, algorithms)
    }

    /// The same for a token that Keystone has validated: its id is the token itself, or its hash.
    pub fn revokes_id<'a>(
        &self,
        token: &[u8],
        audit_ids: impl IntoIterator<Item = &'a str>,
        algorithms: &[HashAlgorithm],
    ) -> bool {
        let is_listed = |id: &str| self.summary.has_ids && self.names.contains(Name::Id(id));
        audit_ids.into_iter().any(|audit_id| self.names.contains(Name::AuditId(audit_id)))
            || std::str::from_utf8(token).is_ok_and(is_listed)
            || self.names(token, algorithms)
    }

    /// The same for a token that was verified before, whose audit ids are remembered.
    pub fn revokes_parsed<'a>(
        &self,
        token: &ParsedToken<'_>,
        audit_ids: impl IntoIterator<Item = &'a str>,
        algorithms: &[HashAlgorithm],
    ) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut has_audit_id = false;
        for audit_id in audit_ids {
            if self.names.contains(Name::AuditId(audit_id)) {
                return true;
            }
            has_audit_id = true;
        }
        if self.names(token.text(), algorithms) {
            return true;
        }
        let audit_id_decides = has_audit_id && !self.summary.has_ids_alone;
        !audit_id_decides && self.names_another_form(token, algorithms)
    }

    /// How many entries the list has.
    pub fn len(&self) -> usize {
        self.summary.entries
    }

    /// Whether the list has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the list has the hash of this text.
    fn names(&self, text: &[u8], algorithms: &[HashAlgorithm]) -> bool {
        let is_listed =
            |algorithm: &HashAlgorithm| self.names.contains(Name::Id(&algorithm.hex_digest(text)));
        self.summary.has_ids && algorithms.iter().any(is_listed)
    }

    fn names_another_form(&self, token: &ParsedToken<'_>, algorithms: &[HashAlgorithm]) -> bool {
        if !self.summary.has_ids {
            return false;
        }
        let signed = token.signed_data();
        other_texts(token.format(), signed).any(|text| self.names(text.as_bytes(), algorithms))
    }
}

/// The texts of a token's other forms. The text of a PKIZ token is among them, for its zlib stream
/// need not be the one that Keystone made.
fn other_texts(format: TokenFormat, signed: &SignedData) -> impl Iterator<Item = String> + '_ {
    DigestParameters::ALL.into_iter().flat_map(move |parameters| {
        let der = signed.encode(parameters);
        let is_the_token = format == TokenFormat::Pki && parameters == signed.parameters();
        let pki = (!is_the_token).then(|| format::armour_pki(&der));
        let armours: [fn(&[u8]) -> String; 2] = [format::armour_pkiz, format::armour_pkiz_der];
        pki.into_iter().chain(armours.into_iter().map(move |armour| armour(&der)))
    })
}

impl VerifiedToken<'_> {
    /// Refuses a token that is on the revocation list, by whichever of its ids.
    pub fn check_revocation<N: Names>(
        &self,
        list: &RevocationList<N>,
        algorithms: &[HashAlgorithm],
    ) -> Result<(), Refusal> {
        match list.revokes(self, algorithms) {
            true => Err(Refusal::Revoked),
            false => Ok(()),
        }
    }
}

/// What follows these tokens of JSON, and white space between them.
fn skip_tokens<'j>(json: &'j [u8], tokens: &[&[u8]]) -> Option<&'j [u8]> {
    tokens.iter().try_fold(json, |rest, token| rest.trim_ascii_start().strip_prefix(*token))
}

/// The document is no revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// It is other JSON, or none.
    #[error("the document is not the JSON of a revocation list: {0}")]
    Json(#[from] JsonError),
    /// It is a token of v3 or v2.0.
    #[error("the document is a token, not a revocation list")]
    Token,
}
