//! `swift-edge.conf` in front of a Swift with `contrib/keystone-edge`, where other Swifts have
//! authtoken.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use keystone_testbed::http::{Client, Request, Response};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::process::at_exit;
use keystone_testbed::sample::Sample;
use keystone_testbed::swift::Swift;

use crate::clients::said;
use crate::cloud::cloud;
use crate::edge::{synced, Edge};

/// A Swift with the filter, and what it needs.
struct Filtered {
    swift: Swift,
    _memcached: Memcached,
}

static FILTERED: Mutex<Option<Arc<Filtered>>> = Mutex::new(None);

/// The Swift that the tests of this file share; it ends with the program.
fn filtered() -> Arc<Filtered> {
    let mut filtered = FILTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let filtered = filtered.get_or_insert_with(|| {
        let memcached = Memcached::start().unwrap();
        let swift = Swift::start_with_filter(&cloud().keystone, &memcached);
        at_exit(end);
        let swift = swift.unwrap_or_else(|error| panic!("{error}"));
        Arc::new(Filtered { swift, _memcached: memcached })
    });
    Arc::clone(filtered)
}

extern "C" fn end() {
    drop(FILTERED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// A gateway in front of it, and itself.
fn start(edit: impl FnOnce(&mut Sample)) -> (Edge, Arc<Filtered>) {
    let (cloud, filtered) = (cloud(), filtered());
    let mut sample = Sample::swift_edge(&cloud.keystone, filtered.swift.address());
    edit(&mut sample);
    (Edge::of(cloud, sample), filtered)
}

#[test]
fn a_user_of_keystone_passes_s3token() {
    let (edge, _filtered) = start(|_| {});
    let path = edge.container("s3token");
    assert_eq!(edge.does("bob", &["download", "s3token", "o", "-o", "-"]), "content");
    assert_eq!(edge.status(Some("carol"), &format!("{path}/o")), 403);
    assert_eq!(edge.status(None, &format!("{path}/o")), 401);
}

/// What rclone does with the API of S3, as a user of Keystone with EC2 credentials.
fn s3(edge: &Edge, (access, secret): &(String, String), words: &[&str]) -> (bool, String) {
    let mut command = Command::new("rclone");
    command.env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("RCLONE_CONFIG_R_TYPE", "s3"),
        ("RCLONE_CONFIG_R_PROVIDER", "Other"),
        ("RCLONE_CONFIG_R_ACCESS_KEY_ID", access),
        ("RCLONE_CONFIG_R_SECRET_ACCESS_KEY", secret),
        ("RCLONE_CONFIG_R_ENDPOINT", &format!("http://{}", edge.address())),
    ]);
    command.args(["--retries", "1", "--low-level-retries", "1"]).args(words);
    command.env("HOME", edge.files.path()).current_dir(edge.files.path());
    said(&command.output().unwrap_or_else(|error| panic!("running rclone: {error}")))
}

#[test]
fn s3_signatures_are_those_of_keystone_s_users() {
    let (edge, _filtered) = start(|_| {});
    let of = |user| edge.cloud.keystone.ec2_credentials(user).unwrap();
    let (alice, bob, carol) = (of("alice"), of("bob"), of("carol"));
    fs::write(edge.files.join("up"), "signed").unwrap();
    for words in [&["mkdir", "r:signed"][..], &["copyto", "up", "r:signed/o"]] {
        let (is_done, text) = s3(&edge, &alice, words);
        assert!(is_done, "{words:?}: {text}");
    }
    // The bucket is a container, and roles are what they are to Swift.
    assert_eq!(edge.does("alice", &["download", "signed", "o", "-o", "-"]), "signed");
    let (is_done, text) = s3(&edge, &bob, &["cat", "r:signed/o"]);
    assert!(is_done && text.contains("signed"), "{text}");
    let denied = [
        (&bob, &["copyto", "up", "r:signed/p"][..]),
        (&carol, &["cat", "r:signed/o"]),
        (&(alice.0.clone(), bob.1.clone()), &["cat", "r:signed/o"]),
        (&("unknown".to_owned(), alice.1.clone()), &["cat", "r:signed/o"]),
    ];
    for (credentials, words) in denied {
        let (is_done, text) = s3(&edge, credentials, words);
        assert!(!is_done && !text.contains("signed"), "{words:?} of {credentials:?}: {text}");
    }
    assert_eq!(edge.status(Some("alice"), &edge.path("signed/p")), 404);
    let (is_done, text) = s3(&edge, &alice, &["purge", "r:signed"]);
    assert!(is_done, "{text}");
    assert_eq!(edge.status(Some("alice"), &edge.path("signed")), 404);
}

#[test]
fn bulk_requests_act_as_their_user_in_front_of_keystoneauth() {
    let (edge, _filtered) = start(|_| {});
    edge.container("bulk");
    let account = edge.cloud.account("demo");
    let ask = |user: &str, method: &str, query: &str, body: &[u8]| {
        let request = Request::new(method, &format!("{account}{query}"));
        let request = request.token(&edge.cloud.token(user)).header("Accept", "application/json");
        edge.ask(request.header("Content-Type", "text/plain").body(body)).json().unwrap()
    };

    fs::write(edge.files.join("p"), "packed").unwrap();
    let tar = Command::new("tar").arg("-C").arg(edge.files.path()).args(["-cf", "-", "p"]).output();
    let made = ask("alice", "PUT", "/bulk?extract-archive=tar", &tar.unwrap().stdout);
    assert_eq!(made["Number Files Created"], 1, "{made}");
    let kept = ask("bob", "POST", "?bulk-delete", b"bulk/o\n");
    assert_eq!(kept["Errors"][0][1], "403 Forbidden", "{kept}");
    edge.does("alice", &["delete", "bulk"]);
    assert_eq!(edge.status(Some("alice"), &edge.path("bulk")), 404);
}

#[test]
fn access_rules_for_an_object_allow_no_bulk_request() {
    let (edge, _filtered) = start(|_| {});
    edge.container("a.b");
    let path = edge.path("a.b/c");
    let token = edge.cloud.keystone.application_credential("rules").unwrap();
    let put = |query: &str, body: &[u8]| {
        let request = Request::new("PUT", &format!("{path}{query}")).token(&token);
        edge.ask(request.header("Accept", "application/json").body(body))
    };
    // A rule allows this object. Behind authtoken, Swift asks for each object of an archive.
    assert_eq!(put("", b"content").status, 201);
    fs::write(edge.files.join("p"), "packed").unwrap();
    let tar = Command::new("tar").arg("-C").arg(edge.files.path()).args(["-cf", "-", "p"]).output();
    let tar = tar.unwrap().stdout;
    for query in ["?extract-archive=tar", "?a&extract%2Darchive=tar", "?a#&extract-archive=tar"] {
        let answer = put(query, &tar).json().unwrap();
        assert_eq!(answer["Number Files Created"], 0, "{query}: {answer}");
    }
    assert_eq!(edge.status(Some("alice"), &format!("{path}/p")), 404);
}

#[test]
fn an_acl_by_names_admits_its_user_and_no_namesake() {
    let (edge, _filtered) = start(|_| {});
    let path = edge.container("names");
    let object = format!("{path}/o");
    edge.share(&path, "other:carol");
    assert_eq!(edge.status(Some("carol"), &object), 200);
    edge.share(&path, "demo:alice,*:alice");
    assert_eq!(edge.status(Some("alice@Elsewhere"), &object), 403);
    let namesake = edge.cloud.keystone.user("alice@Elsewhere").unwrap();
    edge.share(&path, &format!("*:{namesake}"));
    assert_eq!(edge.status(Some("alice@Elsewhere"), &object), 200);
}

#[test]
fn an_acl_may_have_names_beyond_ascii() {
    let (edge, _filtered) = start(|_| {});
    let path = edge.container("accents");
    let object = format!("{path}/o");
    assert_eq!(edge.status(Some("norole"), &object), 403);
    edge.share(&path, "Rôle-été");
    assert_eq!(edge.status(Some("norole"), &object), 200);
    assert_eq!(edge.status(Some("carol"), &object), 403);
}

#[test]
fn the_account_knows_its_domain() {
    let (edge, _filtered) = start(|_| {});
    edge.container("domain");
    let head = Request::head(&edge.cloud.account("demo")).token(&edge.cloud.token("alice"));
    let answer = edge.ask(head);
    assert_eq!(answer.header("X-Account-Project-Domain-Id"), Some("default"), "{answer:?}");
}

#[test]
fn tempauth_works_where_the_gateway_passes_its_tokens() {
    let (edge, _filtered) = start(|sample| {
        sample.set("keystone_forward_token off;\n\n            # nginx could", "\n # nginx could");
    });
    let path = edge.container("tempauth");
    let login = Request::get("/auth/v1.0");
    let login = login.header("X-Auth-User", "temporary:tester").header("X-Auth-Key", "testing");
    let login = edge.ask(login);
    let token = login.header("X-Auth-Token").unwrap_or_else(|| panic!("{login:?}")).to_owned();
    let put = Request::new("PUT", "/v1/TEMP_temporary/own").token(&token);
    assert_eq!(edge.ask(put).status, 201);
    // Neither kind of token opens what is the other's. Swift 2.38 answers 500, as with authtoken:
    // keystoneauth leaves a tuple in REMOTE_USER, where TempAuth looks for a string.
    assert_ne!(edge.ask(Request::get(&path).token(&token)).status, 200);
    assert_ne!(edge.status(Some("alice"), "/v1/TEMP_temporary/own"), 200);
    assert_eq!(edge.status(Some("alice"), &path), 200);
}

#[test]
fn another_cluster_synchronises_a_container_in_front_of_keystoneauth() {
    let (edge, _filtered) = start(|_| {});
    let path = edge.container("synced");
    let key = Request::new("POST", &path).token(&edge.cloud.token("alice"));
    assert_eq!(edge.ask(key.header("X-Container-Sync-Key", "key")).status, 204);
    let object = format!("{path}/from-elsewhere");
    assert_eq!(edge.ask(synced("PUT", &object, "another").body(b"synced")).status, 401);
    assert_eq!(edge.ask(synced("PUT", &object, "key").body(b"synced")).status, 201);
    assert_eq!(edge.status(Some("alice"), &object), 200);
}

#[test]
fn only_the_gateway_may_set_an_identity() {
    let (edge, filtered) = start(|_| {});
    let object = format!("{}/o", edge.container("direct"));
    let demo = edge.cloud.keystone.project("demo").unwrap();
    let forged = |method: &str, path: &str| {
        Request::new(method, path)
            .header("X-Identity-Status", "Confirmed")
            .header("X-Project-Id", &demo)
            .header("X-User-Id", "alice")
            .header("X-Roles", "admin,ResellerAdmin")
            .token("keystone-edge")
    };
    let from = |source: [u8; 4], request: &Request| -> Response {
        let connection = Client::connect_from(source.into(), filtered.swift.address());
        connection.unwrap().send(request).unwrap()
    };
    // The address is all that makes the gateway.
    assert_eq!(from([127, 0, 0, 1], &forged("GET", &object)).status, 200);
    assert_eq!(from([127, 0, 0, 2], &forged("GET", &object)).status, 401);
    let delete = forged("POST", &format!("{}?bulk-delete", edge.cloud.account("demo")));
    let delete = delete.header("Content-Type", "text/plain").header("Accept", "application/json");
    let answer = from([127, 0, 0, 2], &delete.body(b"direct/o\n"));
    assert_eq!(answer.json().unwrap()["Number Deleted"], 0, "{}", answer.text());
    assert_eq!(edge.status(Some("alice"), &object), 200);
    // What is for everybody stays so.
    edge.share(&edge.path("direct"), ".r:*");
    assert_eq!(from([127, 0, 0, 2], &Request::get(&object)).text(), "content");
}
