//! Debian's modules for nginx, loaded beside the module under test.
//!
//! They are of Debian's packages `libnginx-mod-http-*`, and load into Debian's nginx only.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Whether the neighbours are loaded before the module or after it. nginx runs the handlers of a
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

/// Modules to load beside the module, and what they are told to do with every request.
#[derive(Clone, Debug)]
pub(super) struct Neighbours {
    order: Order,
    modules: Vec<String>,
    http: &'static str,
}

impl Neighbours {
    /// Loads modules, which do nothing unless they are told to.
    pub(super) fn new(order: Order, modules: &[&str]) -> Self {
        let modules = modules.iter().map(|module| (*module).to_owned()).collect();
        Self { order, modules, http: "" }
    }

    /// All that there are, at work, where `KEYSTONE_NEIGHBOURS` is `before` or `after`: for a run
    /// of tests that know nothing of them.
    pub(super) fn of_environment() -> Option<Self> {
        let order = match std::env::var("KEYSTONE_NEIGHBOURS").ok()?.as_str() {
            "after" => Order::After,
            "before" => Order::Before,
            other => panic!("KEYSTONE_NEIGHBOURS is {other:?}, and neither before nor after"),
        };
        can_load_debians_modules().then(|| Self { http: AT_WORK, ..Self::new(order, &ALL) })
    }

    /// The `load_module` lines that belong into one of the two places.
    pub(super) fn load(&self, place: Order) -> String {
        let mut lines = String::new();
        let here = self.modules.iter().filter(|_| self.order == place);
        for module in here {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "load_module {};", file(module).display());
        }
        lines
    }

    /// Directives of the modules for `http`.
    pub(super) fn http(&self) -> &'static str {
        self.http
    }
}

/// The file of one of Debian's modules, by the name between `ngx_http_` and `_module`; a path is
/// that of another module.
///
/// A module that is missing is an error of the machine's: `make test-neighbours` installs them.
fn file(name: &str) -> PathBuf {
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

/// Those that Debian has, in an order in which they can be loaded.
const ALL: [&str; 14] = [
    "ndk",
    "dav_ext",
    "echo",
    "geoip",
    "geoip2",
    "headers_more_filter",
    "image_filter",
    "js",
    "lua",
    "memc",
    "modsecurity",
    "perl",
    "set_misc",
    "srcache_filter",
];

/// Their handlers and filters are entered, and change nothing that a test looks at. There is no
/// `access_by_lua`, which grants access under `satisfy any`.
const AT_WORK: &str = r#"
variables_hash_max_size 2048;
geoip_country /usr/share/GeoIP/GeoIP.dat;
perl_set $neighbour_perl 'sub { return shift->variable("keystone_user_id"); }';
more_set_headers "X-Neighbours: $geoip_country_code $neighbour_perl";
more_set_input_headers "X-Neighbour: 1";
modsecurity on;
modsecurity_rules 'SecRuleEngine On
    SecRule ARGS:neighbour "@streq evil" "id:1,phase:1,deny"';
rewrite_by_lua_block { local token = ngx.var.http_x_auth_token }
header_filter_by_lua_block { ngx.header["X-Lua"] = ngx.var.keystone_auth_result }
body_filter_by_lua_block { local chunk = ngx.arg[1] }
log_by_lua_block { local user = ngx.var.keystone_user_id }
srcache_fetch GET /-/nothing;
srcache_fetch_skip 1;
"#;
