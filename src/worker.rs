//! What a worker process holds: its identity services, and the tokens that it has just seen.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use keystone_gateway::status::cells;
use keystone_token::result::AuthResult;
use keystone_zone::{Age, Cache, CacheParams, Key, Row};
use ngx::async_::Task;

use crate::conf::MainConf;
use crate::header_variables;
use crate::identity;
use crate::zone::{Identity, Zone};

/// The state of this worker process.
pub struct Worker {
    main: &'static MainConf,
    /// As the main configuration orders them.
    services: Vec<Rc<identity::ServiceClient>>,
    /// The zone of shared memory.
    pub zone: Zone,
    /// The counters of this process.
    pub row: Row<'static>,
    /// Valid tokens that this worker has seen last.
    pub recent: WorkerCache,
    /// The indices of those `$http_...` variables that show headers which only the module may set.
    pub header_variables: Vec<usize>,
    /// Dropped, and so ended, with the worker.
    _tasks: Vec<Task<()>>,
}

thread_local! {
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

impl Worker {
    /// This process's state, if it is that of the configuration `main`.
    pub fn current(main: &'static MainConf) -> Option<Rc<Self>> {
        WORKER.with_borrow(Option::clone).filter(|worker| std::ptr::eq(worker.main, main))
    }

    /// Whether this process serves requests, which a master does not.
    pub fn is_running() -> bool {
        WORKER.with_borrow(Option::is_some)
    }

    /// Starts the process's state, where the configuration needs one.
    pub fn start(main: &'static MainConf) -> Result<(), StartError> {
        if !main.is_used() {
            return Ok(());
        }
        let zone = main.zone.open().ok_or(StartError::NoZone)?;
        let row = zone.take_row();
        let log = ngx::log::ngx_cycle_log();
        let services: Vec<_> = main
            .services
            .iter()
            .map(|service| {
                identity::ServiceClient::new(service, zone, row, main.keeps_catalog, log)
                    .map(Rc::new)
            })
            .collect::<Option<_>>()
            .ok_or(StartError::NoState)?;
        let tasks = services
            .iter()
            .flat_map(|service| {
                [
                    crate::net::spawn(service.clone().keep_fresh()),
                    crate::net::spawn(service.clone().keep_events()),
                ]
            })
            .collect();
        let worker = Rc::new(Self {
            main,
            services,
            zone,
            row,
            recent: WorkerCache::default(),
            header_variables: header_variables::indices(),
            _tasks: tasks,
        });
        WORKER.set(Some(worker));
        Ok(())
    }

    /// Ends it, while nginx's event loop can still close connections.
    pub fn stop() {
        let worker = WORKER.take();
        worker.iter().flat_map(|worker| &worker.services).for_each(|service| service.stop());
    }

    /// Counts the result of a request that ends.
    pub fn count_result(result: AuthResult) {
        // A request may end after the worker's state is gone; then it is not counted.
        let _ = WORKER.try_with(|worker| {
            if let Ok(worker) = worker.try_borrow() {
                worker.iter().for_each(|worker| worker.row.add(cells::result(result), 1));
            }
        });
    }

    /// The identity services, as the main configuration orders them.
    pub fn services(&self) -> &[Rc<identity::ServiceClient>] {
        &self.services
    }

    /// The identity service of this place in the main configuration.
    pub fn service(&self, index: usize) -> Option<&Rc<identity::ServiceClient>> {
        self.services.get(index)
    }
}

/// Why a worker process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The master has made no state for an identity service.
    #[error("an identity service has no state in the cache zone")]
    NoState,
    /// The zone of shared memory cannot be used.
    #[error("the cache zone is not mapped")]
    NoZone,
    /// A defect of the module; the panic is logged.
    #[error("panic")]
    Panic,
}

/// A cache in front of the shared one: a token is compared, not hashed, and its identity is shared,
/// not copied.
///
/// A token has one slot that it may be in. The token that is there keeps it while it is in use:
/// where there are more tokens than slots, taking turns would cost each of them a copy.
pub struct WorkerCache {
    slots: RefCell<Box<[Option<Entry>]>>,
    /// What all entries take, [`MOST_BYTES`] at most.
    bytes: Cell<usize>,
    /// Where room is looked for next.
    hand: Cell<usize>,
}

/// A valid token, and what is known of it.
struct Entry {
    service: u64,
    token: Box<[u8]>,
    key: Key,
    generation: u64,
    age: Age,
    /// When the token was used last, and the shared cache told of it.
    touched: Cell<u64>,
    identity: Identity,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.token.len() + self.identity.bytes().len()
    }

    /// Whether the token was not used for a second, or is of another generation.
    fn is_idle(&self, params: &CacheParams) -> bool {
        self.generation != params.generation
            || self.touched.get().saturating_add(IDLE_MSEC) < params.tick
    }
}

impl Default for WorkerCache {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| None).collect();
        Self { slots: RefCell::new(slots), bytes: Cell::new(0), hand: Cell::new(0) }
    }
}

impl WorkerCache {
    /// The identity of a token that is still good. The use is noted in `shared` too, at most once a
    /// millisecond, so that a token in use is not evicted there.
    pub fn lookup(
        &self,
        service: u64,
        token: &[u8],
        params: &CacheParams,
        shared: &Cache<'_>,
    ) -> Option<Identity> {
        let slots = self.slots.borrow();
        let entry = slots[slot(token)].as_ref()?;
        let good = entry.generation == params.generation
            && entry.age.is_good(params.valid_for, params)
            && entry.service == service
            && *entry.token == *token;
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
        let (slots, slot) = (&mut *self.slots.borrow_mut(), slot(token));
        let is_own = |entry: &Entry| entry.service == service && *entry.token == *token;
        if slots[slot].as_ref().is_some_and(|entry| !is_own(entry) && !entry.is_idle(params)) {
            return;
        }
        self.drop_entry(&mut slots[slot]);
        let bytes = token.len() + identity.bytes().len();
        for _ in 0..TRIES {
            if self.bytes.get() + bytes <= MOST_BYTES {
                break;
            }
            let hand = self.hand.replace((self.hand.get() + 1) % SLOTS);
            if slots[hand].as_ref().is_some_and(|entry| entry.is_idle(params)) {
                self.drop_entry(&mut slots[hand]);
            }
        }
        if self.bytes.get() + bytes > MOST_BYTES {
            return;
        }
        let (generation, touched) = (params.generation, Cell::new(params.tick));
        let (token, identity) = (token.into(), identity.clone());
        slots[slot] = Some(Entry { service, token, key, generation, age, touched, identity });
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn drop_entry(&self, entry: &mut Option<Entry>) {
        let bytes = entry.take().map_or(0, |entry| entry.bytes());
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }
}

/// The last bytes of a token are those of its signature, and as evenly distributed as a hash.
fn slot(token: &[u8]) -> usize {
    let tail = token.iter().rev().skip(4).take(8);
    let hash = tail.fold(token.len(), |hash, byte| hash.wrapping_mul(31) + usize::from(*byte));
    hash % SLOTS
}

/// Tokens that a worker keeps at most.
const SLOTS: usize = 4096;

/// Bytes of tokens and identities that a worker keeps at most.
const MOST_BYTES: usize = 16 << 20;

/// How many slots are looked at for room.
const TRIES: usize = 16;

const IDLE_MSEC: u64 = 1_000;
