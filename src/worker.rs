//! What a worker process holds: its identity services, and the tokens that it has just seen.

use std::cell::RefCell;
use std::rc::Rc;

use keystone_gateway::status::cells;
use keystone_token::result::AuthResult;
use keystone_zone::{Cache, Row};
use ngx::async_::Task;

use crate::conf::MainConf;
use crate::header_variables::HeaderVariables;
use crate::identity;
use crate::worker_cache::WorkerCache;
use crate::zone::Zone;

/// The state of this worker process.
pub struct Worker {
    main: &'static MainConf,
    /// As the main configuration orders them.
    services: Vec<Rc<identity::ServiceClient>>,
    /// The zone of shared memory.
    pub zone: Zone,
    /// The token cache in it.
    pub cache: Cache<'static>,
    /// The counters of this process.
    pub row: Row<'static>,
    /// Valid tokens that this worker has seen last.
    pub recent: WorkerCache,
    /// nginx's variables that show what the module changes of a request.
    pub header_variables: HeaderVariables,
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
            cache: zone.cache(),
            row,
            recent: WorkerCache::new(main.directives.worker_cache()),
            header_variables: HeaderVariables::of_cycle(
                &main.token_variables,
                &main.defined_variables,
            ),
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
