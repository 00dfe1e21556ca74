//! The endpoints of one identity service: which one gets a request, when it is tried again, and
//! which version of the API it has ([`discovery`]).

use std::borrow::Cow;
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ::http::header::LOCATION;
use keystone_conf::ServiceSettings;
use keystone_gateway::status::cells;
use keystone_token::api::{self, ApiVersion, ForeignAnswer, Subject};
use keystone_token::secret::Secret;
use nginx_sys::ngx_log_t;

use self::discovery::KnownVersion;
use super::credentials::TokenStore;
use super::encode::{encode, secret_body, X_SUBJECT_TOKEN};
use super::error::ClientError;
use super::pause;
use crate::failure_log::LogRateLimit;
use crate::identity::clock::millis;
use crate::identity::service::Service;
use crate::net::{
    now_msec, Endpoint, HttpClient, HttpSettings, NetError, Response, Timeouts, Timer,
};
use crate::zone::ServiceCounters;

mod discovery;

/// The endpoints of one identity service, as one worker sees them.
pub(super) struct Endpoints {
    endpoints: Vec<EndpointState>,
    /// The index of the one that answered last.
    current: Cell<usize>,
    settings: &'static ServiceSettings,
    http: HttpClient,
    store: Rc<dyn TokenStore>,
    counters: ServiceCounters,
    /// Limits the log lines about answers that name another token.
    mismatches: LogRateLimit,
    pub(super) log: NonNull<ngx_log_t>,
}

/// An endpoint and its state.
struct EndpointState {
    endpoint: Endpoint,
    version: KnownVersion,
    /// No request before this time (of `now_msec`), as far as this worker knows.
    held_until: Cell<u64>,
    /// Whether an answer about a token has named this one, as Keystone's do. A stand-in may not.
    names_tokens: Cell<bool>,
}

impl EndpointState {
    fn base(&self) -> &str {
        api::split_base_path(self.endpoint.base_path()).0
    }
}

/// A response with a status below 500, and the endpoint that sent it.
pub(super) struct Answer {
    pub(super) endpoint: usize,
    pub(super) version: ApiVersion,
    /// Whether it may no longer have this version, and has not said so.
    is_version_in_doubt: bool,
    pub(super) response: Response,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status.as_u16()
    }
}

impl Endpoints {
    /// `log` must stay valid as long as this and its requests, as the cycle's log does in a worker.
    pub(super) fn new(
        service: &'static Service,
        store: Rc<dyn TokenStore>,
        counters: ServiceCounters,
        log: NonNull<ngx_log_t>,
    ) -> Self {
        let settings = &service.settings;
        let http = HttpSettings {
            timeouts: Timeouts {
                connect: settings.connect_timeout,
                read: settings.read_timeout,
                send: settings.send_timeout,
            },
            idle_timeout: IDLE_TIMEOUT,
            keepalive: settings.keepalive,
            tls: service.tls.clone(),
            user_agent: USER_AGENT,
        };
        let state = |endpoint: &Endpoint| EndpointState {
            version: KnownVersion::default(),
            held_until: Cell::new(0),
            names_tokens: Cell::new(false),
            endpoint: endpoint.clone(),
        };
        Self {
            endpoints: service.endpoints.iter().map(state).collect(),
            current: Cell::new(0),
            settings,
            http: HttpClient::new(http, log),
            store,
            counters,
            mismatches: LogRateLimit::default(),
            log,
        }
    }

    /// Gives up asking for versions and addresses.
    pub(super) fn cancel(&self) {
        for EndpointState { endpoint, version, .. } in &self.endpoints {
            version.cancel();
            endpoint.cancel();
        }
    }

    /// Asks one endpoint after the other, and again, until one answers. The request carries `token`
    /// if it needs one.
    pub(super) async fn ask(
        self: &Rc<Self>,
        build: &BuildRequest<'_>,
        token: Option<&Secret>,
    ) -> Result<Answer, ClientError> {
        // Not zero: without a URI there is no service.
        let count = self.endpoints.len();
        let first = self.current.get();
        let is_held = |n: usize| self.pause_left((first + n) % count).is_some();
        let retries = self.settings.max_retries as usize;

        let (mut tried, mut rounds) = (0, 0);
        let mut last_error = None;
        for n in 0.. {
            let at = (first + n) % count;
            // Before the first of a round that may be asked.
            if tried > 0 && n / count > rounds && !is_held(n) {
                rounds = n / count;
                Timer::new(pause(rounds)).await;
            }
            if is_held(n) {
                last_error.get_or_insert_with(|| self.held(at));
                if (0..count).all(is_held) {
                    break;
                }
                continue;
            }

            let error = match self.try_endpoint(at, build, token).await {
                Ok(answer) => {
                    self.current.set(at);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // Every endpoint is tried, even if some are down.
            let has_others = (n + 1..count).any(|n| !is_held(n));
            let is_transient = error.is_transient();
            let further = match has_others {
                true => is_transient || !error.is_about_token(),
                false => is_transient && tried < retries,
            };
            if !further {
                return Err(error);
            }
            tried += 1;
            info!(self.log, "keystone: identity service {error}, trying again");
            self.counters.retry();
            last_error = Some(error);
        }
        Err(last_error.unwrap_or_else(|| ClientError::Unavailable {
            uri: "identity service".to_owned(),
            reason: "no endpoint to ask".to_owned(),
            status: None,
        }))
    }

    async fn try_endpoint(
        self: &Rc<Self>,
        at: usize,
        build: &BuildRequest<'_>,
        token: Option<&Secret>,
    ) -> Result<Answer, ClientError> {
        let (version, base) = self.version_of(at).await?;
        let is_version_in_doubt = self.endpoints[at].version.is_in_doubt();
        let base = base.as_deref().unwrap_or_else(|| self.endpoints[at].base());
        let mut request = build(base, version)?;
        let response = self.send(at, &mut request, token).await?;
        let (status, location) = (response.status.as_u16(), location(&response));
        if let Err(foreign) = ForeignAnswer::check(&request, status, location, &response.body) {
            self.doubt(at);
            return Err(self.invalid(at, &foreign));
        }
        Ok(Answer { endpoint: at, version, is_version_in_doubt, response })
    }

    /// Sends one request once. Statuses from 500 on, and those that ask for a pause, are errors.
    async fn send(
        &self,
        at: usize,
        request: &mut api::Request,
        token: Option<&Secret>,
    ) -> Result<Response, ClientError> {
        let state = &self.endpoints[at];
        let max_body = if request.subject.is_some() { MAX_TOKEN } else { MAX_BODY };
        let (kind, started) = (request.kind, Instant::now());

        let body = request.body.take().map(secret_body).unwrap_or_default();
        let encoded =
            || encode(request, &body, token).map_err(|error| NetError::Request(error.to_string()));
        // On the heap: every function that waits for this one would hold its state, some of them
        // more than once, and a task would be started by copying a quarter of a megabyte.
        let result = Box::pin(self.http.request(&state.endpoint, encoded, max_body)).await;

        let took = started.elapsed();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counters.exchange(at, kind, &ending(&result), micros);
        let took = took.as_millis();
        let response = match result {
            Ok(response) => response,
            Err(err) => {
                debug!(self.log, "keystone: {request:?} at {}: {err}, {took} ms", state.endpoint);
                return Err(self.failed(at, &err));
            }
        };
        let status = response.status.as_u16();
        debug!(self.log, "keystone: {request:?} at {}: status {status}, {took} ms", state.endpoint);

        match names_subject(request, &response) {
            Some(false) if state.names_tokens.get() => return Err(self.mismatched(at)),
            Some(true) => state.names_tokens.set(true),
            Some(false) | None => {}
        }
        let pause = pause::asked_for(&response);
        if let Some(pause) = pause {
            let until = now_msec().saturating_add(millis(pause));
            state.held_until.set(until);
            self.store.set_held_until(at, until);
        }
        let proxy = state.endpoint.forwarding_proxy().filter(|_| pause.is_none());
        if let Some(proxy) = proxy.filter(|_| api::is_proxy_answer(status, &response.body)) {
            return Err(self.failed(at, &proxy.refusal(status)));
        }
        if pause.is_some() || status >= 500 {
            return Err(ClientError::Unavailable {
                uri: self.uri(at),
                reason: format!("status {status}"),
                status: Some(status),
            });
        }
        Ok(response)
    }

    /// An answer is about another token than the one that was asked about, and the endpoint has named
    /// the right one before. Then the responses on its connection no longer belong to the requests
    /// (a proxy has mixed them up, or sent one too many), and the next one would be taken for the
    /// answer to somebody else's question.
    fn mismatched(&self, at: usize) -> ClientError {
        self.http.close_idle();
        let (uri, reason) = (self.uri(at), "response is about another token".to_owned());
        if self.mismatches.is_due() {
            warn!(
                self.log,
                "keystone: identity service {uri}: {reason}, its connections are closed"
            );
        }
        ClientError::Unavailable { uri, reason, status: None }
    }

    /// How much is left of the pause that an endpoint has asked this or another worker for.
    fn pause_left(&self, at: usize) -> Option<Duration> {
        let until = self.endpoints[at].held_until.get().max(self.store.held_until(at));
        let left = until.saturating_sub(now_msec());
        // What is longer than any pause was noted before the clock was set back.
        (1..=millis(pause::LONGEST)).contains(&left).then(|| Duration::from_millis(left))
    }

    /// How long no endpoint is to be asked, because all have asked for that.
    pub(super) fn hold_left(&self) -> Option<Duration> {
        let pauses = (0..self.endpoints.len()).map(|at| self.pause_left(at));
        pauses.min().flatten()
    }

    /// The URI of an endpoint, for logs and errors.
    pub(super) fn uri(&self, at: usize) -> String {
        self.endpoints[at].endpoint.to_string()
    }

    /// The URI of the endpoint that answered last.
    pub(super) fn current_uri(&self) -> String {
        self.uri(self.current.get())
    }

    fn failed(&self, at: usize, err: &NetError) -> ClientError {
        let (uri, reason) = (self.uri(at), err.to_string());
        if err.is_invalid_response() {
            return ClientError::InvalidResponse { uri, reason };
        }
        ClientError::Unavailable { uri, reason, status: None }
    }

    fn held(&self, at: usize) -> ClientError {
        ClientError::Unavailable {
            uri: self.uri(at),
            reason: "requests are paused, as it has asked".to_owned(),
            status: Some(429),
        }
    }

    pub(super) fn invalid_response(&self, answer: &Answer, reason: &dyn ToString) -> ClientError {
        self.invalid(answer.endpoint, reason)
    }

    fn invalid(&self, at: usize, reason: &dyn ToString) -> ClientError {
        ClientError::InvalidResponse { uri: self.uri(at), reason: reason.to_string() }
    }

    pub(super) fn unexpected(&self, answer: &Answer) -> ClientError {
        let status = answer.status();
        ClientError::Unavailable {
            uri: self.uri(answer.endpoint),
            reason: format!("unexpected status {status}"),
            status: Some(status),
        }
    }
}

/// Writes a request for a base path and a version.
pub(super) type BuildRequest<'a> =
    dyn Fn(&str, ApiVersion) -> Result<api::Request, ClientError> + 'a;

fn location(response: &Response) -> Option<&str> {
    response.headers.get(LOCATION).and_then(|location| location.to_str().ok())
}

/// Whether the answer names the token that the request asks about, and no other one; `None` if it
/// names none, or need not name this one.
fn names_subject(request: &api::Request, response: &Response) -> Option<bool> {
    if let (Some(Subject::Path(_)), true) = (&request.subject, response.status.is_success()) {
        return request.is_about_id_in(&response.body);
    }
    let named = response.headers.get_all(X_SUBJECT_TOKEN).iter();
    let is_it = named.map(|token| request.is_about(token.as_bytes()));
    is_it.reduce(|one, other| Some(one? && other?))?
}

/// How an exchange ended, in a word.
fn ending(result: &Result<Response, NetError>) -> Cow<'static, str> {
    match result {
        Err(error) if error.is_timeout() => cells::TIMEOUT.into(),
        Err(_) => cells::FAILED.into(),
        Ok(response) => response.status.as_u16().to_string().into(),
    }
}

/// How long to wait before a further round of tries.
fn pause(round: usize) -> Duration {
    let factor = 1u32 << round.saturating_sub(1).min(8);
    (FIRST_PAUSE * factor).min(LONGEST_PAUSE)
}

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Bound on an answer; a revocation list has some 160 bytes an entry.
const MAX_BODY: usize = 64 << 20;

/// The same for one about a token: there may be many at a time, each with a catalog.
const MAX_TOKEN: usize = 1 << 20;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
