//! `keystone_signing_dir`: by the rules that the module has for it (`src/signing_dir.rs`), said so
//! that one can act on it, and with what the module cannot see: whether SELinux lets nginx in.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::conf::service::Settings;
use crate::machine::Machine;
use crate::report::{quote, Check};
use crate::system::{self, User};

/// The directory, if it is configured or nginx can be asked for its default.
pub fn path_of(settings: &Settings) -> Option<PathBuf> {
    let path = &settings.signing_dir;
    (!path.as_os_str().is_empty()).then(|| path.clone())
}

/// All checks of the directory itself.
pub fn checks(settings: &Settings, machine: &Machine) -> Vec<Check> {
    let Some(path) = path_of(settings) else {
        let reason =
            "keystone_signing_dir is not set, and there is no nginx to ask for its default";
        return vec![Check::skip("signing_dir.exists", "signing_dir", reason)];
    };
    let directory = match exists(&path, machine) {
        Ok(directory) => directory,
        Err(check) => return vec![check.about(path.display().to_string())],
    };
    let checks = [
        Some(Check::ok("signing_dir.exists", "signing_dir", "it is there")),
        link(&path, machine),
        Some(owner(&path, &directory, machine)),
        Some(mode(&path, &directory, machine)),
        Some(writable(&path, &directory, machine)),
        space(&path),
        selinux(&path),
    ];
    let name = path.display().to_string();
    checks.into_iter().flatten().map(|check| check.about(name.clone())).collect()
}

fn exists(path: &Path, machine: &Machine) -> Result<Metadata, Box<Check>> {
    let (id, title) = ("signing_dir.exists", "signing_dir");
    let broken = match fs::metadata(path) {
        Ok(directory) if directory.is_dir() => return Ok(directory),
        Ok(_) => Check::fail(id, title, "it is not a directory")
            .meaning("nginx does not start")
            .fix(format!("rm {} && nginx -t", quote(&path.display().to_string()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => missing(path, machine),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !machine.me.is_root() => {
            Check::skip(id, title, format!("needs root: {error}"))
        }
        Err(error) => Check::fail(id, title, error.to_string())
            .meaning("nginx does not start")
            .fix(make(path, machine)),
    };
    Err(Box::new(broken))
}

fn missing(path: &Path, machine: &Machine) -> Check {
    let (id, title) = ("signing_dir.exists", "signing_dir");
    let is_link = fs::symlink_metadata(path).is_ok();
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    match parent.is_none_or(Path::is_dir) {
        _ if is_link => Check::fail(id, title, "it is a symbolic link to nowhere")
            .meaning("nginx does not start")
            .fix(format!("rm {} && {}", quote(&path.display().to_string()), make(path, machine))),
        true => Check::warn(id, title, "it is not there")
            .meaning(
                "nginx makes it when it starts, with mode 0700 for its user: it has not been \
                      started with this configuration, or somebody has removed it since",
            )
            .fix(make(path, machine)),
        false => Check::fail(id, title, "neither it nor the directory around it is there")
            .meaning("nginx does not start: it makes the directory, not those above it")
            .fix(make(path, machine)),
    }
}

/// Who could turn a symbolic link elsewhere could decide which tokens are valid.
fn link(path: &Path, machine: &Machine) -> Option<Check> {
    let link = fs::symlink_metadata(path).ok().filter(|it| it.file_type().is_symlink())?;
    let (id, title) = ("signing_dir.link", "symbolic link");
    let meaning =
        "who can turn the link elsewhere decides which tokens are valid: nginx does not start";
    let target = fs::canonicalize(path).map(|path| path.display().to_string()).unwrap_or_default();
    let fix = format!("keystone_signing_dir {target};");
    if !is_trusted(link.uid(), machine) {
        let owner = system::name_of(link.uid());
        return Some(
            Check::fail(id, title, format!("it is a link of user {owner}"))
                .meaning(meaning)
                .fix(fix),
        );
    }
    let parent = path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
    let Ok(parent) = fs::metadata(parent) else { return None };
    let sticky = parent.mode() & 0o1000 != 0;
    let writable = parent.mode() & 0o022 != 0;
    if !is_trusted(parent.uid(), machine) || (writable && !sticky) {
        let detail = "it is a link in a directory that others can write";
        return Some(Check::fail(id, title, detail).meaning(meaning).fix(fix));
    }
    Some(Check::ok(id, title, format!("to {target}, and nobody else can change it")))
}

fn owner(path: &Path, directory: &Metadata, machine: &Machine) -> Check {
    let (id, title) = ("signing_dir.owner", "owner");
    let detail = format!("{} (uid {})", system::name_of(directory.uid()), directory.uid());
    match &machine.worker {
        _ if directory.uid() == 0 => Check::ok(id, title, detail),
        Ok(user) if directory.uid() == user.uid => Check::ok(id, title, detail),
        Ok(user) => Check::fail(id, title, detail)
            .meaning(format!(
                "nginx does not start: the owner decides which tokens are valid, so it must be \
                 root or nginx's user {}",
                user.name
            ))
            .fix(give(path, user)),
        Err(reason) => Check::skip(id, title, format!("{detail}; {reason}")),
    }
}

fn mode(path: &Path, directory: &Metadata, machine: &Machine) -> Check {
    let (id, title) = ("signing_dir.mode", "mode");
    let mode = directory.mode() & 0o7777;
    let fix = format!("chmod 0700 {}", quote(&path.display().to_string()));
    match mode {
        mode if mode & 0o022 != 0 => {
            Check::fail(id, title, format!("{mode:04o}: others can write there"))
                .meaning("nginx does not start: who writes there decides which tokens are valid")
                .fix(fix)
        }
        mode if mode & 0o300 != 0o300 && !machine.worker.as_ref().is_ok_and(User::is_root) => {
            Check::fail(id, title, format!("{mode:04o}: its owner cannot write there"))
                .meaning("nginx does not start: the workers keep certificates and the list there")
                .fix(fix)
        }
        mode if mode & 0o055 != 0 => {
            Check::warn(id, title, format!("{mode:04o}: others can read there"))
                .meaning("nginx warns when it starts; 0700 is enough")
                .fix(fix)
        }
        _ => Check::ok(id, title, format!("{mode:04o}")),
    }
}

fn writable(path: &Path, directory: &Metadata, machine: &Machine) -> Check {
    let (id, title) = ("signing_dir.writable", "writable");
    let user = match &machine.worker {
        Ok(user) => user,
        Err(reason) => return Check::skip(id, title, reason.clone()),
    };
    let bits = || {
        let promised =
            user.is_root() || (directory.uid() == user.uid && directory.mode() & 0o300 == 0o300);
        let verb = if promised { "allow" } else { "forbid" };
        let name = &user.name;
        let detail =
            format!("its owner and mode {verb} it to {name}; needs root to become {name} and try");
        (promised, detail)
    };
    let may_ask = machine.me.is_root() || machine.me.uid == user.uid;
    let asked = may_ask.then(|| system::may_write(path, user).ok()).flatten();
    let (writable, detail) = match asked {
        Some(true) => (true, format!("{} can write there", user.name)),
        Some(false) => (false, format!("{} cannot write there", user.name)),
        None => bits(),
    };
    match writable {
        true if asked.is_none() => Check::skip(id, title, detail),
        true => Check::ok(id, title, detail),
        false if directory.uid() == 0 && !user.is_root() => Check::fail(id, title, detail)
            .meaning("nginx does not start: it is root's own, and the workers write there")
            .fix(give(path, user)),
        false => match system::closed_parent(path, user).filter(|_| may_ask) {
            Some(parent) => closed(&parent, user),
            None => Check::fail(id, title, detail)
                .meaning(
                    "nginx does not start, or cannot keep what it fetches: each restart has to \
                     ask Keystone again. If owner and mode are right, the file system is read-only",
                )
                .fix(try_it(path, user)),
        },
    }
}

/// A full file system, which nginx notices only when it has fetched something.
fn space(path: &Path) -> Option<Check> {
    let found = statvfs(path).ok()?;
    let lacks = match () {
        () if found.blocks() > 0 && found.blocks_available() == 0 => "space",
        // Some file systems do not count them.
        () if found.files() > 0 && found.files_available() == 0 => "inodes",
        () => return None,
    };
    let detail = format!("no {lacks} left for nginx's user on its file system");
    let path = quote(&path.display().to_string());
    Some(
        Check::fail("signing_dir.space", "space", detail)
            .meaning(
                "the workers cannot keep what they fetch: each restart has to ask Keystone again, \
                 and means 503 for PKI tokens while Keystone is down",
            )
            .fix(match lacks {
                "inodes" => format!("df -i {path}"),
                _ => format!("df -h {path}"),
            }),
    )
}

/// A directory above that the user may not enter.
fn closed(parent: &Path, user: &User) -> Check {
    let shown = parent.display().to_string();
    let mode = fs::metadata(parent).map_or(0, |it| it.mode() & 0o7777);
    let detail = format!("{shown} (mode {mode:04o}) is closed to {}", user.name);
    Check::fail("signing_dir.writable", "writable", detail)
        .meaning(
            "the workers can neither read nor write below it: they cannot keep what they fetch, \
             and each restart has to ask Keystone again",
        )
        .fix(format!("chmod o+x {}", quote(&shown)))
}

/// What the label has to be, and how it gets there (the policy module of nginx in Fedora and RHEL).
fn selinux(path: &Path) -> Option<Check> {
    if !system::has_selinux() {
        return None;
    }
    let (id, title) = ("signing_dir.selinux", "SELinux label");
    let Some(label) = system::selinux_label(path) else {
        return Some(Check::skip(id, title, "it has no label, or none that can be read here"));
    };
    Some(match may_be_written_by_nginx(&label) {
        true => Check::ok(id, title, label),
        false => Check::warn(id, title, label)
            .meaning(
                "nginx runs as httpd_t, which the usual policy lets write to httpd_cache_t \
                      and httpd_var_lib_t only: below /var/cache/nginx or /var/lib/nginx a \
                      directory has such a label",
            )
            .fix(format!(
                "restorecon -R -v {}; ausearch -m avc -c nginx",
                quote(&path.display().to_string())
            )),
    })
}

fn may_be_written_by_nginx(label: &str) -> bool {
    let kind = label.split(':').nth(2).unwrap_or_default();
    matches!(
        kind,
        "httpd_cache_t" | "httpd_var_lib_t" | "httpd_sys_rw_content_t" | "httpd_var_run_t"
    )
}

fn is_trusted(uid: u32, machine: &Machine) -> bool {
    // Without a user to compare with, only what is certain is told.
    uid == 0 || machine.worker.as_ref().map_or(true, |user| user.uid == uid)
}

fn make(path: &Path, machine: &Machine) -> String {
    let user = machine.worker.as_ref().map_or("NGINX_USER", |user| user.name.as_str());
    format!("install -d -o {user} -m 0700 {}", quote(&path.display().to_string()))
}

fn give(path: &Path, user: &User) -> String {
    let path = quote(&path.display().to_string());
    format!("chown -R {}: {path} && chmod 0700 {path}", user.name)
}

fn try_it(path: &Path, user: &User) -> String {
    let probe = path.join("probe").display().to_string();
    let command = format!("touch {0} && rm {0}", quote(&probe));
    format!("su -s /bin/sh {} -c {}", user.name, quote(&command))
}

#[cfg(test)]
mod tests {
    use super::may_be_written_by_nginx;

    #[test]
    fn labels_tell_whether_nginx_may_write() {
        assert!(may_be_written_by_nginx("system_u:object_r:httpd_var_lib_t:s0"));
        assert!(may_be_written_by_nginx("unconfined_u:object_r:httpd_cache_t:s0"));
        for label in
            ["system_u:object_r:var_lib_t:s0", "unconfined_u:object_r:user_tmp_t:s0", "", "x"]
        {
            assert!(!may_be_written_by_nginx(label), "{label}");
        }
    }
}
