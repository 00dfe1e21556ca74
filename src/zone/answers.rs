//! Answers about tokens: who somebody is, or why a token is refused, and how the zone keeps that.

use std::rc::Rc;

use keystone_token::record::Record;
use keystone_token::token::Refusal;
use keystone_zone::{Key, Moment, Verdict};

use super::Zone;

/// An identity as it lies in the cache: bytes that [`Record::new`] has accepted.
#[derive(Clone)]
pub struct Identity(Rc<[u8]>);

impl Identity {
    /// Takes the bytes for an identity if they are one.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Record::new(bytes).is_ok().then(|| Self(bytes.into()))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A view of it.
    pub fn record(&self) -> Option<Record<'_>> {
        Record::new(&self.0).ok()
    }

    /// When its token expires, in unix seconds.
    pub fn expires_at(&self) -> Option<u64> {
        u64::try_from(self.record()?.expires_at()).ok()
    }
}

/// What is known of a token.
#[derive(Clone)]
pub enum Answer {
    /// It is not valid.
    Refused(Refusal),
    /// It is this one's.
    Valid(Identity),
}

impl Zone {
    /// Keeps an answer, where `moment`'s rules are to keep it; says whether it is there.
    pub fn keep(&self, key: &Key, answer: &Answer, moment: &Moment) -> bool {
        match answer {
            Answer::Refused(refusal) => self.keep_refusal(key, refusal, u64::MAX, moment),
            Answer::Valid(identity) => {
                let expires = identity.expires_at().unwrap_or(0);
                let verdict = Verdict::Valid(identity.bytes());
                self.locked(|| self.cache().insert(key, &verdict, expires, moment))
            }
        }
    }

    /// The same for a refusal, until `expires` (unix seconds) at the latest.
    pub fn keep_refusal(
        &self,
        key: &Key,
        refusal: &Refusal,
        expires: u64,
        moment: &Moment,
    ) -> bool {
        let word = refusal.as_str();
        let Some(code) = REMEMBERED.iter().position(|known| *known == word) else { return false };
        let verdict = Verdict::Refused(code as u8);
        self.locked(|| self.cache().insert(key, &verdict, expires, moment))
    }
}

/// The word of a refusal that was kept, by the number that the cache has for it.
pub fn refusal_word(code: u8) -> Option<&'static str> {
    REMEMBERED.get(usize::from(code)).copied()
}

/// The refusals that are kept, by their numbers: those that took a signature check or a question to
/// find.
const REMEMBERED: [&str; 7] = [
    "bad_signature",
    "expired",
    "malformed",
    "no_tenant",
    "revoked",
    "unknown_signer",
    "unknown_token",
];
