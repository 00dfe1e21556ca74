//! Clocks that a test sets: nginx sees them, the rest of the machine does not.
//!
//! It is a few lines of C in `LD_PRELOAD`, compiled when a test asks for it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;

use crate::nginx::Config;
use crate::temp::{set_mode, TempDir};
use crate::{During, Error, Result};

/// A wall clock and a monotonic clock that start as the system's.
#[derive(Debug)]
pub struct FakeClock {
    dir: TempDir,
    offset: File,
}

impl FakeClock {
    /// Compiles the library that is preloaded.
    pub fn new() -> Result<Self> {
        let dir = TempDir::new("clock")?;
        std::fs::write(dir.join("fake_clock.c"), SOURCE).during("writing fake_clock.c")?;
        let mut compiler = Command::new("cc");
        compiler.current_dir(dir.path()).args(["-O2", "-shared", "-fPIC", "-o", LIBRARY]);
        let output = compiler.arg("fake_clock.c").output().during("running cc")?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Nginx(format!("fake_clock.c does not compile: {complaint}")));
        }
        let path = dir.join(OFFSET);
        let offset = OpenOptions::new().create_new(true).write(true).open(&path);
        let clock = Self { offset: offset.during("making the file of the offset")?, dir };
        set_mode(&path, 0o644)?;
        clock.write([0, 0])?;
        Ok(clock)
    }

    /// The configuration of an nginx that has this clock.
    pub fn of(&self, config: Config) -> Config {
        config
            .variable("LD_PRELOAD", &self.dir.join(LIBRARY).display().to_string())
            .variable("KEYSTONE_TESTBED_CLOCK", &self.dir.join(OFFSET).display().to_string())
    }

    /// Sets the wall clock so many seconds ahead of the system's, or behind it, as an operator or NTP
    /// sets a machine's clock: the monotonic clock stays as it is.
    pub fn set_ahead(&self, seconds: i64) -> Result<()> {
        self.write([seconds, 0])
    }

    /// Lets time pass: both clocks are so many seconds ahead of the system's.
    pub fn pass(&self, seconds: i64) -> Result<()> {
        self.write([seconds, seconds])
    }

    fn write(&self, ahead: [i64; 2]) -> Result<()> {
        let bytes = ahead.map(i64::to_ne_bytes).concat();
        self.offset.write_all_at(&bytes, 0).during("setting the clock")
    }
}

const SOURCE: &str = include_str!("fake_clock.c");
const LIBRARY: &str = "fake_clock.so";
const OFFSET: &str = "offset";
