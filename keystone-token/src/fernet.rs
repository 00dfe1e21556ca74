//! The outer form of a Fernet token.
//!
//! Only Keystone has the key, so nothing here says that a token is valid. What does not have the
//! form cannot be decrypted by any Keystone, and need not be shown to one:
//!
//! ```text
//! 0x80, time of issue (8 bytes, big-endian), IV (16), ciphertext (blocks of 16), HMAC (32)
//! ```
//!
//! All of it is in base64url. Keystone strips the padding since Liberty; Kilo wrote it as `%3D`.

use base64::Engine as _;

use crate::format::{BASE64URL, MAX_UNSIGNED_LEN};

/// Checks that `token` has the form of a Fernet token that was issued by `now`, in unix seconds.
pub fn check(token: &[u8], now: i64) -> Result<(), FernetError> {
    if token.len() > MAX_UNSIGNED_LEN {
        return Err(FernetError::Length);
    }
    let bytes = BASE64URL.decode(without_padding(token)).map_err(|_| FernetError::Base64)?;
    let (version, rest) = bytes.split_first().ok_or(FernetError::Length)?;
    if *version != VERSION {
        return Err(FernetError::Version);
    }
    let (issued_at, rest) = rest.split_first_chunk().ok_or(FernetError::Length)?;
    let ciphertext = rest.len().checked_sub(IV + HMAC).ok_or(FernetError::Length)?;
    if ciphertext == 0 || !ciphertext.is_multiple_of(BLOCK) {
        return Err(FernetError::Length);
    }
    let latest = u64::try_from(now.saturating_add(MAX_CLOCK_SKEW)).unwrap_or(0);
    if u64::from_be_bytes(*issued_at) > latest {
        return Err(FernetError::Future);
    }
    Ok(())
}

/// Why a token that begins as a Fernet token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FernetError {
    /// The text is not base64url.
    #[error("the text is not base64url")]
    Base64,
    /// The time of issue is to come.
    #[error("it was issued more than {MAX_CLOCK_SKEW} seconds in the future, check the clocks")]
    Future,
    /// Too short, or the ciphertext is not made of whole blocks.
    #[error("the length is not one of a Fernet token")]
    Length,
    /// The version byte is not 0x80.
    #[error("the version is not 0x80")]
    Version,
}

/// The token without its padding, in either notation.
fn without_padding(token: &[u8]) -> &[u8] {
    let mut text = token;
    for _ in 0..2 {
        let stripped = text.strip_suffix(b"=").or_else(|| text.strip_suffix(b"%3D"));
        text = stripped.unwrap_or(text);
    }
    text
}

/// How far, in seconds, the clocks of Keystone and of the gateway may differ: as the reference
/// implementation of Fernet has it.
pub const MAX_CLOCK_SKEW: i64 = 60;

const VERSION: u8 = 0x80;
const IV: usize = 16;
const BLOCK: usize = 16;
const HMAC: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z
    const ISSUED_AT: i64 = 1_767_225_600;

    /// A token issued at `issued_at`, with this much ciphertext.
    fn token(version: u8, issued_at: u64, ciphertext: usize) -> String {
        let mut bytes = vec![version];
        bytes.extend(issued_at.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xa5, IV + ciphertext + HMAC));
        BASE64URL.encode(bytes)
    }

    #[test]
    fn tokens_of_cryptography_have_the_form() {
        for token in CRYPTOGRAPHY {
            let stripped = token.trim_end_matches('=');
            for token in [token.to_owned(), stripped.to_owned(), token.replace('=', "%3D")] {
                assert_eq!(check(token.as_bytes(), ISSUED_AT), Ok(()), "{token}");
            }
        }
    }

    #[test]
    fn a_clock_may_be_a_minute_ahead_and_no_more() {
        for (ahead, outcome) in [
            (-1_000_000, Ok(())),
            (0, Ok(())),
            (60, Ok(())),
            (61, Err(FernetError::Future)),
            (1_000_000, Err(FernetError::Future)),
        ] {
            let issued_at = (ISSUED_AT + ahead).cast_unsigned();
            assert_eq!(check(token(0x80, issued_at, 16).as_bytes(), ISSUED_AT), outcome, "{ahead}");
        }
        let far = token(0x80, u64::MAX, 16);
        assert_eq!(check(far.as_bytes(), ISSUED_AT), Err(FernetError::Future));
        assert_eq!(check(far.as_bytes(), i64::MAX), Err(FernetError::Future));
        assert_eq!(check(token(0x80, 1, 16).as_bytes(), i64::MIN), Err(FernetError::Future));
    }

    #[test]
    fn the_ciphertext_is_made_of_whole_blocks() {
        for (ciphertext, outcome) in [
            (0, Err(FernetError::Length)),
            (1, Err(FernetError::Length)),
            (15, Err(FernetError::Length)),
            (16, Ok(())),
            (17, Err(FernetError::Length)),
            (160, Ok(())),
        ] {
            let token = token(0x80, 0, ciphertext);
            assert_eq!(check(token.as_bytes(), ISSUED_AT), outcome, "{ciphertext}");
        }
        let long = token(0x80, 0, 6_400);
        assert_eq!(check(long.as_bytes(), ISSUED_AT), Err(FernetError::Length));
    }

    #[test]
    fn what_is_no_base64url_is_no_token() {
        let good = token(0x80, 0, 16);
        let with = |at: usize, with: &str| {
            let mut text = good.clone();
            text.replace_range(at..=at, with);
            text
        };
        for token in [
            with(20, "!"),
            with(20, "+"),
            with(20, "/"),
            with(20, "="),
            with(20, " "),
            with(20, "\u{e9}"),
            good[1..].to_owned(),
            format!("{good}==="),
            format!("{good}====="),
            format!("{good}%3d"),
            format!("{good}%"),
        ] {
            assert!(check(token.as_bytes(), ISSUED_AT).is_err(), "{token}");
        }
        for token in ["", "g", "gAAAAA", "gAAAAABYqGsA", "====", "%3D"] {
            assert!(check(token.as_bytes(), ISSUED_AT).is_err(), "{token}");
        }
        assert_eq!(check(token(0x81, 0, 16).as_bytes(), ISSUED_AT), Err(FernetError::Version));
    }

    /// Made with cryptography at [`ISSUED_AT`], of 0, 40 and 101 bytes, with their padding.
    const CRYPTOGRAPHY: [&str; 3] = [
        "gAAAAABpVbkA28TqLlUsBUEv1c6pLsi4-zUvOQUmuYWOSrdKDGa4RRHfXV8DCEae5NO40l2TY9rvDVle\
         aFoXO94lluKWQJpDjw==",
        "gAAAAABpVbkAV5e3X9yfSlyHKuRi44KXkllOvSeILsIaHatI2tgHFmThmwJexVCjkhPsFOII-xKpqEec\
         XbEQ_DHFIwxt9xqkIKyNQR1K-wRPrS5mg0Kvfh6T2caLZECKtiOwtnZFwtwG",
        "gAAAAABpVbkAMdPIzryXF_malGEUDr7NznM8uV-t4YkxkRsPnuQV4WkLDB77CevueoHvUgdxZKgK4Glp\
         DXRpgNNEoalt19s2aHy5IkOoL0WjQ_sV0RQDoIINyOKyxLOWayeVoiAMud8VWYGJXqxyuo4knDJVADkt\
         IGDPlJSVlaJS3SpN8Y2dMDYfinl_w43M0jTaKvscDhMdJ28TH2qPgkf-XeLN99K3fw==",
    ];
}
