//! `swift-edge.conf`: tokens are verified by nginx, and access is decided by Swift.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use keystone_testbed::http::{send, Request, Response};
use keystone_testbed::nginx::Nginx;
use keystone_testbed::sample::{auto, Sample};
use keystone_testbed::swift::{Client, Output};
use keystone_testbed::temp::TempDir;
use keystone_testbed::upstream::{Seen, Upstream};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::cloud::{cloud, Cloud};

/// A gateway in front of a Swift, and files for the client.
pub struct Edge {
    pub cloud: Arc<Cloud>,
    nginx: Nginx,
    pub files: TempDir,
}

impl Edge {
    pub fn start() -> Self {
        let cloud = cloud();
        let sample = Sample::swift_edge(&cloud.keystone, cloud.swift.address());
        Self::of(cloud, sample)
    }

    /// One with a configuration of its own.
    pub fn of(cloud: Arc<Cloud>, sample: Sample) -> Self {
        Self { cloud, nginx: sample.start(auto()), files: TempDir::new("files").unwrap() }
    }

    /// Where the gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.nginx.address()
    }

    /// The client as a user, in the account of project demo.
    fn client(&self, user: &str) -> Client {
        let storage = format!("http://{}{}", self.nginx.address(), self.cloud.account("demo"));
        Client::with_token(&storage, &self.cloud.token(user))
    }

    #[track_caller]
    fn swift(&self, user: &str, words: &[&str]) -> Output {
        self.client(user).run_in(self.files.path(), words).unwrap()
    }

    /// The client has done it.
    #[track_caller]
    pub fn does(&self, user: &str, words: &[&str]) -> String {
        let output = self.swift(user, words);
        assert_eq!(output.code, 0, "{words:?} of {user}: {output:?}");
        output.stdout
    }

    /// The client was refused with 403.
    #[track_caller]
    fn is_forbidden(&self, user: &str, words: &[&str]) {
        let output = self.swift(user, words);
        assert_eq!(output.code, 1, "{words:?} of {user}: {output:?}");
        assert!(output.stderr.contains("403"), "{words:?} of {user}: {output:?}");
    }

    /// Makes a container with an object, as alice.
    #[track_caller]
    pub fn container(&self, name: &str) -> String {
        let (alice, path) = (self.cloud.token("alice"), self.path(name));
        let made = self.ask(Request::new("PUT", &path).token(&alice));
        assert_eq!(made.status, 201, "{}", made.text());
        let object = Request::new("PUT", &format!("{path}/o")).token(&alice).body(b"content");
        assert_eq!(self.ask(object).status, 201);
        path
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.cloud.account("demo"))
    }

    #[track_caller]
    pub fn ask(&self, request: Request) -> Response {
        self.nginx.send(&request).unwrap()
    }

    #[track_caller]
    pub fn status(&self, user: Option<&str>, path: &str) -> u16 {
        let request = Request::get(path);
        match user {
            Some(user) => self.ask(request.token(&self.cloud.token(user))).status,
            None => self.ask(request).status,
        }
    }

    #[track_caller]
    pub fn share(&self, path: &str, acl: &str) {
        let alice = self.cloud.token("alice");
        let request = Request::new("POST", path).token(&alice).header("X-Container-Read", acl);
        assert_eq!(self.ask(request).status, 204);
    }
}

#[test]
fn an_owner_keeps_objects_with_the_client() {
    let edge = Edge::start();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(edge.files.join("up"), &bytes).unwrap();
    // With its password, as people do.
    let storage = format!("http://{}{}", edge.nginx.address(), edge.cloud.account("demo"));
    let alice = Client::with_password(&storage, &edge.cloud.keystone, "alice", "demo").unwrap();
    let output = alice
        .run_in(edge.files.path(), &["upload", "kept", "up", "--object-name", "a/b c"])
        .unwrap();
    assert_eq!(output.code, 0, "{output:?}");

    assert_eq!(edge.does("alice", &["list", "kept"]), "a/b c\n");
    edge.does("alice", &["post", "kept", "a/b c", "-m", "colour:blue"]);
    let stat = edge.does("alice", &["stat", "kept", "a/b c"]);
    assert!(
        stat.contains("Content Length: 1200000") && stat.contains("Meta Colour: blue"),
        "{stat}"
    );
    assert!(edge.does("alice", &["stat"]).contains("Containers: "));
    edge.does("alice", &["download", "kept", "a/b c", "-o", "down"]);
    assert!(fs::read(edge.files.join("down")).unwrap() == bytes);
    // Values in any script, but names in ASCII.
    let object = edge.path("kept/a%20b");
    let put = Request::new("PUT", &object)
        .token(&edge.cloud.token("alice"))
        .header("X-Object-Meta-Motto", "größer")
        .header("X-Object-Meta-Größe", "m");
    assert_eq!(edge.ask(put.body(b"")).status, 201);
    let stat = edge.does("alice", &["stat", "kept", "a b"]);
    assert!(stat.contains("Meta Motto: größer") && !stat.contains("Gr"), "{stat}");
    // In segments, with a manifest.
    edge.does("alice", &["upload", "kept", "up", "--object-name", "large", "-S", "500000"]);
    edge.does("alice", &["download", "kept", "large", "-o", "large"]);
    assert!(fs::read(edge.files.join("large")).unwrap() == bytes);
    edge.does("alice", &["delete", "kept"]);
    assert_eq!(edge.swift("alice", &["list", "kept"]).code, 1);
}

#[test]
fn roles_are_what_they_are_to_swift() {
    let edge = Edge::start();
    let path = edge.container("roles");
    fs::write(edge.files.join("up"), "other").unwrap();
    assert_eq!(edge.does("bob", &["list", "roles"]), "o\n");
    assert_eq!(edge.does("bob", &["download", "roles", "o", "-o", "-"]), "content");
    edge.is_forbidden("bob", &["upload", "roles", "up"]);
    edge.is_forbidden("bob", &["post", "roles", "-r", ".r:*"]);
    edge.is_forbidden("carol", &["list", "roles"]);
    assert_eq!(edge.status(Some("carol"), &format!("{path}/o")), 403);
    assert_eq!(edge.status(Some("norole"), &format!("{path}/o")), 403);
    edge.does("oper", &["upload", "roles", "up"]);
    assert_eq!(edge.status(Some("reseller"), &format!("{path}/up")), 200);
    let storage = Request::get(&format!("{path}/up"));
    let storage = storage.header("X-Storage-Token", edge.cloud.token("alice"));
    assert_eq!(edge.ask(storage).text(), "other");
}

#[test]
fn containers_are_shared_with_everybody_and_with_a_project() {
    let edge = Edge::start();
    let path = edge.container("shared");
    let object = format!("{path}/o");
    let anonymous = edge.ask(Request::get(&object));
    assert_eq!(anonymous.status, 401);
    for challenge in ["Swift realm=", "Keystone uri="] {
        let mut told = anonymous.headers.all("WWW-Authenticate");
        assert!(told.any(|value| value.starts_with(challenge.as_bytes())), "{challenge}");
    }

    edge.does("alice", &["post", "shared", "-r", ".r:*"]);
    assert_eq!(edge.ask(Request::get(&object)).text(), "content");
    assert_eq!(edge.ask(Request::get(&object).token("garbage")).text(), "content");
    assert_eq!(edge.status(Some("carol"), &object), 200);
    // Its names are not public.
    assert_eq!(edge.status(None, &path), 401);
    let write = Request::new("PUT", &object).body(b"anonymous");
    assert_eq!(edge.ask(write).status, 401);

    let other = edge.cloud.keystone.project("other").unwrap();
    edge.does("alice", &["post", "shared", "-r", &format!("{other}:*")]);
    assert_eq!(edge.does("carol", &["download", "shared", "o", "-o", "-"]), "content");
    assert_eq!(edge.status(None, &object), 401);
    edge.is_forbidden("carol", &["upload", "shared", "/etc/hostname"]);
    assert_eq!(edge.ask(Request::get(&object).token("garbage")).status, 401);
}

#[test]
fn an_acl_by_names_admits_no_user() {
    let edge = Edge::start();
    let object = format!("{}/o", edge.container("names"));
    for acl in ["demo:alice", "demo:*", "*:alice"] {
        edge.share(&edge.path("names"), acl);
        assert_eq!(edge.status(Some("alice@Elsewhere"), &object), 403, "{acl}");
    }
    edge.share(&edge.path("names"), "other:carol");
    assert_eq!(edge.status(Some("carol"), &object), 403);
    let namesake = edge.cloud.keystone.user("alice@Elsewhere").unwrap();
    edge.share(&edge.path("names"), &format!("*:{namesake}"));
    assert_eq!(edge.status(Some("alice@Elsewhere"), &object), 200);
}

#[test]
fn clients_cannot_name_themselves() {
    let edge = Edge::start();
    let object = format!("{}/o", edge.container("forged"));
    let demo = edge.cloud.keystone.project("demo").unwrap();
    let forged = |method: &str, path: &str| {
        Request::new(method, path)
            .header("X-Identity-Status", "Confirmed")
            .header("X-Project-Id", &demo)
            .header("X-Tenant-Id", &demo)
            .header("X-User-Id", "alice")
            .header("X-Roles", "admin,member,ResellerAdmin")
            .header("X_Roles", "admin")
            .header("X-Role", "admin")
            .header("X-Service-Roles", "service")
            .header("X-Service-Identity-Status", "Confirmed")
    };
    let (bob, carol) = (edge.cloud.token("bob"), edge.cloud.token("carol"));
    // To Swift itself that would be enough.
    let direct = send(edge.cloud.swift.address(), &forged("GET", &object));
    assert_eq!(direct.unwrap().status, 200);
    assert_eq!(edge.ask(forged("GET", &object)).status, 401);
    assert_eq!(edge.ask(forged("GET", &object).token("garbage")).status, 401);
    assert_eq!(edge.ask(forged("GET", &object).token(&bob)).status, 200);
    assert_eq!(edge.ask(forged("PUT", &object).token(&bob).body(b"forged")).status, 403);
    assert_eq!(edge.ask(forged("GET", &object).token(&carol)).status, 403);
}

#[test]
fn a_services_account_wants_a_user_and_a_service() {
    let edge = Edge::start();
    let demo = edge.cloud.keystone.project("demo").unwrap();
    let container = format!("/v1/SERVICE_{demo}/images");
    let (alice, glance) = (edge.cloud.token("alice"), edge.cloud.token("glance"));
    let put = || Request::new("PUT", &container);
    assert_eq!(edge.ask(put().token(&alice)).status, 403);
    assert_eq!(edge.ask(put().token(&glance)).status, 403);
    let forged = put().token(&alice).header("X-Service-Roles", "service");
    assert_eq!(edge.ask(forged).status, 403);
    let itself = put().token(&alice).header("X-Service-Token", &alice);
    assert_eq!(edge.ask(itself).status, 401);
    let both = put().token(&alice).header("X-Service-Token", &glance);
    assert_eq!(edge.ask(both).status, 201);
    // A service token that is none spoils the user's.
    let object = Request::get(&edge.cloud.account("demo")).token(&alice);
    assert_eq!(edge.ask(object.header("X-Service-Token", "garbage")).status, 401);
}

#[test]
fn names_reach_swift_byte_for_byte() {
    let edge = Edge::start();
    let path = edge.container("bytes");
    let zofie = edge.cloud.token("zofie");
    // What was sent, and what Swift calls it.
    let names = [
        ("%E5%90%8D%E5%89%8D", "名前"),
        ("a//b", "a//b"),
        ("a%2F%2Fc", "a//c"),
        ("x/../y", "x/../y"),
        ("x/./z", "x/./z"),
        ("%3Fq=1", "?q=1"),
        ("a+b%20c", "a+b c"),
        ("%25%32%46", "%2F"),
        ("dir/", "dir/"),
    ];
    for (sent, name) in names {
        let object = format!("{path}/{sent}");
        let put = Request::new("PUT", &object).token(&zofie).body(name.as_bytes());
        assert_eq!(edge.ask(put).status, 201, "{name}");
        assert_eq!(edge.ask(Request::get(&object).token(&zofie)).text(), name);
    }
    let mut wanted: Vec<&str> = names.iter().map(|(_, name)| *name).chain(["o"]).collect();
    wanted.sort_unstable();
    let listed = edge.does("zofie", &["list", "bytes"]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, wanted);

    // nginx itself refuses what would climb above the root.
    let above = format!("{path}/../../../../o");
    assert_eq!(edge.ask(Request::get(&above).token(&zofie)).status, 400);
}

#[test]
fn odd_names_of_metadata_reach_swift_if_nginx_may_pass_them_on() {
    let server = "server_name objects.example.com;";
    for (more, is_kept) in [("", false), ("ignore_invalid_headers off;", true)] {
        let cloud = cloud();
        let mut sample = Sample::swift_edge(&cloud.keystone, cloud.swift.address());
        sample.set(server, &format!("{server}\n{more}"));
        let edge = Edge::of(cloud, sample);
        let object = format!("{}/o", edge.container(&format!("odd-metadata-{is_kept}")));
        let (alice, norole) = (edge.cloud.token("alice"), edge.cloud.token("norole"));
        let post = Request::new("POST", &object).token(&alice).header("X-Object-Meta-a.b", "dot");
        let post = post.header("X-Object-Meta-Größe", "m").header("X-Object-Meta-plain", "plain");
        assert_eq!(edge.ask(post).status, 202);
        let head = edge.ask(Request::head(&object).token(&alice));
        assert_eq!(head.header("X-Object-Meta-Plain"), Some("plain"));
        assert_eq!(head.header("X-Object-Meta-A.b"), is_kept.then_some("dot"));
        // Identities are no such names.
        let mut forged = Request::get(&object).token(&norole);
        for name in ["X_Roles", "X.Roles", "X~Roles", "X\u{e9}Roles"] {
            forged = forged.header(name, "admin,member,ResellerAdmin");
        }
        assert_eq!(edge.ask(forged).status, 403);
    }
}

#[test]
fn large_bodies_are_passed_on_as_they_come() {
    let edge = Edge::start();
    let path = edge.container("large");
    let bytes = vec![b'x'; 12_000_000];
    fs::write(edge.files.join("up"), &bytes).unwrap();
    let put = |user: &str, header: &str| {
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-T"])
            .arg(edge.files.join("up"))
            .args(["-H", header, "-H", &format!("X-Auth-Token: {}", edge.cloud.token(user))])
            .arg(format!("http://{}{path}/up", edge.nginx.address()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for header in ["Transfer-Encoding: chunked", "Expect: 100-continue", "Expect:"] {
        assert_eq!(put("alice", header), "201", "{header}");
        let got = edge.ask(Request::get(&format!("{path}/up")).token(&edge.cloud.token("bob")));
        assert!(got.body == bytes, "{header}: {} bytes", got.body.len());
        assert_eq!(put("bob", header), "403", "{header}");
    }
    let part = Request::get(&format!("{path}/up")).header("Range", "bytes=-5");
    let part = edge.ask(part.token(&edge.cloud.token("bob")));
    assert_eq!((part.status, part.text().as_str()), (206, "xxxxx"));
}

#[test]
fn a_bulk_request_acts_as_its_user() {
    let edge = Edge::start();
    edge.container("bulk");
    let account = edge.cloud.account("demo");
    let ask = |user: &str, method: &str, query: &str, body: &[u8]| {
        let request = Request::new(method, &format!("{account}{query}"));
        let request = request.token(&edge.cloud.token(user)).header("Accept", "application/json");
        let answer = edge.ask(request.header("Content-Type", "text/plain").body(body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().unwrap()
    };

    fs::write(edge.files.join("p"), "packed").unwrap();
    let tar = Command::new("tar").arg("-C").arg(edge.files.path()).args(["-cf", "-", "p"]).output();
    let made = ask("alice", "PUT", "/bulk?extract-archive=tar", &tar.unwrap().stdout);
    assert_eq!(made["Number Files Created"], 1, "{made}");
    assert_eq!(edge.does("alice", &["list", "bulk"]), "o\np\n");

    let kept = ask("bob", "POST", "?bulk-delete", b"bulk/o\nbulk/p\n");
    assert_eq!(
        (&kept["Number Deleted"], &kept["Errors"][0][1]),
        (&0.into(), &"403 Forbidden".into()),
        "{kept}"
    );
    let gone = ask("alice", "POST", "?bulk-delete", b"bulk/o\nbulk/p\n");
    assert_eq!(gone["Number Deleted"], 2, "{gone}");
    assert_eq!(edge.does("alice", &["list", "bulk"]), "");
}

#[test]
fn what_needs_no_token_has_none() {
    let edge = Edge::start();
    assert_eq!(edge.ask(Request::get("/healthcheck")).text(), "OK");
    assert_eq!(edge.ask(Request::get("/info")).json().unwrap()["swift"]["version"], "2.38.3");
    // What nginx takes for that is that to Swift too, and not an object that Swift would make.
    let path = edge.container("healthy");
    let disguised = format!("{path}/../../../healthcheck");
    let put = Request::new("PUT", &disguised).token(&edge.cloud.token("alice")).body(b"x");
    assert_ne!(edge.ask(put).status, 201);
    assert_eq!(edge.does("alice", &["list", "healthy"]), "o\n");
    assert_eq!(edge.ask(Request::get(&disguised)).text(), "OK");

    // A temporary URL carries its own permission.
    let path = edge.container("temporary");
    edge.does("alice", &["post", "-m", "Temp-URL-Key:secret"]);
    let object = format!("{path}/o");
    let url = edge.does("alice", &["tempurl", "GET", "600", &object, "secret"]);
    assert_eq!(edge.ask(Request::get(url.trim_end())).text(), "content");
    let forged = url.trim_end().replace("/o?", "/p?");
    assert_eq!(edge.ask(Request::get(&forged)).status, 401);
}

#[test]
fn an_application_credential_keeps_to_its_rules() {
    let edge = Edge::start();
    edge.container("pub");
    let limited = edge.cloud.keystone.application_credential("rules").unwrap();
    let path = edge.path("pub/o");
    assert_eq!(edge.ask(Request::get(&path).token(&limited)).text(), "content");
    assert_eq!(edge.ask(Request::new("PUT", &path).token(&limited).body(b"x")).status, 401);
    assert_eq!(edge.ask(Request::get(&edge.path("kept")).token(&limited)).status, 401);
    let plain = edge.cloud.keystone.application_credential("plain").unwrap();
    assert_eq!(edge.ask(Request::get(&path).token(&plain)).text(), "content");
}

/// A request of another cluster that synchronises a container, signed for its key.
pub fn synced(method: &str, path: &str, key: &str) -> Request {
    let (time, nonce) = ("1700000000.00000", "nonce");
    let realm = PKey::hmac(b"realm-key").unwrap();
    let mut signer = Signer::new(MessageDigest::sha1(), &realm).unwrap();
    signer.update(format!("{method}\n{path}\n{time}\n{nonce}\n{key}").as_bytes()).unwrap();
    let signature: String =
        signer.sign_to_vec().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    Request::new(method, path)
        .header("X-Timestamp", time)
        .header("X-Container-Sync-Auth", format!("realm {nonce} {signature}"))
}

#[test]
fn another_cluster_synchronises_a_container() {
    let edge = Edge::start();
    let path = edge.container("synced");
    let alice = edge.cloud.token("alice");
    let key = Request::new("POST", &path).token(&alice).header("X-Container-Sync-Key", "key");
    assert_eq!(edge.ask(key).status, 204);
    let object = format!("{path}/from-elsewhere");
    let put = |key: &str| synced("PUT", &object, key).body(b"synced");
    assert_eq!(edge.ask(put("another")).status, 401);
    assert_eq!(edge.ask(put("key")).status, 201);
    assert_eq!(edge.ask(Request::get(&object).token(&alice)).text(), "synced");
    // With the key alone, as before there were realms.
    let by_key = |key: &str| {
        let put = Request::new("PUT", &object).header("X-Container-Sync-Key", key);
        put.header("X-Timestamp", "1700000001.00000").body(b"by key")
    };
    assert_eq!(edge.ask(by_key("another")).status, 401);
    assert_eq!(edge.ask(by_key("key")).status, 201);
    assert_eq!(edge.ask(Request::get(&object).token(&alice)).text(), "by key");
    assert_eq!(edge.ask(synced("DELETE", &object, "another")).status, 401);

    // The gateway knows neither key.
    let mut sample = Sample::swift_edge(&edge.cloud.keystone, edge.cloud.swift.address());
    let on = "keystone_service_type object-store; keystone_swift_auth on; \
              keystone_swift_operator_roles admin member;";
    sample.set("keystone_service_type object-store;", on);
    let judging = Edge::of(edge.cloud.clone(), sample);
    assert_eq!(judging.status(Some("alice"), &object), 200);
    assert_eq!(judging.ask(put("key")).status, 401);
    assert_eq!(judging.ask(by_key("key")).status, 401);
    assert_eq!(judging.ask(synced("DELETE", &object, "key")).status, 401);
    assert_eq!(judging.status(Some("alice"), &object), 200);
}

#[test]
fn swift_does_not_get_the_token() {
    let edge = Edge::start();
    let echo = Upstream::start().unwrap();
    let sample = Sample::swift_edge(&edge.cloud.keystone, echo.address());
    let nginx = sample.start(auto());
    let (alice, glance) = (edge.cloud.token("alice"), edge.cloud.token("glance"));
    let request = Request::get("/v1/AUTH_x").token(&alice).header("X-Service-Token", &glance);
    let seen = Seen::of(&nginx.send(&request).unwrap()).unwrap();
    assert_eq!(seen.header("X-User-Name").as_deref(), Some("alice"));
    assert_eq!(seen.header("X-Service-User-Name").as_deref(), Some("glance"));
    for name in ["X-Auth-Token", "X-Service-Token", "X-Storage-Token"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}
