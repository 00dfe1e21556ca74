//! The configurations of the README and of `nginx-conf/`, but for those that need a real Keystone
//! or Swift: see `keystone_today`.

use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::{send, Client, Request};
use keystone_testbed::identity::{Identity, Tls};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::{new_fernet, new_uuid, Payload};
use keystone_testbed::pki::{Pki, TlsFiles};
use keystone_testbed::port::Port;
use keystone_testbed::sample::{auto, Sample};
use keystone_testbed::upstream::{Seen, Upstream};
use keystone_testbed::{wait_for, wait_within};
use serde_json::json;

#[test]
fn static_files() {
    let pki = Pki::new().unwrap();
    let identity = Identity::start(&pki).unwrap();
    let mut sample = Sample::of_identity("static-files.conf", &identity);
    sample.set("listen 80;", "listen 127.0.0.1:@PORT@;");
    sample.set("/srv/files", "@DIR@/files");
    sample.file("files/hello.txt", "hello");
    sample.file("files/public/hello.txt", "hello, all");
    sample.file("files/staff/hello.txt", "hello, staff");
    sample.file("files/projects/tenant_id1/hello.txt", "hello, project");
    sample.file("files/projects/other/hello.txt", "hello, other project");
    let nginx = sample.start(auto());

    let member = Payload::v3().pki(&pki.signing).unwrap();
    let staff = Payload::v3().roles(&["member", "Staff"]).pkiz(&pki.signing).unwrap();
    let get = |path: &str, token: &str| {
        let answer = nginx.send(&Request::get(path).token(token)).unwrap();
        (answer.status, answer.text())
    };
    assert_eq!(nginx.send(&Request::get("/hello.txt")).unwrap().status, 401);
    assert_eq!(get("/hello.txt", &member), (200, "hello".into()));
    assert_eq!(nginx.send(&Request::get("/public/hello.txt")).unwrap().text(), "hello, all");
    expect::forbidden(&nginx.send(&Request::get("/staff/hello.txt").token(&member)).unwrap());
    assert_eq!(get("/staff/hello.txt", &staff), (200, "hello, staff".into()));
    assert_eq!(get("/projects/tenant_id1/hello.txt", &member), (200, "hello, project".into()));
    assert_eq!(get("/projects/other/hello.txt", &member).0, 403);
    // A request counts when it has ended, when its client may have read the answer already.
    wait_for("three requests to be counted", || {
        let status = nginx.send(&Request::get("/keystone_status")).ok()?.json().ok()?;
        (status["requests"]["ok"] == 3).then_some(())
    })
    .unwrap();
    let log = nginx.wait_for_access_log(7).unwrap();
    assert!(log.contains("result=ok") && log.contains("result=forbidden"), "{log}");
}

#[test]
fn readme() {
    let pki = Pki::new().unwrap();
    let identity = Identity::start(&pki).unwrap();
    let mut sample = Sample::of_readme(&identity);
    sample.set("listen 80;", "listen 127.0.0.1:@PORT@;");
    sample.set("/srv/files", "@DIR@/files");
    sample.file("files/hello.txt", "hello");
    let nginx = sample.start(1);
    let status = |token: &str| {
        let answer = nginx.send(&Request::get("/hello.txt").token(token)).unwrap();
        assert!(answer.status != 200 || answer.text() == "hello");
        answer.status
    };
    let known = new_uuid();
    identity.know(&known, &Payload::v3());
    let signed = Payload::v3().pki(&pki.signing).unwrap();
    assert_eq!([signed, known, new_uuid()].map(|token| status(&token)), [200, 200, 401]);
    assert_eq!(nginx.send(&Request::get("/hello.txt")).unwrap().status, 401);
    nginx.wait_for_log("refused: no_token").unwrap();
}

#[test]
fn reverse_proxy() {
    let pki = Pki::new().unwrap();
    let identity = Identity::start(&pki).unwrap();
    let compute = Upstream::start().unwrap();
    // Any https server that wants a client certificate does for the image service.
    let files = TlsFiles::new().unwrap();
    let tls = Tls { files: &files, demand_client_certificate: true };
    let image = Identity::start_tls(&pki, &tls).unwrap();
    let image_port = Port::free().unwrap();

    let mut sample = Sample::of_identity("reverse-proxy.conf", &identity);
    sample.set("https://identity.example.com:35357", &identity.uri());
    sample.set("listen 8774;", "listen 127.0.0.1:@PORT@;");
    sample.set("listen 9292;", &format!("listen {};", image_port.address()));
    sample.set("10.0.0.20:8774", &compute.address().to_string());
    sample.set("10.0.0.21:9292", &image.address().to_string());
    sample.set("/etc/nginx/ssl/gateway.pem", &files.path("client.pem").display().to_string());
    sample.set("/etc/nginx/ssl/gateway.key", &files.path("client.key").display().to_string());
    sample.set("/etc/nginx/ssl/internal-ca.pem", &files.ca().display().to_string());
    sample.set("image.internal.example.com", "localhost");
    let image_address = image_port.address();
    drop(image_port);
    let nginx = sample.start(auto());

    let token = Payload::v3().pki(&pki.signing).unwrap();
    assert_eq!(nginx.send(&Request::get("/servers")).unwrap().status, 401);
    let forged = Request::get("/servers").token(&token).header("X-Authorization", "Proxy admin");
    let seen = Seen::of(&nginx.send(&forged).unwrap()).unwrap();
    expect::v3_user(&seen);
    assert_eq!(seen.header("X-Authorization").as_deref(), Some("Proxy user_name1"));

    let versions =
        Request::get("/").header("X-User-Id", "admin").header("X-Authorization", "Proxy x");
    let seen = Seen::of(&nginx.send(&versions).unwrap()).unwrap();
    expect::no_identity(&seen);
    assert_eq!(seen.header("X-Authorization"), None);

    assert_eq!(send(image_address, &Request::get("/")).unwrap().status, 401);
    let answer = send(image_address, &Request::get("/").token(&token)).unwrap();
    assert_eq!(answer.status, 300, "{}", answer.text());
    assert_eq!(image.requests(), ["GET /"]);
}

#[test]
fn tls_workers() {
    let pki = Pki::new().unwrap();
    let identity = Identity::start(&pki).unwrap();
    let files = TlsFiles::new().unwrap();
    let mut sample = Sample::of_identity("tls-workers.conf", &identity);
    sample.set("listen 443 ssl http2;", "listen 127.0.0.1:@PORT@ ssl http2;");
    sample.set("/srv/files", "@DIR@/files");
    sample.set("/etc/nginx/ssl/server.pem", &files.path("server.pem").display().to_string());
    sample.set("/etc/nginx/ssl/server.key", &files.path("server.key").display().to_string());
    sample.file("files/hello.txt", "hello");
    let nginx = sample.start(4);

    let token = Payload::v3().pki(&pki.signing).unwrap();
    let connect = || Client::connect_tls(nginx.address(), "localhost", &files.ca(), None).unwrap();
    assert_eq!(connect().send(&Request::get("/hello.txt")).unwrap().status, 401);
    for _ in 0..20 {
        let answer = connect().send(&Request::get("/hello.txt").token(&token)).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    // One worker has verified the token, for all.
    let log = nginx.wait_for_access_log(21).unwrap();
    assert_eq!(log.matches("cache=MISS").count(), 1, "{log}");
    assert_eq!(log.matches("cache=HIT").count(), 19, "{log}");
}

#[test]
fn oauth2() {
    let identity = Identity::start(&Pki::new().unwrap()).unwrap();
    let service = Upstream::start().unwrap();
    let files = TlsFiles::new().unwrap();
    let owner = files.client("owner", 21).unwrap().pem().unwrap();
    files.client("other", 22).unwrap();
    let path = |name: &str| files.path(name).display().to_string();
    let mut sample = Sample::of_identity("oauth2.conf", &identity);
    sample.set("listen 443 ssl;", "listen 127.0.0.1:@PORT@ ssl;");
    sample.set("10.0.0.20:8774", &service.address().to_string());
    sample.set("/etc/nginx/ssl/server.pem", &path("server.pem"));
    sample.set("/etc/nginx/ssl/server.key", &path("server.key"));
    sample.set("/etc/nginx/ssl/clients-ca.pem", &path("ca.pem"));
    let nginx = sample.start(auto());

    let (free, bound) = (new_fernet(), new_fernet());
    identity.know(&free, &Payload::v3());
    identity.know(&bound, &Payload::v3().bound_to_certificate(&owner));
    let ask = |client: Option<&str>, path: &str, name: &str, value: &str| {
        let own = client.map(|client| {
            (files.path(&format!("{client}.pem")), files.path(&format!("{client}.key")))
        });
        let ca = files.ca();
        let mut client = Client::connect_tls(nginx.address(), "localhost", &ca, own).unwrap();
        client.send(&Request::get(path).header(name, value)).unwrap()
    };
    let [bearer_free, bearer_bound] = [&free, &bound].map(|token| format!("Bearer {token}"));
    let (owner, other) = (Some("owner"), Some("other"));
    for (client, path, name, value, status) in [
        (None, "/servers", "Authorization", &bearer_free, 200),
        (None, "/servers", "X-Auth-Token", &free, 200),
        (owner, "/servers", "Authorization", &bearer_bound, 200),
        (owner, "/servers", "X-Auth-Token", &bound, 200),
        (other, "/servers", "Authorization", &bearer_bound, 401),
        (None, "/servers", "X-Auth-Token", &bound, 401),
        (owner, "/mtls/servers", "Authorization", &bearer_bound, 200),
        (owner, "/mtls/servers", "X-Auth-Token", &bound, 401),
        (other, "/mtls/servers", "Authorization", &bearer_bound, 401),
        (owner, "/mtls/servers", "Authorization", &bearer_free, 401),
    ] {
        let answer = ask(client, path, name, value);
        assert_eq!(answer.status, status, "{client:?} {path} {name}");
        match status {
            200 => expect::v3_user(&Seen::of(&answer).unwrap()),
            _ => assert_eq!(answer.headers.all("WWW-Authenticate").count(), 2),
        }
    }
}

#[test]
fn fernet_fleet() {
    let identity = Identity::start(&Pki::new().unwrap()).unwrap();
    let (objects, image) = (Upstream::start().unwrap(), Upstream::start().unwrap());
    let servers = [Memcached::start().unwrap(), Memcached::start().unwrap()];
    let sample = |image_port: &Port| {
        let mut sample = Sample::of_identity("fernet-fleet.conf", &identity);
        sample.set("listen 8080;", "listen 127.0.0.1:@PORT@;");
        sample.set("listen 9292;", &format!("listen {};", image_port.address()));
        sample.set("10.0.0.30:8080", &objects.address().to_string());
        sample.set("10.0.0.21:9292", &image.address().to_string());
        sample.set("10.0.0.40:11211", &servers[0].server());
        sample.set("10.0.0.41:11211", &servers[1].server());
        sample.set("/etc/nginx/memcached.key", "@DIR@/memcached.key");
        sample.file("memcached.key", "a long random text\n");
        sample
    };
    let ports = [Port::free().unwrap(), Port::free().unwrap()];
    let [one, other] = ports.each_ref().map(|port| sample(port).start(auto()));

    let member = new_fernet();
    identity.know(&member, &Payload::v3());
    let with_token = Request::get("/v1/AUTH_tenant_id1").token(&member);
    expect::v3_user(&Seen::of(&one.send(&with_token).unwrap()).unwrap());
    let answer = send(ports[0].address(), &with_token).unwrap();
    expect::v3_user(&Seen::of(&answer).unwrap());

    // The object store decides about what comes without a token, the image service is not asked.
    for path in ["/v1/AUTH_tenant_id1/public", "/healthcheck"] {
        let answer = one.send(&Request::get(path).header("X-User-Id", "admin")).unwrap();
        expect::no_identity(&Seen::of(&answer).unwrap());
    }
    let unknown = Request::get("/v1/AUTH_tenant_id1").token(&new_uuid());
    expect::no_identity(&Seen::of(&one.send(&unknown).unwrap()).unwrap());
    assert_eq!(send(ports[0].address(), &Request::get("/v2/images")).unwrap().status, 401);
    assert_eq!(image.requests().len(), 1);

    // Its access rules tell the two services apart.
    let rules = json!([{"id": "1", "service": "image", "method": "GET", "path": "/v2/**"}]);
    let limited = new_fernet();
    identity.know(&limited, &Payload::v3().access_rules(rules));
    let images = Request::get("/v2/images").token(&limited);
    expect::v3_user(&Seen::of(&send(ports[0].address(), &images).unwrap()).unwrap());
    let objects = Request::get("/v2/images").token(&limited);
    expect::no_identity(&Seen::of(&one.send(&objects).unwrap()).unwrap());

    // Once it has had the revocation events, the other gateway has answers from memcached, unless
    // that is too slow on a busy machine: then it is left alone for 15 seconds.
    wait_within(Duration::from_secs(60), "the other gateway to take the word of the first", || {
        let token = new_fernet();
        identity.know(&token, &Payload::v3());
        let request = Request::get("/v1/AUTH_tenant_id1").token(&token);
        for gateway in [&one, &other] {
            expect::v3_user(&Seen::of(&gateway.send(&request).unwrap()).unwrap());
        }
        let asked = identity.validations().iter().filter(|asked| **asked == token).count();
        (asked == 1).then_some(())
    })
    .unwrap();
    expect::v3_user(&Seen::of(&other.send(&with_token).unwrap()).unwrap());

    let scrape = Request::get("/keystone_status").header("Accept", "text/plain");
    let status = other.send(&scrape).unwrap().text();
    assert!(status.contains("path=\"memcached\",result=\"ok\"}"), "{status}");
    let log = one.wait_for_access_log(8).unwrap();
    let line = log.lines().next().unwrap();
    assert!(line.contains(" user_id1 [") && line.contains("result=ok"), "{log}");
    assert!(log.contains("result=unknown_token") && log.contains("result=no_token"), "{log}");
    assert!(!log.contains("/healthcheck") && !log.contains(&member), "{log}");
    let log = other.wait_for_access_log(1).unwrap();
    assert!(log.contains("result=ok") && log.contains("cache=MISS"), "{log}");

    // A token that is revoked is refused within five seconds, by both.
    identity.revoke_online(&member);
    for gateway in [&one, &other] {
        wait_for("it to be refused", || {
            let seen = Seen::of(&gateway.send(&with_token).unwrap()).unwrap();
            (seen.header("X-Identity-Status").as_deref() == Some("Invalid")).then_some(())
        })
        .unwrap();
    }
    assert_eq!(send(ports[1].address(), &with_token).unwrap().status, 401);
}
