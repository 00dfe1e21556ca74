//! HTTP/1: request lines, header lines, bodies, and what comes behind them.

use std::time::Duration;

use super::field::Field;
use super::Maker;
use crate::case::Step;

impl Maker<'_> {
    /// One or more requests on a connection.
    pub(super) fn http1(&mut self) -> Vec<Step> {
        let count = self.random.pick(&[1, 1, 1, 2, 3, 6]);
        let pipelined = self.random.percent(60);
        let (mut steps, mut bytes) = (Vec::new(), Vec::new());
        for left in (0..count).rev() {
            let mut request = match self.is_tame || self.random.percent(30) {
                true => self.tame_request(left == 0),
                false => self.wild_request(),
            };
            if !self.is_tame && self.random.percent(15) {
                self.damage(&mut request);
            }
            bytes.extend(request);
            if !pipelined {
                steps.extend(self.send(std::mem::take(&mut bytes)));
                let pause = self.random.pick(&[1, 5, 20, 60]);
                steps.push(Step::Pause(Duration::from_millis(pause)));
            }
        }
        if !bytes.is_empty() {
            steps.extend(self.send(bytes));
        }
        steps
    }

    /// A request that nginx understands.
    fn tame_request(&mut self, is_last: bool) -> Vec<u8> {
        self.requests += 1;
        let method =
            self.random.pick(&["GET", "GET", "GET", "GET", "HEAD", "PUT", "POST", "DELETE"]);
        let target = self.good_target();
        let mut fields = vec![(b"Host".to_vec(), b"localhost".to_vec())];
        fields.extend(self.fields(true));
        let mut body = Vec::new();
        if matches!(method, "PUT" | "POST") {
            let length = self.random.pick(&[0, 1, 10, 500, 20_000, 70_000]);
            body = vec![b'b'; length];
            if self.random.percent(50) {
                body = self.chunks(&body);
                fields.push((b"Transfer-Encoding".to_vec(), b"chunked".to_vec()));
            } else {
                fields.push((b"Content-Length".to_vec(), length.to_string().into_bytes()));
            }
            if self.random.percent(10) {
                fields.push((b"Expect".to_vec(), b"100-continue".to_vec()));
            }
        }
        if is_last && (self.is_tame || self.random.percent(85)) {
            fields.push((b"Connection".to_vec(), b"close".to_vec()));
        }
        let line = [method.as_bytes(), b" ", &target, b" HTTP/1.1\r\n"].concat();
        let lines = fields.iter().flat_map(|(n, v)| [n, &b": "[..], v, b"\r\n"].concat());
        line.into_iter().chain(lines).chain(*b"\r\n").chain(body).collect()
    }

    /// A request that nginx may understand or not.
    fn wild_request(&mut self) -> Vec<u8> {
        self.requests += 1;
        if self.random.percent(5) {
            return self.no_request();
        }
        let (mut request, has_fields) = self.request_line();
        if !has_fields {
            return request;
        }
        let mut fields = Vec::new();
        if self.random.percent(85) {
            fields.push((b"Host".to_vec(), b"localhost".to_vec()));
        }
        if self.random.percent(4) {
            fields.push((b"Host".to_vec(), b"localhost".to_vec()));
        }
        fields.extend(self.fields(false));
        let body = self.wild_body(&mut fields);
        if self.random.percent(5) {
            let number = self.random.pick(&[30, 150, 1200]);
            fields.extend((0..number).map(|n| (format!("X-{n}").into_bytes(), b"1".to_vec())));
        }
        for field in &fields {
            let line = self.field_line(field);
            request.extend(line);
        }
        // The empty line, or none.
        request.extend(self.random.pick(&[&b"\r\n"[..], b"\r\n", b"\r\n", b"\r\n", b"\n", b""]));
        request.extend(body);
        request
    }

    /// Bytes that are not HTTP/1.
    fn no_request(&mut self) -> Vec<u8> {
        match self.random.below(6) {
            0 => b"\r\n\r\n\r\n".to_vec(),
            1 => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
            2 => b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(),
            3 => crate::frame::PREFACE.to_vec(),
            4 => vec![b'\n'; 50],
            _ => self.noise(64),
        }
    }

    /// The first line, and whether header fields may follow.
    fn request_line(&mut self) -> (Vec<u8>, bool) {
        let method = self.random.pick(METHODS);
        let target = match self.random.percent(60) {
            true => self.good_target(),
            false => self.odd_target(),
        };
        if self.random.percent(12) {
            // HTTP/0.9 has no more than this.
            let end = self.random.pick(&["\r\n", "\n", " \r\n", ""]);
            return (
                [b"GET ", target.as_slice(), end.as_bytes()].concat(),
                self.random.percent(30),
            );
        }
        let version = match self.random.percent(65) {
            true => "HTTP/1.1",
            false => self.random.pick(VERSIONS),
        };
        let end = self.random.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"]);
        let blank = self.random.pick(&[" ", " ", " ", " ", "  ", "\t"]);
        let blank = blank.as_bytes();
        let line =
            [method.as_bytes(), blank, &target, blank, version.as_bytes(), end.as_bytes()].concat();
        (line, true)
    }

    fn field_line(&mut self, (name, value): &Field) -> Vec<u8> {
        let colon = self.random.pick(&[":", ": ", ": ", ": ", ": ", " : ", ":\t", "", ":\r\n "]);
        let colon = if self.random.percent(90) { ": " } else { colon };
        let end = if self.random.percent(95) { "\r\n" } else { self.random.pick(LINE_ENDS) };
        [name, colon.as_bytes(), value, end.as_bytes()].concat()
    }

    /// A body and the fields that announce it, rightly or wrongly.
    fn wild_body(&mut self, fields: &mut Vec<Field>) -> Vec<u8> {
        if self.random.percent(50) {
            return Vec::new();
        }
        let length = self.random.pick(&[0, 1, 3, 100, 5000, 66_000]);
        let body = vec![b'b'; length];
        let mut announce = |name: &str, value: String| {
            fields.push((name.as_bytes().to_vec(), value.into_bytes()));
        };
        match self.random.below(10) {
            0..3 => announce("Content-Length", length.to_string()),
            3 => announce("Content-Length", (length + 1 + self.random.below(100)).to_string()),
            4 => announce("Content-Length", (length / 2).to_string()),
            5..8 => {
                announce("Transfer-Encoding", "chunked".into());
                let mut chunks = self.chunks(&body);
                if self.random.percent(40) {
                    chunks = self.bad_chunks();
                }
                return chunks;
            }
            8 => {
                announce("Content-Length", length.to_string());
                announce("Transfer-Encoding", "chunked".into());
            }
            _ => {
                let expect = self.random.pick(&["100-continue", "100-Continue", "200-ok", ""]);
                announce("Expect", expect.into());
                announce("Content-Length", length.to_string());
                announce("Connection", "upgrade".into());
                announce("Upgrade", self.random.pick(&["h2c", "websocket", "TLS/1.0"]).into());
            }
        }
        body
    }

    fn chunks(&mut self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for chunk in body.chunks(self.random.pick(&[1, 7, 1000, 30_000]).max(body.len() / 50)) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(self.random.pick(&[
            &b"0\r\n\r\n"[..],
            b"0\r\n\r\n",
            b"0\r\nX-Trailer: 1\r\n\r\n",
        ]));
        bytes
    }

    fn bad_chunks(&mut self) -> Vec<u8> {
        let forged = format!("0\r\nX-User-Id: {}{}\r\n\r\n", crate::inspect::FORGED, self.number);
        let bad: [&[u8]; 9] = [
            b"g\r\nx\r\n0\r\n\r\n",
            b"-5\r\nabcde\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\nx",
            b"5\r\nabc\r\n0\r\n\r\n",
            b"5;ext=\"a\r\nabcde\r\n0\r\n\r\n",
            b"3\nabc\n0\n\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc\r\n",
            forged.as_bytes(),
        ];
        self.random.pick(&bad).to_vec()
    }
}

const METHODS: &[&str] = &[
    "GET",
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "COPY",
    "MOVE",
    "MKCOL",
    "PROPFIND",
    "PRI",
    "G@T",
    "get",
    "",
    "G\0T",
    "VERYLONGMETHODNAME",
];
const VERSIONS: &[&str] = &[
    "HTTP/1.0",
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/0.9",
    "HTTP/1.2",
    "HTTP/2.0",
    "HTTP/9.9",
    "HTTP/1.",
    "HTTP/11",
    "HTTP/1.1x",
    "http/1.1",
    "HTTP",
    "HTTP/ 1.1",
    "ICAP/1.0",
    "HTTP/1.999999999",
];
const LINE_ENDS: &[&str] = &["\n", "\r", "\r\r\n", "\r\n ", "\r\n\t", "\0\r\n", ""];
