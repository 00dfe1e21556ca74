//! One occurrence of a directive: its arguments, and the values in them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use keystone_gateway::memcache::server::Server;
use keystone_token::format::HashAlgorithm;
use keystone_token::jws::JwsKeys;
use keystone_token::policy::BindMode;
use keystone_token::secret::Secret;
use keystone_token::swift::{Acl, AclKind};
use zeroize::Zeroizing;

use crate::error::ConfError;
use crate::files;
use crate::position::Position;
use crate::proxy::ProxySettings;
use crate::swift::AclValue;
use crate::token::TokenSource;
use crate::uri::{ServiceUri, UriError};
use crate::value::{self, ValueError};
use crate::zone::ZoneSettings;

/// The program that reads the configuration: nginx's module or the doctor.
pub trait Host {
    /// A value with variables, made ready to be evaluated.
    type Value: Clone;

    /// The file and the line that are being read.
    fn position(&self) -> Position;

    /// The path from the root; a relative one starts at the directory of `nginx.conf`. `None`
    /// where there is no memory for it.
    fn full_path(&mut self, path: &str) -> Option<PathBuf>;

    /// Makes a value ready to be evaluated; `None` for one that nginx cannot use.
    fn compile(&mut self, text: &str, kind: ValueKind) -> Option<Self::Value>;
}

/// What a value with variables is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueKind {
    /// A path; one that begins with neither a slash nor a variable starts at the directory of
    /// `nginx.conf`.
    Path,
    /// Any text.
    Text,
}

/// A directive with its arguments, which have been counted.
pub struct Line<'a, V> {
    host: &'a mut dyn Host<Value = V>,
    name: &'a str,
    arguments: &'a [&'a str],
}

/// What a reader of [`Line`] returns.
pub type Read<T> = Result<T, ConfError>;

impl<'a, V: Clone> Line<'a, V> {
    pub(crate) fn new(
        host: &'a mut dyn Host<Value = V>,
        name: &'a str,
        arguments: &'a [&'a str],
    ) -> Self {
        Self { host, name, arguments }
    }

    /// Fills `slot`, unless an earlier line of the same level has.
    pub(crate) fn set<T>(
        &mut self,
        slot: &mut Option<T>,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<()> {
        let value = read(self)?;
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(ConfError::Duplicate { directive: self.name.to_owned() }),
        }
    }

    /// File and line of the directive.
    pub fn position(&self) -> Position {
        self.host.position()
    }

    fn argument(&self) -> &'a str {
        self.arguments.first().copied().unwrap_or_default()
    }

    fn invalid(&self, value: &str, reason: impl Into<ValueError>) -> ConfError {
        ConfError::Value {
            directive: self.name.to_owned(),
            value: printable(value),
            reason: reason.into(),
        }
    }

    fn parsed<T>(&self, parse: impl FnOnce(&'a str) -> Result<T, ValueError>) -> Read<T> {
        let argument = self.argument();
        parse(argument).map_err(|reason| self.invalid(argument, reason))
    }

    /// A value with a parser whose error does not say what it takes.
    pub(crate) fn parse_or<T: FromStr>(&mut self, expected: &'static str) -> Read<T> {
        self.parsed(|argument| argument.parse().map_err(|_| ValueError::Word(expected)))
    }

    /// Reads one of these words.
    pub(crate) fn one_of<T: Copy>(
        &mut self,
        words: &[(&str, T)],
        expected: &'static str,
    ) -> Read<T> {
        let word = |argument| words.iter().find(|(word, _)| *word == argument);
        self.parsed(|argument| {
            word(argument).map(|(_, value)| *value).ok_or(ValueError::Word(expected))
        })
    }

    /// As for [`Line::one_of`], or `None` without an argument.
    pub(crate) fn one_of_or_none<T: Copy>(
        &mut self,
        words: &[(&str, T)],
        expected: &'static str,
    ) -> Read<Option<T>> {
        match self.arguments.is_empty() {
            true => Ok(None),
            false => self.one_of(words, expected).map(Some),
        }
    }

    pub(crate) fn flag(&mut self) -> Read<bool> {
        self.one_of(&[("on", true), ("off", false)], "\"on\" or \"off\"")
    }

    pub(crate) fn time(&mut self) -> Read<Duration> {
        self.parsed(|argument| value::time(argument).ok_or(ValueError::Time))
    }

    pub(crate) fn positive_time(&mut self) -> Read<Duration> {
        match self.time()? {
            Duration::ZERO => Err(self.invalid(self.argument(), ValueError::Zero)),
            time => Ok(time),
        }
    }

    /// A time, or `None` for `off`.
    pub(crate) fn time_or_off(&mut self) -> Read<Option<Duration>> {
        match self.argument() {
            "off" => Ok(None),
            argument => match self.time()? {
                Duration::ZERO => Err(self.invalid(argument, ValueError::Word(POSITIVE_OR_OFF))),
                time => Ok(Some(time)),
            },
        }
    }

    /// Reads a whole number of at least `least`.
    pub(crate) fn number<T>(&mut self, least: T) -> Read<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        self.parsed(|argument| {
            let is_number = !argument.is_empty() && argument.bytes().all(|it| it.is_ascii_digit());
            match argument.parse() {
                Ok(number) if is_number && number >= least => Ok(number),
                Err(_) if is_number => Err(ValueError::TooLarge),
                _ => Err(ValueError::Number { least: least.to_string() }),
            }
        })
    }

    fn checked_word(&self, word: &str) -> Read<String> {
        value::check_word(word).map_err(|reason| self.invalid(word, reason))?;
        Ok(word.to_owned())
    }

    /// A word that is not empty and fits into a header and a log line.
    pub(crate) fn word(&mut self) -> Read<String> {
        self.checked_word(self.argument())
    }

    pub(crate) fn words(&mut self) -> Read<Vec<String>> {
        self.arguments.iter().map(|word| self.checked_word(word)).collect()
    }

    /// A name, which has no comma: headers and auth_token's options list names with commas.
    pub(crate) fn name(&mut self) -> Read<String> {
        match self.word()? {
            name if name.contains(',') => Err(self.invalid(&name, ValueError::CommaInName)),
            name => Ok(name),
        }
    }

    /// Reads names, separated by blanks.
    pub(crate) fn names(&mut self) -> Read<Vec<String>> {
        self.refuse_commas()?;
        self.words()
    }

    /// All names, and the position of the directive.
    pub(crate) fn names_and_position(&mut self) -> Read<(Vec<String>, Position)> {
        Ok((self.names()?, self.position()))
    }

    /// Names, of which one may be empty.
    pub(crate) fn names_or_empty(&mut self) -> Read<Vec<String>> {
        self.refuse_commas()?;
        let word = |word: &&str| match *word {
            "" => Ok(String::new()),
            word => self.checked_word(word),
        };
        self.arguments.iter().map(word).collect()
    }

    /// auth_token and Swift write lists with commas; here that would be one name, which no role
    /// has.
    fn refuse_commas(&self) -> Read<()> {
        let Some(list) = self.arguments.iter().find(|word| word.contains(',')) else {
            return Ok(());
        };
        let names = self.arguments.iter().flat_map(|word| word.split(','));
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let words: Vec<_> = std::iter::once(self.name).chain(names).collect();
        let line = printable(&format!("{};", words.join(" ")));
        Err(self.invalid(list, ValueError::CommaInList { line }))
    }

    /// One of auth_token's modes, or the name of a bind. A mode that is misspelt is no name.
    pub(crate) fn bind_mode(&mut self) -> Read<BindMode> {
        let text = self.word()?;
        let mode: BindMode = self.parse_or(BIND_MODES)?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_mode = matches!(
            text.to_ascii_lowercase().parse(),
            Ok(BindMode::Disabled | BindMode::Permissive | BindMode::Strict | BindMode::Required)
        );
        match &mode {
            BindMode::Named(_) if is_mode || !text.bytes().all(is_of_name) => {
                Err(self.invalid(&text, ValueError::Word(BIND_MODES)))
            }
            _ => Ok(mode),
        }
    }

    /// One or more values, none of them twice.
    fn distinct<T: PartialEq + FromStr<Err: Into<ValueError>>>(&self) -> Read<Vec<T>> {
        let mut values = Vec::new();
        for text in self.arguments {
            let value = text.parse().or_else(|error| {
                self.refuse_commas()?;
                Err(self.invalid(text, error))
            })?;
            if values.contains(&value) {
                return Err(self.invalid(text, ValueError::Repeated));
            }
            values.push(value);
        }
        Ok(values)
    }

    pub(crate) fn hash_algorithms(&mut self) -> Read<Vec<HashAlgorithm>> {
        self.distinct()
    }

    pub(crate) fn memcached_servers(&mut self) -> Read<Vec<Server>> {
        self.distinct()
    }

    pub(crate) fn uris(&mut self) -> Read<Vec<ServiceUri>> {
        let uri = |text: &&str| text.parse().map_err(|error| self.invalid_uri(text, error));
        self.arguments.iter().map(uri).collect()
    }

    pub(crate) fn uri(&mut self) -> Read<ServiceUri> {
        let text = self.argument();
        text.parse().map_err(|error| self.invalid_uri(text, error))
    }

    fn invalid_uri(&self, text: &str, error: UriError) -> ConfError {
        self.invalid(without_user(text), error)
    }

    /// A size in bytes.
    pub(crate) fn size(&mut self) -> Read<usize> {
        self.parsed(|argument| value::size(argument).ok_or(ValueError::Size))
    }

    pub(crate) fn zone(&mut self) -> Read<ZoneSettings> {
        self.parsed(|argument| argument.parse().map_err(ValueError::Zone))
    }

    /// A proxy, in place or as `file:PATH`, or `None` for `off`. Nothing of a password is in the
    /// error.
    pub(crate) fn proxy_or_off(&mut self) -> Read<Option<ProxySettings>> {
        let argument = self.argument();
        if argument == "off" {
            return Ok(None);
        }
        let text = self.secret_text()?;
        let parsed = ProxySettings::parse(&text).map(Some);
        parsed.map_err(|error| self.invalid(without_user(argument), error))
    }

    /// An argument that may hold a secret, in place or as `file:PATH`.
    fn secret_text(&mut self) -> Read<Zeroizing<String>> {
        let argument = self.argument();
        match argument.strip_prefix("file:") {
            None => Ok(Zeroizing::new(argument.to_owned())),
            Some(path) => {
                let path = self.full_path(path)?;
                files::read_secret(&path).map_err(|source| self.unreadable(&path, source))
            }
        }
    }

    /// A secret, in place or as `file:PATH`. Nothing of it is in the error.
    pub(crate) fn secret(&mut self) -> Read<Secret> {
        let text = self.secret_text()?;
        value::secret(text)
            .map_err(|reason| ConfError::Secret { directive: self.name.to_owned(), reason })
    }

    pub(crate) fn path(&mut self) -> Read<PathBuf> {
        let path = self.word()?;
        self.full_path(&path)
    }

    pub(crate) fn paths(&mut self) -> Read<Vec<PathBuf>> {
        let words = self.words()?;
        words.iter().map(|path| self.full_path(path)).collect()
    }

    /// A path of a file that can be read now.
    pub(crate) fn readable_file(&mut self) -> Read<PathBuf> {
        let path = self.path()?;
        match files::open(&path) {
            Ok(_) => Ok(path),
            Err(source) => Err(self.unreadable(&path, source)),
        }
    }

    pub(crate) fn jws_keys(&mut self) -> Read<Rc<JwsKeys>> {
        let paths = self.paths()?;
        files::jws_keys(self.name, &paths).map(Rc::new)
    }

    fn full_path(&mut self, path: &str) -> Read<PathBuf> {
        let memory = || ConfError::Memory { directive: self.name.to_owned() };
        self.host.full_path(path).ok_or_else(memory)
    }

    fn unreadable(&self, path: &Path, source: std::io::Error) -> ConfError {
        ConfError::File { directive: self.name.to_owned(), path: path.to_owned(), source }
    }

    /// Values that must be true. A constant that is would demand nothing: the `$` is missing.
    pub(crate) fn required_values(&mut self) -> Read<Vec<V>> {
        let arguments = self.arguments;
        let is_fine = |text: &str| value::has_variables(text) || matches!(text, "" | "0");
        match arguments.iter().find(|text| !is_fine(text)) {
            Some(text) => Err(self.invalid(text, ValueError::AlwaysTrue)),
            None => arguments.iter().map(|text| self.compile(text, ValueKind::Text)).collect(),
        }
    }

    /// The name of a host, or an address.
    pub(crate) fn host(&mut self) -> Read<String> {
        let host = self.argument();
        value::check_host(host).map_err(|reason| self.invalid(host, reason))?;
        Ok(host.to_owned())
    }

    /// A path that may hold variables.
    pub(crate) fn path_value(&mut self) -> Read<V> {
        self.word()?;
        self.compile(self.argument(), ValueKind::Path)
    }

    /// The path of a URI, which may hold variables; one that begins with a variable is checked for
    /// each request.
    pub(crate) fn uri_path_value(&mut self) -> Read<V> {
        let text = self.word()?;
        if !text.starts_with(['/', '$']) {
            return Err(self.invalid(&text, ValueError::Word("a path that begins with \"/\"")));
        }
        self.compile(self.argument(), ValueKind::Text)
    }

    /// A certificate of the client: a constant would be that of all clients.
    pub(crate) fn client_certificate(&mut self) -> Read<V> {
        let text = self.word()?;
        if !value::has_variables(&text) {
            return Err(self.invalid(&text, ValueError::Word("a value with variables")));
        }
        self.compile(self.argument(), ValueKind::Text)
    }

    /// An ACL; one without variables is read now.
    pub(crate) fn acl(&mut self, kind: AclKind) -> Read<AclValue<V>> {
        let text = self.argument();
        if value::has_variables(text) {
            return self.compile(text, ValueKind::Text).map(AclValue::Variable);
        }
        match Acl::parse(kind, text) {
            Ok(acl) => Ok(AclValue::Constant(acl)),
            Err(error) => Err(self.invalid(text, error)),
        }
    }

    /// Where the user token is, in order.
    pub(crate) fn token_sources(&mut self) -> Read<Rc<[TokenSource<V>]>> {
        let mut sources = Vec::new();
        for text in self.arguments {
            if self.arguments.iter().filter(|other| *other == text).count() > 1 {
                return Err(self.invalid(text, ValueError::Repeated));
            }
            let host = &mut *self.host;
            let compile = || host.compile(text, ValueKind::Text).ok_or(ValueError::Variables);
            let source = TokenSource::read(text, compile);
            sources.push(source.map_err(|reason| self.invalid(text, reason))?);
        }
        Ok(sources.into())
    }

    fn compile(&mut self, text: &str, kind: ValueKind) -> Read<V> {
        let value = self.host.compile(text, kind);
        value.ok_or_else(|| self.invalid(text, ValueError::Variables))
    }
}

const POSITIVE_OR_OFF: &str = "longer than 0, or \"off\"";

const BIND_MODES: &str =
    "\"disabled\", \"permissive\", \"strict\", \"required\" or the name of a bind";

/// The text of a URI for an error, unless it can hold a user and a password. The `@` behind them may
/// be encoded, as if it were part of them.
fn without_user(text: &str) -> &str {
    match text.contains(['@', '%']) {
        true => "...",
        false => text,
    }
}

/// The text without control characters, so that nothing in it can begin a line of its own.
fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}
