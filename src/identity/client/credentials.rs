//! The service token, and where workers keep it.

use keystone_token::secret::Secret;
use keystone_zone::Lease;

/// A token that was obtained with the credentials. Times are of this machine's clock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceToken {
    /// The value of `X-Auth-Token`.
    pub id: Secret,
    /// When it was obtained, in unix seconds.
    pub issued_at: i64,
    /// When it ends, in unix seconds.
    pub expires_at: i64,
}

impl ServiceToken {
    /// Whether it can still be used; a token is given up some time before its end.
    pub fn is_fresh(&self, now: i64) -> bool {
        // Obtained before the clock was set back: when it ends is not known. Another worker's
        // second may have begun a little earlier.
        if self.issued_at > now.saturating_add(1) {
            return false;
        }
        let lifetime = self.expires_at.saturating_sub(self.issued_at);
        let margin = (lifetime / 4).clamp(0, RENEW_AHEAD);
        now < self.expires_at.saturating_sub(margin)
    }
}

/// What workers share: the service token, so that they need not obtain one each, and what keeps
/// them from asking.
pub trait TokenStore {
    /// The token, if there is one.
    fn load(&self) -> Option<ServiceToken>;

    /// Keeps a token in place of the one before, if there is room for it.
    fn store(&self, token: &ServiceToken);

    /// Removes the token from the store.
    fn clear(&self);

    /// Which worker may obtain a token for all; `None` if it cannot be shared.
    fn login_lease(&self) -> Option<Lease<'static>>;

    /// Before when (on nginx's millisecond clock) the credentials are not to be tried, and how many
    /// times in a row they have been refused.
    fn refused(&self) -> (u64, u32);

    /// Sets what [`TokenStore::refused`] returns.
    fn set_refused(&self, not_before: u64, times: u32);

    /// How many times a worker has tried to log in and got no token.
    fn failed_logins(&self) -> u64;

    /// Notes that this one has got none.
    fn note_failed_login(&self);

    /// Before when (on the same clock) an endpoint is not to be asked, as far as it is known here.
    fn held_until(&self, endpoint: usize) -> u64;

    /// Sets what [`TokenStore::held_until`] returns.
    fn set_held_until(&self, endpoint: usize, until: u64);
}

/// A token is renewed this many seconds before it ends, or after three quarters of a short life.
const RENEW_AHEAD: i64 = 120;
