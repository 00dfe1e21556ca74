//! Files and directories as nginx opens them: through its open file cache, and with
//! `disable_symlinks`.

use std::io;

use nginx_sys::{
    ngx_http_set_disable_symlinks, ngx_open_cached_file, ngx_open_file_info_t, ngx_str_t, off_t,
    NGX_OK,
};

use crate::request::Request;

/// What nginx finds at a null-terminated path; `None` if nothing is there. A file is open: it stays
/// open in the open file cache if there is one, and is closed with the request otherwise. A
/// directory is not open.
pub fn open_cached(
    request: &Request,
    path: &mut ngx_str_t,
) -> io::Result<Option<ngx_open_file_info_t>> {
    let Some(core) = request.core_location() else { return Ok(None) };
    // SAFETY: all-zero is a valid structure, with which nginx's own callers begin.
    let mut info: ngx_open_file_info_t = unsafe { std::mem::zeroed() };
    // Direct reads would have to be aligned.
    info.directio = off_t::MAX;
    info.valid = core.open_file_cache_valid;
    info.min_uses = core.open_file_cache_min_uses;
    info.set_errors(core.open_file_cache_errors as u32);
    info.set_events(core.open_file_cache_events as u32);
    let core = std::ptr::from_ref(core).cast_mut();
    // SAFETY: the request is alive, its configuration is nginx's own, which the function only
    // reads, and the path is null-terminated.
    let rc = unsafe {
        match ngx_http_set_disable_symlinks(request.as_ptr(), core, path, &mut info) {
            rc if rc == NGX_OK as isize => ngx_open_cached_file(
                (*core).open_file_cache,
                path,
                &mut info,
                request.pool().as_ptr(),
            ),
            _ => return Err(io::ErrorKind::OutOfMemory.into()),
        }
    };
    if rc == NGX_OK as isize {
        return Ok(Some(info));
    }
    match info.err {
        0 => Err(io::ErrorKind::OutOfMemory.into()),
        libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => Ok(None),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
