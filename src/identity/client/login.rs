//! The service token: had once for all who wait, renewed in time, and not asked for too often when
//! the credentials are refused.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use keystone_conf::Credentials;
use keystone_token::api::{self, ApiVersion};
use keystone_token::secret::Secret;

use super::credentials::{ServiceToken, TokenStore};
use super::error::ClientError;
use super::KeystoneClient;
use crate::identity::lease::{claim, Claim};
use crate::net::{now_msec, now_sec};

/// The service token of a worker's client.
pub(super) struct Login {
    credentials: Credentials,
    store: Rc<dyn TokenStore>,
    /// The token that was obtained last, where it is too long for the store.
    own: RefCell<Option<ServiceToken>>,
    /// Whether a task is obtaining a token.
    busy: Cell<bool>,
    /// Those that wait for it.
    waiting: RefCell<Vec<Waker>>,
    /// How often obtaining one has been finished, and how it ended last.
    finished: Cell<u64>,
    failure: RefCell<Option<ClientError>>,
}

impl Login {
    pub(super) fn new(credentials: Credentials, store: Rc<dyn TokenStore>) -> Self {
        Self {
            credentials,
            store,
            own: RefCell::default(),
            busy: Cell::new(false),
            waiting: RefCell::default(),
            finished: Cell::new(0),
            failure: RefCell::default(),
        }
    }

    /// A token other than the `refused` one: from the store, or else a new one.
    pub(super) async fn token(
        &self,
        client: &KeystoneClient,
        refused: Option<&ServiceToken>,
    ) -> Result<ServiceToken, ClientError> {
        let unusable = |reason: &str| ClientError::Refused {
            uri: client.uri(client.current.get()),
            reason: reason.to_owned(),
        };
        match &self.credentials {
            Credentials::None => return Err(unusable("no service credentials are configured")),
            Credentials::Token(_) if refused.is_some() => {
                return Err(unusable("the configured service token is refused"))
            }
            Credentials::Token(id) => {
                return Ok(ServiceToken { id: id.clone(), issued_at: 0, expires_at: i64::MAX })
            }
            Credentials::ApplicationCredential { .. } | Credentials::Password { .. } => {}
        }

        if let Some(refused) = refused {
            self.discard(refused);
        }
        loop {
            if let Some(token) = self.known() {
                return Ok(token);
            }
            if let Some(held) = self.hold(client) {
                return Err(held);
            }
            if !self.busy.get() {
                return self.obtain(client).await;
            }
            let seen = self.finished.get();
            self.wait().await;
            // Those who waited for a try share its failure.
            let failure = self.failure.borrow().clone();
            if let Some(failure) = failure.filter(|_| self.finished.get() != seen) {
                return Err(failure);
            }
        }
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

    /// Looks at the status that a question with `token` has come back with: roles are fixed when a
    /// token is issued, so a 403 may end with a newer one.
    pub(super) fn judge(&self, token: &ServiceToken, status: u16) {
        let age = now_sec().saturating_sub(token.issued_at);
        if status == 403 && !matches!(self.credentials, Credentials::Token(_)) && age > RECONSIDER {
            self.discard(token);
        }
    }

    /// Obtains a token, unless another worker does: then that one's is as good.
    async fn obtain(&self, client: &KeystoneClient) -> Result<ServiceToken, ClientError> {
        let turn = Turn::take(self);
        let lease = match self.store.login_lease() {
            None => None,
            // The worker that had the lease before may have got a token, or a refusal.
            Some(lease) => match claim(lease, || self.known()).await {
                Claim::Done(token) => return Ok(token),
                Claim::Mine(lease) => lease,
            },
        };
        let result = match self.hold(client) {
            Some(held) => Err(held),
            None => self.log_in(client).await,
        };
        match &result {
            Ok(token) => {
                self.store.set_refused(0, 0);
                self.store.store(token);
                let is_stored = self.store.load().is_some_and(|stored| stored.id == token.id);
                self.own.replace((!is_stored).then(|| token.clone()));
                self.failure.replace(None);
            }
            Err(err) => drop(self.failure.replace(Some(err.clone()))),
        }
        self.finished.set(self.finished.get().wrapping_add(1));
        drop(lease);
        drop(turn);
        result
    }

    /// Why the credentials are not to be tried now, if they are not.
    pub(super) fn hold(&self, client: &KeystoneClient) -> Option<ClientError> {
        let times = self.store.refused().1;
        self.hold_left().map(|_| ClientError::Refused {
            uri: client.uri(client.current.get()),
            reason: format!(
                "service credentials, or a token got with them, were refused {times} times, not \
                 tried again yet"
            ),
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

    async fn log_in(&self, client: &KeystoneClient) -> Result<ServiceToken, ClientError> {
        let answer = client.ask(&|base, version| self.describe(client, base, version)).await?;
        match answer.status() {
            200 | 201 => {}
            status @ (400 | 401 | 403) => {
                self.note_refusal();
                return Err(ClientError::Refused {
                    uri: client.uri(answer.site),
                    reason: format!("service credentials are refused, status {status}"),
                });
            }
            404 | 410 => {
                client.forget_version(&answer);
                return Err(client.unexpected(&answer));
            }
            _ => return Err(client.unexpected(&answer)),
        }

        let subject = answer.response.headers.get("x-subject-token").map(|value| value.as_bytes());
        let issued = api::issued_token(answer.version, subject, &answer.response.body)
            .map_err(|err| client.nonsense(&answer, &err))?;
        // Only its lifetime counts, if it is known: the clocks may differ.
        let now = now_sec();
        let expires_at = match issued.issued_at {
            Some(at) => now.saturating_add(issued.expires_at.saturating_sub(at)),
            None => issued.expires_at,
        };
        info!(
            client.log,
            "keystone: got a service token for {} s from {}",
            expires_at.saturating_sub(now),
            client.uri(answer.site)
        );
        Ok(ServiceToken { id: Secret::new(issued.id), issued_at: now, expires_at })
    }

    fn describe(
        &self,
        client: &KeystoneClient,
        base: &str,
        version: ApiVersion,
    ) -> Result<api::Request, ClientError> {
        let login = match &self.credentials {
            Credentials::ApplicationCredential { id, secret } => {
                api::Login::ApplicationCredential { id, secret: secret.expose() }
            }
            Credentials::Password {
                username,
                password,
                project_name,
                user_domain_name,
                project_domain_name,
            } => api::Login::Password {
                username,
                password: password.expose(),
                project_name: project_name.as_deref(),
                user_domain_name,
                project_domain_name,
            },
            Credentials::None | Credentials::Token(_) => {
                return Err(ClientError::Refused {
                    uri: client.uri(client.current.get()),
                    reason: "no service credentials are configured".to_owned(),
                })
            }
        };
        api::authenticate(base, version, &login).map_err(|err| ClientError::Refused {
            uri: client.uri(client.current.get()),
            reason: err.to_string(),
        })
    }

    /// Waits until the task that is obtaining a token is through.
    async fn wait(&self) {
        poll_fn(|cx| {
            if !self.busy.get() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// The right to obtain a token. Given back on drop, which also wakes those that wait: the task
/// that had it may have been cancelled.
struct Turn<'a> {
    login: &'a Login,
}

impl<'a> Turn<'a> {
    fn take(login: &'a Login) -> Self {
        login.busy.set(true);
        Self { login }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.login.busy.set(false);
        let waiting = mem::take(&mut *self.login.waiting.borrow_mut());
        for waker in waiting {
            waker.wake();
        }
    }
}

/// For how many milliseconds credentials that were refused this many times are left alone.
fn back_off(times: u32) -> u64 {
    (FIRST_BACK_OFF << times.saturating_sub(1).min(6)).min(LONGEST_BACK_OFF)
}

const FIRST_BACK_OFF: u64 = 5_000;
const LONGEST_BACK_OFF: u64 = 60_000;

/// A token older than this, in seconds, that meets a 403 is replaced.
const RECONSIDER: i64 = 300;
