//! Values in nginx's units, and other values that need no file.

use std::net::Ipv6Addr;
use std::time::Duration;

use keystone_gateway::memcache::server::ServerError;
use keystone_token::format::UnknownHashAlgorithm;
use keystone_token::secret::Secret;
use keystone_token::swift::AclError;
use zeroize::Zeroizing;

use crate::proxy::ProxyError;
use crate::uri::UriError;

/// What is wrong with a value. The text follows the value and the directive's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// It is a constant that is true for all requests.
    #[error("it has no variable, so every request meets it")]
    AlwaysTrue,
    /// It is no ACL of Swift's.
    #[error("it is not an ACL: {0}")]
    Acl(#[from] AclError),
    /// A name has a comma, as lists of auth_token and Swift are separated.
    #[error("names are separated by blanks: \"{line}\"")]
    CommaInList {
        /// The directive as it has to be.
        line: String,
    },
    /// The name has a comma, and the directive takes no list.
    #[error("it is one name and cannot have a comma")]
    CommaInName,
    /// It has bytes that do not fit into a header or a log line.
    #[error("it must not have a control character")]
    ControlCharacter,
    /// There is nothing in it.
    #[error("it must not be empty")]
    Empty,
    /// It is no server of memcached.
    #[error("{0}")]
    MemcachedServer(#[from] ServerError),
    /// It is no host.
    #[error("it must be a host name or an address, without a scheme, a port or a variable")]
    Host,
    /// The same for all requests.
    #[error("it has no variable, so every request would have this token")]
    NoVariable,
    /// It is no number, or too small.
    #[error("it must be a whole number, at least {least}")]
    Number {
        /// The least number that the directive takes.
        least: String,
    },
    /// It is no proxy.
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    /// An earlier argument says the same.
    #[error("it is named twice")]
    Repeated,
    /// A service token is no user token.
    #[error("a service token is not a user token")]
    ServiceTokenAsToken,
    /// Not a size such as `16m`.
    #[error("it must be a size such as \"64k\" or \"10m\"")]
    Size,
    /// Not a time such as `30s`.
    #[error("it must be a time such as \"30s\" or \"5m\"")]
    Time,
    /// A header with all cookies is no token.
    #[error("a token in a cookie is $cookie_NAME")]
    TokenInCookies,
    /// nginx needs the header for the message itself.
    #[error("nginx uses this header itself")]
    TokenInMessage,
    /// It has no value before the token is known.
    #[error("the module itself sets it, when the token is known")]
    TokenOfIdentity,
    /// It is no URI of an identity service.
    #[error("{0}")]
    Uri(#[from] UriError),
    /// It is a number that does not fit.
    #[error("it is too large")]
    TooLarge,
    /// nginx cannot find the variables in it.
    #[error("it has an invalid variable")]
    Variables,
    /// The directive does not know this word.
    #[error("it must be {0}")]
    Word(&'static str),
    /// It is a time of no length.
    #[error("it must be longer than 0")]
    Zero,
    /// Not a zone.
    #[error("{0}")]
    Zone(#[from] ZoneError),
}

impl From<UnknownHashAlgorithm> for ValueError {
    fn from(UnknownHashAlgorithm: UnknownHashAlgorithm) -> Self {
        Self::Word("md5, sha1, sha224, sha256, sha384 or sha512")
    }
}

/// A time in nginx's units, of whole milliseconds, as `ngx_parse_time(line, 0)` reads it: each unit
/// once, from weeks to milliseconds, seconds without a unit.
pub fn time(text: &str) -> Option<Duration> {
    let max = i64::try_from(isize::MAX).ok()?;
    let mut bytes = text.bytes().peekable();
    let (mut value, mut total, mut step, mut has_digits) = (0i64, 0i64, Step::Start, false);
    while let Some(byte) = bytes.next() {
        if byte.is_ascii_digit() {
            value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
            value = Some(value).filter(|value| *value <= max)?;
            has_digits = true;
            continue;
        }
        let (next, scale) = match byte {
            b'w' => (Step::Week, WEEK),
            b'd' => (Step::Day, DAY),
            b'h' => (Step::Hour, HOUR),
            b'm' if bytes.next_if_eq(&b's').is_some() => (Step::Millisecond, 1),
            b'm' => (Step::Minute, MINUTE),
            b's' => (Step::Second, SECOND),
            b' ' if step < Step::Second => (Step::Last, SECOND),
            _ => return None,
        };
        if step >= next {
            return None;
        }
        step = next;
        total = value.checked_mul(scale)?.checked_add(total)?;
        value = 0;
        while bytes.next_if_eq(&b' ').is_some() {}
    }
    let total = value.checked_mul(SECOND)?.checked_add(total)?;
    let total = Some(total).filter(|total| has_digits && *total <= max)?;
    u64::try_from(total).ok().map(Duration::from_millis)
}

/// Where [`time`] is in the order of units.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Step {
    Start,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Last,
}

/// A size in bytes in nginx's units, as `ngx_parse_size` reads it.
pub fn size(text: &str) -> Option<usize> {
    let (number, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let size = number.parse::<usize>().ok().filter(|_| is_number)?.checked_mul(factor)?;
    isize::try_from(size).is_ok().then_some(size)
}

/// Checks that a word is not empty and fits into a header and a log line.
pub(crate) fn check_word(word: &str) -> Result<(), ValueError> {
    match word.chars().any(char::is_control) {
        _ if word.is_empty() => Err(ValueError::Empty),
        true => Err(ValueError::ControlCharacter),
        false => Ok(()),
    }
}

/// Checks that a text is the name of a host or an address, which may be in brackets.
pub(crate) fn check_host(text: &str) -> Result<(), ValueError> {
    check_word(text)?;
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = text.len() <= LONGEST_HOST && text.bytes().all(is_of_name);
    match is_name || address.parse::<Ipv6Addr>().is_ok() {
        true => Ok(()),
        false => Err(ValueError::Host),
    }
}

/// Takes a secret, by the same rules.
pub fn secret(mut text: Zeroizing<String>) -> Result<Secret, ValueError> {
    check_word(&text)?;
    Ok(Secret::new(std::mem::take(&mut *text)))
}

/// Whether nginx takes something in the text for a variable.
pub(crate) fn has_variables(text: &str) -> bool {
    text.contains('$')
}

/// Whether all variables in the text have a name, as nginx asks of them: `$name`, `${name}`, or
/// `$1` to `$9`.
pub fn has_valid_variables(text: &str) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.split('$').skip(1).all(|rest| match rest.strip_prefix('{') {
        Some(rest) => rest
            .split_once('}')
            .is_some_and(|(name, _)| !name.is_empty() && name.as_bytes().iter().all(is_name)),
        None => rest.as_bytes().first().is_some_and(is_name),
    })
}

/// Bytes of a name in SNI.
const LONGEST_HOST: usize = 255;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

/// Why a text is no zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ZoneError {
    /// Not of the form `zone=NAME:SIZE`.
    #[error("it must be zone=NAME:SIZE")]
    Form,
    /// The size is not one.
    #[error("its size must be such as \"512k\" or \"10m\"")]
    Size,
    /// Nothing useful fits into it.
    #[error("its size must be at least 256k")]
    TooSmall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_nginx_reads_them() {
        for (text, milliseconds) in [
            ("10s", Some(10_000)),
            ("10", Some(10_000)),
            ("0", Some(0)),
            ("500ms", Some(500)),
            ("1m500ms", Some(60_500)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("1w1d1h1m1s1ms", Some(694_861_001)),
            ("1s 5", Some(6_000)),
            ("10 ", Some(10_000)),
            ("1 5", Some(6_000)),
            ("1hm", Some(3_600_000)),
            ("9223372036854775", Some(9_223_372_036_854_775_000)),
            ("9223372036854775807ms", Some(9_223_372_036_854_775_807)),
            ("9223372036854775808ms", None),
            ("9223372036854776", None),
            ("99999999999999999999", None),
            ("9223372036854775807ms1", None),
            ("", None),
            (" ", None),
            ("s", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("10x", None),
            ("1m 1h", None),
            ("1s1s", None),
            ("1ms1s", None),
            ("1 h", None),
            // Of milliseconds nginx takes no months and years.
            ("1y", None),
            ("1M", None),
        ] {
            assert_eq!(time(text), milliseconds.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_nginx_reads_them() {
        for (text, bytes) in [
            ("64k", Some(65_536)),
            ("64K", Some(65_536)),
            ("8192", Some(8_192)),
            ("1M", Some(1 << 20)),
            ("10m", Some(10 << 20)),
            ("0", Some(0)),
            ("", None),
            ("k", None),
            ("1g", None),
            ("-1", None),
            ("+1", None),
            ("1 k", None),
            ("9223372036854775807", Some(9_223_372_036_854_775_807)),
            ("9223372036854775808", None),
            ("9007199254740992k", None),
        ] {
            assert_eq!(size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn variables_need_names() {
        for (text, valid) in [
            ("plain", true),
            ("$http_x/${arg_y}z$1", true),
            ("$", false),
            ("a$-b", false),
            ("${a", false),
            ("${}", false),
            ("${a b}", false),
        ] {
            assert_eq!(has_valid_variables(text), valid, "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_and_not_empty() {
        let of = |text: &str| secret(Zeroizing::new(text.to_owned()));
        assert_eq!(format!("{:?}", of("hunter2").unwrap()), "***");
        assert_eq!(of("hunter2").unwrap().expose(), "hunter2");
        assert_eq!(of(""), Err(ValueError::Empty));
        assert_eq!(of("a\r\nb"), Err(ValueError::ControlCharacter));
    }
}
