//! `Destination` of WebDAV (RFC 4918, section 10.3), as ngx_http_dav_module reads it.

use keystone_token::text::percent_decode;

/// The path, decoded: of a URI with `http` or `https`, or written in the place of one, without the
/// query. `None` for what nginx refuses, and for a path that names its file in another way than the
/// path of a request does, from which nginx removes `.`, `..` and empty segments.
pub fn destination_path(value: &[u8]) -> Option<Vec<u8>> {
    let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| value.strip_prefix(*scheme));
    let uri = match rest {
        Some(rest) => &rest[rest.iter().position(|byte| *byte == b'/')?..],
        None => value,
    };
    let path = percent_decode(uri.split(|byte| *byte == b'?').next()?)?;
    let mut segments = path.strip_prefix(b"/")?.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_plain = match segment {
            b"" => segments.peek().is_none(),
            b"." | b".." => false,
            segment => !segment.contains(&0),
        };
        if !is_plain {
            return None;
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::destination_path;

    #[test]
    fn paths_that_name_a_file_as_requests_do() {
        for (value, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("http://h/a?b/../c", "/a"),
            ("https://user@h:1/a%20b", "/a b"),
            ("/a%2Fb", "/a/b"),
            ("/Smith%3B John.pdf", "/Smith; John.pdf"),
            ("/a;b\\c%5C", "/a;b\\c\\"),
            ("/100%25", "/100%"),
            ("/%252e%252e/x", "/%2e%2e/x"),
            ("/...", "/..."),
            ("/a%3Fb#c", "/a?b#c"),
        ] {
            let found = destination_path(value.as_bytes());
            assert_eq!(found.as_deref(), Some(path.as_bytes()), "{value}");
        }
        assert_eq!(destination_path(b"/%ff\xfe").as_deref(), Some(&b"/\xff\xfe"[..]));
    }

    #[test]
    fn paths_that_do_not() {
        for value in [
            "",
            "a",
            "?",
            "http://h",
            "ftp://h/a",
            "HTTP://h/a",
            "//",
            "//h/a",
            "/a//b",
            "/a//",
            "/./a",
            "/a/.",
            "/a/..",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a%2F..%2Fb",
            "/a%2f%2fb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%00b",
            "/a\0b",
        ] {
            assert_eq!(destination_path(value.as_bytes()), None, "{value}");
        }
    }
}
