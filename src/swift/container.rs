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

fn remove(request: &Request) -> Result<(), RemovalError> {
    let out_of_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
    let mut path = request.file_path().ok_or_else(out_of_memory)?;
    let is_directory = open_cached(request, &mut path)?.is_some_and(|found| found.is_dir() != 0);
    if !is_directory {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    }
    remove_container(Path::new(OsStr::from_bytes(path.as_bytes())))
}

/// Deletes a container's directory and the empty directories in it, which objects have left, or
/// nothing if there is an object. An object that comes meanwhile stays: a directory goes only if it
/// is empty.
///
/// The worker serves nobody meanwhile, so the walk ends at [`MOST_FOLDERS`]. Those of them that are
/// empty go even then: a container with more of them takes several requests.
fn remove_container(container: &Path) -> Result<(), RemovalError> {
    let marker = container.join(MARKER);
    let (mut folders, mut unread) = (Vec::new(), vec![container.to_owned()]);
    let mut is_whole = true;
    // Down to an innermost one first: whatever is left out, some that are looked at are empty.
    while let Some(directory) = unread.pop() {
        if folders.len() > MOST_FOLDERS {
            is_whole = false;
            break;
        }
        let mut is_first = true;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                match path == marker {
                    true => continue,
                    false => return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty).into()),
                }
            }
            if !is_first && unread.len() >= MOST_FOLDERS {
                is_whole = false;
                break;
            }
            is_first = false;
            unread.push(path);
        }
        folders.push(directory);
    }
    // The container itself is the first, and the inner ones follow the outer ones.
    let folders = folders.get(1..).unwrap_or_default();
    if !is_whole {
        folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        return Err(RemovalError::TooManyFolders);
    }
    for folder in folders.iter().rev() {
        fs::remove_dir(folder)?;
    }
    match fs::remove_file(marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(fs::remove_dir(container)?),
    }
}

/// Why a container stays.
#[derive(Debug, thiserror::Error)]
enum RemovalError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it has more than {MOST_FOLDERS} directories; those found empty were removed")]
    TooManyFolders,
}

/// As ngx_http_dav_module answers, and 409 as Swift does.
fn status(request: &Request, error: &RemovalError) -> u32 {
    if let RemovalError::Io(error) = error {
        match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => return NGX_HTTP_CONFLICT,
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => return NGX_HTTP_NOT_FOUND,
            _ => {}
        }
    }
    let RemovalError::Io(error) = error else {
        info!(request, "keystone: the container cannot be deleted: {error}");
        return NGX_HTTP_CONFLICT;
    };
    error!(request, "keystone: the container cannot be deleted: {error}");
    match error.raw_os_error() {
        // The last one is a link that `disable_symlinks` forbids.
        Some(libc::EACCES | libc::EPERM | libc::ELOOP) => NGX_HTTP_FORBIDDEN,
        _ => NGX_HTTP_INTERNAL_SERVER_ERROR,
    }
}

/// The file with which `static-swift.conf` creates a container: ngx_http_dav_module makes a
/// directory only for a file in it.
const MARKER: &str = ".container";

/// How many directories of a container a request looks at. A client makes one with each `PUT`, and
/// has them looked at with each `DELETE`: this number takes some tens of milliseconds. It is more
/// than a path of `PATH_MAX` bytes (4,096) can have inside each other.
const MOST_FOLDERS: usize = 2_100;
