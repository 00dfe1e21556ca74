//! `keystone-doctor` walks through what can keep `ngx_http_keystone_module` from accepting a token,
//! and explains a token.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

mod certificate;
mod check;
mod cli;
mod conf;
mod explain;
mod keystone;
mod machine;
mod net;
mod nginx;
mod report;
mod resolver;
mod system;
mod token;

use cli::{Command, Invocation, Parsed, Source};
use conf::Conf;
use machine::Machine;
use nginx::Nginx;
use report::{Decision, Plain, Report, Status, Subject};

fn main() -> ExitCode {
    let run = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Run(run)) => run,
        Ok(Parsed::Print(text)) => return print(&text, 0),
        Err(error) => return misused(&format!("{error} (--help tells more)")),
    };
    let nginx = match &run.nginx {
        _ if run.no_nginx => None,
        None => Nginx::find(run.prefix.clone()),
        Some(program) => match Nginx::at(program.clone(), run.prefix.clone()) {
            Ok(nginx) => Some(nginx),
            Err(error) => return misused(&format!("cannot run {}: {error}", program.display())),
        },
    };
    let conf = match &run.source {
        Source::File(path) => {
            let own = nginx.as_ref().map(|nginx| nginx.build.conf.as_path());
            let path = path.as_deref().or(own).unwrap_or(Path::new(DEFAULT_CONF));
            match Conf::read(path, nginx.as_ref()) {
                Ok(conf) => conf,
                Err(error) => return misused(&error.to_string()),
            }
        }
        Source::Options(directives) => Conf::of_options(directives, nginx.as_ref()),
    };
    let machine = Machine::look(&conf, run.user.as_deref(), nginx);
    match run.command {
        Command::Check => check(&conf, &machine, &run),
        Command::Token => explain(&conf, &machine, &run),
    }
}

fn check(conf: &Conf, machine: &Machine, run: &Invocation) -> ExitCode {
    let report = Report::new("check", configuration(conf), check::run(conf, machine));
    let code = if report.status == Status::Fail { 1 } else { 0 };
    show(&report, run.json, code)
}

fn explain(conf: &Conf, machine: &Machine, run: &Invocation) -> ExitCode {
    if conf.services.is_empty() {
        let unread = conf.unreadable.iter().chain(&conf.refused);
        let unread = unread.map(|it| format!("; {}: {}", it.position, it.text));
        let unread: String = unread.collect();
        return misused(&format!("no server of this configuration asks for tokens{unread}"));
    }
    let token = match token::read(io::stdin().lock()) {
        Ok(token) => token,
        Err(error) => return misused(&format!("cannot read the token: {error}")),
    };
    if let Some(name) = header_name(&token) {
        return misused(&format!(
            "this is a header line, give the token alone: what follows \"{name}:\""
        ));
    }
    let (facts, sections, decision) = token::run(&token, conf, machine, run.online);
    let subject = Subject::new(&facts, facts.human());
    let report =
        Report { token: Some(subject), ..Report::new("token", configuration(conf), sections) };
    let code = match decision {
        Decision::Accept => 0,
        Decision::Refuse => 1,
        Decision::Unknown => 3,
    };
    show(&report, run.json, code)
}

/// The name of the header, of a line that was copied with it.
fn header_name(line: &[u8]) -> Option<&str> {
    let (name, _) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let known = ["x-auth-token", "x-subject-token", "x-service-token", "x-storage-token"];
    known.into_iter().any(|it| name.trim().eq_ignore_ascii_case(it)).then(|| name.trim())
}

fn configuration(conf: &Conf) -> Option<String> {
    conf.path.as_ref().map(|path| path.display().to_string())
}

fn show(report: &Report, json: bool, code: u8) -> ExitCode {
    let color =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    match json {
        true => print(&format!("{}\n", report.json()), code),
        false => print(&report.human(color), code),
    }
}

/// Prints the report. A closed pipe is no error: the reader may stop early.
fn print(text: &str, code: u8) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            misused(&format!("cannot write the report: {error}"))
        }
        _ => ExitCode::from(code),
    }
}

fn misused(reason: &str) -> ExitCode {
    eprintln!("keystone-doctor: {}", Plain(reason));
    ExitCode::from(2)
}

/// The configuration where there is no nginx to name it.
const DEFAULT_CONF: &str = "/etc/nginx/nginx.conf";
