//! Certificates: Keystone's signing certificates, and those of TLS servers and clients.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509Builder, X509Name, X509};

use crate::temp::TempDir;
use crate::{now, During, Error, Result};

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: X509,
    /// Its private key.
    pub key: PKey<Private>,
}

/// The content of a certificate.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Subject entries in order, such as `("CN", "www.example.com")`.
    pub subject: Vec<(&'static str, String)>,
    /// Serial number of the certificate.
    pub serial: u32,
    /// First second of validity, in seconds since 1970.
    pub not_before: i64,
    /// Last second of validity, in seconds since 1970.
    pub not_after: i64,
    /// What the extensions allow.
    pub purpose: Purpose,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To sign other certificates.
    Authority,
    /// Signing tokens, with no extended key usage, as `pki_setup` makes them.
    Signing,
    /// To authenticate as a TLS client.
    TlsClient,
    /// A TLS server whose name is the common name, and `127.0.0.1` if that is `localhost`.
    TlsServer,
}

impl Shape {
    /// An authority as `keystone-manage pki_setup` makes it.
    pub fn authority() -> Self {
        Self::new(Purpose::Authority, keystone_subject("www.example.com", true))
    }

    /// A signing certificate as `keystone-manage pki_setup` makes it.
    pub fn signing() -> Self {
        Self::new(Purpose::Signing, keystone_subject("www.example.com", false))
    }

    /// The certificate of a TLS server called `name`.
    pub fn server(name: &str) -> Self {
        Self { serial: 2, ..Self::new(Purpose::TlsServer, vec![("CN", name.into())]) }
    }

    /// The certificate of a TLS client called `name`.
    pub fn client(name: &str) -> Self {
        Self { serial: 3, ..Self::new(Purpose::TlsClient, vec![("CN", name.into())]) }
    }

    /// Sets the serial number.
    pub fn serial(self, serial: u32) -> Self {
        Self { serial, ..self }
    }

    /// Sets the common name.
    pub fn common_name(mut self, name: &str) -> Self {
        self.subject.retain(|(key, _)| *key != "CN");
        self.subject.push(("CN", name.into()));
        self
    }

    /// Sets a validity that ended yesterday.
    pub fn expired(self) -> Self {
        Self { not_before: now() - 30 * DAY, not_after: now() - DAY, ..self }
    }

    /// Sets a validity that begins tomorrow.
    pub fn not_yet_valid(self) -> Self {
        Self { not_before: now() + DAY, not_after: now() + 30 * DAY, ..self }
    }

    fn new(purpose: Purpose, subject: Vec<(&'static str, String)>) -> Self {
        let (not_before, not_after) = (now() - DAY, now() + 3650 * DAY);
        Self { subject, serial: 1, not_before, not_after, purpose }
    }
}

fn keystone_subject(name: &str, locality: bool) -> Vec<(&'static str, String)> {
    let mut subject = vec![("C", "US".into()), ("ST", "Unset".into())];
    if locality {
        subject.push(("L", "Unset".into()));
    }
    subject.push(("O", "Unset".into()));
    subject.push(("CN", name.into()));
    subject
}

impl Pair {
    /// A certificate signed by its own key.
    pub fn self_signed(shape: &Shape) -> Result<Self> {
        let key = new_key()?;
        let certificate = build(shape, &key, None)?;
        Ok(Self { certificate, key })
    }

    /// A certificate signed by this one.
    pub fn issue(&self, shape: &Shape) -> Result<Self> {
        let key = new_key()?;
        let certificate = build(shape, &key, Some(self))?;
        Ok(Self { certificate, key })
    }

    /// A certificate signed by this one for the key of another, which takes no time to make.
    pub fn renew(&self, old: &Self, shape: &Shape) -> Result<Self> {
        let certificate = build(shape, &old.key, Some(self))?;
        Ok(Self { certificate, key: old.key.clone() })
    }

    /// The PEM of the certificate.
    pub fn pem(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.certificate.to_pem()?).into_owned())
    }

    /// The certificate as PEM after OpenSSL's text dump of it, as Keystone serves it.
    pub fn pem_with_text(&self) -> Result<String> {
        let text = self.certificate.to_text()?;
        Ok(format!("{}{}", String::from_utf8_lossy(&text), self.pem()?))
    }

    /// The private key as PEM.
    pub fn key_pem(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.key.private_key_to_pem_pkcs8()?).into_owned())
    }
}

/// An authority and a signing certificate that it issued.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The self-signed CA.
    pub authority: Pair,
    /// The certificate that signs tokens, issued by the CA.
    pub signing: Pair,
}

impl Pki {
    /// Makes one as `keystone-manage pki_setup` does.
    pub fn new() -> Result<Self> {
        Self::with(&Shape::authority(), &Shape::signing())
    }

    /// Makes one with other certificates.
    pub fn with(authority: &Shape, signing: &Shape) -> Result<Self> {
        let authority = Pair::self_signed(authority)?;
        let signing = authority.issue(signing)?;
        Ok(Self { authority, signing })
    }

    /// Reads one from a directory, or makes one and keeps it there.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.join("signing_key.pem").exists() {
            let pki = Self::new()?;
            std::fs::create_dir_all(dir).during(format!("making {}", dir.display()))?;
            write(&dir.join("cacert.pem"), &pki.authority.pem()?)?;
            write(&dir.join("cakey.pem"), &pki.authority.key_pem()?)?;
            write(&dir.join("signing_cert.pem"), &pki.signing.pem_with_text()?)?;
            write(&dir.join("signing_key.pem"), &pki.signing.key_pem()?)?;
            return Ok(pki);
        }
        let pair = |certificate: &str, key: &str| {
            let certificate = X509::from_pem(&read(&dir.join(certificate))?)?;
            let key = PKey::private_key_from_pem(&read(&dir.join(key))?)?;
            Ok::<_, Error>(Pair { certificate, key })
        };
        let authority = pair("cacert.pem", "cakey.pem")?;
        Ok(Self { authority, signing: pair("signing_cert.pem", "signing_key.pem")? })
    }
}

/// Files for a TLS server that may ask for client certificates.
#[derive(Debug)]
pub struct TlsFiles {
    dir: TempDir,
    /// The self-signed CA.
    pub authority: Pair,
    /// The certificate of the server, issued by the CA.
    pub server: Pair,
}

impl TlsFiles {
    /// Makes an authority, a server certificate for `localhost` and `127.0.0.1`, and a client's.
    pub fn new() -> Result<Self> {
        Self::with(&Shape::server("localhost"))
    }

    /// Makes them with another server certificate.
    pub fn with(server: &Shape) -> Result<Self> {
        let dir = TempDir::new("tls")?;
        // Made of one key, authorities still differ by their names.
        let name = format!("authority of {}", dir.path().display());
        let shape = Shape::authority().common_name(name.get(..64).unwrap_or(&name));
        let key = tls_key()?;
        let certificate = build(&shape, key, None)?;
        let authority = Pair { certificate, key: key.clone() };
        let server = authority.renew(&authority, server)?;
        let client = authority.renew(&authority, &Shape::client("gateway"))?;
        let files = Self { dir, authority, server };
        files.write("ca.pem", &files.authority.pem()?)?;
        files.write("server.pem", &files.server.pem()?)?;
        files.write("server.key", &files.server.key_pem()?)?;
        files.write("client.pem", &client.pem()?)?;
        files.write("client.key", &client.key_pem()?)?;
        Ok(files)
    }

    /// Creates them with a self-signed server certificate for `localhost`.
    pub fn self_signed() -> Result<Self> {
        let mut files = Self::new()?;
        let key = tls_key()?;
        let certificate = build(&Shape::server("localhost"), key, None)?;
        files.server = Pair { certificate, key: key.clone() };
        files.write("server.pem", &files.server.pem()?)?;
        Ok(files)
    }

    /// Makes them with an authority that another one has issued, whose certificate is nowhere.
    pub fn with_intermediate() -> Result<Self> {
        let mut files = Self::new()?;
        let shape = Shape::authority().common_name("an intermediate authority").serial(7);
        let root = files.authority.clone();
        files.authority = root.renew(&root, &shape)?;
        files.server = files.authority.renew(&root, &Shape::server("localhost"))?;
        files.write("ca.pem", &files.authority.pem()?)?;
        files.write("server.pem", &files.server.pem()?)?;
        Ok(files)
    }

    /// Another client's certificate, which this authority has issued, in the files `NAME.pem` and
    /// `NAME.key`. The key is that of all.
    pub fn client(&self, name: &str, serial: u32) -> Result<Pair> {
        let pair = self.authority.renew(&self.authority, &Shape::client(name).serial(serial))?;
        self.write(&format!("{name}.pem"), &pair.pem()?)?;
        self.write(&format!("{name}.key"), &pair.key_pem()?)?;
        Ok(pair)
    }

    /// Path of the CA's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The path of `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.dir.join(name), text)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).during(format!("writing {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).during(format!("reading {}", path.display()))
}

/// One key for all of TLS in a process: making keys takes time.
fn tls_key() -> Result<&'static PKey<Private>> {
    static KEY: OnceLock<PKey<Private>> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let key = new_key()?;
    Ok(KEY.get_or_init(|| key))
}

fn new_key() -> Result<PKey<Private>> {
    Ok(PKey::from_rsa(Rsa::generate(2048)?)?)
}

fn build(shape: &Shape, key: &PKey<Private>, issuer: Option<&Pair>) -> Result<X509> {
    let mut name = X509Name::builder()?;
    for (key, value) in &shape.subject {
        name.append_entry_by_text(key, value)?;
    }
    let name = name.build();

    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let serial = BigNum::from_u32(shape.serial)?;
    builder.set_serial_number(Asn1Integer::from_bn(&serial)?.as_ref())?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(issuer.map_or(name.as_ref(), |i| i.certificate.subject_name()))?;
    builder.set_pubkey(key)?;
    builder.set_not_before(Asn1Time::from_unix(shape.not_before)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(shape.not_after)?.as_ref())?;

    let mut constraints = BasicConstraints::new();
    if shape.purpose == Purpose::Authority {
        constraints.ca();
    }
    builder.append_extension(constraints.build()?)?;
    let issuer_certificate = issuer.map(|issuer| issuer.certificate.as_ref());
    let subject_key = {
        let context = builder.x509v3_context(issuer_certificate, None);
        SubjectKeyIdentifier::new().build(&context)?
    };
    builder.append_extension(subject_key)?;
    let authority_key = {
        let context = builder.x509v3_context(issuer_certificate, None);
        AuthorityKeyIdentifier::new().keyid(true).build(&context)?
    };
    builder.append_extension(authority_key)?;
    if shape.purpose == Purpose::TlsServer {
        let common_name = shape.subject.iter().find(|(key, _)| *key == "CN");
        let common_name = common_name.map_or("localhost", |(_, name)| name);
        let mut names = SubjectAlternativeName::new();
        names.dns(common_name);
        if common_name == "localhost" {
            names.ip("127.0.0.1");
        }
        let names = names.build(&builder.x509v3_context(issuer_certificate, None))?;
        builder.append_extension(names)?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    }
    if shape.purpose == Purpose::TlsClient {
        builder.append_extension(ExtendedKeyUsage::new().client_auth().build()?)?;
    }

    builder.sign(issuer.map_or(key, |issuer| &issuer.key), MessageDigest::sha256())?;
    Ok(builder.build())
}

const DAY: i64 = 86_400;
