//! `keystone_token`: where the token of a request is, and what becomes of it there.

mod redirects;
mod withheld;

use keystone_testbed::expect;
use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::Payload;
use keystone_testbed::upstream::Seen;
use keystone_testbed::world::{Setup, World};

/// Makes a request for a target that carries a token.
type Carry = fn(&str, &str) -> Request;

/// Each carries a token in another way, with the value of `keystone_token` that takes it.
pub const WAYS: [(&str, Carry); 4] = [
    ("$cookie_keystone", |target, token| {
        Request::get(target).header("Cookie", format!("a=1; keystone={token}; b=2"))
    }),
    ("$arg_temp", |target, token| {
        let separator = if target.contains('?') { '&' } else { '?' };
        Request::get(&format!("{target}{separator}a=1&temp={token}&b=%202"))
    }),
    ("$keystone_bearer", |target, token| {
        Request::get(target).header("Authorization", format!("Bearer {token}"))
    }),
    ("$http_x_my_token", |target, token| Request::get(target).header("X-My-Token", token)),
];

fn taking(values: &str) -> Setup {
    World::setup().offline().set("keystone_token", values)
}

#[test]
fn a_token_from_anywhere_is_one() {
    for (value, request) in WAYS {
        let world = taking(value).start();
        let refused = |answer: &Response, has_token| match value {
            "$keystone_bearer" => expect::refused_with_bearer(answer, has_token),
            _ => expect::refused(answer),
        };
        for token in [world.pki(&Payload::v3()), world.uuid(&Payload::v3())] {
            let seen = world.seen(&request("/x", &token));
            expect::v3_user(&seen);
            // It is left where it was, and is where every upstream looks for it.
            assert_eq!(seen.header("X-Auth-Token"), Some(token.clone()), "{value}");
            assert!(format!("{:?}{}", without_token(&seen), seen.target).contains(&token));
            assert_eq!(seen.target, request("/x", &token).target(), "{value}");
            refused(&world.send(&Request::get("/x").token(&token)), false);
        }
        refused(&world.send(&request("/x", "unknown")), true);
        refused(&world.send(&request("/x", "")), false);
        refused(&world.send(&Request::get("/x")), false);
        // Without the directive, nothing but the two headers counts.
        let usual = World::setup().offline().start();
        expect::refused(&usual.send(&request("/x", &usual.pki(&Payload::v3()))));
    }
}

fn without_token(seen: &Seen) -> Vec<&(String, String)> {
    seen.headers.iter().filter(|(name, _)| name != "X-Auth-Token").collect()
}

#[test]
fn the_first_value_that_is_not_empty_counts() {
    let world =
        taking("$cookie_keystone $keystone_bearer $http_x_auth_token $http_x_storage_token")
            .start();
    let good = world.pki(&Payload::v3());
    let user = |request: Request| world.send(&request).status;
    let cookie = |value: &str| Request::get("/").header("Cookie", format!("keystone={value}"));
    assert_eq!(user(cookie(&good)), 200);
    assert_eq!(user(cookie(&good).header("Authorization", "Bearer bad").token("bad")), 200);
    assert_eq!(user(cookie("bad").token(&good)), 401);
    assert_eq!(user(cookie("").header("Authorization", format!("bearer {good}"))), 200);
    // Not one token of the alphabet, so it is none.
    for header in ["Bearer", "Bearer ", "Bearer a b", "Bearer \"x\"", "Basic eDp5"] {
        assert_eq!(user(cookie("").header("Authorization", header).token(&good)), 200, "{header}");
    }
    assert_eq!(user(Request::get("/").header("X-Storage-Token", &good)), 200);
    // An empty X-Auth-Token beats X-Storage-Token as in auth_token.
    let empty = Request::get("/").header("X-Auth-Token", "").header("X-Storage-Token", &good);
    assert_eq!(user(empty), 401);
    // The upstream finds the token that was judged, and no other one.
    let seen = world.seen(&cookie(&good).header("X-Auth-Token", "other"));
    assert_eq!(seen.header("X-Auth-Token"), Some(good.clone()));
    let seen = world.seen(&Request::get("/").header("X-Storage-Token", &good));
    assert_eq!(seen.header("X-Auth-Token"), Some(good));
}

#[test]
fn an_upstream_finds_no_token_that_nobody_has_judged() {
    let world = taking("$cookie_keystone").start();
    let token = world.pki(&Payload::v3());
    let seen = world.seen(&Request::get("/delay/").token(&token));
    expect::no_identity(&seen);
    assert_eq!(seen.header("X-Auth-Token"), None);
    let seen = world.seen(&Request::get("/delay/").header("Cookie", "keystone=bad").token(&token));
    expect::no_identity(&seen);
    assert_eq!(seen.header("X-Auth-Token").as_deref(), Some("bad"));
    let open = world.seen(&Request::get("/open/").token(&token));
    assert_eq!(open.header("X-Auth-Token"), Some(token));
}

#[test]
fn what_carries_a_token_twice_is_refused() {
    let world = taking("$arg_temp $cookie_keystone $http_x_my_token")
        .location(
            "/usual/",
            "keystone_auth on; keystone_token $http_x_auth_token; proxy_pass @UPSTREAM@;",
        )
        .location(
            "/bearer/",
            "keystone_auth on; keystone_token $keystone_bearer; proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    let twice = |target: &str| {
        [
            Request::get(&format!("{target}?temp={token}&TEMP=x")),
            Request::get(target).header("Cookie", format!("keystone={token}; Keystone=x")),
            Request::get(target)
                .header("Cookie", format!("keystone={token}"))
                .header("Cookie", "keystone=x"),
            Request::get(target).header("X-My-Token", &token).header("x-my-token", "x"),
        ]
    };
    for request in twice("/") {
        assert_eq!(world.send(&request.header("X-Other", "x")).status, 400);
    }
    for carrier in ["cookie \"keystone\"", "argument \"temp\"", "header \"x-my-token\""] {
        let line = format!("keystone: refused: malformed: {carrier} came more than once");
        world.nginx.wait_for_log(&line).unwrap();
    }
    // What is no value here may come as often as it likes.
    for request in twice("/usual/") {
        assert_eq!(world.send(&request.token(&token)).status, 200);
    }
    let usual = Request::get("/usual/").token(&token).header("X-Storage-Token", "x");
    assert_eq!(world.send(&usual.clone().header("X-Storage-Token", "y")).status, 200);
    assert_eq!(world.send(&usual.token(&token)).status, 400);
    let service = Request::get("/").header("X-Service-Token", "x").header("X-Service-Token", "y");
    assert_eq!(world.send(&service).status, 400);
    let log = world.nginx.error_log();
    assert!(!log.contains(&token), "{log}");
    // nginx itself refuses a second Authorization, and shows the first one in its log.
    let bearer = Request::get("/bearer/").header("Authorization", format!("Bearer {token}"));
    assert_eq!(world.send(&bearer).status, 200);
    assert_eq!(world.send(&bearer.clone().header("Authorization", "Bearer x")).status, 400);
    assert_eq!(world.send(&bearer.header("authorization", "Basic eDp5")).status, 400);
}

#[test]
fn a_value_of_several_variables_is_evaluated_in_the_phase_that_judges() {
    let world = World::setup()
        .offline()
        .http("map $cookie_session $mapped { ~^s-(?<inner>.+)$ $inner; }")
        .location("/map/", "keystone_auth on; keystone_token $mapped; proxy_pass @UPSTREAM@;")
        .location(
            "/set/",
            "keystone_auth on; keystone_token ${mine}; set $mine $arg_a$arg_b;
             proxy_pass @UPSTREAM@;",
        )
        .start();
    let token = world.pki(&Payload::v3());
    let cookie = Request::get("/map/").header("Cookie", format!("session=s-{token}"));
    let seen = world.seen(&cookie);
    expect::v3_user(&seen);
    assert_eq!(seen.header("X-Auth-Token"), Some(token.clone()));
    expect::refused(&world.send(&Request::get("/map/").header("Cookie", "session=s")));
    let (start, end) = token.split_at(100);
    expect::v3_user(&world.seen(&Request::get(&format!("/set/?a={start}&b={end}"))));
    expect::refused(&world.send(&Request::get("/set/?a=x")));
}

#[test]
fn answers_vary_by_what_the_token_was_taken_from() {
    let world = taking("$http_x_auth_token $cookie_keystone $keystone_bearer $arg_temp")
        .http("map $http_x_any $any { default $http_x_any; }")
        .location("/any/", "keystone_auth on; keystone_token $any; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    let vary = |request: Request| {
        let answer = world.send(&request);
        assert_eq!(answer.header("Cache-Control"), Some("private"));
        answer.header("Vary").map(str::to_owned)
    };
    let [cookie, argument, bearer, _] = WAYS.map(|(_, request)| request("/", &token));
    let of = |names: &str| Some(names.to_owned());
    assert_eq!(vary(Request::get("/").token(&token)), of("X-Auth-Token"));
    assert_eq!(vary(cookie), of("X-Auth-Token, Cookie"));
    assert_eq!(vary(bearer), of("X-Auth-Token, Cookie, Authorization"));
    assert_eq!(vary(argument), of("X-Auth-Token, Cookie, Authorization"));
    assert_eq!(vary(Request::get("/")), of("X-Auth-Token, Cookie, Authorization"));
    assert_eq!(vary(Request::get("/any/").header("X-Any", &token)), of("*"));
}

#[test]
fn each_level_has_its_values() {
    let world = taking("$cookie_keystone")
        .location(
            "/inner/",
            "keystone_auth on; keystone_token $keystone_bearer; proxy_pass @UPSTREAM@;
             location /inner/deep/ { proxy_pass @UPSTREAM@; limit_except GET { deny all; } }",
        )
        .start();
    let token = world.pki(&Payload::v3());
    let token = token.as_str();
    let [cookie, _, bearer, _] = WAYS.map(|(_, request)| move |target| request(target, token));
    for (target, status) in [("/", 401), ("/inner/", 200), ("/inner/deep/x", 200)] {
        assert_eq!(world.send(&bearer(target)).status, status, "{target}");
        assert_eq!(world.send(&cookie(target)).status, 601 - status, "{target}");
    }
    // A cached token is looked for where the location says, each time.
    assert_eq!(world.send(&cookie("/")).header("X-Cache"), Some("HIT"));
    expect::refused_with_bearer(&world.send(&cookie("/inner/")), false);
}

#[test]
fn another_module_that_is_satisfied_needs_no_token() {
    let world = taking("$cookie_keystone")
        .location("/any/", "keystone_auth on; satisfy any; allow all; proxy_pass @UPSTREAM@;")
        .location("/none/", "keystone_auth on; satisfy any; deny all; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.pki(&Payload::v3());
    let [cookie, ..] = WAYS.map(|(_, request)| request("/none/", &token));
    assert_eq!(world.send(&Request::get("/any/")).status, 200);
    expect::v3_user(&world.seen(&cookie));
    expect::refused(&world.send(&Request::get("/none/").token(&token)));
}

#[test]
fn the_variable_of_the_bearer_token() {
    let world = taking("$keystone_bearer")
        .location("/shown/", "keystone_auth off; return 200 \"[$keystone_bearer]\";")
        .start();
    for (header, shown) in [
        ("Bearer abc.def", "[abc.def]"),
        ("BEARER  abc==", "[abc==]"),
        ("Bearer a b", "[]"),
        ("Basic abc", "[]"),
    ] {
        let answer = world.send(&Request::get("/shown/").header("Authorization", header));
        assert_eq!(answer.text(), shown, "{header}");
    }
    assert_eq!(world.send(&Request::get("/shown/")).text(), "[]");
}

#[test]
fn logs_show_no_argument_that_is_a_token() {
    let world = World::setup()
        .http("access_log @DIR@/requests.log combined;")
        .location(
            "/argument/",
            "keystone_auth on; keystone_token $arg_temp; set $early $request;
             proxy_pass @UPSTREAM@;",
        )
        .location("/open/", "keystone_auth off; keystone_token $arg_temp; proxy_pass @UPSTREAM@;")
        .start();
    let token = world.uuid(&Payload::v3());
    for target in ["/argument/x?a=1&temp=@&b=2", "/argument/x?TEMP=@", "/argument/x?temp=not-@"] {
        let target = target.replace('@', &token);
        let seen = world.send(&Request::get(&target));
        assert_eq!(seen.status == 200, !target.contains("not-"), "{}", seen.text());
        assert!(seen.status != 200 || Seen::of(&seen).unwrap().target == target);
    }
    world.send(&Request::get("/open/?temp=other"));
    let logged = || std::fs::read_to_string(world.nginx.dir().join("requests.log")).ok();
    let all = || logged().filter(|log| log.contains("/open/?temp=other"));
    let log = keystone_testbed::wait_for("the access log", all).unwrap();
    assert!(log.contains("\"GET /argument/x?a=1&temp=***&b=2 HTTP/1.1\" 200"), "{log}");
    assert!(log.contains("\"GET /argument/x?TEMP=*** HTTP/1.1\" 200"), "{log}");
    assert!(log.contains("\"GET /argument/x?temp=*** HTTP/1.1\" 401"), "{log}");
    for log in [log, world.nginx.error_log()] {
        assert!(!log.contains(&token), "{log}");
    }
}
