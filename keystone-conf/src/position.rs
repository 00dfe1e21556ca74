//! The position of a directive in the configuration.

use std::fmt;
use std::path::PathBuf;

/// File and line of a directive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// The file; empty for an option of a command line.
    pub file: PathBuf,
    /// Counted from 1; 0 for an option of a command line.
    pub line: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str("the command line"),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}
