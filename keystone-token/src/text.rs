//! Text as Python and URLs have it.

use std::borrow::Cow;

/// Whether two texts are the same but for the case of their letters, as Python's `str.lower` has
/// it: also a capital sigma depends on where it stands.
pub(crate) fn eq_ignore_case(a: &str, b: &str) -> bool {
    // Which mostly ends with the lengths.
    a.eq_ignore_ascii_case(b)
        || !(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase()
}

/// Whether a text has a control character: C0, DEL, or C1 (U+0080 to U+009F), which terminals and
/// some parsers obey as well.
pub(crate) fn has_control_character(text: &str) -> bool {
    // In UTF-8 those of C1 begin with C2. Most texts have neither.
    let may_be = |byte: u8| byte.is_ascii_control() || byte == 0xc2;
    text.bytes().any(may_be) && text.chars().any(char::is_control)
}

/// JSON text without control characters: outside of strings they are not allowed, and in them JSON
/// demands an escape for C0 alone.
pub(crate) fn escape_controls(json: String) -> String {
    if !has_control_character(&json) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        match char.is_control() {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(char))),
            false => escaped.push(char),
        }
    }
    escaped
}

/// Python's `str.strip`, for which four separators of ASCII are blanks too.
pub(crate) fn strip(text: &str) -> &str {
    if let [first, .., last] = text.as_bytes() {
        if first.is_ascii_graphic() && last.is_ascii_graphic() {
            return text;
        }
    }
    text.trim_matches(|it: char| it.is_whitespace() || matches!(it, '\x1c'..='\x1f'))
}

/// The byte whose escape (`%2e`) the text begins with.
pub(crate) fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// The bytes with each escape decoded, once; `None` where an escape is incomplete (RFC 3986,
/// section 2.1).
pub fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match byte {
            b'%' => (escaped(rest)?, rest.get(3..)?),
            byte => (byte, after),
        };
        decoded.push(byte);
        rest = after;
    }
    Some(decoded)
}

/// Python's `unquote_to_bytes`: what is no whole escape means itself.
pub(crate) fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut unquoted = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = escaped(rest);
        unquoted.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &rest[3..] } else { after };
    }
    Cow::Owned(unquoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_ignored_as_python_does() {
        for (a, b) in [
            ("Admin", "aDMIN"),
            ("RÔLE", "rôle"),
            ("ΟΔΟΣ", "οδος"),
            ("\u{212a}elvin", "kelvin"),
            ("İ", "i\u{307}"),
            ("", ""),
        ] {
            assert!(eq_ignore_case(a, b) && eq_ignore_case(b, a), "{a} {b}");
        }
        // A small sigma stays the one that it is.
        for (a, b) in [("ΟΔΟΣ", "οδοσ"), ("ß", "SS"), ("a", "b"), ("a", "á"), ("a", "")] {
            assert!(!eq_ignore_case(a, b) && !eq_ignore_case(b, a), "{a} {b}");
        }
    }

    #[test]
    fn control_characters_are_c0_del_and_c1() {
        for control in (0..=0x1f).chain(0x7f..=0x9f).filter_map(char::from_u32) {
            assert!(has_control_character(&format!("a{control}b")), "{control:?}");
        }
        for text in ["", "a b", "\u{a0}", "\u{ad}", "naïve", "\u{2028}", "名前"] {
            assert!(!has_control_character(text), "{text:?}");
        }
    }

    #[test]
    fn controls_are_escaped_in_json() {
        let json = format!("[\"{}\u{e9}\"]", "\u{7f}\u{85}\u{9f}");
        let escaped = escape_controls(json.clone());
        assert_eq!(escaped, "[\"\\u007f\\u0085\\u009f\u{e9}\"]");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&escaped), parse(&json));
    }

    #[test]
    fn blanks_are_stripped_as_python_does() {
        let blanks = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{3000}";
        assert_eq!(strip(&format!("{blanks}a b{blanks}")), "a b");
        assert_eq!(strip(blanks), "");
        for kept in ["\0a\0", "\u{200b}a\u{feff}", "\x1ba\x7f"] {
            assert_eq!(strip(kept), kept);
        }
    }

    #[test]
    fn escapes_are_unquoted_as_python_does() {
        for (text, unquoted) in [
            ("", ""),
            ("a%20b%2Cc%2c", "a b,c,"),
            ("%25%32%30", "%20"),
            ("%%20%2%zz%", "% %2%zz%"),
            ("%+1% 1%é", "%+1% 1%é"),
        ] {
            assert_eq!(&*unquote(text.as_bytes()), unquoted.as_bytes(), "{text}");
        }
        assert_eq!(&*unquote(b"%ff\xfe"), b"\xff\xfe");
    }
}
