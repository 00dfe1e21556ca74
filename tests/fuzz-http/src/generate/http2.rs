//! HTTP/2: streams whose frames are mixed, and frames that should not be there.

use std::collections::VecDeque;

use super::field::Field;
use super::Maker;
use crate::case::Step;
use crate::frame::{flag, integer, kind, literal, Frame, PREFACE};
use crate::guard::Grants;
use crate::huffman;

impl Maker<'_> {
    /// A connection with some streams.
    pub(super) fn http2(&mut self) -> Vec<Step> {
        let mut bytes = PREFACE.to_vec();
        if !self.is_tame && self.random.percent(5) {
            self.damage(&mut bytes);
        }
        if self.is_tame || self.random.percent(95) {
            let settings = self.settings();
            bytes.extend(settings);
        }
        let count = self.random.pick(&[1, 1, 2, 3, 5, 12]);
        let mut table = Grants::NONE;
        let mut streams = VecDeque::new();
        let mut id = 1;
        for _ in 0..count {
            streams.push_back(self.stream(id, &mut table));
            id += self.random.pick(&[2, 2, 2, 2, 2, 4, 100]);
            if !self.is_tame && self.random.percent(4) {
                id = self.random.pick(&[1, 2, 0, 0x7fff_ffff]);
            }
        }
        self.streams = count;
        let mixed = self.mix(streams);
        bytes.extend(mixed);
        if !self.is_tame && self.random.percent(12) {
            self.damage(&mut bytes);
            // Whatever is indexed by chance may be a token.
            self.grants.add(self.grants);
            self.grants.add(table);
        }
        self.send(bytes)
    }

    fn settings(&mut self) -> Vec<u8> {
        let mut payload = Vec::new();
        for _ in 0..if self.is_tame { 0 } else { self.random.below(4) } {
            let id = self.random.pick(&[1u16, 2, 3, 4, 5, 6, 8, 0x99]);
            let value =
                self.random.pick(&[0u32, 1, 100, 4096, 16_384, 65_535, 0x7fff_ffff, u32::MAX]);
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        if !self.is_tame && self.random.percent(5) {
            payload.push(0);
        }
        let id = if self.is_tame || self.random.percent(96) { 0 } else { 1 };
        Frame::new(kind::SETTINGS, 0, id, payload).bytes()
    }

    /// The frames of a request; those with its header fields are one piece, mostly.
    fn stream(&mut self, id: u32, table: &mut Grants) -> VecDeque<Vec<u8>> {
        self.requests += 1;
        let tame = self.is_tame || self.random.percent(50);
        let method = match tame {
            true => self.random.pick(&["GET", "GET", "GET", "HEAD", "PUT", "POST", "DELETE"]),
            false => self.random.pick(METHODS),
        };
        let has_body = matches!(method, "PUT" | "POST") || !tame && self.random.percent(20);
        let mut fields = self.pseudo_fields(method, tame);
        let before = self.grants;
        let own: Vec<_> = self
            .fields(tame)
            .into_iter()
            .map(|(name, value)| {
                // HTTP/2 has no upper case in names.
                let lower = tame || self.random.percent(90);
                (if lower { name.to_ascii_lowercase() } else { name }, value)
            })
            .collect();
        fields.extend(own);
        if !tame && self.random.percent(10) {
            let at = self.random.below(fields.len());
            let again = fields[at].clone();
            fields.push(again);
            self.grants.add(self.grants);
        }
        if has_body && !tame && self.random.percent(50) {
            let length = self.random.pick(&["0", "100", "5000", "x", "-1"]);
            fields.push((b"content-length".to_vec(), length.into()));
        }
        let added = Grants {
            admin: self.grants.admin - before.admin,
            swift: self.grants.swift - before.swift,
            valid: self.grants.valid - before.valid,
        };
        let block = self.block(&fields, tame, added, table);
        let mut pieces = self.headers(id, block, has_body, tame);
        if has_body {
            self.body(id, tame, &mut pieces);
        }
        if self.random.percent(8) {
            let at = 1 + self.random.below(pieces.len());
            let code = self.random.pick(&[0u32, 8, 11, 99]);
            let reset = Frame::new(kind::RST_STREAM, 0, id, code.to_be_bytes());
            pieces.insert(at, reset.bytes());
        }
        pieces
    }

    fn pseudo_fields(&mut self, method: &str, tame: bool) -> Vec<Field> {
        let target = match tame || self.random.percent(60) {
            true => self.good_target(),
            false => self.odd_target(),
        };
        let mut fields = vec![
            (b":method".to_vec(), method.into()),
            (b":scheme".to_vec(), b"http".to_vec()),
            (b":path".to_vec(), target),
            (b":authority".to_vec(), b"localhost".to_vec()),
        ];
        if tame {
            return fields;
        }
        match self.random.below(12) {
            0 => fields.remove(self.random.below(4)).0.clear(),
            1 => fields.push((b":status".to_vec(), b"200".to_vec())),
            2 => fields.push((b":protocol".to_vec(), b"websocket".to_vec())),
            3 => fields.push((b":path".to_vec(), b"/".to_vec())),
            4 => fields.push((b":".to_vec(), b"".to_vec())),
            5 => fields.swap(0, 3),
            6 => fields[3].1 = self.random.pick(&["", "a b", "x:y:z", "a/b", "\0"]).into(),
            7 => fields.push((b"host".to_vec(), b"other".to_vec())),
            8 => fields.insert(0, (b"x-first".to_vec(), b"1".to_vec())),
            9 => fields.push((b"connection".to_vec(), b"close".to_vec())),
            10 => fields.push((b"te".to_vec(), b"gzip".to_vec())),
            _ => fields.push((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
        }
        fields
    }

    /// Encodes header fields; what the table of HPACK holds may be referred to by later streams.
    fn block(&mut self, fields: &[Field], tame: bool, own: Grants, table: &mut Grants) -> Vec<u8> {
        let mut block = Vec::new();
        let adds = self.random.percent(20);
        for (name, value) in fields {
            let first = match adds && self.random.percent(50) {
                true => 0x40,
                false => self.random.pick(&[0u8, 0, 0, 0x10]),
            };
            if !name.is_empty() && value.len() < 2000 && self.random.percent(10) {
                block.push(first);
                for text in [name, value] {
                    let text = huffman::encode(text);
                    block.extend(integer(0x80, 7, text.len()));
                    block.extend(text);
                }
            } else {
                block.extend(literal(first, name, value));
            }
        }
        if adds {
            table.add(own);
        }
        if !tame && self.random.percent(25) {
            let odd = match self.random.below(7) {
                0 => vec![0x80],
                1 => integer(0x80, 7, 62 + self.random.below(8)),
                2 => integer(0x80, 7, 1_000_000),
                3 => integer(0x20, 5, self.random.pick(&[0, 100, 4096, 1 << 20])),
                4 => vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
                5 => [&[0, 0x84][..], &self.noise(4)].concat(),
                _ => self.noise(10),
            };
            // Any of these may refer to a token that is in the table.
            self.grants.add(*table);
            match self.random.percent(50) {
                true => block.extend(odd),
                false => block.splice(0..0, odd).for_each(drop),
            }
        }
        block
    }

    /// `HEADERS`, and `CONTINUATION` where the block is long or by chance.
    fn headers(&mut self, id: u32, block: Vec<u8>, open: bool, tame: bool) -> VecDeque<Vec<u8>> {
        let most = match self.random.percent(15) {
            true => 1 + self.random.below(200),
            false => 16_384,
        };
        // Not so many frames that nginx takes them for a flood.
        let most = most.max(block.len() / 40);
        let mut flags = if open { 0 } else { flag::END_STREAM };
        let mut payload = Vec::new();
        let padded = self.random.percent(10);
        let priority = self.random.percent(10);
        if padded {
            flags |= flag::PADDED;
            payload.push(if tame { 3 } else { self.random.pick(&[0u8, 3, 255]) });
        }
        if priority {
            flags |= flag::PRIORITY;
            let on = if tame { 0 } else { self.random.pick(&[0, id, 77]) };
            payload.extend(on.to_be_bytes());
            payload.push(16);
        }
        let mut parts = block.chunks(most).peekable();
        payload.extend(parts.next().unwrap_or_default());
        if padded {
            payload.extend([0; 3]);
        }
        let ends = |last: bool| if last { flag::END_HEADERS } else { 0 };
        let last = parts.peek().is_none();
        let mut pieces = vec![Frame::new(kind::HEADERS, flags | ends(last), id, payload).bytes()];
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none() && (tame || self.random.percent(95));
            pieces.push(Frame::new(kind::CONTINUATION, ends(last), id, part).bytes());
        }
        match tame || self.random.percent(90) {
            true => [pieces.concat()].into(),
            false => pieces.into(),
        }
    }

    fn body(&mut self, id: u32, tame: bool, pieces: &mut VecDeque<Vec<u8>>) {
        for left in (0..self.random.pick(&[1, 1, 2, 4, 10])).rev() {
            let length = self.random.pick(&[0, 1, 100, 5000, 16_384]);
            let ends = left == 0 && (tame || self.random.percent(80));
            let mut flags = if ends { flag::END_STREAM } else { 0 };
            let mut payload = vec![b'b'; length];
            if self.random.percent(10) {
                flags |= flag::PADDED;
                payload.truncate(16_000);
                payload.insert(0, if tame { 5 } else { self.random.pick(&[0u8, 5, 255]) });
                payload.extend([0; 5]);
            }
            let stream = if tame || self.random.percent(95) { id } else { id + 2 };
            pieces.push_back(Frame::new(kind::DATA, flags, stream, payload).bytes());
        }
        if !tame && self.random.percent(10) {
            let fields = literal(0, b"x-user-id", b"trailer");
            let flags = flag::END_HEADERS | flag::END_STREAM;
            pieces.push_back(Frame::new(kind::HEADERS, flags, id, fields).bytes());
        }
    }

    /// Mixes the frames of all streams, with others between them.
    fn mix(&mut self, mut streams: VecDeque<VecDeque<Vec<u8>>>) -> Vec<u8> {
        let in_order = self.random.percent(40);
        let disturbed = !self.is_tame && self.random.percent(50);
        let (mut bytes, mut opened) = (Vec::new(), 1);
        while !streams.is_empty() {
            // A stream opens after those with smaller numbers have.
            let at = if in_order { 0 } else { self.random.below(opened.min(streams.len())) };
            if let Some(piece) = streams[at].pop_front() {
                bytes.extend(piece);
            }
            if streams[at].is_empty() {
                streams.remove(at);
            } else if at + 1 == opened {
                opened += 1;
            }
            if disturbed && self.random.percent(30) {
                let other = self.control_frame();
                bytes.extend(other);
            }
        }
        bytes
    }

    /// A frame that belongs to no request, or not there.
    fn control_frame(&mut self) -> Vec<u8> {
        let id = self.random.pick(&[0u32, 0, 1, 3, 5, 2, 0x7fff_ffff]);
        let number = self.random.pick(&[0u32, 1, 100, 65_535, 0x7fff_ffff, u32::MAX]);
        let frame = match self.random.below(14) {
            0 => return self.settings(),
            1 => Frame::new(kind::SETTINGS, flag::ACK, 0, []),
            2 => Frame::new(kind::PING, 0, 0, [7; 8]),
            3 => Frame::new(kind::PING, flag::ACK, id, [7; 8]),
            4 => Frame::new(kind::WINDOW_UPDATE, 0, id, number.to_be_bytes()),
            5 => Frame::new(kind::WINDOW_UPDATE, 0, id, 100u32.to_be_bytes()),
            6 => Frame::new(kind::PRIORITY, 0, id, [0, 0, 0, self.random.pick(&[0, 1, 3]), 9]),
            7 => Frame::new(kind::RST_STREAM, 0, id, 8u32.to_be_bytes()),
            8 => Frame::new(kind::GOAWAY, 0, 0, [0; 8]),
            9 => Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, id, [0, 0, 0, 2, 0x82]),
            10 => Frame::new(kind::CONTINUATION, flag::END_HEADERS, id, literal(0, b"x", b"y")),
            11 => Frame::new(self.random.pick(&[10, 16, 99, 255]), 0, id, self.noise(9)),
            12 => {
                let odd = Frame::new(self.random.below(10) as u8, 0, id, self.noise(5));
                return odd.bytes_of_length(self.random.pick(&[0, 4, 6, 20, 16_385, 0xff_ffff]));
            }
            _ => Frame::new(kind::DATA, flag::END_STREAM, id, b"x".to_vec()),
        };
        frame.bytes()
    }
}

const METHODS: &[&str] =
    &["GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "TRACE", "G@T", "get", "", "G T"];
