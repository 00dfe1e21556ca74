//! An unmodified nginx with the module in it.
//!
//! The binary is that of `NGINX_BINARY` (`/usr/sbin/nginx` where it is not set), the module that
//! of `KEYSTONE_MODULE` (`target/release/libngx_http_keystone_module.so` where it is not set). An
//! empty `KEYSTONE_MODULE` says that the binary has the module in it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::http::{send, Client, Request, Response};
use crate::port::Port;
use crate::temp::TempDir;
use crate::{patience, wait_for, During, Error, Result};

mod config;
mod neighbours;

pub use config::Config;
pub use neighbours::{can_load_debians_modules, Order};

/// A running nginx; dropping it stops it.
pub struct Nginx {
    child: Child,
    workers: usize,
    port: Port,
    dir: TempDir,
    raw: bool,
}

impl Nginx {
    /// Starts one in a directory of its own, on a free port.
    pub fn start(config: &Config) -> Result<Self> {
        Self::start_in(TempDir::new("nginx")?, Port::free()?, config)
    }

    /// Starts one in a directory that may hold files already, on the given port.
    pub fn start_in(dir: TempDir, port: Port, config: &Config) -> Result<Self> {
        write_config(&dir, &port, config)?;
        let child = spawn(dir.path(), config)?;
        let mut nginx = Self { child, workers: config.workers, port, dir, raw: config.is_raw() };
        nginx.wait_until_it_answers()?;
        Ok(nginx)
    }

    /// The address that [`Nginx::connect`] connects to.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The directory with its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id of the master.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The workers that are at work, not those that shut down.
    pub fn worker_pids(&self) -> Vec<i32> {
        let working = |title: &str| {
            title.starts_with("nginx: worker process") && !title.contains("shutting down")
        };
        let mut pids = children(self.pid());
        pids.retain(|pid| working(&title(*pid)));
        pids
    }

    /// Workers of an older configuration that still have something to finish.
    pub fn leaving_pids(&self) -> Vec<i32> {
        let mut pids = children(self.pid());
        pids.retain(|pid| title(*pid).contains("shutting down"));
        pids
    }

    /// Reads the configuration again and waits until the new workers are at work.
    pub fn reload(&self) -> Result<()> {
        let before = self.worker_pids();
        let logged = self.error_log().len();
        self.signal(libc::SIGHUP)?;
        let fresh = wait_for("the new workers", || {
            let now = self.worker_pids();
            // A worker's title is no word about it while it is being written anew.
            let (leaving, alive) = (self.leaving_pids(), children(self.pid()));
            let has_left = |pid: &i32| leaving.contains(pid) || !alive.contains(pid);
            let fresh = now.len() == self.workers
                && now.iter().all(|pid| !before.contains(pid))
                && before.iter().all(has_left);
            let emergency = self.error_log_from(logged);
            let emergency = emergency.lines().find(|line| line.contains("[emerg]"));
            match emergency {
                Some(line) => Some(Err(Error::Nginx(line.to_owned()))),
                None => fresh.then_some(Ok(())),
            }
        });
        fresh?
    }

    /// Writes another configuration and reloads it.
    pub fn reconfigure(&self, config: &Config) -> Result<()> {
        self.write_config(config)?;
        self.reload()
    }

    /// Waits until the workers of older configurations have ended.
    pub fn wait_for_old_workers(&self) -> Result<()> {
        wait_for("the old workers to end", || self.leaving_pids().is_empty().then_some(()))
    }

    /// Stops it as an operator does, after open requests, and says how it ended.
    pub fn quit(&mut self) -> Result<ExitStatus> {
        self.signal(libc::SIGQUIT)?;
        self.wait()
    }

    /// Stops it and starts it again in the same directory, on the same port.
    pub fn restart(&mut self, config: &Config) -> Result<()> {
        self.quit()?;
        self.write_config(config)?;
        self.workers = config.workers;
        self.child = spawn(self.dir.path(), config)?;
        self.wait_until_it_answers()
    }

    /// Sends a signal to the master.
    pub fn signal(&self, signal: i32) -> Result<()> {
        kill(self.pid(), signal)
    }

    /// What it wrote into its error log, and what it said before it had one.
    pub fn error_log(&self) -> String {
        let read = |name| fs::read(self.dir.join(name)).unwrap_or_default();
        let bytes = [read("stderr"), read("error.log")].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the error log has a line that holds `words`, and gives that line.
    pub fn wait_for_log(&self, words: &str) -> Result<String> {
        wait_for(&format!("{words:?} in the error log"), || {
            let log = self.error_log();
            let line = log.lines().find(|line| line.contains(words));
            line.map(str::to_owned)
        })
    }

    /// Its access log, once it has so many lines: nginx writes one when the client may have read
    /// the answer already.
    pub fn wait_for_access_log(&self, lines: usize) -> Result<String> {
        wait_for(&format!("{lines} lines in the access log"), || {
            let log = fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
            (log.lines().count() >= lines).then_some(log)
        })
    }

    /// Opens a connection to [`Nginx::address`].
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.address())
    }

    /// Opens connections until the worker `pid` has accepted one.
    pub fn connect_worker(&self, pid: i32) -> Result<Client> {
        wait_for(&format!("a connection to worker {pid}"), || {
            let mut client = self.connect().ok()?;
            let answer = client.send(&Request::get(WORKER)).ok()?;
            (answer.text().trim() == pid.to_string()).then_some(client)
        })
    }

    /// Sends one request on a connection of its own.
    pub fn send(&self, request: &Request) -> Result<Response> {
        send(self.address(), request)
    }

    /// Sends these bytes on a connection of its own, and gives what comes until nginx closes it.
    pub fn exchange(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        exchange(self.address(), bytes)
    }

    /// The same with a request that nginx answers and then closes the connection by itself, as it
    /// does in HTTP/0.9 and HTTP/1.0. However long the answer takes, the client's side stays open.
    pub fn exchange_one(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        exchange_bytes(self.address(), bytes, false)
    }

    /// Writes another configuration, which nginx does not read before it is told to.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        write_config(&self.dir, &self.port, config)
    }

    fn error_log_from(&self, at: usize) -> String {
        self.error_log().get(at..).unwrap_or_default().to_owned()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let address = self.port.address();
        let (child, workers, raw) = (&mut self.child, self.workers, self.raw);
        let pid = child.id() as i32;
        let up = wait_for("nginx to answer", || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(Error::Nginx(format!("ended at once: {status}"))));
            }
            let answers = match raw {
                true => Client::connect(address).is_ok(),
                false => send(address, &Request::get(WORKER)).is_ok_and(|a| a.status == 200),
            };
            let at_work = |pid: &i32| title(*pid).starts_with("nginx: worker process");
            let all = children(pid).iter().filter(|pid| at_work(pid)).count() == workers;
            (answers && all).then_some(Ok(()))
        });
        up.and_then(|up| up).map_err(|error| match error {
            Error::Nginx(what) => Error::Nginx(format!("{what}\n{}", self.error_log())),
            other => Error::Nginx(format!("{other}\n{}", self.error_log())),
        })
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        wait_for("nginx to end", || match child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(Ok(status)),
            Err(error) => Some(Err(error)),
        })?
        .during("waiting for nginx")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.error_log();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("[debug]")).collect();
            let tail = lines.len().saturating_sub(LOG_TAIL);
            eprintln!("--- the end of nginx's error log\n{}\n---", lines[tail..].join("\n"));
        }
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let workers = children(self.pid());
        let _ = self.signal(libc::SIGTERM);
        let deadline = Instant::now() + patience(STOP);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for pid in workers.into_iter().filter(|pid| parent(*pid) == Some(self.pid())) {
            let _ = kill(pid, libc::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends these bytes on a connection of its own, and gives what comes until the server closes it.
/// The client ends its side when an answer begins, or none does for a while: nginx takes a request
/// for abandoned when that comes earlier.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    exchange_bytes(address, bytes, true)
}

fn exchange_bytes(address: SocketAddr, bytes: &[u8], client_ends: bool) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).during("connecting")?;
    let mut answer = Vec::new();
    let mut exchanged = || {
        stream.write_all(bytes)?;
        if client_ends {
            stream.set_read_timeout(Some(ANSWER_BEGINS))?;
            let mut begun = [0; 4096];
            match stream.read(&mut begun) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => answer.extend(&begun[..read?]),
            }
            stream.shutdown(Shutdown::Write)?;
        }
        stream.set_read_timeout(Some(patience(EXCHANGE)))?;
        stream.read_to_end(&mut answer)
    };
    match exchanged() {
        // A server that has seen enough closes the connection, also while bytes are being sent.
        Err(error) if !CLOSED.contains(&error.kind()) => Err(error).during("exchanging bytes"),
        _ => Ok(answer),
    }
}

/// What `nginx -t` says about a configuration.
#[derive(Clone, Debug)]
pub struct Check {
    /// Whether nginx accepts the configuration.
    pub ok: bool,
    /// What it wrote; the name of the configuration file is replaced by `nginx.conf`.
    pub text: String,
}

/// Lets nginx check a configuration.
pub fn check(config: &Config) -> Result<Check> {
    check_in(&TempDir::new("check")?, config)
}

/// Lets nginx check a configuration in a directory that may hold files already.
pub fn check_in(dir: &TempDir, config: &Config) -> Result<Check> {
    write_config(dir, &Port::free()?, config)?;
    let mut command = command(dir.path(), config);
    let output = command.envs(config.environment()).arg("-t").output();
    let output = output.during("running nginx -t")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if let Some(signal) = output.status.signal() {
        return Err(Error::Nginx(format!("nginx -t died of signal {signal}\n{text}")));
    }
    let own = dir.join("nginx.conf").display().to_string();
    Ok(Check { ok: output.status.success(), text: text.replace(&own, "nginx.conf") })
}

/// Whether nginx was built with an option of its `configure`, as `nginx -V` tells; says so on
/// stderr if not, for a test that is skipped.
pub fn was_built_with(option: &str) -> bool {
    let output = Command::new(binary()).arg("-V").output();
    let has = output.is_ok_and(|out| String::from_utf8_lossy(&out.stderr).contains(option));
    if !has {
        eprintln!("skipped: this nginx was built without {option}");
    }
    has
}

/// Whether nginx and curl both speak HTTP/2; says so on stderr if not, for a test that is skipped.
pub fn can_try_http_2() -> bool {
    let features = Command::new("curl").arg("-V").output();
    let curl = features.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("HTTP2"));
    if !curl {
        eprintln!("skipped: there is no curl with HTTP/2 here");
    }
    curl && was_built_with("--with-http_v2_module") && was_built_with("--with-http_ssl_module")
}

/// The user that workers run as: `www-data` when started by root, else the own one.
pub fn worker_user() -> Option<&'static str> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    (unsafe { libc::geteuid() } == 0).then_some("www-data")
}

/// The ids of the workers' user and group.
pub fn worker_ids() -> (u32, u32) {
    // SAFETY: geteuid and getegid have no preconditions and cannot fail.
    let own = unsafe { (libc::geteuid(), libc::getegid()) };
    let Some(user) = worker_user() else { return own };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user));
    let id = |at| line.and_then(|line| line.split(':').nth(at)?.parse().ok());
    id(2).zip(id(3)).unwrap_or(own)
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill touches no memory; pids come from our own children.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).during(format!("signalling process {pid}")),
    }
}

/// The nginx that is started.
pub fn binary() -> PathBuf {
    std::env::var_os("NGINX_BINARY").map_or_else(|| "/usr/sbin/nginx".into(), PathBuf::from)
}

/// The module that is loaded.
pub fn module() -> PathBuf {
    let built = || {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        workspace.unwrap_or(Path::new(".")).join("target/release/libngx_http_keystone_module.so")
    };
    std::env::var_os("KEYSTONE_MODULE").map_or_else(built, PathBuf::from)
}

fn write_config(dir: &TempDir, port: &Port, config: &Config) -> Result<()> {
    let text = config.text(dir.path(), port.number());
    fs::create_dir_all(dir.join("html")).during("making the document root")?;
    fs::write(dir.join("nginx.conf"), text).during("writing nginx.conf")
}

fn command(dir: &Path, config: &Config) -> Command {
    let mut command = config.command(binary());
    command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).args(["-e", "stderr"]);
    command.stdin(Stdio::null());
    command
}

fn spawn(dir: &Path, config: &Config) -> Result<Child> {
    let stderr = File::create(dir.join("stderr")).during("making a file for stderr")?;
    let command = &mut command(dir, config);
    command.envs(config.environment()).stdout(Stdio::null()).stderr(stderr);
    command.spawn().during(format!("starting {}", binary().display()))
}

/// The processes whose parent is `pid`.
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let names = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.filter(|child| parent(*child) == Some(pid)).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; after it come the state and the parent.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// What a process calls itself, as `ps` shows it; empty when there is no such process.
pub fn title(pid: i32) -> String {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command_line).trim_end_matches('\0').to_owned()
}

/// A location of every [`Config`] that answers with the worker's process id.
pub const WORKER: &str = "/-/worker";

const STOP: Duration = Duration::from_secs(5);
const EXCHANGE: Duration = Duration::from_secs(10);
const ANSWER_BEGINS: Duration = Duration::from_millis(500);
const CLOSED: [ErrorKind; 3] =
    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::NotConnected];
const LOG_TAIL: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Config {
        Config::without_module().location("= /hello", "return 200 hello;")
    }

    #[test]
    fn it_starts_reloads_and_stops() {
        let mut nginx = Nginx::start(&plain().workers(2)).unwrap();
        assert_eq!(nginx.send(&Request::get("/hello")).unwrap().text(), "hello");
        let before = nginx.worker_pids();
        assert_eq!(before.len(), 2);
        nginx.reload().unwrap();
        nginx.wait_for_old_workers().unwrap();
        let after = nginx.worker_pids();
        assert_eq!(after.len(), 2);
        assert!(after.iter().all(|pid| !before.contains(pid)));
        for pid in after {
            let mut client = nginx.connect_worker(pid).unwrap();
            let answer = client.send(&Request::get(WORKER)).unwrap();
            assert_eq!(answer.text(), pid.to_string());
        }
        let bad = plain().http("no_such_directive on;");
        assert!(
            matches!(nginx.reconfigure(&bad), Err(Error::Nginx(line)) if line.contains("no_such"))
        );
        assert!(nginx.quit().unwrap().success());
        assert!(nginx.connect().is_err());
    }

    #[test]
    fn a_bad_configuration_is_reported() {
        let bad = plain().server("no_such_directive on;");
        let check = check(&bad).unwrap();
        assert!(!check.ok && check.text.contains("no_such_directive"), "{}", check.text);
        assert!(check.text.contains("nginx.conf:"));
        assert!(Nginx::start(&bad).is_err());
        assert!(super::check(&plain()).unwrap().ok);
    }
}
