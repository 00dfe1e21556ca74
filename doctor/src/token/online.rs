//! Keystone, for a token: the first endpoint that answers.

use keystone_token::api::{self, ApiVersion};
use keystone_token::online::Answer;

use crate::conf::service::Settings;
use crate::keystone::{AskError, Certificates, Endpoint, ServiceToken, Uri};

/// An endpoint that has answered, and the module's own token there.
pub struct Online<'s> {
    endpoint: Endpoint<'s>,
    version: ApiVersion,
    token: Result<ServiceToken, AskError>,
}

/// What Keystone serves for PKI tokens.
pub enum Part<T> {
    /// Keystone has served it.
    Served(T),
    /// It does not have such a thing: 403, 404 or 410.
    Absent,
}

impl<'s> Online<'s> {
    /// Asks one endpoint after the other, until one answers.
    pub fn open(settings: &'s Settings) -> Result<Self, String> {
        let mut failure = "there is no URI to ask".to_owned();
        for uri in Uri::all(settings) {
            let name = uri.text.clone();
            let found =
                Endpoint::reach(uri, settings).map_err(AskError::from).and_then(|mut endpoint| {
                    let (version, _) = endpoint.discover()?;
                    Ok((endpoint, version))
                });
            match found {
                Ok((endpoint, version)) => {
                    let token = endpoint.log_in(version);
                    return Ok(Self { endpoint, version, token });
                }
                Err(error) => failure = format!("{name}: {error}"),
            }
        }
        Err(failure)
    }

    /// The signing certificates and those of the CA.
    pub fn certificates(&self) -> Result<Part<Certificates>, String> {
        part(self.endpoint.certificates(self.version))
    }

    /// The CMS message of the revocation list, in PEM.
    pub fn revocation_list(&self) -> Result<Part<String>, String> {
        let token = self.token()?;
        part(self.endpoint.revocation_list(self.version, &token.id))
    }

    /// What Keystone says about a token.
    pub fn validate(&self, text: &str) -> Result<Answer, AskError> {
        match &self.token {
            Ok(token) => self.endpoint.validate(self.version, text, &token.id),
            Err(AskError::Status(code)) => Err(AskError::Status(*code)),
            Err(_) => Err(AskError::NoCredentials),
        }
    }

    fn token(&self) -> Result<&ServiceToken, String> {
        self.token.as_ref().map_err(|error| format!("no token for the module: {error}"))
    }
}

fn part<T>(answer: Result<T, AskError>) -> Result<Part<T>, String> {
    match answer {
        Ok(part) => Ok(Part::Served(part)),
        Err(AskError::Status(status)) if api::is_not_offered(status) => Ok(Part::Absent),
        Err(error) => Err(error.to_string()),
    }
}
