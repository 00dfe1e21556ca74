//! A record that is checked once and read often.

use super::{Record, RecordError, MAGIC, SECTIONS, TEXT};

/// A record in memory of its own. A look at it costs no check, as [`Record::new`] does.
#[derive(Debug)]
pub struct OwnedRecord {
    pub(super) flags: u32,
    pub(super) expires_at: i64,
    pub(super) issued_at: i64,
    pub(super) ends: [[u8; 4]; SECTIONS],
    pub(super) text: Box<str>,
}

impl OwnedRecord {
    /// Copies `bytes` if they are a record.
    pub fn new(bytes: &[u8]) -> Result<Self, RecordError> {
        let Record { flags, expires_at, issued_at, ends, text } = Record::new(bytes)?;
        Ok(Self { flags, expires_at, issued_at, ends: *ends, text: text.into() })
    }

    /// The record, to read from.
    pub fn view(&self) -> Record<'_> {
        let Self { flags, expires_at, issued_at, ref ends, ref text } = *self;
        Record { flags, expires_at, issued_at, ends, text }
    }

    /// Its bytes, of which [`OwnedRecord::new`] makes it again.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.expires_at.to_le_bytes());
        bytes.extend_from_slice(&self.issued_at.to_le_bytes());
        bytes.extend_from_slice(self.ends.as_flattened());
        bytes.extend_from_slice(self.text.as_bytes());
        bytes
    }

    /// How many bytes these are.
    pub fn size(&self) -> usize {
        TEXT + self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn its_bytes_make_the_same_record() {
        let body = br#"{"token": {"expires_at": "2030-01-01T00:00:00.000000Z",
            "issued_at": "2029-01-01T00:00:00.000000Z", "is_admin_project": true,
            "user": {"id": "u", "name": "Zo\u00eb", "domain": {"id": "d", "name": "D"}},
            "project": {"id": "p", "name": "P", "domain": {"id": "d", "name": "D"}},
            "roles": [{"id": "1", "name": "admin"}], "audit_ids": ["a", "b"]}}"#;
        let identity = Identity::from_json(body).unwrap();
        let (record, _) = identity.to_record(true);
        let bytes = record.to_bytes();
        assert_eq!(record.size(), bytes.len());
        let described = format!("{:?}", record.view());
        assert_eq!(format!("{:?}", Record::new(&bytes).unwrap()), described);
        assert_eq!(format!("{:?}", OwnedRecord::new(&bytes).unwrap().view()), described);
        assert!(described.contains("Zoë"), "{described}");
    }

    #[test]
    fn other_bytes_are_none() {
        assert!(OwnedRecord::new(b"").is_err());
        assert!(OwnedRecord::new(&[0; TEXT]).is_err());
    }
}
