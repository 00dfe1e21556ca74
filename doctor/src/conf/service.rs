//! The settings of an identity service, with the module's defaults.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keystone_token::api::AuthVersion;
use keystone_token::format::HashAlgorithm;
use keystone_token::secret::Secret;

use super::level::{Level, HEADER_BUFFERS};
use super::reader::{Directive, Problem};
use super::values::{self, SecretError};

/// An identity service, and who uses it.
#[derive(Clone, Debug)]
pub struct Service {
    /// The servers with these settings, as `server at FILE:LINE`.
    pub users: Vec<String>,
    /// All settings.
    pub settings: Settings,
}

/// What the directives say.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `keystone_auth_uri`.
    pub auth_uri: Option<String>,
    /// In the order in which they are tried; empty only where there is no auth URI either.
    pub identity_uris: Vec<String>,
    /// The version of the API.
    pub version: AuthVersion,
    /// Who the module is to Keystone.
    pub credentials: Credentials,
    /// Files with secrets that others than their owner can read.
    pub open_secrets: Vec<PathBuf>,
    /// For the connection, and again for the TLS handshake.
    pub connect_timeout: Duration,
    /// Between two reads, as well as two writes.
    pub read_timeout: Duration,
    /// For https.
    pub tls: TlsSettings,
    /// `None` for the default, which is where nginx was told to keep such things.
    pub signing_dir: Option<PathBuf>,
    /// Never empty.
    pub hash_algorithms: Vec<HashAlgorithm>,
    /// Whether the revocation list is heeded.
    pub revocation: bool,
    /// How old the list may be before it is fetched again.
    pub revocation_cache_time: Duration,
    /// Whether revocation events are fetched.
    pub revocation_events: bool,
    /// How long a valid token is served from the cache.
    pub token_cache_time: Option<Duration>,
    /// The size of one of nginx's header buffers.
    pub header_buffer: u64,
    /// Values that the module would not take.
    pub problems: Vec<Problem>,
}

/// What the `keystone_ssl_...` directives say.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsSettings {
    /// The client's certificate, with its chain.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub certificate_key: Option<PathBuf>,
    /// The name to send and to verify, if it is not the host's.
    pub name: Option<String>,
    /// The CA bundle; the system's CAs without one.
    pub trusted_certificate: Option<PathBuf>,
    /// Whether the server's certificate is verified.
    pub verify: bool,
}

/// As whom the module asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// With a v3 application credential.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Secret,
    },
    /// As nobody.
    None,
    /// As a user with a password.
    Password {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
        /// The project or tenant.
        project_name: Option<String>,
        /// The user's domain, for v3.
        user_domain_name: String,
        /// The project's domain, for v3.
        project_domain_name: String,
    },
    /// With a token that was given.
    Token(Secret),
    /// They are set, and cannot be had here.
    Unusable {
        /// Why.
        reason: String,
        /// Whether that is only because of who runs this program.
        forbidden: bool,
    },
}

impl Service {
    /// Makes the settings of a level's directives; `user` is who has them.
    pub fn new(level: &Level, prefix: &Path, user: &str) -> Self {
        let mut values = Values { level, prefix, problems: Vec::new(), open_secrets: Vec::new() };
        let settings = values.settings();
        Self { users: vec![user.to_owned()], settings }
    }

    /// What a report calls it.  A URI with a user in it, which the module refuses, may have a
    /// password in it too.
    pub fn name(&self) -> &str {
        match self.settings.identity_uris.first() {
            None => "(no URI)",
            Some(uri) if uri.contains('@') => "(a URI with a user)",
            Some(uri) => uri,
        }
    }
}

struct Values<'a> {
    level: &'a Level,
    prefix: &'a Path,
    problems: Vec<Problem>,
    open_secrets: Vec<PathBuf>,
}

impl Values<'_> {
    fn settings(&mut self) -> Settings {
        let auth_uri = self.word("keystone_auth_uri");
        let identity_uris = match self.level.find("keystone_identity_uri") {
            Some(directive) => directive.arguments.clone(),
            None => auth_uri.clone().into_iter().collect(),
        };
        let ten_seconds = Duration::from_secs(10);
        let five_seconds = Duration::from_secs(5);
        let version = self.parsed("keystone_auth_version", |word| word.parse().ok());
        let hash_algorithms = match self.level.find("keystone_hash_algorithms") {
            None => vec![HashAlgorithm::Md5],
            Some(directive) => {
                let directive = directive.clone();
                let known = directive.arguments.iter().filter_map(|word| match word.parse() {
                    Ok(algorithm) => Some(algorithm),
                    Err(_) => {
                        self.complain(&directive, word);
                        None
                    }
                });
                known.collect()
            }
        };
        let credentials = self.credentials();
        Settings {
            auth_uri,
            identity_uris,
            version: version.unwrap_or_default(),
            credentials,
            connect_timeout: self.positive_time("keystone_connect_timeout").unwrap_or(five_seconds),
            read_timeout: self.positive_time("keystone_read_timeout").unwrap_or(ten_seconds),
            tls: TlsSettings {
                certificate: self.path("keystone_ssl_certificate"),
                certificate_key: self.path("keystone_ssl_certificate_key"),
                name: self.word("keystone_ssl_name"),
                trusted_certificate: self.path("keystone_ssl_trusted_certificate"),
                verify: self.flag("keystone_ssl_verify").unwrap_or(true),
            },
            signing_dir: self.path("keystone_signing_dir"),
            hash_algorithms: match hash_algorithms.is_empty() {
                true => vec![HashAlgorithm::Md5],
                false => hash_algorithms,
            },
            revocation: self.flag("keystone_revocation").unwrap_or(true),
            revocation_cache_time: self
                .time("keystone_revocation_cache_time")
                .unwrap_or(ten_seconds),
            revocation_events: match self.word("keystone_revocation_events").as_deref() {
                None | Some("off") => false,
                Some(_) => self.positive_time("keystone_revocation_events").is_some(),
            },
            token_cache_time: match self.word("keystone_token_cache_time").as_deref() {
                Some("off") => None,
                _ => self
                    .positive_time("keystone_token_cache_time")
                    .or(Some(Duration::from_secs(300))),
            },
            header_buffer: self.header_buffer(),
            open_secrets: std::mem::take(&mut self.open_secrets),
            problems: std::mem::take(&mut self.problems),
        }
    }

    fn credentials(&mut self) -> Credentials {
        let application = self.word("keystone_application_credential_id");
        let has = |name| self.level.find(name).is_some();
        let kinds = [
            has("keystone_admin_token"),
            has("keystone_username") || has("keystone_password") || has("keystone_project_name"),
            application.is_some() || has("keystone_application_credential_secret"),
        ];
        let found = match kinds {
            [false, false, false] => Ok(Credentials::None),
            [true, false, false] => self.secret("keystone_admin_token").map(Credentials::Token),
            [false, true, false] => self.password(),
            [false, false, true] => {
                let name = "keystone_application_credential_secret";
                self.secret(name).and_then(|secret| match application {
                    Some(id) => Ok(Credentials::ApplicationCredential { id, secret }),
                    None => {
                        Err(("keystone_application_credential_id is not set".to_owned(), false))
                    }
                })
            }
            _ => Err((
                "only one of keystone_admin_token, keystone_username and \
                       keystone_application_credential_id can be set"
                    .to_owned(),
                false,
            )),
        };
        found.unwrap_or_else(|(reason, forbidden)| Credentials::Unusable { reason, forbidden })
    }

    fn password(&mut self) -> Result<Credentials, (String, bool)> {
        let default = || "Default".to_owned();
        let password = self.secret("keystone_password")?;
        let Some(username) = self.word("keystone_username") else {
            return Err(("keystone_username is not set".to_owned(), false));
        };
        Ok(Credentials::Password {
            username,
            password,
            project_name: self.word("keystone_project_name"),
            user_domain_name: self.word("keystone_user_domain_name").unwrap_or_else(default),
            project_domain_name: self.word("keystone_project_domain_name").unwrap_or_else(default),
        })
    }

    /// A secret, or why there is none and whether that is only because of who asks.
    fn secret(&mut self, name: &str) -> Result<Secret, (String, bool)> {
        let Some(value) = self.word(name) else {
            return Err((format!("{name} is not set"), false));
        };
        let file = value.strip_prefix("file:").map(|path| self.prefix.join(path));
        let secret = values::secret(&value, self.prefix).map_err(|error| match (&file, error) {
            (Some(path), SecretError::File(error)) => {
                let forbidden = error.kind() == std::io::ErrorKind::PermissionDenied;
                (format!("{name}: cannot read {}: {error}", path.display()), forbidden)
            }
            (_, error) => (format!("{name}: {error}"), false),
        })?;
        if let Some(path) = file {
            if std::fs::metadata(&path).is_ok_and(|file| file.mode() & 0o077 != 0) {
                self.open_secrets.push(path);
            }
        }
        Ok(secret)
    }

    fn header_buffer(&mut self) -> u64 {
        let Some(directive) = self.level.find(HEADER_BUFFERS) else { return DEFAULT_BUFFER };
        let size = directive.arguments.get(1).and_then(|size| values::size(size));
        size.unwrap_or(DEFAULT_BUFFER)
    }

    fn word(&self, name: &str) -> Option<String> {
        self.level.find(name)?.arguments.first().cloned()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.word(name).map(|path| self.prefix.join(path))
    }

    fn time(&mut self, name: &str) -> Option<Duration> {
        self.parsed(name, values::time)
    }

    fn positive_time(&mut self, name: &str) -> Option<Duration> {
        self.parsed(name, |word| values::time(word).filter(|time| !time.is_zero()))
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, |word| match word {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        })
    }

    fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let directive = self.level.find(name)?.clone();
        let word = directive.arguments.first().map_or("", String::as_str);
        let value = parse(word);
        if value.is_none() {
            self.complain(&directive, word);
        }
        value
    }

    fn complain(&mut self, directive: &Directive, word: &str) {
        self.problems.push(Problem {
            place: directive.place.clone(),
            text: format!("{} has an invalid value \"{word}\"", directive.name),
        });
    }
}

/// nginx's own default of `large_client_header_buffers`.
const DEFAULT_BUFFER: u64 = 8 << 10;
