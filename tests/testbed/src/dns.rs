//! A name server with one answer to all questions, or none.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{lock, During, Result};

/// A running name server.
pub struct NameServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// What a name server answers.
#[derive(Clone, Debug)]
pub enum NameAnswer {
    /// These addresses.
    Addresses(Vec<Ipv4Addr>),
    /// An error with this code (RFC 1035, section 4.1.1).
    Code(u8),
    /// Nothing.
    Silence,
}

/// The code of a server that cannot find out.
pub const SERVFAIL: u8 = 2;
/// The code for a name that does not exist.
pub const NXDOMAIN: u8 = 3;

struct State {
    answer: NameAnswer,
    asked: usize,
    stopped: bool,
}

impl NameServer {
    /// Starts one for which every name has these addresses.
    pub fn start(addresses: &[Ipv4Addr]) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).during("binding a name server")?;
        socket.set_read_timeout(Some(POLL)).during("setting a time-out")?;
        let address = socket.local_addr().during("asking for the port")?;
        let answer = NameAnswer::Addresses(addresses.into());
        let state = Arc::new(Mutex::new(State { answer, asked: 0, stopped: false }));
        let seen = Arc::clone(&state);
        let thread = Some(std::thread::spawn(move || serve(&socket, &seen)));
        Ok(Self { address, state, thread })
    }

    /// Address and port that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers like this from now on.
    pub fn answer(&self, answer: NameAnswer) {
        lock(&self.state).answer = answer;
    }

    /// How many questions there were.
    pub fn asked(&self) -> usize {
        lock(&self.state).asked
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        lock(&self.state).stopped = true;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buffer = [0; 512];
    loop {
        let received = socket.recv_from(&mut buffer);
        let mut state = lock(state);
        if state.stopped {
            return;
        }
        let Ok((length, client)) = received else { continue };
        state.asked += 1;
        if let Some(answer) = answer(&buffer[..length], &state.answer) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a query with one question, which is taken for one for IPv4 addresses.
fn answer(query: &[u8], answer: &NameAnswer) -> Option<Vec<u8>> {
    let (addresses, code) = match answer {
        NameAnswer::Addresses(addresses) => (&addresses[..], 0),
        NameAnswer::Code(code) => (&[][..], *code),
        NameAnswer::Silence => return None,
    };
    let (id, question) = (query.get(..2)?, query.get(12..)?);
    let name = question.iter().position(|&byte| byte == 0)?;
    let count = u16::try_from(addresses.len()).ok()?.to_be_bytes();
    // A recursive answer, to one question.
    let mut answer =
        [id, &[0x81, 0x80 | code, 0, 1], &count, &[0; 4], question.get(..name + 5)?].concat();
    for address in addresses {
        // The name of the question; A, IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

const POLL: Duration = Duration::from_millis(50);
