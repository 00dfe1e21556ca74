//! `keystone_token`: where the user token of a request is.

use crate::value::{self, ValueError};
use keystone_token::headers::{folded, is_stripped};

/// A value of `keystone_token`. The variables that show one part of a request are told apart here,
/// so that nothing is evaluated for them, and the part itself can be withheld from an upstream. `V`
/// is any other value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenSource<V> {
    /// `$arg_NAME`: an argument of the query.
    Argument(String),
    /// `$keystone_bearer`: the token of `Authorization: Bearer`.
    Bearer,
    /// `$cookie_NAME`.
    Cookie(String),
    /// `$http_NAME`: the header of this name, in lower case and with `-`.
    Header(String),
    /// A value with other variables.
    Value(V),
}

impl<V> TokenSource<V> {
    /// Reads a value; `compile` makes one that is none of the others ready to be evaluated.
    pub(crate) fn read(
        text: &str,
        compile: impl FnOnce() -> Result<V, ValueError>,
    ) -> Result<Self, ValueError> {
        if !value::has_variables(text) {
            return Err(ValueError::NoVariable);
        }
        let Some(name) = single_variable(text) else { return Ok(Self::Value(compile()?)) };
        // nginx compares the names of variables in lower case.
        let name = name.to_ascii_lowercase();
        let part = |prefix| name.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
        if name == "keystone_bearer" {
            Ok(Self::Bearer)
        } else if name.starts_with("keystone_") {
            // It has its value only when the token is known.
            Err(ValueError::TokenOfIdentity)
        } else if let Some(name) = part("http_") {
            header(name)
        } else if let Some(name) = part("cookie_") {
            Ok(Self::Cookie(name.to_owned()))
        } else if let Some(name) = part("arg_") {
            Ok(Self::Argument(name.to_owned()))
        } else {
            Ok(Self::Value(compile()?))
        }
    }

    /// The names of nginx's variables that show the part of a request which the token is taken
    /// from. `*` stands for any end of a name.
    pub fn variables(&self) -> Vec<String> {
        match self {
            // Its value is not kept by nginx, but those of the whole URI and line are.
            Self::Argument(_) => ["request_uri", "request"].map(str::to_owned).into(),
            Self::Bearer => vec!["http_authorization".to_owned()],
            Self::Cookie(name) => vec![format!("cookie_{name}"), "http_cookie".to_owned()],
            Self::Header(name) => vec![format!("http_{}", name.replace('-', "_"))],
            // It may be made of any of them.
            Self::Value(_) => ["request_uri", "http_*", "cookie_*"].map(str::to_owned).into(),
        }
    }
}

/// The name, if the text is one variable and nothing else.
fn single_variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let name = match name.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => name,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

fn header<V>(name: &str) -> Result<TokenSource<V>, ValueError> {
    let name: Vec<u8> = name.bytes().map(folded).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    match name.as_str() {
        "cookie" => Err(ValueError::TokenInCookies),
        "x-service-token" => Err(ValueError::ServiceTokenAsToken),
        name if is_stripped(name.as_bytes()) => Err(ValueError::TokenOfIdentity),
        name if OF_THE_MESSAGE.contains(&name) => Err(ValueError::TokenInMessage),
        _ => Ok(TokenSource::Header(name)),
    }
}

/// Headers that say where a message goes and how long it is.
const OF_THE_MESSAGE: [&str; 7] =
    ["connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TokenSource<String>, ValueError> {
        TokenSource::read(text, || Ok(text.to_owned()))
    }

    #[test]
    fn a_variable_that_shows_a_part_of_a_request_is_that_part() {
        let header = |name: &str| TokenSource::Header(name.to_owned());
        for (text, source) in [
            ("$http_x_auth_token", header("x-auth-token")),
            ("${http_x_auth_token}", header("x-auth-token")),
            ("$HTTP_X_Auth_Token", header("x-auth-token")),
            ("$http_authorization", header("authorization")),
            ("$cookie_Keystone", TokenSource::Cookie("keystone".to_owned())),
            ("$arg_temp", TokenSource::Argument("temp".to_owned())),
            ("$keystone_bearer", TokenSource::Bearer),
            ("$my_token", TokenSource::Value("$my_token".to_owned())),
            ("$http_", TokenSource::Value("$http_".to_owned())),
            ("$arg_a$arg_b", TokenSource::Value("$arg_a$arg_b".to_owned())),
            ("${arg_a}${arg_b}", TokenSource::Value("${arg_a}${arg_b}".to_owned())),
            ("x$arg_a", TokenSource::Value("x$arg_a".to_owned())),
            ("$keystone_bearer.", TokenSource::Value("$keystone_bearer.".to_owned())),
        ] {
            assert_eq!(read(text), Ok(source), "{text}");
        }
    }

    #[test]
    fn what_can_be_no_token_is_refused() {
        for (text, reason) in [
            ("http_x_auth_token", ValueError::NoVariable),
            ("", ValueError::NoVariable),
            ("$http_cookie", ValueError::TokenInCookies),
            ("$http_x_service_token", ValueError::ServiceTokenAsToken),
            ("$http_x_roles", ValueError::TokenOfIdentity),
            ("$keystone_user_id", ValueError::TokenOfIdentity),
            ("$http_content_length", ValueError::TokenInMessage),
        ] {
            assert_eq!(read(text), Err(reason), "{text}");
        }
    }
}
