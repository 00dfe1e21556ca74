//! The shared memory zone: the token cache, and what workers tell each other about an identity
//! service.
//!
//! All memory is laid out once, by the master, before a worker can see it: nothing is allocated or
//! freed later, so there is no state of an allocator that a killed worker could leave broken. The
//! layout is a [`Root`] that nginx's slab pool points to, the words of the cache, counters, and a
//! chain of service states, to which a reload may append. What the words mean and why they can be
//! read without a lock is explained in `keystone-zone`.
//!
//! Changes are made under the slab pool's mutex: nginx unlocks it when a worker dies
//! (`ngx_unlock_mutexes()`), which it does for no other lock.

mod answers;
mod claims;
mod counters;
mod service;

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use keystone_zone::{Cache, Key, WORD};
use nginx_sys::{
    ngx_shm_zone_t, ngx_shmtx_lock, ngx_shmtx_unlock, ngx_slab_alloc, ngx_slab_calloc,
    ngx_slab_pool_t,
};

pub use answers::{cache_params, Answer, Identity};
pub use claims::{state_of, Claimed};
pub use counters::ServiceCounters;
pub use service::ServiceState;

/// The zone, mapped. All copies refer to the same memory.
#[derive(Clone, Copy)]
pub struct Zone {
    pool: NonNull<ngx_slab_pool_t>,
    root: &'static Root,
}

/// The beginning of everything; `data` of the slab pool points here.
#[repr(C)]
struct Root {
    /// Which version of the module laid this out.
    layout: AtomicU64,
    /// The key of the digests that name tokens, random for each zone.
    secret: [AtomicU64; 4],
    cache: AtomicPtr<AtomicU64>,
    cache_words: AtomicUsize,
    services: AtomicPtr<AtomicU64>,
    /// The array that `counters` returns.
    counters: AtomicPtr<AtomicU64>,
    counters_words: AtomicUsize,
    /// The array that `claims` returns.
    claims: AtomicPtr<AtomicU64>,
    claims_words: AtomicUsize,
}

impl Zone {
    /// Lays the zone out for so many identity services, or finds the layout that an earlier
    /// configuration has left in it.
    ///
    /// # Safety
    /// The zone's memory is mapped, and stays so while the configuration is in use. The first call
    /// for a zone, which lays it out, is that of the process that reads the configuration, before
    /// any request is served with it; later ones may come from any process.
    pub unsafe fn open(shm_zone: &ngx_shm_zone_t, services: usize) -> Result<Self, ZoneError> {
        let name = String::from_utf8_lossy(shm_zone.shm.name.as_bytes());
        let too_small = || ZoneError::TooSmall { name: name.to_string() };
        let pool: NonNull<ngx_slab_pool_t> =
            NonNull::new(shm_zone.shm.addr.cast()).ok_or(ZoneError::NotMapped)?;

        // SAFETY: nginx has made a slab pool of the zone.
        let found: *mut Root = unsafe { (*pool.as_ptr()).data.cast() };
        if !found.is_null() {
            // SAFETY: only this function sets `data`, to a root that is never freed.
            let root = unsafe { &*found };
            if root.layout.load(Ordering::Relaxed) != LAYOUT {
                return Err(ZoneError::OtherLayout { name: name.to_string() });
            }
            return Ok(Self { pool, root });
        }

        let root: *mut Root = calloc(pool, size_of::<Root>()).ok_or_else(too_small)?.cast();
        // SAFETY: the memory is zeroed, large enough and aligned (a slab is aligned to its size),
        // and all-zero is a valid root.
        let root: &'static Root = unsafe { &*root };
        let size = shm_zone.shm.size;
        let words = cache_words(size, services);
        let cache = calloc(pool, words * WORD).ok_or_else(too_small)?;
        let counters_words = counters::words(size);
        let counters = calloc(pool, counters_words * WORD).ok_or_else(too_small)?;
        let claims_words = claims::words(size);
        let claims = calloc(pool, claims_words * WORD).ok_or_else(too_small)?;

        let mut secret = [0; 32];
        crate::random::fill(&mut secret).map_err(ZoneError::Random)?;
        for (word, part) in root.secret.iter().zip(secret.chunks_exact(WORD)) {
            word.store(word_of(part), Ordering::Relaxed);
        }
        root.cache.store(cache.cast(), Ordering::Relaxed);
        root.cache_words.store(words, Ordering::Relaxed);
        root.counters.store(counters.cast(), Ordering::Relaxed);
        root.counters_words.store(counters_words, Ordering::Relaxed);
        root.claims.store(claims.cast(), Ordering::Relaxed);
        root.claims_words.store(claims_words, Ordering::Relaxed);
        root.layout.store(LAYOUT, Ordering::Release);
        // SAFETY: this is the first call, and no other process uses the zone yet.
        unsafe { (*pool.as_ptr()).data = std::ptr::from_ref(root).cast_mut().cast() };
        Ok(Self { pool, root })
    }

    /// The size of the zone, in bytes.
    pub fn size(&self) -> usize {
        // SAFETY: the pool stays mapped while the configuration is in use; it lies at the
        // beginning.
        (unsafe { (*self.pool.as_ptr()).end }) as usize - self.pool.as_ptr() as usize
    }

    /// The token cache.
    pub fn cache(&self) -> Cache<'static> {
        let cache = self.root.cache.load(Ordering::Relaxed);
        let words = self.root.cache_words.load(Ordering::Relaxed);
        // SAFETY: `open` has stored the address and length of zeroed memory that is never freed,
        // and all access to it is through atomics.
        Cache::new(unsafe { std::slice::from_raw_parts(cache, words) })
    }

    /// The key of `token`, validated by the service `service`, in the cache.
    pub fn key(&self, service: u64, token: &[u8]) -> Key {
        let mut secret = [0; 32];
        for (part, word) in secret.chunks_exact_mut(WORD).zip(&self.root.secret) {
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        let mut hasher = blake3::Hasher::new_keyed(&secret);
        // In this order the token's blocks stay aligned, which BLAKE3 is twice as fast with; what
        // has a fixed length is as good at the end.
        hasher.update(token);
        hasher.update(&service.to_ne_bytes());
        let digest = hasher.finalize();
        let mut key = [0; 4];
        for (word, part) in key.iter_mut().zip(digest.as_bytes().chunks_exact(WORD)) {
            *word = word_of(part);
        }
        key
    }

    /// The state of the service `id`, if the master has made one.
    pub fn service(&self, id: u64) -> Option<ServiceState> {
        self.services().find(|state| state.id() == id)
    }

    fn services(&self) -> impl Iterator<Item = ServiceState> {
        let mut next = self.root.services.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: the chain holds what `add_service` has made, which is never freed.
            let state = unsafe { ServiceState::from_words(next) }?;
            next = state.next();
            Some(state)
        })
    }

    /// The state of the service `id`, made if it is not there. Called by the master only.
    ///
    /// A state that belongs to none of the services `in_use` is reused: memory in the zone is never
    /// freed, so each change of the settings would take more of it.
    pub fn add_service(&self, id: u64, size: usize, in_use: &[u64]) -> Option<ServiceState> {
        if let Some(state) = self.service(id) {
            return Some(state);
        }
        if let Some(state) = self.services().find(|state| !in_use.contains(&state.id())) {
            self.locked(|| state.reassign(id));
            return Some(state);
        }
        let words = ServiceState::words(size);
        let memory: *mut AtomicU64 = calloc(self.pool, words * WORD)?.cast();
        let next = self.root.services.load(Ordering::Relaxed);
        // SAFETY: the memory is zeroed, `words` long, and never freed.
        let state = unsafe { ServiceState::create(memory, words, size, id, next) }?;
        // Workers of the configuration before may be reading the chain: it is complete already.
        self.root.services.store(memory, Ordering::Release);
        Some(state)
    }

    /// Runs `change` under the zone's mutex. It must be short, and must not panic.
    pub fn locked<T>(&self, change: impl FnOnce() -> T) -> T {
        struct Unlock(NonNull<ngx_slab_pool_t>);
        impl Drop for Unlock {
            fn drop(&mut self) {
                // SAFETY: `locked` has locked this mutex.
                unsafe { ngx_shmtx_unlock(&raw mut (*self.0.as_ptr()).mutex) };
            }
        }
        // SAFETY: the pool stays mapped while the configuration is in use.
        unsafe { ngx_shmtx_lock(&raw mut (*self.pool.as_ptr()).mutex) };
        let _unlock = Unlock(self.pool);
        change()
    }
}

/// Whether there is a process of this number.
pub fn is_alive(process: u32) -> bool {
    // Most questions are about what this process holds itself.
    if process == own_process() {
        return true;
    }
    let Ok(process) = libc::pid_t::try_from(process) else { return false };
    // SAFETY: signal 0 only asks whether there is such a process.
    let rc = unsafe { libc::kill(process, 0) };
    rc == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// The number of this process, without asking the system.
pub fn own_process() -> u32 {
    // SAFETY: nginx sets it when the process begins, and never after.
    unsafe { nginx_sys::ngx_pid as u32 }
}

/// The words of the cache in a zone of `size` bytes. The rest is for the counters, the claims and the
/// states of identity services: for twice as many services as now, since a reload with changed
/// settings needs a second state while the first is in use, but for no more than fit into two fifths
/// of the zone.
fn cache_words(size: usize, services: usize) -> usize {
    let of_pages = |words: usize| (words * WORD).next_multiple_of(PAGE);
    let state = of_pages(ServiceState::words(size));
    let services = services.max(1);
    let states = (2 * services * state).min(size / 5 * 2).max(services * state);
    let pool = SLAB_POOL + size / SLAB_SHARE;
    let tables = of_pages(counters::words(size)) + of_pages(claims::words(size));
    size.saturating_sub(states + tables + pool) / PAGE * PAGE / WORD
}

/// Allocates zeroed memory.
fn calloc(pool: NonNull<ngx_slab_pool_t>, size: usize) -> Option<*mut c_void> {
    if size < LARGE {
        // SAFETY: the pool is mapped; the function locks it itself.
        let memory = unsafe { ngx_slab_calloc(pool.as_ptr(), size) };
        return (!memory.is_null()).then_some(memory);
    }
    // SAFETY: as above.
    let memory = unsafe { ngx_slab_alloc(pool.as_ptr(), size) };
    if memory.is_null() {
        return None;
    }
    // The system zeroes each page when it is first used. Zeroing all of them here would take a
    // second for each gigabyte.
    // SAFETY: the memory is of whole pages, since nginx's allocator gives whole pages of its own size
    // for more than half of one; nothing else uses it. If the call fails, nothing is changed.
    let rc = unsafe { libc::madvise(memory, size.next_multiple_of(PAGE), libc::MADV_REMOVE) };
    if rc != 0 {
        // SAFETY: the allocation is `size` bytes long.
        unsafe { memory.cast::<u8>().write_bytes(0, size) };
    }
    Some(memory)
}

/// Why the zone cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// nginx has not mapped it.
    #[error("keystone_cache_zone is not mapped")]
    NotMapped,
    /// Another version of the module has left its layout there.
    #[error(
        "keystone_cache_zone \"{name}\" was laid out by another version of the module: give it \
         another name, or restart nginx"
    )]
    OtherLayout {
        /// As in `zone=NAME:SIZE`.
        name: String,
    },
    /// The system gives no random key.
    #[error("getrandom() failed: {0}")]
    Random(std::io::Error),
    /// Not even the layout fits.
    #[error("keystone_cache_zone \"{name}\" is too small")]
    TooSmall {
        /// As in `zone=NAME:SIZE`.
        name: String,
    },
}

fn word_of(part: &[u8]) -> u64 {
    part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Changes with every change of what lies in the zone.
const LAYOUT: u64 = 0x6b65_7973_746f_000a;

/// Bytes that nginx's allocator and the layout's first page take, whatever the zone's size, and the
/// share of the zone that the allocator takes for its list of pages.
const SLAB_POOL: usize = 12 << 10;
const SLAB_SHARE: usize = 128;

/// The size of a page here, or a divisor of it.
const PAGE: usize = 4 << 10;

/// Memory of so many bytes is zeroed page by page, when it is used.
const LARGE: usize = 1 << 20;
