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
    /// The log `name` in the directory of nginx.
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

/// The entries of an error log that tell of a fault.
pub fn faults(text: &str, wallet: &Wallet) -> Vec<String> {
    let is_one = |entry: &String| is_fault(entry) || tells_token(entry, wallet);
    entries(text).into_iter().filter(is_one).collect()
}

/// An entry begins with a time: nginx writes a header of HTTP/2 that it does not accept as it is,
/// with what may be the end of a line in it.
fn entries(text: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in text.lines() {
        let begins = line.starts_with("20") && line.get(4..5) == Some("/");
        match entries.last_mut() {
            Some(entry) if !begins => {
                entry.push('\n');
                entry.push_str(line);
            }
            _ => entries.push(line.to_owned()),
        }
    }
    entries
}

/// The lines of an access log in which there is a token.
pub fn told_tokens(text: &str, wallet: &Wallet) -> Vec<String> {
    let tells = |line: &&str| wallet.traces().any(|trace| line.contains(trace));
    text.lines().filter(tells).map(str::to_owned).collect()
}

fn is_fault(line: &str) -> bool {
    let is_grave = ["[alert]", "[emerg]", "panic"].iter().any(|word| line.contains(word))
        && !line.contains(NGINX_S_ALERT);
    // nginx itself says `crit` of a file that it cannot rename, or of a TLS handshake that fails.
    is_grave || line.contains("[crit]") && line.contains("keystone: ")
}

/// Whether a line holds a token. What nginx tells of a request, as its request line, is behind
/// `client:`; and it shows header lines that it does not accept.
fn tells_token(line: &str, wallet: &Wallet) -> bool {
    let message = line.split(", client: ").next().unwrap_or_default();
    let is_nginx_s = message.contains(" client sent ") && !message.contains("keystone:");
    !is_nginx_s && wallet.traces().any(|trace| message.contains(trace))
}

/// nginx's own, see README.md: it writes this without any module too.
const NGINX_S_ALERT: &str = " http2 negative window update";

const LONGEST: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nginx_tells_of_a_request_is_not_ours() {
        let wallet = crate::wallet::tests::small();
        let token = wallet.traces().next().unwrap();
        let ours =
            format!("2026/11/29 03:13:27 [info] 1#1: *1 keystone: refused {token}, client: x");
        assert_eq!(faults(&ours, &wallet).len(), 1);
        let nginx_s = format!(
            "2026/11/29 03:13:27 [info] 1#1: *1 client sent invalid header: \"\n{token}\"\n"
        );
        assert_eq!(faults(&nginx_s, &wallet).len(), 0);
        let request = format!("2026/11/29 03:13:27 [error] 1#1: *1 x, client: x, request: {token}");
        assert_eq!(faults(&request, &wallet).len(), 0);
    }

    #[test]
    fn an_alert_is_a_fault_wherever_it_comes() {
        let text = "2026/11/29 03:13:27 [info] 1#1: x\n2026/11/29 03:13:27 [alert] 1#1: worker\n";
        assert_eq!(faults(text, &Wallet::default()).len(), 1);
        let window = "2026/11/29 03:13:27 [alert] 1#1: *7 http2 negative window update while x\n";
        assert_eq!(faults(window, &Wallet::default()).len(), 0);
        let renamed = "2026/11/29 03:13:27 [crit] 1#1: rename() failed\n";
        assert_eq!(faults(renamed, &Wallet::default()).len(), 0);
        let skipped = "2026/11/29 03:13:27 [crit] 1#1: *1 keystone: skipped\n";
        assert_eq!(faults(skipped, &Wallet::default()).len(), 1);
    }
}
