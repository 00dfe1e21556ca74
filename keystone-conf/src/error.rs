//! What is wrong with a directive, and with directives that do not fit together.

use std::io;
use std::path::PathBuf;

use keystone_token::jws::JwsKeyError;
use keystone_token::swift::OptionsError;

use crate::position::Position;
use crate::value::ValueError;

/// Why a directive is refused. The text is in nginx's manner; file and line come behind it.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// The directive has too many or too few arguments.
    #[error("invalid number of arguments in \"{directive}\" directive")]
    ArgumentCount {
        /// The name as it is written.
        directive: String,
    },
    /// The directive is not allowed in this block.
    #[error("\"{directive}\" directive is not allowed here")]
    Context {
        /// The name as it is written.
        directive: String,
    },
    /// The same level has the directive already.
    #[error("\"{directive}\" directive is duplicate")]
    Duplicate {
        /// The name as it is written.
        directive: String,
    },
    /// A directory in which keys are expected has none.
    #[error("no key in \"{}\" of \"{directive}\" directive, the directory is empty", path.display())]
    EmptyDirectory {
        /// The name as it is written.
        directive: String,
        /// The directory, as an absolute path.
        path: PathBuf,
    },
    /// A file that the directive names cannot be read.
    #[error("cannot read \"{}\" of \"{directive}\" directive: {source}", path.display())]
    File {
        /// The name as it is written.
        directive: String,
        /// The file, as an absolute path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file that the directive names has no keys in it.
    #[error("cannot use \"{}\" of \"{directive}\" directive: {source}", path.display())]
    Keys {
        /// The name as it is written.
        directive: String,
        /// The file, as an absolute path.
        path: PathBuf,
        /// What is wrong with it.
        source: JwsKeyError,
    },
    /// There is no memory for what the directive needs.
    #[error("no memory for \"{directive}\" directive")]
    Memory {
        /// The name as it is written.
        directive: String,
    },
    /// A secret that cannot be sent. It is not shown.
    #[error("invalid secret in \"{directive}\" directive, {reason}")]
    Secret {
        /// The name as it is written.
        directive: String,
        /// What is wrong with it.
        reason: ValueError,
    },
    /// No directive has this name.
    #[error("unknown directive \"{directive}\"")]
    Unknown {
        /// The name as it is written.
        directive: String,
    },
    /// A value that the directive does not take.
    #[error("invalid value \"{value}\" in \"{directive}\" directive, {reason}")]
    Value {
        /// The name as it is written.
        directive: String,
        /// The argument as it is written.
        value: String,
        /// What the directive accepts.
        reason: ValueError,
    },
}

impl ConfError {
    /// The file that the system did not let this process read, if that is the reason.
    pub fn forbidden_file(&self) -> Option<&PathBuf> {
        match self {
            Self::File { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(path)
            }
            _ => None,
        }
    }
}

/// Why the directives of a level cannot be used together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// Two directives of which one needs the other.
    #[error("\"{0}\" and \"{1}\" must be set together")]
    Incomplete(&'static str, &'static str),
    /// More than one kind of credentials on one level.
    #[error(
        "only one of \"keystone_admin_token\", \"keystone_username\" and \
         \"keystone_application_credential_id\" can be set"
    )]
    MixedCredentials,
    /// Credentials that the configured version of the API does not have.
    #[error("\"keystone_application_credential_id\" needs API v3, and \"keystone_auth_version\" is v2.0")]
    NeedsV3,
    /// `keystone_auth` without a URI to announce.
    #[error("\"keystone_auth_uri\" directive is missing for \"keystone_auth\"")]
    NoAuthUri,
    /// A strategy that protects nothing without its key.
    #[error(
        "\"keystone_memcached_secret_key\" directive is missing for \
         \"keystone_memcached_security_strategy {0}\""
    )]
    NoMemcachedSecret(&'static str),
    /// The certificates of two identity services would overwrite each other.
    #[error(
        "two identity services share the keystone_signing_dir {}, each needs its own",
        .0.display()
    )]
    SharedSigningDir(PathBuf),
    /// A role that Swift's rules cannot use.
    #[error("invalid \"{directive}\" directive: {source}")]
    SwiftRole {
        /// The directive that names the role.
        directive: &'static str,
        /// What is wrong with it.
        source: OptionsError,
    },
    /// `keystone_swift_auth` where no token is demanded.
    #[error("\"keystone_auth\" directive is missing for \"keystone_swift_auth\"")]
    SwiftWithoutAuth,
}

impl SettingsError {
    /// The directives that it is about; those that are not set are passed over.
    pub fn directives(&self) -> Vec<&'static str> {
        match self {
            Self::Incomplete(one, other) => vec![one, other, "keystone_project_name"],
            Self::MixedCredentials => vec![
                "keystone_application_credential_id",
                "keystone_application_credential_secret",
                "keystone_admin_token",
            ],
            Self::NeedsV3 => vec!["keystone_application_credential_id"],
            Self::NoMemcachedSecret(_) => vec!["keystone_memcached_security_strategy"],
            Self::SharedSigningDir(_) => vec!["keystone_signing_dir"],
            Self::NoAuthUri | Self::SwiftRole { .. } | Self::SwiftWithoutAuth => Vec::new(),
        }
    }
}

/// An error, and the directive that it is about.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{error} in {position}")]
pub struct ErrorAt<E> {
    /// The error itself.
    pub error: E,
    /// File and line of the directive.
    pub position: Position,
}
