//! What `nginx.conf` says: which identity services its servers use, and how.

mod glob;
mod level;
mod lexer;
pub mod reader;
pub mod service;

use std::path::{Component, Path, PathBuf};

use keystone_conf::{ConfError, Position};
use keystone_token::identity::CERTIFICATE;
use keystone_token::policy::BindMode;

use self::level::{is_of_module, Level};
use self::reader::{Directive, Disk, Problem, ReadError};
use self::service::{Locations, Service};
use crate::nginx::{Nginx, Tested};
use crate::system::User;

/// A configuration, as far as it has to do with Keystone.
#[derive(Default)]
pub struct Conf {
    /// The file, or none for options of the command line.
    pub path: Option<PathBuf>,
    /// What nginx says of it, where there is one to ask.
    pub tested: Option<Tested>,
    /// All files that were read.
    pub files: Vec<PathBuf>,
    /// All other files that nginx reads with it for the module: secrets, certificates, keys.
    pub inputs: Vec<PathBuf>,
    /// `user`, and its group if it names one.
    pub user: Option<(String, Option<String>)>,
    /// `pid` of nginx, as an absolute path.
    pub pid: Option<PathBuf>,
    /// Whether a `load_module` names the module.
    pub loads_module: bool,
    /// The identity services that servers use, each once.
    pub services: Vec<Service>,
    /// How many servers there are, and how many of them ask for tokens.
    pub servers: (usize, usize),
    /// The addresses of all servers, also those that ask for no tokens.
    pub listens: Vec<Listen>,
    /// Directives that open a way around what the module promises, or make it refuse what it should
    /// not, where tokens are asked for.
    pub hazards: Vec<Hazard>,
    /// What could not be read: files that are included, or what is not of nginx's syntax.
    pub unreadable: Vec<Problem>,
    /// Directives that the module refuses.
    pub refused: Vec<Problem>,
    /// How the levels of a server that ask for tokens treat binds.
    bind_modes: Vec<BindMode>,
    /// The directory of `nginx.conf`, where relative paths start.
    prefix: PathBuf,
    /// Where `keystone_signing_dir` is by default; empty where that is not known.
    signing_dir: PathBuf,
}

/// A `listen` of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listen {
    arguments: Vec<String>,
    pub position: Position,
}

impl Listen {
    /// Those of a server; nginx's default where it has none.
    fn of(server: &Directive, block: &[Directive]) -> Vec<Self> {
        let listens = block.iter().filter(|directive| directive.name == "listen");
        let listens: Vec<_> = listens
            .map(|it| Self { arguments: it.arguments.clone(), position: it.position.clone() })
            .collect();
        let default = if User::current().is_root() { "80" } else { "8000" };
        match listens.is_empty() {
            true => vec![Self {
                arguments: vec![default.to_owned()],
                position: server.position.clone(),
            }],
            false => listens,
        }
    }

    /// The address as it is written.
    pub fn address(&self) -> &str {
        self.arguments.first().map(String::as_str).unwrap_or_default()
    }

    /// Whether it is for datagrams.
    pub fn is_datagram(&self) -> bool {
        self.has("quic") || self.has("udp")
    }

    /// Whether it has a parameter.
    pub fn has(&self, parameter: &str) -> bool {
        self.arguments.iter().skip(1).any(|word| word == parameter)
    }
}

/// A directive that does harm, and where it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hazard {
    pub kind: HazardKind,
    pub position: Position,
}

/// Why a directive is a [`Hazard`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HazardKind {
    /// `keystone_client_certificate` with a header of the request
    CertificateHeader,
    /// `ignore_invalid_headers off`
    InvalidHeaders,
    /// A certificate of the client is wanted from nginx, which asks for none.
    NoClientCertificate,
    /// `post_action`
    PostAction,
    /// `keystone_token` with an argument of the query
    TokenInQuery,
}

impl Hazard {
    fn of(directive: &Directive) -> Option<Self> {
        let first = directive.arguments.first().map(String::as_str);
        let kind = match (directive.name.as_str(), first) {
            ("ignore_invalid_headers", Some("off")) => HazardKind::InvalidHeaders,
            ("keystone_token", _) if directive.arguments.iter().any(|it| is_argument(it)) => {
                HazardKind::TokenInQuery
            }
            (CLIENT_CERTIFICATE, Some(value)) if value.contains("$http_") => {
                HazardKind::CertificateHeader
            }
            ("post_action", Some(target)) if target != "off" => HazardKind::PostAction,
            _ => return None,
        };
        Some(Self { kind, position: directive.position.clone() })
    }
}

/// Whether a value is a variable of nginx's for an argument.
fn is_argument(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    value.starts_with("$arg_") || value.starts_with("${arg_")
}

impl Conf {
    /// Reads `nginx.conf` and what it includes: as nginx prints it, or from the disk where there is
    /// no nginx, or one that does not accept it.
    pub fn read(path: &Path, nginx: Option<&Nginx>) -> Result<Self, ReadError> {
        let path = absolute(path);
        let mut conf = Self {
            tested: nginx.map(|nginx| nginx.test(&path)),
            prefix: path.parent().unwrap_or(Path::new("")).to_owned(),
            signing_dir: nginx.map(|nginx| nginx.build.signing_dir.clone()).unwrap_or_default(),
            ..Self::default()
        };
        let dump = conf.tested.as_ref().and_then(|tested| tested.dump.as_ref());
        let tree = match dump.filter(|dump| dump.has(&path)) {
            Some(dump) => reader::read(&path, dump),
            None => reader::read(&path, &Disk),
        };
        conf.path = Some(path);
        match tree {
            Ok(tree) => conf.take(tree),
            Err(ReadError::Syntax(problem)) => conf.unreadable.push(problem),
            Err(error) => return Err(error),
        }
        Ok(conf)
    }

    /// A single identity service with these directives, which come from the command line.
    pub fn of_options(directives: &[Directive], nginx: Option<&Nginx>) -> Self {
        let prefix = std::env::current_dir().unwrap_or_default();
        let mut refused = Vec::new();
        let level = Level::read(directives, "http", &prefix, &mut refused);
        let signing_dir = nginx.map(|nginx| nginx.build.signing_dir.clone()).unwrap_or_default();
        let service = Service::new(&level, &signing_dir, "the command line".to_owned());
        Self { services: vec![service], refused, signing_dir, prefix, ..Self::default() }
    }

    fn take(&mut self, tree: reader::Tree) {
        self.unreadable = tree.problems;
        self.files = tree.files;
        let mut all = Vec::new();
        collect(&tree.directives, &mut all);
        self.inputs = all.into_iter().flat_map(|it| inputs(it, &self.prefix)).collect();
        let last = |name: &str| tree.directives.iter().rev().find(|it| it.name == name);
        self.user = last("user").and_then(|directive| {
            let mut words = directive.arguments.iter().cloned();
            Some((words.next()?, words.next()))
        });
        self.pid = last("pid").and_then(|it| it.arguments.first()).map(PathBuf::from);
        self.loads_module = tree.directives.iter().any(|directive| {
            let file = directive.arguments.first().map(String::as_str).unwrap_or_default();
            directive.name == "load_module" && file.ends_with("ngx_http_keystone_module.so")
        });
        for directive in &tree.directives {
            let block = directive.block.as_deref();
            let servers = block.into_iter().flatten().filter(|it| it.name == "server");
            let servers = servers.filter_map(|server| Some((server, server.block.as_deref()?)));
            self.listens.extend(servers.flat_map(|(server, block)| Listen::of(server, block)));
            match (directive.name.as_str(), block) {
                ("http", Some(block)) => self.http(block),
                _ => self.refuse_misplaced(directive),
            }
        }
    }

    fn http(&mut self, block: &[Directive]) {
        let outer = Level::read(block, "http", &self.prefix, &mut self.refused);
        for directive in block {
            match (directive.name.as_str(), directive.block.as_deref()) {
                ("server", Some(inner)) => self.server(directive, inner, block, &outer),
                (_, Some(_)) => self.refuse_misplaced(directive),
                _ => {}
            }
        }
    }

    fn server(
        &mut self,
        directive: &Directive,
        block: &[Directive],
        http: &[Directive],
        outer: &Level,
    ) {
        self.servers.0 += 1;
        let level = Level::read(block, "server", &self.prefix, &mut self.refused).within(outer);
        self.bind_modes.clear();
        if !self.asks_for_tokens(block, &level) {
            return;
        }
        self.servers.1 += 1;
        self.note_hazards(http, false);
        self.note_hazards(block, true);
        self.note_missing_certificate(http, block);
        let user = format!("server at {}", directive.position);
        let mut service = Service::new(&level, &self.signing_dir, user);
        service.locations = Locations::of(&all_levels(http, block), &self.bind_modes);
        if let Some(known) = self.services.iter_mut().find(|it| it.settings == service.settings) {
            known.users.extend(service.users);
            known.locations = known.locations.and(service.locations);
            return;
        }
        let clash = self
            .services
            .iter()
            .find_map(|known| service.settings.check_beside(&known.settings).err());
        if let Some(error) = clash {
            self.refuse(&directive.position, error.to_string());
        }
        self.services.push(service);
    }

    /// Whether a level or one in it asks for tokens.
    fn asks_for_tokens(&mut self, block: &[Directive], level: &Level) -> bool {
        let mut asks = self.is_protected(level);
        for directive in block {
            match (directive.name.as_str(), directive.block.as_deref()) {
                (name @ ("location" | "if" | "limit_except"), Some(inner)) => {
                    let read = Level::read(inner, name, &self.prefix, &mut self.refused);
                    asks |= self.asks_for_tokens(inner, &read.within(level));
                }
                (_, Some(_)) => self.refuse_misplaced(directive),
                _ => {}
            }
        }
        asks
    }

    /// Whether a merged level asks for tokens; what does not fit together is noted.
    fn is_protected(&mut self, level: &Level) -> bool {
        let position = match level.location.protection() {
            Ok(None) => return false,
            Ok(Some(position)) => position,
            Err(error) => {
                self.refuse(&error.position, error.error.to_string());
                return false;
            }
        };
        if !level.is_uri_refused() {
            if let Err(error) = level.server.announced_uri() {
                self.refuse(position, error.to_string());
            }
        }
        if let Err(error) = level.location.swift.clone().finish() {
            self.refuse(&error.position, error.error.to_string());
        }
        self.bind_modes.push(level.location.token_bind().clone());
        true
    }

    /// Notes directives of the module where no block of nginx takes them.
    fn refuse_misplaced(&mut self, directive: &Directive) {
        if is_of_module(directive) {
            let name = directive.name.clone();
            let error = match keystone_conf::Directive::<String>::find(&name) {
                Some(_) => ConfError::Context { directive: name },
                None => ConfError::Unknown { directive: name },
            };
            self.refuse(&directive.position, error.to_string());
        }
        directive.block.iter().flatten().for_each(|inner| self.refuse_misplaced(inner));
    }

    fn refuse(&mut self, position: &Position, text: String) {
        let problem = Problem { position: position.clone(), text, forbidden: false };
        if !self.refused.contains(&problem) {
            self.refused.push(problem);
        }
    }

    /// Notes the directives of a level, and of the levels in it if `deep`.
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

impl Conf {
    /// Notes the directive by which a server wants certificates of its clients, if nginx does not ask
    /// clients for them.
    fn note_missing_certificate(&mut self, http: &[Directive], block: &[Directive]) {
        let first = |it: &Directive| it.arguments.first().cloned().unwrap_or_default();
        let verify = block.iter().chain(http).find(|it| it.name == "ssl_verify_client");
        if verify.is_some_and(|it| first(it) != "off") {
            return;
        }
        let all = all_levels(http, block);
        let of_nginx = |it: &Directive| match it.name.as_str() {
            CLIENT_CERTIFICATE => first(it).contains("$ssl_client_"),
            "keystone_enforce_token_bind" => {
                first(it) == CERTIFICATE && all.iter().all(|it| it.name != CLIENT_CERTIFICATE)
            }
            _ => false,
        };
        if let Some(directive) = all.iter().find(|it| of_nginx(it)) {
            let position = directive.position.clone();
            let hazard = Hazard { kind: HazardKind::NoClientCertificate, position };
            if !self.hazards.contains(&hazard) {
                self.hazards.push(hazard);
            }
        }
    }
}

/// The files that nginx reads when it reads a directive. Of a directory, those that are in it.
fn inputs(directive: &Directive, prefix: &Path) -> Vec<PathBuf> {
    let arguments = directive.arguments.iter();
    match directive.name.as_str() {
        "keystone_ssl_certificate"
        | "keystone_ssl_certificate_key"
        | "keystone_ssl_trusted_certificate" => arguments.map(|it| prefix.join(it)).collect(),
        "keystone_jws_keys" => {
            let in_directory = |path: &Path| {
                let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
                entries.map(|entry| entry.path()).collect::<Vec<_>>()
            };
            let paths: Vec<_> = arguments.map(|it| prefix.join(it)).collect();
            paths.iter().flat_map(|it| in_directory(it)).chain(paths.iter().cloned()).collect()
        }
        _ if is_of_module(directive) => {
            let files = arguments.filter_map(|it| it.strip_prefix("file:"));
            files.map(|it| prefix.join(it)).collect()
        }
        _ => Vec::new(),
    }
}

/// The directives of `http` itself, and all of a server.
fn all_levels<'a>(http: &'a [Directive], server: &'a [Directive]) -> Vec<&'a Directive> {
    let mut all: Vec<_> = http.iter().filter(|it| it.block.is_none()).collect();
    collect(server, &mut all);
    all
}

/// All directives of a block, and of those in it.
fn collect<'a>(block: &'a [Directive], all: &mut Vec<&'a Directive>) {
    for directive in block {
        all.push(directive);
        collect(directive.block.as_deref().unwrap_or_default(), all);
    }
}

const CLIENT_CERTIFICATE: &str = "keystone_client_certificate";

/// The absolute path of `nginx.conf`: the commands in the report must work from any directory.
///
/// `..` is resolved: nginx's user may be kept out of the directory in which the program was
/// started, `/root` say, and would seem to be kept out of all that is named by way of it.
fn absolute(path: &Path) -> PathBuf {
    let goes_up = path.components().any(|component| component == Component::ParentDir);
    let absolute = if goes_up { path.canonicalize() } else { std::path::absolute(path) };
    absolute.unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
