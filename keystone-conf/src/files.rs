//! The files that are read with the configuration: secrets, and Keystone's public keys.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use keystone_token::jws::JwsKeys;
use zeroize::Zeroizing;

use crate::error::ConfError;

/// Opens a regular file. Another one, such as a named pipe, can keep its reader waiting: at a reload,
/// that is the master.
pub fn open(path: &Path) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Whether the paths are equal, or lead to one file or directory that is there, by way of a symbolic link
/// perhaps.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    one == other
        || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|it| it == one))
}

/// Reads the file of `file:PATH`, without the newline at its end.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    open(path)?.read_to_string(&mut text)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Reads the keys of all paths, each a file or a directory. A file without a key is an error:
/// tokens that were signed with a key that is missing here would be refused.
pub fn jws_keys(directive: &str, paths: &[PathBuf]) -> Result<JwsKeys, ConfError> {
    let reader = KeyReader { directive };
    let mut files = Vec::new();
    for path in paths {
        match fs::metadata(path).map_err(|error| reader.unreadable(path, error))?.is_dir() {
            true => files.extend(reader.files_in(path)?),
            false => files.push(path.clone()),
        }
    }
    let keys = files.iter().map(|path| reader.read(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(JwsKeys::join(keys))
}

struct KeyReader<'a> {
    directive: &'a str,
}

impl KeyReader<'_> {
    /// The files of a directory, as Keystone reads its `jws_public_key_repository`: those whose
    /// names start with a dot, and directories in it, are left out.
    fn files_in(&self, directory: &Path) -> Result<Vec<PathBuf>, ConfError> {
        let failed = |error| self.unreadable(directory, error);
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
            return Err(ConfError::EmptyDirectory {
                directive: self.directive.to_owned(),
                path: directory.to_owned(),
            });
        }
        // So that the first error is always the same one.
        files.sort();
        Ok(files)
    }

    fn read(&self, path: &Path) -> Result<JwsKeys, ConfError> {
        let failed = |error| self.unreadable(path, error);
        let mut pem = Vec::new();
        let file = open(path).map_err(failed)?;
        file.take(LARGEST).read_to_end(&mut pem).map_err(failed)?;
        JwsKeys::from_pem(&pem).map_err(|source| ConfError::Keys {
            directive: self.directive.to_owned(),
            path: path.to_owned(),
            source,
        })
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> ConfError {
        ConfError::File { directive: self.directive.to_owned(), path: path.to_owned(), source }
    }
}

/// Bytes of a file with public keys.
const LARGEST: u64 = 1 << 20;
