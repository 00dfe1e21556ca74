//! The configuration: read by nginx through `commands`, merged from level to level, constant
//! from then on.

/// Takes what a level leaves open from the level around it: nginx's `ngx_conf_merge_value()`.
macro_rules! inherit {
    ($level:ident, $outer:ident: $($field:ident)+) => { $(
        if $level.$field.is_none() {
            $level.$field.clone_from(&$outer.$field);
        }
    )+ };
}

pub mod commands;
pub mod directive;
mod jws_keys;
pub mod location;
pub mod memcached;
mod request;
pub mod server;
pub mod swift;

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;

use nginx_sys::{ngx_conf_t, ngx_core_conf_t, ngx_cycle_t, NGX_LOG_WARN};
use ngx::core::{CoreModuleMainConf, NgxCoreModule, NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::http::{
    HttpModuleLocationConf, HttpModuleMainConf, HttpModuleServerConf, NgxHttpCoreModule,
};

use self::directive::Place;
use self::location::{Auth, LocationConf};
use self::server::ServerConf;
use crate::identity::Service;
use crate::net::Resolver;
use crate::signing_dir::{self, Owner};
use crate::zone::ZoneConf;
use crate::HttpKeystoneModule;

/// What belongs to the whole http block.
#[derive(Default)]
pub struct MainConf {
    /// `keystone_cache_zone`.
    pub zone: ZoneConf,
    /// The identity services that servers use, each once.  Boxed, for workers keep references.
    #[allow(clippy::vec_box)]
    pub services: Vec<Box<Service>>,
    /// Whether any location hands the catalog on, so that it must be kept in the cache.
    pub keeps_catalog: bool,
    cycle: Option<NonNull<ngx_cycle_t>>,
}

impl MainConf {
    /// Whether any location asks for tokens.
    pub fn is_used(&self) -> bool {
        !self.services.is_empty()
    }

    /// Asks for the zone, if it is needed.
    pub fn finish(&mut self, cf: &mut ngx_conf_t) -> Result<(), String> {
        if !self.is_used() {
            return Ok(());
        }
        self.cycle = NonNull::new(cf.cycle);
        let main: *mut Self = self;
        self.zone.request(cf, main)
    }

    /// The user that workers will run as.
    pub fn owner(&self) -> Owner {
        // SAFETY: plain system calls without arguments.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        // SAFETY: the cycle of this configuration outlives it.
        let cycle = self.cycle.map(|cycle| unsafe { cycle.as_ref() });
        let core: Option<&ngx_core_conf_t> = cycle.and_then(NgxCoreModule::main_conf);
        match core {
            // Only root can become somebody else; for others nginx leaves the user unset.
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
    ) -> Result<usize, String> {
        let default_dir = directive::full_path(cf, &signing_dir::default_path(), false)
            .ok_or("no memory for a path")?;
        let settings = server.settings(default_dir, resolver)?;
        if server.memcached.has_idle_secret() {
            directive::report(cf, NGX_LOG_WARN, IDLE_SECRET);
        }
        if let Some(index) = self.services.iter().position(|known| known.settings == settings) {
            return Ok(index);
        }
        let clash = self.services.iter().find(|known| {
            known.settings.signing_dir == settings.signing_dir
                && known.settings.identity_uris != settings.identity_uris
        });
        if clash.is_some() {
            return Err(format!(
                "two identity services share the keystone_signing_dir {}",
                settings.signing_dir.display()
            ));
        }
        let service = Service::new(cf, settings).map_err(|error| error.to_string())?;
        self.services.push(Box::new(service));
        Ok(self.services.len() - 1)
    }
}

/// Merges the directives of a server into those of http.
///
/// # Safety
/// nginx's contract for `merge_srv_conf`.
pub unsafe extern "C" fn merge_server(
    _cf: *mut ngx_conf_t,
    outer: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: both were made by the module's create function, and are two.
    let (outer, conf) = unsafe { (&*outer.cast::<ServerConf>(), &mut *conf.cast::<ServerConf>()) };
    conf.inherit(outer);
    NGX_CONF_OK
}

/// Merges the directives of a location into those around it, and sees to the identity service
/// that it needs.
///
/// # Safety
/// nginx's contract for `merge_loc_conf`.
pub unsafe extern "C" fn merge_location(
    cf: *mut ngx_conf_t,
    outer: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: the configurations were made by the module's create function, and are two.
    let (outer, conf) =
        unsafe { (&*outer.cast::<LocationConf>(), &mut *conf.cast::<LocationConf>()) };
    let is_idle = conf.swift.has_settings();
    conf.inherit(outer);
    // SAFETY: nginx hands over its own `cf`.
    let cf = unsafe { &mut *cf };
    match finish_location(cf, conf, is_idle) {
        Ok(()) => NGX_CONF_OK,
        Err((reason, place)) => {
            let log = cf.log;
            log_at!(NGX_LOG_EMERG, log, "{reason} in {place}");
            NGX_CONF_ERROR
        }
    }
}

/// The reason and the place of what is wrong with a location; `has_settings` is whether this very
/// level says anything about Swift's accounts.
fn finish_location(
    cf: &mut ngx_conf_t,
    location: &mut LocationConf,
    has_settings: bool,
) -> Result<(), (String, Place)> {
    let Some((auth, place)) = &location.auth else {
        // Who says that may believe that something is protected by it.
        return match location.swift.is_on() {
            Some(place) => Err((SWIFT_ALONE.to_owned(), place.clone())),
            None => Ok(()),
        };
    };
    if *auth == Auth::Off {
        return Ok(());
    }
    if has_settings && location.swift.auth.is_none() {
        let log = cf.log;
        log_at!(NGX_LOG_WARN, log, "{IDLE_SWIFT} {place}");
    }
    require_service(cf, location).map_err(|reason| (reason, place.clone()))?;
    location.swift.finish()
}

/// Sees to the identity service of a location that asks for tokens.
fn require_service(cf: &mut ngx_conf_t, location: &LocationConf) -> Result<(), String> {
    // While a server's locations are merged, nginx's context holds that server's configuration.
    let main = HttpKeystoneModule::main_conf_mut(cf).ok_or("the module has no configuration")?;
    let server = HttpKeystoneModule::server_conf_mut(cf).ok_or("the server has none")?;
    if location.sets_catalog() {
        main.keeps_catalog = true;
    }
    let Some(auth_uri) = &server.auth_uri else {
        return Err("\"keystone_auth\" needs \"keystone_auth_uri\", which is not set".to_owned());
    };
    if server.service.is_none() {
        server.challenge = format!("Keystone uri=\"{auth_uri}\"");
        let resolver = resolver(cf);
        server.service = Some(main.service(cf, server, resolver)?);
    }
    Ok(())
}

/// nginx's `resolver`, where one is set.
fn resolver(cf: &ngx_conf_t) -> Option<Resolver> {
    let core = NgxHttpCoreModule::location_conf(cf)?;
    // SAFETY: nginx has made the resolver, which lives as long as the configuration.
    unsafe { Resolver::new(core.resolver, core.resolver_timeout) }
}

const IDLE_SWIFT: &str = "\"keystone_swift_...\" directives authorise nothing without \
                          \"keystone_swift_auth on\", where \"keystone_auth\" is that of";

const SWIFT_ALONE: &str = "\"keystone_swift_auth\" needs \"keystone_auth\", which is not set";

const IDLE_SECRET: &str = "\"keystone_memcached_secret_key\" protects nothing without \
                           \"keystone_memcached_security_strategy\"";
