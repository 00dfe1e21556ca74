//! Keystone, and all that can be between it and a gateway.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use keystone_testbed::identity::{
    Fault, Identity, Tls, ADMIN_TOKEN, CREDENTIAL_ID, CREDENTIAL_SECRET,
};
use keystone_testbed::memcached::Memcached;
use keystone_testbed::mint::{jws_claims, JwsKey, Payload, Revoked};
use keystone_testbed::nginx::worker_user;
use keystone_testbed::pki::{Pki, Shape, TlsFiles};
use keystone_testbed::temp::set_mode;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::symm::Cipher;
use serde_json::Value;

use super::gateway::{is_root, Gateway};

#[test]
fn a_keystone_that_is_down_differs_from_one_that_hangs() {
    let mut gateway = Gateway::new();
    gateway.identity.stop();
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.tcp", "fail", "nothing listens").says("files.current", "skip", "");
    assert!(outcome.find("keystone.login").is_none());
    gateway.identity.restart().unwrap();

    gateway.more = "keystone_read_timeout 200ms;".into();
    gateway.identity.fault("/", Fault::Silence);
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.version", "fail", "timed out").says(
        "keystone.version",
        "fail",
        "overloaded",
    );
}

#[test]
fn what_is_not_keystone_is_reported() {
    let gateway = Gateway::new();
    for (fault, text) in [
        (Fault::Garbage, "does not speak HTTP"),
        (Fault::Half, "does not speak HTTP"),
        (Fault::Body(b"<html>hello</html>".to_vec()), "not Keystone"),
        (Fault::Status(401), "in front of it"),
        (Fault::Status(404), "no Keystone below this path"),
        (Fault::Status(503), "see Keystone's own log"),
    ] {
        gateway.identity.fault("/", fault);
        let outcome = gateway.check();
        assert_eq!(outcome.code, 1, "{}", outcome.human);
        outcome.says("keystone.version", "fail", text);
        gateway.identity.heal();
    }
    gateway.identity.fault("/", Fault::Chunked);
    gateway.check().is_well();
}

#[test]
fn a_redirect_is_followed_as_the_module_follows_it() {
    let mut gateway = Gateway::new();
    let uri = gateway.identity.uri();
    gateway.identity.state().prefix = "/identity".to_owned();
    gateway.settings = Some(format!(
        "keystone_auth_uri {uri}/old; keystone_signing_dir keystone; \
         keystone_admin_token {ADMIN_TOKEN};"
    ));
    let redirect = |location: String| {
        gateway.identity.heal();
        gateway.identity.fault("/old", Fault::Status(302));
        gateway.identity.fault("/old", Fault::Header("Location", location));
    };
    redirect("/identity/".to_owned());
    gateway.check().is_well();
    assert!(gateway.identity.count("/identity/v3/auth/tokens") > 0);
    redirect(format!("https://user:s3cret@{}/v3/?x", gateway.identity.address()));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.version", "fail", "redirect with status 302 to");
    assert!(!outcome.human.contains("s3cret"), "{}", outcome.human);
}

#[test]
fn a_404_that_is_not_keystones_is_told() {
    let gateway = Gateway::new();
    for (path, check) in [
        ("/v3/OS-SIMPLE-CERT", "keystone.certificates"),
        ("/v3/auth/tokens/OS-PKI", "keystone.revocation_list"),
    ] {
        gateway.identity.fault(path, Fault::Status(404));
        let outcome = gateway.check();
        assert_eq!(outcome.code, 1, "{}", outcome.human);
        outcome.says(check, "fail", "status 404 without an error document of Keystone");
        outcome.says(check, "fail", "load balancer");
        gateway.identity.heal();
    }
    // With one it has said that there are none.
    gateway.identity.fault("/v3/OS-SIMPLE-CERT", Fault::Status(404));
    let body = br#"{"error": {"message": "no", "code": 404, "title": "Not Found"}}"#;
    gateway.identity.fault("/v3/OS-SIMPLE-CERT", Fault::Body(body.to_vec()));
    gateway.check().says("keystone.certificates", "ok", "none (status 404)");
}

#[test]
fn status_203_is_as_good_as_200() {
    let gateway = Gateway::new();
    gateway.identity.fault("/", Fault::StatusAlone(203));
    gateway.check().is_well();
}

#[test]
fn every_kind_of_credentials_is_tried() {
    let mut gateway = Gateway::new();
    let uri = gateway.identity.uri();
    gateway.write("secret", &format!("{CREDENTIAL_SECRET}\n"));
    keystone_testbed::temp::set_mode(&gateway.dir.join("secret"), 0o600).unwrap();
    let start = format!("keystone_auth_uri {uri}; keystone_signing_dir keystone;");
    gateway.settings = Some(format!(
        "{start} keystone_application_credential_id {CREDENTIAL_ID}; \
         keystone_application_credential_secret file:secret;"
    ));
    gateway.check().is_well().says("settings.credentials", "ok", CREDENTIAL_ID);
    gateway.settings = Some(format!("{start} keystone_admin_token {ADMIN_TOKEN};"));
    gateway.check().is_well().says("keystone.role", "ok", "is accepted");
    gateway.settings = Some(format!("{start} keystone_admin_token wrong;"));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.role", "fail", "keystone_admin_token");
    gateway.settings = Some(start);
    gateway.check().says("keystone.login", "skip", "no credentials");
}

#[test]
fn both_versions_are_spoken() {
    let mut gateway = Gateway::new();
    gateway.identity.state().v3 = false;
    gateway.check().is_well().says("keystone.version", "ok", "v2.0");
    gateway.more = "keystone_auth_version v3;".into();
    gateway.check().says("keystone.version", "fail", "404");
    gateway.identity.state().v3 = true;
    gateway.check().is_well().says("keystone.version", "ok", "as configured");
}

#[test]
fn refused_credentials_are_reported_with_the_command_to_try_them() {
    let gateway = Gateway::new();
    gateway.write("password", "wrong");
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.login", "fail", "401").says("keystone.login", "fail", "token issue");
    gateway.identity.fault_logins(Fault::Status(403));
    gateway.check().says(
        "keystone.login",
        "fail",
        "role add --project service --user gateway service",
    );
}

#[test]
fn a_user_without_the_role_is_reported() {
    let gateway = Gateway::new();
    gateway.identity.state().service_roles = vec!["member".into()];
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.role", "fail", "role add").says("keystone.role", "fail", "503");
    gateway.identity.fault_validations(Fault::Status(403));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.role", "fail", "does not suffice");
}

#[test]
fn a_keystone_without_a_list_is_asked_about_every_token() {
    let gateway = Gateway::new();
    gateway.identity.fault("/v3/auth/tokens/OS-PKI", Fault::Status(403));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("keystone.revocation_list", "warn", "revoke_by_id");
    gateway.identity.heal();
    gateway.identity.fault("/v3/auth/tokens/OS-PKI", Fault::Status(500));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.revocation_list", "fail", "database");
}

#[test]
fn a_list_that_does_not_fit_into_the_zone_is_reported() {
    let mut gateway = Gateway::new();
    // A sixteenth of a megabyte has room for 1,344 ids.
    for number in 0..1_344 {
        gateway.identity.revoke(Revoked::id(format!("{number:032x}")));
    }
    gateway.more = "keystone_cache_zone zone=small:1m;".to_owned();
    gateway.check().says("keystone.revocation_list", "ok", "1344 entries");
    gateway.identity.revoke(Revoked::id("ff".repeat(16)));
    let outcome = gateway.check();
    outcome.says("keystone.revocation_list", "warn", "1345 entries, too many");
    outcome.says("keystone.revocation_list", "warn", "zone=small:2m;");
    gateway.more = "keystone_cache_zone zone=small:2m;".to_owned();
    gateway.check().says("keystone.revocation_list", "ok", "1345 entries");
}

#[test]
fn a_keystone_of_today_has_no_certificates() {
    let mut gateway = Gateway::new();
    for name in ["signing_cert.pem", "cacert.pem", "revoked.pem"] {
        std::fs::remove_file(gateway.signing_dir().join(name)).unwrap();
    }
    gateway.identity.fault("/v3/OS-SIMPLE-CERT", Fault::Status(410));
    gateway.more = "keystone_revocation_events 5s;".into();
    let outcome = gateway.check();
    outcome.is_well();
    outcome
        .says("keystone.certificates", "ok", "issues Fernet or JWS tokens")
        .says("keystone.revocation_events", "ok", "")
        .says("files.signing_cert", "skip", "none to serve");
    assert!(outcome.find("keystone.revocation_list").is_none());
    gateway.identity.fault("/v3/OS-REVOKE", Fault::Status(403));
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.revocation_events", "fail", "role add");
}

#[test]
fn certificates_that_cannot_be_used_are_reported() {
    let gateway = Gateway::new();
    gateway.identity.set_certificates("garbage", "garbage");
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.certificates", "fail", "no certificate");
    gateway.identity.fault("/v3/OS-SIMPLE-CERT", Fault::Status(500));
    gateway.check().says("keystone.certificates", "fail", "pki_setup");
}

#[test]
fn clocks_that_differ_are_reported() {
    let gateway = Gateway::new();
    for (ahead, status) in [(120, "warn"), (3_700, "fail")] {
        let date = keystone_token::time::format_utc(keystone_testbed::now() - ahead);
        let words = Command::new("date")
            .args(["-u", "-d", &date, "+%a, %d %b %Y %H:%M:%S GMT"])
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let date = String::from_utf8(words.stdout).unwrap().trim().to_owned();
        gateway.identity.fault("/", Fault::Header("Date", date));
        let outcome = gateway.check();
        assert_eq!(outcome.code, i32::from(status == "fail"), "{}", outcome.human);
        outcome.says("keystone.clock", status, "ahead of");
        gateway.identity.heal();
    }
}

#[test]
fn a_slow_answer_in_time_is_an_answer() {
    let mut gateway = Gateway::new();
    gateway.more = "keystone_read_timeout 2s;".into();
    gateway.identity.fault("/v3/OS-SIMPLE-CERT/ca", Fault::Delay(Duration::from_millis(300)));
    gateway.check().is_well();
}

/// A gateway before a Keystone that speaks TLS with these files.
fn with_tls(files: &TlsFiles, demand_client_certificate: bool, settings: &str) -> Gateway {
    let pki = Pki::new().unwrap();
    let tls = Tls { files, demand_client_certificate };
    let identity = Identity::start_tls(&pki, &tls).unwrap();
    let mut gateway = Gateway::before(pki, identity);
    gateway.more = settings.to_owned();
    gateway
}

#[test]
fn the_tls_certificate_is_reported() {
    let files = TlsFiles::new().unwrap();
    let ca = files.ca().display().to_string();
    let gateway = with_tls(&files, false, &format!("keystone_ssl_trusted_certificate {ca};"));
    gateway.check().is_well().says("keystone.tls", "ok", "CN=localhost");

    let (certificate, key) = (files.path("client.pem"), files.path("client.key"));
    let settings = format!(
        "keystone_ssl_trusted_certificate {ca}; keystone_ssl_certificate {}; \
         keystone_ssl_certificate_key {};",
        certificate.display(),
        key.display()
    );
    with_tls(&files, true, &settings).check().is_well();

    // Of a key with a passphrase nobody is asked for it.
    let pair = PKey::private_key_from_pem(&fs::read(&key).unwrap()).unwrap();
    let pem = pair.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"x").unwrap();
    fs::write(&key, pem).unwrap();
    let outcome = with_tls(&files, true, &settings).check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.tls", "fail", "client.key").says("keystone.tls", "fail", "nginx -t");
}

#[test]
fn a_missing_client_certificate_is_reported() {
    // Before TLS 1.3 it is looked at in the handshake, and then after it. In neither is the
    // server's to blame, which nobody wants verified.
    let builders = [SslAcceptor::mozilla_intermediate, SslAcceptor::mozilla_intermediate_v5];
    for (new_builder, check) in builders.into_iter().zip(["keystone.tls", "keystone.version"]) {
        let address = demand_client_certificate(new_builder(SslMethod::tls_server()).unwrap());
        let mut gateway = Gateway::new();
        gateway.settings = Some(format!(
            "keystone_auth_uri https://{address}; keystone_signing_dir keystone; \
             keystone_ssl_verify off;"
        ));
        gateway.check().says(check, "fail", "(keystone_ssl_certificate)");
    }
}

/// A server with a certificate that nobody has signed, which ends with the process.
fn demand_client_certificate(mut acceptor: SslAcceptorBuilder) -> SocketAddr {
    let files = TlsFiles::self_signed().unwrap();
    acceptor.set_certificate_chain_file(files.path("server.pem")).unwrap();
    acceptor.set_private_key_file(files.path("server.key"), SslFiletype::PEM).unwrap();
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // Kept open, so that the client gets to read why.
        let accept = |stream| acceptor.accept(stream);
        listener.incoming().flatten().map(accept).collect::<Vec<_>>()
    });
    address
}

#[test]
fn the_report_says_why_a_tls_certificate_does_not_verify() {
    let files = TlsFiles::new().unwrap();
    let ca = files.ca().display().to_string();

    let gateway = with_tls(&files, false, "");
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1);
    outcome.says("keystone.tls", "fail", "keystone_ssl_trusted_certificate");
    outcome.says("keystone.tls", "fail", "openssl s_client");
    // Nothing was asked, least of all with a password.
    assert_eq!(gateway.identity.requests(), [""; 0]);

    let settings = format!("keystone_ssl_trusted_certificate {ca}; keystone_ssl_name other;");
    with_tls(&files, false, &settings).check().says("keystone.tls", "fail", "another name");

    let outcome = with_tls(&files, false, "keystone_ssl_verify off;").check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("settings.ssl_verify", "warn", "").says("keystone.tls", "ok", "not verified");

    let files = TlsFiles::with(&Shape::server("localhost").expired()).unwrap();
    let settings = format!("keystone_ssl_trusted_certificate {};", files.ca().display());
    let outcome = with_tls(&files, false, &settings).check();
    outcome.says("keystone.tls", "fail", "has expired").says("keystone.tls", "fail", "renew");

    let outcome =
        with_tls(&files, false, "keystone_ssl_trusted_certificate /no/such/file;").check();
    assert_eq!(outcome.code, 1);
    outcome.says("configuration.directive", "fail", "/no/such/file");
}

#[test]
fn https_to_a_port_of_http_is_reported() {
    let mut gateway = Gateway::new();
    let uri = gateway.identity.uri().replace("http://", "https://");
    gateway.settings = Some(format!("keystone_auth_uri {uri}; keystone_signing_dir keystone;"));
    gateway.check().says("keystone.tls", "fail", "does not speak TLS");
}

#[test]
fn an_expired_certificate_of_keystone_s_is_no_other_certificate() {
    let pki = Pki::with(&Shape::authority(), &Shape::signing().expired()).unwrap();
    let outcome = Gateway::with(pki).check();
    assert_eq!(outcome.code, 1);
    outcome
        .says("keystone.certificates", "fail", "expired")
        .says("keystone.revocation_list", "skip", "not valid now")
        .says("files.revoked", "skip", "not valid now");
    assert!(!outcome.human.contains("certfile"), "{}", outcome.human);
}

#[test]
fn a_key_that_keystone_signs_with_and_the_gateway_lacks_is_reported() {
    let mut gateway = Gateway::new();
    let key = JwsKey::new().unwrap();
    gateway.write("jws.pem", &String::from_utf8(key.public_pem().unwrap()).unwrap());
    gateway.more = "keystone_jws_keys jws.pem;".into();
    gateway.check().says("keystone.jws_keys", "ok", "no JWS tokens");
    gateway.identity.state().jws_key = Some(key);
    gateway.check().says("keystone.jws_keys", "ok", "signs with one").is_well();
    gateway.identity.state().jws_key = Some(JwsKey::new().unwrap());
    let outcome = gateway.check();
    assert_eq!(outcome.code, 1, "{}", outcome.human);
    outcome.says("keystone.jws_keys", "fail", "reload nginx");
}

#[test]
fn a_signature_that_was_not_looked_at_is_not_said_to_be_good() {
    let mut gateway = Gateway::new();
    let (key, other) = (JwsKey::new().unwrap(), JwsKey::new().unwrap());
    gateway.write("jws.pem", &String::from_utf8(key.public_pem().unwrap()).unwrap());
    gateway.more = "keystone_jws_keys jws.pem;".into();
    // As it looks to a machine whose clock is two minutes behind.
    let mut claims: Value = serde_json::from_str(&jws_claims(3600)).unwrap();
    claims["iat"] = (keystone_testbed::now() + 120).into();
    let token = other.token_of(r#"{"alg":"ES256","typ":"JWT"}"#, &claims.to_string()).unwrap();
    let mut answer: Value = serde_json::from_str(&Payload::v2().json()).unwrap();
    answer["access"]["token"]["id"] = token.into();
    gateway.identity.state().v3 = false;
    gateway.identity.fault_logins(Fault::Body(answer.to_string().into_bytes()));
    gateway.check().says("keystone.jws_keys", "skip", "check the clocks");
}

/// Debian's administrators put nginx's user into memcached's group.
#[test]
fn a_socket_of_a_group_that_nginx_s_user_is_in_is_open_to_it() {
    let Some(user) = worker_user() else { return };
    let mut gateway = Gateway::new();
    let socket = Memcached::start_unix().unwrap();
    let path = socket.server().trim_start_matches("unix:").to_owned();
    std::os::unix::fs::chown(&path, Some(0), Some(GROUP)).unwrap();
    set_mode(Path::new(&path), 0o660).unwrap();
    gateway.more = format!(
        "keystone_memcached_servers {}; keystone_memcached_security_strategy mac;
         keystone_memcached_secret_key s3;",
        socket.server()
    );
    gateway.check().says("memcached.server", "warn", "closed to");
    let groups = fs::read_to_string("/etc/group").unwrap();
    gateway.write("group", &format!("{groups}\ntestbed:x:{GROUP}:{user}\n"));
    // The file is replaced for this program alone.
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/group && exec \"$@\""])
        .args([&gateway.path("group"), env!("CARGO_BIN_EXE_keystone-doctor"), "check"])
        .args([&gateway.conf().display().to_string(), "--no-nginx"])
        .output();
    let report = output.map(|output| String::from_utf8(output.stdout).unwrap());
    let Some(report) = report.ok().filter(|report| !report.is_empty()) else {
        return eprintln!("skipped: /etc/group cannot be replaced here");
    };
    assert!(report.contains("answers, version"), "{report}");
}

#[test]
fn memcached_is_asked_whether_it_answers() {
    let mut gateway = Gateway::new();
    let memcached = Memcached::start().unwrap();
    let secret = "keystone_memcached_security_strategy mac; keystone_memcached_secret_key s3;";
    gateway.more = format!("keystone_memcached_servers {}; {secret}", memcached.server());
    gateway.check().is_well().says("memcached.server", "ok", "answers");
    gateway.more = format!("keystone_memcached_servers 127.0.0.1:1 unix:/no/such; {secret}");
    let outcome = gateway.check();
    assert_eq!(outcome.code, 0, "{}", outcome.human);
    outcome.says("memcached.server", "warn", "Connection refused");
    assert!(outcome.human.contains("unix:/no/such"), "{}", outcome.human);
    // Root may open every socket, the workers may not.
    let socket = Memcached::start_unix().unwrap();
    let path = socket.server().trim_start_matches("unix:").to_owned();
    gateway.more = format!("keystone_memcached_servers {}; {secret}", socket.server());
    gateway.check().is_well().says("memcached.server", "ok", "answers");
    if is_root() {
        set_mode(Path::new(&path), 0o700).unwrap();
        let outcome = gateway.check();
        outcome.says("memcached.server", "warn", &format!("{path} is closed to"));
        assert!(outcome.human.contains("its options -s and -a"), "{}", outcome.human);
        let dir = Path::new(&path).parent().unwrap();
        set_mode(dir, 0o700).unwrap();
        let closed = format!("{} is closed to", dir.display());
        gateway.check().says("memcached.server", "warn", &closed);
    }
    gateway.more = format!("keystone_memcached_servers {};", gateway.identity.address());
    gateway.check().says("memcached.server", "warn", "does not answer").says(
        "memcached.strategy",
        "warn",
        "encrypt",
    );
}

/// The id of a group that nobody is in.
const GROUP: u32 = 54_321;
