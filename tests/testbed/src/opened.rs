//! How often a file is opened.

use std::io::{ErrorKind, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{ffi::CString, fs::File, io, mem, ptr};

use crate::{During, Result};

/// A watch on a file that counts who opens it, in whatever process.
#[derive(Debug)]
pub struct Opened {
    events: File,
}

impl Opened {
    /// Counts from now on.
    pub fn watch(path: &Path) -> Result<Self> {
        // SAFETY: a plain system call.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).during("watching a file");
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let events = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
        let path = path.during("watching a file")?;
        // The kernel merges events that are the same and follow each other. Between two files that
        // are opened, one is closed.
        let mask = libc::IN_OPEN | libc::IN_CLOSE;
        // SAFETY: the descriptor is open, and the path ends with a zero byte.
        if unsafe { libc::inotify_add_watch(fd, path.as_ptr(), mask) } < 0 {
            return Err(io::Error::last_os_error()).during("watching a file");
        }
        Ok(Self { events })
    }

    /// How often the file was opened since the last time this was asked.
    pub fn count(&mut self) -> Result<usize> {
        const EVENT: usize = mem::size_of::<libc::inotify_event>();
        let mut buffer = [0; 256 * EVENT];
        let mut count = 0;
        loop {
            let read = match self.events.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
                read => read.during("reading what happened to a file")?,
            };
            // The events of a file, unlike those of a directory, carry no name.
            for event in buffer[..read].chunks_exact(EVENT) {
                // SAFETY: the kernel writes whole events, and any bytes make one.
                let event: libc::inotify_event =
                    unsafe { ptr::read_unaligned(event.as_ptr().cast()) };
                count += usize::from(event.mask & libc::IN_OPEN != 0);
            }
        }
    }
}
