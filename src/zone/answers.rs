//! Answers about tokens: whose a token is, or why it is refused, and how the zone keeps that.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;

use arrayvec::ArrayVec;
use keystone_token::headers::{self, user_headers};
use keystone_token::online;
use keystone_token::record::{OwnedRecord, Record};
use keystone_token::result::AuthResult;
use keystone_zone::{CacheParams, Key, Verdict};
use nginx_sys::ngx_table_elt_t;

use super::Zone;
use crate::headers_in::element;
use crate::net::{now_msec, now_sec};

/// An identity, whose copies share one record.
#[derive(Clone)]
pub struct Identity(Rc<Shared>);

struct Shared {
    record: OwnedRecord,
    /// Their values lie in the record, whose text stays where it is.
    headers: ArrayVec<ngx_table_elt_t, { headers::USER_HEADERS_LEN }>,
}

impl Identity {
    /// Takes the bytes for an identity if they are a record.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        OwnedRecord::new(bytes).ok().map(Self::new)
    }

    /// The identity of a record.
    pub fn new(record: OwnedRecord) -> Self {
        let mut shared = Rc::new(Shared { record, headers: ArrayVec::new() });
        // Of the record where it stays.
        let view = shared.record.view();
        let headers = user_headers(&view).map(|(name, value)| element(name, value.as_bytes()));
        let headers = headers.collect();
        // It has no copy yet.
        if let Some(shared) = Rc::get_mut(&mut shared) {
            shared.headers = headers;
        }
        Self(shared)
    }

    /// The bytes of the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.record.to_bytes()
    }

    /// How many bytes these are.
    pub fn size(&self) -> usize {
        self.0.record.size()
    }

    /// How many bytes the identity takes in this process.
    pub fn memory(&self) -> usize {
        size_of::<Shared>() + self.size()
    }

    /// Lets the processor fetch what a request needs of it.
    pub fn prefetch(&self) {
        let shared: *const MaybeUninit<u8> = ptr::from_ref(&*self.0).cast();
        for line in (0..size_of::<Shared>()).step_by(LINE) {
            // SAFETY: the byte lies in the structure, and may be one that was never written.
            black_box(unsafe { shared.add(line).read() });
        }
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        self.0.record.view()
    }

    /// Its headers, except the catalog, as elements of nginx's list: each request with a known token
    /// has them. The values live as long as the identity.
    pub fn headers(&self) -> &[ngx_table_elt_t] {
        &self.0.headers
    }

    /// When its token expires, in unix seconds; `None` if that was before 1970.
    pub fn expires_at(&self) -> Option<u64> {
        u64::try_from(self.record().expires_at()).ok()
    }
}

/// The rules for entries of these times, with the time of the request.
pub fn cache_params(generation: u64, valid_for: u64, refused_for: u64) -> CacheParams {
    let now = u64::try_from(now_sec()).unwrap_or(0);
    CacheParams { generation, now, tick: now_msec(), valid_for, refused_for }
}

/// Bytes that the processor fetches at once.
const LINE: usize = 64;

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
