use std::fs;
use std::time::Duration;

use keystone_testbed::temp::TempDir;

use keystone_conf::Credentials;

use super::Conf;

fn conf(text: &str) -> (TempDir, Conf) {
    let dir = TempDir::new("doctor-conf").unwrap();
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let conf = Conf::read(&dir.join("nginx.conf"), None).unwrap();
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
    assert_eq!(first.settings.identity_uris[0].as_str(), "http://127.0.0.1:5000");
    assert_eq!(first.settings.revocation_cache_time, Duration::from_secs(30));
    assert!(matches!(&first.settings.credentials, Credentials::Password { .. }));
    assert_eq!(second.settings.identity_uris[0].as_str(), "http://127.0.0.1:5001");
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
    let conf = Conf::read(&dir.join("nginx.conf"), None).unwrap();
    assert_eq!(conf.servers, (1, 1));
    assert_eq!(conf.unreadable.len(), 1);
    assert!(conf.unreadable[0].position.to_string().ends_with("nginx.conf:4"));
    let Credentials::Token(token) = &conf.services[0].settings.credentials else { panic!() };
    assert_eq!(token.expose(), "of the file");
}

#[test]
fn what_nginx_cannot_read_is_reported_with_file_and_line() {
    for (text, end) in [
        ("http {\n", "nginx.conf:2: the file ends within a block"),
        ("http { }\n}\n", "nginx.conf:2: unexpected \"}\""),
        ("\n\nuser \"www", "nginx.conf:3: a quoted text is not closed"),
        ("events {};\n", "nginx.conf:1: a directive without a name"),
        ("include nginx.conf;\n", "nginx.conf:1: files include each other without end"),
    ] {
        let dir = TempDir::new("doctor-conf").unwrap();
        fs::write(dir.join("nginx.conf"), text).unwrap();
        let conf = Conf::read(&dir.join("nginx.conf"), None).unwrap();
        let [problem] = conf.unreadable.as_slice() else { panic!("{text}") };
        let told = format!("{}: {}", problem.position, problem.text);
        assert!(told.ends_with(end), "{told}");
    }
}

#[test]
fn what_the_module_refuses_is_reported_with_file_and_line() {
    let (_dir, conf) = conf(
        "keystone_auth on; http { server {\n keystone_auth on; keystone_revocation_cache_time \
         soon;\n keystone_hash_algorithms md5 crc32; location / { keystone_ssl_verify on; }\n \
         content_by_lua_block { x = {} } if ($x) { keystone_auth off; }\n keystone_atuh on; } \
         types { keystone_headers on; } }",
    );
    let refused = conf.refused.iter().map(|it| (it.position.line, it.text.as_str()));
    assert_eq!(
        refused.collect::<Vec<_>>(),
        [
            (1, "\"keystone_auth\" directive is not allowed here"),
            (
                2,
                "invalid value \"soon\" in \"keystone_revocation_cache_time\" directive, it must \
                 be a time such as \"30s\" or \"5m\""
            ),
            (
                3,
                "invalid value \"crc32\" in \"keystone_hash_algorithms\" directive, it must be \
                 md5, sha1, sha224, sha256, sha384 or sha512"
            ),
            (5, "unknown directive \"keystone_atuh\""),
            (2, "\"keystone_auth_uri\" directive is missing for \"keystone_auth\""),
            (3, "\"keystone_ssl_verify\" directive is not allowed here"),
            (4, "\"keystone_auth\" directive is not allowed here"),
            (5, "\"keystone_headers\" directive is not allowed here"),
        ]
    );
}
