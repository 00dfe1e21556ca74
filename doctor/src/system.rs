//! What this machine says: its users, how nginx was built, who may write where.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// A user of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its id.
    pub uid: u32,
    /// The id of its group.
    pub gid: u32,
}

impl User {
    /// The user of that name; with its own group, unless one is named.
    pub fn find(name: &str, group: Option<&str>) -> Option<Self> {
        let c_name = CString::new(name).ok()?;
        // SAFETY: the name is null-terminated; this program has one thread, so that nothing else
        // uses the buffer that the answer lies in.
        let entry = unsafe { libc::getpwnam(c_name.as_ptr()).as_ref() }?;
        let (uid, mut gid) = (entry.pw_uid, entry.pw_gid);
        if let Some(group) = group {
            let group = CString::new(group).ok()?;
            // SAFETY: as above.
            gid = unsafe { libc::getgrnam(group.as_ptr()).as_ref() }?.gr_gid;
        }
        Some(Self { name: name.to_owned(), uid, gid })
    }

    /// The user that runs this program.
    pub fn current() -> Self {
        // SAFETY: plain system calls without arguments.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        Self { name: name_of(uid), uid, gid }
    }

    /// Whether this is root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// The name of a user, or its number.
pub fn name_of(uid: u32) -> String {
    // SAFETY: as in `User::find`; the name lies in the same buffer and is copied.
    let name = unsafe {
        let entry = libc::getpwuid(uid).as_ref();
        entry.map(|entry| CStr::from_ptr(entry.pw_name).to_string_lossy().into_owned())
    };
    name.unwrap_or_else(|| uid.to_string())
}

/// Whether `user` may make files in `directory`, as the kernel says when that user asks; only root
/// can find out about others.
pub fn may_write(directory: &Path, user: &User) -> io::Result<bool> {
    let mut command = Command::new("test");
    command.arg("-w").arg(directory).arg("-a").arg("-x").arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if User::current().is_root() {
        command.uid(user.uid).gid(user.gid);
    }
    command.status().map(|status| status.success())
}

/// Whether SELinux is at work here.
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The SELinux label of a file.
pub fn selinux_label(path: &Path) -> Option<String> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut label = [0u8; 256];
    // SAFETY: both names are null-terminated, and the buffer is as long as is said.
    let len = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.selinux".as_ptr(),
            label.as_mut_ptr().cast(),
            label.len(),
        )
    };
    let label = label.get(..usize::try_from(len).ok()?)?;
    Some(String::from_utf8_lossy(label).trim_end_matches('\0').to_owned())
}

/// How nginx was built, as `nginx -V` tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NginxBuild {
    /// The user of the workers where `nginx.conf` names none.
    pub user: Option<String>,
    /// Where `keystone_signing_dir` is by default.
    pub signing_dir: Option<PathBuf>,
}

impl NginxBuild {
    /// Asks the program; `None` if there is none.
    pub fn ask(program: &Path) -> Option<Self> {
        let output = Command::new(program).arg("-V").stdin(Stdio::null()).output().ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&output.stderr)))
    }

    fn parse(text: &str) -> Self {
        let option = |name: &str| {
            let mut words = text.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let prefix = option("--prefix").unwrap_or_else(|| "/usr/local/nginx".to_owned());
        let temporary = option("--http-proxy-temp-path").unwrap_or_else(|| "proxy_temp".to_owned());
        let temporary = Path::new(&prefix).join(temporary);
        Self {
            user: Some(option("--user").unwrap_or_else(|| "nobody".to_owned())),
            signing_dir: temporary.parent().map(|parent| parent.join("keystone")),
        }
    }
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
    fn the_default_directory_is_beside_nginx_s_own() {
        let debian = "configure arguments: --prefix=/usr/share/nginx --with-debug \
                      --http-proxy-temp-path=/var/lib/nginx/proxy --user=www-data";
        let build = NginxBuild::parse(debian);
        assert_eq!(build.user.as_deref(), Some("www-data"));
        assert_eq!(build.signing_dir.as_deref(), Some(Path::new("/var/lib/nginx/keystone")));
        let plain = NginxBuild::parse("nginx version: nginx/1.28.3");
        assert_eq!(plain.user.as_deref(), Some("nobody"));
        assert_eq!(plain.signing_dir.as_deref(), Some(Path::new("/usr/local/nginx/keystone")));
    }

    #[test]
    fn users_have_names_and_numbers() {
        let root = User::find("root", None).unwrap();
        assert!(root.is_root());
        assert_eq!(name_of(0), "root");
        assert_eq!(User::find("no such user", None), None);
    }
}
