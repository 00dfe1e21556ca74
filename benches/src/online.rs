//! Questions to the identity service: how many a worker asks, and whether others notice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use keystone_testbed::identity::Fault;
use keystone_testbed::mint::new_uuid;
use keystone_testbed::temp::TempDir;
use keystone_testbed::wait_for;

use crate::client::answer_len;
use crate::cpu::Pins;
use crate::report::{median, quantile, thousands};
use crate::stage::Stage;
use crate::Failure;

/// What was measured in each round.
pub struct Questions {
    dir: TempDir,
    rounds: Vec<Round>,
}

struct Round {
    /// Answers a second of the stand-in itself.
    direct: f64,
    /// Validations a second of one worker with the stand-in behind it.
    through: f64,
    /// The 99th percentile of other requests' time, in microseconds.
    idle: f64,
    /// The same while [`PENDING`] tokens are being asked about.
    pending: f64,
}

impl Questions {
    /// Starts what is needed.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { dir: TempDir::new("questions")?, rounds: Vec::new() })
    }

    /// Measures a round.
    pub fn measure(&mut self, stage: &Stage) -> Result<(), Failure> {
        let direct = self.wrk(
            stage.pins(),
            stage.stand_in(),
            "/v3/auth/tokens?nocatalog",
            "X-Subject-Token",
        )?;
        let through = self.wrk(stage.pins(), stage.online(), "/validated", "X-Auth-Token")?;
        let (address, request) = stage.cached_request();
        let idle = latency(address, request)?;
        let pending = with_pending(stage, || latency(address, request))?;
        self.rounds.push(Round { direct, through, idle, pending });
        Ok(())
    }

    /// Prints the medians.
    pub fn print(&self) {
        let of = |value: fn(&Round) -> f64| median(self.rounds.iter().map(value));
        println!(
            "\nvalidations: {} a second by one worker; the stand-in behind it, asked directly by wrk \
             on the\n  processor that the two share in both cases: {} a second; a ratio of {:.2}, \
             expected at least 0.6",
            thousands(of(|round| round.through)),
            thousands(of(|round| round.direct)),
            of(|round| round.through / round.direct)
        );
        println!(
            "a request with a cached token, 99th percentile: {:.0} µs when idle, {:.0} µs while \
             {PENDING} tokens\n  are being asked about; a ratio of {:.2}, expected at most 1.5",
            of(|round| round.idle),
            of(|round| round.pending),
            of(|round| round.pending / round.idle)
        );
    }

    /// Requests a second, each with another token.
    fn wrk(
        &self,
        pins: &Pins,
        address: SocketAddr,
        path: &str,
        header: &str,
    ) -> Result<f64, Failure> {
        let script = self.dir.join("tokens.lua");
        let text = SCRIPT.replace("@HEADER@", header).replace("@PREFIX@", &new_uuid().repeat(5));
        std::fs::write(&script, text)?;
        let mut wrk = Pins::command(pins.client, "wrk");
        wrk.args(["--threads", "1", "--connections", "64", "--duration", "2s", "--script"]);
        let output = wrk.arg(&script).arg(format!("http://{address}{path}")).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return Err(format!("not all answers are right: {text}").into());
        }
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        Ok(rate.and_then(|rate| rate.trim().parse().ok()).ok_or(format!("wrk says: {text}"))?)
    }
}

/// The 99th percentile of a request's time, in microseconds, one request after the other.
fn latency(address: SocketAddr, request: &[u8]) -> Result<f64, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (start, mut times, mut buffer) = (Instant::now(), Vec::new(), vec![0; 16 << 10]);
    while start.elapsed() < LISTEN {
        let sent = Instant::now();
        stream.write_all(request)?;
        let mut len = 0;
        while answer_len(&buffer[..len]).is_none() {
            match stream.read(&mut buffer[len..])? {
                0 => return Err("an answer ends early".into()),
                more => len += more,
            }
        }
        if buffer.get(9..12) != Some(b"200") {
            return Err("a request with a cached token is refused".into());
        }
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(quantile(0.99, times.into_iter()))
}

/// Does something while many tokens are being asked about.
fn with_pending(
    stage: &Stage,
    work: impl FnOnce() -> Result<f64, Failure>,
) -> Result<f64, Failure> {
    let identity = stage.identity();
    identity.forget_requests();
    identity.fault("/v3/auth/tokens", Fault::Delay(LISTEN * 4));
    let clients: Vec<TcpStream> = (0..PENDING)
        .map(|_| {
            let mut client = TcpStream::connect(stage.slow())?;
            let token = new_uuid().repeat(5);
            write!(
                client,
                "GET /file HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\n\r\n"
            )?;
            Ok(client)
        })
        .collect::<std::io::Result<_>>()?;
    wait_for("all to be asked about", || (identity.validations().len() == PENDING).then_some(()))?;
    let measured = work();
    if identity.validations().len() != PENDING {
        return Err("not all were pending all the time".into());
    }
    drop(clients);
    identity.heal();
    measured
}

/// The number of pending validations.
const PENDING: usize = 200;

/// How long other requests are looked at.
const LISTEN: Duration = Duration::from_secs(1);

const SCRIPT: &str = r#"
local number = 0
function request()
  number = number + 1
  local token = "gAAAAABn@PREFIX@" .. number
  token = token .. string.rep("x", 204 - #token)
  return wrk.format("GET", nil, {["@HEADER@"] = token})
end
"#;
