//! Why a configuration whose directives are right cannot be used.

use keystone_conf::{ErrorAt, Position, SettingsError};
use thiserror::Error;

use crate::identity::ServiceError;

/// Why the module cannot set up what the directives ask for.
#[derive(Debug, Error)]
pub enum SetupError {
    /// nginx has no configuration of the module at this level.
    #[error("the module has no configuration here")]
    NoConfiguration,
    /// nginx cannot allocate memory.
    #[error("no memory")]
    NoMemory,
    /// The identity service cannot be used as it is configured.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The directives of a server do not fit together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// nginx refuses the zone of shared memory.
    #[error("the zone of \"keystone_cache_zone\" cannot be added")]
    Zone,
}

impl SetupError {
    /// The directives that it is about; those that are not set are passed over.
    pub fn directives(&self) -> Vec<&'static str> {
        match self {
            Self::Service(error) => error.directives(),
            Self::Settings(error) => error.directives(),
            Self::NoConfiguration | Self::NoMemory | Self::Zone => Vec::new(),
        }
    }
}

/// Why a location cannot be protected.
#[derive(Debug, Error)]
pub enum LocationError {
    /// nginx has no memory, or not the structures that the module was built for.
    #[error(
        "cannot prepare nginx's caches for tokens that the upstream does not get: no memory, or \
         the module was built for another nginx"
    )]
    Cache,
    /// Its directives do not fit together.
    #[error(transparent)]
    Settings(#[from] ErrorAt<SettingsError>),
    /// What it needs cannot be set up.
    #[error("{reason} in {position}")]
    Setup {
        /// What cannot be set up.
        reason: SetupError,
        /// The directive that it is about, or that of `keystone_auth`.
        position: Position,
    },
}
