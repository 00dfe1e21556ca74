//! Answers about tokens: whose a token is, or why it is refused, and how the zone keeps that.

use std::rc::Rc;

use keystone_token::online;
use keystone_token::record::{OwnedRecord, Record};
use keystone_token::result::AuthResult;
use keystone_zone::{CacheParams, Key, Verdict};

use super::Zone;

/// An identity, whose copies share one record.
#[derive(Clone)]
pub struct Identity(Rc<OwnedRecord>);

impl Identity {
    /// Takes the bytes for an identity if they are a record.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        OwnedRecord::new(bytes).ok().map(|record| Self(Rc::new(record)))
    }

    /// The bytes of the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// How many bytes these are.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        self.0.view()
    }

    /// When its token expires, in unix seconds; `None` if that was before 1970.
    pub fn expires_at(&self) -> Option<u64> {
        u64::try_from(self.record().expires_at()).ok()
    }
}

/// What Keystone says about a token.
pub type Answer = online::Answer<Identity>;

impl Zone {
    /// Keeps an answer, where `params`'s rules are to keep it; says whether it is there.
    pub fn keep(&self, key: &Key, answer: &Answer, params: &CacheParams) -> bool {
        match answer {
            Answer::Refused(refusal) => self.keep_refusal(key, refusal.result(), u64::MAX, params),
            Answer::Valid(identity) => self.keep_identity(key, identity, params),
        }
    }

    /// The same for an identity.
    pub fn keep_identity(&self, key: &Key, identity: &Identity, params: &CacheParams) -> bool {
        let expires = identity.expires_at().unwrap_or(0);
        let record = identity.to_bytes();
        let verdict = Verdict::Valid(&record);
        self.locked(|| self.cache().insert(key, &verdict, expires, params))
    }

    /// The same for a refusal, until `expires` (unix seconds) at the latest.
    pub fn keep_refusal(
        &self,
        key: &Key,
        result: AuthResult,
        expires: u64,
        params: &CacheParams,
    ) -> bool {
        let verdict = Verdict::Refused(result.code());
        result.is_remembered()
            && self.locked(|| self.cache().insert(key, &verdict, expires, params))
    }
}
