//! The demos, and parts of the testbed as commands.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use keystone_testbed::cms::{Digest, Form};
use keystone_testbed::identity::{Identity, ADMIN_TOKEN, SERVICE_PASSWORD, SERVICE_USER};
use keystone_testbed::mint::Payload;
use keystone_testbed::pki::Pki;
use keystone_testbed::port::Port;

mod curl;
mod demo;
mod demo_keystone;
mod demo_swift;
mod story;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::play(),
        ["demo-keystone"] => demo_keystone::play(),
        ["demo-swift"] => demo_swift::play(),
        ["identity", rest @ ..] => identity(rest),
        ["mint", rest @ ..] => mint(rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("keystone-testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the identity service until it is killed.
fn identity(words: &[&str]) -> Result<bool, Failure> {
    let options = Options::read(words)?;
    let pki = options.pki()?;
    let port = match options.number("--port")? {
        None => Port::free()?,
        Some(number) => {
            let port = Port::hold(u16::try_from(number)?)?;
            port.ok_or_else(|| format!("port {number} is held by another testbed"))?
        }
    };
    let identity = Identity::start_on(port, &pki, None)?;
    identity.allow_control();
    println!("{}", identity.uri());
    println!("admin token {ADMIN_TOKEN}, user {SERVICE_USER}, password {SERVICE_PASSWORD}");
    std::io::stdout().flush()?;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Prints tokens, one on each line.
fn mint(words: &[&str]) -> Result<bool, Failure> {
    let options = Options::read(words)?;
    let pki = options.pki()?;
    let form = Form {
        digest: if options.has("--sha1") { Digest::Sha1 } else { Digest::Sha256 },
        ..Form::default()
    };
    let mut out = std::io::stdout().lock();
    for _ in 0..options.number("--count")?.unwrap_or(1) {
        let mut payload = if options.has("--v2") { Payload::v2() } else { Payload::v3() };
        if let Some(seconds) = options.number("--expires-in")? {
            payload = payload.expires_in(seconds);
        }
        if let Some(bytes) = options.number("--padding")? {
            payload = payload.padded(usize::try_from(bytes)?);
        }
        let token = match options.has("--pkiz") {
            true => payload.pkiz(&pki.signing)?,
            false => payload.pki_as(&pki.signing, form)?,
        };
        writeln!(out, "{token}")?;
    }
    Ok(true)
}

/// `--name value` and `--name` in any order.
struct Options<'a>(Vec<(&'a str, Option<&'a str>)>);

impl<'a> Options<'a> {
    fn read(words: &[&'a str]) -> Result<Self, Failure> {
        let mut options = Vec::new();
        let mut words = words.iter().peekable();
        while let Some(name) = words.next() {
            match *name {
                "--pki" | "--port" | "--count" | "--expires-in" | "--padding" => {
                    let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
                    options.push((*name, Some(*value)));
                }
                "--v2" | "--v3" | "--pkiz" | "--sha1" => options.push((*name, None)),
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(Self(options))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| *n == name)
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(n, _)| *n == name).and_then(|(_, value)| *value)
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let number = self.value(name).map(str::parse).transpose();
        Ok(number.map_err(|_| format!("{name} needs a number"))?)
    }

    fn pki(&self) -> Result<Pki, Failure> {
        let dir = self.value("--pki").ok_or("--pki DIRECTORY is needed")?;
        let dir: PathBuf = Path::new(dir).into();
        Ok(Pki::open(&dir)?)
    }
}

const USAGE: &str = "\
usage: keystone-testbed demo
           plays the story of a token at a gateway, checking every answer
       keystone-testbed demo-keystone
           the same with a real Keystone, from the environment in KEYSTONE_VENV
       keystone-testbed demo-swift
           objects in files, with a real Keystone and the client of Swift, from there too
       keystone-testbed identity --pki DIRECTORY [--port PORT]
           runs the small identity service; POST /testbed/tokens for tokens,
           POST /testbed/revoke {\"token\": ...} to revoke one, GET /testbed/log
       keystone-testbed mint --pki DIRECTORY [--count N] [--v2] [--pkiz] [--sha1]
                             [--expires-in SECONDS] [--padding BYTES]
           prints tokens, one on each line
The certificates are made in DIRECTORY when it has none.
";
