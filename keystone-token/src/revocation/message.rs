//! Reads the signed revocation list out of Keystone's answer a few lines at a time.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use super::skip_tokens;
use crate::api::{self, ApiError};
use crate::cms::{CmsError, SignedData};

/// A signed revocation list, as Keystone's answer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedList {
    pem: Vec<u8>,
    /// What the PEM form decodes to, where it was read line by line.
    der: Option<Vec<u8>>,
}

impl SignedList {
    /// The list in PEM.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// The same, and nothing else of it.
    pub fn into_pem(self) -> Vec<u8> {
        self.pem
    }

    /// The message in it, once.
    pub fn take_message(&mut self) -> Result<SignedData, CmsError> {
        match self.der.take() {
            Some(der) => SignedData::parse(der),
            None => SignedData::from_pem(&self.pem),
        }
    }
}

/// Reads an answer in steps of as many lines as the caller wants, so that a long list need not keep
/// it from other work.
///
/// Keystone writes `{"signed": "-----BEGIN CMS-----\n..."}`, and OpenSSL lines of 64 characters. An
/// answer of any other form is read as a whole.
pub struct AnswerReader<'b> {
    body: &'b [u8],
    /// What is left of the lines; `None` in an answer of another form.
    rest: Option<&'b [u8]>,
    pem: Vec<u8>,
    der: Vec<u8>,
}

impl<'b> AnswerReader<'b> {
    /// A reader of the answer's body.
    pub fn new(body: &'b [u8]) -> Self {
        let rest = skip_tokens(body, &[b"{", b"\"signed\"", b":", BEGIN]);
        let mut reader = Self { body, rest, pem: Vec::new(), der: Vec::new() };
        if rest.is_some() {
            reader.pem.reserve_exact(body.len());
            reader.der.reserve_exact(body.len() / 4 * 3);
            reader.add_pem_line(BEGIN.get(1..BEGIN.len() - LINE_END.len()).unwrap_or_default());
        }
        reader
    }

    /// Reads `most` lines, or as many as there are. At the end it returns the list.
    pub fn read(&mut self, most: usize) -> Result<Option<SignedList>, ApiError> {
        for _ in 0..most {
            match self.read_line() {
                Some(false) => {}
                Some(true) => {
                    let (pem, der) = (std::mem::take(&mut self.pem), std::mem::take(&mut self.der));
                    return Ok(Some(SignedList { pem, der: Some(der) }));
                }
                None => {
                    let pem = api::signed_revocation_list(self.body)?.into_bytes();
                    return Ok(Some(SignedList { pem, der: None }));
                }
            }
        }
        Ok(None)
    }

    /// Reads a line, and says whether it was the last one; `None` where it is not as OpenSSL and
    /// Keystone write it.
    fn read_line(&mut self) -> Option<bool> {
        let rest = self.rest?;
        let (line, after) = match rest.split_at_checked(LINE) {
            Some((line, after)) if after.starts_with(LINE_END) => (line, after),
            // Only the last line is shorter.
            _ => {
                let line = rest.iter().position(|byte| *byte == b'\\')?;
                let (line, after) = rest.split_at_checked(line)?;
                after.strip_prefix(LINE_END)?.starts_with(END).then_some(())?;
                (line, after)
            }
        };
        let after = after.strip_prefix(LINE_END)?;
        let mut decoded = [0; LINE / 4 * 3];
        let len = STANDARD.decode_slice(line, &mut decoded).ok()?;
        let end = after.strip_prefix(END);
        if line.is_empty() || end.is_none() && len < decoded.len() {
            return None;
        }
        self.der.extend_from_slice(decoded.get(..len)?);
        self.add_pem_line(line);
        self.rest = Some(after);
        let Some(end) = end else { return Some(false) };
        let end = end.strip_prefix(LINE_END).unwrap_or(end);
        let is_all = skip_tokens(end.strip_prefix(b"\"")?, &[b"}"])?.trim_ascii().is_empty();
        self.add_pem_line(END);
        is_all.then_some(true)
    }

    fn add_pem_line(&mut self, line: &[u8]) {
        self.pem.extend_from_slice(line);
        self.pem.push(b'\n');
    }
}

/// As JSON has them.
const BEGIN: &[u8] = b"\"-----BEGIN CMS-----\\n";
const END: &[u8] = b"-----END CMS-----";
const LINE_END: &[u8] = b"\\n";

/// Characters of a line.
const LINE: usize = 64;
