//! A stand-in for a module that authenticates by `Negotiate`, which Debian does not have.
//!
//! It is a few lines of C that believe what the request's `Authorization` header says, compiled
//! against the headers of `NGINX_SOURCE_DIR` and `NGINX_BUILD_DIR` when a test asks for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::nginx::{check, Config};
use crate::temp::TempDir;
use crate::{During, Error, Result};

/// The compiled module; its file goes with this value.
pub struct Negotiate {
    dir: TempDir,
}

impl Negotiate {
    /// Compiles it; `None`, and a word on stderr, if the headers of that nginx are missing.
    pub fn compile() -> Result<Option<Self>> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let sources = variable("NGINX_SOURCE_DIR").unwrap_or_else(|| "/usr/share/nginx/src".into());
        let Some(build) = variable("NGINX_BUILD_DIR") else {
            eprintln!("skipped: NGINX_BUILD_DIR is not set");
            return Ok(None);
        };
        let negotiate = Self { dir: TempDir::new("negotiate")? };
        negotiate.run_compiler(&sources, &build)?;
        // nginx refuses a module that was made for another version of it.
        let checked = check(&Config::without_module().main(&negotiate.directive()))?;
        match checked.ok {
            true => Ok(Some(negotiate)),
            false => {
                eprintln!("skipped: the headers are not those of this nginx: {}", checked.text);
                Ok(None)
            }
        }
    }

    /// The directive that loads it.
    pub fn directive(&self) -> String {
        format!("load_module {};", self.dir.join(LIBRARY).display())
    }

    fn run_compiler(&self, sources: &Path, build: &Path) -> Result<()> {
        std::fs::write(self.dir.join("negotiate.c"), SOURCE).during("writing negotiate.c")?;
        let mut compiler = Command::new("cc");
        compiler.current_dir(self.dir.path()).args(["-shared", "-fPIC", "-o", LIBRARY]);
        for folder in [
            "core",
            "event",
            "event/modules",
            "os/unix",
            "http",
            "http/modules",
            "http/v2",
            "http/v3",
        ] {
            compiler.arg("-I").arg(sources.join("src").join(folder));
        }
        compiler.arg("-I").arg(build).arg("negotiate.c");
        let output = compiler.output().during("running cc")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false => Err(Error::Nginx(format!("negotiate.c does not compile: {complaint}"))),
        }
    }
}

const SOURCE: &str = include_str!("negotiate.c");
const LIBRARY: &str = "negotiate.so";
