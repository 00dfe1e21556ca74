//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use keystone_conf::Position;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::conf::reader::Directive;

/// What is to be done.
#[derive(Debug)]
pub struct Invocation {
    pub command: Command,
    /// Where the settings come from.
    pub source: Source,
    /// `--user`: as whom nginx's workers run.
    pub user: Option<String>,
    /// `--nginx`: path of the nginx program.
    pub nginx: Option<PathBuf>,
    /// `--prefix`: what nginx is started with as `-p`, from the root.
    pub prefix: Option<PathBuf>,
    /// `--no-nginx`: not to ask nginx.
    pub no_nginx: bool,
    /// `--json`: print the report as JSON.
    pub json: bool,
    /// `--online`: send the token to Keystone too.
    pub online: bool,
}

/// What the doctor is asked to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Checks the whole installation.
    Check,
    /// Explains a token.
    Token,
}

/// Where the settings come from.
#[derive(Debug)]
pub enum Source {
    /// From `nginx.conf`: this file, or the one that nginx reads by default.
    File(Option<PathBuf>),
    /// From options that are named as the directives.
    Options(Vec<Directive>),
}

/// A command line that asks for nothing but a text.
#[derive(Debug)]
pub enum Parsed {
    /// Something is to be done.
    Run(Invocation),
    /// This is to be printed.
    Print(String),
}

/// Why a command line makes no sense.
pub type UsageError = lexopt::Error;

/// Reads a command line, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, UsageError> {
    let mut parser = Parser::from_args(arguments);
    let command = match parser.next()? {
        Some(Arg::Value(word)) if word == "check" => Command::Check,
        Some(Arg::Value(word)) if word == "token" => Command::Token,
        Some(Arg::Long("help") | Arg::Short('h')) => return Ok(Parsed::Print(HELP.to_owned())),
        Some(Arg::Long("version") | Arg::Short('V')) => {
            return Ok(Parsed::Print(format!("keystone-doctor {}\n", env!("CARGO_PKG_VERSION"))))
        }
        Some(argument) => return Err(argument.unexpected()),
        None => return Err("say \"check\" or \"token\"".into()),
    };
    let mut file = None;
    let mut directives: Vec<Directive> = Vec::new();
    let mut run = Invocation {
        command,
        source: Source::Options(Vec::new()),
        user: None,
        nginx: None,
        prefix: None,
        no_nginx: false,
        json: false,
        online: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Print(HELP.to_owned())),
            Arg::Long("json") => run.json = true,
            Arg::Long("online") if command == Command::Token => run.online = true,
            Arg::Long("user") => run.user = Some(parser.value()?.string()?),
            Arg::Long("no-nginx") => run.no_nginx = true,
            Arg::Long("nginx") => run.nginx = Some(parser.value()?.into()),
            Arg::Long("prefix") | Arg::Short('p') => {
                let path = PathBuf::from(parser.value()?);
                run.prefix = Some(std::path::absolute(&path).unwrap_or(path));
            }
            Arg::Long("conf") | Arg::Short('c') if file.is_none() => {
                file = Some(PathBuf::from(parser.value()?));
            }
            Arg::Value(path) if command == Command::Check && file.is_none() => {
                file = Some(PathBuf::from(path));
            }
            // It may be the token itself, which is not to be shown.
            Arg::Value(_) if command == Command::Token => {
                return Err("a token is read from the standard input".into())
            }
            Arg::Long(name) if is_setting(name) => {
                let name = format!("keystone_{}", name.replace('-', "_"));
                let value = parser.value()?.string()?;
                set(&mut directives, name, value)?;
            }
            argument => return Err(argument.unexpected()),
        }
    }
    run.source = match (file, directives.is_empty()) {
        (Some(_), false) => {
            return Err("give a configuration file or single settings, not both".into())
        }
        (file, true) => Source::File(file),
        (None, false) => Source::Options(directives),
    };
    Ok(Parsed::Run(run))
}

fn is_setting(name: &str) -> bool {
    SETTINGS.contains(&name)
}

fn set(directives: &mut Vec<Directive>, name: String, value: String) -> Result<(), UsageError> {
    let is_secret = ["admin_token", "password", "secret"].iter().any(|it| name.ends_with(it));
    // Every user of the machine can read a command line.
    if is_secret && !value.starts_with("file:") {
        return Err("a secret must be given as file:PATH".into());
    }
    match directives.iter_mut().find(|directive| directive.name == name) {
        Some(directive) => directive.arguments.push(value),
        None => directives.push(Directive {
            name,
            arguments: vec![value],
            position: Position::default(),
            block: None,
        }),
    }
    Ok(())
}

/// The directives that can be given as options, without `keystone_` and with `-` for `_`.
const SETTINGS: &[&str] = &[
    "admin-token",
    "application-credential-id",
    "application-credential-secret",
    "auth-uri",
    "auth-version",
    "connect-timeout",
    "hash-algorithms",
    "identity-uri",
    "password",
    "project-domain-name",
    "project-name",
    "read-timeout",
    "revocation",
    "revocation-cache-time",
    "revocation-events",
    "signing-dir",
    "ssl-certificate",
    "ssl-certificate-key",
    "ssl-name",
    "ssl-trusted-certificate",
    "ssl-verify",
    "token-cache-time",
    "user-domain-name",
    "username",
];

const HELP: &str = "\
Finds out why nginx refuses Keystone tokens, and what to do about it.

usage: keystone-doctor check [NGINX.CONF] [OPTION...]
       keystone-doctor token [--conf NGINX.CONF] [--online] [OPTION...] < TOKEN

check   runs nginx -t, and looks at whether nginx runs with these files, at the
        settings, the signing directory and the files in it, at memcached, and
        at Keystone: name, connection, TLS, versions, certificates, login, role,
        revocation list. Run it as root on the gateway.
token   reads a token from the standard input and tells what it is, whose it
        is, and what the module would do with it and why. The token is not
        shown, nor any secret.

  -c, --conf FILE    the configuration, by default the one that nginx reads
  -p, --prefix DIR   the prefix of nginx, if it is started with -p
      --online       (token) ask Keystone too
      --json         print JSON
      --user NAME    the user of nginx's workers, whatever nginx.conf says
      --nginx FILE   the nginx to ask, /usr/sbin/nginx by default
      --no-nginx     ask no nginx: read the configuration without it
  -h, --help         print this
  -V, --version      print the version

In place of a configuration: settings, named as the directives are.
      --auth-uri URI --identity-uri URI (may be repeated) --signing-dir DIR
      --username NAME --password file:PATH --project-name NAME
      --user-domain-name NAME --project-domain-name NAME
      --admin-token file:PATH
      --application-credential-id ID --application-credential-secret file:PATH
      --auth-version auto|v2.0|v3 --hash-algorithms NAME (may be repeated)
      --connect-timeout TIME --read-timeout TIME
      --revocation on|off --revocation-cache-time TIME --revocation-events TIME
      --token-cache-time TIME
      --ssl-trusted-certificate FILE --ssl-verify on|off --ssl-name NAME
      --ssl-certificate FILE --ssl-certificate-key FILE

exit status of check:  0 all well, or only something to look at
                       1 something failed
                       2 wrong usage, or the configuration cannot be read, or the
                         report cannot be written
exit status of token:  0 the module would accept it
                       1 it would refuse it
                       2 wrong usage, or the configuration cannot be read, or the
                         report cannot be written
                       3 it cannot be told: Keystone is needed, and was not
                         asked or did not answer
";

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Parsed, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn settings_are_options_of_the_same_name() {
        let Ok(Parsed::Run(run)) =
            run("token --online --identity-uri http://a --identity-uri http://b --signing-dir /x")
        else {
            panic!()
        };
        assert!(run.online && run.command == Command::Token);
        let Source::Options(directives) = run.source else { panic!() };
        assert_eq!(directives[0].name, "keystone_identity_uri");
        assert_eq!(directives[0].arguments, ["http://a", "http://b"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "cure",
            "check --online",
            "check a b",
            "check a --signing-dir /x",
            "token a",
            "token --frobnicate",
            "check --password hunter2",
        ] {
            assert!(run(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_names_every_setting() {
        for name in SETTINGS {
            assert!(HELP.contains(&format!("--{name} ")), "{name}");
        }
    }
}
