//! The tests of Swift and of python-swiftclient with nginx in front. See README.md beside this.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use list::List;
use report::{Report, Verdict};
use stack::Front;
use worker::{End, Outcome, Suite};

mod functional;
mod list;
mod replay;
mod report;
mod stack;
mod worker;

/// Why the tests could not be run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{name}, line {line}: {complaint}")]
    List { name: String, line: usize, complaint: String },
    #[error(
        "the sources of Swift are missing: fetch them with tests/suites/swift/setup.sh, or name \
         another directory in SUITE_SWIFT_DIR ({0} has none)"
    )]
    Sources(PathBuf),
    #[error("Swift did not start:\n{0}")]
    Swift(String),
    #[error(transparent)]
    Testbed(#[from] keystone_testbed::Error),
    #[error("the tests could not be run:\n{0}")]
    Worker(String),
}

impl Error {
    fn list(name: &str, line: usize, complaint: impl ToString) -> Self {
        Self::List { name: name.into(), line, complaint: complaint.to_string() }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["all"] => all(),
        ["core"] => core(),
        ["edge", wanted @ ..] => functional(Front::Edge, &Choice::Named(wanted)),
        ["filter", wanted @ ..] => functional(Front::Filter, &Choice::Named(wanted)),
        ["keystoneauth", wanted @ ..] => keystoneauth(wanted),
        ["plain", wanted @ ..] => functional(Front::Plain, &Choice::Named(wanted)),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(reports) => {
            // The figures come last, and all of them.
            let good = reports.iter().map(Report::print).filter(|good| *good).count();
            ExitCode::from(u8::from(good < reports.len()))
        }
        Err(error) => {
            eprintln!("keystone-suite-swift: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Which tests of the functional suites.
enum Choice<'a> {
    /// Those of `lists/core.txt`.
    Core,
    /// Those whose name starts so, each of which is told; all if there are no names.
    Named(&'a [&'a str]),
}

fn all() -> Result<Vec<Report>, Error> {
    let mut reports = keystoneauth(&[])?;
    reports.extend(functional(Front::Plain, &Choice::Named(&[]))?);
    reports.extend(functional(Front::Edge, &Choice::Named(&[]))?);
    reports.extend(functional(Front::Filter, &Choice::Named(&[]))?);
    Ok(reports)
}

fn core() -> Result<Vec<Report>, Error> {
    let mut reports = keystoneauth(&[])?;
    reports.extend(functional(Front::Edge, &Choice::Core)?);
    Ok(reports)
}

fn keystoneauth(wanted: &[&str]) -> Result<Vec<Report>, Error> {
    let verdicts = replay::run(wanted)?;
    let list = List::read("keystoneauth.txt")?;
    let title = "decisions of test_keystoneauth.py, by nginx";
    Ok(vec![Report::new(title, &verdicts, &list, wanted.is_empty())])
}

fn functional(front: Front, choice: &Choice<'_>) -> Result<Vec<Report>, Error> {
    let core = List::read("core.txt")?;
    let is_wanted = |name: &str| match choice {
        Choice::Core => core.tests().any(|start| name.starts_with(start)),
        Choice::Named(starts) => {
            starts.is_empty() || starts.iter().any(|start| name.starts_with(start))
        }
    };
    let mut jobs = Vec::new();
    for suite in Suite::ALL {
        // What does not pass without nginx says nothing about it.
        let plain = List::read(&suite.list(Front::Plain))?;
        let is_run = |name: &str| front == Front::Plain || plain.reason(name).is_none();
        for mut job in suite.jobs()? {
            let class = job.class.clone();
            let name = |test: &String| format!("{class}.{test}");
            job.tests.retain(|test| is_wanted(&name(test)) && is_run(&name(test)));
            jobs.push(job);
        }
    }
    jobs.retain(|job| !job.tests.is_empty());
    let is_verbose = matches!(choice, Choice::Named([_, ..]));
    let outcomes = functional::run(front, jobs, is_verbose)?;
    let is_whole = matches!(choice, Choice::Named([]));
    let report = |suite: &Suite| -> Result<Report, Error> {
        let own = outcomes.iter().filter(|(other, _)| other == suite);
        let verdicts: Vec<_> = own.map(|(_, outcome)| verdict(outcome)).collect();
        let title = format!("functional tests of {}, {}", suite.name(), front.name());
        let list = List::read(&suite.list(front))?;
        Ok(Report::new(&title, &verdicts, &list, is_whole))
    };
    Suite::ALL.iter().map(report).collect()
}

fn verdict(outcome: &Outcome) -> Verdict {
    let name = outcome.test.clone();
    match outcome.end {
        End::Passed => Verdict::passed(name),
        End::Failed => Verdict::failed(name, &outcome.detail[..]),
        End::Skipped => Verdict::failed(name, format!("skipped: {}", outcome.detail)),
    }
}

/// A file of this directory.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The directory with the sdists.
fn sources() -> Result<PathBuf, Error> {
    let built = || source("../../../build/suites/swift");
    let dir = std::env::var_os("SUITE_SWIFT_DIR").map_or_else(built, PathBuf::from);
    match dir.join("stamp").exists() {
        true => Ok(dir),
        false => Err(Error::Sources(dir)),
    }
}

const USAGE: &str = "\
usage: keystone-suite-swift core
       keystone-suite-swift all
       keystone-suite-swift keystoneauth [TEST...]
       keystone-suite-swift plain|edge|filter [TEST...]

core          the decisions of test_keystoneauth.py, and the functional tests of
              lists/core.txt through nginx
all           these decisions, and every functional test on plain Swift, through
              nginx, and through nginx and keystone-edge
keystoneauth  the decisions only
plain         functional tests on plain Swift
edge, filter  functional tests through nginx, the latter with keystone-edge in Swift

TEST is how the names of tests start, as in test_account.TestAccount; without it,
all are run.
";
