//! What nginx says of a configuration, and whether it runs.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use keystone_testbed::identity::ADMIN_TOKEN;
use keystone_testbed::nginx::{binary, module, Config, Nginx};
use keystone_testbed::temp::{set_mode, TempDir};
use socket2::{Domain, Socket, Type};

use super::gateway::{Gateway, Outcome};

/// Whether there are an nginx and a module that was made for it; says so if not.
fn is_there() -> bool {
    let is_there = binary().exists() && module().exists();
    if !is_there {
        eprintln!("skipped: there is no nginx, or no module for it");
    }
    is_there
}

/// The configuration of a gateway, with a line replaced.
fn text(gateway: &Gateway, from: &str, to: &str) -> String {
    let text = fs::read_to_string(gateway.conf()).unwrap();
    assert!(text.contains(from), "{text}");
    text.replace(from, to)
}

/// What the program says of a text, with nginx or without.
fn check(gateway: &Gateway, text: &str, with_nginx: bool) -> Outcome {
    gateway.write("changed.conf", text);
    let conf = gateway.dir.join("changed.conf").display().to_string();
    let nginx = binary().display().to_string();
    let ask = ["--nginx", &nginx];
    let arguments = [&["check", &conf][..], if with_nginx { &ask } else { &[] }].concat();
    gateway.run(&arguments, "")
}

/// Configurations that nginx refuses: what is replaced, by what, and a word of nginx's reason; and
/// whether that can be told without nginx.
const REFUSED: [(&str, &str, &str, bool); 24] = [
    ("load_module", "#load_module", "unknown directive", true),
    ("load_module ", "load_module /no/such/ngx_http_keystone_module.so; #", "dlopen", false),
    ("keystone_auth on;", "keystone_auth yes;", "\"yes\"", true),
    ("keystone_auth on;", "keystone_atuh on;", "keystone_atuh", true),
    ("keystone_auth on;", "keystone_auth on", "", true),
    ("keystone_auth on;", "keystone_auth on off;", "number of arguments", true),
    ("keystone_auth on;", "keystone_auth on; keystone_auth on;", "duplicate", true),
    ("events {}", "events { keystone_auth on; }", "not allowed", true),
    ("events {}", "events {} keystone_auth on;", "not allowed", true),
    (
        "keystone_auth on;",
        "location / { keystone_auth on; keystone_keepalive 1; }",
        "not allowed",
        true,
    ),
    ("keystone_auth on;", "if ($arg_x) { keystone_auth on; }", "not allowed", true),
    ("keystone_auth on;", "keystone_auth on; keystone_read_timeout 1x;", "\"1x\"", true),
    ("keystone_auth on;", "keystone_auth on; keystone_read_timeout 1y;", "\"1y\"", true),
    ("keystone_auth on;", "keystone_auth on; keystone_token_cache_time 0;", "\"0\"", true),
    ("access_log", "keystone_cache_zone zone=x:1k; access_log", "256k", true),
    ("access_log", "keystone_cache_zone x; access_log", "zone=NAME:SIZE", true),
    ("access_log", "keystone_http_request_max_retries -1; access_log", "\"-1\"", true),
    ("access_log", "keystone_memcached_servers localhost; access_log", "HOST:PORT", true),
    ("access_log", "keystone_memcached_security_strategy mac; access_log", "secret_key", true),
    ("access_log", "keystone_hash_algorithms md4; access_log", "\"md4\"", true),
    ("access_log", "keystone_identity_uri ftp://a; access_log", "http://", true),
    ("keystone_password file:password;", "", "must be set together", true),
    ("keystone_auth on;", "location / { keystone_swift_auth on; }", "keystone_auth", true),
    ("listen 127.0.0.1:1;", "listen 127.0.0.1:1; no_such_directive;", "no_such_directive", false),
];

#[test]
fn what_nginx_refuses_has_failed() {
    if !is_there() {
        return;
    }
    let gateway = Gateway::new();
    for (from, to, reason, _) in REFUSED {
        let outcome = check(&gateway, &text(&gateway, from, to), true);
        assert_eq!(outcome.code, 1, "{to}: {}", outcome.human);
        outcome.says("configuration.nginx", "fail", reason.trim_matches('"'));
        outcome.says("configuration.nginx", "fail", " -t -c ");
    }
}

#[test]
fn what_nginx_would_refuse_is_found_without_it() {
    let gateway = Gateway::new();
    for (from, to, reason, is_found) in REFUSED {
        let outcome = check(&gateway, &text(&gateway, from, to), false);
        assert_eq!(outcome.code, i32::from(is_found), "{to}: {}", outcome.human);
        outcome.says("configuration.nginx", "skip", "");
        let is_told = outcome.human.contains(reason) || from.starts_with("load_module");
        assert!(is_told || !is_found, "{to}: {}", outcome.human);
    }
}

#[test]
fn a_module_of_another_nginx_is_reported() {
    if !is_there() {
        return;
    }
    let gateway = Gateway::new();
    // Its signature, as nginx compares it, is another one.
    let mut bytes = fs::read(module()).unwrap();
    let signature = b"8,4,8,";
    let at = bytes.windows(signature.len()).position(|it| it == signature).unwrap();
    bytes[at] = b'4';
    fs::write(gateway.dir.join("other.so"), bytes).unwrap();
    let other = text(&gateway, &module().display().to_string(), &gateway.path("other.so"));
    let outcome = check(&gateway, &other, true);
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.nginx", "fail", "was made for another nginx");
}

#[test]
fn what_nginx_accepts_is_read_as_nginx_prints_it() {
    if !is_there() {
        return;
    }
    let mut gateway = Gateway::new();
    gateway.asks_nginx = true;
    fs::create_dir(gateway.dir.join("sites")).unwrap();
    gateway.write("sites/a.conf", "server { listen 127.0.0.1:2; keystone_auth on; }\n");
    gateway.write("sites/b.txt", "}");
    gateway.more = "include sites/*.conf;".into();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome
        .says("configuration.nginx", "ok", "accepts")
        .says("configuration.servers", "ok", "2 of 2")
        .says("configuration.running", "warn", "does not run");
}

#[test]
fn whether_nginx_uses_the_files_is_reported() {
    if !is_there() {
        return;
    }
    let gateway = Gateway::new();
    let config = Config::protected()
        .set("keystone_auth_uri", &gateway.identity.uri())
        .set("keystone_admin_token", &format!("file:{}", gateway.path("token")))
        .set("keystone_signing_dir", &gateway.signing_dir().display().to_string());
    gateway.write("token", ADMIN_TOKEN);
    let nginx = Nginx::start(&config).unwrap();
    let conf = nginx.dir().join("nginx.conf");
    let program = binary().display().to_string();
    let check = || gateway.run(&["check", conf.to_str().unwrap(), "--nginx", &program], "");
    let past = SystemTime::now() - Duration::from_secs(60);
    let touch_file = |path: &Path, time: SystemTime| {
        fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    };
    let touch = |time: SystemTime| touch_file(&conf, time);
    touch(past);
    let secret = gateway.dir.join("token");
    // nginx does not know what was written into it since.
    touch_file(&secret, SystemTime::now() + Duration::from_secs(60));
    check().says("configuration.unchanged", "warn", "token has changed");
    touch_file(&secret, past);
    check().says("configuration.running", "ok", &format!("process {}", nginx.pid())).says(
        "configuration.unchanged",
        "ok",
        "",
    );
    touch(SystemTime::now() + Duration::from_secs(60));
    check().says("configuration.unchanged", "warn", "systemctl reload nginx");
    // By another name, it is the same file.
    let link = gateway.path("link.conf");
    std::os::unix::fs::symlink(&conf, &link).unwrap();
    gateway.run(&["check", &link, "--nginx", &program], "").says("configuration.running", "ok", "");
    let other = TempDir::new("doctor-other").unwrap();
    let copy: PathBuf = other.join("nginx.conf");
    fs::copy(&conf, &copy).unwrap();
    let outcome = gateway.run(&["check", copy.to_str().unwrap(), "--nginx", &program], "");
    outcome.says("configuration.running", "skip", conf.to_str().unwrap());
}

/// With `-p`, relative paths start there, also that of the configuration.
/// An nginx with the paths of a build without options: below the prefix.
#[test]
fn the_configuration_is_by_default_the_one_that_nginx_reads() {
    if !is_there() {
        return;
    }
    let gateway = Gateway::new();
    fs::create_dir(gateway.dir.join("conf")).unwrap();
    gateway.write("conf/nginx.conf", &fs::read_to_string(gateway.conf()).unwrap());
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -V ] && exec echo configure arguments: >&2\nexec {} \"$@\"\n",
        binary().display()
    );
    gateway.write("nginx", &script);
    let program = gateway.path("nginx");
    set_mode(Path::new(&program), 0o755).unwrap();
    let prefix = gateway.dir.path().to_str().unwrap();
    let outcome = gateway.run(&["check", "--nginx", &program, "--prefix", prefix], "");
    assert_eq!(outcome.json["configuration"], gateway.path("conf/nginx.conf"), "{}", outcome.human);
}

#[test]
fn an_nginx_with_a_prefix_is_found() {
    if !is_there() {
        return;
    }
    let gateway = Gateway::new();
    let text = fs::read_to_string(gateway.conf()).unwrap();
    let port = keystone_testbed::port::Port::free().unwrap();
    let text = text.replace("127.0.0.1:1;", &format!("{};", port.address()));
    gateway.write("nginx.conf", &format!("pid nginx.pid;\n{text}"));
    let (program, prefix) = (binary().display().to_string(), gateway.dir.path().to_str().unwrap());
    let nginx = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        let status = command.args(["-p", prefix, "-c", "nginx.conf"]).args(arguments).status();
        assert!(status.unwrap().success());
    };
    let conf = gateway.path("nginx.conf");
    let check = || gateway.run(&["check", &conf, "--nginx", &program, "--prefix", prefix], "");
    check().says("configuration.running", "warn", "does not run");
    nginx(&[]);
    let outcome = check();
    nginx(&["-s", "stop"]);
    outcome.says("configuration.running", "ok", "").says("configuration.unchanged", "ok", "");
}

#[test]
fn a_process_that_got_the_id_of_an_nginx_is_none() {
    let mut gateway = Gateway::new();
    let mut other = Command::new("sh").args(["-c", "sleep 60; :", "nginx"]).spawn().unwrap();
    gateway.write("nginx.pid", &other.id().to_string());
    gateway.asks_nginx = true;
    let pid = fs::read_to_string(gateway.conf()).unwrap();
    assert!(pid.contains("nginx.pid"), "{pid}");
    gateway.asks_nginx = false;
    gateway.write("nginx.conf", &pid);
    let conf = gateway.path("nginx.conf");
    let outcome = gateway.run(&["check", &conf], "");
    other.kill().unwrap();
    other.wait().unwrap();
    outcome.says("configuration.running", "warn", "does not run");
}

#[test]
fn an_address_that_another_program_has_keeps_nginx_from_starting() {
    if !is_there() {
        return;
    }
    let mut gateway = Gateway::new();
    gateway.asks_nginx = true;
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let listen = |address: &str| format!("server {{ listen {address}; }}");
    gateway.more = listen(&format!("127.0.0.1:{port}"));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1, "{}", outcome.human);
    // nginx accepts the configuration, and would not start.
    outcome.says("configuration.nginx", "ok", "accepts");
    outcome.says("configuration.listen", "fail", &format!("sport = :{port}"));
    gateway.more = listen(&format!("{port}"));
    gateway.check().says("configuration.listen", "fail", "0.0.0.0");
    drop(other);
    assert_eq!(gateway.check().find("configuration.listen"), None);

    gateway.write("left.sock", "");
    gateway.more = listen(&format!("unix:{}", gateway.path("left.sock")));
    gateway.check().says("configuration.listen", "fail", "left.sock");
}

/// nginx itself is not asked: many know neither `quic` nor `reuseport`.
#[test]
fn an_address_that_nginx_can_share_is_free() {
    let mut gateway = Gateway::new();
    let mut check = |listens: String| {
        gateway.more = format!("server {{ {listens} }}");
        gateway.asks_nginx = true;
        let conf = gateway.conf();
        gateway.asks_nginx = false;
        gateway.run(&["check", conf.to_str().unwrap()], "")
    };
    for (kind, word) in [(Type::DGRAM, "quic"), (Type::STREAM, "")] {
        let other = Socket::new(Domain::IPV4, kind, None).unwrap();
        other.set_reuse_port(true).unwrap();
        other.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        if kind == Type::STREAM {
            other.listen(1).unwrap();
        }
        let address = other.local_addr().unwrap().as_socket().unwrap();
        let outcome = check(format!("listen {address} {word};"));
        outcome.says("configuration.listen", "fail", &address.to_string());
        // It is a matter of the address: one "listen" sets it for all servers.
        let outcome = check(format!(
            "listen {address} {word}; }} server {{ listen {address} {word} reuseport;"
        ));
        assert_eq!(outcome.find("configuration.listen"), None, "{}", outcome.human);
    }
    let other = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = other.local_addr().unwrap().as_socket().unwrap();
    let outcome = check(format!("listen {address} quic reuseport;"));
    outcome.says(
        "configuration.listen",
        "fail",
        &format!("ss -lunp 'sport = :{}'", address.port()),
    );
    // Sockets for datagrams share an address if all of them say so, as those of nginx do.
    other.set_reuse_address(true).unwrap();
    let outcome = check(format!("listen {address} quic;"));
    assert_eq!(outcome.find("configuration.listen"), None, "{}", outcome.human);
}

#[test]
fn a_named_program_that_is_no_nginx_is_wrong_usage() {
    let gateway = Gateway::new();
    let conf = gateway.conf();
    for program in ["/nonexistent/nginx", "/bin/true"] {
        let outcome = gateway.run(&["check", conf.to_str().unwrap(), "--nginx", program], "");
        assert_eq!(outcome.code, 2, "{}", outcome.human);
        assert!(outcome.human.contains(program), "{}", outcome.human);
    }
}
