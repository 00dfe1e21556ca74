//! TLS to the identity service: whose certificate the server must have, and what went wrong.

use std::net::IpAddr;

use openssl::error::{Error, ErrorStack};
use openssl::ssl::{Ssl, SslContext, SslVerifyMode};
use openssl::x509::verify::X509CheckFlags;

/// A session with the server of this name or address, which may be in brackets as in a URI. If the
/// context verifies certificates, that of the server must be for this name.
pub fn session(context: &SslContext, server: &str) -> Result<Ssl, ErrorStack> {
    let mut session = Ssl::new(context)?;
    let server = server.trim_matches(['[', ']']);
    let address: Option<IpAddr> = server.parse().ok();
    // SNI carries names only.
    if address.is_none() {
        session.set_hostname(server)?;
    }
    if context.verify_mode().contains(SslVerifyMode::PEER) {
        let param = session.param_mut();
        param.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        match address {
            Some(address) => param.set_ip(address)?,
            None => param.set_host(server)?,
        }
    }
    Ok(session)
}

/// What OpenSSL says went wrong first.
pub fn first_reason(errors: &ErrorStack) -> String {
    errors.errors().first().and_then(Error::reason).unwrap_or("unknown error").to_owned()
}

#[cfg(test)]
mod tests {
    use openssl::ssl::{NameType, SslMethod};

    use super::*;

    #[test]
    fn only_names_are_sent() {
        let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::PEER);
        let context = builder.build();
        let sent = |server: &str| {
            let session = session(&context, server).unwrap();
            session.servername(NameType::HOST_NAME).map(str::to_owned)
        };
        assert_eq!(sent("keystone.example.com").as_deref(), Some("keystone.example.com"));
        assert_eq!(sent("192.0.2.1"), None);
        assert_eq!(sent("[2001:db8::1]"), None);
    }

    #[test]
    fn an_error_without_a_reason_is_unknown() {
        assert_eq!(first_reason(&ErrorStack::get()), "unknown error");
    }
}
