//! The revocation list.
//!
//! Keystone names a revoked token by the hash of its text, and since 2015 by its audit id too. The
//! text is what the client happens to send, so the list is searched for the hash of every text that
//! the same signed content can have had: as PKI and as PKIZ, with NULL and with absent digest
//! parameters. That is dear, and needless where the audit id decides: it is done only if the list
//! has an entry without one, or the token has none.

use std::collections::HashSet;

use serde::de::IgnoredAny;
use serde::Deserialize;

use crate::cms::{DigestParameters, SignedData};
use crate::format::{self, HashAlgorithm, TokenFormat};
use crate::json::{self, JsonError, Object};
use crate::token::{ParsedToken, Refusal, VerifiedToken};

/// The content of a revocation list, whose signature was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationList {
    len: usize,
    ids: HashSet<String>,
    audit_ids: HashSet<String>,
    has_entries_without_audit_id: bool,
}

impl RevocationList {
    /// Reads `{"revoked": [{"id": ..., "audit_id": ..., ...}, ...]}`. No member `revoked` is an
    /// empty list, and an entry may lack either id. A token is no list: Keystone signs both alike,
    /// so that a user's token could be served in the place of a list that names another one.
    pub fn from_json(json: &[u8]) -> Result<Self, RevocationError> {
        let Object(document): Object<Document> = json::read(json)?;
        if document.token.is_some() || document.access.is_some() {
            return Err(RevocationError::Token);
        }
        let mut list = Self::default();
        for Object(entry) in document.revoked.into_iter().flatten() {
            list.len += 1;
            list.has_entries_without_audit_id |= entry.id.is_some() && entry.audit_id.is_none();
            list.ids.extend(entry.id);
            list.audit_ids.extend(entry.audit_id);
        }
        Ok(list)
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
        let is_listed = |id: &str| self.ids.contains(id);
        audit_ids.into_iter().any(|audit_id| self.audit_ids.contains(audit_id))
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
            if self.audit_ids.contains(audit_id) {
                return true;
            }
            has_audit_id = true;
        }
        if self.names(token.text(), algorithms) {
            return true;
        }
        let audit_id_decides = has_audit_id && !self.has_entries_without_audit_id;
        !audit_id_decides && self.names_another_form(token, algorithms)
    }

    /// How many entries the list has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the list has no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there are entries that only a hash of the right text finds.
    pub fn has_entries_without_audit_id(&self) -> bool {
        self.has_entries_without_audit_id
    }

    /// Whether the list has the hash of this text.
    fn names(&self, text: &[u8], algorithms: &[HashAlgorithm]) -> bool {
        !self.ids.is_empty()
            && algorithms.iter().any(|algorithm| self.ids.contains(&algorithm.hex_digest(text)))
    }

    fn names_another_form(&self, token: &ParsedToken<'_>, algorithms: &[HashAlgorithm]) -> bool {
        if self.ids.is_empty() {
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
    pub fn check_revocation(
        &self,
        list: &RevocationList,
        algorithms: &[HashAlgorithm],
    ) -> Result<(), Refusal> {
        match list.revokes(self, algorithms) {
            true => Err(Refusal::Revoked),
            false => Ok(()),
        }
    }
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

#[derive(Deserialize)]
struct Document {
    revoked: Option<Vec<Object<Entry>>>,
    /// What a v3 token has.
    token: Option<IgnoredAny>,
    /// What a v2.0 token has.
    access: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Entry {
    id: Option<String>,
    audit_id: Option<String>,
}
