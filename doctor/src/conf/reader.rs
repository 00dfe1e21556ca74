//! The tree of directives, with all included files in their places.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use keystone_conf::{ConfError, Position};

use super::glob;
use super::lexer::{LexError, Lexer, Token};

/// A directive, and what is in its block if it has one.
#[derive(Clone, Debug)]
pub struct Directive {
    /// As it is written.
    pub name: String,
    /// The words behind the name.
    pub arguments: Vec<String>,
    pub position: Position,
    /// What is between its braces.
    pub block: Option<Vec<Directive>>,
}

/// Something that is wrong at a position, and does not keep the rest from being read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// File and line of the directive.
    pub position: Position,
    /// A sentence without the position.
    pub text: String,
    /// Whether that is only because the system forbade something to this process.
    pub forbidden: bool,
}

impl Problem {
    /// A directive that the module refuses.
    pub fn refused(directive: &Directive, error: &ConfError) -> Self {
        Self {
            position: directive.position.clone(),
            text: error.to_string(),
            forbidden: error.forbidden_file().is_some(),
        }
    }
}

/// A configuration with all that it includes.
#[derive(Debug, Default)]
pub struct Tree {
    /// The directives of the outermost level.
    pub directives: Vec<Directive>,
    /// Files that could not be included.
    pub problems: Vec<Problem>,
    /// All files that were read.
    pub files: Vec<PathBuf>,
}

/// Where files are: on the disk, or in what nginx has printed of them.
pub trait Files {
    /// The files of an `include`, in nginx's order. An error is of a directory that
    /// cannot be read.
    fn expand(&self, pattern: &Path) -> Vec<Result<PathBuf, (PathBuf, io::Error)>>;

    /// What is in a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The files on the disk.
pub struct Disk;

impl Files for Disk {
    fn expand(&self, pattern: &Path) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
        glob::expand(pattern)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

/// The files of a configuration as `nginx -T` prints them.
#[derive(Default)]
pub struct Dump(Vec<(PathBuf, Vec<u8>)>);

impl Dump {
    /// Takes the output of `nginx -T` apart.
    pub fn parse(text: &[u8]) -> Self {
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let heading = line.strip_prefix(HEADING).and_then(|rest| rest.strip_suffix(b":\n"));
            match (heading, files.last_mut()) {
                (Some(path), _) => files.push((OsStr::from_bytes(path).into(), Vec::new())),
                (None, Some((_, text))) => text.extend_from_slice(line),
                (None, None) => {}
            }
        }
        Self(files)
    }

    /// Whether the file is among them.
    pub fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|(file, _)| file == path)
    }
}

impl Files for Dump {
    fn expand(&self, pattern: &Path) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
        let files = self.0.iter().map(|(file, _)| file);
        let mut found: Vec<_> =
            files.filter(|file| glob::matches_path(pattern, file)).cloned().collect();
        found.sort();
        found.into_iter().map(Ok).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.0.iter().find(|(file, _)| file == path);
        file.map(|(_, text)| text.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const HEADING: &[u8] = b"# configuration file ";

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The text of the file is not a configuration of nginx.
    #[error("{}: {}", .0.position, .0.text)]
    Syntax(Problem),
}

/// Reads the file at `path`, and all files that it includes.
pub fn read(path: &Path, files: &dyn Files) -> Result<Tree, ReadError> {
    let text =
        files.read(path).map_err(|source| ReadError::File { path: path.to_owned(), source })?;
    let prefix = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut reader =
        Reader { source: files, prefix, files: Vec::new(), problems: Vec::new(), depth: 0 };
    let directives = reader.file(path, &text)?;
    Ok(Tree { directives, problems: reader.problems, files: reader.files })
}

struct Reader<'f> {
    source: &'f dyn Files,
    /// The directory of nginx.conf, where relative paths begin.
    prefix: PathBuf,
    files: Vec<PathBuf>,
    problems: Vec<Problem>,
    depth: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, text: &[u8]) -> Result<Vec<Directive>, ReadError> {
        self.files.push(path.to_owned());
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
                lexer.next_token().map_err(|error: LexError| syntax(at(path, lexer), &error))?;
            if words.is_empty() {
                first_line = lexer.line();
            }
            match token {
                Some(Token::Word(word)) => words.push(word),
                Some(Token::Close) if words.is_empty() && !outermost => return Ok(directives),
                None if words.is_empty() && outermost => return Ok(directives),
                Some(Token::Close) => return Err(syntax(at(path, lexer), &"unexpected \"}\"")),
                None => return Err(syntax(at(path, lexer), &"the file ends within a block")),
                Some(_) if words.is_empty() => {
                    return Err(syntax(at(path, lexer), &"a directive without a name"))
                }
                Some(end) => {
                    let name = words.remove(0);
                    let position = Position { file: path.to_owned(), line: first_line };
                    let arguments = std::mem::take(&mut words);
                    let block = match end {
                        Token::Open if name.ends_with("_by_lua_block") => {
                            lexer.skip_lua_block();
                            Some(Vec::new())
                        }
                        Token::Open => Some(self.block(path, lexer, false)?),
                        _ => None,
                    };
                    let directive = Directive { name, arguments, position, block };
                    match directive.name.as_str() {
                        "include" => directives.extend(self.include(&directive)?),
                        _ => directives.push(directive),
                    }
                }
            }
        }
    }

    fn include(&mut self, directive: &Directive) -> Result<Vec<Directive>, ReadError> {
        let position = &directive.position;
        let [pattern] = directive.arguments.as_slice() else {
            return Err(syntax(position.clone(), &"\"include\" takes one argument"));
        };
        if self.depth >= MAX_DEPTH {
            return Err(syntax(position.clone(), &"files include each other without end"));
        }
        let mut directives = Vec::new();
        // As in nginx, a pattern may match nothing, a plain name has to be there.
        for path in self.source.expand(&self.prefix.join(pattern)) {
            let read = path.and_then(|path| match self.source.read(&path) {
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
                    position: position.clone(),
                    text: format!("cannot include {}: {error}", path.display()),
                    forbidden: error.kind() == io::ErrorKind::PermissionDenied,
                }),
            }
        }
        Ok(directives)
    }
}

fn syntax(position: Position, reason: &dyn fmt::Display) -> ReadError {
    ReadError::Syntax(Problem { position, text: reason.to_string(), forbidden: false })
}

fn at(path: &Path, lexer: &Lexer<'_>) -> Position {
    Position { file: path.to_owned(), line: lexer.line() }
}

const MAX_DEPTH: usize = 32;
