//! `keystone_swift_auth` and Swift's own keystoneauth, set alike, asked the same.

use std::sync::Arc;

use keystone_testbed::http::{Request, Response};
use keystone_testbed::nginx::{Config, Nginx};
use keystone_testbed::sample::{auto, Sample};
use keystone_testbed::upstream::Upstream;

use crate::cloud::{cloud, Cloud};

/// A gateway that leaves the decision to Swift, and one that decides.
pub struct Both {
    pub cloud: Arc<Cloud>,
    pub swift: Nginx,
    pub ours: Nginx,
    _upstream: Upstream,
    /// Nobody, and users with a token of their first project.
    pub users: Vec<(&'static str, Option<String>)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Forbidden,
    Unauthorized,
}

impl Verdict {
    fn of(answer: &Response) -> Self {
        match answer.status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            400 | 500.. => panic!("{}: {}", answer.status, answer.text()),
            _ => Self::Allowed,
        }
    }
}

impl Both {
    pub fn start() -> Self {
        let cloud = cloud();
        let sample = Sample::swift_edge(&cloud.keystone, cloud.swift.address());

        let upstream = Upstream::start().unwrap();
        // What serve_swift.py says to keystoneauth. The ACL comes with the request.
        let config = Config::new()
            .set("keystone_auth_uri", &cloud.keystone.uri())
            .set("keystone_username", "gateway")
            .set("keystone_password", &cloud.keystone.password("gateway").unwrap())
            .set("keystone_project_name", "service")
            .set("keystone_signing_dir", "@DIR@/keystone")
            .set("keystone_swift_reseller_prefix", "AUTH SERVICE")
            .set("keystone_swift_operator_roles", "admin swiftoperator member")
            .set("keystone_swift_project_reader_roles", "reader")
            .set("keystone_swift_service_roles", "SERVICE_:service")
            .set("keystone_swift_allow_names_in_acls", "off")
            .set("keystone_swift_read_acl", "$http_x_test_read")
            .set("keystone_swift_write_acl", "$http_x_test_write")
            .location(
                "/",
                &format!(
                    "keystone_auth delay;\nkeystone_swift_auth on;\nproxy_pass http://{};",
                    upstream.address()
                ),
            );
        let names = [
            "admin",
            "alice",
            "bob",
            "carol",
            "oper",
            "reseller",
            "norole",
            "zofie",
            "glance",
            "alice@Elsewhere",
        ];
        let tokens = names.into_iter().map(|name| (name, Some(cloud.token(name))));
        Self {
            users: tokens.chain([("nobody", None)]).collect(),
            swift: sample.start(auto()),
            ours: Nginx::start(&config).unwrap(),
            _upstream: upstream,
            cloud,
        }
    }

    /// A container of project demo, with an object in it.
    pub fn container(&self, name: &str) -> String {
        let path = format!("{}/{name}", self.cloud.account("demo"));
        let alice = self.cloud.token("alice");
        for target in [path.clone(), format!("{path}/o")] {
            let put = Request::new("PUT", &target).token(&alice).body(b"");
            assert_eq!(self.swift.send(&put).unwrap().status, 201);
        }
        path
    }

    fn share(&self, path: &str, header: &str, acl: &str) {
        let request = Request::new("POST", path).token(&self.cloud.token("alice"));
        let answer = self.swift.send(&request.header(header, acl)).unwrap();
        assert_eq!(answer.status, 204, "{acl:?}: {}", answer.text());
    }

    /// Every user asks both; says how many of each verdict there were.
    fn agree(&self, what: &str, request: &Request, acls: [&str; 2]) -> [usize; 3] {
        let mut seen = [0; 3];
        for (user, token) in &self.users {
            let request = match token {
                Some(token) => request.clone().token(token),
                None => request.clone(),
            };
            let theirs = Verdict::of(&self.swift.send(&request).unwrap());
            let request = request.header("X-Test-Read", acls[0]).header("X-Test-Write", acls[1]);
            let ours = Verdict::of(&self.ours.send(&request).unwrap());
            assert_eq!(ours, theirs, "{what}: {user}");
            seen[ours as usize] += 1;
        }
        seen
    }
}

#[test]
fn about_what_roles_allow() {
    let both = Both::start();
    let path = both.container("agreed");
    let other = both.cloud.account("other");
    let service = path.replace("AUTH_", "SERVICE_");
    let strange = path.replace("AUTH_", "OTHER_");
    let glance = both.cloud.token("glance");
    let mut seen = [0; 3];
    for (method, target) in [
        ("GET", both.cloud.account("demo")),
        ("HEAD", both.cloud.account("demo")),
        ("POST", both.cloud.account("demo")),
        ("GET", other.clone()),
        ("GET", path.clone()),
        ("HEAD", path.clone()),
        ("PUT", path.clone()),
        ("POST", path.clone()),
        // It is not empty.
        ("DELETE", path.clone()),
        ("GET", format!("{path}/o")),
        ("HEAD", format!("{path}/o")),
        ("PUT", format!("{path}/o")),
        ("POST", format!("{path}/o")),
        ("DELETE", format!("{path}/none")),
        ("OPTIONS", format!("{path}/o")),
        ("GET", format!("{path}/none")),
        ("GET", format!("{path}/")),
        ("GET", service.clone()),
        ("PUT", service.clone()),
        ("GET", strange),
    ] {
        let request = Request::new(method, &target).body(b"");
        let what = format!("{method} {target}");
        let plain = both.agree(&what, &request, ["", ""]);
        let request = request.header("X-Service-Token", &glance);
        let with_service = both.agree(&format!("{what} with a service"), &request, ["", ""]);
        for (seen, more) in seen.iter_mut().zip(plain.iter().zip(with_service)) {
            *seen += more.0 + more.1;
        }
    }
    assert!(seen.iter().all(|number| *number > 20), "{seen:?}");
}

#[test]
fn about_what_acls_allow() {
    let both = Both::start();
    let path = both.container("agreed-acls");
    let id = |key: &str| both.cloud.keystone.project(key).unwrap();
    let user = |key: &str| both.cloud.keystone.user(key).unwrap();
    let acls = [
        String::new(),
        ".r:*".into(),
        ".r:*,.rlistings".into(),
        ".rlistings".into(),
        ".r:.example.com,.rlistings".into(),
        ".r:*,.r:-evil.example.com".into(),
        format!("{}:*", id("other")),
        format!("{}:{}", id("other"), user("carol")),
        format!("{}:{}", id("demo"), user("carol")),
        format!("*:{}", user("alice@Elsewhere")),
        format!(" {}:* , .r:example.com ", id("проект")),
        "other:carol,demo:alice,demo:*".into(),
        "*:*".into(),
        "reader".into(),
        "Ops Team,Rôle-été".into(),
    ];
    let referers = [None, Some("http://www.example.com/page"), Some("https://evil.example.com")];
    let mut seen = [0; 3];
    for acl in &acls {
        both.share(&path, "X-Container-Read", acl);
        for target in [path.clone(), format!("{path}/o")] {
            for referer in referers.iter().filter(|r| r.is_none() || acl.contains(".r:")) {
                let request = match referer {
                    Some(referer) => Request::get(&target).header("Referer", referer),
                    None => Request::get(&target),
                };
                let what = format!("{acl:?} GET {target} from {referer:?}");
                for (seen, more) in seen.iter_mut().zip(both.agree(&what, &request, [acl, ""])) {
                    *seen += more;
                }
            }
        }
    }
    both.share(&path, "X-Container-Read", "");
    for acl in acls.iter().filter(|acl| !acl.contains(".r")) {
        both.share(&path, "X-Container-Write", acl);
        for (method, target) in [("PUT", "/o"), ("DELETE", "/none"), ("GET", "/o"), ("POST", "")] {
            let request = Request::new(method, &format!("{path}{target}")).body(b"");
            let what = format!("{acl:?} {method} {path}{target}");
            for (seen, more) in seen.iter_mut().zip(both.agree(&what, &request, ["", acl])) {
                *seen += more;
            }
        }
    }
    assert!(seen.iter().all(|number| *number > 20), "{seen:?}");
}
