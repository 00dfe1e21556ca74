//! The story of a Fernet token, from a real Keystone to its end.

use std::time::{Duration, Instant};

use keystone_testbed::http::Response;
use keystone_testbed::keystone::{Keystone, Scope};
use keystone_testbed::nginx::{self, Config, Nginx};
use keystone_testbed::port::Port;
use keystone_testbed::temp::{set_mode, TempDir};
use keystone_testbed::upstream::{Seen, Upstream};
use serde_json::json;

use super::curl::{curl, in_words, run_curl};
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
    keystone: Keystone,
    _upstream: Upstream,
    nginx: Nginx,
    story: Story,
}

impl Stage {
    fn set(story: Story) -> Result<Self, Failure> {
        println!("Starting a real Keystone.");
        let keystone = Keystone::start()?;
        println!("It listens on {}.", keystone.uri());
        let upstream = Upstream::start()?;
        println!("The upstream, which answers with what it was sent, is {}.", upstream.address());

        let dir = TempDir::new("demo")?;
        std::fs::write(dir.join("password"), keystone.password("gateway")?)?;
        set_mode(&dir.join("password"), 0o600)?;
        let conf = CONF
            .replace("@USER@", nginx::worker_user().map_or("", |_| "user www-data;\n"))
            .replace("@IDENTITY@", &keystone.uri())
            .replace("@INTERVAL@", &INTERVAL.as_secs().to_string())
            .replace("@UPSTREAM@", &upstream.address().to_string());
        let nginx = Nginx::start_in(dir, Port::free()?, &Config::raw(&conf, 1))?;
        show_configuration(&nginx)?;
        Ok(Self { keystone, _upstream: upstream, nginx, story })
    }

    fn story(&mut self) -> Result<(), Failure> {
        let gate = format!("http://{}", self.nginx.address());

        self.story.title("A request without a token is refused.")?;
        let answer = curl(&[&format!("{gate}/")], &[])?;
        self.story.expect_status(&answer, 401);
        let challenge = format!("Keystone uri=\"{}\"", self.keystone.uri());
        self.story.expect("WWW-Authenticate", answer.header("WWW-Authenticate"), Some(&challenge));

        let token = self.log_in()?;

        self.story.title("The token is accepted: nginx has validated it with Keystone.")?;
        let alice = [("X-User-Name", "alice"), ("X-Project-Name", "demo")];
        let with_token = ["-H", "X-Auth-Token: $TOKEN", &format!("{gate}/")];
        let known = [("$TOKEN", token.as_str())];
        let answer = curl(&with_token, &known)?;
        self.expect_pass(&answer, "MISS", &alice);

        self.story.title("The same token again: from the cache, without a request to Keystone.")?;
        let answer = curl(&with_token, &known)?;
        self.expect_pass(&answer, "HIT", &alice);

        self.story.title("A user and a project whose names are not ASCII.")?;
        let zofie = self.keystone.token_for("zofie", Scope::Project("проект"))?;
        let as_zofie = ["-H", "X-Auth-Token: $ZOFIE", &format!("{gate}/")];
        let answer = curl(&as_zofie, &[("$ZOFIE", &zofie)])?;
        let names = [("X-User-Name", "Žofie Novák 名前"), ("X-Project-Name", "проект")];
        self.expect_pass(&answer, "MISS", &names);

        self.use_application_credential(&gate)?;

        self.revoke(&token, &with_token)?;

        self.story.title("Other tokens are accepted as before.")?;
        let answer = curl(&as_zofie, &[("$ZOFIE", &zofie)])?;
        self.story.expect_status(&answer, 200);
        Ok(())
    }

    fn log_in(&mut self) -> Result<String, Failure> {
        self.story.title("alice gets a token from Keystone.")?;
        let user = json!({"name": "alice", "domain": {"id": "default"},
            "password": self.keystone.password("alice")?});
        let scope = json!({"project": {"name": "demo", "domain": {"id": "default"}}});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": scope}}).to_string();
        let answer =
            curl(&["-H", "Content-Type: application/json", "-d", &body, &self.tokens_uri()], &[])?;
        self.story.expect_status(&answer, 201);
        let token = answer.header("X-Subject-Token").unwrap_or_default().to_owned();
        let format = (token.get(..6).unwrap_or_default(), token.len());
        println!("    TOKEN={}... ({} characters)", format.0, format.1);
        self.story.check(format.0 == "gAAAAA", "it is no Fernet token");
        Ok(token)
    }

    fn use_application_credential(&mut self, gate: &str) -> Result<(), Failure> {
        self.story.title("An application credential of alice may only read what is public.")?;
        let limited = self.keystone.application_credential("rules")?;
        let account = format!("{gate}/v1/AUTH_{}", self.keystone.project("demo")?);
        for (path, status) in [("pub/o", 200), ("private/o", 401), ("pub/../private/o", 401)] {
            let url = format!("{account}/{path}");
            let words = ["--path-as-is", "-H", "X-Auth-Token: $LIMITED", &url];
            let answer = curl(&words, &[("$LIMITED", &limited)])?;
            self.story.expect_status(&answer, status);
        }
        Ok(())
    }

    /// Revokes the token, and waits until curl with these words shows that nginx refuses it.
    fn revoke(&mut self, token: &str, with_token: &[&str]) -> Result<(), Failure> {
        self.story.title("alice revokes the token.")?;
        let known = [("$TOKEN", token)];
        let revocation =
            ["-X", "DELETE", "-H", "X-Auth-Token: $TOKEN", "-H", "X-Subject-Token: $TOKEN"];
        let answer = curl(&[&revocation[..], &[&self.tokens_uri()]].concat(), &known)?;
        self.story.expect_status(&answer, 204);

        let seconds = INTERVAL.as_secs();
        self.story.title(&format!("nginx refuses it within {seconds} s, though it is cached."))?;
        let start = Instant::now();
        let answer = loop {
            stop_if_interrupted()?;
            let answer = run_curl(with_token, &known)?;
            if answer.status == 401 || start.elapsed() > INTERVAL + GRACE {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        println!("  {:.1} s later:", start.elapsed().as_secs_f32());
        show(&in_words(with_token), &answer);
        self.story.expect_status(&answer, 401);
        Ok(())
    }

    fn tokens_uri(&self) -> String {
        format!("{}/v3/auth/tokens", self.keystone.uri())
    }

    fn expect_pass(&mut self, answer: &Response, cache: &str, headers: &[(&str, &str)]) {
        self.story.expect("X-Cache-Status", answer.header("X-Cache-Status"), Some(cache));
        self.story.expect_status(answer, 200);
        let Ok(seen) = Seen::of(answer) else { return };
        for (name, value) in [&[("X-Identity-Status", "Confirmed")], headers].concat() {
            self.story.expect(name, seen.header(name).as_deref(), Some(value));
        }
    }

    /// Stays until Ctrl-C, for the user to try things.
    fn stay(&self) -> Result<(), Failure> {
        let path = self.nginx.dir().join("token");
        std::fs::write(&path, self.keystone.token("alice")?)?;
        let (token, gate) = (path.display(), self.nginx.address());
        println!("\nAll of it keeps running until Ctrl-C. Try:\n");
        println!("  TOKEN=$(cat {token})");
        println!("  curl -i -H \"X-Auth-Token: $TOKEN\" http://{gate}/");
        println!(
            "  curl -i -X DELETE -H \"X-Auth-Token: $TOKEN\" -H \"X-Subject-Token: $TOKEN\" \
             {}/v3/auth/tokens",
            self.keystone.uri()
        );
        println!("  tail -f {}", self.nginx.dir().join("error.log").display());
        wait_for_interrupt();
        Ok(())
    }
}

/// How often nginx asks for revocations.
const INTERVAL: Duration = Duration::from_secs(2);
/// Keystone's answer takes its time too.
const GRACE: Duration = Duration::from_secs(2);

const CONF: &str = "\
@USER@load_module @MODULE@;
daemon off;
worker_processes 1;
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

    keystone_auth_uri @IDENTITY@;
    keystone_username gateway;
    keystone_password file:@DIR@/password;
    keystone_project_name service;
    keystone_signing_dir @DIR@/keystone;
    keystone_revocation_events @INTERVAL@s;

    server {
        listen 127.0.0.1:@PORT@;
        add_header X-Cache-Status $keystone_cache_status always;

        location / {
            keystone_auth on;
            keystone_service_type object-store;
            proxy_pass http://@UPSTREAM@;
        }
    }
}
";
