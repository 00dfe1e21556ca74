//! The table of directives.

mod location;
mod server;
mod swift;

use std::ffi::CStr;

use crate::error::ConfError;
use crate::line::{Host, Line};
use crate::location::LocationConf;
use crate::server::ServerConf;
use crate::zone::MainConf;

/// All directives, for a reader whose values with variables are of type `V`.
pub const fn directives<V: Clone + 'static>() -> [&'static [Directive<V>]; 3] {
    [server::directives(), location::directives(), swift::directives()]
}

/// How many names the directives have, with their aliases.
pub const fn count_names<V: Clone + 'static>() -> usize {
    let groups = directives::<V>();
    let mut count = 0;
    let mut group = 0;
    while group < groups.len() {
        let mut at = 0;
        while at < groups[group].len() {
            count += 1 + groups[group][at].alias.is_some() as usize;
            at += 1;
        }
        group += 1;
    }
    count
}

/// A directive: its contexts, its arguments, and the function that reads them.
pub struct Directive<V: 'static> {
    /// As it is written in `nginx.conf`.
    pub name: &'static CStr,
    /// Another name, which auth_token's old options had.
    pub alias: Option<&'static CStr>,
    /// The blocks in which it is allowed.
    pub contexts: Contexts,
    /// How many arguments it takes.
    pub arguments: Arguments,
    /// Its default, where that is a plain value.
    pub default: Option<&'static str>,
    /// What it is for, in a line.
    pub about: &'static str,
    /// The function that reads the arguments.
    pub setter: Setter<V>,
}

/// Reads a directive into the configuration of its level.
pub enum Setter<V: 'static> {
    /// For the whole http block.
    Main(fn(&mut Line<'_, V>, &mut MainConf) -> Result<(), ConfError>),
    /// Sets a value of a server.
    Server(fn(&mut Line<'_, V>, &mut ServerConf) -> Result<(), ConfError>),
    /// Sets a value of a location.
    Location(fn(&mut Line<'_, V>, &mut LocationConf<V>) -> Result<(), ConfError>),
}

/// How many arguments a directive takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arguments {
    /// One argument, `on` or `off`.
    Flag,
    /// No argument or one.
    NoneOrOne,
    /// One argument.
    One,
    /// One argument or more.
    OneOrMore,
}

/// The blocks in which a directive is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contexts {
    /// `http`.
    Http,
    /// `http` and `server`.
    Server,
    /// `http`, `server` and `location`.
    ServerAndLocation,
    /// `http`, `server`, `location` and `limit_except`.
    All,
    /// `location`.
    Location,
}

impl Contexts {
    /// The names of the blocks.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Http => &["http"],
            Self::Server => &["http", "server"],
            Self::ServerAndLocation => &["http", "server", "location"],
            Self::All => &["http", "server", "location", "limit_except"],
            Self::Location => &["location"],
        }
    }
}

impl Arguments {
    fn admits(self, count: usize) -> bool {
        match self {
            Self::Flag | Self::One => count == 1,
            Self::NoneOrOne => count <= 1,
            Self::OneOrMore => count >= 1,
        }
    }
}

impl<V: Clone + 'static> Directive<V> {
    /// The directive of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        let is_called = |own: &CStr| own.to_bytes() == name.as_bytes();
        directives()
            .into_iter()
            .flatten()
            .find(|it| is_called(it.name) || it.alias.is_some_and(is_called))
    }

    /// The name as text.
    pub fn name(&self) -> &'static str {
        self.name.to_str().unwrap_or_default()
    }

    /// An occurrence of it, under the name that is written there.
    pub fn line<'a>(
        &self,
        host: &'a mut dyn Host<Value = V>,
        name: &'a str,
        arguments: &'a [&'a str],
    ) -> Result<Line<'a, V>, ConfError> {
        match self.arguments.admits(arguments.len()) {
            true => Ok(Line::new(host, name, arguments)),
            false => Err(ConfError::ArgumentCount { directive: name.to_owned() }),
        }
    }

    /// Checks that the directive is allowed in a block of that name.
    pub fn check_context(&self, block: &str, name: &str) -> Result<(), ConfError> {
        match self.contexts.names().contains(&block) {
            true => Ok(()),
            false => Err(ConfError::Context { directive: name.to_owned() }),
        }
    }

    /// A directive with one argument and without a default, for `http` and `server`.
    const fn server(
        name: &'static CStr,
        about: &'static str,
        set: fn(&mut Line<'_, V>, &mut ServerConf) -> Result<(), ConfError>,
    ) -> Self {
        Self::new(name, about, Contexts::Server, Setter::Server(set))
    }

    /// A directive with one argument and without a default, for all levels.
    const fn location(
        name: &'static CStr,
        about: &'static str,
        set: fn(&mut Line<'_, V>, &mut LocationConf<V>) -> Result<(), ConfError>,
    ) -> Self {
        Self::new(name, about, Contexts::All, Setter::Location(set))
    }

    const fn new(
        name: &'static CStr,
        about: &'static str,
        contexts: Contexts,
        setter: Setter<V>,
    ) -> Self {
        let arguments = Arguments::One;
        Self { name, alias: None, contexts, arguments, default: None, about, setter }
    }

    const fn alias(mut self, alias: &'static CStr) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn takes(mut self, arguments: Arguments) -> Self {
        self.arguments = arguments;
        self
    }

    const fn only_in(mut self, contexts: Contexts) -> Self {
        self.contexts = contexts;
        self
    }

    const fn by_default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}
