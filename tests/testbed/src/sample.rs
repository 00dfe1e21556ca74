//! The configurations of `nginx-conf/` and of the README, each as it stands, with the values
//! replaced that an operator would replace.
//!
//! ```no_run
//! use keystone_testbed::keystone::Keystone;
//! use keystone_testbed::sample::Sample;
//!
//! let keystone = Keystone::start()?;
//! let mut sample = Sample::of_keystone("static-files.conf", &keystone);
//! sample.set("listen 80;", "listen 127.0.0.1:@PORT@;");
//! sample.set("/srv/files", "@DIR@/files");
//! sample.file("files/hello.txt", "hello");
//! let nginx = sample.start(1);
//! # Ok::<(), keystone_testbed::Error>(())
//! ```
//!
//! As in [`world`](crate::world), what has no place in a test is panicked about.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::Path;

use crate::identity::{Identity, SERVICE_PASSWORD, SERVICE_PROJECT, SERVICE_USER};
use crate::keystone::Keystone;
use crate::nginx::{worker_ids, worker_user, Config, Nginx};
use crate::port::Port;
use crate::temp::TempDir;

/// A sample that is being adapted.
pub struct Sample {
    text: String,
    dir: TempDir,
    port: Port,
}

/// The identity service, and whom nginx is to it.
struct Service<'a> {
    uri: String,
    user: &'a str,
    password: String,
    project: &'a str,
}

impl Service<'_> {
    fn of_identity(identity: &Identity) -> Self {
        Self {
            uri: identity.uri(),
            user: SERVICE_USER,
            password: SERVICE_PASSWORD.to_owned(),
            project: SERVICE_PROJECT,
        }
    }
}

impl Sample {
    /// One that asks the small identity service.
    #[track_caller]
    pub fn of_identity(name: &str, identity: &Identity) -> Self {
        Self::open(name, &Service::of_identity(identity))
    }

    /// One that asks a real Keystone.
    #[track_caller]
    pub fn of_keystone(name: &str, keystone: &Keystone) -> Self {
        let password = keystone.password("gateway").expect("a user called gateway");
        let (user, project) = ("gateway", "service");
        Self::open(name, &Service { uri: keystone.uri(), user, password, project })
    }

    /// `swift-edge.conf` in front of one proxy server.
    #[track_caller]
    pub fn swift_edge(keystone: &Keystone, proxy: SocketAddr) -> Self {
        let mut sample = Self::of_keystone("swift-edge.conf", keystone);
        sample.set("listen 8080;", "listen 127.0.0.1:@PORT@;");
        sample.set("server 10.0.0.30:8080;", &format!("server {proxy};"));
        sample.set("server 10.0.0.31:8080;", "");
        sample
    }

    /// `static-swift.conf`, without an object; they are kept in `objects`.
    #[track_caller]
    pub fn static_swift(keystone: &Keystone) -> Self {
        let mut sample = Self::of_keystone("static-swift.conf", keystone);
        sample.set("listen 8080;", "listen 127.0.0.1:@PORT@;");
        sample.set("/srv/objects", "@DIR@/objects");
        let (user, group) = worker_ids();
        for dir in ["objects", "objects/v1"] {
            let dir = sample.dir.join(dir);
            let made = fs::create_dir(&dir).and_then(|()| chown(&dir, Some(user), Some(group)));
            made.unwrap_or_else(|error| panic!("making {}: {error}", dir.display()));
        }
        sample
    }

    /// The one of the README, with what Debian's nginx has by default written out.
    #[track_caller]
    pub fn of_readme(identity: &Identity) -> Self {
        let readme = read("README.md");
        let blocks: Vec<_> = readme.split("```nginx\n").skip(1).collect();
        let [block] = blocks[..] else { panic!("the README has {} samples", blocks.len()) };
        let (sample, _) = block.split_once("```").expect("an end of the block");
        let defaults = "include /etc/nginx/mime.types; access_log /var/log/nginx/access.log;";
        let text = sample.replace("include mime.types;", defaults);
        Self::adapt(format!("pid /run/nginx.pid;\n{text}"), &Service::of_identity(identity))
    }

    #[track_caller]
    fn open(name: &str, service: &Service<'_>) -> Self {
        Self::adapt(read(&format!("nginx-conf/{name}")), service)
    }

    #[track_caller]
    fn adapt(text: String, service: &Service<'_>) -> Self {
        let dir = TempDir::new("sample").expect("a directory");
        let mut sample = Self { text, dir, port: Port::free().expect("a port") };
        sample.file("password", &service.password);

        sample.set(
            "load_module modules/ngx_http_keystone_module.so;",
            "load_module @MODULE@;\ndaemon off;",
        );
        match worker_user() {
            Some(user) => sample.set("user www-data;", &format!("user {user};")),
            None => sample.set("user www-data;", ""),
        }
        sample.set("/run/nginx.pid", "@DIR@/nginx.pid");
        sample.set("/var/log/nginx/", "@DIR@/");
        sample.set("https://identity.example.com:5000", &service.uri);
        let user = format!("keystone_username {};", service.user);
        sample.set("keystone_username      gateway;", &user);
        let project = format!("keystone_project_name {};", service.project);
        sample.set("keystone_project_name  service;", &project);
        sample.set("/etc/nginx/keystone.password", "@DIR@/password");
        match sample.text.contains("keystone_signing_dir") {
            true => sample.set("/var/lib/nginx/keystone", "@DIR@/keystone"),
            // The default is the machine's.
            false => sample.set("http {", "http {\nkeystone_signing_dir @DIR@/keystone;"),
        }
        sample
    }

    /// Replaces what must be there to be replaced; `@DIR@` and `@PORT@` stand for the directory
    /// and the port of nginx.
    #[track_caller]
    pub fn set(&mut self, old: &str, new: &str) {
        assert!(self.text.contains(old), "the sample has no {old:?}");
        self.text = self.text.replace(old, new);
    }

    /// Puts a file into the directory of nginx.
    #[track_caller]
    pub fn file(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text))
            .unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    }

    /// The directory with `nginx.conf` and the logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts nginx with so many workers, which must be as many as the sample wants.
    #[track_caller]
    pub fn start(self, workers: usize) -> Nginx {
        Nginx::start_in(self.dir, self.port, &Config::raw(&self.text, workers))
            .unwrap_or_else(|error| panic!("starting nginx: {error}"))
    }
}

/// A file of the project.
#[track_caller]
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

/// The number of workers of a sample that says `worker_processes auto`.
pub fn auto() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
