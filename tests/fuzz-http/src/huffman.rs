//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! It is a canonical code: codes of one length are consecutive numbers in the order of their
//! symbols, and the first of a length follows from the last of the length before. So the lengths
//! say it all.

/// Encodes `text` as RFC 7541 says.
pub fn encode(text: &[u8]) -> Vec<u8> {
    let codes = codes();
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u64, 0);
    for byte in text {
        let (code, length) = (codes[usize::from(*byte)], LENGTHS[usize::from(*byte)]);
        bits = bits << length | u64::from(code);
        count += u32::from(length);
        while count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        // The rest of the last byte is ones.
        bytes.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
    bytes
}

/// Decodes what [`encode`] makes; `None` if it is no such text.
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let codes = codes();
    let mut text = Vec::new();
    let (mut code, mut length) = (0u32, 0u8);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        if length > LONGEST {
            return None;
        }
        let is_it = |symbol: &usize| LENGTHS[*symbol] == length && codes[*symbol] == code;
        if let Some(symbol) = (0..LENGTHS.len()).find(is_it) {
            text.push(symbol as u8);
            (code, length) = (0, 0);
        }
    }
    // What is left is padding: less than a byte of ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

fn codes() -> [u32; 256] {
    let mut codes = [0; 256];
    let mut next = 0;
    for length in 1..=LONGEST {
        next <<= 1;
        for (code, _) in codes.iter_mut().zip(LENGTHS).filter(|(_, l)| *l == length) {
            *code = next;
            next += 1;
        }
    }
    codes
}

const LONGEST: u8 = 30;

#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let encoded = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(encode(b"www.example.com"), encoded);
        assert_eq!(decode(encoded).unwrap(), b"www.example.com");
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert_eq!(decode(b"\xff\xff\xff\xff"), None);
    }
}
