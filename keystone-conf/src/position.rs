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

/// Where directives were set.
#[derive(Clone, Debug, Default)]
pub struct Positions(Vec<(&'static str, Position)>);

impl Positions {
    /// Notes where a directive is.
    pub fn note(&mut self, directive: &'static str, position: Position) {
        self.0.push((directive, position));
    }

    /// Where the first of these directives is that was set.
    pub fn first_of(&self, directives: &[&str]) -> Option<&Position> {
        let find = |name: &&str| self.0.iter().find(|(known, _)| known == name);
        directives.iter().find_map(find).map(|(_, position)| position)
    }

    /// Takes from the level around this one what this one does not set.
    pub(crate) fn inherit(&mut self, outer: &Self) {
        let is_own = |name: &str| self.first_of(&[name]).is_some();
        let inherited: Vec<_> = outer.0.iter().filter(|(name, _)| !is_own(name)).cloned().collect();
        self.0.extend(inherited);
    }
}
