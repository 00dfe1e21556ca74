//! What nginx says of the configuration, what the configuration says of itself, and whether nginx
//! goes by it.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use keystone_conf::is_same_file;

use super::listen;
use crate::conf::reader::Problem;
use crate::conf::{Conf, Hazard, HazardKind};
use crate::machine::Machine;
use crate::nginx::{Master, Tested};
use crate::report::{quote, span, Check, Section};

/// The section about the configuration.
pub fn section(conf: &Conf, machine: &Machine) -> Section {
    let mut checks = Vec::new();
    if let Some(path) = &conf.path {
        checks.extend(tested(path, conf.tested.as_ref(), machine));
    }
    checks.extend(conf.unreadable.iter().map(|problem| unreadable(problem, machine)));
    checks.extend(refused(conf, machine));
    checks.extend(load_module(conf));
    checks.extend(servers(conf));
    checks.extend(conf.hazards.iter().map(hazard));
    checks.push(worker(machine));
    if let Some(path) = &conf.path {
        checks.extend(running(path, conf, machine));
    }
    let name = match &conf.path {
        Some(path) => path.display().to_string(),
        None => "the command line".to_owned(),
    };
    Section { name, checks, ..Section::default() }
}

/// The result of `nginx -t`.
fn tested(path: &Path, tested: Option<&Tested>, machine: &Machine) -> Vec<Check> {
    let (id, title) = ("configuration.nginx", "nginx -t");
    let (Some(tested), Some(nginx)) = (tested, &machine.nginx) else {
        return vec![Check::skip(id, title, "there is no nginx here to ask")];
    };
    let Some(refusal) = &tested.refusal else {
        let warning = |text: &String| {
            Check::warn("configuration.nginx_warning", "nginx -t", text.clone())
                .meaning("nginx starts, and warns of this")
        };
        let accepted = Check::ok(id, title, "nginx accepts it");
        return [accepted].into_iter().chain(tested.warnings.iter().map(warning)).collect();
    };
    if tested.is_forbidden && !machine.me.is_root() {
        return vec![Check::skip(id, title, format!("needs root: {refusal}"))];
    }
    let check = Check::fail(id, title, refusal.clone()).fix(nginx.command(path));
    vec![match refusal {
        text if text.contains("is not binary compatible") || text.contains(" instead of ") => check
            .meaning(
                "the module was made for another nginx, and this one does not start with it: \
                 install the module that fits this nginx",
            ),
        text if text.contains("unknown directive \"keystone_") => check.meaning(
            "nginx does not start: the directive is misspelt, or the module is not loaded before \
             it (load_module modules/ngx_http_keystone_module.so; at the top)",
        ),
        _ => check.meaning(
            "nginx does not start with it, and a reload leaves the configuration before in use",
        ),
    }]
}

fn unreadable(problem: &Problem, machine: &Machine) -> Check {
    let (id, title) = match problem.text.starts_with("cannot include") {
        true => ("configuration.include", "included file"),
        false => ("configuration.syntax", "syntax"),
    };
    let check = Check::fail(id, title, problem.text.clone()).about(problem.position.to_string());
    match problem.forbidden && !machine.me.is_root() {
        false => check.meaning("nginx does not start"),
        true => {
            check.meaning("nginx does not start, unless only root may read it: run this as root")
        }
    }
}

/// Directives that the module refuses, unless `nginx -t` has accepted them.
fn refused(conf: &Conf, machine: &Machine) -> Vec<Check> {
    let tested = conf.tested.as_ref();
    if tested.is_some_and(|tested| tested.refusal.is_none()) {
        return Vec::new();
    }
    let told = tested.and_then(|tested| tested.refusal.as_deref()).unwrap_or_default();
    let is_told = |problem: &&Problem| told.contains(&problem.text);
    let check = |problem: &Problem| {
        let (id, title) = ("configuration.directive", "directive");
        match problem.forbidden && !machine.me.is_root() {
            true => Check::skip(id, title, format!("needs root: {}", problem.text)),
            false => Check::fail(id, title, problem.text.clone())
                .meaning("nginx does not start; the checks below do without the directive")
                .fix("nginx -t"),
        }
        .about(problem.position.to_string())
    };
    conf.refused.iter().filter(|problem| !is_told(problem)).map(check).collect()
}

/// Where nginx is not there to tell.
fn load_module(conf: &Conf) -> Option<Check> {
    let is_used = conf.servers.1 > 0 || !conf.refused.is_empty();
    (conf.path.is_some() && conf.tested.is_none() && is_used && !conf.loads_module).then(|| {
        Check::fail("configuration.load_module", "load_module", "the module is not loaded")
            .meaning("nginx does not know the keystone directives, and does not start")
            .fix("load_module modules/ngx_http_keystone_module.so;    # before events")
    })
}

fn servers(conf: &Conf) -> Option<Check> {
    conf.path.as_ref()?;
    let (all, asking) = conf.servers;
    let (id, title) = ("configuration.servers", "servers");
    let detail = format!("{asking} of {all} servers ask for tokens");
    let is_complete = conf.unreadable.is_empty() && conf.refused.is_empty();
    Some(match asking {
        0 if !is_complete => Check::skip(id, title, format!("{detail}, of what could be read")),
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
        HazardKind::CertificateHeader => Check::warn(
            "configuration.certificate_header",
            "certificate header",
            "keystone_client_certificate is a header of the request",
        )
        .meaning(
            "every client that reaches nginx can send this header, with the certificate of the \
             owner of a stolen token",
        )
        .fix("let the TLS terminator set the header in every request, and only it connect to nginx"),
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
        HazardKind::NoClientCertificate => Check::warn(
            "configuration.client_certificate",
            "client certificate",
            "the server does not ask clients for certificates",
        )
        .meaning("every token that is bound to a certificate is refused: the result is bind_failed")
        .fix("ssl_verify_client optional; ssl_client_certificate FILE;"),
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
        HazardKind::TokenInQuery => Check::warn(
            "configuration.token_in_query",
            "tokens in arguments",
            "keystone_token takes an argument of the query",
        )
        .meaning(
            "URIs are in histories, in Referer and in logs of proxies. The module hides the argument \
             in $request, but not in $request_uri and $args",
        )
        .fix("take the token from a header or a cookie, or log $uri, without arguments"),
    };
    check.about(hazard.position.to_string())
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

/// Whether nginx runs, and with the files as they are now.
fn running(path: &Path, conf: &Conf, machine: &Machine) -> Vec<Check> {
    let (id, title) = ("configuration.running", "nginx");
    let Some(pid_file) = machine.pid_file(conf) else {
        return vec![Check::skip(id, title, "it is not known where nginx keeps its process id")];
    };
    let master = match Master::find(&pid_file) {
        Ok(Some(master)) => master,
        Ok(None) => {
            let taken = listen::checks(&conf.listens);
            let check = Check::warn(id, title, "it does not run")
                .meaning(format!("there is no process of nginx's in {}", pid_file.display()))
                .fix("systemctl start nginx");
            return [check].into_iter().chain(taken).collect();
        }
        Err(error) => {
            return vec![Check::skip(id, title, format!("{}: {error}", pid_file.display()))]
        }
    };
    let age = span(machine.now - master.since);
    let build = machine.nginx.as_ref().map(|nginx| &nginx.build);
    let prefix = master.prefix.as_deref().or(build.map(|build| build.prefix.as_path()));
    let used = match &master.conf {
        Some(conf) => Some(prefix.unwrap_or(Path::new("")).join(conf)),
        None => build.map(|build| build.conf.clone()),
    };
    if let Some(other) = used.filter(|used| !is_same_file(used, path)) {
        let detail = format!("process {} runs with {}", master.pid, other.display());
        return vec![Check::skip(id, title, detail)];
    }
    let detail = format!("process {} has gone by its configuration for {age}", master.pid);
    vec![Check::ok(id, title, detail), unchanged(conf, &master)]
}

fn unchanged(conf: &Conf, master: &Master) -> Check {
    let (id, title) = ("configuration.unchanged", "in use");
    let written = |path: &Path| {
        let since = fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    };
    // When nginx was started is known to a second.
    let changed =
        conf.files.iter().chain(&conf.inputs).find(|path| written(path) > Some(master.since + 1));
    match changed {
        None => Check::ok(id, title, "no file has changed since nginx was started or reloaded"),
        Some(path) => Check::warn(id, title, format!("{} has changed since", path.display()))
            .meaning("nginx still goes by what it read before, also of secrets and certificates")
            .fix(format!("nginx -t -c {} && systemctl reload nginx", quote_path(conf))),
    }
}

fn quote_path(conf: &Conf) -> String {
    quote(&conf.path.as_deref().unwrap_or(Path::new("")).display().to_string())
}
