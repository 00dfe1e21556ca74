//! Checks of Keystone, step by step: the first step that fails is the one to repair.

use std::io;
use std::net::SocketAddr;

use keystone_token::api::{self, ApiVersion, AuthVersion};
use keystone_token::cms::Signers;
use keystone_token::format::TokenFormat;
use keystone_token::online::{self, OnlineRules};
use keystone_token::refusal::Refusal;
use keystone_token::revocation::RevocationList;
use keystone_zone::shares;
use openssl::x509::X509;

use super::{clock, files};
use crate::certificate;
use crate::conf::service::Settings;
use crate::explain::{self, Asked};
use crate::keystone::{AskError, Certificates, Endpoint, Served, ServiceToken, Uri};
use crate::net::{self, HttpError};
use crate::report::{span, Check, Status};
use crate::resolver::{LookupError, ServerAnswer};

/// Checks every endpoint; what the first that answers serves comes along.
pub fn checks(settings: &Settings, now: i64) -> (Vec<Check>, Served) {
    let mut checks = Vec::new();
    let mut served = Served::Unknown;
    for uri in Uri::all(settings) {
        let name = uri.text.clone();
        let mut visit = Visit { settings, now, checks: Vec::new(), served: Served::Unknown };
        // What could not be done because of a failure before it is not worth a line each.
        let _ = visit.endpoint(uri);
        checks.extend(visit.checks.into_iter().map(|check| match check.target {
            None => check.about(name.clone()),
            Some(_) => check,
        }));
        if matches!(served, Served::Unknown) {
            served = visit.served;
        }
    }
    (checks, served)
}

struct Visit<'s> {
    settings: &'s Settings,
    now: i64,
    checks: Vec<Check>,
    served: Served,
}

impl<'s> Visit<'s> {
    fn endpoint(&mut self, uri: Uri) -> Option<()> {
        let hop = uri.next_hop();
        let addresses = self.addresses(&hop)?;
        let address = self.tcp(&hop, &addresses)?;
        let mut endpoint = self.tls(uri, address)?;
        let version = self.version(&mut endpoint)?;
        self.certificates(&endpoint, version);
        let token = self.login(&endpoint, version)?;
        self.role(&endpoint, version, &token);
        self.revocation_list(&endpoint, version, &token);
        self.events(&endpoint, version, &token);
        Some(())
    }

    /// The addresses that nginx finds.
    fn addresses(&mut self, uri: &Uri) -> Option<Vec<SocketAddr>> {
        let lookup = self.settings.resolver.look_up(&uri.host, uri.port);
        let found = lookup.addresses.as_deref().unwrap_or_default();
        if !lookup.answers.is_empty() {
            self.resolver(&lookup.answers, if lookup.is_of_system { &[] } else { found });
        }
        // nginx asks again by TCP then, and may find what the system does not know.
        let is_truncated =
            |(_, answer): &ServerAnswer<'_>| matches!(answer, Err(LookupError::Truncated));
        let is_unknown = lookup.addresses.is_err() && lookup.answers.iter().any(is_truncated);
        if lookup.is_of_system && !is_unknown {
            self.dns(uri, &lookup.addresses);
        }
        lookup.addresses.ok()
    }

    /// What nginx's own resolver does, and the addresses that its servers tell.
    fn resolver(&mut self, answers: &[ServerAnswer<'_>], addresses: &[SocketAddr]) {
        let (id, title) = ("keystone.resolver", "resolver");
        let (mut told, mut silent) = (Vec::new(), Vec::new());
        let mut is_truncated = false;
        for (server, answer) in answers {
            match answer {
                Ok(found) if found.is_empty() => told.push(format!("{server}: no address")),
                Ok(_) => {}
                Err(error @ LookupError::NoAnswer(_)) => silent.push(format!("{server}: {error}")),
                Err(error) => {
                    is_truncated |= matches!(error, LookupError::Truncated);
                    told.push(format!("{server}: {error}"));
                }
            }
        }
        told.extend(addresses.iter().map(|it| it.ip().to_string()));
        let check = match (silent.is_empty(), addresses.is_empty()) {
            (true, true) if is_truncated => Check::skip(id, title, told.join("; ")),
            (true, _) => Check::ok(id, title, told.join("; ")),
            (false, false) => Check::warn(id, title, silent.join("; ")),
            (false, true) => Check::fail(id, title, silent.join("; ")),
        };
        self.checks.push(match silent.is_empty() {
            true => check,
            false => check
                .meaning(
                    "nginx asks its resolver for the name before it connects to Keystone, and waits \
                     for it: a second where it knows an address, or as long as resolver_timeout says",
                )
                .fix("name a server in \"resolver\" that answers, or remove the directive"),
        });
    }

    /// What the system finds.
    fn dns(&mut self, uri: &Uri, addresses: &io::Result<Vec<SocketAddr>>) {
        let (id, title) = ("keystone.dns", "name");
        self.checks.push(match addresses {
            Ok(addresses) => {
                let texts: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
                Check::ok(id, title, texts.join(", "))
            }
            Err(error) => Check::fail(id, title, format!("{} is not found: {error}", uri.host))
                .meaning("nginx does not start, unless its resolver is set: it looks names up then")
                .fix(format!("getent ahosts {}", crate::report::quote(&uri.host))),
        });
    }

    fn tcp(&mut self, uri: &Uri, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let (id, title) = ("keystone.tcp", "connection");
        let mut reached = None;
        let mut failures = Vec::new();
        for address in addresses {
            match net::connect(address, self.settings.connect_timeout) {
                Ok(_) => reached = reached.or(Some(*address)),
                Err(error) => failures.push((address, error)),
            }
        }
        let texts: Vec<String> =
            failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
        let check = match (reached, failures.into_iter().next()) {
            (Some(address), None) => Check::ok(id, title, format!("{address} answers")),
            (Some(_), Some((_, error))) => {
                let check = Check::warn(id, title, texts.join("; "));
                explain::no_answer(check, &error, uri, self.settings)
            }
            (None, Some((_, error))) => {
                let check = Check::fail(id, title, texts.join("; "));
                explain::no_answer(check, &error, uri, self.settings)
            }
            (None, None) => Check::fail(id, title, "there is no address to connect to"),
        };
        self.checks.push(check);
        reached
    }

    fn tls(&mut self, uri: Uri, address: SocketAddr) -> Option<Endpoint<'s>> {
        let (id, title) = ("keystone.tls", "TLS");
        if !uri.https {
            return Some(Endpoint::new(uri, self.settings, address, None));
        }
        let context = match net::tls_context(&self.settings.tls) {
            Ok(context) => context,
            Err(reason) => {
                let check =
                    Check::fail(id, title, reason).meaning("nginx does not start").fix("nginx -t");
                self.checks.push(check);
                return None;
            }
        };
        let endpoint = Endpoint::new(uri, self.settings, address, Some(context));
        match endpoint.handshake() {
            Ok(stream) => {
                let shown = stream.as_ref().and_then(|stream| stream.ssl().peer_certificate());
                let version = stream.as_ref().map_or("", |stream| stream.ssl().version_str());
                self.checks.push(self.shown(shown.as_ref(), version));
                Some(endpoint)
            }
            Err(error) => {
                let shown = match &error {
                    HttpError::Tls(failure) => failure.certificate.as_ref(),
                    _ => None,
                };
                let shown = shown.map(|it| format!(": {}", certificate::describe(it, self.now)));
                let check = Check::fail(id, title, format!("{error}{}", shown.unwrap_or_default()));
                self.checks.push(explain::no_answer(check, &error, &endpoint.uri, self.settings));
                None
            }
        }
    }

    fn shown(&self, certificate: Option<&X509>, version: &str) -> Check {
        let (id, title) = ("keystone.tls", "TLS");
        let Some(certificate) = certificate else {
            return Check::warn(id, title, format!("{version}, without a certificate"));
        };
        let verified = if self.settings.tls.verify { "" } else { ", not verified" };
        let text = certificate::describe(certificate, self.now);
        let detail = format!("{version}, {text}{verified}");
        match certificate::validity(certificate, self.now).0 {
            Status::Ok => Check::ok(id, title, detail),
            _ => Check::warn(id, title, detail)
                .meaning("when it ends, no question to Keystone gets through: renew it there"),
        }
    }

    fn version(&mut self, endpoint: &mut Endpoint<'_>) -> Option<ApiVersion> {
        let (id, title) = ("keystone.version", "API version");
        match endpoint.discover() {
            Ok((version, answer)) => {
                let how = match self.settings.auth_version {
                    AuthVersion::Auto => "found by asking",
                    AuthVersion::Fixed(_) => "as configured",
                };
                self.checks.push(Check::ok(id, title, format!("{version}, {how}")));
                self.checks.push(clock::check(&answer));
                Some(version)
            }
            Err(error) => {
                self.fail(
                    Check::fail(id, title, error.to_string()),
                    &error,
                    Asked::Version,
                    endpoint,
                );
                None
            }
        }
    }

    fn certificates(&mut self, endpoint: &Endpoint<'_>, version: ApiVersion) {
        let (id, title) = ("keystone.certificates", "certificates");
        match endpoint.certificates(version) {
            Ok(certificates) => {
                let Certificates { signing, ca } = &certificates;
                let usable = Signers::from_pem(signing, ca, self.now);
                let expired = certificate::none_valid(signing, self.now);
                self.checks.push(match usable {
                    Ok(_) if expired.is_some() => {
                        Check::fail(id, title, expired.unwrap_or_default())
                            .meaning(
                                "Keystone serves a signing certificate whose time is over or has \
                                 not come: no PKI token can be verified with it, and the module \
                                 asks Keystone about each. If the dates look right, compare the \
                                 clocks",
                            )
                            .fix("renew it at Keystone; date -u")
                    }
                    Ok(_) => Check::ok(id, title, "served, and good to verify PKI tokens with"),
                    Err(error) => Check::fail(id, title, error.to_string())
                        .meaning(
                            "Keystone serves certificates that tokens cannot be verified with: \
                                  the module asks it about each PKI token",
                        )
                        .fix(explain::curl(
                            &endpoint.uri,
                            &api::signing_certificates("", version).path,
                        )),
                });
                self.served = Served::Certificates(certificates);
            }
            Err(AskError::Status(code)) if api::is_not_offered(code) => {
                self.served = Served::Nothing;
                self.checks.push(Check::ok(id, title, format!("none (status {code})")).meaning(
                    "this Keystone issues Fernet or JWS tokens; the module asks it about every \
                         token",
                ));
            }
            Err(error) => {
                let check = Check::fail(id, title, error.to_string());
                self.fail(check, &error, Asked::Certificates, endpoint);
            }
        }
    }

    fn login(&mut self, endpoint: &Endpoint<'_>, version: ApiVersion) -> Option<ServiceToken> {
        let (id, title) = ("keystone.login", "login");
        match endpoint.log_in(version) {
            Ok(token) => {
                let detail = match token.expires_at {
                    Some(expires) => format!("a token for {}", span(expires - self.now)),
                    None => "by the configured token".to_owned(),
                };
                self.checks.push(Check::ok(id, title, detail));
                self.checks.extend(self.jws_keys(&token));
                Some(token)
            }
            Err(AskError::NoCredentials) => {
                let detail = match &self.settings.unusable_credentials {
                    Some(unusable) => format!("no credentials: {}", unusable.reason),
                    None => "no credentials are set".to_owned(),
                };
                self.checks.push(Check::skip(id, title, detail));
                None
            }
            Err(AskError::Status(401)) if endpoint.knows_password(version) == Some(true) => {
                let detail = "status 401, although the user and the password are right";
                let check = Check::fail(id, title, detail)
                    .meaning(
                        "the user has no role in the project, or there is no such project: every \
                         token that Keystone has to be asked about gets 503",
                    )
                    .fix(explain::add_role(self.settings));
                self.checks.push(check);
                None
            }
            Err(error) => {
                self.fail(
                    Check::fail(id, title, error.to_string()),
                    &error,
                    Asked::Login,
                    endpoint,
                );
                None
            }
        }
    }

    /// Whether the module would take what Keystone signs now.
    fn jws_keys(&self, token: &ServiceToken) -> Option<Check> {
        let (id, title) = ("keystone.jws_keys", "JWS keys");
        let jws_keys = Some(self.settings.jws_keys.as_deref()?);
        // A token that was configured may be none of Keystone's.
        token.expires_at?;
        let rules = OnlineRules { now: self.now, allow_expired: true, jws_keys };
        let token = token.id.expose().as_bytes();
        if TokenFormat::of(token) != TokenFormat::Jws {
            let detail = "this Keystone issues no JWS tokens: keystone_jws_keys has no effect";
            return Some(Check::ok(id, title, detail));
        }
        Some(match online::check_form(token, &rules) {
            Err(Refusal::BadSignature) => {
                Check::fail(id, title, "Keystone signs with a key that keystone_jws_keys lacks")
                    .meaning("the module refuses every JWS token that is signed with this key: 401")
                    .fix(
                        "add Keystone's public key to those of keystone_jws_keys; \
                         systemctl reload nginx",
                    )
            }
            // The signature is looked at last.
            Err(refusal) => {
                Check::skip(id, title, format!("the signature was not verified: {refusal}"))
            }
            Ok(_) => Check::ok(id, title, "Keystone signs with one of keystone_jws_keys"),
        })
    }

    /// Every user may validate their own token, so the roles must be checked too.
    fn role(&mut self, endpoint: &Endpoint<'_>, version: ApiVersion, token: &ServiceToken) {
        let (id, title) = ("keystone.role", "role");
        let check = match endpoint.validate(version, token.id.expose(), &token.id) {
            Ok(online::Answer::Valid(identity)) => {
                let roles = identity.roles.join(", ");
                let enough = |role: &String| {
                    ["admin", "service"].iter().any(|name| role.eq_ignore_ascii_case(name))
                };
                match identity.roles.iter().any(enough) {
                    true => Check::ok(id, title, format!("has {roles}")),
                    false => Check::fail(id, title, format!("has only [{roles}]"))
                        .meaning(
                            "Keystone's default policy lets a user without the role service (or \
                             admin) ask about its own token only: every token that Keystone has \
                             to be asked about gets 503",
                        )
                        .fix(explain::add_role(self.settings)),
                }
            }
            Ok(online::Answer::Refused(_)) if token.expires_at.is_none() => {
                Check::ok(id, title, "the configured token is accepted")
            }
            Ok(online::Answer::Refused(_)) => {
                Check::fail(id, title, "Keystone does not know the token that it has just issued")
                    .meaning(
                        "several Keystones behind one address do not share their keys or their \
                          database, or their clocks differ",
                    )
                    .fix("compare /etc/keystone/fernet-keys on all of them")
            }
            Err(error) => {
                let check = Check::fail(id, title, error.to_string());
                return self.fail(check, &error, Asked::Validation, endpoint);
            }
        };
        self.checks.push(check);
    }

    fn revocation_list(
        &mut self,
        endpoint: &Endpoint<'_>,
        version: ApiVersion,
        token: &ServiceToken,
    ) {
        let (id, title) = ("keystone.revocation_list", "revocation list");
        let Served::Certificates(Certificates { signing, ca }) = &self.served else { return };
        if !self.settings.revocation {
            return;
        }
        if certificate::none_valid(signing, self.now).is_some() {
            let detail = "it cannot be verified with a certificate that is not valid now";
            return self.checks.push(Check::skip(id, title, detail));
        }
        let signers = Signers::from_pem(signing, ca, self.now).ok();
        let check = match endpoint.revocation_list(version, &token.id) {
            Ok(signed) => match files::list(signed.as_bytes(), signers.as_ref(), self.now) {
                Ok(list) => self
                    .room(&list)
                    .unwrap_or_else(|| Check::ok(id, title, format!("{} entries", list.len()))),
                Err(error) => Check::fail(id, title, error.to_string())
                    .meaning(
                        "Keystone signs its list with a certificate that it does not serve: the \
                              module asks it about each PKI token",
                    )
                    .fix("compare [signing] certfile and keyfile in keystone.conf"),
            },
            Err(AskError::Status(code)) if api::is_not_offered(code) => {
                Check::warn(id, title, format!("not for these credentials (status {code})"))
                    .meaning(
                        "Keystone keeps no list (revoke_by_id = false), or the user may not read \
                              it: the module asks Keystone about each new PKI token",
                    )
                    .fix(explain::add_role(self.settings))
            }
            Err(error) => {
                let check = Check::fail(id, title, error.to_string());
                return self.fail(check, &error, Asked::List, endpoint);
            }
        };
        self.checks.push(check);
    }

    /// Whether the zone has too little room for the list.
    fn room(&self, list: &RevocationList) -> Option<Check> {
        let (zone, names) = (&self.settings.zone, list.count_names());
        let is_enough = |size| shares::most_names(size) >= names;
        if is_enough(zone.size) {
            return None;
        }
        let detail = format!("{} entries, too many for keystone_cache_zone", list.len());
        let check = Check::warn("keystone.revocation_list", "revocation list", detail).meaning(
            "the module asks Keystone about each PKI token: while Keystone is down, they get 503",
        );
        let mut megabytes = (1..usize::BITS - 20).map(|shift| 1_usize << shift);
        let enough = megabytes.find(|megabytes| is_enough(megabytes << 20))?;
        Some(check.fix(format!("keystone_cache_zone zone={}:{enough}m;", zone.name)))
    }

    fn events(&mut self, endpoint: &Endpoint<'_>, version: ApiVersion, token: &ServiceToken) {
        let (id, title) = ("keystone.revocation_events", "revocation events");
        if self.settings.revocation_events.is_none() {
            return;
        }
        if version != ApiVersion::V3 {
            let check = Check::fail(id, title, "keystone_revocation_events needs API v3");
            return self
                .checks
                .push(check.meaning("a revoked token is good until it leaves the cache"));
        }
        let outcome = match endpoint.revocation_events(&token.id) {
            Ok(()) => return self.checks.push(Check::ok(id, title, "can be read")),
            Err(error) => error,
        };
        let check = Check::fail(id, title, outcome.to_string());
        self.fail(check, &outcome, Asked::Events, endpoint);
    }

    fn fail(&mut self, check: Check, error: &AskError, asked: Asked, endpoint: &Endpoint<'_>) {
        let settings = self.settings;
        self.checks.push(explain::failure(check, error, asked, &endpoint.uri, settings));
    }
}
