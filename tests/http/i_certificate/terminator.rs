//! TLS ends in front of nginx, and the certificate comes in a header.

use keystone_testbed::http::{Request, Response};
use keystone_testbed::mint::Payload;
use keystone_testbed::pki::TlsFiles;
use keystone_testbed::world::{Setup, World};

use super::refused;

struct Behind {
    world: World,
    owner: String,
    other: String,
}

impl Behind {
    fn start(change: impl FnOnce(Setup) -> Setup) -> Self {
        let files = TlsFiles::new().unwrap();
        let pem = |serial| files.client("client", serial).unwrap().pem().unwrap();
        let world = change(World::setup().offline()).start();
        Self { world, owner: pem(31), other: pem(32) }
    }

    fn token(&self) -> String {
        self.world.pki(&Payload::v3().bound_to_certificate(&self.owner))
    }

    fn ask(&self, path: &str, token: &str, certificates: &[&str]) -> Response {
        let request = Request::get(path).token(token);
        let with =
            |request: Request, certificate: &&str| request.header("X-Ssl-Client-Cert", certificate);
        self.world.send(&certificates.iter().fold(request, with))
    }
}

/// What nginx makes of it in `$ssl_client_escaped_cert`.
fn escaped(pem: &str) -> String {
    let mut text = String::new();
    for byte in pem.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// With blanks for line ends, as Apache's `RequestHeader set ... "%{SSL_CLIENT_CERT}s"` sends it.
fn folded(pem: &str) -> String {
    pem.replace('\n', " ")
}

#[test]
fn in_each_form_that_terminators_send() {
    let behind =
        Behind::start(|setup| setup.set("keystone_client_certificate", "$http_x_ssl_client_cert"));
    let token = behind.token();
    for form in [escaped, folded, |pem: &str| pem.replace('\n', "")] {
        for _ in 0..2 {
            assert_eq!(behind.ask("/", &token, &[&form(&behind.owner)]).status, 200);
            refused(&behind.ask("/", &token, &[&form(&behind.other)]));
        }
    }
    for nothing in [&[][..], &[""], &["(null)"], &["-----BEGIN CERTIFICATE-----"], &["%"]] {
        refused(&behind.ask("/", &token, nothing));
    }
    let log = behind.world.nginx.error_log();
    let reason = "the value of keystone_client_certificate is not a certificate in PEM";
    assert!(log.contains(reason), "{log}");
    assert!(log.contains("the client has shown no certificate"), "{log}");
    assert!(!log.contains(&folded(&behind.owner)), "{log}");
}

/// A terminator that adds its header to that of the client, instead of replacing it: nothing says
/// which of the two is true.
#[test]
fn two_of_them_are_none() {
    let behind = Behind::start(|setup| {
        setup.set("keystone_client_certificate", "$http_x_ssl_client_cert$arg_more")
    });
    let token = behind.token();
    let (owner, other) = (escaped(&behind.owner), escaped(&behind.other));
    assert_eq!(behind.ask("/", &token, &[&owner]).status, 200);
    for more in [&owner, &other] {
        refused(&behind.ask(&format!("/?more={more}"), &token, &[&owner]));
        refused(&behind.ask(&format!("/?more={owner}"), &token, &[more]));
    }
}

#[test]
fn the_nearest_level_says_where_it_is() {
    let behind = Behind::start(|setup| {
        setup
            .set("keystone_client_certificate", "$http_x_ssl_client_cert")
            .location("/inherits/", "keystone_auth on; proxy_pass @UPSTREAM@;")
            .location(
                "/own/",
                "keystone_auth on; keystone_client_certificate $arg_cert; proxy_pass @UPSTREAM@;
                 location /own/inner/ { proxy_pass @UPSTREAM@; }",
            )
            .location(
                "/connection/",
                "keystone_auth on; keystone_client_certificate $ssl_client_raw_cert;
                 proxy_pass @UPSTREAM@;",
            )
    });
    let token = behind.token();
    let owner = escaped(&behind.owner);
    for (path, header, argument) in [
        ("/inherits/", 200, 401),
        ("/own/", 401, 200),
        ("/own/inner/", 401, 200),
        ("/connection/", 401, 401),
    ] {
        assert_eq!(behind.ask(path, &token, &[&owner]).status, header, "{path}");
        let with = format!("{path}?cert={owner}");
        assert_eq!(behind.ask(&with, &token, &[]).status, argument, "{path}");
    }
}
