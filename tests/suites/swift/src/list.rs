//! Lists of tests with the reason why they stand there.
//!
//! A line that starts with `=` is a reason, and holds for the tests below it, one a line. What
//! comes behind `#` is a comment.

use std::collections::BTreeMap;
use std::fs;

use crate::{source, Error};

/// Which tests are listed, and why.
#[derive(Debug, Default)]
pub struct List {
    name: String,
    reasons: BTreeMap<String, String>,
}

impl List {
    /// Reads a file of `lists`.
    pub fn read(name: &str) -> Result<Self, Error> {
        let path = source("lists").join(name);
        let text = fs::read_to_string(&path).map_err(|error| Error::list(name, 0, error))?;
        let (mut reasons, mut reason) = (BTreeMap::new(), None);
        for (number, line) in text.lines().enumerate() {
            let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
            if let Some(text) = line.strip_prefix('=') {
                reason = Some(text.trim().to_owned());
            } else if !line.is_empty() {
                let reason: &String =
                    reason.as_ref().ok_or_else(|| Error::list(name, number + 1, "no reason"))?;
                if reasons.insert(line.to_owned(), reason.clone()).is_some() {
                    return Err(Error::list(name, number + 1, "the test is listed twice"));
                }
            }
        }
        Ok(Self { name: name.to_owned(), reasons })
    }

    /// Name of the file in `lists/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why a test is listed, if it is.
    pub fn reason(&self, test: &str) -> Option<&str> {
        self.reasons.get(test).map(String::as_str)
    }

    /// Names of the tests.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        self.reasons.keys().map(String::as_str)
    }
}
