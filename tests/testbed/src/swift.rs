//! A real Swift without authtoken, and the client that comes with it.
//!
//! Both are in the Python environment of [`keystone`](crate::keystone).
//!
//! ```no_run
//! use keystone_testbed::swift::{Client, Swift};
//!
//! let swift = Swift::start()?;
//! let client = Client::with_token(&format!("{}/v1/AUTH_demo", swift.uri()), "a token");
//! assert_eq!(client.run(&["list"])?.code, 0);
//! # Ok::<(), keystone_testbed::Error>(())
//! ```
//!
//! How its proxy is set up stands in `tests/keystone/serve_swift.py`.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::http::{send, Request};
use crate::keystone::{python, source, Keystone};
use crate::memcached::Memcached;
use crate::port::Port;
use crate::process::Process;
use crate::temp::TempDir;
use crate::{During, Error, Result};

/// A running Swift; dropping it stops it.
#[derive(Debug)]
pub struct Swift {
    // It ends before its files go.
    _process: Process,
    proxy: Port,
    _storage: [Port; 3],
    _dir: TempDir,
}

impl Swift {
    /// Starts an empty one: a proxy, and an account, a container and an object server with one
    /// replica on one device.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one whose proxy believes 127.0.0.1 only, by `contrib/keystone-edge`, and has TempAuth
    /// and the API of S3 as well.
    pub fn start_with_filter(keystone: &Keystone, memcached: &Memcached) -> Result<Self> {
        Self::start_with(&[
            ("--memcached", &memcached.server()),
            ("--identity", &format!("{}/v3", keystone.uri())),
        ])
    }

    fn start_with(options: &[(&str, &str)]) -> Result<Self> {
        let dir = TempDir::new("swift")?;
        let [account, container, object, proxy] =
            [Port::free()?, Port::free()?, Port::free()?, Port::free()?];
        let stderr = File::create(log(&dir)).during("making a log for Swift")?;
        let mut command = Command::new(python()?);
        command.arg(source("serve_swift.py")).arg(dir.path());
        let servers = [
            ("--account", &account),
            ("--container", &container),
            ("--object", &object),
            ("--proxy", &proxy),
        ];
        for (option, port) in servers {
            command.args([option, &port.number().to_string()]);
        }
        command.args(options.iter().flat_map(|(option, value)| [option, value]));
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::null()).stderr(stderr);
        let mut process = Process::start(&mut command)?;

        // The proxy forgets for a minute whom it could not reach: it is asked last.
        let listens = |port: &Port| TcpStream::connect(port.address()).is_ok();
        let deadline = Instant::now() + START;
        while !servers.iter().all(|(_, port)| listens(port)) {
            let complaint = match process.ended() {
                Some(status) => format!("Swift ended with {status}"),
                None if Instant::now() > deadline => "Swift does not answer".into(),
                None => {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            let log = fs::read_to_string(log(&dir)).unwrap_or_default();
            return Err(Error::Python(format!("{complaint}\n{log}")));
        }
        let answer = send(proxy.address(), &Request::get("/healthcheck"))?;
        match answer.text().as_str() {
            "OK" => Ok(Self {
                _process: process,
                proxy,
                _storage: [account, container, object],
                _dir: dir,
            }),
            text => Err(Error::Python(format!("Swift is not healthy: {text}"))),
        }
    }

    /// Address and port of the proxy server.
    pub fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// `http://` and the address of the proxy server.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address())
    }
}

fn log(dir: &TempDir) -> PathBuf {
    dir.join("log")
}

/// The command `swift` of python-swiftclient.
#[derive(Clone, Debug)]
pub struct Client {
    options: Vec<String>,
}

/// The result of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Client {
    /// With a token, for an account.
    pub fn with_token(storage_url: &str, token: &str) -> Self {
        Self::new(storage_url, &["--os-auth-token", token])
    }

    /// As a user of Keystone in a project, for an account, which need not be that of the project.
    pub fn with_password(
        storage_url: &str,
        keystone: &Keystone,
        user: &str,
        project: &str,
    ) -> Result<Self> {
        Ok(Self::new(
            storage_url,
            &[
                "--auth-version",
                "3",
                "--os-auth-url",
                &format!("{}/v3", keystone.uri()),
                "--os-user-id",
                &keystone.user(user)?,
                "--os-password",
                &keystone.password(user)?,
                "--os-project-id",
                &keystone.project(project)?,
            ],
        ))
    }

    fn new(storage_url: &str, options: &[&str]) -> Self {
        let fixed = ["--retries", "0", "--os-storage-url", storage_url];
        Self { options: [&fixed, options].concat().into_iter().map(str::to_owned).collect() }
    }

    /// Runs the client with these arguments.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.run_in(Path::new("/"), words)
    }

    /// Runs it in a directory, for names of files that become names of objects.
    pub fn run_in(&self, dir: &Path, words: &[&str]) -> Result<Output> {
        let python = python()?;
        let mut command = Command::new(&python);
        command.arg(python.with_file_name("swift")).args(&self.options).args(words);
        // Nothing from the environment of the tests.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let theirs = ["OS_", "ST_"].iter().any(|prefix| text.starts_with(prefix));
            if theirs || text.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command.envs([("PYTHONWARNINGS", "ignore"), ("PYTHONDONTWRITEBYTECODE", "1")]);
        command.env("PYTHONUTF8", "1").current_dir(dir).stdin(Stdio::null());
        let output = command.output().during("running swift")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Output {
            // A signal is no code of its own.
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }
}

const START: Duration = Duration::from_secs(60);
