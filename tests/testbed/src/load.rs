//! Load: clients that ask again and again while something happens to the server.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::http::{Client, Request, Response};
use crate::{lock, wait_for, Result};

/// Some clients. They stop when they are told to, and after `LONGEST` at the latest.
#[derive(Clone, Debug)]
pub struct Load {
    address: SocketAddr,
    clients: usize,
    pause: Duration,
    interval: Option<Duration>,
    keeps: bool,
    patience: Duration,
}

impl Load {
    /// Four clients with a new connection for each request and a millisecond's pause between two.
    pub fn on(address: SocketAddr) -> Self {
        let (pause, patience) = (Duration::from_millis(1), Duration::from_secs(10));
        Self { address, clients: 4, pause, interval: None, keeps: false, patience }
    }

    /// Sets the number of clients.
    pub fn clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }

    /// With such a pause after each answer, whose time counts from when its request is sent.
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Each client has a request to send each so often, and is late where the last answer took
    /// longer. An answer's time counts from when its request was due: a wait of four seconds delays
    /// the requests behind it too, and all of them are in the percentiles.
    pub fn every(self, interval: Duration) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// Connections are kept for the next request.
    pub fn keep_alive(self) -> Self {
        Self { keeps: true, ..self }
    }

    /// A client waits for an answer so long at most.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Runs the clients for as long as `meanwhile` takes. `request` makes the requests: it is given
    /// numbers from 0 on, each once.
    pub fn during<T>(
        &self,
        request: impl Fn(usize) -> Request + Sync,
        meanwhile: impl FnOnce(&Running<'_>) -> T,
    ) -> (Outcome, T) {
        let (stop, number, outcome) = (OnceLock::new(), AtomicUsize::new(0), Mutex::default());
        let running = Running { outcome: &outcome };
        let result = std::thread::scope(|scope| {
            // Also where `meanwhile` panics, or the scope would wait for the clients for ever.
            let _stop = Stop(&stop);
            for _ in 0..self.clients {
                scope.spawn(|| self.ask(&stop, &number, &request, &outcome));
            }
            meanwhile(&running)
        });
        let mut outcome = outcome.into_inner().unwrap_or_default();
        outcome.times.sort_unstable();
        (outcome, result)
    }

    fn ask(
        &self,
        stop: &OnceLock<Instant>,
        number: &AtomicUsize,
        request: &(impl Fn(usize) -> Request + Sync),
        outcome: &Mutex<Outcome>,
    ) {
        let (begin, mut kept) = (Instant::now(), None);
        let mut due = begin;
        // Requests that were due before the end are still sent.
        while stop.get().is_none_or(|at| due < *at) && begin.elapsed() < LONGEST {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = self.send(request(number.fetch_add(1, Ordering::SeqCst)), &mut kept);
            lock(outcome).note(due.elapsed(), answer);
            due = match self.interval {
                Some(interval) => due + interval,
                None => Instant::now() + self.pause,
            };
        }
    }

    fn send(&self, request: Request, kept: &mut Option<Client>) -> Result<Response> {
        let connect = || Client::connect(self.address)?.timeout(self.patience);
        if !self.keeps {
            return connect()?.send(&request.header("Connection", "close"));
        }
        let usable = kept.take().and_then(|mut client| (!client.is_closed()).then_some(client));
        let mut client = match usable {
            Some(client) => client,
            None => connect()?,
        };
        let answer = client.send(&request)?;
        if !answer.headers.closes() {
            *kept = Some(client);
        }
        Ok(answer)
    }
}

/// A load that is on.
#[derive(Debug)]
pub struct Running<'a> {
    outcome: &'a Mutex<Outcome>,
}

impl Running<'_> {
    /// How many requests have ended, with an answer or without.
    pub fn ended(&self) -> usize {
        lock(self.outcome).ended()
    }

    /// Waits until so many more have ended.
    pub fn wait_for_more(&self, requests: usize) -> Result<()> {
        let before = self.ended();
        let what = format!("{requests} more requests to end");
        wait_for(&what, || (self.ended() >= before + requests).then_some(()))
    }
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How long each took that was answered; the shortest time comes first.
    pub times: Vec<Duration>,
    /// How many answers had which status.
    pub statuses: BTreeMap<u16, usize>,
    /// Why others were not answered, and how many.
    pub broken: BTreeMap<String, usize>,
}

impl Outcome {
    fn note(&mut self, time: Duration, answer: Result<Response>) {
        match answer {
            Ok(answer) => {
                self.times.push(time);
                *self.statuses.entry(answer.status).or_default() += 1;
            }
            Err(error) => *self.broken.entry(error.to_string()).or_default() += 1,
        }
    }

    /// How many requests there were.
    pub fn ended(&self) -> usize {
        self.times.len() + self.unanswered()
    }

    /// How many were not answered.
    pub fn unanswered(&self) -> usize {
        self.broken.values().sum()
    }

    /// The time within which so many of a hundred answers came.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times.get(last * percent / 100).copied().unwrap_or_default()
    }

    /// All requests were answered, with one of these statuses.
    #[track_caller]
    pub fn assert_only(&self, statuses: &[u16], what: &str) {
        assert!(!self.times.is_empty(), "{what}: there was no load");
        let others = self.statuses.keys().any(|status| !statuses.contains(status));
        assert!(!others && self.broken.is_empty(), "{what}: {self}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.ended())?;
        for (status, count) in &self.statuses {
            write!(f, ", {count} x {status}")?;
        }
        for (error, count) in &self.broken {
            write!(f, ", {count} x {error:?}")?;
        }
        let shown = |percent| Shown(self.percentile(percent));
        write!(f, "; p50 {}, p99 {}, max {}", shown(50), shown(99), shown(100))
    }
}

/// A duration in milliseconds, as a table has it.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0.as_secs_f64() * 1000.0)
    }
}

struct Stop<'a>(&'a OnceLock<Instant>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let _ = self.0.set(Instant::now());
    }
}

const LONGEST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    #[test]
    fn it_counts_what_comes_back() {
        let upstream = Upstream::start().unwrap();
        let request = |number| Request::get(&format!("/status/{}", 200 + number % 2));
        for load in [Load::on(upstream.address()), Load::on(upstream.address()).keep_alive()] {
            let (outcome, ()) = load.during(request, |load| load.wait_for_more(20).unwrap());
            outcome.assert_only(&[200, 201], "the upstream");
            assert!(outcome.ended() >= 20 && outcome.statuses[&201] >= 8, "{outcome}");
            assert!(outcome.percentile(50) <= outcome.percentile(99));
        }
    }

    #[test]
    fn a_late_request_counts_from_when_it_was_due() {
        let upstream = Upstream::start().unwrap();
        let load = Load::on(upstream.address()).clients(1).every(Duration::from_millis(10));
        let slow = |number| {
            // As if the first answer had taken so long.
            std::thread::sleep(Duration::from_millis(if number == 0 { 200 } else { 0 }));
            Request::get("/")
        };
        let (outcome, ()) = load.during(slow, |load| load.wait_for_more(25).unwrap());
        let late = outcome.times.iter().filter(|time| **time > Duration::from_millis(50)).count();
        assert!(late >= 10, "{outcome}");
    }

    #[test]
    fn requests_without_an_answer_are_counted() {
        let address = crate::port::Port::free().unwrap().address();
        let load = Load::on(address).clients(1);
        let (outcome, ()) =
            load.during(|_| Request::get("/"), |load| load.wait_for_more(3).unwrap());
        assert_eq!((outcome.times.len(), outcome.unanswered()), (0, outcome.ended()));
        assert!(outcome.to_string().contains("connecting"), "{outcome}");
    }
}
