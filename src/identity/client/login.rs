//! The service token: obtained once for all that wait for it, renewed before it expires, and not
//! requested too often while the credentials are refused.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use keystone_conf::Credentials;
use keystone_token::api::{self, ApiVersion};
use keystone_token::secret::Secret;

use super::credentials::{ServiceToken, TokenStore};
use super::encode::X_SUBJECT_TOKEN;
use super::endpoints::Endpoints;
use super::error::ClientError;
use crate::identity::lease::{acquire, renewing, Acquired};
use crate::net::{now_msec, now_sec, SingleFlight};

/// Obtains the service token of a worker's client.
pub(super) struct Login {
    credentials: &'static Credentials,
    store: Rc<dyn TokenStore>,
    endpoints: Rc<Endpoints>,
    /// The token that was obtained last, where it is too long for the store.
    own: RefCell<Option<ServiceToken>>,
    /// The login that is running.
    calls: SingleFlight<(), ServiceToken, ClientError>,
}

impl Login {
    pub(super) fn new(
        credentials: &'static Credentials,
        store: Rc<dyn TokenStore>,
        endpoints: Rc<Endpoints>,
    ) -> Self {
        Self {
            credentials,
            store,
            endpoints,
            own: RefCell::default(),
            calls: SingleFlight::default(),
        }
    }

    /// Gives up obtaining a token.
    pub(super) fn cancel(&self) {
        self.calls.cancel();
    }

    /// A token other than the `refused` one: from the store, or else a new one.
    pub(super) async fn token(
        self: &Rc<Self>,
        refused: Option<&ServiceToken>,
    ) -> Result<ServiceToken, ClientError> {
        match self.credentials {
            Credentials::None => {
                return Err(self.refused("no service credentials are configured".to_owned()))
            }
            Credentials::Token(_) if refused.is_some() => {
                return Err(self.refused("the configured service token is refused".to_owned()))
            }
            Credentials::Token(id) => {
                return Ok(ServiceToken { id: id.clone(), issued_at: 0, expires_at: i64::MAX })
            }
            Credentials::ApplicationCredential { .. } | Credentials::Password { .. } => {}
        }

        if let Some(refused) = refused {
            self.discard(refused);
        }
        if let Some(token) = self.known() {
            return Ok(token);
        }
        if let Some(held) = self.hold() {
            return Err(held);
        }
        let obtain = || {
            let login = self.clone();
            async move { login.obtain().await }
        };
        // All that wait for it share its failure, too.
        self.calls.join((), obtain).outcome().await
    }

    /// A token that can still be used.
    fn known(&self) -> Option<ServiceToken> {
        let known = self.store.load().or_else(|| self.own.borrow().clone());
        known.filter(|token| token.is_fresh(now_sec()))
    }

    /// Forgets `token`, unless it has been replaced already.
    fn discard(&self, token: &ServiceToken) {
        if self.store.load().is_some_and(|stored| stored.id == token.id) {
            self.store.clear();
        }
        self.own.borrow_mut().take_if(|own| own.id == token.id);
    }

    /// Checks the status of a response to a request with `token`. A token keeps the roles of the
    /// time when it was issued, so a newer one may end a 403.
    pub(super) fn judge(&self, token: &ServiceToken, status: u16) {
        let age = now_sec().saturating_sub(token.issued_at);
        if status == 403 && !matches!(self.credentials, Credentials::Token(_)) && age > RECONSIDER {
            self.discard(token);
        }
    }

    /// Obtains a token, or takes the one that another worker obtains, or its failure: each would wait
    /// for the time-outs of those before it as well.
    async fn obtain(&self) -> Result<ServiceToken, ClientError> {
        let failed = self.store.failed_logins();
        let outcome = || match self.known() {
            Some(token) => Some(Ok(token)),
            None if self.store.failed_logins() != failed => Some(Err(self.failed_elsewhere())),
            None => None,
        };
        let lease = match self.store.login_lease() {
            None => None,
            Some(lease) => match acquire(lease, outcome).await {
                Acquired::Done(outcome) => return outcome,
                Acquired::Mine(lease) => lease,
            },
        };
        if let Some(held) = self.hold() {
            return Err(held);
        }
        let outcome = renewing(lease.as_ref(), self.log_in()).await;
        let token = outcome.inspect_err(|_| self.store.note_failed_login())?;
        self.store.set_refused(0, 0);
        self.store.store(&token);
        let is_stored = self.store.load().is_some_and(|stored| stored.id == token.id);
        self.own.replace((!is_stored).then(|| token.clone()));
        Ok(token)
    }

    fn failed_elsewhere(&self) -> ClientError {
        self.hold().unwrap_or_else(|| ClientError::Unavailable {
            uri: self.endpoints.current_uri(),
            reason: "another worker has got no service token".to_owned(),
            status: None,
        })
    }

    /// Why the credentials are not to be tried now, if they are not.
    pub(super) fn hold(&self) -> Option<ClientError> {
        let times = self.store.refused().1;
        self.hold_left().map(|_| {
            self.refused(format!(
                "service credentials, or a token got with them, were refused {times} times, not \
                 tried again yet"
            ))
        })
    }

    /// How long the credentials are not to be tried.
    pub(super) fn hold_left(&self) -> Option<Duration> {
        let left = self.store.refused().0.saturating_sub(now_msec());
        // What is longer than any hold was noted before the clock was set back.
        (1..=LONGEST_BACK_OFF).contains(&left).then(|| Duration::from_millis(left))
    }

    /// Notes that the credentials, or a token just obtained with them, were refused.
    pub(super) fn note_refusal(&self) {
        let times = self.store.refused().1.saturating_add(1);
        self.store.set_refused(now_msec().saturating_add(back_off(times)), times);
    }

    async fn log_in(&self) -> Result<ServiceToken, ClientError> {
        let answer = self.endpoints.ask(&|base, version| self.build(base, version), None).await?;
        match answer.status() {
            status if api::is_login_success(status) => {}
            status @ (400 | 401 | 403) => {
                self.note_refusal();
                return Err(ClientError::Refused {
                    uri: self.endpoints.uri(answer.endpoint),
                    reason: format!("service credentials are refused, status {status}"),
                });
            }
            404 | 410 => {
                self.endpoints.reread_version(&answer);
                return Err(self.endpoints.unexpected(&answer));
            }
            _ => return Err(self.endpoints.unexpected(&answer)),
        }

        let subject = answer.response.headers.get(X_SUBJECT_TOKEN).map(HeaderValue::as_bytes);
        let issued = api::issued_token(answer.version, subject, &answer.response.body)
            .map_err(|err| self.endpoints.invalid_response(&answer, &err))?;
        // Only its lifetime counts, if it is known: the clocks may differ.
        let now = now_sec();
        let expires_at = match issued.issued_at {
            Some(at) => now.saturating_add(issued.expires_at.saturating_sub(at)),
            None => issued.expires_at,
        };
        info!(
            self.endpoints.log,
            "keystone: got a service token for {} s from {}",
            expires_at.saturating_sub(now),
            self.endpoints.uri(answer.endpoint)
        );
        Ok(ServiceToken { id: Secret::new(issued.id), issued_at: now, expires_at })
    }

    fn build(&self, base: &str, version: ApiVersion) -> Result<api::Request, ClientError> {
        let Some(login) = self.credentials.login() else {
            return Err(self.refused("no service credentials are configured".to_owned()));
        };
        api::authenticate(base, version, &login).map_err(|err| self.refused(err.to_string()))
    }

    fn refused(&self, reason: String) -> ClientError {
        ClientError::Refused { uri: self.endpoints.current_uri(), reason }
    }
}

/// For how many milliseconds credentials are not tried again after this many refusals.
fn back_off(times: u32) -> u64 {
    (FIRST_BACK_OFF << times.saturating_sub(1).min(6)).min(LONGEST_BACK_OFF)
}

const FIRST_BACK_OFF: u64 = 5_000;
const LONGEST_BACK_OFF: u64 = 60_000;

/// A token older than this, in seconds, that meets a 403 is replaced.
const RECONSIDER: i64 = 300;
