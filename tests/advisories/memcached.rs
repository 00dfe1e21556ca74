//! What lies in memcached, which others can read and write.

use std::time::Duration;

use keystone_testbed::http::{Request, Response};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::{new_fernet, Payload};
use keystone_testbed::nginx::{Config, Nginx};
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

fn shares(config: Config, memcached: &Memcached, strategy: &str, secret: &str) -> Config {
    config
        .set("keystone_memcached_servers", &memcached.server())
        .set("keystone_memcached_security_strategy", strategy)
        .set("keystone_memcached_secret_key", secret)
}

fn known(world: &World, payload: &Payload) -> String {
    let token = new_fernet();
    world.identity.know(&token, payload);
    token
}

fn ask(gateway: &Nginx, token: &str) -> Response {
    gateway.send(&Request::get("/").token(token)).unwrap()
}

fn user(answer: &Response) -> String {
    Seen::of(answer).unwrap().header("X-User-Id").unwrap_or_default()
}

/// Waits until so many entries lie in memcached.
fn wait_for_entries(memcached: &Memcached, count: usize) -> Vec<String> {
    let entries = || memcached.names().ok().filter(|names| names.len() == count);
    wait_for("entries in memcached", entries).unwrap()
}

/// Somebody who can write memcached puts an administrator's answers under the name of Bob's token,
/// as made by gateways of all other settings; gateways of this strategy make nothing of them.
fn what_others_have_written_makes_no_administrator(strategy: &str) {
    let admin = Payload::v3().user("admin", "Admin").roles(&["admin"]);
    let mut planted: Vec<Vec<u8>> = Vec::new();
    for (other, secret) in [("none", "x"), ("mac", "guessed"), ("encrypt", "guessed")] {
        let memcached = Memcached::start().unwrap();
        let world =
            World::setup().config(|config| shares(config, &memcached, other, secret)).start();
        assert_eq!(user(&ask(&world.nginx, &known(&world, &admin))), "admin");
        let names = wait_for_entries(&memcached, 1);
        planted.push(memcached.read(&names[0]).unwrap().unwrap());
    }
    planted.push(admin.json().into_bytes());
    planted.push([b"None:".as_slice(), admin.json().as_bytes()].concat());
    planted.push(Vec::new());

    let memcached = Memcached::start().unwrap();
    let world =
        World::setup().config(|config| shares(config, &memcached, strategy, "secret")).start();
    let bob = Payload::v3().user("bob", "Bob").roles(&["reader"]);
    let token = known(&world, &bob);
    assert_eq!(user(&ask(&world.nginx, &token)), "bob");
    let name = wait_for_entries(&memcached, 1).remove(0);
    let own = memcached.read(&name).unwrap().unwrap();
    for at in [0, own.len() / 3, own.len() / 2, own.len() - 1] {
        let mut flipped = own.clone();
        flipped[at] ^= 1;
        planted.push(flipped);
        planted.push(own[..at].to_vec());
    }
    for value in planted {
        memcached.write(&name, &value).unwrap();
        // A gateway that knows nothing yet, and has time to look.
        let second = world.gateway(|config| config);
        let answer = ask(&second, &token);
        assert_eq!(user(&answer), "bob", "{strategy}");
        let roles = Seen::of(&answer).unwrap().header("X-Roles");
        assert_eq!(roles.as_deref(), Some("reader"), "{strategy}");
    }

    // Nor does an entry vouch for a token that Keystone does not know.
    world.identity.forget(&token);
    memcached.write(&name, &own[..own.len() - 1]).unwrap();
    let second = world.gateway(|config| config);
    assert_eq!(ask(&second, &token).status, 401, "{strategy}");
}

/// CVE-2013-2166: with memcache_security_strategy ENCRYPT, auth_token accepted entries that were
/// not encrypted at all. Here an entry counts only if it was sealed with the gateways' own secret.
#[test]
fn cve_2013_2166_entries_that_are_not_encrypted() {
    what_others_have_written_makes_no_administrator("encrypt");
}

/// CVE-2013-2167: with memcache_security_strategy MAC, the signature of an entry could be
/// got around. Here an entry counts only if its MAC is right for this token and this content.
#[test]
fn cve_2013_2167_entries_that_are_not_signed() {
    what_others_have_written_makes_no_administrator("mac");
}

/// CVE-2014-0105: greenlets of one process shared a connection to memcached, and under load a
/// request could get the answer to another one's question, and so another user's identity. Here
/// forty users come at once, by two workers, and each gets their own, with answers out of memcached
/// or not.
#[test]
fn cve_2014_0105_many_users_at_once_and_each_has_their_own_identity() {
    let memcached = Memcached::start().unwrap();
    let world = World::setup()
        .workers(2)
        .config(|config| shares(config, &memcached, "none", "x"))
        .set("keystone_token_cache_time", "1h")
        .start();
    let users: Vec<(String, String)> = (0..40)
        .map(|number| {
            let id = format!("user{number}");
            let payload = Payload::v3().user(&id, &id).project(&format!("project{number}"), "p");
            (known(&world, &payload), id)
        })
        .collect();
    let second = world.gateway(|config| config);
    for gateway in [&world.nginx, &second] {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let users = &users;
                scope.spawn(move || {
                    let mut client = gateway.connect().unwrap();
                    for turn in 0..users.len() {
                        let (token, id) = &users[(turn * 7 + thread * 5) % users.len()];
                        let answer = client.send(&Request::get("/").token(token)).unwrap();
                        assert_eq!(&user(&answer), id);
                        let project = Seen::of(&answer).unwrap().header("X-Project-Id").unwrap();
                        assert_eq!(project, id.replace("user", "project"));
                    }
                });
            }
        });
        // The second gateway finds them there.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(memcached.gets().unwrap() > 0);
    world.assert_quiet_log();
}
