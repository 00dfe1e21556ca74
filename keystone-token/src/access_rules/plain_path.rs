//! Whether a path leaves room for two opinions of what it names.

use crate::text::{escaped, percent_decode};

/// Whether a path as the client wrote it (`raw`: percent-encoded, without a query) certainly names
/// what the normalised one (decoded) names, whatever server reads it. A rule is checked against the
/// normalised path, and a service may get the raw one: it must not find something else in it.
///
/// So these are not plain, whether written plainly or percent-encoded:
/// - an empty segment (`//`), `.` and `..`: some resolve them, some do not;
/// - a slash in a segment (`%2F`), and a backslash: separators for some;
/// - `;`: some servers cut it off with all that follows in the segment, and make `..` of `..;x`;
/// - a control character, NUL among them: some stop or strip there;
/// - what is not UTF-8: careless decoders find a `.` or `/` in its overlong forms;
/// - what is an escape once more when decoded (`%252E`): a server may decode twice;
///
/// and neither is a path that does not begin with `/` (`*`, or with a scheme and a host), has an
/// incomplete escape, or has a space, `?` or `#`, which end a path, unless encoded. All else may be
/// encoded or not, as `%D0%BF`.
pub fn is_plain_path(raw: &[u8], normalised: &[u8]) -> bool {
    let Some(segments) = raw.strip_prefix(b"/") else { return false };
    let Some(mut expected) = normalised.strip_prefix(b"/") else { return false };
    let mut segments = segments.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let Some(decoded) = decode(segment) else { return false };
        if !is_plain_segment(&decoded) || decoded.is_empty() && !is_last {
            return false;
        }
        let Some(rest) = expected.strip_prefix(&decoded[..]) else { return false };
        expected = match rest.split_first() {
            Some((b'/', rest)) if !is_last => rest,
            None if is_last => return true,
            _ => return false,
        };
    }
    false
}

/// The same for a path that is passed on decoded, such as one that was rewritten.
pub fn has_plain_segments(path: &[u8]) -> bool {
    let Some(segments) = path.strip_prefix(b"/") else { return false };
    let mut segments = segments.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if !is_plain_segment(segment) || segment.is_empty() && !is_last {
            return false;
        }
    }
    true
}

/// None if an escape is incomplete, or the path ends in the midst of the segment.
fn decode(segment: &[u8]) -> Option<Vec<u8>> {
    let is_end = |byte: &u8| matches!(byte, b' ' | b'#' | b'?');
    percent_decode(segment).filter(|_| !segment.iter().any(is_end))
}

fn is_plain_segment(decoded: &[u8]) -> bool {
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\' | b';') || byte.is_ascii_control();
    !matches!(decoded, b"." | b"..")
        && !decoded.iter().any(is_separator)
        && !(0..decoded.len()).any(|at| escaped(&decoded[at..]).is_some())
        && std::str::from_utf8(decoded).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_plain(raw: &str, normalised: &str) -> bool {
        is_plain_path(raw.as_bytes(), normalised.as_bytes())
    }

    #[test]
    fn what_is_merely_encoded_is_plain() {
        for (raw, normalised) in [
            ("/", "/"),
            ("/v1/AUTH_x/c/o", "/v1/AUTH_x/c/o"),
            ("/v1/AUTH_x/c/", "/v1/AUTH_x/c/"),
            ("/my%20object", "/my object"),
            ("/%D0%BF%d1%80", "/пр"),
            ("/пр", "/пр"),
            ("/%76%31", "/v1"),
            ("/100%25", "/100%"),
            ("/%25zz", "/%zz"),
            ("/a%3Fb%23c", "/a?b#c"),
            ("/a+b:@!$&'()*,=~", "/a+b:@!$&'()*,=~"),
            ("/...", "/..."),
            ("/.a/b./..c", "/.a/b./..c"),
            ("/%2e%2e%2e", "/..."),
        ] {
            assert!(is_plain(raw, normalised), "{raw}");
        }
    }

    #[test]
    fn a_path_that_was_rewritten() {
        for path in ["/", "/v1/c/", "/my object", "/пр/о", "/a?b#c", "/100%"] {
            assert!(has_plain_segments(path.as_bytes()), "{path}");
        }
        for path in ["", "x", "//", "/a//b", "/a/../b", "/a/..", "/./a", "/a\\b", "/a;b", "/%2e"] {
            assert!(!has_plain_segments(path.as_bytes()), "{path}");
        }
        assert!(!has_plain_segments(b"/a\0b") && !has_plain_segments(b"/\xff"));
    }

    #[test]
    fn what_may_be_read_differently_is_not() {
        for (raw, normalised) in [
            // Segments that are none.
            ("//", "/"),
            ("//", "//"),
            ("/a//b", "/a/b"),
            ("/a//b", "/a//b"),
            ("/a//", "/a//"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/%2e/b", "/a/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/%2e%2E/b", "/a/../b"),
            // Separators.
            ("/a%2Fb", "/a/b"),
            ("/a/..%2fb", "/b"),
            ("/a\\b", "/a\\b"),
            ("/a%5cb", "/a\\b"),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/a/..;/b", "/a/..;/b"),
            ("/a%3Bb", "/a;b"),
            // Ends.
            ("/a%00", "/a\0"),
            ("/a%0d%0A", "/a\r\n"),
            ("/a%7f", "/a\u{7f}"),
            ("/a?b", "/a?b"),
            ("/a?b", "/a"),
            ("/a#b", "/a#b"),
            ("/a#b", "/a"),
            ("/my object", "/my object"),
            ("/my object", "/my"),
            // Once decoded, twice decoded, half encoded.
            ("/%252e%252E/b", "/%2e%2E/b"),
            ("/a%252fb", "/a%2fb"),
            ("/a%", "/a%"),
            ("/a%2", "/a%2"),
            ("/a%2g", "/a%2g"),
            ("/a%+2", "/a%+2"),
            ("/a%u0041", "/a%u0041"),
            // No path of this server.
            ("", ""),
            ("", "/"),
            ("*", "*"),
            ("a/b", "a/b"),
            ("http://host/a", "/a"),
            ("http://host/a", "http://host/a"),
        ] {
            assert!(!is_plain(raw, normalised), "{raw}");
        }
        for overlong in [&b"/%c0%ae%c0%ae/b"[..], b"/a%c0%afb", b"/%ff", b"/%e0%80%ae"] {
            let decoded = [&b"/"[..], &decode(&overlong[1..]).unwrap()].concat();
            assert!(!is_plain_path(overlong, &decoded));
        }
    }

    #[test]
    fn a_path_that_was_changed_is_not() {
        for (raw, normalised) in [
            ("/a", "/b"),
            ("/a", "/A"),
            ("/a", "/a/"),
            ("/a/", "/a"),
            ("/a", "/ab"),
            ("/ab", "/a"),
            ("/a/b", "/a"),
            ("/a", "/a/b"),
            ("/a/b", "/b/a"),
            ("/a", ""),
            ("/", "/index.html"),
            ("/%61", "/%61"),
        ] {
            assert!(!is_plain(raw, normalised), "{raw} {normalised}");
        }
    }
}
