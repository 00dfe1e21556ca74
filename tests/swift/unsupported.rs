//! What Swift does and `static-swift.conf` does not: it is refused, not ignored.

use std::fs;

use keystone_testbed::http::Request;

use crate::store::Store;

#[test]
fn what_the_client_cannot_do_here_it_is_told() {
    let Some(store) = Store::start() else { return };
    let path = store.container("refusing");
    store.put("alice", &format!("{path}/folder/deep"), b"deep");
    fs::write(store.nginx.dir().join("up"), [b'x'; 100]).unwrap();
    store.does_not("alice", &["post", "refusing", "o", "-m", "colour:blue"], 405);
    store.does_not("alice", &["post", "refusing", "-r", ".r:*"], 405);
    store.does_not("alice", &["post", "another", "-r", ".r:*"], 501);
    store.does_not("alice", &["post", "-m", "colour:blue"], 405);
    store.does_not("alice", &["copy", "-d", "/refusing/p", "refusing", "o"], 403);
    store.does_not("alice", &["upload", "refusing", "up", "-S", "30"], 501);
    store.does_not("alice", &["upload", "refusing", "up", "-H", "X-Delete-After: 60"], 501);
    store.does_not("alice", &["list", "refusing", "-p", "folder/"], 501);
    for listing in [&path, &store.account()] {
        assert_eq!(store.status(Some("alice"), &format!("{listing}?reverse=true")), 501);
    }
    store.does_not("alice", &["delete", "refusing", "folder"], 409);
    assert_eq!(store.get(Some("alice"), &format!("{path}/folder/deep")).1, "deep");
    // The sums and dates that it wants are not there.
    fs::write(store.nginx.dir().join("o"), "content").unwrap();
    let identical = ["upload", "refusing", "o", "--skip-identical"];
    assert_eq!(store.swift("alice", &identical).code, 1);
    assert_eq!(store.swift("alice", &["list", "-l", "refusing"]).code, 1);
    let every = store.swift("alice", &["download", "refusing", "--no-download"]);
    assert_eq!(every.code, 1);
    assert!(every.stderr.contains("refusing/folder' not found"), "{every:?}");
    let object = format!("{path}/o");
    let url = store.does("alice", &["tempurl", "GET", "600", &object, "secret"]);
    assert_eq!(store.status(None, url.trim_end()), 401);
    // It creates a container; its other headers are not stored.
    store.does("alice", &["post", "forgetful", "-m", "colour:blue"]);
    assert!(!store.does("alice", &["stat", "forgetful"]).contains("blue"));
    // It deletes what is on the first level, and leaves the folders.
    store.does_not("alice", &["delete", "refusing"], 409);
    assert_eq!(store.does("alice", &["list", "refusing"]), "folder\n");
}

#[test]
fn headers_that_ask_for_more_than_a_file_change_nothing() {
    let Some(store) = Store::start() else { return };
    let object = format!("{}/o", store.container("wishes"));
    for (name, value) in [
        ("X-Copy-From", "wishes/o"),
        ("X-Symlink-Target", "wishes/o"),
        ("X-Object-Manifest", "wishes/o"),
        ("X-Delete-At", "2000000000"),
        ("X-Delete-After", "60"),
        ("If-None-Match", "*"),
        ("If-Match", "0123456789abcdef0123456789abcdef"),
    ] {
        let put = Request::new("PUT", &object).header(name, value).body(b"changed");
        assert_eq!(store.ask_as("alice", put).status, 501, "{name}");
    }
    for arguments in ["multipart-manifest=put", "extract-archive=tar.gz", "a&version-id=1"] {
        assert_eq!(store.put("alice", &format!("{object}?{arguments}"), b"[]"), 501, "{arguments}");
    }
    // nginx makes a file of nothing but what has a length.
    assert_eq!(store.ask_as("alice", Request::new("PUT", &object)).status, 411);
    assert_eq!(store.get(Some("alice"), &object), (200, "content".into()));
    let chunks = Request::new("PUT", &object).header("Transfer-Encoding", "chunked");
    let mut client = store.nginx.connect().unwrap();
    client.write(&chunks.token(&store.cloud.token("alice")).bytes()).unwrap();
    client.write(b"3\r\nabc\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.read(false).unwrap().status, 204);
    assert_eq!(store.get(Some("alice"), &object), (200, "abc".into()));
}

#[test]
fn a_container_keeps_no_versions_and_no_other_promise() {
    let Some(store) = Store::start() else { return };
    let path = store.container("promised");
    store.share("promised", r#"{"read": ".r:*"}"#);
    let other = format!("{}/other", store.account());
    for (name, value) in [
        ("X-Versions-Enabled", "true"),
        ("X-Versions-Location", "versions"),
        ("X-History-Location", "versions"),
        ("X-Container-Sync-To", "//realm/cluster/account/container"),
        ("X-Container-Write", "*:*"),
        ("X-Remove-Container-Read", "x"),
        ("X-Remove-Container-Write", "x"),
    ] {
        for container in [&path, &other] {
            let put = Request::new("PUT", container).header(name, value).body(b"");
            assert_eq!(store.ask_as("alice", put).status, 501, "{name} {container}");
        }
    }
    assert_eq!(store.put("alice", &format!("{path}?extract-archive=tar"), b"x"), 501);
    assert!(!store.file(&other).exists());
    assert_eq!(store.get(None, &format!("{path}/o")), (200, "content".into()));
}

#[test]
fn another_version_is_not_the_object() {
    let Some(store) = Store::start() else { return };
    let object = format!("{}/o", store.container("versions"));
    let version = format!("{object}?version-id=1700000000.00000");
    assert_eq!(store.delete("alice", &version), 501);
    assert_eq!(store.status(Some("alice"), &version), 501);
    assert_eq!(store.get(Some("alice"), &object), (200, "content".into()));
}

#[test]
fn containers_are_not_synchronised() {
    let Some(store) = Store::start() else { return };
    let object = format!("{}/o", store.container("synced"));
    for (name, value) in
        [("X-Container-Sync-Key", "key"), ("X-Container-Sync-Auth", "realm nonce signature")]
    {
        let put = Request::new("PUT", &object).header(name, value);
        let put = put.header("X-Timestamp", "1700000000.00000").body(b"synced");
        assert_eq!(store.ask(put).status, 401, "{name}");
    }
    assert_eq!(store.get(Some("alice"), &object), (200, "content".into()));
}
