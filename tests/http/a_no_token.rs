//! Section A of `docs/behaviour.md`: no token, and tokens that are none.

use std::time::Duration;

use keystone_testbed::expect;
use keystone_testbed::http::Request;
use keystone_testbed::mint::{md5, new_fernet, new_jws, new_uuid, Payload};
use keystone_testbed::nginx::{exchange, was_built_with};
use keystone_testbed::port::Port;
use keystone_testbed::wait_for;
use keystone_testbed::world::World;

use crate::http2;

#[test]
fn a01_no_token() {
    let world = World::setup().start();
    expect::refused(&world.send(&Request::get("/")));
    expect::refused(&world.send(&Request::get("/files/hello.txt")));
    expect::refused(&world.send(&Request::new("POST", "/").body(b"hello")));
    assert!(world.upstream.requests().is_empty());
}

#[test]
fn a02_no_token_with_head() {
    let world = World::setup().start();
    let mut client = world.nginx.connect().unwrap();
    let answer = client.send(&Request::head("/")).unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("Content-Length"), Some("114"));
    assert!(answer.header("WWW-Authenticate").is_some());
    // Were there a body, it would stand before the next answer.
    expect::refused(&client.send(&Request::get("/")).unwrap());
}

#[test]
fn a03_blank_token() {
    let world = World::setup().offline().start();
    for blank in ["", " ", "\t", "\t \t", "  "] {
        let answer = world.send(&Request::get("/").token(blank));
        expect::refused(&answer);
        assert_eq!(answer.header("X-Result"), Some("no_token"), "{blank:?}");
    }
}

#[test]
fn a04_no_token_makes_no_traffic() {
    let world = World::setup().start();
    for target in ["/", "/files/hello.txt", "/delay/"] {
        world.send(&Request::get(target));
        world.send(&Request::get(target).token(""));
    }
    assert_eq!(world.identity.requests(), [""; 0]);
    assert_eq!(world.identity.connections(), 0);
}

#[test]
fn a05_starting_makes_no_traffic() {
    let world = World::setup().workers(2).start();
    // Nothing happens that could be waited for.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(world.identity.requests(), [""; 0]);
    assert_eq!(world.identity.connections(), 0);
}

#[test]
fn a06_pki_prefix_without_a_cms_makes_no_traffic() {
    let world = World::setup().start();
    let blocks = ["A", "B", "C", "D", "E", "F", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let token = format!("MII{}{}", blocks.map(|block| block.repeat(64)).concat(), "0".repeat(61));
    assert_eq!(token.len(), 3 + 1085);
    let answer = world.send(&Request::get("/").token(&token));
    expect::refused(&answer);
    assert_eq!(answer.header("X-Result"), Some("malformed"));
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn a07_pkiz_with_bad_padding_makes_no_traffic() {
    let world = World::setup().start();
    for tail in ["A".repeat(1085), "AAAA=".into(), "A===".into(), String::new(), "*".into()] {
        let answer = world.send(&Request::get("/").token(&format!("PKIZ_{tail}")));
        expect::refused(&answer);
        assert_eq!(answer.header("X-Result"), Some("malformed"), "{tail:?}");
    }
    assert_eq!(world.identity.requests(), [""; 0]);
}

#[test]
fn a08_neither_pki_nor_pkiz() {
    let world = World::setup().start();
    let tokens = [new_uuid(), new_uuid().to_uppercase(), new_fernet(), new_jws(), "x".into()];
    for token in &tokens {
        let answer = world.send(&Request::get("/").token(token));
        expect::refused(&answer);
        assert_eq!(answer.header("X-Result"), Some("unknown_token"));
        let line = world.nginx.wait_for_log(&md5(token)).unwrap();
        assert!(line.contains("[info]") && line.contains("unknown"), "{line}");
    }
    assert_eq!(world.identity.validations(), tokens);
}

#[test]
fn a10_an_ipv6_address_keeps_its_brackets() {
    let uri = "http://[2001:2013:1:f101::1]:1234";
    let world = World::setup().set("keystone_auth_uri", uri).start();
    let answer = world.send(&Request::get("/"));
    let challenge = format!("Keystone uri=\"{uri}\"");
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge.as_str()));
}

#[test]
fn a11_storage_token() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let seen = world.seen(&Request::get("/").header("X-Storage-Token", &token));
    expect::v3_user(&seen);
    assert_eq!(seen.header("X-Storage-Token").as_ref(), Some(&token));
    // For an upstream that knows nothing of the other header.
    assert_eq!(seen.header("X-Auth-Token"), Some(token));
}

#[test]
fn a12_auth_token_wins_over_storage_token() {
    let world = World::setup().offline().start();
    let good = world.pki(&Payload::v3());
    let request = |auth: &str, storage: &str| {
        Request::get("/").header("X-Storage-Token", storage).header("X-Auth-Token", auth)
    };
    expect::v3_user(&world.seen(&request(&good, "nonsense")));
    expect::refused(&world.send(&request("nonsense", &good)));
}

#[test]
fn blanks_and_tabs_around_a_token_are_no_part_of_it() {
    let world = World::setup().offline().location("/shown/", SHOWN).start();
    let token = world.pki(&Payload::v3().roles(&["service"]));
    let uuid = world.uuid(&Payload::v3());
    for (before, after) in AROUND {
        for token in [&token, &uuid] {
            let padded = format!("{before}{token}{after}");
            for name in ["X-Auth-Token", "X-Storage-Token"] {
                let seen = world.seen(&Request::get("/shown/").header(name, &padded));
                assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
                assert!(seen.header("X-Shown").unwrap().contains(&format!("[{token}]")));
            }
        }
        let padded = format!("{before}{token}{after}");
        let request = Request::get("/shown/").token(&uuid).header("X-Service-Token", &padded);
        let seen = world.seen(&request);
        assert_eq!(seen.header("X-Service-Identity-Status").as_deref(), Some("Confirmed"));
        assert!(seen.header("X-Shown").unwrap().ends_with(&format!("[{token}]")));
        // A blank X-Auth-Token is an empty one, which wins as well.
        let blank = Request::get("/").token(before).header("X-Storage-Token", &token);
        expect::refused(&world.send(&blank));
    }
    // The cache and the identity service know one token, however it is padded.
    assert_eq!(world.identity.validations(), [uuid.as_str()]);
}

#[test]
fn the_same_over_http_2() {
    if !was_built_with("--with-http_v2_module") {
        return;
    }
    let port = Port::free().unwrap();
    let lines = format!("listen {} http2;", port.address());
    let world = World::setup()
        .offline()
        .config(|config| config.server(&lines))
        .location("/shown/", SHOWN)
        .start();
    let token = world.pki(&Payload::v3().roles(&["service"]));
    let send = |headers: &[(&str, &str)]| {
        let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/shown/")];
        let fields = [&pseudo[..], &[(":authority", "localhost")], headers].concat();
        let seen = || world.upstream.requests().len();
        let before = seen();
        // On a slow machine the exchange may end before the request has got through.
        wait_for(&format!("{headers:?} upstream"), || {
            exchange(port.address(), &http2::request(&fields)).unwrap();
            (seen() > before).then_some(())
        })
        .unwrap();
    };
    for (before, after) in AROUND {
        let padded = format!("{before}{token}{after}");
        send(&[("x-auth-token", &padded), ("x-service-token", &padded)]);
        send(&[("x-storage-token", &padded)]);
    }
    for request in world.upstream.requests() {
        assert_eq!(request.headers.text("X-Identity-Status"), Some("Confirmed"));
        assert!(request.headers.text("X-Shown").unwrap().contains(&format!("[{token}]")));
    }
}

/// Shows the tokens as nginx has them, with the blanks that a server of HTTP would remove.
const SHOWN: &str = "keystone_auth on; proxy_pass @UPSTREAM@;
    proxy_set_header X-Shown [$http_x_auth_token][$http_x_storage_token][$http_x_service_token];";

const AROUND: [(&str, &str); 6] =
    [("\t", ""), ("", "\t"), ("", " "), (" ", " "), (" \t ", "\t \t"), ("   ", "\t")];

#[test]
fn a13_a_service_token_is_no_user_token() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    expect::refused(&world.send(&Request::get("/").header("X-Service-Token", &token)));
}

#[test]
fn a14_the_token_is_passed_on_unchanged() {
    let world = World::setup().offline().start();
    for token in [world.pki(&Payload::v3()), world.pkiz(&Payload::v2())] {
        let seen = world.seen(&Request::get("/").token(&token));
        assert_eq!(seen.header("X-Auth-Token"), Some(token));
    }
}

#[test]
fn a14_unless_it_shall_not() {
    let world = World::setup().offline().set("keystone_forward_token", "off").start();
    let token = world.pki(&Payload::v3().roles(&["service"]));
    let request = Request::get("/")
        .token(&token)
        .header("X-Storage-Token", &token)
        .header("X-Service-Token", &token)
        .header("X-Token", "stays");
    let seen = world.seen(&request);
    assert_eq!(seen.header("X-User-Id").as_deref(), Some("user_id1"));
    for name in ["X-Auth-Token", "X-Storage-Token", "X-Service-Token"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("X-Token").as_deref(), Some("stays"));
}

#[test]
fn a_token_header_given_twice() {
    let world = World::setup().offline().start();
    let token = world.pki(&Payload::v3());
    let good = Request::get("/").token(&token);
    for name in ["X-Auth-Token", "X-Storage-Token", "X-Service-Token"] {
        for (one, two) in [(token.as_str(), token.as_str()), (&token, ""), ("", &token)] {
            let twice = match name {
                "X-Auth-Token" => Request::get("/").header(name, one).header("x-auth-TOKEN", two),
                _ => good.clone().header(name, one).header(name.to_lowercase(), two),
            };
            let answer = world.send(&twice);
            assert_eq!(answer.status, 400, "{name}");
            assert_eq!(answer.header("Content-Type"), Some("text/html"));
        }
    }
    assert!(world.upstream.requests().is_empty());
    // Where auth is off, they are none of our business.
    let open = Request::get("/open/").token(&token).token(&token);
    assert_eq!(world.send(&open).status, 200);
}

#[test]
fn a_token_header_with_underscores() {
    let underscores = "underscores_in_headers on;";
    let world = World::setup()
        .offline()
        .config(|config| config.server(underscores))
        .set("keystone_forward_token", "off")
        .start();
    // To what stands behind CGI or WSGI it is the same header: it must not be another's token.
    let token = world.pki(&Payload::v3());
    let both = Request::get("/").token(&token).header("X_Auth_Token", "other");
    assert_eq!(world.send(&both).status, 400);
    let storage = Request::get("/").token(&token).header("X_Storage_Token", "other");
    assert_eq!(world.seen(&storage).header("X_Storage_Token"), None);
}

#[test]
fn a_token_of_64_kilobytes() {
    let world = World::setup().offline().start();
    let big = world.pki(&Payload::v3().padded(46_000));
    assert!((60_000..65_000).contains(&big.len()), "{}", big.len());
    assert_eq!(world.status(&big), 200);
    assert_eq!(world.status(&big), 200);
    let too_big = world.pki(&Payload::v3().padded(50_000));
    let answer = world.send(&Request::get("/").token(&too_big));
    assert_eq!(answer.status, 400, "longer than nginx's buffers");
    for garbage in ["A", "M", "MII", "PKIZ_", "gAAAAA"] {
        let token = format!("{garbage}{}", "A".repeat(64_000));
        expect::refused(&world.send(&Request::get("/").token(&token)));
    }
}

#[test]
fn a_token_of_odd_bytes() {
    let world = World::setup().offline().start();
    let good = world.pki(&Payload::v3());
    let odd: [Vec<u8>; 6] = [
        b"MII\xff\xfe".to_vec(),
        b"PKIZ_\x80".to_vec(),
        "MII\u{fc}".into(),
        [good.as_bytes(), b"\x01"].concat(),
        [good.as_bytes(), b" x"].concat(),
        [good.replace('-', "/").as_bytes(), b"/"].concat(),
    ];
    for token in odd {
        let answer = world.send(&Request::get("/").header("X-Auth-Token", &token));
        expect::refused(&answer);
    }
    assert_eq!(world.status(&good), 200);
}
