//! Requests of HTTP/2 whose bytes a client library would not send.

/// What a client sends on a connection: its preface, and one request with these fields and no body.
pub fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<_> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    [preface, &frame(SETTINGS, 0, 0, &[]), &headers(&block)].concat()
}

/// A HEADERS frame, and CONTINUATION frames where the block does not fit into it.
fn headers(block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(MAX_FRAME).peekable();
    let mut frames = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let ends_stream = if kind == HEADERS { END_STREAM } else { 0 };
        let ends_headers = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        frames.extend(frame(kind, ends_stream | ends_headers, 1, piece));
        kind = CONTINUATION;
    }
    frames
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A literal field without indexing (RFC 7541, section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0], &length(name)[..], name.as_bytes(), &length(value), value.as_bytes()].concat()
}

/// The length of a string that is not Huffman-coded (RFC 7541, section 5.1).
fn length(text: &str) -> Vec<u8> {
    let Some(mut rest) = text.len().checked_sub(127) else {
        return vec![u8::try_from(text.len()).unwrap()];
    };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const MAX_FRAME: usize = 16_384;
