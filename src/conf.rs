//! The configuration: nginx's words to `keystone-conf`, its errors to nginx's. It is read through
//! `commands`, merged from level to level, and constant from then on.

pub mod challenges;
pub mod commands;
pub mod directive;
mod early_return;
mod error;
mod limits;
pub mod location;
mod request;
pub mod server;
#[cfg(ngx_feature = "http_cache")]
pub mod upstream_caches;
mod zone;

use std::ffi::CStr;
use std::ptr::NonNull;

use keystone_conf::Position;
use nginx_sys::{ngx_conf_t, ngx_core_conf_t, ngx_cycle_t, ngx_module_t, NGX_HTTP_MODULE};
use ngx::core::{CoreModuleMainConf, NgxCoreModule};

use self::error::SetupError;
use self::server::ServerConf;
use self::zone::ZoneConf;
use crate::header_variables::defined_by_directives;
use crate::identity::Service;
use crate::net::Resolver;
use crate::signing_dir::{self, Owner};

pub use self::location::{create_location, merge_location};
pub use self::server::merge_server;

/// What belongs to the whole http block.
#[derive(Default)]
pub struct MainConf {
    /// The directives of the http block alone.
    pub directives: keystone_conf::MainConf,
    /// The zone of shared memory.
    pub zone: ZoneConf,
    /// The identity services that servers use, each once. Boxed, for workers keep references.
    #[allow(clippy::vec_box)]
    pub services: Vec<Box<Service>>,
    /// Whether any location hands the catalog on, so that it must be kept in the cache.
    pub keeps_catalog: bool,
    /// The names of nginx's variables that show what locations take for tokens.
    pub token_variables: Vec<String>,
    /// The names of variables that show something else, though one would think so.
    pub defined_variables: Vec<Vec<u8>>,
    cycle: Option<NonNull<ngx_cycle_t>>,
}

impl MainConf {
    /// Whether any location asks for tokens.
    pub fn is_used(&self) -> bool {
        !self.services.is_empty()
    }

    /// Asks for the zone, if it is needed.
    pub fn finish(&mut self, cf: &mut ngx_conf_t) -> Result<(), SetupError> {
        if !self.is_used() {
            return Ok(());
        }
        self.defined_variables = defined_by_directives(cf);
        self.cycle = NonNull::new(cf.cycle);
        let main: *mut Self = self;
        self.zone.request(cf, self.directives.zone(), main)
    }

    /// Where the size of the zone is set, to follow an error; empty where it is the default.
    pub fn zone_position(&self) -> String {
        let position = self.directives.positions.first_of(&["keystone_cache_zone"]);
        position.map(|position| format!(" in {position}")).unwrap_or_default()
    }

    /// The user that workers will run as.
    pub fn owner(&self) -> Owner {
        // SAFETY: plain system calls without arguments.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        // SAFETY: the cycle of this configuration outlives it.
        let cycle = self.cycle.map(|cycle| unsafe { cycle.as_ref() });
        let core: Option<&ngx_core_conf_t> = cycle.and_then(NgxCoreModule::main_conf);
        match core {
            // Only root can change its user; otherwise nginx leaves the user unset.
            Some(core) if uid == 0 && core.user != u32::MAX => {
                Owner { uid: core.user, gid: core.group }
            }
            _ => Owner { uid, gid },
        }
    }

    fn service(
        &mut self,
        cf: &mut ngx_conf_t,
        server: &ServerConf,
        resolver: Option<Resolver>,
        auth: &Position,
    ) -> Result<usize, SetupError> {
        let default_dir = directive::full_path(cf, &signing_dir::default_path(), false)
            .ok_or(SetupError::NoMemory)?;
        let (settings, errors) = server.settings(default_dir);
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        if server.memcached.has_idle_secret() {
            let secret = server.positions.first_of(&["keystone_memcached_secret_key"]);
            let (log, position) = (cf.log, secret.unwrap_or(auth));
            log_at!(NGX_LOG_WARN, log, "{IDLE_SECRET} in {position}");
        }
        let is_same = |known: &Service| known.settings == settings && known.resolver == resolver;
        if let Some(index) = self.services.iter().position(|known| is_same(known)) {
            return Ok(index);
        }
        for known in &self.services {
            settings.check_beside(&known.settings)?;
        }
        let directory = server.positions.first_of(&["keystone_signing_dir"]).unwrap_or(auth);
        let mut service = Service::new(cf, settings, resolver, &self.services)?;
        service.position = directory.clone();
        self.services.push(Box::new(service));
        Ok(self.services.len() - 1)
    }
}

/// The index of a module's configurations; `None` where nginx was built without it.
pub fn module_index(cf: &ngx_conf_t, name: &CStr) -> Option<usize> {
    // SAFETY: the cycle that a configuration is read for lives as long as that.
    module_index_of_cycle(unsafe { &*cf.cycle }, name)
}

/// The same for a cycle.
pub fn module_index_of_cycle(cycle: &ngx_cycle_t, name: &CStr) -> Option<usize> {
    // SAFETY: the cycle's modules are an array of as many pointers.
    let modules: &[*mut ngx_module_t] =
        unsafe { std::slice::from_raw_parts(cycle.modules, cycle.modules_n) };
    modules.iter().find_map(|module| {
        // SAFETY: modules are never freed, and their names end with NUL.
        let module = unsafe { &**module };
        // SAFETY: as above.
        let is_named = !module.name.is_null() && unsafe { CStr::from_ptr(module.name) } == name;
        (is_named && module.type_ == NGX_HTTP_MODULE as usize).then_some(module.ctx_index)
    })
}

const IDLE_SECRET: &str = "\"keystone_memcached_secret_key\" protects nothing without \
                           \"keystone_memcached_security_strategy\"";
