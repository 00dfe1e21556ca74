//! What was found, beside what the lists say.

use std::collections::BTreeSet;

use crate::list::List;

/// What became of a test, or of a decision in it.
#[derive(Debug)]
pub struct Verdict {
    name: String,
    /// Why it did not pass, if it did not.
    complaint: Option<String>,
}

impl Verdict {
    /// A test that passed.
    pub fn passed(name: String) -> Self {
        Self { name, complaint: None }
    }

    /// A test that failed, with its output.
    pub fn failed(name: String, complaint: impl Into<String>) -> Self {
        Self { name, complaint: Some(complaint.into()) }
    }
}

/// How many tests of a suite went as they should.
#[derive(Debug)]
pub struct Report {
    title: String,
    passed: usize,
    differ: usize,
    failures: Vec<String>,
}

impl Report {
    /// Compares both ways: what is listed must not pass, and what is not listed must. If the
    /// `whole` suite was run, every test that is listed must have been there.
    pub fn new(title: &str, verdicts: &[Verdict], list: &List, whole: bool) -> Self {
        let mut report = Self { title: title.into(), passed: 0, differ: 0, failures: Vec::new() };
        for verdict in verdicts {
            let name = &verdict.name;
            match (list.reason(name), &verdict.complaint) {
                (None, None) => report.passed += 1,
                (Some(_), Some(_)) => report.differ += 1,
                (None, Some(complaint)) => report.failures.push(format!("{name}: {complaint}")),
                (Some(reason), None) => report
                    .failures
                    .push(format!("{name} passes, and stands in {}: {reason}", list.name())),
            }
        }
        if whole {
            let seen: BTreeSet<_> = verdicts.iter().map(|verdict| &verdict.name[..]).collect();
            for name in list.tests().filter(|name| !seen.contains(name)) {
                let failure =
                    format!("{name} stands in {}, and there is no such test", list.name());
                report.failures.push(failure);
            }
        }
        report
    }

    /// Prints it, with the figures in the last line; says whether all went as it should.
    pub fn print(&self) -> bool {
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        let Self { title, passed, differ, failures } = self;
        println!("{title}: {passed} passed, {differ} differ as listed, {} failed", failures.len());
        failures.is_empty()
    }
}
