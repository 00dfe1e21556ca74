//! Ports that no other test takes.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::{During, Error, Result};

/// A port of 127.0.0.1, held for as long as this value lives.
///
/// A port that is free now may be taken by another test before nginx binds it, or while a service
/// that will be started again is stopped. So ports come from below the range that the system hands
/// out on its own, and each is held by a lock on a file that all test processes share.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Closing the file gives up the lock.
    _lock: File,
}

impl Port {
    /// Reserves a free port.
    pub fn free() -> Result<Self> {
        for _ in 0..TRIES {
            let mut random = [0; 2];
            openssl::rand::rand_bytes(&mut random)?;
            let number = FIRST + u16::from_ne_bytes(random) % COUNT;
            let Some(port) = Self::hold(number)? else { continue };
            if TcpListener::bind(port.address()).is_ok() {
                return Ok(port);
            }
        }
        Err(Error::Timeout("a free port".into()))
    }

    /// Holds the given port; `None` if another holder has it.
    pub fn hold(number: u16) -> Result<Option<Self>> {
        let path = lock_dir()?.join(number.to_string());
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .during(format!("opening {}", path.display()))?;
        // SAFETY: the descriptor belongs to `lock`, which is open; flock touches no memory.
        let held = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
        Ok(held.then_some(Self { number, _lock: lock }))
    }

    /// The number of the port.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address on the loopback.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

fn lock_dir() -> Result<PathBuf> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let user = unsafe { libc::geteuid() };
    let path = std::env::temp_dir().join(format!("keystone-testbed-ports-{user}"));
    std::fs::create_dir_all(&path).during(format!("making {}", path.display()))?;
    Ok(path)
}

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;
const TRIES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_not_given_twice() {
        let port = Port::free().unwrap();
        assert!(Port::hold(port.number()).unwrap().is_none());
        let number = port.number();
        drop(port);
        assert!(Port::hold(number).unwrap().is_some());
    }
}
