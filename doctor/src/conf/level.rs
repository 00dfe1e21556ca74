//! The directives of one level, read by the rules of the module.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keystone_conf::{
    value, ConfError, Host, LocationConf, MainConf, Position, ServerConf, Setter, ValueKind,
};

use super::reader::{Directive, Problem};

/// A level, alone or with those around it.
#[derive(Clone, Default)]
pub struct Level {
    /// The directives of the whole http block.
    pub main: MainConf,
    /// The directives about the identity service.
    pub server: ServerConf,
    /// The directives about requests. Values with variables are kept as they are written.
    pub location: LocationConf<String>,
    /// The size of one of nginx's header buffers.
    pub header_buffer: Option<u64>,
    /// The arguments of nginx's `resolver`.
    pub resolver: Option<Vec<String>>,
    /// Files with secrets that others than their owner can read.
    pub open_secrets: Vec<PathBuf>,
    /// The directives that were refused, by name.
    pub refused: Vec<(String, Problem)>,
}

impl Level {
    /// The directives of the block itself; relative paths start at `prefix`.
    pub fn read(
        directives: &[Directive],
        block: &str,
        prefix: &Path,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut level = Self::default();
        for directive in directives {
            if directive.name == HEADER_BUFFERS {
                let size = directive.arguments.get(1).and_then(|size| value::size(size));
                level.header_buffer = size.and_then(|size| u64::try_from(size).ok());
            }
            if directive.name == "resolver" {
                level.resolver = Some(directive.arguments.clone());
            }
            if !is_of_module(directive) {
                continue;
            }
            level.note_open_secrets(directive, prefix);
            if let Err(error) = level.set(directive, block, prefix) {
                let problem = Problem::refused(directive, &error);
                level.refused.push((directive.name.clone(), problem.clone()));
                problems.push(problem);
            }
        }
        level
    }

    /// With what the level around this one sets and this one does not.
    pub fn within(mut self, outer: &Self) -> Self {
        let Self { main, server, location, header_buffer, resolver, open_secrets, refused } =
            &mut self;
        main.clone_from(&outer.main);
        server.inherit(&outer.server);
        location.inherit(&outer.location);
        *header_buffer = header_buffer.or(outer.header_buffer);
        *resolver = resolver.take().or_else(|| outer.resolver.clone());
        open_secrets.extend(outer.open_secrets.iter().cloned());
        refused.extend(outer.refused.iter().cloned());
        self
    }

    /// What was refused of a directive, the first of which the name is one of these.
    pub fn refused(&self, is_one: impl Fn(&str) -> bool) -> Option<&Problem> {
        self.refused.iter().find(|(name, _)| is_one(name)).map(|(_, problem)| problem)
    }

    /// Whether a URI was refused, so that it is not known whom to ask.
    pub fn is_uri_refused(&self) -> bool {
        self.refused(|name| name.ends_with("_uri")).is_some()
    }

    fn set(&mut self, directive: &Directive, block: &str, prefix: &Path) -> Result<(), ConfError> {
        let name = directive.name.as_str();
        let unknown = || ConfError::Unknown { directive: name.to_owned() };
        let known = keystone_conf::Directive::find(name).ok_or_else(unknown)?;
        known.check_context(block, name)?;
        let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
        let mut reader = Reader { prefix, position: &directive.position };
        let mut line = known.line(&mut reader, name, &arguments)?;
        match known.setter {
            Setter::Main(set) => set(&mut line, &mut self.main),
            Setter::Server(set) => set(&mut line, &mut self.server),
            Setter::Location(set) => set(&mut line, &mut self.location),
        }
    }

    fn note_open_secrets(&mut self, directive: &Directive, prefix: &Path) {
        let files = directive.arguments.iter().filter_map(|word| word.strip_prefix("file:"));
        let paths = files.map(|path| prefix.join(path));
        let is_open =
            |path: &PathBuf| std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0);
        self.open_secrets.extend(paths.filter(is_open));
    }
}

/// Whether the directive is one of the module's, or would be one if it were spelt well.
pub fn is_of_module(directive: &Directive) -> bool {
    directive.name.starts_with("keystone_")
}

/// What the rules of `keystone-conf` need to read a directive.
struct Reader<'a> {
    prefix: &'a Path,
    position: &'a Position,
}

impl Host for Reader<'_> {
    type Value = String;

    fn position(&self) -> Position {
        self.position.clone()
    }

    fn full_path(&mut self, path: &str) -> Option<PathBuf> {
        Some(self.prefix.join(path))
    }

    fn compile(&mut self, text: &str, _: ValueKind) -> Option<String> {
        value::has_valid_variables(text).then(|| text.to_owned())
    }
}

/// nginx's own directive for the buffers that a token has to fit into.
const HEADER_BUFFERS: &str = "large_client_header_buffers";
