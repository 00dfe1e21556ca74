//! What operators compare with their own files and logs: options, metrics, lines, log formats.

use std::collections::BTreeSet;

use crate::{literals, read, root, sources};

/// The options of `[keystone_authtoken]`: those of `_opts.py` and `_auth.py` in keystonemiddleware
/// 4.9.1, those of `_opts.py` in 13.0.1, and what the plugins `password`, `v2password` and
/// `v3applicationcredential` of keystoneauth1 have.
const OPTIONS: &str = "
    auth_uri www_authenticate_uri auth_version interface delay_auth_decision http_connect_timeout
    http_request_max_retries cache certfile keyfile cafile insecure region_name signing_dir
    memcached_servers memcache_servers token_cache_time revocation_cache_time
    memcache_security_strategy memcache_secret_key memcache_tls_enabled memcache_tls_cafile
    memcache_tls_certfile memcache_tls_keyfile memcache_tls_allowed_ciphers memcache_pool_dead_retry
    memcache_pool_maxsize memcache_pool_socket_timeout memcache_pool_unused_timeout
    memcache_pool_conn_get_timeout memcache_use_advanced_pool memcache_sasl_enabled
    memcache_username memcache_password include_service_catalog enforce_token_bind
    check_revocations_for_cached hash_algorithms service_token_roles service_token_roles_required
    service_type auth_type auth_plugin auth_section
    auth_admin_prefix auth_host auth_port auth_protocol identity_uri admin_token admin_user
    admin_password admin_tenant_name
    auth_url username password user_id user_domain_id user_domain_name project_id project_name
    project_domain_id project_domain_name tenant_id tenant_name default_domain_id
    default_domain_name domain_id domain_name system_scope trust_id
    application_credential_id application_credential_name application_credential_secret
    log_name oslo_config_project oslo_config_file";

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first cells of the table below a header.
fn first_cells<'a>(text: &'a str, header: &str) -> Vec<&'a str> {
    let (_, table) = text.split_once(header).unwrap_or_else(|| panic!("no table {header}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    rows.map(|row| row.split(" | ").next().unwrap()).collect()
}

#[test]
fn every_option_of_auth_token_has_a_row() {
    let text = read("docs/migrating-from-auth_token.md");
    let cells = first_cells(&text, "\n| auth_token | directive |");
    let named: BTreeSet<_> =
        cells.into_iter().flat_map(quoted).filter_map(|it| it.split(' ').next()).collect();
    let is_named = |option: &str| {
        named.iter().any(|it| match it.strip_suffix("...") {
            Some(prefix) => option.starts_with(prefix),
            None => *it == option,
        })
    };
    let missing: Vec<_> = OPTIONS.split_whitespace().filter(|it| !is_named(it)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_metric_is_described_and_none_else() {
    let written = read("keystone-gateway/src/status/prometheus.rs");
    let written: BTreeSet<_> =
        literals(&written).into_iter().filter(|it| it.starts_with("keystone_")).collect();
    let text = read("docs/monitoring.md");
    let described: BTreeSet<_> = text
        .split("\n| metric | labels | |\n")
        .skip(1)
        .flat_map(|table| table.lines().skip(1).take_while(|line| line.starts_with("| ")))
        .flat_map(|row| quoted(row.split(" | ").next().unwrap()))
        .map(str::to_owned)
        .collect();
    assert_eq!(described, written);
}

#[test]
fn the_words_to_look_for_in_the_log_are_those_of_the_sources() {
    let mut code = String::new();
    for dir in ["src", "keystone-token/src", "keystone-gateway/src"] {
        sources(&root().join(dir), &mut code);
    }
    let code = literals(&code).join("\n");
    // What the system and OpenSSL say.
    let foreign = [
        "Connection refused",
        "Permission denied",
        "certificate verify failed",
        "unable to get issuer certificate",
    ];
    let text = read("docs/troubleshooting.md");
    let cells = first_cells(&text, "\n| the line contains | check |");
    let words: Vec<_> = cells.into_iter().flat_map(quoted).filter(|it| *it != "curl").collect();
    assert!(words.len() > 10, "{words:?}");
    for word in words.into_iter().filter(|it| !foreign.contains(it)) {
        // What stands for the dots and a number differs from line to line.
        for part in word.split("...") {
            let text = part.trim_end_matches(|c: char| c.is_ascii_digit());
            let text = if text == part { text.to_owned() } else { format!("{text}{{") };
            assert!(code.contains(&text), "nobody logs {part:?} of {word:?}");
        }
    }
}

#[test]
fn the_example_of_the_json_log_has_its_members() {
    let members = |text: &str| -> Vec<String> {
        let ends = text.match_indices("\":").map(|(at, _)| &text[..at]);
        ends.filter_map(|it| Some(it.rsplit_once('"')?.1.to_owned())).collect()
    };
    let conf = read("docker/nginx.conf");
    let (_, format) = conf.split_once("log_format keystone_json escape=json").unwrap();
    let document = read("docs/containers.md");
    let (_, example) = document.split_once("```json\n").unwrap();
    let (format, example) = (format.split(';').next().unwrap(), example.lines().next().unwrap());
    assert_eq!(members(example), members(format));
}
