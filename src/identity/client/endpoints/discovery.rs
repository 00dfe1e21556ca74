//! Which version of the API an endpoint has.
//!
//! The endpoint is asked for its versions when it is first used, after an hour, and when an answer
//! shows that the version may no longer be the right one. A version stays in use while the endpoint
//! does not tell its versions.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use keystone_token::api::{self, ApiVersion, AuthVersion, Discovery, ForeignAnswer, Versions};
use keystone_token::online::AnswerError;

use super::{location, Answer, ClientError, Endpoints};
use crate::failure_log::FailureLog;
use crate::identity::clock::{millis, millis_since};
use crate::net::{now_msec, StaleIfError};

/// The version of an endpoint, as far as this worker knows.
pub(super) struct KnownVersion {
    found: StaleIfError<Found, ClientError>,
    /// Whether it has to be looked for again, however recently it was found.
    is_in_doubt: Cell<bool>,
    /// Of looking for it again.
    failures: FailureLog,
}

/// What an endpoint has said about its versions.
#[derive(Clone)]
struct Found {
    /// The version to use.
    version: ApiVersion,
    /// The path below which it lives, where a redirect has led elsewhere.
    base: Option<Rc<str>>,
    /// When it was said, on nginx's millisecond clock.
    at: u64,
}

impl Default for KnownVersion {
    fn default() -> Self {
        Self {
            found: StaleIfError::new(None),
            is_in_doubt: Cell::default(),
            failures: FailureLog::default(),
        }
    }
}

impl KnownVersion {
    /// Gives up looking for it.
    pub(super) fn cancel(&self) {
        self.found.cancel();
    }

    /// Whether it may not be the right one any more.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.get()
    }

    fn is_current(&self, found: &Found) -> bool {
        !self.is_in_doubt() && millis_since(found.at) < millis(LIFETIME)
    }
}

impl Endpoints {
    /// The version to use with an endpoint, the configured one or what the endpoint says, and the
    /// path below which it lives, where that is not the configured one.
    pub(super) async fn version_of(
        self: &Rc<Self>,
        at: usize,
    ) -> Result<(ApiVersion, Option<Rc<str>>), ClientError> {
        if let AuthVersion::Fixed(version) = self.settings.auth_version {
            return Ok((version, None));
        }
        let known = &self.endpoints[at].version;
        let found = match known.found.value().filter(|found| known.is_current(found)) {
            Some(found) => found,
            None => {
                let endpoints = self.clone();
                known.found.renew(|| async move { endpoints.look_for_version(at).await }).await?
            }
        };
        Ok((found.version, found.base))
    }

    /// Asks an endpoint for its versions, and reports that.
    async fn look_for_version(&self, at: usize) -> Result<Found, ClientError> {
        let known = &self.endpoints[at].version;
        let found = self.choose_version(at).await;
        match (&found, known.found.value()) {
            (Ok(found), _) => {
                known.is_in_doubt.set(false);
                let (version, uri) = (found.version, self.uri(at));
                info!(self.log, "keystone: using {version} of identity service {uri}");
                if known.failures.on_success() {
                    notice!(self.log, "keystone: identity service {uri} tells its versions again");
                }
            }
            (Err(error), Some(Found { version, .. })) if known.failures.on_failure() => {
                warn!(
                    self.log,
                    "keystone: cannot read the versions of identity service {error}, {version} \
                     stays in use"
                );
            }
            (Err(_), _) => {}
        }
        found
    }

    /// Asks an endpoint for its versions, and chooses the one to use.
    async fn choose_version(&self, at: usize) -> Result<Found, ClientError> {
        let state = &self.endpoints[at];
        let (_, named) = api::split_base_path(state.endpoint.base_path());
        let told = self.discover(at, &api::discovery(state.base())).await;
        let told = match (told, named) {
            // What is above a URI that names a version need not be the identity service.
            (Err(ClientError::InvalidResponse { .. }), Some(named)) => {
                self.discover(at, &api::version_discovery(state.base(), named)).await
            }
            (told, _) => told,
        };
        let (versions, base) = told?;
        let version = versions.choose(self.settings.auth_version).map_err(|error| {
            // It has answered, and it has not said that the known version is still there.
            state.version.found.forget();
            self.invalid(at, &error)
        })?;
        Ok(Found { version, base, at: now_msec() })
    }

    /// Asks for the versions, and follows redirects on the way.
    async fn discover(
        &self,
        at: usize,
        first: &api::Request,
    ) -> Result<(Versions, Option<Rc<str>>), ClientError> {
        let endpoint = &self.endpoints[at].endpoint;
        let mut discovery = Discovery::new(endpoint.is_https(), endpoint.authority(), first);
        loop {
            let mut request = discovery.request();
            let response = self.send(at, &mut request, None).await?;
            let status = response.status.as_u16();
            if discovery.follow(status, location(&response)) {
                continue;
            }
            return match status {
                status if api::is_discovery_success(status) => Versions::parse(&response.body)
                    .map(|versions| (versions, discovery.base().map(Rc::from)))
                    .map_err(|error| self.invalid(at, &error)),
                300..=399 => {
                    let location = location(&response);
                    Err(self.invalid(at, &ForeignAnswer::redirect(&request, status, location)))
                }
                status => Err(self.invalid(at, &AnswerError::Status(status))),
            };
        }
    }

    /// Whether a 404 about a token says that it is unknown. A server that no longer has v2.0 after an
    /// upgrade answers 404 to all requests in v2.0, so the version is looked for again then; a second
    /// one counts only if that has found v2.0.
    pub(in crate::identity::client) fn trusts_404(&self, answer: &Answer) -> bool {
        if answer.version == ApiVersion::V2 {
            self.doubt(answer.endpoint);
        }
        answer.version != ApiVersion::V2 || !answer.is_version_in_doubt
    }

    /// Lets the version be looked for again, unless it was found a short time ago.
    pub(super) fn doubt(&self, at: usize) {
        let known = &self.endpoints[at].version;
        if known.found.value().is_some_and(|found| millis_since(found.at) > DOUBT) {
            known.is_in_doubt.set(true);
        }
    }

    /// Lets the versions be read again at the next request.
    pub(in crate::identity::client) fn reread_version(&self, answer: &Answer) {
        self.endpoints[answer.endpoint].version.is_in_doubt.set(true);
    }
}

/// A service that was upgraded is noticed after this time at the latest.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A version that was found so many milliseconds ago may be looked for again.
const DOUBT: u64 = 60_000;
