//! The three files in `keystone_signing_dir`: whether they can be read, belong together, and are
//! what Keystone serves now.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use keystone_token::cms::{SignatureError, SignedData, Signers};
use keystone_token::revocation::RevocationList;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::certificate;
use crate::conf::service::Settings;
use crate::keystone::Served;
use crate::report::{quote, span, Check, Status};
use crate::system;

/// The certificates that tokens are signed with.
pub const SIGNING: &str = "signing_cert.pem";
/// The certificates that issued them.
pub const CA: &str = "cacert.pem";
/// File name of the revocation list in the signing directory.
pub const REVOKED: &str = "revoked.pem";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// This program may not read it.
    #[error("needs root: {0}")]
    Forbidden(io::Error),
    /// The file does not exist.
    #[error("it is not there")]
    Missing,
    /// The module would not read it either.
    #[error("{0}")]
    Unusable(String),
}

/// Reads a file as the module does, which follows no symbolic link there.
pub fn read(path: &Path) -> Result<(Vec<u8>, Metadata), FileError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing,
        io::ErrorKind::PermissionDenied => FileError::Forbidden(error),
        _ if error.raw_os_error() == Some(Errno::ELOOP as i32) => FileError::Unusable(
            "it is a symbolic link, which the module does not follow".to_owned(),
        ),
        _ => FileError::Unusable(error.to_string()),
    })?;
    let unusable = |error: io::Error| FileError::Unusable(error.to_string());
    let metadata = file.metadata().map_err(unusable)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(FileError::Unusable("it is no regular file of a sensible size".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(unusable)?;
    Ok((bytes, metadata))
}

/// All checks of the files.
pub fn checks(directory: &Path, settings: &Settings, served: &Served, now: i64) -> Vec<Check> {
    let signing = read(&directory.join(SIGNING));
    let ca = read(&directory.join(CA));
    let mut checks = vec![
        certificates("files.signing_cert", SIGNING, directory, &signing, served, now),
        certificates("files.cacert", CA, directory, &ca, served, now),
    ];
    let bytes = |file: Result<(Vec<u8>, Metadata), FileError>| file.ok().map(|(bytes, _)| bytes);
    let readable = |pem: &Vec<u8>| certificate::parse(pem).is_ok();
    let pair = bytes(signing).filter(readable).zip(bytes(ca).filter(readable));
    let signers = pair.as_ref().map(|(signing, ca)| Signers::from_pem(signing, ca, now));
    match &signers {
        None => {}
        Some(Ok(_)) => checks.push(Check::ok(
            "files.chain",
            "chain",
            "the signing certificate chains to the CA and may sign",
        )),
        Some(Err(error)) => checks.push(
            Check::fail("files.chain", "chain", error.to_string())
                .meaning(
                    "the two files do not belong together, or the certificate is not for \
                          signing: the module leaves them aside and asks Keystone for others",
                )
                .fix(anew(directory)),
        ),
    }
    if let Some((signing, ca)) = &pair {
        checks.extend(current(directory, signing, ca, served));
    }
    let is_over = pair.as_ref().and_then(|(signing, _)| certificate::none_valid(signing, now));
    if settings.revocation {
        checks.push(match is_over {
            Some(_) => Check::skip(
                "files.revoked",
                REVOKED,
                "it cannot be verified with a certificate that is not valid now",
            ),
            None => {
                revoked(directory, settings, signers.and_then(Result::ok).as_ref(), served, now)
            }
        });
    }
    checks
}

fn certificates(
    id: &'static str,
    name: &'static str,
    directory: &Path,
    file: &Result<(Vec<u8>, Metadata), FileError>,
    served: &Served,
    now: i64,
) -> Check {
    let path = directory.join(name).display().to_string();
    let bytes = match file {
        Ok((bytes, _)) => bytes,
        Err(error) => return absent(id, name, directory, error, served).about(path),
    };
    let certificates = match certificate::parse(bytes) {
        Ok(certificates) => certificates,
        Err(reason) => {
            return Check::fail(id, name, reason)
                .meaning("the module leaves it aside and fetches another with the next PKI token")
                .fix(anew(directory))
                .about(path)
        }
    };
    let texts: Vec<String> = certificates.iter().map(|it| certificate::describe(it, now)).collect();
    let detail = texts.join("; ");
    // While Keystone changes from one to the other there are two: the best one counts.
    let best = certificates.iter().map(|it| certificate::validity(it, now).0).min();
    match best.unwrap_or(Status::Fail) {
        Status::Fail => Check::fail(id, name, detail)
            .meaning(
                "no PKI token can be verified with it: the module asks Keystone about each \
                      until Keystone serves a new one. If the dates look right, compare the clocks",
            )
            .fix(format!("openssl x509 -noout -dates -in {}; date -u", quote(&path))),
        Status::Warn => Check::warn(id, name, detail)
            .meaning("make a new one at Keystone before it ends; the module fetches it by itself")
            .fix(format!("openssl x509 -noout -dates -in {}", quote(&path))),
        _ => Check::ok(id, name, detail),
    }
    .about(path)
}

/// A file that is not there need not be bad.
fn absent(
    id: &'static str,
    name: &'static str,
    directory: &Path,
    error: &FileError,
    served: &Served,
) -> Check {
    match (error, served) {
        (FileError::Forbidden(_), _) => Check::skip(id, name, error.to_string()),
        (FileError::Missing, Served::Nothing) => {
            Check::skip(id, name, "it is not there, and this Keystone has none to serve")
        }
        (FileError::Missing, Served::Certificates(_)) => Check::warn(id, name, "it is not there")
            .meaning(
                "the module fetches it with the first PKI token that comes; until then a \
                      restart while Keystone is down means 503 for PKI tokens",
            )
            .fix("send a request with a PKI token, then look again"),
        (FileError::Missing, Served::Unknown) => Check::warn(id, name, "it is not there")
            .meaning("while Keystone cannot be asked, no PKI token can be verified: 503"),
        (FileError::Unusable(reason), _) => Check::fail(id, name, reason.clone())
            .meaning("the module leaves it aside")
            .fix(anew(directory)),
    }
}

/// Whether the files are those that Keystone serves now.
fn current(directory: &Path, signing: &[u8], ca: &[u8], served: &Served) -> Option<Check> {
    let (id, title) = ("files.current", "same as Keystone's");
    Some(match served {
        Served::Unknown => Check::skip(id, title, "Keystone cannot be asked for its certificates"),
        Served::Nothing => Check::warn(id, title, "Keystone does not serve certificates any more")
            .meaning(
                "the files are left over from when it issued PKI tokens, or \
                      keystone_identity_uri names another Keystone; tokens of that time still \
                      verify",
            )
            .fix(anew(directory)),
        Served::Certificates(now) if same(signing, &now.signing) && same(ca, &now.ca) => {
            Check::ok(id, title, "Keystone serves the same certificates")
        }
        Served::Certificates(_) => Check::warn(id, title, "Keystone serves other certificates")
            .meaning(
                "it has got new ones since, or keystone_identity_uri names another Keystone. \
                      The module fetches them when a token comes that was signed with them",
            )
            .fix(anew(directory)),
    })
}

/// The same certificates, whatever text is around them.
fn same(one: &[u8], other: &[u8]) -> bool {
    let der = |pem: &[u8]| -> Option<Vec<Vec<u8>>> {
        certificate::parse(pem).ok()?.iter().map(|it| it.to_der().ok()).collect()
    };
    one == other || der(one).is_some_and(|one| Some(one) == der(other))
}

fn revoked(
    directory: &Path,
    settings: &Settings,
    signers: Option<&Signers>,
    served: &Served,
    now: i64,
) -> Check {
    let id = "files.revoked";
    let path = directory.join(REVOKED);
    let (bytes, metadata) = match read(&path) {
        Ok(file) => file,
        Err(error) => {
            return absent(id, REVOKED, directory, &error, served).about(path.display().to_string())
        }
    };
    let age = system::age_of(&metadata);
    let check = match (list(&bytes, signers, now), age) {
        (Err(ListError::NoSigners), _) => {
            Check::skip(id, REVOKED, "there are no certificates to verify it with")
        }
        (Err(error), _) => Check::fail(id, REVOKED, error.to_string())
            .meaning(
                "the module leaves it aside and fetches another; if Keystone's own does not \
                      verify either, it is signed with a certificate that Keystone does not serve",
            )
            .fix(anew(directory)),
        (Ok(list), age) => {
            let age = age.unwrap_or(i64::MAX);
            let detail = format!("{} entries, written {} ago", list.len(), span(age));
            match age {
                age if is_old(age, settings) => Check::warn(id, REVOKED, detail).meaning(
                    "it has not been fetched for long: no PKI token came since, or the \
                              module cannot get it; its error log tells. The next PKI token waits \
                              for a new list",
                ),
                age if age < 0 => Check::warn(id, REVOKED, "it was written in the future")
                    .meaning("the clock has been turned back: the module takes the list for old")
                    .fix("date -u"),
                _ => Check::ok(id, REVOKED, detail),
            }
        }
    };
    check.about(path.display().to_string())
}

/// Whether a list of this age has not been fetched for long.
pub fn is_old(age: i64, settings: &Settings) -> bool {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let fresh = seconds(settings.revocation_cache_time).saturating_mul(2).max(OLD);
    age > fresh.saturating_add(seconds(settings.revocation_stale))
}

/// Why a revocation list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is not what Keystone signs.
    #[error("it is malformed: {0}")]
    Cms(#[from] keystone_token::cms::CmsError),
    /// Its content is no list.
    #[error("it holds {0}")]
    Content(#[from] keystone_token::revocation::RevocationError),
    /// There is nothing to verify it with.
    #[error("there are no certificates to verify it with")]
    NoSigners,
    /// Its signature does not hold.
    #[error("it does not verify: {0}")]
    Signature(#[from] SignatureError),
}

/// Verifies and parses a signed list; fails without certificates.
pub fn list(pem: &[u8], signers: Option<&Signers>, now: i64) -> Result<RevocationList, ListError> {
    let signed = SignedData::from_pem(pem)?;
    let content = signers.ok_or(ListError::NoSigners)?.verify(&signed, now)?;
    Ok(RevocationList::from_json(content)?)
}

/// The command that removes all three files; the module fetches them again. A reload would keep
/// what is in shared memory.
fn anew(directory: &Path) -> String {
    let path = |name: &str| quote(&directory.join(name).display().to_string());
    format!("rm -f {} {} {} && systemctl restart nginx", path(SIGNING), path(CA), path(REVOKED))
}

/// The same limit as in the module.
const MAX_FILE: u64 = 64 << 20;

/// Seconds that a list may lie there without anything being odd: requests are rare at times.
const OLD: i64 = 3_600;
