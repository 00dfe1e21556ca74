//! What a failure of the identity service means, in a sentence, and the command that repairs it or
//! shows more.

use keystone_conf::Credentials;
use keystone_token::api::{ApiVersion, AuthVersion};
use openssl::x509::X509VerifyResult;

use crate::conf::service::Settings;
use crate::keystone::{AskError, Uri};
use crate::net::{HttpError, Phase};
use crate::report::{quote, Check};

/// The request to Keystone that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The certificates that verify PKI tokens.
    Certificates,
    /// The revocation events.
    Events,
    /// The revocation list.
    List,
    /// For a token for the module.
    Login,
    /// The validation of a token.
    Validation,
    /// The versions of the API.
    Version,
}

/// Adds to a check what the failure means.
pub fn failure(
    check: Check,
    error: &AskError,
    asked: Asked,
    uri: &Uri,
    settings: &Settings,
) -> Check {
    match error {
        AskError::Status(code) => status(check, *code, asked, uri, settings),
        AskError::Http(error) => no_answer(check, error, uri, settings),
        AskError::Api(_) => check
            .meaning(
                "what answers there is not Keystone, or keystone_identity_uri names the wrong \
                 path, or keystone_auth_version a version that it does not have",
            )
            .fix(curl(uri, "/")),
        AskError::Foreign(_) => check
            .meaning(
                "something between the gateway and Keystone has answered, such as a load balancer \
                 or a web server, or the path in keystone_identity_uri is wrong: the module takes \
                 this for \"unavailable\"",
            )
            .fix(curl(uri, "/")),
        AskError::NoCredentials => check
            .meaning("without credentials the module can ask neither about tokens nor for the list")
            .fix("set keystone_username, keystone_password and keystone_project_name"),
        AskError::Answer(_) => check.meaning("Keystone has answered with what is no token"),
    }
}

fn status(check: Check, code: u16, asked: Asked, uri: &Uri, settings: &Settings) -> Check {
    let log = "see Keystone's own log";
    match (code, asked) {
        (401, Asked::Login) => check
            .meaning(
                "Keystone does not accept the credentials: every token that it has to be \
                 asked about gets 503",
            )
            .fix(log_in(uri, settings)),
        (403, Asked::Login) => check
            .meaning(
                "the user is known, and may not have a token for that project: it has no role \
                 there, or is disabled",
            )
            .fix(add_role(settings)),
        (401 | 403, Asked::Version | Asked::Certificates) => check
            .meaning(
                "Keystone tells everybody this: a web server or a load balancer in front of it \
                 lets no one in without credentials of its own, and the module has none for it",
            )
            .fix(curl(uri, "/")),
        (401, _) => check
            .meaning(
                "Keystone does not accept the service token, which it should have issued \
                 itself: several Keystones behind one address that do not share their keys, \
                 or a wrong keystone_admin_token",
            )
            .fix(log_in(uri, settings)),
        (403, _) => check
            .meaning("the service user's role does not suffice for this question")
            .fix(add_role(settings)),
        (404, Asked::Version) => check
            .meaning(
                "there is no Keystone below this path: it may live under a path such as \
                 /identity, or on another port",
            )
            .fix(curl(uri, "/")),
        (404 | 410, _) => check
            .meaning(
                "this Keystone does not have that part of the API: the path in \
                 keystone_identity_uri is wrong, or its version has dropped it",
            )
            .fix(curl(uri, "/")),
        (429, _) => check.meaning("Keystone asks its clients to slow down").fix(log),
        (500.., Asked::Certificates) => check
            .meaning(
                "Keystone has no signing certificates to serve although it has the interface: \
                 its files are missing (keystone-manage pki_setup makes them), or cannot be \
                 read by its user",
            )
            .fix(log),
        (500.., _) => check
            .meaning(
                "Keystone, or what stands before it, has failed: its database or its web \
                 server's workers",
            )
            .fix(log),
        _ => check.meaning("the module takes this for \"unavailable\"").fix(curl(uri, "/")),
    }
}

/// Adds to a check why there is no answer at all.
pub fn no_answer(check: Check, error: &HttpError, uri: &Uri, settings: &Settings) -> Check {
    match error {
        HttpError::Connect(error) => check
            .meaning(match error.kind() {
                std::io::ErrorKind::ConnectionRefused if settings.proxy.is_some() => {
                    "the machine is there, and nothing listens on that port: the proxy of \
                     keystone_proxy is down, or its port is wrong"
                }
                std::io::ErrorKind::ConnectionRefused => {
                    "the machine is there, and nothing listens on that port: Keystone is down, or \
                     the port is wrong"
                }
                _ => "there is no way to that machine: routing, a firewall, or a wrong address",
            })
            .fix(curl(uri, "/")),
        HttpError::Timeout(phase) => timeout(check, *phase, uri, settings),
        HttpError::Tls(failure) => match failure.verification {
            Some(result) => verification(check, result, uri, settings),
            None => check
                .meaning(
                    "the other side does not speak TLS 1.2 or newer there, or wants a client \
                     certificate (keystone_ssl_certificate)",
                )
                .fix(s_client(uri, settings)),
        },
        HttpError::Protocol(_) | HttpError::TooLarge => check
            .meaning(
                "what answers there does not speak HTTP as Keystone does: TLS on a port of \
                 http://, or a proxy that breaks off",
            )
            .fix(curl(uri, "/")),
        HttpError::Proxy(407) => check
            .meaning(
                "the proxy demands a user and a password, or others than those of keystone_proxy",
            )
            .fix("keystone_proxy http://USER:PASSWORD@HOST:PORT, or file:PATH with that URI"),
        HttpError::Proxy(_) => check
            .meaning(
                "the proxy does not reach the identity service, or may not: see its log and its \
                 rules",
            )
            .fix(curl(uri, "/")),
        HttpError::Request(_) => check,
    }
}

fn timeout(check: Check, phase: Phase, uri: &Uri, settings: &Settings) -> Check {
    match phase {
        Phase::Connect => check
            .meaning(
                "packets are dropped on the way, by a firewall most likely, or the machine is \
                 down",
            )
            .fix(curl(uri, "/")),
        Phase::Handshake => check
            .meaning(
                "what listens there takes the connection and does not speak TLS, or is overloaded; \
                 keystone_connect_timeout says how long the module waits",
            )
            .fix(s_client(uri, settings)),
        Phase::Tunnel => check
            .meaning(
                "the proxy does not answer in time: it may wait for the identity service, which is \
                 not reachable from it",
            )
            .fix(curl(uri, "/")),
        Phase::Answer => check
            .meaning(
                "Keystone took the connection and does not answer in time: it is overloaded, or \
                 waits for its database; keystone_read_timeout says how long the module waits",
            )
            .fix(format!("time {}", curl(uri, "/"))),
    }
}

/// OpenSSL's numbers for what is wrong with a certificate (openssl-verification-options(1)).
fn verification(check: Check, result: X509VerifyResult, uri: &Uri, settings: &Settings) -> Check {
    let (meaning, fix) = match result.as_raw() {
        2 => (
            "the CA file has an intermediate CA without the certificate that issued it",
            "add the root to the file, or set keystone_ssl_partial_chain on",
        ),
        18..=21 => (
            "the certificate was issued by a CA that this machine does not know, or the server \
             does not send the certificates between: every question to Keystone fails",
            "set keystone_ssl_trusted_certificate to the CA's file",
        ),
        9 => ("the certificate is not valid yet: a new one, or a clock that is behind", "date -u"),
        10 => ("the certificate has expired: renew it at the identity service", ""),
        62..=64 => (
            "the certificate is for another name than the module expects",
            "set keystone_ssl_name to a name in the certificate",
        ),
        _ => ("the module does not talk to a server that it cannot verify", ""),
    };
    let show = s_client(uri, settings);
    let fix = match fix {
        "" => show,
        fix => format!("{fix}; {show}"),
    };
    check.meaning(meaning).fix(fix)
}

/// A command that shows the answer to a question without credentials.
pub fn curl(uri: &Uri, path: &str) -> String {
    let proxy = uri.proxy.as_ref().map(|proxy| format!("-x {} ", quote(proxy.as_str())));
    format!("curl -i {}{}", proxy.unwrap_or_default(), quote(&uri.at(path)))
}

/// A command that shows the certificate of the server.
pub fn s_client(uri: &Uri, settings: &Settings) -> String {
    let name = settings.tls.name.as_deref().unwrap_or(&uri.host).trim_matches(['[', ']']);
    let target = format!("{}:{}", uri.host, uri.port);
    let proxy = uri.proxy.as_ref().map(|proxy| {
        let proxy = format!("{}:{}", proxy.host(), proxy.port());
        format!("-proxy {} ", quote(&proxy))
    });
    let proxy = proxy.unwrap_or_default();
    format!(
        "openssl s_client {proxy}-connect {} -servername {} </dev/null | \
         openssl x509 -noout -subject -issuer -dates -ext subjectAltName",
        quote(&target),
        quote(name)
    )
}

/// A command that logs in as the module does; it asks for the secret.
pub fn log_in(uri: &Uri, settings: &Settings) -> String {
    let version = match settings.auth_version {
        AuthVersion::Fixed(version) => version,
        AuthVersion::Auto => uri.named_version.unwrap_or(ApiVersion::V3),
    };
    let at = quote(&uri.versioned(version));
    match &settings.credentials {
        Credentials::Password {
            username,
            project_name,
            user_domain_name,
            project_domain_name,
            ..
        } => {
            format!(
                "openstack --os-auth-url {at} --os-username {} --os-user-domain-name {} \
                 --os-project-name {} --os-project-domain-name {} token issue",
                quote(username),
                quote(user_domain_name),
                quote(project_name.as_deref().unwrap_or_default()),
                quote(project_domain_name)
            )
        }
        // It has no other way to ask for the secret, which is not to be seen in a list of
        // processes.
        Credentials::ApplicationCredential { id, .. } => format!(
            "read -rs OS_APPLICATION_CREDENTIAL_SECRET && export OS_APPLICATION_CREDENTIAL_SECRET && \
             openstack --os-auth-type v3applicationcredential --os-auth-url {at} \
             --os-application-credential-id {} token issue",
            quote(id)
        ),
        _ => "compare keystone_admin_token with admin_token in keystone.conf".to_owned(),
    }
}

/// A command that gives the service user its role.
pub fn add_role(settings: &Settings) -> String {
    match &settings.credentials {
        Credentials::Password { username, project_name, .. } => format!(
            "openstack role add --project {} --user {} service",
            quote(project_name.as_deref().unwrap_or("service")),
            quote(username)
        ),
        _ => "openstack role add --project PROJECT --user USER service".to_owned(),
    }
}
