//! Directories that go when they are no longer needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{During, Result};

/// A directory of its own below the system's temporary directory, removed on drop.
///
/// Set `KEYSTONE_TESTBED_KEEP` to keep it, for looking at logs afterwards.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes one that everybody may enter, so that an unprivileged nginx worker can.
    pub fn new(purpose: &str) -> Result<Self> {
        let mut unique = [0; 8];
        openssl::rand::rand_bytes(&mut unique)?;
        let name = format!("keystone-{purpose}-{:016x}", u64::from_ne_bytes(unique));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).during(format!("making {}", path.display()))?;
        let dir = Self { path };
        set_mode(&dir.path, 0o755)?;
        Ok(dir)
    }

    /// The absolute path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the directory.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os("KEYSTONE_TESTBED_KEEP").is_none() {
            // Nothing better can be done about a directory that will not go.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Sets the permission bits of a file or directory.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .during(format!("setting the mode of {}", path.display()))
}

/// The permission bits of a file or directory; a symbolic link is not followed.
pub fn mode(path: &Path) -> Result<u32> {
    let metadata = fs::symlink_metadata(path).during(format!("looking at {}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o7777)
}
