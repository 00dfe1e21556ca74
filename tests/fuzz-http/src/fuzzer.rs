//! Plays cases in batches and looks after each whether all is still as it should be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keystone_testbed::http::{send, Request};
use keystone_testbed::identity::Identity;
use keystone_testbed::nginx::WORKER;
use keystone_testbed::pki::{Pki, TlsFiles};
use keystone_testbed::Result;

use crate::case::Case;
use crate::exchange::{Outcome, Player, PATIENCE};
use crate::generate::Generator;
use crate::guard::Guard;
use crate::instance::{Instance, PLANS};
use crate::log::{self, Log};
use crate::tally::{self, Tally};
use crate::wallet::Wallet;

/// Instances of nginx, and what was seen of them.
pub struct Fuzzer {
    /// What was done so far.
    pub tally: Tally,
    seed: u64,
    wallet: Arc<Wallet>,
    instances: Vec<Watched>,
    player: Player,
    _tls: TlsFiles,
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Finding {
    /// A word for its kind.
    pub kind: &'static str,
    /// The finding, for people.
    pub what: String,
    /// The cases that may be to blame.
    pub cases: Vec<u64>,
}

struct Watched {
    instance: Instance,
    workers: Vec<i32>,
    /// How many connections it counts when there are none but the one that asks.
    idle: u64,
    error_log: Log,
    access_log: Log,
}

impl Fuzzer {
    /// Starts the upstreams and all instances of nginx.
    pub fn start(seed: u64) -> Result<Self> {
        let (pki, stranger, tls) = (Pki::new()?, Pki::new()?, TlsFiles::new()?);
        let identities: Vec<_> =
            PLANS.iter().map(|_| Identity::start(&pki)).collect::<Result<_>>()?;
        let wallet =
            Arc::new(Wallet::new(&pki, &stranger, &identities.iter().collect::<Vec<_>>())?);
        let mut instances = Vec::new();
        for (plan, identity) in PLANS.iter().zip(identities) {
            let instance = Instance::start(plan, identity, &wallet, &tls)?;
            let dir = instance.nginx.dir();
            let (error_log, access_log) = (Log::new(dir, "error.log"), Log::new(dir, "access.log"));
            let workers = instance.nginx.worker_pids();
            instances.push(Watched { instance, workers, idle: 1, error_log, access_log });
        }
        let player = Player::new()?;
        Ok(Self { tally: Tally::default(), seed, wallet, instances, player, _tls: tls })
    }

    /// The case of a number.
    pub fn case(&self, number: u64) -> Case {
        let sites = self.instances.iter().map(|w| w.instance.sites.as_slice()).collect();
        Generator { seed: self.seed, wallet: &self.wallet, sites }.case(number)
    }

    /// Which instance and server a case is for.
    pub fn place(&self, case: &Case) -> String {
        let instance = &self.instances[case.instance].instance;
        format!("instance {}, server {}", instance.plan.name, instance.sites[case.site].name)
    }

    /// Plays the cases of these numbers side by side, and looks what came of it.
    pub fn run(&mut self, numbers: &[u64]) -> Result<Vec<Finding>> {
        let cases: Vec<Case> = numbers.iter().map(|number| self.case(*number)).collect();
        let outcomes = self.play(&cases);
        let mut findings = Vec::new();
        for (case, outcome) in cases.iter().zip(&outcomes) {
            self.tally.add(case, outcome);
            findings.extend(judge(case, outcome));
        }
        for (index, watched) in self.instances.iter_mut().enumerate() {
            let involved: Vec<u64> = cases
                .iter()
                .filter(|case| case.instance == index)
                .map(|case| case.number)
                .collect();
            if !involved.is_empty() {
                findings.extend(watched.look(&involved, &self.wallet)?);
            }
        }
        Ok(findings)
    }

    /// Plays one case and gives what nginx sent.
    pub fn answer(&self, case: &Case) -> Outcome {
        let address = self.instances[case.instance].instance.sites[case.site].address(case.door);
        self.player.play(case, address)
    }

    /// How many requests came to upstreams by which way.
    pub fn seen(&self) -> BTreeMap<String, u64> {
        let mut seen = BTreeMap::new();
        for (way, times) in self.instances.iter().flat_map(|w| w.instance.inspector.seen()) {
            *seen.entry(way).or_default() += times;
        }
        seen
    }

    /// Stops nginx as an operator does; what it says then counts too.
    pub fn finish(mut self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for watched in &mut self.instances {
            let status = watched.instance.nginx.quit()?;
            let name = watched.instance.plan.name;
            if !status.success() {
                let what = format!("instance {name}: nginx ended with {status}");
                findings.push(Finding { kind: "bad end", what, cases: Vec::new() });
            }
            findings.extend(watched.read_logs(&[], &self.wallet)?);
        }
        Ok(findings)
    }

    fn play(&self, cases: &[Case]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let outcomes: Vec<_> = cases.iter().map(|_| Mutex::new(Outcome::default())).collect();
        std::thread::scope(|scope| {
            for _ in 0..PLAYERS.min(cases.len()) {
                scope.spawn(|| loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    let outcome = self.answer(case);
                    *outcomes[at].lock().unwrap_or_else(PoisonError::into_inner) = outcome;
                });
            }
        });
        outcomes
            .into_iter()
            .map(|o| o.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

impl Watched {
    fn look(&mut self, cases: &[u64], wallet: &Wallet) -> Result<Vec<Finding>> {
        let name = self.instance.plan.name;
        let mut findings = Vec::new();
        let mut find = |kind, what: String| {
            findings.push(Finding {
                kind,
                what: format!("instance {name}: {what}"),
                cases: cases.to_vec(),
            });
        };
        if let Err(what) = self.ask().and_then(|_| self.settle()) {
            find("connections left", what);
            self.idle = self.ask().unwrap_or(self.idle);
        }
        let workers = self.instance.nginx.worker_pids();
        if workers != self.workers {
            find("worker died", format!("workers were {:?} and are {workers:?}", self.workers));
            // The next look is about the new one; what the old one has counted stays.
            self.workers = keystone_testbed::wait_for("new workers", || {
                let pids = self.instance.nginx.worker_pids();
                (pids.len() == self.instance.plan.workers).then_some(pids)
            })?;
            self.idle = self.ask().unwrap_or(self.idle);
        }
        findings.extend(self.read_logs(cases, wallet)?);
        for violation in self.instance.inspector.take() {
            let cases = violation.case.map_or_else(|| cases.to_vec(), |case| vec![case]);
            let what = format!("instance {name}: {}", violation.what);
            findings.push(Finding { kind: "upstream", what, cases });
        }
        self.instance.identity.forget_requests();
        Ok(findings)
    }

    /// Waits until nginx has no connection but the one that asks, as at the start.
    fn settle(&self) -> std::result::Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = self.ask()?;
            // What a dead worker has counted is told when its death is.
            if open <= self.idle || self.instance.nginx.worker_pids() != self.workers {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{open} instead of {}", self.idle));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many connections nginx has; 0 where it does not count them.
    fn ask(&self) -> std::result::Result<u64, String> {
        let deadline = Instant::now() + PATIENCE;
        let target = if self.instance.counts_connections { "/-/connections" } else { WORKER };
        loop {
            match send(self.instance.control(), &Request::get(target)) {
                Ok(answer) if self.instance.counts_connections => {
                    let text = answer.text();
                    let number = text.strip_prefix("Active connections: ");
                    let number = number.and_then(|rest| rest.split_whitespace().next());
                    return number.and_then(|n| n.parse().ok()).ok_or(text);
                }
                Ok(_) => return Ok(0),
                // A worker that dies takes this connection along.
                Err(error) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn read_logs(&mut self, cases: &[u64], wallet: &Wallet) -> Result<Vec<Finding>> {
        let name = self.instance.plan.name;
        let faults = log::faults(&self.error_log.new_text()?, wallet);
        let told = log::told_tokens(&self.access_log.new_text()?, wallet);
        let faults = faults.into_iter().map(|line| ("error log", line));
        let told = told.into_iter().map(|line| ("access log", line));
        let find = |(kind, line): (&'static str, String)| {
            let what = format!("instance {name}: {line}");
            Finding { kind, what, cases: cases.to_vec() }
        };
        Ok(faults.chain(told).map(find).collect())
    }
}

/// What a client may be told.
fn judge(case: &Case, outcome: &Outcome) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |kind, what| findings.push(Finding { kind, what, cases: vec![case.number] });
    if !outcome.connected {
        find("no connection", "nginx did not accept the connection".to_owned());
    } else if !outcome.is_over {
        find("not closed", "nginx neither answered nor closed the connection".to_owned());
    }
    for guard in Guard::ALL.into_iter().filter(|guard| guard.is_closed()) {
        let times = tally::count(&outcome.received, guard.content().as_bytes());
        let most = case.grants.opening(guard).map(|grants| grants * case.copies);
        if most.is_some_and(|most| times > most) {
            let what = format!("{times} times the content of {guard:?} for {:?}", case.grants);
            find("content without a token", what);
        }
    }
    findings
}

/// How many connections there are at once.
const PLAYERS: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Ending;
    use crate::guard::Grants;
    use crate::site::Door;

    fn kinds(grants: Grants, received: &str, is_over: bool) -> Vec<&'static str> {
        let case = Case {
            number: 1,
            instance: 0,
            site: 0,
            door: Door::Plain,
            alpn: None,
            steps: Vec::new(),
            ending: Ending::Wait,
            quiet: Duration::ZERO,
            grants,
            copies: 1,
            requests: 1,
            streams: 0,
        };
        let outcome = Outcome { received: received.into(), is_over, connected: true };
        judge(&case, &outcome).into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn content_comes_no_more_often_than_tokens_were_sent() {
        let user = Grants { valid: 1, ..Grants::NONE };
        let (on, admin) = (Guard::On.content(), Guard::Admin.content());
        assert!(kinds(user, &on, true).is_empty());
        assert_eq!(kinds(Grants::NONE, &on, true), ["content without a token"]);
        assert_eq!(kinds(user, &on.repeat(2), true), ["content without a token"]);
        assert_eq!(kinds(user, &admin, true), ["content without a token"]);
        assert!(kinds(Grants::NONE, &Guard::Off.content(), true).is_empty());
    }

    #[test]
    fn a_connection_is_answered_or_closed() {
        assert_eq!(kinds(Grants::NONE, "", false), ["not closed"]);
    }
}
