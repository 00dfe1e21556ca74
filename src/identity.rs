//! The identity service: its state, and the requests to it.
//!
//! [`Service`] is configuration, made by the master. A [`ServiceClient`] holds, for the worker process
//! it lives in, the connections to the service and the parsed [`Material`] that tokens are checked
//! against; what workers share lies in the zone.

mod claim;
pub mod client;
mod clock;
mod events;
mod fetch;
mod known_events;
mod lease;
mod names;
mod pace;
mod pending;
mod refresh;
mod refresh_error;
mod revocation_list;
mod second_level;
mod service;
mod service_client;
mod shared_token;
mod snapshot;
mod status;
mod validation;

pub use self::pending::{PendingLimit, RefreshReason, Unavailable, ValidationRequest};
pub use self::service::{start, Service, ServiceError};
pub use self::service_client::{Keeps, ServiceClient};
pub use self::snapshot::{Material, Revocations};
