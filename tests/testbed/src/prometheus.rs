//! A real Prometheus that scrapes nginx, and its promtool.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http::{send, Request};
use crate::port::Port;
use crate::temp::TempDir;
use crate::{wait_within, During, Error, Result};

/// A running Prometheus; dropping it ends it.
pub struct Prometheus {
    port: Port,
    child: Child,
    _dir: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // What it has stored goes with the directory. It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts one that scrapes this path of this server five times a second, and evaluates these
    /// alert rules as often.
    pub fn start(target: SocketAddr, metrics_path: &str, rules: &Path) -> Result<Self> {
        let (dir, port) = (TempDir::new("prometheus")?, Port::free()?);
        let rules = rules.canonicalize().during(format!("looking for {}", rules.display()))?;
        let config = serde_json::json!({
            "global": { "scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms" },
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "keystone",
                "metrics_path": metrics_path,
                "static_configs": [{ "targets": [target.to_string()] }],
            }],
        });
        // What is JSON is YAML.
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config.to_string()).during("writing prometheus.yml")?;
        let mut command = Command::new(program("prometheus")?);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().during("starting prometheus")?;
        let prometheus = Self { port, child, _dir: dir };
        wait_within(READY, "Prometheus to be ready", || {
            let answer = send(prometheus.port.address(), &Request::get("/-/ready")).ok()?;
            (answer.status == 200).then_some(())
        })?;
        Ok(prometheus)
    }

    /// The values of all series that an expression has now.
    pub fn query(&self, expression: &str) -> Result<Vec<f64>> {
        let data = self.api(&format!("query?query={}", percent_encoded(expression)))?;
        let series = data["result"].as_array();
        let series = series.ok_or_else(|| wrong(&format!("no result in {data}")))?;
        let value = |of: &Value| of["value"][1].as_str()?.parse().ok();
        series.iter().map(|of| value(of).ok_or_else(|| wrong(&format!("no value: {of}")))).collect()
    }

    /// The alert rules that have been evaluated: name, and `inactive`, `pending` or `firing`.
    pub fn alerts(&self) -> Result<Vec<(String, String)>> {
        let data = self.api("rules")?;
        let groups = data["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let word = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        let mut alerts = Vec::new();
        for rule in rules {
            match word(rule, "health").as_str() {
                "ok" => alerts.push((word(rule, "name"), word(rule, "state"))),
                "unknown" => {}
                _ => return Err(wrong(&word(rule, "lastError"))),
            }
        }
        Ok(alerts)
    }

    fn api(&self, what: &str) -> Result<Value> {
        let answer = send(self.port.address(), &Request::get(&format!("/api/v1/{what}")))?;
        match answer.status {
            200 => Ok(answer.json()?["data"].take()),
            _ => Err(wrong(&answer.text())),
        }
    }
}

/// Runs promtool; what it complains about is the error.
pub fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new(program("promtool")?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().during("starting promtool")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A promtool that does not read says so at its end.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().during("running promtool")?;
    let said = [output.stdout, output.stderr].concat();
    match output.status.success() {
        true => Ok(()),
        false => Err(wrong(&String::from_utf8_lossy(&said))),
    }
}

fn program(name: &str) -> Result<PathBuf> {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/prometheus");
    let directory = std::env::var_os("PROMETHEUS_DIR").map_or_else(built, PathBuf::from);
    let path = directory.join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(wrong(&format!(
            "{} does not exist: unpack it with `tests/prometheus/setup.sh`, or name another \
             directory in PROMETHEUS_DIR",
            path.display()
        ))),
    }
}

fn wrong(what: &str) -> Error {
    Error::Prometheus(what.to_owned())
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}

const READY: Duration = Duration::from_secs(60);
