//! One run of wrk, and what it cost the worker.

use std::path::Path;
use std::time::Duration;

use crate::cpu::{self, Pins};
use crate::report::Measured;
use crate::Failure;

/// What wrk is to send.
pub struct Load<'a> {
    /// To whom.
    pub url: &'a str,
    /// The file with the tokens that go in turn, if any.
    pub tokens: Option<&'a Path>,
    /// How many of them were sent before.
    pub first: usize,
    /// How long.
    pub seconds: u32,
}

impl Load<'_> {
    /// Sends it, and looks at the processor time of the process `worker` before and after. Gives
    /// also how many of the answers had a status of 400 and above.
    pub fn run(&self, worker: i32, pins: &Pins) -> Result<(Measured, u64), Failure> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tokens.lua");
        let mut wrk = Pins::command(pins.client, "wrk");
        wrk.args(["--threads", "1", "--connections", CONNECTIONS, "--duration"]);
        wrk.arg(format!("{}s", self.seconds)).arg("--script").arg(script).arg(self.url);
        if let Some(tokens) = self.tokens {
            wrk.arg("--").arg(tokens).arg(self.first.to_string());
        }

        let before = cpu::used_by(worker)?;
        let output = wrk.output().map_err(|error| format!("wrk does not run: {error}"))?;
        let used = cpu::used_by(worker)? - before;

        let text = String::from_utf8_lossy(&output.stdout);
        let total = text.lines().find_map(|line| line.strip_prefix("total ")).unwrap_or_default();
        let numbers: Vec<u64> = total.split(' ').flat_map(str::parse).collect();
        // The last one counts broken connections.
        let [requests @ 1..=u64::MAX, micros, refused, 0] = numbers[..] else {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("wrk, asking for {}: {complaint}{text}", self.url).into());
        };
        let taken = Duration::from_micros(micros);
        Ok((Measured { requests, used, taken }, refused))
    }
}

const CONNECTIONS: &str = "32";
