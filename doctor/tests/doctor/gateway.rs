//! A gateway that has been running: its configuration, its signing directory, its Keystone.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keystone_testbed::identity::{
    Identity, ADMIN_TOKEN, CREDENTIAL_SECRET, SERVICE_PASSWORD, SERVICE_PROJECT, SERVICE_USER,
};
use keystone_testbed::mint;
use keystone_testbed::nginx::{module, worker_user};
use keystone_testbed::pki::Pki;
use keystone_testbed::temp::{set_mode, TempDir};
use serde_json::Value;

/// All of it; gone when it is dropped.
pub struct Gateway {
    pub dir: TempDir,
    pub pki: Pki,
    pub identity: Identity,
    /// `http`-level directives in place of the usual ones about URI, user and directory.
    pub settings: Option<String>,
    /// Directives of `http` besides those above.
    pub more: String,
    /// Whether the program asks nginx, which then loads the module of the tests over HTTP.
    pub asks_nginx: bool,
    /// The directory in which the program is started, if that matters.
    pub from: Option<PathBuf>,
}

impl Gateway {
    /// One that has fetched certificates and list a moment ago.
    pub fn new() -> Self {
        Self::with(Pki::new().unwrap())
    }

    pub fn with(pki: Pki) -> Self {
        let identity = Identity::start(&pki).unwrap();
        Self::before(pki, identity)
    }

    pub fn before(pki: Pki, identity: Identity) -> Self {
        let dir = TempDir::new("doctor").unwrap();
        let gateway = Self {
            dir,
            pki,
            identity,
            settings: None,
            more: String::new(),
            asks_nginx: false,
            from: None,
        };
        gateway.write("password", SERVICE_PASSWORD);
        set_mode(&gateway.dir.join("password"), 0o600).unwrap();
        fs::create_dir(gateway.signing_dir()).unwrap();
        set_mode(&gateway.signing_dir(), 0o700).unwrap();
        if let Some(user) = worker_user() {
            chown(&gateway.signing_dir(), user);
        }
        gateway.fetch();
        gateway
    }

    pub fn signing_dir(&self) -> PathBuf {
        self.dir.join("keystone")
    }

    /// Writes what the module would have fetched.
    pub fn fetch(&self) {
        self.keep("signing_cert.pem", &self.pki.signing.pem_with_text().unwrap());
        self.keep("cacert.pem", &self.pki.authority.pem().unwrap());
        let list = self.identity.state().signed_list().unwrap();
        self.keep("revoked.pem", &list);
    }

    /// Writes a file of the signing directory.
    pub fn keep(&self, name: &str, text: &str) {
        fs::write(self.signing_dir().join(name), text).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    pub fn check(&self) -> Outcome {
        let conf = self.conf();
        self.run(&["check", conf.to_str().unwrap()], "")
    }

    pub fn token(&self, token: &str, more: &[&str]) -> Outcome {
        let conf = self.conf();
        let arguments = [&["token", "--conf", conf.to_str().unwrap()], more].concat();
        self.run(&arguments, token)
    }

    /// Runs the program, for eyes and for programs; nothing secret may be in what it says.
    pub fn run(&self, arguments: &[&str], input: &str) -> Outcome {
        let from = self.from.as_deref().unwrap_or(Path::new("."));
        let without = ["--no-nginx"];
        let asks = self.asks_nginx || arguments.contains(&"--nginx");
        let runs = matches!(arguments.first(), Some(&"check" | &"token"));
        let more = if asks || !runs { &[][..] } else { &without };
        let arguments: &[&str] = &[arguments, more].concat();
        let human = run(from, arguments, input);
        let machine = run(from, &[arguments, &["--json"]].concat(), input);
        assert_eq!(human.0, machine.0, "{}\n{}", human.1, machine.1);
        let mut secrets =
            vec![SERVICE_PASSWORD.to_owned(), ADMIN_TOKEN.into(), CREDENTIAL_SECRET.into()];
        secrets.extend(self.identity.state().issued.keys().cloned());
        secrets.extend((input.trim().len() > 20).then(|| input.trim().to_owned()));
        for text in [&human.1, &machine.1] {
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "a secret is shown:\n{text}");
            }
        }
        assert!(!human.1.contains('\x1b'), "colours without a terminal");
        let json = serde_json::from_str(&machine.1).unwrap_or(Value::Null);
        Outcome { code: human.0, human: human.1, json }
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Writes `nginx.conf` and returns its path.
    pub fn conf(&self) -> PathBuf {
        let usual = format!(
            "keystone_auth_uri {};\n    keystone_username {SERVICE_USER};\n    \
             keystone_password file:password;\n    keystone_project_name {SERVICE_PROJECT};\n    \
             keystone_signing_dir keystone;",
            self.identity.uri()
        );
        let module = module().display().to_string();
        let pid = match self.asks_nginx {
            true => format!("pid {};", self.path("nginx.pid")),
            false => String::new(),
        };
        let text = format!(
            "load_module {module};\n{}\nerror_log stderr;\n{pid}\nevents {{}}\nhttp {{\n    large_client_header_buffers 4 64k;\n    {}\n    \
             access_log off; {}\n    \
             server {{\n        listen 127.0.0.1:1; keystone_auth on;\n    }}\n}}\n",
            worker_user().map(|user| format!("user {user};")).unwrap_or_default(),
            self.settings.as_ref().unwrap_or(&usual),
            self.more,
        );
        self.write("nginx.conf", &text);
        self.dir.join("nginx.conf")
    }
}

fn run(from: &Path, arguments: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keystone-doctor"))
        .args(arguments)
        .current_dir(from)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// What a run has said.
pub struct Outcome {
    pub code: i32,
    pub human: String,
    pub json: Value,
}

impl Outcome {
    /// The first check of that name.
    pub fn find(&self, id: &str) -> Option<&Value> {
        let sections = self.json["sections"].as_array().unwrap();
        let mut checks = sections.iter().flat_map(|it| it["checks"].as_array().unwrap());
        checks.find(|check| check["id"] == id)
    }

    /// That a check ended so, and says this among other things.
    #[track_caller]
    pub fn says(&self, id: &str, status: &str, text: &str) -> &Self {
        let Some(check) = self.find(id) else { panic!("no {id} in\n{}", self.human) };
        assert_eq!(check["status"], status, "{id} in\n{}", self.human);
        assert!(check.to_string().contains(text), "no \"{text}\" in {check:#}");
        if status == "fail" {
            assert!(check["meaning"].is_string(), "{check:#}");
        }
        self
    }

    /// That nothing has failed and nothing is to be looked at.
    #[track_caller]
    pub fn is_well(&self) -> &Self {
        assert_eq!((self.code, &self.json["status"]), (0, &Value::from("ok")), "{}", self.human);
        self
    }

    /// What the module would do, and its word for it.
    #[track_caller]
    pub fn verdict(&self, code: i32, decision: &str, result: Option<&str>) -> &Self {
        let verdict = &self.json["sections"][0]["verdict"];
        assert_eq!(self.code, code, "{}", self.human);
        assert_eq!(verdict["decision"], decision, "{}", self.human);
        assert_eq!(verdict["result"].as_str(), result, "{}", self.human);
        self
    }
}

/// The id that a token has in md5.
pub fn id_of(token: &str) -> String {
    mint::md5(token)
}

pub fn is_root() -> bool {
    worker_user().is_some()
}

pub fn chown(path: &Path, user: &str) {
    let status = Command::new("chown").arg(user).arg(path).status().unwrap();
    assert!(status.success());
}
