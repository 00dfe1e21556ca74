//! The service token that workers share through the zone.

use keystone_token::secret::Secret;
use keystone_zone::Lease;

use super::client::{ServiceToken, TokenStore};
use crate::zone::{ServiceState, Zone};

/// The service token in the zone, so that workers need not each ask for one.
///
/// A worker that has outlived two configurations may find the state of another identity service
/// there. Then it neither uses that service's token nor shares its own.
pub(super) struct SharedToken {
    pub(super) zone: Zone,
    pub(super) state: ServiceState,
    /// The number of the service whose token it has to be.
    pub(super) service: u64,
}

impl SharedToken {
    /// Checked after the token was read: a state changes its number first.
    fn is_ours(&self) -> bool {
        self.state.id() == self.service
    }

    fn put(&self, bytes: &[u8]) {
        self.zone.locked(|| {
            if self.is_ours() {
                self.state.token().store(bytes);
            }
        });
    }
}

impl TokenStore for SharedToken {
    fn load(&self) -> Option<ServiceToken> {
        let bytes = self.state.token().load().filter(|_| self.is_ours())?;
        let (issued_at, rest) = bytes.split_first_chunk()?;
        let (expires_at, id) = rest.split_first_chunk()?;
        let id = std::str::from_utf8(id).ok().filter(|id| !id.is_empty())?;
        Some(ServiceToken {
            id: Secret::new(id),
            issued_at: i64::from_le_bytes(*issued_at),
            expires_at: i64::from_le_bytes(*expires_at),
        })
    }

    fn store(&self, token: &ServiceToken) {
        let mut bytes = token.issued_at.to_le_bytes().to_vec();
        bytes.extend_from_slice(&token.expires_at.to_le_bytes());
        bytes.extend_from_slice(token.id.expose().as_bytes());
        self.put(&bytes);
    }

    fn clear(&self) {
        self.put(&[]);
    }

    fn login_lease(&self) -> Option<Lease<'static>> {
        self.is_ours().then(|| self.state.login_lease())
    }

    fn refused(&self) -> (u64, u32) {
        if self.is_ours() {
            self.state.refused()
        } else {
            (0, 0)
        }
    }

    fn set_refused(&self, not_before: u64, times: u32) {
        if self.is_ours() {
            self.state.set_refused(not_before, times);
        }
    }

    fn failed_logins(&self) -> u64 {
        if self.is_ours() {
            self.state.failed_logins()
        } else {
            0
        }
    }

    fn note_failed_login(&self) {
        if self.is_ours() {
            self.state.note_failed_login();
        }
    }

    fn held_until(&self, endpoint: usize) -> u64 {
        if self.is_ours() {
            self.state.held_until(endpoint)
        } else {
            0
        }
    }

    fn set_held_until(&self, endpoint: usize, until: u64) {
        if self.is_ours() {
            self.state.set_held_until(endpoint, until);
        }
    }
}
