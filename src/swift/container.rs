//! `keystone_swift_delete_containers`: `DELETE` of a container that is a directory.
//!
//! ngx_http_dav_module deletes a directory with everything in it. Swift deletes a container only if
//! it has no object, and answers 409 otherwise (`swift/container/server.py`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use keystone_token::swift::AccountPath;
use nginx_sys::{
    NGX_DECLINED, NGX_HTTP_CONFLICT, NGX_HTTP_FORBIDDEN, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_NOT_FOUND, NGX_HTTP_NO_CONTENT,
};

use super::open::open_cached;
use crate::conf::location::{Auth, LocationConf};
use crate::request::Request;

/// Content phase: deletes the container that the request is for, if the location says so.
pub fn delete(request: &Request) -> isize {
    let deletes = |it: &LocationConf| is_container_deleted(request, it);
    if !request.is_delete() || !request.location().is_some_and(deletes) {
        return NGX_DECLINED as isize;
    }
    if let Err(code) = request.discard_body() {
        return code;
    }
    let status = match remove(request) {
        Ok(()) => NGX_HTTP_NO_CONTENT,
        Err(error) => status(request, &error),
    };
    status as isize
}

/// Whether the location says so, and the path is that of a container.
pub fn is_container_deleted(request: &Request, location: &LocationConf) -> bool {
    location.swift.deletes_containers()
        && location.auth() != Auth::Off
        && matches!(
            AccountPath::split(request.path()),
            Some(AccountPath { account: Some(_), container: Some(_), object: None, .. })
        )
}

fn remove(request: &Request) -> io::Result<()> {
    let mut path = request.file_path().ok_or(io::ErrorKind::OutOfMemory)?;
    let is_directory = open_cached(request, &mut path)?.is_some_and(|found| found.is_dir() != 0);
    if !is_directory {
        return Err(io::ErrorKind::NotFound.into());
    }
    remove_container(Path::new(OsStr::from_bytes(path.as_bytes())))
}

/// Deletes a container's directory and the empty directories in it, which objects have left, or
/// nothing if there is an object. An object that comes meanwhile stays: a directory goes only if it
/// is empty.
fn remove_container(container: &Path) -> io::Result<()> {
    let marker = container.join(MARKER);
    let mut directories = vec![container.to_owned()];
    let mut next = 0;
    while let Some(directory) = directories.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            match entry.file_type()?.is_dir() {
                true => directories.push(path),
                false if path == marker => {}
                false => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            }
        }
    }
    let (_, folders) = directories.split_first().ok_or(io::ErrorKind::NotFound)?;
    // The inner ones were found after the outer ones.
    for folder in folders.iter().rev() {
        fs::remove_dir(folder)?;
    }
    match fs::remove_file(marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir(container),
    }
}

/// As ngx_http_dav_module answers, and 409 as Swift does.
fn status(request: &Request, error: &io::Error) -> u32 {
    match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => return NGX_HTTP_CONFLICT,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => return NGX_HTTP_NOT_FOUND,
        _ => error!(request, "keystone: the container cannot be deleted: {error}"),
    }
    match error.raw_os_error() {
        // The last one is a link that `disable_symlinks` forbids.
        Some(libc::EACCES | libc::EPERM | libc::ELOOP) => NGX_HTTP_FORBIDDEN,
        _ => NGX_HTTP_INTERNAL_SERVER_ERROR,
    }
}

/// The file with which `static-swift.conf` creates a container: ngx_http_dav_module makes a
/// directory only for a file in it.
const MARKER: &str = ".container";
