//! Requests to the identity service: for certificates, the revocation list, the validation of
//! tokens, and service tokens.
//!
//! `keystone_token::api` says what to send and what a response means, and [`net`] sends it. This
//! module chooses the endpoint, its version, and the time of the next try ([`endpoints`]). It also
//! obtains, shares and renews the service token ([`login`]).
//!
//! [`net`]: crate::net

use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use keystone_token::api::{self, ApiError, Validation};
use keystone_token::online::{self, AnswerError};
use keystone_token::revocation::{AnswerReader, SignedList};
use nginx_sys::ngx_log_t;

use self::endpoints::{Answer, BuildRequest, Endpoints};
use self::error::ClientError;
use self::login::Login;
use super::pace::{release, Pace};
use super::service::Service;
use crate::zone::ServiceCounters;

mod credentials;
mod encode;
mod endpoints;
pub(super) mod error;
mod login;
mod pause;

pub use self::credentials::{ServiceToken, TokenStore};

/// The answer about revoked tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RevocationAnswer {
    /// The server keeps no list, or not for these credentials: 403, 404 or 410.
    NoList {
        /// The status it said so with.
        status: u16,
    },
    /// The signed list.
    Signed(SignedList),
}

/// A worker's client of one identity service.
pub struct KeystoneClient {
    endpoints: Rc<Endpoints>,
    login: Rc<Login>,
    log: NonNull<ngx_log_t>,
}

impl KeystoneClient {
    /// A client of `service` that shares its service token through `store`. `log` must stay valid
    /// as long as the client, as the cycle's log does in a worker.
    pub fn new(
        service: &'static Service,
        store: Rc<dyn TokenStore>,
        counters: ServiceCounters,
        log: NonNull<ngx_log_t>,
    ) -> Self {
        let endpoints = Rc::new(Endpoints::new(service, store.clone(), counters, log));
        let login = Rc::new(Login::new(&service.settings.credentials, store, endpoints.clone()));
        Self { endpoints, login, log }
    }

    /// Gives up obtaining a service token, asking for versions and resolving names.
    pub fn stop(&self) {
        self.login.cancel();
        self.endpoints.cancel();
    }

    /// How long the identity service is not asked at all, because it has asked for that or has
    /// refused the credentials.
    pub fn hold_left(&self) -> Option<Duration> {
        self.endpoints.hold_left().max(self.login.hold_left())
    }

    /// The certificates that tokens are signed with, as they were served.
    pub async fn signing_certificates(&self) -> Result<Bytes, ClientError> {
        let build = |base: &str, version| Ok(api::signing_certificates(base, version));
        let answer = self.endpoints.ask(&build, None).await?;
        self.certificates(answer)
    }

    /// The certificates of the authorities that issued them, as they were served.
    pub async fn ca_certificates(&self) -> Result<Bytes, ClientError> {
        let build = |base: &str, version| Ok(api::ca_certificates(base, version));
        let answer = self.endpoints.ask(&build, None).await?;
        self.certificates(answer)
    }

    /// The list of revoked tokens.
    pub async fn revocation_list(&self) -> Result<RevocationAnswer, ClientError> {
        let answer =
            self.ask_as_service(&|base, version| Ok(api::revocation_list(base, version))).await?;
        match answer.status() {
            status if api::is_success(status) => {
                let list = read_list(&answer.response.body).await;
                let list = list.map_err(|err| self.endpoints.invalid_response(&answer, &err))?;
                release(answer.response.body.into(), Pace::EachRound).await;
                Ok(RevocationAnswer::Signed(list))
            }
            status if api::is_not_offered(status) => {
                self.endpoints.reread_version(&answer);
                Ok(RevocationAnswer::NoList { status })
            }
            _ => Err(self.endpoints.unexpected(&answer)),
        }
    }

    /// Whether a token is valid, and whose it is.
    pub async fn validate(
        &self,
        token: &str,
        how: Validation,
    ) -> Result<online::Answer, ClientError> {
        let asked = self
            .ask_as_service(&|base, version| {
                api::validate(base, version, token, how).map_err(ClientError::TokenNotEncodable)
            })
            .await;
        let answer = match asked {
            Err(ClientError::TokenNotEncodable(refusal)) => {
                return Ok(online::Answer::Refused(refusal))
            }
            asked => asked?,
        };
        if answer.status() == 404 && !self.endpoints.trusts_404(&answer) {
            return Err(self.endpoints.unexpected(&answer));
        }
        online::judge_answer(answer.status(), &answer.response.body).map_err(|error| match error {
            AnswerError::Status(_) => self.endpoints.unexpected(&answer),
            error => self.endpoints.invalid_response(&answer, &error),
        })
    }

    /// What was revoked: the JSON of `OS-REVOKE`, a part of v3.
    pub async fn revocation_events(&self) -> Result<Bytes, ClientError> {
        let answer =
            self.ask_as_service(&|base, _version| Ok(api::revocation_events(base))).await?;
        match answer.status() {
            status if api::is_success(status) => Ok(answer.response.body),
            status if api::is_not_offered(status) => {
                Err(ClientError::NotOffered { uri: self.endpoints.uri(answer.endpoint), status })
            }
            _ => Err(self.endpoints.unexpected(&answer)),
        }
    }

    fn certificates(&self, answer: Answer) -> Result<Bytes, ClientError> {
        match answer.status() {
            status if api::is_success(status) && answer.response.body.is_empty() => {
                Err(self.endpoints.invalid_response(&answer, &"empty response"))
            }
            status if api::is_success(status) => Ok(answer.response.body),
            status if api::is_not_offered(status) => {
                self.endpoints.reread_version(&answer);
                Err(ClientError::NotOffered { uri: self.endpoints.uri(answer.endpoint), status })
            }
            _ => Err(self.endpoints.unexpected(&answer)),
        }
    }

    /// Asks with the service token; a token that is refused is replaced once.
    ///
    /// Where the new one is refused too, it may be the question and not the token: v2.0 answers 401
    /// about a user of another domain than the default one. So the token is kept, for all other
    /// questions, and for a while no 401 is a reason to obtain another one.
    async fn ask_as_service(&self, build: &BuildRequest<'_>) -> Result<Answer, ClientError> {
        let token = self.login.token(None).await?;
        let answer = self.endpoints.ask(build, Some(&token.id)).await?;
        if answer.status() != 401 {
            self.login.judge(&token, answer.status());
            return Ok(answer);
        }

        info!(
            self.log,
            "keystone: identity service {} refused the service token",
            self.endpoints.uri(answer.endpoint)
        );
        if let Some(held) = self.login.hold() {
            return Err(held);
        }
        let token = self.login.token(Some(&token)).await?;
        let answer = self.endpoints.ask(build, Some(&token.id)).await?;
        if answer.status() == 401 {
            self.login.note_refusal();
            return Err(ClientError::Refused {
                uri: self.endpoints.uri(answer.endpoint),
                reason: "a new service token is refused too".to_owned(),
            });
        }
        Ok(answer)
    }
}

/// Reads the list out of an answer, some of its lines in each round of the event loop.
async fn read_list(body: &[u8]) -> Result<SignedList, ApiError> {
    let mut reader = AnswerReader::new(body);
    loop {
        if let Some(list) = reader.read(LINES)? {
            return Ok(list);
        }
        Pace::EachRound.pause().await;
    }
}

/// Lines of the list, 64 characters each, that are read in a step.
const LINES: usize = 1_000;
