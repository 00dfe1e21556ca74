//! A random request with a token.

use std::collections::BTreeMap;

use keystone_testbed::cms::{self, Digest, Form};
use keystone_testbed::http::Request;
use keystone_testbed::mint::{self, Payload, Revoked};
use keystone_testbed::pki::{Pair, Pki};
use keystone_testbed::random::Random;
use keystone_token::headers::is_stripped;
use serde_json::json;

use crate::differences::FORGED;
use crate::kinds::Kind;

/// What is about a case that the oracle and the module may see with other eyes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Odd {
    AccessRules,
    AmbiguousJson,
    BrokenCatalog,
    CommaRole,
    ControlCharacter,
    LoneSurrogate,
    MetadataRoles,
    OtherEncoding,
    OtherType,
    PkizAroundDer,
    RevokedInAnotherForm,
    SystemScope,
    TokenTwice,
    UserOfNoDomain,
}

/// A request and what is known about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What kind it is of.
    pub kind: &'static str,
    /// The value of `X-Auth-Token`.
    pub token: String,
    /// Another token that the oracle must be asked about instead.
    pub twin: Option<String>,
    /// The roles that the module must tell, where that is not what the oracle says.
    pub roles: Vec<String>,
    /// Whether `delay_auth_decision` is on.
    pub delay: bool,
    /// The status with which the application answers instead of 200.
    pub status: Option<u16>,
    odd: Vec<Odd>,
    method: &'static str,
    headers: Vec<(String, String)>,
}

impl Case {
    pub fn is(&self, odd: Odd) -> bool {
        self.odd.contains(&odd)
    }

    /// The request as a client sends it.
    pub fn request(&self) -> Request {
        let location = if self.delay { "/delay" } else { "" };
        let target = match self.status {
            Some(status) => format!("{location}/status/{status}"),
            None => format!("{location}/v1/thing?a=b"),
        };
        let mut request = Request::new(self.method, &target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match self.method {
            "POST" => request.body(b"{\"a\": 1}"),
            _ => request,
        }
    }

    /// What to print about it.
    pub fn summary(&self) -> String {
        let Self { kind, method, delay, status, odd, .. } = self;
        let start = self.token.get(..12).unwrap_or(&self.token);
        let token = format!("{start}... of {} bytes", self.token.len());
        let names = self.headers.iter().filter(|(_, value)| *value != self.token);
        let headers = names.collect::<Vec<_>>();
        format!("{kind}: {method}, delay {delay}, {status:?}, {odd:?}, {token}, {headers:?}")
    }

    /// The same with the twin instead of the token.
    pub fn twin_request(&self) -> Option<Request> {
        let twin = self.twin.as_ref()?;
        let mut case = self.clone();
        for (_, value) in case.headers.iter_mut().filter(|(_, value)| *value == self.token) {
            value.clone_from(twin);
        }
        Some(case.request())
    }

    /// What the application is told if nothing is known about the token: the client's headers
    /// without those that say who it is.
    pub fn harmless_headers(&self) -> BTreeMap<String, String> {
        let harmless = self.headers.iter().filter(|(name, _)| !is_stripped(name.as_bytes()));
        let plain = |name: &str| name.to_lowercase().replace('_', "-");
        harmless.map(|(name, value)| (plain(name), value.clone())).collect()
    }
}

/// Makes cases for one scene.
pub struct Maker<'a> {
    /// Source of all random choices.
    pub random: Random,
    /// Certificates that sign tokens.
    pub pki: &'a Pki,
    /// Who may not, with a certificate of the same names and numbers.
    pub stranger: &'a Pki,
    /// The digests that name a token on the list.
    pub hashes: &'a [&'static str],
    /// What is on the list.
    pub revoked: Vec<Revoked>,
    odd: Vec<Odd>,
    twin: Option<String>,
    roles: Vec<String>,
    carried: Carried,
    serial: usize,
}

/// How a token reaches the server.
#[derive(Clone, Copy, Default)]
pub enum Carried {
    #[default]
    Auth,
    /// In `X-Auth-Token`, with something else in `X-Storage-Token`.
    AuthAndStorage,
    Nowhere,
    Storage,
    Twice,
}

impl<'a> Maker<'a> {
    pub fn new(seed: u64, pki: &'a Pki, stranger: &'a Pki, hashes: &'a [&'static str]) -> Self {
        Self {
            random: Random::new(seed),
            pki,
            stranger,
            hashes,
            revoked: Vec::new(),
            odd: Vec::new(),
            twin: None,
            roles: Vec::new(),
            carried: Carried::Auth,
            serial: 0,
        }
    }

    /// A case of a kind.
    pub fn case(&mut self, (kind, make): Kind) -> Case {
        self.serial += 1;
        let token = make(self);
        let carried = std::mem::take(&mut self.carried);
        let mut headers = self.forged_headers();
        headers.push(("X-Foo".into(), self.word().trim().into()));
        let name = self.random.pick(&["X-Auth-Token", "x-auth-token", "X-AUTH-TOKEN"]);
        let mut carry = |name: &str, value: &str| headers.push((name.into(), value.into()));
        match carried {
            Carried::Auth => carry(name, &token),
            Carried::AuthAndStorage => {
                carry("X-Storage-Token", "another");
                carry(name, &token);
            }
            Carried::Nowhere => {}
            Carried::Storage => carry("X-Storage-Token", &token),
            Carried::Twice => {
                carry(name, &token);
                carry("X-Auth-Token", &token);
            }
        }
        let delay = self.random.percent(35);
        let status = (delay && self.random.percent(15)).then_some(401);
        if let Some(status) = status {
            headers.push(("X-Test-Status".into(), status.to_string()));
        }
        Case {
            kind,
            token,
            twin: self.twin.take(),
            roles: std::mem::take(&mut self.roles),
            delay,
            status,
            odd: std::mem::take(&mut self.odd),
            method: self.random.pick(&["GET", "GET", "GET", "POST", "DELETE"]),
            headers,
        }
    }

    pub fn odd(&mut self, odd: Odd) {
        self.odd.push(odd);
    }

    /// The oracle is to be asked about this token instead.
    pub fn twin(&mut self, token: String) {
        self.twin = Some(token);
    }

    /// The roles that the module must tell.
    pub fn roles(&mut self, roles: &[&str]) {
        self.roles = roles.iter().map(|role| (*role).to_owned()).collect();
    }

    pub fn carried(&mut self, carried: Carried) {
        self.carried = carried;
    }

    /// A payload that is scoped to a project or a domain.
    pub fn payload(&mut self) -> Payload {
        match self.random.below(5) {
            0 | 1 => self.dressed(Payload::v2()),
            2 | 3 => self.dressed(Payload::v3()),
            _ => self.dressed(Payload::v3_domain()),
        }
    }

    /// A v2 payload that is good.
    pub fn v2(&mut self) -> Payload {
        self.dressed(Payload::v2())
    }

    /// A v3 payload that is good.
    pub fn v3(&mut self) -> Payload {
        self.dressed(Payload::v3())
    }

    /// The same payload with names, roles and so on that differ from one case to the next.
    pub fn dressed(&mut self, payload: Payload) -> Payload {
        let v3 = payload.is_v3();
        let scoped = payload.json().contains("tenant_id1");
        let mut payload = payload.user(&self.id(), &self.word());
        if scoped {
            payload = payload.project(&self.id(), &self.word());
        }
        if self.random.percent(70) {
            let roles: Vec<_> = (0..self.random.below(5)).map(|_| self.role()).collect();
            let roles: Vec<_> = roles.iter().map(String::as_str).collect();
            payload = payload.roles(&roles);
        }
        if v3 && self.random.percent(30) {
            let domain = json!({"id": self.id(), "name": self.word()});
            payload = payload.with("/user/domain", domain);
        }
        if v3 && self.random.percent(30) {
            payload = payload.with("/is_admin_project", json!(self.random.percent(50)));
        }
        match self.random.below(4) {
            0 => payload = payload.without(if v3 { "/catalog" } else { "/serviceCatalog" }),
            1 if v3 => payload = payload.with("/catalog", self.catalog()),
            _ => {}
        }
        match self.random.below(4) {
            0 => payload.audit_ids(&[&self.audit_id(), &self.audit_id()]),
            1 => payload.without(if v3 { "/audit_ids" } else { "/token/audit_ids" }),
            _ => payload.audit_ids(&[&self.audit_id()]),
        }
    }

    /// A catalog with services without a name, endpoints without a region, and so on.
    fn catalog(&mut self) -> serde_json::Value {
        let mut services = Vec::new();
        for _ in 0..self.random.below(4) {
            let mut endpoints = Vec::new();
            for _ in 0..self.random.below(6) {
                let mut endpoint = json!({
                    "interface": self.random.pick(&["admin", "internal", "public", "Public"]),
                    "url": format!("http://127.0.0.1:8080/v1/AUTH_%(tenant)s/{}", self.word()),
                });
                if self.random.percent(80) {
                    let region = self.random.pick(&["regionOne", "Ωmega", "b", "a"]);
                    endpoint["region"] = json!(region);
                }
                endpoints.push(endpoint);
            }
            let mut service = json!({"type": "object-store", "id": "b5f7"});
            if self.random.percent(80) {
                service["endpoints"] = json!(endpoints);
            }
            if self.random.percent(80) {
                service["name"] = json!(self.word());
            }
            services.push(service);
        }
        json!(services)
    }

    /// Signs JSON as a token.
    pub fn signed(&mut self, content: &str) -> Vec<u8> {
        let form =
            Form { digest: self.digest(), null_parameters: self.random.percent(30), bend: None };
        self.signed_as(content, form)
    }

    /// Some JSON, signed in a given form.
    pub fn signed_as(&self, content: &str, form: Form) -> Vec<u8> {
        sign(&self.pki.signing, content, form)
    }

    /// A payload as a token, in any of the forms in which one is issued.
    pub fn token(&mut self, payload: &Payload) -> String {
        let mut json = payload.json();
        if self.random.percent(40) {
            json = ascii(&json);
        }
        let der = self.signed(&json);
        self.armoured(&der)
    }

    /// A message as a PKI or as a PKIZ token.
    pub fn armoured(&mut self, der: &[u8]) -> String {
        match self.random.percent(50) {
            true => mint::pki(der),
            false => pkiz(der),
        }
    }

    /// A payload as a token of another signer.
    pub fn strange(&mut self, payload: &Payload) -> String {
        let der = sign(&self.stranger.signing, &payload.json(), Form::default());
        self.armoured(&der)
    }

    /// Puts a token's hash on the list, by one of the digests that name a token.
    pub fn revoke(&mut self, token: &str) {
        let id = match self.random.pick(self.hashes) {
            "md5" => mint::md5(token),
            _ => mint::sha256(token),
        };
        self.revoked.push(Revoked::id(id));
    }

    pub fn digest(&mut self) -> Digest {
        self.random.pick(&[Digest::Sha256, Digest::Sha256, Digest::Sha1, Digest::Sha512])
    }

    /// An id that no other case has.
    pub fn id(&mut self) -> String {
        format!("{:08x}{:08x}", self.random.below(1 << 32), self.serial)
    }

    pub fn audit_id(&mut self) -> String {
        format!("audit-{}", self.id())
    }

    /// A random name.
    pub fn word(&mut self) -> String {
        self.random.pick(WORDS).to_owned()
    }

    fn role(&mut self) -> String {
        let role =
            self.random.pick(&["admin", "Member", "_member_", "Ops Team", "ロール", "é", ""]);
        role.to_owned()
    }

    /// Headers that only the module may set, sent by a client.
    fn forged_headers(&mut self) -> Vec<(String, String)> {
        if self.random.percent(40) {
            return Vec::new();
        }
        let mut forged = Vec::new();
        for _ in 0..1 + self.random.below(8) {
            let name = self.random.pick(TRUSTED);
            let prefix = self.random.pick(&["X-", "X-", "X-Service-"]);
            let name = match name {
                "OpenStack-System-Scope" => name.to_owned(),
                name => format!("{prefix}{name}"),
            };
            let name = match self.random.below(4) {
                0 => name.to_lowercase(),
                1 => name.to_uppercase(),
                2 => name.replace('-', "_"),
                _ => name,
            };
            forged.push((name, format!("{FORGED} {}", self.random.below(100))));
        }
        forged
    }
}

pub fn pkiz(der: &[u8]) -> String {
    mint::pkiz(der).expect("compressing")
}

fn sign(pair: &Pair, content: &str, form: Form) -> Vec<u8> {
    cms::sign_as(pair, content.as_bytes(), form).expect("signing")
}

/// JSON with all that is not ASCII escaped, as Python writes it.
fn ascii(json: &str) -> String {
    let mut escaped = String::new();
    for character in json.chars() {
        match character.is_ascii() {
            true => escaped.push(character),
            false => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    escaped
}

const WORDS: &[&str] = &[
    "demo",
    "Jürgen-日本語-😀",
    "bénédicte",
    "we\"ird\\na/me <&>",
    "two words",
    "a,b;c=d",
    "%0d%0a %(tenant_id)s $host",
    "مرحبا",
    "e\u{301}\u{200d}\u{feff}",
    "a\u{a0}\u{2028}b",
    "é",
    "ÿ",
    "",
    "0",
    "None",
    "a-name-that-is-rather-long-and-then-some-a-name-that-is-rather-long-and-then-some-a-name-that",
];

const TRUSTED: &[&str] = &[
    "Domain-Id",
    "Domain-Name",
    "Identity-Status",
    "Is-Admin-Project",
    "OpenStack-System-Scope",
    "Project-Domain-Id",
    "Project-Domain-Name",
    "Project-Id",
    "Project-Name",
    "Role",
    "Roles",
    "Service-Catalog",
    "Tenant",
    "Tenant-Id",
    "Tenant-Name",
    "User",
    "User-Domain-Id",
    "User-Domain-Name",
    "User-Id",
    "User-Name",
];
