//! Which certificate a TLS client has, as Keystone tells it in the tokens that are bound to one.
//!
//! A token of `/v3/OS-OAUTH2/token` that a client got with its certificate (RFC 8705) has the
//! member `oauth2_credential`, and in it `x5t#S256`. This is not the thumbprint of the RFC, which
//! is the SHA-256 of the certificate's DER, in base64url without padding. Keystone takes the
//! SHA-256 of the PEM text that its web server gives it, and writes it with padding. All servers
//! write the text as OpenSSL does, and so does keystonemiddleware, from the DER of the connection.

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use base64::Engine as _;
use openssl::sha::sha256;

use crate::{format, text};

/// The thumbprint of a certificate in PEM. The text may be percent-encoded, as in nginx's
/// `$ssl_client_escaped_cert`, and may have blanks instead of line ends, or besides them: headers
/// cannot hold line ends. It is one certificate: of two, such as of two headers that nginx has
/// joined, one may be forged.
pub fn thumbprint(certificate: &[u8]) -> Result<String, ThumbprintError> {
    let text = text::unquote(certificate);
    let text = std::str::from_utf8(&text).map_err(|_| ThumbprintError)?;
    let body = text.trim_ascii().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let base64 = body.ok_or(ThumbprintError)?.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let base64: Vec<_> = base64.collect();
    let der = STANDARD.decode(base64).map_err(|_| ThumbprintError)?;
    if der.is_empty() {
        return Err(ThumbprintError);
    }
    let pem = format::pem("CERTIFICATE", &der);
    Ok(URL_SAFE.encode(sha256(pem.as_bytes())))
}

/// The text is not a certificate in PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a certificate in PEM")]
pub struct ThumbprintError;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    /// What `keystone.common.utils.get_certificate_thumbprint()` of Keystone 30 makes of
    /// `examples/signed/cacert.pem`, and keystonemiddleware 13 of its DER.
    const THUMBPRINT: &str = "yjdHxxTTTR3pxgA2zD9gfgZtvAGyhTMcb1xD93rrSFk=";
    const PEM: &str = include_str!("../examples/signed/cacert.pem");

    fn is_that_of_pem(text: &str) -> bool {
        thumbprint(text.as_bytes()).as_deref() == Ok(THUMBPRINT)
    }

    #[test]
    fn it_is_that_of_keystone() {
        assert!(is_that_of_pem(PEM));
    }

    #[test]
    fn the_form_of_the_text_does_not_matter() {
        let escaped = PEM.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
        assert!(is_that_of_pem(&escaped.replace('/', "%2F").replace('=', "%3D")));
        for line_end in [" ", "", "\r\n", "\n\t", " \t "] {
            assert!(is_that_of_pem(&PEM.replace('\n', line_end)), "{line_end:?}");
        }
        assert!(is_that_of_pem(PEM.trim_end()));
    }

    #[test]
    fn another_certificate_has_another() {
        let other = include_str!("../examples/signed/signing_cert.pem");
        let other = thumbprint(other.as_bytes()).unwrap();
        assert_ne!(other, THUMBPRINT);
        assert_eq!(other.len(), THUMBPRINT.len());
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let request = PEM.replace("CERTIFICATE", "CERTIFICATE REQUEST");
        let cut = PEM.replace(END, "");
        let empty = format!("{BEGIN}\n{END}\n");
        let damaged = PEM.replacen('\n', "\n!", 2);
        let quoted = PEM.replacen('\n', "\n%ff", 1);
        let chain = format!("{PEM}{PEM}");
        let joined = format!("{}, {}", PEM.trim_end(), PEM.trim_end());
        let named = format!("subject=CN = x\n{PEM}");
        let marked = format!("{BEGIN}{PEM}{END}");
        let texts = ["", "x", "%", "(null)", BEGIN, END, &request, &cut, &empty, &damaged, &quoted];
        for text in texts.into_iter().chain([&*chain, &joined, &named, &marked]) {
            assert_eq!(thumbprint(text.as_bytes()), Err(ThumbprintError), "{text}");
        }
    }
}
