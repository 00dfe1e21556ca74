//! What the module would do with a token, found out in the order in which it looks.

use keystone_token::cms::Signers;
use keystone_token::format::TokenFormat;
use keystone_token::identity::Identity;
use keystone_token::online::{self, Answer, OnlineRules};
use keystone_token::refusal::{Malformed, Refusal};
use keystone_token::result::AuthResult;
use keystone_token::revocation::RevocationList;
use keystone_token::time::format_utc;
use keystone_token::token::{self, ParsedToken, TokenClass, VerifiedToken};
use openssl::x509::X509;

use super::conditions;
use super::facts::Signature;
use super::online::{Online, Part};
use crate::certificate;
use crate::check::{files, signing_dir_of, Machine};
use crate::conf::service::{Service, Settings};
use crate::conf::Conf;
use crate::report::{span, Check, Decision, Verdict};
use crate::system;

/// Judges a token for one identity service.
pub struct Judge<'a> {
    token: &'a [u8],
    service: &'a Service,
    settings: &'a Settings,
    machine: &'a Machine,
    /// The size of a header buffer, where the configuration was read.
    buffer: Option<u64>,
    /// `None` if Keystone is not to be asked; an error if it cannot be.
    online: Option<Result<Online<'a>, String>>,
    /// What was found on the way.
    pub checks: Vec<Check>,
    /// The identity, once a signature or Keystone has confirmed it.
    pub identity: Option<Identity>,
}

impl<'a> Judge<'a> {
    /// A judge that asks Keystone only if `online`.
    pub fn new(
        token: &'a [u8],
        service: &'a Service,
        conf: &Conf,
        machine: &'a Machine,
        online: bool,
    ) -> Self {
        let settings = &service.settings;
        Self {
            token,
            service,
            settings,
            machine,
            buffer: conf.path.is_some().then_some(settings.header_buffer),
            online: online.then(|| Online::open(settings)),
            checks: Vec::new(),
            identity: None,
        }
    }

    /// The verdict; the checks tell how it came about.
    pub fn verdict(&mut self) -> Verdict {
        if let Some(Err(reason)) = &self.online {
            self.checks.push(
                Check::fail("token.keystone", "Keystone", reason.clone())
                    .meaning("it cannot be asked")
                    .fix("keystone-doctor check"),
            );
        }
        if let Some(verdict) = self.too_long_for_nginx() {
            return verdict;
        }
        let verdict = match token::classify(self.token) {
            Err(refusal) => self.refuse("token.form", "form", &refusal),
            Ok(TokenClass::Signed(token)) => self.signed(token),
            Ok(TokenClass::Opaque(token)) => self.opaque(token),
        };
        let Some(identity) = &self.identity else { return verdict };
        let (checks, refused) = conditions::of(identity, &self.service.locations);
        self.checks.extend(checks);
        refused.filter(|_| verdict.decision != Decision::Refuse).unwrap_or(verdict)
    }

    fn too_long_for_nginx(&mut self) -> Option<Verdict> {
        let buffer = self.buffer?;
        let line = "X-Auth-Token: \r\n".len() as u64 + self.token.len() as u64;
        if line <= buffer {
            return None;
        }
        let reason = format!("its header takes {line} bytes, nginx's buffers hold {buffer}");
        self.checks.push(
            Check::fail("token.length", "length", reason.clone())
                .meaning("nginx answers 400 before the module sees the token")
                .fix("large_client_header_buffers 4 64k;    # in http"),
        );
        Some(Verdict {
            decision: Decision::Refuse,
            result: None,
            reason: format!("nginx answers 400: {reason}"),
        })
    }

    fn opaque(&mut self, token: &[u8]) -> Verdict {
        let jws_keys = self.settings.jws_keys.as_deref();
        let rules = OnlineRules { now: self.machine.now, jws_keys, ..OnlineRules::default() };
        let text = match online::check_form(token, &rules) {
            Ok(text) => text,
            // Its form was found to be that of a JWS, which is ASCII.
            Err(Refusal::BadSignature) => return self.refuse_jws(&String::from_utf8_lossy(token)),
            Err(refusal) => return self.refuse("token.form", "form", &refusal),
        };
        let format = TokenFormat::of(self.token).as_str();
        self.ask(text, &format!("only Keystone can judge a token of format {format}"))
    }

    /// A JWS that none of the configured keys has signed.
    fn refuse_jws(&mut self, text: &str) -> Verdict {
        let refusal = Refusal::BadSignature;
        let detail = format!("{refusal}: it is of no key of keystone_jws_keys");
        self.checks.push(
            Check::fail("token.signature", "signature", detail).meaning(
                "it was altered or forged, or Keystone signs with a key that is not there",
            ),
        );
        if let Some(Ok(online)) = &self.online {
            let (id, title) = ("token.keystone", "Keystone");
            self.checks.push(match online.validate(text) {
                Ok(Answer::Refused(_)) => Check::ok(id, title, "does not know the token either"),
                Ok(Answer::Valid(_)) => Check::fail(id, title, "knows the token")
                    .meaning("the module refuses every token that Keystone signs with this key")
                    .fix(
                        "add Keystone's public key to those of keystone_jws_keys; \
                         systemctl reload nginx",
                    ),
                Err(error) => Check::skip(id, title, error.to_string()),
            });
        }
        refused(&refusal)
    }

    fn signed(&mut self, token: &'a [u8]) -> Verdict {
        let text = str::from_utf8(token).map_err(|_| Malformed::Text.into());
        let (text, parsed) = match text.and_then(|text| Ok((text, token::parse(token)?))) {
            Ok(parts) => parts,
            Err(refusal) => return self.refuse("token.form", "form", &refusal),
        };
        self.checks.push(Check::ok("token.form", "form", "as Keystone issues it"));
        self.signer(&parsed);
        let (verified, signers) = match self.verify(text, &parsed) {
            Ok(verified) => verified,
            Err(verdict) => return verdict,
        };
        self.identity = Some(verified.identity().clone());
        if let Err(refusal) = verified.check_expiry(self.machine.now) {
            return self.refuse_expired(&verified, &refusal);
        }
        let expires = verified.identity().expires_at;
        let left = span(expires - self.machine.now);
        let detail = format!("at {}, in {left}", format_utc(expires));
        self.checks.push(Check::ok("token.expiry", "expires", detail));
        let verdict = match self.settings.revocation {
            true => self.revoked(text, &verified, &signers),
            false => self.accept("the signature holds; the revocation list is switched off"),
        };
        self.compare_with_keystone(text, &verdict);
        verdict
    }

    /// Whether the certificate that the token names is there. A name proves nothing yet.
    fn signer(&mut self, parsed: &ParsedToken<'_>) {
        let (id, title) = ("token.signer", "signer");
        let Some(directory) = signing_dir_of(self.settings) else { return };
        let Ok((pem, _)) = files::read(&directory.join(files::SIGNING)) else { return };
        let Ok(known) = certificate::parse(&pem) else { return };
        let signature = Signature::of(parsed.signed_data());
        let is_named = |it: &X509| {
            certificate::serial(it) == signature.serial
                && certificate::name(it.issuer_name()) == signature.issuer
        };
        let names = |it: &X509| {
            format!("serial {} of {}", certificate::serial(it), certificate::name(it.issuer_name()))
        };
        let named = format!("serial {} of {}", signature.serial, signature.issuer);
        self.checks.push(match known.iter().any(is_named) {
            true => Check::ok(id, title, format!("{named}, which is in {}", files::SIGNING)),
            false => {
                let known: Vec<String> = known.iter().map(names).collect();
                let known = known.join("; ");
                Check::warn(id, title, format!("{named}; in {} is {known}", files::SIGNING))
                    .meaning("another Keystone signed it, or this one has got a new certificate")
            }
        });
    }

    /// The signature, with the certificates on the disk, or with those that Keystone has now.
    fn verify(
        &mut self,
        text: &str,
        parsed: &ParsedToken<'a>,
    ) -> Result<(VerifiedToken<'a>, Signers), Verdict> {
        let (id, title) = ("token.signature", "signature");
        let mut failure = None;
        for (source, signers) in [("signing_dir", self.on_disk()), ("Keystone", self.at_keystone())]
        {
            let signers = match signers {
                None => continue,
                Some(Ok(signers)) => signers,
                Some(Err(reason)) => {
                    let detail = format!("no certificates from {source}: {reason}");
                    self.checks.push(Check::skip("token.certificates", "certificates", detail));
                    continue;
                }
            };
            match parsed.clone().verify_signature(&signers, self.machine.now) {
                Ok(verified) => {
                    let detail = format!("holds, by the certificates of {source}");
                    self.checks.push(Check::ok(id, title, detail));
                    return Ok((verified, signers));
                }
                Err(refusal) => {
                    let certain = !refusal.may_be_rotation();
                    failure = Some((source, refusal));
                    if certain {
                        break;
                    }
                }
            }
        }
        Err(match failure {
            None => self.ask(text, "there are no certificates to verify it with"),
            Some((_, refusal)) if refusal.is_undecided() => {
                self.checks.push(Check::fail(id, title, refusal.to_string()));
                self.ask(text, &format!("{refusal}, so that the module asks Keystone"))
            }
            Some(("signing_dir", refusal)) if refusal.may_be_rotation() => {
                let mut verdict = self.refuse(id, title, &refusal);
                verdict.reason.push_str(match &self.online {
                    None => ", unless Keystone has got a new certificate (--online asks for it)",
                    Some(_) => ", and Keystone has given no other certificates",
                });
                verdict
            }
            Some((_, refusal)) => self.refuse(id, title, &refusal),
        })
    }

    fn on_disk(&mut self) -> Option<Result<Signers, String>> {
        let directory = signing_dir_of(self.settings)?;
        let read = |name| files::read(&directory.join(name)).map(|(bytes, _)| bytes);
        Some(match (read(files::SIGNING), read(files::CA)) {
            (Ok(signing), Ok(ca)) => Signers::from_pem(&signing, &ca, self.machine.now)
                .map_err(|error| error.to_string()),
            (Err(error), _) => Err(format!("{}: {error}", files::SIGNING)),
            (_, Err(error)) => Err(format!("{}: {error}", files::CA)),
        })
    }

    fn at_keystone(&self) -> Option<Result<Signers, String>> {
        let online = self.online.as_ref()?.as_ref().ok()?;
        Some(match online.certificates() {
            Ok(Part::Served(it)) => Signers::from_pem(&it.signing, &it.ca, self.machine.now)
                .map_err(|error| error.to_string()),
            Ok(Part::Absent) => Err("it serves none".to_owned()),
            Err(reason) => Err(reason),
        })
    }

    fn revoked(&mut self, text: &str, verified: &VerifiedToken<'_>, signers: &Signers) -> Verdict {
        let (id, title) = ("token.revoked", "revoked");
        let (list, source, is_old) = match self.list(signers) {
            Ok(found) => found,
            Err(reason) => {
                self.checks.push(Check::skip(id, title, reason.clone()));
                return self.ask(text, &reason);
            }
        };
        match verified.check_revocation(&list, &self.settings.hash_algorithms) {
            Ok(()) if is_old => {
                let detail = format!("not by {source}, which the module does not use any more");
                self.checks.push(Check::skip(id, title, detail));
                let reason = "the signature holds, and the module fetches a newer revocation list \
                              before it accepts the token: --online asks for it"
                    .to_owned();
                Verdict { decision: Decision::Unknown, result: None, reason }
            }
            Ok(()) => {
                let detail = format!("no: it is none of the {} entries of {source}", list.len());
                self.checks.push(Check::ok(id, title, detail));
                self.accept(&format!("the signature holds, and {source} does not revoke it"))
            }
            Err(refusal) => {
                let by = revoked_by(&list, verified, self.settings);
                self.checks.push(
                    Check::fail(id, title, format!("by its {by}, on {source}")).meaning(
                        "it, or the token that it was got with, was revoked: get a new one",
                    ),
                );
                refused(&refusal)
            }
        }
    }

    /// The newest list that is available, its source, and whether it is an old one.
    fn list(&self, signers: &Signers) -> Result<(RevocationList, String, bool), String> {
        if let Some(Ok(online)) = &self.online {
            match online.revocation_list() {
                Ok(Part::Served(signed)) => {
                    let list = files::list(signed.as_bytes(), Some(signers), self.machine.now);
                    let list =
                        list.map_err(|error| format!("Keystone's revocation list: {error}"))?;
                    return Ok((list, "Keystone's list".to_owned(), false));
                }
                Ok(Part::Absent) => return Err("Keystone has no revocation list".to_owned()),
                Err(reason) => return Err(format!("Keystone's revocation list: {reason}")),
            }
        }
        let directory = signing_dir_of(self.settings).unwrap_or_default();
        let file = files::read(&directory.join(files::REVOKED));
        let (bytes, metadata) = file.map_err(|error| format!("{}: {error}", files::REVOKED))?;
        let list = files::list(&bytes, Some(signers), self.machine.now)
            .map_err(|error| format!("{}: {error}", files::REVOKED))?;
        let age = system::age_of(&metadata);
        let written = age.map_or_else(|| "some time".to_owned(), span);
        let source = format!("the list on the disk, written {written} ago");
        Ok((list, source, age.is_none_or(|age| files::is_old(age, self.settings))))
    }

    /// Whether Keystone itself would say the same; if not, something is wrong there.
    fn compare_with_keystone(&mut self, text: &str, verdict: &Verdict) {
        let Some(Ok(online)) = &self.online else { return };
        let (id, title) = ("token.keystone", "Keystone");
        let accepted = verdict.decision == Decision::Accept;
        self.checks.push(match (online.validate(text), accepted) {
            (Ok(Answer::Valid(_)), true) => Check::ok(id, title, "knows the token too"),
            (Ok(Answer::Refused(_)), false) => {
                Check::ok(id, title, "does not know the token either")
            }
            (Ok(Answer::Refused(_)), true) => Check::warn(id, title, "does not know the token")
                .meaning(
                    "it was revoked in a way that the list does not tell, or Keystone has \
                          forgotten it; the module goes by signature and list",
                ),
            (Ok(Answer::Valid(_)), false) => Check::warn(id, title, "still takes the token")
                .meaning("the module goes by signature and list"),
            (Err(error), _) => Check::skip(id, title, error.to_string()),
        });
    }

    /// Asks Keystone, because the gateway cannot judge the token itself.
    fn ask(&mut self, text: &str, why: &str) -> Verdict {
        let (id, title) = ("token.keystone", "Keystone");
        let answer = match &self.online {
            None => {
                let reason = format!("{why}: --online asks it");
                self.checks.push(Check::skip(id, title, "was not asked"));
                return Verdict { decision: Decision::Unknown, result: None, reason };
            }
            Some(Err(reason)) => return unavailable(reason),
            Some(Ok(online)) => online.validate(text),
        };
        match answer {
            Ok(Answer::Valid(identity)) => {
                let expires = identity.expires_at;
                let expiry = identity.check_expiry(self.machine.now);
                self.identity = Some(identity);
                if let Err(refusal) = expiry {
                    return self.refuse("token.expiry", "expires", &refusal);
                }
                let left = span(expires - self.machine.now);
                let detail =
                    format!("knows the token, which expires {} in {left}", format_utc(expires));
                self.checks.push(Check::ok(id, title, detail));
                self.accept("Keystone knows it")
            }
            Ok(Answer::Refused(refusal)) => self.refuse(id, title, &refusal),
            Err(error) => {
                self.checks.push(
                    Check::fail(id, title, format!("cannot be asked about it: {error}"))
                        .meaning("the module answers 503")
                        .fix("keystone-doctor check"),
                );
                unavailable(&error.to_string())
            }
        }
    }

    fn accept(&self, reason: &str) -> Verdict {
        Verdict {
            decision: Decision::Accept,
            result: Some(AuthResult::Ok.as_str()),
            reason: reason.to_owned(),
        }
    }

    fn refuse(&mut self, id: &'static str, title: &'static str, refusal: &Refusal) -> Verdict {
        let check = Check::fail(id, title, refusal.to_string());
        self.checks.push(check.meaning(meaning(refusal)));
        refused(refusal)
    }

    fn refuse_expired(&mut self, verified: &VerifiedToken<'_>, refusal: &Refusal) -> Verdict {
        let expired = verified.identity().expires_at;
        let ago = span(self.machine.now - expired);
        self.checks.push(
            Check::fail(
                "token.expiry",
                "expires",
                format!("at {}, {ago} ago", format_utc(expired)),
            )
            .meaning(meaning(refusal))
            .fix("date -u; openstack token issue"),
        );
        refused(refusal)
    }
}

/// The id by which a list revokes a token.
fn revoked_by(list: &RevocationList, verified: &VerifiedToken<'_>, settings: &Settings) -> String {
    let audit_ids = &verified.identity().audit_ids;
    if let Some(audit_id) = audit_ids.iter().find(|id| list.revokes_id(b"", [id.as_str()], &[])) {
        return format!("audit id {audit_id}");
    }
    let text = verified.parsed().text();
    let mut algorithms = settings.hash_algorithms.iter();
    match algorithms.find(|algorithm| list.revokes_id(text, [], &[**algorithm])) {
        Some(algorithm) => format!("{} {}", algorithm.as_str(), algorithm.hex_digest(text)),
        None => "id in another form (PKI or PKIZ) of the same content".to_owned(),
    }
}

fn refused(refusal: &Refusal) -> Verdict {
    Verdict {
        decision: Decision::Refuse,
        result: Some(refusal.result().as_str()),
        reason: refusal.to_string(),
    }
}

fn unavailable(reason: &str) -> Verdict {
    Verdict {
        decision: Decision::Unknown,
        result: Some(AuthResult::IdentityUnavailable.as_str()),
        reason: format!("Keystone is needed and cannot be asked: {reason}"),
    }
}

fn meaning(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::BadSignature => "it was altered, or another key signed it under the same name",
        Refusal::Expired => "get a new one; if many users see this, compare the clocks",
        Refusal::Malformed(_) => "it was cut off or altered on its way, or is not Keystone's",
        Refusal::NoTenant => "a v2 token that is not for a tenant is not accepted: get one that is",
        Refusal::NoToken => "nothing came on the standard input",
        Refusal::UnknownSigner => "a Keystone other than that of keystone_identity_uri signed it",
        Refusal::UnknownToken => "Keystone never issued it, or it has expired or was revoked",
        _ => "the module refuses it",
    }
}
