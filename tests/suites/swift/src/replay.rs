//! The decisions in Swift's tests of keystoneauth, asked of nginx with `keystone_swift_auth`.
//!
//! `decisions.py` says what keystoneauth was asked and what it answered. Each decision is a request
//! here: its settings become directives, its identity a signed token, its ACL a header that the
//! configuration reads. Decisions with the same settings share an nginx.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use keystone_testbed::http::{Request, Response};
use keystone_testbed::keystone::python;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::Nginx;
use keystone_testbed::world::World;
use keystone_testbed::During;
use serde::Deserialize;
use serde_json::json;

use crate::report::Verdict;
use crate::{source, sources, Error};

/// What a test of Swift's did.
#[derive(Debug, Deserialize)]
struct Test {
    #[serde(rename = "test")]
    name: String,
    passed: bool,
    decisions: Vec<Decision>,
}

/// What keystoneauth was asked, and its answer.
#[derive(Debug, Deserialize)]
struct Decision {
    method: String,
    path: String,
    referer: Option<String>,
    acl: Option<String>,
    identity: Option<Identity>,
    /// The value of `X-Identity-Status`.
    status: Option<String>,
    /// The value of `X-Service-Identity-Status`.
    service: Option<String>,
    /// Whether the container has a key for synchronisation.
    sync: bool,
    settings: Settings,
    /// The status of the refusal, or 200.
    answer: u16,
}

/// Ids and names, each of which may be missing.
#[derive(Debug, Deserialize)]
struct Identity {
    user: (Option<String>, Option<String>),
    tenant: (Option<String>, Option<String>),
    roles: Vec<String>,
    service_roles: Vec<String>,
    user_domain: (Option<String>, Option<String>),
    project_domain: (Option<String>, Option<String>),
    auth_version: u8,
}

#[derive(Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
struct Settings {
    reseller_prefixes: Vec<String>,
    account_rules: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    reseller_admin_role: String,
    system_reader_roles: Vec<String>,
    allow_names_in_acls: bool,
    default_domain_id: String,
}

/// Runs Swift's tests, and asks nginx for each decision of those whose name starts with one of
/// `wanted`. A decision is called by its test and its number there.
pub fn run(wanted: &[&str]) -> Result<Vec<Verdict>, Error> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.starts_with(w));
    let world = World::setup().offline().start();
    let mut gateways = BTreeMap::<Settings, Nginx>::new();
    let mut verdicts = Vec::new();
    for test in tests()?.into_iter().filter(|test| is_wanted(&test.name)) {
        if !test.passed {
            verdicts.push(Verdict::failed(test.name, "fails with keystoneauth itself"));
            continue;
        }
        for (number, decision) in test.decisions.into_iter().enumerate() {
            let request = decision.request(&world);
            let gateway = gateways
                .entry(decision.settings)
                .or_insert_with_key(|settings| settings.gateway(&world));
            let answer = gateway.send(&request)?;
            let name = format!("{}/{}", test.name, number + 1);
            verdicts.push(match answer.status == decision.answer {
                true => Verdict::passed(name),
                false => Verdict::failed(name, difference(decision.answer, &answer)),
            });
        }
    }
    Ok(verdicts)
}

fn tests() -> Result<Vec<Test>, Error> {
    let mut command = Command::new(python()?);
    command.arg(source("decisions.py")).arg(sources()?.join("swift"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    let output = command.output().during("running decisions.py")?;
    if !output.status.success() {
        return Err(Error::Worker(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let tests = lines
        .lines()
        .map(|line| Ok(serde_json::from_str(line).map_err(keystone_testbed::Error::from)?));
    tests.collect()
}

fn difference(theirs: u16, answer: &Response) -> String {
    let result = answer.header("X-Result").unwrap_or_default();
    format!("keystoneauth answers {theirs}, nginx {} ({result})", answer.status)
}

impl Decision {
    fn request(&self, world: &World) -> Request {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        let mut request = Request::new(&self.method, path);
        if let Some(acl) = &self.acl {
            request = request.header("X-Test-Acl", acl);
        }
        if let Some(referer) = &self.referer {
            request = request.header("Referer", referer);
        }
        if self.sync {
            request = request.header("X-Container-Sync-Key", "foo").header("X-Timestamp", "1");
        }
        request = match (&self.identity, self.status.as_deref()) {
            (Some(identity), _) => request.token(&world.pki(&identity.user_token())),
            (None, None) => request,
            (None, Some("Confirmed")) => request.token(&world.pki(&Payload::v3())),
            (None, Some(_)) => request.token(INVALID),
        };
        let service_roles = self.identity.as_ref().map_or(&[][..], |it| &it.service_roles);
        match self.service.as_deref() {
            None if service_roles.is_empty() => request,
            None | Some("Confirmed") => {
                let roles: Vec<_> = service_roles.iter().map(String::as_str).collect();
                let service = world.pki(&Payload::v3_service().roles(&roles));
                request.header("X-Service-Token", service)
            }
            Some(_) => request.header("X-Service-Token", INVALID),
        }
    }
}

impl Identity {
    /// A token that says the same. Every token has a user, and only v3 tokens have domains.
    fn user_token(&self) -> Payload {
        let is_v3 = self.auth_version == 3;
        let domain =
            |(id, name): &(Option<String>, Option<String>)| json!({"id": id, "name": name});
        let mut payload = match &self.tenant {
            (Some(_), _) if is_v3 => {
                Payload::v3().with("/project/domain", domain(&self.project_domain))
            }
            (Some(_), _) => Payload::v2(),
            // A v2.0 token without a tenant is none to auth_token, and to the module.
            (None, _) => Payload::v3_unscoped(),
        };
        if is_v3 {
            payload = payload.with("/user/domain", domain(&self.user_domain));
        }
        if let (Some(id), Some(name)) = &self.user {
            payload = payload.user(id, name);
        }
        if let (Some(id), Some(name)) = &self.tenant {
            payload = payload.project(id, name);
        }
        let roles: Vec<_> = self.roles.iter().map(String::as_str).collect();
        payload.roles(&roles)
    }
}

impl Settings {
    fn gateway(&self, world: &World) -> Nginx {
        let behind = format!("http://{}", world.upstream.address());
        let location =
            format!("keystone_auth delay;\nkeystone_swift_auth on;\nproxy_pass {behind};");
        let roles = |rule: &str| {
            let of = |(prefix, rules): (&String, &BTreeMap<String, Vec<String>>)| {
                let roles = rules[rule].iter().map(|role| format!("\"{prefix}:{role}\""));
                roles.collect::<Vec<_>>()
            };
            self.account_rules.iter().flat_map(of).collect::<Vec<_>>()
        };
        let quoted = |words: &[String]| words.iter().map(|word| format!("\"{word}\"")).collect();
        let lists: [(&str, Vec<String>); 5] = [
            ("reseller_prefix", quoted(&self.reseller_prefixes)),
            ("operator_roles", roles("operator_roles")),
            ("service_roles", roles("service_roles")),
            ("project_reader_roles", roles("project_reader_roles")),
            ("system_reader_roles", quoted(&self.system_reader_roles)),
        ];
        world.gateway(|config| {
            let names = if self.allow_names_in_acls { "on" } else { "off" };
            let config = config
                .location("/", &location)
                .set("keystone_service_token_roles_required", "off")
                .set("keystone_swift_reseller_admin_role", &self.reseller_admin_role)
                .set("keystone_swift_allow_names_in_acls", names)
                .set("keystone_swift_default_domain_id", &self.default_domain_id)
                .set("keystone_swift_read_acl", "$http_x_test_acl")
                .set("keystone_swift_write_acl", "$http_x_test_acl");
            let set = lists.iter().filter(|(_, words)| !words.is_empty());
            set.fold(config, |config, (name, words)| {
                config.set(&format!("keystone_swift_{name}"), &words.join(" "))
            })
        })
    }
}

/// A token that Keystone never gave.
const INVALID: &str = "0123456789abcdef0123456789abcdef";
