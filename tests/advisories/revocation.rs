//! Tokens that have expired or were revoked.

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::{new_fernet, Payload};
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

/// Waits until a token is refused; ten seconds at most.
#[track_caller]
fn wait_for_refusal(world: &World, token: &str) {
    wait_for("the token to be refused", || (world.status(token) == 401).then_some(())).unwrap();
}

/// CVE-2015-7546: a byte that the signature of a PKI token does not cover could be changed; the
/// token still verified, and the revocation list, which names the hash of the text, did not have
/// it. Here any character is changed in turn, and a revoked token is refused in every form.
#[test]
fn cve_2015_7546_a_revoked_token_with_a_byte_changed() {
    let world = World::setup().set("keystone_revocation_cache_time", "1h").start();
    let payload = Payload::v3().without("/audit_ids");
    let (pki, pkiz) = (world.pki(&payload), world.pkiz(&payload));
    world.identity.revoke_token(&pki);
    let mut client = world.nginx.connect().unwrap();
    for token in [&pki, &pkiz] {
        expect::refused(&client.send(&Request::get("/").token(token)).unwrap());
        for at in (0..token.len()).step_by(3) {
            for other in ["A", "9", "-"] {
                let mut altered = token.clone();
                altered.replace_range(at..=at, other);
                let answer = client.send(&Request::get("/").token(&altered)).unwrap();
                assert_eq!(answer.status, 401, "{other} at {at} of {token}");
            }
        }
    }
    assert_eq!(world.status(&world.pki(&Payload::v3())), 200);
    assert!(world.upstream.requests().len() == 1);
}

/// CVE-2013-2104: auth_token did not look at the expiry of PKI tokens that it verified itself. Here
/// a token is refused once it has expired, wherever the answer about it came from, also when it was
/// valid in the cache a moment ago.
#[test]
fn cve_2013_2104_an_expired_token() {
    let world = World::setup().set("keystone_token_cache_time", "1h").start();
    let over = Payload::v3().expires_in(-1);
    for token in [world.pki(&over), world.pkiz(&over), world.uuid(&over)] {
        expect::refused(&world.send(&Request::get("/").token(&token)));
    }
    let v2 = Payload::v2().expires_in(-1);
    expect::refused(&world.send(&Request::get("/").token(&world.pki(&v2))));

    let short = Payload::v3().expires_in(4);
    let tokens = [world.pki(&short), world.pkiz(&short), world.uuid(&short)];
    for token in &tokens {
        assert_eq!(world.status(token), 200);
    }
    for token in &tokens {
        wait_for_refusal(&world, token);
    }
}

/// CVE-2013-1865: Keystone itself did not look at the revocation list when it was asked about a PKI
/// token. Here the list that Keystone has signed decides: a PKI token that it names is
/// refused, though the identity service would call it valid.
#[test]
fn cve_2013_1865_a_revoked_token_that_keystone_calls_valid() {
    let world = World::setup().set("keystone_revocation_cache_time", "1h").start();
    let tokens = [world.pki(&Payload::v3()), world.pkiz(&Payload::v3().audit_ids(&["another"]))];
    for token in &tokens {
        world.identity.know(token, &Payload::v3());
        world.identity.revoke_token(token);
    }
    for token in &tokens {
        let answer = world.send(&Request::get("/").token(token));
        expect::refused(&answer);
        assert_eq!(answer.header("X-Result"), Some("revoked"));
    }
    assert!(world.identity.validations().is_empty());
}

/// OSSN-0056: a token that was revoked went on to be accepted for as long as auth_token had cached
/// it, five minutes. Here a cached PKI token is refused with the next revocation list, and with
/// `keystone_revocation_events` a cached token of any other format with the next event.
#[test]
fn ossn_0056_a_cached_token_that_is_revoked() {
    let world = World::setup()
        .workers(2)
        .set("keystone_token_cache_time", "1h")
        .set("keystone_revocation_cache_time", "1s")
        .set("keystone_revocation_events", "200ms")
        .start();
    let (pki, pkiz) = (world.pki(&Payload::v3()), world.pkiz(&Payload::v3()));
    let online = new_fernet();
    world.identity.know(&online, &Payload::v3());
    for token in [&pki, &pkiz, &online] {
        assert_eq!(world.status(token), 200);
        let answer = world.send(&Request::get("/").token(token));
        assert_eq!((answer.status, answer.header("X-Cache")), (200, Some("HIT")));
    }
    world.identity.revoke_token(&pki);
    world.identity.revoke_token(&pkiz);
    world.identity.revoke_online(&online);
    for token in [&pki, &pkiz, &online] {
        wait_for_refusal(&world, token);
    }
}

/// CVE-2013-4294: Keystone's memcache and KVS back ends compared the revocation list, which names
/// hashes, with whole PKI tokens, and so found none. Here a token is found by every hash that the
/// list can name it by, whatever its length, in the zone and where memcached is the second level.
#[test]
fn cve_2013_4294_a_revoked_token_is_found_by_its_hash_in_every_cache() {
    let memcached = Memcached::start().unwrap();
    let world = World::setup()
        .set("keystone_memcached_servers", &memcached.server())
        .set("keystone_hash_algorithms", "sha256 md5")
        .set("keystone_token_cache_time", "1h")
        .set("keystone_revocation_cache_time", "1s")
        .start();
    let second = world.gateway(|config| config);
    let payload = || Payload::v3().without("/audit_ids").padded(6000);
    for token in [world.pki(&payload()), world.pkiz(&payload().user("user_id2", "user_name2"))] {
        world.identity.know(&token, &Payload::v3());
        let request = Request::get("/").token(&token);
        assert_eq!(world.send(&request).status, 200);
        assert_eq!(second.send(&request).unwrap().status, 200);
        world.identity.revoke_token(&token);
        wait_for_refusal(&world, &token);
        let refused = || (second.send(&request).ok()?.status == 401).then_some(());
        wait_for("the second gateway to refuse it", refused).unwrap();
    }
}
