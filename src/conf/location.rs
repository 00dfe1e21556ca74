//! What a location asks of a request: its merge, and the identity service that it needs.

use std::ffi::{c_char, c_void};
use std::ptr;

use keystone_conf::Position;
use nginx_sys::ngx_conf_t;
use ngx::core::{Pool, NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::http::{
    HttpModuleLocationConf, HttpModuleMainConf, HttpModuleServerConf, NgxHttpCoreModule,
};

use super::challenges::Challenges;
use super::directive::{self, Value};
use super::early_return::location_that_returns;
use super::error::{LocationError, SetupError};
use super::limits::{idle_limits, IdleLimit};
use crate::net::Resolver;
use crate::panic::catch_panic;
use crate::HttpKeystoneModule;

pub use keystone_conf::{Auth, CLIENT_CERTIFICATE};

/// The directives of one level, and, once merged, of all levels around it.
pub type LocationConf = keystone_conf::LocationConf<Value>;

/// Of these, the `keystone_swift_*` ones.
pub type SwiftConf = keystone_conf::SwiftConf<Value>;

/// An ACL as configured.
pub type AclValue = keystone_conf::AclValue<Value>;

/// Makes the configuration of a location that begins.
///
/// # Safety
/// nginx's contract for `create_loc_conf`.
pub unsafe extern "C" fn create_location(cf: *mut ngx_conf_t) -> *mut c_void {
    catch_panic(ptr::null_mut(), || {
        // SAFETY: nginx hands over its own `cf`, with a pool.
        let (begins, pool) =
            unsafe { (directive::position(&*cf), Pool::from_ngx_pool((*cf).pool)) };
        pool.allocate(LocationConf { begins, ..LocationConf::default() }).cast()
    })
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
    // SAFETY: nginx hands over its own `cf`.
    let cf = unsafe { &mut *cf };
    catch_panic(NGX_CONF_ERROR, || {
        let has_swift_settings = conf.swift.has_settings();
        conf.inherit(outer);
        match finish(cf, conf, has_swift_settings) {
            Ok(()) => NGX_CONF_OK,
            Err(reason) => {
                let log = cf.log;
                log_at!(NGX_LOG_EMERG, log, "{reason}");
                NGX_CONF_ERROR
            }
        }
    })
}

/// `has_swift_settings` is whether this very level says anything about Swift's accounts.
fn finish(
    cf: &mut ngx_conf_t,
    location: &mut LocationConf,
    has_swift_settings: bool,
) -> Result<(), LocationError> {
    #[cfg(ngx_feature = "http_cache")]
    super::upstream_caches::watch_caches(cf).ok_or(LocationError::Cache)?;
    let Some(position) = location.protection()? else {
        warn_of_requirement(cf, location);
        return Ok(());
    };
    if has_swift_settings && location.swift.auth.is_none() {
        let log = cf.log;
        log_at!(NGX_LOG_WARN, log, "{IDLE_SWIFT} {position}");
    }
    warn_of_return(cf, location, position);
    if !location.is_early() {
        warn_of_limits(cf, location);
    }
    if let Err(reason) = require_service(cf, location, position) {
        let server = HttpKeystoneModule::server_conf(cf);
        let own = server.and_then(|it| it.positions.first_of(&reason.directives()));
        let position = own.unwrap_or(position).clone();
        return Err(LocationError::Setup { reason, position });
    }
    Ok(location.swift.finish()?)
}

/// Warns of a requirement in a location that asks for no token.
fn warn_of_requirement(cf: &ngx_conf_t, location: &LocationConf) {
    let requirement = location.requirement.as_ref().filter(|_| is_leaf(cf));
    let Some((directive, position)) = requirement else { return };
    let log = cf.log;
    log_at!(
        NGX_LOG_WARN,
        log,
        "\"{directive}\" in {position} demands nothing, since \"keystone_auth\" is {} there",
        if location.auth.is_some() { "\"off\"" } else { "not set" }
    );
}

/// Warns of a `return` that no token is needed for.
fn warn_of_return(cf: &ngx_conf_t, location: &LocationConf, position: &Position) {
    let Some(name) = location_that_returns(cf) else { return };
    let (log, at) = (cf.log, &location.begins);
    log_at!(
        NGX_LOG_WARN,
        log,
        "\"return\" in location \"{name}\" in {at} answers before \"keystone_auth\" in {position} \
         checks the token"
    );
}

/// Warns of limits that count by what is not known yet when they count.
fn warn_of_limits(cf: &ngx_conf_t, location: &LocationConf) {
    for IdleLimit { directive, key, location: name } in idle_limits(cf) {
        let (log, at) = (cf.log, &location.begins);
        log_at!(
            NGX_LOG_WARN,
            log,
            "\"{directive}\" in location \"{name}\" in {at} limits nothing: without \
             \"keystone_early on\" its key \"{key}\" is empty"
        );
    }
}

/// Whether no block is in the location whose configuration is being merged. One that asks for
/// tokens may be, for which a requirement of the location counts.
fn is_leaf(cf: &ngx_conf_t) -> bool {
    NgxHttpCoreModule::location_conf(cf).is_some_and(|core| core.locations.is_null())
}

/// Sees to the identity service of a location that asks for tokens.
fn require_service(
    cf: &mut ngx_conf_t,
    location: &LocationConf,
    position: &Position,
) -> Result<(), SetupError> {
    // While a server's locations are merged, nginx's context holds that server's configuration.
    let main = HttpKeystoneModule::main_conf_mut(cf).ok_or(SetupError::NoConfiguration)?;
    let server = HttpKeystoneModule::server_conf_mut(cf).ok_or(SetupError::NoConfiguration)?;
    if location.sets_catalog() {
        main.keeps_catalog = true;
    }
    for source in location.token_sources().into_iter().flat_map(|sources| sources.iter()) {
        main.token_variables.extend(source.variables());
    }
    let auth_uri = server.announced_uri()?;
    if server.service.is_none() {
        server.challenges = Challenges::new(auth_uri.as_str());
        let resolver = resolver(cf);
        server.service = Some(main.service(cf, server, resolver, position)?);
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
