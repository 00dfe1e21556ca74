//! Sends HTTP/1 and HTTP/2, right and wrong, to a live nginx with the module. See README.md.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use keystone_testbed::random::number;

use crate::fuzzer::{Finding, Fuzzer};

mod case;
mod exchange;
mod frame;
mod fuzzer;
mod generate;
mod guard;
mod huffman;
mod inspect;
mod instance;
mod log;
mod site;
mod tally;
mod upstream;
mod wallet;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("keystone-fuzz-http: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn run() -> Result<bool, Failure> {
    let seed = match number("SEED", 0) {
        0 => u64::from(std::process::id()) << 20 | keystone_testbed::now() as u64 & 0xf_ffff,
        seed => seed,
    };
    let mut fuzzer = Fuzzer::start(seed)?;
    if let Ok(case) = std::env::var("CASE") {
        let numbers = case.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        return replay(&mut fuzzer, &numbers);
    }

    let limits = Limits::of_environment();
    println!("fuzz-http: SEED={seed}, {limits}");
    let begin = Instant::now();
    let (mut next, mut sound, mut told) = (0, true, begin);
    while !limits.are_reached(begin, next) {
        let numbers: Vec<u64> = (next..next + BATCH).collect();
        next += BATCH;
        let findings = fuzzer.run(&numbers)?;
        if told.elapsed() > REPORT {
            told = Instant::now();
            println!("fuzz-http: {:?}\n{}", begin.elapsed(), fuzzer.tally);
        }
        if !findings.is_empty() {
            sound = false;
            report(&mut fuzzer, seed, &findings)?;
            if !limits.go_on {
                break;
            }
        }
    }

    let (tally, seen) = (fuzzer.tally.clone(), fuzzer.seen());
    println!("fuzz-http: {:?}\n{tally}\nupstreams: {seen:?}", begin.elapsed());
    let last = fuzzer.finish()?;
    for finding in &last {
        println!("FOUND at the end: {}: {}", finding.kind, finding.what);
    }
    let missing = tally.missing(&seen);
    if tally.cases >= ENOUGH && !missing.is_empty() {
        println!("fuzz-http: this run says little, as it never saw {}", missing.join(", "));
        sound = false;
    }
    Ok(sound && last.is_empty())
}

/// How long a run is.
struct Limits {
    seconds: Option<u64>,
    cases: Option<u64>,
    go_on: bool,
}

impl Limits {
    fn of_environment() -> Self {
        let cases = Some(number("CASES", 0)).filter(|cases| *cases > 0);
        let default = if cases.is_some() { 0 } else { 60 };
        let seconds = Some(number("FUZZ_SECONDS", default)).filter(|seconds| *seconds > 0);
        Self { seconds, cases, go_on: std::env::var_os("KEEP_GOING").is_some() }
    }

    fn are_reached(&self, begin: Instant, cases: u64) -> bool {
        let out_of_time =
            self.seconds.is_some_and(|seconds| begin.elapsed() >= Duration::from_secs(seconds));
        out_of_time || self.cases.is_some_and(|most| cases >= most)
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.cases, self.seconds) {
            (Some(cases), _) => write!(f, "{cases} cases"),
            (None, Some(seconds)) => write!(f, "{seconds} seconds"),
            (None, None) => write!(f, "until it is stopped"),
        }
    }
}

/// Plays these cases one after the other, and shows all that is sent and received.
fn replay(fuzzer: &mut Fuzzer, numbers: &[u64]) -> Result<bool, Failure> {
    let mut sound = true;
    for number in numbers {
        let case = fuzzer.case(*number);
        println!("{}: {case}", fuzzer.place(&case));
        println!("received {}", case::shown(&fuzzer.answer(&case).received));
        for finding in fuzzer.run(&[*number])? {
            sound = false;
            println!("FOUND {}: {}", finding.kind, finding.what);
        }
    }
    Ok(sound)
}

/// Tells what was found; the first of each kind with the cases that bring it back.
fn report(fuzzer: &mut Fuzzer, seed: u64, findings: &[Finding]) -> Result<(), Failure> {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        let times = kinds.entry(finding.kind).or_default();
        *times += 1;
        if *times <= TOLD {
            println!("FOUND {}: {}", finding.kind, finding.what);
        }
        if *times > 1 {
            continue;
        }
        let guilty = narrow(fuzzer, finding)?;
        let numbers: Vec<_> = guilty.iter().map(u64::to_string).collect();
        println!("  again with SEED={seed} CASE={}", numbers.join(","));
        for number in guilty.iter().take(SHOWN) {
            let case = fuzzer.case(*number);
            println!("  {}: {case}", fuzzer.place(&case));
        }
    }
    for (kind, times) in kinds.into_iter().filter(|(_, times)| *times > TOLD) {
        println!("  {kind}: {} more in this batch", times - TOLD);
    }
    Ok(())
}

/// The cases that are enough for a finding: halves are played again for as long as one of them
/// brings it back.
fn narrow(fuzzer: &mut Fuzzer, finding: &Finding) -> Result<Vec<u64>, Failure> {
    let mut guilty = finding.cases.clone();
    while guilty.len() > 1 {
        let (first, second) = guilty.split_at(guilty.len() / 2);
        let mut smaller = None;
        for half in [first, second] {
            if fuzzer.run(half)?.iter().any(|other| other.kind == finding.kind) {
                smaller = Some(half.to_vec());
                break;
            }
        }
        match smaller {
            Some(half) => guilty = half,
            None => break,
        }
    }
    Ok(guilty)
}

/// How many cases are played before anybody looks.
const BATCH: u64 = 384;
/// From how many cases on a run must have seen all that there is to see.
const ENOUGH: u64 = 5000;
const REPORT: Duration = Duration::from_secs(600);
/// How many findings of a kind are told, and how many cases are shown.
const TOLD: usize = 5;
const SHOWN: usize = 3;
