//! Tokens and lists that were recorded from a Keystone 10.

use std::path::{Path, PathBuf};

use keystone_token::cms::{SignedData, Signers};
use keystone_token::format::{armour_pki, armour_pkiz, HashAlgorithm, TokenFormat};
use keystone_token::refusal::Refusal;
use keystone_token::revocation::RevocationList;
use keystone_token::time;
use keystone_token::token;
use serde_json::Value;

/// The day the vectors were recorded, after the tokens in state `expired` did.
const NOW: &str = "2026-11-23T12:00:00Z";

/// The folder of Keystone 10, or nothing where there are no vectors.
fn vectors() -> Option<PathBuf> {
    let path = match std::env::var_os("KEYSTONE_VECTORS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
    };
    if path.join("keystone-10").is_dir() {
        return Some(path.join("keystone-10"));
    }
    println!("skipped: there are no vectors in {}", path.display());
    None
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

pub fn signers(vectors: &Path, now: i64) -> Signers {
    let signing = read(vectors.join("certs/signing_cert.pem"));
    Signers::from_pem(&signing, &read(vectors.join("certs/ca.pem")), now).unwrap()
}

pub fn folder_and_time() -> Option<(PathBuf, i64)> {
    Some((vectors()?, time::parse(NOW).unwrap()))
}

pub fn token(vectors: &Path, provider: &str, name: &str) -> Vec<u8> {
    let path = vectors.join(provider).join("tokens").join(format!("{name}.token"));
    read(path).trim_ascii_end().to_vec()
}

/// `openssl cms -outform PEM`
pub fn pem(der: &[u8]) -> String {
    let base64 = openssl::base64::encode_block(der);
    let lines: Vec<_> =
        base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN CMS-----\n{}\n-----END CMS-----\n", lines.join("\n"))
}

fn list(folder: &Path, name: &str, signers: &Signers, now: i64) -> RevocationList {
    let signed = SignedData::from_pem(&read(folder.join("revocation").join(name))).unwrap();
    RevocationList::from_json(signers.verify(&signed, now).unwrap()).unwrap()
}

#[test]
fn every_token_comes_out_as_its_manifest_says() {
    let Some((vectors, now)) = folder_and_time() else { return };
    let signers = signers(&vectors, now);
    let mut seen = 0;
    for provider in ["pki", "pkiz", "pki-norevokebyid"] {
        let folder = vectors.join(provider);
        let manifest: Value = serde_json::from_slice(&read(folder.join("manifest.json"))).unwrap();
        let list = match provider {
            "pki-norevokebyid" => RevocationList::default(),
            _ => list(&folder, "revoked-many-v2-list.cms.pem", &signers, now),
        };
        for (name, entry) in manifest["tokens"].as_object().unwrap() {
            let text = read(folder.join(entry["file"].as_str().unwrap()));
            let text = text.trim_ascii_end();
            let format = TokenFormat::of(text);
            assert_eq!(format.as_str(), &provider[..provider.find('-').unwrap_or(provider.len())]);
            assert_eq!(HashAlgorithm::Md5.hex_digest(text), entry["md5"]);
            assert_eq!(HashAlgorithm::Sha256.hex_digest(text), entry["sha256"]);

            let result = token::parse(text).and_then(|it| it.verify(&signers, now));
            let state = entry["state"].as_str().unwrap();
            if name.starts_with("v2") && name.ends_with("unscoped") {
                assert!(matches!(result, Err(Refusal::NoTenant)), "{name}");
            } else if state.contains("expired") {
                assert!(matches!(result, Err(Refusal::Expired)), "{name}");
            } else {
                let token = result.unwrap_or_else(|e| panic!("{provider} {name}: {e}"));
                let expires = time::parse(entry["expires"].as_str().unwrap()).unwrap();
                assert_eq!(token.identity().expires_at, expires);
                assert_eq!(Value::from(token.identity().audit_ids.clone()), entry["audit_ids"]);
                let signed = token.parsed().signed_data();
                let again = match format {
                    TokenFormat::Pki => armour_pki(signed.der()),
                    _ => armour_pkiz(signed.der()),
                };
                assert_eq!(again.as_bytes(), text);
                let payload = read(folder.join(entry["payload"].as_str().unwrap()));
                assert_eq!(signed.content(), payload.trim_ascii_end());
                let revoked = provider != "pki-norevokebyid" && state.contains("revoked");
                assert_eq!(list.revokes(&token, &[HashAlgorithm::Md5]), revoked, "{name}");
            }
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn the_empty_lists_revoke_nothing() {
    let Some((vectors, now)) = folder_and_time() else { return };
    let signers = signers(&vectors, now);
    for provider in ["pki", "pkiz"] {
        let folder = vectors.join(provider);
        assert!(list(&folder, "revoked-empty-v2-list.cms.pem", &signers, now).is_empty());
        let many = list(&folder, "revoked-many-v2-list.cms.pem", &signers, now);
        assert!(many.len() >= 8);
    }
}

/// Keystone 10 lists an audit id with every entry. Without them, the ids alone must do for
/// all but the child, of which the list has no id.
#[test]
fn the_recorded_ids_suffice_in_either_form() {
    let Some((vectors, now)) = folder_and_time() else { return };
    let signers = signers(&vectors, now);
    for provider in ["pki", "pkiz"] {
        let folder = vectors.join(provider);
        let path = folder.join("revocation/revoked-many-v2-list.json");
        let mut json: Value = serde_json::from_slice(&read(path)).unwrap();
        for entry in json["revoked"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("audit_id");
        }
        let list = RevocationList::from_json(json.to_string().as_bytes()).unwrap();
        let manifest: Value = serde_json::from_slice(&read(folder.join("manifest.json"))).unwrap();
        for (name, entry) in manifest["tokens"].as_object().unwrap() {
            let text = token(&vectors, provider, name);
            let parsed = token::parse(&text).unwrap();
            let Ok(verified) = parsed.verify(&signers, now) else { continue };
            let revoked = entry["state"].as_str().unwrap().starts_with("revoked");
            let der = verified.parsed().signed_data().der();
            for text in [armour_pki(der), armour_pkiz(der)] {
                let parsed = token::parse(text.as_bytes());
                let verified = parsed.unwrap().verify(&signers, now).unwrap();
                assert_eq!(list.revokes(&verified, &[HashAlgorithm::Md5]), revoked, "{name}");
            }
        }
    }
}
