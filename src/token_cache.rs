//! The caches of answers about tokens: the worker's own, and the one in the zone.

use std::cell::Cell;
use std::time::Duration;

use keystone_gateway::status::cells::CacheLookup;
use keystone_token::record::Record;
use keystone_token::result::AuthResult;
use keystone_zone::{Age, CacheParams, Key, Lookup};

use crate::conf::server::ServerConf;
use crate::context::CacheStatus;
use crate::identity;
use crate::token_state::TokenState;
use crate::worker::Worker;
use crate::zone::{cache_params, Identity};

/// Where an answer comes from. Each source has entries of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Verified here; valid for one generation of certificates and revocation list.
    Offline,
    /// The identity service was asked.
    Online,
    /// It was asked about a token that may have expired. Of its answers only refusals are kept: a
    /// valid token that has not expired is one of [`Source::Online`].
    OnlineExpired,
}

/// The result of a lookup in the caches.
pub struct CacheResult {
    /// The value of `$keystone_cache_status`.
    pub status: CacheStatus,
    /// The same for the counters; `None` where they are off.
    pub look: Option<CacheLookup>,
    /// The state that the caches have for the token.
    pub found: Option<TokenState<Identity>>,
}

/// The caches, as one token of a request of one server sees them.
#[derive(Clone, Copy)]
pub struct TokenCache<'a> {
    pub worker: &'a Worker,
    /// The service that validates the tokens.
    pub service: &'a identity::ServiceClient,
    /// The server, whose cache times apply.
    pub server: &'a ServerConf,
    /// Whether identities are kept with their catalog.
    pub keeps_catalog: bool,
    /// The last key of the request's token, and the name that it was made with: a token that is in
    /// no cache needs it once more, when it is put there.
    pub last_key: &'a Cell<Option<(u64, Key)>>,
}

impl TokenCache<'_> {
    /// The rules for entries, with the time of the request.
    pub fn params(&self, source: Source) -> CacheParams {
        let seconds = |time: Option<Duration>| time.map_or(0, |time| time.as_secs().max(1));
        let generation = match source {
            Source::Offline => self.service.generation(),
            Source::Online | Source::OnlineExpired => self.service.online_generation(),
        };
        let valid_for = seconds(self.server.token_cache_time());
        cache_params(generation, valid_for, seconds(self.server.invalid_cache_time()))
    }

    /// What names a token's entry.
    pub fn key(&self, token: &[u8], source: Source) -> Key {
        let name = self.name(source);
        match self.last_key.get() {
            Some((known, key)) if known == name => key,
            _ => {
                let key = self.worker.zone.key(name, token);
                self.last_key.set(Some((name, key)));
                key
            }
        }
    }

    /// Looks a token up. An identity that was found good in another generation is good in this one
    /// if `still_holds` says so.
    pub fn lookup(
        &self,
        token: &[u8],
        source: Source,
        still_holds: impl FnOnce(&Record<'_>) -> bool,
    ) -> CacheResult {
        let params = self.params(source);
        let nothing = |status, look| CacheResult { status, look, found: None };
        let hit = |look, found| CacheResult {
            status: CacheStatus::Hit,
            look: Some(look),
            found: Some(found),
        };
        if params.valid_for == 0 && params.refused_for == 0 {
            return nothing(CacheStatus::Bypass, None);
        }
        let is_kept = params.valid_for > 0;
        let not_found = || {
            let status = if is_kept { CacheStatus::Miss } else { CacheStatus::Bypass };
            nothing(status, Some(CacheLookup::ZoneMiss))
        };
        let outdated = || nothing(CacheStatus::Expired, Some(CacheLookup::ZoneExpired));

        let (name, cache) = (self.name(source), &self.worker.cache);
        if let Some(identity) = self.worker.recent.lookup(name, token, &params, cache) {
            return hit(CacheLookup::WorkerHit, TokenState::Valid(identity));
        }
        let key = self.key(token, source);
        let mut bytes = Vec::new();
        let (age, renewed) = match cache.lookup(&key, &params, &mut bytes) {
            Lookup::Refused(code) => {
                return match AuthResult::from_code(code) {
                    Some(result) => hit(CacheLookup::ZoneHit, TokenState::Refused(result)),
                    None => not_found(),
                }
            }
            Lookup::Missing => return not_found(),
            Lookup::Outdated if is_kept => return outdated(),
            Lookup::Outdated => return not_found(),
            Lookup::Superseded(age) => (age, true),
            Lookup::Valid(age) => (age, false),
        };
        let Some(identity) = Identity::from_bytes(&bytes) else { return not_found() };
        if renewed {
            if !still_holds(&identity.record()) {
                return outdated();
            }
            self.worker.zone.locked(|| cache.renew(&key, params.generation));
        }
        self.worker.recent.insert(name, token, key, age, &identity, &params);
        hit(CacheLookup::ZoneHit, TokenState::Valid(identity))
    }

    /// Remembers a token that was verified here in the zone, where `params`'s rules are to keep it;
    /// says whether it is there. This worker remembers it when it comes again: many tokens come
    /// once, and to write each into memory that is in none of the processor's caches takes longer
    /// than to find in the zone those that come again. What has no place in the zone is remembered
    /// here at once.
    pub fn remember(&self, token: &[u8], identity: &Identity, params: &CacheParams) -> bool {
        let Some(expires) = identity.expires_at().filter(|_| params.valid_for > 0) else {
            return false;
        };
        let (name, key) = (self.name(Source::Offline), self.key(token, Source::Offline));
        let is_kept = self.worker.zone.keep_identity(&key, identity, params);
        if !is_kept {
            let age = Age { created: params.now, created_tick: params.tick, expires };
            self.worker.recent.insert(name, token, key, age, identity, params);
        }
        is_kept
    }

    /// What names the entries of tokens besides the token: of which service, with or without their
    /// catalog, and from which source.
    fn name(&self, source: Source) -> u64 {
        let source = match source {
            Source::Offline => 0,
            Source::Online => 2,
            Source::OnlineExpired => 4,
        };
        self.service.service().id ^ u64::from(self.keeps_catalog) ^ source
    }
}
