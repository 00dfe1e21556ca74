//! A real memcached, and hands to look into it and to meddle with what lies there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::nginx::kill;
use crate::port::Port;
use crate::temp::{set_mode, TempDir};
use crate::{wait_for, During, Error, Result};

/// A running memcached; dropping it ends it.
pub struct Memcached {
    place: Place,
    /// `None` once it was stopped.
    child: Option<Child>,
}

enum Place {
    Tcp(Port),
    Unix(TempDir),
}

/// An entry, as memcached lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key of the entry.
    pub name: String,
    /// When memcached forgets it, in seconds since 1970; `None` for never.
    pub expires_at: Option<i64>,
}

impl Memcached {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        Self::start_at(Place::Tcp(Port::free()?))
    }

    /// Starts one on a socket in a directory of its own.
    pub fn start_unix() -> Result<Self> {
        let dir = TempDir::new("memcached")?;
        // memcached creates the socket after it has changed to user nobody.
        set_mode(dir.path(), 0o777)?;
        Self::start_at(Place::Unix(dir))
    }

    fn start_at(place: Place) -> Result<Self> {
        let mut memcached = Self { place, child: None };
        memcached.restart()?;
        Ok(memcached)
    }

    /// The server, as `keystone_memcached_servers` names it.
    pub fn server(&self) -> String {
        match &self.place {
            Place::Tcp(port) => port.address().to_string(),
            Place::Unix(dir) => format!("unix:{}", socket(dir).display()),
        }
    }

    /// Kills it, as a crash does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again in the same place, with nothing in it.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let mut command = Command::new("memcached");
        // Only root can change its user.
        command.args(["-U", "0", "-u", "nobody", "-t", "1"]);
        // A list of the entries lacks those that are just being moved from one LRU to another.
        command.args(["-o", "no_lru_maintainer"]);
        match &self.place {
            Place::Tcp(port) => {
                command.args(["-l", "127.0.0.1", "-p", &port.number().to_string()]);
            }
            Place::Unix(dir) => {
                let _ = std::fs::remove_file(socket(dir));
                command.arg("-s").arg(socket(dir)).args(["-a", "0777"]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        wait_for("memcached to answer", || {
            // It ends where the port is taken: a process that another test is just starting holds
            // all sockets until its program runs.
            let runs =
                self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            if !runs {
                match command.spawn().during("starting memcached") {
                    Ok(child) => self.child = Some(child),
                    Err(error) => return Some(Err(error)),
                }
            }
            self.converse("version\r\n", &["VERSION "]).ok().map(|_| Ok(()))
        })?
    }

    /// Keeps it from answering, while it still takes connections.
    pub fn freeze(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// Ends [`Memcached::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    /// All entries of the server.
    pub fn entries(&self) -> Result<Vec<Listed>> {
        wait_for("memcached to list its entries", || {
            // It says BUSY while it still makes another list.
            let lines = self.converse("lru_crawler metadump all\r\n", &["END", "BUSY"]);
            match lines {
                Ok(lines) if lines.last().is_some_and(|line| line.starts_with("BUSY")) => None,
                lines => {
                    Some(lines.map(|lines| {
                        lines.iter().filter_map(|line| listed(line)).collect::<Vec<_>>()
                    }))
                }
            }
        })?
    }

    /// The names of all that lies there.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.entries()?.into_iter().map(|entry| entry.name).collect())
    }

    /// What lies under a name.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut stream = self.connect()?;
        stream.get_mut().write_all(format!("get {name}\r\n").as_bytes()).during(TALKING)?;
        let head = line(&mut stream)?;
        if head == "END" {
            return Ok(None);
        }
        let len = head.rsplit(' ').next().and_then(|len| len.parse().ok());
        let len: usize = len.ok_or_else(|| Error::Memcached(head.clone()))?;
        let mut value = vec![0; len];
        stream.read_exact(&mut value).during(TALKING)?;
        Ok(Some(value))
    }

    /// Puts something under a name, for ever.
    pub fn write(&self, name: &str, value: &[u8]) -> Result<()> {
        let mut stream = self.connect()?;
        let head = format!("set {name} 0 0 {}\r\n", value.len());
        let command = [head.as_bytes(), value, b"\r\n"].concat();
        stream.get_mut().write_all(&command).during(TALKING)?;
        match line(&mut stream)? {
            answer if answer == "STORED" => Ok(()),
            answer => Err(Error::Memcached(answer)),
        }
    }

    /// Replaces all values by something made of them.
    pub fn rewrite(&self, mut change: impl FnMut(Vec<u8>) -> Vec<u8>) -> Result<()> {
        for name in self.names()? {
            if let Some(value) = self.read(&name)? {
                self.write(&name, &change(value))?;
            }
        }
        Ok(())
    }

    /// Puts what lies under each of two names under the other.
    pub fn swap(&self, one: &str, other: &str) -> Result<()> {
        let missing = |name: &str| Error::Memcached(format!("nothing under {name}"));
        let first = self.read(one)?.ok_or_else(|| missing(one))?;
        let second = self.read(other)?.ok_or_else(|| missing(other))?;
        self.write(one, &second)?;
        self.write(other, &first)
    }

    /// The number of `get` commands.
    pub fn gets(&self) -> Result<u64> {
        let lines = self.converse("stats\r\n", &["END"])?;
        let count = lines.iter().find_map(|line| line.strip_prefix("STAT cmd_get ")?.parse().ok());
        count.ok_or_else(|| Error::Memcached("it does not count".into()))
    }

    /// Removes all entries.
    pub fn flush(&self) -> Result<()> {
        self.converse("flush_all\r\n", &["OK"]).map(|_| ())
    }

    fn signal(&self, signal: i32) -> Result<()> {
        match &self.child {
            Some(child) => kill(child.id() as i32, signal),
            None => Err(Error::Memcached("it is stopped".into())),
        }
    }

    /// The lines of an answer, up to one that begins with one of the words in `last`.
    fn converse(&self, command: &str, last: &[&str]) -> Result<Vec<String>> {
        let mut stream = self.connect()?;
        stream.get_mut().write_all(command.as_bytes()).during(TALKING)?;
        let mut lines = Vec::new();
        loop {
            let line = line(&mut stream)?;
            let is_last = last.iter().any(|word| line.starts_with(word));
            let is_error = line.contains("ERROR");
            if is_error {
                return Err(Error::Memcached(line));
            }
            lines.push(line);
            if is_last {
                return Ok(lines);
            }
        }
    }

    fn connect(&self) -> Result<BufReader<Stream>> {
        let stream = match &self.place {
            Place::Tcp(port) => {
                let stream = TcpStream::connect(port.address()).during(TALKING)?;
                stream.set_read_timeout(Some(PATIENCE)).during(TALKING)?;
                Stream::Tcp(stream)
            }
            Place::Unix(dir) => {
                let stream = UnixStream::connect(socket(dir)).during(TALKING)?;
                stream.set_read_timeout(Some(PATIENCE)).during(TALKING)?;
                Stream::Unix(stream)
            }
        };
        Ok(BufReader::new(stream))
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.stop();
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.join("memcached.sock")
}

fn line(stream: &mut BufReader<Stream>) -> Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).during(TALKING)? {
        0 => Err(Error::Memcached("it hung up".into())),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// `key=keystone%2Fa1 exp=1700000000 la=...`; a name without an escape for what needs none.
fn listed(line: &str) -> Option<Listed> {
    let field = |name: &str| {
        let mut fields = line.split(' ');
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let mut name = Vec::new();
    let mut rest = field("key")?.as_bytes();
    while let [byte, after @ ..] = rest {
        let escaped = match (byte, after.split_first_chunk::<2>()) {
            (b'%', Some((hex, after))) => {
                let hex = std::str::from_utf8(hex).ok()?;
                Some((u8::from_str_radix(hex, 16).ok()?, after))
            }
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*byte, after));
        name.push(byte);
        rest = after;
    }
    let expires_at: i64 = field("exp")?.parse().ok()?;
    Some(Listed {
        name: String::from_utf8(name).ok()?,
        expires_at: (expires_at > 0).then_some(expires_at),
    })
}

const TALKING: &str = "talking to memcached";

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_listed_read_written_and_swapped() {
        for memcached in [Memcached::start().unwrap(), Memcached::start_unix().unwrap()] {
            assert!(memcached.names().unwrap().is_empty());
            memcached.write("keystone/1", b"one\r\nEND\r\n").unwrap();
            memcached.write("keystone/2", &[0, 255]).unwrap();
            let mut names = memcached.names().unwrap();
            names.sort();
            assert_eq!(names, ["keystone/1", "keystone/2"]);
            assert_eq!(memcached.entries().unwrap()[0].expires_at, None);
            memcached.swap("keystone/1", "keystone/2").unwrap();
            assert_eq!(memcached.read("keystone/1").unwrap().unwrap(), [0, 255]);
            assert_eq!(memcached.read("keystone/2").unwrap().unwrap(), b"one\r\nEND\r\n");
            memcached.rewrite(|value| [&value[..], b"!"].concat()).unwrap();
            assert_eq!(memcached.read("keystone/1").unwrap().unwrap(), [0, 255, b'!']);
            let gets = memcached.gets().unwrap();
            memcached.flush().unwrap();
            assert_eq!(memcached.read("keystone/1").unwrap(), None);
            assert_eq!(memcached.gets().unwrap(), gets + 1);
        }
    }

    #[test]
    fn it_stops_and_comes_back_empty() {
        let mut memcached = Memcached::start().unwrap();
        memcached.write("a", b"b").unwrap();
        memcached.stop();
        assert!(memcached.read("a").is_err());
        memcached.restart().unwrap();
        assert_eq!(memcached.read("a").unwrap(), None);
        memcached.freeze().unwrap();
        memcached.thaw().unwrap();
        assert!(memcached.names().unwrap().is_empty());
    }
}
