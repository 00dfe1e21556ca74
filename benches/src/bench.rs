//! What a protected request costs.
//!
//! One nginx worker with the module serves the same file from several locations. They are asked for
//! one after the other for a moment and then again from the first, many times, so that whatever
//! else the machine does falls on all of them alike. What counts is the CPU time of the worker for
//! one request; requests per second depend on the client as well. Nothing here passes or fails by a
//! time, but every answer must have the right status.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

mod auth_token;
mod client;
mod counts;
mod cpu;
mod figure;
mod instructions;
mod measured;
mod micro;
mod online;
mod openssl;
mod plot;
mod report;
mod requests;
mod results;
mod row;
mod stage;
mod tokens;
mod zone;

use auth_token::Peers;
use cpu::Pins;
use figure::Figures;
use keystone_testbed::pki::Pki;
use micro::Parts;
use online::Questions;
use report::Table;
use results::Measurements;
use row::ROWS;
use stage::Stage;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["instructions", file] => instructions::compare(file.as_ref()),
        ["instructions", file, "--write"] => instructions::write(file.as_ref()),
        ["parts"] => measure_parts(),
        ["zone-process", file, seed] => zone::process(file.as_ref(), seed),
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
    std::fs::create_dir_all(&options.out)?;
    let mut stage = Stage::set(Pins::choose()?, options.tokens)?;
    if let Some(only) = &options.only {
        return measure_lines(stage, options, only);
    }
    let peers = Peers::start(&stage)?;
    stage.check()?;
    let about = report::about(&stage, options);
    about.iter().for_each(|line| println!("{line}"));

    let mut measured = Measurements {
        requests: Table::new(),
        parts: Parts::new(stage.pki(), stage.tokens())?,
        questions: Questions::new()?,
        peers,
        processes: Vec::new(),
        growth: Vec::new(),
        missed: Vec::new(),
    };
    for round in 1..=options.rounds {
        for row in 0..ROWS.len() {
            let line = stage.measure(row, options.slice)?;
            measured.requests.add(row, line);
        }
        measured.parts.measure();
        // These take long, and vary little.
        if round % 4 == 1 {
            eprintln!("Round {round} of {}.", options.rounds);
            measured.processes.push(openssl::cms_verify(&stage)?);
            measured.questions.measure(&stage)?;
            measured.missed.push(zone::missed()?);
            let peers = measured.peers.as_mut().map_or(Ok(()), |peers| peers.measure(&stage));
            if let Err(error) = peers {
                // What the module costs is of use without it.
                eprintln!("auth_token is left out: {error}");
                measured.peers = None;
            }
        }
    }
    drop(stage);
    measured.growth = zone::grow();

    let figures = measured.figures(about);
    println!("\n{}\n{}", measured.requests.text(), figures.markdown());
    figures.write(&options.out)?;
    measured.plots(&options.out)?;
    println!("Written to {}: results.md, results.json and plots.", options.out.display());
    Ok(())
}

/// Some lines of the table alone, for experiments.
fn measure_lines(mut stage: Stage, options: &Options, only: &[String]) -> Result<(), Failure> {
    stage.check()?;
    let is_meant = |key: &str| only.iter().any(|prefix| key.starts_with(prefix));
    let mut table = Table::new();
    for _ in 0..options.rounds {
        for (row, _) in ROWS.iter().enumerate().filter(|(_, row)| is_meant(row.key)) {
            table.add(row, stage.measure(row, options.slice)?);
        }
    }
    println!("{}", table.text());
    Ok(())
}

/// The parts alone, which need neither nginx nor wrk.
fn measure_parts() -> Result<(), Failure> {
    let pki = Pki::new()?;
    let mut parts = Parts::new(&pki, &tokens::sign(&pki.signing, micro::TOKENS, 3600)?)?;
    (0..PARTS_ROUNDS).for_each(|_| parts.measure());
    let mut figures = Figures::default();
    figures.add("The parts of a new PKI token, without nginx", parts.figures());
    println!("{}", figures.markdown());
    Ok(())
}

const PARTS_ROUNDS: usize = 40;

/// What the command line says.
struct Options {
    rounds: usize,
    slice: Duration,
    tokens: usize,
    out: PathBuf,
    only: Option<Vec<String>>,
}

impl Options {
    fn read(words: &[&str]) -> Option<Self> {
        let (slice, out) = (Duration::from_millis(100), "build/bench".into());
        let mut options = Self { rounds: 32, slice, tokens: 12_000, out, only: None };
        for pair in words.chunks(2) {
            let [name, value] = pair else { return None };
            match *name {
                "--rounds" => options.rounds = value.parse().ok().filter(|&rounds| rounds > 0)?,
                "--slice" => {
                    let millis = value.parse().ok().filter(|&millis| millis > 0)?;
                    options.slice = Duration::from_millis(millis);
                }
                "--tokens" => {
                    options.tokens = value.parse().ok().filter(|&tokens| tokens >= 12_000)?
                }
                "--out" => options.out = value.into(),
                "--only" => options.only = Some(value.split(',').map(str::to_owned).collect()),
                _ => return None,
            }
        }
        Some(options)
    }
}

const USAGE: &str = "\
usage: keystone-bench [--rounds 32] [--slice 100] [--tokens 12000] [--out build/bench]
                      [--only KEY,...]
       keystone-bench parts
       keystone-bench instructions FILE [--write]
       a slice is how many milliseconds one line takes in one round;
       tokens is how many there are that are new each time, at least 12000; with --only,
       lines whose keys in row.rs begin with one of these are measured, and nothing else; FILE has
       the instructions of each part, which are counted and compared, or written
";
