//! An identity as bytes that can lie in shared memory and be read where they lie.
//!
//! ```text
//! "KTR3"                           4 bytes
//! flags                            u32: one bit for each section that is there, IS_ADMIN, IS_DATED
//! expires_at                       i64
//! issued_at                        i64: 0 without IS_DATED
//! end of each section in the text  SECTIONS times u32
//! text                             UTF-8, the sections one after the other
//! ```
//!
//! All numbers are little endian. Lists of values end each value with NUL, which no value of an
//! [`Identity`] contains: the audit ids, the bind, the role ids, and the trust and the OAuth
//! delegation, which have an empty value where one is not known. The fields that a header wants as
//! text are written as that text, so that reading one is a slice.

mod owned;

pub use owned::OwnedRecord;

use std::ops::Range;

use crate::catalog::{Catalog, CatalogV2};
use crate::identity::{Identity, OAuth, Trust};
use crate::refusal::{check_expiry, Refusal};
use crate::time;

impl Identity {
    /// Writes the record. Of a catalog, what has no v2 form is left out: how many parts of it is
    /// the second value.
    pub fn to_record(&self, keep_catalog: bool) -> (OwnedRecord, usize) {
        let wanted = self.catalog.as_ref().filter(|_| keep_catalog);
        let (catalog, omitted) = match wanted.map(Catalog::to_v2) {
            Some(Some(CatalogV2 { json, omitted })) => (Some(json), omitted),
            Some(None) => (None, 1),
            None => (None, 0),
        };
        let mut writer = Writer::new();
        let fields = [
            &self.user_id,
            &self.user_name,
            &self.user_domain_id,
            &self.user_domain_name,
            &self.project_id,
            &self.project_name,
            &self.project_domain_id,
            &self.project_domain_name,
            &self.domain_id,
            &self.domain_name,
            &self.system_scope,
            &self.access_rules,
            &catalog,
        ];
        for field in fields {
            writer.field(field.as_deref());
        }
        writer.field(Some(&self.roles.join(",")));
        writer.field(Some(&time::format_utc(self.expires_at)));
        writer.list(Some(self.audit_ids.iter().map(String::as_str)));
        let bind = self.bind.as_ref().map(|bind| {
            bind.iter().flat_map(|(mechanism, value)| [mechanism.as_str(), value.as_str()])
        });
        writer.list(bind);
        writer.list(self.role_ids.as_ref().map(|ids| ids.iter().map(String::as_str)));
        let trust = self.trust.as_ref().map(|it| [&it.id, &it.trustor_id, &it.trustee_id]);
        writer.list(trust.map(values_or_empty));
        let oauth = self.oauth.as_ref().map(|it| [&it.access_token_id, &it.consumer_id]);
        writer.list(oauth.map(values_or_empty));
        (writer.finish(self), omitted)
    }
}

fn values_or_empty<const N: usize>(values: [&Option<String>; N]) -> impl Iterator<Item = &str> {
    values.into_iter().map(|value| value.as_deref().unwrap_or_default())
}

struct Writer {
    flags: u32,
    sections: usize,
    ends: [[u8; 4]; SECTIONS],
    text: String,
}

impl Writer {
    fn new() -> Self {
        // Room for most identities, without a catalog.
        let text = String::with_capacity(1024);
        Self { flags: 0, sections: 0, ends: [[0; 4]; SECTIONS], text }
    }

    fn field(&mut self, value: Option<&str>) {
        if let Some(value) = value {
            self.text.push_str(value);
        }
        self.end_section(value.is_some());
    }

    fn list<'a>(&mut self, values: Option<impl Iterator<Item = &'a str>>) {
        let is_there = values.is_some();
        for value in values.into_iter().flatten() {
            self.text.push_str(value);
            self.text.push('\0');
        }
        self.end_section(is_there);
    }

    fn end_section(&mut self, is_there: bool) {
        self.flags |= u32::from(is_there) << self.sections;
        // No token makes a text of 4 GB: a signed one has 72 kB at most, and those who ask about
        // another one bound the answer.
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.ends[self.sections] = end.to_le_bytes();
        self.sections += 1;
    }

    fn finish(self, identity: &Identity) -> OwnedRecord {
        let is_admin = if identity.is_admin_project { IS_ADMIN } else { 0 };
        let is_dated = if identity.issued_at.is_some() { IS_DATED } else { 0 };
        OwnedRecord {
            flags: self.flags | is_admin | is_dated,
            expires_at: identity.expires_at,
            issued_at: identity.issued_at.unwrap_or_default(),
            ends: self.ends,
            // A copy costs less than to give back what is left of the room.
            text: self.text.as_str().into(),
        }
    }
}

/// A view of a record. Making one checks all there is to check; reading from it copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    flags: u32,
    expires_at: i64,
    /// Means something only with IS_DATED.
    issued_at: i64,
    /// Ascending, each on a character boundary of `text`.
    ends: &'a [[u8; 4]; SECTIONS],
    text: &'a str,
}

impl<'a> Record<'a> {
    /// Takes `bytes` for a record if they are one.
    pub fn new(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (head, text) = bytes.split_at_checked(TEXT).ok_or(RecordError)?;
        let (magic, head) = head.split_first_chunk::<4>().ok_or(RecordError)?;
        let (flags, head) = head.split_first_chunk::<4>().ok_or(RecordError)?;
        let (expires_at, head) = head.split_first_chunk::<8>().ok_or(RecordError)?;
        let (issued_at, ends) = head.split_first_chunk::<8>().ok_or(RecordError)?;
        let (ends, _) = ends.as_chunks::<4>();
        let ends: &[[u8; 4]; SECTIONS] = ends.try_into().map_err(|_| RecordError)?;
        let text = std::str::from_utf8(text).map_err(|_| RecordError)?;

        let flags = u32::from_le_bytes(*flags);
        let mut start = 0;
        for end in ends {
            let end = u32::from_le_bytes(*end) as usize;
            if end < start || !text.is_char_boundary(end) {
                return Err(RecordError);
            }
            start = end;
        }
        let has = |section: Section| flags & 1 << section as u32 != 0;
        if magic != MAGIC
            || flags >= IS_DATED << 1
            || start != text.len()
            || !has(Section::Roles)
            || !has(Section::ExpiresAt)
        {
            return Err(RecordError);
        }
        let expires_at = i64::from_le_bytes(*expires_at);
        let issued_at = i64::from_le_bytes(*issued_at);
        Ok(Self { flags, expires_at, issued_at, ends, text })
    }

    /// The text of a field, where the token has it.
    pub fn get(&self, field: Field) -> Option<&'a str> {
        match field.section() {
            Some(place) => self.text.get(self.range(place)?),
            None => self.derived(field),
        }
    }

    /// The text of a field that is no section.
    fn derived(&self, field: Field) -> Option<&'a str> {
        match field {
            Field::AuditId => self.audit_ids().next(),
            Field::IsAdminProject if self.is_admin_project() => Some("True"),
            Field::IsAdminProject => Some("False"),
            _ => None,
        }
    }

    /// When the token expires, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// Refuses a record whose token has expired at `now`, in unix seconds.
    pub fn check_expiry(&self, now: i64) -> Result<(), Refusal> {
        check_expiry(self.expires_at, now)
    }

    /// When the token was issued, in seconds since 1970, if it says so.
    pub fn issued_at(&self) -> Option<i64> {
        (self.flags & IS_DATED != 0).then_some(self.issued_at)
    }

    /// Whether the token's scope is the admin project.
    pub fn is_admin_project(&self) -> bool {
        self.flags & IS_ADMIN != 0
    }

    /// The names of the roles.
    pub fn roles(&self) -> impl Iterator<Item = &'a str> {
        let roles = self.section(Section::Roles).filter(|roles| !roles.is_empty());
        roles.into_iter().flat_map(|roles| roles.split(','))
    }

    /// The ids of the roles, if they are known.
    pub fn role_ids(&self) -> Option<impl Iterator<Item = &'a str>> {
        self.section(Section::RoleIds).map(|ids| ids.split_terminator('\0'))
    }

    /// The token's own audit id, then that of the token it was made from.
    pub fn audit_ids(&self) -> impl Iterator<Item = &'a str> {
        self.section(Section::AuditIds).unwrap_or_default().split_terminator('\0')
    }

    /// Whether the token is bound to anything.
    pub fn has_bind(&self) -> bool {
        self.section(Section::Bind).is_some_and(|bind| !bind.is_empty())
    }

    /// The mechanisms that the token is bound to, and what each wants to see.
    pub fn bind(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut values = self.section(Section::Bind).unwrap_or_default().split_terminator('\0');
        std::iter::from_fn(move || Some((values.next()?, values.next()?)))
    }

    /// The trust that the token is scoped to.
    pub fn trust(&self) -> Option<Trust<&'a str>> {
        let [id, trustor_id, trustee_id] = self.known_values(Section::Trust)?;
        Some(Trust { id, trustor_id, trustee_id })
    }

    /// The OAuth 1.0 delegation that the token was issued for.
    pub fn oauth(&self) -> Option<OAuth<&'a str>> {
        let [access_token_id, consumer_id] = self.known_values(Section::OAuth)?;
        Some(OAuth { access_token_id, consumer_id })
    }

    /// The first values of a section, each if it is not empty.
    fn known_values<const N: usize>(&self, section: Section) -> Option<[Option<&'a str>; N]> {
        let mut values = self.section(section)?.split_terminator('\0');
        Some([(); N].map(|()| values.next().filter(|value| !value.is_empty())))
    }

    /// What takes most of the record, and how many bytes it takes.
    pub fn largest_part(&self) -> (&'static str, usize) {
        let len = |sections: &[Section]| -> usize {
            sections.iter().filter_map(|it| self.section(*it)).map(str::len).sum()
        };
        let parts = [
            ("access rules", len(&[Section::AccessRules])),
            ("audit ids", len(&[Section::AuditIds])),
            ("bind", len(&[Section::Bind])),
            ("roles", len(&[Section::Roles, Section::RoleIds])),
            ("service catalog", len(&[Section::Catalog])),
        ];
        let named: usize = parts.iter().map(|(_, len)| len).sum();
        let others = ("ids and names", self.text.len().saturating_sub(named));
        parts.into_iter().chain([others]).max_by_key(|(_, len)| *len).unwrap_or(others)
    }

    fn section(&self, section: Section) -> Option<&'a str> {
        self.text.get(self.range(section as usize)?)
    }

    /// Where the section of this place is in the text, if the token has it.
    #[inline]
    fn range(&self, place: usize) -> Option<Range<usize>> {
        if self.flags & 1 << place == 0 {
            return None;
        }
        let end_of =
            |place: usize| self.ends.get(place).map(|end| u32::from_le_bytes(*end) as usize);
        let start = place.checked_sub(1).and_then(end_of).unwrap_or(0);
        Some(start..end_of(place)?)
    }
}

/// The bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not an identity record")]
pub struct RecordError;

/// What a variable or a header shows. Its number is the place of its section in a record, if it is
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// JSON of the access rules.
    AccessRules = Section::AccessRules as isize,
    /// The token's own audit id.
    AuditId = SECTIONS as isize,
    /// JSON of the service catalog, in its v2 form.
    Catalog = Section::Catalog as isize,
    /// The id of the domain that the token is scoped to.
    DomainId = Section::DomainId as isize,
    /// Name of the domain.
    DomainName = Section::DomainName as isize,
    /// `2026-11-23T02:37:06Z`; always there.
    ExpiresAt = Section::ExpiresAt as isize,
    /// `True` or `False`; always there.
    IsAdminProject = SECTIONS as isize + 1,
    /// The id of the project's domain.
    ProjectDomainId = Section::ProjectDomainId as isize,
    /// Name of the project's domain.
    ProjectDomainName = Section::ProjectDomainName as isize,
    /// The id of the project that the token is scoped to.
    ProjectId = Section::ProjectId as isize,
    /// Name of the project.
    ProjectName = Section::ProjectName as isize,
    /// The names of the roles, with commas between them; always there.
    Roles = Section::Roles as isize,
    /// `all`; absent without system scope.
    SystemScope = Section::SystemScope as isize,
    /// The id of the user's domain.
    UserDomainId = Section::UserDomainId as isize,
    /// Name of the user's domain.
    UserDomainName = Section::UserDomainName as isize,
    /// Id of the user.
    UserId = Section::UserId as isize,
    /// Name of the user.
    UserName = Section::UserName as isize,
}

impl Field {
    /// The place of the section that has its text; `None` where it is made of something else.
    #[inline]
    fn section(self) -> Option<usize> {
        let place = self as usize;
        (place < SECTIONS).then_some(place)
    }
}

/// In the order of the text.
#[derive(Clone, Copy)]
enum Section {
    UserId,
    UserName,
    UserDomainId,
    UserDomainName,
    ProjectId,
    ProjectName,
    ProjectDomainId,
    ProjectDomainName,
    DomainId,
    DomainName,
    SystemScope,
    AccessRules,
    Catalog,
    Roles,
    ExpiresAt,
    AuditIds,
    Bind,
    RoleIds,
    Trust,
    OAuth,
}

const SECTIONS: usize = Section::OAuth as usize + 1;
const IS_ADMIN: u32 = 1 << SECTIONS;
const IS_DATED: u32 = IS_ADMIN << 1;
/// Before 3, the bind did not have the certificate that the token is bound to.
const MAGIC: &[u8; 4] = b"KTR3";
/// Offset of the text in a record.
const TEXT: usize = 4 + 4 + 8 + 8 + SECTIONS * 4;
