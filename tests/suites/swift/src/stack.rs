//! What functional tests run against: a Keystone, a Swift, and the server that they are told of.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keystone_testbed::http::{send, Request};
use keystone_testbed::keystone::{python, Keystone};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::nginx::Nginx;
use keystone_testbed::port::Port;
use keystone_testbed::process::Process;
use keystone_testbed::sample::{auto, Sample};
use keystone_testbed::temp::TempDir;
use keystone_testbed::During;
use serde_json::json;

use crate::{source, Error};

/// Which server the tests are told of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Front {
    /// nginx with `nginx-conf/swift-edge.conf`, in front of a Swift without authtoken.
    Edge,
    /// The same, and `contrib/keystone-edge` in the place of authtoken.
    Filter,
    /// Swift with authtoken.
    Plain,
}

impl Front {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "through swift-edge.conf",
            Self::Filter => "through swift-edge.conf and keystone-edge",
            Self::Plain => "on plain Swift",
        }
    }
}

/// Everything that a functional test needs, on ports of its own; dropping it ends all of it.
pub struct Stack {
    config: PathBuf,
    _nginx: Option<Nginx>,
    _swift: Process,
    _memcached: Memcached,
    _keystone: Keystone,
    _ports: [Port; 4],
    dir: TempDir,
}

impl Stack {
    /// Starts an empty Swift, and a Keystone with the users of [`USERS`].
    pub fn start(front: Front) -> Result<Self, Error> {
        let dir = TempDir::new("suite")?;
        let keystone = Keystone::start()?;
        let memcached = Memcached::start()?;
        let ports = [Port::free()?, Port::free()?, Port::free()?, Port::free()?];
        let swift = start_swift(&dir, &ports, &keystone, &memcached, front)?;
        let proxy = ports[3].address();
        let nginx = match front {
            Front::Edge | Front::Filter => Some(edge(&keystone, proxy)),
            Front::Plain => None,
        };
        let address = nginx.as_ref().map_or(proxy, Nginx::address);
        fill(&keystone, address)?;
        let config = dir.join("test.conf");
        fs::write(&config, test_conf(&keystone)).during("writing test.conf")?;
        Ok(Self {
            config,
            _nginx: nginx,
            _swift: swift,
            _memcached: memcached,
            _keystone: keystone,
            _ports: ports,
            dir,
        })
    }

    /// The configuration of the tests.
    pub fn config(&self) -> &PathBuf {
        &self.config
    }

    /// Where what a worker prints goes.
    pub fn log(&self, name: &str) -> Result<File, Error> {
        Ok(File::create(self.dir.join(name)).during("making a log")?)
    }
}

/// nginx with the sample. Service tokens need no role, as with the authtoken of `cluster.py`: the
/// tests use them without.
fn edge(keystone: &Keystone, proxy: SocketAddr) -> Nginx {
    let mut sample = Sample::swift_edge(keystone, proxy);
    sample.set("http {", "http {\nkeystone_service_token_roles_required off;");
    sample.start(auto())
}

fn start_swift(
    dir: &TempDir,
    ports: &[Port; 4],
    keystone: &Keystone,
    memcached: &Memcached,
    front: Front,
) -> Result<Process, Error> {
    let log = dir.join("swift.log");
    let mut command = Command::new(python()?);
    command.arg(source("cluster.py")).arg(dir.join("cluster"));
    for (option, port) in ["--account", "--container", "--object", "--proxy"].iter().zip(ports) {
        command.args([option, &port.number().to_string()[..]]);
    }
    command.args(["--memcached", &memcached.server()]);
    match front {
        Front::Edge => {}
        Front::Filter => drop(command.arg("--filter")),
        Front::Plain => {
            command.args(["--identity", &keystone.uri()]);
            command.args(["--password", &keystone.password("gateway")?]);
        }
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::null());
    command.stderr(File::create(&log).during("making a log for Swift")?);
    let mut process = Process::start(&mut command)?;
    let deadline = Instant::now() + START;
    while !ports.iter().all(|port| TcpStream::connect(port.address()).is_ok()) {
        if process.ended().is_some() || Instant::now() > deadline {
            return Err(Error::Swift(fs::read_to_string(&log).unwrap_or_default()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// Makes the projects and users, and has the catalog name the server.
fn fill(keystone: &Keystone, server: SocketAddr) -> Result<(), Error> {
    let make = |kind: &str, member: serde_json::Value| -> Result<String, Error> {
        let body = json!({ kind: member }).to_string();
        let request = Request::new("POST", &format!("/v3/{kind}s")).body(body.as_bytes());
        let made = keystone.administer(request)?.json()?;
        Ok(made[kind]["id"].as_str().unwrap_or_default().to_owned())
    };
    let mut projects = Vec::<(&str, String)>::new();
    for (user, project, domain, role) in USERS {
        let domain_id = keystone.domain(domain)?;
        let project_id = match projects.iter().find(|(name, _)| name == project) {
            Some((_, id)) => id.clone(),
            None => {
                let id = make("project", json!({"name": project, "domain_id": domain_id}))?;
                projects.push((project, id.clone()));
                id
            }
        };
        let password = password(user);
        let user = json!({"name": user, "domain_id": domain_id, "password": password});
        let user_id = make("user", user)?;
        let role_id = keystone.role(role)?;
        let grant = format!("/v3/projects/{project_id}/users/{user_id}/roles/{role_id}");
        keystone.administer(Request::new("PUT", &grant))?;
    }

    let endpoints = keystone.administer(Request::get("/v3/endpoints"))?.json()?;
    let body = json!({"endpoint": {"url": format!("http://{server}/v1/AUTH_$(project_id)s")}});
    let is_swift = |url: &str| url.contains("/v1/AUTH_");
    for endpoint in endpoints["endpoints"].as_array().into_iter().flatten() {
        if endpoint["url"].as_str().is_some_and(is_swift) {
            let path = format!("/v3/endpoints/{}", endpoint["id"].as_str().unwrap_or_default());
            keystone.administer(Request::new("PATCH", &path).body(body.to_string().as_bytes()))?;
        }
    }

    // Swift answers for an account that is not there yet as for an empty one, but for the status.
    // Made by its operator, it has its domain.
    for (user, project, domain, _) in USERS.iter().filter(|(_, _, _, role)| *role == OPERATOR) {
        let id = projects.iter().find(|(name, _)| name == project).map(|(_, id)| id);
        let account = format!("/v1/AUTH_{}", id.map_or("", String::as_str));
        let token = token(keystone, user, project, domain)?;
        let made = send(server, &Request::new("POST", &account).token(&token).body(b""))?;
        if made.status != 204 {
            return Err(Error::Swift(format!("{} for {account}", made.status)));
        }
    }
    Ok(())
}

fn token(keystone: &Keystone, user: &str, project: &str, domain: &str) -> Result<String, Error> {
    let domain = json!({"name": domain});
    let body = json!({"auth": {
        "identity": {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": domain, "password": password(user)}},
        },
        "scope": {"project": {"name": project, "domain": domain}},
    }});
    let request =
        Request::new("POST", "/v3/auth/tokens").header("Content-Type", "application/json");
    let answer = send(keystone.address(), &request.body(body.to_string().as_bytes()))?;
    let token = answer.header("X-Subject-Token").map(str::to_owned);
    token.ok_or_else(|| Error::Swift(format!("no token for {user}: {}", answer.text())))
}

/// `test/sample.conf` of Swift, filled in.
fn test_conf(keystone: &Keystone) -> String {
    let mut text = format!(
        "[func_test]\nauth_version = 3\nauth_uri = {}/v3/\nservice_prefix = SERVICE\n\
         storage_domain = example.com\ncollate = C\n",
        keystone.uri()
    );
    for (number, (user, project, domain, _)) in USERS.iter().enumerate() {
        let suffix = match number {
            0 => String::new(),
            number => (number + 1).to_string(),
        };
        text += &format!(
            "account{suffix} = {project}\nusername{suffix} = {user}\npassword{suffix} = {}\n\
             domain{suffix} = {domain}\n",
            password(user)
        );
    }
    text
}

fn password(user: &str) -> String {
    format!("{user}pw")
}

/// Name, project, domain and role of each user that Swift's `test/sample.conf` asks for, in its
/// order.
const USERS: &[(&str, &str, &str, &str)] = &[
    ("tester", "test", "Default", OPERATOR),
    ("tester2", "test2", "Default", OPERATOR),
    ("tester3", "test", "Default", "member"),
    ("tester4", "test4", "Elsewhere", OPERATOR),
    ("tester5", "test5", "Default", "service"),
    ("tester6", "test6", "Default", "ResellerAdmin"),
];

/// One of keystoneauth's `operator_roles`.
const OPERATOR: &str = "swiftoperator";

const START: Duration = Duration::from_secs(60);
