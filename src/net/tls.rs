//! TLS to the identity service.
//!
//! OpenSSL runs over the nginx connection's non-blocking reads and writes instead of nginx's own
//! TLS functions: those report why a handshake failed only to the log, and differ between nginx's
//! versions. It is the same shared library, and the connection below it stays an ordinary nginx
//! connection.

use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::task::Poll;

use keystone_conf::TlsSettings;
use keystone_gateway::tls::{first_reason, session};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    ErrorCode, SslContext, SslContextBuilder, SslMethod, SslMode, SslStream, SslVerifyMode,
    SslVersion,
};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::X509VerifyResult;
use openssl_sys::{SSL_CTX_get_cert_store, SSL_CTX, X509_STORE};
use thiserror::Error;

use super::connection::{Action, PeerConnection};
use super::error::{NetError, Phase};

extern "C" {
    // In OpenSSL since 1.1.1, and not among what openssl-sys declares by itself.
    fn SSL_CTX_set1_cert_store(context: *mut SSL_CTX, store: *mut X509_STORE);
}

/// Everything that TLS connections of one configuration share. Cheap to clone.
#[derive(Clone)]
pub struct TlsContext {
    context: SslContext,
    name: Option<String>,
    verify: bool,
    trust: Trust,
    /// The CAs of `context`, which keeps them.
    store: Option<NonNull<X509_STORE>>,
}

impl TlsContext {
    /// Loads the files that the settings name; an error says which one and why. `https` says
    /// whether connections will be made: without them the system's CAs are not needed.
    ///
    /// The CAs are those of one of the `others` that trusts the same, if there is one. To parse
    /// the system's takes longer than everything else that nginx does at its start.
    pub fn new<'a>(
        settings: &TlsSettings,
        https: bool,
        mut others: impl Iterator<Item = &'a Self>,
    ) -> Result<Self, TlsError> {
        let mut builder = SslContextBuilder::new(SslMethod::tls_client()).map_err(internal)?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(internal)?;
        builder.set_mode(
            SslMode::AUTO_RETRY | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::RELEASE_BUFFERS,
        );
        let verify = if settings.verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE };
        builder.set_verify(verify);

        let trust = Trust::new(settings, https);
        let store = trust.load(&mut builder, others.find(|other| other.trust == trust))?;
        if settings.partial_chain {
            let flag = X509VerifyFlags::PARTIAL_CHAIN;
            builder.verify_param_mut().set_flags(flag).map_err(internal)?;
        }
        load_client_certificate(&mut builder, settings)?;

        Ok(Self {
            context: builder.build(),
            name: settings.name.clone(),
            verify: settings.verify,
            trust,
            store,
        })
    }

    /// Makes the connection a TLS one with the server called `host`, or by the configured name.
    pub(super) async fn handshake(
        &self,
        peer: PeerConnection,
        host: &str,
        address: &str,
    ) -> Result<SslStream<PeerConnection>, NetError> {
        let failed = |reason: String| NetError::Tls { address: address.to_owned(), reason };

        peer.set_action(Action::Handshaking);
        let server = self.name.as_deref().unwrap_or(host);
        let mut stream = session(&self.context, server)
            .and_then(|mut session| {
                session.set_connect_state();
                SslStream::new(session, peer)
            })
            .map_err(|errors| failed(first_reason(&errors)))?;

        poll_fn(|cx| {
            stream.get_ref().set_waker(cx);
            let Err(error) = stream.do_handshake() else {
                return Poll::Ready(Ok(()));
            };
            match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Poll::Pending,
                _ => Poll::Ready(Err(error)),
            }
        })
        .await
        .map_err(|error| {
            if stream.get_ref().timed_out().is_some() {
                return NetError::Timeout(Phase::Handshake);
            }
            let verified = stream.ssl().verify_result();
            failed(match error.io_error() {
                _ if self.verify && verified != X509VerifyResult::OK => {
                    format!("certificate verification: {}", verified.error_string())
                }
                Some(error) if error.kind() != io::ErrorKind::UnexpectedEof => error.to_string(),
                _ => match error.ssl_error() {
                    Some(errors) => first_reason(errors),
                    None => "peer closed the connection".to_owned(),
                },
            })
        })?;

        // OpenSSL has already refused the peer otherwise; this costs nothing.
        if self.verify && stream.ssl().verify_result() != X509VerifyResult::OK {
            return Err(failed("certificate verification failed".to_owned()));
        }
        Ok(stream)
    }
}

/// Whose certificates are trusted.
#[derive(Clone, Eq, PartialEq)]
enum Trust {
    /// The CAs of a file.
    File(PathBuf),
    /// None: certificates are not verified, or no endpoint is `https:`, and no file is named.
    Nothing,
    /// The system's CAs.
    System,
}

impl Trust {
    fn new(settings: &TlsSettings, https: bool) -> Self {
        match &settings.trusted_certificate {
            // Read where it is not needed too: a file that cannot be used is an error in any case.
            Some(path) => Self::File(path.clone()),
            None if https && settings.verify => Self::System,
            None => Self::Nothing,
        }
    }

    /// Has the builder trust these CAs, which `other` has loaded already if there is one. Returns
    /// the store that holds them.
    fn load(
        &self,
        builder: &mut SslContextBuilder,
        other: Option<&TlsContext>,
    ) -> Result<Option<NonNull<X509_STORE>>, TlsError> {
        match other.and_then(|other| other.store) {
            // SAFETY: both are valid, the store as part of the other's context. The builder takes
            // a reference of its own, and OpenSSL locks a store that contexts share.
            Some(store) => unsafe { SSL_CTX_set1_cert_store(builder.as_ptr(), store.as_ptr()) },
            None => match self {
                Self::File(path) => builder.set_ca_file(path).map_err(in_file(path))?,
                Self::Nothing => {}
                Self::System => builder.set_default_verify_paths().map_err(internal)?,
            },
        }
        // SAFETY: the builder is valid.
        Ok(NonNull::new(unsafe { SSL_CTX_get_cert_store(builder.as_ptr()) }))
    }
}

/// Why TLS cannot be set up as it is configured.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("\"{}\": {reason}", path.display())]
    File {
        /// The certificate, the key or the CA bundle.
        path: PathBuf,
        /// What the system or OpenSSL says.
        reason: String,
    },
    /// There is a key without a certificate.
    #[error("no certificate is given for key \"{}\"", .0.display())]
    NoCertificate(PathBuf),
    /// There is a certificate without a key.
    #[error("no key is given for certificate \"{}\"", .0.display())]
    NoKey(PathBuf),
    /// OpenSSL cannot be set up at all.
    #[error("{0}")]
    OpenSsl(String),
}

fn load_client_certificate(
    builder: &mut SslContextBuilder,
    settings: &TlsSettings,
) -> Result<(), TlsError> {
    match (&settings.certificate, &settings.certificate_key) {
        (None, None) => Ok(()),
        (Some(certificate), Some(key)) => {
            builder.set_certificate_chain_file(certificate).map_err(in_file(certificate))?;
            load_key(builder, key)?;
            builder.check_private_key().map_err(in_file(key))
        }
        (Some(certificate), None) => Err(TlsError::NoKey(certificate.clone())),
        (None, Some(key)) => Err(TlsError::NoCertificate(key.clone())),
    }
}

fn load_key(builder: &mut SslContextBuilder, path: &Path) -> Result<(), TlsError> {
    let unreadable =
        |err: io::Error| TlsError::File { path: path.to_owned(), reason: err.to_string() };
    let pem = zeroize::Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
    // Without this passphrase, OpenSSL would ask for one on the terminal.
    let key = PKey::private_key_from_pem_passphrase(&pem, b"").map_err(in_file(path))?;
    builder.set_private_key(&key).map_err(in_file(path))
}

fn internal(errors: ErrorStack) -> TlsError {
    TlsError::OpenSsl(first_reason(&errors))
}

fn in_file(path: &Path) -> impl Fn(ErrorStack) -> TlsError + '_ {
    move |err| {
        // OpenSSL's own words for a missing file are "system library".
        let reason = match std::fs::File::open(path) {
            Err(err) => err.to_string(),
            Ok(_) => first_reason(&err),
        };
        TlsError::File { path: path.to_owned(), reason }
    }
}
