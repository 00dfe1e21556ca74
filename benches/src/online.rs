//! Questions to the identity service: how many a worker asks, and whether others notice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keystone_testbed::http::{Client, Request};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::pki::Pki;
use keystone_testbed::temp::TempDir;
use keystone_testbed::wait_for;

use crate::client::{answer_len, write_request};
use crate::cpu::Pins;
use crate::figure::{Figure, Target};
use crate::report::quantile;
use crate::stage::Stage;
use crate::Failure;

/// What was measured in each round.
pub struct Questions {
    dir: TempDir,
    /// A token that somebody else has signed.
    foreign: String,
    /// How many new tokens were sent.
    sent: usize,
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
    /// The same during refreshes and verifications.
    busy: f64,
}

impl Questions {
    /// Starts what is needed.
    pub fn new() -> Result<Self, Failure> {
        let foreign = Payload::v3().pki(&Pki::new()?.signing)?;
        Ok(Self { dir: TempDir::new("questions")?, foreign, sent: 0, rounds: Vec::new() })
    }

    /// Measures a round.
    pub fn measure(&mut self, stage: &Stage) -> Result<(), Failure> {
        let (pins, gateway) = (stage.pins(), stage.narrow());
        let path = "/v3/auth/tokens?nocatalog";
        let direct = self.wrk(pins, stage.stand_in(), path, "X-Subject-Token")?;
        let through = self.wrk(pins, gateway.online(), "/validated", "X-Auth-Token")?;
        let mut request = Vec::new();
        write_request(&mut request, "/protected/file", Some(stage.cached_token()))?;
        let idle = latency(gateway.busy(), &request)?;
        let pending = with_pending(stage, || latency(gateway.busy(), &request))?;
        let busy = self.with_refreshes(stage, || latency(gateway.busy(), &request))?;
        self.rounds.push(Round { direct, through, idle, pending, busy });
        Ok(())
    }

    /// The figures; a new token costs `new_token` µs.
    pub fn figures(&self, new_token: f64) -> Vec<Figure> {
        let of = |value: &dyn Fn(&Round) -> f64| self.rounds.iter().map(value).collect();
        let rate = |name, value: &dyn Fn(&Round) -> f64| Figure::new(name, "/s", of(value));
        let tail = |name, value: &dyn Fn(&Round) -> f64| Figure::new(name, "µs", of(value));
        vec![
            rate("validations by one worker", &|round| round.through),
            rate("the stand-in, asked directly by wrk", &|round| round.direct),
            Figure::new("the first in relation to the second", "", of(&|it| it.through / it.direct))
                .target(Target::AtLeast(0.8)),
            tail("99th percentile of cached requests, nothing else to do", &|round| round.idle),
            tail("while 200 tokens are being asked about", &|round| round.pending),
            tail("while lists and certificates are refreshed, new tokens are verified, the zone evicts", &|round| round.busy),
            Figure::new(
                "the last, less one new PKI token, in relation to the first",
                "",
                of(&|round| (round.busy - new_token) / round.idle),
            )
            .target(Target::AtMost(1.3)),
        ]
    }

    /// Does something while the list and the certificates are refreshed, and tokens are verified
    /// for which the zone has to evict others.
    fn with_refreshes(
        &mut self,
        stage: &Stage,
        work: impl FnOnce() -> Result<f64, Failure>,
    ) -> Result<f64, Failure> {
        let (stop, first) = (AtomicBool::new(false), self.sent);
        let address = stage.narrow().busy();
        let ask = || -> Result<usize, String> {
            let mut client = Client::connect(address).map_err(|error| error.to_string())?;
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                // Certificates are asked for when a signature is of none that are known.
                let is_foreign = sent % FOREIGN == 0;
                let new = &stage.tokens()[(first + sent) % stage.tokens().len()];
                let token = if is_foreign { &self.foreign } else { new };
                let answer = client.send(&Request::get("/protected/file").token(token));
                let status = answer.map_err(|error| error.to_string())?.status;
                if status != if is_foreign { 401 } else { 200 } {
                    return Err(format!("a new token gets {status}"));
                }
                sent += 1;
                thread::sleep(PAUSE);
            }
            Ok(sent)
        };
        let refreshes = || stage.identity().count("/v3/auth/tokens/OS-PKI/revoked");
        let before = refreshes();
        let (measured, sent) = thread::scope(|scope| {
            let asking = scope.spawn(ask);
            let measured = work();
            stop.store(true, Ordering::Relaxed);
            (measured, asking.join())
        });
        self.sent += sent.map_err(|_| "the client panicked")??;
        match refreshes() > before {
            true => measured,
            false => Err("the list was not refreshed meanwhile".into()),
        }
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
            let mut client = TcpStream::connect(stage.narrow().slow())?;
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

/// New tokens that are sent during refreshes: one in so many is of a foreign signer, and a client
/// pauses so long between two.
const FOREIGN: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// How long other requests are looked at.
const LISTEN: Duration = Duration::from_millis(1200);

const SCRIPT: &str = r#"
local number = 0
function request()
  number = number + 1
  local token = "gAAAAABn@PREFIX@" .. number
  token = token .. string.rep("x", 204 - #token)
  return wrk.format("GET", nil, {["@HEADER@"] = token})
end
"#;
