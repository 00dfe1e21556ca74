use std::time::Instant;

use serde_json::{json, Value};

use super::*;
use crate::http::{Client, Request};
use crate::pki::Shape;
use crate::wait_for;

fn identity() -> (Pki, Identity) {
    let pki = Pki::new().unwrap();
    let identity = Identity::start(&pki).unwrap();
    (pki, identity)
}

fn get(identity: &Identity, path: &str) -> crate::http::Response {
    Client::connect(identity.address()).unwrap().send(&Request::get(path)).unwrap()
}

#[test]
fn certificates_need_no_credentials() {
    let (pki, identity) = identity();
    for path in ["/v2.0/certificates/signing", "/v3/OS-SIMPLE-CERT/certificates"] {
        let text = get(&identity, path).text();
        assert!(text.starts_with("Certificate:"));
        assert!(text.ends_with(&pki.signing.pem().unwrap()));
    }
    for path in ["/v2.0/certificates/ca", "/v3/OS-SIMPLE-CERT/ca"] {
        assert_eq!(get(&identity, path).text(), pki.authority.pem().unwrap());
    }
    assert_eq!(identity.requests().len(), 4);
}

#[test]
fn versions_are_offered_as_configured() {
    let (_, identity) = identity();
    let ids = |identity: &Identity| -> Vec<String> {
        let answer = get(identity, "/");
        assert_eq!(answer.status, 300);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let values = body.pointer("/versions/values").unwrap().as_array().unwrap().clone();
        values.iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&identity), ["v3.7", "v2.0"]);
    identity.state().v3 = false;
    assert_eq!(ids(&identity), ["v2.0"]);
    assert_eq!(get(&identity, "/v3").status, 404);
    assert_eq!(get(&identity, "/v2.0/").status, 200);
}

#[test]
fn the_list_needs_a_token_that_a_password_buys() {
    let (pki, identity) = identity();
    let mut client = Client::connect(identity.address()).unwrap();
    let list = Request::get("/v3/auth/tokens/OS-PKI/revoked");
    assert_eq!(client.send(&list).unwrap().status, 401);

    let auth = |password: &str| {
        let domain = json!({"name": "Default"});
        let user = json!({"name": SERVICE_USER, "password": password, "domain": domain});
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": SERVICE_PROJECT, "domain": domain}}
        }})
    };
    let post =
        |auth: Value| Request::new("POST", "/v3/auth/tokens").body(auth.to_string().as_bytes());
    assert_eq!(client.send(&post(auth("wrong"))).unwrap().status, 401);
    let answer = client.send(&post(auth(SERVICE_PASSWORD))).unwrap();
    assert_eq!(answer.status, 201);
    let token = answer.headers.text("X-Subject-Token").unwrap().to_owned();

    identity.revoke(Revoked::id("abc"));
    let list = list.header("X-Auth-Token", &token);
    let answer = client.send(&list).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let signed = body["signed"].as_str().unwrap();
    let cms = openssl::pkcs7::Pkcs7::from_pem(signed.replace("CMS", "PKCS7").as_bytes()).unwrap();
    let mut certificates = openssl::stack::Stack::new().unwrap();
    certificates.push(pki.signing.certificate.clone()).unwrap();
    let store = openssl::x509::store::X509StoreBuilder::new().unwrap().build();
    let mut content = Vec::new();
    let flags = openssl::pkcs7::Pkcs7Flags::NOVERIFY;
    cms.verify(&certificates, &store, None, Some(&mut content), flags).unwrap();
    let content: Value = serde_json::from_slice(&content).unwrap();
    assert_eq!(content["revoked"][0]["id"], "abc");

    identity.expire_service_tokens();
    assert_eq!(client.send(&list).unwrap().status, 401);
}

#[test]
fn v2_passwords_and_application_credentials_work_too() {
    let (_, identity) = identity();
    let mut client = Client::connect(identity.address()).unwrap();
    let credentials = json!({"username": SERVICE_USER, "password": SERVICE_PASSWORD});
    let auth = json!({"auth": {"passwordCredentials": credentials, "tenantName": "service"}});
    let post = Request::new("POST", "/v2.0/tokens").body(auth.to_string().as_bytes());
    let answer: Value = serde_json::from_slice(&client.send(&post).unwrap().body).unwrap();
    let token = answer.pointer("/access/token/id").unwrap().as_str().unwrap();
    let list = Request::get("/v2.0/tokens/revoked").header("X-Auth-Token", token);
    assert_eq!(client.send(&list).unwrap().status, 200);

    let credential = json!({"id": CREDENTIAL_ID, "secret": CREDENTIAL_SECRET});
    let auth = json!({"auth": {"identity": {
        "methods": ["application_credential"], "application_credential": credential
    }}});
    let post = Request::new("POST", "/v3/auth/tokens").body(auth.to_string().as_bytes());
    assert_eq!(client.send(&post).unwrap().status, 201);
}

#[test]
fn faults_are_as_configured() {
    let (_, identity) = identity();
    let path = "/v2.0/certificates/ca";
    let whole = get(&identity, path).body;
    let address = identity.address();
    let ask = || Client::connect(address).unwrap().send(&Request::get(path));

    identity.fault_times(1, "/v2.0", Fault::Status(503));
    assert_eq!(ask().unwrap().status, 503);
    assert_eq!(ask().unwrap().status, 200);
    for fault in [Fault::CloseBeforeAnswer, Fault::Garbage, Fault::Half, Fault::WrongLength(9)] {
        identity.fault("/v2.0/certificates", fault.clone());
        assert!(ask().is_err(), "{fault:?}");
        identity.heal();
    }
    for fault in [Fault::Chunked, Fault::Drip(std::time::Duration::from_micros(10))] {
        identity.fault("/", fault);
        assert_eq!(ask().unwrap().body, whole);
        identity.heal();
    }
    identity.fault("/", Fault::Delay(std::time::Duration::from_millis(50)));
    let start = Instant::now();
    ask().unwrap();
    assert!(start.elapsed().as_millis() >= 50);
    identity.heal();

    identity.fault("/", Fault::CloseSilently);
    let mut client = Client::connect(address).unwrap();
    assert_eq!(client.send(&Request::get(path)).unwrap().status, 200);
    assert!(client.send(&Request::get(path)).is_err());
}

#[test]
fn stopped_means_refused() {
    let (_, mut identity) = identity();
    let mut client = Client::connect(identity.address()).unwrap();
    assert_eq!(client.send(&Request::get("/v3")).unwrap().status, 200);
    identity.stop();
    assert!(client.send(&Request::get("/v3")).is_err());
    // A process that another test is just starting holds the listener until its program runs.
    let refused = || Client::connect(identity.address()).is_err().then_some(());
    wait_for("connections to be refused", refused).unwrap();
    identity.restart().unwrap();
    assert_eq!(get(&identity, "/v3").status, 200);
}

#[test]
fn tls_with_a_client_certificate() {
    let (pki, files) = (Pki::new().unwrap(), TlsFiles::new().unwrap());
    let tls = Tls { files: &files, demand_client_certificate: true };
    let identity = Identity::start_tls(&pki, &tls).unwrap();
    assert!(identity.uri().starts_with("https://127.0.0.1:"));
    let ask = |with_certificate: bool| -> Result<crate::http::Response> {
        let mut client = Client::connect_tls(
            identity.address(),
            "localhost",
            &files.ca(),
            with_certificate.then(|| (files.path("client.pem"), files.path("client.key"))),
        )?;
        client.send(&Request::get("/v3"))
    };
    assert_eq!(ask(true).unwrap().status, 200);
    assert!(ask(false).is_err());
}

#[test]
fn another_pki_after_a_rotation() {
    let (_, identity) = identity();
    let next = Pki::with(&Shape::authority(), &Shape::signing().serial(2)).unwrap();
    identity.rotate(&next).unwrap();
    let text = get(&identity, "/v2.0/certificates/signing").text();
    assert!(text.ends_with(&next.signing.pem().unwrap()));
}

#[test]
fn tokens_are_known_until_they_end_or_are_forgotten() {
    let (_, identity) = identity();
    let ask = |query: &str, token: &str| {
        let request = Request::get(&format!("/v3/auth/tokens{query}"))
            .header("X-Auth-Token", ADMIN_TOKEN)
            .header("X-Subject-Token", token);
        Client::connect(identity.address()).unwrap().send(&request).unwrap()
    };
    identity.know("good", &Payload::v3());
    identity.know("over", &Payload::v3().expires_in(-5));
    assert_eq!(ask("", "good").status, 200);
    assert!(!ask("?nocatalog", "good").text().contains("catalog"));
    let unknown = ask("", "over");
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("over"));
    assert_eq!(ask("?nocatalog&allow_expired=1", "over").status, 200);
    identity.forget("good");
    assert_eq!(ask("", "good").status, 404);
    assert_eq!(identity.validations(), ["good", "good", "over", "over", "good"]);
}

#[test]
fn access_rules_need_a_caller_that_checks_them() {
    let (_, identity) = identity();
    identity.know("limited", &Payload::v3().access_rules(json!([])));
    let request = Request::get("/v3/auth/tokens")
        .header("X-Auth-Token", ADMIN_TOKEN)
        .header("X-Subject-Token", "limited");
    let ask = |request: &Request| {
        Client::connect(identity.address()).unwrap().send(request).unwrap().status
    };
    assert_eq!(ask(&request), 404);
    assert_eq!(ask(&request.header("OpenStack-Identity-Access-Rules", "1")), 200);
}

#[test]
fn answers_are_held_until_the_gate_opens() {
    let (_, identity) = identity();
    let gate = identity.hold_validations();
    let request = Request::get("/v2.0/tokens/x").header("X-Auth-Token", ADMIN_TOKEN);
    std::thread::scope(|scope| {
        let (address, request) = (identity.address(), &request);
        let asking =
            scope.spawn(move || Client::connect(address).unwrap().send(request).unwrap().status);
        crate::wait_for("the question", || (!identity.validations().is_empty()).then_some(()))
            .unwrap();
        assert_eq!(get(&identity, "/v3").status, 200);
        assert!(!asking.is_finished());
        gate.open();
        assert_eq!(asking.join().unwrap(), 404);
    });
}
