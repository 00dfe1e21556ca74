//! A process of `run.py`, which runs the tests of a suite.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use keystone_testbed::keystone::python;
use keystone_testbed::During;
use serde::Deserialize;
use serde_json::json;

use crate::stack::{Front, Stack};
use crate::{source, sources, Error};

/// A suite of functional tests, by the folder of its sdist.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Suite {
    /// The tests of Swift.
    Swift,
    /// The tests of python-swiftclient.
    Swiftclient,
}

/// The tests of one class, which run one after the other.
#[derive(Clone, Debug)]
pub struct Job {
    pub suite: Suite,
    /// Module and class, as in `test_account.TestAccount`.
    pub class: String,
    /// Names of the methods.
    pub tests: Vec<String>,
}

/// What became of a test.
#[derive(Clone, Debug, Deserialize)]
pub struct Outcome {
    /// Module, class and name; or what was to be set up for a class.
    pub test: String,
    #[serde(rename = "outcome")]
    pub end: End,
    /// The exception, or why it was skipped.
    pub detail: String,
}

/// The result of a test.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It failed, or did not end.
    Failed,
    /// The test passed.
    Passed,
    /// It says that it cannot be run here.
    Skipped,
}

/// A running `run.py`; dropping it ends it.
pub struct Worker {
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    child: Child,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 2] = [Self::Swift, Self::Swiftclient];

    /// What the lists and the command line call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swift => "swift",
            Self::Swiftclient => "python-swiftclient",
        }
    }

    /// The list of its tests that do not pass there.
    pub fn list(self, front: Front) -> String {
        let front = match front {
            Front::Edge => "edge",
            Front::Filter => "filter",
            Front::Plain => "plain",
        };
        format!("{}-{front}.txt", self.name())
    }

    /// The tests of the suite, by class.
    pub fn jobs(self) -> Result<Vec<Job>, Error> {
        let mut command = self.command()?;
        let output = command.arg("--list").output().during("listing tests")?;
        if !output.status.success() {
            return Err(Error::Worker(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let mut jobs = Vec::<Job>::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (class, test) = line.rsplit_once('.').unwrap_or((line, ""));
            match jobs.iter_mut().find(|job| job.class == class) {
                Some(job) => job.tests.push(test.to_owned()),
                None => jobs.push(Job {
                    suite: self,
                    class: class.to_owned(),
                    tests: vec![test.to_owned()],
                }),
            }
        }
        Ok(jobs)
    }

    fn command(self) -> Result<Command, Error> {
        let mut command = Command::new(python()?);
        command.arg(source("run.py")).arg(sources()?.join(self.name()));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }
}

impl Worker {
    /// Starts one for the tests of a suite against a stack.
    pub fn start(suite: Suite, stack: &Stack) -> Result<Self, Error> {
        let mut command = suite.command()?;
        command.env("SWIFT_TEST_CONFIG_FILE", stack.config());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stack.log(suite.name())?);
        let mut child = command.spawn().during("starting run.py")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdout = BufReader::new(stdout.expect("stdout is a pipe"));
        Ok(Self { stdin, stdout, child })
    }

    /// Runs tests, and says what became of each. One that nothing is said about did not run.
    pub fn run(&mut self, job: &Job) -> Result<Vec<Outcome>, Error> {
        let line = json!({"class": job.class, "tests": job.tests});
        let stdin = self.stdin.as_mut().expect("it is closed by drop only");
        writeln!(stdin, "{line}").during("asking run.py")?;
        let mut outcomes = Vec::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).during("reading from run.py")? == 0 {
                return Err(Error::Worker(format!("run.py ended within {}", job.class)));
            }
            match serde_json::from_str(&line) {
                Ok(outcome) => outcomes.push(outcome),
                // The end of the class.
                Err(_) => break,
            }
        }
        for test in &job.tests {
            let test = format!("{}.{test}", job.class);
            if !outcomes.iter().any(|outcome: &Outcome| outcome.test == test) {
                let detail = "did not run".into();
                outcomes.push(Outcome { test, end: End::Failed, detail });
            }
        }
        Ok(outcomes)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends with its stdin. Nothing better can be done about one that does not.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
