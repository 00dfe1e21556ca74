//! Upstreams that speak FastCGI, SCGI and uwsgi: header fields come as variables of CGI.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::Desk;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// FastCGI: records with a head of eight bytes.
pub(super) fn serve_fastcgi(desk: &Desk, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut params = Vec::new();
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let length = usize::from(head[4]) << 8 | usize::from(head[5]);
        let mut content = vec![0; length + usize::from(head[6])];
        stream.read_exact(&mut content)?;
        content.truncate(length);
        match (head[1], length) {
            (PARAMS, 0) => desk.inspect(&fastcgi_fields(&params)?),
            (PARAMS, _) => params.extend(content),
            (STDIN, 0) => break,
            _ => {}
        }
    }
    let mut answer = record(STDOUT, desk.page().as_bytes());
    answer.extend(record(STDOUT, &[]));
    answer.extend(record(END_REQUEST, &[0; 8]));
    stream.get_mut().write_all(&answer)?;
    super::finish(stream)
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    let mut record = vec![1, kind, 0, 1];
    record.extend(length.to_be_bytes());
    record.extend([0, 0]);
    record.extend(content);
    record
}

fn fastcgi_fields(mut params: &[u8]) -> io::Result<Fields> {
    let mut fields = Vec::new();
    while !params.is_empty() {
        let name = fastcgi_length(&mut params)?;
        let value = fastcgi_length(&mut params)?;
        fields.push((take(&mut params, name)?, take(&mut params, value)?));
    }
    Ok(fields)
}

fn fastcgi_length(params: &mut &[u8]) -> io::Result<usize> {
    let first = take(params, 1)?[0];
    if first < 128 {
        return Ok(first.into());
    }
    let rest = take(params, 3)?;
    let first = usize::from(first & 127);
    Ok(rest.iter().fold(first, |length, byte| length << 8 | usize::from(*byte)))
}

/// SCGI: a netstring of names and values, each ended by a NUL.
pub(super) fn serve_scgi(desk: &Desk, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut length = Vec::new();
    stream.by_ref().take(20).read_until(b':', &mut length)?;
    length.pop();
    let length = std::str::from_utf8(&length).ok().and_then(|text| text.parse().ok());
    let mut block = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut block)?;
    let mut texts = block.split(|byte| *byte == 0);
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        fields.push((name.to_vec(), value.to_vec()));
    }
    desk.inspect(&fields);
    stream.get_mut().write_all(desk.page().as_bytes())?;
    super::finish(stream)
}

/// uwsgi: a head of four bytes, then names and values with two bytes of length each.
pub(super) fn serve_uwsgi(desk: &Desk, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut block = vec![0; u16::from_le_bytes([head[1], head[2]]).into()];
    stream.read_exact(&mut block)?;
    let mut rest = block.as_slice();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let name = uwsgi_text(&mut rest)?;
        fields.push((name, uwsgi_text(&mut rest)?));
    }
    desk.inspect(&fields);
    stream.get_mut().write_all(desk.page().as_bytes())?;
    super::finish(stream)
}

fn uwsgi_text(block: &mut &[u8]) -> io::Result<Vec<u8>> {
    let length = take(block, 2)?;
    take(block, u16::from_le_bytes([length[0], length[1]]).into())
}

fn take(bytes: &mut &[u8], length: usize) -> io::Result<Vec<u8>> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
    *bytes = rest;
    Ok(taken.to_vec())
}

const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
