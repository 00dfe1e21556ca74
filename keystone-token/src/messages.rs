//! Each error of this crate, with each error that it can contain, as the sentence that an operator
//! reads. Somebody has read every line of [`SENTENCES`] aloud: read those that you add.

use crate::api::{ApiError, ForeignAnswer};
use crate::cms::{CertificateError, CmsError, PemError, SignatureError};
use crate::fernet::FernetError;
use crate::format::{ArmourError, UnknownHashAlgorithm};
use crate::identity::IdentityError;
use crate::json::JsonError;
use crate::jws::{JwsError, JwsKeyError};
use crate::online::AnswerError;
use crate::openssl_error::OpenSslError;
use crate::record::RecordError;
use crate::refusal::{BindFailure, Malformed, Refusal};
use crate::revocation::RevocationError;
use crate::revocation_events::RevocationEventsError;
use crate::swift::{AclError, ContainerAclsError, OptionsError};
use crate::time::TimeError;

/// Lists errors of one type. A variant that is in no line does not compile.
macro_rules! all {
    ($type:ident: $($variant:pat => $values:expr),+ $(,)?) => {{
        let _ = |error: &$type| match error { $($variant => ()),+ };
        let mut all: Vec<$type> = Vec::new();
        $(all.extend($values);)+
        all
    }};
}

fn json() -> Vec<JsonError> {
    let error = |text: &str| serde_json::from_str::<u8>(text).unwrap_err().into();
    vec![error("\"x\""), error(""), error("!")]
}

fn openssl() -> OpenSslError {
    OpenSslError("error:0480006C:PEM routines::no start line".to_owned())
}

fn armour() -> Vec<ArmourError> {
    all!(ArmourError:
        ArmourError::Base64 => [ArmourError::Base64],
        ArmourError::Pem => [ArmourError::Pem],
        ArmourError::TooLong => [ArmourError::TooLong],
        ArmourError::TrailingBytes => [ArmourError::TrailingBytes],
        ArmourError::Unsigned => [ArmourError::Unsigned],
        ArmourError::Zlib => [ArmourError::Zlib],
    )
}

fn cms() -> Vec<CmsError> {
    all!(CmsError:
        CmsError::Armour(_) => armour().into_iter().map(CmsError::Armour),
        CmsError::Form => [CmsError::Form],
    )
}

fn fernet() -> Vec<FernetError> {
    all!(FernetError:
        FernetError::Base64 => [FernetError::Base64],
        FernetError::Future => [FernetError::Future],
        FernetError::Length => [FernetError::Length],
        FernetError::Version => [FernetError::Version],
    )
}

fn jws() -> Vec<JwsError> {
    all!(JwsError:
        JwsError::Base64 => [JwsError::Base64],
        JwsError::Future => [JwsError::Future],
        JwsError::Header => [JwsError::Header],
        JwsError::Payload => [JwsError::Payload],
        JwsError::SignatureLength => [JwsError::SignatureLength],
    )
}

fn identity() -> Vec<IdentityError> {
    all!(IdentityError:
        IdentityError::ControlCharacter => [IdentityError::ControlCharacter],
        IdentityError::Expiry(_) => [IdentityError::Expiry(TimeError)],
        IdentityError::Form => [IdentityError::Form],
        IdentityError::Json(_) => json().into_iter().map(IdentityError::Json),
        IdentityError::Missing(_) => [IdentityError::Missing("user id")],
        IdentityError::NoDomain => [IdentityError::NoDomain],
        IdentityError::NoTenant => [IdentityError::NoTenant],
    )
}

fn malformed() -> Vec<Malformed> {
    all!(Malformed:
        Malformed::Armour(_) => armour().into_iter().map(Malformed::Armour),
        Malformed::Cms(_) => cms().into_iter().map(Malformed::Cms),
        Malformed::Fernet(_) => fernet().into_iter().map(Malformed::Fernet),
        Malformed::Identity(_) => identity().into_iter().map(Malformed::Identity),
        Malformed::Jws(_) => jws().into_iter().map(Malformed::Jws),
        Malformed::Text => [Malformed::Text],
        Malformed::TooLong => [Malformed::TooLong],
    )
}

fn bind() -> Vec<BindFailure> {
    all!(BindFailure:
        BindFailure::CertificateMissing => [BindFailure::CertificateMissing],
        BindFailure::CertificateUnreadable => [BindFailure::CertificateUnreadable],
        BindFailure::KerberosMissing => [BindFailure::KerberosMissing],
        BindFailure::KerberosPrincipal => [BindFailure::KerberosPrincipal],
        BindFailure::NotNamed => [BindFailure::NotNamed],
        BindFailure::OtherCertificate => [BindFailure::OtherCertificate],
        BindFailure::Unbound => [BindFailure::Unbound],
        BindFailure::UnknownMechanism => [BindFailure::UnknownMechanism],
    )
}

fn refusals() -> Vec<Refusal> {
    all!(Refusal:
        Refusal::AccessRules => [Refusal::AccessRules],
        Refusal::BadSignature => [Refusal::BadSignature],
        Refusal::BindFailed(_) => bind().into_iter().map(Refusal::BindFailed),
        Refusal::CertificateExpired => [Refusal::CertificateExpired],
        Refusal::CertificateNotYetValid => [Refusal::CertificateNotYetValid],
        Refusal::Expired => [Refusal::Expired],
        Refusal::Forbidden => [Refusal::Forbidden],
        Refusal::Malformed(_) => malformed().into_iter().map(Refusal::Malformed),
        Refusal::NoTenant => [Refusal::NoTenant],
        Refusal::NoToken => [Refusal::NoToken],
        Refusal::Revoked => [Refusal::Revoked],
        Refusal::ServiceRole => [Refusal::ServiceRole],
        Refusal::UnknownSigner => [Refusal::UnknownSigner],
        Refusal::UnknownToken => [Refusal::UnknownToken],
    )
}

fn signatures() -> Vec<SignatureError> {
    all!(SignatureError:
        SignatureError::BadSignature => [SignatureError::BadSignature],
        SignatureError::Expired => [SignatureError::Expired],
        SignatureError::NotYetValid => [SignatureError::NotYetValid],
        SignatureError::UnknownSigner => [SignatureError::UnknownSigner],
    )
}

fn pem() -> Vec<PemError> {
    all!(PemError:
        PemError::Empty => [PemError::Empty],
        PemError::Unreadable(_) => [PemError::Unreadable(openssl())],
    )
}

fn certificates() -> Vec<CertificateError> {
    let untrusted = "unable to get local issuer certificate".to_owned();
    all!(CertificateError:
        CertificateError::Ca(_) => pem().into_iter().map(CertificateError::Ca),
        CertificateError::NotRsa => [CertificateError::NotRsa],
        CertificateError::OpenSsl(_) => [CertificateError::OpenSsl(openssl())],
        CertificateError::Signing(_) => pem().into_iter().map(CertificateError::Signing),
        CertificateError::Unreadable => [CertificateError::Unreadable],
        CertificateError::Untrusted(_) => [CertificateError::Untrusted(untrusted)],
    )
}

fn jws_keys() -> Vec<JwsKeyError> {
    all!(JwsKeyError:
        JwsKeyError::Curve => [JwsKeyError::Curve],
        JwsKeyError::Missing => [JwsKeyError::Missing],
        JwsKeyError::NotPublic => [JwsKeyError::NotPublic],
        JwsKeyError::Pem(_) => [JwsKeyError::Pem(openssl())],
    )
}

fn answers() -> Vec<AnswerError> {
    all!(AnswerError:
        AnswerError::Identity(_) => identity().into_iter().map(AnswerError::Identity),
        AnswerError::NotKeystone => [AnswerError::NotKeystone],
        AnswerError::Status(_) => [AnswerError::Status(418)],
    )
}

fn api() -> Vec<ApiError> {
    all!(ApiError:
        ApiError::NoUsableVersion(_) => [ApiError::NoUsableVersion("v1.0, v4.0".to_owned())],
        ApiError::NotDiscovery => [ApiError::NotDiscovery],
        ApiError::NotRevocationList => [ApiError::NotRevocationList],
        ApiError::NotToken => [ApiError::NotToken],
        ApiError::Unencodable => [ApiError::Unencodable],
        ApiError::UnknownVersion(_) => [ApiError::UnknownVersion("v4".to_owned())],
        ApiError::V3Only => [ApiError::V3Only],
    )
}

fn foreign_answers() -> Vec<ForeignAnswer> {
    let redirect = |location: Option<&str>| ForeignAnswer::Redirect {
        status: 302,
        location: location.map(str::to_owned),
    };
    all!(ForeignAnswer:
        ForeignAnswer::NotFound => [ForeignAnswer::NotFound],
        ForeignAnswer::Redirect { .. } => [redirect(None), redirect(Some("https://cloud/"))],
    )
}

fn revocations() -> Vec<RevocationError> {
    all!(RevocationError:
        RevocationError::Json(_) => json().into_iter().map(RevocationError::Json),
        RevocationError::Token => [RevocationError::Token],
    )
}

fn acls() -> Vec<AclError> {
    all!(AclError:
        AclError::Designator(_) => [AclError::Designator(".x:y".to_owned())],
        AclError::Host(_) => [AclError::Host(".r:".to_owned())],
        AclError::Write(_) => [AclError::Write(".r:*".to_owned())],
    )
}

fn settings() -> Vec<OptionsError> {
    let (role, prefix) = ("x:admin".to_owned(), "x".to_owned());
    all!(OptionsError:
        OptionsError::Comma(_) => [OptionsError::Comma("a,b".to_owned())],
        OptionsError::NoRole(_) => [OptionsError::NoRole("AUTH_:".to_owned())],
        OptionsError::UnknownPrefix { .. } => [OptionsError::UnknownPrefix { role, prefix }],
    )
}

fn texts<E: ToString>(errors: impl IntoIterator<Item = E>) -> impl Iterator<Item = String> {
    errors.into_iter().map(|error| error.to_string())
}

#[test]
fn every_error_reads_as_one_sentence() {
    let events = json().into_iter().map(RevocationEventsError::from);
    let mut sentences: Vec<String> = texts(refusals())
        .chain(texts(signatures()))
        .chain(texts(certificates()))
        .chain(texts(jws_keys()))
        .chain(texts(answers()))
        .chain(texts(api()))
        .chain(texts(foreign_answers()))
        .chain(texts(revocations()))
        .chain(texts(events))
        .chain(texts(acls()))
        .chain(texts(json().into_iter().map(ContainerAclsError::from)))
        .chain(texts(settings()))
        .chain([RecordError.to_string(), UnknownHashAlgorithm.to_string()])
        .collect();
    sentences.sort();
    sentences.dedup();
    let sentences = sentences.join("\n");
    assert_eq!(sentences, SENTENCES.trim(), "\n{sentences}\n");
}

const SENTENCES: &str = r#"
".r:" names no host
".r:*" is for a referrer, which may not write
".x:y" begins with a dot but is not ".r:"
"AUTH_:" names no role
OpenSSL failed: error:0480006C:PEM routines::no start line
application credentials need v3
invalid response about a token: a v2 token needs a tenant
invalid response about a token: a value contains a control character
invalid response about a token: the document is neither a v2 nor a v3 token
invalid response about a token: the document is not the JSON of a token: missing, duplicate or misplaced value at line 1 column 3
invalid response about a token: the document is not the JSON of a token: syntax error at line 1 column 1
invalid response about a token: the document is not the JSON of a token: unexpected end at line 1 column 0
invalid response about a token: the expiry is missing or invalid: it is not an ISO 8601 date and time
invalid response about a token: the token has no user id
invalid response about a token: the user has no domain
it contains a key that cannot be read: error:0480006C:PEM routines::no start line
it contains a key that is not for ES256 (curve P-256)
it contains no public key in PEM format
it contains something other than public keys
redirect with status 302 is not followed
redirect with status 302 to "https://cloud/" is not followed
role "a,b" contains a comma
role "x:admin" is for "x", which is none of the reseller prefixes
status 404 without an error document of Keystone
the CA file contains a certificate that cannot be read: error:0480006C:PEM routines::no start line
the CA file contains no certificate
the Fernet token is invalid: it was issued more than 60 seconds in the future, check the clocks
the Fernet token is invalid: the length is not one of a Fernet token
the Fernet token is invalid: the text is not base64url
the Fernet token is invalid: the version is not 0x80
the JWS token is invalid: it was issued more than 60 seconds in the future, check the clocks
the JWS token is invalid: the claims are not those that Keystone writes
the JWS token is invalid: the header is not the one that Keystone writes
the JWS token is invalid: the signature does not have the length that its algorithm requires
the JWS token is invalid: the text is not three parts of base64url
the bytes are not an identity record
the document is a token, not a revocation list
the document is not the JSON of a revocation list: missing, duplicate or misplaced value at line 1 column 3
the document is not the JSON of a revocation list: syntax error at line 1 column 1
the document is not the JSON of a revocation list: unexpected end at line 1 column 0
the document is not the JSON of revocation events: missing, duplicate or misplaced value at line 1 column 3
the document is not the JSON of revocation events: syntax error at line 1 column 1
the document is not the JSON of revocation events: unexpected end at line 1 column 0
the document is not {"read": ACL, "write": ACL}: missing, duplicate or misplaced value at line 1 column 3
the document is not {"read": ACL, "write": ACL}: syntax error at line 1 column 1
the document is not {"read": ACL, "write": ACL}: unexpected end at line 1 column 0
the hash algorithm must be md5, sha1, sha224, sha256, sha384 or sha512
the identity service does not know the token
the message cannot be decoded: data follows the zlib stream
the message cannot be decoded: the content is longer than that of any token
the message cannot be decoded: the format is neither PKI nor PKIZ
the message cannot be decoded: the text is not a CMS message in PEM format
the message cannot be decoded: the text is not canonical base64
the message cannot be decoded: the zlib stream is invalid or incomplete
the message does not have the form that Keystone issues
the request cannot be encoded
the request has no token
the response contains no signed revocation list
the response contains no token with an expiry
the response is not a version discovery document
the server offers no usable version (v3 or v2.0), only [v1.0, v4.0]
the service token has none of the required roles
the signature does not match the content
the signer is not a known signing certificate
the signing certificate cannot be read
the signing certificate file contains a certificate that cannot be read: error:0480006C:PEM routines::no start line
the signing certificate file contains no certificate
the signing certificate has expired
the signing certificate has no RSA key
the signing certificate is not trusted: unable to get local issuer certificate
the signing certificate is not valid yet
the token cannot be decoded: data follows the zlib stream
the token cannot be decoded: the content is longer than that of any token
the token cannot be decoded: the format is neither PKI nor PKIZ
the token cannot be decoded: the text is not a CMS message in PEM format
the token cannot be decoded: the text is not canonical base64
the token cannot be decoded: the zlib stream is invalid or incomplete
the token contains invalid characters
the token does not have what the location requires
the token has expired
the token is longer than any unsigned token of Keystone
the token is not scoped to a tenant
the token was revoked
the token's access rules do not permit the request
the token's bind does not match: the client has shown another certificate
the token's bind does not match: the client has shown no certificate
the token's bind does not match: the request is authenticated as another Kerberos principal
the token's bind does not match: the request is not authenticated with Kerberos
the token's bind does not match: the token is bound to an unknown mechanism
the token's bind does not match: the token is not bound to anything
the token's bind does not match: the token is not bound to the required mechanism
the token's bind does not match: the value of keystone_client_certificate is not a certificate in PEM
the token's content is invalid: a v2 token needs a tenant
the token's content is invalid: a value contains a control character
the token's content is invalid: the document is neither a v2 nor a v3 token
the token's content is invalid: the document is not the JSON of a token: missing, duplicate or misplaced value at line 1 column 3
the token's content is invalid: the document is not the JSON of a token: syntax error at line 1 column 1
the token's content is invalid: the document is not the JSON of a token: unexpected end at line 1 column 0
the token's content is invalid: the expiry is missing or invalid: it is not an ISO 8601 date and time
the token's content is invalid: the token has no user id
the token's content is invalid: the user has no domain
unexpected response status 418
unknown version "v4"
"#;
