//! Who the module is to Keystone.

use keystone_token::api::{ApiVersion, AuthVersion, Login};
use keystone_token::secret::Secret;

use crate::error::SettingsError;
use crate::inherit::inherit;

/// How the module authenticates to Keystone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// With a v3 application credential.
    ApplicationCredential {
        /// Id of the application credential.
        id: String,
        /// Secret of the application credential.
        secret: Secret,
    },
    /// Without credentials: only requests that need no service token are possible.
    None,
    /// As a user with a password.
    Password {
        /// Name of the user.
        username: String,
        /// Password of the user.
        password: Secret,
        /// Name of the project, or of the tenant in v2.0.
        project_name: Option<String>,
        /// The user's domain, for v3.
        user_domain_name: String,
        /// The project's domain, for v3.
        project_domain_name: String,
    },
    /// With a token that was given.
    Token(Secret),
}

impl Credentials {
    /// What a token is obtained with; `None` where there is one already, or nothing to obtain it
    /// with.
    pub fn login(&self) -> Option<Login<'_>> {
        match self {
            Self::ApplicationCredential { id, secret } => {
                Some(Login::ApplicationCredential { id, secret: secret.expose() })
            }
            Self::None | Self::Token(_) => None,
            Self::Password {
                username,
                password,
                project_name,
                user_domain_name,
                project_domain_name,
            } => Some(Login::Password {
                username,
                password: password.expose(),
                project_name: project_name.as_deref(),
                user_domain_name,
                project_domain_name,
            }),
        }
    }
}

/// The directives that make credentials, of which there are three kinds. A level that sets a
/// directive of one kind inherits nothing of another.
#[derive(Clone, Debug, Default)]
pub struct CredentialsConf {
    /// `keystone_admin_token`.
    pub token: Option<Secret>,
    /// `keystone_username`.
    pub username: Option<String>,
    /// `keystone_password`.
    pub password: Option<Secret>,
    /// `keystone_project_name`.
    pub project_name: Option<String>,
    /// `keystone_user_domain_name`.
    pub user_domain_name: Option<String>,
    /// `keystone_project_domain_name`.
    pub project_domain_name: Option<String>,
    /// `keystone_application_credential_id`.
    pub application_credential_id: Option<String>,
    /// `keystone_application_credential_secret`.
    pub application_credential_secret: Option<Secret>,
}

impl CredentialsConf {
    fn kinds(&self) -> [bool; 3] {
        let password =
            self.username.is_some() || self.password.is_some() || self.project_name.is_some();
        let application = self.application_credential_id.is_some()
            || self.application_credential_secret.is_some();
        [self.token.is_some(), password, application]
    }

    /// Takes from the level around this one what this one leaves open.
    pub(crate) fn inherit(&mut self, outer: &Self) {
        let mine = self.kinds();
        let [inherits_token, inherits_password, inherits_application] = match mine.contains(&true) {
            true => mine,
            false => [true; 3],
        };
        let Self {
            token,
            username,
            password,
            project_name,
            user_domain_name,
            project_domain_name,
            application_credential_id,
            application_credential_secret,
        } = self;
        if inherits_token {
            inherit(token, &outer.token);
        }
        if inherits_password {
            inherit(username, &outer.username);
            inherit(password, &outer.password);
            inherit(project_name, &outer.project_name);
        }
        inherit(user_domain_name, &outer.user_domain_name);
        inherit(project_domain_name, &outer.project_domain_name);
        if inherits_application {
            inherit(application_credential_id, &outer.application_credential_id);
            inherit(application_credential_secret, &outer.application_credential_secret);
        }
    }

    /// The credentials of the level, for this version of the API.
    pub(crate) fn credentials(&self, version: AuthVersion) -> Result<Credentials, SettingsError> {
        let domain = |name: &Option<String>| name.clone().unwrap_or_else(|| "Default".to_owned());
        match self.kinds() {
            [false, false, false] => Ok(Credentials::None),
            [true, false, false] => {
                Ok(self.token.clone().map_or(Credentials::None, Credentials::Token))
            }
            [false, true, false] => match (&self.username, &self.password) {
                (Some(username), Some(password)) => Ok(Credentials::Password {
                    username: username.clone(),
                    password: password.clone(),
                    project_name: self.project_name.clone(),
                    user_domain_name: domain(&self.user_domain_name),
                    project_domain_name: domain(&self.project_domain_name),
                }),
                _ => Err(SettingsError::Incomplete("keystone_username", "keystone_password")),
            },
            [false, false, true] => {
                match (&self.application_credential_id, &self.application_credential_secret) {
                    (Some(_), Some(_)) if version == AuthVersion::Fixed(ApiVersion::V2) => {
                        Err(SettingsError::NeedsV3)
                    }
                    (Some(id), Some(secret)) => Ok(Credentials::ApplicationCredential {
                        id: id.clone(),
                        secret: secret.clone(),
                    }),
                    _ => Err(SettingsError::Incomplete(
                        "keystone_application_credential_id",
                        "keystone_application_credential_secret",
                    )),
                }
            }
            _ => Err(SettingsError::MixedCredentials),
        }
    }
}
