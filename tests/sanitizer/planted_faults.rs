//! A module whose locations each have a memory error, by which `make test-asan` shows that such an
//! error is reported:
//!
//! ```nginx
//! location /leak { planted_fault leak; }
//! ```

use std::ffi::{c_char, c_void};
use std::mem;
use std::ptr;

use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_create_pool, ngx_destroy_pool, ngx_hash_key,
    ngx_http_core_loc_conf_t, ngx_http_module_t, ngx_http_request_t, ngx_int_t, ngx_module_t,
    ngx_pnalloc, ngx_str_t, ngx_uint_t, NGX_CONF_TAKE1, NGX_HTTP_LOC_CONF, NGX_HTTP_MODULE,
    NGX_HTTP_NO_CONTENT,
};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

const FAULTS: [(&[u8], Handler); 4] = [
    (b"leak", leak),
    (b"read_freed_pool", read_freed_pool),
    (b"read_past_end", read_past_end),
    (b"read_past_end_in_nginx", read_past_end_in_nginx),
];

unsafe extern "C" fn leak(_: *mut ngx_http_request_t) -> ngx_int_t {
    mem::forget(std::hint::black_box(Box::new([1_u8; LEAKED])));
    NO_CONTENT
}

unsafe extern "C" fn read_freed_pool(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: none, the memory has gone with its pool: this is the planted fault.
    unsafe {
        let pool = ngx_create_pool(POOL, (*(*r).connection).log);
        let memory: *mut u8 = ngx_pnalloc(pool, ALLOCATED).cast();
        ngx_destroy_pool(pool);
        memory.read_volatile();
    }
    NO_CONTENT
}

unsafe extern "C" fn read_past_end(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: none, the byte lies behind what was allocated: this is the planted fault.
    unsafe {
        let memory: *mut u8 = ngx_pnalloc((*r).pool, ALLOCATED).cast();
        memory.add(ALLOCATED).read_volatile();
    }
    NO_CONTENT
}

unsafe extern "C" fn read_past_end_in_nginx(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: none, nginx is told of a byte more than was allocated: this is the planted fault.
    unsafe {
        let memory: *mut u8 = ngx_pnalloc((*r).pool, ALLOCATED).cast();
        memory.write_bytes(1, ALLOCATED);
        ngx_hash_key(memory, ALLOCATED + 1);
    }
    NO_CONTENT
}

unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    _: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx passes its own `cf`, with a directive and one argument.
    let (cf, name) = unsafe {
        let arguments: &[ngx_str_t] = (*(*cf).args).as_slice();
        (&*cf, arguments[1].as_bytes())
    };
    let fault = FAULTS.iter().find(|(known, _)| *known == name);
    let location: Option<&mut ngx_http_core_loc_conf_t> = NgxHttpCoreModule::location_conf_mut(cf);
    match (fault, location) {
        (Some((_, handler)), Some(location)) => {
            location.handler = Some(*handler);
            ptr::null_mut()
        }
        _ => c"names no planted fault".as_ptr().cast_mut(),
    }
}

static mut COMMANDS: [ngx_command_t; 2] = [
    ngx_command_t {
        name: ngx::ngx_string!("planted_fault"),
        type_: (NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1) as ngx_uint_t,
        set: Some(set),
        conf: 0,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t::empty(),
];

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: None,
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

/// What nginx looks up by name in a dynamic module.
#[allow(missing_docs)]
mod exports {
    use super::planted_faults_module;

    ngx::ngx_modules!(planted_faults_module);
}

#[used]
#[allow(non_upper_case_globals)]
static mut planted_faults_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(CONTEXT).cast_mut().cast(),
    commands: ptr::addr_of_mut!(COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

const NO_CONTENT: ngx_int_t = NGX_HTTP_NO_CONTENT as ngx_int_t;
const ALLOCATED: usize = 40;
const LEAKED: usize = 77;
const POOL: usize = 1024;
