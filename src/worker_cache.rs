//! The cache of a worker process, in front of the one in the zone: a token is compared, not hashed,
//! and its identity is shared, not copied.

use std::cell::{Cell, RefCell};

use keystone_zone::{Age, Cache, CacheParams, Key};

use crate::zone::Identity;

/// Valid tokens that a worker has seen last.
///
/// A token has a set of [`WAYS`] slots that it may be in. A token keeps its slot while it is in
/// use: if there are more tokens than slots, taking turns would cost each of them a copy.
pub struct WorkerCache {
    inner: RefCell<Slots>,
}

struct Slots {
    /// A set has memory once it had a token.
    sets: Box<[Option<Box<Set>>]>,
    /// What all entries take.
    bytes: usize,
    /// What they take at most.
    limit: usize,
    /// Where room is looked for next.
    hand: usize,
}

/// The slots that a token may be in.
#[derive(Default)]
struct Set {
    /// The hash of the token in each slot, so that a look at a set reads one line of memory.
    tags: [u64; WAYS],
    entries: [Option<Entry>; WAYS],
}

/// The place of a slot.
#[derive(Clone, Copy)]
struct Slot {
    set: usize,
    way: usize,
}

/// A valid token, and what is known of it. What a look-up reads is in the first of two lines of
/// memory, for with many tokens none of them is in the processor's caches.
#[repr(C, align(64))]
struct Entry {
    token: Box<[u8]>,
    service: u64,
    generation: u64,
    identity: Identity,
    age: Age,
    key: Key,
    /// When the token was used last, and the shared cache told of it.
    touched: Cell<u64>,
}

impl Entry {
    /// What it takes with such a token and identity.
    fn bytes(token: &[u8], identity: &Identity) -> usize {
        size_of::<Self>() + token.len() + identity.memory()
    }

    fn is_of(&self, service: u64, token: &[u8]) -> bool {
        if self.service != service || self.token.len() != token.len() {
            return false;
        }
        // Meanwhile the processor compares.
        self.identity.prefetch();
        *self.token == *token
    }

    /// Whether the token was not used for a second, or is of another generation.
    fn is_idle(&self, params: &CacheParams) -> bool {
        self.generation != params.generation
            || self.touched.get().saturating_add(IDLE_MSEC) < params.tick
    }
}

impl WorkerCache {
    /// An empty cache whose tokens and identities take at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let sets = (limit / SMALLEST / WAYS).min(MOST_SETS).next_power_of_two();
        let sets = (0..sets).map(|_| None).collect();
        Self { inner: RefCell::new(Slots { sets, bytes: 0, limit, hand: 0 }) }
    }

    /// The identity of a token that is still good. The use is noted in `shared` too, at most once a
    /// millisecond, so that a token in use is not evicted there.
    pub fn lookup(
        &self,
        service: u64,
        token: &[u8],
        params: &CacheParams,
        shared: &Cache<'_>,
    ) -> Option<Identity> {
        let slots = self.inner.borrow();
        let entry = slots.find(service, token).and_then(|slot| slots.entry(slot))?;
        let good =
            entry.generation == params.generation && entry.age.is_good(params.valid_for, params);
        if !good {
            return None;
        }
        if entry.touched.replace(params.tick) != params.tick {
            shared.touch(&entry.key, params.tick);
        }
        Some(entry.identity.clone())
    }

    /// Remembers a valid token of this age, if there is room.
    pub fn insert(
        &self,
        service: u64,
        token: &[u8],
        key: Key,
        age: Age,
        identity: &Identity,
        params: &CacheParams,
    ) {
        let slots = &mut *self.inner.borrow_mut();
        let Some(slot) = slots.find(service, token).or_else(|| slots.free(token, params)) else {
            return;
        };
        slots.remove(slot);
        let bytes = Entry::bytes(token, identity);
        if !slots.make_room(bytes, params) {
            return;
        }
        let (generation, touched) = (params.generation, Cell::new(params.tick));
        let set = slots.sets[slot.set].get_or_insert_default();
        set.tags[slot.way] = hash(token);
        let (token, identity) = (token.into(), identity.clone());
        let entry = Entry { service, token, key, generation, age, touched, identity };
        set.entries[slot.way] = Some(entry);
        slots.bytes += bytes;
    }
}

impl Slots {
    /// The place of the slots that the token may be in.
    fn set(&self, hash: u64) -> usize {
        // Their number is a power of two.
        hash as usize & (self.sets.len() - 1)
    }

    fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.sets[slot.set].as_ref()?.entries[slot.way].as_ref()
    }

    /// The slot that the token is in.
    fn find(&self, service: u64, token: &[u8]) -> Option<Slot> {
        let hash = hash(token);
        let at = self.set(hash);
        let set = self.sets[at].as_ref()?;
        let is_it =
            |entry: &Option<Entry>| entry.as_ref().is_some_and(|it| it.is_of(service, token));
        let mut ways = set.tags.iter().zip(&set.entries);
        let way = ways.position(|(tag, entry)| *tag == hash && is_it(entry))?;
        Some(Slot { set: at, way })
    }

    /// A slot for the token that is empty, or whose token is not in use.
    fn free(&self, token: &[u8], params: &CacheParams) -> Option<Slot> {
        let at = self.set(hash(token));
        let Some(set) = &self.sets[at] else { return Some(Slot { set: at, way: 0 }) };
        let is_free = |entry: &Option<Entry>| entry.as_ref().is_none_or(|it| it.is_idle(params));
        let empty = set.entries.iter().position(Option::is_none);
        let way = empty.or_else(|| set.entries.iter().position(is_free))?;
        Some(Slot { set: at, way })
    }

    /// Whether there is room for so many bytes, which tokens that are not in use make.
    fn make_room(&mut self, bytes: usize, params: &CacheParams) -> bool {
        for _ in 0..TRIES {
            if self.bytes + bytes <= self.limit {
                break;
            }
            let slot = Slot { set: self.hand / WAYS, way: self.hand % WAYS };
            self.hand = (self.hand + 1) % (self.sets.len() * WAYS);
            if self.entry(slot).is_some_and(|entry| entry.is_idle(params)) {
                self.remove(slot);
            }
        }
        self.bytes + bytes <= self.limit
    }

    fn remove(&mut self, slot: Slot) {
        let entry = self.sets[slot.set].as_mut().and_then(|set| set.entries[slot.way].take());
        let bytes = entry.map_or(0, |entry| Entry::bytes(&entry.token, &entry.identity));
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The last bytes of a token are those of its signature, and as evenly distributed as a hash. The
/// very last may be padding.
fn hash(token: &[u8]) -> u64 {
    let before_padding = token.split_last_chunk::<4>().map_or(token, |(rest, _)| rest);
    let words = before_padding.rchunks_exact(8).take(2);
    let hash = words.fold(token.len() as u64, |hash, word| {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        (hash ^ word).wrapping_mul(MULTIPLIER).rotate_right(32)
    });
    // The bits in the middle depend on all bytes.
    hash.wrapping_mul(MULTIPLIER) >> 16
}

/// The slots of a set: their tags fill a line of memory.
const WAYS: usize = 8;

/// Fewer bytes than a token and its identity take, mostly: there is a slot for each.
const SMALLEST: usize = 2 << 10;

/// Beyond this, more memory is for larger tokens only.
const MOST_SETS: usize = 1 << 17;

/// How many slots are looked at for room.
const TRIES: usize = 16;

const IDLE_MSEC: u64 = 1_000;

/// The odd number nearest to 2^64 divided by the golden ratio (Knuth, The Art of Computer
/// Programming, volume 3, 6.4).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
