//! How a request waits in a phase, and goes on.
//!
//! A handler that returns `NGX_AGAIN` stays the request's current one: nginx's `phase_handler` is
//! its index in the phase engine. That index is not a name. Modules reorder the engine at run time
//! (srcache and others of OpenResty's move their handler to the end of the access phase, at the
//! first request in each worker), and then it is another handler's. So a request is suspended in a
//! way that nothing but [`Request::resume_at`] goes on with it, and goes on at the handler itself,
//! wherever that is by then.

use std::ptr::fn_addr_eq;

use nginx_sys::{
    ngx_handle_read_event, ngx_http_block_reading, ngx_http_core_run_phases,
    ngx_http_finalize_request, ngx_http_phase_handler_t, ngx_http_request_empty_handler,
    ngx_http_request_t, ngx_http_run_posted_requests, ngx_http_test_reading, ngx_int_t,
    NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_OK,
};
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use super::Request;

/// A handler of one of nginx's phases.
pub type PhaseHandler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

impl Request {
    /// Makes the request wait: its phases go on when [`Request::resume_at`] says so and not before,
    /// and nginx notices when the client goes away meanwhile. `None` where it cannot.
    pub fn suspend(&self) -> Option<()> {
        let r = self.as_ptr();
        // SAFETY: the request and its connection are alive and belong to this thread.
        unsafe {
            if ngx_handle_read_event((*self.connection()).read, 0) != NGX_OK as isize {
                return None;
            }
            (*r).read_event_handler = Some(ngx_http_test_reading);
            // As nginx has set it, it would run the phases whenever the client can be written to.
            (*r).write_event_handler = Some(ngx_http_request_empty_handler);
        }
        Some(())
    }

    /// Goes on with a suspended request at `handler`. It may be gone when this returns.
    ///
    /// # Safety
    /// Called from nginx's event loop, not from within the request's own phases, and the request
    /// still waits.
    pub unsafe fn resume_at(self, handler: PhaseHandler) {
        let (r, connection) = (self.as_ptr(), self.connection());
        let index = self.phase_index(handler);
        // SAFETY: the request is alive; its connection outlives it, even if the request ends here.
        unsafe {
            (*r).read_event_handler = Some(ngx_http_block_reading);
            match index {
                Some(index) => {
                    (*r).write_event_handler = Some(ngx_http_core_run_phases);
                    (*r).phase_handler = index;
                    ngx_http_core_run_phases(r);
                }
                None => {
                    crit!(self, "keystone: the module's handler is no longer in the phase engine");
                    ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t);
                }
            }
            ngx_http_run_posted_requests(connection);
        }
    }

    /// Where `handler` is in the phase engine now.
    fn phase_index(&self, handler: PhaseHandler) -> Option<ngx_int_t> {
        let engine = &NgxHttpCoreModule::main_conf(self.get())?.phase_engine;
        (0..)
            // SAFETY: behind the handlers of the engine is one pointer more, the null checker of a
            // handler that is not whole (`ngx_http_init_phase_handlers()`), and this stops there.
            .map(|index| (index, unsafe { engine.handlers.offset(index) }))
            // SAFETY: as above; the checker is the first member of a handler.
            .take_while(|(_, phase)| unsafe { (**phase).checker }.is_some())
            .find(|(_, phase)| is_handler(*phase, handler))
            .map(|(index, _)| index)
    }
}

fn is_handler(phase: *const ngx_http_phase_handler_t, handler: PhaseHandler) -> bool {
    // SAFETY: `phase_index` hands over a phase handler with a checker, which is whole.
    unsafe { (*phase).handler }.is_some_and(|found| fn_addr_eq(found, handler))
}
