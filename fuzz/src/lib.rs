//! What several targets need.

/// The bytes of a percent-encoded path, as a server would decode it; an incomplete escape stays.
pub fn percent_decoded(raw: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            rest.get(1..3).filter(|it| byte == b'%' && it.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &rest[3..] } else { after };
    }
    decoded
}
