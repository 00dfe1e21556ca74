//! What a protected request costs.
//!
//! One nginx worker with the module serves the same file from several locations. They are asked for
//! one after the other and then again from the first, so that whatever else the machine does falls
//! on all of them alike. What counts is the CPU time of the worker for one request; requests per
//! second depend on the client as well. Nothing here passes or fails by a time, but every answer
//! must have the right status.

use std::process::ExitCode;
use std::time::Duration;

mod client;
mod cpu;
mod micro;
mod peer;
mod report;
mod stage;
mod tokens;

use cpu::Pins;
use micro::Parts;
use report::Table;
use stage::{Stage, ROWS};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = Options::read(&words) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keystone-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut stage = Stage::set(Pins::choose()?, options.tokens)?;
    stage.check()?;
    report::introduce(&stage, options);

    let mut requests = Table::new(ROWS);
    let (mut verifications, mut processes) = (Vec::new(), Vec::new());
    let mut parts = Parts::new(stage.pki(), stage.tokens())?;
    for round in 1..=options.rounds {
        eprintln!("Round {round} of {}.", options.rounds);
        for (index, row) in ROWS.iter().enumerate() {
            requests.add(index, stage.measure(row, Duration::from_secs(options.seconds))?);
        }
        verifications.push(peer::rsa_verification(stage.pins())?);
        processes.push(peer::cms_verify(&stage)?);
        parts.measure();
    }
    requests.print();
    let new_token = requests.on_top(stage::NEW_TOKEN, stage::UNPROTECTED);
    report::compare_with_openssl(new_token, &verifications, &processes);
    parts.print();
    Ok(())
}

/// What the command line says.
struct Options {
    rounds: usize,
    seconds: u64,
    tokens: usize,
}

impl Options {
    fn read(words: &[String]) -> Option<Self> {
        let mut options = Self { rounds: 9, seconds: 1, tokens: 12_000 };
        for pair in words.chunks(2) {
            let [name, value] = pair else { return None };
            match name.as_str() {
                "--rounds" => options.rounds = value.parse().ok().filter(|&rounds| rounds > 0)?,
                "--seconds" => options.seconds = value.parse().ok().filter(|&s| s > 0)?,
                "--tokens" => options.tokens = value.parse().ok().filter(|&tokens| tokens > 0)?,
                _ => return None,
            }
        }
        Some(options)
    }
}

const USAGE: &str = "\
usage: keystone-bench [--rounds 9] [--seconds 1] [--tokens 12000]
       seconds are those of one row in one round; tokens are those that are new each time
";
