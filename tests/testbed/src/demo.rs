//! The story of a token at a gateway, played with real parts and checked at every step.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use keystone_testbed::http::{Client, Request, Response};
use keystone_testbed::identity::{Identity, SERVICE_PASSWORD, SERVICE_PROJECT, SERVICE_USER};
use keystone_testbed::mint::{new_fernet, Payload};
use keystone_testbed::nginx::{self, Config, Nginx};
use keystone_testbed::pki::Pki;
use keystone_testbed::port::Port;
use keystone_testbed::temp::{set_mode, TempDir};
use keystone_testbed::upstream::{Seen, Upstream};

use super::story::{
    has_audience, show, show_configuration, stop_if_interrupted, wait_for_interrupt, Story,
};
use super::Failure;

/// Plays it; `false` when an answer was wrong.
pub(super) fn play() -> Result<bool, Failure> {
    let mut stage = Stage::set(Story::begin()?)?;
    stage.story()?;
    let right = stage.story.end(&stage.nginx);
    if right && has_audience() {
        stage.stay()?;
    }
    Ok(right)
}

struct Stage {
    pki: Pki,
    identity: Identity,
    _upstream: Upstream,
    nginx: Nginx,
    story: Story,
}

impl Stage {
    fn set(story: Story) -> Result<Self, Failure> {
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
        show_configuration(&nginx)?;
        Ok(Self { pki, identity, _upstream: upstream, nginx, story })
    }

    fn story(&mut self) -> Result<(), Failure> {
        let [first, second] = self.nginx.worker_pids()[..] else {
            return Err("nginx has not two workers".into());
        };
        let mut client = self.nginx.connect_worker(first)?;
        let signing = self.pki.signing.clone();

        self.ask_without_token(&mut client)?;

        self.story
            .title("A PKI token: the first one makes nginx fetch certificates and the list.")?;
        let token = Payload::v3().pki(&signing)?;
        let answer = self.ask(&mut client, Some(&token))?;
        self.expect_pass(&answer, "MISS");
        for request in self.identity.requests() {
            println!("    the identity service was asked: {request}");
        }

        self.story.title("The same token again: from the cache, without a request to Keystone.")?;
        self.identity.forget_requests();
        let answer = self.ask(&mut client, Some(&token))?;
        self.expect_pass(&answer, "HIT");

        self.story.title("The same token at the second worker: from the shared cache.")?;
        let mut other = self.nginx.connect_worker(second)?;
        let answer = self.ask(&mut other, Some(&token))?;
        self.expect_pass(&answer, "HIT");
        self.story.expect("X-Worker", answer.header("X-Worker"), Some(&second.to_string()));

        self.story.title("A PKIZ token, which is compressed, of the v2.0 API.")?;
        let answer = self.ask(&mut client, Some(&Payload::v2().pkiz(&signing)?))?;
        self.expect_pass(&answer, "MISS");

        self.refuse_bad(&mut client)?;

        self.story.title("Forged headers do not reach the upstream.")?;
        let forged = Request::get("/").header("X-Roles", "admin").header("X-User-Id", "root");
        let answer = client.send(&forged.clone().token(&token))?;
        show("GET / with a PKI token, X-Roles: admin and X-User-Id: root", &answer);
        self.expect_pass(&answer, "HIT");

        self.story
            .title("A token that is revoked while it is cached is refused with the next list.")?;
        self.identity.revoke_token(&token);
        println!("  The first token is on the revocation list now.");
        self.wait_for_refusal(&mut client, "the same PKI token", &token)?;
        let answer = self.ask(&mut other, Some(&token))?;
        self.story.expect_status(&answer, 401);

        self.online(&mut client, &mut other)?;

        self.story.title("What nginx keeps in keystone_signing_dir.")?;
        self.list_files()
    }

    fn ask_without_token(&mut self, client: &mut Client) -> Result<(), Failure> {
        self.story.title("A request without a token is refused.")?;
        let answer = self.ask(client, None)?;
        self.story.expect_status(&answer, 401);
        let challenge = format!("Keystone uri=\"{}\"", self.identity.uri());
        self.story.expect("WWW-Authenticate", answer.header("WWW-Authenticate"), Some(&challenge));
        let right = answer.text() == UNAUTHORIZED;
        self.story.check(right, "the body of the 401 is not Keystone's");
        let asked = self.identity.requests();
        self.story.check(asked.is_empty(), "a request without a token made traffic");
        Ok(())
    }

    fn refuse_bad(&mut self, client: &mut Client) -> Result<(), Failure> {
        let signing = &self.pki.signing.clone();
        self.story.title("A token with one character changed is refused.")?;
        let answer = self.ask(client, Some(&tamper(&Payload::v3().pki(signing)?)))?;
        self.story.expect_status(&answer, 401);

        self.story.title("An expired token is refused.")?;
        let expired = Payload::v3().expires_in(-60).pki(signing)?;
        let answer = self.ask(client, Some(&expired))?;
        self.story.expect_status(&answer, 401);
        Ok(())
    }

    /// Tokens of today, which only Keystone can judge.
    fn online(&mut self, client: &mut Client, other: &mut Client) -> Result<(), Failure> {
        self.story
            .title("A Fernet token, which only Keystone can read: one request to Keystone.")?;
        let token = self.fernet(&Payload::v3());
        self.identity.forget_requests();
        let answer = self.ask(client, Some(&token))?;
        self.expect_pass(&answer, "MISS");
        for request in self.identity.requests() {
            println!("    the identity service was asked: {request}");
        }
        let answer = self.ask(other, Some(&token))?;
        self.expect_pass(&answer, "HIT");
        let asked = self.identity.validations().len();
        self.story.check(asked == 1, &format!("Keystone was asked {asked} times about one token"));

        self.story
            .title("A token that Keystone does not know is refused, and the refusal is cached.")?;
        let unknown = new_fernet();
        for cache in ["MISS", "HIT"] {
            let answer = self.ask(client, Some(&unknown))?;
            self.story.expect_status(&answer, 401);
            self.story.expect("X-Cache-Status", answer.header("X-Cache-Status"), Some(cache));
        }

        self.story
            .title("A service passes on the request of a user whose token has just expired.")?;
        let expired = self.fernet(&Payload::v3().expires_in(-60));
        let service = self.fernet(&Payload::v3_service());
        let answer = self.ask(client, Some(&expired))?;
        self.story.expect_status(&answer, 401);
        let request = Request::get("/").token(&expired).header("X-Service-Token", &service);
        let answer = client.send(&request)?;
        show("GET / with the same token, and the service's in X-Service-Token", &answer);
        self.story.expect_status(&answer, 200);
        let seen = Seen::of(&answer)?.header("X-Service-User-Id");
        self.story.expect("X-Service-User-Id", seen.as_deref(), Some("service_user_id1"));

        self.story
            .title("A Fernet token that is revoked is refused with the next revocation event.")?;
        self.identity.revoke_online(&token);
        println!("  The first Fernet token is revoked in Keystone now, and an event says so.");
        self.wait_for_refusal(client, "the same Fernet token", &token)?;

        self.story
            .title("While Keystone is down, a token that only Keystone can validate gets 503.")?;
        let unknown = self.fernet(&Payload::v3());
        self.identity.stop();
        let answer = self.ask(client, Some(&unknown))?;
        self.story.expect_status(&answer, 503);
        self.identity.restart()?;
        let answer = self.ask(client, Some(&unknown))?;
        self.story.expect_status(&answer, 200);
        Ok(())
    }

    /// A token that the identity service knows.
    fn fernet(&self, payload: &Payload) -> String {
        let token = new_fernet();
        self.identity.know(&token, payload);
        token
    }

    fn wait_for_refusal(
        &mut self,
        client: &mut Client,
        what: &str,
        token: &str,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let refused = loop {
            stop_if_interrupted()?;
            let answer = client.send(&Request::get("/").token(token))?;
            if answer.status == 401 || start.elapsed() > REVOCATION {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let after = start.elapsed().as_secs_f32();
        show(&format!("GET / with {what}, {after:.1} s later"), &refused);
        self.story.expect_status(&refused, 401);
        Ok(())
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
        self.story.check(directory.mode() & 0o7777 == 0o700, "the directory's mode is not 0700");
        self.story.check(directory.uid() == worker, "the directory is not the worker's");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let mode = metadata.mode() & 0o7777;
            println!("  {mode:04o} keystone/{name} ({} bytes)", metadata.len());
            self.story.check(mode == 0o600, &format!("the mode of {name} is not 0600"));
            names.push(name);
        }
        names.sort();
        let right = names == ["cacert.pem", "revoked.pem", "signing_cert.pem"];
        self.story.check(right, &format!("the files are {names:?}"));
        Ok(())
    }

    fn expect_pass(&mut self, answer: &Response, cache: &str) {
        self.story.expect("X-Cache-Status", answer.header("X-Cache-Status"), Some(cache));
        self.story.expect_status(answer, 200);
        if answer.status != 200 {
            return;
        }
        let Ok(seen) = Seen::of(answer) else {
            return self.story.check(false, "the answer is not the upstream's");
        };
        let wanted = [
            ("X-Identity-Status", "Confirmed"),
            ("X-User-Id", "user_id1"),
            ("X-Project-Name", "tenant_name1"),
            ("X-Roles", "role1,role2"),
        ];
        for (name, value) in wanted {
            self.story.expect(name, seen.header(name).as_deref(), Some(value));
        }
    }

    /// Stays until Ctrl-C, for the user to try things.
    fn stay(&self) -> Result<(), Failure> {
        let signing = &self.pki.signing;
        let fernet = self.fernet(&Payload::v3().expires_in(DAY));
        let tokens = [
            ("pki", Payload::v3().expires_in(DAY).pki(signing)?),
            ("pkiz", Payload::v3().expires_in(DAY).pkiz(signing)?),
            ("fernet", fernet),
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
        wait_for_interrupt();
        Ok(())
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
    keystone_revocation_events 1s;
    keystone_http_request_max_retries 1;

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
