//! Header fields: tokens, identity headers of the client's making, and what else clients send.

use super::Maker;
use crate::inspect::{FORGED, IDENTITY};

/// A name and a value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

impl Maker<'_> {
    /// The fields of a request, without those of its framing.
    pub(super) fn fields(&mut self, tame: bool) -> Vec<Field> {
        let mut fields = self.tokens(tame);
        for _ in 0..self.random.pick(&[0, 0, 1, 1, 2, 5, 20]) {
            let field = self.forged(tame);
            let at = self.random.below(fields.len() + 1);
            fields.insert(at, field);
        }
        for _ in 0..self.random.pick(&[0, 1, 1, 2, 4]) {
            let field = self.common();
            let at = self.random.below(fields.len() + 1);
            fields.insert(at, field);
        }
        if !tame {
            for _ in 0..=self.random.below(3) {
                let field = self.odd();
                let at = self.random.below(fields.len() + 1);
                fields.insert(at, field);
            }
        }
        fields
    }

    fn tokens(&mut self, tame: bool) -> Vec<Field> {
        let mut fields = Vec::new();
        let share = if tame { 75 } else { 45 };
        let service = self.random.percent(15);
        if self.random.percent(share) {
            let token = match self.random.percent(75) {
                true => self.wallet.valid(&mut self.random).clone(),
                false => self.wallet.bad(&mut self.random).clone(),
            };
            let name = self.token_name(&["X-Auth-Token", "X-Auth-Token", "X-Storage-Token"], tame);
            if service || !token.needs_service {
                self.grants.add(token.grants);
            }
            fields.push((name, self.padded(token.text, tame)));
        }
        if service {
            let token = match self.random.percent(60) {
                true => self.wallet.service(&mut self.random).clone(),
                false => self.wallet.bad(&mut self.random).clone(),
            };
            let name = self.token_name(&["X-Service-Token"], tame);
            fields.push((name, self.padded(token.text, tame)));
        }
        if !tame && self.random.percent(15) {
            // Once more, or a second one.
            let token = self.wallet.valid(&mut self.random).clone();
            self.grants.add(token.grants);
            let name = self.token_name(&["X-Auth-Token", "X-Storage-Token"], tame);
            fields.push((name, token.text.into_bytes()));
        }
        fields
    }

    fn token_name(&mut self, names: &[&str], tame: bool) -> Vec<u8> {
        let name = self.random.pick(names);
        match tame || self.random.percent(70) {
            true => name.as_bytes().to_vec(),
            false => self.spelled(name, tame),
        }
    }

    fn padded(&mut self, token: String, tame: bool) -> Vec<u8> {
        let token = token.into_bytes();
        if tame || self.random.percent(80) {
            return token;
        }
        let blank = self.random.pick(&[&b" "[..], b"\t", b"  \t ", b"\0", b"\xa0"]);
        match self.random.percent(50) {
            true => [blank, &token].concat(),
            false => [&token, blank].concat(),
        }
    }

    /// An identity header that a client must not send, in any spelling.
    fn forged(&mut self, tame: bool) -> Field {
        let mut name = self.random.pick(IDENTITY).to_owned();
        if self.random.percent(30) {
            name = name.replacen('_', "_SERVICE_", 1);
        }
        let words = ["", "", "Confirmed ", "admin,", "{\"x\":1} "];
        let value = format!("{}{FORGED}{}", self.random.pick(&words), self.number);
        (self.spelled(&name.replace('_', "-"), tame), value.into_bytes())
    }

    /// A name with another case and other bytes between its words; a tame one is a token of HTTP.
    fn spelled(&mut self, name: &str, tame: bool) -> Vec<u8> {
        let separators = if tame { TOKEN_SEPARATORS } else { SEPARATORS };
        let case = self.random.below(4);
        let every = self.random.pick(separators);
        let mixed = self.random.percent(30);
        let mut spelled = Vec::new();
        for byte in name.bytes() {
            spelled.push(match (byte, case) {
                (b'-', _) if mixed => self.random.pick(separators),
                (b'-', _) => every,
                (byte, 0) => byte,
                (byte, 1) => byte.to_ascii_lowercase(),
                (byte, 2) => byte.to_ascii_uppercase(),
                (byte, _) if self.random.percent(50) => byte.to_ascii_uppercase(),
                (byte, _) => byte.to_ascii_lowercase(),
            });
        }
        match self.random.below(20) {
            _ if tame => {}
            0 => spelled.push(self.random.pick(b" \t\0-_.")),
            1 => spelled.insert(0, self.random.pick(b" \t-_.")),
            2 => spelled.splice(0..0, *b"HTTP_").for_each(drop),
            _ => {}
        }
        spelled
    }

    /// What browsers and services send.
    fn common(&mut self) -> Field {
        let ranges = ["bytes=0-5", "bytes=-3", "bytes=0-30,0-30,0-30", "bytes=5-1", "bytes=x"];
        let range = self.random.pick(&ranges);
        let (name, value) = self.random.pick(&[
            ("User-Agent", "fuzz"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "gzip, br"),
            ("Range", range),
            ("If-None-Match", "*"),
            ("If-Match", "\"x\""),
            ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("If-Unmodified-Since", "Sun, 06 Nov 2094 08:49:37 GMT"),
            ("Cookie", "a=b; token=c"),
            ("Authorization", "Bearer x"),
            ("Authorization", "Basic bm9ib2R5Om5v"),
            ("X-Forwarded-For", "10.0.0.1, unknown"),
            ("X-Openstack-Request-Id", "req-1"),
            ("Referer", "http://localhost/"),
            ("X-Odd", "1"),
            ("Destination", "/dav/y"),
            ("Depth", "infinity"),
            ("Overwrite", "F"),
            ("Origin", "http://x"),
            ("Access-Control-Request-Method", "PUT"),
            ("X-Accel-Redirect", "/inside/hello.txt"),
        ]);
        if name == "Range" {
            self.copies = 3;
        }
        (name.into(), value.into())
    }

    /// A field that no client should send.
    fn odd(&mut self) -> Field {
        match self.random.below(12) {
            0 => (b"X-Long".to_vec(), vec![b'l'; self.random.pick(&[100, 1000, 9000, 70_000])]),
            1 => (vec![b'n'; self.random.pick(&[100, 1000, 9000])], b"1".to_vec()),
            2 => (b"".to_vec(), b"no name".to_vec()),
            3 => (b"X-Control".to_vec(), b"a\x01\x1b\x7fb".to_vec()),
            4 => (b"X-Bytes".to_vec(), self.noise(8)),
            5 => (b"X.Dotted.Name".to_vec(), b"1".to_vec()),
            6 => (b"X_Under_Score".to_vec(), b"1".to_vec()),
            7 => (
                b"Host".to_vec(),
                self.random.pick(&["x", "a b", "", "[::1", "x:0", "a\0b"]).into(),
            ),
            8 => (b"Content-Length".to_vec(), self.random.pick(LENGTHS).into()),
            9 => (b"Transfer-Encoding".to_vec(), self.random.pick(ENCODINGS).into()),
            10 => (b"Connection".to_vec(), self.random.pick(CONNECTIONS).into()),
            _ => (self.noise(6), self.noise(6)),
        }
    }
}

const TOKEN_SEPARATORS: &[u8] = b"----------______....!#$%&'*+^`|~";
const SEPARATORS: &[u8] = b"-------__....!#$%&'*+^`|~ /@\x7f\x80";
const LENGTHS: &[&str] = &["0", "5", "-1", "99999999999999999999", "5, 5", "+3", "0x5", "", "1e3"];
const ENCODINGS: &[&str] = &["chunked", "identity", "chunked, chunked", "gzip", "", "xchunked"];
const CONNECTIONS: &[&str] =
    &["close", "keep-alive", "upgrade", "x-user-id", "close, x-auth-token, x-roles", "TE"];
