//! The tree of directives, with all included files in their places.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::glob;
use super::lexer::{LexError, Lexer, Token};

/// A directive, and what is in its block if it has one.
#[derive(Clone, Debug)]
pub struct Directive {
    /// Its name.
    pub name: String,
    /// The words behind the name.
    pub arguments: Vec<String>,
    /// Where it stands.
    pub place: Place,
    /// What is between its braces.
    pub block: Option<Vec<Directive>>,
}

/// A file and a line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// The file; empty for an option of the command line.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str("the command line"),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// Something that is wrong at a place, and does not keep the rest from being read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub text: String,
}

/// A configuration with all that it includes.
#[derive(Debug, Default)]
pub struct Tree {
    /// The directives of the outermost level.
    pub directives: Vec<Directive>,
    /// Files that could not be included.
    pub problems: Vec<Problem>,
}

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file itself.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is in it.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the file at `path`, and all files that it includes.
pub fn read(path: &Path) -> Result<Tree, ReadError> {
    let text =
        fs::read(path).map_err(|source| ReadError::File { path: path.to_owned(), source })?;
    let prefix = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut reader = Reader { prefix, problems: Vec::new(), depth: 0 };
    let directives = reader.file(path, &text)?;
    Ok(Tree { directives, problems: reader.problems })
}

struct Reader {
    /// The directory of nginx.conf, where relative paths begin.
    prefix: PathBuf,
    problems: Vec<Problem>,
    depth: usize,
}

impl Reader {
    fn file(&mut self, path: &Path, text: &[u8]) -> Result<Vec<Directive>, ReadError> {
        let mut lexer = Lexer::new(text);
        self.block(path, &mut lexer, true)
    }

    fn block(
        &mut self,
        path: &Path,
        lexer: &mut Lexer<'_>,
        outermost: bool,
    ) -> Result<Vec<Directive>, ReadError> {
        let mut directives = Vec::new();
        let mut words = Vec::new();
        let mut first_line = 0;
        loop {
            let token =
                lexer.next_token().map_err(|error: LexError| syntax(path, lexer, &error))?;
            if words.is_empty() {
                first_line = lexer.line();
            }
            match token {
                Some(Token::Word(word)) => words.push(word),
                Some(Token::Close) if words.is_empty() && !outermost => return Ok(directives),
                None if words.is_empty() && outermost => return Ok(directives),
                Some(Token::Close) => return Err(syntax(path, lexer, &"unexpected \"}\"")),
                None => return Err(syntax(path, lexer, &"the file ends within a block")),
                Some(_) if words.is_empty() => {
                    return Err(syntax(path, lexer, &"a directive without a name"))
                }
                Some(end) => {
                    let name = words.remove(0);
                    let place = Place { file: path.to_owned(), line: first_line };
                    let arguments = std::mem::take(&mut words);
                    let block = match end {
                        Token::Open if name.ends_with("_by_lua_block") => {
                            lexer.skip_lua_block();
                            Some(Vec::new())
                        }
                        Token::Open => Some(self.block(path, lexer, false)?),
                        _ => None,
                    };
                    let directive = Directive { name, arguments, place, block };
                    match directive.name.as_str() {
                        "include" => directives.extend(self.include(&directive)?),
                        _ => directives.push(directive),
                    }
                }
            }
        }
    }

    fn include(&mut self, directive: &Directive) -> Result<Vec<Directive>, ReadError> {
        let place = &directive.place;
        let [pattern] = directive.arguments.as_slice() else {
            return Err(ReadError::Syntax {
                place: place.clone(),
                reason: "\"include\" takes one argument".to_owned(),
            });
        };
        if self.depth >= MAX_DEPTH {
            return Err(ReadError::Syntax {
                place: place.clone(),
                reason: "files include each other without end".to_owned(),
            });
        }
        let mut directives = Vec::new();
        // As in nginx, a pattern may match nothing, a plain name has to be there.
        for path in glob::expand(&self.prefix.join(pattern)) {
            let read = path.and_then(|path| match fs::read(&path) {
                Ok(text) => Ok((path, text)),
                Err(error) => Err((path, error)),
            });
            match read {
                Ok((path, text)) => {
                    self.depth += 1;
                    directives.extend(self.file(&path, &text)?);
                    self.depth -= 1;
                }
                Err((path, error)) => self.problems.push(Problem {
                    place: place.clone(),
                    text: format!("cannot include {}: {error}", path.display()),
                }),
            }
        }
        Ok(directives)
    }
}

fn syntax(path: &Path, lexer: &Lexer<'_>, reason: &dyn fmt::Display) -> ReadError {
    let place = Place { file: path.to_owned(), line: lexer.line() };
    ReadError::Syntax { place, reason: reason.to_string() }
}

const MAX_DEPTH: usize = 32;
