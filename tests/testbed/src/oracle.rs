//! auth_token in a Python process, and what an application is told by it or by nginx.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::http::{send, Client, Request, Response};
use crate::process::Process;
use crate::upstream::Seen;
use crate::{During, Error, Result};

/// A filter in front of an echo, as tests/oracle/wsgi.py serves it; it ends when this is dropped.
#[derive(Debug)]
pub struct Oracle {
    _process: Process,
    address: SocketAddr,
}

impl Oracle {
    /// Starts one with a command that says its port.
    pub fn start(command: &mut Command) -> Result<Self> {
        let command = command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::piped());
        let mut process = Process::start(command)?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout() {
            BufReader::new(stdout).read_line(&mut line).during("reading the oracle's port")?;
        }
        let port = line.strip_prefix("PORT ").and_then(|port| port.trim().parse::<u16>().ok());
        let port = port.ok_or_else(|| Error::Python(format!("the oracle said {line:?}")))?;
        Ok(Self { _process: process, address: ([127, 0, 0, 1], port).into() })
    }

    /// Sends a request to one that speaks TLS, with the certificate and key of these files.
    pub fn ask_tls(
        &self,
        request: &Request,
        ca: &Path,
        own: Option<(PathBuf, PathBuf)>,
    ) -> Result<View> {
        let mut client = Client::connect_tls(self.address, "localhost", ca, own)?;
        Ok(View::of_oracle(&client.send(request)?))
    }

    /// Sends a request to auth_token.
    pub fn ask(&self, request: &Request) -> Result<View> {
        Ok(View::of_oracle(&send(self.address, request)?))
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The status that the client gets.
    pub status: u16,
    /// The `WWW-Authenticate` that the client gets.
    pub challenge: Option<String>,
    /// The body that the client gets, unless it is the application's.
    pub body: String,
    /// The header fields that the application was given, with names in lower case and `-`; empty
    /// if it was not asked.
    pub headers: BTreeMap<String, String>,
    /// The names of those whose value was no text.
    pub not_text: Vec<String>,
}

impl View {
    /// Lets the application find the token of `X-Storage-Token` in `X-Auth-Token`, where that is
    /// missing; tells whether it did.
    pub fn put_storage_token(&mut self) -> bool {
        let token = self.headers.get("x-storage-token").filter(|token| !token.is_empty()).cloned();
        match token.filter(|_| !self.headers.contains_key("x-auth-token")) {
            Some(token) => self.headers.insert("x-auth-token".into(), token).is_none(),
            None => false,
        }
    }

    fn of_oracle(response: &Response) -> Self {
        let mut view = Self::without_application(response);
        let Ok(echo) = response.json() else { return view };
        let (Some(identity), Some(others)) =
            (echo["identity"].as_object(), echo["headers"].as_object())
        else {
            return view;
        };
        for (name, value) in identity.iter().chain(others) {
            let bytes = unhex(value.as_str().expect("values are text"));
            view.pass(name, &String::from_utf8_lossy(&bytes));
        }
        let not_text = echo["not_text"].as_object().expect("an object");
        view.not_text = not_text.keys().cloned().collect();
        view.body.clear();
        view
    }

    /// What an answer that came through nginx tells.
    pub fn of_nginx(response: &Response) -> Self {
        let mut view = Self::without_application(response);
        if let Ok(seen) = Seen::of(response) {
            for (name, value) in &seen.headers {
                view.pass(&name.to_lowercase().replace('_', "-"), value);
            }
            view.body.clear();
        }
        view
    }

    fn without_application(response: &Response) -> Self {
        Self {
            status: response.status,
            challenge: response.header("WWW-Authenticate").map(str::to_owned),
            // nginx's own pages are its own matter.
            body: match response.header("Content-Type") {
                Some("application/json") => response.text(),
                _ => String::new(),
            },
            headers: BTreeMap::new(),
            not_text: Vec::new(),
        }
    }

    fn pass(&mut self, name: &str, value: &str) {
        // Between here and there, or between nginx and its upstream; and each request has an id of
        // its own, which another middleware gives it.
        if matches!(name, "connection" | "content-length" | "host" | "x-openstack-request-id") {
            return;
        }
        let name = name.to_owned();
        match self.headers.get_mut(&name) {
            Some(old) => *old = format!("{old},{value}"),
            None => drop(self.headers.insert(name, value.to_owned())),
        }
    }

    /// Each thing that is not as in `wanted`, in words.
    pub fn differences_to(&self, wanted: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |what: &str, ours: Option<String>, wanted: Option<String>| {
            if ours != wanted {
                lines.push(format!("{what}: wanted {wanted:?}, got {ours:?}"));
            }
        };
        compare("status", Some(self.status.to_string()), Some(wanted.status.to_string()));
        if self.status != wanted.status {
            // All else follows from that.
            return lines;
        }
        compare("challenge", self.challenge.clone(), wanted.challenge.clone());
        compare("body", Some(self.body.clone()), Some(wanted.body.clone()));
        let names = self.headers.keys().chain(wanted.headers.keys()).collect::<BTreeSet<_>>();
        for name in names {
            compare(name, self.headers.get(name).cloned(), wanted.headers.get(name).cloned());
        }
        for name in &wanted.not_text {
            compare(name, self.headers.get(name).cloned(), Some("something else than text".into()));
        }
        lines
    }

    /// Rewrites the catalog as JSON without blanks and needless escapes.
    pub fn compact_catalog(&mut self) -> bool {
        let Some(catalog) = self.headers.get_mut("x-service-catalog") else { return false };
        let json: Value = serde_json::from_str(catalog).expect("a catalog is JSON");
        let compact = json.to_string();
        std::mem::replace(catalog, compact.clone()) != compact
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hex digits") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
