use std::fs;
use std::time::Duration;

use keystone_testbed::temp::TempDir;

use super::reader::{Directive, Place};
use super::service::{Credentials, Settings};
use super::Conf;

fn conf(text: &str) -> (TempDir, Conf) {
    let dir = TempDir::new("doctor-conf").unwrap();
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let conf = Conf::read(&dir.join("nginx.conf")).unwrap();
    (dir, conf)
}

#[test]
fn a_server_inherits_from_http_what_it_does_not_set() {
    let (_dir, conf) = conf(
        "user web team; http { keystone_auth_uri http://127.0.0.1:5000; keystone_username a; \
         keystone_password b; keystone_revocation_cache_time 30s; \
         server { location / { limit_except GET { keystone_auth on; } } } \
         server { keystone_auth_uri http://127.0.0.1:5001; keystone_admin_token t; \
         keystone_auth delay; } \
         server { location / {} } }",
    );
    assert_eq!(conf.user, Some(("web".into(), Some("team".into()))));
    assert_eq!(conf.servers, (3, 2));
    let [first, second] = conf.services.as_slice() else { panic!("{:?}", conf.services) };
    assert_eq!(first.settings.identity_uris, ["http://127.0.0.1:5000"]);
    assert_eq!(first.settings.revocation_cache_time, Duration::from_secs(30));
    assert!(matches!(&first.settings.credentials, Credentials::Password { .. }));
    assert_eq!(second.settings.identity_uris, ["http://127.0.0.1:5001"]);
    assert_eq!(second.settings.revocation_cache_time, Duration::from_secs(30));
    assert!(matches!(&second.settings.credentials, Credentials::Token(_)));
}

#[test]
fn servers_with_the_same_settings_share_a_service() {
    let (_dir, conf) = conf(
        "http { keystone_auth on; keystone_auth_uri http://127.0.0.1:5000;\n\
         server {}\nserver {}\n}",
    );
    assert_eq!(conf.services.len(), 1);
    assert_eq!(conf.services[0].users.len(), 2);
    assert!(conf.services[0].users[1].ends_with("nginx.conf:3"), "{:?}", conf.services[0].users);
}

#[test]
fn included_files_stand_where_they_are_included() {
    let dir = TempDir::new("doctor-conf").unwrap();
    fs::create_dir(dir.join("sites")).unwrap();
    fs::write(dir.join("sites/a.conf"), "server { keystone_auth on; }").unwrap();
    fs::write(dir.join("sites/b.txt"), "}").unwrap();
    fs::write(dir.join("secret"), "of the file\n").unwrap();
    fs::write(
        dir.join("nginx.conf"),
        "http {\n include sites/*.conf;\n include none/*;\n include missing.conf;\n\
         keystone_auth_uri http://127.0.0.1:1; keystone_admin_token file:secret; }",
    )
    .unwrap();
    let conf = Conf::read(&dir.join("nginx.conf")).unwrap();
    assert_eq!(conf.servers, (1, 1));
    assert_eq!(conf.problems.len(), 1);
    assert!(conf.problems[0].place.to_string().ends_with("nginx.conf:4"));
    let Credentials::Token(token) = &conf.services[0].settings.credentials else { panic!() };
    assert_eq!(token.expose(), "of the file");
}

#[test]
fn what_nginx_cannot_read_is_told_with_file_and_line() {
    for (text, end) in [
        ("http {\n", "nginx.conf:2: the file ends within a block"),
        ("http { }\n}\n", "nginx.conf:2: unexpected \"}\""),
        ("\n\nuser \"www", "nginx.conf:3: a quoted text is not closed"),
        ("events {};\n", "nginx.conf:1: a directive without a name"),
        ("include nginx.conf;\n", "nginx.conf:1: files include each other without end"),
    ] {
        let dir = TempDir::new("doctor-conf").unwrap();
        fs::write(dir.join("nginx.conf"), text).unwrap();
        let error = Conf::read(&dir.join("nginx.conf")).unwrap_err().to_string();
        assert!(error.ends_with(end), "{error}");
    }
}

#[test]
fn a_value_that_the_module_would_not_take_is_told() {
    let (_dir, conf) = conf(
        "http { server {\n keystone_auth on; keystone_revocation_cache_time soon;\n \
         keystone_hash_algorithms md5 crc32; keystone_ssl_verify maybe; \
         content_by_lua_block { x = {} } } }",
    );
    let texts: Vec<&str> =
        conf.services[0].settings.problems.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("\"crc32\"")));
}

#[test]
fn defaults_are_the_documented_ones() {
    let directive = |name: &str, value: &str| Directive {
        name: name.to_owned(),
        arguments: value.split(' ').map(str::to_owned).collect(),
        place: Place::default(),
        block: None,
    };
    let page = include_str!("../../../docs/directives.md");
    let documented = page.split("\n### ").skip(1).filter_map(|section| {
        let (_, default) = section.split_once("**Default:** `")?;
        Some(directive(section.lines().next()?, default.split('`').next()?))
    });
    let user =
        [directive("keystone_username", "gateway"), directive("keystone_password", "secret")];
    let all: Vec<_> = user.iter().cloned().chain(documented).collect();
    assert!(all.len() > 20, "{}", all.len());
    let settings = |directives: &[Directive]| {
        let service = Conf::of_options(directives).services.remove(0);
        // Where that is by default is told by nginx.
        Settings { signing_dir: None, ..service.settings }
    };
    assert_eq!(settings(&all), settings(&user));
}
