//! Settings that are wrong, or that work and are a bad idea.

use std::time::Duration;

use keystone_conf::{Credentials, ServiceUri, SettingsError};

use crate::conf::service::Settings;
use crate::keystone::{Served, Uri};
use crate::report::{quote, span, Check};
use crate::system::User;

/// All checks that take nothing but the configuration.
pub fn checks(settings: &Settings, served: &Served) -> Vec<Check> {
    let mut checks: Vec<Check> = settings.errors.iter().map(misfit).collect();
    checks.extend(
        [
            auth_uri(settings),
            credentials(settings),
            secret_files(settings),
            plain_http(settings),
            ssl_verify(settings),
            revocation(settings),
            revocation_cache_time(settings),
            token_cache_time(settings),
            header_buffers(settings, served),
        ]
        .into_iter()
        .flatten(),
    );
    checks
}

/// Directives that do not fit together.
fn misfit(error: &SettingsError) -> Check {
    Check::fail("settings.misfit", "directives", error.to_string())
        .meaning("nginx does not start")
        .fix("nginx -t")
}

fn auth_uri(settings: &Settings) -> Option<Check> {
    let (id, title) = ("settings.uri", "URIs");
    match (&settings.auth_uri, settings.identity_uris.len()) {
        (_, 0) => Some(
            Check::fail(id, title, "there is no keystone_auth_uri or keystone_identity_uri to ask")
                .meaning("nginx does not start where keystone_auth is on or delay")
                .fix("keystone_auth_uri https://identity.example.com:5000;"),
        ),
        (None, _) => Some(
            Check::warn(id, title, "keystone_auth_uri is not set")
                .meaning("nginx does not start without it; clients are told it with each 401"),
        ),
        (Some(_), count) => Some(Check::ok(id, title, format!("{count} to ask"))),
    }
}

fn credentials(settings: &Settings) -> Option<Check> {
    let (id, title) = ("settings.credentials", "credentials");
    if let Some(unusable) = &settings.unusable_credentials {
        let reason = &unusable.reason;
        return Some(match unusable.forbidden && !User::current().is_root() {
            true => Check::skip(id, title, format!("needs root: {reason}")),
            false => Check::fail(id, title, reason.clone())
                .meaning("nginx does not start")
                .fix("nginx -t"),
        });
    }
    Some(match &settings.credentials {
        Credentials::None => Check::warn(id, title, "none are set")
            .meaning(
                "the module can ask neither about tokens nor for the revocation list: only PKI \
                      tokens with \"keystone_revocation off\" get through",
            )
            .fix(
                "keystone_username gateway; keystone_password file:/etc/nginx/keystone.password; \
                  keystone_project_name service;",
            ),
        Credentials::Token(_) => Check::ok(id, title, "a fixed token"),
        Credentials::Password { username, project_name: None, .. } => {
            Check::warn(id, title, format!("user {username}, without a project"))
                .meaning("a token without a project has no roles, and may ask nothing")
                .fix("keystone_project_name service;")
        }
        Credentials::Password { username, project_name: Some(project), .. } => {
            Check::ok(id, title, format!("user {username} in project {project}"))
        }
        Credentials::ApplicationCredential { id: name, .. } => {
            Check::ok(id, title, format!("application credential {name}"))
        }
    })
}

fn secret_files(settings: &Settings) -> Option<Check> {
    let path = settings.open_secrets.first()?.display().to_string();
    Some(
        Check::warn("settings.secret_file", "secret's file", "others than its owner can read it")
            .meaning("nginx reads it as root, when it starts: 0600 is enough")
            .fix(format!("chown root: {0} && chmod 0600 {0}", quote(&path)))
            .about(path),
    )
}

fn plain_http(settings: &Settings) -> Option<Check> {
    let mut uris = Uri::all(settings);
    let plain = uris.find(|uri| !uri.https && !uri.is_loopback())?;
    Some(
        Check::warn("settings.plain_http", "http", "Keystone is asked without TLS")
            .about(plain.text)
            .meaning(
                "anyone on the network path can read the password and every token, and can send \
                 forged certificates",
            )
            .fix("keystone_identity_uri https://...;"),
    )
}

fn ssl_verify(settings: &Settings) -> Option<Check> {
    let https = settings.identity_uris.iter().any(ServiceUri::is_https);
    (https && !settings.tls.verify).then(|| {
        Check::warn("settings.ssl_verify", "keystone_ssl_verify", "off")
            .meaning("anybody on the way can pose as Keystone, read the password and make tokens")
            .fix("keystone_ssl_verify on; keystone_ssl_trusted_certificate FILE;")
    })
}

fn revocation(settings: &Settings) -> Option<Check> {
    (!settings.revocation).then(|| {
        Check::warn("settings.revocation", "keystone_revocation", "off")
            .meaning("a PKI token that was revoked is good until it expires")
            .fix("keystone_revocation on;")
    })
}

fn revocation_cache_time(settings: &Settings) -> Option<Check> {
    if !settings.revocation {
        return None;
    }
    let (id, title) = ("settings.revocation_cache_time", "revocation cache");
    let time = settings.revocation_cache_time;
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Some(match time {
        Duration::ZERO => Check::warn(id, title, "keystone_revocation_cache_time is 0")
            .meaning(
                "Keystone is asked for the list before every validation of a new PKI token, and \
                      is in the way of each",
            )
            .fix("keystone_revocation_cache_time 30s;    # 10s to 60s"),
        time if time > LONG_LIST => {
            Check::warn(id, title, format!("the list may be {} old", span(seconds)))
                .meaning("a PKI token that was revoked is good for as long as that")
                .fix("keystone_revocation_cache_time 60s;")
        }
        _ => Check::ok(id, title, format!("the list may be {} old", span(seconds))),
    })
}

fn token_cache_time(settings: &Settings) -> Option<Check> {
    let time = settings.token_cache_time.filter(|time| *time > LONG_TOKEN)?;
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Some(
        Check::warn(
            "settings.token_cache_time",
            "token cache",
            format!("a valid token is kept for {}", span(seconds)),
        )
        .meaning(
            "what Keystone has said of a Fernet token counts for as long, also when a role \
                      is taken away meanwhile",
        )
        .fix("keystone_token_cache_time 300s;"),
    )
}

fn header_buffers(settings: &Settings, served: &Served) -> Option<Check> {
    let (id, title) = ("settings.header_buffers", "header buffers");
    let size = format!("a header may take {} bytes", settings.header_buffer);
    match served {
        Served::Nothing => None,
        _ if settings.header_buffer >= LARGE_TOKEN => Some(Check::ok(id, title, size)),
        _ => Some(
            Check::warn(id, title, size)
                .meaning(
                    "a PKI token with a large service catalog does not fit: nginx answers 400 \
                          before the module sees it",
                )
                .fix("large_client_header_buffers 4 64k;    # in http"),
        ),
    }
}

const LONG_LIST: Duration = Duration::from_secs(600);
const LONG_TOKEN: Duration = Duration::from_secs(3600);
const LARGE_TOKEN: u64 = 32 << 10;
