//! The HTTP proxy between the gateway and an identity service.

use base64::prelude::{Engine, BASE64_STANDARD};
use keystone_token::secret::Secret;
use zeroize::Zeroizing;

use crate::uri::{ServiceUri, UriError};

/// Where the proxy is, and who the module is to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxySettings {
    /// Without user and password, so that it can be logged.
    pub uri: ServiceUri,
    /// The value of `Proxy-Authorization`, if the proxy wants to know a user.
    pub authorization: Option<Secret>,
}

impl ProxySettings {
    /// Reads `http://[USER:PASSWORD@]HOST[:PORT]`. What is reserved in user and password is
    /// percent-encoded, as in each URI.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let rest = text.split_once("://").filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http"));
        let (_, rest) = rest.ok_or(ProxyError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(ProxyError::Path);
        }
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let uri = format!("http://{host}").parse()?;
        let authorization = user.map(basic).transpose()?;
        Ok(Self { uri, authorization })
    }
}

/// The header of RFC 7617 for the `USER:PASSWORD` of a URI.
fn basic(user_info: &str) -> Result<Secret, ProxyError> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let user = decode(user).filter(|user| !user.is_empty() && !user.contains(':'));
    let password = decode(password);
    let (user, password) = user.zip(password).ok_or(ProxyError::User)?;
    let pair = Zeroizing::new(format!("{}:{}", *user, *password));
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    Ok(Secret::new(format!("Basic {}", *encoded)))
}

/// Text without percent-encoding; `None` where an escape is broken, or hides what no header may have.
fn decode(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (escape, tail) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        bytes.push(digit(escape[0])? << 4 | digit(escape[1])?);
        rest = tail;
    }
    let text = Zeroizing::new(String::from_utf8(std::mem::take(&mut *bytes)).ok()?);
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Why a text is no proxy. Nothing of the text is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyError {
    /// A proxy has no path.
    #[error("it must have a host and a port only, and no path")]
    Path,
    /// It is no URI with http.
    #[error("it must start with http://, or be \"off\"")]
    Scheme,
    /// Host or port is none.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The part before `@` cannot be sent.
    #[error("its user and password must be percent-encoded UTF-8 without control characters")]
    User,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read() {
        for (text, uri, authorization) in [
            ("http://proxy:3128", "http://proxy:3128", None),
            ("HTTP://Proxy:3128/", "http://Proxy:3128", None),
            ("http://[::1]:8080", "http://[::1]:8080", None),
            ("http://u:p@proxy", "http://proxy", Some("Basic dTpw")),
            ("http://u@proxy", "http://proxy", Some("Basic dTo=")),
            ("http://a%40b:p%3a%2F@proxy:1", "http://proxy:1", Some("Basic YUBiOnA6Lw==")),
            ("http://u:a@b@proxy", "http://proxy", Some("Basic dTphQGI=")),
            ("http://J%C3%BCrgen:p@proxy", "http://proxy", Some("Basic SsO8cmdlbjpw")),
        ] {
            let proxy = ProxySettings::parse(text).unwrap();
            assert_eq!(proxy.uri.as_str(), uri, "{text}");
            let found = proxy.authorization.as_ref().map(Secret::expose);
            assert_eq!(found, authorization, "{text}");
            assert!(!format!("{proxy:?}").contains("Basic"), "{proxy:?}");
        }
    }

    #[test]
    fn what_is_no_proxy() {
        for (text, error) in [
            ("", ProxyError::Scheme),
            ("proxy:3128", ProxyError::Scheme),
            ("https://proxy:3128", ProxyError::Scheme),
            ("socks5://proxy", ProxyError::Scheme),
            ("http://proxy/path", ProxyError::Path),
            ("http://proxy?x", ProxyError::Path),
            ("http://", ProxyError::Uri(UriError::Scheme)),
            ("http://proxy:0", ProxyError::Uri(UriError::Port)),
            ("http://pro xy", ProxyError::Uri(UriError::Character)),
            ("http://@proxy", ProxyError::User),
            ("http://:p@proxy", ProxyError::User),
            ("http://a%3ab:p@proxy", ProxyError::User),
            ("http://u:%0a@proxy", ProxyError::User),
            ("http://u:%4@proxy", ProxyError::User),
            ("http://u:%ff@proxy", ProxyError::User),
        ] {
            assert_eq!(ProxySettings::parse(text), Err(error), "{text}");
        }
    }
}
