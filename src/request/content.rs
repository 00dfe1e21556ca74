//! What makes the content of a request, in the location that it is in now.

use std::ffi::CStr;

use nginx_sys::ngx_uint_t;

use super::Request;
use crate::conf::module_index_of_cycle;

impl Request {
    /// Whether the content comes from a handler of the location's own, such as that of `proxy_pass`;
    /// files are served, and changed, by handlers that all locations without one share. An `if` of
    /// the location keeps its handler.
    pub fn has_content_handler(&self) -> bool {
        self.get().content_handler.is_some()
    }

    /// Whether ngx_http_dav_module would serve the request: nothing else is there to do it, and
    /// `dav_methods` has its method.
    pub fn is_served_by_dav(&self) -> bool {
        // The module's configuration begins with the methods.
        let methods = || self.first_word(c"ngx_http_dav_module");
        !self.has_content_handler() && methods() & self.get().method != 0
    }

    /// Whether `try_files` may lead a request with this method to another location, since nothing
    /// serves it in this one.
    pub fn is_led_on(&self) -> bool {
        !self.has_content_handler() && !self.is_served_by_dav() && self.has_try_files()
    }

    /// Whether the location has `try_files`.
    pub fn has_try_files(&self) -> bool {
        // The module's configuration begins with a pointer to what the directive says.
        self.first_word(c"ngx_http_try_files_module") != 0
    }

    /// The first word of a module's configuration of the location; 0 where nginx was built without
    /// the module.
    fn first_word(&self, module: &CStr) -> ngx_uint_t {
        // SAFETY: nginx's current cycle lives as long as the process serves it.
        let index = module_index_of_cycle(unsafe { &*nginx_sys::ngx_cycle }, module);
        let word = index.and_then(|index| {
            // SAFETY: nginx keeps a configuration for each http module at its index. Those of the
            // modules that are asked for are structures of at least a word.
            unsafe { (*self.get().loc_conf.add(index)).cast::<ngx_uint_t>().as_ref() }
        });
        word.copied().unwrap_or_default()
    }
}
