//! What the request's tokens come to in a location: bind, expiry, access rules, roles of a service.
//!
//! Who somebody is was settled before, once for the request; this is looked at again in each
//! location that it is redirected to.

use keystone_token::access_rules::Action;
use keystone_token::policy;
use keystone_token::record::Field::UserId;
use keystone_token::record::Record;
use keystone_token::token::Refusal;

use crate::conf::location::LocationConf;
use crate::conf::server::ServerConf;
use crate::context::{Authentication, Context, Subject};
use crate::net::now_sec;
use crate::request::Request;

/// What a token comes to.
#[derive(Clone, Copy)]
pub enum Standing<'c> {
    /// There is none.
    Absent,
    /// It is not valid here; the word says why.
    Refused(&'static str),
    /// Nobody could say.
    Unavailable,
    /// It stands for this one.
    Valid(Record<'c>),
}

impl Standing<'_> {
    /// Whether it stands for somebody.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid(_))
    }
}

/// All that the standing of a request's tokens goes by.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The request.
    pub request: &'a Request,
    /// Its context.
    pub context: &'a Context,
    /// The location that it is in now.
    pub location: &'a LocationConf,
    /// Its server.
    pub server: &'a ServerConf,
}

impl<'a> Place<'a> {
    /// The service token.  It is valid without the roles of a service only where the location does
    /// not ask for them.
    pub fn service(&self) -> Standing<'a> {
        self.judge(&self.context.service, |record| self.check_service(record))
    }

    /// The user token.  A service that hands a request on vouches for more than the user can: that
    /// an expired token was good when its work began, and that the request is within the rules of an
    /// application credential.  A bind is then the service's own (auth_token/__init__.py,
    /// `process_request()`).
    pub fn user(&self, service: &Standing<'_>) -> Standing<'a> {
        self.judge(&self.context.user, |record| {
            if record.expires_at() <= now_sec() && !self.allows_expired() {
                return Err(Refusal::Expired);
            }
            if !service.is_valid() {
                self.check_bind(record)?;
            }
            let action = Action {
                service_types: self.location.service_types(),
                method: self.request.method(),
                raw_path: self.request.raw_path(),
                path: self.request.path(),
            };
            policy::check_access_rules(record, &action, service.is_valid())
        })
    }

    /// Whether a service token lets an expired user token pass: only one with the roles does, also
    /// where others are accepted.
    pub fn allows_expired(&self) -> bool {
        let Some(Authentication::Valid(identity)) = self.context.service.authentication() else {
            return false;
        };
        identity
            .record()
            .is_some_and(|record| self.is_service(&record) && self.check_bind(&record).is_ok())
    }

    fn check_service(&self, record: &Record<'_>) -> Result<(), Refusal> {
        self.check_bind(record)?;
        match self.location.requires_service_roles() && !self.is_service(record) {
            true => Err(Refusal::ServiceRole),
            false => Ok(()),
        }
    }

    fn is_service(&self, record: &Record<'_>) -> bool {
        policy::is_service(record, self.location.service_token_roles())
    }

    fn check_bind(&self, record: &Record<'_>) -> Result<(), Refusal> {
        let (user, negotiate) = (self.request.remote_user(), self.request.is_negotiate());
        policy::check_bind(record, self.location.token_bind(), user, negotiate)
    }

    fn judge(
        &self,
        subject: &'a Subject,
        check: impl FnOnce(&Record<'a>) -> Result<(), Refusal>,
    ) -> Standing<'a> {
        subject.confirmed.set(false);
        let identity = match subject.authentication() {
            None => return Standing::Absent,
            Some(Authentication::Refused(word)) => return Standing::Refused(word),
            Some(Authentication::Unavailable) => return Standing::Unavailable,
            Some(Authentication::Valid(identity)) => identity,
        };
        let Some(record) = identity.record() else { return Standing::Unavailable };
        match check(&record) {
            Ok(()) => {
                subject.confirmed.set(true);
                Standing::Valid(record)
            }
            Err(refusal) => {
                subject.log_refusal(self.request, self.server, &refusal, record.get(UserId));
                Standing::Refused(refusal.as_str())
            }
        }
    }
}
