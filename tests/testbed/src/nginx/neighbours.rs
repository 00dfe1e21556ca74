//! Debian's modules for nginx, loaded beside the module under test.
//!
//! They are of Debian's packages `libnginx-mod-http-*`, and load into Debian's nginx only.

use std::path::{Path, PathBuf};

/// Whether the neighbours are loaded before the module or after it.  nginx runs the handlers of a
/// phase from the module that was loaded last to the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Their `load_module` lines come after that of the module.
    After,
    /// Their `load_module` lines come before that of the module.
    Before,
}

impl Order {
    /// Both orders.
    pub const BOTH: [Self; 2] = [Self::After, Self::Before];
}

/// The file of one of Debian's modules, by the name between `ngx_http_` and `_module`; a path is
/// that of another module.
///
/// A module that is missing is an error of the machine's: `make test-neighbours` installs them.
pub(super) fn file(name: &str) -> PathBuf {
    let file = match name {
        path if path.contains('/') => return path.into(),
        "ndk" => "ndk_http_module.so".to_owned(),
        name => format!("ngx_http_{name}_module.so"),
    };
    let path = Path::new(MODULES).join(file);
    assert!(path.exists(), "{} is missing: \"make test-neighbours\" installs it", path.display());
    path
}

/// Whether the nginx of the tests loads Debian's modules; says so on stderr if not, for a test that
/// is skipped.
pub fn can_load_debians_modules() -> bool {
    super::was_built_with(&format!("--modules-path={MODULES}"))
}

const MODULES: &str = "/usr/lib/nginx/modules";
