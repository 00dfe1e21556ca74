//! keystonemiddleware 4.9.1 in its Python process.

use std::path::{Path, PathBuf};
use std::process::Command;

use keystone_testbed::http::Request;
use keystone_testbed::identity::ADMIN_TOKEN;
use keystone_testbed::oracle::{self, View};
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::AUTH_URI;

/// auth_token 4.9.1 in front of an echo; it ends when this is dropped.
pub struct Oracle {
    oracle: oracle::Oracle,
    _signing_dir: TempDir,
}

impl Oracle {
    /// Starts one that asks the identity service at `identity_uri`.
    pub fn start(identity_uri: &str, options: &[(&str, &str)]) -> Self {
        let python = venv().join("bin/python");
        assert!(
            python.exists(),
            "the oracle's Python environment is missing: make it with `tests/oracle/setup.sh`, \
             or name another one in KEYSTONE_ORACLE_VENV ({} does not exist)",
            python.display()
        );
        let signing_dir = TempDir::new("oracle").expect("a directory for the oracle");
        let mut command = Command::new(python);
        command.arg(root().join("tests/oracle/oracle.py")).arg("--until-eof");
        command.args(["--identity-uri", identity_uri, "--admin-token", ADMIN_TOKEN]);
        command.args(["--auth-uri", AUTH_URI, "--revocation-cache-time", "3600"]);
        command.arg("--signing-dir").arg(signing_dir.path());
        for (name, value) in options {
            command.arg(format!("--{name}")).arg(value);
        }
        let oracle = oracle::Oracle::start(&mut command).expect("the oracle starts");
        Self { oracle, _signing_dir: signing_dir }
    }

    /// Sends a request to auth_token.
    pub fn ask(&self, request: &Request) -> View {
        self.oracle.ask(request).expect("the oracle answers")
    }
}

fn venv() -> PathBuf {
    std::env::var_os("KEYSTONE_ORACLE_VENV")
        .map_or_else(|| root().join("build/oracle-venv"), PathBuf::from)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
