//! Content phase: a folder that the access phase has not seen.
//!
//! If `try_files $uri//` finds a directory, it puts a slash behind the path, after the decision about
//! a file of that name. ngx_http_autoindex_module then lists the directory, and ngx_http_dav_module
//! deletes it with everything in it: that takes the rights that a request with the slash takes.

use super::{forbid_elsewhere, identity_service, judge, worker, DECLINED, ERROR};
use crate::authz::AuthzContext;
use crate::context::Context;
use crate::request::Request;

/// Decides again, by the path that is used now.
pub fn check(request: &Request) -> isize {
    if !request.path().ends_with(b"/") || !request.has_try_files() {
        return DECLINED;
    }
    let (Some(location), Some(server)) = (request.location(), request.server()) else {
        return ERROR;
    };
    let context = Context::of_location(request).filter(|_| request.is_main());
    if context.is_some_and(|context| context.is_folder.get()) {
        return DECLINED;
    }
    if let Some(code) = forbid_elsewhere(request, location) {
        return code;
    }
    let Some(context) = context.filter(|it| it.has_passed(location)) else { return DECLINED };
    let Some(worker) = worker(request) else { return ERROR };
    let Some(identity) = identity_service(server, &worker) else { return ERROR };
    let Some(authz) = AuthzContext::new(request, context, location, server) else { return ERROR };
    let service = authz.service();
    let user = authz.user(&service);
    judge(&authz, &user, &service, identity).err().unwrap_or(DECLINED)
}
