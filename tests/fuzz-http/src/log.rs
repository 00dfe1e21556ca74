//! What nginx must not write into its logs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use keystone_testbed::{During, Result};

use crate::wallet::Wallet;

/// A log that is read as it grows, and cut when it is long.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: u64,
}

impl Log {
    /// A log of nginx.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(name), read: 0 }
    }

    /// The whole lines that are new.
    pub fn new_text(&mut self) -> Result<String> {
        let what = || format!("reading {}", self.path.display());
        let mut file = File::open(&self.path).during(what())?;
        file.seek(SeekFrom::Start(self.read)).during(what())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).during(what())?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        if self.read > LONGEST && whole == bytes.len() {
            // nginx appends, so that it goes on at the new end.
            OpenOptions::new().write(true).truncate(true).open(&self.path).during(what())?;
            self.read = 0;
        }
        Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
    }
}

/// The lines of an error log that tell of a fault.
pub fn faults(text: &str, wallet: &Wallet) -> Vec<String> {
    text.lines()
        .filter(|line| is_fault(line) || tells_token(line, wallet))
        .map(str::to_owned)
        .collect()
}

/// The lines of an access log in which there is a token.
pub fn told_tokens(text: &str, wallet: &Wallet) -> Vec<String> {
    let tells = |line: &&str| wallet.traces().any(|trace| line.contains(trace));
    text.lines().filter(tells).map(str::to_owned).collect()
}

fn is_fault(line: &str) -> bool {
    let is_grave = ["[alert]", "[emerg]", "panic"].iter().any(|word| line.contains(word));
    // nginx itself says `crit` of a file that it cannot rename, or of a TLS handshake that fails.
    is_grave || line.contains("[crit]") && line.contains("keystone: ")
}

/// Whether a line holds a token.  What nginx tells of a request, as its request line, is behind
/// `client:`; and it shows header lines that it does not accept.
fn tells_token(line: &str, wallet: &Wallet) -> bool {
    let message = line.split(", client: ").next().unwrap_or_default();
    let is_nginx_s = message.contains(" client sent ") && !message.contains("keystone:");
    !is_nginx_s && wallet.traces().any(|trace| message.contains(trace))
}

const LONGEST: u64 = 8 << 20;
