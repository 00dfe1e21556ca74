//! Values in nginx's units, and secrets.

use std::io;
use std::path::Path;
use std::time::Duration;

use keystone_token::secret::Secret;
use zeroize::Zeroizing;

/// Why a secret cannot be had.  Nothing of it is in the text.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// It could not be sent in a header or a log line.
    #[error("the secret has a control character in it")]
    ControlCharacter,
    /// The file cannot be read.
    #[error("{0}")]
    File(#[from] io::Error),
}

/// Reads a secret that is given in place or as `file:PATH`.
pub fn secret(value: &str, prefix: &Path) -> Result<Secret, SecretError> {
    let mut text = match value.strip_prefix("file:") {
        None => Zeroizing::new(value.to_owned()),
        Some(path) => Zeroizing::new(std::fs::read_to_string(prefix.join(path))?),
    };
    if value.starts_with("file:") && text.ends_with('\n') {
        text.pop();
    }
    match text.chars().any(char::is_control) {
        _ if text.is_empty() => Err(SecretError::Empty),
        true => Err(SecretError::ControlCharacter),
        false => Ok(Secret::new(std::mem::take(&mut *text))),
    }
}

/// A time in nginx's units, such as `30s`, `1h 30m` or `500ms`; seconds without a unit.
pub fn time(text: &str) -> Option<Duration> {
    let mut milliseconds = 0u64;
    let mut rest = text.trim_start();
    if rest.is_empty() {
        return None;
    }
    // Each unit once, from the longest to the shortest.
    let mut units = UNITS;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let at = units.iter().position(|(name, _)| *name == unit)?;
        milliseconds = number.checked_mul(units[at].1)?.checked_add(milliseconds)?;
        units = &units[at + 1..];
        rest = behind.trim_start();
    }
    Some(Duration::from_millis(milliseconds))
}

/// A size in nginx's units, such as `64k`.
pub fn size(text: &str) -> Option<u64> {
    let (number, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

const SECOND: u64 = 1_000;
const DAY: u64 = 86_400 * SECOND;
const UNITS: &[(&str, u64)] = &[
    ("y", 365 * DAY),
    ("M", 30 * DAY),
    ("w", 7 * DAY),
    ("d", DAY),
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("", SECOND),
    ("ms", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_in_nginx_s_units() {
        for (text, milliseconds) in [
            ("10s", Some(10_000)),
            ("10", Some(10_000)),
            ("500ms", Some(500)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("10x", None),
            ("1m 1h", None),
        ] {
            assert_eq!(time(text), milliseconds.map(Duration::from_millis), "{text}");
        }
        assert_eq!(size("64k"), Some(65_536));
        assert_eq!(size("8192"), Some(8_192));
        assert_eq!(size("1M"), Some(1 << 20));
        assert_eq!(size("k"), None);
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = secret("hunter2", Path::new("")).unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "hunter2");
    }
}
