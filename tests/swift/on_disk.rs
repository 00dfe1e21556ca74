//! `static-swift.conf`: objects in files, authorised as Swift would.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt};

use keystone_testbed::http::Request;
use keystone_testbed::nginx::worker_ids;
use keystone_testbed::temp::{mode, set_mode};

use crate::store::Store;

#[test]
fn an_owner_keeps_objects_with_the_client() {
    let Some(store) = Store::start() else { return };
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(store.nginx.dir().join("up"), &bytes).unwrap();
    // There is nothing yet.
    assert_eq!(store.does("alice", &["list"]), "");
    assert_eq!(store.swift("alice", &["list", "kept"]).code, 1);

    store.does("alice", &["post", "kept"]);
    assert_eq!(store.does("alice", &["list"]), "kept\n");
    assert_eq!(store.does("alice", &["list", "kept"]), "");
    store.does("alice", &["stat", "kept"]);
    store.does("alice", &["upload", "kept", "up"]);
    store.does("alice", &["upload", "kept", "up", "--object-name", "folder/名前 1"]);
    // And again, over it, even if it is the same.
    store.does("alice", &["upload", "kept", "up"]);
    assert_eq!(store.does("alice", &["upload", "kept", "up", "--changed"]), "up\n");
    let file = store.file(&format!("{}/kept/folder/名前 1", store.account()));
    assert!(fs::read(file).unwrap() == bytes);

    // One level of it.
    let listed = store.does("alice", &["list", "kept"]);
    assert_eq!(listed, "folder\nup\n");
    let stat = store.does("alice", &["stat", "kept", "up"]);
    assert!(stat.contains("Content Length: 1200000"), "{stat}");
    for object in ["up", "folder/名前 1"] {
        store.does("alice", &["download", "kept", object, "-o", "down"]);
        assert!(fs::read(store.nginx.dir().join("down")).unwrap() == bytes, "{object}");
        store.does("alice", &["delete", "kept", object]);
        assert_eq!(store.swift("alice", &["stat", "kept", object]).code, 1);
    }
    assert!(store.does("alice", &["stat"]).contains("Account: AUTH_"));
    assert!(store.does("alice", &["info"]).contains("max_file_size"));
}

#[test]
fn a_name_that_is_not_utf_8_does_not_take_the_listings_away() {
    let Some(store) = Store::start() else { return };
    let path = store.container("named");
    for name in ["%8F%FF", "named/%FF", "named/%C3/x"] {
        let target = format!("{}/{name}", store.account());
        for method in ["PUT", "GET", "POST", "DELETE"] {
            let request = Request::new(method, &target).body(b"");
            assert_eq!(store.ask_as("alice", request).status, 412, "{method} {target}");
        }
    }
    assert_eq!(store.put("alice", &format!("{path}/{}", "n".repeat(256)), b"long"), 400);
    assert_eq!(store.does("alice", &["list"]), "named\n");
    assert_eq!(store.does("alice", &["list", "named"]), "o\n");
    assert!(!store.nginx.error_log().contains("[crit]"));
}

#[test]
fn roles_are_what_they_are_to_swift() {
    let Some(store) = Store::start() else { return };
    let path = store.container("roles");
    let object = format!("{path}/o");
    for (user, read, write) in
        [("alice", 200, 204), ("bob", 200, 403), ("carol", 403, 403), ("norole", 403, 403)]
    {
        assert_eq!(store.status(Some(user), &object), read, "{user}");
        assert_eq!(store.status(Some(user), &path), read, "{user}");
        assert_eq!(store.status(Some(user), &store.account()), read, "{user}");
        assert_eq!(store.put(user, &object, b"content"), write, "{user}");
        if write == 403 {
            assert_eq!(store.delete(user, &object), 403, "{user}");
            assert_eq!(store.put(user, &format!("{}/{user}", store.account()), b""), 403, "{user}");
        }
    }
    assert_eq!(store.get(Some("reseller"), &object), (200, "content".into()));
    // An account of their own.
    let other = format!("{}/c/o", store.cloud.account("other"));
    assert_eq!(store.put("carol", &other, b"carol's"), 201);
    assert_eq!(store.status(Some("alice"), &other), 403);
}

#[test]
fn access_needs_an_acl_that_allows_it() {
    let Some(store) = Store::start() else { return };
    let path = store.container("private");
    let challenge = store.ask(Request::get(&format!("{path}/o")));
    assert_eq!(challenge.status, 401);
    assert!(challenge.header("WWW-Authenticate").unwrap().starts_with("Keystone uri="));
    let no_such = format!("{path}/none");
    for target in [&path, &no_such, &store.account()] {
        assert_eq!(store.status(None, target), 401, "{target}");
        assert_eq!(store.ask(Request::get(target).token("garbage")).status, 401, "{target}");
        assert_eq!(store.ask(Request::head(target)).status, 401, "{target}");
        assert_eq!(store.ask(Request::new("PUT", target).body(b"")).status, 401, "{target}");
        assert_eq!(store.ask(Request::new("DELETE", target)).status, 401, "{target}");
    }
    let forged = Request::get(&path).header("X-Identity-Status", "Confirmed");
    assert_eq!(store.ask(forged.header("X-Roles", "admin")).status, 401);
    assert!(!store.file(&no_such).exists() && store.file(&format!("{path}/o")).exists());
}

#[test]
fn acls_are_in_a_file_beside_the_objects() {
    let Some(store) = Store::start() else { return };
    let path = store.container("shared");
    let object = format!("{path}/o");
    store.put("alice", &format!("{path}/folder/deep"), b"deep");

    store.share("shared", r#"{"read": ".r:*"}"#);
    assert_eq!(store.get(None, &object), (200, "content".into()));
    assert_eq!(store.ask(Request::get(&object).token("garbage")).text(), "content");
    assert_eq!(store.get(Some("carol"), &object), (200, "content".into()));
    assert_eq!(store.status(None, &format!("{path}/none")), 404);
    // Its names are not public, whatever they are asked for as.
    let listings = ["", "/", "//", "/%2F", "?format=json", "/?marker=", "/folder/..", "/./"];
    for listing in [&listings[..], &["/folder/", "/folder//"]].concat() {
        let answer = store.get(None, &format!("{path}{listing}"));
        assert!(
            [400, 401].contains(&answer.0) && !answer.1.contains("deep"),
            "{listing}: {answer:?}"
        );
    }
    // As objects, they are none.
    for none in ["/folder", "/folder/%0A", "/%0A", "/.container"] {
        assert_eq!(store.status(None, &format!("{path}{none}")), 404, "{none}");
    }
    assert_eq!(store.ask(Request::new("PUT", &object).body(b"x")).status, 401);

    store.share("shared", r#"{"read": ".r:*,.rlistings"}"#);
    let names = store.ask(Request::get(&format!("{path}?format=json"))).json().unwrap();
    let names: Vec<_> = names.as_array().unwrap().iter().map(|object| &object["name"]).collect();
    assert_eq!(names, ["folder", "o"]);

    let other = store.cloud.keystone.project("other").unwrap();
    store.share("shared", &format!(r#"{{"read": "{other}:*", "write": "{other}:*"}}"#));
    assert_eq!(store.status(None, &object), 401);
    assert_eq!(store.put("carol", &object, b"carol's"), 204);
    assert_eq!(store.get(Some("carol"), &object), (200, "carol's".into()));
    assert_eq!(store.put("carol", &path, b""), 403);
}

#[test]
fn files_that_are_no_objects_are_out_of_reach() {
    let Some(store) = Store::start() else { return };
    let path = store.container("safe");
    store.share("safe", r#"{"read": ".r:*,.rlistings", "write": "*:*"}"#);
    let account = store.account();
    let account = account.trim_start_matches("/v1/");
    fs::write(store.file("secret"), "secret").unwrap();
    symlink("/etc", store.file(&format!("{path}/etc"))).unwrap();
    symlink("/etc/hostname", store.file(&format!("{path}/link"))).unwrap();
    let targets = [
        format!("/.acl/{account}/safe"),
        format!("/v1/../.acl/{account}/safe"),
        format!("{path}/../../../.acl/{account}/safe"),
        format!("{path}/%2e%2e/%2e%2e/%2e%2e/.acl/{account}/safe"),
        format!("{path}/..%2f..%2f..%2fsecret"),
        format!("{path}/../../../secret"),
        format!("{path}/x/../../../../../etc/hostname"),
        format!("{path}/.container"),
        format!("{path}/etc/hostname"),
        format!("{path}/link"),
        "/secret".into(),
        "/.upload/0000000001".into(),
        "/v1".into(),
        "/v1/".into(),
        "/".into(),
    ];
    let token = store.cloud.token("alice");
    for target in &targets {
        for method in ["GET", "PUT", "DELETE"] {
            let request = Request::new(method, target).token(&token).body(b"");
            // Links are no objects to be read, but can be overwritten as names.
            if method != "GET" && (target.ends_with("/link") || target.contains("/etc/")) {
                continue;
            }
            let answer = store.ask(request);
            assert!([400, 404, 405].contains(&answer.status), "{method} {target}: {answer:?}");
        }
    }
    assert_eq!(fs::read_to_string(store.file("secret")).unwrap(), "secret");
    assert!(store.file(&format!(".acl/{account}/safe")).exists());
}

#[test]
fn no_container_and_no_folder_goes_with_what_is_in_it() {
    let Some(store) = Store::start() else { return };
    let path = store.container("whole");
    let deep = format!("{path}/folder/deep");
    store.put("alice", &deep, b"deep");
    let account = store.account();
    for target in [
        account.clone(),
        format!("{account}/"),
        path.clone(),
        format!("{path}/"),
        format!("{path}//"),
        format!("{path}/folder"),
        format!("{path}/folder/"),
        format!("{path}/folder/."),
        format!("{path}/folder/%2F"),
        format!("{path}/folder/deep/.."),
        format!("{path}/folder/%0A"),
        format!("{path}/%0A/../folder/"),
    ] {
        let infinite = Request::new("DELETE", &target).header("Depth", "infinity");
        let answer = store.ask_as("alice", infinite);
        assert!((400..500).contains(&answer.status), "{target}: {answer:?}");
        assert_eq!(store.get(Some("alice"), &deep), (200, "deep".into()), "{target}");
    }
    // Where the first two lead is in a header.
    for (method, status) in [("COPY", 403), ("MOVE", 403), ("MKCOL", 405), ("PROPFIND", 405)] {
        let destination = format!("http://{}{path}/moved", store.nginx.address());
        let request = Request::new(method, &deep).header("Destination", &destination);
        assert_eq!(store.ask_as("alice", request).status, status, "{method}");
    }
    // Nor does anything take their place.
    assert_eq!(store.put("alice", &account, b"file"), 405);
    assert_eq!(store.put("alice", &path, b""), 201);
    assert_eq!(store.put("alice", &path, &[b'x'; 2000]), 413);
    assert_eq!(store.put("alice", &format!("{path}/folder"), b"file"), 409);
    assert_eq!(store.put("alice", &format!("{path}/folder/"), b"file"), 404);
    assert_eq!(store.get(Some("alice"), &deep), (200, "deep".into()));
    assert_eq!(store.delete("alice", &deep), 204);
    assert_eq!(store.delete("alice", &deep), 404);
}

#[test]
fn a_container_without_objects_is_deleted() {
    let Some(store) = Store::start() else { return };
    let path = store.container("emptied");
    let deep = format!("{path}/folder/inner/deep");
    store.put("alice", &deep, b"deep");

    assert_eq!(store.delete("alice", &format!("{path}/o")), 204);
    assert_eq!(store.delete("alice", &path), 409);
    assert_eq!(store.get(Some("alice"), &deep), (200, "deep".into()));
    // The folders of the object stay, and are no objects.
    assert_eq!(store.delete("alice", &deep), 204);
    assert_eq!(store.delete("bob", &path), 403);
    assert_eq!(store.delete("carol", &path), 403);
    store.share("emptied", r#"{"read": ".r:*", "write": "*:*"}"#);
    assert_eq!(store.delete("carol", &path), 403);
    assert_eq!(store.ask(Request::new("DELETE", &path)).status, 401);
    assert!(store.file(&path).is_dir());
    assert_eq!(store.delete("alice", &path), 204);
    assert!(!store.file(&path).exists());
    assert_eq!(store.delete("alice", &path), 404);
    assert_eq!(store.does("alice", &["list"]), "");

    // One that the client has created, with a slash, and with a body.
    store.does("alice", &["post", "new"]);
    let new = format!("{}/new", store.account());
    let request = Request::new("DELETE", &format!("{new}/")).body(b"body");
    assert_eq!(store.ask_as("alice", request).status, 204);
    store.container("again");
    store.does("alice", &["delete", "again"]);
    assert_eq!(store.does("alice", &["list"]), "");
    assert_eq!(store.delete("alice", &store.account()), 403);
}

#[test]
fn a_link_is_no_container_and_no_empty_folder() {
    let Some(store) = Store::start() else { return };
    let path = store.container("linked");
    assert_eq!(store.delete("alice", &format!("{path}/o")), 204);
    let elsewhere = store.nginx.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    set_mode(&elsewhere, 0o777).unwrap();
    symlink(&elsewhere, store.file(&format!("{}/link", store.account()))).unwrap();
    for target in ["link", "link/"] {
        let status = store.delete("alice", &format!("{}/{target}", store.account()));
        assert!([403, 404].contains(&status), "{target}: {status}");
    }
    symlink(&elsewhere, store.file(&format!("{path}/link"))).unwrap();
    assert_eq!(store.delete("alice", &path), 409);
    assert!(elsewhere.is_dir() && store.file(&path).is_dir());
}

#[test]
fn a_path_that_is_two_to_nginx_is_none() {
    let Some(store) = Store::start() else { return };
    let path = store.container("straight");
    let other = format!("{}/c", store.cloud.account("other"));
    store.put("carol", &format!("{other}/o"), b"carol's");
    let target = format!("{path}/../..{}/o", other.trim_start_matches("/v1"));
    assert_eq!(store.status(Some("alice"), &target), 400);
    assert_eq!(store.status(Some("carol"), &target), 400);
    assert_eq!(store.status(Some("alice"), &path.replace("/straight", "%2Fstraight")), 400);
    // Within the object it is one.
    assert_eq!(store.get(Some("alice"), &format!("{path}/a%2F..%2Fo")), (200, "content".into()));
    assert_eq!(store.get(Some("alice"), &format!("{path}/a/../o")), (200, "content".into()));
}

#[test]
fn parts_and_dates_of_an_object() {
    let Some(store) = Store::start() else { return };
    let object = format!("{}/o", store.container("parts"));
    let part = store.ask_as("bob", Request::get(&object).header("Range", "bytes=3-"));
    assert_eq!((part.status, part.text().as_str()), (206, "tent"));
    assert_eq!(part.header("Content-Range"), Some("bytes 3-6/7"));
    let beyond = store.ask_as("bob", Request::get(&object).header("Range", "bytes=7-"));
    assert_eq!(beyond.status, 416);
    let head = store.ask_as("bob", Request::head(&object));
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("7")));
    assert_eq!(head.header("ETag"), None);
    let date = head.header("Last-Modified").unwrap();
    let again = store.ask_as("bob", Request::get(&object).header("If-Modified-Since", date));
    assert_eq!(again.status, 304);
    // The date of a copy that was made later, as `curl -z` sends it.
    let later = Request::get(&object).header("If-Modified-Since", "Mon, 01 Jan 2035 00:00:00 GMT");
    assert_eq!(store.ask_as("bob", later).status, 304);
    let earlier =
        Request::get(&object).header("If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT");
    assert_eq!(store.ask_as("bob", earlier).status, 200);
}

#[test]
fn scripts_of_the_web_site_may_use_it() {
    let Some(store) = Store::start() else { return };
    let object = format!("{}/o", store.container("scripts"));
    let preflight = Request::new("OPTIONS", &object)
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "PUT")
        .header("Access-Control-Request-Headers", "x-auth-token");
    let answer = store.ask(preflight);
    assert_eq!(answer.status, 204);
    let allowed = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    assert!(allowed("Access-Control-Allow-Methods").contains("PUT"));
    assert!(allowed("Access-Control-Allow-Headers").contains("X-Auth-Token"));
    let site = Some("https://app.example.com");
    assert_eq!(answer.header("Access-Control-Allow-Origin"), site);
    assert!(allowed("Access-Control-Expose-Headers").contains("Content-Range"));
    let answers = [
        store.ask_as("alice", Request::get(&object)),
        store.ask_as("alice", Request::new("PUT", &object).body(b"x")),
        store.ask_as("alice", Request::get(&format!("{object}ther"))),
        store.ask_as("carol", Request::get(&object)),
        store.ask(Request::get(&object)),
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 204, 404, 403, 401]);
    for answer in answers {
        assert_eq!(answer.header("Access-Control-Allow-Origin"), site, "{}", answer.status);
    }
}

#[test]
fn names_of_all_sorts_become_files() {
    let Some(store) = Store::start() else { return };
    let path = store.container("names");
    for (sent, name) in [
        ("%E5%90%8D%E5%89%8D", "名前"),
        ("a+b%20c%3Fd", "a+b c?d"),
        ("%25%32%46", "%2F"),
        ("a%2Fb", "a/b"),
        ("a//c", "a/c"),
        ("%22%5C%0A", "\"\\\n"),
    ] {
        let object = format!("{path}/{sent}");
        assert_eq!(store.put("zofie", &object, name.as_bytes()), 201, "{name}");
        let file = store.file(&format!("{path}/{name}"));
        assert_eq!(fs::read(file).unwrap(), name.as_bytes(), "{name}");
        assert_eq!(store.get(Some("zofie"), &object), (200, name.into()));
    }
    let listed = store.ask_as("bob", Request::get(&path)).json().unwrap();
    let listed = listed.as_array().unwrap().iter().map(|object| object["name"].as_str().unwrap());
    let listed: Vec<_> = listed.filter(|name| *name != "o").collect();
    assert_eq!(listed, ["a", "\"\\\n", "%2F", "a+b c?d", "名前"]);
    // So do those of containers.
    for (sent, name) in [("line%0A", "line\n"), ("line%0Abreak", "line\nbreak")] {
        assert_eq!(store.put("alice", &format!("{}/{sent}", store.account()), b""), 201);
        assert!(store.file(&format!("{}/{name}/.container", store.account())).exists(), "{sent}");
        assert!(!store.file(&format!("{}/line", store.account())).exists(), "{sent}");
    }
    // Hidden ones are nginx's own.
    assert_eq!(store.put("alice", &format!("{path}/.hidden"), b"x"), 404);
    // A file is no folder, and a folder no file.
    assert_eq!(store.put("alice", &format!("{path}/a"), b"x"), 409);
    assert_eq!(store.put("alice", &format!("{path}/o/sub"), b"x"), 500);
}

#[test]
fn files_are_the_workers_own_and_those_of_others_are_objects_too() {
    let Some(store) = Store::start() else { return };
    let path = store.container("owned");
    store.put("alice", &format!("{path}/folder/deep"), b"deep");
    for (name, wanted) in [("", 0o700), ("/folder", 0o700), ("/folder/deep", 0o600)] {
        let file = store.file(&format!("{path}{name}"));
        assert_eq!(mode(&file).unwrap(), wanted, "{name}");
        assert_eq!(fs::metadata(&file).unwrap().uid(), worker_ids().0, "{name}");
    }
    fs::write(store.file(&format!("{path}/copied")), "copied").unwrap();
    assert_eq!(store.get(Some("bob"), &format!("{path}/copied")), (200, "copied".into()));
    // Whoever may write may replace what is not the workers', too.
    assert_eq!(store.put("alice", &format!("{path}/copied"), b"replaced"), 204);
    assert_eq!(store.delete("alice", &format!("{path}/copied")), 204);
    // What is too long for a file's name is no object.
    let long = format!("{path}/{}", "x".repeat(256));
    assert!(store.put("alice", &long, b"x") >= 400);
    assert_eq!(store.put("alice", &long[..long.len() - 1], b"x"), 201);
}

#[test]
fn head_says_whether_an_account_or_a_container_exists() {
    let Some(store) = Store::start() else { return };
    let path = store.container("head");
    let head = |path: &str| store.ask_as("bob", Request::head(path));
    for target in [&store.account(), &format!("{}/", store.account()), &path, &format!("{path}/")] {
        let answer = head(target);
        assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{target}");
    }
    assert_eq!(head(&format!("{path}-2")).status, 404);
    assert_eq!(store.ask_as("carol", Request::head(&path)).status, 403);
    assert_eq!(store.ask(Request::head(&path)).status, 401);
    let info = store.ask(Request::get("/info")).json().unwrap();
    assert_eq!(info["swift"]["max_file_size"], 5_368_709_120_u64);
    assert_eq!(info["slo"]["max_manifest_segments"], 0);
}

#[test]
fn what_needs_no_token_has_none() {
    let Some(store) = Store::start() else { return };
    assert_eq!(store.get(None, "/healthcheck"), (200, "OK".into()));
    assert_eq!(store.status(None, "/info"), 200);
    assert_eq!(store.status(None, "/"), 404);
}
