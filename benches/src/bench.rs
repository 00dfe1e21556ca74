//! What a protected request costs.
//!
//! One nginx worker with the module serves the same file from several locations. They are asked for
//! one after the other for a moment and then again from the first, many times, so that whatever
//! else the machine does falls on all of them alike. What counts is the CPU time of the worker for
//! one request; requests per second depend on the client as well. Nothing here passes or fails by a
//! time, but every answer must have the right status.

use std::process::ExitCode;
use std::time::Duration;

mod client;
mod cpu;
mod instructions;
mod measured;
mod micro;
mod online;
mod peer;
mod report;
mod stage;
mod tokens;

use cpu::Pins;
use keystone_testbed::pki::Pki;
use micro::Parts;
use online::Questions;
use report::Table;
use stage::{Stage, ROWS};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["instructions", file] => instructions::compare(file.as_ref()),
        ["instructions", file, "--write"] => instructions::write(file.as_ref()),
        ["parts"] => measure_parts(),
        ["counted", dir, part] => instructions::counted(dir.as_ref(), part),
        _ => match Options::read(&words) {
            Some(options) => run(&options),
            None => {
                eprint!("{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
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
    let mut questions = Questions::new()?;
    for round in 1..=options.rounds {
        for row in 0..ROWS.len() {
            requests.add(row, stage.measure(row, options.slice)?);
        }
        parts.measure();
        // These take long, and vary little.
        if round % 4 == 1 {
            eprintln!("Round {round} of {}.", options.rounds);
            verifications.push(peer::rsa_verification(stage.pins())?);
            processes.push(peer::cms_verify(&stage)?);
            questions.measure(&stage)?;
        }
    }

    requests.print();
    let new_token = requests.on_top(stage::NEW_TOKEN, stage::UNPROTECTED);
    report::compare_with_openssl(new_token, &verifications, &processes);
    questions.print();
    parts.print();
    Ok(())
}

/// The parts alone, which need neither nginx nor wrk.
fn measure_parts() -> Result<(), Failure> {
    let pki = Pki::new()?;
    let mut parts = Parts::new(&pki, &tokens::sign(&pki.signing, micro::TOKENS, 3600)?)?;
    (0..PARTS_ROUNDS).for_each(|_| parts.measure());
    parts.print();
    Ok(())
}

const PARTS_ROUNDS: usize = 40;

/// What the command line says.
struct Options {
    rounds: usize,
    slice: Duration,
    tokens: usize,
}

impl Options {
    fn read(words: &[&str]) -> Option<Self> {
        let slice = Duration::from_millis(250);
        let mut options = Self { rounds: 36, slice, tokens: 12_000 };
        for pair in words.chunks(2) {
            let [name, value] = pair else { return None };
            match *name {
                "--rounds" => options.rounds = value.parse().ok().filter(|&rounds| rounds > 0)?,
                "--slice" => {
                    let millis = value.parse().ok().filter(|&millis| millis > 0)?;
                    options.slice = Duration::from_millis(millis);
                }
                "--tokens" => options.tokens = value.parse().ok().filter(|&tokens| tokens > 0)?,
                _ => return None,
            }
        }
        Some(options)
    }
}

const USAGE: &str = "\
usage: keystone-bench [--rounds 36] [--slice 250] [--tokens 12000]
       keystone-bench parts
       keystone-bench instructions FILE [--write]
       a slice is how many milliseconds one line takes in one round;
       tokens is how many there are that are new each time; FILE has
       the instructions of each part, which are counted and compared, or written
";
