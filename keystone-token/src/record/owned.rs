//! A record that is checked once and read often.

use super::{to_bytes, Record, RecordError, SECTIONS, TEXT};

/// A record in memory of its own. A look at it costs no check, as [`Record::new`] does.
#[derive(Debug)]
pub struct OwnedRecord {
    flags: u32,
    expires_at: i64,
    issued_at: i64,
    ends: [[u8; 4]; SECTIONS],
    text: Box<str>,
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

    /// The bytes that it was made of.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self.flags, self.expires_at, self.issued_at, self.ends.as_flattened(), &self.text)
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
    fn it_has_the_bytes_and_the_fields_that_it_was_made_of() {
        let body = br#"{"token": {"expires_at": "2030-01-01T00:00:00.000000Z",
            "issued_at": "2029-01-01T00:00:00.000000Z", "is_admin_project": true,
            "user": {"id": "u", "name": "Zo\u00eb", "domain": {"id": "d", "name": "D"}},
            "project": {"id": "p", "name": "P", "domain": {"id": "d", "name": "D"}},
            "roles": [{"id": "1", "name": "admin"}], "audit_ids": ["a", "b"]}}"#;
        let identity = Identity::from_json(body).unwrap();
        let bytes = identity.to_record(true);
        let owned = OwnedRecord::new(&bytes).unwrap();
        assert_eq!(owned.to_bytes(), bytes);
        assert_eq!(owned.size(), bytes.len());
        let described = format!("{:?}", Record::new(&bytes).unwrap());
        assert_eq!(format!("{:?}", owned.view()), described);
        assert!(described.contains("Zoë"), "{described}");
    }

    #[test]
    fn other_bytes_are_none() {
        assert!(OwnedRecord::new(b"").is_err());
        assert!(OwnedRecord::new(&[0; TEXT]).is_err());
    }
}
