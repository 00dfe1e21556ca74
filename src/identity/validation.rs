//! Asking the identity service about a token: one question for all requests that wait for the same
//! token.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use keystone_gateway::status::cells::Path;
use keystone_token::api::Validation;
use keystone_token::format::TokenFormat;
use keystone_token::online;
use keystone_token::result::AuthResult;
use keystone_zone::{Key, Moment};
use ngx::log::ngx_cycle_log;
use zeroize::Zeroizing;

use super::client::ClientError;
use super::flight::Flight;
use super::refresh::Unavailable;
use super::Worker;
use crate::client_address::ClientAddress;
use crate::incident::Seldom;
use crate::net::{now_sec, spawn};
use crate::zone::{Answer, Identity};

/// A question about a token.
pub struct Question {
    /// The token: visible ASCII.
    pub token: Zeroizing<String>,
    /// What the answer shall cover.
    pub how: Validation,
    /// What names the question, and a refusal in the cache.
    pub key: Key,
    /// What names a valid token in the cache.
    pub valid_key: Key,
    /// By whose rules the answer is kept; its generation is that of the time of the question.
    pub moment: Moment,
    /// Who sent the token: the question counts for this address until it is answered.
    pub client: ClientAddress,
}

/// What bounds the questions that are under way, in this worker and for this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `keystone_max_pending_per_address`.
    Address,
    /// `keystone_max_pending`.
    Worker,
}

impl Bound {
    /// What was limited, as it reads on in a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "limiting validations by client address",
            Self::Worker => "limiting validations",
        }
    }
}

type Outcome = Result<Answer, Unavailable>;

/// The questions that are under way in this worker.
#[derive(Default)]
pub(super) struct Validations {
    flights: RefCell<HashMap<Asked, Rc<Flight<Outcome>>>>,
    /// How many of them are for each address; none is 0.
    by_address: RefCell<HashMap<ClientAddress, usize>>,
    limited_by_address: Seldom,
    limited: Seldom,
}

/// What makes two questions one: the key, and how old an answer may be.
type Asked = (Key, u64);

impl Question {
    fn asked(&self) -> Asked {
        (self.key, self.moment.valid_for)
    }
}

impl Validations {
    /// How many there are.
    pub(super) fn under_way(&self) -> usize {
        self.flights.borrow().len()
    }

    /// Gives them up.
    pub(super) fn cancel(&self) {
        let flights: Vec<_> = self.flights.borrow().values().cloned().collect();
        flights.into_iter().for_each(|flight| flight.cancel());
    }

    fn of_address(&self, client: ClientAddress) -> usize {
        self.by_address.borrow().get(&client).copied().unwrap_or(0)
    }

    fn begin(&self, asked: Asked, client: ClientAddress, flight: Rc<Flight<Outcome>>) {
        self.flights.borrow_mut().insert(asked, flight);
        *self.by_address.borrow_mut().entry(client).or_default() += 1;
    }

    fn end(&self, asked: &Asked, client: ClientAddress) {
        self.flights.borrow_mut().remove(asked);
        if let Entry::Occupied(mut number) = self.by_address.borrow_mut().entry(client) {
            *number.get_mut() -= 1;
            if *number.get() == 0 {
                number.remove();
            }
        }
    }
}

impl Worker {
    /// Whether this question may be asked, or which bound it would exceed.  A question that is under
    /// way is not asked again, whoever needs the answer: that exceeds nothing.
    pub fn may_ask(&self, question: &Question) -> Result<(), Bound> {
        if self.validations.flights.borrow().contains_key(&question.asked()) {
            return Ok(());
        }
        let per_address = self.service.settings.max_pending_per_address;
        if per_address > 0 && self.validations.of_address(question.client) >= per_address {
            return Err(Bound::Address);
        }
        match self.validations.under_way() < self.service.settings.max_pending {
            true => Ok(()),
            false => Err(Bound::Worker),
        }
    }

    /// Counts a request that a bound has refused; whether the log is to be told of it at `warn`.
    pub fn note_limited(&self, bound: Bound) -> bool {
        if self.is_current() {
            self.state.count_limited(bound == Bound::Address);
        }
        match bound {
            Bound::Address => self.validations.limited_by_address.is_due(),
            Bound::Worker => self.validations.limited.is_due(),
        }
    }

    /// Asks, or waits for the answer to the same question.
    ///
    /// Where no answer is kept, one to a question that was asked before this request came does not
    /// count either: the token may have been revoked since.  Those that have waited for it share
    /// the next one.
    pub async fn validate(self: Rc<Self>, question: Question) -> Outcome {
        let under_way = || self.validations.flights.borrow().get(&question.asked()).cloned();
        if let Some(flight) = under_way() {
            let outcome = flight.landed().await;
            if question.moment.valid_for > 0 || !matches!(outcome, Ok(Answer::Valid(_))) {
                return outcome;
            }
        }
        let flight = under_way();
        let flight = flight.unwrap_or_else(|| self.start_validation(question));
        flight.landed().await
    }

    fn start_validation(self: &Rc<Self>, question: Question) -> Rc<Flight<Outcome>> {
        let (flight, asked) = (Rc::<Flight<Outcome>>::default(), question.asked());
        let client = question.client;
        self.validations.begin(asked, client, flight.clone());
        self.note_pending();
        let (worker, ended) = (self.clone(), self.clone());
        flight.launch(
            async move { worker.answer(&question).await },
            move || {
                ended.validations.end(&asked, client);
                ended.note_pending();
            },
            Err(Unavailable::given_up()),
        );
        flight
    }

    /// The answer, which is also put into the shared cache.
    async fn answer(self: &Rc<Self>, question: &Question) -> Outcome {
        if let Some((identity, moment)) = self.recalled(question).await {
            let answer = Answer::Valid(identity);
            self.zone.keep(&question.valid_key, &answer, &moment);
            self.count(question, Path::Memcached, Some(&answer));
            return Ok(answer);
        }
        let asked_at = now_sec();
        let answer = self.ask(question).await;
        self.report_validation(answer.as_ref().err());
        self.count(question, Path::Online, answer.as_ref().ok());
        let answer = answer.map_err(|error| Unavailable::new(&error))?;
        let key = match &answer {
            Answer::Refused(_) => &question.key,
            Answer::Valid(identity) => {
                self.tell_fleet(question, identity, asked_at);
                &question.valid_key
            }
        };
        let is_kept = self.zone.keep(key, &answer, &question.moment);
        if let (false, Answer::Valid(identity)) = (is_kept, &answer) {
            self.report_unkept(question, identity);
        }
        Ok(answer)
    }

    /// What another gateway was told, as far as nothing has revoked it since, and the moment from
    /// which on it counts.
    async fn recalled(&self, question: &Question) -> Option<(Identity, Moment)> {
        let max_age = Duration::from_secs(question.moment.valid_for);
        if max_age.is_zero() || question.how.allow_expired || !self.can_tell_revoked() {
            return None;
        }
        let token = question.token.as_bytes();
        let recalled = self.recall(token, max_age).await?;
        let identity = Identity::new(&recalled.record)?;
        if self.may_be_revoked(token, &identity.record()?) {
            debug!(ngx_cycle_log(), "keystone: another gateway's answer may be revoked");
            return None;
        }
        debug!(ngx_cycle_log(), "keystone: another gateway's answer is used");
        let now = u64::try_from(recalled.made_at).ok()?.min(question.moment.now);
        let age = question.moment.now.saturating_sub(now);
        let tick = question.moment.tick.saturating_sub(age.saturating_mul(1_000));
        Some((identity, Moment { now, tick, ..question.moment }))
    }

    /// Tells the other gateways, which no request need wait for.
    fn tell_fleet(self: &Rc<Self>, question: &Question, identity: &Identity, asked_at: i64) {
        let max_age = Duration::from_secs(question.moment.valid_for);
        let expires_at = identity.expires_at().and_then(|expires| i64::try_from(expires).ok());
        let is_told = self.memcached.is_some() && !question.how.allow_expired;
        let Some(expires_at) = expires_at.filter(|_| is_told) else { return };
        let (worker, token) = (self.clone(), question.token.clone());
        let identity = identity.clone();
        spawn(async move {
            let (token, record) = (token.as_bytes(), identity.bytes());
            worker.share(token, record, asked_at, expires_at, max_age).await;
        })
        .detach();
    }

    async fn ask(&self, question: &Question) -> Result<Answer, ValidationError> {
        let identity = match self.client.validate(&question.token, question.how).await? {
            online::Answer::Refused(refusal) => return Ok(Answer::Refused(refusal)),
            online::Answer::Valid(identity) => identity,
        };
        if let (Err(refusal), false) =
            (identity.check_expiry(now_sec()), question.how.allow_expired)
        {
            return Ok(Answer::Refused(refusal));
        }
        for role in &identity.omitted_roles {
            warn!(
                ngx_cycle_log(),
                "keystone: role \"{role}\" is left out: it has a comma, or a blank at an end"
            );
        }
        let record = identity.to_record(question.how.catalog);
        Identity::new(&record).map(Answer::Valid).ok_or(ValidationError::TooLarge)
    }

    fn count(&self, question: &Question, path: Path, answer: Option<&Answer>) {
        let result = match answer {
            None => AuthResult::IdentityUnavailable,
            Some(Answer::Refused(refusal)) => refusal.result(),
            Some(Answer::Valid(_)) => AuthResult::Ok,
        };
        self.zone.count_validation(TokenFormat::of(question.token.as_bytes()), path, result);
    }

    /// Without a place in the cache the token will be asked about with each request.
    fn report_unkept(&self, question: &Question, identity: &Identity) {
        let lives = identity.expires_at().is_some_and(|expires| expires > question.moment.now);
        if lives && question.moment.valid_for > 0 {
            warn!(
                ngx_cycle_log(),
                "keystone: an identity of {} bytes, most of it a service catalog, has no place in \
                 the cache",
                identity.bytes().len()
            );
        }
    }

    /// Tells the start of an incident and its end; each request that meets it has a line of its own.
    fn report_validation(&self, error: Option<&ValidationError>) {
        let (log, name) = (ngx_cycle_log(), self.service.name());
        match error {
            None if self.mute.works() => {
                notice!(log, "keystone: identity service \"{name}\" validates tokens again");
            }
            Some(error) if self.mute.fails() => {
                error!(log, "keystone: \"{name}\" cannot be asked about tokens: {error}");
            }
            None | Some(_) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ValidationError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer about a token is larger than any token")]
    TooLarge,
}
