//! A disk that is soon full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::nginx::worker_ids;
use crate::temp::TempDir;
use crate::{During, Error, Result};

/// A file system of its own with 64 KiB of room; dropping it unmounts it.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    /// Removed after the file system was unmounted.
    _dir: TempDir,
}

impl Mount {
    /// Mounts one; `None`, and a word on stderr, where that is not permitted.
    pub fn small() -> Result<Option<Self>> {
        let dir = TempDir::new("disk")?;
        let path = dir.join("mounted");
        fs::create_dir(&path).during("making a mount point")?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs"]).arg(&path);
        if !mount.output().is_ok_and(|done| done.status.success()) {
            eprintln!("skipped: mounting a small file system is not permitted here");
            return Ok(None);
        }
        Ok(Some(Self { path, _dir: dir }))
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it to the last byte.
    pub fn fill_up(&self) -> Result<()> {
        if worker_ids().0 == 0 {
            return Err(Error::Nginx(
                "the workers' user is root, which can write to a full disk".into(),
            ));
        }
        let (mut size, mut number) = (64 * 1024, 0);
        while size > 0 {
            number += 1;
            let path = self.filler(number);
            if fs::write(&path, vec![0; size]).is_err() {
                let _ = fs::remove_file(&path);
                size /= 2;
            }
        }
        Ok(())
    }

    /// Removes the file of [`Mount::fill_up`].
    pub fn make_room(&self) {
        let mut number = 1;
        // Numbers that did not fit have no file.
        while number < MOST_FILLERS {
            let _ = fs::remove_file(self.filler(number));
            number += 1;
        }
    }

    fn filler(&self, number: usize) -> PathBuf {
        self.path.join(format!("fill-{number}"))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that is still ending may have a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

const MOST_FILLERS: usize = 200;
