//! An upstream that answers with what it was sent.
//!
//! `/status/401` answers with that status. Query parameters `h=Name:value` add header fields
//! and `body=text` replaces the body; both are percent-decoded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};

use crate::http::Response;
use crate::port::Port;
use crate::serve::{self, After, Handler, Incoming, Server};
use crate::wire::Stream;
use crate::{lock, Error, Result};

/// An upstream that runs in this process.
pub struct Upstream {
    server: Server,
    log: Arc<Mutex<Vec<Incoming>>>,
}

impl Upstream {
    /// Starts one on a free port.
    pub fn start() -> Result<Self> {
        let log = Arc::default();
        let handler = Arc::new(Mirror { log: Arc::clone(&log) });
        Ok(Self { server: Server::start(Port::free()?, None, handler)?, log })
    }

    /// Address and port that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Every request that was received.
    pub fn requests(&self) -> Vec<Incoming> {
        lock(&self.log).clone()
    }
}

struct Mirror {
    log: Arc<Mutex<Vec<Incoming>>>,
}

impl Handler for Mirror {
    fn handle(&self, request: &Incoming, stream: &mut Stream) -> After {
        lock(&self.log).push(request.clone());
        let status = request.path().split_once("/status/").and_then(|(_, s)| s.parse().ok());
        let (mut headers, mut body) = (Vec::new(), None);
        for parameter in request.query().split('&') {
            match parameter.split_once('=') {
                Some(("body", text)) => body = Some(decode(text)),
                Some(("h", field)) => {
                    let field = String::from_utf8_lossy(&decode(field)).into_owned();
                    if let Some((name, value)) = field.split_once(':') {
                        headers.push((name.to_owned(), value.trim().to_owned()));
                    }
                }
                _ => {}
            }
        }
        let body = body.unwrap_or_else(|| {
            headers.push(("Content-Type".into(), "application/json".into()));
            describe(request).to_string().into_bytes()
        });
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut message = serve::answer(status.unwrap_or(200), &headers, &body);
        if request.method == "HEAD" {
            message.truncate(message.len() - body.len());
        }
        serve::send(stream, &message)
    }
}

fn describe(request: &Incoming) -> Value {
    let field = |(name, value): (&str, &[u8])| match std::str::from_utf8(value) {
        Ok(text) => json!([name, text]),
        Err(_) => json!([name, {"base64": STANDARD.encode(value)}]),
    };
    json!({
        "method": request.method,
        "target": request.target,
        "headers": request.headers.iter().map(field).collect::<Vec<_>>()
    })
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// What an upstream said it was sent.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method, such as `GET`.
    pub method: String,
    /// The request target, as it was received.
    pub target: String,
    /// The header fields in the order in which they came; a value that is not UTF-8 is base64.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// Reads an answer of the upstream.
    pub fn of(response: &Response) -> Result<Self> {
        let value = response.json()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let unexpected = || Error::Http(format!("not an upstream's answer: {}", response.text()));
        let fields = value["headers"].as_array().ok_or_else(unexpected)?;
        let field = |field: &Value| {
            let name = text(&field[0])?;
            Some((name, text(&field[1]).or_else(|| text(&field[1]["base64"]))?))
        };
        Ok(Self {
            method: text(&value["method"]).ok_or_else(unexpected)?,
            target: text(&value["target"]).ok_or_else(unexpected)?,
            headers: fields.iter().filter_map(field).collect(),
        })
    }

    /// The value of a header field that came once; `None` when it did not come.
    ///
    /// A field that came more than once is shown with all its values, so that no test takes it
    /// for one.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let values: Vec<_> = values.map(|(_, value)| value.as_str()).collect();
        match values.as_slice() {
            [] => None,
            [one] => Some((*one).into()),
            many => Some(format!("{many:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{send, Request};

    #[test]
    fn it_tells_what_it_was_sent() {
        let upstream = Upstream::start().unwrap();
        let request = Request::get("/a?b=c").header("X_odd", "1").header("X-Raw", b"\xff");
        let seen = Seen::of(&send(upstream.address(), &request).unwrap()).unwrap();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a?b=c"));
        assert_eq!(seen.header("x_odd").unwrap(), "1");
        assert_eq!(seen.header("x-raw").unwrap(), "/w==");
    }

    #[test]
    fn it_answers_as_configured() {
        let upstream = Upstream::start().unwrap();
        let request = Request::get("/status/401?h=X-A:%20b&body=no%21");
        let answer = send(upstream.address(), &request).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (401, "no!"));
        assert_eq!(answer.header("X-A"), Some("b"));
        let answer = send(upstream.address(), &Request::head("/")).unwrap();
        assert!(answer.body.is_empty());
    }
}
