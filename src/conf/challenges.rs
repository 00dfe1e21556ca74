//! The texts of the challenges in the 401 responses of a server.

use keystone_token::result::AuthResult;

/// The challenges of a server.
#[derive(Default)]
pub struct Challenges {
    keystone: String,
    bearer: String,
    /// For a client whose token is refused.
    invalid_token: String,
}

impl Challenges {
    /// Those of a server with this `keystone_auth_uri`.
    pub fn new(auth_uri: &str) -> Self {
        let bearer = format!("Bearer realm=\"{auth_uri}\"");
        Self {
            keystone: format!("Keystone uri=\"{auth_uri}\""),
            invalid_token: format!("{bearer}, error=\"invalid_token\""),
            bearer,
        }
    }

    /// That of OpenStack.
    pub fn keystone(&self) -> &str {
        &self.keystone
    }

    /// That of RFC 6750. It tells a client whether its token is the reason, and so whether another
    /// one may help.
    pub fn bearer(&self, result: Option<AuthResult>) -> &str {
        match result {
            // With a bad service token, the client's own token is a good one.
            None | Some(AuthResult::BadServiceToken | AuthResult::NoToken | AuthResult::Ok) => {
                &self.bearer
            }
            Some(_) => &self.invalid_token,
        }
    }
}
