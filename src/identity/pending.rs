//! Pending refreshes and validations of this worker.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::BTreeMap;
use std::rc::Rc;

use keystone_token::api::Validation;
use keystone_zone::{CacheParams, Key};
use zeroize::Zeroizing;

use crate::client_address::ClientAddress;
use crate::failure_log::LogRateLimit;
use crate::net::{Abandoned, Call, SingleFlight};
use crate::zone::Answer;

/// Why a token cannot be checked before a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshReason {
    /// There are no certificates that can be used.
    Certificates,
    /// The revocation list is too old, or was never fetched.
    List,
    /// A signature does not fit the certificates: they may have been replaced.
    Rotation,
}

/// Why the identity service is unavailable to a request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(Rc<str>);

impl RefreshReason {
    /// The refresh that fetches it.
    pub(super) fn task(self) -> RefreshTask {
        match self {
            Self::Certificates | Self::List => RefreshTask::List,
            Self::Rotation => RefreshTask::Rotation,
        }
    }
}

impl Unavailable {
    /// With the reason, as it continues a log line.
    pub(super) fn new(reason: &dyn std::fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}

impl From<Abandoned> for Unavailable {
    fn from(abandoned: Abandoned) -> Self {
        Self::new(&abandoned)
    }
}

/// A token to validate.
pub struct ValidationRequest {
    /// Visible ASCII only.
    pub token: Zeroizing<String>,
    /// Whether an expired token counts, and whether the catalog is needed.
    pub how: Validation,
    /// The key of the validation, and of a refusal in the cache.
    pub key: Key,
    /// The key of a valid token in the cache.
    pub valid_key: Key,
    /// The rules for the cache, with the time and the generation of the request.
    pub params: CacheParams,
    /// The address that the validation is counted for until it ends.
    pub client: ClientAddress,
}

/// A limit of what is pending in this worker for this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingLimit {
    /// The limit of `keystone_max_pending_per_address`.
    Address,
    /// The limit of `keystone_max_pending` for requests that wait for a refresh.
    Refresh,
    /// The limit of `keystone_max_pending` for validations.
    Validation,
}

impl PendingLimit {
    /// The words for a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "limiting validations by client address",
            Self::Refresh => "limiting requests that wait for certificates or revocation list",
            Self::Validation => "limiting validations",
        }
    }
}

impl ValidationRequest {
    /// Two validations with the same key, and the same maximum age of the answer, are one.
    pub(super) fn call_key(&self) -> ValidationKey {
        (self.key, self.params.valid_for)
    }
}

/// What a refresh fetches.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum RefreshTask {
    /// The list, and certificates where there are none.
    List,
    /// Certificates, where a signature does not fit those that are there.
    Rotation,
}

pub(super) type RefreshCall = Call<(), Unavailable>;

/// The refreshes of this worker.
#[derive(Default)]
pub(super) struct Refreshes {
    pub(super) calls: SingleFlight<RefreshTask, (), Unavailable>,
    waiting_for_list: Cell<usize>,
    waiting_for_rotation: Cell<usize>,
    pub(super) limited: LogRateLimit,
}

impl Refreshes {
    fn waiting_cell(&self, task: RefreshTask) -> &Cell<usize> {
        match task {
            RefreshTask::List => &self.waiting_for_list,
            RefreshTask::Rotation => &self.waiting_for_rotation,
        }
    }

    /// How many requests wait for one of these.
    pub(super) fn waiting(&self, task: RefreshTask) -> usize {
        self.waiting_cell(task).get()
    }

    /// How many requests wait for any refresh.
    pub(super) fn all_waiting(&self) -> usize {
        self.waiting_for_list.get() + self.waiting_for_rotation.get()
    }

    /// Adds to the number of requests that wait, or subtracts from it.
    pub(super) fn add_waiting(&self, task: RefreshTask, more: isize) {
        let waiting = self.waiting_cell(task);
        waiting.set(waiting.get().saturating_add_signed(more));
    }
}

type ValidationKey = (Key, u64);

/// The validations of this worker.
#[derive(Default)]
pub(super) struct Validations {
    pub(super) calls: SingleFlight<ValidationKey, Answer, Unavailable>,
    pending: Cell<usize>,
    /// How many of them are for each address; none is 0.
    by_address: RefCell<BTreeMap<ClientAddress, usize>>,
    pub(super) limited_by_address: LogRateLimit,
    pub(super) limited: LogRateLimit,
}

impl Validations {
    /// The number of pending validations.
    pub(super) fn pending(&self) -> usize {
        self.pending.get()
    }

    /// How many of them are for this address.
    pub(super) fn of_address(&self, client: ClientAddress) -> usize {
        self.by_address.borrow().get(&client).copied().unwrap_or(0)
    }

    /// Counts a validation that begins.
    pub(super) fn begin(&self, client: ClientAddress) {
        self.pending.set(self.pending.get() + 1);
        *self.by_address.borrow_mut().entry(client).or_default() += 1;
    }

    /// Counts a validation that ends.
    pub(super) fn end(&self, client: ClientAddress) {
        self.pending.set(self.pending.get().saturating_sub(1));
        if let Entry::Occupied(mut number) = self.by_address.borrow_mut().entry(client) {
            *number.get_mut() -= 1;
            if *number.get() == 0 {
                number.remove();
            }
        }
    }
}
