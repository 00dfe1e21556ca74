//! A real Keystone of today.
//!
//! It comes from PyPI, in a Python environment that `tests/keystone/setup.sh` makes, and so does a
//! cloud's database with users and projects, of which each cloud is a copy. That of
//! `KEYSTONE_VENV` is used (`build/keystone-venv` where it is not set).
//!
//! ```no_run
//! use keystone_testbed::keystone::{Issue, Keystone};
//!
//! let keystone = Keystone::start()?;
//! let token = keystone.token("alice")?;
//! // Another process on the same database.
//! let jws = keystone.beside(Issue::Jws)?;
//! assert!(jws.token("alice")?.starts_with("eyJ"));
//! keystone.revoke(&token)?;
//! # Ok::<(), keystone_testbed::Error>(())
//! ```
//!
//! Who is there, and what they may do, stands in `tests/keystone/cloud.py`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};

use crate::http::{send, Client, Request, Response};
use crate::port::Port;
use crate::process::Process;
use crate::temp::{mode, set_mode, TempDir};
use crate::{lock, During, Error, Result};

/// A running Keystone; dropping it stops it.
#[derive(Debug)]
pub struct Keystone {
    process: Option<Process>,
    port: Port,
    issue: Issue,
    cloud: Arc<Cloud>,
}

/// Which tokens a Keystone gives, and knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Issue {
    /// Fernet tokens that expire after [`BRIEF`].
    BriefFernet,
    /// Fernet tokens that live for an hour.
    Fernet,
    /// JWS tokens that live for an hour.
    Jws,
}

/// The scope of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope<'a> {
    /// The domain of the user.
    Domain,
    /// A project, by its key.
    Project(&'a str),
    /// The whole system.
    System,
    /// Nothing but to get another.
    Unscoped,
}

/// What all Keystones of a cloud share.
#[derive(Debug)]
struct Cloud {
    dir: TempDir,
    people: Mutex<Value>,
    /// SQLite refuses a write during another write.
    writing: Mutex<()>,
}

/// How long a token of [`Issue::BriefFernet`] lives.
pub const BRIEF: Duration = Duration::from_secs(2);

impl Keystone {
    /// Starts one that gives Fernet tokens, in a cloud of its own.
    pub fn start() -> Result<Self> {
        Self::start_in(Cloud::new()?, Issue::Fernet)
    }

    /// Starts another one in the same cloud: it shares database and keys.
    pub fn beside(&self, issue: Issue) -> Result<Self> {
        Self::start_in(Arc::clone(&self.cloud), issue)
    }

    fn start_in(cloud: Arc<Cloud>, issue: Issue) -> Result<Self> {
        let mut keystone = Self { process: None, port: Port::free()?, issue, cloud };
        keystone.resume()?;
        Ok(keystone)
    }

    /// Ends the process; the port stays held.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again after [`Keystone::stop`], and waits until it answers.
    pub fn resume(&mut self) -> Result<()> {
        let stderr = self.cloud.dir.join(format!("{}.log", self.port.number()));
        let log = File::create(&stderr).during("making a log for Keystone")?;
        let (provider, lifetime) = match self.issue {
            Issue::BriefFernet => ("fernet", BRIEF),
            Issue::Fernet => ("fernet", HOUR),
            Issue::Jws => ("jws", HOUR),
        };
        let mut command = Command::new(python()?);
        command.arg(source("serve.py")).arg(self.cloud.dir.path());
        command.args(["--port", &self.port.number().to_string(), "--provider", provider]);
        command.args(["--lifetime", &lifetime.as_secs().to_string()]);
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::null()).stderr(log);
        let mut process = Process::start(&mut command)?;

        let deadline = Instant::now() + START;
        while !send(self.address(), &Request::get("/v3")).is_ok_and(|a| a.status == 200) {
            let complaint = match process.ended() {
                Some(status) => format!("Keystone ended with {status}"),
                None if Instant::now() > deadline => "Keystone does not answer".into(),
                None => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            let log = fs::read_to_string(&stderr).unwrap_or_default();
            return Err(Error::Python(format!("{complaint}\n{log}")));
        }
        self.process = Some(process);
        // With the first question it loads its policy, and refuses who asks meanwhile. Whatever
        // comes of this one: a brief token may have expired by then.
        let own = self.token("admin")?;
        let question = Request::get("/v3/auth/tokens").header("X-Subject-Token", &own);
        let _ = self.ask(question.token(&own));
        Ok(())
    }

    /// Address and port that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its URI, without a version.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A token of a user for the first of its projects.
    pub fn token(&self, user: &str) -> Result<String> {
        let project = self.text(&["users", user, "projects", "0"])?;
        self.token_for(user, Scope::Project(&project))
    }

    /// A token of a user.
    pub fn token_for(&self, user: &str, scope: Scope<'_>) -> Result<String> {
        let scope = match scope {
            Scope::Domain => json!({"domain": {"id": self.text(&["users", user, "domain_id"])?}}),
            Scope::Project(key) => json!({"project": {"id": self.project(key)?}}),
            Scope::System => json!({"system": {"all": true}}),
            Scope::Unscoped => json!("unscoped"),
        };
        let password = self.text(&["users", user, "password"])?;
        let user = json!({"id": self.user(user)?, "password": password});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        self.buy(json!({"identity": identity, "scope": scope}))
    }

    /// A token of one of alice's application credentials.
    pub fn application_credential(&self, name: &str) -> Result<String> {
        let part = |part| self.text(&["application_credentials", name, part]);
        let credential = json!({"id": part("id")?, "secret": part("secret")?});
        let methods = ["application_credential"];
        let identity = json!({"methods": methods, "application_credential": credential});
        self.buy(json!({"identity": identity}))
    }

    /// An OAuth 2.0 access token for one of alice's application credentials, which is the client.
    pub fn access_token(&self, name: &str) -> Result<String> {
        let part = |part| self.text(&["application_credentials", name, part]);
        let credentials = STANDARD.encode(format!("{}:{}", part("id")?, part("secret")?));
        let request = access_token_request(None);
        let _writing = lock(&self.cloud.writing);
        let request = request.header("Authorization", format!("Basic {credentials}"));
        access_token_of(&send(self.address(), &request)?)
    }

    /// Lets a user get OAuth 2.0 access tokens, for the first of its projects, with a certificate
    /// whose common name is its own.
    pub fn accept_certificates(&self, user: &str) -> Result<()> {
        let project = self.project(&self.text(&["users", user, "projects", "0"])?)?;
        let path = format!("/v3/users/{}", self.user(user)?);
        let body = json!({"user": {"default_project_id": project}}).to_string();
        self.administer(Request::new("PATCH", &path).body(body.as_bytes()))?;
        let rule = json!({
            "local": [{"user": {"name": "{0}"}}],
            "remote": [{"type": "SSL_CLIENT_SUBJECT_DN_CN"}],
        });
        let body = json!({"mapping": {"rules": [rule]}}).to_string();
        let path = "/v3/OS-FEDERATION/mappings/oauth2_mapping";
        self.administer(Request::new("PUT", path).body(body.as_bytes())).map(drop)
    }

    /// An access token for a user whose certificate was shown on the connection of this client, on
    /// which a TLS terminator in front of Keystone listens.
    pub fn bound_access_token(&self, client: &mut Client, user: &str) -> Result<String> {
        let request = access_token_request(Some(&self.user(user)?));
        let _writing = lock(&self.cloud.writing);
        access_token_of(&client.send(&request)?)
    }

    /// New EC2 credentials of a user for the first of its projects, for requests of S3: the access key and
    /// its secret.
    pub fn ec2_credentials(&self, user: &str) -> Result<(String, String)> {
        let project = self.project(&self.text(&["users", user, "projects", "0"])?)?;
        let path = format!("/v3/users/{}/credentials/OS-EC2", self.user(user)?);
        let body = json!({"tenant_id": project}).to_string();
        // Keystone lets members make their own, and readers not.
        let request = Request::new("POST", &path).body(body.as_bytes());
        let made = self.administer(request)?.json()?;
        let part = |name: &str| {
            let text = made["credential"][name].as_str().map(str::to_owned);
            text.ok_or_else(|| Error::Python(format!("Keystone gave no {name}")))
        };
        Ok((part("access")?, part("secret")?))
    }

    fn buy(&self, auth: Value) -> Result<String> {
        let body = json!({"auth": auth}).to_string();
        let request = Request::new("POST", "/v3/auth/tokens");
        let answer = self.ask(request.body(body.as_bytes()))?;
        let token = answer.header("X-Subject-Token").map(str::to_owned);
        token.ok_or_else(|| Error::Python("Keystone gave no token".into()))
    }

    /// Revokes a token.
    pub fn revoke(&self, token: &str) -> Result<()> {
        let request = Request::new("DELETE", "/v3/auth/tokens").header("X-Subject-Token", token);
        self.administer(request).map(drop)
    }

    /// Lets a user in again, or no longer.
    pub fn enable(&self, user: &str, enabled: bool) -> Result<()> {
        let path = format!("/v3/users/{}", self.user(user)?);
        let body = json!({"user": {"enabled": enabled}}).to_string();
        self.administer(Request::new("PATCH", &path).body(body.as_bytes())).map(drop)
    }

    /// Gives a user a role in a project.
    pub fn grant(&self, user: &str, project: &str, role: &str) -> Result<()> {
        self.assign("PUT", user, project, role)
    }

    /// Takes a role in a project away from a user.
    pub fn take_away(&self, user: &str, project: &str, role: &str) -> Result<()> {
        self.assign("DELETE", user, project, role)
    }

    fn assign(&self, method: &str, user: &str, project: &str, role: &str) -> Result<()> {
        let (user, project, role) = (self.user(user)?, self.project(project)?, self.role(role)?);
        let path = format!("/v3/projects/{project}/users/{user}/roles/{role}");
        self.administer(Request::new(method, &path)).map(drop)
    }

    /// Makes a user with roles in a project, for a test that changes what it may do.
    pub fn make_user(&self, name: &str, project: &str, roles: &[&str]) -> Result<()> {
        let password = format!("{name}pw");
        let user = json!({"name": name, "domain_id": "default", "password": password});
        let body = json!({"user": user}).to_string();
        let request = Request::new("POST", "/v3/users").body(body.as_bytes());
        let made = self.administer(request)?.json()?;
        let user = json!({
            "id": made["user"]["id"],
            "name": name,
            "domain_id": "default",
            "password": password,
            "projects": [project],
        });
        lock(&self.cloud.people)["users"][name] = user;
        roles.iter().try_for_each(|role| self.grant(name, project, role))
    }

    /// Sends a request of the administrator to the v3 API; any answer but a good one is an error.
    pub fn administer(&self, request: Request) -> Result<Response> {
        self.ask(request.token(&self.token("admin")?))
    }

    /// Any answer but a good one is an error.
    fn ask(&self, request: Request) -> Result<Response> {
        let _writing = lock(&self.cloud.writing);
        let answer = send(self.address(), &request.header("Content-Type", "application/json"))?;
        match answer.status {
            200..=299 => Ok(answer),
            status => Err(Error::Python(format!("Keystone answered {status}: {}", answer.text()))),
        }
    }

    /// The id of a user.
    pub fn user(&self, key: &str) -> Result<String> {
        self.text(&["users", key, "id"])
    }

    /// The id of a project.
    pub fn project(&self, key: &str) -> Result<String> {
        self.text(&["projects", key])
    }

    /// The id of a domain.
    pub fn domain(&self, key: &str) -> Result<String> {
        self.text(&["domains", key])
    }

    /// The id of a role.
    pub fn role(&self, key: &str) -> Result<String> {
        self.text(&["roles", key])
    }

    /// The password of a user.
    pub fn password(&self, key: &str) -> Result<String> {
        self.text(&["users", key, "password"])
    }

    fn text(&self, path: &[&str]) -> Result<String> {
        let people = lock(&self.cloud.people);
        let found = path.iter().try_fold(&*people, |value, step| match value {
            Value::Array(list) => list.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        });
        let text = found.and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| Error::Python(format!("the cloud has no {}", path.join(" / "))))
    }
}

impl Cloud {
    fn new() -> Result<Arc<Self>> {
        let template = venv().join("cloud");
        if !template.join("stamp").exists() {
            return Err(missing(&template));
        }
        let dir = TempDir::new("cloud")?;
        copy(&template, dir.path())?;
        let people = fs::read(dir.join("people.json")).during("reading people.json")?;
        Ok(Arc::new(Self {
            dir,
            people: Mutex::new(serde_json::from_slice(&people)?),
            writing: Mutex::default(),
        }))
    }
}

/// A request of the client credentials grant.
fn access_token_request(client: Option<&str>) -> Request {
    let client = client.map(|id| format!("&client_id={id}")).unwrap_or_default();
    Request::new("POST", "/v3/OS-OAUTH2/token")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("grant_type=client_credentials{client}").as_bytes())
}

fn access_token_of(answer: &Response) -> Result<String> {
    let token = answer.json().ok().filter(|json| json["token_type"] == "Bearer");
    let token = token.and_then(|json| json["access_token"].as_str().map(str::to_owned));
    token.ok_or_else(|| Error::Python(format!("Keystone gave no access token: {}", answer.text())))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).during(format!("reading {}", from.display()))? {
        let entry = entry.during(format!("reading {}", from.display()))?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            fs::create_dir(&copied).during(format!("making {}", copied.display()))?;
            // Keystone complains about keys that everybody can read.
            set_mode(&copied, mode(&path)?)?;
            copy(&path, &copied)?;
        } else {
            fs::copy(&path, &copied).during(format!("copying {}", path.display()))?;
        }
    }
    Ok(())
}

/// The Python with Keystone and keystonemiddleware in it.
pub fn python() -> Result<PathBuf> {
    let python = venv().join("bin/python");
    match python.exists() {
        true => Ok(python),
        false => Err(missing(&python)),
    }
}

/// The path of a file in `tests/keystone`.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../keystone").join(name)
}

fn venv() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/keystone-venv");
    std::env::var_os("KEYSTONE_VENV").map_or_else(built, PathBuf::from)
}

fn missing(path: &Path) -> Error {
    Error::Python(format!(
        "Keystone's Python environment is missing or incomplete: make it with \
         `tests/keystone/setup.sh`, or name another one in KEYSTONE_VENV ({} does not exist)",
        path.display()
    ))
}

const HOUR: Duration = Duration::from_secs(3600);
const START: Duration = Duration::from_secs(60);
