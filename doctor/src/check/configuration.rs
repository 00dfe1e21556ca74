//! What the configuration says of itself.

use super::Machine;
use crate::conf::{Conf, Hazard, HazardKind};
use crate::report::{Check, Section};

/// The section about the configuration.
pub fn section(conf: &Conf, machine: &Machine) -> Section {
    let mut checks = Vec::new();
    for problem in &conf.problems {
        let check = Check::fail("configuration.include", "included file", problem.text.clone());
        let check = check.about(problem.place.to_string());
        checks.push(match machine.me.is_root() {
            true => check.meaning("nginx does not start"),
            false => check
                .meaning("nginx does not start, unless only root may read it: run this as root"),
        });
    }
    checks.extend(servers(conf));
    checks.extend(conf.hazards.iter().map(hazard));
    checks.push(worker(machine));
    let name = match &conf.path {
        Some(path) => path.display().to_string(),
        None => "the command line".to_owned(),
    };
    Section { name, checks, ..Section::default() }
}

fn servers(conf: &Conf) -> Option<Check> {
    conf.path.as_ref()?;
    let (all, asking) = conf.servers;
    let (id, title) = ("configuration.servers", "servers");
    let detail = format!("{asking} of {all} servers ask for tokens");
    Some(match asking {
        0 if !conf.problems.is_empty() => {
            Check::skip(id, title, format!("{detail}, of what could be read"))
        }
        0 => Check::fail(id, title, detail)
            .meaning(
                "nothing is protected: no server and no location sets keystone_auth to on or delay",
            )
            .fix("keystone_auth on;"),
        _ => Check::ok(id, title, detail),
    })
}

fn hazard(hazard: &Hazard) -> Check {
    let check = match hazard.kind {
        HazardKind::InvalidHeaders => Check::warn(
            "configuration.ignore_invalid_headers",
            "invalid headers",
            "ignore_invalid_headers is off",
        )
        .meaning(
            "nginx passes on header names with any bytes. The module removes identity headers in \
             every spelling that it knows, but an application may fold names in a way of its own",
        )
        .fix("ignore_invalid_headers on;    # nginx's default"),
        HazardKind::PostAction => Check::warn(
            "configuration.post_action",
            "post_action",
            "post_action is set",
        )
        .meaning(
            "nginx uses memory that it has freed when a refused request meets it, also with its own \
             access modules",
        )
        .fix("use mirror or an access log instead"),
    };
    check.about(hazard.place.to_string())
}

fn worker(machine: &Machine) -> Check {
    let (id, title) = ("configuration.user", "nginx's user");
    match &machine.worker {
        Ok(user) => {
            Check::ok(id, title, format!("{} (uid {}, gid {})", user.name, user.uid, user.gid))
        }
        Err(reason) => Check::skip(id, title, reason.clone()),
    }
}
