//! The directives: what `nginx -t` says of them.

use keystone_testbed::nginx::{check, Check, Config};

const LINES: [&str; 12] = [
    "keystone_swift_auth on;",
    "keystone_swift_reseller_prefix AUTH_ SERVICE;",
    "keystone_swift_operator_roles admin SERVICE_:boss SERVICE:x;",
    "keystone_swift_service_roles SERVICE_:service;",
    "keystone_swift_project_reader_roles reader;",
    "keystone_swift_system_reader_roles auditor;",
    "keystone_swift_reseller_admin_role root;",
    "keystone_swift_read_acl '.r:*,.rlistings';",
    "keystone_swift_write_acl $http_x;",
    "keystone_swift_acl_file /srv/.acl/$keystone_swift_account;",
    "keystone_swift_allow_names_in_acls off;",
    "keystone_swift_default_domain_id d;",
];

fn refused(config: &Config) -> String {
    let Check { ok, text } = check(config).unwrap();
    assert!(!ok && text.contains("[emerg]"), "{text}");
    assert!(text.contains("nginx.conf:"), "{text}");
    text
}

#[track_caller]
fn accepted(config: &Config) {
    let Check { ok, text } = check(config).unwrap();
    assert!(ok, "{text}");
}

#[test]
fn every_directive_in_every_context() {
    let all = LINES.join("\n");
    accepted(&Config::protected().http(&format!("keystone_auth on; {all}")));
    accepted(&Config::protected().server(&format!("keystone_auth on; {all}")));
    accepted(&Config::protected().location("/a", &format!("keystone_auth on; {all}")));
    let except = format!("keystone_auth on; limit_except GET {{ keystone_auth on; {all} }}");
    accepted(&Config::protected().location("/a", &except));
    for line in LINES {
        let text = refused(&Config::protected().location("/a", &format!("{line}\n{line}")));
        let name = line.split(' ').next().unwrap();
        assert!(text.contains(name) && text.contains("is duplicate"), "{line}: {text}");
    }
}

#[test]
fn bad_values() {
    for (line, words) in [
        ("keystone_swift_auth yes;", "it must be"),
        ("keystone_swift_auth;", "invalid number of arguments"),
        ("keystone_swift_reseller_prefix;", "invalid number of arguments"),
        ("keystone_swift_operator_roles '';", "empty"),
        ("keystone_swift_service_roles;", "invalid number of arguments"),
        ("keystone_swift_system_reader_roles a '';", "empty"),
        ("keystone_swift_reseller_admin_role '';", "empty"),
        ("keystone_swift_reseller_admin_role a b;", "invalid number of arguments"),
        ("keystone_swift_allow_names_in_acls maybe;", "it must be"),
        ("keystone_swift_default_domain_id '';", "empty"),
        ("keystone_swift_acl_file '';", "empty"),
        ("keystone_swift_acl_file $no_such_variable;", "no_such_variable"),
        ("keystone_swift_read_acl .r:;", ".r:"),
        ("keystone_swift_read_acl .r:-;", ".r:-"),
        ("keystone_swift_read_acl 'a:b, .x:y';", ".x"),
        ("keystone_swift_write_acl .r:*;", ".r:*"),
        ("keystone_swift_write_acl 'a:b,.referrer:example.com';", ".referrer"),
        ("keystone_swift_read_acl $no_such_variable;", "no_such_variable"),
    ] {
        let lines = format!("keystone_auth on;\n{line}");
        let Check { ok, text } = check(&Config::protected().location("/a", &lines)).unwrap();
        assert!(!ok && text.contains("[emerg]"), "{line}: {text}");
        // nginx itself finds variables that do not exist, when it has read everything.
        assert!(line.contains("$no_such") || text.contains("nginx.conf:"), "{line}: {text}");
        assert!(text.contains(words), "{line}: {text}");
    }
    accepted(&Config::protected().location("/a", "keystone_swift_read_acl '';"));
}

#[test]
fn a_role_for_a_prefix_that_does_not_exist() {
    for name in ["operator_roles", "service_roles", "project_reader_roles"] {
        let lines = format!(
            "keystone_auth on; keystone_swift_auth on;\nkeystone_swift_{name} a NOAUTH_:b;"
        );
        let config = Config::protected().location("/a", &lines);
        let text = refused(&config);
        assert!(text.contains(name) && text.contains("NOAUTH_"), "{text}");
        // The line of the directive, not of what switches all of them on.
        let line = |needle: &str| {
            let dir = keystone_testbed::temp::TempDir::new("lines").unwrap();
            keystone_testbed::nginx::check_in(&dir, &config).unwrap();
            let text = std::fs::read_to_string(dir.join("nginx.conf")).unwrap();
            text.lines().position(|line| line.contains(needle)).unwrap() + 1
        };
        assert!(text.contains(&format!("nginx.conf:{}", line(name))), "{text}");
    }
}

#[test]
fn no_authorization_without_authentication() {
    let config = Config::protected().location("/", "").location("/a", "keystone_swift_auth on;");
    let text = refused(&config);
    assert!(text.contains("keystone_swift_auth") && text.contains("keystone_auth"), "{text}");
    accepted(&config.clone().server("keystone_auth off;"));
    accepted(&config.server("keystone_auth on;"));
    refused(&Config::protected().server("keystone_swift_auth on;"));
    // Also from `http`, where no level has asked for a token.
    let config = Config::protected().location("/a", "").http("keystone_swift_auth on;");
    let text = refused(&config);
    assert!(text.contains("keystone_swift_auth"), "{text}");
    accepted(&config.clone().server("keystone_auth off;"));
    accepted(&config.http("keystone_auth on;"));
}

#[test]
fn directives_that_authorise_nothing_are_warned_of() {
    let warns = |config: &Config| {
        let Check { ok, text } = check(config).unwrap();
        assert!(ok, "{text}");
        text.contains("[warn]") && text.contains("keystone_swift_auth on")
    };
    for line in LINES.iter().skip(1) {
        let location = |lines: &str| {
            Config::protected().location("/a", &format!("keystone_auth on; {line} {lines}"))
        };
        // Roles for a prefix want that prefix, once they count.
        let prefix = "keystone_swift_reseller_prefix AUTH SERVICE;";
        let prefix = if line.contains("reseller_prefix") { "" } else { prefix };
        assert!(warns(&location("")), "{line}");
        assert!(!warns(&location(&format!("{prefix} keystone_swift_auth on;"))), "{line}");
        assert!(!warns(&location("keystone_swift_auth off;")), "{line}");
    }
    let off = Config::protected().location("/a", "keystone_auth off; keystone_swift_read_acl a:b;");
    assert!(!warns(&off));
    assert!(!warns(&Config::protected()));
}
