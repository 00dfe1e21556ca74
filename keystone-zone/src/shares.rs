//! What a zone has for the certificates and the revocation list of each identity service.

use crate::{NameTable, WORD};

/// The words for the certificates and the two tables of names, in a zone of so many bytes.
pub const fn snapshot_words(zone_size: usize) -> usize {
    let share = zone_size / SHARE;
    (if share > LEAST { share } else { LEAST }) / WORD
}

/// The words of these for the certificates.
pub const fn certificates_words(zone_size: usize) -> usize {
    snapshot_words(zone_size) / CERTIFICATES_SHARE
}

/// The number of names that a revocation list can have.
pub const fn most_names(zone_size: usize) -> usize {
    let of_tables = snapshot_words(zone_size) - certificates_words(zone_size);
    NameTable::capacity_of(of_tables / 2 / NameTable::words(1))
}

/// The share of the zone, and its least size in bytes.
const SHARE: usize = 16;
const LEAST: usize = 64 << 10;

const CERTIFICATES_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::most_names;

    #[test]
    fn ten_megabytes_have_room_for_as_many_entries_as_the_documentation_says() {
        // An entry with an id and an audit id has two names.
        assert_eq!(most_names(10 << 20) / 2, 6_720);
        assert_eq!(most_names(160 << 20) / 2, 107_520);
        assert_eq!(most_names(256 << 10), most_names(1 << 20));
    }
}
