//! What protected answers tell the caches in front of nginx.

use std::fs;

use keystone_testbed::http::{Request, Response};
use keystone_testbed::identity::Fault;
use keystone_testbed::mint::Payload;
use keystone_testbed::world::World;

/// All values of `Vary`, and of `Cache-Control`, each as one.
fn cached_as(answer: &Response) -> (String, String) {
    let all = |name| {
        let values = answer.headers.all(name).map(String::from_utf8_lossy);
        values.collect::<Vec<_>>().join(" + ")
    };
    (all("Vary"), all("Cache-Control"))
}

#[track_caller]
fn assert_cached_as(answer: &Response, vary: &str, cache_control: &str) {
    assert_eq!(cached_as(answer), (vary.to_owned(), cache_control.to_owned()));
}

#[test]
fn protected_answers_are_for_one_token_and_private() {
    let world = World::setup()
        .offline()
        .location("/role/", "keystone_auth on; keystone_require_role nobody;")
        .location("/delay-role/", "keystone_auth delay; keystone_require_role role1; root @DIR@;")
        .files(|dir| fs::create_dir_all(dir.join("html/files/dir")).unwrap())
        .start();
    let token = world.pki(&Payload::v3());
    for (target, status) in [
        ("/", 200),
        ("/files/hello.txt", 200),
        ("/files/none", 404),
        ("/files/dir", 301),
        ("/status/201", 201),
        ("/status/500", 500),
        ("/role/", 403),
        ("/delay-role/", 404),
    ] {
        let answer = world.send(&Request::get(target).token(&token));
        assert_eq!(answer.status, status, "{target}");
        assert_cached_as(&answer, "X-Auth-Token", "private");
        let answer = world.send(&Request::head(target).token(&token));
        assert_cached_as(&answer, "X-Auth-Token", "private");
    }
    let refused = world.send(&Request::get("/"));
    assert_eq!(refused.status, 401);
    assert_cached_as(&refused, "X-Auth-Token", "private");
    world.identity.fault_validations_times(100, Fault::Status(500));
    let unavailable = world.send(&Request::get("/").token("0123456789abcdef0123456789abcdef"));
    assert_eq!(unavailable.status, 503);
    assert_cached_as(&unavailable, "X-Auth-Token", "private");
    let twice = world.send(&Request::get("/").token(&token).token(&token));
    assert_eq!(twice.status, 400);
    assert_cached_as(&twice, "X-Auth-Token", "private");
}

#[test]
fn other_answers_are_left_alone() {
    let world = World::setup()
        .offline()
        .location("/switched/", "keystone_auth on; keystone_cache_control off; root html;")
        .location(
            "/outer/",
            "keystone_auth on; keystone_cache_control off; proxy_pass @UPSTREAM@;
             location /outer/inner/ { keystone_cache_control on; proxy_pass @UPSTREAM@; }",
        )
        .start();
    let token = world.pki(&Payload::v3());
    for target in ["/open/", "/delay/", "/switched/x", "/outer/"] {
        let answer = world.send(&Request::get(target).token(&token));
        assert_cached_as(&answer, "", "");
        let answer = world.send(&Request::get(target));
        assert_cached_as(&answer, "", "");
    }
    let inner = world.send(&Request::get("/outer/inner/").token(&token));
    assert_cached_as(&inner, "X-Auth-Token", "private");
}

#[test]
fn vary_names_where_the_tokens_were_taken_from() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3().roles(&["service"]));
    let vary = |request: Request| cached_as(&world.send(&request)).0;
    let storage = Request::get("/").header("X-Storage-Token", &token);
    assert_eq!(vary(storage.clone()), "X-Auth-Token, X-Storage-Token");
    assert_eq!(vary(storage.token(&token)), "X-Auth-Token");
    let service = Request::get("/").token(&token).header("X-Service-Token", &token);
    assert_eq!(vary(service), "X-Auth-Token, X-Service-Token");
}

#[test]
fn what_an_answer_says_already_stays() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    for (headers, vary, cache_control) in [
        ("h=Vary:Accept-Encoding", "Accept-Encoding, X-Auth-Token", "private"),
        ("h=Vary:A&h=Vary:B,%20C", "A, X-Auth-Token + B, C", "private"),
        ("h=Vary:A&h=Vary:x-AUTH-token", "A + x-AUTH-token", "private"),
        ("h=Vary:*", "*", "private"),
        ("h=Vary:Accept&h=Vary:*", "Accept + *", "private"),
        ("h=Cache-Control:max-age=60", "X-Auth-Token", "max-age=60"),
        ("h=cache-control:no-store", "X-Auth-Token", "no-store"),
        ("h=Cache-Control:public&h=Cache-Control:max-age=1", "X-Auth-Token", "public + max-age=1"),
        ("h=Expires:Thu,%2001%20Jan%202037%2000:00:00%20GMT", "X-Auth-Token", ""),
        ("h=Pragma:x", "X-Auth-Token", "private"),
    ] {
        let answer = world.send(&Request::get(&format!("/?{headers}")).token(&token));
        assert_eq!(answer.status, 200);
        assert_eq!(cached_as(&answer), (vary.to_owned(), cache_control.to_owned()), "{headers}");
    }
}

#[test]
fn what_nginx_adds_itself_counts_as_well() {
    let world = World::setup()
        .offline()
        .location("/expires/", "keystone_auth on; expires 1h; try_files /files/hello.txt =404;")
        .location("/epoch/", "keystone_auth on; expires epoch; try_files /files/hello.txt =404;")
        .location(
            "/added/",
            "keystone_auth on; add_header Cache-Control public; add_header Vary Origin;
             try_files /files/hello.txt =404;",
        )
        .location("/any/", "keystone_auth on; add_header Vary *; try_files /files/hello.txt =404;")
        .location(
            "/zipped/",
            "keystone_auth on; gzip on; gzip_vary on; gzip_types *; gzip_min_length 0;
             try_files /files/hello.txt =404;",
        )
        .location("= /status", "keystone_auth on; keystone_status;")
        .start();
    let token = world.pki(&Payload::v3());
    for (target, vary, cache_control) in [
        ("/expires/", "X-Auth-Token", "max-age=3600"),
        ("/epoch/", "X-Auth-Token", "no-cache"),
        ("/added/", "Origin, X-Auth-Token", "public"),
        ("/any/", "*", "private"),
        ("/zipped/", "Accept-Encoding + X-Auth-Token", "private"),
        ("/status", "X-Auth-Token", "no-store"),
    ] {
        let request = Request::get(target).token(&token).header("Accept-Encoding", "gzip");
        let answer = world.send(&request);
        assert_eq!(answer.status, 200, "{target}");
        let (seen_vary, seen_control) = cached_as(&answer);
        assert_eq!(seen_control, cache_control, "{target}");
        let mut lines: Vec<_> = seen_vary.split(" + ").collect();
        lines.sort_unstable();
        assert_eq!(lines.join(" + "), vary, "{target}");
    }
}

#[test]
fn conditional_and_partial_answers() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let file = Request::get("/files/hello.txt").token(&token);
    let whole = world.send(&file);
    let etag = whole.header("ETag").unwrap();
    let unchanged = world.send(&file.clone().header("If-None-Match", etag));
    assert_eq!(unchanged.status, 304);
    assert_cached_as(&unchanged, "X-Auth-Token", "private");
    let part = world.send(&file.clone().header("Range", "bytes=0-1"));
    assert_eq!(part.status, 206);
    assert_cached_as(&part, "X-Auth-Token", "private");
    let none = world.send(&file.header("Range", "bytes=100-"));
    assert_eq!(none.status, 416);
    assert_cached_as(&none, "X-Auth-Token", "private");
}

#[test]
fn an_answer_from_an_open_location_that_a_protected_one_has_led_to() {
    let world = World::setup()
        .offline()
        .location("/page/", "keystone_auth on; error_page 401 /open-page; root @DIR@/html;")
        .location("= /open-page", "keystone_auth off; return 200 open;")
        .location("/sent/", "keystone_auth on; internal;")
        .location("/behind/", "keystone_auth off; alias @DIR@/html/files/;")
        .location("/named/", "keystone_auth on; try_files $uri @named;")
        .location("@named", "keystone_auth off; proxy_pass @UPSTREAM@;")
        .location("/off/", "keystone_auth on; error_page 401 /quiet; root @DIR@/html;")
        .location("= /quiet", "keystone_auth off; keystone_cache_control off; return 200 quiet;")
        .start();
    let token = world.pki(&Payload::v3());
    let page = world.send(&Request::get("/page/"));
    assert_eq!(page.text(), "open");
    assert_cached_as(&page, "X-Auth-Token", "private");
    let accel = Request::get("/?h=X-Accel-Redirect:/behind/hello.txt").token(&token);
    let answer = world.send(&accel);
    assert_eq!(answer.text(), "hello\n");
    assert_cached_as(&answer, "X-Auth-Token", "private");
    assert_cached_as(&world.send(&Request::get("/behind/hello.txt")), "", "");
    let named = world.send(&Request::get("/named/x").token(&token));
    assert_eq!(named.status, 200);
    assert_cached_as(&named, "X-Auth-Token", "private");
    let quiet = world.send(&Request::get("/off/"));
    assert_eq!(quiet.text(), "quiet");
    assert_cached_as(&quiet, "", "");
}

#[test]
fn a_subrequest_says_nothing() {
    let world = World::setup()
        .offline()
        .location("/page/", "keystone_auth on; ssi on; ssi_types text/plain;")
        .location(
            "/open-page/",
            "keystone_auth off; ssi on; ssi_types text/plain; alias @DIR@/html/page/;",
        )
        .location("/part", "keystone_auth on; proxy_pass @UPSTREAM@;")
        .files(|dir| {
            fs::create_dir_all(dir.join("html/page")).unwrap();
            let page = "[<!--#include virtual=\"/part\" -->]";
            fs::write(dir.join("html/page/page.txt"), page).unwrap();
        })
        .start();
    let token = world.pki(&Payload::v3());
    let answer = world.send(&Request::get("/page/page.txt").token(&token));
    assert_cached_as(&answer, "X-Auth-Token", "private");
    assert_cached_as(&world.send(&Request::get("/open-page/page.txt")), "", "");
}
