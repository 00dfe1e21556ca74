//! A client that never sleeps.
//!
//! It asks on some connections, waits for the answers of half of them, and asks again on these. It
//! waits by trying again and again: a client that sleeps has to be woken by the worker,
//! which on a virtual machine takes as long as the rest of the request, and the more often the less
//! the client has to do.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu::{self, Pins};
use crate::measured::Measured;
use crate::Failure;

/// What to send, and what should come back.
pub struct Load<'a> {
    /// The server.
    pub address: SocketAddr,
    /// The path of the file.
    pub path: &'a str,
    /// The tokens; none are sent where there are none.
    pub tokens: &'a [String],
    /// Which of them is next.
    pub order: Order,
    /// The status of every answer.
    pub status: &'a str,
    /// When the client stops.
    pub until: Until,
}

/// In which order tokens are sent.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// One after the other and then again from the first, beginning with this one.
    From(usize),
    /// At random.
    Random,
}

/// When a client stops.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many requests.
    Requests(usize),
    /// After this time.
    Time(Duration),
}

impl Load<'_> {
    /// Sends it, and looks at the processor time of the processes `workers` before and after.
    pub fn run(&self, workers: &[i32], pins: &Pins) -> Result<Measured, Failure> {
        let pinned = || pins.client.map_or(Ok(()), pin);
        let work = || pinned().and_then(|()| self.work(workers)).map_err(|e| e.to_string());
        // A thread of its own, for it stays on its processor.
        let done = thread::scope(|scope| scope.spawn(work).join());
        Ok(done.map_err(|_| "the client panicked")??)
    }

    fn work(&self, workers: &[i32]) -> Result<Measured, Failure> {
        let (mut next, mut request) = (self.numbers(), Vec::new());
        let mut send = |connection: &mut Connection| {
            request.clear();
            let token = next.next().and_then(|at| self.tokens.get(at));
            write_request(&mut request, self.path, token.map(String::as_str))?;
            connection.send(&request)
        };
        let connect = |_| Connection::open(self.address);
        let mut connections: Vec<_> = (0..CONNECTIONS).map(connect).collect::<Result<_, _>>()?;

        let (start, before) = (Instant::now(), cpu::used_by_all(workers)?);
        connections.iter_mut().try_for_each(&mut send)?;
        let mut answers = 0;
        // The worker always has half of them to do.
        let (first, second) = connections.split_at_mut(CONNECTIONS / 2);
        let mut halves = [first, second];
        while self.goes_on(answers, start) {
            receive_all(halves[0], self.status)?;
            halves[0].iter_mut().try_for_each(&mut send)?;
            answers += halves[0].len();
            halves.reverse();
        }
        for half in halves {
            receive_all(half, self.status)?;
            answers += half.len();
        }
        let (taken, used) = (start.elapsed(), cpu::used_by_all(workers)?.saturating_sub(before));
        Ok(Measured { requests: answers, used, taken })
    }

    fn goes_on(&self, answers: usize, start: Instant) -> bool {
        match self.until {
            Until::Requests(number) => answers < number,
            Until::Time(time) => start.elapsed() < time,
        }
    }

    /// The places of the tokens, without end.
    fn numbers(&self) -> impl Iterator<Item = usize> {
        let (count, mut state) = (self.tokens.len().max(1), 0x9e37_79b9_7f4a_7c15_u64);
        let (random, mut at) = match self.order {
            Order::From(first) => (false, first),
            Order::Random => (true, 0),
        };
        std::iter::repeat_with(move || {
            // George Marsaglia's xorshift: a client has no time for better ones.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            at += 1;
            if random {
                state as usize % count
            } else {
                (at - 1) % count
            }
        })
    }
}

/// Appends a request for a file.
pub fn write_request(out: &mut Vec<u8>, path: &str, token: Option<&str>) -> Result<(), Failure> {
    write!(out, "GET {path} HTTP/1.1\r\nHost: localhost\r\n")?;
    if let Some(token) = token {
        write!(out, "X-Auth-Token: {token}\r\n")?;
    }
    Ok(out.write_all(b"\r\n")?)
}

/// Receives the answers, beginning with the one that comes last: a socket on which the client tries
/// again and again costs the worker time, while the kernel puts an answer into it.
fn receive_all(connections: &mut [Connection], status: &str) -> Result<(), Failure> {
    connections.iter_mut().rev().try_for_each(|connection| connection.receive(status))
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: vec![0; LARGEST] })
    }

    /// A request fits into the socket's buffer, for there is none before it.
    fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(request)?)
    }

    fn receive(&mut self, status: &str) -> Result<(), Failure> {
        let (start, mut len) = (Instant::now(), 0);
        loop {
            match self.stream.read(&mut self.buffer[len..]) {
                Ok(0) => return Err("an answer ends early, or is too long".into()),
                Ok(more) => len += more,
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE =>
                {
                    thread::yield_now();
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(end) = answer_len(&self.buffer[..len]) {
                let answer = String::from_utf8_lossy(&self.buffer[..len]);
                let right = end == len && answer.get(9..12) == Some(status);
                return match right {
                    true => Ok(()),
                    false => Err(format!("not an answer with status {status}: {answer}").into()),
                };
            }
        }
    }
}

/// How long an answer is, once its head is there in whole and the body too.
pub fn answer_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(HEAD_END.len()).position(|end| end == HEAD_END)?;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let len = head + HEAD_END.len() + length?.parse::<usize>().ok()?;
    (len <= bytes.len()).then_some(len)
}

/// Keeps this thread on a processor.
fn pin(cpu: usize) -> Result<(), Failure> {
    let link = fs::read_link("/proc/thread-self")?;
    let thread = link.file_name().ok_or("an odd /proc/thread-self")?;
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", "--pid", &cpu.to_string()]).arg(thread).stdout(Stdio::null());
    match taskset.status()?.success() {
        true => Ok(()),
        false => Err("taskset failed".into()),
    }
}

const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Bytes of an answer.
const LARGEST: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_when_it_is_complete() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello";
        assert_eq!(answer_len(answer), Some(answer.len()));
        for len in 0..answer.len() {
            assert_eq!(answer_len(&answer[..len]), None);
        }
    }
}
