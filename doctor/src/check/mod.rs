//! The command `check`: all that operators look at by hand when tokens are refused, and more.

mod configuration;
pub mod files;
mod service;
mod settings;
mod signing_dir;

use std::path::PathBuf;

use crate::conf::service::Service;
use crate::conf::Conf;
use crate::keystone::Certificates;
use crate::report::Section;
use crate::system::{NginxBuild, User};

pub use self::signing_dir::path_of as signing_dir_of;

/// What is known about this machine.
pub struct Machine {
    /// Who runs this program.
    pub me: User,
    /// The user of nginx's workers, or why it cannot be told.
    pub worker: Result<User, String>,
    /// How nginx was built, if that can be found out.
    pub build: Option<NginxBuild>,
    /// The time in seconds since 1970.
    pub now: i64,
}

impl Machine {
    /// Looks around; `user` and `nginx` are what the command line says of the workers' user and of
    /// where nginx's program is.
    pub fn look(conf: &Conf, user: Option<&str>, nginx: Option<PathBuf>) -> Self {
        let program = nginx.unwrap_or_else(|| {
            // Not in the path of every user.
            let debian = PathBuf::from("/usr/sbin/nginx");
            if debian.exists() {
                debian
            } else {
                PathBuf::from("nginx")
            }
        });
        let build = NginxBuild::ask(&program);
        let built_in = build.as_ref().and_then(|build| build.user.clone());
        let named = match (user, &conf.user, built_in) {
            (Some(name), _, _) => Some((name.to_owned(), None)),
            (None, Some(named), _) => Some(named.clone()),
            (None, None, Some(name)) => Some((name, None)),
            (None, None, None) => None,
        };
        let worker = match named {
            None => {
                Err("nginx's user is not known: there is no nginx to ask; give --user".to_owned())
            }
            Some((name, group)) => User::find(&name, group.as_deref()).ok_or_else(|| {
                format!("there is no user \"{name}\" here, as whom nginx shall run")
            }),
        };
        Self { me: User::current(), worker, build, now: crate::system::now() }
    }
}

/// Checks everything.
pub fn run(conf: &Conf, machine: &Machine) -> Vec<Section> {
    let mut sections = vec![configuration::section(conf, machine)];
    sections.extend(conf.services.iter().map(|service| section(service, machine)));
    sections
}

fn section(service: &Service, machine: &Machine) -> Section {
    let settings = &service.settings;
    // Asked first: what it serves decides what has to be on the disk.
    let (keystone, served) = service::checks(settings, machine.now);
    let mut checks = settings::checks(settings, &served);
    let directory = signing_dir::checks(settings, machine);
    checks.extend(directory);
    if let Some(path) = signing_dir_of(settings, machine) {
        checks.extend(files::checks(&path, settings, &served, machine.now));
    }
    checks.extend(keystone);
    Section {
        name: format!("identity service {}", service.name()),
        users: service.users.clone(),
        verdict: None,
        checks,
    }
}

/// What Keystone serves to verify tokens with.
pub enum Served {
    /// These certificates.
    Certificates(Certificates),
    /// It has none, and so issues no tokens that could be verified with some.
    Nothing,
    /// It could not be asked.
    Unknown,
}
