//! The zone of shared memory: its request, and its start in the master.

use std::ffi::c_void;
use std::ptr::NonNull;

use keystone_conf::ZoneSettings;
use nginx_sys::{ngx_conf_t, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t, NGX_ERROR, NGX_OK};
use ngx::http::HttpModule;

use super::directive::pool_string;
use super::error::SetupError;
use super::MainConf;
use crate::panic::catch_panic;
use crate::zone::{ServiceState, Zone};
use crate::HttpKeystoneModule;

/// The zone, once it is needed.
#[derive(Default)]
pub struct ZoneConf {
    shm_zone: Option<NonNull<ngx_shm_zone_t>>,
}

impl ZoneConf {
    /// Asks nginx for the memory; it calls `initialize` when the whole configuration is read.
    pub fn request(
        &mut self,
        cf: &mut ngx_conf_t,
        settings: ZoneSettings,
        main: *mut MainConf,
    ) -> Result<(), SetupError> {
        let mut name = pool_string(cf, &settings.name).ok_or(SetupError::NoMemory)?;
        let tag = std::ptr::from_ref(HttpKeystoneModule::module()).cast_mut().cast();
        // SAFETY: `cf` is valid, and so is `name`. nginx keeps the address of the name's bytes, which
        // lie in the configuration's pool.
        let shm_zone = unsafe { ngx_shared_memory_add(cf, &mut name, settings.size, tag) };
        let mut shm_zone = NonNull::new(shm_zone).ok_or(SetupError::Zone)?;
        // SAFETY: nginx has just made it, and nobody else uses it while the configuration is read.
        let zone = unsafe { shm_zone.as_mut() };
        zone.init = Some(initialize);
        zone.data = main.cast();
        self.shm_zone = Some(shm_zone);
        Ok(())
    }

    /// The zone, once nginx has mapped it.
    pub fn open(&self) -> Option<Zone> {
        // SAFETY: nginx's description of the zone lives as long as the configuration.
        let shm_zone = unsafe { self.shm_zone?.as_ref() };
        // SAFETY: the zone is mapped, and `initialize` has laid it out when the configuration was
        // read.
        unsafe { Zone::open(shm_zone, 0) }.ok()
    }
}

unsafe extern "C" fn initialize(shm_zone: *mut ngx_shm_zone_t, old: *mut c_void) -> ngx_int_t {
    // SAFETY: nginx passes the zone that `request` has set up, mapped, in the process that reads the
    // configuration; its data is the main configuration of the cycle that is being started.
    let (shm_zone, main) = unsafe { (&*shm_zone, &*(*shm_zone).data.cast::<MainConf>()) };
    // SAFETY: null, or the data of the zone in the configuration before, which is still alive.
    let old = unsafe { old.cast::<MainConf>().as_ref() };
    // SAFETY: as above.
    catch_panic(NGX_ERROR as ngx_int_t, || unsafe { start(shm_zone, main, old) })
}

/// Lays the zone out and starts every identity service in it. `old` is the configuration before.
///
/// # Safety
/// The zone is mapped, and this is the process that reads the configuration.
unsafe fn start(shm_zone: &ngx_shm_zone_t, main: &MainConf, old: Option<&MainConf>) -> ngx_int_t {
    let log = shm_zone.shm.log;
    let services = main.services.iter().chain(old.iter().flat_map(|old| &old.services));
    let in_use: Vec<u64> = services.map(|service| service.id).collect();

    // SAFETY: by this function's contract.
    let zone = match unsafe { Zone::open(shm_zone, main.services.len()) } {
        Ok(zone) => zone,
        Err(reason) => {
            log_at!(NGX_LOG_EMERG, log, "{reason}");
            return NGX_ERROR as ngx_int_t;
        }
    };
    for (at, service) in main.services.iter().enumerate() {
        let Some(state): Option<ServiceState> =
            zone.add_service(service.id, shm_zone.shm.size, &in_use)
        else {
            let name = String::from_utf8_lossy(shm_zone.shm.name.as_bytes());
            let reason = match old {
                None => format!("is too small for {} identity services", main.services.len()),
                // Laid out anew, it may be large enough.
                Some(_) => "has no room for more identity services since it was laid out, \
                                 restart nginx or change its size"
                    .to_owned(),
            };
            let position = main.zone_position();
            log_at!(NGX_LOG_EMERG, log, "keystone_cache_zone \"{name}\" {reason}{position}");
            return NGX_ERROR as ngx_int_t;
        };
        if let Err(reason) = crate::identity::start(service, main.owner(), &zone, &state, log) {
            log_at!(NGX_LOG_EMERG, log, "{reason} in {}", service.position);
            return NGX_ERROR as ngx_int_t;
        }
        // Again, since directories that were missing are there now.
        let mut others = main.services[..at].iter();
        let clash = others.find_map(|other| service.settings.check_beside(&other.settings).err());
        if let Some(reason) = clash {
            log_at!(NGX_LOG_EMERG, log, "{reason} in {}", service.position);
            return NGX_ERROR as ngx_int_t;
        }
    }
    NGX_OK as ngx_int_t
}
