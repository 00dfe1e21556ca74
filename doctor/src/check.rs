//! The command `check`: all that operators look at by hand when tokens are refused, and more.

mod clock;
mod configuration;
pub mod files;
mod listen;
mod memcached;
mod service;
mod settings;
mod signing_dir;

use crate::conf::service::Service;
use crate::conf::Conf;
use crate::report::Section;

pub use self::signing_dir::path_of as signing_dir_of;
pub use crate::machine::Machine;

/// Runs all checks, in the order of the report.
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
    if let Some(path) = signing_dir_of(settings) {
        checks.extend(files::checks(&path, settings, &served, machine.now));
    }
    checks.extend(keystone);
    checks.extend(memcached::checks(settings, machine));
    Section {
        name: format!("identity service {}", service.name()),
        users: service.users.clone(),
        verdict: None,
        checks,
    }
}
