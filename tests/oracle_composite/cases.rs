//! A random request with tokens of a user and of a service.

use keystone_testbed::http::Request;
use keystone_testbed::mint::{new_uuid, Payload};
use keystone_testbed::random::Random;
use keystone_testbed::world::World;
use serde_json::{json, Value};

/// A request, and what is known about its tokens.
#[derive(Debug)]
pub struct Case {
    method: &'static str,
    path: &'static str,
    user: Token,
    service: Token,
}

/// What comes in the header of a token.
#[derive(Debug)]
enum Token {
    None,
    Garbage,
    Known {
        token: String,
        scope: Scope,
        /// For the message of a failure.
        _content: String,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    Domain,
    None,
    Project,
    System,
}

impl Case {
    pub fn new(random: &mut Random, world: &World) -> Self {
        let user = match random.below(12) {
            0 => Token::None,
            1 => Token::Garbage,
            _ => Token::known(random, world, &["member", "reader"], |payload| payload),
        };
        let service = match random.below(12) {
            0..=4 => Token::None,
            5 => Token::Garbage,
            _ => Token::known(
                random,
                world,
                &["service", "helper", "Service", "member"],
                |payload| payload.user("service_user_id1", "service_user_name1"),
            ),
        };
        let method = random.pick(&["GET", "GET", "GET", "POST", "PUT"]);
        Self { method, path: random.pick(PATHS), user, service }
    }

    pub fn request(&self) -> Request {
        self.service.carried_in("X-Service-Token", self.request_of_user())
    }

    /// The same without the service.
    pub fn request_of_user(&self) -> Request {
        self.user.carried_in("X-Auth-Token", Request::new(self.method, self.path))
    }

    /// Whether the scope of the user's token is the system.
    pub fn is_of_system(&self) -> bool {
        matches!(self.user, Token::Known { scope: Scope::System, .. })
    }
}

impl Token {
    /// A token that the identity service knows, unless it has expired.
    fn known(
        random: &mut Random,
        world: &World,
        roles: &[&str],
        change: impl Fn(Payload) -> Payload,
    ) -> Self {
        let scopes = [
            Scope::Project,
            Scope::Project,
            Scope::Project,
            Scope::Domain,
            Scope::System,
            Scope::None,
        ];
        let scope = random.pick(&scopes);
        let mut payload = change(match scope {
            Scope::Domain => Payload::v3_domain(),
            Scope::None => Payload::v3_unscoped(),
            Scope::Project => Payload::v3(),
            Scope::System => Payload::v3_system(),
        });
        if scope != Scope::None {
            let held: Vec<_> = (0..random.below(3)).map(|_| random.pick(roles)).collect();
            payload = payload.roles(&held);
        }
        // auth_token wants to find its service there, whatever the scope.
        payload = payload.with("/catalog", catalog());
        if random.percent(20) {
            payload = payload.expires_in(-600);
        }
        if random.percent(20) {
            payload = payload.bind(random.pick(&["kerberos", "FOO"]), "USER@REALM");
        }
        if random.percent(35) {
            let rules: Vec<_> = (0..random.below(4)).map(|_| rule(random)).collect();
            payload = payload.access_rules(json!(rules));
        }
        if random.percent(30) {
            payload = payload.with("/is_admin_project", json!(random.percent(50)));
        }
        let token = new_uuid();
        world.identity.know(&token, &payload);
        Self::Known { token, scope, _content: payload.json() }
    }

    fn carried_in(&self, name: &str, request: Request) -> Request {
        match self {
            Self::None => request,
            Self::Garbage => request.header(name, "garbage"),
            Self::Known { token, .. } => request.header(name, token),
        }
    }
}

fn catalog() -> Value {
    let service = |kind: &str| {
        json!({"type": kind, "name": kind, "id": kind, "endpoints": [
            {"id": "1", "interface": "public", "region": "regionOne", "url": "http://127.0.0.1/"},
        ]})
    };
    json!([service("object-store"), service("image"), service("identity")])
}

/// All but the wildcards stands for itself in a regular expression, which auth_token makes of it.
fn rule(random: &mut Random) -> Value {
    json!({
        "id": "1",
        "service": random.pick(&["object-store", "object-store", "image"]),
        "method": random.pick(&["GET", "GET", "GET", "POST", "*"]),
        "path": random.pick(RULES),
    })
}

/// The roles of a service that both are set to.
pub const SERVICE_ROLES: &[&str] = &["service", "helper"];

const PATHS: &[&str] = &[
    "/",
    "/v1",
    "/v1/",
    "/v1/a/c",
    "/v1/a/c/",
    "/v1/a/c/o",
    "/v1/a/c/img-1",
    "/v1/%61/c",
    "/v1/a/c/o%20x",
    "/v1/a/%D0%BF",
    "/v1/b/c/o/p",
    "/v1/b/c/o?path=/v1/a/c",
    "/v3/auth/tokens",
    "/x/v3/auth/tokens",
];

const RULES: &[&str] = &[
    "",
    "/",
    "/*",
    "/**",
    "**",
    "/v1/**",
    "/v1/***",
    "/v1/****",
    "/v1/*/*",
    "/v1/*/c/o",
    "/v1/a/c",
    "/v1/a/c/*",
    "/v1/a/c/**",
    "/v1/a/c/*-1",
    "/v1/a/c/img*",
    "/v1/a/c/o%20x",
    "/v1/a/%D0%BF",
    "/v1/{account}/c",
    "/v1/{}/{container}/*",
    "/v1/{a}{b}/c/img{number}",
    "/v1/**/o",
    "/v1/**/p",
    "/v3/auth/tokens",
    "v1/a/c/o",
];
