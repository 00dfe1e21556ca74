//! Dashboard, alert rules and the page about them.

use super::*;

/// The names in a text that begin as the module's do.
fn named(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("keystone_")).collect()
}

/// All expressions of the dashboard's panels.
pub(super) fn dashboard_expressions() -> Vec<String> {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/grafana/keystone.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn dashboard_alerts_and_page_name_what_there_is() {
    let memcached = Memcached::start().unwrap();
    let world = full(&memcached);
    let metrics = metrics(&world.nginx);
    let names = metrics.names();

    let expressions = dashboard_expressions().join("\n");
    let alerts = expressions_of(include_str!("../../../docs/prometheus/alerts.yml"));
    let page = include_str!("../../../docs/monitoring.md");
    assert!(named(&expressions).len() > 10 && named(&alerts).len() > 4);
    for name in named(&expressions).into_iter().chain(named(&alerts)) {
        assert!(names.contains(name), "{name} is not exported");
        let family = name.trim_end_matches("_bucket");
        assert!(page.contains(family), "{name} is not in the page");
    }
    for name in names {
        let suffixes = ["_bucket", "_sum", "_count"];
        let family = suffixes.iter().fold(name, |name, suffix| name.trim_end_matches(suffix));
        assert!(page.contains(&format!("`{family}")), "{name} is not in the page");
    }
}

/// What stands behind `expr:`, up to the next key of the rule.
fn expressions_of(rules: &str) -> String {
    let rules = rules.split("expr:").skip(1);
    rules.filter_map(|rule| Some(rule.split_once(" for:")?.0)).collect()
}
