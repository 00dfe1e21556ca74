//! Two gateways of one cloud, and what they have in common.

use keystone_testbed::http::{Request, Response};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::nginx::{Config, Nginx};
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

/// Gateways that share one identity service and one memcached.
pub struct Fleet {
    pub memcached: Memcached,
    /// The cloud, with the first gateway in it.
    pub world: World,
    /// The second gateway.
    pub second: Nginx,
}

impl Fleet {
    /// Two gateways that agree on everything.
    #[track_caller]
    pub fn start(strategy: &str) -> Self {
        Self::start_with(strategy, |setup| setup)
    }

    /// The same, in a cloud that is set up otherwise.
    #[track_caller]
    pub fn start_with(strategy: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let memcached = Memcached::start().unwrap();
        let setup = World::setup().config(|config| shares(config, strategy, &[&memcached]));
        let world = change(setup).start();
        let second = world.gateway(|config| config);
        Self { memcached, world, second }
    }

    /// Has the first gateway told about a new token of this payload, and through memcached the
    /// others.
    #[track_caller]
    pub fn told(&self, payload: &Payload) -> String {
        let token = known(&self.world, payload);
        self.tell(&token);
        token
    }

    /// Has the first gateway ask about a token, and waits until the answer lies in memcached.
    #[track_caller]
    pub fn tell(&self, token: &str) {
        let before = self.memcached.names().unwrap().len();
        assert_eq!(self.world.status(token), 200);
        self.wait_for_entries(before + 1);
    }

    /// Waits until so many entries lie in memcached.
    #[track_caller]
    pub fn wait_for_entries(&self, count: usize) {
        let is_there = || (self.memcached.names().unwrap().len() == count).then_some(());
        wait_for(&format!("{count} entries in memcached"), is_there).unwrap();
    }

    /// The one entry that memcached holds.
    #[track_caller]
    pub fn entry(&self) -> Vec<u8> {
        let names = self.memcached.names().unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        self.memcached.read(&names[0]).unwrap().unwrap()
    }

    /// The second gateway lets the token pass, as this user's, on the word of the first.
    #[track_caller]
    pub fn second_knows(&self, token: &str, user: &str) {
        let before = asked(&self.world, token);
        assert_eq!(user_at(&self.second, token), user);
        assert_eq!(asked(&self.world, token), before, "the identity service was asked again");
    }

    /// The second gateway lets the token pass, as this user's, on the word of the identity service.
    #[track_caller]
    pub fn second_asks(&self, token: &str, user: &str) {
        let before = asked(&self.world, token);
        assert_eq!(user_at(&self.second, token), user);
        assert_eq!(asked(&self.world, token), before + 1, "the identity service was not asked");
    }
}

/// The configuration of a gateway that shares with the others.
pub fn shares(config: Config, strategy: &str, servers: &[&Memcached]) -> Config {
    let servers: Vec<_> = servers.iter().map(|server| server.server()).collect();
    config
        .set("keystone_memcached_servers", &servers.join(" "))
        .set("keystone_memcached_security_strategy", strategy)
        .set("keystone_memcached_secret_key", SECRET)
}

/// Makes a token that the identity service knows.
pub fn known(world: &World, payload: &Payload) -> String {
    let token = format!("gAAAAAB{}{}", new_uuid(), new_uuid());
    world.identity.know(&token, payload);
    token
}

/// How often the identity service was asked about the token.
pub fn asked(world: &World, token: &str) -> usize {
    world.identity.validations().iter().filter(|question| *question == token).count()
}

/// What a gateway answers to a request with the token.
#[track_caller]
pub fn ask(gateway: &Nginx, token: &str) -> Response {
    gateway.send(&Request::get("/").token(token)).unwrap()
}

/// What a gateway hands on of a request with the token.
#[track_caller]
pub fn seen(gateway: &Nginx, token: &str) -> Seen {
    let answer = ask(gateway, token);
    assert_eq!(answer.status, 200, "{}", answer.text());
    Seen::of(&answer).unwrap()
}

/// Whose request it is, as a gateway tells the upstream.
#[track_caller]
pub fn user_at(gateway: &Nginx, token: &str) -> String {
    seen(gateway, token).header("X-User-Id").unwrap()
}

pub const STRATEGIES: [&str; 3] = ["none", "mac", "encrypt"];

pub const SECRET: &str = "verysecret";
