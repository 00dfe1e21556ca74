//! The path that is judged is the path that is served.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::nginx::{was_built_with, worker_ids, Config};
use keystone_testbed::world::World;

use super::{accounts, ask, forbidden, member, passes, put, stays_out, stranger};

/// What Swift would find something else in than nginx does: an account, a container, or whether
/// there is an object.
const AMBIGUOUS: [&str; 38] = [
    "/v1/AUTH_mine/c/o#/../../../AUTH_other/c/o",
    "/v1/AUTH_mine/c/o#x/%2e%2e/y",
    "/v1/AUTH_mine/..;/AUTH_other/c/o",
    "/v1/AUTH_mine/c/..;x=1/..;/%2e%2e;/AUTH_other/c/o",
    "/v1/AUTH_other/../AUTH_mine/c/o",
    "/v1/AUTH_mine/../AUTH_other/c/o",
    "/v1/AUTH_other/c/../../AUTH_mine/c/o",
    "/v1/AUTH_other/./../AUTH_mine/c/o",
    "/v1/AUTH_other/%2e%2e/AUTH_mine/c/o",
    "/v1/AUTH_other/.%2E/AUTH_mine/c/o",
    "/v1/AUTH_other%2f..%2fAUTH_mine/c/o",
    "/v1/AUTH_other/..%2fAUTH_mine/c/o",
    "/v1/AUTH_mine/d/../c/o",
    "/v1/AUTH_mine/./c/o",
    "/v1/AUTH_mine/c/..",
    "/v1/AUTH_mine/c/o/../..",
    "/v1/AUTH_mine/c/o/..",
    "/v1/AUTH_mine/c/.",
    "/v1/./AUTH_mine/c/o",
    "/v1/../v1/AUTH_mine/c/o",
    "/v2/../v1/AUTH_mine/c/o",
    "/../v1/AUTH_mine/c/o",
    "//v1/AUTH_mine/c/o",
    "/v1//AUTH_mine/c/o",
    "/v1/AUTH_mine//c/o",
    "/v1//AUTH_mine",
    "/v1/AUTH_mine//",
    "/v1%2FAUTH_mine/c/o",
    "/v1/AUTH_mine%2Fc/o",
    "/v1/AUTH_mine%2fc%2fo",
    "/v1/AUTH_mine/c%2Fo",
    "/v1/%2FAUTH_mine/c/o",
    "/v1/AUTH_mine/%2Fc/o",
    "/v1/AUTH_mine/c/%00",
    "/v1/AUTH_mine%00/c/o",
    "/v1/AUTH_mine/c%00d/o",
    "/v1/AUTH_mine/c#/o",
    "/v1/AUTH_mine#/c/o",
];

/// What is merely written in another way, or differs within the object's name only.
const PLAIN: [&str; 13] = [
    "/v1/AUTH_mine/c/o",
    "/v1/AUTH%5Fmine/c/o",
    "/v1/AUTH_%6Dine/%63/o",
    "/%76%31/AUTH_mine/c/o",
    "/v1/AUTH_mine/c/my%20object",
    "/v1/AUTH_mine/c/a%2Fb",
    "/v1/AUTH_mine/c/a//b",
    "/v1/AUTH_mine/c//o",
    "/v1/AUTH_mine/c/a/../b",
    "/v1/AUTH_mine/c/a/./b?x=../../AUTH_other",
    "/v1/AUTH_mine/c/%D0%BF/%F0%9F%98%80",
    "/v1/AUTH_mine/c/%C0%AE%C0%AE/o",
    "/v1/AUTH_mine/c/100%25%2e%2e",
];

#[test]
fn what_may_be_read_in_two_ways_is_refused_before_it_reaches_a_proxy() {
    let world = accounts("")
        .location("/", "keystone_auth on; keystone_swift_auth on; proxy_pass @UPSTREAM@;")
        .start();
    let both = [world.pki(&member(&["admin"])), world.pki(&stranger(&["admin", "ResellerAdmin"]))];
    for token in &both {
        for target in AMBIGUOUS {
            for method in ["GET", "PUT"] {
                stays_out(&world, Some(token), method, target, 400);
            }
        }
        for target in PLAIN {
            passes(&world, Some(token), "GET", target);
        }
    }
    world.assert_quiet_log();
}

#[test]
fn it_is_refused_before_the_token_is_examined() {
    let world = World::setup()
        .offline()
        .location("/v1/", "keystone_auth on; keystone_swift_auth on; proxy_pass @UPSTREAM@;")
        .start();
    let request = Request::get("/v1/AUTH_other/../AUTH_mine/c/o");
    for request in [request.clone(), request.token("00000000000000000000000000000000")] {
        let answer = world.send(&request);
        assert_eq!((answer.status, answer.header("X-Result")), (400, Some("bad_path")));
    }
    assert!(world.identity.validations().is_empty());
    let log = world.nginx.error_log();
    assert!(log.lines().any(|line| line.contains("bad_path") && line.contains("[info]")), "{log}");
}

#[test]
fn files_of_another_account_are_never_served() {
    let files = |dir: &Path| {
        for account in ["AUTH_mine", "AUTH_mine2", "AUTH_min", "AUTH_other", "auth_mine"] {
            put(dir, &format!("disk/{account}/c/o"), account);
            put(dir, &format!("disk/{account}/d/o"), account);
        }
        put(dir, "disk/.acl/AUTH_mine/c", "an ACL");
        put(dir, "secret", "a secret");
    };
    // What nginx takes out of `/disk/` altogether is another location's.
    let world = accounts("").location("/", "return 404;").files(files).start();
    let token = world.pki(&member(&["admin"]));
    let get = |target: &str| {
        let answer = ask(&world, Some(&token), "GET", target);
        (answer.status, answer.text())
    };
    let own = (200, "AUTH_mine".to_owned());
    for target in [
        "/disk/AUTH_mine/c/o",
        "/disk/AUTH%5Fmine/%63/%6f",
        "/disk/AUTH_mine/c/x/../o",
        "/disk/AUTH_mine/c//o",
        "/disk/AUTH_mine/c/.%2fo",
    ] {
        assert_eq!(get(target), own, "{target}");
    }
    for account in [
        "AUTH_other",
        "AUTH_mine2",
        "AUTH_min",
        "auth_mine",
        "AUTH_MINE",
        ".acl",
        "AUTH_mine%20",
        "%C1%81UTH_mine",
        "AUTH_mine%C0%AF..%C0%AFAUTH_other",
        "AUTH_mine%5c..%5cAUTH_other",
    ] {
        let target = format!("/disk/{account}/c/o");
        let (status, text) = get(&target);
        // What is not UTF-8 is no name.
        let refusal = if account.contains("%C") { 412 } else { 403 };
        assert_eq!(status, refusal, "{target}");
        assert!(!text.contains("AUTH_") && !text.contains("ACL"), "{target}: {text}");
    }
    for from in ["AUTH_mine", "AUTH_mine/c", "AUTH_mine/c/o", "AUTH_other", "x"] {
        for up in
            ["/..", "/../..", "/%2e%2e", "/.%2E/%2e.", "%2f..", "/..%2f..", "/../../..", "/x/../.."]
        {
            for to in [
                "/AUTH_other/c/o",
                "/AUTH_mine2/c/o",
                "/disk/AUTH_other/c/o",
                "/.acl/AUTH_mine/c",
                "/secret",
                "%2fAUTH_other%2fc%2fo",
            ] {
                let target = format!("/disk/{from}{up}{to}");
                let (status, text) = get(&target);
                assert!(matches!(status, 400 | 403 | 404), "{target}: {status}");
                let leaks = ["AUTH_other", "AUTH_mine2", "an ACL", "a secret"];
                assert!(!leaks.iter().any(|leak| text.contains(leak)), "{target}: {text}");
            }
        }
    }
}

#[test]
fn merged_slashes_or_not() {
    for merge in ["on", "off"] {
        let world =
            accounts("").config(|config| config.server(&format!("merge_slashes {merge};"))).start();
        let token = world.pki(&member(&["admin"]));
        passes(&world, Some(&token), "PUT", "/v1/AUTH_mine/c//o");
        passes(&world, Some(&token), "PUT", "/v1/AUTH_mine/c/a//b");
        // Not an account's path to Swift in any case; without merging it is none to nginx either.
        let status = if merge == "on" { 400 } else { 404 };
        stays_out(&world, Some(&token), "GET", "/v1//AUTH_mine/c/o", status);
        stays_out(&world, Some(&token), "GET", "/v1/AUTH_mine//o", status);
    }
}

/// A container with a folder in it, which everybody may read but not list, and whose objects
/// project other may write.
fn folders(config: impl FnOnce(Config) -> Config, location: &str) -> World {
    let lines = "keystone_auth delay; keystone_swift_auth on; autoindex on;
        keystone_swift_read_acl .r:*; keystone_swift_write_acl other:*;";
    let dav = if was_built_with("--with-http_dav_module") { "dav_methods PUT DELETE;" } else { "" };
    let files = |dir: &Path| {
        put(dir, "disk/AUTH_mine/c/o", "an object");
        put(dir, "disk/AUTH_mine/c/folder/secret-name", "in it");
        let (user, group) = worker_ids();
        for path in ["disk/AUTH_mine", "disk/AUTH_mine/c", "disk/AUTH_mine/c/folder"] {
            chown(dir.join("html").join(path), Some(user), Some(group)).unwrap();
        }
    };
    let rewritten = "keystone_auth off; rewrite ^/short(.*)$ /disk/AUTH_mine/c/$1 last;";
    World::setup()
        .offline()
        .config(config)
        .location("/disk/", &format!("{lines} {dav} {location}"))
        .location("/short", rewritten)
        .files(files)
        .start()
}

#[test]
fn a_folder_is_more_than_an_object() {
    for merge in ["on", "off"] {
        let world = folders(|config| config.server(&format!("merge_slashes {merge};")), "");
        let html = world.nginx.dir().join("html/disk/AUTH_mine/c");
        assert_eq!(ask(&world, None, "GET", "/disk/AUTH_mine/c/o").text(), "an object");
        let (writer, owner) = (world.pki(&stranger(&["x"])), world.pki(&member(&["admin"])));
        for target in [
            "/disk/AUTH_mine/c/",
            "/disk/AUTH_mine/c//",
            "/disk/AUTH_mine/c/%2F",
            "/disk/AUTH_mine/c///",
            "/disk/AUTH_mine/c/folder/",
            "/disk/AUTH_mine/c/folder//",
            "/disk/AUTH_mine/c//folder/",
            "/disk/AUTH_mine/c/x/..",
            "/short/",
            "/short/folder/",
            "/short//",
        ] {
            for token in [None, Some(writer.as_str())] {
                let answer = ask(&world, token, "GET", target);
                assert!(matches!(answer.status, 400 | 401 | 403), "{target}: {}", answer.status);
                assert!(!answer.text().contains("secret-name"), "{target}");
                let status = ask(&world, token, "DELETE", target).status;
                assert!(matches!(status, 400 | 401 | 403), "{target}: {status}");
            }
            assert!(
                html.join("o").exists() && html.join("folder/secret-name").exists(),
                "{target}"
            );
        }
        // Its account's operators may, and who may write an object writes it.
        let listing = ask(&world, Some(&owner), "GET", "/disk/AUTH_mine/c/folder/");
        assert!(listing.status == 200 && listing.text().contains("secret-name"));
        if was_built_with("--with-http_dav_module") {
            let status = |token, target| ask(&world, Some(token), "DELETE", target).status;
            assert_eq!(status(&writer, "/disk/AUTH_mine/c/o"), 204);
            assert_eq!(status(&owner, "/disk/AUTH_mine/c/folder/"), 204);
            assert!(!html.join("folder").exists());
        }
    }
}

#[test]
fn a_folder_that_try_files_finds_is_no_object_either() {
    let world = folders(|config| config, "try_files $uri $uri// =404;");
    let folder = "/disk/AUTH_mine/c/folder";
    let secret = world.nginx.dir().join("html/disk/AUTH_mine/c/folder/secret-name");
    let (writer, owner) = (world.pki(&stranger(&["x"])), world.pki(&member(&["admin"])));
    for (token, refused) in [(None, 401), (Some(writer.as_str()), 403)] {
        for method in ["GET", "DELETE"] {
            let answer = ask(&world, token, method, folder);
            assert_eq!(answer.status, refused, "{method} {token:?}");
            assert!(!answer.text().contains("secret-name"), "{method} {token:?}");
            assert_eq!(answer.header("WWW-Authenticate").is_some(), refused == 401);
        }
        let object = ask(&world, token, "GET", "/disk/AUTH_mine/c/o");
        assert_eq!(object.text(), "an object", "{token:?}");
        assert_eq!(ask(&world, token, "GET", "/disk/AUTH_mine/c/none").status, 404);
    }
    assert!(secret.exists() && world.nginx.error_log().contains("no right to the account"));
    for slash in ["", "/"] {
        let list = |path| ask(&world, Some(&owner), "GET", &format!("{path}{slash}")).text();
        assert!(list(folder).contains("secret-name"));
        assert!(list("/disk/AUTH_mine/c").contains("folder"));
        assert!(list("/disk/AUTH_mine").contains("c/"));
    }
    if was_built_with("--with-http_dav_module") {
        assert_eq!(ask(&world, Some(&owner), "DELETE", folder).status, 204);
        assert!(!secret.exists());
    }
}

#[test]
fn a_rewritten_path_is_judged_as_it_was_rewritten() {
    let world = accounts("")
        .location("/storage/", "keystone_auth off; rewrite ^/storage(/.*)$ /v1$1 last;")
        .location("/arg/", "keystone_auth off; rewrite ^ /v1/$arg_path? last;")
        .start();
    let token = world.pki(&member(&["admin"]));
    let sent = |target: &str| {
        let answer = ask(&world, Some(&token), "GET", target);
        (answer.status, world.upstream.requests().last().map(|request| request.target.clone()))
    };
    assert_eq!(sent("/storage/AUTH_mine/c/o"), (200, Some("/v1/AUTH_mine/c/o".into())));
    // nginx has resolved it, and sends what it has resolved.
    assert_eq!(sent("/storage/AUTH_other/../AUTH_mine/c/p").1.unwrap(), "/v1/AUTH_mine/c/p");
    assert_eq!(sent("/storage/AUTH_mine/../AUTH_other/c/o").0, 403);
    assert_eq!(sent("/arg/?path=AUTH_mine/c/q").1.unwrap(), "/v1/AUTH_mine/c/q");
    for path in
        ["..", "../AUTH_other/c/o", "AUTH_mine/..", "AUTH_mine/../AUTH_other/o", "./AUTH_mine/c"]
    {
        let (status, last) = sent(&format!("/arg/?path={path}"));
        assert_eq!((status, last.unwrap()), (400, "/v1/AUTH_mine/c/q".into()), "{path}");
    }
}

#[test]
fn a_proxy_that_is_given_the_normalised_path() {
    let lines = "keystone_auth on; keystone_swift_auth on; proxy_pass @UPSTREAM@/v1/;";
    let world = World::setup().offline().location("/v1/", lines).start();
    let token = world.pki(&member(&["admin"]));
    for (target, sent) in [
        ("/v1/AUTH_mine/c/a%20b", "/v1/AUTH_mine/c/a%20b"),
        ("/v1/AUTH_mine/c/a%2Fb", "/v1/AUTH_mine/c/a/b"),
        ("/v1/AUTH_mine/c/x/../o", "/v1/AUTH_mine/c/o"),
        ("/v1/AUTH_mine/c/%25%3F", "/v1/AUTH_mine/c/%25%3F"),
    ] {
        let seen = world.seen(&Request::get(target).token(&token));
        assert_eq!(seen.target, sent);
    }
    stays_out(&world, Some(&token), "GET", "/v1/AUTH_other/../AUTH_mine/c/o", 400);
    forbidden(&world, &token, "GET", "/v1/AUTH_other/c/o");
}

#[test]
fn a_target_with_a_host_in_it() {
    let world = accounts("").start();
    let token = world.pki(&member(&["admin"]));
    let get = |target: &str| ask(&world, Some(&token), "GET", target).status;
    assert_eq!(get("http://localhost/v1/AUTH_mine/c/o"), 200);
    assert_eq!(world.upstream.requests().last().unwrap().target, "/v1/AUTH_mine/c/o");
    assert_eq!(get("http://localhost/v1/AUTH_other/c/o"), 403);
    assert_eq!(get("http://localhost/v1/AUTH_other/../AUTH_mine/c/o"), 400);
}

#[test]
fn files_are_not_copied_to_paths_that_were_not_authorized() {
    let lines = "keystone_auth on; keystone_swift_auth on;
        dav_methods PUT DELETE COPY MOVE; create_full_put_path on;";
    if !was_built_with("--with-http_dav_module") {
        println!("This nginx has no ngx_http_dav_module.");
        return;
    }
    let files = |dir: &Path| {
        put(dir, "disk/AUTH_mine/c/o", "mine");
        put(dir, "disk/AUTH_other/c/o", "other");
        let (user, group) = worker_ids();
        for dir in ["disk", "disk/AUTH_mine/c", "disk/AUTH_other/c"]
            .map(|path| dir.join("html").join(path))
        {
            chown(&dir, Some(user), Some(group)).unwrap();
        }
    };
    let world = World::setup().offline().location("/disk/", lines).files(files).start();
    let html = world.nginx.dir().join("html");
    let token = world.pki(&member(&["admin"]));
    let request = |method: &str, path: &str| Request::new(method, path).token(&token);
    for method in ["COPY", "MOVE"] {
        for to in ["/disk/AUTH_other/c/o", "/disk/AUTH_other/c/p", "/disk/AUTH_mine/c/p", "/p"] {
            let request = request(method, "/disk/AUTH_mine/c/o").header("Destination", to);
            expect::forbidden(&world.send(&request));
            let request = Request::new(method, "/disk/AUTH_mine/c/o").header("Destination", to);
            expect::refused(&world.send(&request));
        }
    }
    assert_eq!(fs::read_to_string(html.join("disk/AUTH_other/c/o")).unwrap(), "other");
    for path in ["disk/AUTH_other/c/p", "disk/AUTH_mine/c/p", "p"] {
        assert!(!html.join(path).exists(), "{path}");
    }
    // What names one path only is judged and done.
    let answer = world.send(&request("PUT", "/disk/AUTH_mine/c/new").body(b"new"));
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(fs::read_to_string(html.join("disk/AUTH_mine/c/new")).unwrap(), "new");
    assert_eq!(world.send(&request("PUT", "/disk/AUTH_other/c/o").body(b"new")).status, 403);
    assert_eq!(world.send(&request("DELETE", "/disk/AUTH_other/c/o")).status, 403);
    assert_eq!(world.send(&request("DELETE", "/disk/AUTH_mine/c/new")).status, 204);
    assert_eq!(fs::read_to_string(html.join("disk/AUTH_other/c/o")).unwrap(), "other");
}

#[test]
fn names_that_no_file_can_have() {
    let with_dav = was_built_with("--with-http_dav_module");
    let dav = if with_dav { "dav_methods PUT DELETE; create_full_put_path on;" } else { "" };
    let lines = format!("keystone_swift_auth on; autoindex on; autoindex_format json; {dav}");
    let files = |dir: &Path| {
        put(dir, "disk/AUTH_mine/c/o", "mine");
        let (user, group) = worker_ids();
        for path in ["disk", "disk/AUTH_mine", "disk/AUTH_mine/c"] {
            chown(dir.join("html").join(path), Some(user), Some(group)).unwrap();
        }
    };
    let world = accounts("")
        .location("/disk/", &format!("keystone_auth on; {lines}"))
        .location("/delayed/", &format!("keystone_auth delay; alias @DIR@/html/disk/; {lines}"))
        .files(files)
        .start();
    let token = world.pki(&member(&["admin"]));
    let status = |token: Option<&str>, method: &str, target: &str| {
        let mut request = Request::new(method, target);
        if let Some(token) = token {
            request = request.token(token);
        }
        let request = if method == "PUT" { request.body(b"body") } else { request };
        let answer = world.send(&request);
        let is_bad = answer.header("X-Result") == Some("bad_path");
        assert_eq!(is_bad, matches!(answer.status, 400 | 412), "{method} {target}");
        answer.status
    };
    let long = |length: usize| "n".repeat(length);
    let deep = "d/".repeat(600);
    let refused = [
        ("AUTH_mine/%8F%FF".to_owned(), 412),
        ("AUTH_mine/%8F%FF/".to_owned(), 412),
        ("AUTH_mine/c/%FF".to_owned(), 412),
        ("AUTH_mine/c/a%C0%AFb".to_owned(), 412),
        ("AUTH_mine/c/%ED%A0%80".to_owned(), 412),
        ("AUTH_mine/c/\u{e9}/%E9/x".to_owned(), 412),
        (format!("AUTH_mine/{}", long(256)), 400),
        (format!("AUTH_mine/c/{}", long(256)), 400),
        (format!("AUTH_mine/c/x/{}/y", long(300)), 400),
    ];
    for (path, refusal) in &refused {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            for root in ["disk", "delayed"] {
                let target = format!("/{root}/{path}");
                assert_eq!(status(Some(&token), method, &target), *refusal, "{method} {target}");
                // Nobody learns more without a token.
                let without = if root == "disk" { 401 } else { *refusal };
                assert_eq!(status(None, method, &target), without, "{method} {target}");
            }
            // As in Swift, whoever asks.
            let stranger = world.pki(&stranger(&["x"]));
            let target = format!("/disk/{path}");
            assert_eq!(status(Some(&stranger), method, &target), *refusal, "{method} {target}");
        }
    }
    assert_eq!(status(Some(&token), "PUT", &format!("/disk/AUTH_mine/c/{deep}x")), 400);
    assert_eq!(status(Some(&token), "GET", &format!("/disk/AUTH_mine/c/{deep}x")), 404);
    let entries = fs::read_dir(world.nginx.dir().join("html/disk/AUTH_mine")).unwrap();
    assert_eq!(entries.count(), 1);
    let longest = format!("/disk/AUTH_mine/c/{}", long(255));
    let named = "/disk/AUTH_mine/c/%D0%BF/%F0%9F%98%80%0A";
    for target in [longest.as_str(), named] {
        if with_dav {
            assert_eq!(status(Some(&token), "PUT", target), 201, "{target}");
            assert_eq!(status(Some(&token), "GET", target), 200, "{target}");
        } else {
            assert_eq!(status(Some(&token), "GET", target), 404, "{target}");
        }
    }
    // An upstream judges for itself.
    passes(&world, Some(&token), "GET", "/v1/AUTH_mine/c/%FF");
    assert!(!world.nginx.error_log().contains("[crit]"), "{}", world.nginx.error_log());
}

#[test]
fn a_copy_is_the_upstreams_business() {
    let world = accounts("").start();
    let token = world.pki(&member(&["admin"]));
    passes(&world, Some(&token), "COPY", "/v1/AUTH_mine/c/o");
    forbidden(&world, &token, "COPY", "/v1/AUTH_other/c/o");
    // To Swift that is a request to read and one to write, and an ACL is for one of the two.
    let lines = "keystone_swift_read_acl other:*; keystone_swift_write_acl other:*;";
    let world = accounts(lines).start();
    forbidden(&world, &world.pki(&stranger(&["x"])), "COPY", "/v1/AUTH_mine/c/o");
}

#[test]
fn variables() {
    let lines = "keystone_auth delay; keystone_swift_auth on; keystone_swift_read_acl .r:*,.rlistings;
        add_header X-Path '$keystone_swift_account|$keystone_swift_container|$keystone_swift_object' always;";
    let world = World::setup()
        .offline()
        .location("/v1/", &format!("{lines} proxy_pass @UPSTREAM@;"))
        .location(
            "/open/",
            "add_header X-Path '$keystone_swift_account' always; proxy_pass @UPSTREAM@;",
        )
        .start();
    for (target, expected) in [
        ("/v1/AUTH_mine/c/o", "AUTH_mine|c|o"),
        ("/v1/AUTH_mine/c/a/b%20c/?x=y", "AUTH_mine|c|a/b c/"),
        ("/v1/AUTH_mine/c%c3%a9/", "AUTH_mine|cé|"),
        ("/v1/AUTH_mine/", "AUTH_mine||"),
        ("/v1/AUTH_mine", "AUTH_mine||"),
        ("/v1/AUTH_mine/c/x/../o", "AUTH_mine|c|o"),
    ] {
        let answer = ask(&world, None, "GET", target);
        assert_eq!(answer.header("X-Path"), Some(expected), "{target}");
    }
    // Not where accounts are not authorised.
    assert_eq!(ask(&world, None, "GET", "/open/AUTH_mine/c").header("X-Path"), None);
}
