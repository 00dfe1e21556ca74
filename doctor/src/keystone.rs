//! Keystone, as one endpoint of it: what is asked and what the answers mean is
//! `keystone_token::api`, how it travels is [`crate::net`].

use std::net::{IpAddr, SocketAddr, TcpStream};

use bytes::Bytes;
use http::header::{
    HeaderValue, ACCEPT, CONNECTION, CONTENT_TYPE, HOST, LOCATION, PROXY_AUTHORIZATION,
};
use keystone_conf::{Credentials, ProxySettings, ServiceUri};
use keystone_token::api::{
    self, ApiError, ApiVersion, AuthVersion, Discovery, ForeignAnswer, Login, Validation, Versions,
};
use keystone_token::online::{self, AnswerError};
use keystone_token::secret::Secret;
use openssl::ssl::{SslContext, SslStream};
use zeroize::Zeroizing;

use crate::conf::service::Settings;
use crate::net::{self, Answer, HttpError, Stream};

/// A URI of the identity service, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Uri {
    /// The URI as it is configured.
    pub text: String,
    /// Whether TLS is spoken there.
    pub https: bool,
    /// A name, or an address; one of IPv6 in brackets.
    pub host: String,
    /// The port of the URI, or the default one of its scheme.
    pub port: u16,
    /// The path below which the versions live: empty, or without a slash at its end.
    pub base: String,
    /// The version that the URI itself names.
    pub named_version: Option<ApiVersion>,
    /// The proxy on the way to it.
    pub proxy: Option<ServiceUri>,
}

impl Uri {
    /// The URIs of the configuration, taken apart.
    pub fn all(settings: &Settings) -> impl Iterator<Item = Self> + '_ {
        let proxy = settings.proxy.as_ref().map(|proxy| &proxy.uri);
        settings
            .identity_uris
            .iter()
            .map(move |uri| Self { proxy: proxy.cloned(), ..Self::new(uri) })
    }

    /// Where a connection leads first.
    pub fn next_hop(&self) -> Self {
        self.proxy.as_ref().map_or_else(|| self.clone(), Self::new)
    }

    fn new(uri: &ServiceUri) -> Self {
        let (base, named_version) = api::split_base_path(uri.path());
        Self {
            text: uri.as_str().to_owned(),
            https: uri.is_https(),
            host: uri.host().to_owned(),
            port: uri.port(),
            base: base.to_owned(),
            named_version,
            proxy: None,
        }
    }

    /// Whether it stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Host and port as the `Host` header has them.
    pub fn authority(&self) -> String {
        match self.port == if self.https { 443 } else { 80 } {
            true => self.host.clone(),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Where a path of the API is, for a command of the operator.
    pub fn at(&self, path: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.authority(), self.base)
    }

    /// The same below the version that is spoken.
    pub fn versioned(&self, version: ApiVersion) -> String {
        self.at(&format!("/{version}"))
    }
}

/// Why Keystone has not said what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It has said something else.
    #[error("the answer makes no sense: {0}")]
    Api(#[from] ApiError),
    /// Something else has answered.
    #[error(transparent)]
    Foreign(#[from] ForeignAnswer),
    /// There are no credentials to get a token with.
    #[error("there are no credentials to ask with")]
    NoCredentials,
    /// It has not said anything.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It does not want to.
    #[error("status {0}")]
    Status(u16),
    /// It has not said anything about the token.
    #[error(transparent)]
    Answer(AnswerError),
}

/// An endpoint of Keystone that accepts connections.
pub struct Endpoint<'s> {
    /// The URI that requests are sent to.
    pub uri: Uri,
    settings: &'s Settings,
    address: SocketAddr,
    tls: Option<SslContext>,
}

/// What tokens are verified with, as it is served, in PEM.
pub struct Certificates {
    /// PEM of the signing certificates: `signing_cert.pem`.
    pub signing: Vec<u8>,
    /// Those that issued them: `cacert.pem`.
    pub ca: Vec<u8>,
}

/// What Keystone serves to verify tokens with.
pub enum Served {
    /// Keystone serves certificates.
    Certificates(Certificates),
    /// It has none, and so issues no tokens that could be verified with some.
    Nothing,
    /// It could not be asked.
    Unknown,
}

/// A token as it was issued to the service user.
pub struct ServiceToken {
    /// The value of `X-Auth-Token`.
    pub id: Secret,
    /// When it ends, in unix seconds; `None` for one that was configured.
    pub expires_at: Option<i64>,
}

impl<'s> Endpoint<'s> {
    /// The endpoint at this address, with `tls` for https.
    pub fn new(
        uri: Uri,
        settings: &'s Settings,
        address: SocketAddr,
        tls: Option<SslContext>,
    ) -> Self {
        Self { uri, settings, address, tls }
    }

    /// Takes all steps to an endpoint at once: its first address that can be connected to.
    pub fn reach(uri: Uri, settings: &'s Settings) -> Result<Self, HttpError> {
        let hop = uri.next_hop();
        let lookup = settings.resolver.look_up(&hop.host, hop.port);
        let addresses = lookup.addresses.map_err(HttpError::Connect)?;
        let mut failure = HttpError::Timeout(net::Phase::Connect);
        for address in addresses {
            match net::connect(&address, settings.connect_timeout) {
                Ok(_) => {
                    let tls = uri.https.then(|| net::tls_context(&settings.tls)).transpose();
                    let tls = tls.map_err(HttpError::Request)?;
                    return Ok(Self::new(uri, settings, address, tls));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The name that the server's certificate has to bear.
    pub fn name(&self) -> &str {
        self.settings.tls.name.as_deref().unwrap_or(&self.uri.host)
    }

    /// Connects with TLS, if there is any.
    pub fn handshake(&self) -> Result<Option<SslStream<TcpStream>>, HttpError> {
        let Some(context) = &self.tls else { return Ok(None) };
        let timeout = self.settings.connect_timeout;
        let mut socket = net::connect(&self.address, timeout)?;
        if let Some(proxy) = &self.settings.proxy {
            let authority = format!("{}:{}", self.uri.host, self.uri.port);
            let authorization = proxy.authorization.as_ref();
            socket = net::open_tunnel(socket, &authority, authorization, timeout)?;
        }
        net::handshake(context, socket, self.name(), timeout).map(Some)
    }

    /// Sends one request once.
    pub fn send(
        &self,
        request: &mut api::Request,
        token: Option<&Secret>,
    ) -> Result<Answer, HttpError> {
        let stream = match self.handshake()? {
            Some(stream) => Stream::Tls(Box::new(stream)),
            None => Stream::Plain(net::connect(&self.address, self.settings.connect_timeout)?),
        };
        let unsendable = |_| HttpError::Request("it holds what HTTP cannot carry".to_owned());
        let body = request.body.take();
        let mut encoded = http::Request::builder()
            .method(request.method.as_str())
            .uri(self.request_target(request))
            .header(HOST, self.uri.authority())
            .header(ACCEPT, request.accept)
            .header(CONNECTION, "close")
            .header("user-agent", USER_AGENT);
        if let Some(api::Subject::Header(subject)) = &request.subject {
            let (name, value) = api::ACCESS_RULES_HEADER;
            let subject = HeaderValue::from_str(subject).map_err(|e| unsendable(e.into()))?;
            encoded = encoded.header("x-subject-token", subject).header(name, value);
        }
        if body.is_some() {
            encoded = encoded.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = token.filter(|_| request.authenticated) {
            let token = HeaderValue::from_str(token.expose()).map_err(|e| unsendable(e.into()))?;
            encoded = encoded.header("x-auth-token", token);
        }
        let forwarding = self.forwarding_proxy();
        if let Some(value) = forwarding.and_then(|proxy| proxy.authorization.as_ref()) {
            let value = HeaderValue::from_str(value.expose()).map_err(|e| unsendable(e.into()))?;
            encoded = encoded.header(PROXY_AUTHORIZATION, value);
        }
        let body = body.map(|body| Bytes::from_owner(Zeroizing::new(body.into_bytes())));
        let body = body.unwrap_or_default();
        if !body.is_empty() {
            encoded = encoded.header(http::header::CONTENT_LENGTH, body.len());
        }
        let request = encoded.body(body).map_err(unsendable)?;
        let answer = stream.ask(request, self.settings.read_timeout)?;
        match forwarding.is_some() && api::is_proxy_answer(answer.status, &answer.body) {
            true => Err(HttpError::Proxy(answer.status)),
            false => Ok(answer),
        }
    }

    /// The proxy, if it sees the requests and may answer them itself.
    fn forwarding_proxy(&self) -> Option<&ProxySettings> {
        self.settings.proxy.as_ref().filter(|_| !self.uri.https)
    }

    /// What stands in the request line.
    fn request_target(&self, request: &api::Request) -> String {
        match self.forwarding_proxy() {
            Some(_) => format!("http://{}{}", self.uri.authority(), request.target()),
            None => request.target().into_owned(),
        }
    }

    /// Sends a request to which only Keystone's own answer counts.
    fn ask(&self, mut request: api::Request, token: Option<&Secret>) -> Result<Answer, AskError> {
        let answer = self.send(&mut request, token)?;
        ForeignAnswer::check(&request, answer.status, location(&answer), &answer.body)?;
        Ok(answer)
    }

    /// The version to speak, found as the module finds it, and the answer that told. What is asked
    /// from then on is below the path to which a redirect has led.
    pub fn discover(&mut self) -> Result<(ApiVersion, Answer), AskError> {
        let wanted = self.settings.auth_version;
        if let AuthVersion::Fixed(version) = wanted {
            let (_, answer) = self.versions(api::version_discovery(&self.uri.base, version))?;
            return match answer.status {
                status if api::is_discovery_success(status) => Ok((version, answer)),
                status => Err(AskError::Status(status)),
            };
        }
        let (discovery, answer) = self.versions(api::discovery(&self.uri.base))?;
        let (versions, discovery, answer) = match (versions(&answer), self.uri.named_version) {
            (Err(_), Some(named)) => {
                let request = api::version_discovery(&self.uri.base, named);
                let (discovery, answer) = self.versions(request)?;
                (versions(&answer), discovery, answer)
            }
            (versions, _) => (versions, discovery, answer),
        };
        let version = versions?.choose(wanted)?;
        if let Some(base) = discovery.base() {
            self.uri.base = base.to_owned();
        }
        Ok((version, answer))
    }

    /// Asks for the versions, and follows redirects on the way.
    fn versions(&self, first: api::Request) -> Result<(Discovery, Answer), AskError> {
        let mut discovery = Discovery::new(self.uri.https, &self.uri.authority(), &first);
        loop {
            let mut request = discovery.request();
            let answer = self.send(&mut request, None)?;
            if discovery.follow(answer.status, location(&answer)) {
                continue;
            }
            return match answer.status {
                301..=399 => {
                    Err(ForeignAnswer::redirect(&request, answer.status, location(&answer)).into())
                }
                _ => Ok((discovery, answer)),
            };
        }
    }

    /// The certificates, of which Keystone serves none where it issues no PKI tokens.
    pub fn certificates(&self, version: ApiVersion) -> Result<Certificates, AskError> {
        let signing = self.plain(api::signing_certificates(&self.uri.base, version))?;
        let ca = self.plain(api::ca_certificates(&self.uri.base, version))?;
        Ok(Certificates { signing, ca })
    }

    fn plain(&self, request: api::Request) -> Result<Vec<u8>, AskError> {
        match self.ask(request, None)? {
            answer if api::is_success(answer.status) => Ok(answer.body.to_vec()),
            answer => Err(AskError::Status(answer.status)),
        }
    }

    /// Gets a token for the module's own credentials.
    pub fn log_in(&self, version: ApiVersion) -> Result<ServiceToken, AskError> {
        let credentials = &self.settings.credentials;
        if let Credentials::Token(id) = credentials {
            return Ok(ServiceToken { id: id.clone(), expires_at: None });
        }
        let login = credentials.login().ok_or(AskError::NoCredentials)?;
        self.log_in_with(version, &login)
    }

    /// Whether the user and the password are right, whatever the user may do: a login without a
    /// project gets a token for them. `None` for other credentials.
    pub fn knows_password(&self, version: ApiVersion) -> Option<bool> {
        let mut login = self.settings.credentials.login()?;
        let Login::Password { project_name, .. } = &mut login else { return None };
        project_name.take()?;
        match self.log_in_with(version, &login) {
            Ok(_) => Some(true),
            Err(AskError::Status(401)) => Some(false),
            // An unscoped token, as Keystone gives it without a project, need not be complete.
            Err(AskError::Api(_)) => Some(true),
            Err(_) => None,
        }
    }

    fn log_in_with(
        &self,
        version: ApiVersion,
        login: &Login<'_>,
    ) -> Result<ServiceToken, AskError> {
        let answer = self.ask(api::authenticate(&self.uri.base, version, login)?, None)?;
        if !api::is_login_success(answer.status) {
            return Err(AskError::Status(answer.status));
        }
        let subject = answer.headers.get("x-subject-token").map(HeaderValue::as_bytes);
        let issued = api::issued_token(version, subject, &answer.body)?;
        Ok(ServiceToken { id: Secret::new(issued.id), expires_at: Some(issued.expires_at) })
    }

    /// What Keystone says about a token.
    pub fn validate(
        &self,
        version: ApiVersion,
        token: &str,
        as_whom: &Secret,
    ) -> Result<online::Answer, AskError> {
        let how = Validation { allow_expired: false, catalog: false };
        let request = match api::validate(&self.uri.base, version, token, how) {
            Err(refusal) => return Ok(online::Answer::Refused(refusal)),
            Ok(request) => request,
        };
        let answer = self.ask(request, Some(as_whom))?;
        online::judge_answer(answer.status, &answer.body).map_err(|error| match error {
            AnswerError::Status(status) => AskError::Status(status),
            error => AskError::Answer(error),
        })
    }

    /// The signed revocation list, a CMS in PEM.
    pub fn revocation_list(
        &self,
        version: ApiVersion,
        as_whom: &Secret,
    ) -> Result<String, AskError> {
        let answer = self.ask(api::revocation_list(&self.uri.base, version), Some(as_whom))?;
        match answer.status {
            status if api::is_success(status) => Ok(api::signed_revocation_list(&answer.body)?),
            status => Err(AskError::Status(status)),
        }
    }

    /// Whether the revocation events can be read.
    pub fn revocation_events(&self, as_whom: &Secret) -> Result<(), AskError> {
        match self.ask(api::revocation_events(&self.uri.base), Some(as_whom))?.status {
            status if api::is_success(status) => Ok(()),
            status => Err(AskError::Status(status)),
        }
    }
}

fn location(answer: &Answer) -> Option<&str> {
    answer.headers.get(LOCATION).and_then(|location| location.to_str().ok())
}

fn versions(answer: &Answer) -> Result<Versions, AskError> {
    match answer.status {
        status if api::is_discovery_success(status) => Ok(Versions::parse(&answer.body)?),
        status => Err(AskError::Status(status)),
    }
}

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_taken_apart() {
        let of = |text: &str| Uri::new(&text.parse().unwrap());
        let uri = of("https://Cloud.example.com/identity/v3/");
        assert_eq!(
            (uri.host.as_str(), uri.port, uri.base.as_str()),
            ("cloud.example.com", 443, "/identity")
        );
        assert_eq!(uri.named_version, Some(ApiVersion::V3));
        assert_eq!(uri.versioned(ApiVersion::V3), "https://cloud.example.com/identity/v3");
        assert!(of("http://[::1]:5000").is_loopback());
        assert!(!uri.is_loopback());
        for (text, authority) in [
            ("http://cloud", "cloud"),
            ("http://cloud:80/", "cloud"),
            ("https://Cloud:5000/v3", "cloud:5000"),
            ("https://[::1]:443", "[::1]"),
            ("http://[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(of(text).authority(), authority, "{text}");
        }
    }
}
