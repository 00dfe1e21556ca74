//! nginx's `resolver`, asked as nginx asks it: a name server by UDP (RFC 1035).

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use crate::net;

/// Why a name server has not told an address.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Nothing comes back from it.
    #[error("it does not answer: {0}")]
    NoAnswer(io::Error),
    /// It has answered that it does not know the name, or cannot tell.
    #[error("{}", reason(*.0))]
    Refused(u8),
    /// The answer does not fit into a datagram.
    #[error("its answer is truncated, and nginx asks it again by TCP")]
    Truncated,
}

/// nginx's `resolver`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolver {
    /// The name servers; none where it is not set.
    servers: Vec<String>,
    /// The kinds of addresses that they are asked for.
    kinds: Vec<u16>,
}

impl Resolver {
    /// That of the arguments of `resolver`.
    pub fn new(arguments: &[String]) -> Self {
        let is_server = |word: &&String| !word.contains('=') && *word != "off";
        let is_wanted = |name: &str| {
            let mut values = arguments.iter().filter_map(|word| word.strip_prefix(name));
            values.next_back() != Some("off")
        };
        let kinds = [("ipv4=", TYPE_A), ("ipv6=", TYPE_AAAA)].into_iter();
        Self {
            servers: arguments.iter().filter(is_server).cloned().collect(),
            kinds: kinds.filter(|(name, _)| is_wanted(name)).map(|(_, kind)| kind).collect(),
        }
    }

    /// Looks a host up as nginx does: the name servers first, if there are any and it is a name.
    pub fn look_up(&self, host: &str, port: u16) -> Lookup<'_> {
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let servers = self.servers.iter().filter(|_| !is_address);
        let answers: Vec<_> =
            servers.map(|server| (server.as_str(), self.ask(server, host))).collect();
        let mut found: Vec<SocketAddr> = Vec::new();
        for ip in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).flatten() {
            let address = SocketAddr::new(*ip, port);
            if !found.contains(&address) {
                found.push(address);
            }
        }
        // The system may know the name: then what it said at nginx's start counts.
        let is_of_system = found.is_empty();
        let addresses = if is_of_system { net::resolve(host, port) } else { Ok(found) };
        Lookup { answers, is_of_system, addresses }
    }

    /// The addresses of a host, as one of the name servers tells them.
    fn ask(&self, server: &str, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let mut found = Vec::new();
        for kind in &self.kinds {
            let answer = exchange(server, &query(host, *kind)).map_err(LookupError::NoAnswer)?;
            if is_truncated(&answer) {
                return Err(LookupError::Truncated);
            }
            match addresses(&answer) {
                Some(Ok(addresses)) => found.extend(addresses),
                Some(Err(code)) => return Err(LookupError::Refused(code)),
                None => {
                    let error = io::Error::other("its answer is not one of DNS");
                    return Err(LookupError::NoAnswer(error));
                }
            }
        }
        Ok(found)
    }
}

/// A name server, and what it has said.
pub type ServerAnswer<'r> = (&'r str, Result<Vec<IpAddr>, LookupError>);

/// What has become of a host's name.
pub struct Lookup<'r> {
    /// What the name servers have said, where they were asked.
    pub answers: Vec<ServerAnswer<'r>>,
    /// Whether the addresses are those of the system, for no name server tells one.
    pub is_of_system: bool,
    /// Where to connect to: at least one address.
    pub addresses: io::Result<Vec<SocketAddr>>,
}

fn exchange(server: &str, query: &[u8]) -> io::Result<Vec<u8>> {
    let has_port =
        server.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let address = if has_port { server.to_owned() } else { format!("{server}:53") };
    let address = address.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("its name has no address"))?;
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.send(query)?;
    let mut answer = vec![0; LONGEST];
    let length = socket.recv(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })?;
    answer.truncate(length);
    Ok(answer)
}

fn query(host: &str, kind: u16) -> Vec<u8> {
    // One question, with recursion desired.
    let mut query = vec![ID[0], ID[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.trim_end_matches('.').split('.') {
        let label = label.as_bytes();
        query.push(u8::try_from(label.len().min(63)).unwrap_or(63));
        query.extend(label.iter().take(63));
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend(CLASS_IN.to_be_bytes());
    query
}

/// Whether an answer says that it is not all of it (TC).
fn is_truncated(answer: &[u8]) -> bool {
    answer.starts_with(&ID) && answer.get(2).is_some_and(|flags| flags & 0x82 == 0x82)
}

/// The addresses in an answer, or its code; `None` if it is none.
fn addresses(answer: &[u8]) -> Option<Result<Vec<IpAddr>, u8>> {
    let number = |at: usize| Some(u16::from_be_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let flags = number(2)?;
    if !answer.starts_with(&ID) || flags & 0x8000 == 0 {
        return None;
    }
    let code = u8::try_from(flags & 0xf).ok()?;
    if code != 0 {
        return Some(Err(code));
    }
    let mut at = 12;
    for _ in 0..number(4)? {
        at = behind_name(answer, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..number(6)? {
        at = behind_name(answer, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = answer.get(at + 10..at + 10 + length)?;
        match kind {
            TYPE_A => found.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            TYPE_AAAA => found.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            // Such as the name that it is another one for.
            _ => {}
        }
        at += 10 + length;
    }
    Some(Ok(found))
}

/// Where the name that begins at `at` ends.
fn behind_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            // The rest is elsewhere.
            0xc0.. => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

fn reason(code: u8) -> String {
    match code {
        2 => "it fails to find the name (SERVFAIL)".to_owned(),
        3 => "it does not know the name (NXDOMAIN)".to_owned(),
        5 => "it refuses to answer (REFUSED)".to_owned(),
        code => format!("it answers with code {code}"),
    }
}

const ID: [u8; 2] = *b"kd";
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// nginx waits 5 seconds before it asks again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer by UDP.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_addresses_behind_other_records() {
        let mut answer = query("cloud.example.com", TYPE_A);
        answer[2] = 0x81;
        answer[7] = 2;
        let record = |kind: u16, data: &[u8]| {
            let head = [[0xc0, 12], kind.to_be_bytes(), [0, 1], [0, 0], [0, 60]].concat();
            let length = u16::try_from(data.len()).unwrap().to_be_bytes();
            [head.as_slice(), &length, data].concat()
        };
        answer.extend(record(5, b"\xc0\x0c"));
        answer.extend(record(TYPE_A, &[192, 0, 2, 1]));
        let expected: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(addresses(&answer), Some(Ok(vec![expected])));
        for length in 0..answer.len() {
            assert!(!matches!(addresses(&answer[..length]), Some(Ok(_))), "{length}");
        }
        answer[3] = 3;
        assert_eq!(addresses(&answer), Some(Err(3)));
        assert_eq!(addresses(&query("cloud.example.com", TYPE_A)), None);
        assert!(!is_truncated(&answer));
        answer[2] |= 2;
        assert!(is_truncated(&answer[..3]));
    }

    #[test]
    fn parameters_are_no_servers() {
        let words = ["127.0.0.1", "[::1]:5353", "valid=30s", "ipv6=off"].map(str::to_owned);
        let resolver = Resolver::new(&words);
        assert_eq!(resolver.servers, ["127.0.0.1", "[::1]:5353"]);
        assert_eq!(resolver.kinds, [TYPE_A]);
        let kinds = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Resolver::new(&words).kinds
        };
        assert_eq!(kinds(&["::1"]), [TYPE_A, TYPE_AAAA]);
        assert_eq!(kinds(&["::1", "ipv4=off", "ipv6=on"]), [TYPE_AAAA]);
        // nginx goes by the last.
        assert_eq!(kinds(&["::1", "ipv6=off", "ipv6=on"]), [TYPE_A, TYPE_AAAA]);
    }
}
