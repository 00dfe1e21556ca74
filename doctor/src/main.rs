//! `keystone-doctor` walks through what can keep `ngx_http_keystone_module` from accepting a token,
//! and explains a token.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

mod certificate;
mod check;
mod cli;
mod conf;
mod explain;
mod keystone;
mod net;
mod report;
mod system;
mod token;

use check::Machine;
use cli::{Command, Invocation, Parsed, Source};
use conf::Conf;
use report::{Decision, Plain, Report, Status};

fn main() -> ExitCode {
    let run = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Run(run)) => run,
        Ok(Parsed::Print(text)) => return print(&text, 0),
        Err(error) => return misused(&format!("{error} (--help tells more)")),
    };
    let conf = match &run.source {
        Source::File(path) => match Conf::read(path) {
            Ok(conf) => conf,
            Err(error) => return misused(&error.to_string()),
        },
        Source::Options(directives) => Conf::of_options(directives),
    };
    match run.command {
        Command::Check => check(&conf, run),
        Command::Token => explain(&conf, run),
    }
}

fn check(conf: &Conf, run: Invocation) -> ExitCode {
    let machine = Machine::look(conf, run.user.as_deref(), run.nginx);
    let report = Report::new("check", configuration(conf), check::run(conf, &machine));
    let code = if report.status == Status::Fail { 1 } else { 0 };
    show(&report, run.json, code)
}

fn explain(conf: &Conf, run: Invocation) -> ExitCode {
    if conf.services.is_empty() {
        let unread = conf.problems.iter().map(|it| format!("; {}: {}", it.place, it.text));
        let unread: String = unread.collect();
        return misused(&format!("no server of this configuration asks for tokens{unread}"));
    }
    let token = match token::read(io::stdin().lock()) {
        Ok(token) => token,
        Err(error) => return misused(&format!("cannot read the token: {error}")),
    };
    let machine = Machine::look(conf, run.user.as_deref(), run.nginx);
    let (facts, sections, decision) = token::run(&token, conf, &machine, run.online);
    let report =
        Report { token: Some(facts), ..Report::new("token", configuration(conf), sections) };
    let code = match decision {
        Decision::Accept => 0,
        Decision::Refuse => 1,
        Decision::Unknown => 3,
    };
    show(&report, run.json, code)
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

/// Whoever reads may stop reading.
fn print(text: &str, code: u8) -> ExitCode {
    let _ = io::stdout().lock().write_all(text.as_bytes());
    ExitCode::from(code)
}

fn misused(reason: &str) -> ExitCode {
    eprintln!("keystone-doctor: {}", Plain(reason));
    ExitCode::from(2)
}
