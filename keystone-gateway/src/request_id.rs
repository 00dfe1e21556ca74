//! Ids of requests, by which the logs of all services that took part in one can be put together.
//!
//! They have the form that oslo.context gives them (`generate_request_id()`) and that
//! oslo.middleware accepts (`ID_FORMAT` in `request_id.py`).

/// `req-` and a UUID in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; LEN]);

impl RequestId {
    /// Makes a UUID of version 4 (RFC 9562, section 5.4) of random bytes.
    pub fn new(mut random: [u8; 16]) -> Self {
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let mut digits = [0; 32];
        let (words, _) = random.as_chunks();
        for (eight, word) in digits.as_chunks_mut().0.iter_mut().zip(words) {
            *eight = hex(u32::from_be_bytes(*word));
        }
        let mut text = *TEMPLATE;
        text[4..12].copy_from_slice(&digits[..8]);
        text[13..17].copy_from_slice(&digits[8..12]);
        text[18..22].copy_from_slice(&digits[12..16]);
        text[23..27].copy_from_slice(&digits[16..20]);
        text[28..].copy_from_slice(&digits[20..]);
        Self(text)
    }

    /// Takes `text` for an id if it has the form of one, of whatever version its UUID is.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; LEN] = text.try_into().ok()?;
        let fits = |(byte, expected): (&u8, &u8)| match *expected {
            DIGIT => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            expected => *byte == expected,
        };
        text.iter().zip(TEMPLATE).all(fits).then_some(Self(*text))
    }

    /// The text of 40 characters, all ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same.
    pub fn as_str(&self) -> &str {
        // It is ASCII, by the two ways to make one.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The eight digits of a number, all at once: in a byte each, to which what makes a letter of it is
/// added where it is over 9.
fn hex(number: u32) -> [u8; 8] {
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let letters = is_letter * u64::from(b'a' - b'0' - 10);
    (digits + 0x3030_3030_3030_3030 + letters).to_be_bytes()
}

const TEMPLATE: &[u8; LEN] = b"req-hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
/// Stands for a digit in the template.
const DIGIT: u8 = b'h';
const LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_bytes_but_for_version_and_variant() {
        let zeros = RequestId::new([0; 16]);
        assert_eq!(zeros.as_str(), "req-00000000-0000-4000-8000-000000000000");
        let ones = RequestId::new([0xff; 16]);
        assert_eq!(ones.as_str(), "req-ffffffff-ffff-4fff-bfff-ffffffffffff");
        let bytes = std::array::from_fn(|at| at as u8 * 0x11);
        assert_eq!(RequestId::new(bytes).as_str(), "req-00112233-4455-4677-8899-aabbccddeeff");
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for byte in 0..=u8::MAX {
            let id = RequestId::new([byte; 16]);
            assert_eq!(RequestId::parse(id.as_str().as_bytes()), Some(id));
        }
        let version_1 = "req-c2a1f6d8-8bd7-11f0-9aa5-0242ac120002";
        assert_eq!(RequestId::parse(version_1.as_bytes()).unwrap().as_str(), version_1);
    }

    #[test]
    fn other_texts_are_none() {
        let good = "req-00112233-4455-4677-8899-aabbccddeeff";
        for at in 0..LEN {
            for other in ["", "g", "A", "_", "\n", "00"] {
                let text = [&good[..at], other, &good[at + 1..]].concat();
                assert_eq!(RequestId::parse(text.as_bytes()), None, "{text}");
            }
        }
        for text in ["", "req-", "tx1234", &format!("{good}\n"), &format!(" {good}")] {
            assert_eq!(RequestId::parse(text.as_bytes()), None, "{text}");
        }
    }
}
