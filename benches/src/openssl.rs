//! What OpenSSL's own commands need.

use std::process::Stdio;
use std::time::Duration;

use crate::cpu::{self, Pins};
use crate::stage::{Stage, CA, SIGNING_CERTIFICATE};
use crate::Failure;

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
