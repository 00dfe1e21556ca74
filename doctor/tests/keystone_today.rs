//! The program against a real Keystone of today, from the environment in `KEYSTONE_VENV`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use keystone_testbed::keystone::Keystone;
use keystone_testbed::temp::{set_mode, TempDir};
use serde_json::Value;

/// What the program says, and its exit status.
fn doctor(arguments: &[&str], input: &str) -> (i32, Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keystone-doctor"))
        .args(arguments)
        .arg("--json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn status<'j>(json: &'j Value, id: &str) -> &'j str {
    let sections = json["sections"].as_array().unwrap();
    let mut checks = sections.iter().flat_map(|it| it["checks"].as_array().unwrap());
    let check = checks.find(|check| check["id"] == id);
    check.unwrap_or_else(|| panic!("no {id} in {json:#}"))["status"].as_str().unwrap()
}

#[test]
fn a_keystone_of_today_is_well_and_judges_its_tokens() {
    let keystone = Keystone::start().unwrap();
    let dir = TempDir::new("doctor-today").unwrap();
    fs::create_dir(dir.join("keystone")).unwrap();
    set_mode(&dir.join("keystone"), 0o700).unwrap();
    let settings = |user: &str, project: &str| {
        fs::write(dir.join("password"), keystone.password(user).unwrap()).unwrap();
        set_mode(&dir.join("password"), 0o600).unwrap();
        vec![
            format!("--auth-uri={}", keystone.uri()),
            format!("--signing-dir={}", dir.join("keystone").display()),
            format!("--username={user}"),
            format!("--password=file:{}", dir.join("password").display()),
            format!("--project-name={project}"),
            "--revocation-events=5s".to_owned(),
            "--user=root".to_owned(),
        ]
    };
    let run_in = |project: &str, command: &[&str], user: &str, input: &str| {
        let settings = settings(user, project);
        let settings = settings.iter().map(String::as_str);
        doctor(&command.iter().copied().chain(settings).collect::<Vec<_>>(), input)
    };

    let run = |command: &[&str], user: &str, input: &str| {
        let project = if user == "gateway" { "service" } else { "demo" };
        run_in(project, command, user, input)
    };

    let (code, json) = run(&["check"], "gateway", "");
    assert_eq!(code, 0, "{json:#}");
    for (id, expected) in [
        ("keystone.version", "ok"),
        ("keystone.clock", "ok"),
        ("keystone.certificates", "ok"),
        ("keystone.login", "ok"),
        ("keystone.role", "ok"),
        ("keystone.revocation_events", "ok"),
        ("files.signing_cert", "skip"),
    ] {
        assert_eq!(status(&json, id), expected, "{id} in {json:#}");
    }

    let token = keystone.token("alice").unwrap();
    let (code, json) = run(&["token", "--online"], "gateway", &token);
    assert_eq!(code, 0, "{json:#}");
    assert_eq!(json["token"]["identity"]["user_name"], "alice");
    keystone.revoke(&token).unwrap();
    let (code, json) = run(&["token", "--online"], "gateway", &token);
    assert_eq!(code, 1, "{json:#}");
    assert_eq!(json["sections"][0]["verdict"]["result"], "unknown_token");

    // A user that is no service: it may log in, and not ask about others.
    let (_, json) = run(&["check"], "alice", "");
    assert_eq!(status(&json, "keystone.login"), "ok", "{json:#}");
    assert_eq!(status(&json, "keystone.role"), "fail", "{json:#}");
    assert_eq!(status(&json, "keystone.revocation_events"), "fail", "{json:#}");

    // The same in a project where it has no role, which Keystone tells as a wrong password.
    let (code, json) = run_in("service", &["check"], "alice", "");
    assert_eq!(code, 1, "{json:#}");
    assert_eq!(status(&json, "keystone.login"), "fail", "{json:#}");
    assert!(json.to_string().contains("the user and the password are right"), "{json:#}");
}
