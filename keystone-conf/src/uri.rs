//! The URI of an identity service.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An absolute http or https URI that fits into a header.
#[derive(Clone, Eq, PartialEq)]
pub struct ServiceUri {
    text: String,
    https: bool,
    host: String,
    port: u16,
    path: usize,
}

impl ServiceUri {
    /// The URI as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether TLS is spoken there.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host in lower case: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that is written, or the default of the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path as it is written: empty, or `/` and more.
    pub fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default()
    }
}

impl FromStr for ServiceUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || b"\"\\<>".contains(&byte)) {
            return Err(UriError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UriError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if path.contains(['?', '#']) || authority.contains('@') {
            return Err(UriError::Part);
        }
        let authority = authority.to_ascii_lowercase();
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if !authority.bytes().all(is_of_host) {
            return Err(UriError::Host);
        }
        let colon = authority.find(':').unwrap_or(authority.len());
        let (host, port) = authority.split_at(authority.find(']').map_or(colon, |at| at + 1));
        // An IPv6 address without brackets, or nginx's way to name a socket.
        if port.matches(':').count() > 1 || host == "unix" {
            return Err(UriError::Host);
        }
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(UriError::Port)?,
            None if !port.is_empty() => return Err(UriError::Host),
            None if https => 443,
            None => 80,
        };
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|it| it.parse::<Ipv6Addr>().is_ok()),
            None => !host.contains(['[', ']']),
        };
        match host {
            "" => Err(UriError::Scheme),
            _ if !is_host => Err(UriError::Host),
            host => Ok(Self {
                host: host.to_owned(),
                path: text.len() - path.len(),
                text: text.to_owned(),
                https,
                port,
            }),
        }
    }
}

impl fmt::Debug for ServiceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Why a text is no URI of an identity service.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UriError {
    /// It has a blank, a quote, a backslash or the like.
    #[error("it has a character that a URI cannot have")]
    Character,
    /// The host is neither a name nor an address.
    #[error("its host must be a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// It has more than scheme, host, port and path. A password would end up in logs.
    #[error("it must have neither a user, a query nor a fragment")]
    Part,
    /// The port is not a number from 1 to 65535.
    #[error("its port must be a number from 1 to 65535")]
    Port,
    /// It does not begin like one.
    #[error("it must start with http:// or https:// and a host")]
    Scheme,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_taken_apart() {
        for (text, https, host, port, path) in [
            ("http://cloud", false, "cloud", 80, ""),
            (
                "https://Cloud.example.com/identity/v3/",
                true,
                "cloud.example.com",
                443,
                "/identity/v3/",
            ),
            ("HTTP://cloud:5000/", false, "cloud", 5000, "/"),
            ("https://[::1]:443", true, "[::1]", 443, ""),
            ("http://[::1]/x", false, "[::1]", 80, "/x"),
            ("http://10.0.0.1:5000/v3", false, "10.0.0.1", 5000, "/v3"),
        ] {
            let uri: ServiceUri = text.parse().unwrap();
            assert_eq!(
                (uri.is_https(), uri.host(), uri.port(), uri.path(), uri.as_str()),
                (https, host, port, path, text)
            );
        }
    }

    #[test]
    fn what_is_no_uri_of_a_service_is_refused() {
        for (text, error) in [
            ("", UriError::Scheme),
            ("cloud:5000", UriError::Scheme),
            ("ftp://cloud", UriError::Scheme),
            ("http://", UriError::Scheme),
            ("http://:80", UriError::Scheme),
            ("http:///v3", UriError::Scheme),
            ("http://a b", UriError::Character),
            ("http://a\"b", UriError::Character),
            ("http://a\\b", UriError::Character),
            ("http://caf\u{e9}", UriError::Character),
            ("http://a@cloud", UriError::Part),
            ("http://cloud/?q", UriError::Part),
            ("http://cloud?q", UriError::Part),
            ("http://cloud/#f", UriError::Part),
            ("http://cl*ud", UriError::Host),
            ("http://cloud:", UriError::Port),
            ("http://cloud:/x", UriError::Port),
            ("http://cloud:0", UriError::Port),
            ("http://cloud:65536", UriError::Port),
            ("http://cloud:http", UriError::Port),
            ("http://[::1]x", UriError::Host),
            ("http://[::g]:80", UriError::Host),
            ("http://unix:80", UriError::Host),
            ("http://::1:5000", UriError::Host),
            ("http://[::1", UriError::Host),
            ("http://unix:/run/x", UriError::Host),
        ] {
            assert_eq!(text.parse::<ServiceUri>(), Err(error), "{text}");
        }
    }
}
