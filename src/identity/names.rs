//! The names of the revocation list in the zone: one worker reads the list, and all workers look
//! names up where they lie.
//!
//! A service has two tables. One is published, and whoever has a new list fills the other one, in
//! steps that are short for those who wait for the zone's mutex. A table under construction has a
//! number: when another worker begins, the number becomes another one, and the first worker gives
//! up with its next step. One that has been overtaken by another worker's list does not begin.

use keystone_token::revocation::{ListReader, Name, Names, Summary};
use keystone_zone::{Key, NameTable, WORD};

use super::pace::Pace;
use super::refresh_error::RefreshError;
use crate::zone::{ServiceState, Zone};

/// Where the names of a list are, and what else is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedList {
    /// That of the table while it was filled.
    pub number: u64,
    /// Which of the two tables.
    pub half: usize,
    /// How many slots the table has.
    pub slots: usize,
    pub summary: Summary,
    /// The digest of the list.
    pub digest: [u8; 32],
}

/// The names of a published list. What they say counts only if the list was still the published one
/// after they were looked up.
pub struct ZoneNames {
    zone: Zone,
    service: u64,
    table: NameTable<'static>,
}

impl ZoneNames {
    pub(super) fn new(zone: Zone, state: &ServiceState, list: &PublishedList) -> Self {
        Self { zone, service: state.id(), table: state.names(list.half, list.slots) }
    }
}

impl Names for ZoneNames {
    fn contains(&self, name: Name<'_>) -> bool {
        self.table.contains(&key(&self.zone, self.service, name))
    }
}

fn key(zone: &Zone, service: u64, name: Name<'_>) -> Key {
    match name {
        Name::AuditId(text) => zone.key(service, text.as_bytes()),
        Name::Id(text) => zone.key(!service, text.as_bytes()),
    }
}

/// The digest of a list, by which one is known that is published already.
pub(super) async fn digest(content: &[u8], pace: Pace) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (at, part) in content.chunks(HASHED_BYTES).enumerate() {
        if at > 0 {
            pace.pause().await;
        }
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A table that is being filled.
pub(super) struct TableBuilder {
    pub(super) zone: Zone,
    pub(super) state: ServiceState,
    /// The service that the names are of.
    pub(super) service: u64,
    /// The generation whose list is published.
    pub(super) base: u64,
    pub(super) pace: Pace,
}

impl TableBuilder {
    /// Fills the table that is not the published one with the names of the list.
    pub(super) async fn build(
        &self,
        content: &[u8],
        digest: [u8; 32],
        published: Option<&PublishedList>,
    ) -> Result<PublishedList, RefreshError> {
        let half = published.map_or(0, |list| 1 - list.half.min(1));
        let slots = self.state.name_slots().min(content.len() / LEAST_NAME + LEAST_SLOTS);
        let table = self.state.names(half, slots);
        // Behind another worker's list, this table would be the published one.
        let is_base = || self.state.id() == self.service && self.state.generation() == self.base;
        let number = self.zone.locked(|| is_base().then(|| self.state.begin_names()));
        let number = number.ok_or(RefreshError::Overtaken)?;

        let mut at = Some(0);
        while let Some(from) = at {
            at = self.step(number, || table.clear(from, CLEARED_WORDS))?;
            if at.is_some() {
                self.pace.pause().await;
            }
        }
        let (mut reader, mut keys, mut names) = (ListReader::new(content), Vec::new(), 0);
        loop {
            let read = reader.read(ENTRIES, |name| keys.push(key(&self.zone, self.service, name)));
            let summary = read.map_err(super::revocation_list::ListError::Content)?;
            names += self.step(number, || {
                let room = table.capacity().saturating_sub(names);
                insert(&table, &keys, room)
            })?;
            keys.clear();
            if let Some(summary) = summary {
                return match names <= table.capacity() {
                    true => Ok(PublishedList { number, half, slots, summary, digest }),
                    false => Err(RefreshError::TooLarge(needed_bytes(names))),
                };
            }
            self.pace.pause().await;
        }
    }

    /// Does a step, if no other worker has begun to fill the table.
    fn step<T>(&self, number: u64, work: impl FnOnce() -> T) -> Result<T, RefreshError> {
        let is_mine = || self.state.is_building_names(number) && self.state.id() == self.service;
        let done = self.zone.locked(|| is_mine().then(work));
        done.ok_or(RefreshError::Overtaken)
    }
}

/// How many of the names are new. Those for which there is no room are counted, to tell how much
/// room it takes.
fn insert(table: &NameTable<'_>, keys: &[Key], mut room: usize) -> usize {
    let mut new = 0;
    for key in keys {
        let is_new = match room {
            0 => true,
            _ => table.insert(key).unwrap_or(true),
        };
        new += usize::from(is_new);
        room = room.saturating_sub(usize::from(is_new));
    }
    new
}

/// The bytes that two tables of so many names take.
fn needed_bytes(names: usize) -> usize {
    2 * NameTable::words(names + names.div_ceil(7)) * WORD
}

/// Entries, words and bytes of a step, which takes some tenths of a millisecond at most.
const ENTRIES: usize = 250;
const CLEARED_WORDS: usize = 16 << 10;
const HASHED_BYTES: usize = 64 << 10;

/// So many bytes of a list have one name at most, and an eighth of the slots stays free.
const LEAST_NAME: usize = 16;
const LEAST_SLOTS: usize = 64;
