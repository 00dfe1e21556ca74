//! As much DER as a fixed template needs.

use std::ops::Range;

/// A place in a DER document, up to the end of the element that contains it.
pub(crate) struct Reader<'a> {
    document: &'a [u8],
    /// at <= end <= document.len()
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'a [u8]) -> Self {
        Self { document, at: 0, end: document.len() }
    }

    /// Steps over an element and returns a reader of what is in it.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Reader<'a>, Error> {
        let Range { start, end } = self.content(tag)?;
        Ok(Reader { document: self.document, at: start, end })
    }

    /// Steps over an element and returns where its content is.
    pub(crate) fn content(&mut self, tag: u8) -> Result<Range<usize>, Error> {
        let (header_len, len) = read_header(self.rest(), tag)?;
        let start = self.at + header_len;
        let end = start.checked_add(len).filter(|&end| end <= self.end).ok_or(Error)?;
        self.at = end;
        Ok(start..end)
    }

    /// Steps over an element and returns where it is, with its tag and length.
    pub(crate) fn element(&mut self, tag: u8) -> Result<Range<usize>, Error> {
        let start = self.at;
        let content = self.content(tag)?;
        Ok(start..content.end)
    }

    /// Steps over exactly these bytes.
    pub(crate) fn expect(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if !self.rest().starts_with(bytes) {
            return Err(Error);
        }
        self.at += bytes.len();
        Ok(())
    }

    /// Fails if bytes are left.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.at == self.end {
            Ok(())
        } else {
            Err(Error)
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.document.get(self.at..self.end).unwrap_or_default()
    }
}

/// The bytes are not the DER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error;

/// Reads a tag and a length in the fewest bytes that can hold it, and returns the number of
/// bytes read, and the length.
fn read_header(bytes: &[u8], tag: u8) -> Result<(usize, usize), Error> {
    let [first, len, rest @ ..] = bytes else {
        return Err(Error);
    };
    if *first != tag {
        return Err(Error);
    }
    let octets = match *len {
        len @ 0..=0x7f => return Ok((2, usize::from(len))),
        len @ 0x81..=0x84 => rest.get(..usize::from(len & 0x7f)).ok_or(Error)?,
        _ => return Err(Error),
    };
    let len = octets.iter().fold(0u64, |len, &octet| len << 8 | u64::from(octet));
    let len = usize::try_from(len).map_err(|_| Error)?;
    let header_len = 2 + octets.len();
    if header_len != self::header_len(len) {
        return Err(Error);
    }
    Ok((header_len, len))
}

/// The length of an element with `len` bytes of content.
pub(crate) fn tlv_len(len: usize) -> usize {
    header_len(len) + len
}

fn header_len(len: usize) -> usize {
    if len < 0x80 {
        2
    } else {
        2 + significant(len).len()
    }
}

/// Writes a tag and a length.
pub(crate) fn write_header(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    if len < 0x80 {
        out.push(len as u8);
        return;
    }
    let bytes = len.to_be_bytes();
    let octets = &bytes[significant(len)];
    out.push(0x80 | octets.len() as u8);
    out.extend_from_slice(octets);
}

/// Which bytes of a big-endian length are not leading zeros.
fn significant(len: usize) -> Range<usize> {
    let zeros = len.leading_zeros() as usize / 8;
    zeros..size_of::<usize>()
}

pub(crate) const CONTEXT_0: u8 = 0xa0;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
