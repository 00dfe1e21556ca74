//! An upstream that speaks HTTP/1.1, and does some of what nginx has a special ear for.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::Desk;

pub(super) fn serve(desk: &Desk, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    loop {
        let Some(head) = read_head(stream)? else { return Ok(()) };
        desk.inspect(&head.fields);
        if head.path.contains("/early") {
            // The answer comes before the body was read.
            stream.get_mut().write_all(answer(200, "", "early").as_bytes())?;
            return super::finish(stream);
        }
        read_body(stream, &head)?;
        let content = desk.guard.content();
        let message = match head.path.split(['/', '?']).next_back().unwrap_or_default() {
            _ if head.path.contains("/accel") => {
                answer(200, "X-Accel-Redirect: /inside/hello.txt\r\n", "")
            }
            "close" => return Ok(()),
            "401" => answer(401, "", "own"),
            "404" => answer(404, "", "own"),
            "500" => answer(500, "", "own"),
            "big" => answer(200, "", &"x".repeat(200_000)),
            "garbage" => "\x01garbage that is not HTTP\r\n\r\n".into(),
            "switch" => {
                "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".into()
            }
            _ => answer(200, "", &content),
        };
        let is_head = head.method == b"HEAD";
        let end = if is_head { message.find("\r\n\r\n").map(|at| at + 4) } else { None };
        let message = &message.as_bytes()[..end.unwrap_or(message.len())];
        stream.get_mut().write_all(message)?;
        let closes = head.field(b"connection").is_some_and(|value| value == b"close");
        if closes || message.starts_with(b"HTTP/1.1 101") || message[0] == 1 {
            return super::finish(stream);
        }
    }
}

struct Head {
    method: Vec<u8>,
    path: String,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Head {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let named = |(n, _): &&(Vec<u8>, Vec<u8>)| n.eq_ignore_ascii_case(name);
        self.fields.iter().find(named).map(|(_, value)| value.as_slice())
    }
}

/// Reads a request's head; a line without a colon is a name without a value.
fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        while matches!(line.last(), Some(b'\r' | b'\n')) {
            line.pop();
        }
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines.first().map(|l| l.split(|b| *b == b' ')).into_iter().flatten();
    let method = words.next().unwrap_or_default().to_vec();
    let path = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    let field = |line: &Vec<u8>| {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        (line[..colon].to_vec(), value.trim_ascii().to_vec())
    };
    let fields = lines.iter().skip(1).map(field).collect();
    Ok(Some(Head { method, path, fields }))
}

fn read_body(stream: &mut BufReader<TcpStream>, head: &Head) -> io::Result<()> {
    let sink = &mut io::sink();
    if head.field(b"transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = line.trim().split(';').next().and_then(|h| u64::from_str_radix(h, 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            io::copy(&mut stream.by_ref().take(size + 2), sink)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
    let length = head.field(b"content-length").and_then(|v| std::str::from_utf8(v).ok());
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(0);
    io::copy(&mut stream.by_ref().take(length), sink)?;
    Ok(())
}

fn answer(status: u16, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
}
