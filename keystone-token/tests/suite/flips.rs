//! Every single bit of a token matters.

use keystone_token::format::{armour_pki, armour_pkiz, HashAlgorithm};
use keystone_token::revocation::RevocationList;
use keystone_token::token::{parse, VerifiedToken};

use crate::pki::{v3_payload, NOW, PKI};
use crate::vectors;

fn verify<'t>(
    text: &'t [u8],
    signers: &keystone_token::cms::Signers,
    now: i64,
) -> Option<VerifiedToken<'t>> {
    // A text that no longer looks like a signed token is never taken for one.
    parse(text).ok()?.verify(signers, now).ok()
}

fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn no_flip_in_the_message_passes() {
    let (der, signers) = (PKI.sign(&v3_payload()), PKI.signers());
    assert!(verify(armour_pki(&der).as_bytes(), &signers, NOW).is_some());
    for flipped in flips(&der) {
        assert!(verify(armour_pki(&flipped).as_bytes(), &signers, NOW).is_none());
        assert!(verify(armour_pkiz(&flipped).as_bytes(), &signers, NOW).is_none());
    }
}

#[test]
fn no_flip_in_the_text_of_a_pki_token_passes() {
    let (token, signers) = (armour_pki(&PKI.sign(&v3_payload())), PKI.signers());
    for flipped in flips(token.as_bytes()) {
        assert!(verify(&flipped, &signers, NOW).is_none());
    }
}

/// A zlib stream has bits that mean nothing, at its very end. A token that differs in one of them
/// is valid, and is revoked with the original.
#[test]
fn no_flip_in_the_text_of_a_pkiz_token_escapes_revocation() {
    let (token, signers) = (armour_pkiz(&PKI.sign(&v3_payload())), PKI.signers());
    let (taken, _) = flip_pkiz(token.as_bytes(), &signers, NOW);
    assert!(taken < 8, "{taken}");
}

#[test]
fn no_flip_in_a_recorded_token_passes() {
    let Some((folder, now)) = vectors::folder_and_time() else { return };
    let signers = vectors::signers(&folder, now);
    let text = vectors::token(&folder, "pki", "v3-unscoped");
    assert!(verify(&text, &signers, now).is_some());
    for flipped in flips(&text) {
        assert!(verify(&flipped, &signers, now).is_none());
    }
    let text = vectors::token(&folder, "pkiz", "v3-unscoped");
    assert!(verify(&text, &signers, now).is_some());
    let (taken, refused) = flip_pkiz(&text, &signers, now);
    assert!(taken < 8 && refused > 8000, "{taken} {refused}");
}

fn flip_pkiz(text: &[u8], signers: &keystone_token::cms::Signers, now: i64) -> (usize, usize) {
    let id = HashAlgorithm::Md5.hex_digest(text);
    let list = format!(r#"{{"revoked": [{{"id": "{id}"}}]}}"#);
    let list = RevocationList::from_json(list.as_bytes()).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for flipped in flips(text) {
        match verify(&flipped, signers, now) {
            None => refused += 1,
            Some(token) => {
                taken += 1;
                assert!(list.revokes(&token, &[HashAlgorithm::Md5]));
            }
        }
    }
    (taken, refused)
}
