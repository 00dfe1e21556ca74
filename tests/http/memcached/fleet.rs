//! Two gateways of one cloud, and what they have in common.
//!
//! A gateway does without memcached when it is too slow. On a busy machine it may be, and then a
//! test that says that a gateway need not ask has seen nothing: it is [`unhurried`].

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use keystone_testbed::http::{Request, Response};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::{new_fernet, Payload};
use keystone_testbed::nginx::{Config, Nginx};
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

/// Gateways that share one identity service and one memcached.
pub struct Fleet {
    pub memcached: Memcached,
    /// The cloud, with the first gateway in it.
    pub world: World,
    /// The gateway that shares the first one's memcached.
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
        let start = Instant::now();
        while self.memcached.names().unwrap().len() != before + 1 {
            if start.elapsed() > Duration::from_secs(2) {
                hurry();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so many entries lie in memcached.
    #[track_caller]
    pub fn wait_for_entries(&self, count: usize) {
        let entries = || self.memcached.names().unwrap().len();
        let is_there = || (entries() == count).then_some(());
        if let Err(error) = wait_for(&format!("{count} entries in memcached"), is_there) {
            match entries() {
                entries if entries < count => hurry(),
                entries => panic!("{error}, there are {entries}"),
            }
        }
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
        let seen = knows(&self.world, &self.second, token);
        assert_eq!(seen.header("X-User-Id").as_deref(), Some(user));
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
    let token = new_fernet();
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

/// What the upstream gets of a request with the token.
#[track_caller]
pub fn seen(gateway: &Nginx, token: &str) -> Seen {
    let answer = ask(gateway, token);
    assert_eq!(answer.status, 200, "{}", answer.text());
    Seen::of(&answer).unwrap()
}

/// What the upstream gets of a request with the token, which Keystone does not validate.
#[track_caller]
pub fn knows(world: &World, gateway: &Nginx, token: &str) -> Seen {
    is_not_asked(world, token, || seen(gateway, token))
}

/// What comes of an action, for which the identity service need not be asked about the token.
#[track_caller]
pub fn is_not_asked<T>(world: &World, token: &str, action: impl FnOnce() -> T) -> T {
    let (before, start) = (asked(world, token), Instant::now());
    let outcome = action();
    let asked_since = asked(world, token) - before;
    if asked_since > 0 && start.elapsed() >= TIME_OUT {
        hurry();
    }
    assert_eq!(asked_since, 0, "the identity service was asked again");
    outcome
}

/// Runs a test, again where memcached was too slow for a gateway.
#[track_caller]
pub fn unhurried(test: impl Fn()) {
    for _ in 0..5 {
        match catch_unwind(AssertUnwindSafe(&test)) {
            Err(reason) if reason.is::<Hurried>() => {}
            Err(reason) => resume_unwind(reason),
            Ok(()) => return,
        }
    }
    panic!("memcached was always too slow for a gateway, or never asked");
}

/// Gives a test up that has seen memcached too slow for a gateway.
pub fn hurry() -> ! {
    resume_unwind(Box::new(Hurried))
}

struct Hurried;

/// Whose request it is, as a gateway tells the upstream.
#[track_caller]
pub fn user_at(gateway: &Nginx, token: &str) -> String {
    seen(gateway, token).header("X-User-Id").unwrap()
}

pub const STRATEGIES: [&str; 3] = ["none", "mac", "encrypt"];

pub const SECRET: &str = "verysecret";

/// A gateway waits so long for memcached at least.
const TIME_OUT: Duration = Duration::from_millis(100);
