//! What a worker publishes of the identity service's certificates and revocation list, and what
//! the others make of it.

use std::cell::RefCell;
use std::rc::Rc;

use keystone_token::cms::{CertificateError, Signers};
use keystone_token::revocation::{RevocationList, Summary};

use super::names::{PublishedList, ZoneNames};
use crate::zone::{ServiceState, Zone};

/// The bytes behind the material. The list was verified by the one who published it, and its names
/// lie in a table; certificates are cheap to verify again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts up with every change.
    pub generation: u64,
    /// The signing certificates as they came.
    pub signing: Vec<u8>,
    /// The CA's certificates as they came.
    pub ca: Vec<u8>,
    pub list: List,
}

/// What is known of the revocation list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum List {
    /// The identity service says that there is none.
    Absent,
    /// It was verified, and its names are in the zone.
    Published(PublishedList),
    /// It was never fetched.
    #[default]
    Unknown,
}

impl Snapshot {
    /// As bytes: the generation, then each part behind its length.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, list) = match &self.list {
            List::Unknown => (0, Vec::new()),
            List::Absent => (1, Vec::new()),
            List::Published(list) => (2, encode_list(list)),
        };
        let mut bytes = self.generation.to_le_bytes().to_vec();
        bytes.push(kind);
        for part in [&self.signing, &self.ca, &list] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Decodes the bytes of [`Snapshot::encode`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let generation = take_number(&mut rest)?;
        let (kind, after) = rest.split_first()?;
        rest = after;
        let mut part = || {
            let len = usize::try_from(take_number(&mut rest)?).ok()?;
            let (part, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(part.to_vec())
        };
        let (signing, ca, list) = (part()?, part()?, part()?);
        let list = match kind {
            0 => List::Unknown,
            1 => List::Absent,
            2 => List::Published(decode_list(&list)?),
            _ => return None,
        };
        Some(Self { generation, signing, ca, list })
    }
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn encode_list(list: &PublishedList) -> Vec<u8> {
    let summary = &list.summary;
    let flags = usize::from(summary.has_ids) | usize::from(summary.has_ids_alone) << 1;
    let mut bytes = list.digest.to_vec();
    bytes.extend_from_slice(&list.number.to_le_bytes());
    for number in [list.half, list.slots, summary.entries, flags] {
        bytes.extend_from_slice(&(number as u64).to_le_bytes());
    }
    bytes
}

fn decode_list(bytes: &[u8]) -> Option<PublishedList> {
    let (digest, mut rest) = bytes.split_first_chunk()?;
    let build = take_number(&mut rest)?;
    let mut number = || usize::try_from(take_number(&mut rest)?).ok();
    let (half, slots, entries, flags) = (number()?, number()?, number()?, number()?);
    let summary = Summary { entries, has_ids: flags & 1 != 0, has_ids_alone: flags & 2 != 0 };
    Some(PublishedList { number: build, half, slots, summary, digest: *digest })
}

/// The certificates that were parsed last. Their chains take a millisecond to verify, and seldom
/// change when the revocation list does.
#[derive(Default)]
pub(super) struct ParsedCertificates(RefCell<Option<Parsed>>);

struct Parsed {
    signing: Vec<u8>,
    ca: Vec<u8>,
    /// When they were parsed, in unix seconds.
    at: i64,
    signers: Rc<Signers>,
}

impl ParsedCertificates {
    /// The certificates of a snapshot.
    pub(super) fn of(
        &self,
        snapshot: &Snapshot,
        now: i64,
    ) -> Result<Rc<Signers>, CertificateError> {
        let (signing, ca) = (&snapshot.signing, &snapshot.ca);
        if let Some(known) = &*self.0.borrow() {
            // Which chain a certificate has may depend on the time.
            let is_recent = (0..PARSED_FOR).contains(&(now - known.at))
                && (known.signers.not_before()..known.signers.not_after()).contains(&now);
            if is_recent && known.signing == *signing && known.ca == *ca {
                return Ok(known.signers.clone());
            }
        }
        let signers = Rc::new(Signers::from_pem(signing, ca, now)?);
        let (signing, ca) = (signing.clone(), ca.clone());
        *self.0.borrow_mut() = Some(Parsed { signing, ca, at: now, signers: signers.clone() });
        Ok(signers)
    }
}

/// In seconds.
const PARSED_FOR: i64 = 600;

/// What tokens are checked against, parsed.
#[derive(Default)]
pub struct Material {
    /// Which snapshot this was made of; 0 is none.
    pub generation: u64,
    /// The certificates; `None` if none are known.
    pub signers: Option<Rc<Signers>>,
    pub revocations: Revocations,
}

/// The revocation list, parsed.
#[derive(Default)]
pub enum Revocations {
    /// The identity service keeps no list.
    Absent,
    /// The list that was fetched last.
    List(RevocationList<ZoneNames>),
    /// It was never fetched.
    #[default]
    Unknown,
}

impl Material {
    /// The material of a snapshot, whose certificates are these.
    pub fn new(
        snapshot: &Snapshot,
        zone: Zone,
        state: &ServiceState,
        signers: Option<Rc<Signers>>,
    ) -> Self {
        let revocations = match &snapshot.list {
            List::Absent => Revocations::Absent,
            List::Published(list) => {
                let names = ZoneNames::new(zone, state, list);
                Revocations::List(RevocationList::new(list.summary, names))
            }
            List::Unknown => Revocations::Unknown,
        };
        Self { generation: snapshot.generation, signers, revocations }
    }
}

/// Looks at a snapshot that a writer may be at; a write takes microseconds.
pub(super) const LOAD_TRIES: usize = 10;
