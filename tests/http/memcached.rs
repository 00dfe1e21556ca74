//! The second level in memcached: its directives (J05).

mod entries;
mod failures;
pub mod fleet;
mod revocation;
mod sharing;

use std::fs;

use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{check, Check, Config};
use keystone_testbed::temp::TempDir;
use keystone_testbed::world::World;

const SERVERS: &str = "keystone_memcached_servers 127.0.0.1:11211;";
const SECRET: &str = "keystone_memcached_secret_key verysecret;";

fn strategy(name: &str) -> String {
    format!("keystone_memcached_security_strategy {name};")
}

#[track_caller]
fn assert_refused(config: &Config, words: &str) {
    let Check { ok, text } = check(config).unwrap();
    assert!(!ok && text.contains("[emerg]") && text.contains("nginx.conf:"), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(!text.contains("verysecret"), "{text}");
}

#[track_caller]
fn assert_accepted(config: &Config) -> String {
    let Check { ok, text } = check(config).unwrap();
    assert!(ok, "{text}");
    assert!(!text.contains("verysecret"), "{text}");
    text
}

#[test]
fn bad_values() {
    let bad = [
        "keystone_memcached_servers;",
        "keystone_memcached_servers \"\";",
        "keystone_memcached_servers 127.0.0.1;",
        "keystone_memcached_servers 127.0.0.1:;",
        "keystone_memcached_servers 127.0.0.1:0;",
        "keystone_memcached_servers 127.0.0.1:65536;",
        "keystone_memcached_servers 127.0.0.1:memcached;",
        "keystone_memcached_servers ::1:11211;",
        "keystone_memcached_servers http://127.0.0.1:11211;",
        "keystone_memcached_servers unix:;",
        "keystone_memcached_servers unix:run/memcached.sock;",
        "keystone_memcached_servers 127.0.0.1:1 127.0.0.1:2 127.0.0.1:1;",
        "keystone_memcached_servers localhost:1 LocalHost:01;",
        "keystone_memcached_servers [::1]:1 [0:0::1]:1;",
        "keystone_memcached_servers unix:/m.sock unix:/m.sock;",
        "keystone_memcached_security_strategy;",
        "keystone_memcached_security_strategy \"\";",
        "keystone_memcached_security_strategy hmac;",
        "keystone_memcached_security_strategy mac encrypt;",
        "keystone_memcached_secret_key;",
        "keystone_memcached_secret_key \"\";",
        "keystone_memcached_secret_key file:/nonexistent/secret;",
    ];
    for directive in bad {
        let name = directive.trim_end_matches(';').split(' ').next().unwrap();
        assert_refused(&Config::protected().http(directive), name);
    }
    for directive in [SERVERS, SECRET, &strategy("none")] {
        assert_refused(&Config::protected().server(directive).server(directive), "duplicate");
        assert_refused(&Config::protected().location("/a", directive), "not allowed here");
    }
}

#[test]
fn strategies_are_named_without_case() {
    for name in ["none", "None", "mac", "MAC", "encrypt", "Encrypt", "ENCRYPT"] {
        assert_accepted(&Config::protected().http(SERVERS).http(&strategy(name)).http(SECRET));
    }
    assert_accepted(&Config::protected().http(SERVERS).http(&strategy("none")));
    assert_accepted(&Config::protected().http(SERVERS));
}

#[test]
fn a_strategy_that_protects_needs_a_secret() {
    let words = "keystone_memcached_secret_key";
    for name in ["mac", "Encrypt"] {
        assert_refused(&Config::protected().http(SERVERS).http(&strategy(name)), words);
        // As auth_token, before it asks whether there is any server.
        assert_refused(&Config::protected().http(&strategy(name)), words);
        for secret in ["", "file:empty", "file:newline"] {
            let dir = TempDir::new("secret").unwrap();
            fs::write(dir.join("empty"), "").unwrap();
            fs::write(dir.join("newline"), "\n").unwrap();
            let secret = secret.replace("file:", &format!("file:{}/", dir.path().display()));
            let config = Config::protected().http(SERVERS).http(&strategy(name));
            assert_refused(&config.set(words, &format!("\"{secret}\"")), words);
        }
    }
}

#[test]
fn a_secret_without_a_strategy_is_warned_about() {
    let idle = Config::protected().http(SERVERS).http(SECRET);
    let text = assert_accepted(&idle);
    assert!(text.contains("[warn]") && text.contains("keystone_memcached_secret_key"), "{text}");
    let text = assert_accepted(&idle.http(&strategy("none")));
    assert!(!text.contains("[warn]"), "{text}");
}

#[test]
fn each_directive_is_inherited_by_itself() {
    let outer = Config::protected().http(SERVERS).http(&strategy("mac"));
    assert_accepted(&outer.clone().server(SECRET));
    assert_accepted(&outer.clone().server(&strategy("none")));
    assert_refused(&outer.server(SERVERS), "keystone_memcached_secret_key");
    assert_accepted(&Config::protected().http(SECRET).server(SERVERS).server(&strategy("mac")));
}

#[test]
fn a_secret_from_a_file() {
    let dir = TempDir::new("secret").unwrap();
    let path = dir.join("secret");
    fs::write(&path, "verysecret\n").unwrap();
    let value = format!("file:{}", path.display());
    let config = Config::protected().http(SERVERS).http(&strategy("encrypt"));
    assert_accepted(&config.set("keystone_memcached_secret_key", &value));
}

#[test]
fn hosts_are_looked_up_at_the_start() {
    let servers = |list: &str| Config::protected().set("keystone_memcached_servers", list);
    assert_accepted(&servers("localhost:11211 127.0.0.1:11212 [::1]:11211 unix:/no/such/socket"));
    assert_refused(&servers("127.0.0.1:1 no-such-host.invalid:11211"), "no-such-host.invalid");
}

#[test]
fn a_gateway_starts_with_its_servers_up_or_down() {
    let (up, unix) = (Memcached::start().unwrap(), Memcached::start_unix().unwrap());
    let mut down = Memcached::start().unwrap();
    down.stop();
    let servers = [up.server(), down.server(), unix.server()].join(" ");
    let world = World::setup()
        .set("keystone_memcached_servers", &servers)
        .set("keystone_memcached_security_strategy", "encrypt")
        .set("keystone_memcached_secret_key", "verysecret")
        .config(|config| config.debug())
        .start();
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert!(!world.nginx.error_log().contains("verysecret"));
}
