//! What OpenSSL's own commands need.

use std::process::Stdio;
use std::time::Duration;

use crate::cpu::{self, Pins};
use crate::stage::{Stage, CA, SIGNING_CERTIFICATE};
use crate::Failure;

/// The time of one verification with RSA-2048, as `openssl speed` measures it.
pub fn rsa_verification(pins: &Pins) -> Result<Duration, Failure> {
    let mut openssl = Pins::command(pins.worker, "openssl");
    let output = openssl.args(["speed", "-seconds", "1", "rsa2048"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Later releases have more columns, but each value stands as far from the end as its heading.
    let column =
        |line: &str, heading: &str| line.split_whitespace().rev().position(|word| word == heading);
    let from_end = text.lines().find_map(|line| column(line, "verify/s"));
    let values = text.lines().find(|line| line.starts_with("rsa")).unwrap_or_default();
    let value = from_end.and_then(|at| values.split_whitespace().rev().nth(at)?.parse().ok());
    let rate: f64 = value.ok_or_else(|| format!("openssl speed says: {text}"))?;
    Ok(Duration::from_secs_f64(1.0 / rate))
}

/// The processor time of one `openssl cms -verify`, called as python-keystoneclient does.
pub fn cms_verify(stage: &Stage) -> Result<Duration, Failure> {
    let messages = stage.messages(PROCESSES)?;
    let before = cpu::used_by_children()?;
    for message in &messages {
        let mut openssl = Pins::command(None, "openssl");
        openssl.current_dir(message.parent().ok_or("a file without a directory")?);
        openssl.args(["cms", "-verify", "-certfile", SIGNING_CERTIFICATE, "-CAfile", CA]);
        openssl.args(["-inform", "PEM", "-nosmimecap", "-nodetach", "-nocerts", "-noattr", "-in"]);
        let status = openssl.arg(message).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !status.success() {
            return Err("openssl cms -verify refuses a token".into());
        }
    }
    Ok((cpu::used_by_children()? - before) / u32::try_from(messages.len())?)
}

/// Enough for the system's clock of processor time, which ticks a hundred times a second.
const PROCESSES: usize = 50;
