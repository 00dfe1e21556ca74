//! Which account, container and object a path is of.

use crate::text::{escaped, unquote};

/// `/VERSION[/ACCOUNT[/CONTAINER[/OBJECT]]]`, taken apart; what is not there or empty is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountPath<'a> {
    /// The version of Swift's API, such as `v1`.
    pub version: &'a [u8],
    /// The account, such as `AUTH_4b9c`.
    pub account: Option<&'a [u8]>,
    /// The container, such as `photos`.
    pub container: Option<&'a [u8]>,
    /// All that follows, slashes included.
    pub object: Option<&'a [u8]>,
}

impl<'a> AccountPath<'a> {
    /// Takes a decoded path apart, as Swift's `split_path(path, 1, 4, True)` does; `None` where
    /// that raises an exception, because the path does not begin with a slash or has an empty name
    /// before another one.
    pub fn split(path: &'a [u8]) -> Option<Self> {
        let mut names = path.strip_prefix(b"/")?.splitn(4, |byte| *byte == b'/');
        let version = names.next().filter(|version| !version.is_empty())?;
        let [account, container, object] = [(); 3].map(|()| names.next());
        let is_hollow = |name: Option<&[u8]>, next: Option<&[u8]>| {
            name.is_some_and(<[u8]>::is_empty) && next.is_some()
        };
        if is_hollow(account, container) || is_hollow(container, object) {
            return None;
        }
        let [account, container, object] =
            [account, container, object].map(|name| name.filter(|name| !name.is_empty()));
        Some(Self { version, account, container, object })
    }

    /// Whether nobody will take version, account or container for something else: none is `.` or
    /// `..` or has NUL in it, and no `..` in the object leads out of the container.
    ///
    /// This is for a path that is passed on unchanged, such as one that was rewritten. Where the
    /// client's own goes on, [`names_the_same`] is the question.
    pub fn is_plain(&self) -> bool {
        let mut object = self.object.unwrap_or_default().split(|byte| *byte == b'/');
        self.has_plain_names() && object.all(|segment| segment != b"..")
    }

    fn has_plain_names(&self) -> bool {
        let is_plain = |name: &[u8]| !matches!(name, b"." | b"..") && !name.contains(&0);
        [Some(self.version), self.account, self.container].into_iter().flatten().all(is_plain)
    }
}

/// Why a name cannot be that of a file in which an object is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has bytes that are not UTF-8, or NUL: Swift's `check_utf8` answers 412.
    #[error("the name is not UTF-8 or has a NUL")]
    NotUtf8,
    /// Swift keeps no object with such a name, or no file system has a file of it: 400.
    #[error("the name is too long")]
    TooLong,
}

/// Checks a decoded path that is to be one of a file. A listing with a name that is not UTF-8 is
/// not JSON, and so one such name would take the listing of all others away.
pub fn check_file_names(path: &[u8], method: &str) -> Result<(), NameError> {
    if std::str::from_utf8(path).is_err() || path.contains(&0) {
        return Err(NameError::NotUtf8);
    }
    let object = AccountPath::split(path).and_then(|path| path.object).unwrap_or_default();
    let is_too_long = path.split(|byte| *byte == b'/').any(|part| part.len() > MAX_FILE_NAME)
        // As Swift's `check_object_creation`; what is there already can be read.
        || method == "PUT" && object.len() > MAX_OBJECT_NAME;
    match is_too_long {
        true => Err(NameError::TooLong),
        false => Ok(()),
    }
}

/// `NAME_MAX` of Linux.
const MAX_FILE_NAME: usize = 255;

/// Swift's `max_object_name_length`.
const MAX_OBJECT_NAME: usize = 1024;

/// Whether the raw path (as the client wrote it: percent-encoded, without query) certainly names
/// the same account and container as the decoded and normalised one, whatever server reads it, and
/// an object if that does. A request is authorised by the normalised path, and the upstream may get
/// the raw one.
///
/// What differs within the object only, such as `a%2Fb`, `x/../y` or `a//b`, is the same place. In
/// what comes before, nothing but escapes may differ, and none may stand for a slash or NUL.
pub fn names_the_same(raw: &[u8], normalised: &[u8]) -> bool {
    if may_climb(raw) {
        return false;
    }
    // As almost always.
    if raw == normalised && !raw.contains(&b'%') {
        return AccountPath::split(normalised).is_none_or(|path| path.has_plain_names());
    }
    let (raw_path, path) = match (AccountPath::split(raw), AccountPath::split(normalised)) {
        (Some(raw_path), Some(path)) => (raw_path, path),
        // A slash behind an escape must not make a path of it after all.
        (None, None) => return AccountPath::split(&unquote(raw)).is_none(),
        _ => return false,
    };
    path.has_plain_names()
        && unquotes_to(raw_path.version, path.version)
        && unquotes_to(raw_path.account.unwrap_or_default(), path.account.unwrap_or_default())
        && unquotes_to(raw_path.container.unwrap_or_default(), path.container.unwrap_or_default())
        && raw_path.object.is_some() == path.object.is_some()
}

/// Whether a server might leave the account by a `..` that nginx does not take for one: behind a `#`,
/// at which nginx's path ends and that of others does not, or with parameters (`..;x`), which Java's
/// servers take off.
fn may_climb(raw: &[u8]) -> bool {
    if !raw.contains(&b'#') && !raw.contains(&b';') {
        return false;
    }
    let mut is_behind = false;
    raw.split(|byte| *byte == b'/').any(|segment| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        let has_parameters = name.len() < segment.len();
        let climbs = (is_behind || has_parameters) && *unquote(name) == *b"..";
        is_behind |= segment.contains(&b'#');
        climbs
    })
}

/// Whether all escapes in `raw` are whole, and it is `plain` without them.
fn unquotes_to(raw: &[u8], plain: &[u8]) -> bool {
    let (mut raw, mut plain) = (raw, plain);
    while let Some((&byte, after)) = raw.split_first() {
        let (byte, after) = match (byte, escaped(raw)) {
            (b'%', None) => return false,
            (b'%', Some(byte)) => (byte, &raw[3..]),
            _ => (byte, after),
        };
        match plain.split_first() {
            Some((expected, rest)) if *expected == byte => (raw, plain) = (after, rest),
            _ => return false,
        }
    }
    plain.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(path: &str) -> Option<[Option<&str>; 4]> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let AccountPath { version, account, container, object } =
            AccountPath::split(path.as_bytes())?;
        Some([Some(version), account, container, object].map(|it| it.map(text)))
    }

    #[test]
    fn a_path_is_taken_apart() {
        for (whole, parts) in [
            ("/v1", [Some("v1"), None, None, None]),
            ("/v1/", [Some("v1"), None, None, None]),
            ("/v1/a", [Some("v1"), Some("a"), None, None]),
            ("/v1/a/", [Some("v1"), Some("a"), None, None]),
            ("/v1/a/c", [Some("v1"), Some("a"), Some("c"), None]),
            ("/v1/a/c/", [Some("v1"), Some("a"), Some("c"), None]),
            ("/v1/a/c/o", [Some("v1"), Some("a"), Some("c"), Some("o")]),
            ("/v1/a/c/o/", [Some("v1"), Some("a"), Some("c"), Some("o/")]),
            ("/v1/a/c//", [Some("v1"), Some("a"), Some("c"), Some("/")]),
            ("/v1/a/c//../o", [Some("v1"), Some("a"), Some("c"), Some("/../o")]),
            ("/ /%2F/\u{e9}", [Some(" "), Some("%2F"), Some("\u{e9}"), None]),
        ] {
            assert_eq!(path(whole), Some(parts), "{whole}");
        }
        for whole in ["", "/", "//", "v1/a", "//v1/a", "/v1//", "/v1//c", "/v1/a//", "/v1/a//o"] {
            assert_eq!(path(whole), None, "{whole}");
        }
    }

    #[test]
    fn a_path_that_is_handed_on_is_plain() {
        let is_plain = |path: &str| AccountPath::split(path.as_bytes()).unwrap().is_plain();
        for path in
            ["/v1", "/v1/a", "/v1/a/c/", "/v1/a/c/o", "/v1/a/c/./o//p\0", "/v1/...", "/v1/.a"]
        {
            assert!(is_plain(path), "{path}");
        }
        for path in ["/..", "/./a", "/v1/..", "/v1/./c", "/v1/a/..", "/v1/a/./o", "/v1/a\0/c"] {
            assert!(!is_plain(path), "{path}");
        }
        for path in ["/v1/a/c/..", "/v1/a/c/x/../../d", "/v1/a/c/../d"] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn names_that_no_file_can_have() {
        let check = |path: &[u8]| check_file_names(path, "PUT");
        for path in ["/", "/v1/a/c/o", "/v1/a/c/", "/v1/a/имя/\u{1f600}/\n\u{7f}", "/v1/a/c//o"]
        {
            assert_eq!(check(path.as_bytes()), Ok(()), "{path}");
        }
        for path in [
            &b"/v1/a/\x8f\xff"[..],
            b"/v1/a/c/o\xff",
            b"/v1/\xc3/c",
            b"/v1/a/c/\xc0\xaf",
            b"/v1/a/c/\xed\xa0\x80",
            b"/v1/a/c/\xf4\x90\x80\x80",
            b"/v1/a/c/o\0",
        ] {
            assert_eq!(check(path), Err(NameError::NotUtf8), "{}", path.escape_ascii());
        }
        let part = |length: usize| "é".repeat(length / 2) + &"x".repeat(length % 2);
        for (length, checked) in [(255, Ok(())), (256, Err(NameError::TooLong))] {
            for path in ["/v1/{}", "/v1/a/{}", "/v1/a/{}/o", "/v1/a/c/{}", "/v1/a/c/x/{}/y"] {
                let path = path.replace("{}", &part(length));
                assert_eq!(check(path.as_bytes()), checked, "{path}");
                assert_eq!(check_file_names(path.as_bytes(), "GET"), checked, "{path}");
            }
        }
        let deep = |length: usize| format!("/v1/a/c/{}", "x/".repeat(length / 2));
        assert_eq!(check(deep(1024).as_bytes()), Ok(()));
        assert_eq!(check(deep(1026).as_bytes()), Err(NameError::TooLong));
        assert_eq!(check_file_names(deep(1026).as_bytes(), "DELETE"), Ok(()));
    }

    fn is_same(raw: &str, normalised: &str) -> bool {
        names_the_same(raw.as_bytes(), normalised.as_bytes())
    }

    #[test]
    fn escapes_change_nothing() {
        for (raw, normalised) in [
            ("/v1/AUTH%5Fx/c", "/v1/AUTH_x/c"),
            ("/%76%31/%41UTH_x/%63/o", "/v1/AUTH_x/c/o"),
            ("/v1/AUTH_x/100%25", "/v1/AUTH_x/100%"),
            ("/v1/AUTH_x/%D0%BF", "/v1/AUTH_x/п"),
            ("/v1/AUTH_x/%252e", "/v1/AUTH_x/%2e"),
            ("/v1/AUTH_x/a b;c\\", "/v1/AUTH_x/a b;c\\"),
            ("/v1", "/v1"),
            ("/v1/", "/v1/"),
            ("/v1/AUTH_x", "/v1/AUTH_x"),
            ("/v1/AUTH_x/", "/v1/AUTH_x/"),
            ("/v1/AUTH_x/c/", "/v1/AUTH_x/c/"),
        ] {
            assert!(is_same(raw, normalised), "{raw}");
        }
        assert!(names_the_same(b"/v1/%c0%ae%c0%ae/c", b"/v1/\xc0\xae\xc0\xae/c"));
        assert!(!names_the_same(b"/v1/%c0%ae%c0%ae/c", b"/v1/../c"));
    }

    #[test]
    fn what_differs_within_the_object_is_the_same_place() {
        for (raw, normalised) in [
            ("/v1/AUTH_x/c/a%2Fb", "/v1/AUTH_x/c/a/b"),
            ("/v1/AUTH_x/c/x/../y", "/v1/AUTH_x/c/y"),
            ("/v1/AUTH_x/c/a//b", "/v1/AUTH_x/c/a/b"),
            ("/v1/AUTH_x/c/./a/%2e", "/v1/AUTH_x/c/a/"),
            ("/v1/AUTH_x/c/o%00", "/v1/AUTH_x/c/o\0"),
            ("/v1/AUTH_x/c//o", "/v1/AUTH_x/c/o"),
        ] {
            assert!(is_same(raw, normalised), "{raw}");
        }
    }

    #[test]
    fn another_account_or_container_is_another_place() {
        for (raw, normalised) in [
            ("/v1/AUTH_other/../AUTH_mine/c", "/v1/AUTH_mine/c"),
            ("/v1//AUTH_x/c", "/v1/AUTH_x/c"),
            ("//v1/AUTH_x/c", "/v1/AUTH_x/c"),
            ("/v1/./AUTH_x/c", "/v1/AUTH_x/c"),
            ("/v1/AUTH_x/d/../c/o", "/v1/AUTH_x/c/o"),
            ("/v1/AUTH_x/d/o/../../c/o", "/v1/AUTH_x/c/o"),
            ("/v1/AUTH_x%2Fc", "/v1/AUTH_x/c"),
            ("/v1/AUTH_x%2Fc", "/v1/AUTH_x%2Fc"),
            ("/v1/AUTH_x/c%2Fo", "/v1/AUTH_x/c/o"),
            ("/v1/%2e%2e/c", "/v1/../c"),
            ("/v1/../c", "/v1/../c"),
            ("/v1/AUTH_x/.", "/v1/AUTH_x/."),
            ("/v1/AUTH_x%00/c", "/v1/AUTH_x\0/c"),
            ("/v1/AUTH_x%/c", "/v1/AUTH_x%/c"),
            ("/v1/AUTH_x%5/c", "/v1/AUTH_x%5/c"),
            ("/v1/AUTH_x%zz/c", "/v1/AUTH_x%zz/c"),
            ("/v1/AUTH_x/c", "/v1/AUTH_x/C"),
            ("/v1/AUTH_x/c", "/v1/AUTH_x/cc"),
            ("/v1/AUTH_x/cc", "/v1/AUTH_x/c"),
            ("/v1/AUTH_x/c#", "/v1/AUTH_x/c"),
            ("/v1/AUTH_x/c", "/index.html"),
        ] {
            assert!(!is_same(raw, normalised), "{raw}");
        }
    }

    #[test]
    fn a_container_is_no_object() {
        for (raw, normalised) in [
            ("/v1/AUTH_x/c/o/..", "/v1/AUTH_x/c/"),
            ("/v1/AUTH_x/c/.", "/v1/AUTH_x/c/"),
            ("/v1/AUTH_x/c//", "/v1/AUTH_x/c/"),
            ("/v1/AUTH_x/c", "/v1/AUTH_x/c/index.html"),
            ("/v1/AUTH_x", "/v1/AUTH_x/c"),
            ("/v1/AUTH_x/c", "/v1/AUTH_x"),
        ] {
            assert!(!is_same(raw, normalised), "{raw}");
        }
    }

    #[test]
    fn two_paths_that_name_nothing_are_the_same() {
        for (raw, normalised) in [("/", "/"), ("//", "/"), ("/./", "/"), ("", ""), ("*", "")] {
            assert_eq!(is_same(raw, normalised), raw != "/./", "{raw}");
        }
        for raw in ["%2Fv1/AUTH_x/c", "/v1%2FAUTH_x%2Fc//d", "%2fv1"] {
            assert!(!is_same(raw, "/") && AccountPath::split(raw.as_bytes()).is_none(), "{raw}");
        }
    }

    const PIECES: &[&str] =
        &["/", "/", "/", "a", "v1", "%2F", "%2e", ".", "..", "%61", "%00", "%", "\0", "é"];

    fn pieces(most: usize) -> impl Strategy<Value = Vec<u8>> {
        let pieces = proptest::collection::vec(proptest::sample::select(PIECES), 0..most);
        pieces.prop_map(|pieces| ["/", &pieces.concat()].concat().into_bytes())
    }

    /// Normalises as nginx does, nearly.
    fn normalise(raw: &[u8]) -> Vec<u8> {
        let mut segments: Vec<&[u8]> = Vec::new();
        let decoded = unquote(raw);
        for segment in decoded.split(|byte| *byte == b'/').skip(1) {
            match segment {
                b"" | b"." => {}
                b".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        let ends_open = [&b"/"[..], b"/.", b"/.."].iter().any(|end| decoded.ends_with(end));
        let end: &[u8] = if ends_open && !segments.is_empty() { b"/" } else { b"" };
        [b"/", &segments.join(&b'/')[..], end].concat()
    }

    fn place<'a>(path: &AccountPath<'a>) -> ([Option<&'a [u8]>; 3], bool) {
        ([Some(path.version), path.account, path.container], path.object.is_some())
    }

    /// A server that decodes first and one that splits first both see the normalised path.
    fn is_read_alike(raw: &[u8], normalised: &[u8]) {
        let decoded = unquote(raw);
        let decoded = AccountPath::split(&decoded);
        let normalised = AccountPath::split(normalised);
        assert_eq!(decoded.as_ref().map(place), normalised.as_ref().map(place));
        let Some(split) = AccountPath::split(raw) else { return assert_eq!(normalised, None) };
        let whole = |name: Option<&[u8]>| name.map(|name| unquote(name).into_owned());
        let normalised = normalised.unwrap();
        assert_eq!(*unquote(split.version), *normalised.version);
        assert_eq!(whole(split.account).as_deref(), normalised.account);
        assert_eq!(whole(split.container).as_deref(), normalised.container);
        assert_eq!(split.object.is_some(), normalised.object.is_some());
        assert!(normalised.has_plain_names());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_same_place_is_read_alike(raw in pieces(9)) {
            let normalised = normalise(&raw);
            if names_the_same(&raw, &normalised) {
                is_read_alike(&raw, &normalised);
            }
        }

        #[test]
        fn so_it_is_whatever_the_other_path(raw in pieces(6), other in pieces(6)) {
            if names_the_same(&raw, &other) {
                is_read_alike(&raw, &other);
            }
        }

        #[test]
        fn an_encoded_path_names_the_same(names in proptest::collection::vec("[^/\0.]{1,4}", 1..5)) {
            let plain = format!("/{}", names.join("/"));
            let encoded: String = names
                .iter()
                .map(|name| format!("/{}", name.bytes().map(|it| format!("%{it:02x}")).collect::<String>()))
                .collect();
            prop_assert!(names_the_same(encoded.as_bytes(), plain.as_bytes()));
        }
    }
}
