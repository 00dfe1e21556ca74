//! The directives of the whole http block: `keystone_cache_zone` and `keystone_worker_cache`.

use std::str::FromStr;

use crate::position::Positions;
use crate::value::{self, ZoneError};

/// The directives of the http block that no level below it can change.
#[derive(Clone, Debug, Default)]
pub struct MainConf {
    /// Where the directives are.
    pub positions: Positions,
    /// `keystone_cache_zone`.
    pub zone: Option<ZoneSettings>,
    /// `keystone_worker_cache`, in bytes.
    pub worker_cache: Option<usize>,
}

impl MainConf {
    /// The zone, as it is configured or by default.
    pub fn zone(&self) -> ZoneSettings {
        let default = || ZoneSettings { name: "keystone".to_owned(), size: 10 << 20 };
        self.zone.clone().unwrap_or_else(default)
    }

    /// What a worker keeps in memory of its own, in bytes.
    pub fn worker_cache(&self) -> usize {
        self.worker_cache.unwrap_or(64 << 20)
    }
}

/// A zone of shared memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneSettings {
    /// The name of the zone, never empty.
    pub name: String,
    /// The size of the zone, in bytes.
    pub size: usize,
}

impl FromStr for ZoneSettings {
    type Err = ZoneError;

    /// Parses `zone=NAME:SIZE`.
    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let name_and_size = text.strip_prefix("zone=").and_then(|value| value.split_once(':'));
        let (name, size) =
            name_and_size.filter(|(name, _)| !name.is_empty()).ok_or(ZoneError::Form)?;
        match value::size(size) {
            None => Err(ZoneError::Size),
            Some(size) if size < LEAST_SIZE => Err(ZoneError::TooSmall),
            Some(size) => Ok(Self { name: name.to_owned(), size }),
        }
    }
}

const LEAST_SIZE: usize = 256 << 10;
