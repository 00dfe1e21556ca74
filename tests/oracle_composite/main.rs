//! The module beside keystonemiddleware 13: user token and service token together, with binds,
//! access rules, scopes and expired tokens in random combinations. Client and application must see
//! the same, apart from the differences that `expected` names. See tests/keystone/README.md.
//!
//! The small identity service of the testbed answers both, since it gives any token.
//!
//! `KEYSTONE_ORACLE_SEED` generates other requests, `KEYSTONE_ORACLE_CASES` more of them.

use std::collections::BTreeMap;
use std::process::Command;

use keystone_testbed::http::Request;
use keystone_testbed::identity::ADMIN_TOKEN;
use keystone_testbed::keystone::{python, source};
use keystone_testbed::oracle::{Oracle, View};
use keystone_testbed::random::{number, Random};
use keystone_testbed::world::{World, AUTH_URI};
use serde_json::{json, Value};

use cases::Case;

mod cases;

/// Settings of both.
#[derive(Debug)]
struct Scene {
    bind: &'static str,
    delay: bool,
    service_type: Option<&'static str>,
    roles_required: bool,
}

const SCENES: &[Scene] = &[
    scene("permissive", true, Some("object-store"), true),
    scene("permissive", false, Some("object-store"), false),
    scene("disabled", true, Some("object-store"), false),
    scene("strict", true, Some("identity"), true),
    scene("required", true, Some("object-store"), true),
    scene("kerberos", true, Some("image"), false),
    scene("permissive", true, None, true),
];

const fn scene(
    bind: &'static str,
    delay: bool,
    service_type: Option<&'static str>,
    roles_required: bool,
) -> Scene {
    Scene { bind, delay, service_type, roles_required }
}

#[test]
fn user_and_service_tokens_in_every_combination() {
    let seed = number("KEYSTONE_ORACLE_SEED", SEED);
    let mut random = Random::new(seed);
    let mut command = Command::new(python().expect("a Python with keystonemiddleware in it"));
    let oracle = Oracle::start(command.arg(source("oracle.py"))).expect("the oracle starts");
    let mut tally = BTreeMap::new();
    for scene in SCENES {
        let world = scene.world();
        let options = scene.options(&world).to_string();
        let ask = |request: Request| {
            let view = oracle.ask(&request.header("X-Test-Options", &options));
            compact(view.expect("the oracle answers"))
        };
        for _ in 0..number("KEYSTONE_ORACLE_CASES", CASES) {
            let case = Case::new(&mut random, &world);
            // The second time the answer comes from a cache.
            for time in ["first", "second"] {
                let told = ask(case.request());
                *tally.entry(status(&told)).or_insert(0) += 1;
                let wanted = expected(&case, told, || ask(case.request_of_user()));
                let ours = compact(View::of_nginx(&world.send(&case.request())));
                let unexplained = ours.differences_to(&wanted).join("\n    ");
                assert!(
                    unexplained.is_empty(),
                    "seed {seed}, {scene:?}, the {time} time, {case:?}:\n    {unexplained}"
                );
            }
        }
    }
    println!("{tally:#?}");
    for wanted in EXPECTED {
        let seen = tally.get(&wanted.map(str::to_owned)).copied().unwrap_or(0);
        assert!(seen > 50, "{wanted:?}: seen {seen} times only");
    }
}

/// What the module must say where auth_token said `told`.
fn expected(case: &Case, told: View, user_alone: impl FnOnce() -> View) -> View {
    const SERVICE_STATUS: &str = "x-service-identity-status";
    let mut wanted = told;
    // In auth_token any service token lifts the rules and the bind of a user's token, even one that
    // is found to be invalid.
    if wanted.headers.get(SERVICE_STATUS).is_some_and(|status| status == "Invalid") {
        let service_token = wanted.headers.remove("x-service-token");
        wanted = user_alone();
        wanted.headers.insert(SERVICE_STATUS.into(), "Invalid".into());
        wanted.headers.extend(service_token.map(|token| ("x-service-token".into(), token)));
    }
    // auth_token writes the scope of both tokens into one header, the service's last.
    wanted.headers.remove("openstack-system-scope");
    let is_confirmed = wanted.headers.get("x-identity-status").is_some_and(|it| it == "Confirmed");
    if is_confirmed && case.is_of_system() {
        wanted.headers.insert("openstack-system-scope".into(), "all".into());
    }
    wanted
}

fn compact(mut view: View) -> View {
    view.compact_catalog();
    view
}

/// What became of the user's token and of the service's.
fn status(view: &View) -> [String; 2] {
    ["x-identity-status", "x-service-identity-status"].map(|name| match view.status {
        200 => view.headers.get(name).cloned().unwrap_or_default(),
        status => status.to_string(),
    })
}

impl Scene {
    fn world(&self) -> World {
        let word = |is_on| if is_on { "on" } else { "off" };
        let mut setup = World::setup()
            .set("keystone_auth_version", "v3")
            .set("keystone_enforce_token_bind", self.bind)
            .set("keystone_include_service_catalog", "on")
            .set("keystone_service_token_roles", &cases::SERVICE_ROLES.join(" "))
            .set("keystone_service_token_roles_required", word(self.roles_required));
        if let Some(service_type) = self.service_type {
            setup = setup.set("keystone_service_type", service_type);
        }
        let auth = if self.delay { "delay" } else { "on" };
        setup.location("/", &format!("keystone_auth {auth};\nproxy_pass @UPSTREAM@;")).start()
    }

    fn options(&self, world: &World) -> Value {
        let mut options = json!({
            "auth_type": "admin_token",
            "endpoint": format!("{}/v3", world.identity.uri()),
            "token": ADMIN_TOKEN,
            "www_authenticate_uri": AUTH_URI,
            "enforce_token_bind": self.bind,
            "delay_auth_decision": self.delay.to_string(),
            "service_token_roles": cases::SERVICE_ROLES.join(","),
            "service_token_roles_required": self.roles_required.to_string(),
        });
        if let Some(service_type) = self.service_type {
            options["service_type"] = json!(service_type);
        }
        options
    }
}

/// How each is to be seen more than 50 times: the user's token and the service's, each with its
/// identity status, or with the status of the answer.
const EXPECTED: &[[&str; 2]] = &[
    ["401", "401"],
    ["Confirmed", ""],
    ["Confirmed", "Confirmed"],
    ["Confirmed", "Invalid"],
    ["Invalid", ""],
    ["Invalid", "Confirmed"],
    ["Invalid", "Invalid"],
];

const SEED: u64 = 20_261_130;
const CASES: u64 = 200;
