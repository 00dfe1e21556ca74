//! A client that never sleeps.
//!
//! It asks on some connections, waits for the answers in the order of the requests, and asks again
//! at once. It waits by trying again and again: a client that sleeps has to be woken by the worker,
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
    /// The requests, one after the other and then again from the first.
    pub requests: &'a [Vec<u8>],
    /// Which of them is the first.
    pub first: usize,
    /// The status of every answer.
    pub status: &'a str,
    /// How long requests are sent.
    pub time: Duration,
}

impl Load<'_> {
    /// Sends it, and looks at the processor time of the process `worker` before and after.
    pub fn run(&self, worker: i32, pins: &Pins) -> Result<Measured, Failure> {
        let pinned = || pins.client.map_or(Ok(()), pin);
        let work = || pinned().and_then(|()| self.work(worker)).map_err(|e| e.to_string());
        // A thread of its own, for it stays on its processor.
        let done = thread::scope(|scope| scope.spawn(work).join());
        Ok(done.map_err(|_| "the client panicked")??)
    }

    fn work(&self, worker: i32) -> Result<Measured, Failure> {
        let mut requests = self.requests.iter().cycle().skip(self.first);
        let mut next = || requests.next().ok_or("nothing to send");
        let connect = |_| Connection::open(self.address);
        let mut connections: Vec<_> = (0..CONNECTIONS).map(connect).collect::<Result<_, _>>()?;

        let (start, before) = (Instant::now(), cpu::used_by(worker)?);
        for connection in &mut connections {
            connection.send(next()?)?;
        }
        let mut answers = 0;
        while start.elapsed() < self.time {
            for connection in &mut connections {
                connection.receive(self.status)?;
                connection.send(next()?)?;
                answers += 1;
            }
        }
        for connection in &mut connections {
            connection.receive(self.status)?;
            answers += 1;
        }
        let (taken, used) = (start.elapsed(), cpu::used_by(worker)?.saturating_sub(before));
        Ok(Measured { requests: answers, used, taken })
    }
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
