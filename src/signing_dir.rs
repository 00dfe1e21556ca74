//! `keystone_signing_dir`: certificates and the revocation list on disk, so that a gateway that
//! starts while Keystone is down can still verify tokens.
//!
//! Who can write here decides which tokens are valid, so the directory is checked before nginx
//! starts, and its files are neither read nor written through symbolic links.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nginx_sys::NGX_HTTP_PROXY_TEMP_PATH;

use crate::zone::own_process;

/// auth_token's names of the files.
pub const SIGNING_CERTIFICATE: &str = "signing_cert.pem";
/// File name of the CA's certificates.
pub const CA_CERTIFICATE: &str = "cacert.pem";
/// The revocation list as Keystone signed it.
pub const REVOKED: &str = "revoked.pem";

/// Larger files are not ours.
const MAX_FILE: u64 = 64 << 20;

/// Bytes of a file that are removed in a step.
const LONG_FILE: u64 = 1 << 20;

/// Where the directory is by default, relative to nginx's prefix: beside nginx's own temporary
/// directories.
pub fn default_path() -> String {
    let proxy = NGX_HTTP_PROXY_TEMP_PATH.to_string_lossy();
    match proxy.rsplit_once('/') {
        Some((parent, _)) => format!("{parent}/keystone"),
        None => "keystone".to_owned(),
    }
}

/// The user that workers run as.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Creates the directory for `owner` if it is missing, and checks that no other user can put files
/// into it. On success a warning may come back; an error says why nginx must not start.
pub fn prepare(path: &Path, owner: Owner) -> Result<Option<String>, PrepareError> {
    let failed = |reason| PrepareError { path: path.to_owned(), reason };
    let mode = check(path, owner).map_err(failed)?;
    let readable = mode & 0o055 != 0;
    Ok(readable.then(|| {
        format!(
            "keystone_signing_dir {} can be read by others (mode {mode:04o}); 0700 is enough",
            path.display()
        )
    }))
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("keystone_signing_dir {} {reason}", path.display())]
pub struct PrepareError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("cannot be created: {0}")]
    Create(io::Error),
    #[error("cannot be examined: {0}")]
    Examine(io::Error),
    #[error("is a symbolic link in a directory that others can write, who could change it")]
    LinkInOpenDirectory,
    #[error("is a symbolic link of user {0}, who could change it")]
    LinkOwner(u32),
    #[error("is not a directory")]
    NotDirectory,
    #[error(
        "can be written by others (mode {0:04o}): who writes there decides which tokens are valid"
    )]
    OpenToOthers(u32),
    #[error("belongs to user {uid}, it must belong to root or to the worker's user {worker}")]
    Owner { uid: u32, worker: u32 },
    #[error("is in {}, which cannot be examined: {error}", parent.display())]
    Parent { parent: PathBuf, error: io::Error },
    #[error("(mode {mode:04o}, owner {uid}) cannot be written by the worker's user {worker}")]
    ReadOnly { mode: u32, uid: u32, worker: u32 },
    #[error("cannot be used: {0}")]
    Use(io::Error),
    #[error("cannot be written: {0}")]
    Write(io::Error),
}

/// The mode of the directory, made if it is missing, where it can be used.
fn check(path: &Path, owner: Owner) -> Result<u32, Reason> {
    let trusted = |uid: u32| uid == 0 || uid == owner.uid;

    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path, owner).map_err(Reason::Create)?
        }
        Err(error) => return Err(Reason::Examine(error)),
        Ok(link) if link.file_type().is_symlink() => check_link(path, &link, trusted)?,
        Ok(_) => {}
    }

    let directory = fs::metadata(path).map_err(Reason::Use)?;
    let (mode, uid, worker) = (directory.mode() & 0o7777, directory.uid(), owner.uid);
    if !directory.is_dir() {
        return Err(Reason::NotDirectory);
    }
    if !trusted(uid) {
        return Err(Reason::Owner { uid, worker });
    }
    if mode & 0o022 != 0 {
        return Err(Reason::OpenToOthers(mode));
    }
    if !is_writable(&directory, owner) {
        return Err(Reason::ReadOnly { mode, uid, worker });
    }
    // The mode may promise what the file system does not keep (mounted read-only, say).
    // Dropped at once, it leaves nothing behind.
    drop(Replacement::begin(path, "probe").map_err(Reason::Write)?);
    Ok(mode)
}

fn create(path: &Path, owner: Owner) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    // SAFETY: a plain system call without arguments.
    if unsafe { libc::geteuid() } == 0 {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

fn check_link(
    path: &Path,
    link: &fs::Metadata,
    trusted: impl Fn(u32) -> bool,
) -> Result<(), Reason> {
    if !trusted(link.uid()) {
        return Err(Reason::LinkOwner(link.uid()));
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = fs::metadata(parent)
        .map_err(|error| Reason::Parent { parent: parent.to_owned(), error })?;
    let sticky = directory.mode() & 0o1000 != 0;
    let writable = directory.mode() & 0o022 != 0;
    if !trusted(directory.uid()) || (writable && !sticky) {
        return Err(Reason::LinkInOpenDirectory);
    }
    Ok(())
}

fn is_writable(directory: &fs::Metadata, owner: Owner) -> bool {
    let mode = directory.mode();
    match () {
        () if owner.uid == 0 => true,
        () if directory.uid() == owner.uid => mode & 0o300 == 0o300,
        // Written by its group or by others has been refused before.
        () => false,
    }
}

/// What was found in the directory.
#[derive(Default)]
pub struct Files {
    /// The bytes of `signing_cert.pem`.
    pub signing: Option<Vec<u8>>,
    /// The bytes of `cacert.pem`.
    pub ca: Option<Vec<u8>>,
    /// The signed revocation list and how old it is.
    pub revoked: Option<(Vec<u8>, Duration)>,
}

/// Reads what is there. A file that cannot be read counts as missing, and `complain` hears why.
pub fn load(path: &Path, mut complain: impl FnMut(String)) -> Files {
    let mut read = |name: &str| {
        let file = path.join(name);
        match read_file(&file) {
            Ok(read) => Some(read),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                complain(format!("{} is ignored: {error}", file.display()));
                None
            }
        }
    };
    let signing = read(SIGNING_CERTIFICATE).map(|(bytes, _)| bytes);
    let ca = read(CA_CERTIFICATE).map(|(bytes, _)| bytes);
    let revoked = read(REVOKED).map(|(bytes, written)| {
        // A file from the future counts as a very old one.
        let age = SystemTime::now().duration_since(written).unwrap_or(Duration::MAX);
        (bytes, age)
    });
    Files { signing, ca, revoked }
}

fn read_file(path: &Path) -> io::Result<(Vec<u8>, SystemTime)> {
    // Without O_NONBLOCK, a named pipe would stop nginx here.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other("it is too large"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.modified()?))
}

/// Whether nothing of this name exists.
pub fn is_missing(path: &Path, name: &str) -> bool {
    let found = fs::symlink_metadata(path.join(name));
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Replaces the file `name` in one step: a reader finds the old bytes or the new ones.
pub fn store(path: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut replacement = Replacement::begin(path, name)?;
    replacement.write(bytes)?;
    replacement.finish()
}

/// A file that is going to replace another one. Dropped before that, it is removed.
pub struct Replacement {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Replacement {
    /// Begins to replace the file `name`.
    pub fn begin(path: &Path, name: &str) -> io::Result<Self> {
        let temporary = path.join(temporary_name(name));
        let file = create_new(&temporary).or_else(|error| match error.kind() {
            // The directory was taken away while nginx runs.
            io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).create(path)?;
                create_new(&temporary)
            }
            // A process with this id died here before.
            io::ErrorKind::AlreadyExists => {
                fs::remove_file(&temporary)?;
                create_new(&temporary)
            }
            _ => Err(error),
        })?;
        Ok(Self { file, temporary, target: path.join(name) })
    }

    /// Allocates so many bytes, if the file system can. Otherwise ext4 allocates all of them when
    /// the file replaces another one, which takes milliseconds.
    pub fn allocate(&self, bytes: usize) {
        let Ok(bytes) = libc::off_t::try_from(bytes) else { return };
        // SAFETY: the descriptor is the file's, which is open; nothing else is passed. If the call
        // fails, nothing depends on it.
        unsafe { libc::fallocate(self.file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, bytes) };
    }

    /// Writes more of it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts it in the place of the other one.
    pub fn finish(self) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(0o600))?;
        fs::rename(&self.temporary, &self.target)
    }
}

/// A long file that was replaced, and that nobody can open any more.
pub struct Replaced(File, u64);

impl Replaced {
    /// The file `name`, if it is so long that the system takes milliseconds to remove it.
    pub fn find(path: &Path, name: &str) -> Option<Self> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path.join(name)).ok()?;
        let metadata = file.metadata().ok()?;
        (metadata.is_file() && metadata.len() > LONG_FILE).then(|| Self(file, metadata.len()))
    }

    /// Removes a part of it, and says whether something is left. Nothing is removed of a file that
    /// still has a name.
    pub fn shrink(&mut self) -> bool {
        let is_nameless = self.0.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        self.1 = self.1.saturating_sub(LONG_FILE);
        is_nameless && self.0.set_len(self.1).is_ok() && self.1 > 0
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Once it has replaced the other one, nothing of this name is there.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn temporary_name(name: &str) -> PathBuf {
    PathBuf::from(format!(".{name}.{}", own_process()))
}
