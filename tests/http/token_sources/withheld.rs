//! `keystone_forward_token off`: nothing of the token goes upstream, and all else does.

use std::time::{Duration, Instant};

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::Payload;
use keystone_testbed::nginx::{exchange, was_built_with};
use keystone_testbed::port::Port;
use keystone_testbed::upstream::Seen;
use keystone_testbed::wait_for;
use keystone_testbed::world::{Setup, World};

use super::WAYS;
use crate::http2;

const ALL: &str = "$cookie_keystone $arg_temp $keystone_bearer $http_x_my_token";

fn withholding(values: &str) -> Setup {
    World::setup()
        .offline()
        .set("keystone_token", values)
        .set("keystone_forward_token", "off")
        .location("/with-uri/", "keystone_auth on; proxy_pass @UPSTREAM@/changed/;")
        .location("/own-uri/", "keystone_auth on; proxy_pass @UPSTREAM@$request_uri;")
}

#[track_caller]
fn assert_without(seen: &Seen, token: &str) {
    assert!(!format!("{seen:?}").contains(token), "{seen:?}");
}

/// nginx keeps the values of these variables, which the map has asked for.
#[test]
fn variables_that_a_value_was_made_of_show_the_token_no_more() {
    let map = "map $cookie_k$http_x_custom $tok { \"~^(Token )?(?<mine>.+)$\" $mine; }";
    let world = withholding("$tok")
        .config(|config| config.http(map))
        .location(
            "/named/",
            "keystone_auth on; proxy_pass @UPSTREAM@; proxy_set_header X-K \"[$cookie_k]\";
             proxy_set_header X-Custom \"[$http_x_custom]\";",
        )
        .start();
    let token = world.pki(&Payload::v3());
    for (name, value) in [("Cookie", format!("k={token}")), ("X-Custom", format!("Token {token}"))]
    {
        let seen = world.seen(&Request::get("/named/x").header(name, value));
        expect::v3_user(&seen);
        assert_without(&seen, &token);
        assert_eq!(seen.header("X-K").as_deref(), Some("[]"), "{name}");
    }
}

/// `set` may define a variable with the name of a header.
#[test]
fn variables_that_directives_define_keep_their_values() {
    let own = "set $http_x_client_zone external; set $cookie_zone external;
               if ($http_x_forwarded_proto = \"\") { set $http_x_forwarded_proto $scheme; }";
    let world = withholding("$tok")
        .config(|config| config.http("map $http_x_custom $tok { \"~(?<mine>.+)$\" $mine; }"))
        .config(|config| config.server(own))
        .location(
            "/named/",
            "keystone_auth on; proxy_pass @UPSTREAM@; proxy_set_header X-Client-Zone
             \"$http_x_client_zone $cookie_zone $http_x_forwarded_proto\";",
        )
        .start();
    let token = world.pki(&Payload::v3());
    let request = Request::get("/named/x").header("X-Custom", &token);
    let request = request.header("X-Client-Zone", "internal").header("Cookie", "zone=internal");
    let seen = world.seen(&request);
    assert_without(&seen, &token);
    assert_eq!(seen.header("X-Client-Zone").as_deref(), Some("external external http"));
}

#[test]
fn a_token_is_withheld_wherever_it_was() {
    for (value, request) in WAYS {
        for values in [value, ALL] {
            // The request's URI and cookies are evaluated before the token is known.
            let early = "set $early $request_uri$http_cookie$cookie_keystone$http_x_my_token;";
            let world = withholding(values).config(|config| config.server(early)).start();
            let token = world.pki(&Payload::v3());
            for target in ["/x%20y", "/with-uri/x", "/own-uri/x"] {
                let seen = world.seen(&request(target, &token));
                expect::v3_user(&seen);
                assert_without(&seen, &token);
                let rest = match value {
                    "$arg_temp" => "?a=1&b=%202",
                    _ => "",
                };
                let path = target.replace("/with-uri/", "/changed/");
                assert_eq!(seen.target, format!("{path}{rest}"), "{value}");
                let cookies = seen.header("Cookie");
                let expected = (value == "$cookie_keystone").then_some("a=1; b=2");
                assert_eq!(cookies.as_deref(), expected, "{value}");
            }
            world.assert_quiet_log();
        }
    }
}

#[test]
fn many_times_the_same_cookie_keep_a_worker_no_longer_than_others() {
    let world = withholding("$cookie_t")
        .location("/delay/", "keystone_auth delay; proxy_pass @UPSTREAM@;")
        .start();
    let many = |pair: &str| {
        let cookies = pair.repeat(20_000);
        let request = Request::get("/delay/").header("Cookie", &cookies);
        request.header("Cookie", &cookies).header("Cookie", &cookies)
    };
    let time = |pair: &str, status| {
        let start = Instant::now();
        assert_eq!(world.send(&many(pair)).status, status);
        start.elapsed()
    };
    let shortest = |pair, status| (0..3).map(|_| time(pair, status)).min().unwrap();
    let others = shortest("u=;", 200);
    let took = shortest("t=;", 400);
    assert!(took < 5 * others + Duration::from_millis(500), "{took:?}, and {others:?} without it");
}

#[test]
fn a_made_token_is_looked_for_in_time_that_its_text_does_not_lengthen() {
    let lines = "keystone_auth delay; keystone_token $http_a$http_b; proxy_pass @UPSTREAM@;";
    let world = World::setup().offline().set("keystone_forward_token", "off");
    let world = world.location("/delay/", lines).start();
    let time = |byte: &str| {
        let (token, text) = (["a".repeat(30_000), "b".to_owned()].concat(), byte.repeat(60_000));
        let request = Request::get("/delay/").header("A", &token);
        let request = ["C", "D", "E"].iter().fold(request, |it, name| it.header(name, &text));
        let start = Instant::now();
        assert_eq!(world.send(&request).status, 200);
        start.elapsed()
    };
    let shortest = |byte| (0..3).map(|_| time(byte)).min().unwrap();
    let (other, took) = (shortest("c"), shortest("a"));
    assert!(took < 5 * other + Duration::from_millis(200), "{took:?}, and {other:?} without it");
}

#[test]
fn values_that_did_not_win_are_withheld_too() {
    let world = withholding(ALL).start();
    let token = world.pki(&Payload::v3());
    let seen = world.seen(
        &Request::get("/?temp=loser-1")
            .header("Cookie", format!("keystone={token}"))
            .header("Cookie", "other=1")
            .header("Authorization", "Bearer loser-2")
            .header("X-My-Token", "loser-3")
            .token("loser-4"),
    );
    expect::v3_user(&seen);
    assert_without(&seen, &token);
    assert_without(&seen, "loser");
    assert_eq!(seen.target, "/");
    assert_eq!(seen.header("Cookie").as_deref(), Some("other=1"));
}

#[test]
fn what_carries_no_token_stays() {
    let world = withholding("$http_x_auth_token $keystone_bearer $arg_temp").start();
    let token = world.pki(&Payload::v3());
    let request = Request::get("/?temperature=1&a=temp&temp")
        .token(&token)
        .header("Authorization", "Basic eDp5")
        .header("Cookie", "temp=1");
    let seen = world.seen(&request);
    assert_eq!(seen.target, "/?temperature=1&a=temp&temp");
    assert_eq!(seen.header("Authorization").as_deref(), Some("Basic eDp5"));
    assert_eq!(seen.header("Cookie").as_deref(), Some("temp=1"));
}

#[test]
fn nginx_itself_finds_the_cookies_that_stay() {
    let lines =
        "keystone_auth on; proxy_set_header Cookie \"[$http_cookie][$cookie_keystone][$cookie_b]\";
                 proxy_pass @UPSTREAM@;";
    let world = withholding("$cookie_keystone").location("/shown/", lines).start();
    let token = world.pki(&Payload::v3());
    for cookies in [&["a=1; keystone=@; b=2"][..], &["keystone=@", "a=1", "b=2"]] {
        let mut request = Request::get("/shown/");
        for cookie in cookies {
            request = request.header("Cookie", cookie.replace('@', &token));
        }
        let shown = world.seen(&request).header("Cookie").unwrap();
        assert!(shown.ends_with("][][2]") && shown.starts_with("[a=1; b=2"), "{shown}");
    }
    let only = Request::get("/shown/").header("Cookie", format!("keystone={token}"));
    assert_eq!(world.seen(&only).header("Cookie").as_deref(), Some("[][][]"));
}

#[test]
fn all_that_holds_a_token_made_of_other_variables_is_withheld() {
    let world = withholding("$mapped")
        .http("map $cookie_session$arg_a$http_x_any $mapped { ~^(s-)?(?<inner>.+)$ $inner; }")
        .start();
    let token = world.uuid(&Payload::v3());
    for request in [
        Request::get("/").header("Cookie", format!("b=2; session=s-{token}")),
        Request::get(&format!("/?a={token}&b=2")),
        Request::get("/?b=2").header("X-Any", &token),
    ] {
        let seen = world.seen(&request.header("X-Other", "stays"));
        expect::v3_user(&seen);
        assert_without(&seen, &token);
        assert_eq!(seen.header("X-Other").as_deref(), Some("stays"));
        assert!(format!("{seen:?}").contains("b=2") || seen.header("X-Any").is_none());
    }
}

#[test]
fn a_subrequest_without_the_token_takes_it_from_nobody_else() {
    let world = World::setup()
        .offline()
        .set("keystone_token", ALL)
        .location("/own/", "keystone_auth on; mirror /third; proxy_pass @UPSTREAM@;")
        .location("/third", "keystone_auth on; keystone_forward_token off; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    for (at, (value, request)) in WAYS.into_iter().enumerate() {
        world.seen(&request("/own/", &token));
        let both = || (world.upstream.requests().len() == 2 * at + 2).then_some(());
        wait_for("the request and its mirror", both).unwrap();
        for sent in &world.upstream.requests()[2 * at..] {
            let shown = format!(
                "{} {:?}",
                sent.target,
                sent.headers
                    .iter()
                    .map(|(name, value)| { format!("{name}: {}", String::from_utf8_lossy(value)) })
                    .collect::<Vec<_>>()
            );
            let is_own = sent.target.starts_with("/own/");
            assert_eq!(shown.contains(&token), is_own, "{value}: {shown}");
            assert!(shown.contains("X-User-Id"), "{value}: {shown}");
            if value == "$cookie_keystone" {
                assert!(shown.contains("a=1;") && shown.contains("b=2"), "{shown}");
            }
        }
    }
}

#[test]
fn nginx_caches_tell_withheld_tokens_apart() {
    let world = withholding(ALL)
        .http("proxy_cache_path @DIR@/responses keys_zone=responses:1m;")
        .location(
            "/cached/",
            "keystone_auth on; proxy_pass @UPSTREAM@; proxy_cache responses; proxy_cache_valid 200 1m;
             proxy_cache_key $uri$arg_h; add_header X-Proxy $upstream_cache_status;",
        )
        .start();
    let [alice, bob] = ["alice", "bob"].map(|name| world.pki(&Payload::v3().user(name, name)));
    for (value, request) in WAYS {
        let header = match value {
            "$cookie_keystone" => "Cookie",
            "$keystone_bearer" => "Authorization",
            "$http_x_my_token" => "X-My-Token",
            _ => "X-Auth-Token",
        };
        for vary in [header, "X-Auth-Token"] {
            let ask = |token: &str| {
                let answer = world.send(&request(&format!("/cached/{value}?h=Vary:{vary}"), token));
                assert_eq!(answer.status, 200, "{}", answer.text());
                let seen = Seen::of(&answer).unwrap();
                assert_without(&seen, token);
                let cache = answer.header("X-Proxy").unwrap().to_owned();
                (seen.header("X-User-Id").unwrap(), cache)
            };
            let pair = |user: &str, cache: &str| (user.to_owned(), cache.to_owned());
            assert_eq!(ask(&alice), pair("alice", "MISS"), "{value} {vary}");
            assert_eq!(ask(&bob), pair("bob", "MISS"), "{value} {vary}");
            assert_eq!(ask(&alice), pair("alice", "HIT"), "{value} {vary}");
            assert_eq!(ask(&bob), pair("bob", "HIT"), "{value} {vary}");
            if header == "X-Auth-Token" {
                break;
            }
        }
    }
}

#[test]
fn a_token_in_cookies_and_arguments_of_http_2() {
    if !was_built_with("--with-http_v2_module") {
        return;
    }
    let port = Port::free().unwrap();
    let lines = format!("listen {} http2;", port.address());
    let world = withholding(ALL)
        .http("access_log @DIR@/requests.log combined;")
        .config(|config| config.server(&lines))
        .start();
    let token = world.pki(&Payload::v3());
    let keystone = format!("keystone={token}");
    let argument = format!("/x?a=1&temp={token}");
    for (target, fields) in [
        // A browser may send each cookie in a field of its own.
        ("/x", &[("cookie", "a=1"), ("cookie", keystone.as_str()), ("cookie", "b=2")][..]),
        (&argument, &[("cookie", "a=1; b=2")]),
    ] {
        let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", target)];
        let fields = [&pseudo[..], &[(":authority", "localhost")], fields].concat();
        let before = world.upstream.requests().len();
        wait_for(&format!("{target} upstream"), || {
            exchange(port.address(), &http2::request(&fields)).unwrap();
            (world.upstream.requests().len() > before).then_some(())
        })
        .unwrap();
        let sent = world.upstream.requests().pop().unwrap();
        assert_eq!(sent.headers.text("X-Identity-Status"), Some("Confirmed"), "{target}");
        assert_eq!(sent.headers.text("Cookie"), Some("a=1; b=2"), "{target}");
        assert!(!sent.target.contains(&token), "{}", sent.target);
        assert!(sent.headers.iter().all(|(_, value)| !value.ends_with(token.as_bytes())));
    }
    let log = || std::fs::read_to_string(world.nginx.dir().join("requests.log")).ok();
    let masked = || log().filter(|log| log.contains("\"GET /x?a=1&temp=*** HTTP/2.0\""));
    assert!(!wait_for("the access log", masked).unwrap().contains(&token));
}
