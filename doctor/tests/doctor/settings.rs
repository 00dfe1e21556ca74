//! What the configuration says.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use keystone_testbed::temp::set_mode;

use super::gateway::Gateway;

#[test]
fn settings_that_work_and_are_a_bad_idea_are_reported() {
    let mut gateway = Gateway::new();
    gateway.more = "keystone_revocation_cache_time 0; keystone_token_cache_time 2h;".into();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("settings.revocation_cache_time", "warn", "10s to 60s").says(
        "settings.token_cache_time",
        "warn",
        "2 h",
    );
    gateway.more = "keystone_revocation off;".into();
    gateway.check().says("settings.revocation", "warn", "until it expires");
}

#[test]
fn a_server_s_small_buffers_do_not_take_a_pki_token() {
    let mut gateway = Gateway::new();
    gateway.more = "server { large_client_header_buffers 4 8k; keystone_auth on; }".into();
    let outcome = gateway.check();
    outcome.says("settings.header_buffers", "warn", "4 64k");
    assert_eq!(outcome.json["sections"].as_array().unwrap().len(), 3, "{}", outcome.human);
}

#[test]
fn directives_of_nginx_that_bypass_the_module_are_reported() {
    let mut gateway = Gateway::new();
    gateway.more = "server { ignore_invalid_headers off; keystone_auth on;
                      location /a { post_action /log; } }"
        .into();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("configuration.ignore_invalid_headers", "warn", "ignore_invalid_headers on").says(
        "configuration.post_action",
        "warn",
        "freed",
    );
    // Where no token is asked for, they are no business of this.
    gateway.more = "server { ignore_invalid_headers off; post_action off;
                      location /a { post_action /log; } }"
        .into();
    let outcome = gateway.check();
    assert!(!outcome.human.contains("post_action"), "{}", outcome.human);
    assert!(!outcome.human.contains("ignore_invalid_headers"), "{}", outcome.human);
}

#[test]
fn tokens_in_arguments_are_reported() {
    let mut gateway = Gateway::new();
    gateway.more =
        "server { keystone_auth on; location /a { keystone_token $http_x ${ARG_t}; } }".into();
    let outcome = gateway.check();
    outcome.says("configuration.token_in_query", "warn", "$request_uri");
    gateway.more = "server { keystone_auth on; keystone_token $cookie_a $keystone_bearer; }".into();
    let outcome = gateway.check();
    assert!(!outcome.human.contains("arguments of the query"), "{}", outcome.human);
    assert!(!outcome.human.contains("tokens in arguments"), "{}", outcome.human);
}

#[test]
fn a_certificate_that_nobody_asks_for_or_that_anybody_can_send_is_reported() {
    let check = |lines: &str| {
        let mut gateway = Gateway::new();
        gateway.more = lines.into();
        gateway.check()
    };
    let (unasked, header) =
        ("configuration.client_certificate", "configuration.certificate_header");
    for (lines, id, text) in [
        (
            "server { keystone_auth on; keystone_client_certificate $ssl_client_raw_cert; }",
            unasked,
            "ssl_verify_client",
        ),
        (
            "server { keystone_auth on;
             location /a { keystone_enforce_token_bind oauth2_credential; } }",
            unasked,
            "bind_failed",
        ),
        (
            "server { keystone_auth on; ssl_verify_client off;
             keystone_enforce_token_bind oauth2_credential; }",
            unasked,
            "bind_failed",
        ),
        (
            "server { keystone_auth on; keystone_client_certificate $http_x_ssl_client_cert; }",
            header,
            "stolen token",
        ),
    ] {
        let outcome = check(lines);
        assert_eq!(outcome.code, 0, "{}", outcome.human);
        outcome.says(id, "warn", text);
    }
    for lines in [
        "server { keystone_auth on; }",
        "server { keystone_client_certificate $ssl_client_raw_cert; }",
        "ssl_verify_client optional_no_ca;
         server { keystone_auth on; keystone_enforce_token_bind oauth2_credential; }",
        "server { keystone_auth on; ssl_verify_client optional_no_ca;
         keystone_client_certificate $ssl_client_escaped_cert; }",
    ] {
        let outcome = check(lines);
        for id in [unasked, header] {
            assert!(!outcome.json.to_string().contains(id), "{lines}: {}", outcome.human);
        }
    }
}

#[test]
fn keystone_is_not_asked_over_the_network_without_tls() {
    let mut gateway = Gateway::new();
    // Neither leaves this machine: the one address is its own, the other name cannot be.
    gateway.more = "keystone_identity_uri http://0.0.0.0:1 http://no..name:5000;".into();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("settings.plain_http", "warn", "can read the password");
    outcome.says("keystone.tcp", "fail", "nothing listens");
    assert!(outcome.human.contains("getent ahosts no..name"), "{}", outcome.human);
}

#[test]
fn a_password_in_a_uri_is_not_shown() {
    let mut gateway = Gateway::new();
    gateway.more = "keystone_identity_uri http://me:testbed-password@127.0.0.1:1;".into();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.directive", "fail", "a user");
    assert_eq!(outcome.find("keystone.tcp"), None, "{}", outcome.human);
}

#[test]
fn a_secret_with_the_wrong_permissions_is_reported() {
    let gateway = Gateway::new();
    set_mode(&gateway.dir.join("password"), 0o644).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0);
    outcome.says("settings.secret_file", "warn", "chmod 0600");
    std::fs::remove_file(gateway.dir.join("password")).unwrap();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("settings.credentials", "fail", "password").says(
        "keystone.login",
        "skip",
        "password",
    );
}

#[test]
fn without_a_server_that_asks_for_tokens_nothing_is_protected() {
    let gateway = Gateway::new();
    gateway
        .write("open.conf", "events {}\nhttp { keystone_auth_uri http://127.0.0.1:1; server {} }");
    let conf = gateway.dir.join("open.conf");
    let outcome = gateway.run(&["check", conf.to_str().unwrap()], "");
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.servers", "fail", "nothing is protected");
}

#[test]
fn a_configuration_that_cannot_be_read_is_reported_with_its_line() {
    let gateway = Gateway::new();
    gateway.write("broken.conf", "events {}\nhttp {\n");
    let conf = gateway.dir.join("broken.conf");
    let outcome = gateway.run(&["check", conf.to_str().unwrap()], "");
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.syntax", "fail", "the file ends").says(
        "configuration.syntax",
        "fail",
        "broken.conf:3",
    );
    let outcome = gateway.run(&["check", "/no/such/file"], "");
    assert_eq!(outcome.code, 2);
    assert!(outcome.human.contains("cannot read /no/such/file"), "{}", outcome.human);

    gateway.write("including.conf", "events {}\nhttp {\ninclude missing.conf;\n}");
    let conf = gateway.dir.join("including.conf");
    let outcome = gateway.run(&["check", conf.to_str().unwrap()], "");
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.include", "fail", "including.conf:3");

    // What is in a directory that cannot be read is not nothing.
    symlink("sites", gateway.dir.join("sites")).unwrap();
    fs::create_dir(gateway.dir.join("empty")).unwrap();
    fs::create_dir(gateway.dir.join("enabled")).unwrap();
    symlink("/no/such/site", gateway.dir.join("enabled/gone.conf")).unwrap();
    gateway.write(
        "sites.conf",
        "events {}\nhttp {\ninclude sites/*.conf;\ninclude empt?/x.conf;\ninclude enabled/*;\n}",
    );
    let conf = gateway.dir.join("sites.conf");
    let outcome = gateway.run(&["check", conf.to_str().unwrap()], "");
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.include", "fail", "sites").says(
        "configuration.servers",
        "skip",
        "",
    );
    assert!(!outcome.human.contains("x.conf"), "{}", outcome.human);
    assert!(outcome.human.contains("enabled/gone.conf"), "{}", outcome.human);
    let outcome = gateway.run(&["token", "--conf", conf.to_str().unwrap()], "x");
    assert_eq!(outcome.code, 2);
    assert!(outcome.human.contains("sites.conf:3: cannot include"), "{}", outcome.human);
}

#[test]
fn what_nginx_refuses_is_not_asked_with() {
    let mut gateway = Gateway::new();
    let signing_dir = "keystone_signing_dir keystone;";
    for uri in ["http://127.0.0.1:99999", "http://127.0.0.1:/x", "http://127.0.0.1/#f"] {
        gateway.settings = Some(format!("keystone_auth_uri {uri}; {signing_dir}"));
        let outcome = gateway.check();
        assert_eq!(outcome.code, 1, "{}", outcome.human);
        outcome.says("settings.uri", "fail", "");
        assert_eq!(outcome.find("keystone.tcp"), None, "{}", outcome.human);
    }
    let uri = gateway.identity.uri();
    gateway.settings = Some(format!(
        "keystone_auth_uri {uri}; {signing_dir} keystone_revocation_events soon; \
         keystone_token_cache_time 0; \
         keystone_application_credential_secret s3cret;"
    ));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.directive", "fail", "").says(
        "settings.credentials",
        "fail",
        "must be set together",
    );
    for name in ["keystone_revocation_events", "keystone_token_cache_time"] {
        assert!(outcome.human.contains(&format!("in \"{name}\" directive")), "{name}");
    }
}

#[test]
fn wrong_usage_is_distinguished() {
    let gateway = Gateway::new();
    for arguments in [&["cure"][..], &["check", "--password", "hunter2"], &[]] {
        let outcome = gateway.run(arguments, "");
        assert_eq!(outcome.code, 2, "{}", outcome.human);
        assert!(!outcome.human.contains("hunter2"));
    }
    let outcome = gateway.run(&["token", "gAAAAABhunter2"], "");
    assert_eq!(outcome.code, 2, "{}", outcome.human);
    assert!(outcome.human.contains("from the standard input"), "{}", outcome.human);
    assert!(!outcome.human.contains("hunter2"));
    let outcome = gateway.run(&["--help"], "");
    assert_eq!(outcome.code, 0);
    assert!(outcome.human.contains("exit status of token:"));
}

/// An empty file would be taken for a good result otherwise.
#[test]
fn a_report_that_cannot_be_written_is_no_success() {
    for arguments in [&["--version"][..], &["check", "--no-nginx", "--auth-uri", "http://[::1]:1"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_keystone-doctor"))
            .args(arguments)
            .stdout(fs::File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
    }
}

#[test]
fn settings_can_be_given_one_by_one() {
    let gateway = Gateway::new();
    let directory = gateway.signing_dir();
    let password = format!("file:{}", gateway.dir.join("password").display());
    let uri = gateway.identity.uri();
    let mut arguments =
        vec!["check", "--auth-uri", &uri, "--signing-dir", directory.to_str().unwrap()];
    arguments.extend(["--username", "gateway", "--password", &password]);
    arguments.extend(["--project-name", "service"]);
    let user = keystone_testbed::nginx::worker_user();
    if let Some(user) = &user {
        arguments.extend(["--user", user]);
    }
    let outcome = gateway.run(&arguments, "");
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("keystone.role", "ok", "service").says("files.chain", "ok", "");
}

#[test]
fn commands_to_try_work_from_any_directory() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.check().code, 0);
    // As from /root, which is closed to nginx's user.
    let closed = gateway.dir.join("closed");
    fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o700).unwrap();
    gateway.from = Some(closed);
    let outcome = gateway.run(&["check", "../nginx.conf"], "");
    outcome.is_well();
    let target = outcome.find("signing_dir.mode").unwrap()["target"].as_str().unwrap();
    assert_eq!(target, gateway.signing_dir().to_str().unwrap());

    gateway.from = Some(gateway.dir.join(""));
    gateway.run(&["check", "nginx.conf"], "").is_well();
}
