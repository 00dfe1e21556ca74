//! Frames of HTTP/2 (RFC 9113) and the header fields in them (RFC 7541).

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs)]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// A frame of HTTP/2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// One of [`kind`], or an unknown type.
    pub kind: u8,
    /// A set of [`flag`].
    pub flags: u8,
    /// The stream that it belongs to.
    pub stream: u32,
    /// The bytes after the frame header.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame for `stream`; 0 is the connection.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// The frame as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_of_length(self.payload.len())
    }

    /// The frame as it is sent, with any length in its head.
    pub fn bytes_of_length(&self, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Takes a whole frame from the front of `bytes`.
    pub fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (payload, rest) = rest.split_at_checked(length)?;
        *bytes = rest;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Self::new(head[3], head[4], stream, payload))
    }

    /// Whether it is the last one of its stream that the sender sends.
    pub fn ends_stream(&self) -> bool {
        let has_flag = self.flags & flag::END_STREAM != 0;
        self.kind == kind::RST_STREAM || matches!(self.kind, kind::DATA | kind::HEADERS) && has_flag
    }
}

/// An integer with a prefix of `bits` bits, whose other bits are those of `first`.
pub fn integer(first: u8, bits: u32, mut value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut bytes = vec![first | most as u8];
    value -= most;
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

/// A header field with a literal name and value; `first` says how it is indexed in the table:
/// 0x00 nothing, 0x10 never, 0x40 it is added.
pub fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    for text in [name, value] {
        bytes.extend(integer(0, 7, text.len()));
        bytes.extend(text);
    }
    bytes
}

/// The header fields of a block, as far as they are literal; a name from the static table is
/// shown as its number.
pub fn fields(mut block: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut fields = Vec::new();
    while let Some(&first) = block.first() {
        let bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let index = take_integer(&mut block, bits)?;
        if bits == 7 || bits == 5 {
            continue;
        }
        let name = match index {
            0 => take_text(&mut block)?,
            index => format!(":{index}").into_bytes(),
        };
        fields.push((name, take_text(&mut block)?));
    }
    Some(fields)
}

fn take_integer(block: &mut &[u8], bits: u32) -> Option<usize> {
    let mut take = || {
        let (&byte, rest) = block.split_first()?;
        *block = rest;
        Some(usize::from(byte))
    };
    let most = (1 << bits) - 1;
    let mut value = take()? & most;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = take()?;
        value += (byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn take_text(block: &mut &[u8]) -> Option<Vec<u8>> {
    let is_huffman = *block.first()? & 0x80 != 0;
    let length = take_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    match is_huffman {
        true => crate::huffman::decode(text),
        false => Some(text.to_vec()),
    }
}

const HEAD: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back() {
        let frame = Frame::new(kind::HEADERS, flag::END_STREAM, 3, b"abc");
        let bytes = [frame.bytes(), b"\0\0\x09".to_vec()].concat();
        let mut rest = bytes.as_slice();
        assert_eq!(Frame::take(&mut rest).unwrap(), frame);
        assert!(frame.ends_stream());
        assert_eq!(Frame::take(&mut rest), None);
    }

    #[test]
    fn the_integers_of_the_rfc() {
        assert_eq!(integer(0, 5, 10), [10]);
        assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
        assert_eq!(take_integer(&mut &[31, 154, 10][..], 5), Some(1337));
    }

    #[test]
    fn literal_fields_come_back() {
        let long = vec![b'v'; 300];
        let mut block = literal(0, b"x-name", &long);
        block.push(0x82);
        block.extend(literal(0x40, b"x-user-id", b"1"));
        block.extend([0x01, 0x8c]);
        block.extend(crate::huffman::encode(b"www.example.com"));
        let expected = vec![
            (b"x-name".to_vec(), long),
            (b"x-user-id".to_vec(), b"1".to_vec()),
            (b":1".to_vec(), b"www.example.com".to_vec()),
        ];
        assert_eq!(fields(&block), Some(expected));
    }
}
