//! `keystone_jws_keys`: Keystone's public keys, in files and in directories.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use keystone_token::jws::JwsKeys;

use super::directive::Refused;

/// Reads the keys of all paths.  A file that holds none is an error: tokens that were signed with a
/// key that is missing here would be refused.
pub fn read(paths: &[PathBuf]) -> Result<Rc<JwsKeys>, Refused> {
    let mut files = Vec::new();
    for path in paths {
        let is_directory = fs::metadata(path).map_err(|error| cannot_read(path, &error))?.is_dir();
        match is_directory {
            true => files.extend(files_in(path)?),
            false => files.push(path.clone()),
        }
    }
    let keys = files.iter().map(|path| read_file(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(Rc::new(JwsKeys::join(keys)))
}

/// The files of a directory, as Keystone reads its `jws_public_key_repository`; those whose names
/// start with a dot, and directories in it, are left out.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, Refused> {
    let failed = |error| cannot_read(directory, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && !path.is_dir() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(format!("finds no key in {}: the directory is empty", directory.display()));
    }
    // So that the first error is always the same one.
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<JwsKeys, Refused> {
    let failed = |error| cannot_read(path, &error);
    let is_file = fs::metadata(path).map_err(failed)?.is_file();
    if !is_file {
        return Err(cannot_read(path, &"it is not a regular file"));
    }
    let mut pem = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut pem)).map_err(failed)?;
    JwsKeys::from_pem(&pem).map_err(|error| format!("cannot use {}: {error}", path.display()))
}

fn cannot_read(path: &Path, error: &dyn std::fmt::Display) -> Refused {
    format!("cannot read {}: {error}", path.display())
}

/// Bytes of a file with public keys.
const LARGEST: u64 = 1 << 20;
