//! What `nginx.conf` says: which identity services its servers use, and how.

mod glob;
pub mod level;
mod lexer;
pub mod reader;
pub mod service;
pub mod values;

use std::path::{Component, Path, PathBuf};

use self::level::Level;
use self::reader::{Directive, Place, Problem, ReadError};
use self::service::Service;

/// A configuration, as far as it has to do with Keystone.
#[derive(Debug, Default)]
pub struct Conf {
    /// The file, or none for options of the command line.
    pub path: Option<PathBuf>,
    /// `user`, and its group if it names one.
    pub user: Option<(String, Option<String>)>,
    /// The identity services that servers use, each once.
    pub services: Vec<Service>,
    /// How many servers there are, and how many of them ask for tokens.
    pub servers: (usize, usize),
    /// nginx's own directives that open a way around what the module promises, where tokens are
    /// asked for.
    pub hazards: Vec<Hazard>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// A directive of nginx's, and where it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hazard {
    /// What it does.
    pub kind: HazardKind,
    /// Where it stands.
    pub place: Place,
}

/// What a [`Hazard`] does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HazardKind {
    /// `ignore_invalid_headers off`
    InvalidHeaders,
    /// `post_action`
    PostAction,
}

impl Hazard {
    fn of(directive: &Directive) -> Option<Self> {
        let first = directive.arguments.first().map(String::as_str);
        let kind = match (directive.name.as_str(), first) {
            ("ignore_invalid_headers", Some("off")) => HazardKind::InvalidHeaders,
            ("post_action", Some(target)) if target != "off" => HazardKind::PostAction,
            _ => return None,
        };
        Some(Self { kind, place: directive.place.clone() })
    }
}

impl Conf {
    /// Reads `nginx.conf` and what it includes.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let path = &absolute(path);
        let tree = reader::read(path)?;
        let mut conf =
            Self { path: Some(path.to_owned()), problems: tree.problems, ..Self::default() };
        let user = tree.directives.iter().rev().find(|directive| directive.name == "user");
        conf.user = user.and_then(|directive| {
            let mut words = directive.arguments.iter().cloned();
            Some((words.next()?, words.next()))
        });
        let prefix = path.parent().unwrap_or(Path::new(""));
        let http = tree.directives.iter().filter(|directive| directive.name == "http");
        for block in http.filter_map(|directive| directive.block.as_deref()) {
            conf.http(block, prefix);
        }
        Ok(conf)
    }

    /// A single identity service with these directives, which come from the command line.
    pub fn of_options(directives: &[Directive]) -> Self {
        let level = Level::read(directives);
        let here = std::env::current_dir().unwrap_or_default();
        let service = Service::new(&level, &here, "the command line");
        Self { services: vec![service], ..Self::default() }
    }

    fn http(&mut self, block: &[Directive], prefix: &Path) {
        let outer = Level::read(block);
        let outer_auth = auth(block, "off");
        for server in block.iter().filter(|directive| directive.name == "server") {
            let Some(inner) = server.block.as_deref() else { continue };
            self.servers.0 += 1;
            if !asks_for_tokens(inner, outer_auth) {
                continue;
            }
            self.servers.1 += 1;
            self.note_hazards(block, false);
            self.note_hazards(inner, true);
            let level = Level::read(inner).within(&outer);
            let service = Service::new(&level, prefix, &format!("server at {}", server.place));
            match self.services.iter_mut().find(|known| known.settings == service.settings) {
                Some(known) => known.users.extend(service.users),
                None => self.services.push(service),
            }
        }
    }

    /// Notes what stands in a level, and in the levels in it if `deep`.
    fn note_hazards(&mut self, block: &[Directive], deep: bool) {
        for directive in block {
            let hazard = Hazard::of(directive).filter(|hazard| !self.hazards.contains(hazard));
            self.hazards.extend(hazard);
            if let Some(inner) = directive.block.as_deref().filter(|_| deep) {
                self.note_hazards(inner, deep);
            }
        }
    }
}

/// The path of `nginx.conf` from the root, since what is told to try has to work from any directory.
///
/// `..` is resolved: nginx's user may be kept out of the directory in which the program was started,
/// `/root` say, and would seem to be kept out of all that is named by way of it.
fn absolute(path: &Path) -> PathBuf {
    let goes_up = path.components().any(|component| component == Component::ParentDir);
    let absolute = if goes_up { path.canonicalize() } else { std::path::absolute(path) };
    absolute.unwrap_or_else(|_| path.to_owned())
}

/// `keystone_auth` of a level, or that of the level around it.
fn auth<'a>(block: &'a [Directive], outer: &'a str) -> &'a str {
    let own = block.iter().find(|directive| directive.name == "keystone_auth");
    own.and_then(|directive| directive.arguments.first()).map_or(outer, String::as_str)
}

fn asks_for_tokens(block: &[Directive], outer: &str) -> bool {
    let own = auth(block, outer);
    let inner = block.iter().filter_map(|directive| directive.block.as_deref());
    own != "off" || inner.into_iter().any(|inner| asks_for_tokens(inner, own))
}

#[cfg(test)]
mod tests;
