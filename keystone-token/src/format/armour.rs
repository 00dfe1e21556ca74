//! The armour of signed tokens.
//!
//! Texts are read canonically: every text that is accepted here is the only text of its message,
//! apart from the many zlib streams that inflate to the same bytes. A second spelling of a revoked
//! token would otherwise have a hash that no revocation list knows.

use std::cell::RefCell;

use base64::alphabet::Alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD, URL_SAFE};
use base64::Engine as _;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::TokenFormat;

/// Takes the armour off a PKI or PKIZ token and returns the DER message.
///
/// Whatever the input, at most [`MAX_INFLATED_LEN`] bytes come into being.
pub fn unarmour(token: &[u8], format: TokenFormat) -> Result<Vec<u8>, ArmourError> {
    match format {
        TokenFormat::Pki => decode(&PKI, token, MAX_DER_LEN),
        TokenFormat::Pkiz => unarmour_pkiz(token),
        _ => Err(ArmourError::Unsigned),
    }
}

/// Why a text is not the canonical armour of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArmourError {
    /// A character, a length or a padding that canonical base64 does not have.
    #[error("the text is not canonical base64")]
    Base64,
    /// Starts like PEM and is not what OpenSSL writes.
    #[error("the text is not a CMS message in PEM format")]
    Pem,
    /// More than [`MAX_DER_LEN`] bytes of message, or [`MAX_INFLATED_LEN`] of zlib output.
    #[error("the content is longer than that of any token")]
    TooLong,
    /// Bytes after the end of the zlib stream.
    #[error("data follows the zlib stream")]
    TrailingBytes,
    /// The token's format has no armour.
    #[error("the format is neither PKI nor PKIZ")]
    Unsigned,
    /// Not a zlib stream, or an incomplete one.
    #[error("the zlib stream is invalid or incomplete")]
    Zlib,
}

/// The longest message that a token may hold. Keystone's stay below 6,000 bytes with an ordinary
/// catalog, and nginx's header buffers end the matter at some tens of kilobytes.
pub const MAX_DER_LEN: usize = 72 * 1024;

/// The most that a PKIZ token may inflate to: the PEM form of a message of [`MAX_DER_LEN`].
pub const MAX_INFLATED_LEN: usize = pem_len(MAX_DER_LEN);

fn unarmour_pkiz(token: &[u8]) -> Result<Vec<u8>, ArmourError> {
    let text = token.strip_prefix(PKIZ_PREFIX).ok_or(ArmourError::Unsigned)?;
    let stream = decode(&URL_SAFE, text, MAX_INFLATED_LEN)?;
    let inflated = inflate(&stream)?;
    if inflated.starts_with(b"-") {
        return unarmour_pem(&inflated);
    }
    if inflated.len() > MAX_DER_LEN {
        return Err(ArmourError::TooLong);
    }
    Ok(inflated)
}

fn inflate(stream: &[u8]) -> Result<Vec<u8>, ArmourError> {
    let mut zlib = Decompress::new(true);
    let mut output = Vec::with_capacity((stream.len() * 3).clamp(4096, MAX_INFLATED_LEN + 1));
    loop {
        let rest = stream.get(zlib.total_in() as usize..).unwrap_or_default();
        let before = (zlib.total_in(), output.len());
        let status = zlib
            .decompress_vec(rest, &mut output, FlushDecompress::Finish)
            .map_err(|_| ArmourError::Zlib)?;
        if output.len() > MAX_INFLATED_LEN {
            return Err(ArmourError::TooLong);
        }
        if status == Status::StreamEnd {
            break;
        }
        let full = output.len() == output.capacity();
        if !full && before == (zlib.total_in(), output.len()) {
            return Err(ArmourError::Zlib);
        }
        if full {
            let more = output.len().min(MAX_INFLATED_LEN + 1 - output.len());
            output.reserve_exact(more);
        }
    }
    if zlib.total_in() != stream.len() as u64 {
        return Err(ArmourError::TrailingBytes);
    }
    Ok(output)
}

/// Reads what `openssl cms -outform PEM` writes, to the byte.
fn unarmour_pem(pem: &[u8]) -> Result<Vec<u8>, ArmourError> {
    let body = pem
        .strip_prefix(PEM_BEGIN)
        .and_then(|rest| rest.strip_suffix(PEM_END))
        .ok_or(ArmourError::Pem)?;
    let lines = body.chunks(PEM_LINE + 1);
    let mut base64 = Vec::with_capacity(body.len());
    for line in lines {
        let line = line.strip_suffix(b"\n").ok_or(ArmourError::Pem)?;
        base64.extend_from_slice(line);
    }
    decode(&STANDARD, &base64, MAX_DER_LEN)
}

/// Reads the PEM form of a message that is not a token, as it comes in JSON or in a file: lines
/// may end in CRLF, and the last line end may be missing. There is no bound but the input's.
pub(crate) fn unarmour_pem_leniently(pem: &[u8]) -> Result<Vec<u8>, ArmourError> {
    let pem = pem.strip_suffix(b"\n").unwrap_or(pem);
    let mut lines = pem.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if lines.next() != PEM_BEGIN.strip_suffix(b"\n") {
        return Err(ArmourError::Pem);
    }
    let mut base64 = Vec::with_capacity(pem.len());
    let mut complete = true;
    loop {
        let line = lines.next().ok_or(ArmourError::Pem)?;
        if Some(line) == PEM_END.strip_suffix(b"\n") {
            break;
        }
        if line.is_empty() || line.len() > PEM_LINE || !complete {
            return Err(ArmourError::Pem);
        }
        complete = line.len() == PEM_LINE;
        base64.extend_from_slice(line);
    }
    if lines.next().is_some() {
        return Err(ArmourError::Pem);
    }
    decode(&STANDARD, &base64, usize::MAX)
}

fn decode(engine: &GeneralPurpose, text: &[u8], max: usize) -> Result<Vec<u8>, ArmourError> {
    if text.len() / 4 > max / 3 {
        return Err(ArmourError::TooLong);
    }
    engine.decode(text).map_err(|_| ArmourError::Base64)
}

/// The PKI token of a DER message.
pub fn armour_pki(der: &[u8]) -> String {
    PKI.encode(der)
}

/// The PKIZ token of a DER message as python-keystoneclient makes it: its PEM form, compressed.
pub fn armour_pkiz(der: &[u8]) -> String {
    pkiz_of(pem("CMS", der).as_bytes())
}

/// The PKIZ token whose zlib stream holds the DER message itself.
pub(crate) fn armour_pkiz_der(der: &[u8]) -> String {
    pkiz_of(der)
}

fn pkiz_of(content: &[u8]) -> String {
    let mut text = String::from("PKIZ_");
    URL_SAFE.encode_string(deflate(content), &mut text);
    text
}

/// `zlib.compress(content, 6)` of the Python that Keystone runs on.
fn deflate(content: &[u8]) -> Vec<u8> {
    thread_local! {
        /// To get its memory, 268 KB, takes longer than to compress a token.
        static ZLIB: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(6), true));
    }
    ZLIB.with_borrow_mut(|zlib| {
        zlib.reset();
        deflate_with(zlib, content)
    })
}

fn deflate_with(zlib: &mut Compress, content: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(content.len() / 2 + 64);
    loop {
        let rest = content.get(zlib.total_in() as usize..).unwrap_or_default();
        match zlib.compress_vec(rest, &mut output, FlushCompress::Finish) {
            Ok(Status::StreamEnd) | Err(_) => return output,
            Ok(_) => output.reserve(content.len() / 2 + 64),
        }
    }
}

/// The PEM form of something, as OpenSSL writes it: of a message with the label `CMS`.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = String::with_capacity(pem_len(der.len()));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

const fn pem_len(der_len: usize) -> usize {
    let base64 = der_len.div_ceil(3) * 4;
    PEM_BEGIN.len() + base64 + base64.div_ceil(PEM_LINE) + PEM_END.len()
}

/// Standard base64 with `-` where it has `/`. Decoding is strict: padding must be there and
/// right, and the bits that encode nothing must be zero.
const PKI: GeneralPurpose = GeneralPurpose::new(
    &match Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-") {
        Ok(alphabet) => alphabet,
        Err(_) => panic!("64 distinct characters"),
    },
    PAD,
);

pub(super) const PKIZ_PREFIX: &[u8] = b"PKIZ_";
const PEM_BEGIN: &[u8] = b"-----BEGIN CMS-----\n";
const PEM_END: &[u8] = b"-----END CMS-----\n";
const PEM_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pki_armour_is_canonical() {
        let der = [0x30, 0x82, 0xff, 0xfe, 0xfb, 0xef];
        assert_eq!(armour_pki(&der), "MIL--vvv");
        assert_eq!(armour_pki(&der[..5]), "MIL--vs=");
        assert_eq!(armour_pki(&der[..4]), "MIL--g==");
        for (text, len) in [("MIL--vvv", 6), ("MIL--vs=", 5), ("MIL--g==", 4)] {
            assert_eq!(unarmour(text.as_bytes(), TokenFormat::Pki).as_deref(), Ok(&der[..len]));
        }
        for text in [
            "MIL/-vvv",
            "MIL__vvv",
            "MIL--vs",
            "MIL--vt=",
            "MIL--g=",
            "MIL--g",
            "MIL--h==",
            "MIL--gB=",
            "MIL--vvv=",
            "MIL--vvv====",
            "MIL--vvv\n",
            " MIL--vvv",
            "MIL--\nvvv",
            "MIL--vv",
            "MIL--v",
            "MI=L--vv",
            "MIL--vv\0",
            "MIL--vvé",
        ] {
            let result = unarmour(text.as_bytes(), TokenFormat::Pki);
            assert_eq!(result, Err(ArmourError::Base64), "{text}");
        }
    }

    #[test]
    fn pkiz_armour_holds_der_or_the_pem_of_it() {
        let der: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let pem = pem("CMS", &der);
        for content in [&der[..], pem.as_bytes()] {
            let token = pkiz_of(content);
            assert_eq!(unarmour(token.as_bytes(), TokenFormat::Pkiz).as_ref(), Ok(&der));
            for bad in [
                token.trim_end_matches('=').to_owned() + "====",
                token.replacen("PKIZ_", "PKIZ", 1),
                token.replacen("PKIZ_", "PKIZ_=", 1),
                format!("{token}\n"),
                format!("{token}AAAA"),
                token[..token.len() - 4].to_owned(),
                "PKIZ_".to_owned(),
                "PKIZ_AAAA".to_owned(),
            ] {
                assert!(unarmour(bad.as_bytes(), TokenFormat::Pkiz).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn pem_in_pkiz_is_what_openssl_writes() {
        for len in [0, 1, 47, 48, 49, 95, 96, 97] {
            let der = vec![7; len];
            let token = pkiz_of(pem("CMS", &der).as_bytes());
            assert_eq!(unarmour(token.as_bytes(), TokenFormat::Pkiz), Ok(der));
        }
        let pem = pem("CMS", &[7; 100]);
        let first = "-----BEGIN CMS-----\n".len() + 64;
        for bad in [
            pem.trim_end().to_owned(),
            pem.replace('\n', "\r\n"),
            pem.replace('\n', ""),
            pem.replacen("CMS", "PKCS7", 2),
            format!("{pem}\n"),
            format!("{pem}{pem}"),
            format!("{}\n{}", &pem[..first - 4], &pem[first - 4..]),
            format!("{}{}", &pem[..first], &pem[first + 1..]),
            format!("{}\n{}", &pem[..first], &pem[first..]),
            format!("{} {}", &pem[..first], &pem[first..]),
            pem.replacen("-----BEGIN", "-----begin", 1),
        ] {
            let result = unarmour(pkiz_of(bad.as_bytes()).as_bytes(), TokenFormat::Pkiz);
            assert!(result.is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_that_inflates_without_end_is_cut_off() {
        for fill in [b"\0", b"-"] {
            let bomb = pkiz_of(&fill.repeat(50_000_000));
            assert!(bomb.len() < 100_000);
            let result = unarmour(bomb.as_bytes(), TokenFormat::Pkiz);
            assert_eq!(result, Err(ArmourError::TooLong));
        }
        let long = armour_pki(&vec![0x30; 1_000_000]);
        assert_eq!(unarmour(long.as_bytes(), TokenFormat::Pki), Err(ArmourError::TooLong));
    }

    #[test]
    fn what_was_compressed_before_leaves_no_trace() {
        let texts = [&b"a text"[..], &[0; 100_000], b"", b"a text", &[7; 300], b"another text"];
        for text in texts {
            let mut new = Compress::new(Compression::new(6), true);
            assert_eq!(deflate(text), deflate_with(&mut new, text));
        }
    }

    #[test]
    fn a_zlib_stream_with_a_preset_dictionary_is_refused() {
        use base64::Engine as _;
        let mut zlib = Compress::new(Compression::new(6), true);
        zlib.set_dictionary(b"-----BEGIN CMS-----").unwrap();
        let mut stream = Vec::with_capacity(100);
        zlib.compress_vec(b"-----BEGIN CMS-----", &mut stream, FlushCompress::Finish).unwrap();
        let text = format!("PKIZ_{}", URL_SAFE.encode(stream));
        assert_eq!(unarmour(text.as_bytes(), TokenFormat::Pkiz), Err(ArmourError::Zlib));
    }
}
