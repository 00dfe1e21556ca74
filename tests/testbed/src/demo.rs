//! The story of a token at a gateway, played with real parts and checked at every step.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keystone_testbed::http::{Client, Request, Response};
use keystone_testbed::identity::{Identity, SERVICE_PASSWORD, SERVICE_PROJECT, SERVICE_USER};
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{self, Config, Nginx};
use keystone_testbed::pki::Pki;
use keystone_testbed::port::Port;
use keystone_testbed::temp::{set_mode, TempDir};
use keystone_testbed::upstream::{Seen, Upstream};

use super::Failure;

/// Plays it; `false` when an answer was wrong.
pub(super) fn play() -> Result<bool, Failure> {
    catch_interrupt();
    let module = nginx::module();
    if !module.exists() {
        return Err(format!("there is no {}: run `make` first", module.display()).into());
    }
    let mut stage = Stage::set()?;
    stage.story()?;
    if stage.wrong.is_empty() {
        println!("\nEvery answer was right.");
    } else {
        println!("\nWRONG:");
        for wrong in &stage.wrong {
            println!("  - {wrong}");
        }
        let log = stage.nginx.error_log();
        let lines: Vec<_> = log.lines().collect();
        println!("\nThe end of nginx's error log:");
        for line in &lines[lines.len().saturating_sub(20)..] {
            println!("  {line}");
        }
        return Ok(false);
    }
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        stage.stay()?;
    }
    Ok(true)
}

struct Stage {
    pki: Pki,
    identity: Identity,
    _upstream: Upstream,
    nginx: Nginx,
    wrong: Vec<String>,
}

impl Stage {
    fn set() -> Result<Self, Failure> {
        println!("Making a certificate authority and Keystone's signing certificate.");
        let pki = Pki::new()?;
        let identity = Identity::start(&pki)?;
        identity.allow_control();
        println!("The identity service listens on {}.", identity.uri());
        let upstream = Upstream::start()?;
        println!("The upstream, which answers with what it was sent, is {}.", upstream.address());

        let dir = TempDir::new("demo")?;
        std::fs::write(dir.join("password"), SERVICE_PASSWORD)?;
        set_mode(&dir.join("password"), 0o600)?;
        let conf = CONF
            .replace("@USER@", nginx::worker_user().map_or("", |_| "user www-data;\n"))
            .replace("@IDENTITY@", &identity.uri())
            .replace("@SERVICE_USER@", SERVICE_USER)
            .replace("@SERVICE_PROJECT@", SERVICE_PROJECT)
            .replace("@UPSTREAM@", &upstream.address().to_string());
        let nginx = Nginx::start_in(dir, Port::free()?, &Config::raw(&conf, 2))?;
        println!("nginx listens on http://{} with this configuration:\n", nginx.address());
        let shown = std::fs::read_to_string(nginx.dir().join("nginx.conf"))?;
        let from_http = shown.lines().skip_while(|line| !line.starts_with("http {"));
        from_http
            .filter(|line| !line.contains("_temp_path"))
            .for_each(|line| println!("    {line}"));
        Ok(Self { pki, identity, _upstream: upstream, nginx, wrong: Vec::new() })
    }

    fn story(&mut self) -> Result<(), Failure> {
        let [first, second] = self.nginx.worker_pids()[..] else {
            return Err("nginx has not two workers".into());
        };
        let mut client = self.nginx.connect_worker(first)?;
        let signing = self.pki.signing.clone();

        self.title("A request without a token is refused.")?;
        let answer = self.ask(&mut client, None)?;
        self.expect_refusal(&answer);
        let challenge = format!("Keystone uri=\"{}\"", self.identity.uri());
        self.expect("WWW-Authenticate", answer.header("WWW-Authenticate"), Some(&challenge));
        let right = answer.text() == UNAUTHORIZED;
        self.check(right, "the body of the 401 is not Keystone's");
        let asked = self.identity.requests();
        self.check(asked.is_empty(), "a request without a token made traffic");

        self.title("A PKI token: the first one makes nginx fetch certificates and the list.")?;
        let token = Payload::v3().pki(&signing)?;
        let answer = self.ask(&mut client, Some(&token))?;
        self.expect_pass(&answer, "MISS");
        for request in self.identity.requests() {
            println!("    the identity service was asked: {request}");
        }

        self.title("The same token again: from the cache, without a word to Keystone.")?;
        self.identity.forget_requests();
        let answer = self.ask(&mut client, Some(&token))?;
        self.expect_pass(&answer, "HIT");

        self.title("The same token at the second worker: from the shared cache.")?;
        let mut other = self.nginx.connect_worker(second)?;
        let answer = self.ask(&mut other, Some(&token))?;
        self.expect_pass(&answer, "HIT");
        self.expect("X-Worker", answer.header("X-Worker"), Some(&second.to_string()));

        self.title("A PKIZ token, which is a compressed one, of the v2.0 API.")?;
        let answer = self.ask(&mut client, Some(&Payload::v2().pkiz(&signing)?))?;
        self.expect_pass(&answer, "MISS");

        self.title("A token with one character changed is refused.")?;
        let answer = self.ask(&mut client, Some(&tamper(&Payload::v3().pki(&signing)?)))?;
        self.expect_refusal(&answer);

        self.title("An expired token is refused.")?;
        let expired = Payload::v3().expires_in(-60).pki(&signing)?;
        let answer = self.ask(&mut client, Some(&expired))?;
        self.expect_refusal(&answer);

        self.title("Forged headers do not reach the upstream.")?;
        let forged = Request::get("/").header("X-Roles", "admin").header("X-User-Id", "root");
        let answer = client.send(&forged.clone().token(&token))?;
        show("GET / with a PKI token, X-Roles: admin and X-User-Id: root", &answer);
        self.expect_pass(&answer, "HIT");

        self.title("A token that is revoked while it is cached is refused with the next list.")?;
        self.identity.revoke_token(&token);
        println!("  The first token is on the revocation list now.");
        let start = Instant::now();
        let refused = loop {
            stop_if_interrupted()?;
            let answer = client.send(&Request::get("/").token(&token))?;
            if answer.status == 401 || start.elapsed() > REVOCATION {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let after = start.elapsed().as_secs_f32();
        show(&format!("GET / with the same PKI token, {after:.1} s later"), &refused);
        self.expect_refusal(&refused);
        let answer = self.ask(&mut other, Some(&token))?;
        self.expect_refusal(&answer);

        self.title("What nginx keeps in keystone_signing_dir.")?;
        self.list_files()
    }

    fn ask(&mut self, client: &mut Client, token: Option<&str>) -> Result<Response, Failure> {
        let request = Request::get("/");
        let (request, what) = match token {
            None => (request, "GET /".to_owned()),
            Some(token) => {
                let (start, length) = (token.get(..20).unwrap_or(token), token.len());
                (request.token(token), format!("GET / X-Auth-Token: {start}... ({length} bytes)"))
            }
        };
        let answer = client.send(&request)?;
        show(&what, &answer);
        Ok(answer)
    }

    fn list_files(&mut self) -> Result<(), Failure> {
        let dir = self.nginx.dir().join("keystone");
        let (worker, _) = nginx::worker_ids();
        let directory = std::fs::symlink_metadata(&dir)?;
        println!("  {:04o} keystone/", directory.mode() & 0o7777);
        self.check(directory.mode() & 0o7777 == 0o700, "the directory's mode is not 0700");
        self.check(directory.uid() == worker, "the directory is not the worker's");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let mode = metadata.mode() & 0o7777;
            println!("  {mode:04o} keystone/{name} ({} bytes)", metadata.len());
            self.check(mode == 0o600, &format!("the mode of {name} is not 0600"));
            names.push(name);
        }
        names.sort();
        let right = names == ["cacert.pem", "revoked.pem", "signing_cert.pem"];
        self.check(right, &format!("the files are {names:?}"));
        Ok(())
    }

    fn expect_pass(&mut self, answer: &Response, cache: &str) {
        self.expect("X-Cache-Status", answer.header("X-Cache-Status"), Some(cache));
        if answer.status != 200 {
            self.check(false, &format!("the status is {} instead of 200", answer.status));
            return;
        }
        let Ok(seen) = Seen::of(answer) else {
            return self.check(false, "the answer is not the upstream's");
        };
        let wanted = [
            ("X-Identity-Status", "Confirmed"),
            ("X-User-Id", "user_id1"),
            ("X-Project-Name", "tenant_name1"),
            ("X-Roles", "role1,role2"),
        ];
        for (name, value) in wanted {
            self.expect(name, seen.header(name).as_deref(), Some(value));
        }
    }

    fn expect_refusal(&mut self, answer: &Response) {
        let status = answer.status;
        self.check(status == 401, &format!("the status is {status} instead of 401"));
    }

    fn expect(&mut self, name: &str, value: Option<&str>, wanted: Option<&str>) {
        self.check(value == wanted, &format!("{name} is {value:?} instead of {wanted:?}"));
    }

    fn check(&mut self, right: bool, complaint: &str) {
        if !right {
            println!("  WRONG: {complaint}");
            self.wrong.push(complaint.to_owned());
        }
    }

    fn title(&mut self, text: &str) -> Result<(), Failure> {
        println!("\n* {text}");
        stop_if_interrupted()
    }

    /// Stays until Ctrl-C, for the user to try things.
    fn stay(&self) -> Result<(), Failure> {
        let signing = &self.pki.signing;
        let tokens = [
            ("pki", Payload::v3().expires_in(DAY).pki(signing)?),
            ("pkiz", Payload::v3().expires_in(DAY).pkiz(signing)?),
        ];
        let (url, identity) = (format!("http://{}/", self.nginx.address()), self.identity.uri());
        println!("\nAll of it keeps running until Ctrl-C. Try:\n");
        println!("  curl -i {url}");
        for (name, token) in tokens {
            let path = self.nginx.dir().join(format!("{name}.token"));
            std::fs::write(&path, token)?;
            println!("  curl -i -H \"X-Auth-Token: $(cat {})\" {url}", path.display());
        }
        let pki = self.nginx.dir().join("pki.token");
        println!(
            "  curl -d \"{{\\\"token\\\": \\\"$(cat {})\\\"}}\" {identity}/testbed/revoke",
            pki.display()
        );
        println!("  tail -f {}", self.nginx.dir().join("error.log").display());
        while stop_if_interrupted().is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("\nStopping.");
        Ok(())
    }
}

fn show(request: &str, answer: &Response) {
    println!("  > {request}");
    println!("  < {}", answer.status);
    let shown = ["WWW-Authenticate", "Content-Type", "Retry-After", "X-Cache-Status", "X-Worker"];
    for name in shown {
        if let Some(value) = answer.header(name) {
            println!("  < {name}: {value}");
        }
    }
    match Seen::of(answer) {
        Ok(seen) => {
            println!("    the upstream was sent:");
            for (name, value) in &seen.headers {
                let name_lower = name.to_ascii_lowercase();
                let wanted = name_lower.starts_with("x-") || name_lower.starts_with("openstack-");
                if wanted && name_lower != "x-auth-token" {
                    println!("      {name}: {value}");
                }
            }
        }
        Err(_) => println!("  < {}", answer.text().trim_end()),
    }
}

/// A token with one character in its middle, in the signed JSON, changed to another.
fn tamper(token: &str) -> String {
    let middle = token.len() / 2;
    let other = if token.as_bytes().get(middle) == Some(&b'A') { "B" } else { "A" };
    let mut tampered = token.to_owned();
    tampered.replace_range(middle..=middle, other);
    tampered
}

fn catch_interrupt() {
    extern "C" fn note(_signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::SeqCst);
    }
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores into an atomic, which a signal handler may do.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

fn stop_if_interrupted() -> Result<(), Failure> {
    match INTERRUPTED.load(Ordering::SeqCst) {
        true => Err("interrupted".into()),
        false => Ok(()),
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

const REVOCATION: Duration = Duration::from_secs(10);
const DAY: i64 = 86_400;
const UNAUTHORIZED: &str = "{\"error\": {\"code\": 401, \"title\": \"Unauthorized\", \
    \"message\": \"The request you have made requires authentication.\"}}";

const CONF: &str = "\
@USER@load_module @MODULE@;
daemon off;
worker_processes 2;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log info;
events { }
http {
    access_log @DIR@/access.log;
    client_body_temp_path @DIR@/client_body;
    proxy_temp_path @DIR@/proxy;
    fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi;
    scgi_temp_path @DIR@/scgi;
    large_client_header_buffers 4 64k;

    keystone_auth_uri @IDENTITY@;
    keystone_identity_uri @IDENTITY@;
    keystone_username @SERVICE_USER@;
    keystone_password file:@DIR@/password;
    keystone_project_name @SERVICE_PROJECT@;
    keystone_signing_dir @DIR@/keystone;
    keystone_revocation_cache_time 1s;

    server {
        listen 127.0.0.1:@PORT@ reuseport;
        add_header X-Cache-Status $keystone_cache_status always;
        add_header X-Worker $pid always;

        location / {
            keystone_auth on;
            proxy_pass http://@UPSTREAM@;
        }
        location = /-/worker {
            return 200 $pid;
        }
    }
}
";
