//! What carries a token besides a header of its own: `Authorization`, a cookie, an argument of the
//! query.

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1), if the header has this scheme and
/// one token.
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let token = credentials(authorization)?;
    is_b64token(token).then_some(token)
}

/// Whether the scheme of an `Authorization` is Bearer, whatever follows it.
pub fn is_bearer(authorization: &[u8]) -> bool {
    credentials(authorization).is_some()
}

fn credentials(authorization: &[u8]) -> Option<&[u8]> {
    let authorization = authorization.trim_ascii();
    let end = authorization.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let (scheme, rest) = authorization.split_at(end.unwrap_or(authorization.len()));
    scheme.eq_ignore_ascii_case(b"bearer").then(|| rest.trim_ascii())
}

/// `b64token`: characters of base64, base64url and of URIs, and then padding.
fn is_b64token(text: &[u8]) -> bool {
    let is_padding = |byte: &u8| *byte == b'=';
    let end = text.iter().position(is_padding).unwrap_or(text.len());
    let (token, padding) = text.split_at(end);
    let is_of_token = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    !token.is_empty() && token.iter().all(is_of_token) && padding.iter().all(is_padding)
}

/// A list of pairs of name and value. Names are compared as nginx does it for `$cookie_NAME` and
/// `$arg_NAME`, in any case, and values are not decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pairs {
    /// The query of a URI.
    Arguments,
    /// The value of a `Cookie` header.
    Cookies,
}

impl Pairs {
    fn separator(self) -> u8 {
        match self {
            Self::Arguments => b'&',
            Self::Cookies => b';',
        }
    }

    /// The value of a pair, if it has this name. Blanks around the name and the value of a cookie
    /// are not part of them.
    pub fn value_of<'t>(self, name: &str, pair: &'t [u8]) -> Option<&'t [u8]> {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = (&pair[..at], &pair[at + 1..]);
        let (found, value) = match self {
            Self::Arguments => (found, value),
            Self::Cookies => (found.trim_ascii(), value.trim_ascii()),
        };
        found.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    }

    /// The pairs of a list.
    pub fn split(self, list: &[u8]) -> impl Iterator<Item = &[u8]> {
        let separator = self.separator();
        list.split(move |byte| *byte == separator)
    }

    /// The list without the pairs that `is_cut` picks; `None` if it picks none. What stays is as it
    /// was.
    pub fn without(self, list: &[u8], is_cut: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        if !self.split(list).any(&is_cut) {
            return None;
        }
        let stays: Vec<_> = self.split(list).filter(|pair| !is_cut(pair)).collect();
        let rest = stays.join(&self.separator());
        Some(match self {
            Self::Arguments => rest,
            Self::Cookies => rest.trim_ascii_start().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_one_token_behind_the_scheme() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   a-b._~+/c==", Some("a-b._~+/c==")),
            (" Bearer\tabc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer ==", None),
            ("Bearer a=b", None),
            ("Bearer a b", None),
            ("Bearer a,b", None),
            ("Bearer \"a\"", None),
            ("Bearer a\u{fc}", None),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("Bear er abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(header.as_bytes()), token.map(str::as_bytes), "{header}");
        }
        assert!(is_bearer(b"Bearer a b") && is_bearer(b"bearer"));
        assert!(!is_bearer(b"Negotiate a") && !is_bearer(b""));
    }

    #[test]
    fn a_pair_has_the_value_of_its_name() {
        for (pair, value) in [
            (" keystone = abc ", Some("abc")),
            ("Keystone=a=b", Some("a=b")),
            ("keystone=", Some("")),
            ("keystone", None),
            ("akeystone=abc", None),
            ("", None),
        ] {
            let found = Pairs::Cookies.value_of("keystone", pair.as_bytes());
            assert_eq!(found, value.map(str::as_bytes), "{pair}");
        }
        assert_eq!(Pairs::Arguments.value_of("temp", b"TEMP=a%2Bb+c"), Some(&b"a%2Bb+c"[..]));
        assert_eq!(Pairs::Arguments.value_of("temp", b" temp=a"), None);
    }

    #[test]
    fn what_is_not_cut_stays_as_it_was() {
        let is_cut = |pair: &[u8]| Pairs::Cookies.value_of("k", pair).is_some();
        for (list, rest) in [
            ("a=1; k=x; b=2", Some("a=1; b=2")),
            ("k=x; b=2;c=3", Some("b=2;c=3")),
            ("a=1;k=x", Some("a=1")),
            ("k=x", Some("")),
            ("k=x; K=y", Some("")),
            ("a=1; b=k=x", None),
            ("", None),
        ] {
            let found = Pairs::Cookies.without(list.as_bytes(), is_cut);
            assert_eq!(found.as_deref(), rest.map(str::as_bytes), "{list}");
        }
        let is_cut = |pair: &[u8]| Pairs::Arguments.value_of("k", pair).is_some();
        let without = |list: &str| Pairs::Arguments.without(list.as_bytes(), is_cut);
        assert_eq!(without("a=%20&k=x&&b").as_deref(), Some(&b"a=%20&&b"[..]));
        assert_eq!(without("k=x").as_deref(), Some(&b""[..]));
        assert_eq!(without("kk=x"), None);
    }
}
