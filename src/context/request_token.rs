//! One of a request's tokens, and what becomes known of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::ptr::NonNull;

use keystone_token::format::TokenFormat;
use keystone_token::refusal::Refusal;
use keystone_zone::Key;

use crate::conf::server::ServerConf;
use crate::identity::Unavailable;
use crate::request::Request;
use crate::token_state::TokenState;
use crate::zone::{Answer, Identity};

/// The result of the cache: `$keystone_cache_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// The cache is `off`.
    Bypass,
    /// The entry was too old, or the revocation list has changed since.
    Expired,
    /// The answer came from the cache.
    Hit,
    /// The cache had no entry.
    Miss,
}

impl CacheStatus {
    /// The word of the variable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "BYPASS",
            Self::Expired => "EXPIRED",
            Self::Hit => "HIT",
            Self::Miss => "MISS",
        }
    }
}

/// Which of a request's two tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `X-Service-Token`: of the service that hands the user's request on.
    Service,
    /// The token of `keystone_token`: by default, of `X-Auth-Token` or `X-Storage-Token`.
    User,
}

impl TokenKind {
    /// How a log line says that the token is refused.
    pub fn refused(self) -> &'static str {
        match self {
            Self::Service => "service token refused",
            Self::User => "refused",
        }
    }
}

/// One of a request's tokens, and what is known about it.
pub struct RequestToken {
    kind: TokenKind,
    token: Option<NonNull<[u8]>>,
    digest: OnceCell<String>,
    state: OnceCell<TokenState<Identity>>,
    /// Whether the identity counts in this location.
    pub confirmed: Cell<bool>,
    /// `None` until the token was classified.
    pub format: Cell<Option<TokenFormat>>,
    /// The result of the cache; `None` before the lookup.
    pub cache_status: Cell<Option<CacheStatus>>,
    /// See `TokenCache`.
    pub last_key: Cell<Option<(u64, Key)>>,
    /// What the request has waited for, if it has: most do not, and their context is smaller.
    waits: RefCell<Option<Box<Waits>>>,
}

/// The outcome of each thing that a request has waited for.
#[derive(Default)]
struct Waits {
    refreshed: Option<Result<(), Unavailable>>,
    rotated: Option<Result<(), Unavailable>>,
    validated: Option<Result<Answer, Unavailable>>,
}

impl RequestToken {
    /// A token of which nothing is known yet.
    pub(super) fn new(kind: TokenKind, token: Option<NonNull<[u8]>>) -> Self {
        Self {
            kind,
            token,
            digest: OnceCell::new(),
            state: OnceCell::new(),
            confirmed: Cell::new(false),
            format: Cell::new(None),
            cache_status: Cell::new(None),
            last_key: Cell::new(None),
            waits: RefCell::new(None),
        }
    }

    /// Which of the two it is.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The bytes of the token; `None` if the request has none.
    pub fn bytes(&self) -> Option<&[u8]> {
        // SAFETY: the token lies in the request's memory, as this does.
        self.token.map(|token| unsafe { token.as_ref() })
    }

    /// The token's name for logs: its digest, never itself.
    pub fn token_name(&self, server: &ServerConf) -> &str {
        self.digest.get_or_init(|| match self.bytes() {
            Some(token) => server.hash_algorithm().hex_digest(token),
            None => "-".to_owned(),
        })
    }

    /// The state of the token, once it is known.
    pub fn state(&self) -> Option<&TokenState<Identity>> {
        self.state.get()
    }

    /// Sets the state of the token. A token is authenticated once, however often the request is
    /// redirected.
    pub fn settle(&self, state: TokenState<Identity>) {
        self.state.get_or_init(|| state);
    }

    /// The identity, where it is valid and counts in this location.
    pub fn identity(&self) -> Option<&Identity> {
        match self.state() {
            Some(TokenState::Valid(identity)) if self.confirmed.get() => Some(identity),
            _ => None,
        }
    }

    /// Logs why the token is refused.
    pub fn log_refusal(
        &self,
        request: &Request,
        server: &ServerConf,
        refusal: &Refusal,
        user: Option<&str>,
    ) {
        let refused = self.kind.refused();
        info!(
            request,
            "keystone: {refused}: {}: {refusal}, token: {}, user: {}",
            refusal.result().as_str(),
            self.token_name(server),
            user.unwrap_or("-")
        );
    }

    /// Notes how a refresh of certificates or revocation list has ended.
    pub fn note_refresh(&self, outcome: Result<(), Unavailable>) {
        self.note(|waits| waits.refreshed = Some(outcome));
    }

    /// Notes the outcome of a fetch of other certificates.
    pub fn note_rotation(&self, outcome: Result<(), Unavailable>) {
        self.note(|waits| waits.rotated = Some(outcome));
    }

    /// Notes what the identity service has said.
    pub fn note_validation(&self, outcome: Result<Answer, Unavailable>) {
        self.note(|waits| waits.validated = Some(outcome));
    }

    fn note(&self, note: impl FnOnce(&mut Waits)) {
        note(self.waits.borrow_mut().get_or_insert_default());
    }

    /// The outcome of the last refresh that the request has waited for.
    pub fn refreshed(&self) -> Option<Result<(), Unavailable>> {
        self.waits.borrow().as_ref()?.refreshed.clone()
    }

    /// The outcome of a fetch of other certificates that the request has waited for.
    pub fn rotated(&self) -> Option<Result<(), Unavailable>> {
        self.waits.borrow().as_ref()?.rotated.clone()
    }

    /// What the identity service has said of the token to this request.
    pub fn validated(&self) -> Option<Result<Answer, Unavailable>> {
        self.waits.borrow().as_ref()?.validated.clone()
    }
}
