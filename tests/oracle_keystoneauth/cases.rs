//! A random request of few values, so that values often match.
//!
//! None of them is `None`, and none is empty where Python would write that: what a value that is
//! not there matches in Swift is a difference on purpose, and has tests of its own.

use keystone_testbed::random::Random;
use keystone_token::identity::Identity;
use keystone_token::record::OwnedRecord;
use keystone_token::swift::{AccountPath, Acl, AclKind, Decision, Request};
use serde_json::{json, Value};

use crate::oracle::latin1;
use crate::settings::Scene;

/// A request and the ACL that counts for it.
#[derive(Debug)]
pub struct Case {
    pub method: &'static str,
    pub path: String,
    pub user: Option<Who>,
    pub service: Service,
    pub acl: Option<(AclKind, String)>,
    /// As it is on the wire.
    pub referer: Option<Vec<u8>>,
}

/// What a token is of.
#[derive(Debug)]
pub struct Who {
    /// Version of the identity API: 2 or 3.
    pub version: u8,
    pub identity: Identity,
}

/// What comes as a service token.
#[derive(Debug)]
pub enum Service {
    None,
    Invalid,
    Valid(Box<Who>),
}

/// What is to be the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The path has an account.
    Decided(Decision),
    /// The ACL is malformed.
    NoAcl,
    /// The path has no account.
    NoPath,
}

impl Case {
    pub fn new(random: &mut Random, scene: &Scene) -> Self {
        let service = match random.below(20) {
            0..=8 => Service::None,
            9 => Service::Invalid,
            _ => {
                let roles = ["service", "SERVICE", " glance", "admin", ""];
                Service::Valid(Box::new(Who::new(random, &roles)))
            }
        };
        let user = random.percent(80).then(|| Who::new(random, ROLES));
        let acl = random.percent(75).then(|| {
            let kind = if random.percent(90) { AclKind::Read } else { AclKind::Write };
            (kind, acl(random, kind, user.as_ref()))
        });
        Self {
            method: random.pick(METHODS),
            path: path(random, scene, user.as_ref()),
            user,
            service,
            acl,
            referer: random.percent(50).then(|| referer(random)),
        }
    }

    /// The decision of the module.
    pub fn outcome(&self, scene: &Scene) -> Outcome {
        let acl = match &self.acl {
            Some((kind, text)) => match Acl::parse(*kind, text) {
                Ok(acl) => Some(acl),
                Err(_) => return Outcome::NoAcl,
            },
            None => None,
        };
        let (service, is_valid) = match &self.service {
            Service::None => (None, true),
            Service::Invalid => (None, false),
            Service::Valid(who) => (Some(&**who), true),
        };
        let user = self.user.as_ref().filter(|_| is_valid);
        let [user, service] =
            [user, service].map(|who| who.map(|who| who.identity.to_record(false).0));
        let [user, service] = [&user, &service].map(|who| who.as_ref().map(OwnedRecord::view));
        let Some(path) = AccountPath::split(self.path.as_bytes()) else { return Outcome::NoPath };
        let request = Request {
            method: self.method,
            path: &path,
            user: user.as_ref(),
            service: service.as_ref(),
            referer: self.referer.as_deref(),
        };
        Outcome::Decided(scene.settings.authorize(&request, acl.as_ref()))
    }

    /// What the oracle is asked.
    pub fn question(&self, scene: &Scene) -> Value {
        let header = |kind| match kind {
            AclKind::Read => "X-Container-Read",
            AclKind::Write => "x-container-write",
        };
        json!({
            "ask": "authorize",
            "options": scene.options,
            "method": self.method,
            "path": latin1(self.path.as_bytes()),
            "referer": self.referer.as_deref().map(latin1),
            "user": self.user.as_ref().map(Who::told),
            "service": match &self.service {
                Service::None => Value::Null,
                Service::Invalid => json!("Invalid"),
                Service::Valid(who) => who.told(),
            },
            "acl": self.acl.as_ref().map(|(kind, text)| json!([header(*kind), latin1(text.as_bytes())])),
        })
    }

    /// Swift lets a valid token ask for the options of a path that names nothing.
    pub fn is_options_of_nothing(&self) -> bool {
        self.method == "OPTIONS" && AccountPath::split(self.path.as_bytes()).is_none()
    }
}

/// A user, perhaps with a service, behind whatever tells keystoneauth of them.
pub fn edge_question(random: &mut Random) -> Value {
    let mut user = Who::new(random, &["admin", "Member", "Rôle", "voilà", "Ops Team"]);
    // As a federated user of v3.
    if random.percent(20) {
        (user.identity.user_domain_id, user.identity.user_domain_name) = (None, None);
    }
    let service = random.percent(50).then(|| Who::new(random, &["service", "glance"]));
    json!({"ask": "edge", "user": user.told(), "service": service.as_ref().map(Who::told)})
}

impl Who {
    fn new(random: &mut Random, roles: &[&str]) -> Self {
        let own = |text: &str| Some(text.to_owned());
        let version = random.pick(&[2, 3]);
        let mut identity = Identity {
            user_id: own(random.pick(USER_IDS)),
            user_name: own(random.pick(USER_NAMES)),
            roles: (0..random.below(4)).map(|_| random.pick(roles).to_owned()).collect(),
            ..Identity::default()
        };
        if version == 2 || random.percent(90) {
            identity.project_id = own(random.pick(PROJECT_IDS));
            identity.project_name = own(random.pick(PROJECT_NAMES));
        }
        if version == 3 {
            let domains = if random.percent(60) { &[Some("default")][..] } else { DOMAINS };
            identity.user_domain_id = random.pick(domains).map(str::to_owned);
            identity.user_domain_name = own("Default");
            if identity.project_id.is_some() {
                identity.project_domain_id = random.pick(domains).map(str::to_owned);
                identity.project_domain_name = own("Default");
            }
        }
        if random.percent(3) {
            identity.user_name = None;
        }
        if random.percent(3) {
            identity.user_id = None;
        }
        Self { version, identity }
    }

    fn told(&self) -> Value {
        let it = &self.identity;
        let roles = [&it.roles[..], &it.omitted_roles].concat();
        json!({
            "version": self.version,
            "user_id": it.user_id,
            "user_name": it.user_name,
            "user_domain_id": it.user_domain_id,
            "user_domain_name": it.user_domain_name,
            "project_id": it.project_id,
            "project_name": it.project_name,
            "project_domain_id": it.project_domain_id,
            "project_domain_name": it.project_domain_name,
            "roles": roles,
        })
    }
}

fn path(random: &mut Random, scene: &Scene, user: Option<&Who>) -> String {
    if random.percent(2) {
        return random.pick(&["/", "//", "/v1//c", "/v1/AUTH_p//o", "v1/AUTH_p"]).to_owned();
    }
    let prefixes: Vec<_> = scene.prefixes.iter().copied().chain(["AUTH_", "KEY_"]).collect();
    let prefix = match random.percent(85) {
        true => random.pick(&scene.prefixes),
        false => random.pick(&prefixes),
    };
    let own = user.and_then(|user| user.identity.project_id.as_deref());
    let project = match (own, random.below(100)) {
        (Some(own), 0..=59) => own,
        (_, 0..=84) => random.pick(PROJECT_IDS),
        _ => random.pick(&["pp", "P", "demo", "AUTH_p", "x", ""]),
    };
    let rest =
        random.pick(&["", "", "/", "/c", "/c", "/c/", "/c/o", "/c/o", "/c/o", "/c/é/o/", "/c//"]);
    match random.below(100) {
        0 => "/v1".to_owned(),
        1 => "/v1/".to_owned(),
        _ => format!("/v1/{prefix}{project}{rest}"),
    }
}

fn acl(random: &mut Random, kind: AclKind, user: Option<&Who>) -> String {
    let items: Vec<_> = (0..random.below(4)).map(|_| item(random, kind, user)).collect();
    items.join(random.pick(&[",", ",", ", ", " ,\t", ",,", "\x0b,\x1c", ",\u{3000}"]))
}

fn item(random: &mut Random, kind: AclKind, user: Option<&Who>) -> String {
    let referrers = if kind == AclKind::Read { 35 } else { 3 };
    if random.percent(referrers) {
        return referrer(random);
    }
    match random.below(100) {
        0..=2 => random.pick(&["", " ", "%", "%zz", "a%2Cb", ".r", ".x", ":", "::"]).to_owned(),
        3 => random.pick(&[".x:y", ".R:*", ".rlistings:a", ". r:*", ".:"]).to_owned(),
        4..=14 => ".rlistings".to_owned(),
        15..=39 => {
            let role = random.pick(ROLES).to_owned();
            escape(random, &role)
        }
        40..=54 => {
            // Perhaps of a user that exists.
            let own = |it: &Option<String>| it.clone().unwrap_or("*".into());
            let it = user.map(|user| &user.identity);
            let [project, user] = match it.filter(|_| random.percent(70)) {
                Some(it) => [own(&it.project_name), own(&it.user_name)],
                None => ["p", "u"].map(str::to_owned),
            };
            escape(random, &format!("{project}:{user}"))
        }
        _ => {
            let projects: Vec<_> = [PROJECT_IDS, PROJECT_NAMES, &["*", "x"]].concat();
            let users: Vec<_> = [USER_IDS, USER_NAMES, &["*", "x"]].concat();
            let group = format!("{}:{}", random.pick(&projects), random.pick(&users));
            escape(random, &group)
        }
    }
}

fn referrer(random: &mut Random) -> String {
    let name = match random.percent(96) {
        true => random.pick(&[".r", ".r", ".ref", ".referer", ".referrer"]),
        false => random.pick(&[".R", ".refer", "r", "%2Er"]),
    };
    let colon = random.pick(&[":", ":", ":", " : ", ": "]);
    let minus = random.pick(&["", "", "", "-", "- "]);
    let host = match random.percent(96) {
        true => random.pick(&[
            "*",
            "*",
            "*",
            "example.com",
            ".example.com",
            "*.example.com",
            "* .example.com",
            "*example.com",
            "a.example.com",
            ".com",
            "unknown",
            "::1",
            "Example.com",
            "Ã©.org",
            "é.org",
            "-example.com",
            "*-example.com",
        ]),
        false => random.pick(&["", ".", "*.", "-", " ", "*-"]),
    };
    format!("{name}{colon}{minus}{host}")
}

/// Writes some of it percent-encoded.
fn escape(random: &mut Random, text: &str) -> String {
    match random.below(10) {
        0 => text.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        1 => text.replace('p', "%70").replace(' ', "%20"),
        2 => text.replace('é', "%c3%A9").replace(':', "%3a"),
        3 => format!("{text}%C3"),
        _ => text.to_owned(),
    }
}

fn referer(random: &mut Random) -> Vec<u8> {
    let scheme = match random.percent(85) {
        true => random.pick(&["http://", "https://", "//", "HTTP://"]),
        false => random.pick(&["", " http://", "ht\ttp://", "http:/", "1http://", "h_t://", ":"]),
    };
    let user = random.pick(&["", "", "", "", "u@", "u:p@", "a@b@"]);
    let host = match random.percent(85) {
        true => random.pick(&["example.com", "EXAMPLE.com", "a.example.com", "evil.org", "[::1]"]),
        false => random.pick(&["", "*", "unknown", "[::1", "[example.com]", "é.org", "\u{1}"]),
    };
    let port = random.pick(&["", "", "", ":80", ":", ":x"]);
    let rest = random.pick(&["", "/", "/a", "/a?b", "#f", "?q@evil.org", "\n", " "]);
    [scheme, user, host, port, rest].concat().into_bytes()
}

const METHODS: &[&str] =
    &["GET", "GET", "GET", "HEAD", "PUT", "PUT", "POST", "DELETE", "COPY", "OPTIONS", "get"];
/// With prefixes of each other, and one that has a colon in it.
const PROJECT_IDS: &[&str] = &["p", "p", "p1", "q", "B_p", "p:u"];
const PROJECT_NAMES: &[&str] = &["demo", "demo", "démo", "p1", "Demo Project"];
const USER_IDS: &[&str] = &["u", "u", "v", "u:v"];
const USER_NAMES: &[&str] = &["bob", "bob", "u", "Bob", "bénédicte"];
const DOMAINS: &[Option<&str>] = &[Some("default"), Some("d2"), Some(""), Some("Default"), None];
const ROLES: &[&str] = &[
    "admin",
    "ADMIN",
    "swiftoperator",
    "member",
    "member",
    "member",
    "member",
    "Member",
    "Member",
    "MEMBER ",
    "reader",
    "reader",
    "Reader",
    "\u{a0}reader\u{2003}",
    "auditor",
    "Boss",
    "ResellerAdmin",
    "ΟΔΟΣ",
    "οδος",
    "οδοσ",
    "RÔLE",
    "i\u{307}stanbul",
    "İSTANBUL",
    "straße",
    "STRASSE",
    "\u{212a}elvin",
    "kelvin",
    ".rlistings",
    "",
    " ",
];
