//! Configurations for tests.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::neighbours::{Neighbours, Order};
use super::{module, worker_user, WORKER};

/// An nginx configuration with one server on 127.0.0.1.
///
/// In every snippet `@DIR@` stands for nginx's directory and `@PORT@` for its port.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers; with more than one, each has a listening socket of its own.
    pub workers: usize,
    level: String,
    load: bool,
    neighbours: Option<Neighbours>,
    shared_socket: bool,
    main: String,
    http: String,
    keystone: Vec<(String, String)>,
    listen: String,
    server: String,
    locations: Vec<(String, String)>,
    raw: Option<String>,
    environment: Vec<(String, String)>,
    under: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// One worker, the module loaded, no location but the one that names the worker.
    pub fn new() -> Self {
        Self {
            workers: 1,
            level: std::env::var("KEYSTONE_TESTBED_LOG").unwrap_or_else(|_| "info".into()),
            load: true,
            neighbours: Neighbours::of_environment(),
            shared_socket: false,
            main: String::new(),
            http: String::new(),
            keystone: Vec::new(),
            listen: String::new(),
            server: String::new(),
            locations: Vec::new(),
            raw: None,
            environment: Vec::new(),
            under: Vec::new(),
        }
    }

    /// The least that protects files: for checking directives.
    pub fn protected() -> Self {
        Self::new()
            .set("keystone_auth_uri", "http://127.0.0.1:5000")
            .set("keystone_signing_dir", "@DIR@/keystone")
            .location("/", "keystone_auth on;")
    }

    /// Like [`Config::new`] without the module.
    pub fn without_module() -> Self {
        Self { load: false, neighbours: None, ..Self::new() }
    }

    /// A whole configuration file, in which `@DIR@`, `@PORT@` and `@MODULE@` are replaced; it
    /// must say `daemon off`.
    pub fn raw(text: &str, workers: usize) -> Self {
        Self { raw: Some(text.into()), workers, ..Self::new() }
    }

    /// With other modules beside the module: Debian's by what is between `ngx_http_` and `_module`
    /// in their names, others by their path.
    pub fn beside(self, order: Order, modules: &[&str]) -> Self {
        Self { neighbours: Some(Neighbours::new(order, modules)), ..self }
    }

    /// Sets `worker_processes`.
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// With one listening socket for all workers, as is nginx's default.
    pub fn shared_socket(self) -> Self {
        Self { shared_socket: true, ..self }
    }

    /// Sets the level of the error log to `debug`.
    pub fn debug(self) -> Self {
        Self { level: "debug".into(), ..self }
    }

    /// With more lines outside of `http`.
    pub fn main(mut self, lines: &str) -> Self {
        add(&mut self.main, lines);
        self
    }

    /// With more lines in `http`.
    pub fn http(mut self, lines: &str) -> Self {
        add(&mut self.http, lines);
        self
    }

    /// With a directive in `http`, instead of an earlier one of the same name.
    pub fn set(mut self, directive: &str, value: &str) -> Self {
        match self.keystone.iter_mut().find(|(name, _)| name == directive) {
            Some((_, old)) => *old = value.into(),
            None => self.keystone.push((directive.into(), value.into())),
        }
        self
    }

    /// Without an earlier directive in `http`.
    pub fn unset(mut self, directive: &str) -> Self {
        self.keystone.retain(|(name, _)| name != directive);
        self
    }

    /// The value of a directive in `http`.
    pub fn get(&self, directive: &str) -> Option<&str> {
        let set = self.keystone.iter().find(|(name, _)| name == directive);
        set.map(|(_, value)| value.as_str())
    }

    /// With parameters on the server's `listen`.
    pub fn listen(mut self, parameters: &str) -> Self {
        self.listen = parameters.into();
        self
    }

    /// With more lines in `server`.
    pub fn server(mut self, lines: &str) -> Self {
        add(&mut self.server, lines);
        self
    }

    /// With a location, instead of an earlier one of the same name.
    pub fn location(mut self, name: &str, lines: &str) -> Self {
        match self.locations.iter_mut().find(|(old, _)| old == name) {
            Some((_, old)) => *old = lines.into(),
            None => self.locations.push((name.into(), lines.into())),
        }
        self
    }

    /// With an environment variable for nginx itself.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts nginx by another command, which gets its path and arguments behind these.
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(super) fn command(&self, program: PathBuf) -> Command {
        let Some((first, more)) = self.under.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(more).arg(program);
        command
    }

    pub(super) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// The text of the file, for an nginx in `dir` that listens on `port`.
    pub fn text(&self, dir: &Path, port: u16) -> String {
        let text = self.raw.clone().unwrap_or_else(|| self.built());
        text.replace("@DIR@", &dir.display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@MODULE@", &module().display().to_string())
    }

    fn built(&self) -> String {
        let mut text = String::new();
        if let Some(user) = worker_user() {
            add(&mut text, &format!("user {user};"));
        }
        self.load_modules(&mut text);
        let own_socket = self.workers > 1 && !self.shared_socket;
        let (workers, level) = (self.workers, &self.level);
        let reuseport = if own_socket { "reuseport" } else { "" };
        add(&mut text, &format!("worker_processes {workers};"));
        add(&mut text, &format!("error_log @DIR@/error.log {level};"));
        add(&mut text, &self.main);
        add(&mut text, MAIN);
        add(&mut text, HTTP);
        add(&mut text, self.neighbours.as_ref().map_or("", Neighbours::http));
        for (name, value) in &self.keystone {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {value};");
        }
        add(&mut text, &self.http);
        add(&mut text, "server {");
        add(&mut text, &format!("listen 127.0.0.1:@PORT@ {reuseport} {};", self.listen));
        add(&mut text, "server_name localhost;\nroot @DIR@/html;");
        add(&mut text, &format!("location = {WORKER} {{ return 200 $pid; }}"));
        add(&mut text, &self.server);
        for (name, lines) in &self.locations {
            add(&mut text, &format!("location {name} {{\n{lines}\n}}"));
        }
        add(&mut text, "}\n}");
        text
    }

    fn load_modules(&self, text: &mut String) {
        let neighbours =
            |place| self.neighbours.as_ref().map_or(String::new(), |it| it.load(place));
        add(text, &neighbours(Order::Before));
        if self.load && !module().as_os_str().is_empty() {
            add(text, "load_module @MODULE@;");
        }
        add(text, &neighbours(Order::After));
    }
}

fn add(text: &mut String, lines: &str) {
    text.push_str(lines);
    text.push('\n');
}

const MAIN: &str = "\
daemon off;
pid @DIR@/nginx.pid;
events { worker_connections 1024; }";

const HTTP: &str = "\
http {
client_body_temp_path @DIR@/client_body;
proxy_temp_path @DIR@/proxy;
fastcgi_temp_path @DIR@/fastcgi;
uwsgi_temp_path @DIR@/uwsgi;
scgi_temp_path @DIR@/scgi;
access_log @DIR@/access.log;
default_type text/plain;
keepalive_requests 1000000;
large_client_header_buffers 4 64k;
proxy_buffer_size 128k;
proxy_buffers 4 128k;
proxy_busy_buffers_size 256k;";
