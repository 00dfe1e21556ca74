//! Random options of keystoneauth: as Swift has them and as the module has them.

use keystone_testbed::random::Random;
use keystone_token::swift::{Options, Settings};
use serde_json::{json, Map, Value};

/// The same settings for keystoneauth and for the module.
pub struct Scene {
    /// Swift's `[filter:keystoneauth]`.
    pub options: Value,
    /// As the module reads them.
    pub settings: Settings,
    /// In the order of `reseller_prefix`.
    pub prefixes: Vec<&'static str>,
}

impl Scene {
    /// The settings that Swift has by default.
    pub fn plain() -> Self {
        let settings = Settings::new(&Options::default()).expect("settings");
        Self { options: json!({}), settings, prefixes: vec!["AUTH_"] }
    }

    pub fn new(random: &mut Random) -> Self {
        let mut swift = Map::new();
        let mut ours = Options::default();
        let prefixes = prefixes(random, &mut swift, &mut ours);

        let share = random.pick(&[0, 60, 60]);
        for (name, list, pool) in [
            ("operator_roles", &mut ours.operator_roles, OPERATORS),
            ("service_roles", &mut ours.service_roles, &["service", "Service ", "glance"]),
            (
                "project_reader_roles",
                &mut ours.project_reader_roles,
                &["reader", " Reader", "ΟΔΟΣ"],
            ),
        ] {
            if random.percent(share) {
                *list = Some(roles(random, &mut swift, name, &prefixes, pool));
            }
        }
        if random.percent(50) {
            let roles = some(random, &["Auditor", " auditor", "reader", "all-reader"]);
            swift.insert("system_reader_roles".into(), json!(roles.join(",")));
            ours.system_reader_roles = Some(roles.iter().map(|it| (*it).to_owned()).collect());
        }
        if random.percent(30) {
            let role = random.pick(&["Boss", "reselleradmin", "", "İstanbul"]);
            swift.insert("reseller_admin_role".into(), json!(role));
            ours.reseller_admin_role = Some(role.to_owned());
        }
        if random.percent(40) {
            let is_on = random.percent(30);
            let word =
                random.pick(if is_on { &["true", "Yes", "1"] } else { &["false", "no", "0"] });
            swift.insert("allow_names_in_acls".into(), json!(word));
            ours.allow_names_in_acls = Some(is_on);
        }
        if random.percent(30) {
            let domain = random.pick(&["default", "d2", ""]);
            swift.insert("default_domain_id".into(), json!(domain));
            ours.default_domain_id = Some(domain.to_owned());
        }
        let settings = Settings::new(&ours).unwrap_or_else(|error| panic!("{ours:?}: {error}"));
        Self { options: swift.into(), settings, prefixes }
    }
}

/// As they are in the end.
fn prefixes(
    random: &mut Random,
    swift: &mut Map<String, Value>,
    ours: &mut Options,
) -> Vec<&'static str> {
    let (swift_list, our_list, prefixes): (_, &[&str], &[_]) = random.pick(&[
        (None, &[], &["AUTH_"][..]),
        (Some("AUTH"), &["AUTH"], &["AUTH_"]),
        (Some("AUTH, SERVICE_,AUTH_"), &["AUTH", "SERVICE_", "AUTH_"], &["AUTH_", "SERVICE_"]),
        (Some("AUTH, ''"), &["AUTH", ""], &["AUTH_", ""]),
        (Some("'',A,A_B"), &["", " A ", "A_B"], &["", "A_", "A_B_"]),
        (Some("''"), &[""], &[""]),
        (Some(" ,"), &[], &[""]),
    ]);
    if let Some(list) = swift_list {
        swift.insert("reseller_prefix".into(), json!(list));
        ours.reseller_prefixes = Some(our_list.iter().map(|it| (*it).to_owned()).collect());
    }
    prefixes.to_vec()
}

/// Some for all, and perhaps some for one prefix.
fn roles(
    random: &mut Random,
    swift: &mut Map<String, Value>,
    option: &str,
    prefixes: &[&str],
    pool: &[&'static str],
) -> Vec<String> {
    let mut ours = Vec::new();
    if random.percent(70) {
        let roles = some(random, pool);
        swift.insert(option.into(), json!(roles.join(",")));
        ours.extend(roles.iter().map(|role| (*role).to_owned()));
    }
    for prefix in prefixes {
        if random.percent(40) {
            let roles = some(random, pool);
            let swift_prefix = if prefix.is_empty() { "''" } else { prefix };
            swift.insert(format!("{swift_prefix}{option}"), json!(roles.join(",")));
            let written = if random.percent(50) { prefix } else { prefix.trim_end_matches('_') };
            ours.extend(roles.iter().map(|role| format!("{written}:{role}")));
        }
    }
    ours
}

fn some(random: &mut Random, pool: &[&'static str]) -> Vec<&'static str> {
    (0..1 + random.below(2)).map(|_| random.pick(pool)).collect()
}

const OPERATORS: &[&str] = &["admin", "Member", " swiftoperator ", "ΟΔΟΣ", "Rôle", "İstanbul"];
