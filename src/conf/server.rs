//! Which identity service a server uses.

use std::ffi::{c_char, c_void};
use std::ops::Deref;

use nginx_sys::ngx_conf_t;
use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};

use super::challenges::Challenges;
use crate::panic::catch_panic;

/// The configuration of a server.
#[derive(Default)]
pub struct ServerConf {
    /// The directives of one level, and, once merged, of all levels around it.
    pub directives: keystone_conf::ServerConf,
    /// The identity service's index in the main configuration, once a location asks for it.
    pub service: Option<usize>,
    /// What is announced to a client without a valid token, made of the auth URI with `service`.
    pub challenges: Challenges,
}

impl Deref for ServerConf {
    type Target = keystone_conf::ServerConf;

    fn deref(&self) -> &Self::Target {
        &self.directives
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
    catch_panic(NGX_CONF_ERROR, || {
        conf.directives.inherit(&outer.directives);
        NGX_CONF_OK
    })
}
