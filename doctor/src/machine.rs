//! What is known about this machine.

use std::path::PathBuf;

use crate::conf::Conf;
use crate::nginx::Nginx;
use crate::system::{self, User};

/// This machine, and the nginx on it.
pub struct Machine {
    /// The user that runs this program.
    pub me: User,
    /// The user of nginx's workers, or why it is not known.
    pub worker: Result<User, String>,
    /// nginx, if there is one to ask.
    pub nginx: Option<Nginx>,
    /// The time in seconds since 1970.
    pub now: i64,
}

impl Machine {
    /// Looks around; `user` is what the command line says of the workers' user.
    pub fn look(conf: &Conf, user: Option<&str>, nginx: Option<Nginx>) -> Self {
        let built_in = nginx.as_ref().map(|nginx| nginx.build.user.clone());
        let named = match (user, &conf.user) {
            (Some(name), _) => Some((name.to_owned(), None)),
            (None, Some(named)) => Some(named.clone()),
            (None, None) => built_in.map(|name| (name, None)),
        };
        let worker = match named {
            None => {
                Err("nginx's user is not known: there is no nginx to ask; give --user".to_owned())
            }
            Some((name, group)) => User::find(&name, group.as_deref()).ok_or_else(|| {
                format!("there is no user \"{name}\" here, as whom nginx is to run")
            }),
        };
        Self { me: User::current(), worker, nginx, now: system::now() }
    }

    /// The file with nginx's process id, where it is known.
    pub fn pid_file(&self, conf: &Conf) -> Option<PathBuf> {
        let build = self.nginx.as_ref().map(|nginx| &nginx.build);
        match (&conf.pid, build) {
            (Some(pid), Some(build)) => Some(build.prefix.join(pid)),
            (Some(pid), None) => pid.is_absolute().then(|| pid.clone()),
            (None, build) => build.map(|build| build.pid.clone()),
        }
    }
}
