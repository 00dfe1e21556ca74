//! The state of a request's tokens in a location: bind, expiry, access rules, roles of a service.
//!
//! The tokens are authenticated before, once for the request; what is here is checked again in each
//! location that the request is redirected to.

use keystone_token::access_rules::Action;
use keystone_token::policy;
use keystone_token::record::Field::UserId;
use keystone_token::record::Record;
use keystone_token::refusal::Refusal;

use crate::conf::location::{LocationConf, CLIENT_CERTIFICATE};
use crate::conf::server::ServerConf;
use crate::context::{Context, RequestToken};
use crate::net::now_sec;
use crate::request::Request;
use crate::token_state::TokenState;

/// What the state of a request's tokens in a location depends on.
#[derive(Clone, Copy)]
pub struct AuthzContext<'a> {
    pub request: &'a Request,
    /// The module's context of the request.
    pub context: &'a Context,
    /// The user token, as the location takes it.
    pub user_token: &'a RequestToken,
    /// The service token.
    pub service_token: &'a RequestToken,
    /// The location that it is in now.
    pub location: &'a LocationConf,
    /// Configuration of the server that the request is for.
    pub server: &'a ServerConf,
    /// Whether this is before the access phase, which says why a token is refused.
    pub is_early: bool,
}

impl<'a> AuthzContext<'a> {
    /// That of the access phase; `None` where the location has not taken the tokens yet.
    pub fn new(
        request: &'a Request,
        context: &'a Context,
        location: &'a LocationConf,
        server: &'a ServerConf,
    ) -> Option<Self> {
        let (user_token, service_token) = context.user().zip(context.service())?;
        let is_early = false;
        Some(Self { request, context, user_token, service_token, location, server, is_early })
    }

    /// The same before the access phase.
    pub fn early(self) -> Self {
        Self { is_early: true, ..self }
    }

    /// The service token. It is valid without the roles of a service only if the location does not
    /// require them.
    pub fn service(&self) -> TokenState<Record<'a>> {
        self.judge(self.service_token, |record| self.check_service(record))
    }

    /// The user token. A valid service token says that an expired user token was valid when the
    /// service began its work, and that the request is within the access rules of an application
    /// credential. A token bind is then that of the service (auth_token/__init__.py,
    /// `process_request()`). A certificate is not: a token that is bound to one is of no use to
    /// anybody who does not have it, whoever handed the token on.
    pub fn user(&self, service: &TokenState<Record<'_>>) -> TokenState<Record<'a>> {
        self.judge(self.user_token, |record| {
            record.check_expiry(now_sec()).or_else(|refusal| match self.allows_expired() {
                true => Ok(()),
                false => Err(refusal),
            })?;
            if !service.is_valid() {
                self.check_bind(record)?;
            }
            self.check_certificate(record)?;
            policy::check_access_rules(record, || self.action(), service.is_valid())
        })
    }

    /// What the request does, to the access rules of an application credential.
    fn action(&self) -> Action<'a> {
        let Self { request, location, .. } = *self;
        let service_path = location.service_path();
        Action {
            service_types: location.service_types(),
            method: request.method(),
            raw_path: request.raw_path(),
            path: request.path(),
            // Without memory it is empty, which no rule is for.
            service_path: service_path.map(|path| request.evaluate(path).unwrap_or_default()),
            has_destination: request.is_copy_or_move() && !request.has_content_handler(),
            queries: [request.raw_query(), request.arguments()],
        }
    }

    /// Whether a service token lets an expired user token pass: only one with the roles does, also
    /// where others are accepted.
    pub fn allows_expired(&self) -> bool {
        let Some(TokenState::Valid(identity)) = self.service_token.state() else {
            return false;
        };
        let record = identity.record();
        self.is_service(&record) && self.check_binds(&record).is_ok()
    }

    fn check_service(&self, record: &Record<'_>) -> Result<(), Refusal> {
        self.check_binds(record)?;
        match self.location.requires_service_roles() && !self.is_service(record) {
            true => Err(Refusal::ServiceRole),
            false => Ok(()),
        }
    }

    fn is_service(&self, record: &Record<'_>) -> bool {
        policy::is_service(record, self.location.service_token_roles())
    }

    fn check_binds(&self, record: &Record<'_>) -> Result<(), Refusal> {
        self.check_bind(record)?;
        self.check_certificate(record)
    }

    fn check_certificate(&self, record: &Record<'_>) -> Result<(), Refusal> {
        let certificate = || match self.location.client_certificate() {
            Some(value) => self.request.evaluate(value),
            None => self.request.variable(CLIENT_CERTIFICATE),
        };
        policy::check_certificate(record, self.location.token_bind(), || {
            certificate().unwrap_or_default()
        })
    }

    fn check_bind(&self, record: &Record<'_>) -> Result<(), Refusal> {
        let (user, negotiate) = (self.request.remote_user(), self.request.is_negotiate());
        policy::check_bind(record, self.location.token_bind(), user, negotiate)
    }

    fn judge(
        &self,
        request_token: &'a RequestToken,
        check: impl FnOnce(&Record<'a>) -> Result<(), Refusal>,
    ) -> TokenState<Record<'a>> {
        request_token.confirmed.set(false);
        let identity = match request_token.state() {
            None | Some(TokenState::Absent) => return TokenState::Absent,
            Some(TokenState::Refused(result)) => return TokenState::Refused(*result),
            Some(TokenState::Unavailable) => return TokenState::Unavailable,
            Some(TokenState::Valid(identity)) => identity,
        };
        let record = identity.record();
        match check(&record) {
            Ok(()) => {
                request_token.confirmed.set(true);
                TokenState::Valid(record)
            }
            Err(refusal) => {
                if !self.is_early {
                    let user = record.get(UserId);
                    request_token.log_refusal(self.request, self.server, &refusal, user);
                }
                TokenState::Refused(refusal.result())
            }
        }
    }
}
