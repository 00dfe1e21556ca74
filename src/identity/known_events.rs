//! The revocation events as a worker has read them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use keystone_token::revocation_events::RevocationEvents;

use crate::failure_log::FailureLog;
use crate::net::{Abandoned, SingleFlight};

/// The events of this worker, and what fetches them.
#[derive(Default)]
pub(super) struct Events {
    /// The fetch that is running.
    pub(super) calls: SingleFlight<(), (), Abandoned>,
    pub(super) known: RefCell<Rc<Known>>,
    /// Failures to fetch the events.
    pub(super) failures: FailureLog,
    /// Whether there was no room for them last time; logged once.
    pub(super) crowded: Cell<bool>,
}

#[derive(Default)]
pub(super) struct Known {
    pub(super) generation: u64,
    /// Whether they have ever been fetched.
    pub(super) were_had: bool,
    pub(super) events: Revoked,
}

pub(super) enum Revoked {
    /// There are more events than the zone has room for: any token may be one of them.
    Any,
    /// The events that are known.
    These(Box<RevocationEvents>),
}

impl Default for Revoked {
    fn default() -> Self {
        Self::These(Box::default())
    }
}
