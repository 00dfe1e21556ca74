//! Asks the identity service: certificates, the revocation list, about tokens, and for tokens for the
//! module itself.
//!
//! What is asked and what the answers mean is `keystone_token::api`; how it travels is [`net`].
//! Here is the rest: which of several endpoints is asked and when it is asked again, which version
//! it speaks, and how the service token is had, shared and renewed.
//!
//! [`net`]: crate::net

use std::borrow::Cow;
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystone_token::api::{self, ApiVersion, AuthVersion, Validation, Versions};
use keystone_token::secret::Secret;
use keystone_token::status::cells;
use nginx_sys::ngx_log_t;

use super::{millis, millis_since};
use crate::net::{now_msec, Endpoint, HttpClient, HttpSettings, NetError, Response, Timer};
use crate::zone::Tally;

mod credentials;
mod encode;
mod error;
mod login;
mod pause;
mod settings;

pub use self::credentials::{ServiceToken, TokenStore};
use self::encode::encode;
pub use self::error::ClientError;
use self::login::Login;
pub use self::settings::ClientSettings;

/// The answer about revoked tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RevocationAnswer {
    /// The server keeps no list, or not for these credentials: 403, 404 or 410.
    NoList {
        /// The status it said so with.
        status: u16,
    },
    /// The signed list, a CMS in PEM.
    Signed(String),
}

/// The answer about a token.
pub enum Subject {
    /// It is valid: the JSON that says whose it is.
    Known(Bytes),
    /// It is not valid: 404, or it cannot even be asked about.
    Unknown,
}

/// A worker's client of one identity service.
pub struct KeystoneClient {
    sites: Vec<Site>,
    /// The site that answered last.
    current: Cell<usize>,
    version: AuthVersion,
    max_retries: u32,
    http: HttpClient,
    login: Login,
    store: Rc<dyn TokenStore>,
    tally: Tally,
    log: NonNull<ngx_log_t>,
}

/// An endpoint and what is known about it.
struct Site {
    endpoint: Endpoint,
    /// The discovered version, and when it was.
    version: Cell<Option<(ApiVersion, u64)>>,
    /// The version that the URI itself names.
    named_version: Option<ApiVersion>,
    /// Not to be asked before this time (of `now_msec`), as far as this worker was told.
    held_until: Cell<u64>,
}

impl Site {
    fn base(&self) -> &str {
        api::split_base_path(self.endpoint.base_path()).0
    }
}

/// An answer with a status below 500, and who gave it.
struct Answer {
    site: usize,
    version: ApiVersion,
    response: Response,
}

impl Answer {
    fn status(&self) -> u16 {
        self.response.status.as_u16()
    }
}

impl KeystoneClient {
    /// A client that shares its service token through `store`. `log` must stay valid as long as
    /// the client, as the cycle's log does in a worker.
    pub fn new(
        settings: ClientSettings,
        store: Rc<dyn TokenStore>,
        tally: Tally,
        log: NonNull<ngx_log_t>,
    ) -> Self {
        let http = HttpSettings {
            connect_timeout: settings.connect_timeout,
            idle_timeout: IDLE_TIMEOUT,
            keepalive: settings.keepalive,
            read_timeout: settings.read_timeout,
            send_timeout: settings.send_timeout,
            tls: settings.tls,
            user_agent: USER_AGENT,
        };
        let site = |endpoint: Endpoint| Site {
            named_version: api::split_base_path(endpoint.base_path()).1,
            version: Cell::new(None),
            held_until: Cell::new(0),
            endpoint,
        };
        Self {
            sites: settings.endpoints.into_iter().map(site).collect(),
            current: Cell::new(0),
            version: settings.version,
            max_retries: settings.max_retries,
            http: HttpClient::new(http, log),
            login: Login::new(settings.credentials, store.clone()),
            store,
            tally,
            log,
        }
    }

    /// The certificates that tokens are signed with, as they were served.
    pub async fn signing_certificates(&self) -> Result<Bytes, ClientError> {
        let answer =
            self.ask(&|base, version| Ok(api::signing_certificates(base, version))).await?;
        self.certificates(answer)
    }

    /// The certificates of the authorities that issued them, as they were served.
    pub async fn ca_certificates(&self) -> Result<Bytes, ClientError> {
        let answer = self.ask(&|base, version| Ok(api::ca_certificates(base, version))).await?;
        self.certificates(answer)
    }

    /// The list of revoked tokens.
    pub async fn revocation_list(&self) -> Result<RevocationAnswer, ClientError> {
        let answer =
            self.ask_as_service(&|base, version| Ok(api::revocation_list(base, version))).await?;
        match answer.status() {
            200 => api::signed_revocation_list(&answer.response.body)
                .map(RevocationAnswer::Signed)
                .map_err(|err| self.nonsense(&answer, &err)),
            status @ (403 | 404 | 410) => {
                self.forget_version(&answer);
                Ok(RevocationAnswer::NoList { status })
            }
            _ => Err(self.unexpected(&answer)),
        }
    }

    /// Whether a token is valid, and whose it is.
    pub async fn validate(&self, token: &str, how: Validation) -> Result<Subject, ClientError> {
        let asked = self
            .ask_as_service(&|base, version| {
                api::validate(base, version, token, how).map_err(|_| ClientError::Unnameable)
            })
            .await;
        let answer = match asked {
            Err(ClientError::Unnameable) => return Ok(Subject::Unknown),
            asked => asked?,
        };
        match answer.status() {
            // v2.0 has both (RFC 7231, section 6.3.4).
            200 | 203 => Ok(Subject::Known(answer.response.body)),
            404 => {
                self.doubt_version(&answer);
                Ok(Subject::Unknown)
            }
            _ => Err(self.unexpected(&answer)),
        }
    }

    /// What was revoked: the JSON of `OS-REVOKE`, a part of v3.
    pub async fn revocation_events(&self) -> Result<Bytes, ClientError> {
        let answer =
            self.ask_as_service(&|base, _version| Ok(api::revocation_events(base))).await?;
        match answer.status() {
            200 => Ok(answer.response.body),
            status @ (403 | 404 | 410) => {
                Err(ClientError::NotOffered { uri: self.uri(answer.site), status })
            }
            _ => Err(self.unexpected(&answer)),
        }
    }

    fn certificates(&self, answer: Answer) -> Result<Bytes, ClientError> {
        match answer.status() {
            200 if answer.response.body.is_empty() => Err(self.nonsense(&answer, &"empty answer")),
            200 => Ok(answer.response.body),
            status @ (403 | 404 | 410) => {
                self.forget_version(&answer);
                Err(ClientError::NotOffered { uri: self.uri(answer.site), status })
            }
            _ => Err(self.unexpected(&answer)),
        }
    }

    /// Asks with the service token; a token that is refused is replaced once.
    ///
    /// Where the new one is refused too, it may be the question and not the token: v2.0 answers 401
    /// about a user of another domain than the default one.  So the token is kept, for all other
    /// questions, and for a while no 401 is a reason to obtain another one.
    async fn ask_as_service(&self, describe: &Describe<'_>) -> Result<Answer, ClientError> {
        let token = self.login.token(self, None).await?;
        let answer = self.ask_with(describe, Some(&token.id)).await?;
        if answer.status() != 401 {
            self.login.judge(&token, answer.status());
            return Ok(answer);
        }

        info!(
            self.log,
            "keystone: identity service {} refused the service token",
            self.uri(answer.site)
        );
        if let Some(held) = self.login.hold(self) {
            return Err(held);
        }
        let token = self.login.token(self, Some(&token)).await?;
        let answer = self.ask_with(describe, Some(&token.id)).await?;
        if answer.status() == 401 {
            self.login.note_refusal();
            return Err(ClientError::Refused {
                uri: self.uri(answer.site),
                reason: "a new service token is refused too".to_owned(),
            });
        }
        Ok(answer)
    }

    /// Asks without credentials.
    async fn ask(&self, describe: &Describe<'_>) -> Result<Answer, ClientError> {
        self.ask_with(describe, None).await
    }

    /// Asks one endpoint after the other, and again, until one answers.
    async fn ask_with(
        &self,
        describe: &Describe<'_>,
        token: Option<&Secret>,
    ) -> Result<Answer, ClientError> {
        let count = self.sites.len();
        let first = self.current.get();
        // One that is down must not keep the others from being asked.
        let tries = (self.max_retries as usize).saturating_add(1).max(count);

        let mut last_error = None;
        for n in 0..tries {
            let at = (first + n) % count;
            if self.pause_left(at).is_some() {
                last_error.get_or_insert_with(|| self.held(at));
                if (0..count).all(|at| self.pause_left(at).is_some()) {
                    break;
                }
                continue;
            }
            if n >= count && n % count == 0 || count == 1 && n > 0 {
                Timer::new(pause(n / count)).await;
            }

            let error = match self.try_site(at, describe, token).await {
                Ok(answer) => {
                    self.current.set(at);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let others = n + 1 < count && !error.is_of_question();
            let further = n + 1 < tries && (error.is_transient() || others);
            if !further {
                return Err(error);
            }
            info!(self.log, "keystone: identity service {error}, trying again");
            self.tally.retry();
            last_error = Some(error);
        }
        Err(last_error.unwrap_or_else(|| ClientError::Unavailable {
            uri: "identity service".to_owned(),
            reason: "no endpoint to ask".to_owned(),
            status: None,
        }))
    }

    async fn try_site(
        &self,
        at: usize,
        describe: &Describe<'_>,
        token: Option<&Secret>,
    ) -> Result<Answer, ClientError> {
        let version = self.version_of(at).await?;
        let request = describe(self.sites[at].base(), version)?;
        let response = self.send(at, request, token).await?;
        Ok(Answer { site: at, version, response })
    }

    /// The version to use with a site: the configured one, or what the site says.
    async fn version_of(&self, at: usize) -> Result<ApiVersion, ClientError> {
        if let AuthVersion::Fixed(version) = self.version {
            return Ok(version);
        }
        let site = &self.sites[at];
        if let Some((version, since)) = site.version.get() {
            if millis_since(since) < millis(VERSION_LIFETIME) {
                return Ok(version);
            }
        }

        let nonsense = |err: api::ApiError| ClientError::Nonsense {
            uri: self.uri(at),
            reason: err.to_string(),
        };
        let response = self.send(at, api::discovery(site.base()), None).await?;
        let versions = match (read_versions(&response), site.named_version) {
            // What is above a URI that names a version need not be the identity service.
            (Err(_), Some(named)) => {
                let request = api::version_discovery(site.base(), named);
                read_versions(&self.send(at, request, None).await?)
            }
            (versions, _) => versions,
        };
        let version = versions.and_then(|it| it.choose(self.version)).map_err(nonsense)?;

        info!(self.log, "keystone: using {version} of identity service {}", self.uri(at));
        site.version.set(Some((version, now_msec())));
        Ok(version)
    }

    /// Sends one request once. Statuses from 500 on, and those that ask for a pause, are errors.
    async fn send(
        &self,
        at: usize,
        mut request: api::Request,
        token: Option<&Secret>,
    ) -> Result<Response, ClientError> {
        let site = &self.sites[at];
        let max_body = if request.subject.is_some() { MAX_TOKEN } else { MAX_BODY };
        let (kind, started) = (request.kind, Instant::now());

        let body = request.body.take();
        let encoded = encode(&request, body, token)
            .map_err(|reason| ClientError::Nonsense { uri: self.uri(at), reason })?;
        // On the heap: every function that waits for this one would hold its state, some of them
        // more than once, and a task would be started by copying a quarter of a megabyte.
        let result = Box::pin(self.http.request(&site.endpoint, encoded, max_body)).await;

        let took = started.elapsed();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.tally.exchange(at, kind, &ending(&result), micros);
        let took = took.as_millis();
        let response = match result {
            Ok(response) => response,
            Err(err) => {
                debug!(self.log, "keystone: {request:?} at {}: {err}, {took} ms", site.endpoint);
                return Err(self.failed(at, &err));
            }
        };
        let status = response.status.as_u16();
        debug!(self.log, "keystone: {request:?} at {}: status {status}, {took} ms", site.endpoint);

        let pause = pause::asked_for(&response);
        if let Some(pause) = pause {
            let until = now_msec().saturating_add(millis(pause));
            site.held_until.set(until);
            self.store.set_held_until(at, until);
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

    /// How much is left of the pause that a site has asked this or another worker for.
    fn pause_left(&self, at: usize) -> Option<Duration> {
        let until = self.sites[at].held_until.get().max(self.store.held_until(at));
        let left = until.saturating_sub(now_msec());
        // What is longer than any pause was noted before the clock was set back.
        (1..=millis(pause::LONGEST)).contains(&left).then(|| Duration::from_millis(left))
    }

    /// How long the identity service is not asked at all, because it has asked for that or has
    /// refused the credentials.
    pub fn hold_left(&self) -> Option<Duration> {
        let pauses = (0..self.sites.len()).map(|at| self.pause_left(at).unwrap_or_default());
        let pause = pauses.min().unwrap_or_default();
        let hold = pause.max(self.login.hold_left().unwrap_or_default());
        (!hold.is_zero()).then_some(hold)
    }

    /// A server that has lost v2.0 by an upgrade says 404 to all questions in it.
    fn doubt_version(&self, answer: &Answer) {
        let since = self.sites[answer.site].version.get().map(|(_, since)| since);
        let is_old = since.is_some_and(|since| millis_since(since) > DOUBT);
        if answer.version == ApiVersion::V2 && is_old {
            self.forget_version(answer);
        }
    }

    fn forget_version(&self, answer: &Answer) {
        self.sites[answer.site].version.set(None);
    }

    fn uri(&self, at: usize) -> String {
        self.sites[at].endpoint.to_string()
    }

    fn failed(&self, at: usize, err: &NetError) -> ClientError {
        let (uri, reason) = (self.uri(at), err.to_string());
        if err.is_nonsense() {
            return ClientError::Nonsense { uri, reason };
        }
        ClientError::Unavailable { uri, reason, status: None }
    }

    fn held(&self, at: usize) -> ClientError {
        ClientError::Unavailable {
            uri: self.uri(at),
            reason: "has asked for a pause".to_owned(),
            status: Some(429),
        }
    }

    fn nonsense(&self, answer: &Answer, reason: &dyn ToString) -> ClientError {
        ClientError::Nonsense { uri: self.uri(answer.site), reason: reason.to_string() }
    }

    fn unexpected(&self, answer: &Answer) -> ClientError {
        let status = answer.status();
        ClientError::Unavailable {
            uri: self.uri(answer.site),
            reason: format!("unexpected status {status}"),
            status: Some(status),
        }
    }
}

/// Writes a request for a base path and a version.
type Describe<'a> = dyn Fn(&str, ApiVersion) -> Result<api::Request, ClientError> + 'a;

fn read_versions(response: &Response) -> Result<Versions, api::ApiError> {
    match response.status.as_u16() {
        200 | 300 => Versions::parse(&response.body),
        _ => Err(api::ApiError::NotDiscovery),
    }
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

/// Bound on an answer; a revocation list has some 100 bytes an entry.
const MAX_BODY: usize = 16 << 20;

/// The same for one about a token: there may be many at a time, each with a catalog.
const MAX_TOKEN: usize = 1 << 20;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A service that was upgraded is noticed after this time at the latest.
const VERSION_LIFETIME: Duration = Duration::from_secs(3600);

/// A version that was discovered so many milliseconds ago may be looked for again.
const DOUBT: u64 = 60_000;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
