//! What an operator may write about `ngx_http_keystone_module` in `nginx.conf`, and the settings
//! that come out.
//!
//! The module and `keystone-doctor` use the same table of [directives], the same rules
//! for values, the same inheritance and the same checks of what fits together. Neither nginx nor
//! the doctor is known here: a [`Host`] says where a directive is, where relative paths start,
//! and how a value with variables is compiled.
//!
//! ```
//! use keystone_conf::{Directive, Host, Position, ServerConf, Setter};
//! use std::path::{Path, PathBuf};
//!
//! struct Plain;
//!
//! impl Host for Plain {
//!     type Value = String;
//!
//!     fn position(&self) -> Position {
//!         Position::default()
//!     }
//!
//!     fn full_path(&mut self, path: &str) -> Option<PathBuf> {
//!         Some(Path::new("/etc/nginx").join(path))
//!     }
//!
//!     fn compile(&mut self, text: &str, _: keystone_conf::ValueKind) -> Option<String> {
//!         Some(text.to_owned())
//!     }
//! }
//!
//! let directive = Directive::find("keystone_read_timeout").unwrap();
//! let Setter::Server(set) = directive.setter else { panic!() };
//! let mut conf = ServerConf::default();
//! let mut reader = Plain;
//! let mut line = directive.line(&mut reader, "keystone_read_timeout", &["soon"]).unwrap();
//! assert_eq!(
//!     set(&mut line, &mut conf).unwrap_err().to_string(),
//!     "invalid value \"soon\" in \"keystone_read_timeout\" directive, it must be a time such as \
//!      \"30s\" or \"5m\""
//! );
//! ```

#![forbid(unsafe_code)]

mod credentials;
mod error;
mod files;
mod inherit;
mod line;
mod location;
mod memcached;
mod position;
mod proxy;
mod server;
mod settings;
mod swift;
mod table;
mod token;
mod uri;
pub mod value;
mod zone;

pub use self::credentials::{Credentials, CredentialsConf};
pub use self::error::{ConfError, ErrorAt, SettingsError};
pub use self::files::is_same_file;
pub use self::line::{Host, Line, ValueKind};
pub use self::location::{Auth, LocationConf, CLIENT_CERTIFICATE};
pub use self::memcached::{MemcachedConf, MemcachedSettings};
pub use self::position::{Position, Positions};
pub use self::proxy::{ProxyError, ProxySettings};
pub use self::server::ServerConf;
pub use self::settings::{ServiceSettings, TlsSettings};
pub use self::swift::{AclValue, SwiftConf};
pub use self::table::{count_names, directives, Arguments, Contexts, Directive, Setter};
pub use self::token::TokenSource;
pub use self::uri::{ServiceUri, UriError};
pub use self::value::ValueError;
pub use self::zone::{MainConf, ZoneSettings};
