//! The small identity service: as much of Keystone's v2.0 and v3 APIs as a gateway needs.
//!
//! It serves certificates and a signed revocation list, gives service tokens for a password or
//! an application credential, and knows the tokens it was told about. It writes down every
//! request, so that a test can say "no traffic", and misbehaves on demand ([`fault`]).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};
use serde_json::{json, Value};

use crate::clock::iso_micros;
use crate::cms;
use crate::mint::{self, JwsKey, Payload, Revoked};
use crate::pki::{Pair, Pki, TlsFiles};
use crate::port::Port;
use crate::serve::{After, Handler, Incoming, Server};
use crate::wire::Stream;
use crate::{lock, now, Result};

mod api;
mod control;
pub mod fault;

pub use fault::{Fault, Gate, LONGEST_HOLD};

use fault::Place;

/// An identity service that runs in this process.
pub struct Identity {
    server: Server,
    state: Arc<Mutex<State>>,
    scheme: &'static str,
}

/// The TLS of an identity service.
pub struct Tls<'a> {
    /// The server's certificate and its authority.
    pub files: &'a TlsFiles,
    /// Whether a client must show a certificate of the same authority.
    pub demand_client_certificate: bool,
}

impl Identity {
    /// Starts one on a free port that serves the certificates of `pki`.
    pub fn start(pki: &Pki) -> Result<Self> {
        Self::start_on(Port::free()?, pki, None)
    }

    /// Starts one that speaks https.
    pub fn start_tls(pki: &Pki, tls: &Tls<'_>) -> Result<Self> {
        Self::start_on(Port::free()?, pki, Some(tls))
    }

    /// Starts one on the given port.
    pub fn start_on(port: Port, pki: &Pki, tls: Option<&Tls<'_>>) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let acceptor = tls.map(acceptor).transpose()?;
        let base = format!("{scheme}://{}", port.address());
        let state = Arc::new(Mutex::new(State::new(base, pki)?));
        let handler = Arc::new(Service { state: Arc::clone(&state) });
        Ok(Self { server: Server::start(port, acceptor, handler)?, state, scheme })
    }

    /// Address and port that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What `keystone_identity_uri` is set to, with the path prefix if there is one.
    pub fn uri(&self) -> String {
        format!("{}://{}{}", self.scheme, self.address(), self.state().prefix)
    }

    /// All that it knows, for reading and changing. Do not hold it while a request is answered.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// Stops it: open connections break, new ones are refused.
    pub fn stop(&mut self) {
        self.server.pause();
    }

    /// Starts it again on the same port, with all that it knew.
    pub fn restart(&mut self) -> Result<()> {
        self.server.resume()
    }

    /// Every request so far, as `METHOD target`.
    pub fn requests(&self) -> Vec<String> {
        self.state().log.iter().map(|r| format!("{} {}", r.method, r.target)).collect()
    }

    /// How many requests so far had a target that starts with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        self.state().log.iter().filter(|request| request.target.starts_with(prefix)).count()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.state().log.clear();
    }

    /// Puts an entry on the revocation list.
    pub fn revoke(&self, entry: Revoked) {
        self.state().revoked.push(entry);
    }

    /// Puts a token on the revocation list by its md5.
    pub fn revoke_token(&self, token: &str) {
        self.revoke(Revoked::id(mint::md5(token)));
    }

    /// Adds a revocation event: these members, and that tokens issued until now are meant.
    pub fn add_event(&self, members: &Value) {
        let mut event = members.clone();
        event["issued_before"] = json!(iso_micros(now()));
        self.state().events.push(event);
    }

    /// Revokes a token that was known for online validation as `openstack token revoke` does: it
    /// is not known any more, and an event names its audit id.
    pub fn revoke_online(&self, token: &str) {
        let payload = self.state().subjects.remove(token);
        if let Some(payload) = payload {
            self.add_event(&json!({"audit_id": payload.audit_id()}));
        }
    }

    /// Serves and signs with the certificates of another PKI from now on.
    pub fn rotate(&self, pki: &Pki) -> Result<()> {
        let mut state = self.state();
        state.signing_pem = pki.signing.pem_with_text()?;
        state.ca_pem = pki.authority.pem()?;
        state.signer = pki.signing.clone();
        Ok(())
    }

    /// Serves these bytes as certificates; revocation lists are signed as before.
    pub fn set_certificates(&self, signing: &str, ca: &str) {
        let mut state = self.state();
        state.signing_pem = signing.into();
        state.ca_pem = ca.into();
    }

    /// Every question about a token so far: the tokens.
    pub fn validations(&self) -> Vec<String> {
        let state = self.state();
        let asked = state.log.iter().filter_map(|request| api::subject(&state.prefix, request));
        asked.map(str::to_owned).collect()
    }

    /// How often a service token was requested.
    pub fn logins(&self) -> usize {
        self.state().log.iter().filter(|request| request.method == "POST").count()
    }

    /// Misbehaves on every path that starts with `prefix`, until [`Identity::heal`].
    pub fn fault(&self, prefix: &str, fault: Fault) {
        self.misbehave(Place::Prefix(prefix.into()), fault, None);
    }

    /// Misbehaves for the next `times` requests to paths that start with `prefix`.
    pub fn fault_times(&self, times: usize, prefix: &str, fault: Fault) {
        self.misbehave(Place::Prefix(prefix.into()), fault, Some(times));
    }

    /// Misbehaves on every question about a token, until [`Identity::heal`].
    pub fn fault_validations(&self, fault: Fault) {
        self.misbehave(Place::Validations, fault, None);
    }

    /// Misbehaves on the next `times` questions about a token.
    pub fn fault_validations_times(&self, times: usize, fault: Fault) {
        self.misbehave(Place::Validations, fault, Some(times));
    }

    /// Applies a fault to requests for a service token, until [`Identity::heal`].
    pub fn fault_logins(&self, fault: Fault) {
        self.misbehave(Place::Logins, fault, None);
    }

    /// Misbehaves on requests for the versions of the API, until [`Identity::heal`].
    pub fn fault_versions(&self, fault: Fault) {
        self.misbehave(Place::Versions, fault, None);
    }

    /// Keeps back what it answers to questions about tokens, until the gate is opened.
    pub fn hold_validations(&self) -> Gate {
        let gate = Gate::default();
        self.fault_validations(Fault::Hold(gate.clone()));
        gate
    }

    fn misbehave(&self, place: Place, fault: Fault, times: Option<usize>) {
        self.state().faults.push(fault::Rule::new(place, fault, times));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Lets every service token that it issued go stale, as well as the fixed ones.
    pub fn expire_service_tokens(&self) {
        let mut state = self.state();
        state.issued.clear();
        state.fixed_tokens.clear();
    }

    /// Knows a token for online validation.
    pub fn know(&self, token: &str, payload: &Payload) {
        self.state().subjects.insert(token.into(), payload.clone());
    }

    /// Does not know a token any more, as one that was revoked.
    pub fn forget(&self, token: &str) {
        self.state().subjects.remove(token);
    }

    /// Lets a client steer it over HTTP, below `/testbed/`.
    pub fn allow_control(&self) {
        self.state().control = true;
    }
}

/// What an identity service knows.
#[derive(Debug)]
pub struct State {
    /// Application credentials: ids and secrets.
    pub application_credentials: HashMap<String, String>,
    /// The text served as the CA.
    pub ca_pem: String,
    /// The faults to apply to requests.
    pub faults: Vec<fault::Rule>,
    /// Service tokens that are good without having been issued.
    pub fixed_tokens: Vec<String>,
    /// Service tokens that it issued, and when they end.
    pub issued: HashMap<String, i64>,
    /// Signs the service tokens that it issues, which are UUIDs otherwise.
    pub jws_key: Option<JwsKey>,
    /// The JSON of each revocation event.
    pub events: Vec<Value>,
    /// Every request that was received.
    pub log: Vec<Incoming>,
    /// A path before `/v2.0` and `/v3`, such as `/identity`.
    pub prefix: String,
    /// What is on the revocation list.
    pub revoked: Vec<Revoked>,
    /// The roles of the service user.
    pub service_roles: Vec<String>,
    /// Signed instead of the list made from `revoked`.
    pub list_content: Option<String>,
    /// Sent as the whole answer to a question for the list.
    pub list_answer: Option<String>,
    /// Who signs the revocation list.
    pub signer: Pair,
    /// The text served as the signing certificate.
    pub signing_pem: String,
    /// The tokens that it can validate, by their text.
    pub subjects: HashMap<String, Payload>,
    /// How long a service token lasts, in seconds.
    pub token_lifetime: i64,
    /// Who may have a service token for a password.
    pub users: Vec<User>,
    /// Whether it offers v2.0.
    pub v2: bool,
    /// Whether it offers v3.
    pub v3: bool,
    base: String,
    control: bool,
}

/// A service user.
#[derive(Clone, Debug)]
pub struct User {
    /// Name of the user.
    pub name: String,
    /// Password of the user.
    pub password: String,
    /// The project or tenant it works in.
    pub project: String,
    /// The name of its domain.
    pub domain: String,
    /// The name of its project's domain.
    pub project_domain: String,
}

/// The path of the revocation list, in v3.
pub const REVOCATION_LIST: &str = "/v3/auth/tokens/OS-PKI/revoked";

/// The fixed service token that a new identity service accepts.
pub const ADMIN_TOKEN: &str = "testbed-admin-token";
/// The service user that a new identity service knows.
pub const SERVICE_USER: &str = "gateway";
/// The password of the service user.
pub const SERVICE_PASSWORD: &str = "testbed-password";
/// The project of the service user.
pub const SERVICE_PROJECT: &str = "service";
/// The application credential that a new identity service knows.
pub const CREDENTIAL_ID: &str = "6c9a1b6cbb5b4f7d8b2a4f8f4a6f0c11";
/// The secret of that application credential.
pub const CREDENTIAL_SECRET: &str = "testbed-secret";

impl State {
    fn new(base: String, pki: &Pki) -> Result<Self> {
        let user = User {
            name: SERVICE_USER.into(),
            password: SERVICE_PASSWORD.into(),
            project: SERVICE_PROJECT.into(),
            domain: "Default".into(),
            project_domain: "Default".into(),
        };
        Ok(Self {
            application_credentials: [(CREDENTIAL_ID.into(), CREDENTIAL_SECRET.into())].into(),
            ca_pem: pki.authority.pem()?,
            faults: Vec::new(),
            fixed_tokens: vec![ADMIN_TOKEN.into()],
            issued: HashMap::new(),
            jws_key: None,
            events: Vec::new(),
            log: Vec::new(),
            prefix: String::new(),
            revoked: Vec::new(),
            service_roles: vec!["service".into(), "admin".into()],
            list_content: None,
            list_answer: None,
            signer: pki.signing.clone(),
            signing_pem: pki.signing.pem_with_text()?,
            subjects: HashMap::new(),
            token_lifetime: 3600,
            users: vec![user],
            v2: true,
            v3: true,
            base,
            control: false,
        })
    }

    /// The revocation list as it is served: a CMS in PEM.
    pub fn signed_list(&self) -> Result<String> {
        let content = match &self.list_content {
            Some(content) => content.clone(),
            None => mint::revocation_list(&self.revoked),
        };
        Ok(mint::cms_pem(&cms::sign(&self.signer, content.as_bytes())?))
    }

    /// Whether a request carries a service token that is good.
    fn is_service(&self, request: &Incoming) -> bool {
        let Some(token) = request.headers.text("X-Auth-Token") else { return false };
        let issued = self.issued.get(token).is_some_and(|&expires| expires > now());
        issued || self.fixed_tokens.iter().any(|fixed| fixed == token)
    }

    /// Whose a token is: one that it was told about, or that it issued to its service user.
    fn subject(&self, token: &str, v3: bool) -> Option<Payload> {
        let service = |&expires: &i64| {
            let payload = if v3 { Payload::v3_service() } else { Payload::v2_service() };
            payload.roles(&self.service_roles()).expires_at(expires)
        };
        let issued = || self.issued.get(token).map(service);
        self.subjects.get(token).cloned().or_else(issued)
    }

    fn service_roles(&self) -> Vec<&str> {
        self.service_roles.iter().map(String::as_str).collect()
    }

    fn issue(&mut self) -> (String, i64) {
        let expires = now() + self.token_lifetime;
        let signed = self.jws_key.as_ref().and_then(|key| key.token(self.token_lifetime).ok());
        let token = signed.unwrap_or_else(mint::new_uuid);
        self.issued.insert(token.clone(), expires);
        (token, expires)
    }
}

struct Service {
    state: Arc<Mutex<State>>,
}

impl Handler for Service {
    fn handle(&self, request: &Incoming, stream: &mut Stream) -> After {
        let (answer, faults) = {
            let mut state = lock(&self.state);
            if state.control && request.path().starts_with("/testbed/") {
                (control::answer(&mut state, request), Vec::new())
            } else {
                state.log.push(request.clone());
                let State { faults, prefix, .. } = &mut *state;
                let faults = fault::due(faults, prefix, request);
                (api::answer(&mut state, request), faults)
            }
        };
        fault::send(answer, &faults, request, stream)
    }
}

fn acceptor(tls: &Tls<'_>) -> Result<SslAcceptor> {
    let mut builder = SslAcceptor::mozilla_intermediate(SslMethod::tls())?;
    builder.set_certificate_chain_file(tls.files.path("server.pem"))?;
    builder.set_private_key_file(tls.files.path("server.key"), SslFiletype::PEM)?;
    if tls.demand_client_certificate {
        builder.set_ca_file(tls.files.ca())?;
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests;
