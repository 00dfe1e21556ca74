//! Facts about the system: users, permissions of files, the time.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{self, Uid};

/// A user of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// The login name.
    pub name: String,
    pub uid: u32,
    /// The id of its group.
    pub gid: u32,
}

impl User {
    /// The user of that name; with its own group, unless one is named.
    pub fn find(name: &str, group: Option<&str>) -> Option<Self> {
        let entry = unistd::User::from_name(name).ok()??;
        let gid = match group {
            Some(group) => unistd::Group::from_name(group).ok()??.gid,
            None => entry.gid,
        };
        Some(Self { name: name.to_owned(), uid: entry.uid.as_raw(), gid: gid.as_raw() })
    }

    /// The user that runs this program.
    pub fn current() -> Self {
        let (uid, gid) = (unistd::geteuid().as_raw(), unistd::getegid().as_raw());
        Self { name: name_of(uid), uid, gid }
    }

    /// Whether this is the superuser, user id 0.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// The name of a user, or its number.
pub fn name_of(uid: u32) -> String {
    let entry = unistd::User::from_uid(Uid::from_raw(uid)).ok().flatten();
    entry.map_or_else(|| uid.to_string(), |entry| entry.name)
}

/// Whether `user` may make files in `directory`, as the kernel says when that user asks; only root
/// can find out about others.
pub fn may_write(directory: &Path, user: &User) -> io::Result<bool> {
    Ok(test("-w", directory, user)? && test("-x", directory, user)?)
}

/// Whether `user` may connect to a Unix socket; only root can find out about others.
pub fn may_open_socket(socket: &Path, user: &User) -> io::Result<bool> {
    test("-w", socket, user)
}

/// The first directory on the way to `path` that `user` may not enter; only root can find out
/// about others.
pub fn closed_parent(path: &Path, user: &User) -> Option<PathBuf> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
    parents.reverse();
    let is_closed = |parent: &&Path| test("-x", parent, user).is_ok_and(|may_enter| !may_enter);
    parents.into_iter().filter(|it| *it != Path::new("")).find(is_closed).map(Path::to_owned)
}

/// What test(1) says when `user` asks.
fn test(question: &str, path: &Path, user: &User) -> io::Result<bool> {
    let ask = |mut command: Command| {
        command.arg(question).arg(path).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().map(|status| status.success())
    };
    let mut alone = Command::new("test");
    if !User::current().is_root() {
        return ask(alone);
    }
    alone.uid(user.uid).gid(user.gid);
    // nginx's workers are also in the other groups of their user. Where setpriv(1) is not there to
    // say what these may do, the user and its group count.
    let mut with_groups = Command::new("setpriv");
    with_groups.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
    with_groups.args(["--init-groups", "test"]);
    Ok(ask(alone)? || ask(with_groups).unwrap_or(false))
}

/// Whether SELinux is at work here.
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The SELinux label of a file.
pub fn selinux_label(path: &Path) -> Option<String> {
    let output = Command::new("stat").args(["-L", "-c", "%C"]).arg(path).output().ok()?;
    let label = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && label.contains(':')).then_some(label)
}

/// The time in seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// How many seconds ago a file was written.
pub fn age_of(metadata: &fs::Metadata) -> Option<i64> {
    let written = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(now() - i64::try_from(written.as_secs()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_and_numbers() {
        let root = User::find("root", None).unwrap();
        assert!(root.is_root());
        assert_eq!(name_of(0), "root");
        assert_eq!(User::find("no such user", None), None);
    }
}
