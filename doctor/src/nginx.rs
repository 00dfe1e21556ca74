//! nginx itself: how it was built, what it says of a configuration, and whether it runs.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{sysconf, SysconfVar};

use crate::conf::reader::Dump;

/// A program that can be asked.
pub struct Nginx {
    program: PathBuf,
    /// What it is started with as `-p`, if it is.
    prefix: Option<PathBuf>,
    /// What `nginx -V` prints.
    pub build: Build,
}

impl Nginx {
    /// The program that is installed; `None` if there is none.
    pub fn find(prefix: Option<PathBuf>) -> Option<Self> {
        // Not in the path of every user.
        let debian = PathBuf::from("/usr/sbin/nginx");
        Self::at(if debian.exists() { debian } else { PathBuf::from("nginx") }, prefix).ok()
    }

    /// This program.
    pub fn at(program: PathBuf, prefix: Option<PathBuf>) -> io::Result<Self> {
        let output = Command::new(&program).arg("-V").stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        match said.contains("configure arguments:") {
            true => {
                let build = Build::parse(&said, prefix.as_deref());
                Ok(Self { program, prefix, build })
            }
            false => Err(io::Error::other("it is not nginx")),
        }
    }

    /// Lets nginx test a configuration, and print it if it is good.
    pub fn test(&self, conf: &Path) -> Tested {
        let output = Command::new(&self.program)
            .arg("-T")
            .arg("-c")
            .arg(conf)
            .args(self.prefix.iter().flat_map(|it| [OsStr::new("-p"), it.as_os_str()]))
            .current_dir("/")
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Tested::new(output.status.success(), &said, &output.stdout)
            }
            Err(error) => Tested {
                refusal: Some(format!("{}: {error}", self.program.display())),
                ..Tested::default()
            },
        }
    }

    /// The command for an operator.
    pub fn command(&self, conf: &Path) -> String {
        let words = [self.program.display().to_string(), conf.display().to_string()];
        let [program, conf] = words.map(|word| crate::report::quote(&word));
        let prefix = self.prefix.as_ref().map(|it| it.display().to_string());
        let prefix = prefix.map(|it| format!(" -p {}", crate::report::quote(&it)));
        format!("{program} -t{} -c {conf}", prefix.unwrap_or_default())
    }
}

/// What nginx says of a configuration.
#[derive(Default)]
pub struct Tested {
    /// Why nginx does not accept it.
    pub refusal: Option<String>,
    /// Whether it could not read or write what only root may.
    pub is_forbidden: bool,
    /// What `nginx -t` logs at `warn`.
    pub warnings: Vec<String>,
    /// All files, if it accepts them.
    pub dump: Option<Dump>,
}

impl Tested {
    fn new(accepted: bool, said: &str, printed: &[u8]) -> Self {
        let lines = |level: &'static str| {
            said.lines().filter_map(move |line| {
                let (_, text) = line.split_once(level)?;
                Some(without_process(text.trim()).to_owned())
            })
        };
        if accepted {
            let (warnings, dump) = (lines("[warn]").collect(), Some(Dump::parse(printed)));
            return Self { warnings, dump, ..Self::default() };
        }
        // Of some failures, nginx only logs the system call.
        let levels = ["[emerg]", "[crit]", "[alert]"];
        let refusal = levels.into_iter().find_map(|level| lines(level).next());
        let refusal = refusal.or_else(|| said.lines().last().map(str::to_owned));
        let refusal = refusal.unwrap_or_else(|| "it says nothing".to_owned());
        // In nginx's own words, and in those of the module.
        let is_forbidden = refusal.contains("(13: ") || refusal.contains("(os error 13)");
        Self { is_forbidden, refusal: Some(refusal), ..Self::default() }
    }
}

/// What an error log has behind the level, without the ids of process and thread.
fn without_process(text: &str) -> &str {
    let is_id = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let after = text.split_once(": ").filter(|(ids, _)| {
        ids.split_once('#').is_some_and(|(process, thread)| is_id(process) && is_id(thread))
    });
    after.map_or(text, |(_, text)| text)
}

/// How nginx was built, as `nginx -V` prints it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Build {
    /// The user of the workers where `nginx.conf` names none.
    pub user: String,
    /// Where `keystone_signing_dir` is by default.
    pub signing_dir: PathBuf,
    /// Where the process id is by default.
    pub pid: PathBuf,
    /// The configuration that is read by default.
    pub conf: PathBuf,
    /// Where other relative paths start.
    pub prefix: PathBuf,
}

impl Build {
    /// Of the output, and of the prefix that is used in place of the built-in one.
    fn parse(text: &str, prefix: Option<&Path>) -> Self {
        let option = |name: &str| {
            let mut words = text.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let built_in = || option("--prefix").unwrap_or_else(|| "/usr/local/nginx".to_owned());
        let prefix = prefix.map_or_else(|| PathBuf::from(built_in()), Path::to_owned);
        let path = |name: &str, default: &str| {
            prefix.join(option(name).unwrap_or_else(|| default.to_owned()))
        };
        let temporary = path("--http-proxy-temp-path", "proxy_temp");
        Self {
            user: option("--user").unwrap_or_else(|| "nobody".to_owned()),
            signing_dir: temporary.parent().unwrap_or(Path::new("/")).join("keystone"),
            pid: path("--pid-path", "logs/nginx.pid"),
            conf: path("--conf-path", "conf/nginx.conf"),
            prefix,
        }
    }
}

/// A master process that runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Master {
    /// Process id of the master.
    pub pid: u32,
    /// The configuration that its command line names, from the root or from its prefix.
    pub conf: Option<PathBuf>,
    /// The prefix that its command line names.
    pub prefix: Option<PathBuf>,
    /// Since when it goes by its configuration, in seconds since 1970: since its last reload, or
    /// since its start.
    pub since: i64,
}

impl Master {
    /// The one whose id is in the file; `None` if there is none.
    pub fn find(pid_file: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(pid_file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let Some(pid) = text.trim().parse().ok() else { return Ok(None) };
        let Some(process) = Process::read(pid) else { return Ok(None) };
        // The id may have been given to another program since, whose arguments can name nginx.
        let program = process.title.split_whitespace().next().unwrap_or_default();
        if !program.contains("nginx") {
            return Ok(None);
        }
        let option = |letter| option_of(&process.title, letter).map(PathBuf::from);
        // A reload starts new workers; one that has crashed is replaced by one that is younger.
        let reloaded = workers_of(pid).map(|worker| worker.started).min();
        Ok(Some(Self {
            pid,
            conf: option('c'),
            prefix: option('p'),
            since: reloaded.unwrap_or(process.started).max(process.started),
        }))
    }
}

/// The argument of an option of nginx's, as in `-c FILE`, `-cFILE` and `-qc FILE`.
fn option_of(title: &str, letter: char) -> Option<&str> {
    let mut words = title.split_whitespace();
    let mut found = None;
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-') else { continue };
        let Some(at) = letters.find(['c', 'e', 'g', 'p', 's']) else { continue };
        let (option, rest) = letters[at..].split_at(1);
        let argument = if rest.is_empty() { words.next() } else { Some(rest) };
        if option.starts_with(letter) {
            found = argument;
        }
    }
    found
}

/// The workers of a master that take connections.
fn workers_of(master: u32) -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).filter(move |process| {
        process.parent == master
            && process.title.starts_with("nginx: worker process")
            && !process.title.contains("shutting down")
    })
}

/// A process, as `/proc` shows it.
struct Process {
    parent: u32,
    title: String,
    /// In seconds since 1970.
    started: i64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let title: Vec<u8> =
            title.into_iter().map(|byte| if byte == 0 { b' ' } else { byte }).collect();
        // The name in parentheses may have anything in it. What follows begins with field 3
        // (proc_pid_stat(5)): field 4 is the parent, field 22 the start in ticks since the boot.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: i64 = fields.get(19)?.parse().ok()?;
        let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            title: String::from_utf8_lossy(&title).trim().to_owned(),
            started: boot_time()? + ticks.checked_div(per_second)?,
        })
    }
}

fn boot_time() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_that_nginx_was_built_with() {
        let debian = "configure arguments: --prefix=/usr/share/nginx --with-debug \
                      --conf-path=/etc/nginx/nginx.conf --pid-path=/run/nginx.pid \
                      --http-proxy-temp-path=/var/lib/nginx/proxy --user=www-data";
        let build = Build::parse(debian, None);
        assert_eq!(build.user, "www-data");
        assert_eq!(build.signing_dir, Path::new("/var/lib/nginx/keystone"));
        assert_eq!(build.pid, Path::new("/run/nginx.pid"));
        assert_eq!(build.conf, Path::new("/etc/nginx/nginx.conf"));
        let build = Build::parse(debian, Some(Path::new("/opt/gateway")));
        assert_eq!(build.prefix, Path::new("/opt/gateway"));
        assert_eq!(build.pid, Path::new("/run/nginx.pid"));
        let plain = Build::parse("nginx version: nginx/1.28.3", None);
        assert_eq!(plain.user, "nobody");
        assert_eq!(plain.signing_dir, Path::new("/usr/local/nginx/keystone"));
        assert_eq!(plain.pid, Path::new("/usr/local/nginx/logs/nginx.pid"));
        let other = Build::parse("nginx version: nginx/1.28.3", Some(Path::new("/opt/gateway")));
        assert_eq!(other.signing_dir, Path::new("/opt/gateway/keystone"));
    }

    #[test]
    fn options_are_read_as_nginx_reads_them() {
        for (words, conf, prefix) in [
            ("", None, None),
            ("-c /a", Some("/a"), None),
            ("-c/a", Some("/a"), None),
            ("-qc /a", Some("/a"), None),
            ("-c /a -c /b", Some("/b"), None),
            ("-p /opt/ -c conf/a", Some("conf/a"), Some("/opt/")),
            ("-g daemon off; -c /a", Some("/a"), None),
            ("-e /c -p/opt", None, Some("/opt")),
        ] {
            let title = format!("nginx: master process /usr/sbin/nginx {words}");
            let found = (option_of(&title, 'c'), option_of(&title, 'p'));
            assert_eq!(found, (conf, prefix), "{words}");
        }
    }

    #[test]
    fn what_nginx_says_is_distinguished() {
        let said = "nginx: [warn] a in /x:1\n2026/11/29 [warn] 1#1: b in /x:2\nnginx: the \
                    configuration file /x syntax is ok\n";
        let tested = Tested::new(true, said, b"# configuration file /x:\nevents {}\n");
        assert_eq!(tested.warnings, ["a in /x:1", "b in /x:2"]);
        assert!(tested.dump.is_some_and(|dump| dump.has(Path::new("/x"))));
        let said = "nginx: [emerg] unknown directive \"x\" in /x:3\nnginx: configuration file /x \
                    test failed\n";
        let tested = Tested::new(false, said, b"");
        assert_eq!(tested.refusal.as_deref(), Some("unknown directive \"x\" in /x:3"));
        assert!(!tested.is_forbidden);
        let said =
            "nginx: [crit] pread() \"/etc/nginx/conf.d\" failed (21: Is a directory)\nnginx: \
                    configuration file /x test failed\n";
        let refusal = Tested::new(false, said, b"").refusal;
        assert!(refusal.is_some_and(|it| it.starts_with("pread()")));
        let said = "nginx: [emerg] open() \"/run/nginx.pid\" failed (13: Permission denied)\n";
        assert!(Tested::new(false, said, b"").is_forbidden);
        let said = "nginx: [emerg] cannot read \"/p\" of \"keystone_password\" directive: \
                    Permission denied (os error 13) in /x:3\n";
        assert!(Tested::new(false, said, b"").is_forbidden);
    }

    #[test]
    fn this_process_has_started_before_now() {
        let process = Process::read(std::process::id()).unwrap();
        let age = crate::system::now() - process.started;
        assert!((0..3_600).contains(&age), "{age}");
    }
}
