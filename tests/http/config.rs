//! Directives: what `nginx -t` refuses and says, inheritance, and `signing_dir` at the start.

mod errors;
mod signing_dir;

use std::fs;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::identity::ADMIN_TOKEN;
use keystone_testbed::mint::{JwsKey, Payload};
use keystone_testbed::nginx::{check, check_in, Check, Config};
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::{shared_pki, World};

/// The line of a test's directive, which the message must name.
fn line_of(config: &Config, needle: &str) -> usize {
    let dir = TempDir::new("lines").unwrap();
    check_in(&dir, config).unwrap();
    let text = fs::read_to_string(dir.join("nginx.conf")).unwrap();
    text.lines().position(|line| line.trim_start().starts_with(needle)).unwrap() + 1
}

#[track_caller]
fn assert_refused(config: &Config, directive: &str) -> String {
    let Check { ok, text } = check(config).unwrap();
    assert!(!ok, "{directive} was accepted");
    let name = directive.split(' ').next().unwrap();
    let line = format!("nginx.conf:{}", line_of(config, name));
    assert!(text.contains("[emerg]") && text.contains(&line), "{directive}: {text}");
    assert!(text.contains(name), "{directive}: {text}");
    text
}

#[track_caller]
fn assert_accepted(config: &Config) -> String {
    let Check { ok, text } = check(config).unwrap();
    assert!(ok, "{text}");
    text
}

#[test]
fn every_directive_in_every_context() {
    let certificate = TempDir::new("certificate").unwrap();
    let pair = &shared_pki().unwrap().authority;
    fs::write(certificate.join("c.pem"), pair.pem().unwrap()).unwrap();
    fs::write(certificate.join("k.pem"), pair.key_pem().unwrap()).unwrap();
    let (cert, key) = (certificate.join("c.pem"), certificate.join("k.pem"));
    let public = certificate.join("jws.pem");
    fs::write(&public, JwsKey::new().unwrap().public_pem().unwrap()).unwrap();
    let server = [
        "keystone_auth_uri https://keystone.example.com:5000;",
        "keystone_identity_uri http://127.0.0.1:1 https://127.0.0.1:2/identity/;",
        "keystone_auth_version auto;",
        "keystone_username u; keystone_password p; keystone_project_name s;
         keystone_user_domain_name d; keystone_project_domain_name d;",
        "keystone_connect_timeout 1s; keystone_send_timeout 500ms; keystone_read_timeout 1m;",
        "keystone_http_request_max_retries 0;",
        "keystone_keepalive 0;",
        "keystone_max_pending 1;",
        "keystone_max_pending_per_address 0;",
        &format!("keystone_jws_keys {};", public.display()),
        "keystone_revocation_events off;",
        "keystone_proxy http://user:password@127.0.0.1:3128;",
        "keystone_ssl_partial_chain on;",
        &format!("keystone_ssl_trusted_certificate {};", cert.display()),
        "keystone_ssl_verify off;",
        "keystone_ssl_name name;",
        &format!("keystone_ssl_certificate {};", cert.display()),
        &format!("keystone_ssl_certificate_key {};", key.display()),
        "keystone_signing_dir @DIR@/other;",
        "keystone_hash_algorithms sha256 md5 sha1 sha224 sha384 sha512;",
        "keystone_revocation on;",
        "keystone_revocation_cache_time 0;",
        "keystone_revocation_stale 1h;",
        "keystone_token_cache_time off;",
        "keystone_invalid_cache_time off;",
        "keystone_memcached_servers 127.0.0.1:1 unix:/tmp/memcached.sock;",
        "keystone_memcached_security_strategy encrypt;",
        "keystone_memcached_secret_key s;",
    ]
    .join("\n");
    let location = [
        "keystone_headers off;",
        "keystone_include_service_catalog on;",
        "keystone_forward_token off;",
        "keystone_cache_control off;",
        "keystone_early on;",
        "keystone_token $http_x_auth_token ${cookie_keystone} $arg_temp $keystone_bearer a$host;",
        "keystone_client_certificate $http_x_ssl_client_cert;",
    ]
    .join("\n");
    let limit = [
        "keystone_auth delay;",
        "keystone_require_role a b; keystone_require_role c;",
        "keystone_require $http_x $arg_y;",
        "keystone_enforce_token_bind strict;",
        "keystone_service_path /v2.1$uri;",
    ]
    .join("\n");
    let plain = || Config::new().http("keystone_cache_zone zone=other:1m;");
    let all = format!("{server}\n{location}\n{limit}");
    assert_accepted(&plain().http(&all));
    assert_accepted(&plain().server(&all));
    assert_accepted(&Config::protected().location("/a", &format!("{location}\n{limit}")));
    let except = format!("limit_except GET {{ {limit} }}");
    assert_accepted(&Config::protected().location("/a", &except));

    for directive in server.split(';').map(str::trim).filter(|text| !text.is_empty()) {
        let config = Config::new().location("/a", &format!("\n{directive};"));
        let text = assert_refused(&config, directive);
        assert!(text.contains("not allowed here"), "{text}");
    }
    let config = Config::new().server("keystone_cache_zone zone=other:1m;");
    assert_refused(&config, "keystone_cache_zone");
    for directive in location.lines() {
        let except = format!("limit_except GET {{\n{directive}\n}}");
        assert_refused(&Config::protected().location("/a", &except), directive);
    }
}

/// auth_token and Swift separate the names of a list with commas.
#[test]
fn a_list_with_commas_is_refused_with_the_line_as_it_should_be() {
    for name in [
        "keystone_require_role",
        "keystone_service_token_roles",
        "keystone_service_type",
        "keystone_swift_operator_roles",
        "keystone_swift_project_reader_roles",
        "keystone_swift_reseller_prefix",
        "keystone_swift_service_roles",
        "keystone_swift_system_reader_roles",
    ] {
        let config = Config::protected().http(&format!("{name} a,b \"c, d\";"));
        let Check { ok, text } = check(&config).unwrap();
        let right = format!("names are separated by blanks: \"{name} a b c d;\" in ");
        assert!(!ok && text.contains(&right), "{text}");
    }
    for (list, right) in [
        ("keystone_hash_algorithms sha256,md5;", "keystone_hash_algorithms sha256 md5;"),
        (
            "keystone_memcached_servers 127.0.0.1:1, 127.0.0.1:2;",
            "keystone_memcached_servers 127.0.0.1:1 127.0.0.1:2;",
        ),
    ] {
        let Check { ok, text } = check(&Config::protected().http(list)).unwrap();
        let right = format!("names are separated by blanks: \"{right}\" in ");
        assert!(!ok && text.contains(&right), "{text}");
    }
    for name in ["keystone_swift_default_domain_id", "keystone_swift_reseller_admin_role"] {
        let Check { ok, text } = check(&Config::protected().http(&format!("{name} a,;"))).unwrap();
        assert!(!ok && text.contains("it is one name and cannot have a comma"), "{text}");
    }
}

#[test]
fn bad_values() {
    let bad = [
        "keystone_auth yes;",
        "keystone_auth on off;",
        "keystone_auth_uri;",
        "keystone_auth_uri \"\";",
        "keystone_auth_uri keystone.example.com;",
        "keystone_auth_uri ftp://keystone.example.com;",
        "keystone_auth_uri \"http://a\\\"b\";",
        "keystone_identity_uri http://;",
        "keystone_identity_uri http://a http://:80;",
        "keystone_identity_uri http://127.0.0.1:65536;",
        "keystone_identity_uri http://127.0.0.1:port;",
        "keystone_identity_uri \"http://a b\";",
        "keystone_auth_version v1;",
        "keystone_auth_version 3.x;",
        "keystone_admin_token \"\";",
        "keystone_admin_token file:/nonexistent/token;",
        "keystone_username \"\";",
        "keystone_connect_timeout soon;",
        "keystone_connect_timeout -1s;",
        "keystone_read_timeout 1x;",
        "keystone_http_request_max_retries -1;",
        "keystone_http_request_max_retries many;",
        "keystone_http_request_max_retries +3;",
        "keystone_http_request_max_retries 4294967296;",
        "keystone_keepalive -1;",
        "keystone_max_pending 0;",
        "keystone_max_pending x;",
        "keystone_max_pending_per_address -1;",
        "keystone_max_pending_per_address x;",
        "keystone_proxy;",
        "keystone_proxy \"\";",
        "keystone_proxy 127.0.0.1:3128;",
        "keystone_proxy https://127.0.0.1:3128;",
        "keystone_proxy socks5://127.0.0.1:3128;",
        "keystone_proxy http://127.0.0.1:3128/path;",
        "keystone_proxy http://127.0.0.1:3128 http://127.0.0.1:3129;",
        "keystone_proxy http://:3128;",
        "keystone_proxy http://user:%zz@127.0.0.1:3128;",
        "keystone_proxy file:/nonexistent/proxy;",
        "keystone_ssl_partial_chain yes;",
        "keystone_jws_keys;",
        "keystone_jws_keys \"\";",
        "keystone_jws_keys /nonexistent/public.pem;",
        "keystone_revocation_events sometimes;",
        "keystone_ssl_trusted_certificate /nonexistent/ca.pem;",
        "keystone_ssl_verify maybe;",
        "keystone_ssl_name $host;",
        "keystone_ssl_name keystone.example.com:5000;",
        "keystone_ssl_name https://keystone.example.com;",
        "keystone_ssl_name \"a b\";",
        "keystone_ssl_certificate /nonexistent/client.pem;",
        "keystone_hash_algorithms md4;",
        "keystone_hash_algorithms md5 md5x;",
        "keystone_hash_algorithms;",
        "keystone_revocation 1;",
        "keystone_revocation_cache_time never;",
        "keystone_revocation_stale -1;",
        "keystone_cache_zone zone=x;",
        "keystone_cache_zone zone=:10m;",
        "keystone_cache_zone zone=x:1k;",
        "keystone_cache_zone zone=x:many;",
        "keystone_cache_zone x:10m;",
        "keystone_cache_zone zone=x:10m surplus;",
        "keystone_worker_cache many;",
        "keystone_worker_cache 1m 1m;",
        "keystone_worker_cache -1;",
        "keystone_token_cache_time no;",
        "keystone_invalid_cache_time no;",
        "keystone_require_role;",
        "keystone_require_role \"\";",
        "keystone_require;",
        "keystone_require keystone_user_id;",
        "keystone_require $host 1;",
        "keystone_enforce_token_bind;",
        "keystone_enforce_token_bind Strict;",
        "keystone_enforce_token_bind $mode;",
        "keystone_enforce_token_bind kerberos,x509;",
        "keystone_headers maybe;",
        "keystone_include_service_catalog 123;",
        "keystone_forward_token maybe;",
        "keystone_cache_control private;",
        "keystone_early;",
        "keystone_early maybe;",
        "keystone_token;",
        "keystone_token \"\";",
        "keystone_token x_auth_token;",
        "keystone_token $http_cookie;",
        "keystone_token $http_x_service_token;",
        "keystone_token $http_x_user_id;",
        "keystone_token $http_host;",
        "keystone_token $keystone_user_id;",
        "keystone_token $arg_a $arg_a;",
        "keystone_token ${a-b};",
        "keystone_client_certificate;",
        "keystone_client_certificate \"\";",
        "keystone_client_certificate /etc/nginx/client.pem;",
        "keystone_client_certificate $ssl_client_raw_cert $http_x_ssl_client_cert;",
        "keystone_client_certificate ${a-b};",
        "keystone_service_path;",
        "keystone_service_path \"\";",
        "keystone_service_path v2.1/servers;",
        "keystone_service_path http://nova/v2.1;",
        "keystone_service_path /${a-b};",
        "keystone_service_path /a /b;",
    ];
    let mut wrong = Vec::new();
    for directive in bad {
        let name = directive.trim_end_matches(';').split(' ').next().unwrap();
        let config = Config::protected().unset(name).http(directive);
        let Check { ok, text } = check(&config).unwrap();
        let line = format!("nginx.conf:{}", line_of(&config, directive.trim_end_matches(';')));
        if ok || !text.contains("[emerg]") || !text.contains(&line) {
            wrong.push(format!("{directive} in {line}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // nginx itself finds this one, when all is read, and names no line.
    let unknown = Config::protected().http("keystone_require $no_such_variable_anywhere;");
    assert!(!check(&unknown).unwrap().ok);
}

#[test]
fn a_directive_twice() {
    for directive in ["keystone_auth on;", "keystone_token_cache_time 1s;", "keystone_keepalive 1;"]
    {
        let config = Config::protected().server(directive).server(directive);
        let text = check(&config).unwrap().text;
        assert!(text.contains("duplicate"), "{directive}: {text}");
    }
}

#[test]
fn an_auth_uri_is_required() {
    let without = Config::protected().unset("keystone_auth_uri");
    for auth in ["on", "delay"] {
        let config = without.clone().location("/", &format!("\nkeystone_auth {auth};"));
        assert_refused(&config, &format!("keystone_auth {auth}"));
        let text = check(&config).unwrap().text;
        assert!(text.contains("keystone_auth_uri"), "{text}");
    }
    assert_accepted(&without.clone().location("/", "keystone_auth off;"));
    assert_accepted(&without.server("keystone_auth_uri http://127.0.0.1:5000;"));
}

#[test]
fn credentials_must_fit_together() {
    let bad = [
        "keystone_username u;",
        "keystone_password p;",
        "keystone_application_credential_id i;",
        "keystone_application_credential_secret s;",
        "keystone_admin_token t; keystone_username u; keystone_password p;",
        "keystone_admin_token t; keystone_application_credential_id i;
         keystone_application_credential_secret s;",
    ];
    for lines in bad {
        let check = check(&Config::protected().http(lines)).unwrap();
        assert!(!check.ok, "{lines}");
        assert!(check.text.contains("nginx.conf:"), "{lines}: {}", check.text);
    }
    // The API v2.0 has no application credentials.
    let version = "keystone_auth_version v2.0;";
    let credential = "keystone_application_credential_id i";
    let config = Config::protected()
        .http(&format!("{credential}; keystone_application_credential_secret s;"))
        .server(version);
    let text = assert_refused(&config, credential);
    assert!(text.contains("needs API v3"), "{text}");
    assert_accepted(&config.server("keystone_admin_token t;"));
    let good = [
        "keystone_admin_user u; keystone_admin_password p; keystone_admin_tenant_name t;",
        "keystone_username u; keystone_password p; keystone_project_name t;",
        "keystone_application_credential_id i; keystone_application_credential_secret s;",
        "keystone_admin_token t;",
        "",
    ];
    for lines in good {
        assert_accepted(&Config::protected().http(lines));
    }
}

#[test]
fn client_certificate_and_key_must_fit_together() {
    let dir = TempDir::new("pair").unwrap();
    let pki = shared_pki().unwrap();
    fs::write(dir.join("c.pem"), pki.authority.pem().unwrap()).unwrap();
    fs::write(dir.join("k.pem"), pki.authority.key_pem().unwrap()).unwrap();
    fs::write(dir.join("other.pem"), pki.signing.key_pem().unwrap()).unwrap();
    let with = |certificate: &str, key: &str| {
        let path = |name: &str| dir.join(name).display().to_string();
        let mut config = Config::protected().set("keystone_identity_uri", "https://127.0.0.1:5000");
        if !certificate.is_empty() {
            config = config.set("keystone_ssl_certificate", &path(certificate));
        }
        if !key.is_empty() {
            config = config.set("keystone_ssl_certificate_key", &path(key));
        }
        check(&config).unwrap().ok
    };
    assert!(with("c.pem", "k.pem"));
    assert!(!with("c.pem", ""));
    assert!(!with("", "k.pem"));
    assert!(!with("c.pem", "other.pem"));
    assert!(!with("k.pem", "c.pem"));
}

#[test]
fn a_secret_from_a_file() {
    let dir = TempDir::new("secret").unwrap();
    let path = dir.join("token");
    for text in [format!("{ADMIN_TOKEN}\n"), ADMIN_TOKEN.to_owned()] {
        fs::write(&path, text).unwrap();
        let value = format!("file:{}", path.display());
        let world = World::setup().set("keystone_admin_token", &value).start();
        assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    }
    fs::write(&path, "").unwrap();
    let value = format!("file:{}", path.display());
    let check = check(&Config::protected().set("keystone_admin_token", &value)).unwrap();
    assert!(!check.ok && check.text.contains("nginx.conf:"), "{}", check.text);
}

/// Nobody may ever write into a named pipe, and a reload would keep the master waiting.
#[test]
fn a_named_pipe_in_place_of_a_file_is_refused() {
    let dir = TempDir::new("pipe").unwrap();
    let pipe = dir.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let pipe = pipe.display();
    for directive in [
        format!("keystone_admin_token file:{pipe};"),
        format!("keystone_proxy file:{pipe};"),
        format!("keystone_jws_keys {pipe};"),
        format!("keystone_ssl_trusted_certificate {pipe};"),
        format!("keystone_ssl_certificate {pipe};"),
        format!("keystone_ssl_certificate_key {pipe};"),
    ] {
        let name = directive.split(' ').next().unwrap();
        let config = Config::protected().unset(name).http(&directive).under(&["timeout", "20"]);
        let text = assert_refused(&config, &directive);
        assert!(text.contains("it is not a regular file"), "{text}");
    }
}

#[test]
fn a_refused_secret_is_not_shown() {
    let bad = [
        "keystone_admin_token verysecret extra;",
        "keystone_admin_token verysecret; keystone_admin_token verysecret;",
        "keystone_admin_token \"verysecret\\r\\nX-Evil: 1\";",
        "keystone_password verysecret;",
        "keystone_application_credential_secret verysecret;",
        "keystone_proxy http://u:verysecret%40127.0.0.1:3128;",
    ];
    for lines in bad {
        let check = check(&Config::protected().http(lines)).unwrap();
        assert!(!check.ok, "{lines}");
        assert!(!check.text.contains("verysecret"), "{}", check.text);
    }
}

#[test]
fn inheritance_through_http_server_location_and_limit_except() {
    let world = World::setup()
        .offline()
        .config(|config| config.server("keystone_auth on;"))
        .location("= /inherits", "proxy_pass @UPSTREAM@;")
        .location("= /off", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .location(
            "/outer/",
            "keystone_require_role other; proxy_pass @UPSTREAM@;
            location = /outer/inherits { proxy_pass @UPSTREAM@; }
            location = /outer/own { keystone_require_role role1; proxy_pass @UPSTREAM@; }",
        )
        .location(
            "= /limit",
            "limit_except GET { keystone_require_role admin; }
            proxy_pass @UPSTREAM@;",
        )
        .location(
            "= /limit-auth",
            "keystone_auth off; limit_except GET { keystone_auth on; }
            proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    let status = |method: &str, target: &str, token: &str| {
        let request = Request::new(method, target);
        let request = if token.is_empty() { request } else { request.token(token) };
        world.send(&request).status
    };
    assert_eq!(status("GET", "/inherits", ""), 401);
    assert_eq!(status("GET", "/inherits", &token), 200);
    assert_eq!(status("GET", "/off", ""), 200);
    assert_eq!(status("GET", "/outer/x", &token), 403);
    assert_eq!(status("GET", "/outer/inherits", &token), 403);
    assert_eq!(status("GET", "/outer/own", &token), 200);
    assert_eq!(status("GET", "/limit", &token), 200);
    assert_eq!(status("HEAD", "/limit", &token), 200);
    assert_eq!(status("DELETE", "/limit", &token), 403);
    assert_eq!(status("DELETE", "/limit", ""), 401);
    assert_eq!(status("GET", "/limit-auth", ""), 200);
    assert_eq!(status("DELETE", "/limit-auth", ""), 401);
    assert_eq!(status("DELETE", "/limit-auth", &token), 200);
}

#[test]
fn servers_of_their_own() {
    let two = keystone_testbed::port::Port::free().unwrap();
    let server = format!(
        "server {{ listen {}; keystone_auth on; root @DIR@/html;
            keystone_auth_uri https://other.example.com; keystone_invalid_cache_time 1s; }}",
        two.address()
    );
    let world = World::setup().offline().config(|config| config.http(&server)).start();
    let answer = keystone_testbed::http::send(two.address(), &Request::get("/")).unwrap();
    let challenge = "Keystone uri=\"https://other.example.com\"";
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge));
    expect::refused(&world.send(&Request::get("/")));
    let token = world.pki(&Payload::v3());
    let request = Request::get("/files/hello.txt").token(&token);
    let answer = keystone_testbed::http::send(two.address(), &request).unwrap();
    assert_eq!(answer.text(), "hello\n");
}

#[test]
fn without_any_keystone_directive_the_module_does_nothing() {
    assert_accepted(&Config::new());
    let world = World::setup().config(|config| config.location("/", "return 200 free;")).start();
    assert_eq!(world.send(&Request::get("/")).text(), "free");
}
