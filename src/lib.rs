//! `ngx_http_keystone_module`: OpenStack Keystone tokens, verified in nginx.
//!
//! This file holds the tables and hooks through which nginx finds its way in; nothing is decided
//! here.

#[macro_use]
mod log;

mod access;
mod answer;
mod authenticate;
mod authz;
mod cache_control;
#[cfg(ngx_feature = "http_cache")]
mod cache_variant;
mod challenge;
mod client_address;
mod conf;
mod context;
mod destination;
mod failure_log;
mod header_variables;
mod headers_in;
mod headers_out;
mod identity;
mod memcached;
mod net;
mod panic;
mod random;
mod request;
mod request_id;
mod signing_dir;
mod status;
mod string;
mod swift;
mod token_cache;
mod token_state;
mod tokens;
mod variables;
mod worker;
mod worker_cache;
mod zone;

use std::ptr;

use nginx_sys::{
    ngx_array_push, ngx_conf_t, ngx_cycle_t, ngx_http_core_main_conf_t, ngx_http_handler_pt,
    ngx_http_module_t, ngx_http_phases_NGX_HTTP_ACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_CONTENT_PHASE, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE, ngx_http_phases_NGX_HTTP_REWRITE_PHASE,
    ngx_http_request_t, ngx_int_t, ngx_module_t, ngx_uint_t, NGX_ERROR,
    NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_MODULE, NGX_LOG_EMERG, NGX_OK, NGX_PROCESS_SINGLE,
    NGX_PROCESS_WORKER,
};
use ngx::http::{
    HttpModule, HttpModuleLocationConf, HttpModuleMainConf, HttpModuleServerConf, NgxHttpCoreModule,
};

use crate::panic::{catch_panic, catch_panic_of};
use crate::request::{PhaseHandler, Request};

struct HttpKeystoneModule;

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(HttpKeystoneModule::preconfiguration),
    postconfiguration: Some(HttpKeystoneModule::postconfiguration),
    create_main_conf: Some(HttpKeystoneModule::create_main_conf),
    init_main_conf: None,
    create_srv_conf: Some(HttpKeystoneModule::create_srv_conf),
    merge_srv_conf: Some(conf::merge_server),
    create_loc_conf: Some(conf::create_location),
    merge_loc_conf: Some(conf::merge_location),
};

/// What nginx looks up by name in a dynamic module. nginx's own build writes it too (`config`), and
/// a static module has none of it.
#[cfg(feature = "export-modules")]
#[allow(missing_docs, non_upper_case_globals)]
mod exports {
    use std::ffi::{c_char, CStr};
    use std::ptr;

    use nginx_sys::ngx_module_t;

    const FILTER: &CStr = c"ngx_http_keystone_headers_filter_module";

    #[no_mangle]
    pub static mut ngx_modules: [*const ngx_module_t; 3] = [
        ptr::addr_of!(super::ngx_http_keystone_headers_filter_module),
        ptr::addr_of!(super::ngx_http_keystone_module),
        ptr::null(),
    ];

    #[no_mangle]
    pub static mut ngx_module_names: [*const c_char; 3] =
        [FILTER.as_ptr(), c"ngx_http_keystone_module".as_ptr(), ptr::null()];

    /// The filter's module stands before that of `add_header` and `expires`, so that its filter
    /// runs after theirs. The other one is not named here, and comes behind all that are loaded.
    #[no_mangle]
    pub static mut ngx_module_order: [*const c_char; 3] =
        [FILTER.as_ptr(), c"ngx_http_headers_filter_module".as_ptr(), ptr::null()];
}

/// nginx finds it by this name. It has a filter alone, and no configuration.
#[no_mangle]
#[allow(non_upper_case_globals)]
pub static mut ngx_http_keystone_headers_filter_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(FILTER_CONTEXT).cast_mut().cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

static FILTER_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: Some(install_cache_control),
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

unsafe extern "C" fn install_cache_control(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes its own `cf`. The servers' configurations have been merged.
    let cf = unsafe { &*cf };
    catch_panic(ERROR, || {
        if HttpKeystoneModule::main_conf(cf).is_some_and(conf::MainConf::is_used) {
            cache_control::install_filter();
        }
        OK
    })
}

/// nginx finds it by this name.
#[no_mangle]
#[allow(non_upper_case_globals)]
pub static mut ngx_http_keystone_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(CONTEXT).cast_mut().cast(),
    commands: ptr::addr_of_mut!(conf::commands::COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

// SAFETY: the module's create functions make configurations of these types.
unsafe impl HttpModuleMainConf for HttpKeystoneModule {
    type MainConf = conf::MainConf;
}

// SAFETY: as above.
unsafe impl HttpModuleServerConf for HttpKeystoneModule {
    type ServerConf = conf::server::ServerConf;
}

// SAFETY: as above.
unsafe impl HttpModuleLocationConf for HttpKeystoneModule {
    type LocationConf = conf::location::LocationConf;
}

impl HttpModule for HttpKeystoneModule {
    fn module() -> &'static ngx_module_t {
        // SAFETY: nginx changes the structure while it loads the module, and never after.
        unsafe { &*ptr::addr_of!(ngx_http_keystone_module) }
    }

    unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
        // SAFETY: nginx passes its own `cf`.
        let cf = unsafe { &mut *cf };
        catch_panic(ERROR, || begin(cf))
    }

    unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
        // SAFETY: nginx passes its own `cf`.
        let cf = unsafe { &mut *cf };
        catch_panic(ERROR, || finish(cf))
    }
}

/// The http block begins.
fn begin(cf: &mut ngx_conf_t) -> ngx_int_t {
    if worker::Worker::is_running() {
        // With "master_process off", nginx reads another configuration in the process that serves
        // requests, and unmaps the zone that they use. It would not serve any after that. At the end
        // of the block, modules would have begun to put their filters into place once more.
        let reason = "with \"master_process off\" nginx cannot be reloaded: restart it";
        conf::directive::report(cf, NGX_LOG_EMERG, reason);
        return ERROR;
    }
    code(add_variables(cf))
}

fn add_variables(cf: &mut ngx_conf_t) -> Option<()> {
    #[cfg(ngx_feature = "http_cache")]
    cache_variant::add_variable(cf)?;
    variables::add(cf)
}

/// The http block has been read.
fn finish(cf: &mut ngx_conf_t) -> ngx_int_t {
    let Some(main) = HttpKeystoneModule::main_conf_mut(cf) else { return ERROR };
    if let Err(reason) = main.finish(cf) {
        let log = cf.log;
        log_at!(NGX_LOG_EMERG, log, "{reason}{}", main.zone_position());
        return ERROR;
    }
    match main.is_used() {
        true => code(install_handlers(cf)),
        false => OK,
    }
}

fn install_handlers(cf: &mut ngx_conf_t) -> Option<()> {
    let core = NgxHttpCoreModule::main_conf_mut(cf)?;
    add_handler(core, ngx_http_phases_NGX_HTTP_REWRITE_PHASE, strip)?;
    add_handler(core, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, PREACCESS_HANDLER)?;
    add_handler(core, ngx_http_phases_NGX_HTTP_ACCESS_PHASE, ACCESS_HANDLER)?;
    add_handler(core, ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE, check_passed)?;
    add_handler(core, ngx_http_phases_NGX_HTTP_CONTENT_PHASE, content)?;
    // nginx runs a phase's handlers from the last one to the first. Being first is right in the
    // rewrite phase, and in the preaccess phase, before limit_req and limit_conn. In the access
    // phase, an address or a password that is refused should cost no look at the token, so the
    // module goes behind nginx's own.
    let phase = &mut core.phases[ngx_http_phases_NGX_HTTP_ACCESS_PHASE as usize];
    // SAFETY: the phase's array holds handlers.
    let handlers: &mut [ngx_http_handler_pt] = unsafe { phase.handlers.as_slice_mut() };
    handlers.rotate_right(1);
    answer::install_filters();
    Some(())
}

fn add_handler(
    core: &mut ngx_http_core_main_conf_t,
    phase: u32,
    handler: PhaseHandler,
) -> Option<()> {
    let phase = core.phases.get_mut(phase as usize)?;
    // SAFETY: the phase's array holds handlers, and is in use by this thread alone.
    let slot: *mut ngx_http_handler_pt = unsafe { ngx_array_push(&mut phase.handlers) }.cast();
    if slot.is_null() {
        return None;
    }
    // SAFETY: the array has made room for one handler.
    unsafe { slot.write(Some(handler)) };
    Some(())
}

unsafe extern "C" fn strip(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx's contract for a phase handler is this function's.
    unsafe { handle(r, access::strip) }
}

unsafe extern "C" fn preaccess(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: as above.
    unsafe { handle(r, access::preaccess) }
}

/// The one address of `preaccess`, by which it is found in the phase engine again.
static PREACCESS_HANDLER: PhaseHandler = preaccess;

unsafe extern "C" fn access(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: as above.
    unsafe { handle(r, access::access) }
}

/// The one address of `access`, by which it is found in the phase engine again.
static ACCESS_HANDLER: PhaseHandler = access;

unsafe extern "C" fn check_passed(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: as above.
    unsafe { handle(r, access::check_passed) }
}

unsafe extern "C" fn content(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: as above.
    unsafe { handle(r, access::content) }
}

/// Content handler of a location with `keystone_status`.
unsafe extern "C" fn show_status(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: as above.
    unsafe { handle(r, status::show) }
}

/// Runs a phase handler; a panic ends the request, not nginx.
///
/// # Safety
/// `r` is the request that nginx hands to a phase handler.
unsafe fn handle(r: *mut ngx_http_request_t, handler: fn(&Request) -> isize) -> ngx_int_t {
    // SAFETY: by this function's contract.
    let Some(request) = (unsafe { Request::new(r) }) else { return ERROR };
    let error = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    catch_panic_of(&request, error, || handler(&request))
}

/// The configuration has been read, and no process serves it yet.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx passes the cycle that it has just made.
    let cycle = unsafe { &*cycle };
    catch_panic(ERROR, || match NgxHttpCoreModule::main_conf_mut(cycle) {
        Some(core) => code(variables::add_prefix(core)),
        // There is no http block.
        None => OK,
    })
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx passes the cycle that this process will serve, and lives no longer than it.
    let Some(main) = HttpKeystoneModule::main_conf(unsafe { &*cycle }) else {
        // There is no http block.
        return OK;
    };
    // SAFETY: a plain integer that nginx has set before.
    let process = unsafe { nginx_sys::ngx_process } as u32;
    if !matches!(process, NGX_PROCESS_SINGLE | NGX_PROCESS_WORKER) {
        // The processes that look after a disk cache come by here too.
        return OK;
    }
    match catch_panic(Err(worker::StartError::Panic), || worker::Worker::start(main)) {
        Ok(()) => OK,
        Err(reason) => {
            error!(ngx::log::ngx_cycle_log(), "keystone: the worker cannot start: {reason}");
            ERROR
        }
    }
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    catch_panic((), || {
        worker::Worker::stop();
        net::drop_woken();
    });
}

fn code(done: Option<()>) -> ngx_int_t {
    done.map_or(ERROR, |()| OK)
}

const OK: ngx_int_t = NGX_OK as ngx_int_t;
const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
