//! nginx with the module, and auth_token set alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use keystone_testbed::expect::IDENTITY_HEADERS;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::keystone::Keystone;
use keystone_testbed::nginx::{Config, Nginx};
use keystone_testbed::oracle::View;
use keystone_testbed::upstream::Upstream;
use keystone_testbed::world::AUTH_URI;
use serde_json::json;

use crate::cloud::{cloud, Cloud};
use crate::differences::Difference;

/// Two ways to the same application.
pub struct Gate {
    nginx: Nginx,
    _upstream: Upstream,
    cloud: Arc<Cloud>,
    options: String,
}

/// A gate that is not open yet: every setting is one of nginx and one of auth_token.
pub struct Setup {
    upstream: Upstream,
    auth: &'static str,
    config: Config,
    options: BTreeMap<&'static str, String>,
}

impl Gate {
    /// A gate that asks this Keystone as user `gateway`, with as little of everything as can be.
    pub fn setup(keystone: &Keystone) -> Setup {
        let setup = Setup {
            upstream: Upstream::start().unwrap(),
            auth: "on",
            config: Config::new()
                .set("keystone_auth_uri", AUTH_URI)
                .set("keystone_identity_uri", &keystone.uri())
                .set("keystone_signing_dir", "@DIR@/keystone")
                .set("keystone_user_domain_name", "Default")
                .set("keystone_project_domain_name", "Default")
                .set("keystone_http_request_max_retries", "0"),
            options: BTreeMap::new(),
        };
        setup
            .option("www_authenticate_uri", AUTH_URI)
            .option("auth_url", &keystone.uri())
            .option("auth_type", "password")
            .option("user_domain_name", "Default")
            .option("project_domain_name", "Default")
            .option("http_request_max_retries", "0")
            .option("include_service_catalog", "false")
            .service_user("gateway", &keystone.password("gateway").unwrap(), "service")
    }

    /// Sends a request both ways.
    pub fn ask(&self, request: &Request) -> Both {
        let oracle = self.cloud.oracle.ask(&self.for_oracle(request)).unwrap();
        self.compare(oracle, self.nginx.send(request).unwrap())
    }

    /// The request with the settings of the oracle in it.
    pub fn for_oracle(&self, request: &Request) -> Request {
        request.clone().header("X-Test-Options", &self.options)
    }

    /// What became of a request that was sent both ways.
    pub fn compare(&self, mut oracle: View, answer: Response) -> Both {
        let mut ours = View::of_nginx(&answer);
        for view in [&mut oracle, &mut ours] {
            // The same JSON with and without blanks.
            view.compact_catalog();
            // Both have asked, and Keystone may have told it in another order.
            sort_roles(view);
        }
        Both { ours, oracle, answer }
    }

    /// The same for `GET /` with a token.
    pub fn ask_with(&self, token: &str) -> Both {
        self.ask(&Request::get("/").token(token))
    }
}

impl Setup {
    fn option(mut self, name: &'static str, value: &str) -> Self {
        self.options.insert(name, value.into());
        self
    }

    fn set(mut self, directive: &str, value: &str) -> Self {
        self.config = self.config.set(directive, value);
        self
    }

    /// The oracle is another filter of keystonemiddleware than auth_token.
    pub fn filter(self, name: &str) -> Self {
        self.option("filter", name)
    }

    /// nginx takes Bearer tokens and no others, as the filters for OAuth 2.0 do.
    pub fn bearer(self) -> Self {
        self.set("keystone_token", "$keystone_bearer")
    }

    /// nginx takes tokens as auth_token does, and so does the oracle.
    pub fn auth_token(mut self) -> Self {
        self.config = self.config.unset("keystone_token");
        self.filter("auth_token")
    }

    /// nginx enforces binds in this way. The oracle has no mode for certificates.
    pub fn token_bind(self, mode: &str) -> Self {
        self.set("keystone_enforce_token_bind", mode)
    }

    /// With more lines in nginx's server.
    pub fn server(mut self, lines: &str) -> Self {
        self.config = self.config.server(lines);
        self
    }

    /// With more lines in `http`.
    pub fn http(mut self, lines: &str) -> Self {
        self.config = self.config.http(lines);
        self
    }

    /// What is invalid goes on, marked as such.
    pub fn delay(mut self) -> Self {
        self.auth = "delay";
        self.option("delay_auth_decision", "true")
    }

    /// The application gets the service catalog.
    pub fn catalog(self) -> Self {
        self.set("keystone_include_service_catalog", "on").option("include_service_catalog", "true")
    }

    /// Behind the gate is a service of this type.
    pub fn service_type(self, name: &str) -> Self {
        self.set("keystone_service_type", name).option("service_type", name)
    }

    /// A service token needs no role to be valid.
    pub fn service_roles_not_required(self) -> Self {
        self.set("keystone_service_token_roles_required", "off")
            .option("service_token_roles_required", "false")
    }

    /// A service token needs this role.
    pub fn service_role(self, role: &str) -> Self {
        self.set("keystone_service_token_roles", role).option("service_token_roles", role)
    }

    /// Every request is asked about anew.
    pub fn no_cache(self) -> Self {
        self.set("keystone_token_cache_time", "off")
            .set("keystone_invalid_cache_time", "off")
            .option("token_cache_time", "-1")
    }

    /// nginx asks so often for revocations; auth_token cannot.
    pub fn revocation_events(self, interval: &str) -> Self {
        self.set("keystone_revocation_events", interval)
    }

    /// Keystone is asked as this user of domain Default.
    pub fn service_user(self, name: &str, password: &str, project: &str) -> Self {
        self.set("keystone_username", name)
            .set("keystone_password", password)
            .set("keystone_project_name", project)
            .option("username", name)
            .option("password", password)
            .option("project_name", project)
    }

    /// Starts nginx.
    pub fn open(self) -> Gate {
        let behind = format!("proxy_pass http://{};", self.upstream.address());
        let config = self.config.location("/", &format!("keystone_auth {};\n{behind}", self.auth));
        Gate {
            nginx: Nginx::start(&config).unwrap(),
            _upstream: self.upstream,
            cloud: cloud(),
            options: json!(self.options).to_string(),
        }
    }
}

/// What became of a request on either way.
///
/// The methods that begin with `oracle` make sure that the oracle does what a test is about,
/// before it is compared with.
pub struct Both {
    /// On the way through nginx.
    pub ours: View,
    /// On the way through auth_token.
    pub oracle: View,
    /// The response of nginx.
    pub answer: Response,
}

impl Both {
    /// The oracle lets it pass as valid, with these identity headers among others.
    #[track_caller]
    pub fn oracle_confirms(self, headers: &[(&str, &str)]) -> Self {
        self.oracle_passes("Confirmed", headers)
    }

    /// The oracle lets it pass as invalid, and with no other identity header than these.
    #[track_caller]
    pub fn oracle_lets_pass(self, headers: &[(&str, &str)]) -> Self {
        let both = self.oracle_passes("Invalid", headers);
        let ours = |name: &str| IDENTITY_HEADERS.iter().any(|h| h.eq_ignore_ascii_case(name));
        let told = both.oracle.headers.keys().filter(|name| ours(name));
        assert_eq!(told.count(), headers.len() + 1, "{:?}", both.oracle);
        both
    }

    /// The oracle lets it pass, with these identity headers among others. The filters for OAuth 2.0
    /// set no `X-Identity-Status`.
    #[track_caller]
    pub fn oracle_passes_without_status(self, headers: &[(&str, &str)]) -> Self {
        self.oracle_is_silent_about(&["x-identity-status"]).oracle_tells(headers)
    }

    #[track_caller]
    fn oracle_passes(self, status: &str, headers: &[(&str, &str)]) -> Self {
        self.oracle_tells(&[&[("x-identity-status", status)], headers].concat())
    }

    #[track_caller]
    fn oracle_tells(self, wanted: &[(&str, &str)]) -> Self {
        assert_eq!(self.oracle.status, 200, "{:?}", self.oracle);
        for (name, value) in wanted {
            let told = self.oracle.headers.get(*name).map(String::as_str);
            assert_eq!(told, Some(*value), "{name}: {:?}", self.oracle);
        }
        self
    }

    /// The oracle does not tell these headers.
    #[track_caller]
    pub fn oracle_is_silent_about(self, names: &[&str]) -> Self {
        for name in names {
            assert_eq!(self.oracle.headers.get(*name), None, "{name}");
        }
        self
    }

    /// Expects that auth_token refuses the request.
    #[track_caller]
    pub fn oracle_refuses(self) -> Self {
        self.oracle_answers(401)
    }

    /// The oracle answers it with this status, and the application does not see it.
    #[track_caller]
    pub fn oracle_answers(self, status: u16) -> Self {
        assert_eq!(self.oracle.status, status, "{:?}", self.oracle);
        assert!(self.oracle.headers.is_empty(), "{:?}", self.oracle);
        self
    }

    /// Client and application see the same on both ways.
    #[track_caller]
    pub fn agree(&self) {
        self.agree_but(&[]);
    }

    /// Client and application see the same on both ways, apart from these differences, each of
    /// which is there.
    #[track_caller]
    pub fn agree_but(&self, differences: &[Difference]) {
        let mut wanted = self.oracle.clone();
        for (number, difference) in differences.iter().enumerate() {
            assert!(difference(&mut wanted), "difference {number} is not there: {wanted:?}");
        }
        let unexplained = self.ours.differences_to(&wanted);
        assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    }
}

fn sort_roles(view: &mut View) {
    for name in ["x-role", "x-roles", "x-service-roles"] {
        let Some(roles) = view.headers.get_mut(name) else { continue };
        let mut sorted: Vec<_> = roles.split(',').collect();
        sorted.sort_unstable();
        *roles = sorted.join(",");
    }
}
